//! MySQL and MariaDB: connecting, asking, OpenSIPS's schema, and the statements that write `location`.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder, Params, SslOpts, Statement};
use roost_core::{PackedRow, Row, Write};
use tokio::runtime::Runtime;

use crate::access::{Access, CONNECT_TIMEOUT, STATEMENT_TIMEOUT, answered, runtime, shown, within};
use crate::columns::{LOCATION_COLUMNS, LocationColumns, shown_agent};
use crate::error::{DbError, StoreError};
use crate::kv_store;
use crate::value::Value;

/// Rows of one statement: a batch is cut into these, so that few statements are ever prepared.
const ROWS: [usize; 4] = [128, 32, 8, 1];
/// Rows that are read before the time for the next ones begins.
const READ_AT_ONCE: usize = 256;
/// Statements that a connection keeps prepared: more than there are.
const PREPARED: usize = 64;

/// Where a database is, and how to get in.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    opts: Opts,
    /// The URL without its password.
    pub(crate) shown: String,
}

/// A connection, on the thread that asks.
pub(crate) struct MySql {
    /// There until it is dropped.
    conn: Option<Conn>,
    statements: Option<Statements>,
    runtime: Runtime,
}

/// What writes `location`: each is prepared when it is needed.
struct Statements {
    upserts: [Prepared; ROWS.len()],
    removals: [Prepared; ROWS.len()],
    purges: [Prepared; ROWS.len()],
}

/// A statement's text, and what the server made of it.
struct Prepared {
    sql: String,
    statement: Option<Statement>,
}

impl std::fmt::Debug for MySql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MySql").field(&self.conn.as_ref().map(Conn::id)).finish()
    }
}

impl Server {
    /// Takes `mysql://USER:PASSWORD@HOST:PORT/NAME`.
    pub(crate) fn parse(url: &str, access: &Access) -> Result<Server, StoreError> {
        let shown = shown(url);
        let wrong = |why: String| StoreError::Url { url: shown.clone(), why };
        let plain = url.replacen("mariadb:", "mysql:", 1);
        let opts = Opts::from_url(&plain).map_err(|error| wrong(format!(" ({error})")))?;
        if opts.db_name().is_none_or(str::is_empty) {
            return Err(wrong(" (it names no database)".to_string()));
        }
        let password = access.password.clone().or_else(|| opts.pass().map(str::to_string));
        let authorities = |path: std::path::PathBuf| {
            SslOpts::default().with_root_certs(vec![path.into()]).with_disable_built_in_roots(true)
        };
        let tls = access.tls.then(|| access.ca_file.clone().map_or_else(SslOpts::default, authorities));
        let opts = OptsBuilder::from_opts(opts)
            .pass(password)
            // What listens at 127.0.0.1 may lead to another machine, and the socket that it names to another server here.
            .prefer_socket(false)
            .ssl_opts(tls)
            // An UPDATE counts the rows that it finds, as elsewhere.
            .client_found_rows(true)
            .stmt_cache_size(PREPARED)
            // Nothing is cut silently, and names are quoted as everywhere.
            .init(vec!["SET sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES,ANSI_QUOTES')"])
            .into();
        Ok(Server { opts, shown })
    }

    pub(crate) fn connect(&self) -> Result<MySql, StoreError> {
        let runtime = runtime().map_err(StoreError::Thread)?;
        let connected = within(&runtime, CONNECT_TIMEOUT, Conn::new(self.opts.clone()));
        let conn = connected.map_err(|source| StoreError::Connect { url: self.shown.clone(), source })?;
        Ok(MySql { conn: Some(conn), statements: None, runtime })
    }
}

/// Says farewell, as far as the server listens.
impl Drop for MySql {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            let _ = within(&self.runtime, CONNECT_TIMEOUT, conn.disconnect());
        }
    }
}

impl MySql {
    pub(crate) fn each(
        &mut self,
        sql: &str,
        params: &[Value],
        take: &mut dyn FnMut(Vec<Value>) -> bool,
    ) -> Result<bool, DbError> {
        let MySql { conn: Some(conn), runtime, .. } = self else { return Ok(true) };
        let params = params.iter().map(value).collect::<Vec<_>>();
        let mut rows = within(runtime, STATEMENT_TIMEOUT, conn.exec_iter(sql, params))?;
        loop {
            let some = within(runtime, STATEMENT_TIMEOUT, async {
                for _ in 0..READ_AT_ONCE {
                    let Some(row) = rows.next().await? else { return Ok(Some(true)) };
                    if !take(row.unwrap().into_iter().map(Value::from).collect()) {
                        return Ok(Some(false));
                    }
                }
                Ok::<_, mysql_async::Error>(None)
            })?;
            if let Some(has_all) = some {
                return Ok(has_all);
            }
        }
    }

