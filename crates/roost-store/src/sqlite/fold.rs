//! The fold: what the journal holds reaches `location`, many bindings in one transaction, each in its last state only.
//!
//! One thread, one connection. Rows are visible to other readers of the table within a second, or ten while the
//! server sheds load. While the table cannot be written (somebody holds its lock, the disk is full) the journal grows and
//! the fold tries again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use roost_core::{CommitOutcome, PackedRow, Receipt, Row, ShardId, Ticket, Write};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql, params};

use crate::columns::LocationColumns;
use crate::job::Receipts;
use crate::kv_store;
use crate::sqlite::journal::{Marks, Position};

/// A fold begins this long after the one before at the earliest: what comes meanwhile is gathered.
const FOLD_EVERY: Duration = Duration::from_millis(600);
/// While the server sheds load the rows wait for longer, as phones wait for the same processor: at most so long ...
const PUT_OFF: Duration = Duration::from_secs(10);
/// ... and until there are so many.
const PUT_OFF_WRITES: usize = 50_000;
/// How long a fold that failed waits before it is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often a stopping process tries; what is left is folded when it starts again.
const LAST_TRIES: u32 = 2;

/// What the fold is given, in the order of the journal.
#[derive(Debug)]
pub(crate) enum ToFold {
    /// Durable in the journal up to this position.
    Writes(Vec<Write>, Position),
    /// Rows of expired bindings: in no journal, found again at the next start.
    Purge(Vec<Write>),
    /// Tell these once everything before is in the table.
    Flush(ShardId, Ticket),
}

/// What waits for the fold's thread. It is woken when it has nothing to do, or somebody waits for it: not for each batch.
#[derive(Debug, Default)]
pub(crate) struct FoldQueue {
    waiting: Mutex<Waiting>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    items: Vec<ToFold>,
    /// Those in the items.
    writes: usize,
    is_idle: bool,
    is_closed: bool,
}

