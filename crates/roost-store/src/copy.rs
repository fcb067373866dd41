//! From one database into another, and a copy of an SQLite file that is in use.

use std::path::Path;

use roost_core::{Row, Write};
use sha2::{Digest as _, Sha256};

use crate::client::Client;
use crate::columns::Columns;
use crate::error::StoreError;
use crate::sqlite;
use crate::store::Store;
use crate::value::Value;

/// Subscribers of one transaction.
const AT_ONCE: usize = 500;

/// What of `subscriber` is not copied: it is each table's own.
const OWN: [&str; 1] = ["id"];

/// What was copied, and what both databases hold afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    pub table: String,
    pub rows: u64,
    pub source: Sum,
    pub target: Sum,
    /// Columns of the source that the target does not have.
    pub left_out: Vec<String>,
}

/// How many rows there are, and a sum of their hashes: the order does not matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    pub rows: u64,
    pub hash: u64,
}

impl Sum {
    pub(crate) fn add<'v>(&mut self, values: impl Iterator<Item = &'v [u8]>) {
        let mut hasher = Sha256::new();
        for value in values {
            hasher.update((value.len() as u64).to_be_bytes());
            hasher.update(value);
        }
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hasher.finalize());
        self.rows += 1;
        self.hash = self.hash.wrapping_add(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl Copied {
    /// Whether the target holds what the source holds; it may hold more where it was not empty.
    pub fn is_whole(&self) -> bool {
        self.source == self.target
    }
}

impl Store {
    /// Copies subscribers, and the bindings that live at this time. Rows of the same name, or the same key, are replaced, so a
    /// copy that was broken off is made again. `progress` hears how many rows are done.
    ///
    /// # Errors
    /// [`StoreError`] when one of the databases cannot be read or written; what was copied till then is there.
    pub fn copy_to(
        &self,
        target: &Store,
        now_unix_s: u64,
        progress: &mut dyn FnMut(&'static str, u64),
    ) -> Result<Vec<Copied>, StoreError> {
        let subscribers = self.copy_subscribers(target, &mut |rows| progress("subscriber", rows))?;
        let bindings = self.copy_bindings(target, now_unix_s, &mut |rows| progress("location", rows))?;
        Ok(vec![subscribers, bindings])
    }

    fn copy_subscribers(&self, target: &Store, progress: &mut dyn FnMut(u64)) -> Result<Copied, StoreError> {
        let is_own = |name: &&String| OWN.iter().any(|own| name.eq_ignore_ascii_case(own));
        let theirs = self.subscriber_columns.iter().filter(|name| !is_own(name));
        let (both, left_out): (Vec<&String>, Vec<&String>) = theirs.partition(|name| target.has_column(name));
        let both: Vec<&str> = both.into_iter().map(String::as_str).collect();
        let left_out = left_out.into_iter().cloned().collect();
        let (user, domain) = (self.columns.user.as_str(), self.columns.domain.as_str());
        let mut client = target.database.connect()?;
        let mut rows = 0;
        self.each_subscriber(&both, &mut |page| {
            let write = |client: &mut Client| {
                client.begin()?;
                for row in page {
                    upsert(client, (user, domain), &both, row)?;
                }
                client.run("COMMIT")
            };
            rows += page.len() as u64;
            let written = write(&mut client).map_err(StoreError::sql("writing subscribers"));
            progress(rows);
            written
        })?;
        let (source, target) = (self.sum_subscribers(&both)?, target.sum_subscribers(&both)?);
        Ok(Copied { table: "subscriber".to_string(), rows, source, target, left_out })
    }

    /// Gives all subscribers, some at a time, until `take` fails.
    fn each_subscriber(
        &self,
        columns: &[&str],
        take: &mut impl FnMut(&[Vec<Value>]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (user, domain) = (&self.columns.user, &self.columns.domain);
        let names: Vec<_> = columns.iter().map(|name| format!("\"{name}\"")).collect();
        let key = format!("COALESCE(\"{domain}\", '')");
        let select = format!("SELECT \"{user}\", {key}, {} FROM subscriber", names.join(", "));
        let order = format!("ORDER BY \"{user}\", {key} LIMIT {AT_ONCE}");
        let mut client = self.database.connect()?;
        let mut after: Option<(Value, Value)> = None;
        loop {
            let (condition, params) = match &after {
                None => (String::new(), Vec::new()),
                Some((name, of)) => (
                    format!(" WHERE \"{user}\" > ? OR (\"{user}\" = ? AND {key} > ?)"),
                    vec![name.clone(), name.clone(), of.clone()],
                ),
            };
            let page = client.all(&format!("{select}{condition} {order}"), &params);
            let page = page.map_err(StoreError::sql("reading subscribers"))?;
            let Some([name, of, ..]) = page.last().map(Vec::as_slice) else { return Ok(()) };
            after = Some((name.clone(), of.clone()));
            let rows: Vec<Vec<Value>> =
                page.into_iter().map(|row| row.into_iter().skip(2).collect()).collect();
            take(&rows)?;
        }
    }

    /// Gives name, domain and password of all subscribers, in order, some at a time.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read, or what `take` says.
    pub fn export_users(
        &self,
        take: &mut impl FnMut(&[[String; 3]]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let Columns { user, domain, password, .. } = &self.columns;
        self.each_subscriber(&[user.as_str(), domain, password], &mut |page| {
            let text = |value: Option<&Value>| {
                let bytes = value.cloned().unwrap_or(Value::Null).into_bytes();
                String::from_utf8_lossy(&bytes).trim_end().to_string()
            };
            let rows: Vec<_> = page.iter().map(|row| [0, 1, 2].map(|at| text(row.get(at)))).collect();
            take(&rows)
        })
    }

    fn sum_subscribers(&self, columns: &[&str]) -> Result<Sum, StoreError> {
        let mut sum = Sum::default();
        self.each_subscriber(columns, &mut |page| {
            for row in page {
                let texts: Vec<Box<[u8]>> = row.iter().cloned().map(Value::into_bytes).collect();
                // A column of fixed width is filled up with blanks by some.
                sum.add(texts.iter().map(|text| text.trim_ascii_end()));
            }
            Ok(())
        })?;
        Ok(sum)
    }

    fn copy_bindings(
        &self,
        target: &Store,
        now_unix_s: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Copied, StoreError> {
        let (mut loader, mut rows) = (self.loader(), 0);
        while let Some(page) = loader.next_page(now_unix_s)? {
            rows += page.rows.len() as u64;
            let writes: Vec<Write> = page.rows.iter().map(|row| Write::Put(row.pack())).collect();
            if !writes.is_empty() {
                target.write(&writes)?;
            }
            progress(rows);
        }
        let (source, target) = (self.sum_bindings(now_unix_s)?, target.sum_bindings(now_unix_s)?);
        Ok(Copied { table: "location".to_string(), rows, source, target, left_out: Vec::new() })
    }

    fn sum_bindings(&self, now_unix_s: u64) -> Result<Sum, StoreError> {
        let (mut loader, mut sum) = (self.loader(), Sum::default());
        while let Some(page) = loader.next_page(now_unix_s)? {
            for row in &page.rows {
                // Widths of columns, and what OpenSIPS fills differently, do not count.
                let Row { contact_id, username, contact, callid, cseq, expires, .. } = row;
                let numbers = [*contact_id, u64::from(*cseq), *expires].map(u64::to_be_bytes);
                let texts = [&**username, &**contact, &**callid].into_iter();
                sum.add(texts.chain(numbers.iter().map(|number| &number[..])));
            }
        }
        Ok(sum)
    }

    /// Copies an SQLite database that may be in use into a new file, as it is at one moment, for its owner alone; its size in bytes.
    ///
    /// # Errors
    /// [`StoreError::NotSqlite`] for a database of a server, which has its own tools; else what cannot be written.
    pub fn back_up(&self, file: &Path) -> Result<u64, StoreError> {
        let Client::Sqlite(connection) = self.database.connect()? else {
            return Err(StoreError::NotSqlite { database: self.name() });
        };
        sqlite::copy(&connection, file)
    }
}

/// Replaces the subscriber of a row's name, or adds it.
fn upsert(
    client: &mut Client,
    (user, domain): (&str, &str),
    columns: &[&str],
    row: &[Value],
) -> Result<(), crate::error::DbError> {
    let value = |name: &str| columns.iter().position(|column| *column == name).and_then(|at| row.get(at));
    let (name, of) = (value(user).cloned().unwrap_or(Value::Null), value(domain).cloned());
    let of = of.unwrap_or(Value::Null).into_bytes();
    let sets: Vec<_> = columns.iter().map(|column| format!("\"{column}\" = ?")).collect();
    let by = format!("\"{user}\" = ? AND COALESCE(\"{domain}\", '') = ?");
    let mut params = row.to_vec();
    params.extend([name, Value::Text(of)]);
    let found = client.execute(&format!("UPDATE subscriber SET {} WHERE {by}", sets.join(", ")), &params)?;
    if found == 0 {
        let names: Vec<_> = columns.iter().map(|column| format!("\"{column}\"")).collect();
        let values = vec!["?"; columns.len()].join(", ");
        let sql = format!("INSERT INTO subscriber ({}) VALUES ({values})", names.join(", "));
        client.execute(&sql, row)?;
    }
    Ok(())
}
