//! Subscribers in MySQL and MariaDB: what `roost user` does to the table.

use mysql::prelude::Queryable;
use mysql::{Conn, TxOpts, Value};

use crate::StoreError;
use crate::import::{Account, Accounts, Imported, OnExisting, PROGRESS_EVERY};
use crate::mysql::{MySql, sql};
use crate::subscriber::{Secret, Subscriber, shown, values};

/// Accounts that are asked about, or added, in one statement.
const AT_ONCE: usize = 500;

impl MySql {
    pub(crate) fn add_user(
        &self,
        user: &str,
        domain: &str,
        password: &str,
        realm: &str,
    ) -> Result<(), StoreError> {
        let mut conn = self.connect()?;
        if self.has_user(&mut conn, user, domain).map_err(sql("looking for a subscriber"))? {
            return Err(StoreError::UserExists { user: shown(user, domain) });
        }
        let secrets = self.secret_columns();
        let values = params(&secrets, user, domain, password, realm);
        conn.exec_drop(self.insert(&secrets, 1), values).map_err(sql("adding a subscriber"))
    }

    pub(crate) fn set_password(
        &self,
        user: &str,
        domain: &str,
        password: &str,
        realm: &str,
    ) -> Result<(), StoreError> {
        let mut conn = self.connect()?;
        if !self.has_user(&mut conn, user, domain).map_err(sql("looking for a subscriber"))? {
            return Err(StoreError::NoSuchUser { user: shown(user, domain) });
        }
        self.update(&mut conn, user, domain, password, realm).map_err(sql("changing a password"))
    }

    pub(crate) fn remove_user(&self, user: &str, domain: &str) -> Result<(), StoreError> {
        let mut conn = self.connect()?;
        let (by, names) = self.by_name(user, domain);
        conn.exec_drop(format!("DELETE FROM subscriber WHERE {by}"), names)
            .map_err(sql("removing a subscriber"))?;
        match conn.affected_rows() {
            0 => Err(StoreError::NoSuchUser { user: shown(user, domain) }),
            _ => Ok(()),
        }
    }

    pub(crate) fn users(&self) -> Result<Vec<Subscriber>, StoreError> {
        let (user, domain) = (&self.columns.user, &self.columns.domain);
        let text = format!("SELECT \"{user}\", \"{domain}\" FROM subscriber ORDER BY 1, 2");
        let subscriber = |(username, domain): (String, Option<String>)| Subscriber {
            username,
            domain: domain.unwrap_or_default(),
        };
        self.connect()?.query_map(text, subscriber).map_err(sql("listing subscribers"))
    }

