//! Why the store cannot be used.

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The URL is none, or of a kind that is not taken.
    #[error("`location`: {0}")]
    Url(String),
    /// It cannot be reached, or refuses.
    #[error("{address}: {error}")]
    Away { address: String, error: redis::RedisError },
    /// It does not keep what `cluster.durability` promises.
    #[error("{address}: {missing}")]
    NotSafe { address: String, missing: String },
    /// There is no lease for this node.
    #[error("{0}")]
    Lease(String),
    /// A thread could not be started.
    #[error("starting a thread: {0}")]
    Thread(std::io::Error),
}
