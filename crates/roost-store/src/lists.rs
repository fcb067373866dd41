//! Tables that are read as a whole and kept in memory: `dbaliases` and `address`.

use std::net::IpAddr;

use ipnet::IpNet;
use roost_core::Alias;

use crate::client::Client;
use crate::columns::is_name;
use crate::database::Database;
use crate::error::StoreError;
use crate::store::Store;
use crate::value::Value;

/// The names of the columns of `dbaliases` (`[alias_db]`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AliasColumns {
    pub alias_user: String,
    pub alias_domain: String,
    pub user: String,
    pub domain: String,
}

/// What the table `address` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    pub networks: Vec<IpNet>,
    /// Rows that are not taken, and why.
    pub left_out: Vec<String>,
}

impl Store {
    /// All rows of a table of aliases. An SQLite database gets the table where it is not there.
    ///
    /// # Errors
    /// [`StoreError`]: it cannot be read.
    pub fn aliases(&self, table: &str, columns: &AliasColumns) -> Result<Vec<Alias>, StoreError> {
        let AliasColumns { alias_user, alias_domain, user, domain } = columns;
        for (column, key) in [
            (alias_user, "alias_user_column"),
            (alias_domain, "alias_domain_column"),
            (user, "user_column"),
            (domain, "domain_column"),
        ] {
            if !is_name(column) {
                return Err(StoreError::ColumnName { column: column.clone(), section: "alias_db", key });
            }
        }
        let sql =
            format!("SELECT \"{alias_user}\", \"{alias_domain}\", \"{user}\", \"{domain}\" FROM \"{table}\"");
        let made = format!(
            "CREATE TABLE IF NOT EXISTS \"{table}\" (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, \
             \"{alias_user}\" CHAR(64) DEFAULT '' NOT NULL, \"{alias_domain}\" CHAR(64) DEFAULT '' NOT NULL, \
             \"{user}\" CHAR(64) DEFAULT '' NOT NULL, \"{domain}\" CHAR(64) DEFAULT '' NOT NULL, \
             CONSTRAINT dbaliases_alias_idx UNIQUE (\"{alias_user}\", \"{alias_domain}\"))"
        );
        let rows = self.list((table, "alias_db", "table"), &made, &sql)?;
        let alias = |row: Vec<Value>| {
            let mut texts = row.into_iter().map(text);
            let mut next = || texts.next().unwrap_or_default();
            Alias { number: next(), number_domain: next(), extension: next(), domain: next() }
        };
        Ok(rows.into_iter().map(alias).collect())
    }

    /// The networks of a table `address`, of these groups or of all. An SQLite database gets the table where it is not there.
    ///
    /// # Errors
    /// [`StoreError`]: it cannot be read.
    pub fn addresses(&self, table: &str, groups: &[u32]) -> Result<Addresses, StoreError> {
        let sql = format!("SELECT grp, ip, mask, port, proto, pattern FROM \"{table}\"");
        let made = format!(
            "CREATE TABLE IF NOT EXISTS \"{table}\" (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, \
             grp SMALLINT(5) DEFAULT 0 NOT NULL, ip CHAR(50) NOT NULL, mask SMALLINT DEFAULT 32 NOT NULL, \
             port SMALLINT(5) DEFAULT 0 NOT NULL, proto CHAR(4) DEFAULT 'any' NOT NULL, \
             pattern CHAR(64) DEFAULT NULL, context_info CHAR(32) DEFAULT NULL)"
        );
        let mut addresses = Addresses::default();
        for row in self.list((table, "permissions", "address_table"), &made, &sql)? {
            let texts: Vec<Box<str>> = row.into_iter().map(text).collect();
            let [group, ip, mask, port, proto, pattern] = &texts[..] else { continue };
            let is_wanted =
                group.parse().is_ok_and(|group: u32| groups.is_empty() || groups.contains(&group));
            match network(ip, mask, (port, proto, pattern)) {
                _ if !is_wanted => {}
                Ok(network) => addresses.networks.push(network),
                Err(why) => addresses.left_out.push(format!("{ip}/{mask} {why}")),
            }
        }
        Ok(addresses)
    }

