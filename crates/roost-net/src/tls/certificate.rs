//! What a certificate says, for people.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub file: PathBuf,
    /// The name that leads to it (SNI); `None`: whoever asks for no other.
    pub server_domain: Option<String>,
    /// The names that it is for.
    pub names: Vec<String>,
    pub issuer: String,
    /// Seconds since 1970.
    pub not_after: u64,
}

impl Certificate {
    /// Takes a certificate apart; `None` when it is none.
    pub(crate) fn of(
        der: &CertificateDer<'_>,
        file: PathBuf,
        server_domain: Option<String>,
    ) -> Option<Certificate> {
        let certificate = x509_cert::Certificate::from_der(der).ok()?.tbs_certificate;
        let mut names = match certificate.get::<SubjectAltName>() {
            Ok(Some((_, names))) => names.0.iter().filter_map(shown).collect(),
            _ => Vec::new(),
        };
        if names.is_empty() {
            names.push(certificate.subject.to_string());
        }
        let not_after = certificate.validity.not_after.to_unix_duration().as_secs();
        Some(Certificate { file, server_domain, names, issuer: certificate.issuer.to_string(), not_after })
    }

    /// Whole days until it ends; below 0 when it has.
    pub fn days_left(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        (self.not_after as i64 - now as i64).div_euclid(86_400)
    }
}

fn shown(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
        GeneralName::IpAddress(bytes) => match bytes.as_bytes() {
            bytes if bytes.len() == 4 => {
                Some(<[u8; 4]>::try_from(bytes).map(std::net::Ipv4Addr::from).ok()?.to_string())
            }
            bytes => Some(<[u8; 16]>::try_from(bytes).map(std::net::Ipv6Addr::from).ok()?.to_string()),
        },
        _ => None,
    }
}
