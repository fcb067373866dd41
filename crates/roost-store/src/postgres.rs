//! PostgreSQL: connecting, asking, OpenSIPS's schema, and the statements that write `location`.
//!
//! A connection runs in a runtime of its own, on the thread that asks: what waits for the server waits here, with an end.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use roost_core::{PackedRow, Write};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::runtime::Runtime;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Config, NoTls, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::access::{Access, CONNECT_TIMEOUT, STATEMENT_TIMEOUT, runtime, shown, within};
use crate::columns::{LocationColumns, shown_agent};
use crate::error::{DbError, Misfit, StoreError};
use crate::kv_store;
use crate::value::Value;

/// Where a database is, and how to get in.
#[derive(Clone)]
pub(crate) struct Server {
    config: Config,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// The URL without its password.
    pub(crate) shown: String,
}

/// Statements are planned once, perhaps when a table is empty: they must go by an index all the same, and in its order (a page
/// of a million rows must not sort the rest of them).
const SETTINGS: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off";

/// A connection.
pub(crate) struct Postgres {
    client: tokio_postgres::Client,
    /// By their text.
    statements: HashMap<Box<str>, Statement>,
    /// The statements that write, once they are needed: rows, removals, purges.
    writes: Option<[Statement; 3]>,
    runtime: Runtime,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Server").field(&self.shown).finish()
    }
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Postgres(…)")
    }
}

impl Server {
    /// Takes `postgres://USER:PASSWORD@HOST:PORT/NAME`.
    pub(crate) fn parse(url: &str, access: &Access) -> Result<Server, StoreError> {
        let shown = shown(url);
        let mut config: Config = url
            .parse()
            .map_err(|error| StoreError::Url { url: shown.clone(), why: format!(" ({error})") })?;
        if config.get_dbname().is_none_or(str::is_empty) {
            return Err(StoreError::Url { url: shown, why: " (it names no database)".to_string() });
        }
        if let Some(password) = &access.password {
            config.password(password);
        }
        config.connect_timeout(CONNECT_TIMEOUT).application_name("roost");
        if access.tls {
            config.ssl_mode(tokio_postgres::config::SslMode::Require);
        }
        let tls = access.tls.then(|| tls(access.ca_file.as_deref())).transpose()?.map(Arc::new);
        Ok(Server { config, tls, shown })
    }

    pub(crate) fn connect(&self) -> Result<Postgres, StoreError> {
        let connect = |source: DbError| StoreError::Connect { url: self.shown.clone(), source };
        let runtime = runtime().map_err(StoreError::Thread)?;
        let connected = match &self.tls {
            Some(tls) => {
                let tls = MakeRustlsConnect::new(rustls::ClientConfig::clone(tls));
                within(&runtime, CONNECT_TIMEOUT, async {
                    let (client, connection) = self.config.connect(tls).await?;
                    tokio::spawn(connection);
                    Ok::<_, tokio_postgres::Error>(client)
                })
            }
            None => within(&runtime, CONNECT_TIMEOUT, async {
                let (client, connection) = self.config.connect(NoTls).await?;
                tokio::spawn(connection);
                Ok::<_, tokio_postgres::Error>(client)
            }),
        };
        let client = connected.map_err(connect)?;
        let mut client = Postgres { client, statements: HashMap::new(), writes: None, runtime };
        client.run(SETTINGS).map_err(connect)?;
        Ok(client)
    }
}

