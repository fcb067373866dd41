//! The thread that writes to a database server: everything that is queued becomes one transaction, and while it commits
//! the next one gathers.
//!
//! A batch that the server refuses because of one row is done commit by commit, so that only the guilty one fails. When the
//! server is away, or the answer to a commit never came, all commits of the batch fail: they are idempotent, and what is in
//! doubt is told to the database again.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use roost_core::{CommitOutcome, Exclusive, Receipt, Row, Write};

use crate::client::Client;
use crate::columns::{EXPIRED, LocationColumns};
use crate::error::{DbError, StoreError};
use crate::job::{Batches, Commit, Gathered, Job, PURGE_EVERY, Receipts, expired_by, gather, spawn};
use crate::link::Link;
use crate::location::{read_rows, select as select_rows};
use crate::locks::{self, LOCK_WAIT, LockBy, Locks};
use crate::store::Store;
use crate::value::Value;

/// Commits of one transaction at most.
const MAX_BATCH: usize = 1_024;
/// How often a batch is tried that another transaction is in the way of.
const TRIES: u32 = 8;
/// How long the other transaction is given before the second try; each later one waits that much longer.
const CONFLICT_PAUSE: Duration = Duration::from_millis(2);
/// The first time, after the start.
const PURGE_FIRST: Duration = Duration::from_secs(5);
/// Rows that one look finds at most, and that one transaction deletes.
const PURGE_AT_MOST: i64 = 50_000;
const PURGE_AT_ONCE: usize = 500;

/// Starts the threads; they end when nobody can send any more.
///
/// # Errors
/// When a thread cannot be started.
pub(crate) fn start(
    store: &Store,
    queue: Receiver<Job>,
    receipts: Receipts,
    batches: Batches,
) -> Result<[JoinHandle<()>; 2], StoreError> {
    let (alive, gone) = channel();
    let writer = Writer {
        link: Link::new(store.database.clone()),
        columns: store.columns.location.clone(),
        live_rows: live_rows(store),
        receipts,
        batches,
    };
    let mut sweeper =
        Sweeper { link: Link::new(store.database.clone()), columns: store.columns.location.clone() };
    Ok([
        spawn("roost-writer", move || writer.run(&queue, alive))?,
        spawn("roost-purge", move || sweeper.run(&gone))?,
    ])
}

struct Writer {
    link: Link,
    columns: LocationColumns,
    live_rows: LiveRows,
    receipts: Receipts,
    batches: Batches,
}

/// How an AOR is locked, and the statement that reads its live rows.
struct LiveRows {
    lock: LockBy,
    select: String,
}

fn live_rows(store: &Store) -> LiveRows {
    let by = match store.columns.use_domain {
        true => "{username} = ? AND {domain} = ?",
        false => "{username} = ?",
    };
    let template =
        format!("{} WHERE {by} AND ({{expires}} = 0 OR {{expires}} > ?)", select_rows(&store.database));
    LiveRows { lock: LockBy::of(&store.database), select: store.columns.location.sql(&template) }
}

impl Writer {
    /// `alive` goes with it.
    fn run(mut self, queue: &Receiver<Job>, alive: Sender<()>) {
        while let Ok(first) = queue.recv() {
            let Gathered { commits, purges } = gather(first, queue, MAX_BATCH);
            if !commits.is_empty() {
                self.batches.count(commits.len());
                let (count, begun) = (commits.len(), Instant::now());
                self.write_batch(commits);
                self.batches.done(count, begun);
            }
            if let Err(error) = delete(&mut self.link, &self.columns, &purges) {
                // They are found again when the sweeper looks.
                tracing::debug!(%error, "expired rows are not deleted");
            }
        }
        drop(alive);
    }

    fn write_batch(&mut self, batch: Vec<Commit>) {
        let mut told: Vec<CommitOutcome> = Vec::new();
        let failure = self.write(&batch, &mut told).err();
        let is_row = matches!(&failure, Some(StoreError::Sql { source, .. }) if !source.is_lost());
        self.batches.note(failure.is_some() && !is_row);
        if let Some(error) = failure {
            tracing::warn!(%error, commits = batch.len(), "location was not written");
            told = match is_row && batch.len() > 1 {
                true => batch.iter().map(|commit| self.write_one(commit)).collect(),
                false => batch.iter().map(|_| failed(&error)).collect(),
            };
        }
        let receipts = batch.iter().zip(told);
        let receipt =
            |(commit, outcome): (&Commit, _)| (commit.shard, Receipt::Commit(commit.ticket, outcome));
        (self.receipts)(receipts.map(receipt).collect());
    }

    fn write_one(&mut self, commit: &Commit) -> CommitOutcome {
        let mut told = Vec::new();
        match self.write(std::slice::from_ref(commit), &mut told) {
            Ok(()) => told.pop().unwrap_or(CommitOutcome::Committed),
            Err(error) => failed(&error),
        }
    }

