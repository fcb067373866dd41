//! Reads certificates, keys and authorities, and makes of them what sessions are begun with.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};

use crate::tls::certificate::Certificate;
use crate::tls::error::TlsError;
use crate::tls::{CertificateFiles, TlsSettings};

/// What sessions are begun with.
#[derive(Debug)]
pub(super) struct Contexts {
    pub(super) server: Option<Arc<ServerConfig>>,
    /// The same for browsers: they are asked for a certificate only if they must have one, as they ask their users.
    pub(super) websocket: Option<Arc<ServerConfig>>,
    pub(super) client: Arc<ClientConfig>,
    pub(super) certificates: Vec<Certificate>,
    /// Of the files' contents.
    pub(super) digest: u64,
}

impl Contexts {
    pub(super) fn load(settings: &TlsSettings) -> Result<Contexts, TlsError> {
        // Before the files are read: what changes meanwhile is seen next time.
        let digest = digest(settings);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut certificates = Vec::new();
        let mut read = |files: &CertificateFiles, domain: Option<&str>| {
            let (key, shown) = pair(files, domain, &provider)?;
            certificates.push(shown);
            Ok::<_, TlsError>(Arc::new(key))
        };
        let default = settings.certificate.as_ref().map(|files| read(files, None)).transpose()?;
        let mut by_name = HashMap::new();
        for domain in &settings.domains {
            let name = domain.server_domain.to_ascii_lowercase();
            by_name.insert(name, read(&domain.files, Some(&domain.server_domain))?);
        }
        let roots = roots(settings)?;
        let has_any = default.is_some() || !by_name.is_empty();
        let resolver = Arc::new(BySni { default: default.clone(), by_name });
        let server = |asks: bool| -> Result<Option<Arc<ServerConfig>>, TlsError> {
            if !has_any {
                return Ok(None);
            }
            server(settings, &provider, asks.then_some(&roots), Arc::clone(&resolver)).map(Some)
        };
        let asks_phones = settings.require_cert || (settings.verify_cert && settings.ca_list.is_some());
        Ok(Contexts {
            server: server(asks_phones)?,
            websocket: server(settings.require_cert)?,
            client: client(settings, &provider, &roots, default.as_deref())?,
            certificates,
            digest,
        })
    }
}

/// Of the contents of all files; a file that cannot be read counts as empty.
pub(super) fn digest(settings: &TlsSettings) -> u64 {
    let mut hasher = DefaultHasher::new();
    let pairs = settings.certificate.iter().chain(settings.domains.iter().map(|domain| &domain.files));
    let files = pairs.flat_map(|files| [&files.certificate, &files.private_key]).chain(&settings.ca_list);
    for file in files {
        std::fs::read(file).unwrap_or_default().hash(&mut hasher);
    }
    hasher.finish()
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::File { key, path: path.into(), source })
}

/// All certificates of a file in PEM.
fn chain(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(key, path)?;
    let wrong = |what: String| TlsError::Content { key, path: path.into(), what };
    let all = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| wrong(format!("holds no sound certificates: {error}")))?;
    match all.is_empty() {
        true => Err(wrong("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)".into())),
        false => Ok(all),
    }
}

/// A certificate with its key, and what it says.
fn pair(
    files: &CertificateFiles,
    domain: Option<&str>,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, Certificate), TlsError> {
    let CertificateFiles { certificate, private_key } = files;
    let chain = chain("certificate", certificate)?;
    let wrong = |what: String| TlsError::Content { key: "private_key", path: private_key.clone(), what };
    let key = PrivateKeyDer::from_pem_slice(&read("private_key", private_key)?)
        .map_err(|error| wrong(format!("holds no private key in PEM: {error}")))?;
    let key = provider.key_provider.load_private_key(key);
    let key = CertifiedKey::new(
        chain,
        key.map_err(|error| wrong(format!("holds no key that can be used: {error}")))?,
    );
    match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => {
            let (certificate, private_key) = (certificate.clone(), private_key.clone());
            return Err(TlsError::Mismatch { certificate, private_key });
        }
    }
    let shown = key
        .cert
        .first()
        .and_then(|first| Certificate::of(first, certificate.clone(), domain.map(str::to_string)));
    let what = "holds no sound certificate".to_string();
    let none = || TlsError::Content { key: "certificate", path: certificate.clone(), what };
    Ok((key, shown.ok_or_else(none)?))
}

/// The authorities that are believed.
fn roots(settings: &TlsSettings) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match &settings.ca_list {
        Some(path) => {
            for authority in chain("ca_list", path)? {
                roots.add(authority).map_err(|error| TlsError::Content {
                    key: "ca_list",
                    path: path.clone(),
                    what: format!("holds what is no authority: {error}"),
                })?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

static ONLY_TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn versions(settings: &TlsSettings) -> &'static [&'static SupportedProtocolVersion] {
    if settings.only_tls13 { ONLY_TLS13 } else { rustls::ALL_VERSIONS }
}

fn server(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
    asks: Option<&RootCertStore>,
    resolver: Arc<BySni>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider));
    let builder = builder.with_protocol_versions(versions(settings))?;
    let builder = match asks {
        None => builder.with_no_client_auth(),
        Some(roots) if roots.is_empty() => return Err(TlsError::NoAuthorities),
        Some(roots) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), Arc::clone(provider));
            // A list of all authorities would fill several packets of each handshake.
            let verifier = verifier.clear_root_hint_subjects();
            let verifier = if settings.require_cert { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build()?)
        }
    };
    let mut config = builder.with_cert_resolver(resolver);
    // What a client resumes with it keeps itself: nothing is held here for it.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

fn client(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
    roots: &RootCertStore,
    own: Option<&CertifiedKey>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider));
    let builder = builder.with_protocol_versions(versions(settings))?;
    let builder = match settings.verify_cert {
        true => builder.with_root_certificates(roots.clone()),
        false => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(Arc::clone(provider))))
        }
    };
    Ok(Arc::new(match own {
        Some(own) => {
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own.clone())))
        }
        None => builder.with_no_client_auth(),
    }))
}

/// The certificate for the name that a client asks for.
#[derive(Debug)]
struct BySni {
    default: Option<Arc<CertifiedKey>>,
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let wildcard = || Some(format!("*.{}", name.as_deref()?.split_once('.')?.1));
        let own = name.as_ref().and_then(|name| self.by_name.get(name));
        own.or_else(|| self.by_name.get(&wildcard()?)).or(self.default.as_ref()).cloned()
    }
}

/// Believes any server (`verify_cert = false`), as long as it has the key of the certificate that it shows.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
