//! The `location` table: the names of its columns (`[usrloc]`), and its rows as they are read.

use roost_core::Row;

use crate::client::{Client, DbError, Value};
use crate::database::Database;
use crate::{Page, StoreError};

/// Column names as OpenSIPS makes them, and the keys of `[usrloc]` that name others.
pub const LOCATION_COLUMNS: [(&str, &str); 17] = [
    ("contact_id", "contactid_column"),
    ("username", "user_column"),
    ("domain", "domain_column"),
    ("contact", "contact_column"),
    ("received", "received_column"),
    ("path", "path_column"),
    ("expires", "expires_column"),
    ("q", "q_column"),
    ("callid", "callid_column"),
    ("cseq", "cseq_column"),
    ("last_modified", "last_modified_column"),
    ("flags", "flags_column"),
    ("cflags", "cflags_column"),
    ("user_agent", "user_agent_column"),
    ("socket", "socket_column"),
    ("methods", "methods_column"),
    ("sip_instance", "sip_instance_column"),
];

/// The names of `location`'s columns, in the order of [`LOCATION_COLUMNS`].
#[derive(Debug, Clone)]
pub struct LocationColumns(pub [String; 17]);

impl Default for LocationColumns {
    fn default() -> Self {
        LocationColumns(LOCATION_COLUMNS.map(|(name, _)| name.to_string()))
    }
}

impl LocationColumns {
    /// Whether the table has them all, under names that columns may have.
    pub(crate) fn check(&self, has_column: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        for (column, (_, key)) in self.0.iter().zip(LOCATION_COLUMNS) {
            if !crate::is_name(column) {
                return Err(StoreError::ColumnName { column: column.clone(), section: "usrloc", key });
            }
            if !has_column(column) {
                let (table, section) = ("location", "usrloc");
                return Err(StoreError::MissingColumn { column: column.clone(), table, section, key });
            }
        }
        Ok(())
    }

    /// SQL with the names in place of `{contact_id}`, `{username}` and so on.
    pub(crate) fn sql(&self, template: &str) -> String {
        let names = self.0.iter().zip(LOCATION_COLUMNS);
        names.fold(template.to_string(), |sql, (name, (usual, _))| {
            sql.replace(&format!("{{{usual}}}"), &format!("\"{name}\""))
        })
    }
}

/// What any server's text column takes of a User-Agent, which may be any bytes and is only shown: no phone shall be refused
/// for it, and OpenSIPS's tables are often in an encoding of few characters.
pub(crate) fn shown_agent(user_agent: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let fits = |byte: &u8| byte.is_ascii() && *byte != 0;
    match user_agent.iter().all(fits) {
        true => user_agent.into(),
        false => user_agent.iter().map(|byte| if fits(byte) { *byte } else { b'?' }).collect(),
    }
}

/// The beginning of a statement whose rows [`read_row`] takes, with `{names}`.
pub(crate) fn select(database: &Database) -> String {
    format!(
        "SELECT {{contact_id}}, {{username}}, {{domain}}, {{contact}}, {{received}}, {{expires}}, {{q}}, {{callid}}, \
         {{cseq}}, {}, {{user_agent}}, {{socket}}, {{methods}}, {{sip_instance}}, {{cflags}}, {{flags}}, {{path}} \
         FROM location",
        database.unix_of_last_modified()
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

/// The statement that finds rows of bindings that have expired by a time; how many at most is its second parameter.
pub(crate) const EXPIRED: &str =
    "SELECT {contact_id} FROM location WHERE {expires} > 0 AND {expires} <= ? LIMIT ?";

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

fn read_row(columns: Vec<Value>) -> Option<Row> {
    let mut columns = columns.into_iter();
    let mut next = || columns.next().unwrap_or(Value::Null);
    Some(Row {
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
    })
}
