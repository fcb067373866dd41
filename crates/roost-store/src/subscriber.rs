//! Subscribers: what `roost user` does to the table, in whatever version of it there is.

use md5::Md5;
use rusqlite::{OptionalExtension, params_from_iter};
use sha2::{Digest, Sha256, Sha512_256};

use crate::sqlite::Sqlite;
use crate::{Columns, Store, StoreError};

/// `subscriber.username` and `domain`, in bytes.
const MAX_NAME: usize = 64;
/// A password's length, in bytes. OpenSIPS's column is declared CHAR(25); SQLite keeps what it is given.
const MAX_PASSWORD: usize = 128;

/// One subscriber as `roost user list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriber {
    pub username: String,
    pub domain: String,
}

impl Store {
    /// Adds a subscriber. `realm` is what the hash columns are computed for; without one they stay empty and only
    /// the plaintext counts.
    ///
    /// # Errors
    /// [`StoreError::UserExists`], [`StoreError::TooLong`] or [`StoreError::Sql`].
    pub fn add_user(&self, user: &str, domain: &str, password: &str, realm: &str) -> Result<(), StoreError> {
        check_account(user, domain, password)?;
        let sqlite = match self {
            Store::Sqlite(sqlite) => sqlite,
            Store::MySql(mysql) => return mysql.add_user(user, domain, password, realm),
        };
        if sqlite.has_user(user, domain)? {
            return Err(StoreError::UserExists { user: shown(user, domain) });
        }
        let secrets = sqlite.secret_columns();
        let values = values(&secrets, user, domain, password, realm);
        let added = sqlite.connect()?.execute(&sqlite.insert_sql(&secrets), params_from_iter(values));
        added.map(drop).map_err(StoreError::sql("adding a subscriber"))
    }

    /// Gives a subscriber another password.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUser`], [`StoreError::TooLong`] or [`StoreError::Sql`].
    pub fn set_password(
        &self,
        user: &str,
        domain: &str,
        password: &str,
        realm: &str,
    ) -> Result<(), StoreError> {
        check_account(user, domain, password)?;
        let sqlite = match self {
            Store::Sqlite(sqlite) => sqlite,
            Store::MySql(mysql) => return mysql.set_password(user, domain, password, realm),
        };
        let secrets = sqlite.secret_columns();
        let values = values(&secrets, user, domain, password, realm);
        let sql = sqlite.update_sql(&secrets, &sqlite.by_name(domain));
        let changed = sqlite.connect()?.execute(&sql, params_from_iter(values));
        match changed.map_err(StoreError::sql("changing a password"))? {
            0 => Err(StoreError::NoSuchUser { user: shown(user, domain) }),
            _ => Ok(()),
        }
    }

    /// Removes a subscriber; its bindings are the caller's.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUser`] or [`StoreError::Sql`].
    pub fn remove_user(&self, user: &str, domain: &str) -> Result<(), StoreError> {
        let sqlite = match self {
            Store::Sqlite(sqlite) => sqlite,
            Store::MySql(mysql) => return mysql.remove_user(user, domain),
        };
        let sql = format!("DELETE FROM subscriber WHERE {}", sqlite.by_name(domain));
        let removed = sqlite.connect()?.execute(&sql, [user, domain]);
        match removed.map_err(StoreError::sql("removing a subscriber"))? {
            0 => Err(StoreError::NoSuchUser { user: shown(user, domain) }),
            _ => Ok(()),
        }
    }

    /// All subscribers, by name.
    ///
    /// # Errors
    /// [`StoreError::Sql`].
    pub fn users(&self) -> Result<Vec<Subscriber>, StoreError> {
        let sqlite = match self {
            Store::Sqlite(sqlite) => sqlite,
            Store::MySql(mysql) => return mysql.users(),
        };
        let sql = StoreError::sql;
        let connection = sqlite.connect()?;
        let (user, domain) = (&sqlite.columns.user, &sqlite.columns.domain);
        let text = format!("SELECT \"{user}\", \"{domain}\" FROM subscriber ORDER BY 1, 2");
        let mut statement = connection.prepare(&text).map_err(sql("listing subscribers"))?;
        let rows = statement
            .query_map([], |row| Ok(Subscriber { username: row.get(0)?, domain: row.get(1)? }))
            .map_err(sql("listing subscribers"))?;
        rows.collect::<Result<_, _>>().map_err(sql("listing subscribers"))
    }
}