    pub(crate) fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, DbError> {
        let MySql { conn: Some(conn), runtime, .. } = self else { return Ok(0) };
        let params = params.iter().map(value).collect::<Vec<_>>();
        within(runtime, STATEMENT_TIMEOUT, conn.exec_drop(sql, params))?;
        Ok(conn.affected_rows())
    }

    pub(crate) fn run(&mut self, sql: &str) -> Result<(), DbError> {
        let MySql { conn: Some(conn), runtime, .. } = self else { return Ok(()) };
        within(runtime, STATEMENT_TIMEOUT, conn.query_drop(sql))
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        let MySql { conn: Some(conn), runtime, .. } = self else { return false };
        within(runtime, STATEMENT_TIMEOUT, conn.ping()).is_ok()
    }

    /// Does all writes, or none: one transaction (that which has begun), or one statement that is its own.
    pub(crate) fn write<'w>(
        &mut self,
        columns: &LocationColumns,
        writes: impl Iterator<Item = &'w Write> + Clone,
        has_begun: bool,
    ) -> Result<(), DbError> {
        let MySql { conn: Some(conn), statements, runtime } = self else { return Ok(()) };
        let statements = statements.get_or_insert_with(|| Statements::new(columns));
        let puts: Vec<&PackedRow> = writes
            .clone()
            .filter_map(|write| if let Write::Put(row) = write { Some(row) } else { None })
            .collect();
        let removals: Vec<(u64, &[u8])> = writes
            .clone()
            .filter_map(|write| match write {
                Write::Remove { contact_id, username } => Some((*contact_id, &**username)),
                _ => None,
            })
            .collect();
        let purges: Vec<(u64, u64)> = writes
            .filter_map(|write| match write {
                Write::Purge { contact_id, expires_by } => Some((*contact_id, *expires_by)),
                _ => None,
            })
            .collect();
        let count = chunks(&puts).count() + chunks(&removals).count() + chunks(&purges).count();
        let begins = count > 1 && !has_begun;
        let written = runtime.block_on(async {
            if begins {
                answered(STATEMENT_TIMEOUT, conn.query_drop("BEGIN")).await?;
            }
            statements.run(conn, &puts, &removals, &purges).await?;
            if begins || has_begun {
                answered(STATEMENT_TIMEOUT, conn.query_drop("COMMIT")).await?;
            }
            Ok::<_, DbError>(())
        });
        if let Err(error) = &written
            && begins
            && !error.is_lost()
        {
            within(runtime, STATEMENT_TIMEOUT, conn.query_drop("ROLLBACK"))?;
        }
        written
    }
}

impl Prepared {
    fn new(sql: String) -> Prepared {
        Prepared { sql, statement: None }
    }

    async fn run(&mut self, conn: &mut Conn, params: Vec<mysql_async::Value>) -> Result<(), DbError> {
        let statement = match &self.statement {
            Some(statement) => statement.clone(),
            None => {
                let prepared = answered(STATEMENT_TIMEOUT, conn.prep(self.sql.as_str())).await?;
                self.statement.insert(prepared).clone()
            }
        };
        answered(STATEMENT_TIMEOUT, conn.exec_drop(statement, Params::Positional(params))).await
    }
}

impl Statements {
    fn new(columns: &LocationColumns) -> Statements {
        let any = |one: &str, count| {
            Prepared::new(
                columns.sql(&format!("DELETE FROM location WHERE {}", vec![one; count].join(" OR "))),
            )
        };
        Statements {
            upserts: ROWS.map(|count| Prepared::new(upsert(columns, count))),
            removals: ROWS.map(|count| any("({contact_id} = ? AND {username} = ?)", count)),
            purges: ROWS.map(|count| any("({contact_id} = ? AND {expires} > 0 AND {expires} <= ?)", count)),
        }
    }

    async fn run(
        &mut self,
        conn: &mut Conn,
        puts: &[&PackedRow],
        removals: &[(u64, &[u8])],
        purges: &[(u64, u64)],
    ) -> Result<(), DbError> {
        use mysql_async::Value::{Bytes, UInt};
        for (size, some) in chunks(puts) {
            let mut params = Vec::with_capacity(some.len() * COLUMNS.len());
            some.iter().for_each(|row| push_row(&row.row(), &mut params));
            self.upserts[size].run(conn, params).await?;
        }
        for (size, some) in chunks(removals) {
            let pair = |(id, user): &(u64, &[u8])| [UInt(*id), Bytes(user.to_vec())];
            self.removals[size].run(conn, some.iter().flat_map(pair).collect()).await?;
        }
        for (size, some) in chunks(purges) {
            let pair = |(id, by): &(u64, u64)| [UInt(*id), UInt(*by)];
            self.purges[size].run(conn, some.iter().flat_map(pair).collect()).await?;
        }
        Ok(())
    }
}

/// Cuts a batch into pieces of the sizes of [`ROWS`], and says of each which it is.
fn chunks<T>(mut rest: &[T]) -> impl Iterator<Item = (usize, &[T])> {
    std::iter::from_fn(move || {
        let (size, count) = ROWS.into_iter().enumerate().find(|(_, count)| *count <= rest.len())?;
        let (some, later) = rest.split_at(count);
        rest = later;
        Some((size, some))
    })
}

