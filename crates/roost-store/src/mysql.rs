//! MySQL and MariaDB: connections, OpenSIPS's schema, loading and looking up. Writing is in `mysql_writer.rs`.
//!
//! Each thread has a connection of its own. One that fails is dropped and made anew when it is next needed: what the
//! server has closed because it was idle is noticed before a phone is.

use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder, Row as SqlRow, Value};
use roost_core::{Outcome, Row, Secrets, Write};

use crate::{Columns, Loaded, Lookup, Receipts, StoreError, TABLES};

/// How long connecting may take, and how long the server may take for one statement of ours.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long nobody tries again after a connection has failed: the first time, and at most.
const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// A connection that was silent for longer is tried before it is used.
const IDLE: Duration = Duration::from_secs(10);
/// Lookups that are answered in one batch.
const LOOKUP_BATCH: usize = 64;

/// A MySQL or MariaDB database that was opened and checked.
#[derive(Debug, Clone)]
pub struct MySql {
    opts: Opts,
    /// The URL without its password.
    pub(crate) shown: String,
    pub(crate) columns: Columns,
    /// The columns that `subscriber` really has.
    pub(crate) subscriber_columns: Vec<String>,
}

/// A connection that is made anew when it has failed.
#[derive(Debug)]
pub(crate) struct Link {
    opts: Opts,
    conn: Option<Conn>,
    used: Instant,
    /// When it may be tried again, and how long after the next failure.
    again: Instant,
    backoff: Duration,
}

impl MySql {
    /// Opens a database by its URL, `mysql://USER:PASSWORD@HOST:PORT/NAME`. An empty database gets its tables; others
    /// are checked and left as they are.
    pub(crate) fn open(url: &str, columns: Columns) -> Result<MySql, StoreError> {
        let shown = crate::shown(url);
        let opts = Opts::from_url(url).map_err(|_| StoreError::Url { url: shown.clone() })?;
        if opts.get_db_name().is_none_or(str::is_empty) {
            return Err(StoreError::Url { url: shown });
        }
        let opts = OptsBuilder::from_opts(opts)
            .tcp_connect_timeout(Some(CONNECT_TIMEOUT))
            .read_timeout(Some(STATEMENT_TIMEOUT))
            .write_timeout(Some(STATEMENT_TIMEOUT))
            // Nothing is cut silently, and names are quoted as everywhere.
            .init(vec!["SET sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES,ANSI_QUOTES')"])
            .into();
        let mut store = MySql { opts, shown, columns, subscriber_columns: Vec::new() };
        let mut conn = store.connect()?;
        store.prepare_schema(&mut conn)?;
        store.check_columns(&mut conn)?;
        Ok(store)
    }

    pub(crate) fn connect(&self) -> Result<Conn, StoreError> {
        let opened = Conn::new(self.opts.clone());
        opened.map_err(|source| StoreError::Connect { url: self.shown.clone(), source: source.into() })
    }

    pub(crate) fn link(&self) -> Link {
        let now = Instant::now();
        Link { opts: self.opts.clone(), conn: None, used: now, again: now, backoff: BACKOFF[0] }
    }

    fn prepare_schema(&self, conn: &mut Conn) -> Result<(), StoreError> {
        let reading = "reading the schema";
        let tables: Option<u64> = conn
            .query_first("SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE()")
            .map_err(sql(reading))?;
        if tables == Some(0) {
            for statement in SCHEMA {
                conn.query_drop(statement).map_err(sql("making the tables"))?;
            }
            return Ok(());
        }
        let path = || self.shown.clone().into();
        for (table, versions, known) in TABLES {
            let exists: Option<u64> = conn
                .exec_first(
                    "SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?",
                    (table,),
                )
                .map_err(sql(reading))?;
            if exists != Some(1) {
                return Err(StoreError::MissingTable { path: path(), table });
            }
            let version: Option<i64> = conn
                .exec_first("SELECT table_version FROM version WHERE table_name = ?", (table,))
                .unwrap_or(None);
            if let Some(found) = version.filter(|version| !versions.contains(version)) {
                return Err(StoreError::Version { path: path(), table, found, known });
            }
        }
        Ok(())
    }

    fn check_columns(&mut self, conn: &mut Conn) -> Result<(), StoreError> {
        self.subscriber_columns = conn
            .query(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() \
                 AND table_name = 'subscriber'",
            )
            .map_err(sql("reading the schema"))?;
        self.columns.check(|column| self.has_column(column))
    }

    pub(crate) fn has_column(&self, column: &str) -> bool {
        self.subscriber_columns.iter().any(|name| name.eq_ignore_ascii_case(column))
    }