impl FoldQueue {
    pub(crate) fn send(&self, item: ToFold) {
        let mut waiting = self.lock();
        let must_ring = waiting.is_idle || matches!(item, ToFold::Flush(..));
        if let ToFold::Writes(writes, _) = &item {
            waiting.writes += writes.len();
        }
        waiting.items.push(item);
        if must_ring {
            waiting.is_idle = false;
            self.bell.notify_one();
        }
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.bell.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the first item; false when none will come.
    fn wait_for_any(&self) -> bool {
        let mut waiting = self.lock();
        while waiting.items.is_empty() && !waiting.is_closed {
            waiting.is_idle = true;
            waiting = self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.is_idle = false;
        !waiting.items.is_empty()
    }

    /// Waits until then, or until somebody waits for a fold, or nothing more will come; whether it may wait on.
    fn gather_until(&self, deadline: Instant) -> bool {
        let mut waiting = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let is_urgent = waiting.items.iter().any(|item| matches!(item, ToFold::Flush(..)));
            if left.is_zero() || is_urgent || waiting.is_closed {
                return !is_urgent && !waiting.is_closed && waiting.writes < PUT_OFF_WRITES;
            }
            let waited = self.bell.wait_timeout(waiting, left);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Everything that waits, and whether more may come.
    fn take(&self) -> (Vec<ToFold>, bool) {
        let mut waiting = self.lock();
        waiting.writes = 0;
        (std::mem::take(&mut waiting.items), !waiting.is_closed)
    }
}

/// The thread's state.
pub(crate) struct Fold {
    pub(crate) connection: Connection,
    pub(crate) columns: LocationColumns,
    pub(crate) queue: Arc<FoldQueue>,
    pub(crate) marks: Marks,
    pub(crate) receipts: Receipts,
    /// Counts folds, for the thread that makes checkpoints.
    pub(crate) folds: Arc<AtomicU64>,
    /// Counts what the server had no time for.
    pub(crate) shed: Arc<AtomicU64>,
}

/// What waits for the next fold.
#[derive(Debug, Default)]
struct Gathered {
    /// The last write of each binding, by contact id.
    by_id: HashMap<u64, Write>,
    purges: Vec<Write>,
    flushes: Vec<(ShardId, Ticket)>,
    /// The end in each round of the journal, in order.
    positions: Vec<Position>,
}

impl Fold {
    /// Runs until the journal's thread has ended and everything is folded.
    pub(crate) fn run(mut self) {
        let mut gathered = Gathered::default();
        let mut last = Instant::now();
        let mut tries_left = LAST_TRIES;
        loop {
            if gathered.is_empty() {
                if !self.queue.wait_for_any() {
                    return;
                }
                // A change after a quiet time is seen soon, and what comes with it is folded with it.
                last = last.max(Instant::now() - FOLD_EVERY / 2);
            }
            self.gather(last);
            let (items, is_open) = self.queue.take();
            for item in items {
                gathered.take(item);
            }
            last = Instant::now();
            match fold(&self.connection, &self.columns, &gathered) {
                Ok(()) => self.finish(std::mem::take(&mut gathered)),
                Err(error) => {
                    tracing::warn!(%error, rows = gathered.by_id.len(), "location cannot be written; bindings are safe in the journal");
                    if !self.connection.is_autocommit() {
                        let _ = self.connection.execute_batch("ROLLBACK");
                    }
                    for (shard, ticket) in gathered.flushes.drain(..) {
                        let failed = CommitOutcome::Failed(error.to_string());
                        (self.receipts)(vec![(shard, Receipt::Commit(ticket, failed))]);
                    }
                    if !is_open {
                        tries_left -= 1;
                        if tries_left == 0 {
                            return;
                        }
                    }
                    std::thread::sleep(AGAIN_AFTER);
                }
            }
        }
    }

    /// Waits until what came since the last fold is to be folded.
    fn gather(&self, last: Instant) {
        let mut until = last + FOLD_EVERY;
        loop {
            let shed = self.shed.load(Ordering::Relaxed);
            let has_room = self.queue.gather_until(until);
            let is_overloaded = self.shed.load(Ordering::Relaxed) != shed;
            if !has_room || !is_overloaded || until > last + PUT_OFF {
                return;
            }
            until += FOLD_EVERY;
        }
    }

    fn finish(&mut self, gathered: Gathered) {
        self.folds.fetch_add(1, Ordering::Relaxed);
        for position in gathered.positions {
            if let Err(error) = self.marks.folded(position) {
                // These rows are given to the table again at the next start, which changes nothing.
                tracing::debug!(%error, "the journal's header");
            }
        }
        if !gathered.flushes.is_empty() {
            let told = |(shard, ticket)| (shard, Receipt::Commit(ticket, CommitOutcome::Committed));
            (self.receipts)(gathered.flushes.into_iter().map(told).collect());
        }
    }
}

impl Gathered {
    fn take(&mut self, next: ToFold) {
        match next {
            ToFold::Writes(writes, position) => {
                self.add(writes);
                match self.positions.last_mut().filter(|last| last.is_same_round(position)) {
                    Some(last) => *last = position,
                    None => self.positions.push(position),
                }
            }
            ToFold::Purge(writes) => self.purges.extend(writes),
            ToFold::Flush(shard, ticket) => self.flushes.push((shard, ticket)),
        }
    }

    fn add(&mut self, writes: Vec<Write>) {
        for write in writes {
            match &write {
                Write::Put(row) => {
                    let contact_id = row.contact_id();
                    self.by_id.insert(contact_id, write);
                }
                Write::Remove { contact_id, .. } => {
                    let contact_id = *contact_id;
                    self.by_id.insert(contact_id, write);
                }
                Write::Purge { .. } => self.purges.push(write),
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.by_id.is_empty()
            && self.purges.is_empty()
            && self.flushes.is_empty()
            && self.positions.is_empty()
    }
}

/// Folds what a journal of an earlier process holds.
pub(crate) fn fold_all(
    connection: &Connection,
    columns: &LocationColumns,
    writes: Vec<Write>,
) -> rusqlite::Result<()> {
    let mut gathered = Gathered::default();
    gathered.add(writes);
    fold(connection, columns, &gathered)
}

/// One transaction. A row that the table refuses harms no other; an error means that nothing was written.
fn fold(connection: &Connection, columns: &LocationColumns, gathered: &Gathered) -> rusqlite::Result<()> {
    if gathered.by_id.is_empty() && gathered.purges.is_empty() {
        return Ok(());
    }
    // In the table's own order, so that each page is visited once.
    let mut in_order: Vec<_> = gathered.by_id.iter().collect();
    in_order.sort_unstable_by_key(|(contact_id, _)| **contact_id as i64);
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let mut statements = Statements::new(connection, columns)?;
    for write in in_order.into_iter().map(|(_, write)| write).chain(&gathered.purges) {
        if let Err(error) = statements.run(write) {
            if connection.is_autocommit() {
                // SQLite rolled everything back: a full disk, an I/O error.
                return Err(error);
            }
            tracing::warn!(%error, "the table refused a row; the binding is lost when roost stops before its next REGISTER");
        }
    }
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

/// The statements that change `location`.
pub(crate) struct Statements<'c> {
    put: CachedStatement<'c>,
    remove: CachedStatement<'c>,
    purge: CachedStatement<'c>,
    local_time: CachedStatement<'c>,
    /// The last time written, as text.
    stamp: (u64, String),
}

impl<'c> Statements<'c> {
    pub(crate) fn new(connection: &'c Connection, columns: &LocationColumns) -> rusqlite::Result<Self> {
        Ok(Statements {
            put: connection.prepare_cached(&columns.sql(PUT))?,
            remove: connection
                .prepare_cached(&columns.sql(
                    "DELETE FROM location WHERE {contact_id} = ?1 AND {username} = ?2 COLLATE NOCASE",
                ))?,
            purge: connection.prepare_cached(&columns.sql(PURGE))?,
            local_time: connection.prepare_cached("SELECT datetime(?1, 'unixepoch', 'localtime')")?,
            stamp: (u64::MAX, String::new()),
        })
    }

    pub(crate) fn run(&mut self, write: &Write) -> rusqlite::Result<()> {
        match write {
            Write::Put(row) => self.put(row),
            Write::Remove { contact_id, username } => {
                self.remove.execute(params![*contact_id as i64, Text(username)]).map(drop)
            }
            Write::Purge { contact_id, expires_by } => {
                self.purge.execute([*contact_id as i64, *expires_by as i64]).map(drop)
            }
        }
    }

    fn put(&mut self, packed: &PackedRow) -> rusqlite::Result<()> {
        let row: Row<&[u8]> = packed.row();
        if self.stamp.0 != row.last_modified {
            let stamp = self.local_time.query_row([row.last_modified as i64], |row| row.get(0))?;
            self.stamp = (row.last_modified, stamp);
        }
        let written = self.put.execute(params![
            row.contact_id as i64,
            Text(row.username),
            row.domain.map(Text),
            Text(row.contact),
            row.received.map(Text),
            row.expires as i64,
            row.q.map_or(-1.0, |q| f64::from(q) / 1000.0),
            Text(row.callid),
            row.cseq,
            self.stamp.1,
            row.flags,
            Text(row.cflags),
            Text(row.user_agent),
            row.socket.map(Text),
            row.methods,
            row.sip_instance.map(Text),
            row.path.map(Text),
            kv_store::joined(&row).as_deref().map(Text),
        ])?;
        match written {
            // Another AOR has this contact_id.
            0 => Err(rusqlite::Error::StatementChangedRows(0)),
            _ => Ok(()),
        }
    }
}

/// Text as TEXT; what is not UTF-8 as a blob, so that no byte is lost.
pub(crate) struct Text<'a>(pub(crate) &'a [u8]);

impl<'a> Text<'a> {
    pub(crate) fn value(&self) -> ValueRef<'a> {
        match std::str::from_utf8(self.0) {
            Ok(_) => ValueRef::Text(self.0),
            Err(_) => ValueRef::Blob(self.0),
        }
    }
}

impl ToSql for Text<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.value()))
    }
}

