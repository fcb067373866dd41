//! MySQL and MariaDB: connecting, asking, OpenSIPS's schema, and the statements that write `location`.

use std::time::Duration;

use mysql::consts::CapabilityFlags;
use mysql::prelude::Queryable as _;
use mysql::{Conn, Opts, OptsBuilder, SslOpts};
use roost_core::{PackedRow, Row, Write};

use crate::client::Value;
use crate::database::shown;
use crate::location::{LOCATION_COLUMNS, LocationColumns, shown_agent};
use crate::{Access, StoreError};

/// How long connecting may take, and how long the server may take for one statement of ours.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Rows of one statement: a batch is cut into these, so that few statements are ever prepared.
const ROWS: [usize; 4] = [128, 32, 8, 1];

/// Where a database is, and how to get in.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    opts: Opts,
    /// The URL without its password.
    pub(crate) shown: String,
}

/// A connection.
pub(crate) struct MySql {
    conn: Conn,
    /// The statements that write, once they are needed.
    sql: Option<Statements>,
}

/// What writes `location`, with the names of its columns.
struct Statements {
    upserts: [String; ROWS.len()],
    removals: [String; ROWS.len()],
    purges: [String; ROWS.len()],
}

impl std::fmt::Debug for MySql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MySql").field(&self.conn.connection_id()).finish()
    }
}

impl Place {
    /// Takes `mysql://USER:PASSWORD@HOST:PORT/NAME`.
    pub(crate) fn parse(url: &str, access: &Access) -> Result<Place, StoreError> {
        let shown = shown(url);
        let wrong = || StoreError::Url { url: shown.clone() };
        let plain = url.replacen("mariadb:", "mysql:", 1);
        let opts = Opts::from_url(&plain).map_err(|_| wrong())?;
        if opts.get_db_name().is_none_or(str::is_empty) {
            return Err(wrong());
        }
        let password = access.password.clone().or_else(|| opts.get_pass().map(str::to_string));
        let tls = access.tls.then(|| SslOpts::default().with_root_cert_path(access.ca_file.clone()));
        let opts = OptsBuilder::from_opts(opts)
            .pass(password)
            // What listens at 127.0.0.1 may lead to another machine, and the socket that it names to another server here.
            .prefer_socket(false)
            .ssl_opts(tls)
            .tcp_connect_timeout(Some(CONNECT_TIMEOUT))
            .read_timeout(Some(STATEMENT_TIMEOUT))
            .write_timeout(Some(STATEMENT_TIMEOUT))
            // An UPDATE counts the rows that it finds, as elsewhere.
            .additional_capabilities(CapabilityFlags::CLIENT_FOUND_ROWS)
            // Nothing is cut silently, and names are quoted as everywhere.
            .init(vec!["SET sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES,ANSI_QUOTES')"])
            .into();
        Ok(Place { opts, shown })
    }

    pub(crate) fn connect(&self) -> Result<MySql, StoreError> {
        let opened = Conn::new(self.opts.clone());
        let connect =
            |source: mysql::Error| StoreError::Connect { url: self.shown.clone(), source: source.into() };
        Ok(MySql { conn: opened.map_err(connect)?, sql: None })
    }
}

