//! Tables of the database that are kept in memory as a whole: aliases, and networks that are trusted. They are read at start, by
//! `reload` and by `address_reload`.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use roost_admin::ChangedKey;
use roost_core::{Aliases, Policy, Trusted};
use roost_store::Store;

use crate::settings::Settings;

/// What was read, joined with what the configuration says.
#[derive(Debug, Clone)]
pub(super) struct Lists {
    trusted: Trusted,
    aliases: Arc<Aliases>,
}

impl Lists {
    /// Reads the tables that the settings name. What cannot be taken of them is logged.
    ///
    /// # Errors
    /// A table cannot be read.
    pub(super) fn read(settings: &Settings, store: &Store) -> Result<Lists> {
        let policy = &settings.core.policy;
        let mut lists = Lists { trusted: policy.proxy.trusted.clone(), aliases: Arc::clone(&policy.aliases) };
        if !settings.address_table.is_empty() {
            let found = store.addresses(&settings.address_table, &settings.groups);
            let found = found.context("reading the networks that are trusted")?;
            for why in &found.left_out {
                tracing::warn!(table = %settings.address_table, "a row is not taken: {why}");
            }
            lists.trusted = Trusted::new(settings.trusted_networks.iter().copied().chain(found.networks));
        }
        if !settings.alias_table.is_empty() {
            let found = store.aliases(&settings.alias_table, &settings.alias_columns);
            let found = found.context("reading the aliases")?;
            let identity = &settings.core.identity;
            let own = settings.aliases.iter().map(|alias| alias.row(identity.use_domain));
            let all: Vec<_> = own.chain(found).collect();
            let (aliases, left_out) = Aliases::new(&all, identity.use_domain, identity.case_sensitive);
            for why in &left_out {
                tracing::warn!(table = %settings.alias_table, "a row is not taken: {why}");
            }
            lists.aliases = Arc::new(aliases);
        }
        Ok(lists)
    }

    /// What of it differs from what is in force.
    pub(super) fn changes(&self, now: &Policy) -> Vec<ChangedKey> {
        let change = |name: &str, old: usize, new: usize, what: &str| ChangedKey {
            name: name.to_string(),
            old: Some(format!("{old} {what}")),
            new: Some(format!("{new} {what}")),
            is_live: true,
        };
        let mut changes = Vec::new();
        if self.trusted != now.proxy.trusted {
            let (old, new) = (now.proxy.trusted.networks().len(), self.trusted.networks().len());
            changes.push(change("proxy.trusted, permissions.address_table", old, new, "networks"));
        }
        if self.aliases != now.aliases {
            changes.push(change("alias, alias_db.table", now.aliases.len(), self.aliases.len(), "aliases"));
        }
        changes
    }

    /// Puts it into what the shards are given.
    pub(super) fn put(self, policy: &mut Policy) {
        policy.proxy.trusted = self.trusted;
        policy.aliases = self.aliases;
    }
}