fn value(value: &Value) -> mysql_async::Value {
    match value {
        Value::Null => mysql_async::Value::NULL,
        Value::Int(number) => mysql_async::Value::Int(*number),
        Value::Real(number) => mysql_async::Value::Double(*number),
        Value::Text(text) => mysql_async::Value::Bytes(text.to_vec()),
    }
}

impl From<mysql_async::Value> for Value {
    fn from(value: mysql_async::Value) -> Value {
        match value {
            mysql_async::Value::NULL => Value::Null,
            mysql_async::Value::Bytes(text) => Value::Text(text.into()),
            mysql_async::Value::Int(number) => Value::Int(number),
            mysql_async::Value::UInt(number) => Value::Int(number as i64),
            mysql_async::Value::Float(number) => Value::Real(number.into()),
            mysql_async::Value::Double(number) => Value::Real(number),
            time => Value::from(time.as_sql(true).trim_matches('\'')),
        }
    }
}

/// The columns in the order of [`push_row`]. Those that tell whose row it is stand last: MySQL assigns from left to right.
const COLUMNS: [&str; LOCATION_COLUMNS.len()] = [
    "contact_id",
    "contact",
    "received",
    "path",
    "expires",
    "q",
    "callid",
    "cseq",
    "last_modified",
    "flags",
    "cflags",
    "user_agent",
    "socket",
    "methods",
    "sip_instance",
    "kv_store",
    "username",
    "domain",
];

fn push_row(row: &Row<&[u8]>, params: &mut Vec<mysql_async::Value>) {
    let text = |text: &[u8]| mysql_async::Value::Bytes(text.to_vec());
    let optional = |text: Option<&[u8]>| {
        text.map_or(mysql_async::Value::NULL, |text| mysql_async::Value::Bytes(text.to_vec()))
    };
    params.extend([
        mysql_async::Value::UInt(row.contact_id),
        text(row.contact),
        optional(row.received),
        optional(row.path),
        mysql_async::Value::UInt(row.expires),
        mysql_async::Value::Double(row.q.map_or(-1.0, |q| f64::from(q) / 1000.0)),
        text(row.callid),
        mysql_async::Value::UInt(row.cseq.into()),
        mysql_async::Value::UInt(row.last_modified),
        mysql_async::Value::UInt(row.flags.into()),
        text(row.cflags),
        mysql_async::Value::Bytes(shown_agent(row.user_agent).into_owned()),
        optional(row.socket),
        row.methods.map_or(mysql_async::Value::NULL, |methods| mysql_async::Value::UInt(methods.into())),
        optional(row.sip_instance),
        optional(kv_store::joined(row).as_deref()),
        text(row.username),
        optional(row.domain),
    ]);
}

/// A key that no integer column holds: the server refuses it. (NULL it would take for 0, as the key is counted.)
const NO_KEY: &str = "-99999999999999999999";

/// Repeating it changes nothing. A row of another AOR with the same id is not touched: its key would become [`NO_KEY`].
fn upsert(columns: &LocationColumns, count: usize) -> String {
    let marks = COLUMNS.map(|column| if column == "last_modified" { "FROM_UNIXTIME(?)" } else { "?" });
    let row = format!("({})", marks.join(", "));
    let rows = vec![row.as_str(); count].join(", ");
    let sets = COLUMNS.map(|column| match column {
        "contact_id" => {
            format!(
                "{{contact_id}} = IF({{username}} = VALUES({{username}}) AND ({{domain}} IS NULL OR \
                 VALUES({{domain}}) IS NULL OR {{domain}} = VALUES({{domain}})), {{contact_id}}, {NO_KEY})"
            )
        }
        column => format!("{{{column}}} = VALUES({{{column}}})"),
    });
    let (names, sets) = (COLUMNS.map(|column| format!("{{{column}}}")).join(", "), sets.join(", "));
    columns.sql(&format!("INSERT INTO location ({names}) VALUES {rows} ON DUPLICATE KEY UPDATE {sets}"))
}

/// The tables as OpenSIPS makes them, and the statements that make each: location version 1013, subscriber version 8 and
/// its older `ha1b`.
pub(crate) const SCHEMA: [(&str, &[&str]); 3] = [
    (
        "version",
        &["CREATE TABLE version (
                table_name CHAR(32) NOT NULL,
                table_version INT UNSIGNED DEFAULT 0 NOT NULL,
                CONSTRAINT t_name_idx UNIQUE (table_name)
            ) ENGINE=InnoDB"],
    ),
    (
        "subscriber",
        &["CREATE TABLE subscriber (
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
            ) ENGINE=InnoDB"],
    ),
    (
        "location",
        &["CREATE TABLE location (
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
            ) ENGINE=InnoDB"],
    ),
];
