//! What a running store is asked, and what it tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use roost_core::{Exclusive, Reading, Receipt, ShardId, Ticket, Write};

use crate::error::StoreError;

/// How often rows are looked for whose binding has expired and was not deleted (a purge that failed, a clock that stepped).
pub(crate) const PURGE_EVERY: Duration = Duration::from_secs(60);

/// Takes receipts, a batch at a time, on a thread of the store's.
pub type Receipts = Arc<dyn Fn(Vec<(ShardId, Receipt)>) + Send + Sync>;

/// How the subscriber table is kept in memory.
pub struct Preload {
    /// A table with more rows is not read; 0 never reads.
    pub limit: usize,
    /// How often it is read again.
    pub every: Duration,
    /// Takes what was read, on a thread of the store's.
    pub tell: Box<dyn FnMut(ReadTold) + Send>,
}

impl std::fmt::Debug for Preload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Preload")
            .field("limit", &self.limit)
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

/// What a whole reading of the subscriber table tells.
#[derive(Debug)]
pub enum ReadTold {
    /// It begins.
    Begin,
    Part(Reading),
}

/// Writes that become durable together.
#[derive(Debug)]
pub struct Commit {
    /// Who hears of it.
    pub shard: ShardId,
    pub ticket: Ticket,
    pub writes: Vec<Write>,
    /// The Occupied rule, where the database decides it: then the writes happen or [`roost_core::CommitOutcome::Occupied`] is told.
    pub exclusive: Option<Box<Exclusive>>,
}

/// One question about a subscriber.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) shard: ShardId,
    pub(crate) ticket: Ticket,
    pub(crate) user: Box<[u8]>,
    pub(crate) domain: Option<Box<[u8]>>,
}

/// What the thread that writes is given.
#[derive(Debug)]
pub(crate) enum Job {
    Commits(Vec<Commit>),
    /// Rows of expired bindings; nobody hears of it.
    Purge(Vec<Write>),
}

/// What is done at once.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) commits: Vec<Commit>,
    pub(crate) purges: Vec<Write>,
}

/// Takes everything that is queued behind a job, until there are so many commits.
pub(crate) fn gather(first: Job, queue: &Receiver<Job>, most: usize) -> Gathered {
    let mut gathered = Gathered::default();
    let mut next = Some(first);
    while let Some(job) = next {
        match job {
            Job::Commits(commits) => gathered.commits.extend(commits),
            Job::Purge(writes) => gathered.purges.extend(writes),
        }
        next = if gathered.commits.len() < most { queue.try_recv().ok() } else { None };
    }
    gathered
}

/// The time by which a binding must have expired that a look for leftovers takes.
pub(crate) fn expired_by() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    now.saturating_sub(PURGE_EVERY.as_secs())
}

/// What a writer has done: transactions, the commits in them, those of the largest one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batches(Arc<[AtomicU64; 3]>);

impl Batches {
    pub(crate) fn count(&self, commits: usize) {
        let [transactions, all, largest] = &*self.0;
        transactions.fetch_add(1, Ordering::Relaxed);
        all.fetch_add(commits as u64, Ordering::Relaxed);
        largest.fetch_max(commits as u64, Ordering::Relaxed);
    }

    pub(crate) fn statistics(&self) -> [(&'static str, u64); 3] {
        let [transactions, all, largest] = self.0.each_ref().map(|count| count.load(Ordering::Relaxed));
        [
            ("database:transactions", transactions),
            ("database:commits", all),
            ("database:largest_transaction", largest),
        ]
    }
}

/// Starts a thread.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new().name(name.into()).spawn(run).map_err(StoreError::Thread)
}
