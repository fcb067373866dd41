//! Extensions as the console adds, changes and removes them.

use std::sync::Arc;

use anyhow::{Result, ensure};
use roost_admin::InForce;
use roost_core::Config;
use roost_store::Store;

use crate::commands::account::{check_account, realm, set_password_of};

/// The table of subscribers, under the configuration that is in force.
pub(super) struct Accounts {
    pub(super) in_force: InForce,
    pub(super) store: Arc<Store>,
}

impl Accounts {
    /// The user, and the domains of its rows that are meant.
    fn rows<'a>(&self, config: &Config, aor: &'a str) -> Result<(&'a str, Vec<String>)> {
        let (user, domain) = parts(config, aor)?;
        let mut domains = self.store.domains_of(user)?;
        domains.retain(|there| domain.is_empty() || there.eq_ignore_ascii_case(domain));
        ensure!(!domains.is_empty(), "there is no extension {aor}");
        Ok((user, domains))
    }
}

/// The user and the domain, which may be empty where it does not count.
fn parts<'a>(config: &Config, aor: &'a str) -> Result<(&'a str, &'a str)> {
    let (user, domain) = aor.split_once('@').unwrap_or((aor, ""));
    let needs_domain = config.identity.use_domain && domain.is_empty();
    ensure!(!needs_domain, "use_domain is set: give the extension as {user}@DOMAIN");
    Ok((user, domain))
}

impl roost_console::Accounts for Accounts {
    fn add(&self, aor: &str, password: &str) -> Result<(), String> {
        let config = self.in_force.get();
        let add = || -> Result<()> {
            let (user, domain) = parts(&config, aor)?;
            check_account(&config, user, domain, password)?;
            Ok(self.store.add_user(user, domain, password, realm(&config, domain))?)
        };
        add().map_err(|error| format!("{error:#}"))
    }

    fn set_password(&self, aor: &str, password: &str) -> Result<(), String> {
        let config = self.in_force.get();
        let set = || -> Result<()> {
            let (user, domains) = self.rows(&config, aor)?;
            let set = |domain: &String| set_password_of(&config, &self.store, (user, domain), password);
            domains.iter().try_for_each(set)
        };
        set().map_err(|error| format!("{error:#}"))
    }

    fn remove(&self, aor: &str) -> Result<Option<String>, String> {
        let config = self.in_force.get();
        let remove = || -> Result<Option<String>> {
            let (user, domains) = self.rows(&config, aor)?;
            domains.iter().try_for_each(|domain| self.store.remove_user(user, domain))?;
            Ok(match config.identity.use_domain {
                true => Some(aor.to_string()),
                false => self.store.domains_of(user)?.is_empty().then(|| user.to_string()),
            })
        };
        remove().map_err(|error| format!("{error:#}"))
    }
}