    pub(crate) fn load(&self, now_unix_s: u64, take: &mut dyn FnMut(Row)) -> Result<Loaded, StoreError> {
        let mut conn = self.connect()?;
        conn.exec_drop("DELETE FROM location WHERE expires > 0 AND expires <= ?", (now_unix_s,))
            .map_err(sql("deleting expired rows"))?;
        let mut loaded = Loaded { purged: conn.affected_rows(), ..Loaded::default() };
        let rows = conn.query_iter(SELECT_ROWS).map_err(sql("reading location"))?;
        for row in rows {
            match read_row(row.map_err(sql("reading location"))?) {
                Some(row) => {
                    loaded.rows += 1;
                    take(row);
                }
                None => loaded.unreadable += 1,
            }
        }
        Ok(loaded)
    }

    pub(crate) fn write(&self, writes: &[Write]) -> Result<(), StoreError> {
        let mut conn = self.connect()?;
        crate::mysql_writer::write(&mut conn, writes.iter()).map_err(sql("writing location"))
    }

    pub(crate) fn remove_bindings(&self, user: &str, domain: Option<&str>) -> Result<usize, StoreError> {
        let mut conn = self.connect()?;
        let removed = match domain {
            Some(domain) => {
                conn.exec_drop("DELETE FROM location WHERE username = ? AND domain = ?", (user, domain))
            }
            None => conn.exec_drop("DELETE FROM location WHERE username = ?", (user,)),
        };
        removed.map_err(sql("deleting bindings"))?;
        Ok(conn.affected_rows() as usize)
    }

    /// A thread that answers questions about subscribers over a connection of its own.
    pub(crate) fn start_lookups(
        &self,
        queue: Receiver<Lookup>,
        receipts: Receipts,
    ) -> Result<JoinHandle<()>, StoreError> {
        let mut link = self.link();
        let [user, domain, password, second, sha256, sha512t256] =
            self.columns.lookup_columns(|column| self.has_column(column));
        let by_domain = if self.columns.use_domain { format!(" AND {domain} = ?") } else { String::new() };
        let sql = format!(
            "SELECT {password}, {second}, {sha256}, {sha512t256} FROM subscriber WHERE {user} = ?{by_domain} LIMIT 1"
        );
        let run = move || {
            while let Ok(first) = queue.recv() {
                let batch = std::iter::once(first).chain(queue.try_iter().take(LOOKUP_BATCH - 1));
                let mut answers = Vec::new();
                for lookup in batch {
                    let outcome = match link.run(|conn| look_up(conn, &sql, &lookup)) {
                        Ok(secrets) => Outcome::Credentials(secrets),
                        Err(error) => Outcome::Failed(error.to_string()),
                    };
                    answers.push((lookup.shard, lookup.ticket, outcome));
                }
                receipts(answers);
            }
        };
        std::thread::Builder::new().name("roost-lookup".into()).spawn(run).map_err(StoreError::Thread)
    }
}

impl Link {
    /// Uses the connection, a new one if need be. One on which a statement failed for want of the server is dropped.
    pub(crate) fn run<T>(
        &mut self,
        mut use_: impl FnMut(&mut Conn) -> mysql::Result<T>,
    ) -> Result<T, StoreError> {
        let now = Instant::now();
        if self.conn.as_mut().is_some_and(|conn| now > self.used + IDLE && conn.ping().is_err()) {
            self.conn = None;
        }
        let conn = match &mut self.conn {
            Some(conn) => conn,
            None if now < self.again => return Err(StoreError::Away),
            None => match Conn::new(self.opts.clone()) {
                Ok(conn) => {
                    self.backoff = BACKOFF[0];
                    self.conn.insert(conn)
                }
                Err(error) => {
                    tracing::warn!(%error, "the database cannot be reached");
                    self.again = Instant::now() + self.backoff;
                    self.backoff = (self.backoff * 2).min(BACKOFF[1]);
                    return Err(StoreError::Away);
                }
            },
        };
        let done = use_(conn);
        self.used = Instant::now();
        done.map_err(|error| {
            if is_lost(&error) {
                self.conn = None;
            }
            StoreError::Server { doing: "asking the database", source: error.into() }
        })
    }
}

/// Whether an error says that the connection is of no use any more; what was under way may have been done.
pub(crate) fn is_lost(error: &mysql::Error) -> bool {
    !matches!(error, mysql::Error::MySqlError(error) if !LOST.contains(&error.code))
}

/// Errors of a server that is ending, or has ended the connection.
const LOST: [u16; 4] = [1053, 1927, 3169, 4031];

pub(crate) fn sql(doing: &'static str) -> impl FnOnce(mysql::Error) -> StoreError {
    move |source| StoreError::Server { doing, source: source.into() }
}

fn look_up(conn: &mut Conn, sql: &str, lookup: &Lookup) -> mysql::Result<Option<Secrets>> {
    let mut params = vec![Value::Bytes(lookup.user.to_vec())];
    params.extend(lookup.domain.iter().map(|domain| Value::Bytes(domain.to_vec())));
    let row: Option<SqlRow> = conn.exec_first(sql, params)?;
    Ok(row.map(|row| {
        let mut columns = row.unwrap().into_iter().map(bytes);
        let mut next = || columns.next().unwrap_or_default();
        Secrets { password: next(), password_2: next(), sha256: next(), sha512t256: next() }
    }))
}

