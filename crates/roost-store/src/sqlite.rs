//! SQLite: connections, OpenSIPS's schema, loading and looking up.

use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::Duration;

use roost_core::{Outcome, Row, Secrets, Write};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{Columns, Loaded, Lookup, Receipts, StoreError, TABLES, fold, journal};

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Lookups that are answered in one batch.
const LOOKUP_BATCH: usize = 256;

/// An SQLite database that was opened and checked.
#[derive(Debug)]
pub struct Sqlite {
    pub(crate) path: PathBuf,
    pub(crate) columns: Columns,
    /// The columns that `subscriber` really has.
    pub(crate) subscriber_columns: Vec<String>,
}

impl Sqlite {
    pub(crate) fn open(path: PathBuf, columns: Columns) -> Result<Sqlite, StoreError> {
        let mut sqlite = Sqlite { path, columns, subscriber_columns: Vec::new() };
        sqlite.make_private_file()?;
        let connection = sqlite.connect()?;
        sqlite.prepare_schema(&connection)?;
        sqlite.check_columns(&connection)?;
        sqlite.recover(&connection)?;
        Ok(sqlite)
    }

    /// A new file holds passwords: only its owner may read it.
    fn make_private_file(&self) -> Result<(), StoreError> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path);
        match made {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(StoreError::Make { path: self.path.clone(), source: error })
            }
            _ => Ok(()),
        }
    }

    /// A connection whose commits are durable: WAL with an fsync for each.
    pub(crate) fn connect(&self) -> Result<Connection, StoreError> {
        let open_error = |source| StoreError::Open { path: self.path.clone(), source };
        let connection = Connection::open(&self.path).map_err(open_error)?;
        let prepare = |connection: &Connection| {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            // Checkpoints are the checkpoint thread's work.
            connection.pragma_update(None, "wal_autocheckpoint", 0)
        };
        prepare(&connection).map_err(open_error)?;
        Ok(connection)
    }

    fn prepare_schema(&self, connection: &Connection) -> Result<(), StoreError> {
        let sql = StoreError::sql;
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_master WHERE type = 'table'", [], |row| row.get(0))
            .map_err(sql("reading the schema"))?;
        if tables == 0 {
            return connection.execute_batch(SCHEMA).map_err(sql("making the tables"));
        }
        for (table, versions, known) in TABLES {
            let exists = connection.table_exists(None, table).map_err(sql("reading the schema"))?;
            if !exists {
                return Err(StoreError::MissingTable { path: self.path.clone(), table });
            }
            let version: Option<i64> = connection
                .query_row("SELECT table_version FROM version WHERE table_name = ?1", [table], |row| {
                    row.get(0)
                })
                .optional()
                .unwrap_or(None);
            if let Some(found) = version.filter(|version| !versions.contains(version)) {
                return Err(StoreError::Version { path: self.path.clone(), table, found, known });
            }
        }
        Ok(())
    }

    /// Folds what a killed server left in its journal, unless one is running.
    fn recover(&self, connection: &Connection) -> Result<(), StoreError> {
        let recovered = journal::recover(&self.path, &mut |writes| {
            fold::fold_all(connection, writes).map_err(StoreError::sql("folding the journal into location"))
        })?;
        if let journal::Recovered::Writes(writes) = recovered {
            tracing::info!(writes, "the journal of the process before was folded into location");
        }
        Ok(())
    }

    fn check_columns(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let sql = StoreError::sql;
        let mut statement = connection
            .prepare("SELECT name FROM pragma_table_info('subscriber')")
            .map_err(sql("reading the schema"))?;
        let names = statement.query_map([], |row| row.get(0)).map_err(sql("reading the schema"))?;
        self.subscriber_columns = names.collect::<Result<_, _>>().map_err(sql("reading the schema"))?;
        self.columns.check(|column| self.has_column(column))
    }

    pub(crate) fn has_column(&self, column: &str) -> bool {
        self.subscriber_columns.iter().any(|name| name.eq_ignore_ascii_case(column))
    }

    pub(crate) fn load(&self, now_unix_s: u64, take: &mut dyn FnMut(Row)) -> Result<Loaded, StoreError> {
        let sql = StoreError::sql;
        let connection = self.connect()?;
        let purged = connection
            .execute("DELETE FROM location WHERE expires > 0 AND expires <= ?1", [now_unix_s as i64])
            .map_err(sql("deleting expired rows"))?;
        let mut loaded = Loaded { purged: purged as u64, ..Loaded::default() };
        let mut statement = connection.prepare(SELECT_ROWS).map_err(sql("reading location"))?;
        let mut rows = statement.query([]).map_err(sql("reading location"))?;
        while let Some(row) = rows.next().map_err(sql("reading location"))? {
            match read_row(row) {
                Ok(row) => {
                    loaded.rows += 1;
                    take(row);
                }
                Err(error) => {
                    loaded.unreadable += 1;
                    tracing::debug!(%error, "a row of location cannot be read");
                }
            }
        }
        Ok(loaded)
    }

    pub(crate) fn write(&self, writes: &[Write]) -> Result<(), StoreError> {
        let mut connection = self.connect()?;
        let transaction = connection.transaction().map_err(StoreError::sql("beginning a transaction"))?;
        let mut statements = fold::Statements::new(&transaction).map_err(StoreError::sql("preparing"))?;
        for write in writes {
            statements.run(write).map_err(StoreError::sql("writing location"))?;
        }
        drop(statements);
        transaction.commit().map_err(StoreError::sql("committing"))
    }

    pub(crate) fn remove_bindings(&self, user: &str, domain: Option<&str>) -> Result<usize, StoreError> {
        let connection = self.connect()?;
        let removed = match domain {
            Some(domain) => connection.execute(
                "DELETE FROM location WHERE username = ?1 AND domain = ?2 COLLATE NOCASE",
                params![user, domain],
            ),
            None => connection.execute("DELETE FROM location WHERE username = ?1", params![user]),
        };
        removed.map_err(StoreError::sql("deleting bindings"))
    }

    /// A thread that answers questions about subscribers over a connection of its own.
    pub(crate) fn start_lookups(
        &self,
        queue: Receiver<Lookup>,
        receipts: Receipts,
    ) -> Result<JoinHandle<()>, StoreError> {
        let connection = self.connect()?;
        let [user, domain, password, second, sha256, sha512t256] =
            self.columns.lookup_columns(|column| self.has_column(column));
        let by_domain = if self.columns.use_domain {
            format!(" AND {domain} = ?2 COLLATE NOCASE")
        } else {
            String::new()
        };
        let sql = format!(
            "SELECT {password}, {second}, {sha256}, {sha512t256} FROM subscriber WHERE {user} = ?1{by_domain} LIMIT 1"
        );
        let run = move || {
            while let Ok(first) = queue.recv() {
                let batch = std::iter::once(first).chain(queue.try_iter().take(LOOKUP_BATCH - 1));
                let answer = |lookup: Lookup| {
                    let outcome = match look_up(&connection, &sql, &lookup) {
                        Ok(secrets) => Outcome::Credentials(secrets),
                        Err(error) => Outcome::Failed(error.to_string()),
                    };
                    (lookup.shard, lookup.ticket, outcome)
                };
                // One read transaction for all of them: locks are taken once.
                let is_begun = connection.execute_batch("BEGIN").is_ok();
                let answers = batch.map(answer).collect();
                if is_begun {
                    let _ = connection.execute_batch("COMMIT");
                }
                receipts(answers);
            }
        };
        std::thread::Builder::new().name("roost-lookup".into()).spawn(run).map_err(StoreError::Thread)
    }
}

