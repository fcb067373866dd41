//! Tables that are read as a whole and kept in memory: `dbaliases` and `address`.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use roost_core::Alias;

use crate::access::Access;
use crate::client::Client;
use crate::columns::is_name;
use crate::copy::{Copied, Sum};
use crate::database::Database;
use crate::error::{DbError, StoreError};
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

/// One of these tables, as it is read and made.
#[derive(Debug, Clone)]
pub struct ListTable {
    name: String,
    columns: Vec<String>,
    /// So many of its columns, from the first on, say which row it is.
    key: usize,
    /// What the columns are declared as, one for each.
    declared: Vec<&'static str>,
    /// The section and the key that name it.
    named: (&'static str, &'static str),
}

impl ListTable {
    /// A table of aliases.
    ///
    /// # Errors
    /// [`StoreError::ColumnName`].
    pub fn of_aliases(table: &str, columns: &AliasColumns) -> Result<ListTable, StoreError> {
        let AliasColumns { alias_user, alias_domain, user, domain } = columns;
        let keys = ["alias_user_column", "alias_domain_column", "user_column", "domain_column"];
        let columns = [alias_user, alias_domain, user, domain].map(String::clone).to_vec();
        if let Some((column, key)) = columns.iter().zip(keys).find(|(column, _)| !is_name(column)) {
            return Err(StoreError::ColumnName { column: column.clone(), section: "alias_db", key });
        }
        let declared = vec!["{text}(64) DEFAULT '' NOT NULL"; columns.len()];
        ListTable { name: table.to_string(), columns, key: 2, declared, named: ("alias_db", "table") }
            .checked()
    }

    /// A table of networks.
    ///
    /// # Errors
    /// [`StoreError::ColumnName`].
    pub fn of_addresses(table: &str) -> Result<ListTable, StoreError> {
        let columns = ["grp", "ip", "mask", "port", "proto", "pattern"].map(str::to_string).to_vec();
        let declared = vec![
            "SMALLINT DEFAULT 0 NOT NULL",
            "{text}(50) NOT NULL",
            "SMALLINT DEFAULT 32 NOT NULL",
            "INTEGER DEFAULT 0 NOT NULL",
            "{text}(4) DEFAULT 'any' NOT NULL",
            "{text}(64) DEFAULT NULL",
        ];
        let named = ("permissions", "address_table");
        ListTable { name: table.to_string(), columns, key: 6, declared, named }.checked()
    }

    fn checked(self) -> Result<ListTable, StoreError> {
        let (section, key) = self.named;
        match is_name(&self.name) {
            true => Ok(self),
            false => Err(StoreError::ColumnName { column: self.name, section, key }),
        }
    }

    /// Its columns. Without quotes: to SQLite a name in quotes that no column has is a text.
    fn named_columns(&self) -> String {
        self.columns.join(", ")
    }

    /// Makes the table where it is not there.
    fn made(&self, database: &Database) -> String {
        let (id, text, end) = match database {
            Database::Sqlite(_) => ("INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL", "CHAR", ""),
            Database::MySql(_) => {
                ("INT UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL", "CHAR", " ENGINE=InnoDB")
            }
            Database::Postgres(_) => ("SERIAL PRIMARY KEY NOT NULL", "VARCHAR", ""),
        };
        let declared = self.columns.iter().zip(&self.declared);
        let columns: Vec<_> =
            declared.map(|(name, kind)| format!("{name} {}", kind.replace("{text}", text))).collect();
        format!("CREATE TABLE IF NOT EXISTS \"{}\" (id {id}, {}){end}", self.name, columns.join(", "))
    }

    fn error(&self, source: DbError) -> StoreError {
        let (section, key) = self.named;
        StoreError::List { table: self.name.as_str().into(), section, key, source }
    }
}

/// The destinations of OpenSIPS's table `dispatcher` with their sets, in the order in which they are tried; none where there is no
/// such file.
///
/// # Errors
/// [`StoreError`]: it cannot be read.
pub fn dispatcher(url: &str, folder: &Path) -> Result<Vec<(u32, String)>, StoreError> {
    let database = Database::parse(url, folder, &Access::default())?;
    let columns = ["setid", "priority", "destination"].map(str::to_string).to_vec();
    let declared = vec!["INTEGER", "INTEGER", "{text}(192)"];
    let list = ListTable {
        name: "dispatcher".to_string(),
        columns,
        key: 3,
        declared,
        named: ("dispatcher", "table"),
    };
    if let Database::Sqlite(path) = &database
        && !path.exists()
    {
        return Ok(Vec::new());
    }
    let mut client = database.connect()?;
    let mut all: Vec<(u32, i64, String)> = Vec::new();
    for row in rows(&mut client, &list)? {
        let texts: Vec<Box<str>> = row.into_iter().map(text).collect();
        if let [set, priority, destination] = &texts[..]
            && let Ok(set) = set.parse()
        {
            all.push((set, priority.parse().unwrap_or(0), destination.to_string()));
        }
    }
    // Those of one priority stay as they were entered.
    all.sort_by_key(|(set, priority, _)| (*set, std::cmp::Reverse(*priority)));
    Ok(all.into_iter().map(|(set, _, destination)| (set, destination)).collect())
}