    /// All or none. A running server goes on meanwhile: these are other rows than it writes.
    pub(crate) fn import_users(
        &self,
        accounts: &Accounts,
        realm: &str,
        on_existing: OnExisting,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Imported, StoreError> {
        let mut conn = self.connect()?;
        let mut transaction = conn.start_transaction(TxOpts::default()).map_err(sql("beginning"))?;
        let secrets = self.secret_columns();
        let (mut added, mut replaced, mut done) = (0, 0, 0);
        let mut existing = Vec::new();
        let all: Vec<Account<'_>> = accounts.iter().collect();
        for some in all.chunks(AT_ONCE) {
            let mut fresh = Vec::new();
            let known = self.known(&mut transaction, some).map_err(sql("looking for a subscriber"))?;
            for (account, is_known) in some.iter().zip(known) {
                let realm = if realm.is_empty() { account.domain } else { realm };
                match (is_known, on_existing) {
                    (true, OnExisting::Refuse) => existing.push(account.line),
                    (true, OnExisting::Replace) => {
                        let Account { user, domain, password, .. } = *account;
                        self.update(&mut transaction, user, domain, password, realm)
                            .map_err(sql("changing a password"))?;
                        replaced += 1;
                    }
                    (false, _) => fresh.push((account, realm)),
                }
            }
            // From the first such line on nothing is imported any more.
            if existing.is_empty() && !fresh.is_empty() {
                let values = fresh.iter().flat_map(|(account, realm)| {
                    params(&secrets, account.user, account.domain, account.password, realm)
                });
                let statement = self.insert(&secrets, fresh.len());
                transaction.exec_drop(statement, values.collect::<Vec<_>>()).map_err(sql("importing"))?;
                added += fresh.len() as u64;
            }
            done += some.len() as u64;
            if done / PROGRESS_EVERY != (done - some.len() as u64) / PROGRESS_EVERY {
                progress(done);
            }
        }
        if existing.is_empty() {
            transaction.commit().map_err(sql("committing the import"))?;
            return Ok(Imported::Done { added, replaced });
        }
        transaction.rollback().map_err(sql("undoing the import"))?;
        existing.sort_unstable();
        Ok(Imported::Existing(existing))
    }

    pub(crate) fn existing_users(&self, accounts: &Accounts) -> Result<Vec<u64>, StoreError> {
        let mut conn = self.connect()?;
        let all: Vec<Account<'_>> = accounts.iter().collect();
        let mut lines = Vec::new();
        for some in all.chunks(AT_ONCE) {
            let known = self.known(&mut conn, some).map_err(sql("looking for a subscriber"))?;
            lines.extend(some.iter().zip(known).filter(|(_, known)| *known).map(|(account, _)| account.line));
        }
        lines.sort_unstable();
        Ok(lines)
    }

    /// Which of some accounts are there.
    fn known(&self, conn: &mut impl Queryable, some: &[Account<'_>]) -> mysql::Result<Vec<bool>> {
        let (user, domain) = (&self.columns.user, &self.columns.domain);
        let marks = vec!["?"; some.len()].join(", ");
        let text = format!("SELECT \"{user}\", \"{domain}\" FROM subscriber WHERE \"{user}\" IN ({marks})");
        let names: Vec<Value> = some.iter().map(|account| Value::from(account.user)).collect();
        let found: Vec<(String, Option<String>)> = conn.exec(text, names)?;
        let is_it = |account: &Account<'_>| {
            found.iter().any(|(user, domain)| {
                let is_any = account.domain.is_empty() && !self.columns.use_domain;
                let domain = domain.as_deref().unwrap_or("");
                user.eq_ignore_ascii_case(account.user)
                    && (is_any || domain.eq_ignore_ascii_case(account.domain))
            })
        };
        Ok(some.iter().map(is_it).collect())
    }

    fn has_user(&self, conn: &mut Conn, user: &str, domain: &str) -> mysql::Result<bool> {
        let (by, names) = self.by_name(user, domain);
        let found: Option<u8> = conn.exec_first(format!("SELECT 1 FROM subscriber WHERE {by}"), names)?;
        Ok(found.is_some())
    }

    fn update(
        &self,
        conn: &mut impl Queryable,
        user: &str,
        domain: &str,
        password: &str,
        realm: &str,
    ) -> mysql::Result<()> {
        let secrets = self.secret_columns();
        let sets: Vec<_> = secrets.iter().map(|(name, _)| format!("\"{name}\" = ?")).collect();
        let (by, names) = self.by_name(user, domain);
        let mut values: Vec<Value> =
            params(&secrets, user, domain, password, realm).into_iter().skip(2).collect();
        values.extend(names);
        conn.exec_drop(format!("UPDATE subscriber SET {} WHERE {by}", sets.join(", ")), values)
    }

    /// Finds a subscriber. Without `use_domain` and a domain the user alone counts, as when a phone logs in.
    fn by_name(&self, user: &str, domain: &str) -> (String, Vec<Value>) {
        let name = &self.columns.user;
        match domain.is_empty() && !self.columns.use_domain {
            true => (format!("\"{name}\" = ?"), vec![user.into()]),
            false => {
                let of = &self.columns.domain;
                (format!("\"{name}\" = ? AND \"{of}\" = ?"), vec![user.into(), domain.into()])
            }
        }
    }

    fn insert(&self, secrets: &[(String, Secret)], count: usize) -> String {
        let names = [&self.columns.user, &self.columns.domain]
            .into_iter()
            .chain(secrets.iter().map(|(name, _)| name));
        let names: Vec<_> = names.map(|name| format!("\"{name}\"")).collect();
        let row = format!("({})", vec!["?"; names.len()].join(", "));
        let rows = vec![row; count].join(", ");
        format!("INSERT INTO subscriber ({}) VALUES {rows}", names.join(", "))
    }

    fn secret_columns(&self) -> Vec<(String, Secret)> {
        self.columns.secret_columns(|column| self.has_column(column))
    }
}

fn params(secrets: &[(String, Secret)], user: &str, domain: &str, password: &str, realm: &str) -> Vec<Value> {
    values(secrets, user, domain, password, realm).map(Value::from).collect()
}
