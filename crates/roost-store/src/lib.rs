//! The database of roost: OpenSIPS's tables, a group-commit writer, loading, credentials, subscribers.
//!
//! [`Store`] opens and checks a database and serves what needs no thread (loading at start, the subscriber commands).
//! [`Store::start`] makes the threads that serve a running registrar; they answer through one callback.
#![forbid(unsafe_code)]

mod error;
mod fold;
mod import;
mod journal;
mod mysql;
mod mysql_users;
mod mysql_writer;
mod reading;
mod sqlite;
mod subscriber;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use roost_core::{Outcome, Reading, Row, ShardId, Ticket, Write};

pub use error::StoreError;
pub use import::{Account, Accounts, Imported, OnExisting};
pub use subscriber::{Subscriber, check_account};

/// Where the subscribers' names and secrets stand, and how they are read (`[auth_db]`).
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
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if column.is_empty() || !column.bytes().all(is_name) {
                return Err(StoreError::ColumnName { column: column.clone(), key });
            }
            // OpenSIPS's subscriber table of version 8 has no ha1b: then nobody has one.
            if !has_column(column) && key != "password_column_2" {
                return Err(StoreError::MissingColumn { column: column.clone(), key });
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
pub enum Store {
    Sqlite(sqlite::Sqlite),
    MySql(mysql::MySql),
}

/// The tables that must be there, the versions of them that roost knows, and those in words.
pub(crate) const TABLES: [(&str, &[i64], &str); 2] =
    [("subscriber", &[7, 8], "7 and 8"), ("location", &[1013], "1013")];

/// What a start-up load did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Rows given to the caller.
    pub rows: u64,
    /// Rows that could not be read.
    pub unreadable: u64,
    /// Rows of expired bindings that were deleted.
    pub purged: u64,
}

/// Takes receipts, a batch at a time, on a thread of the store's.
pub type Receipts = Arc<dyn Fn(Vec<(ShardId, Ticket, Outcome)>) + Send + Sync>;

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
    /// Opens a database by its URL: `sqlite:PATH`, a relative path is relative to `folder`, or
    /// `mysql://USER:PASSWORD@HOST:PORT/NAME`. An empty database gets its tables; others are checked and left as they are.
    ///
    /// # Errors
    /// [`StoreError`] names the file or table and the remedy.
    pub fn open(url: &str, folder: &Path, columns: Columns) -> Result<Store, StoreError> {
        match mysql::is_ours(url) {
            true => mysql::MySql::open(url, columns).map(Store::MySql),
            false => sqlite::Sqlite::open(sqlite_file(url, folder)?, columns).map(Store::Sqlite),
        }
    }

    /// Whether there is such a database; opening it would otherwise make it.
    ///
    /// # Errors
    /// [`StoreError::Url`].
    pub fn exists(url: &str, folder: &Path) -> Result<bool, StoreError> {
        // A server's database is there, or opening it says why not.
        Ok(mysql::is_ours(url) || sqlite_file(url, folder)?.exists())
    }

    /// The database's file, or its URL without the password.
    pub fn name(&self) -> String {
        match self {
            Store::Sqlite(sqlite) => sqlite.path.display().to_string(),
            Store::MySql(mysql) => mysql.shown.clone(),
        }
    }

    /// Deletes the rows of expired bindings and gives all others to `take`.
    ///
    /// # Errors
    /// [`StoreError::Sql`] when the table cannot be read.
    pub fn load(&self, now_unix_s: u64, take: &mut dyn FnMut(Row)) -> Result<Loaded, StoreError> {
        match self {
            Store::Sqlite(sqlite) => sqlite.load(now_unix_s, take),
            Store::MySql(mysql) => mysql.load(now_unix_s, take),
        }
    }

    /// Makes the writes durable, all or none, without a writer: for start-up.
    ///
    /// # Errors
    /// [`StoreError::Sql`].
    pub fn write(&self, writes: &[Write]) -> Result<(), StoreError> {
        match self {
            Store::Sqlite(sqlite) => sqlite.write(writes),
            Store::MySql(mysql) => mysql.write(writes),
        }
    }

    /// Deletes all bindings of an AOR straight from the table, for when no server runs; how many there were.
    ///
    /// # Errors
    /// [`StoreError::Sql`].
    pub fn remove_bindings(&self, user: &str, domain: Option<&str>) -> Result<usize, StoreError> {
        match self {
            Store::Sqlite(sqlite) => sqlite.remove_bindings(user, domain),
            Store::MySql(mysql) => mysql.remove_bindings(user, domain),
        }
    }

    /// Starts the writer (with `write_through`; else nothing may be committed), and the thread that looks subscribers up.
    ///
    /// # Errors
    /// [`StoreError`] when a connection cannot be made.
    pub fn start(&self, write_through: bool, receipts: Receipts) -> Result<Running, StoreError> {
        let (jobs, job_queue) = std::sync::mpsc::channel();
        let (lookups, lookup_queue) = std::sync::mpsc::channel::<Lookup>();
        let told = Arc::clone(&receipts);
        let writer = match self {
            _ if !write_through => Vec::new(),
            Store::Sqlite(sqlite) => writer::start(sqlite, job_queue, told)?.into(),
            Store::MySql(mysql) => vec![mysql_writer::start(mysql, job_queue, told)?],
        };
        let thread = match self {
            Store::Sqlite(sqlite) => sqlite.start_lookups(lookup_queue, receipts)?,
            Store::MySql(mysql) => mysql.start_lookups(lookup_queue, receipts)?,
        };
        Ok(Running {
            handle: StoreHandle { writer: jobs, lookups },
            writer,
            lookups: Some(thread),
            readings: reading::Readings::default(),
        })
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

    /// A handle to ask for work.
    pub fn handle(&self) -> StoreHandle {
        self.handle.clone()
    }

    /// Ends the threads once everything queued is done. Handles must have been dropped, or nothing ends.
    pub fn stop(self) {
        let Running { handle, writer, lookups, readings } = self;
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

fn sqlite_file(url: &str, folder: &Path) -> Result<PathBuf, StoreError> {
    let path = url.strip_prefix("sqlite:").ok_or_else(|| StoreError::Url { url: shown(url) })?;
    let path = path.strip_prefix("//").unwrap_or(path);
    match path {
        "" => Err(StoreError::Url { url: shown(url) }),
        path => Ok(folder.join(path)),
    }
}

/// A URL for a message, without what may be a password.
fn shown(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}://…{}", &url[..scheme], &url[at..]),
        _ => url.to_string(),
    }
}