    fn list(
        &self,
        (table, section, key): (&str, &'static str, &'static str),
        made: &str,
        sql: &str,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        if !is_name(table) {
            return Err(StoreError::ColumnName { column: table.to_string(), section, key });
        }
        let mut client = self.database.connect()?;
        if let (Database::Sqlite(_), Client::Sqlite(_)) = (&self.database, &client) {
            client.run(made).map_err(StoreError::sql("making a table"))?;
        }
        client.all(sql, &[]).map_err(|error| StoreError::List {
            table: table.into(),
            section,
            key,
            source: error,
        })
    }
}

fn text(value: Value) -> Box<str> {
    match value {
        Value::Null => "".into(),
        value => String::from_utf8_lossy(&value.into_bytes()).trim_end().into(),
    }
}

/// The network of a row; what is said of ports, protocols and senders beside it is not known when an address is looked at.
fn network(ip: &str, mask: &str, (port, proto, pattern): (&str, &str, &str)) -> Result<IpNet, &'static str> {
    let address: IpAddr = ip.trim().parse().map_err(|_| "is no IP address")?;
    let length = mask.trim().parse().map_err(|_| "has no mask from 0 to 128")?;
    let network = IpNet::new(address, length).map_err(|_| "has a mask that is too long")?;
    match () {
        () if !matches!(port.trim(), "" | "0") => Err("counts for one port only: set port to 0"),
        () if !matches!(proto.trim().to_ascii_lowercase().as_str(), "" | "any" | "*") => {
            Err("counts for one protocol only: set proto to 'any'")
        }
        () if !pattern.trim().is_empty() => Err("counts for one pattern only: clear it"),
        () => Ok(network.trunc()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Access, Columns};

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store =
            Store::open("sqlite:a.db", folder.path(), &Access::default(), Columns::default()).unwrap();
        (folder, store)
    }

    fn columns() -> AliasColumns {
        let [alias_user, alias_domain, user, domain] =
            ["alias_username", "alias_domain", "username", "domain"].map(str::to_string);
        AliasColumns { alias_user, alias_domain, user, domain }
    }

    #[test]
    fn aliases_are_read_and_the_table_is_made() {
        let (_folder, store) = store();
        assert_eq!(store.aliases("dbaliases", &columns()).unwrap(), []);
        store
            .sqlite()
            .execute("INSERT INTO dbaliases (alias_username, username) VALUES ('4001', '9001')", [])
            .unwrap();
        let [alias] = &store.aliases("dbaliases", &columns()).unwrap()[..] else { panic!() };
        assert_eq!((&*alias.number, &*alias.extension, &*alias.domain), ("4001", "9001", ""));
        let wrong = AliasColumns { user: "user".into(), ..columns() };
        let error =
            store.aliases("other", &AliasColumns { user: "a\"b".into(), ..wrong }).unwrap_err().to_string();
        assert!(error.contains("alias_db") && error.contains("user_column"), "{error}");
        assert!(store.aliases("x; y", &columns()).unwrap_err().to_string().contains("table"));
    }

    #[test]
    fn addresses_are_read_and_what_is_not_taken_is_said() {
        let (_folder, store) = store();
        assert_eq!(store.addresses("address", &[]).unwrap(), Addresses::default());
        store
            .sqlite()
            .execute_batch(
                "INSERT INTO address (grp, ip, mask) VALUES (1, '10.1.2.3', 32), (1, '192.168.7.9', 24), (2, '10.9.9.9', 32), \
                 (1, 'fs.example.com', 32);
                 INSERT INTO address (grp, ip, mask, port, proto) VALUES (1, '10.1.2.4', 32, 5060, 'any'), (1, '10.1.2.5', 32, 0, 'udp');",
            )
            .unwrap();
        let found = store.addresses("address", &[1]).unwrap();
        let networks: Vec<_> = found.networks.iter().map(IpNet::to_string).collect();
        assert_eq!(networks, ["10.1.2.3/32", "192.168.7.0/24"]);
        assert_eq!(found.left_out.len(), 3, "{:?}", found.left_out);
        assert!(found.left_out[1].contains("10.1.2.4/32 counts for one port only"), "{:?}", found.left_out);
        assert_eq!(store.addresses("address", &[]).unwrap().networks.len(), 3);
    }
}