/// Checks the server's certificate and name against a file of authorities, or those that everybody knows.
fn tls(ca_file: Option<&std::path::Path>) -> Result<rustls::ClientConfig, StoreError> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        let wrong = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::CaFile {
            path: path.into(),
            source,
        };
        roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.into()))? {
            let certificate = certificate.map_err(|error| wrong(error.into()))?;
            roots.add(certificate).map_err(|error| wrong(error.into()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| StoreError::Tls { source: error.into() })?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}

impl Postgres {
    pub(crate) fn each(
        &mut self,
        sql: &str,
        params: &[Value],
        take: &mut dyn FnMut(Vec<Value>) -> bool,
    ) -> Result<bool, DbError> {
        use std::pin::pin;
        let statement = self.prepare(sql)?;
        let Postgres { client, runtime, .. } = self;
        let rows = within(runtime, STATEMENT_TIMEOUT, client.query_raw(&statement, params))?;
        let mut rows = pin!(rows);
        runtime.block_on(async {
            loop {
                let next = std::future::poll_fn(|context| {
                    use tokio_stream::Stream as _;
                    rows.as_mut().poll_next(context)
                });
                let row = match tokio::time::timeout(STATEMENT_TIMEOUT, next).await {
                    Ok(Some(row)) => row?,
                    Ok(None) => return Ok(true),
                    Err(_) => return Err(DbError::Timeout(STATEMENT_TIMEOUT)),
                };
                let columns = (0..row.len()).map(|at| row.try_get(at)).collect::<Result<Vec<Value>, _>>()?;
                if !take(columns) {
                    return Ok(false);
                }
            }
        })
    }

    pub(crate) fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, DbError> {
        let statement = self.prepare(sql)?;
        within(&self.runtime, STATEMENT_TIMEOUT, self.client.execute_raw(&statement, params))
    }

    pub(crate) fn run(&mut self, sql: &str) -> Result<(), DbError> {
        within(&self.runtime, STATEMENT_TIMEOUT, self.client.batch_execute(sql))
    }

    /// Prepares a statement, once; its `?` become `$1`, `$2` and so on.
    fn prepare(&mut self, sql: &str) -> Result<Statement, DbError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let mut parts = sql.split('?');
        let first = parts.next().unwrap_or("").to_string();
        let text = (1..).zip(parts).fold(first, |text, (number, part)| format!("{text}${number}{part}"));
        let statement = within(&self.runtime, STATEMENT_TIMEOUT, self.client.prepare(&text))?;
        self.statements.insert(sql.into(), statement.clone());
        Ok(statement)
    }

    /// Does all writes, or none: one statement, or one transaction (that which has begun) in one round trip.
    pub(crate) fn write<'w>(
        &mut self,
        columns: &LocationColumns,
        writes: impl Iterator<Item = &'w Write> + Clone,
        has_begun: bool,
    ) -> Result<(), DbError> {
        let (mut puts, mut removals, mut purges) = (Puts::default(), Removals::default(), Purges::default());
        let count = writes.clone().filter(|write| matches!(write, Write::Put(_))).count();
        puts.reserve(count);
        // One statement changes a row once: the last word on it counts.
        let mut ids = HashSet::with_capacity(count);
        for write in writes.collect::<Vec<_>>().into_iter().rev() {
            match write {
                Write::Put(row) if ids.insert(row.contact_id()) => puts.push(row),
                Write::Put(_) => {}
                Write::Remove { contact_id, username } => {
                    removals.ids.push(*contact_id as i64);
                    removals.users.push(Text(Cow::Borrowed(username)));
                }
                Write::Purge { contact_id, expires_by } => {
                    purges.ids.push(*contact_id as i64);
                    purges.by.push(*expires_by as i64);
                }
            }
        }
        let [put, remove, purge] = self.writes(columns)?;
        let Postgres { client, runtime, .. } = self;
        let put_params = puts.params();
        let asked: [(bool, &Statement, &[&(dyn ToSql + Sync)]); 3] = [
            (!puts.ids.is_empty(), &put, &put_params),
            (!removals.ids.is_empty(), &remove, &[&removals.ids, &removals.users]),
            (!purges.ids.is_empty(), &purge, &[&purges.ids, &purges.by]),
        ];
        let asked: Vec<_> = asked.into_iter().filter(|(is_asked, ..)| *is_asked).collect();
        let client = &*client;
        within(runtime, STATEMENT_TIMEOUT, async {
            match asked.as_slice() {
                [] if !has_begun => Ok(()),
                [(_, statement, params)] if !has_begun => client.execute(*statement, params).await.map(drop),
                several => {
                    // What follows a statement that failed is refused, and COMMIT undoes all: nothing needs to be waited for.
                    // (An empty statement does nothing.)
                    let begun = client.batch_execute(if has_begun { "" } else { "BEGIN" });
                    let [first, second, third] = [0, 1, 2].map(|at| {
                        let asked = several.get(at);
                        async move {
                            match asked {
                                Some((_, statement, params)) => {
                                    client.execute(*statement, params).await.map(drop)
                                }
                                None => Ok(()),
                            }
                        }
                    });
                    let committed = client.batch_execute("COMMIT");
                    let all = tokio::join!(biased; begun, first, second, third, committed);
                    all.0.and(all.1).and(all.2).and(all.3).and(all.4)
                }
            }
        })
    }

    /// The statements that write, prepared once.
    fn writes(&mut self, columns: &LocationColumns) -> Result<[Statement; 3], DbError> {
        if let Some(statements) = &self.writes {
            return Ok(statements.clone());
        }
        let [put, remove, purge] = [UPSERT, REMOVE, PURGE].map(|template| columns.sql(template));
        let client = &self.client;
        let statements = within(&self.runtime, STATEMENT_TIMEOUT, async {
            Ok::<_, tokio_postgres::Error>([
                client.prepare(&put).await?,
                client.prepare(&remove).await?,
                client.prepare(&purge).await?,
            ])
        })?;
        Ok(self.writes.insert(statements).clone())
    }
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Value, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match *kind {
            Type::INT2 => Value::Int(i16::from_sql(kind, raw)?.into()),
            Type::INT4 => Value::Int(i32::from_sql(kind, raw)?.into()),
            Type::INT8 => Value::Int(i64::from_sql(kind, raw)?),
            Type::FLOAT4 => Value::Real(f32::from_sql(kind, raw)?.into()),
            Type::FLOAT8 => Value::Real(f64::from_sql(kind, raw)?),
            _ => Value::Text(raw.into()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Value, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Value::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let misfit = |number: &i64| Misfit(*number);
        match (self, kind) {
            (Value::Null, _) => Ok(IsNull::Yes),
            (Value::Int(number), &Type::INT2) => {
                i16::try_from(*number).map_err(|_| misfit(number))?.to_sql(kind, out)
            }
            (Value::Int(number), &Type::INT4) => {
                i32::try_from(*number).map_err(|_| misfit(number))?.to_sql(kind, out)
            }
            (Value::Int(number), &Type::INT8) => number.to_sql(kind, out),
            (Value::Real(number), &Type::FLOAT4) => (*number as f32).to_sql(kind, out),
            (Value::Real(number), &Type::FLOAT8) => number.to_sql(kind, out),
            (Value::Text(text), _) => Text(Cow::Borrowed(text)).to_sql(kind, out),
            (Value::Int(number), _) => number.to_string().to_sql(kind, out),
            (Value::Real(number), _) => number.to_string().to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Text as it came: the server says so if it is none in its encoding.
#[derive(Debug)]
struct Text<'a>(Cow<'a, [u8]>);

impl ToSql for Text<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Rows by columns.
#[derive(Debug, Default)]
struct Puts<'a> {
    ids: Vec<i64>,
    numbers: [Vec<i64>; 4],
    methods: Vec<Option<i64>>,
    q: Vec<f32>,
    texts: [Vec<Option<Text<'a>>>; 11],
}

#[derive(Debug, Default)]
struct Removals<'a> {
    ids: Vec<i64>,
    users: Vec<Text<'a>>,
}

#[derive(Debug, Default)]
struct Purges {
    ids: Vec<i64>,
    by: Vec<i64>,
}

impl<'a> Puts<'a> {
    fn reserve(&mut self, rows: usize) {
        self.ids.reserve(rows);
        self.numbers.iter_mut().for_each(|column| column.reserve(rows));
        self.texts.iter_mut().for_each(|column| column.reserve(rows));
    }

    fn push(&mut self, packed: &'a PackedRow) {
        let row = packed.row();
        self.ids.push(row.contact_id as i64);
        let numbers = [row.expires as i64, row.cseq.into(), row.last_modified as i64, row.flags.into()];
        self.numbers.iter_mut().zip(numbers).for_each(|(column, number)| column.push(number));
        self.methods.push(row.methods.map(i64::from));
        self.q.push(row.q.map_or(-1.0, |q| f32::from(q) / 1000.0));
        let text = |text: &'a [u8]| Some(Text(Cow::Borrowed(text)));
        let texts = [
            text(row.username),
            row.domain.and_then(text),
            text(row.contact),
            row.received.and_then(text),
            row.path.and_then(text),
            text(row.callid),
            text(row.cflags),
            Some(Text(shown_agent(row.user_agent))),
            row.socket.and_then(text),
            row.sip_instance.and_then(text),
            kv_store::joined(&row).map(|column| Text(Cow::Owned(column))),
        ];
        self.texts.iter_mut().zip(texts).for_each(|(column, text)| column.push(text));
    }

    /// In the order of [`UPSERT`].
    fn params(&self) -> [&(dyn ToSql + Sync); 18] {
        let [expires, cseq, last_modified, flags] = &self.numbers;
        let [
            username,
            domain,
            contact,
            received,
            path,
            callid,
            cflags,
            user_agent,
            socket,
            sip_instance,
            kv_store,
        ] = &self.texts;
        [
            &self.ids,
            username,
            domain,
            contact,
            received,
            path,
            expires,
            &self.q,
            callid,
            cseq,
            last_modified,
            flags,
            cflags,
            user_agent,
            socket,
            &self.methods,
            sip_instance,
            kv_store,
        ]
    }
}

/// Repeating it changes nothing. A row of another AOR with the same id is not touched: its key would become NULL, which the
/// server refuses.
const UPSERT: &str = "INSERT INTO location AS l ({contact_id}, {username}, {domain}, {contact}, {received}, {path}, \
    {expires}, {q}, {callid}, {cseq}, {last_modified}, {flags}, {cflags}, {user_agent}, {socket}, {methods}, \
    {sip_instance}, {kv_store}) SELECT a, b, c, d, e, f, g, h, i, j, CAST(to_timestamp(k) AS timestamp), m, n, o, p, q, r, s \
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::real[], \
    $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::text[], $14::text[], $15::text[], $16::bigint[], \
    $17::text[], $18::text[]) AS new (a, b, c, d, e, f, g, h, i, j, k, m, n, o, p, q, r, s) \
    ON CONFLICT ({contact_id}) DO UPDATE SET {contact_id} = CASE WHEN lower(l.{username}) = lower(excluded.{username}) \
    AND (l.{domain} IS NULL OR excluded.{domain} IS NULL OR lower(l.{domain}) = lower(excluded.{domain})) \
    THEN l.{contact_id} END, {username} = excluded.{username}, {domain} = excluded.{domain}, \
    {contact} = excluded.{contact}, {received} = excluded.{received}, {path} = excluded.{path}, \
    {expires} = excluded.{expires}, {q} = excluded.{q}, {callid} = excluded.{callid}, {cseq} = excluded.{cseq}, \
    {last_modified} = excluded.{last_modified}, {flags} = excluded.{flags}, {cflags} = excluded.{cflags}, \
    {user_agent} = excluded.{user_agent}, {socket} = excluded.{socket}, {methods} = excluded.{methods}, \
    {sip_instance} = excluded.{sip_instance}, {kv_store} = excluded.{kv_store}";

const REMOVE: &str = "DELETE FROM location AS l USING unnest($1::bigint[], $2::text[]) AS old (id, name) \
    WHERE l.{contact_id} = old.id AND lower(l.{username}) = lower(old.name)";

const PURGE: &str = "DELETE FROM location AS l USING unnest($1::bigint[], $2::bigint[]) AS old (id, at) \
    WHERE l.{contact_id} = old.id AND l.{expires} > 0 AND l.{expires} <= old.at";

/// The tables as OpenSIPS makes them, and the statements that make each: location version 1013, subscriber version 8 and
/// its older `ha1b`.
pub(crate) const SCHEMA: [(&str, &[&str]); 3] = [
    (
        "version",
        &["CREATE TABLE version (
                table_name VARCHAR(32) NOT NULL,
                table_version INTEGER DEFAULT 0 NOT NULL,
                CONSTRAINT version_t_name_idx UNIQUE (table_name)
            )"],
    ),
    (
        "subscriber",
        &[
            "CREATE TABLE subscriber (
                id SERIAL PRIMARY KEY NOT NULL,
                username VARCHAR(64) DEFAULT '' NOT NULL,
                domain VARCHAR(64) DEFAULT '' NOT NULL,
                password VARCHAR(25) DEFAULT '' NOT NULL,
                ha1 VARCHAR(64) DEFAULT '' NOT NULL,
                ha1_sha256 VARCHAR(64) DEFAULT '' NOT NULL,
                ha1_sha512t256 VARCHAR(64) DEFAULT '' NOT NULL,
                ha1b VARCHAR(64) DEFAULT '' NOT NULL,
                CONSTRAINT subscriber_account_idx UNIQUE (username, domain)
            )",
            "CREATE INDEX subscriber_username_idx ON subscriber (username)",
        ],
    ),
    (
        "location",
        &["CREATE TABLE location (
                contact_id BIGSERIAL PRIMARY KEY NOT NULL,
                username VARCHAR(64) DEFAULT '' NOT NULL,
                domain VARCHAR(64) DEFAULT NULL,
                contact TEXT NOT NULL,
                received VARCHAR(255) DEFAULT NULL,
                path VARCHAR(255) DEFAULT NULL,
                expires INTEGER NOT NULL,
                q REAL DEFAULT 1.0 NOT NULL,
                callid VARCHAR(255) DEFAULT 'Default-Call-ID' NOT NULL,
                cseq INTEGER DEFAULT 13 NOT NULL,
                last_modified TIMESTAMP WITHOUT TIME ZONE DEFAULT '1900-01-01 00:00:01' NOT NULL,
                flags INTEGER DEFAULT 0 NOT NULL,
                cflags VARCHAR(255) DEFAULT NULL,
                user_agent VARCHAR(255) DEFAULT '' NOT NULL,
                socket VARCHAR(64) DEFAULT NULL,
                methods INTEGER DEFAULT NULL,
                sip_instance VARCHAR(255) DEFAULT NULL,
                kv_store TEXT DEFAULT NULL,
                attr VARCHAR(255) DEFAULT NULL
            )"],
    ),
];
