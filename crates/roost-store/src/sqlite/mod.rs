//! SQLite: connecting, asking, OpenSIPS's schema. Writing is in `journal.rs` and `fold.rs`.

pub(crate) mod fold;
pub(crate) mod journal;
pub(crate) mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use roost_core::Write;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};

use crate::columns::LocationColumns;
use crate::error::StoreError;
use crate::sqlite::fold::Text;
use crate::value::Value;

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection whose commits are durable: WAL with an fsync for each. A new file holds passwords: only its owner may
/// read it.
pub(crate) fn connect(path: &PathBuf) -> Result<Connection, StoreError> {
    make_private_file(path)?;
    let open_error = |source| StoreError::Open { path: path.clone(), source };
    let connection = Connection::open(path).map_err(open_error)?;
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

fn make_private_file(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(StoreError::Make { path: path.into(), source: error })
        }
        _ => Ok(()),
    }
}

/// Folds what a killed server left in its journal, unless one is running.
pub(crate) fn recover(
    path: &Path,
    columns: &LocationColumns,
    connection: &Connection,
) -> Result<(), StoreError> {
    let recovered = journal::recover(path, &mut |writes| {
        fold::fold_all(connection, columns, writes)
            .map_err(StoreError::sql("folding the journal into location"))
    })?;
    if let journal::Recovered::Writes(writes) = recovered {
        tracing::info!(writes, "the journal of the process before was folded into location");
    }
    Ok(())
}

/// A copy as of one moment in a new file, for its owner alone; its size.
pub(crate) fn copy(connection: &Connection, file: &Path) -> Result<u64, StoreError> {
    let failed = |source: std::io::Error| StoreError::Copy { path: file.into(), source };
    if file.exists() {
        return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
    }
    make_private_file(file)?;
    let copied = connection.execute("VACUUM INTO ?", [file.to_string_lossy()]);
    let check = || -> rusqlite::Result<String> {
        Connection::open(file)?.query_row("PRAGMA integrity_check", [], |row| row.get(0))
    };
    let checked = copied.and_then(|_| check());
    match checked {
        Ok(said) if said == "ok" => {
            let copy = std::fs::File::open(file).map_err(failed)?;
            copy.sync_all().map_err(failed)?;
            Ok(copy.metadata().map_err(failed)?.len())
        }
        other => {
            // Half a copy would be taken for a whole one.
            let _ = std::fs::remove_file(file);
            match other {
                Ok(said) => Err(failed(std::io::Error::other(said))),
                Err(error) => Err(StoreError::sql("copying the database")(error)),
            }
        }
    }
}

pub(crate) fn each(
    connection: &Connection,
    sql: &str,
    params: &[Value],
    take: &mut dyn FnMut(Vec<Value>) -> bool,
) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query(params_from_iter(params))?;
    while let Some(row) = rows.next()? {
        let columns = (0..columns).map(|at| row.get_ref(at).map(Value::from));
        if !take(columns.collect::<rusqlite::Result<_>>()?) {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(crate) fn execute(connection: &Connection, sql: &str, params: &[Value]) -> rusqlite::Result<u64> {
    connection.prepare_cached(sql)?.execute(params_from_iter(params)).map(|rows| rows as u64)
}

/// One transaction.
pub(crate) fn write<'w>(
    connection: &mut Connection,
    columns: &LocationColumns,
    writes: impl Iterator<Item = &'w Write>,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    let mut statements = fold::Statements::new(&transaction, columns)?;
    for write in writes {
        statements.run(write)?;
    }
    drop(statements);
    transaction.commit()
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(number) => ValueRef::Integer(*number),
            Value::Real(number) => ValueRef::Real(*number),
            Value::Text(text) => Text(text).value(),
        }))
    }
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Value {
        match value {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Int(number),
            ValueRef::Real(number) => Value::Real(number),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Value::Text(bytes.into()),
        }
    }
}

/// The tables as OpenSIPS makes them, and the statements that make each: location version 1013, subscriber version 8 and
/// its older `ha1b`.
pub(crate) const SCHEMA: [(&str, &[&str]); 3] = [
    (
        "version",
        &["CREATE TABLE version (
                table_name CHAR(32) NOT NULL,
                table_version INTEGER DEFAULT 0 NOT NULL,
                CONSTRAINT version_t_name_idx UNIQUE (table_name)
            )"],
    ),
    (
        "subscriber",
        &[
            "CREATE TABLE subscriber (
                id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
                username CHAR(64) DEFAULT '' NOT NULL,
                domain CHAR(64) DEFAULT '' NOT NULL,
                password CHAR(25) DEFAULT '' NOT NULL,
                ha1 CHAR(64) DEFAULT '' NOT NULL,
                ha1_sha256 CHAR(64) DEFAULT '' NOT NULL,
                ha1_sha512t256 CHAR(64) DEFAULT '' NOT NULL,
                ha1b CHAR(64) DEFAULT '' NOT NULL,
                CONSTRAINT subscriber_account_idx UNIQUE (username, domain)
            )",
            "CREATE INDEX subscriber_username_idx ON subscriber (username)",
        ],
    ),
    (
        "location",
        &["CREATE TABLE location (
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
            )"],
    ),
];
