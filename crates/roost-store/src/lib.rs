//! The database of roost: OpenSIPS's tables, a group-commit writer, loading, credentials, subscribers.
//!
//! [`Store`] opens and checks a database and serves what needs no thread (loading at start, the subscriber commands).
//! [`Store::start`] makes the threads that serve a running registrar; they answer through one callback.
#![forbid(unsafe_code)]

mod client;
mod database;
mod error;
mod fold;
mod import;
mod journal;
mod location;
mod lookups;
mod mysql;
mod postgres;
mod reading;
mod server_writer;
mod sqlite;
mod subscriber;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use roost_core::{Exclusive, Reading, Receipt, Row, ShardId, Ticket, Write};

use client::{Client, Link, Value};
use database::Database;

pub use database::Table;
pub use error::{DbError, StoreError};
pub use import::{Account, Accounts, Imported, OnExisting};
pub use location::{LOCATION_COLUMNS, LocationColumns};
pub use subscriber::{Subscriber, check_account};

/// How to get into a database server, beside what its URL says.
#[derive(Clone, Default)]
pub struct Access {
    /// In place of the URL's.
    pub password: Option<String>,
    /// TLS only, with a certificate that is right for the server's name.
    pub tls: bool,
    /// Certificate authorities in PEM, in place of those that everybody knows.
    pub ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("tls", &self.tls)
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}

/// Where the subscribers' names and secrets stand, and how they are read (`[auth_db]`); where the bindings stand
/// (`[usrloc]`).
#[derive(Debug, Clone)]
pub struct Columns {
    pub user: String,
    pub domain: String,
    pub password: String,
    pub password_2: String,
    /// The password column holds plaintext.
    pub calculate_ha1: bool,
    /// A subscriber is found by user and domain.
    pub use_domain: bool,
    pub location: LocationColumns,
}

impl Default for Columns {
    fn default() -> Self {
        Columns {
            user: "username".into(),
            domain: "domain".into(),
            password: "password".into(),
            password_2: "ha1b".into(),
            calculate_ha1: true,
            use_domain: false,
            location: LocationColumns::default(),
        }
    }
}

/// Starts a thread.
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, StoreError> {
    std::thread::Builder::new().name(name.into()).spawn(run).map_err(StoreError::Thread)
}

