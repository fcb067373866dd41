//! Digest authentication: challenges, nonces, secrets.

pub(crate) mod authenticator;
pub(crate) mod challenge;
pub(crate) mod client;
mod credentials;
mod digest;
mod nonce;
