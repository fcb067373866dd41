//! Subscribers: what `roost user` does to the table, in whatever version of it there is.

use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};

use crate::client::Client;
use crate::columns::Columns;
use crate::error::{DbError, StoreError};
use crate::store::Store;
use crate::value::Value;

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

/// A row of name and domain.
fn subscriber(row: Vec<Value>) -> Subscriber {
    let mut texts = row.into_iter().map(|value| String::from_utf8_lossy(&value.into_bytes()).into_owned());
    Subscriber { username: texts.next().unwrap_or_default(), domain: texts.next().unwrap_or_default() }
}

impl Store {
    /// Adds a subscriber. `realm` is what the hash columns are computed for; without one they stay empty and only
    /// the plaintext counts.
    ///
    /// # Errors
    /// [`StoreError::UserExists`], [`StoreError::TooLong`] or [`StoreError::Sql`].
    pub fn add_user(&self, user: &str, domain: &str, password: &str, realm: &str) -> Result<(), StoreError> {
        check_account(user, domain, password)?;
        let mut client = self.database.connect()?;
        // Without `use_domain` a phone logs in as the user alone, whatever domain his row has.
        let there = self.domains_of(user)?;
        let twin = there.iter().find(|there| !self.columns.use_domain || there.eq_ignore_ascii_case(domain));
        if let Some(twin) = twin {
            return Err(StoreError::UserExists { user: shown(user, twin) });
        }
        let secrets = self.secret_columns();
        let values: Vec<_> = values(&secrets, user, domain, password, realm).collect();
        let added = client.execute(&self.insert_sql(&secrets, 1), &values);
        added.map(drop).map_err(StoreError::sql("adding a subscriber"))
    }

