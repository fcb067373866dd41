//! Many subscribers at once: all of them or none, in one transaction.

use std::collections::HashMap;
use std::time::Duration;

use crate::client::Client;
use crate::error::{DbError, StoreError};
use crate::store::Store;
use crate::subscriber::values;
use crate::value::Value;

/// How long an import waits for its turn to write: a loaded server leaves few gaps.
const TURN_TIMEOUT: Duration = Duration::from_secs(60);
/// Pages that an import keeps in memory, in KiB: the indexes grow at one end, so few are written twice.
const CACHE_KIB: i64 = 65_536;
/// Accounts that are asked about, or added, in one statement.
const AT_ONCE: usize = 500;
/// Rows between two words of progress.
const PROGRESS_EVERY: u64 = 4_096;

/// Subscribers to import, packed: a million of them take some 50 MB.
#[derive(Debug, Default)]
pub struct Accounts {
    /// User, domain and password of all, one after the other.
    text: String,
    places: Vec<Place>,
}

/// One subscriber to import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account<'a> {
    /// Where it stands in its file, from 1.
    pub line: u64,
    pub user: &'a str,
    pub domain: &'a str,
    pub password: &'a str,
}

/// Where an account stands in the text, in bytes.
#[derive(Debug)]
struct Place {
    line: u64,
    start: usize,
    user: u16,
    domain: u16,
    password: u16,
}

/// What becomes of a subscriber that the table has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExisting {
    /// Nothing is imported, and its line is reported.
    Refuse,
    /// It gets the password of the file.
    Replace,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// It is on disk.
    Done { added: u64, replaced: u64 },
    /// Nothing is imported: the accounts of these lines are in the table.
    Existing(Vec<u64>),
}

impl Accounts {
    /// Takes an account that has passed [`crate::check_account`].
    ///
    /// # Errors
    /// [`StoreError::TooLong`] where a part is beyond any column.
    pub fn push(&mut self, account: Account<'_>) -> Result<(), StoreError> {
        let length = |what, text: &str| {
            let most = usize::from(u16::MAX);
            u16::try_from(text.len()).map_err(|_| StoreError::TooLong { what, most })
        };
        let place = Place {
            line: account.line,
            start: self.text.len(),
            user: length("the user", account.user)?,
            domain: length("the domain", account.domain)?,
            password: length("the password", account.password)?,
        };
        for part in [account.user, account.domain, account.password] {
            self.text.push_str(part);
        }
        self.places.push(place);
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// By user, then by domain, then by line: so the table's indexes are written from one end to the other.
    pub fn sort(&mut self) {
        let text = &self.text;
        self.places.sort_by(|one, other| {
            let (a, b) = (account(text, one), account(text, other));
            a.user.cmp(b.user).then_with(|| folded(a.domain).cmp(folded(b.domain))).then(a.line.cmp(&b.line))
        });
    }

    /// In the order in which they stand.
    pub fn iter(&self) -> impl Iterator<Item = Account<'_>> {
        self.places.iter().map(|place| account(&self.text, place))
    }

    /// Accounts that would be the same subscriber: the line of each, and the line that had it before. They must be
    /// sorted. Without `use_domain` a user without a domain is the same as one with any.
    pub fn duplicates(&self, use_domain: bool) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        let users = self.places.chunk_by(|a, b| account(&self.text, a).user == account(&self.text, b).user);
        for same_user in users.filter(|places| places.len() > 1) {
            let accounts: Vec<_> = same_user.iter().map(|place| account(&self.text, place)).collect();
            let is_any = !use_domain && accounts.iter().any(|account| account.domain.is_empty());
            let is_same =
                |a: &Account<'_>, b: &Account<'_>| is_any || a.domain.eq_ignore_ascii_case(b.domain);
            for same in accounts.chunk_by(is_same) {
                let first = same.iter().map(|account| account.line).min().unwrap_or(0);
                found.extend(same.iter().filter(|one| one.line != first).map(|one| (one.line, first)));
            }
        }
        found.sort_unstable();
        found
    }
}

fn account<'a>(text: &'a str, place: &Place) -> Account<'a> {
    let rest = text.get(place.start..).unwrap_or("");
    let (user, rest) = rest.split_at(usize::from(place.user));
    let (domain, rest) = rest.split_at(usize::from(place.domain));
    let (password, _) = rest.split_at(usize::from(place.password));
    Account { line: place.line, user, domain, password }
}

/// Domains do not distinguish case.
fn folded(domain: &str) -> impl Iterator<Item = u8> + '_ {
    domain.bytes().map(|byte| byte.to_ascii_lowercase())
}