impl Sqlite {
    /// Finds a subscriber by ?1 and ?2. Without `use_domain` and a domain the user alone counts, as when a phone logs in:
    /// OpenSIPS's tools fill the column all the same.
    pub(crate) fn by_name(&self, domain: &str) -> String {
        if domain.is_empty() && !self.columns.use_domain {
            return format!("\"{}\" = ?1 AND ?2 = ''", self.columns.user);
        }
        format!("\"{}\" = ?1 AND \"{}\" = ?2 COLLATE NOCASE", self.columns.user, self.columns.domain)
    }

    fn has_user(&self, user: &str, domain: &str) -> Result<bool, StoreError> {
        let sql = format!("SELECT 1 FROM subscriber WHERE {}", self.by_name(domain));
        let found = self.connect()?.query_row(&sql, [user, domain], |_| Ok(())).optional();
        found.map(|found| found.is_some()).map_err(StoreError::sql("looking for a subscriber"))
    }

    pub(crate) fn secret_columns(&self) -> Vec<(String, Secret)> {
        self.columns.secret_columns(|column| self.has_column(column))
    }

    /// Its values are those of [`values`].
    pub(crate) fn insert_sql(&self, secrets: &[(String, Secret)]) -> String {
        let names = [&self.columns.user, &self.columns.domain]
            .into_iter()
            .chain(secrets.iter().map(|(name, _)| name));
        let names: Vec<_> = names.map(|name| format!("\"{name}\"")).collect();
        let marks: Vec<_> = (1..=names.len()).map(|index| format!("?{index}")).collect();
        format!("INSERT INTO subscriber ({}) VALUES ({})", names.join(", "), marks.join(", "))
    }

    /// Its values are those of [`values`]; `by_name` finds the row by the first two.
    pub(crate) fn update_sql(&self, secrets: &[(String, Secret)], by_name: &str) -> String {
        let set = |(index, (name, _)): (usize, &(String, Secret))| format!("\"{name}\" = ?{}", index + 3);
        let sets: Vec<_> = secrets.iter().enumerate().map(set).collect();
        format!("UPDATE subscriber SET {} WHERE {by_name}", sets.join(", "))
    }
}

/// What a column of secrets holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Secret {
    Plaintext,
    /// MD5 of user:realm:password.
    Ha1,
    /// MD5 of user@realm:realm:password.
    Ha1b,
    Sha256,
    Sha512Trunc256,
}

impl Columns {
    /// Every secret that the table has a column for: plaintext where it is what roost reads, and the hashes.
    pub(crate) fn secret_columns(&self, has_column: impl Fn(&str) -> bool) -> Vec<(String, Secret)> {
        let own: &[_] = match self.calculate_ha1 {
            true => &[(&self.password, Secret::Plaintext)],
            false => &[(&self.password, Secret::Ha1), (&self.password_2, Secret::Ha1b)],
        };
        let own = own.iter().map(|(name, secret)| (name.as_str(), *secret));
        let mut found: Vec<(String, Secret)> = Vec::new();
        for (name, secret) in own.chain(HASH_COLUMNS) {
            if has_column(name) && !found.iter().any(|(other, _)| other == name) {
                found.push((name.to_string(), secret));
            }
        }
        found
    }
}

const HASH_COLUMNS: [(&str, Secret); 4] = [
    ("ha1", Secret::Ha1),
    ("ha1b", Secret::Ha1b),
    ("ha1_sha256", Secret::Sha256),
    ("ha1_sha512t256", Secret::Sha512Trunc256),
];

/// User, domain, and a value for each column of secrets. Without a realm hashes are empty: those of an older password
/// must not go on working.
pub(crate) fn values(
    secrets: &[(String, Secret)],
    user: &str,
    domain: &str,
    password: &str,
    realm: &str,
) -> impl Iterator<Item = String> {
    let bare = format!("{user}:{realm}:{password}");
    let secret = |kind: Secret| match kind {
        Secret::Plaintext => password.to_string(),
        _ if realm.is_empty() => String::new(),
        Secret::Ha1 => hex(&Md5::digest(&bare)),
        Secret::Ha1b => hex(&Md5::digest(format!("{user}@{realm}:{realm}:{password}"))),
        Secret::Sha256 => hex(&Sha256::digest(&bare)),
        Secret::Sha512Trunc256 => hex(&Sha512_256::digest(&bare)),
    };
    let names = [user.to_string(), domain.to_string()].into_iter();
    let all: Vec<_> = names.chain(secrets.iter().map(|(_, kind)| secret(*kind))).collect();
    all.into_iter()
}