/// Whether a column may be called so.
fn is_name(column: &str) -> bool {
    !column.is_empty() && column.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl Columns {
    /// Whether the table has what is to be read, under names that columns may have.
    pub(crate) fn check(&self, has_column: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        let mut asked = vec![
            (&self.user, "user_column"),
            (&self.domain, "domain_column"),
            (&self.password, "password_column"),
        ];
        if !self.calculate_ha1 {
            asked.push((&self.password_2, "password_column_2"));
        }
        for (column, key) in asked {
            if !is_name(column) {
                return Err(StoreError::ColumnName { column: column.clone(), section: "auth_db", key });
            }
            // OpenSIPS's subscriber table of version 8 has no ha1b: then nobody has one.
            if !has_column(column) && key != "password_column_2" {
                let (table, section) = ("subscriber", "auth_db");
                return Err(StoreError::MissingColumn { column: column.clone(), table, section, key });
            }
        }
        Ok(())
    }

    /// User, domain and the four secrets as SQL names columns; `''` for a column that is not there.
    pub(crate) fn lookup_columns(&self, has_column: impl Fn(&str) -> bool) -> [String; 6] {
        let Columns { user, domain, password, password_2, calculate_ha1, .. } = self;
        let quoted = |name: &str| format!("\"{name}\"");
        // Who has the plaintext needs no hash, and should not keep one for each user.
        let hash = |name: &str| match !calculate_ha1 && has_column(name) {
            true => quoted(name),
            false => "''".to_string(),
        };
        let (second, sha256, sha512t256) = (hash(password_2), hash("ha1_sha256"), hash("ha1_sha512t256"));
        [quoted(user), quoted(domain), quoted(password), second, sha256, sha512t256]
    }
}

/// A database that was opened and checked.
#[derive(Debug)]
pub struct Store {
    database: Database,
    columns: Columns,
    /// The columns that `subscriber` really has.
    subscriber_columns: Vec<String>,
}

/// A part of `location`, in the order of `contact_id`.
#[derive(Debug, Default)]
pub struct Page {
    pub rows: Vec<Row>,
    /// Rows that could not be read.
    pub unreadable: u64,
    /// All rows with smaller ids have been given; `None`: all rows have.
    pub up_to: Option<u64>,
}

/// Reads `location` page by page, over a connection of its own.
#[derive(Debug)]
pub struct Loader {
    link: Link,
    sql: String,
    /// Where the next page begins; `None` behind the last.
    from: Option<u64>,
}

/// Rows of one page.
const PAGE: usize = 10_000;

/// Takes receipts, a batch at a time, on a thread of the store's.
pub type Receipts = Arc<dyn Fn(Vec<(ShardId, Receipt)>) + Send + Sync>;

/// How the subscriber table is kept in memory.
pub struct Preload {
    /// A table with more rows is not read; 0 never reads.
    pub limit: usize,
    /// How often it is read again.
    pub every: std::time::Duration,
    /// Takes what was read, on a thread of the store's.
    pub tell: Box<dyn FnMut(ReadTold) + Send>,
}

impl std::fmt::Debug for Preload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Preload")
            .field("limit", &self.limit)
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

/// What a whole reading of the subscriber table tells.
#[derive(Debug)]
pub enum ReadTold {
    /// It begins.
    Begin,
    Part(Reading),
}

/// The threads of a running store; dropping it ends them once all queued work is done.
#[derive(Debug)]
pub struct Running {
    handle: StoreHandle,
    /// The threads that write, in the order in which they end.
    writer: Vec<std::thread::JoinHandle<()>>,
    lookups: Option<std::thread::JoinHandle<()>>,
    readings: reading::Readings,
    batches: writer::Batches,
}

/// Asks a running store for work. Clones are cheap; one for each shard.
#[derive(Debug, Clone)]
pub struct StoreHandle {
    writer: std::sync::mpsc::Sender<writer::Job>,
    lookups: std::sync::mpsc::Sender<Lookup>,
}

/// Writes that become durable together.
#[derive(Debug)]
pub struct Commit {
    /// Who hears of it.
    pub shard: ShardId,
    pub ticket: Ticket,
    pub writes: Vec<Write>,
    /// The Occupied rule, where the database decides it: then the writes happen or [`roost_core::CommitOutcome::Occupied`] is told.
    pub exclusive: Option<Box<Exclusive>>,
}

/// One question about a subscriber.
#[derive(Debug)]
struct Lookup {
    shard: ShardId,
    ticket: Ticket,
    user: Box<[u8]>,
    domain: Option<Box<[u8]>>,
}

impl Store {
    /// Opens a database by its URL: `sqlite:PATH`, a relative path is relative to `folder`,
    /// `mysql://USER:PASSWORD@HOST:PORT/NAME` or `postgres://USER:PASSWORD@HOST:PORT/NAME`. An empty database gets its
    /// tables; others are checked and left as they are.
    ///
    /// # Errors
    /// [`StoreError`] names the file or table and the remedy.
    pub fn open(url: &str, folder: &Path, access: &Access, columns: Columns) -> Result<Store, StoreError> {
        let database = Database::parse(url, folder, access)?;
        let mut client = database.connect()?;
        database.prepare(&mut client)?;
        let store = Store::of(database, &mut client, columns)?;
        if let (Database::Sqlite(path), Client::Sqlite(connection)) = (&store.database, &client) {
            sqlite::recover(path, &store.columns.location, connection)?;
        }
        Ok(store)
    }

    fn of(database: Database, client: &mut Client, columns: Columns) -> Result<Store, StoreError> {
        let subscriber_columns = database.columns(client, "subscriber")?;
        let location_columns = database.columns(client, "location")?;
        let has = |names: &[String], column: &str| names.iter().any(|name| name.eq_ignore_ascii_case(column));
        columns.check(|column| has(&subscriber_columns, column))?;
        columns.location.check(|column| has(&location_columns, column))?;
        Ok(Store { database, columns, subscriber_columns })
    }

    /// Whether there is such a database; opening it would otherwise make it.
    ///
    /// # Errors
    /// [`StoreError::Url`].
    pub fn exists(url: &str, folder: &Path) -> Result<bool, StoreError> {
        match Database::parse(url, folder, &Access::default())? {
            Database::Sqlite(path) => Ok(path.exists()),
            // A server's database is there, or opening it says why not.
            Database::MySql(_) | Database::Postgres(_) => Ok(true),
        }
    }

    /// Makes those of the tables that are not there, in whatever database; which they are.
    ///
    /// # Errors
    /// [`StoreError`] when a table cannot be made.
    pub fn migrate(url: &str, folder: &Path, access: &Access) -> Result<Vec<&'static str>, StoreError> {
        let database = Database::parse(url, folder, access)?;
        database.make_missing(&mut database.connect()?)
    }

    /// Whether a database holds any tables. One that is not there is not made.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be asked.
    pub fn has_tables(url: &str, folder: &Path, access: &Access) -> Result<bool, StoreError> {
        if !Store::exists(url, folder)? {
            return Ok(false);
        }
        let database = Database::parse(url, folder, access)?;
        Ok(!database.tables(&mut database.connect()?)?.is_empty())
    }

    /// The database's file, or its URL without the password.
    pub fn name(&self) -> String {
        self.database.name()
    }

    /// Whether other processes may write the tables, too: a server's, not a file's.
    pub fn is_shared(&self) -> bool {
        !matches!(self.database, Database::Sqlite(_))
    }

    /// What the tables look like.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub fn tables(&self) -> Result<Vec<Table>, StoreError> {
        self.database.look(&mut self.database.connect()?)
    }

    /// The statement that makes the index by which an AOR's rows are found, where there is none.
    ///
    /// # Errors
    /// [`StoreError`] when the schema cannot be read.
    pub fn missing_index(&self) -> Result<Option<String>, StoreError> {
        let [_, user, ..] = &self.columns.location.0;
        let has_index = self.database.has_index(&mut self.database.connect()?, "location", user)?;
        Ok((!has_index).then(|| self.database.user_index(&self.columns)))
    }

    /// Makes that index, where there is none; the statement.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be made.
    pub fn make_index(&self) -> Result<Option<String>, StoreError> {
        let missing = self.missing_index()?;
        if let Some(sql) = &missing {
            self.database.connect()?.run(sql).map_err(StoreError::sql("making an index"))?;
        }
        Ok(missing)
    }

    /// Reads the bindings that live at this time, in parts.
    pub fn loader(&self) -> Loader {
        let sql = location::page_sql(&self.database, &self.columns.location, PAGE);
        Loader { link: Link::new(self.database.clone()), sql, from: Some(0) }
    }

    /// Makes the writes durable, all or none, without a writer.
    ///
    /// # Errors
    /// [`StoreError::Sql`].
    pub fn write(&self, writes: &[Write]) -> Result<(), StoreError> {
        let written = self.database.connect()?.write(&self.columns.location, writes.iter(), false);
        written.map_err(StoreError::sql("writing location"))
    }

    /// Deletes all bindings of an AOR straight from the table, for when no server runs; how many there were.
    ///
    /// # Errors
    /// [`StoreError::Sql`].
    pub fn remove_bindings(&self, user: &str, domain: Option<&str>) -> Result<usize, StoreError> {
        let mut names = vec![Value::from(user)];
        names.extend(domain.map(|domain| Value::from(domain.to_ascii_lowercase().as_str())));
        let by_domain = if domain.is_some() { " AND LOWER({domain}) = ?" } else { "" };
        let sql =
            self.columns.location.sql(&format!("DELETE FROM location WHERE {{username}} = ?{by_domain}"));
        let removed = self.database.connect()?.execute(&sql, &names);
        Ok(removed.map_err(StoreError::sql("deleting bindings"))? as usize)
    }

    /// Starts the writer (with `write_through`; else nothing may be committed), and the thread that looks subscribers up.
    ///
    /// # Errors
    /// [`StoreError`] when a connection cannot be made.
    pub fn start(&self, write_through: bool, receipts: Receipts) -> Result<Running, StoreError> {
        let (jobs, job_queue) = std::sync::mpsc::channel();
        let (lookups, lookup_queue) = std::sync::mpsc::channel::<Lookup>();
        let told = Arc::clone(&receipts);
        let batches = writer::Batches::default();
        let writer = match &self.database {
            _ if !write_through => Vec::new(),
            Database::Sqlite(path) => writer::start(self, path, job_queue, told, batches.clone())?.into(),
            Database::MySql(_) | Database::Postgres(_) => {
                server_writer::start(self, job_queue, told, batches.clone())?.into()
            }
        };
        Ok(Running {
            handle: StoreHandle { writer: jobs, lookups },
            writer,
            lookups: Some(lookups::start(self, lookup_queue, receipts)?),
            readings: reading::Readings::default(),
            batches,
        })
    }

    fn has_column(&self, column: &str) -> bool {
        self.subscriber_columns.iter().any(|name| name.eq_ignore_ascii_case(column))
    }

    fn lookup_columns(&self) -> [String; 6] {
        self.columns.lookup_columns(|column| self.has_column(column))
    }

    #[cfg(test)]
    fn sqlite(&self) -> rusqlite::Connection {
        match self.database.connect().unwrap() {
            Client::Sqlite(connection) => connection,
            _ => panic!("SQLite"),
        }
    }
}

