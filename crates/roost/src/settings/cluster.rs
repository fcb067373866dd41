//! Several nodes: what `location` and [cluster] say together.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use roost_core::{Listener, Node, Transport};
use roost_redis::Durability;

use crate::settings::together::File;
use crate::settings::values::Settings;

/// The shortest secret that is taken.
const MIN_SECRET: usize = 16;
/// What keys are made for.
const BINDINGS: &str = "roost 2026 cluster.secrets bindings of other nodes";
const DIALOGS: &str = "roost 2026 cluster.secrets dialogs of all nodes";
const NONCES: &str = "roost 2026 cluster.secrets nonces that hold at all nodes";

impl Settings {
    /// Whether nodes share bindings.
    pub(crate) fn is_clustered(&self) -> bool {
        !self.cluster_node.is_empty()
    }

    /// When a binding counts as kept.
    pub(crate) fn durability(&self) -> Durability {
        match self.cluster_durability.as_str() {
            "memory" => Durability::Memory,
            "replicated" => Durability::Replicated,
            _ => Durability::Fsync,
        }
    }

    /// What the certificate of the store is checked by.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn location_authorities(&self) -> Result<Option<Vec<u8>>> {
        if self.location_tls_ca.is_empty() {
            return Ok(None);
        }
        let path = self.folder().join(&self.location_tls_ca);
        let read = std::fs::read(&path);
        read.map(Some).with_context(|| format!("cannot read {} (`location_tls_ca`)", path.display()))
    }

    /// Reads [cluster], and listens where the other nodes reach this one.
    pub(super) fn read_cluster(&mut self, file: &File<'_>) -> Result<()> {
        let keys = [
            ("node", self.cluster_node.is_empty()),
            ("listen", self.cluster_listen.is_empty()),
            ("secrets", self.cluster_secrets.is_empty()),
        ];
        if self.cluster_node.is_empty() && self.core.policy.listeners.iter().any(|one| one.is_floating) {
            let message = "an address floats between nodes that share bindings: set `node` in [cluster]";
            return Err(file.error("", "listen", message));
        }
        let is_alone = self.location.is_empty() && keys.iter().all(|(_, is_empty)| *is_empty);
        if is_alone {
            return Ok(());
        }
        if let Some((key, _)) = keys.iter().find(|(_, is_empty)| *is_empty) {
            let message = format!("several nodes share bindings: set `{key}` in [cluster]");
            return Err(match self.location.is_empty() {
                true => file.error("cluster", key, message),
                false => file.error("", "location", message),
            });
        }
        self.check_store(file)?;
        let address = self.cluster_listen.parse::<SocketAddr>().ok();
        let Some(address) = address.filter(|address| !address.ip().is_unspecified() && address.port() != 0)
        else {
            let message = format!(
                "`cluster.listen` must be ADDRESS:PORT such as \"10.0.0.5:5070\", where the other nodes reach this one, not \"{}\"",
                self.cluster_listen
            );
            return Err(file.error("cluster", "listen", message));
        };
        if self.cluster_secrets.iter().any(|secret| secret.len() < MIN_SECRET) {
            let message = format!("`cluster.secrets` holds one of less than {MIN_SECRET} characters");
            return Err(file.error("cluster", "secrets", message));
        }
        let policy = &mut self.core.policy;
        if let Some(other) =
            policy.listeners.iter().find(|other| other.transport.is_reliable() && other.covers(address))
        {
            let message = format!(
                "`cluster.listen` and `listen` both name {other}: give the nodes a port of their own"
            );
            return Err(file.error("cluster", "listen", message));
        }
        let transport = if self.cluster_tls { Transport::Tls } else { Transport::Tcp };
        policy.listeners.push(Listener::new(transport, address));
        policy.node = Some(address);
        self.core.identity.node = Some(Arc::new(self.node_at(address)));
        Ok(())
    }

    /// This node, where the others reach it.
    fn node_at(&self, address: SocketAddr) -> Node {
        let keys = |purpose: &'static str| {
            self.cluster_secrets.iter().map(|secret| blake3::derive_key(purpose, secret.as_bytes())).collect()
        };
        // A store that is told of changes, or a database that is asked again.
        let is_asked = self.location.is_empty();
        let staleness_ms = is_asked.then_some(u64::from(self.cluster_staleness_s) * 1000);
        Node {
            is_secure: self.cluster_tls,
            address,
            keys: keys(BINDINGS),
            nonce_keys: keys(NONCES),
            dialog_keys: keys(DIALOGS),
            staleness_ms,
        }
    }
}

