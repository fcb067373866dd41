//! The table of nodes, in the database.

use roost_cluster::Leases;

use crate::database::Database;
use crate::error::StoreError;
use crate::link::Link;
use crate::value::Value;

/// It, and a connection.
pub(super) struct Table {
    link: Link,
    renew: String,
    select: String,
}

impl Table {
    pub(super) fn new(link: Link, database: &Database) -> Table {
        let (now_ms, on_conflict) = match database {
            Database::Postgres(_) => (
                "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS bigint)",
                "ON CONFLICT (name) DO UPDATE SET seen_ms = excluded.seen_ms, told = excluded.told",
            ),
            _ => (
                "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
                "ON DUPLICATE KEY UPDATE seen_ms = VALUES(seen_ms), told = VALUES(told)",
            ),
        };
        Table {
            link,
            renew: format!(
                "INSERT INTO roost_node (name, seen_ms, told) VALUES (?, {now_ms}, ?) {on_conflict}"
            ),
            select: format!("SELECT name, told, {now_ms} - seen_ms FROM roost_node ORDER BY name"),
        }
    }

    fn ask(&mut self, own: Option<(&str, &str)>) -> Result<Vec<(String, String, u64)>, StoreError> {
        let Table { link, renew, select } = self;
        let rows = link.run(|client| {
            if let Some((name, figures)) = own {
                client.execute(renew, &[Value::from(name), Value::from(figures)])?;
            }
            client.all(select, &[])
        })?;
        let node = |row: Vec<Value>| {
            let mut columns = row.into_iter();
            let mut text = || Some(String::from_utf8_lossy(&columns.next()?.into_bytes()).into_owned());
            let (name, figures) = (text()?, text()?);
            Some((name, figures, columns.next()?.int()?.max(0) as u64))
        };
        Ok(rows.into_iter().filter_map(node).collect())
    }
}

impl Leases for Table {
    fn renew(&mut self, own: Option<(&str, &str)>) -> Result<Vec<(String, String, u64)>, String> {
        self.ask(own).map_err(|error| error.to_string())
    }

    fn forget(&mut self, name: &str) {
        let forgotten =
            self.link.run(|client| client.execute("DELETE FROM roost_node WHERE name = ?", &[name.into()]));
        if let Err(error) = forgotten {
            tracing::debug!(%error, "the lease of a node stays until it ends");
        }
    }
}
