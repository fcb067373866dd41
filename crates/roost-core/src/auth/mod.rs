//! Digest authentication: challenges, nonces, secrets.

pub(crate) mod authenticator;
pub(crate) mod challenge;
mod credentials;
mod digest;
mod nonce;