fn look_up(connection: &Connection, sql: &str, lookup: &Lookup) -> rusqlite::Result<Option<Secrets>> {
    let mut statement = connection.prepare_cached(sql)?;
    let user = text(&lookup.user);
    let secrets = |row: &rusqlite::Row<'_>| {
        Ok(Secrets {
            password: bytes(row.get_ref(0)?),
            password_2: bytes(row.get_ref(1)?),
            sha256: bytes(row.get_ref(2)?),
            sha512t256: bytes(row.get_ref(3)?),
        })
    };
    match &lookup.domain {
        Some(domain) => statement.query_row(params![user, text(domain)], secrets),
        None => statement.query_row(params![user], secrets),
    }
    .optional()
}

/// Text as TEXT; what is not UTF-8 as a blob, so that no byte is lost.
pub(crate) fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::Text(text.to_string()),
        Err(_) => Value::Blob(bytes.to_vec()),
    }
}

pub(crate) fn bytes(value: ValueRef<'_>) -> Box<[u8]> {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.into(),
        ValueRef::Integer(number) => number.to_string().into_bytes().into(),
        ValueRef::Real(number) => number.to_string().into_bytes().into(),
        ValueRef::Null => Box::default(),
    }
}

fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let optional = |index: usize| -> rusqlite::Result<Option<Box<[u8]>>> {
        Ok(match row.get_ref(index)? {
            ValueRef::Null => None,
            value => Some(bytes(value)),
        })
    };
    let text = |index: usize| -> rusqlite::Result<Box<[u8]>> { Ok(optional(index)?.unwrap_or_default()) };
    let q: f64 = row.get(6)?;
    Ok(Row {
        contact_id: row.get::<_, i64>(0)? as u64,
        username: text(1)?,
        domain: optional(2)?,
        contact: text(3)?,
        received: optional(4)?,
        path: optional(16)?.filter(|path| !path.is_empty()),
        expires: row.get::<_, i64>(5)?.max(0) as u64,
        q: (q >= 0.0).then(|| (q.min(1.0) * 1000.0).round() as u16),
        callid: text(7)?,
        cseq: row.get::<_, i64>(8)?.clamp(0, i64::from(u32::MAX)) as u32,
        last_modified: row.get::<_, Option<i64>>(9)?.unwrap_or(0).max(0) as u64,
        user_agent: text(10)?,
        socket: optional(11)?,
        methods: row.get::<_, Option<i64>>(12)?.map(|methods| methods as u32),
        sip_instance: optional(13)?,
        cflags: text(14)?,
        flags: row.get::<_, i64>(15)? as u32,
    })
}