impl MySql {
    pub(crate) fn each(
        &mut self,
        sql: &str,
        params: &[Value],
        take: &mut dyn FnMut(Vec<Value>) -> bool,
    ) -> mysql::Result<bool> {
        for row in self.conn.exec_iter(sql, params.iter().map(value).collect::<Vec<_>>())? {
            if !take(row?.unwrap().into_iter().map(Value::from).collect()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(crate) fn execute(&mut self, sql: &str, params: &[Value]) -> mysql::Result<u64> {
        self.conn.exec_drop(sql, params.iter().map(value).collect::<Vec<_>>())?;
        Ok(self.conn.affected_rows())
    }

    pub(crate) fn run(&mut self, sql: &str) -> mysql::Result<()> {
        self.conn.query_drop(sql)
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.conn.ping().is_ok()
    }

    /// Does all writes, or none: one transaction (that which has begun), or one statement that is its own.
    pub(crate) fn write<'w>(
        &mut self,
        columns: &LocationColumns,
        writes: impl Iterator<Item = &'w Write> + Clone,
        has_begun: bool,
    ) -> mysql::Result<()> {
        let MySql { conn, sql } = self;
        let sql = sql.get_or_insert_with(|| Statements::new(columns));
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
        let statements = chunks(&puts).count() + chunks(&removals).count() + chunks(&purges).count();
        let begins = statements > 1 && !has_begun;
        if begins {
            conn.query_drop("BEGIN")?;
        }
        match sql.run(conn, &puts, &removals, &purges) {
            Ok(()) if begins || has_begun => conn.query_drop("COMMIT"),
            Err(error) if begins && !is_lost(&error) => {
                conn.query_drop("ROLLBACK")?;
                Err(error)
            }
            done => done,
        }
    }
}

impl Statements {
    fn new(columns: &LocationColumns) -> Statements {
        let any = |one: &str, count| {
            columns.sql(&format!("DELETE FROM location WHERE {}", vec![one; count].join(" OR ")))
        };
        Statements {
            upserts: ROWS.map(|count| upsert(columns, count)),
            removals: ROWS.map(|count| any("({contact_id} = ? AND {username} = ?)", count)),
            purges: ROWS.map(|count| any("({contact_id} = ? AND {expires} > 0 AND {expires} <= ?)", count)),
        }
    }

    fn run(
        &self,
        conn: &mut Conn,
        puts: &[&PackedRow],
        removals: &[(u64, &[u8])],
        purges: &[(u64, u64)],
    ) -> mysql::Result<()> {
        for (size, some) in chunks(puts) {
            let mut params = Vec::with_capacity(some.len() * COLUMNS.len());
            some.iter().for_each(|row| push_row(&row.row(), &mut params));
            conn.exec_drop(self.upserts.get(size).map_or("", String::as_str), params)?;
        }
        for (size, some) in chunks(removals) {
            let pair =
                |(id, user): &(u64, &[u8])| [mysql::Value::UInt(*id), mysql::Value::Bytes(user.to_vec())];
            let params: Vec<_> = some.iter().flat_map(pair).collect();
            conn.exec_drop(self.removals.get(size).map_or("", String::as_str), params)?;
        }
        for (size, some) in chunks(purges) {
            let pair = |(id, by): &(u64, u64)| [mysql::Value::UInt(*id), mysql::Value::UInt(*by)];
            let params: Vec<_> = some.iter().flat_map(pair).collect();
            conn.exec_drop(self.purges.get(size).map_or("", String::as_str), params)?;
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

/// Whether an error says that the connection is of no use any more; what was under way may have been done.
pub(crate) fn is_lost(error: &mysql::Error) -> bool {
    !matches!(error, mysql::Error::MySqlError(error) if !LOST.contains(&error.code))
}

/// Errors of a server that is ending, or has ended the connection.
const LOST: [u16; 4] = [1053, 1927, 3169, 4031];

/// Whether two transactions were in each other's way: a deadlock, or a wait for a lock that was too long.
pub(crate) fn is_conflict(error: &mysql::Error) -> bool {
    matches!(error, mysql::Error::MySqlError(error) if [1205, 1213].contains(&error.code))
}

fn value(value: &Value) -> mysql::Value {
    match value {
        Value::Null => mysql::Value::NULL,
        Value::Int(number) => mysql::Value::Int(*number),
        Value::Real(number) => mysql::Value::Double(*number),
        Value::Text(text) => mysql::Value::Bytes(text.to_vec()),
    }
}

impl From<mysql::Value> for Value {
    fn from(value: mysql::Value) -> Value {
        match value {
            mysql::Value::NULL => Value::Null,
            mysql::Value::Bytes(text) => Value::Text(text.into()),
            mysql::Value::Int(number) => Value::Int(number),
            mysql::Value::UInt(number) => Value::Int(number as i64),
            mysql::Value::Float(number) => Value::Real(number.into()),
            mysql::Value::Double(number) => Value::Real(number),
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
    "username",
    "domain",
];

fn push_row(row: &Row<&[u8]>, params: &mut Vec<mysql::Value>) {
    let text = |text: &[u8]| mysql::Value::Bytes(text.to_vec());
    let optional =
        |text: Option<&[u8]>| text.map_or(mysql::Value::NULL, |text| mysql::Value::Bytes(text.to_vec()));
    params.extend([
        mysql::Value::UInt(row.contact_id),
        text(row.contact),
        optional(row.received),
        optional(row.path),
        mysql::Value::UInt(row.expires),
        mysql::Value::Double(row.q.map_or(-1.0, |q| f64::from(q) / 1000.0)),
        text(row.callid),
        mysql::Value::UInt(row.cseq.into()),
        mysql::Value::UInt(row.last_modified),
        mysql::Value::UInt(row.flags.into()),
        text(row.cflags),
        mysql::Value::Bytes(shown_agent(row.user_agent).into_owned()),
        optional(row.socket),
        row.methods.map_or(mysql::Value::NULL, |methods| mysql::Value::UInt(methods.into())),
        optional(row.sip_instance),
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
