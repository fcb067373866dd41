//! The table of nodes, in the store.

use std::collections::BTreeMap;

use redis::{Connection, Script};
use roost_cluster::Leases;

use crate::connection::Source;
use crate::error::RedisError;
use crate::place::Kept;

/// The table of nodes.
const NODES: &str = "roost:nodes";
const SCRIPT: &str = include_str!("lease.lua");

/// It, and a connection.
pub(crate) struct Table {
    source: Source,
    kept: Kept<Connection>,
    script: Script,
}

impl Table {
    pub(crate) fn new(source: Source) -> Table {
        Table { kept: Kept::new(&source.place), source, script: Script::new(SCRIPT) }
    }

    fn ask(&mut self, own: Option<(&str, &str)>) -> Result<Vec<(String, String, u64)>, RedisError> {
        let connection = self.source.kept(&mut self.kept, NODES.as_bytes())?;
        let away = |error| RedisError::Away { address: NODES.to_string(), error };
        let now_ms = match own {
            Some((name, figures)) => {
                let now = self.script.key(NODES).arg(name).arg(figures).invoke::<String>(connection);
                now.map_err(away)?.parse().unwrap_or(0)
            }
            None => {
                let (seconds, micros) = redis::cmd("TIME").query::<(u64, u64)>(connection).map_err(away)?;
                seconds * 1000 + micros / 1000
            }
        };
        let all = redis::cmd("HGETALL").arg(NODES).query::<BTreeMap<String, String>>(connection);
        let node = |(name, told): (String, String)| {
            let (seen_ms, figures) = told.split_once(' ').unwrap_or((&told, ""));
            let heard_ms: u64 = now_ms.saturating_sub(seen_ms.parse().unwrap_or(0));
            (name, figures.to_string(), heard_ms)
        };
        Ok(all.map_err(away)?.into_iter().map(node).collect())
    }
}

impl Leases for Table {
    fn renew(&mut self, own: Option<(&str, &str)>) -> Result<Vec<(String, String, u64)>, String> {
        let asked = self.ask(own);
        if asked.is_err() {
            self.kept = Kept::new(&self.source.place);
        }
        asked.map_err(|error| error.to_string())
    }

    fn forget(&mut self, name: &str) {
        if let Ok(connection) = self.source.kept(&mut self.kept, NODES.as_bytes()) {
            let _ = redis::cmd("HDEL").arg(NODES).arg(name).exec(connection);
        }
    }
}