/// Whether an account fits the columns of the table.
///
/// # Errors
/// [`StoreError::TooLong`].
pub fn check_account(user: &str, domain: &str, password: &str) -> Result<(), StoreError> {
    for (what, text, most) in [
        ("the user", user, MAX_NAME),
        ("the domain", domain, MAX_NAME),
        ("the password", password, MAX_PASSWORD),
    ] {
        if text.len() > most {
            return Err(StoreError::TooLong { what, most });
        }
    }
    Ok(())
}

pub(crate) fn shown(user: &str, domain: &str) -> String {
    if domain.is_empty() { user.to_string() } else { format!("{user}@{domain}") }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &std::path::Path, calculate_ha1: bool) -> Store {
        let password = if calculate_ha1 { "password" } else { "ha1" };
        let columns = Columns {
            user: "username".into(),
            domain: "domain".into(),
            password: password.into(),
            password_2: "ha1b".into(),
            calculate_ha1,
            use_domain: false,
        };
        Store::open("sqlite:test.db", folder, columns).unwrap()
    }

    fn column(store: &Store, name: &str) -> String {
        let Store::Sqlite(sqlite) = store else { panic!("SQLite") };
        sqlite
            .connect()
            .unwrap()
            .query_row(&format!("SELECT {name} FROM subscriber"), [], |row| row.get(0))
            .unwrap()
    }

    #[test]
    fn add_passwd_list_rm() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), true);
        store.add_user("9001", "10.2.32.112", "9001", "10.2.32.112").unwrap();
        assert_eq!(column(&store, "password"), "9001");
        assert_eq!(column(&store, "ha1"), "36554bda61fbcb964a5866662b54bf4e");
        assert_eq!(column(&store, "ha1b"), "96d458911b82f4e1da0bd718b33c0e16");
        assert_eq!(column(&store, "ha1_sha256").len(), 64);
        let again = store.add_user("9001", "10.2.32.112", "x", "");
        assert_eq!(again.unwrap_err().to_string(), "user '9001@10.2.32.112' already exists");
        store.set_password("9001", "10.2.32.112", "new", "").unwrap();
        assert_eq!(column(&store, "password || ha1 || ha1b || ha1_sha256"), "new");
        assert_eq!(store.users().unwrap().len(), 1);
        store.remove_user("9001", "10.2.32.112").unwrap();
        assert!(matches!(store.remove_user("9001", ""), Err(StoreError::NoSuchUser { .. })));
        store.add_user("9001", "10.2.32.112", "9001", "").unwrap();
        assert!(matches!(store.add_user("9001", "", "9001", ""), Err(StoreError::UserExists { .. })));
        store.remove_user("9001", "").unwrap();
        assert!(matches!(store.add_user(&"9".repeat(65), "", "x", ""), Err(StoreError::TooLong { .. })));
    }

    #[test]
    fn without_plaintext_only_hashes_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), false);
        store.add_user("401999", "10.2.84.19", "401999", "10.2.84.19").unwrap();
        assert_eq!(column(&store, "password"), "");
        assert_eq!(column(&store, "ha1"), "a6b2c5d4e5c8a079123621fce374bbce");
    }

    #[test]
    fn an_opensips_table_of_version_7_is_used_as_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let connection = rusqlite::Connection::open(folder.path().join("test.db")).unwrap();
        let schema = "CREATE TABLE version (table_name CHAR(32), table_version INTEGER);
            INSERT INTO version VALUES ('subscriber', 7), ('location', 1013);
            CREATE TABLE location (contact_id INTEGER PRIMARY KEY);
            CREATE TABLE subscriber (id INTEGER PRIMARY KEY, username TEXT, domain TEXT, password TEXT,
                email_address TEXT DEFAULT 'kept', ha1 TEXT, ha1b TEXT, rpid TEXT);";
        connection.execute_batch(schema).unwrap();
        let store = open(folder.path(), true);
        store.add_user("9001", "d", "secret", "d").unwrap();
        assert_eq!(column(&store, "password || email_address"), "secretkept");
        connection
            .execute_batch("UPDATE version SET table_version = 9 WHERE table_name = 'subscriber'")
            .unwrap();
        let Store::Sqlite(sqlite) = store else { panic!("SQLite") };
        let error = Store::open("sqlite:test.db", folder.path(), sqlite.columns).unwrap_err().to_string();
        assert!(error.contains("`subscriber`") && error.contains("version 9"), "{error}");
    }
}
