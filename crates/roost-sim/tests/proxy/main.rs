//! The rules of the proxy (RFC 3261 section 16) by hand: phones and one engine, in virtual time.

mod authorize;
mod cancel;
mod dialog;
mod field;
mod flows;
mod fork;
mod identity;
mod passing;
mod strangers;
mod support;
