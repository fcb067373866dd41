//! What `[tls]` and its `[[tls.domain]]`s say.

use std::borrow::Cow;
use std::path::PathBuf;

use anyhow::Result;
use roost_net::{CertificateFiles, TlsDomain, TlsSettings};
use toml::Spanned;
use toml::de::DeValue;

use crate::settings::keys_of_tables::TLS_DOMAIN_KEYS;
use crate::settings::source::Source;
use crate::settings::tables;
use crate::settings::tls_domain::{Domain, TABLE};
use crate::settings::values::Settings;

/// Reads the tables.
///
/// # Errors
/// With the line, what is wrong and what would be right.
pub(crate) fn read(
    source: &Source<'_>,
    name: &Spanned<Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<Domain>> {
    let tables = tables::read(source, (TABLE, TLS_DOMAIN_KEYS), name, value)?;
    let domain = |table: tables::Table<Domain>| {
        let item = &table.item;
        let texts = [
            ("server_domain", &item.server_domain),
            ("certificate", &item.certificate),
            ("private_key", &item.private_key),
        ];
        if let Some((key, _)) = texts.into_iter().find(|(_, text)| text.is_empty()) {
            let message = format!("a [[{TABLE}]] needs `{key}`");
            return Err(table.error(source, key, message));
        }
        Ok(Domain { given: table.given, ..table.item })
    };
    tables.into_iter().map(domain).collect()
}

impl Settings {
    /// What connections over TLS begin with; `None` where nothing listens for any.
    pub(crate) fn tls(&self) -> Option<TlsSettings> {
        let is_of_console = self.console_address().is_some_and(|address| !address.ip().is_loopback());
        let is_needed =
            is_of_console || self.core.policy.listeners.iter().any(|listener| listener.transport.is_secure());
        if !is_needed {
            return None;
        }
        let path = |text: &str| -> PathBuf { self.folder().join(text) };
        let files = |certificate: &str, private_key: &str| CertificateFiles {
            certificate: path(certificate),
            private_key: path(private_key),
        };
        let domain = |domain: &Domain| TlsDomain {
            server_domain: domain.server_domain.clone(),
            files: files(&domain.certificate, &domain.private_key),
        };
        Some(TlsSettings {
            certificate: (!self.tls_certificate.is_empty())
                .then(|| files(&self.tls_certificate, &self.tls_private_key)),
            ca_list: (!self.tls_ca_list.is_empty()).then(|| path(&self.tls_ca_list)),
            require_cert: self.tls_require_cert,
            verify_cert: self.tls_verify_cert,
            only_tls13: self.tls_method == "TLSv1_3",
            domains: self.tls_domains.iter().map(domain).collect(),
        })
    }
}
