//! The rows of the `location` table as they are read.

use roost_core::Row;

use crate::client::Client;
use crate::columns::LocationColumns;
use crate::database::Database;
use crate::error::DbError;
use crate::kv_store;
use crate::value::Value;

/// A part of `location`, in the order of `contact_id`.
#[derive(Debug, Default)]
pub struct Page {
    pub rows: Vec<Row>,
    /// Rows that could not be read.
    pub unreadable: u64,
    /// All rows with smaller ids have been given; `None`: all rows have.
    pub up_to: Option<u64>,
}

/// The beginning of a statement whose rows [`read_row`] takes, with `{names}`.
pub(crate) fn select(database: &Database) -> String {
    select_with(database, "")
}

/// The same, with more columns behind.
pub(crate) fn select_with(database: &Database, more: &str) -> String {
    format!(
        "SELECT {{contact_id}}, {{username}}, {{domain}}, {{contact}}, {{received}}, {{expires}}, {{q}}, {{callid}}, \
         {{cseq}}, {}, {{user_agent}}, {{socket}}, {{methods}}, {{sip_instance}}, {{cflags}}, {{flags}}, {{path}}, \
         {{kv_store}}{more} FROM location",
        database.unix_of("{last_modified}")
    )
}

/// The rows of a [`select`]; those that cannot be read are left out.
pub(crate) fn read_rows(client: &mut Client, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
    let mut rows = Vec::new();
    client.each(sql, params, &mut |row| {
        rows.extend(read_row(row));
        true
    })?;
    Ok(rows)
}

/// The statement of [`read_page`].
pub(crate) fn page_sql(database: &Database, columns: &LocationColumns, most: usize) -> String {
    columns.sql(&format!(
        "{} WHERE {{contact_id}} >= ? AND ({{expires}} = 0 OR {{expires}} > ?) ORDER BY {{contact_id}} LIMIT {most}",
        select(database)
    ))
}

/// Reads at most `most` rows of live bindings from an id on.
pub(crate) fn read_page(
    client: &mut Client,
    sql: &str,
    from: u64,
    now_unix_s: u64,
    most: usize,
) -> Result<Page, DbError> {
    let params = [Value::Int(from as i64), Value::Int(now_unix_s as i64)];
    let mut page = Page::default();
    let (mut count, mut last) = (0, None);
    client.each(sql, &params, &mut |row| {
        count += 1;
        last = row.first().and_then(Value::int).or(last);
        match read_row(row) {
            Some(row) => page.rows.push(row),
            None => page.unreadable += 1,
        }
        true
    })?;
    page.up_to = last.filter(|_| count == most).map(|last| last as u64 + 1);
    Ok(page)
}

pub(crate) fn read_row(columns: Vec<Value>) -> Option<Row> {
    let mut columns = columns.into_iter();
    let mut next = || columns.next().unwrap_or(Value::Null);
    let mut row = Row {
        contact_id: next().int()? as u64,
        username: next().into_bytes(),
        domain: next().into_text(),
        contact: next().into_bytes(),
        received: next().into_text(),
        expires: next().int()?.max(0) as u64,
        q: next().real().filter(|q| *q >= 0.0).map(|q| (q.min(1.0) * 1000.0).round() as u16),
        callid: next().into_bytes(),
        cseq: next().int()?.clamp(0, i64::from(u32::MAX)) as u32,
        last_modified: next().int().unwrap_or(0).max(0) as u64,
        user_agent: next().into_bytes(),
        socket: next().into_text(),
        methods: next().int().map(|methods| methods as u32),
        sip_instance: next().into_text(),
        cflags: next().into_bytes(),
        flags: next().int().unwrap_or(0) as u32,
        path: next().into_text().filter(|path| !path.is_empty()),
        ..Row::default()
    };
    (row.features, row.kv_others) = kv_store::split(next().into_text());
    Some(row)
}
