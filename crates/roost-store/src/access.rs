//! How to get into a database server, and how long it is waited for.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::error::DbError;

/// How long connecting may take, and how long the server may take for one statement of ours.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// How to get into a database server, beside what its URL says.
#[derive(Clone, Default)]
pub struct Access {
    /// In place of the URL's.
    pub password: Option<String>,
    /// TLS only, with a certificate that is right for the server's name.
    pub tls: bool,
    /// Certificate authorities in PEM, in place of those that everybody knows.
    pub ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("tls", &self.tls)
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}

/// A URL for a message, without what may be a password.
pub(crate) fn shown(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}://…{}", &url[..scheme], &url[at..]),
        _ => url.to_string(),
    }
}

/// A runtime for one connection, on the thread that asks.
pub(crate) fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Waits for an answer no longer than this.
pub(crate) fn within<T, E: Into<DbError>>(
    runtime: &Runtime,
    time: Duration,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, DbError> {
    runtime.block_on(answered(time, asked))
}

/// The answer, or that none came in time.
pub(crate) async fn answered<T, E: Into<DbError>>(
    time: Duration,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, DbError> {
    match tokio::time::timeout(time, asked).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(DbError::Timeout(time)),
    }
}