impl Store {
    /// All rows of a table of aliases. An SQLite database gets the table where it is not there.
    ///
    /// # Errors
    /// [`StoreError`]: it cannot be read.
    pub fn aliases(&self, table: &str, columns: &AliasColumns) -> Result<Vec<Alias>, StoreError> {
        let alias = |row: Vec<Value>| {
            let mut texts = row.into_iter().map(text);
            let mut next = || texts.next().unwrap_or_default();
            Alias { number: next(), number_domain: next(), extension: next(), domain: next() }
        };
        Ok(self.list(&ListTable::of_aliases(table, columns)?)?.into_iter().map(alias).collect())
    }

    /// The networks of a table `address`, of these groups or of all. An SQLite database gets the table where it is not there.
    ///
    /// # Errors
    /// [`StoreError`]: it cannot be read.
    pub fn addresses(&self, table: &str, groups: &[u32]) -> Result<Addresses, StoreError> {
        let mut addresses = Addresses::default();
        for row in self.list(&ListTable::of_addresses(table)?)? {
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

    fn list(&self, list: &ListTable) -> Result<Vec<Vec<Value>>, StoreError> {
        let mut client = self.database.connect()?;
        if matches!(self.database, Database::Sqlite(_)) {
            client.run(&list.made(&self.database)).map_err(StoreError::sql("making a table"))?;
        }
        rows(&mut client, list)
    }

    /// Copies those of these tables that are there. Rows that say the same are replaced.
    ///
    /// # Errors
    /// [`StoreError`] when one of the databases cannot be read or written; of each table all is copied, or nothing.
    pub fn copy_lists(&self, target: &Store, lists: &[ListTable]) -> Result<Vec<Copied>, StoreError> {
        let (mut from, mut to) = (self.database.connect()?, target.database.connect()?);
        let there = self.database.tables(&mut from)?;
        let mut copied = Vec::new();
        for list in lists.iter().filter(|list| there.iter().any(|name| name.eq_ignore_ascii_case(&list.name)))
        {
            let all = rows(&mut from, list)?;
            let write = |client: &mut Client| {
                client.run(&list.made(&target.database))?;
                client.begin()?;
                all.iter().try_for_each(|row| replace(client, list, row))?;
                client.run("COMMIT")
            };
            write(&mut to).map_err(|error| list.error(error))?;
            let sum = |rows: Vec<Vec<Value>>| {
                let mut sum = Sum::default();
                for row in rows {
                    let texts: Vec<Box<str>> = row.into_iter().map(text).collect();
                    sum.add(texts.iter().map(|text| text.as_bytes()));
                }
                sum
            };
            let (count, source, target) = (all.len() as u64, sum(all), sum(rows(&mut to, list)?));
            copied.push(Copied {
                table: list.name.clone(),
                rows: count,
                source,
                target,
                left_out: Vec::new(),
            });
        }
        Ok(copied)
    }
}

fn rows(client: &mut Client, list: &ListTable) -> Result<Vec<Vec<Value>>, StoreError> {
    let sql = format!("SELECT {} FROM \"{}\"", list.named_columns(), list.name);
    client.all(&sql, &[]).map_err(|error| list.error(error))
}

/// Writes a row in place of those with its key.
fn replace(client: &mut Client, list: &ListTable, row: &[Value]) -> Result<(), DbError> {
    let (mut is_it, mut params) = (Vec::new(), Vec::new());
    for (column, value) in list.columns.iter().zip(row).take(list.key) {
        match value {
            Value::Null => is_it.push(format!("{column} IS NULL")),
            value => {
                is_it.push(format!("{column} = ?"));
                params.push(value.clone());
            }
        }
    }
    client.execute(&format!("DELETE FROM \"{}\" WHERE {}", list.name, is_it.join(" AND ")), &params)?;
    let marks = vec!["?"; row.len()].join(", ");
    let sql = format!("INSERT INTO \"{}\" ({}) VALUES ({marks})", list.name, list.named_columns());
    client.execute(&sql, row).map(drop)
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
    fn both_are_copied_and_copied_again() {
        let ((_one, source), (_other, target)) = (store(), store());
        let lists = [
            ListTable::of_aliases("dbaliases", &columns()).unwrap(),
            ListTable::of_addresses("address").unwrap(),
        ];
        assert_eq!(source.copy_lists(&target, &lists).unwrap(), [], "there are none");
        source.aliases("dbaliases", &columns()).unwrap();
        source.addresses("address", &[]).unwrap();
        source
            .sqlite()
            .execute_batch(
                "INSERT INTO dbaliases (alias_username, username) VALUES ('4001', '9001'), ('4002', '9002');
                 INSERT INTO address (grp, ip) VALUES (1, '10.0.0.1'), (1, '10.0.0.2');",
            )
            .unwrap();
        for _ in 0..2 {
            let copied = source.copy_lists(&target, &lists).unwrap();
            assert!(
                copied.len() == 2 && copied.iter().all(|one| one.is_whole() && one.rows == 2),
                "{copied:?}"
            );
        }
        assert_eq!(target.aliases("dbaliases", &columns()).unwrap().len(), 2);
        assert_eq!(target.addresses("address", &[1]).unwrap().networks.len(), 2);
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
