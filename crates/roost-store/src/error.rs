//! What can go wrong with a database, with its remedy.

use std::error::Error as _;
use std::path::PathBuf;
use std::time::Duration;

/// Errors of a store. Each names what it is about; none holds a password.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A URL that names no database roost can use.
    #[error(
        "database = \"{url}\" is not a database that this roost can use{why}: write \"sqlite:FILE\", \"mysql://USER:PASSWORD@HOST/NAME\" or \"postgres://USER:PASSWORD@HOST/NAME\""
    )]
    Url { url: String, why: String },
    /// The file cannot be opened or made.
    #[error(
        "cannot open the database {}: {source}; check that it and its folder may be written, or set `database` to another file",
        path.display()
    )]
    Open { path: PathBuf, source: rusqlite::Error },
    /// The file cannot be made.
    #[error(
        "cannot make the database {}: {source}; check that its folder exists and may be written, or set `database` to another file",
        path.display()
    )]
    Make { path: PathBuf, source: std::io::Error },
    /// A copy of a file is wanted of a server.
    #[error(
        "{database} is no SQLite file: its server has its own tools (mysqldump, pg_dump); `roost db copy` copies its rows"
    )]
    NotSqlite { database: String },
    /// A copy cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Copy { path: PathBuf, source: std::io::Error },
    /// The journal beside the database cannot be used.
    #[error(
        "cannot use the journal {}: {source}; it must stand beside the database and be readable and writable",
        path.display()
    )]
    Journal { path: PathBuf, source: std::io::Error },
    /// Another process has the journal open.
    #[error("the journal {} is in use: does another roost serve this database? Stop it, or set `database` to another file", path.display())]
    InUse { path: PathBuf },
    /// The journal of calls cannot be used.
    #[error(
        "cannot use the journal of calls {}: {source}; set `journal` in [dialog] to a file that may be written, or to \"off\"",
        path.display()
    )]
    CallJournal { path: PathBuf, source: std::io::Error },
    /// Another process has the journal of calls open.
    #[error("the journal of calls {} is in use: does another roost use it? Stop it, or set `journal` in [dialog] to another file", path.display())]
    CallJournalInUse { path: PathBuf },
    /// A table of call records without a column that belongs to it.
    #[error(
        "table `{table}` has no column `{column}`: it is not OpenSIPS's table of that name; rename it, or set `db` in [acc] to false"
    )]
    AccColumn { table: &'static str, column: &'static str },
    /// The file of call records cannot be written.
    #[error("cannot write call records to {}: {source} (`file` in [acc])", path.display())]
    AccFile { path: PathBuf, source: std::io::Error },
    /// A table is missing in a database that holds others.
    #[error(
        "the database {path} holds tables, but no `{table}`: is it another program's? Use an empty database or an OpenSIPS database; `roost db migrate` adds what is missing"
    )]
    MissingTable { path: String, table: &'static str },
    /// A table of a version that roost does not know.
    #[error("table `{table}` of {path} has version {found}, roost knows {known}: see the `version` table")]
    Version { path: String, table: &'static str, found: i64, known: &'static str },
    /// A configured column does not exist.
    #[error("table `{table}` has no column `{column}` ([{section}] {key})")]
    MissingColumn { column: String, table: &'static str, section: &'static str, key: &'static str },
    /// A configured column's name that no column could have.
    #[error("`{column}` is not a column name ([{section}] {key})")]
    ColumnName { column: String, section: &'static str, key: &'static str },
    /// A table that is kept in memory and cannot be read.
    #[error(
        "the table {table} ([{section}] {key}) cannot be read: {source}; make it as OpenSIPS's own script does, or leave `{key}` empty"
    )]
    List { table: Box<str>, section: &'static str, key: &'static str, source: DbError },
    /// `user add` of a name that is there.
    #[error("user '{user}' already exists")]
    UserExists { user: String },
    /// `user rm` or `passwd` of a name that is not there.
    #[error("user '{user}' does not exist")]
    NoSuchUser { user: String },
    /// A name or password that does not fit its column.
    #[error("{what} is longer than {most} bytes")]
    TooLong { what: &'static str, most: usize },
    /// A statement failed.
    #[error("database: {doing}: {source}")]
    Sql { doing: &'static str, source: DbError },
    /// A database server cannot be reached, or refuses us.
    #[error(
        "cannot open the database {url}: {source}; check that the server runs and that user, password and name are right"
    )]
    Connect { url: String, source: DbError },
    /// The file of certificate authorities cannot be used.
    #[error("cannot use {} (`database_tls_ca`): {source}; it must hold certificates in PEM", path.display())]
    CaFile { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    /// TLS cannot be used at all.
    #[error("TLS to the database: {source}")]
    Tls { source: Box<dyn std::error::Error + Send + Sync> },
    /// Nodes cannot share it, or another node has this one's name.
    #[error("{0}")]
    Lease(String),
    /// The server could not be reached a moment ago, and is not tried again yet.
    #[error("the database is away")]
    Away,
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

impl StoreError {
    pub(crate) fn sql<E: Into<DbError>>(doing: &'static str) -> impl FnOnce(E) -> StoreError {
        move |source| StoreError::Sql { doing, source: source.into() }
    }
}

/// What a database said, or that it said nothing.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("{}", mysql_told(.0))]
    MySql(#[from] mysql_async::Error),
    #[error("{}", postgres_told(.0))]
    Postgres(#[from] tokio_postgres::Error),
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl DbError {
    /// Whether the connection is of no use any more; what was under way may have been done.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            DbError::Sqlite(_) => false,
            DbError::MySql(error) => is_mysql_lost(error),
            DbError::Postgres(error) => is_postgres_lost(error),
            DbError::Timeout(_) => true,
        }
    }

    /// Whether it is about what was to be written: the same will never be taken.
    pub(crate) fn is_refused_row(&self) -> bool {
        match self {
            DbError::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(
                    rusqlite::ErrorCode::ConstraintViolation
                        | rusqlite::ErrorCode::TypeMismatch
                        | rusqlite::ErrorCode::TooBig
                )
            ),
            // Data (22) and constraints (23) by their SQLSTATE.
            DbError::MySql(mysql_async::Error::Server(error)) => {
                error.state.starts_with("22") || error.state.starts_with("23")
            }
            DbError::Postgres(error) => match error.code() {
                Some(code) => code.code().starts_with("22") || code.code().starts_with("23"),
                None => !is_postgres_lost(error),
            },
            DbError::MySql(_) | DbError::Timeout(_) => false,
        }
    }

    /// Whether the same may succeed at once: two transactions were in each other's way.
    pub(crate) fn is_conflict(&self) -> bool {
        match self {
            DbError::MySql(error) => is_mysql_conflict(error),
            DbError::Postgres(error) => is_postgres_conflict(error),
            _ => false,
        }
    }
}

