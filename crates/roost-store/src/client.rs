//! One connection to a database of any kind: the few things that are asked of all of them in the same words.
//!
//! Statements are written with `?` for their parameters and `"name"` for their columns; each kind gets them in its own
//! spelling. What is said in a dialect stands in `sqlite.rs`, `mysql.rs` and `postgres.rs`.

use std::time::{Duration, Instant};

use roost_core::Write;

use crate::database::Database;
use crate::location::LocationColumns;
use crate::mysql::MySql;
use crate::postgres::Postgres;
use crate::{StoreError, mysql, postgres, sqlite};

/// How long nobody tries again after a connection has failed: the first time, and at most.
const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// A connection that was silent for longer is tried before it is used.
const IDLE: Duration = Duration::from_secs(10);

/// A parameter, or a column of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Real(f64),
    Text(Box<[u8]>),
}

impl Value {
    /// A column's bytes; NULL has none.
    pub(crate) fn into_bytes(self) -> Box<[u8]> {
        match self {
            Value::Null => Box::default(),
            Value::Int(number) => number.to_string().into_bytes().into(),
            Value::Real(number) => number.to_string().into_bytes().into(),
            Value::Text(text) => text,
        }
    }

    /// A column's bytes, if it is not NULL.
    pub(crate) fn into_text(self) -> Option<Box<[u8]>> {
        Some(self).filter(|value| *value != Value::Null).map(Value::into_bytes)
    }

    pub(crate) fn real(&self) -> Option<f64> {
        match self {
            Value::Null => None,
            Value::Int(number) => Some(*number as f64),
            Value::Real(number) => Some(*number),
            Value::Text(text) => std::str::from_utf8(text).ok()?.trim().parse().ok(),
        }
    }

    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            Value::Text(text) if let Ok(number) = std::str::from_utf8(text).ok()?.parse() => Some(number),
            other => other.real().map(|number| number as i64),
        }
    }
}

impl From<&[u8]> for Value {
    fn from(text: &[u8]) -> Value {
        Value::Text(text.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        text.as_bytes().into()
    }
}

/// What a database said, or that it said nothing.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    MySql(#[from] ::mysql::Error),
    #[error("{}", postgres::told(.0))]
    Postgres(#[from] tokio_postgres::Error),
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl DbError {
    /// Whether the connection is of no use any more; what was under way may have been done.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            DbError::Sqlite(_) => false,
            DbError::MySql(error) => mysql::is_lost(error),
            DbError::Postgres(error) => postgres::is_lost(error),
            DbError::Timeout(_) => true,
        }
    }

    /// Whether the same may succeed at once: two transactions were in each other's way.
    pub(crate) fn is_conflict(&self) -> bool {
        match self {
            DbError::MySql(error) => mysql::is_conflict(error),
            DbError::Postgres(error) => postgres::is_conflict(error),
            _ => false,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Client {
    Sqlite(rusqlite::Connection),
    MySql(Box<MySql>),
    Postgres(Box<Postgres>),
}

impl Client {
    /// Gives the rows of a query to `take` until it wants no more; whether it had them all.
    pub(crate) fn each(
        &mut self,
        sql: &str,
        params: &[Value],
        take: &mut dyn FnMut(Vec<Value>) -> bool,
    ) -> Result<bool, DbError> {
        match self {
            Client::Sqlite(connection) => Ok(sqlite::each(connection, sql, params, take)?),
            Client::MySql(conn) => Ok(conn.each(sql, params, take)?),
            Client::Postgres(client) => client.each(sql, params, take),
        }
    }

    /// All rows of a query.
    pub(crate) fn all(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Vec<Value>>, DbError> {
        let mut rows = Vec::new();
        self.each(sql, params, &mut |row| {
            rows.push(row);
            true
        })?;
        Ok(rows)
    }

    /// The first column of the first row.
    pub(crate) fn one(&mut self, sql: &str, params: &[Value]) -> Result<Option<Value>, DbError> {
        Ok(self.all(sql, params)?.into_iter().next().and_then(|row| row.into_iter().next()))
    }

    /// Changes something; how many rows it found.
    pub(crate) fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, DbError> {
        match self {
            Client::Sqlite(connection) => Ok(sqlite::execute(connection, sql, params)?),
            Client::MySql(conn) => Ok(conn.execute(sql, params)?),
            Client::Postgres(client) => client.execute(sql, params),
        }
    }

    /// A statement without parameters or rows.
    pub(crate) fn run(&mut self, sql: &str) -> Result<(), DbError> {
        match self {
            Client::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Client::MySql(conn) => Ok(conn.run(sql)?),
            Client::Postgres(client) => client.run(sql),
        }
    }

    /// Begins a transaction that writes.
    pub(crate) fn begin(&mut self) -> Result<(), DbError> {
        self.run(if matches!(self, Client::Sqlite(_)) { "BEGIN IMMEDIATE" } else { "BEGIN" })
    }

    /// Does all writes, or none: in a transaction of its own, or in that which has begun on a server, and commits it.
    pub(crate) fn write<'w>(
        &mut self,
        columns: &LocationColumns,
        writes: impl Iterator<Item = &'w Write> + Clone,
        has_begun: bool,
    ) -> Result<(), DbError> {
        match self {
            Client::Sqlite(connection) => Ok(sqlite::write(connection, columns, writes)?),
            Client::MySql(conn) => Ok(conn.write(columns, writes, has_begun)?),
            Client::Postgres(client) => client.write(columns, writes, has_begun),
        }
    }

    /// Whether the other side still answers.
    fn is_alive(&mut self) -> bool {
        match self {
            Client::Sqlite(_) => true,
            Client::MySql(conn) => conn.is_alive(),
            Client::Postgres(client) => client.run("").is_ok(),
        }
    }
}

/// A connection that is made anew when it has failed.
#[derive(Debug)]
pub(crate) struct Link {
    database: Database,
    client: Option<Client>,
    used: Instant,
    /// When it may be tried again, and how long after the next failure.
    again: Instant,
    backoff: Duration,
}

impl Link {
    pub(crate) fn new(database: Database) -> Link {
        let now = Instant::now();
        Link { database, client: None, used: now, again: now, backoff: BACKOFF[0] }
    }

    /// Uses the connection, a new one if need be. One that is of no use any more is dropped.
    pub(crate) fn run<T>(
        &mut self,
        use_: impl FnOnce(&mut Client) -> Result<T, DbError>,
    ) -> Result<T, StoreError> {
        let now = Instant::now();
        if self.client.as_mut().is_some_and(|client| now > self.used + IDLE && !client.is_alive()) {
            self.client = None;
        }
        let client = match &mut self.client {
            Some(client) => client,
            None if now < self.again => return Err(StoreError::Away),
            None => match self.database.connect() {
                Ok(client) => {
                    self.backoff = BACKOFF[0];
                    self.client.insert(client)
                }
                Err(error) => {
                    tracing::warn!(%error, "the database cannot be reached");
                    self.again = Instant::now() + self.backoff;
                    self.backoff = (self.backoff * 2).min(BACKOFF[1]);
                    return Err(StoreError::Away);
                }
            },
        };
        let done = use_(client);
        self.used = Instant::now();
        done.map_err(|source| {
            if source.is_lost() {
                self.client = None;
            }
            StoreError::Sql { doing: "asking the database", source }
        })
    }
}
