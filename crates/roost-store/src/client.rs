//! One connection to a database of any kind: the few things that are asked of all of them in the same words.
//!
//! Statements are written with `?` for their parameters and `"name"` for their columns; each kind gets them in its own
//! spelling. What is said in a dialect stands in `sqlite/`, `mysql.rs` and `postgres.rs`.

use roost_core::Write;

use crate::columns::LocationColumns;
use crate::error::DbError;
use crate::mysql::MySql;
use crate::postgres::Postgres;
use crate::sqlite;
use crate::value::Value;

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
            Client::MySql(client) => client.each(sql, params, take),
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
            Client::MySql(client) => client.execute(sql, params),
            Client::Postgres(client) => client.execute(sql, params),
        }
    }

    /// A statement without parameters or rows.
    pub(crate) fn run(&mut self, sql: &str) -> Result<(), DbError> {
        match self {
            Client::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Client::MySql(client) => client.run(sql),
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
            Client::MySql(client) => client.write(columns, writes, has_begun),
            Client::Postgres(client) => client.write(columns, writes, has_begun),
        }
    }

    /// Whether the other side still answers.
    pub(crate) fn is_alive(&mut self) -> bool {
        match self {
            Client::Sqlite(_) => true,
            Client::MySql(client) => client.is_alive(),
            Client::Postgres(client) => client.run("").is_ok(),
        }
    }
}