impl Store {
    /// Imports all accounts or none. `realm` is what the hash columns are computed for, empty: the account's domain.
    /// `progress` hears now and then how many are done. A running server's commits to SQLite wait until it has ended.
    ///
    /// # Errors
    /// [`StoreError::Sql`]; nothing is imported then.
    pub fn import_users(
        &self,
        accounts: &Accounts,
        realm: &str,
        on_existing: OnExisting,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Imported, StoreError> {
        let mut client = self.database.connect()?;
        if let Client::Sqlite(connection) = &client {
            connection.busy_timeout(TURN_TIMEOUT).map_err(StoreError::sql("setting the timeout"))?;
            connection
                .pragma_update(None, "cache_size", -CACHE_KIB)
                .map_err(StoreError::sql("setting the cache"))?;
        }
        client.begin().map_err(StoreError::sql("waiting for the turn to write"))?;
        let imported = self
            .import(&mut client, accounts, realm, on_existing, progress)
            .map_err(StoreError::sql("importing"))?;
        match imported {
            Imported::Done { .. } => {
                client.run("COMMIT").map_err(StoreError::sql("committing the import"))?
            }
            Imported::Existing(_) => client.run("ROLLBACK").map_err(StoreError::sql("undoing the import"))?,
        }
        Ok(imported)
    }

    fn import(
        &self,
        client: &mut Client,
        accounts: &Accounts,
        realm: &str,
        on_existing: OnExisting,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Imported, DbError> {
        let secrets = self.secret_columns();
        let (mut added, mut replaced, mut done) = (0, 0, 0);
        let mut existing = Vec::new();
        let all: Vec<Account<'_>> = accounts.iter().collect();
        for some in all.chunks(AT_ONCE) {
            let mut fresh = Vec::new();
            let known = self.known(client, some)?;
            for (account, is_known) in some.iter().zip(known) {
                let realm = if realm.is_empty() { account.domain } else { realm };
                let Account { user, domain, password, line } = *account;
                match (is_known, on_existing) {
                    (true, OnExisting::Refuse) => existing.push(line),
                    (true, OnExisting::Replace) => {
                        replaced += self.update(client, user, domain, password, realm)?;
                    }
                    (false, _) => fresh.extend(values(&secrets, user, domain, password, realm)),
                }
            }
            // From the first such line on nothing is imported any more.
            let rows = fresh.len() / (secrets.len() + 2);
            if existing.is_empty() && rows > 0 {
                added += client.execute(&self.insert_sql(&secrets, rows), &fresh)?;
            }
            let before = done;
            done += some.len() as u64;
            if done / PROGRESS_EVERY != before / PROGRESS_EVERY {
                progress(done);
            }
        }
        existing.sort_unstable();
        Ok(if existing.is_empty() {
            Imported::Done { added, replaced }
        } else {
            Imported::Existing(existing)
        })
    }

    /// The lines of the accounts that the table has already.
    ///
    /// # Errors
    /// [`StoreError::Sql`].
    pub fn existing_users(&self, accounts: &Accounts) -> Result<Vec<u64>, StoreError> {
        let mut client = self.database.connect()?;
        let all: Vec<Account<'_>> = accounts.iter().collect();
        let mut lines = Vec::new();
        for some in all.chunks(AT_ONCE) {
            let known = self.known(&mut client, some).map_err(StoreError::sql("looking for a subscriber"))?;
            lines.extend(some.iter().zip(known).filter(|(_, known)| *known).map(|(account, _)| account.line));
        }
        lines.sort_unstable();
        Ok(lines)
    }

    /// Which of some accounts are there.
    fn known(&self, client: &mut Client, some: &[Account<'_>]) -> Result<Vec<bool>, DbError> {
        let (user, domain) = (&self.columns.user, &self.columns.domain);
        let marks = vec!["?"; some.len()].join(", ");
        let sql = format!("SELECT \"{user}\", \"{domain}\" FROM subscriber WHERE \"{user}\" IN ({marks})");
        let names: Vec<Value> = some.iter().map(|account| account.user.into()).collect();
        // The database has found the users, by its own rules for case; what is left to compare is the domain.
        let mut found: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
        client.each(&sql, &names, &mut |row| {
            let mut columns = row.into_iter().map(|column| column.into_bytes().to_ascii_lowercase());
            let user = columns.next().unwrap_or_default();
            found.entry(user).or_default().push(columns.next().unwrap_or_default());
            true
        })?;
        let is_it = |account: &Account<'_>| {
            let is_any = account.domain.is_empty() && !self.columns.use_domain;
            let domains = found.get(account.user.to_ascii_lowercase().as_bytes());
            let is_one = |domain: &Vec<u8>| domain.eq_ignore_ascii_case(account.domain.as_bytes());
            domains.is_some_and(|domains| is_any || domains.iter().any(is_one))
        };
        Ok(some.iter().map(is_it).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Access, Columns};

    fn open(folder: &std::path::Path, use_domain: bool) -> Store {
        let columns = Columns { use_domain, ..Columns::default() };
        Store::open("sqlite:test.db", folder, &Access::default(), columns).unwrap()
    }

    /// Accounts of `user@domain` in lines 2, 3, …; the password is the line.
    fn accounts(names: &[&str]) -> Accounts {
        let mut accounts = Accounts::default();
        for (line, name) in (2..).zip(names) {
            let (user, domain) = name.split_once('@').unwrap_or((name, ""));
            accounts.push(Account { line, user, domain, password: &line.to_string() }).unwrap();
        }
        accounts.sort();
        accounts
    }

    fn import(store: &Store, names: &[&str], on_existing: OnExisting) -> Imported {
        store.import_users(&accounts(names), "", on_existing, &mut |_| ()).unwrap()
    }

    /// Every row as text, without the hashes.
    fn rows(store: &Store) -> Vec<String> {
        let connection = store.sqlite();
        let sql = "SELECT username || '@' || domain || ' ' || password FROM subscriber ORDER BY 1";
        let mut statement = connection.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn all_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), false);
        assert_eq!(
            import(&store, &["9002", "9001@a"], OnExisting::Refuse),
            Imported::Done { added: 2, replaced: 0 }
        );
        // What `user add` would refuse: a bare user that has a row with a domain, a domain in another case.
        let names = ["9003", "9001", "9001@A", "9004"];
        for names in [&names[..2], &names[2..]] {
            assert!(matches!(import(&store, names, OnExisting::Refuse), Imported::Existing(_)));
        }
        assert_eq!(
            import(&store, &["9003", "9002", "9001"], OnExisting::Refuse),
            Imported::Existing(vec![3, 4])
        );
        assert_eq!(store.existing_users(&accounts(&["9003", "9002", "9001"])).unwrap(), [3, 4]);
        assert_eq!(rows(&store), ["9001@a 3", "9002@ 2"]);
        let replaced = import(&store, &["9003", "9001", "9002"], OnExisting::Replace);
        assert_eq!(replaced, Imported::Done { added: 1, replaced: 2 });
        assert_eq!(rows(&store), ["9001@a 3", "9002@ 4", "9003@ 2"]);
    }

    #[test]
    fn a_failing_statement_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), false);
        let trigger = "CREATE TRIGGER full BEFORE INSERT ON subscriber WHEN NEW.username = '9002' \
            BEGIN SELECT RAISE(ABORT, 'no'); END";
        store.sqlite().execute_batch(trigger).unwrap();
        let failed =
            store.import_users(&accounts(&["9001", "9002", "9003"]), "", OnExisting::Refuse, &mut |_| ());
        assert!(matches!(failed, Err(StoreError::Sql { .. })));
        assert_eq!(rows(&store), [""; 0]);
    }

    #[test]
    fn hashes_are_those_of_user_add() {
        for realm in ["", "tony.com"] {
            let folder = tempfile::tempdir().unwrap();
            let store = open(folder.path(), true);
            store
                .add_user("9001", "a.example", "2", if realm.is_empty() { "a.example" } else { realm })
                .unwrap();
            store
                .import_users(&accounts(&["9001@b.example"]), realm, OnExisting::Refuse, &mut |_| ())
                .unwrap();
            let realm = if realm.is_empty() { "b.example" } else { realm };
            store.add_user("9001", "c.example", "2", realm).unwrap();
            let kinds: i64 = store
                .sqlite()
                .query_row(
                    "SELECT count(DISTINCT password || ha1 || ha1b || ha1_sha256 || ha1_sha512t256) FROM subscriber \
                     WHERE domain <> 'a.example' AND length(ha1) = 32 AND length(ha1_sha512t256) = 64",
                    [],
                    |row| row.get(0),
                )
                .unwrap();
            assert_eq!(kinds, 1);
        }
    }

    #[test]
    fn the_same_subscriber_twice() {
        for (names, use_domain, expected) in [
            (&["9001", "9002", "9001", "9001"][..], false, &[(4, 2), (5, 2)][..]),
            (&["9001@a", "9001@b", "9001@A"], false, &[(4, 2)]),
            (&["9001@a", "9001@b", "9001"], false, &[(3, 2), (4, 2)]),
            (&["9001@a", "9001@b", "9001@B"], true, &[(4, 3)]),
            (&["9001@a", "9002@a"], true, &[]),
        ] {
            assert_eq!(accounts(names).duplicates(use_domain), expected, "{names:?} {use_domain}");
        }
    }
}