impl Settings {
    /// Whether the store is one that nodes can share.
    fn check_store(&self, file: &File<'_>) -> Result<()> {
        if self.location.is_empty() && self.database.starts_with("sqlite:") {
            let message = "nodes cannot share bindings in an SQLite file: set `location` to a Valkey or Redis server, or `database` to MariaDB or PostgreSQL";
            return Err(file.error("cluster", "node", message));
        }
        if self.location.is_empty() && self.cluster_durability != "fsync" {
            let message = "`cluster.durability` is for `location`; a database keeps what it has committed by its own settings";
            return Err(file.error("cluster", "durability", message));
        }
        if !self.core.identity.write_through {
            let message = "nodes share bindings that are stored: `usrloc.db_mode` must be \"write-through\"";
            return Err(file.error("cluster", "node", message));
        }
        if self.core.policy.registrar.exclusive_in_database {
            let message = "`exclusive_check = \"database\"` is for nodes that know nothing of each other; with [cluster] every node knows who holds an extension";
            return Err(file.error("registrar", "exclusive_check", message));
        }
        if !self.secret.is_empty() {
            let message = "`auth.secret` and `cluster.secrets` are both set: nodes use the second one alone";
            return Err(file.error("auth", "secret", message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "location = \"redis://127.0.0.1/0\"\n[cluster]\nnode = \"a\"\nlisten = \"127.0.0.1:5070\"\nsecrets = [\"a long random text\"]\n";

    #[test]
    fn a_node_needs_all_that_the_others_need_of_it() {
        let settings = Settings::parse(WHOLE, "x").unwrap();
        assert_eq!(settings.core.policy.node, Some("127.0.0.1:5070".parse().unwrap()));
        assert_eq!((settings.durability(), settings.core.policy.listeners.len()), (Durability::Fsync, 3));
        assert!(settings.core.identity.node.is_some_and(|node| node.keys.len() == 1));
        for (from, to, says) in [
            ("node = \"a\"", "", "set `node` in [cluster]"),
            ("listen = \"127.0.0.1:5070\"", "", "set `listen` in [cluster]"),
            ("secrets = [\"a long random text\"]", "", "set `secrets` in [cluster]"),
            ("a long random text", "short", "less than 16 characters"),
            ("127.0.0.1:5070", "0.0.0.0:5070", "must be ADDRESS:PORT"),
            ("127.0.0.1:5070", "127.0.0.1:5060", "give the nodes a port of their own"),
            ("location = \"redis://127.0.0.1/0\"", "", "cannot share bindings in an SQLite file"),
            (
                "location = \"redis://127.0.0.1/0\"\n[cluster]\nnode = \"a\"",
                "listen = [\"udp:127.0.0.1:5060 floating\"]\n[cluster]",
                "an address floats between nodes",
            ),
            ("[cluster]", "[auth]\nsecret = \"a long random text\"\n[cluster]", "are both set"),
            ("[cluster]", "[usrloc]\ndb_mode = \"memory\"\n[cluster]", "must be \"write-through\""),
        ] {
            let error = Settings::parse(&WHOLE.replace(from, to), "x").unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
        let in_database = WHOLE.replace("location = \"redis:", "database = \"mysql:");
        let settings = Settings::parse(&in_database, "x").unwrap();
        assert_eq!(settings.core.identity.node.and_then(|node| node.staleness_ms), Some(1_000));
        let error = Settings::parse(&(in_database + "durability = \"memory\"\n"), "x").unwrap_err();
        assert!(error.to_string().contains("is for `location`"), "{error}");
    }
}