/// What the server said, or what became of the connection.
fn mysql_told(error: &mysql_async::Error) -> String {
    match error {
        mysql_async::Error::Server(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Whether an error says that the connection is of no use any more; what was under way may have been done.
fn is_mysql_lost(error: &mysql_async::Error) -> bool {
    !matches!(error, mysql_async::Error::Server(error) if !MYSQL_LOST.contains(&error.code))
}

/// Errors of a server that is ending, or has ended the connection.
const MYSQL_LOST: [u16; 4] = [1053, 1927, 3169, 4031];

/// Whether two transactions were in each other's way: a deadlock, or a wait for a lock that was too long.
fn is_mysql_conflict(error: &mysql_async::Error) -> bool {
    matches!(error, mysql_async::Error::Server(error) if [1205, 1213, 3058].contains(&error.code))
}

/// What the server said; the crate's own words for it are "db error".
fn postgres_told(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(error), _) => error.message().to_string(),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// Whether an error says that the connection is of no use any more; what was under way may have been done.
fn is_postgres_lost(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        // Operator's intervention: the server is ending. What it says of a row leaves the connection as it is.
        Some(code) => code.code().starts_with("57") || code.code().starts_with("08"),
        // A parameter that no column can take is refused here.
        None => error
            .source()
            .is_none_or(|source| !source.is::<tokio_postgres::types::WrongType>() && !source.is::<Misfit>()),
    }
}

/// Whether two transactions were in each other's way.
fn is_postgres_conflict(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code().starts_with("40"))
}

/// A number that its column cannot hold.
#[derive(Debug, thiserror::Error)]
#[error("{0} does not fit its column")]
pub(crate) struct Misfit(pub(crate) i64);
