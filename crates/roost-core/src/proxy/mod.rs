//! The proxy (RFC 3261 section 16): who may call, where a request goes, and what dialogs follow.
//!
//! It composes transactions, next hops and what waits; of bindings and secrets it only asks.

pub(crate) mod admitted;
pub(crate) mod alias;
pub(crate) mod authorize;
pub(crate) mod by_rule;
pub(crate) mod callee;
pub(crate) mod cancel_ack;
pub(crate) mod dialog;
pub(crate) mod diversion;
mod edits;
pub(crate) mod forwarder;
pub(crate) mod handing_over;
pub(crate) mod identity;
pub(crate) mod initial;
pub(crate) mod response_context;
pub(crate) mod target;
pub(crate) mod unsent;