    /// All or none of the commits, but those that the Occupied rule refuses or whose AOR another node holds; what became of
    /// each.
    fn write(&mut self, batch: &[Commit], told: &mut Vec<CommitOutcome>) -> Result<(), StoreError> {
        let Writer { link, columns, live_rows, .. } = self;
        let mut done = Ok(());
        let wait_until = Instant::now() + LOCK_WAIT;
        for attempt in 0..TRIES {
            std::thread::sleep(CONFLICT_PAUSE * attempt);
            done = link.run(|client| {
                told.clear();
                match batch.iter().any(|commit| commit.exclusive.is_some()) {
                    true => write_exclusive(client, columns, live_rows, wait_until, batch, told),
                    false => {
                        let writes = batch.iter().flat_map(|commit| &commit.writes);
                        told.extend(batch.iter().map(|_| CommitOutcome::Committed));
                        client.write(columns, writes, false)
                    }
                }
            });
            if !matches!(&done, Err(StoreError::Sql { source, .. }) if source.is_conflict()) {
                break;
            }
        }
        done
    }
}

fn failed(error: &StoreError) -> CommitOutcome {
    CommitOutcome::Failed(error.to_string())
}

/// One transaction: nobody else can write these AORs' rows between the question whose they are and the commit.
fn write_exclusive(
    client: &mut Client,
    columns: &LocationColumns,
    live_rows: &LiveRows,
    wait_until: Instant,
    batch: &[Commit],
    told: &mut Vec<CommitOutcome>,
) -> Result<(), DbError> {
    let conditions = conditions(batch);
    told.extend(batch.iter().map(|_| CommitOutcome::Committed));
    let names = conditions.iter().map(|(_, exclusive)| (&*exclusive.username, exclusive.domain.as_deref()));
    let locks = Locks::new(live_rows.lock, wait_until, names.collect());
    locks.hold(client, |client, held| {
        decide(client, live_rows, held, &conditions, told)?;
        let kept =
            batch.iter().zip(&*told).filter(|(_, outcome)| matches!(outcome, CommitOutcome::Committed));
        client.write(columns, kept.flat_map(|(commit, _)| &commit.writes), true)
    })
}

/// The condition of a commit, and its place in the batch.
type Condition<'a> = (usize, &'a Exclusive);

/// The conditions in one order for all nodes: then none waits for another that waits for it.
fn conditions(batch: &[Commit]) -> Vec<Condition<'_>> {
    let all = batch.iter().enumerate();
    let mut conditions: Vec<Condition<'_>> =
        all.filter_map(|(at, commit)| Some((at, commit.exclusive.as_deref()?))).collect();
    conditions.sort_unstable_by_key(|(_, exclusive)| (&exclusive.username, &exclusive.domain));
    conditions
}

/// Reads whose the AORs are, and decides.
fn decide(
    client: &mut Client,
    live_rows: &LiveRows,
    held: &[bool],
    conditions: &[Condition<'_>],
    told: &mut [CommitOutcome],
) -> Result<(), DbError> {
    for (&(at, exclusive), &is_held) in conditions.iter().zip(held) {
        let Some(outcome) = told.get_mut(at) else { continue };
        if !is_held {
            *outcome = CommitOutcome::Failed(locks::HELD_BY_ANOTHER.to_string());
            continue;
        }
        let mut names = vec![Value::from(&*exclusive.username)];
        names.extend(exclusive.domain.as_deref().map(Value::from));
        names.push(Value::Int(exclusive.now_unix_s as i64));
        let rows: Vec<Row> = read_rows(client, &live_rows.select, &names)?;
        if !exclusive.allows(&rows) {
            *outcome = CommitOutcome::Occupied;
        }
    }
    Ok(())
}

/// Deletes rows of expired bindings, some in each transaction.
fn delete(link: &mut Link, columns: &LocationColumns, purges: &[Write]) -> Result<(), StoreError> {
    let mut parts = purges.chunks(PURGE_AT_ONCE);
    parts.try_for_each(|some| link.run(|client| client.write(columns, some.iter(), false)))
}

/// Deletes rows that nobody needs, beside the writer.
struct Sweeper {
    link: Link,
    columns: LocationColumns,
}

impl Sweeper {
    fn run(&mut self, gone: &Receiver<()>) {
        let mut wait = PURGE_FIRST;
        while let Err(RecvTimeoutError::Timeout) = gone.recv_timeout(wait) {
            wait = PURGE_EVERY;
            let swept = self.look().and_then(|found| delete(&mut self.link, &self.columns, &found));
            if let Err(error) = swept {
                tracing::debug!(%error, "expired rows are not deleted");
            }
        }
    }

    /// Rows that expired a minute ago or more; what is renewed meanwhile stays.
    fn look(&mut self) -> Result<Vec<Write>, StoreError> {
        let expires_by = expired_by();
        let sql = self.columns.sql(EXPIRED);
        let params = [Value::Int(expires_by as i64), Value::Int(PURGE_AT_MOST)];
        let rows = self.link.run(|client| client.all(&sql, &params))?;
        let ids = rows.into_iter().filter_map(|row| row.into_iter().next()?.int());
        Ok(ids.map(|id| Write::Purge { contact_id: id as u64, expires_by }).collect())
    }
}
