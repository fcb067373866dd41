//! Certificates and what is checked of others': read at the start, read anew when their files change.

mod certificate;
mod error;
mod load;
mod proven;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use roost_core::Transport;
use rustls::{ClientConfig, ServerConfig};

use crate::tls::load::Contexts;

pub use certificate::Certificate;
pub use error::TlsError;
pub(crate) use proven::ProvenNames;
pub(crate) use proven::is_named;

/// What operators set (`[tls]`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// For whoever asks for no name of `domains`; it is shown to servers, too.
    pub certificate: Option<CertificateFiles>,
    /// A file of authorities in PEM; `None`: the system's.
    pub ca_list: Option<PathBuf>,
    /// Whether a client must show a certificate.
    pub require_cert: bool,
    /// Whether others' certificates are checked: servers' always, clients' where they show one.
    pub verify_cert: bool,
    /// Whether TLS 1.2 is refused.
    pub only_tls13: bool,
    pub domains: Vec<TlsDomain>,
}

/// A chain in PEM, the server's own first, and its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

/// The certificate for a name (SNI).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsDomain {
    /// As clients ask for it; `*.example.com` is any one label.
    pub server_domain: String,
    pub files: CertificateFiles,
}

/// What sessions are begun with. A swap changes those that begin later; the others live on.
#[derive(Debug)]
pub struct Tls {
    settings: RwLock<TlsSettings>,
    contexts: RwLock<Arc<Contexts>>,
    /// Names that servers must prove.
    pub(crate) names: ProvenNames,
}

impl Tls {
    /// Reads all files.
    ///
    /// # Errors
    /// [`TlsError`] names the file and the remedy.
    pub fn load(settings: TlsSettings) -> Result<Tls, TlsError> {
        let contexts = RwLock::new(Arc::new(Contexts::load(&settings)?));
        Ok(Tls { settings: RwLock::new(settings), contexts, names: ProvenNames::default() })
    }

    /// Reads the files again, and takes them into use if they are sound; false when nothing has changed.
    ///
    /// # Errors
    /// [`TlsError`]; then everything stays as it was.
    pub fn reload(&self) -> Result<bool, TlsError> {
        if self.changed_digest().is_none() {
            return Ok(false);
        }
        let contexts = Arc::new(Contexts::load(&self.settings())?);
        *self.contexts.write().unwrap_or_else(PoisonError::into_inner) = contexts;
        Ok(true)
    }

    /// Other settings from here on, whose files have been read.
    pub fn take(&self, other: &Tls) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = other.settings();
        *self.contexts.write().unwrap_or_else(PoisonError::into_inner) = other.current();
    }

    fn settings(&self) -> TlsSettings {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A digest of what the files hold, where it is something else than what is in use.
    pub fn changed_digest(&self) -> Option<u64> {
        Some(load::digest(&self.settings())).filter(|digest| *digest != self.current().digest)
    }

    /// The certificates in use.
    pub fn certificates(&self) -> Vec<Certificate> {
        self.current().certificates.clone()
    }

    /// For connections that come to a listener of this transport; `None` without a certificate.
    pub fn server(&self, transport: Transport) -> Option<Arc<ServerConfig>> {
        let current = self.current();
        match transport {
            Transport::Wss => current.websocket.clone(),
            _ => current.server.clone(),
        }
    }

    /// For connections that are made.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.current().client)
    }

    fn current(&self) -> Arc<Contexts> {
        Arc::clone(&self.contexts.read().unwrap_or_else(PoisonError::into_inner))
    }
}