pub(crate) const PURGE: &str =
    "DELETE FROM location WHERE {contact_id} = ?1 AND {expires} > 0 AND {expires} <= ?2";

/// Repeating it changes nothing; a row of another AOR is never touched (one that spells ours in another case, or has a
/// domain where `use_domain` is off, is ours); columns that roost does not know keep their
/// values.
const PUT: &str = "INSERT INTO location ({contact_id}, {username}, {domain}, {contact}, {received}, {expires}, {q}, {callid}, {cseq}, \
    {last_modified}, {flags}, {cflags}, {user_agent}, {socket}, {methods}, {sip_instance}, {path}, {kv_store}) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18) \
    ON CONFLICT ({contact_id}) DO UPDATE SET {username} = excluded.{username}, {domain} = excluded.{domain}, {contact} = excluded.{contact}, {received} = excluded.{received}, \
    {expires} = excluded.{expires}, {q} = excluded.{q}, {callid} = excluded.{callid}, {cseq} = excluded.{cseq}, \
    {last_modified} = excluded.{last_modified}, {flags} = excluded.{flags}, {cflags} = excluded.{cflags}, \
    {user_agent} = excluded.{user_agent}, {socket} = excluded.{socket}, {methods} = excluded.{methods}, \
    {sip_instance} = excluded.{sip_instance}, {path} = excluded.{path}, \
    {kv_store} = excluded.{kv_store} \
    WHERE location.{username} = excluded.{username} COLLATE NOCASE AND (location.{domain} = excluded.{domain} COLLATE NOCASE \
    OR location.{domain} IS NULL OR excluded.{domain} IS NULL)";
