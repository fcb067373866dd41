pub(crate) mod authenticator;
pub(crate) mod credentials;
pub(crate) mod digest;
pub(crate) mod nonce;
