//! The thread that writes to a database server: everything that is queued becomes one transaction, and while it commits
//! the next one gathers.
//!
//! A batch that the server refuses because of one row is done commit by commit, so that only the guilty one fails. When the
//! server is away, or the answer to a commit never came, all commits of the batch fail: they are idempotent, and what is in
//! doubt is told to the database again.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use roost_core::{Claim, Outcome, Row, Write};

use crate::client::{Client, DbError, Link, Value};
use crate::location::{LocationColumns, read_rows};
use crate::writer::{Batches, Job};
use crate::{Commit, Receipts, Store, StoreError};

/// Commits of one transaction at most.
const MAX_BATCH: usize = 1_024;
/// How often a batch is tried that another transaction is in the way of.
const TRIES: usize = 4;
/// How often rows are looked for whose binding has expired and was not deleted: a purge that failed, rows of a time when
/// roost did not run.
const PURGE_EVERY: Duration = Duration::from_secs(60);
/// The first time, after the start.
const PURGE_FIRST: Duration = Duration::from_secs(5);
/// Rows that one look finds at most, and that one transaction deletes.
const PURGE_AT_MOST: usize = 50_000;
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
    let (to_writer, purges) = std::sync::mpsc::sync_channel(1);
    let (alive, gone) = channel();
    let writer = Writer {
        link: Link::new(store.database.clone()),
        columns: store.columns.location.clone(),
        live_rows: live_rows(store),
        receipts,
        batches,
    };
    let mut sweeper = Sweeper {
        link: Link::new(store.database.clone()),
        columns: store.columns.location.clone(),
        purges: to_writer,
    };
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new().name(name.into()).spawn(run).map_err(StoreError::Thread)
    };
    Ok([
        spawn("roost-writer", Box::new(move || writer.run(&queue, &purges, alive)))?,
        spawn("roost-purge", Box::new(move || sweeper.run(&gone)))?,
    ])
}

struct Writer {
    link: Link,
    columns: LocationColumns,
    live_rows: LiveRows,
    receipts: Receipts,
    batches: Batches,
}

/// The statements that lock an AOR and read its live rows.
struct LiveRows {
    /// For those kinds of databases in which rows that are not there cannot be locked.
    lock: Option<&'static str>,
    select: String,
}

fn live_rows(store: &Store) -> LiveRows {
    let is_postgres = matches!(store.database, crate::database::Database::Postgres(_));
    let by = match store.columns.use_domain {
        true => "{username} = ? AND {domain} = ?",
        false => "{username} = ?",
    };
    let lock = if is_postgres { "" } else { " FOR UPDATE" };
    let template = format!(
        "{} WHERE {by} AND ({{expires}} = 0 OR {{expires}} > ?){lock}",
        crate::location::select(&store.database)
    );
    LiveRows {
        lock: is_postgres.then_some("SELECT pg_advisory_xact_lock(5060, hashtext(?))"),
        select: store.columns.location.sql(&template),
    }
}