impl Loader {
    /// The next part; `None` behind the last. After an error the same part may be asked for again.
    ///
    /// # Errors
    /// [`StoreError`] when the table cannot be read.
    pub fn next_page(&mut self, now_unix_s: u64) -> Result<Option<Page>, StoreError> {
        let Some(from) = self.from else { return Ok(None) };
        let page = self.link.run(|client| location::read_page(client, &self.sql, from, now_unix_s, PAGE))?;
        self.from = page.up_to;
        Ok(Some(page))
    }
}

impl Running {
    /// Reads all subscribers, before it returns, and goes on reading what is new or changed.
    ///
    /// # Errors
    /// [`StoreError`] when the table cannot be read.
    pub fn keep_subscribers(&mut self, store: &Store, preload: Preload) -> Result<(), StoreError> {
        self.readings = reading::Readings::start(store, preload)?;
        Ok(())
    }

    /// Whether one of the threads has ended: nothing would be written or looked up any more.
    pub fn has_ended(&self) -> bool {
        let lookups = self.lookups.as_ref().is_some_and(std::thread::JoinHandle::is_finished);
        lookups || self.readings.has_ended() || self.writer.iter().any(std::thread::JoinHandle::is_finished)
    }

    /// What the writer has done, by name: transactions, the commits in them, those of the largest one.
    pub fn statistics(&self) -> impl Fn() -> [(&'static str, u64); 3] + Send + Sync + 'static {
        let batches = self.batches.clone();
        move || batches.statistics()
    }

    /// A handle to ask for work.
    pub fn handle(&self) -> StoreHandle {
        self.handle.clone()
    }

    /// Ends the threads once everything queued is done. Handles must have been dropped, or nothing ends.
    pub fn stop(self) {
        let Running { handle, writer, lookups, readings, .. } = self;
        drop((handle, readings));
        for thread in writer.into_iter().chain(lookups) {
            let _ = thread.join();
        }
    }
}

impl StoreHandle {
    /// Makes the writes of each commit durable, all or none; the receipts are `Committed` or `Failed`. A commit
    /// without writes is answered once everything before it is in the table.
    pub fn commit(&self, commits: Vec<Commit>) {
        let _ = self.writer.send(writer::Job::Commits(commits));
    }

    /// Makes the writes some time; nobody hears of it.
    pub fn purge(&self, writes: Vec<Write>) {
        let _ = self.writer.send(writer::Job::Purge(writes));
    }

    /// Looks a subscriber up; the receipt is `Credentials` or `Failed`.
    pub fn load_credentials(
        &self,
        shard: ShardId,
        ticket: Ticket,
        user: Box<[u8]>,
        domain: Option<Box<[u8]>>,
    ) {
        let _ = self.lookups.send(Lookup { shard, ticket, user, domain });
    }
}
