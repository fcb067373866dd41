//! The threads of a running store, and how they are asked.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use roost_core::{ShardId, Ticket, Write};

use crate::database::Database;
use crate::error::StoreError;
use crate::job::{BatchHistograms, Batches, Commit, Health, Job, Lookup, Preload, Receipts};
use crate::reading::Readings;
use crate::sqlite::writer;
use crate::store::Store;
use crate::{lookups, server_writer};

/// The threads of a running store; dropping it ends them once all queued work is done.
#[derive(Debug)]
pub struct Running {
    handle: StoreHandle,
    /// The threads that write, in the order in which they end.
    writer: Vec<JoinHandle<()>>,
    lookups: Option<JoinHandle<()>>,
    readings: Readings,
    batches: Batches,
}

/// Asks a running store for work. Clones are cheap; one for each shard.
#[derive(Debug, Clone)]
pub struct StoreHandle {
    writer: Sender<Job>,
    lookups: Sender<Lookup>,
}

impl Store {
    /// Starts the writer (with `write_through`; else nothing may be committed), and the thread that looks subscribers up.
    /// `health` hears whether it works; `shed` counts what the server had no time for: while it grows, rows that are safe in the journal reach `location` later.
    ///
    /// # Errors
    /// [`StoreError`] when a connection cannot be made.
    pub fn start(
        &self,
        write_through: bool,
        receipts: Receipts,
        shed: Arc<AtomicU64>,
        health: Health,
    ) -> Result<Running, StoreError> {
        let (jobs, job_queue) = channel();
        let (lookups, lookup_queue) = channel::<Lookup>();
        let told = Arc::clone(&receipts);
        let batches = Batches::new(health.clone());
        let writer = match &self.database {
            _ if !write_through => Vec::new(),
            Database::Sqlite(path) => {
                writer::start(path, &self.columns.location, job_queue, told, batches.clone(), shed)?.into()
            }
            Database::MySql(_) | Database::Postgres(_) => {
                server_writer::start(self, job_queue, told, batches.clone())?.into()
            }
        };
        Ok(Running {
            handle: StoreHandle { writer: jobs, lookups },
            writer,
            lookups: Some(lookups::start(self, lookup_queue, receipts, health)?),
            readings: Readings::default(),
            batches,
        })
    }
}

impl Running {
    /// Reads all subscribers, before it returns, and goes on reading what is new or changed.
    ///
    /// # Errors
    /// [`StoreError`] when the table cannot be read.
    pub fn keep_subscribers(&mut self, store: &Store, preload: Preload) -> Result<(), StoreError> {
        self.readings = Readings::start(store, preload)?;
        Ok(())
    }

    /// Whether one of the threads has ended: nothing would be written or looked up any more.
    pub fn has_ended(&self) -> bool {
        let lookups = self.lookups.as_ref().is_some_and(JoinHandle::is_finished);
        lookups || self.readings.has_ended() || self.writer.iter().any(JoinHandle::is_finished)
    }

    /// How many changes the writer's transactions had, and how long they took.
    pub fn histograms(&self) -> impl Fn() -> BatchHistograms + Send + Sync + 'static {
        let batches = self.batches.clone();
        move || batches.histograms()
    }

    /// What the database has done, by name: queries, the slow ones, transactions, the commits in them, those of the largest one.
    pub fn statistics(&self) -> impl Fn() -> [(&'static str, u64); 5] + Send + Sync + 'static {
        let batches = self.batches.clone();
        move || batches.statistics()
    }

    /// A handle to ask for work.
    pub fn handle(&self) -> StoreHandle {
        self.handle.clone()
    }

    /// Ends the threads once everything queued is done. Handles must have been dropped, or nothing ends.
    pub fn stop(self) {
        let Running { handle, writer, lookups, readings, .. } = self;
        drop((handle, readings));
        for thread in writer.into_iter().chain(lookups) {
            let _ = thread.join();
        }
    }
}

impl StoreHandle {
    /// Makes the writes of each commit durable, all or none; the receipts are `Committed` or `Failed`. A commit
    /// without writes is answered once everything before it is in the table.
    pub fn commit(&self, commits: Vec<Commit>) {
        let _ = self.writer.send(Job::Commits(commits));
    }

    /// Makes the writes some time; nobody hears of it.
    pub fn purge(&self, writes: Vec<Write>) {
        let _ = self.writer.send(Job::Purge(writes));
    }

    /// Looks a subscriber up; the receipt is `Credentials` or `Failed`.
    pub fn load_credentials(
        &self,
        shard: ShardId,
        ticket: Ticket,
        user: Box<[u8]>,
        domain: Option<Box<[u8]>>,
    ) {
        let _ = self.lookups.send(Lookup { shard, ticket, user, domain });
    }
}
