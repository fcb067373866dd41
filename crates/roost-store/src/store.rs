//! A database that was opened and checked, and what needs no thread of its own: loading at start, tables, repairs.

use std::path::Path;

use roost_core::{Widths, Write};

use crate::access::Access;
use crate::client::Client;
use crate::columns::Columns;
use crate::database::{Database, Table};
use crate::error::StoreError;
use crate::link::Link;
use crate::location::{Page, page_sql, read_page};
use crate::sqlite;
use crate::value::Value;

/// A database that was opened and checked.
#[derive(Debug)]
pub struct Store {
    pub(crate) database: Database,
    pub(crate) columns: Columns,
    /// The columns that `subscriber` really has.
    pub(crate) subscriber_columns: Vec<String>,
    widths: Widths,
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
        let widths = columns.location.widths(&database.widths(client, "location")?);
        Ok(Store { database, columns, subscriber_columns, widths })
    }

    /// What the columns of `location` hold.
    pub fn widths(&self) -> Widths {
        self.widths
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

    /// The database whatever folder one is in: a file's whole path, or a server's URL without user and password.
    pub fn identity(&self) -> String {
        match &self.database {
            Database::Sqlite(path) => match path.canonicalize() {
                Ok(path) => path.display().to_string(),
                Err(_) => path.display().to_string(),
            },
            _ => self.name(),
        }
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
        let sql = page_sql(&self.database, &self.columns.location, PAGE);
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

    pub(crate) fn has_column(&self, column: &str) -> bool {
        self.subscriber_columns.iter().any(|name| name.eq_ignore_ascii_case(column))
    }

    pub(crate) fn lookup_columns(&self) -> [String; 6] {
        self.columns.lookup_columns(|column| self.has_column(column))
    }

    #[cfg(test)]
    pub(crate) fn sqlite(&self) -> rusqlite::Connection {
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
        let page = self.link.run(|client| read_page(client, &self.sql, from, now_unix_s, PAGE))?;
        self.from = page.up_to;
        Ok(Some(page))
    }
}
