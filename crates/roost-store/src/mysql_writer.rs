//! The thread that writes to MySQL or MariaDB: everything that is queued becomes one transaction, and while it commits the
//! next one gathers.
//!
//! A batch that the server refuses because of one row is done commit by commit, so that only the guilty one fails. When the
//! server is away, or the answer to a commit never came, all commits of the batch fail: they are idempotent, and what is in
//! doubt is told to the database again.

use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use mysql::prelude::Queryable;
use mysql::{Conn, Value};
use roost_core::{Outcome, PackedRow, Row, Write};

use crate::mysql::{Link, MySql, is_lost};
use crate::writer::Job;
use crate::{Commit, Receipts, StoreError};

/// Commits of one transaction at most.
const MAX_BATCH: usize = 1_024;
/// Rows of one statement: a batch is cut into these, so that few statements are ever prepared.
const ROWS: [usize; 4] = [128, 32, 8, 1];

/// Starts the thread; it ends when nobody can send any more.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn start(
    store: &MySql,
    queue: Receiver<Job>,
    receipts: Receipts,
) -> Result<JoinHandle<()>, StoreError> {
    let link = store.link();
    let run = move || write_all(link, &queue, &receipts);
    std::thread::Builder::new().name("roost-writer".into()).spawn(run).map_err(StoreError::Thread)
}

fn write_all(mut link: Link, queue: &Receiver<Job>, receipts: &Receipts) {
    while let Ok(first) = queue.recv() {
        let mut batch: Vec<Commit> = Vec::new();
        let mut purges = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Commits(commits) => batch.extend(commits),
                Job::Purge(writes) => purges.extend(writes),
            }
            next = if batch.len() < MAX_BATCH { queue.try_recv().ok() } else { None };
        }
        if !batch.is_empty() {
            write_batch(&mut link, batch, receipts);
        }
        if !purges.is_empty()
            && let Err(error) = link.run(|conn| write(conn, purges.iter()))
        {
            // They are found again at the next start.
            tracing::debug!(%error, "expired rows are not deleted");
        }
    }
}

fn write_batch(link: &mut Link, batch: Vec<Commit>, receipts: &Receipts) {
    let writes = || batch.iter().flat_map(|commit| &commit.writes);
    let failure = link.run(|conn| write(conn, writes())).err();
    let is_row = matches!(&failure, Some(StoreError::Server { source, .. })
        if source.downcast_ref::<mysql::Error>().is_some_and(|error| !is_lost(error)));
    let mut told = Vec::with_capacity(batch.len());
    for Commit { shard, ticket, writes } in &batch {
        let outcome = match &failure {
            None => Outcome::Committed,
            Some(_) if is_row && batch.len() > 1 => match link.run(|conn| write(conn, writes.iter())) {
                Ok(()) => Outcome::Committed,
                Err(error) => Outcome::Failed(error.to_string()),
            },
            Some(error) => Outcome::Failed(error.to_string()),
        };
        told.push((*shard, *ticket, outcome));
    }
    if let Some(error) = failure {
        tracing::warn!(%error, commits = batch.len(), "location was not written");
    }
    receipts(told);
}

/// Does all writes, or none: one transaction, or one statement that is its own.
pub(crate) fn write<'w>(
    conn: &mut Conn,
    writes: impl Iterator<Item = &'w Write> + Clone,
) -> mysql::Result<()> {
    let rows: Vec<&PackedRow> = writes
        .clone()
        .filter_map(|write| if let Write::Put(row) = write { Some(row) } else { None })
        .collect();
    let others = || writes.clone().filter(|write| !matches!(write, Write::Put(_)));
    let is_single = others().next().is_none() && ROWS.contains(&rows.len());
    if is_single {
        return put(conn, &rows);
    }
    if rows.is_empty() && others().next().is_none() {
        return Ok(());
    }
    conn.query_drop("START TRANSACTION")?;
    let done = put(conn, &rows).and_then(|()| others().try_for_each(|write| remove(conn, write)));
    match done {
        Ok(()) => conn.query_drop("COMMIT"),
        Err(error) => {
            if !is_lost(&error) {
                conn.query_drop("ROLLBACK")?;
            }
            Err(error)
        }
    }
}

/// Inserts rows, or replaces those with their ids.
fn put(conn: &mut Conn, mut rows: &[&PackedRow]) -> mysql::Result<()> {
    while !rows.is_empty() {
        let count = ROWS.into_iter().find(|count| *count <= rows.len()).unwrap_or(1);
        let (now, later) = rows.split_at(count);
        let statement = conn.prep(upsert(count))?;
        let mut params = Vec::with_capacity(count * COLUMNS.len());
        now.iter().for_each(|row| push_row(&row.row(), &mut params));
        conn.exec_drop(&statement, params)?;
        rows = later;
    }
    Ok(())
}

fn remove(conn: &mut Conn, write: &Write) -> mysql::Result<()> {
    match write {
        Write::Put(_) => Ok(()),
        Write::Remove { contact_id, username } => conn.exec_drop(
            "DELETE FROM location WHERE contact_id = ? AND username = ?",
            (contact_id, Value::Bytes(username.to_vec())),
        ),
        Write::Purge { contact_id, expires_by } => conn.exec_drop(
            "DELETE FROM location WHERE contact_id = ? AND expires > 0 AND expires <= ?",
            (contact_id, expires_by),
        ),
    }
}

/// The columns in the order of [`push_row`]. Those that tell whose row it is stand last: MySQL assigns from left to right.
const COLUMNS: [&str; 17] = [
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

fn push_row(row: &Row<&[u8]>, params: &mut Vec<Value>) {
    let text = |text: &[u8]| Value::Bytes(text.to_vec());
    let optional = |text: Option<&[u8]>| text.map_or(Value::NULL, |text| Value::Bytes(text.to_vec()));
    params.extend([
        Value::UInt(row.contact_id),
        text(row.contact),
        optional(row.received),
        optional(row.path),
        Value::UInt(row.expires),
        Value::Double(row.q.map_or(-1.0, |q| f64::from(q) / 1000.0)),
        text(row.callid),
        Value::UInt(row.cseq.into()),
        Value::UInt(row.last_modified),
        Value::UInt(row.flags.into()),
        text(row.cflags),
        text(row.user_agent),
        optional(row.socket),
        row.methods.map_or(Value::NULL, |methods| Value::UInt(methods.into())),
        optional(row.sip_instance),
        text(row.username),
        optional(row.domain),
    ]);
}

/// Repeating it changes nothing. A row of another AOR with the same id is not touched: its key would become NULL, which the
/// server refuses.
fn upsert(count: usize) -> String {
    let marks = COLUMNS.map(|column| if column == "last_modified" { "FROM_UNIXTIME(?)" } else { "?" });
    let row = format!("({})", marks.join(", "));
    let rows = vec![row.as_str(); count].join(", ");
    let sets = COLUMNS.map(|column| match column {
        "contact_id" => {
            "contact_id = IF(username = VALUES(username) AND (domain IS NULL OR VALUES(domain) IS NULL OR \
             domain = VALUES(domain)), contact_id, NULL)"
                .to_string()
        }
        column => format!("{column} = VALUES({column})"),
    });
    let (columns, sets) = (COLUMNS.join(", "), sets.join(", "));
    format!("INSERT INTO location ({columns}) VALUES {rows} ON DUPLICATE KEY UPDATE {sets}")
}
