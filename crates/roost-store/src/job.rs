//! What a running store is asked, and what it tells.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use roost_core::{Exclusive, Histogram, Reading, Receipt, ShardId, Ticket, Write};

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

/// What a writer has done: transactions, the commits in them, those of the largest one, how many and how long each; and how the
/// database is.
#[derive(Debug, Clone)]
pub(crate) struct Batches {
    counts: Arc<[AtomicU64; 3]>,
    histograms: Arc<Mutex<BatchHistograms>>,
    health: Health,
}

/// Transactions of a writer.
#[derive(Debug, Clone, Copy, Default)]
pub struct BatchHistograms {
    /// How long each took, in milliseconds.
    pub times: Histogram,
    /// How many changes each had.
    pub sizes: Histogram,
}

impl Batches {
    pub(crate) fn new(health: Health) -> Batches {
        Batches { counts: Arc::default(), histograms: Arc::default(), health }
    }

    /// Counts a transaction of so many commits that began then and has ended.
    pub(crate) fn done(&self, commits: usize, begun: Instant) {
        let took = begun.elapsed();
        self.health.timed("a transaction of bindings", took);
        let mut histograms = self.histograms.lock().unwrap_or_else(PoisonError::into_inner);
        histograms.times.observe(took.as_millis() as u64);
        histograms.sizes.observe(commits as u64);
    }

    pub(crate) fn histograms(&self) -> BatchHistograms {
        *self.histograms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether the database was away when something was written.
    pub(crate) fn note(&self, is_away: bool) {
        self.health.note(is_away);
    }

    pub(crate) fn count(&self, commits: usize) {
        let [transactions, all, largest] = &*self.counts;
        transactions.fetch_add(1, Ordering::Relaxed);
        all.fetch_add(commits as u64, Ordering::Relaxed);
        largest.fetch_max(commits as u64, Ordering::Relaxed);
    }

    pub(crate) fn statistics(&self) -> [(&'static str, u64); 5] {
        let [transactions, all, largest] = self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        let (queries, slow) = self.health.queries();
        [
            ("sql:sql_total_queries", queries),
            ("sql:sql_slow_queries", slow),
            ("database:transactions", transactions),
            ("database:commits", all),
            ("database:largest_transaction", largest),
        ]
    }
}

/// What happens to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseNews {
    /// Whether it takes nothing any more; each time that this changes.
    Away(bool),
    /// It took long over something.
    Slow { what: &'static str, took: Duration },
}

/// Whether the database takes what is written; tells when that changes. Clones are one.
#[derive(Clone)]
pub struct Health(Arc<Watched>);

struct Watched {
    is_away: AtomicBool,
    tell: Box<dyn Fn(DatabaseNews) + Send + Sync>,
    queries: AtomicU64,
    slow: AtomicU64,
    slow_after: Duration,
}

impl Health {
    /// `tell` is given what happens to it. What takes longer than `slow_after` is slow.
    pub fn new(slow_after: Duration, tell: impl Fn(DatabaseNews) + Send + Sync + 'static) -> Health {
        let (queries, slow) = (AtomicU64::new(0), AtomicU64::new(0));
        Health(Arc::new(Watched {
            is_away: AtomicBool::new(false),
            tell: Box::new(tell),
            queries,
            slow,
            slow_after,
        }))
    }

    /// Whether it takes nothing now.
    pub fn is_away(&self) -> bool {
        self.0.is_away.load(Ordering::Relaxed)
    }

    /// Counts something that it did, and took so long.
    pub(crate) fn timed(&self, what: &'static str, took: Duration) {
        self.0.queries.fetch_add(1, Ordering::Relaxed);
        if took > self.0.slow_after {
            self.0.slow.fetch_add(1, Ordering::Relaxed);
            (self.0.tell)(DatabaseNews::Slow { what, took });
        }
    }

    /// How much it did, and how much of that was slow.
    fn queries(&self) -> (u64, u64) {
        (self.0.queries.load(Ordering::Relaxed), self.0.slow.load(Ordering::Relaxed))
    }

    /// Notes whether it takes nothing now; tells when that changes.
    pub fn note(&self, is_away: bool) {
        if self.0.is_away.swap(is_away, Ordering::Relaxed) != is_away {
            (self.0.tell)(DatabaseNews::Away(is_away));
        }
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Health")
    }
}

/// Starts a thread.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new().name(name.into()).spawn(run).map_err(StoreError::Thread)
}
