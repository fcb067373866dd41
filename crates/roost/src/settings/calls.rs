//! What the settings say of calls' journal and records, of webhooks, and of who may ask.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use roost_admin::{Gate, Webhook};
use roost_store::AccSettings;

use crate::settings::together::MIN_TOKEN;
use crate::settings::values::Settings;

impl Settings {
    /// The file that keeps calls, if any.
    pub(crate) fn call_journal(&self) -> Option<PathBuf> {
        let beside = |path: &Path, suffix: &str| {
            let mut name = path.file_name().unwrap_or_default().to_os_string();
            name.push(suffix);
            path.with_file_name(name)
        };
        match (self.call_journal.as_str(), self.database.strip_prefix("sqlite:")) {
            ("off", _) => None,
            ("", Some(path)) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                Some(beside(&self.folder().join(path), "-calls"))
            }
            ("", None) => {
                let file = self.file.clone().unwrap_or_else(|| PathBuf::from("roost.toml"));
                Some(file.with_extension("calls"))
            }
            (path, _) => Some(self.folder().join(path)),
        }
    }

    /// The file that keeps what happened to extensions over a restart; beside the one that keeps calls.
    pub(crate) fn recorder_file(&self) -> PathBuf {
        self.beside("recorder")
    }

    /// A file of the server's own: beside the database's, or the configuration where that is no file.
    pub(crate) fn beside(&self, what: &str) -> PathBuf {
        match self.database.strip_prefix("sqlite:") {
            Some(path) => {
                let path = self.folder().join(path.strip_prefix("//").unwrap_or(path));
                let mut name = path.file_name().unwrap_or_default().to_os_string();
                name.push(format!("-{what}"));
                path.with_file_name(name)
            }
            None => self.file.clone().unwrap_or_else(|| PathBuf::from("roost.toml")).with_extension(what),
        }
    }

    /// Whether the server may go on without that file: nobody has asked for it.
    pub(crate) fn may_lose_calls(&self) -> bool {
        self.call_journal.is_empty() && !self.acc_db && self.acc_file.is_empty()
    }

    pub(crate) fn acc(&self) -> AccSettings {
        let file = Some(self.folder().join(&self.acc_file)).filter(|_| !self.acc_file.is_empty());
        AccSettings { db: self.acc_db, file, journal_max: self.acc_journal_max }
    }

    /// The webhooks, with their secrets.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn webhooks(&self) -> Result<Vec<Webhook>> {
        let webhook = |one: &crate::settings::webhook::Webhook| {
            let secret = match one.secret_file.as_str() {
                "" => one.secret.clone(),
                file => self.first_line(file, "`secret_file` of a [[webhook]]")?,
            };
            let when = one.condition()?;
            Ok(Webhook { url: one.url.clone(), events: one.events.clone(), when, secret })
        };
        self.webhooks.iter().map(webhook).collect()
    }

    /// What requests to the management interface must show.
    ///
    /// # Errors
    /// The file cannot be read, or its token is too short.
    pub(crate) fn token(&self) -> Result<Option<String>> {
        let token = match self.mi_token_file.as_str() {
            "" => self.mi_token.clone(),
            file => {
                let token = self.first_line(file, "`token_file` in [mi]")?;
                if token.len() < MIN_TOKEN {
                    bail!(
                        "the token in {file} (`token_file` in [mi]) is shorter than {MIN_TOKEN} characters"
                    );
                }
                token
            }
        };
        Ok(Some(token).filter(|token| !token.is_empty()))
    }

    /// Whom the management interface serves.
    ///
    /// # Errors
    /// As [`Settings::token`].
    pub(crate) fn gate(&self) -> Result<Gate> {
        let hosts = self.domains.iter().map(|domain| domain.split(':').next().unwrap_or("").to_string());
        let advertised = Some(self.core.policy.advertised_address.clone()).filter(|name| !name.is_empty());
        let allow = self.mi_networks.clone();
        Ok(Gate { token: self.token()?, hosts: hosts.chain(advertised).collect(), allow })
    }

    fn first_line(&self, file: &str, key: &str) -> Result<String> {
        let path = self.folder().join(file);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {} ({key})", path.display()))?;
        Ok(text.lines().next().unwrap_or("").trim().to_string())
    }
}