    /// Gives the subscriber of this very row another password.
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
        let mut client = self.database.connect()?;
        let by = self.by_row(user, domain);
        let changed = self.update_where(&mut client, by, (user, domain), password, realm);
        match changed.map_err(StoreError::sql("changing a password"))? {
            0 => Err(StoreError::NoSuchUser { user: shown(user, domain) }),
            _ => Ok(()),
        }
    }

    /// Removes the subscriber of this very row; its bindings are the caller's.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUser`] or [`StoreError::Sql`].
    pub fn remove_user(&self, user: &str, domain: &str) -> Result<(), StoreError> {
        let (by, names) = self.by_row(user, domain);
        let removed = self.database.connect()?.execute(&format!("DELETE FROM subscriber WHERE {by}"), &names);
        match removed.map_err(StoreError::sql("removing a subscriber"))? {
            0 => Err(StoreError::NoSuchUser { user: shown(user, domain) }),
            _ => Ok(()),
        }
    }

    /// The domains of all rows of a name, in order; mostly one.
    ///
    /// # Errors
    /// [`StoreError::Sql`].
    pub fn domains_of(&self, user: &str) -> Result<Vec<String>, StoreError> {
        let Columns { user: name, domain, .. } = &self.columns;
        let sql =
            format!("SELECT COALESCE(\"{domain}\", '') FROM subscriber WHERE \"{name}\" = ? ORDER BY 1");
        let rows = self.database.connect()?.all(&sql, &[user.into()]);
        let rows = rows.map_err(StoreError::sql("looking for a subscriber"))?;
        let text = |row: Vec<Value>| {
            let bytes = row.into_iter().next().map(Value::into_bytes).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ok(rows.into_iter().map(text).collect())
    }

    /// All subscribers, by name.
    ///
    /// # Errors
    /// [`StoreError::Sql`].
    pub fn users(&self) -> Result<Vec<Subscriber>, StoreError> {
        let (user, domain) = (&self.columns.user, &self.columns.domain);
        let sql = format!("SELECT \"{user}\", \"{domain}\" FROM subscriber ORDER BY 1, 2");
        let rows = self.database.connect()?.all(&sql, &[]).map_err(StoreError::sql("listing subscribers"))?;
        Ok(rows.into_iter().map(subscriber).collect())
    }

    /// So many subscribers by name, after one, with a text in their names. Without `use_domain` a name stands once, and has no
    /// domain.
    ///
    /// # Errors
    /// [`StoreError::Sql`].
    pub fn some_users(
        &self,
        after: Option<&Subscriber>,
        search: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Subscriber>, StoreError> {
        let (user, domain) = (&self.columns.user, &self.columns.domain);
        let (mut conditions, mut values) = (vec!["1 = 1".to_string()], Vec::new());
        let domain = if self.columns.use_domain { format!("\"{domain}\"") } else { "''".to_string() };
        if let Some(Subscriber { username, domain: after_domain }) = after {
            values.push(Value::from(&**username));
            match self.columns.use_domain {
                true => {
                    conditions.push(format!("(\"{user}\" > ? OR (\"{user}\" = ? AND {domain} > ?))"));
                    values.extend([Value::from(&**username), Value::from(&**after_domain)]);
                }
                false => conditions.push(format!("\"{user}\" > ?")),
            }
        }
        if let Some(search) = search {
            let escaped: String = search
                .chars()
                .flat_map(|one| if "%_!".contains(one) { vec!['!', one] } else { vec![one] })
                .collect();
            conditions.push(format!("\"{user}\" LIKE ? ESCAPE '!'"));
            values.push(Value::from(&*format!("%{escaped}%")));
        }
        let sql = format!(
            "SELECT DISTINCT \"{user}\", {domain} FROM subscriber WHERE {} ORDER BY 1, 2 LIMIT {limit}",
            conditions.join(" AND ")
        );
        let rows =
            self.database.connect()?.all(&sql, &values).map_err(StoreError::sql("listing subscribers"))?;
        Ok(rows.into_iter().map(subscriber).collect())
    }

    /// Gives a subscriber that is there another password; how many rows that are.
    pub(crate) fn update(
        &self,
        client: &mut Client,
        user: &str,
        domain: &str,
        password: &str,
        realm: &str,
    ) -> Result<u64, DbError> {
        let by = self.by_name(user, domain);
        self.update_where(client, by, (user, domain), password, realm)
    }

    fn update_where(
        &self,
        client: &mut Client,
        (by, names): (String, Vec<Value>),
        (user, domain): (&str, &str),
        password: &str,
        realm: &str,
    ) -> Result<u64, DbError> {
        let secrets = self.secret_columns();
        let sets: Vec<_> = secrets.iter().map(|(name, _)| format!("\"{name}\" = ?")).collect();
        let values = values(&secrets, user, domain, password, realm).skip(2);
        let params: Vec<_> = values.chain(names).collect();
        client.execute(&format!("UPDATE subscriber SET {} WHERE {by}", sets.join(", ")), &params)
    }

    /// Finds one row.
    fn by_row(&self, user: &str, domain: &str) -> (String, Vec<Value>) {
        let (name, of) = (&self.columns.user, &self.columns.domain);
        let by = format!("\"{name}\" = ? AND LOWER(COALESCE(\"{of}\", '')) = ?");
        (by, vec![user.into(), domain.to_ascii_lowercase().as_str().into()])
    }

    /// Finds a subscriber. Without `use_domain` and a domain the user alone counts, as when a phone logs in: OpenSIPS's
    /// tools fill the column all the same.
    fn by_name(&self, user: &str, domain: &str) -> (String, Vec<Value>) {
        let name = &self.columns.user;
        match domain.is_empty() && !self.columns.use_domain {
            true => (format!("\"{name}\" = ?"), vec![user.into()]),
            false => {
                let of = &self.columns.domain;
                let by = format!("\"{name}\" = ? AND LOWER(\"{of}\") = ?");
                (by, vec![user.into(), domain.to_ascii_lowercase().as_str().into()])
            }
        }
    }

    pub(crate) fn secret_columns(&self) -> Vec<(String, Secret)> {
        self.columns.secret_columns(|column| self.has_column(column))
    }

    /// Adds so many rows; their values are those of [`values`].
    pub(crate) fn insert_sql(&self, secrets: &[(String, Secret)], rows: usize) -> String {
        let names = [&self.columns.user, &self.columns.domain]
            .into_iter()
            .chain(secrets.iter().map(|(name, _)| name));
        let names: Vec<_> = names.map(|name| format!("\"{name}\"")).collect();
        let row = format!("({})", vec!["?"; names.len()].join(", "));
        format!("INSERT INTO subscriber ({}) VALUES {}", names.join(", "), vec![row; rows].join(", "))
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
) -> impl Iterator<Item = Value> {
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
    all.into_iter().map(|value: String| Value::from(value.as_str()))
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
    use crate::Access;

    fn open(folder: &std::path::Path, calculate_ha1: bool) -> Store {
        let password = if calculate_ha1 { "password" } else { "ha1" };
        let columns = Columns { password: password.into(), calculate_ha1, ..Columns::default() };
        Store::open("sqlite:test.db", folder, &Access::default(), columns).unwrap()
    }

    fn column(store: &Store, name: &str) -> String {
        store.sqlite().query_row(&format!("SELECT {name} FROM subscriber"), [], |row| row.get(0)).unwrap()
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
        let again = store.add_user("9001", "", "9001", "");
        assert_eq!(again.unwrap_err().to_string(), "user '9001@10.2.32.112' already exists");
        assert_eq!(store.domains_of("9001").unwrap(), ["10.2.32.112"]);
        assert!(matches!(store.remove_user("9001", ""), Err(StoreError::NoSuchUser { .. })));
        store.remove_user("9001", "10.2.32.112").unwrap();
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
            CREATE TABLE location (contact_id INTEGER PRIMARY KEY, username, domain, contact, received, path, expires, q,
                callid, cseq, last_modified, flags, cflags, user_agent, socket, methods, sip_instance, kv_store);
            CREATE TABLE subscriber (id INTEGER PRIMARY KEY, username TEXT, domain TEXT, password TEXT,
                email_address TEXT DEFAULT 'kept', ha1 TEXT, ha1b TEXT, rpid TEXT);";
        connection.execute_batch(schema).unwrap();
        let store = open(folder.path(), true);
        store.add_user("9001", "d", "secret", "d").unwrap();
        assert_eq!(column(&store, "password || email_address"), "secretkept");
        connection
            .execute_batch("UPDATE version SET table_version = 9 WHERE table_name = 'subscriber'")
            .unwrap();
        let opened = Store::open("sqlite:test.db", folder.path(), &Access::default(), store.columns);
        let error = opened.unwrap_err().to_string();
        assert!(error.contains("`subscriber`") && error.contains("version 9"), "{error}");
    }
}