impl Writer {
    /// `alive` goes with it.
    fn run(mut self, queue: &Receiver<Job>, purges: &Receiver<Vec<Write>>, alive: Sender<()>) {
        while let Ok(first) = queue.recv() {
            let mut batch: Vec<Commit> = Vec::new();
            let mut expired = Vec::new();
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Commits(commits) => batch.extend(commits),
                    Job::Purge(writes) => expired.extend(writes),
                }
                next = if batch.len() < MAX_BATCH { queue.try_recv().ok() } else { None };
            }
            if !batch.is_empty() {
                self.batches.count(batch.len());
                self.write_batch(batch);
            }
            expired.extend(purges.try_recv().unwrap_or_default());
            for some in expired.chunks(PURGE_AT_ONCE) {
                if let Err(error) = self.link.run(|client| client.write(&self.columns, some.iter())) {
                    // They are found again when somebody looks.
                    tracing::debug!(%error, "expired rows are not deleted");
                    break;
                }
            }
        }
        drop(alive);
    }

    fn write_batch(&mut self, batch: Vec<Commit>) {
        let mut told: Vec<Outcome> = Vec::new();
        let failure = self.write(&batch, &mut told).err();
        let is_row = matches!(&failure, Some(StoreError::Sql { source, .. }) if !source.is_lost());
        if let Some(error) = failure {
            tracing::warn!(%error, commits = batch.len(), "location was not written");
            told = match is_row && batch.len() > 1 {
                true => batch.iter().map(|commit| self.write_one(commit)).collect(),
                false => batch.iter().map(|_| failed(&error)).collect(),
            };
        }
        let receipts = batch.iter().zip(told);
        (self.receipts)(receipts.map(|(commit, outcome)| (commit.shard, commit.ticket, outcome)).collect());
    }

    fn write_one(&mut self, commit: &Commit) -> Outcome {
        let mut told = Vec::new();
        match self.write(std::slice::from_ref(commit), &mut told) {
            Ok(()) => told.pop().unwrap_or(Outcome::Committed),
            Err(error) => failed(&error),
        }
    }

    /// All or none of the commits, but those that the Occupied rule refuses; what became of each.
    fn write(&mut self, batch: &[Commit], told: &mut Vec<Outcome>) -> Result<(), StoreError> {
        let Writer { link, columns, live_rows, .. } = self;
        let mut done = Ok(());
        for _ in 0..TRIES {
            done = link.run(|client| {
                told.clear();
                match batch.iter().any(|commit| commit.claim.is_some()) {
                    true => write_claimed(client, columns, live_rows, batch, told),
                    false => {
                        let writes = batch.iter().flat_map(|commit| &commit.writes);
                        told.extend(batch.iter().map(|_| Outcome::Committed));
                        client.write(columns, writes)
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

fn failed(error: &StoreError) -> Outcome {
    Outcome::Failed(error.to_string())
}

/// One transaction: nobody else can write these AORs' rows between the question whose they are and the commit.
fn write_claimed(
    client: &mut Client,
    columns: &LocationColumns,
    live_rows: &LiveRows,
    batch: &[Commit],
    told: &mut Vec<Outcome>,
) -> Result<(), DbError> {
    client.begin()?;
    let decided = decide(client, live_rows, batch, told);
    let is_kept =
        |told: &[Outcome]| told.iter().map(|outcome| matches!(outcome, Outcome::Committed)).collect();
    let kept: Vec<bool> = is_kept(told);
    let commits = batch.iter().zip(kept).filter(|(_, is_kept)| *is_kept);
    let writes = commits.flat_map(|(commit, _)| &commit.writes).collect::<Vec<_>>();
    let done = decided.and_then(|()| client.write_begun(columns, writes.iter().copied()));
    if let Err(error) = &done
        && !error.is_lost()
    {
        client.run("ROLLBACK")?;
    }
    done
}

/// Locks the AORs, in one order for all nodes, and decides.
fn decide(
    client: &mut Client,
    live_rows: &LiveRows,
    batch: &[Commit],
    told: &mut Vec<Outcome>,
) -> Result<(), DbError> {
    told.extend(batch.iter().map(|_| Outcome::Committed));
    let mut claims: Vec<(usize, &Claim)> =
        batch.iter().enumerate().filter_map(|(at, commit)| Some((at, commit.claim.as_deref()?))).collect();
    claims.sort_unstable_by_key(|(_, claim)| (&claim.username, &claim.domain));
    for (at, claim) in claims {
        let mut names = vec![Value::from(&*claim.username)];
        if let Some(lock) = live_rows.lock {
            client.all(lock, &names)?;
        }
        names.extend(claim.domain.as_deref().map(Value::from));
        names.push(Value::Int(claim.now_unix_s as i64));
        let rows: Vec<Row> = read_rows(client, &live_rows.select, &names)?;
        if let Some(outcome) = told.get_mut(at)
            && !claim.allows(&rows)
        {
            *outcome = Outcome::Occupied;
        }
    }
    Ok(())
}

/// Looks for rows that nobody needs, and gives them to the writer.
struct Sweeper {
    link: Link,
    columns: LocationColumns,
    purges: std::sync::mpsc::SyncSender<Vec<Write>>,
}

impl Sweeper {
    fn run(&mut self, gone: &Receiver<()>) {
        let mut wait = PURGE_FIRST;
        while let Err(RecvTimeoutError::Timeout) = gone.recv_timeout(wait) {
            wait = PURGE_EVERY;
            match self.look() {
                Ok(writes) if writes.is_empty() => {}
                // Full: what it was given last is not deleted yet.
                Ok(writes) => drop(self.purges.try_send(writes)),
                Err(error) => tracing::debug!(%error, "looking for expired rows"),
            }
        }
    }

    /// Rows that expired a minute ago or more; what is renewed meanwhile stays.
    fn look(&mut self) -> Result<Vec<Write>, StoreError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let expires_by = now.saturating_sub(PURGE_EVERY.as_secs());
        let sql = self.columns.sql(&format!(
            "SELECT {{contact_id}} FROM location WHERE {{expires}} > 0 AND {{expires}} <= ? LIMIT {PURGE_AT_MOST}"
        ));
        let rows = self.link.run(|client| client.all(&sql, &[Value::Int(expires_by as i64)]))?;
        let ids = rows.into_iter().filter_map(|row| row.into_iter().next()?.int());
        Ok(ids.map(|id| Write::Purge { contact_id: id as u64, expires_by }).collect())
    }
}
