//! Why certificates cannot be used.

use std::path::PathBuf;

/// Why certificates cannot be used. Each text names the file, its key and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {} (`{key}`): {source}", path.display())]
    File { key: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{} (`{key}`) {what}", path.display())]
    Content { key: &'static str, path: PathBuf, what: String },
    #[error(
        "{} and {} do not belong together: the key is another certificate's", certificate.display(), private_key.display()
    )]
    Mismatch { certificate: PathBuf, private_key: PathBuf },
    #[error(
        "there are no certificate authorities on this machine: install the package ca-certificates, or set `ca_list` in [tls]"
    )]
    NoAuthorities,
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    #[error("the authorities of `ca_list` cannot check clients: {0}")]
    ClientVerifier(#[from] rustls::server::VerifierBuilderError),
}