const SELECT_ROWS: &str = "SELECT contact_id, username, domain, contact, received, expires, q, callid, cseq, \
    CAST(strftime('%s', last_modified, 'utc') AS INTEGER), user_agent, socket, methods, sip_instance, cflags, flags, path \
    FROM location";

/// The tables as OpenSIPS makes them: location version 1013, subscriber version 8 and its older `ha1b`.
const SCHEMA: &str = "BEGIN;
CREATE TABLE version (
    table_name CHAR(32) NOT NULL,
    table_version INTEGER DEFAULT 0 NOT NULL,
    CONSTRAINT version_t_name_idx UNIQUE (table_name)
);
INSERT INTO version (table_name, table_version) VALUES ('location', 1013), ('subscriber', 8);
CREATE TABLE subscriber (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    username CHAR(64) DEFAULT '' NOT NULL,
    domain CHAR(64) DEFAULT '' NOT NULL,
    password CHAR(25) DEFAULT '' NOT NULL,
    ha1 CHAR(64) DEFAULT '' NOT NULL,
    ha1_sha256 CHAR(64) DEFAULT '' NOT NULL,
    ha1_sha512t256 CHAR(64) DEFAULT '' NOT NULL,
    ha1b CHAR(64) DEFAULT '' NOT NULL,
    CONSTRAINT subscriber_account_idx UNIQUE (username, domain)
);
CREATE INDEX subscriber_username_idx ON subscriber (username);
CREATE TABLE location (
    contact_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    username CHAR(64) DEFAULT '' NOT NULL,
    domain CHAR(64) DEFAULT NULL,
    contact TEXT NOT NULL,
    received CHAR(255) DEFAULT NULL,
    path CHAR(255) DEFAULT NULL,
    expires INTEGER NOT NULL,
    q FLOAT(10,2) DEFAULT 1.0 NOT NULL,
    callid CHAR(255) DEFAULT 'Default-Call-ID' NOT NULL,
    cseq INTEGER DEFAULT 13 NOT NULL,
    last_modified DATETIME DEFAULT '1900-01-01 00:00:01' NOT NULL,
    flags INTEGER DEFAULT 0 NOT NULL,
    cflags CHAR(255) DEFAULT NULL,
    user_agent CHAR(255) DEFAULT '' NOT NULL,
    socket CHAR(64) DEFAULT NULL,
    methods INTEGER DEFAULT NULL,
    sip_instance CHAR(255) DEFAULT NULL,
    kv_store TEXT(512) DEFAULT NULL,
    attr CHAR(255) DEFAULT NULL
);
COMMIT;";
