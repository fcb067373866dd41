//! The thread that writes to a database server: everything that is queued becomes one transaction, and while it commits
//! the next one gathers.
//!
//! A batch that the server refuses because of one row is done commit by commit, so that only the guilty one fails. When the
//! server is away, or the answer to a commit never came, all commits of the batch fail: they are idempotent, and what is in
//! doubt is told to the database again.

use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use roost_core::{CommitOutcome, Exclusive, Receipt, Row, Write};

use crate::client::Client;
use crate::columns::{EXPIRED, LocationColumns};
use crate::database::Database;
use crate::error::{DbError, StoreError};
use crate::job::{Batches, Commit, Gathered, Job, PURGE_EVERY, Receipts, expired_by, gather, spawn};
use crate::link::Link;
use crate::location::{read_rows, select as select_rows};
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

/// One lock for each AOR, which rows that are not there have, too: locks of rows or gaps do not exclude two nodes that both
/// find nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LockBy {
    /// Until the end of the transaction (PostgreSQL).
    Transaction,
    /// By name, until it is released (MariaDB, MySQL).
    Name,
}

/// Names that one statement tries at most.
const TRIED_AT_ONCE: usize = 16;
/// How long a batch waits for locks that other nodes hold, all together.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How long until a lock is tried again, the first time and at most.
const LOCK_PAUSE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(16)];

fn live_rows(store: &Store) -> LiveRows {
    let is_postgres = matches!(store.database, Database::Postgres(_));
    let by = match store.columns.use_domain {
        true => "{username} = ? AND {domain} = ?",
        false => "{username} = ?",
    };
    let template =
        format!("{} WHERE {by} AND ({{expires}} = 0 OR {{expires}} > ?)", select_rows(&store.database));
    LiveRows {
        lock: if is_postgres { LockBy::Transaction } else { LockBy::Name },
        select: store.columns.location.sql(&template),
    }
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
    let mut locks = Locks { by: live_rows.lock, wait_until, held: vec![false; conditions.len()] };
    // Before the transaction where that is possible, so that it sees what the last holder has committed.
    let locked = match locks.by {
        LockBy::Name => locks.take(client, &conditions),
        LockBy::Transaction => Ok(()),
    };
    let done =
        locked.and_then(|()| write_locked(client, columns, live_rows, &mut locks, batch, &conditions, told));
    if !done.as_ref().is_err_and(DbError::is_lost) {
        // Some are ours although not all could be taken.
        locks.release(client, &conditions)?;
    }
    done
}

fn write_locked(
    client: &mut Client,
    columns: &LocationColumns,
    live_rows: &LiveRows,
    locks: &mut Locks,
    batch: &[Commit],
    conditions: &[Condition<'_>],
    told: &mut [CommitOutcome],
) -> Result<(), DbError> {
    client.begin()?;
    let locked = match locks.by {
        LockBy::Name => Ok(()),
        LockBy::Transaction => locks.take(client, conditions),
    };
    let decided = locked.and_then(|()| decide(client, live_rows, &locks.held, conditions, told));
    let kept = batch.iter().zip(&*told).filter(|(_, outcome)| matches!(outcome, CommitOutcome::Committed));
    let writes = kept.flat_map(|(commit, _)| &commit.writes);
    let done = decided.and_then(|()| client.write(columns, writes, true));
    if let Err(error) = &done
        && !error.is_lost()
    {
        client.run("ROLLBACK")?;
    }
    done
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

/// The locks of a batch's AORs.
struct Locks {
    by: LockBy,
    /// Until then locks are waited for that others hold.
    wait_until: Instant,
    /// Which of the conditions' are ours.
    held: Vec<bool>,
}

/// The lock of an AOR by name: at most 64 characters, and the server's, not the database's.
const LOCK_NAME: &str = "CONCAT('roost ', MD5(CONCAT(DATABASE(), '/', ?, '@', ?)))";

impl Locks {
    /// Takes the locks in order. No lock after one that is waited for is held meanwhile, or two nodes could wait for one
    /// another. What others hold for too long stays theirs.
    fn take(&mut self, client: &mut Client, conditions: &[Condition<'_>]) -> Result<(), DbError> {
        let mut from = 0;
        let mut pause = LOCK_PAUSE[0];
        while from < conditions.len() {
            let at_once = match self.by {
                LockBy::Name => TRIED_AT_ONCE,
                // Before its transaction ends it cannot be released.
                LockBy::Transaction => 1,
            };
            let to = conditions.len().min(from + at_once);
            self.try_some(client, conditions, from..to)?;
            let missing = self.held[from..to].iter().position(|is_held| !is_held);
            let Some(missing) = missing.filter(|_| Instant::now() < self.wait_until) else {
                from = to;
                continue;
            };
            from += missing;
            self.release_some(client, conditions, from..to)?;
            std::thread::sleep(pause);
            pause = (pause * 2).min(LOCK_PAUSE[1]);
        }
        Ok(())
    }

    /// Takes those of some locks that nobody holds.
    fn try_some(
        &mut self,
        client: &mut Client,
        conditions: &[Condition<'_>],
        some: Range<usize>,
    ) -> Result<(), DbError> {
        let one = match self.by {
            LockBy::Name => format!("GET_LOCK({LOCK_NAME}, 0)"),
            LockBy::Transaction => {
                "CASE WHEN pg_try_advisory_xact_lock(5060, hashtext(?)) THEN 1 ELSE 0 END".into()
            }
        };
        let params = conditions[some.clone()].iter().flat_map(|&condition| self.names(condition)).collect();
        let taken = select(client, &one, some.len(), params)?;
        for (is_held, taken) in self.held[some].iter_mut().zip(taken) {
            *is_held = taken.int() == Some(1);
        }
        Ok(())
    }

    fn release(&mut self, client: &mut Client, conditions: &[Condition<'_>]) -> Result<(), DbError> {
        if self.by == LockBy::Transaction {
            return Ok(());
        }
        let mut parts = (0..conditions.len()).step_by(TRIED_AT_ONCE);
        parts.try_for_each(|from| {
            self.release_some(client, conditions, from..conditions.len().min(from + TRIED_AT_ONCE))
        })
    }

    fn release_some(
        &mut self,
        client: &mut Client,
        conditions: &[Condition<'_>],
        some: Range<usize>,
    ) -> Result<(), DbError> {
        let held: Vec<Condition<'_>> =
            some.clone().filter(|&at| self.held[at]).map(|at| conditions[at]).collect();
        if !held.is_empty() {
            let params = held.iter().flat_map(|&condition| self.names(condition)).collect();
            select(client, &format!("RELEASE_LOCK({LOCK_NAME})"), held.len(), params)?;
        }
        self.held[some].fill(false);
        Ok(())
    }

    /// What the name of a lock is made from.
    fn names(&self, (_, exclusive): Condition<'_>) -> impl Iterator<Item = Value> {
        let domain = || Value::from(exclusive.domain.as_deref().unwrap_or(&[]));
        let domain = (self.by == LockBy::Name).then(domain);
        std::iter::once(Value::from(&*exclusive.username)).chain(domain)
    }
}

/// Evaluates an expression many times in one statement.
fn select(client: &mut Client, one: &str, times: usize, params: Vec<Value>) -> Result<Vec<Value>, DbError> {
    let rows = client.all(&format!("SELECT {}", vec![one; times].join(", ")), &params)?;
    Ok(rows.into_iter().flatten().collect())
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
            let wait = LOCK_WAIT.as_secs();
            *outcome = CommitOutcome::Failed(format!("another node has held the AOR's lock for {wait} s"));
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
