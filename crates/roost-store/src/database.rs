//! Which database it is: its URL, how it is connected to, and the tables that it must have.

use std::path::{Path, PathBuf};

use crate::access::{Access, shown};
use crate::client::Client;
use crate::columns::Columns;
use crate::error::{DbError, StoreError};
use crate::value::Value;
use crate::{mysql, postgres, sqlite};

/// The tables that must be there, the versions of them that roost knows (it makes the last), and those in words.
const TABLES: [(&str, &[i64], &str); 2] = [("subscriber", &[7, 8], "7 and 8"), ("location", &[1013], "1013")];
/// What making them says when it fails.
const MAKING: &str = "making the tables";

/// Where a database is, and how to get in.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    Sqlite(PathBuf),
    MySql(mysql::Server),
    Postgres(Box<postgres::Server>),
}

/// What the tables of a database look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: &'static str,
    /// What the `version` table says of it.
    pub version: Option<i64>,
    /// Its rows.
    pub rows: u64,
}

impl Database {
    /// Takes `sqlite:PATH` (a relative path is relative to `folder`), `mysql://…` or `postgres://…`.
    pub(crate) fn parse(url: &str, folder: &Path, access: &Access) -> Result<Database, StoreError> {
        match url.split_once(':') {
            Some(("sqlite", path)) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                let path = Some(path).filter(|path| !path.is_empty());
                let path = path.ok_or_else(|| StoreError::Url { url: shown(url), why: String::new() })?;
                Ok(Database::Sqlite(folder.join(path)))
            }
            Some(("mysql" | "mariadb", _)) => mysql::Server::parse(url, access).map(Database::MySql),
            Some(("postgres" | "postgresql", _)) => {
                postgres::Server::parse(url, access).map(Box::new).map(Database::Postgres)
            }
            _ => Err(StoreError::Url { url: shown(url), why: String::new() }),
        }
    }

    /// The database's file, or its URL without the password.
    pub(crate) fn name(&self) -> String {
        match self {
            Database::Sqlite(path) => path.display().to_string(),
            Database::MySql(server) => server.shown.clone(),
            Database::Postgres(server) => server.shown.clone(),
        }
    }

    pub(crate) fn connect(&self) -> Result<Client, StoreError> {
        match self {
            Database::Sqlite(path) => sqlite::connect(path).map(Client::Sqlite),
            Database::MySql(server) => Ok(Client::MySql(Box::new(server.connect()?))),
            Database::Postgres(server) => Ok(Client::Postgres(Box::new(server.connect()?))),
        }
    }

    /// Makes the tables where there is none, and checks those that are there.
    pub(crate) fn prepare(&self, client: &mut Client) -> Result<(), StoreError> {
        match self.tables(client)?.is_empty() {
            true => self.make_missing(client).map(drop),
            false => self.check(client),
        }
    }

    /// Makes those of the tables that are not there; which they are. In MySQL each statement stands for itself.
    pub(crate) fn make_missing(&self, client: &mut Client) -> Result<Vec<&'static str>, StoreError> {
        client.begin().map_err(StoreError::sql(MAKING))?;
        let there = self.tables(client)?;
        let mut made = Vec::new();
        for (table, statements) in
            self.schema().iter().filter(|(table, _)| !there.iter().any(|name| name == table))
        {
            for statement in *statements {
                client.run(statement).map_err(StoreError::sql(MAKING))?;
            }
            let version =
                TABLES.iter().find(|(name, ..)| name == table).and_then(|(_, versions, _)| versions.last());
            if let Some(version) = version {
                self.note_version(client, table, *version)?;
            }
            made.push(*table);
        }
        client.run("COMMIT").map_err(StoreError::sql(MAKING))?;
        Ok(made)
    }

    /// Makes those of the tables of call records that are not there; which they are.
    pub(crate) fn make_acc(&self, client: &mut Client) -> Result<Vec<&'static str>, StoreError> {
        let there = self.tables(client)?;
        let mut made = Vec::new();
        for (table, version) in [("acc", 7), ("missed_calls", 5)] {
            if there.iter().any(|name| name == table) {
                continue;
            }
            let statements =
                [self.acc_table(table), format!("CREATE INDEX {table}_callid_idx ON {table} (callid)")];
            for statement in &statements {
                client.run(statement).map_err(StoreError::sql("making the tables of call records"))?;
            }
            self.note_version(client, table, version)?;
            made.push(table);
        }
        Ok(made)
    }

    /// OpenSIPS's table, and who called whom and how it ended.
    fn acc_table(&self, table: &str) -> String {
        let [id, text, number, time, end] = match self {
            Database::Sqlite(_) => ["INTEGER PRIMARY KEY AUTOINCREMENT", "CHAR", "INTEGER", "DATETIME", ""],
            Database::MySql(_) => [
                "INT UNSIGNED AUTO_INCREMENT PRIMARY KEY",
                "CHAR",
                "INT UNSIGNED",
                "DATETIME",
                " ENGINE=InnoDB",
            ],
            Database::Postgres(_) => {
                ["SERIAL PRIMARY KEY", "VARCHAR", "INTEGER", "TIMESTAMP WITHOUT TIME ZONE", ""]
            }
        };
        let talking = match table {
            "acc" => {
                format!("duration {number} DEFAULT 0 NOT NULL, ms_duration {number} DEFAULT 0 NOT NULL, ")
            }
            _ => String::new(),
        };
        format!(
            "CREATE TABLE {table} (id {id} NOT NULL, method {text}(16) DEFAULT '' NOT NULL, \
             from_tag {text}(64) DEFAULT '' NOT NULL, to_tag {text}(64) DEFAULT '' NOT NULL, \
             callid {text}(64) DEFAULT '' NOT NULL, sip_code {text}(3) DEFAULT '' NOT NULL, \
             sip_reason {text}(32) DEFAULT '' NOT NULL, time {time} NOT NULL, {talking}\
             setuptime {number} DEFAULT 0 NOT NULL, created {time} DEFAULT NULL, \
             caller {text}(128) DEFAULT '' NOT NULL, callee {text}(128) DEFAULT '' NOT NULL, \
             caller_aor {text}(128) DEFAULT '' NOT NULL, callee_aor {text}(128) DEFAULT '' NOT NULL, \
             ended_by {text}(16) DEFAULT '' NOT NULL){end}"
        )
    }

    fn note_version(&self, client: &mut Client, table: &str, version: i64) -> Result<(), StoreError> {
        let forget = format!("DELETE FROM version WHERE table_name = '{table}'");
        let note = format!("INSERT INTO version (table_name, table_version) VALUES ('{table}', {version})");
        client.run(&forget).and_then(|()| client.run(&note)).map_err(StoreError::sql(MAKING))
    }

    /// Checks that the tables are there in versions that roost knows.
    fn check(&self, client: &mut Client) -> Result<(), StoreError> {
        let tables = self.tables(client)?;
        for (table, versions, known) in TABLES {
            if !tables.iter().any(|name| name == table) {
                return Err(StoreError::MissingTable { path: self.name(), table });
            }
            if let Some(found) = version(client, table).filter(|version| !versions.contains(version)) {
                return Err(StoreError::Version { path: self.name(), table, found, known });
            }
        }
        Ok(())
    }

    /// What there is of the tables that roost uses.
    pub(crate) fn look(&self, client: &mut Client) -> Result<Vec<Table>, StoreError> {
        let look = |(name, ..): (&'static str, &[i64], &str)| {
            let counted = client.one(&format!("SELECT count(*) FROM {name}"), &[]);
            let rows = counted.map_err(StoreError::sql("counting rows"))?.and_then(|rows| rows.int());
            Ok(Table { name, version: version(client, name), rows: rows.unwrap_or(0) as u64 })
        };
        TABLES.map(look).into_iter().collect()
    }

    /// The columns of a table.
    pub(crate) fn columns(&self, client: &mut Client, table: &str) -> Result<Vec<String>, StoreError> {
        self.names(
            client,
            match self {
                Database::Sqlite(_) => "SELECT name FROM pragma_table_info(?)",
                Database::MySql(_) => {
                    "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() \
                     AND table_name = ?"
                }
                Database::Postgres(_) => {
                    "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(?) AND attnum > 0 \
                     AND NOT attisdropped"
                }
            },
            &[table.into()],
        )
    }

    /// How many characters the columns of a table hold; nothing of those that hold any number, and of SQLite.
    pub(crate) fn widths(
        &self,
        client: &mut Client,
        table: &str,
    ) -> Result<Vec<(String, usize)>, StoreError> {
        let sql = match self {
            Database::Sqlite(_) => return Ok(Vec::new()),
            Database::MySql(_) => {
                "SELECT column_name, character_maximum_length FROM information_schema.columns \
                 WHERE table_schema = DATABASE() AND table_name = ? AND character_maximum_length IS NOT NULL"
            }
            Database::Postgres(_) => {
                "SELECT attname::text, (atttypmod - 4)::bigint FROM pg_attribute \
                 WHERE attrelid = to_regclass(?) AND attnum > 0 AND NOT attisdropped AND atttypmod > 4 \
                 AND atttypid IN ('varchar'::regtype, 'bpchar'::regtype)"
            }
        };
        let rows = client.all(sql, &[table.into()]).map_err(StoreError::sql("reading the schema"))?;
        let width = |row: Vec<Value>| {
            let mut values = row.into_iter();
            let name = String::from_utf8_lossy(&values.next()?.into_bytes()).into_owned();
            Some((name, usize::try_from(values.next()?.int()?).ok()?))
        };
        Ok(rows.into_iter().filter_map(width).collect())
    }

    /// Whether an index of a table begins with a column.
    pub(crate) fn has_index(
        &self,
        client: &mut Client,
        table: &str,
        column: &str,
    ) -> Result<bool, StoreError> {
        let params = [Value::from(table), Value::from(column)];
        let found = self.names(
            client,
            match self {
                Database::Sqlite(_) => {
                    "SELECT l.name FROM pragma_index_list(?) AS l, pragma_index_info(l.name) AS i \
                     WHERE i.seqno = 0 AND i.name = ?"
                }
                Database::MySql(_) => {
                    "SELECT index_name FROM information_schema.statistics WHERE table_schema = DATABASE() \
                     AND table_name = ? AND seq_in_index = 1 AND column_name = ?"
                }
                Database::Postgres(_) => {
                    "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid \
                     AND a.attnum = i.indkey[0] WHERE i.indrelid = to_regclass(?) AND a.attname = ?"
                }
            },
            &params,
        )?;
        Ok(!found.is_empty())
    }

    pub(crate) fn tables(&self, client: &mut Client) -> Result<Vec<String>, StoreError> {
        self.names(
            client,
            match self {
                Database::Sqlite(_) => "SELECT name FROM sqlite_master WHERE type = 'table'",
                Database::MySql(_) => {
                    "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
                }
                Database::Postgres(_) => {
                    "SELECT tablename FROM pg_tables WHERE schemaname = ANY (current_schemas(false))"
                }
            },
            &[],
        )
    }

    fn names(&self, client: &mut Client, sql: &str, params: &[Value]) -> Result<Vec<String>, StoreError> {
        let rows = client.all(sql, params).map_err(StoreError::sql("reading the schema"))?;
        let name = |row: Vec<Value>| row.into_iter().next().map(Value::into_bytes).unwrap_or_default();
        Ok(rows.into_iter().map(|row| String::from_utf8_lossy(&name(row)).into_owned()).collect())
    }

    fn schema(&self) -> [(&'static str, &'static [&'static str]); 3] {
        match self {
            Database::Sqlite(_) => sqlite::SCHEMA,
            Database::MySql(_) => mysql::SCHEMA,
            Database::Postgres(_) => postgres::SCHEMA,
        }
    }

    /// The unix time of a column that holds local time.
    pub(crate) fn unix_of(&self, column: &str) -> String {
        match self {
            Database::Sqlite(_) => format!("CAST(strftime('%s', {column}, 'utc') AS INTEGER)"),
            Database::MySql(_) => format!("UNIX_TIMESTAMP({column})"),
            Database::Postgres(_) => {
                format!("CAST(EXTRACT(EPOCH FROM CAST({column} AS timestamptz)) AS bigint)")
            }
        }
    }

    /// The statement that makes the index which `registrar.exclusive_check = "database"` wants.
    pub(crate) fn user_index(&self, columns: &Columns) -> String {
        columns.location.sql("CREATE INDEX location_username_idx ON location ({username})")
    }
}

/// What the `version` table says of a table; nothing where there is none.
fn version(client: &mut Client, table: &str) -> Option<i64> {
    let found: Result<_, DbError> =
        client.one("SELECT table_version FROM version WHERE table_name = ?", &[table.into()]);
    found.ok().flatten().and_then(|version| version.int())
}