/// A column's bytes; NULL has none.
pub(crate) fn bytes(value: Value) -> Box<[u8]> {
    match value {
        Value::Bytes(bytes) => bytes.into(),
        Value::NULL => Box::default(),
        other => other.as_sql(true).trim_matches('\'').as_bytes().into(),
    }
}

fn read_row(row: SqlRow) -> Option<Row> {
    let mut columns = row.unwrap().into_iter();
    let mut next = || columns.next().unwrap_or(Value::NULL);
    let text = bytes;
    let optional = |value: Value| (value != Value::NULL).then(|| bytes(value));
    let number = |value: Value| -> Option<i64> {
        match value {
            Value::Int(number) => Some(number),
            Value::UInt(number) => Some(number as i64),
            Value::NULL => None,
            other => std::str::from_utf8(&bytes(other)).ok()?.trim().parse::<f64>().ok().map(|n| n as i64),
        }
    };
    let whole = |value: Value| -> Option<u64> {
        match value {
            Value::UInt(number) => Some(number),
            other => std::str::from_utf8(&bytes(other)).ok()?.parse().ok(),
        }
    };
    let real =
        |value: Value| std::str::from_utf8(&bytes(value)).ok().and_then(|text| text.parse::<f64>().ok());
    Some(Row {
        contact_id: whole(next())?,
        username: text(next()),
        domain: optional(next()),
        contact: text(next()),
        received: optional(next()),
        expires: number(next())?.max(0) as u64,
        q: real(next()).filter(|q| *q >= 0.0).map(|q| (q.min(1.0) * 1000.0).round() as u16),
        callid: text(next()),
        cseq: number(next())?.clamp(0, i64::from(u32::MAX)) as u32,
        last_modified: number(next()).unwrap_or(0).max(0) as u64,
        user_agent: text(next()),
        socket: optional(next()),
        methods: number(next()).map(|methods| methods as u32),
        sip_instance: optional(next()),
        cflags: text(next()),
        flags: number(next()).unwrap_or(0) as u32,
        path: optional(next()).filter(|path| !path.is_empty()),
    })
}

const SELECT_ROWS: &str = "SELECT contact_id, username, domain, contact, received, expires, q, callid, cseq, \
    UNIX_TIMESTAMP(last_modified), user_agent, socket, methods, sip_instance, cflags, flags, path FROM location";

/// The tables as OpenSIPS makes them: location version 1013, subscriber version 8 and its older `ha1b`.
const SCHEMA: [&str; 4] = [
    "CREATE TABLE version (
        table_name CHAR(32) NOT NULL,
        table_version INT UNSIGNED DEFAULT 0 NOT NULL,
        CONSTRAINT t_name_idx UNIQUE (table_name)
    ) ENGINE=InnoDB",
    "CREATE TABLE subscriber (
        id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL,
        username CHAR(64) DEFAULT '' NOT NULL,
        domain CHAR(64) DEFAULT '' NOT NULL,
        password CHAR(25) DEFAULT '' NOT NULL,
        ha1 CHAR(64) DEFAULT '' NOT NULL,
        ha1_sha256 CHAR(64) DEFAULT '' NOT NULL,
        ha1_sha512t256 CHAR(64) DEFAULT '' NOT NULL,
        ha1b CHAR(64) DEFAULT '' NOT NULL,
        CONSTRAINT account_idx UNIQUE (username, domain),
        INDEX username_idx (username)
    ) ENGINE=InnoDB",
    "CREATE TABLE location (
        contact_id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL,
        username CHAR(64) DEFAULT '' NOT NULL,
        domain CHAR(64) DEFAULT NULL,
        contact TEXT NOT NULL,
        received CHAR(255) DEFAULT NULL,
        path CHAR(255) DEFAULT NULL,
        expires INT UNSIGNED NOT NULL,
        q FLOAT(10,2) DEFAULT 1.0 NOT NULL,
        callid CHAR(255) DEFAULT 'Default-Call-ID' NOT NULL,
        cseq INT DEFAULT 13 NOT NULL,
        last_modified DATETIME DEFAULT '1900-01-01 00:00:01' NOT NULL,
        flags INT DEFAULT 0 NOT NULL,
        cflags CHAR(255) DEFAULT NULL,
        user_agent CHAR(255) DEFAULT '' NOT NULL,
        socket CHAR(64) DEFAULT NULL,
        methods INT DEFAULT NULL,
        sip_instance CHAR(255) DEFAULT NULL,
        kv_store TEXT(512) DEFAULT NULL,
        attr CHAR(255) DEFAULT NULL
    ) ENGINE=InnoDB",
    "INSERT INTO version (table_name, table_version) VALUES ('location', 1013), ('subscriber', 8)",
];

/// Whether a URL is one of these databases'.
pub(crate) fn is_ours(url: &str) -> bool {
    url.starts_with("mysql://")
}
