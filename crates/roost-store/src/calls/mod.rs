//! What outlives the process of calls: those in progress, and the records of those that have ended.
//!
//! A thread behind the workers writes the journal; a thread for each sink (the tables, files) takes records from it. A sink
//! that is away delays its own records, and no call.

mod acc;
mod journal;
mod lines;
mod query;
mod stored;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use roost_core::Event;

use crate::calls::acc::Acc;
pub use crate::calls::journal::{Journal, Left};
use crate::calls::lines::Lines;
pub use crate::calls::query::{RecordQuery, StoredRecord};
pub use crate::calls::stored::Cdr;
use crate::error::StoreError;
use crate::job::spawn;
use crate::store::Store;

/// Batches of events that wait for the journal.
const WAITING: usize = 65_536;
/// How long the first event waits for others.
const GATHERING: Duration = Duration::from_millis(50);
/// How often the file is synced.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Records that a sink takes at once.
const AT_ONCE: usize = 512;
/// How long a sink is left alone after a failure: the first time, and at most.
const BACKOFF: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];

/// A record and its number in the journal.
pub(crate) type Numbered = (u64, Arc<Cdr>);

/// What became of records that a sink took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// So many it will never take.
    pub(crate) refused: u64,
}

/// Where records go.
pub(crate) trait Sink: Send {
    /// As in the journal.
    fn name(&self) -> &'static str;

    /// Takes all of them, or none. Those up to `in_doubt` it may have taken before.
    fn write(&mut self, records: &[Numbered], in_doubt: u64) -> Result<Written, StoreError>;
}

/// What is done with records (`[acc]`).
#[derive(Debug, Clone, Default)]
pub struct AccSettings {
    /// Whether they go to the database's tables `acc` and `missed_calls`.
    pub db: bool,
    /// The name of the files that they go to; none: no files.
    pub file: Option<PathBuf>,
    /// How many may wait.
    pub journal_max: usize,
}

/// The threads that keep calls and their records.
#[derive(Debug)]
pub struct Calls {
    shared: Arc<Shared>,
    writer: JoinHandle<()>,
    sinks: Vec<JoinHandle<()>>,
}

/// What the threads share.
#[derive(Debug)]
struct Shared {
    journal: Mutex<Journal>,
    /// Records have come, or the end.
    news: Condvar,
    is_ending: AtomicBool,
    written: AtomicU64,
    refused: AtomicU64,
    failures: AtomicU64,
}

/// Takes batches of events; whether there was room.
pub type TakeCalls = Box<dyn FnMut(&Arc<[Event]>) -> bool + Send>;

impl Calls {
    /// Starts the threads. They end once what `TakeCalls` was given is written, and that is dropped.
    ///
    /// # Errors
    /// [`StoreError`] when a sink cannot be used or a thread not be started.
    pub fn start(
        mut journal: Journal,
        key: [u8; 32],
        store: &Store,
        settings: &AccSettings,
    ) -> Result<(Calls, TakeCalls), StoreError> {
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        if settings.db {
            sinks.push(Box::new(Acc::open(store)?));
        }
        if let Some(file) = &settings.file {
            sinks.push(Box::new(Lines::open(file)?));
        }
        let names: Vec<_> = sinks.iter().map(|sink| sink.name()).collect();
        journal.begin(key, &names, settings.journal_max)?;
        let shared = Arc::new(Shared {
            journal: Mutex::new(journal),
            news: Condvar::new(),
            is_ending: AtomicBool::new(false),
            written: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        let (sender, queue) = sync_channel(WAITING);
        let writing = Arc::clone(&shared);
        let writer = spawn("roost-calls", move || writing.write(&queue))?;
        let taker = |sink: Box<dyn Sink>| {
            let shared = Arc::clone(&shared);
            spawn("roost-records", move || shared.serve(sink))
        };
        let sinks = sinks.into_iter().map(taker).collect::<Result<_, _>>()?;
        let take = Box::new(move |events: &Arc<[Event]>| {
            let has_calls = events.iter().any(|event| matches!(event, Event::Dialog { .. }));
            !has_calls || give(&sender, Arc::clone(events))
        });
        Ok((Calls { shared, writer, sinks }, take))
    }

    /// What has become of records, by name.
    pub fn statistics(&self) -> impl Fn() -> [(&'static str, u64); 5] + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || {
            let (waiting, lost) = {
                let journal = shared.journal();
                (journal.waiting() as u64, journal.records.lost)
            };
            [
                ("acc:records", shared.written.load(Ordering::Relaxed)),
                ("acc:waiting", waiting),
                ("acc:lost", lost),
                ("acc:refused", shared.refused.load(Ordering::Relaxed)),
                ("acc:journal_failures", shared.failures.load(Ordering::Relaxed)),
            ]
        }
    }

    /// Whether a thread has ended that should not.
    pub fn has_ended(&self) -> bool {
        self.writer.is_finished() || self.sinks.iter().any(JoinHandle::is_finished)
    }

    /// Ends the threads. `TakeCalls` must have been dropped, or nothing ends.
    pub fn stop(self) {
        let _ = self.writer.join();
        self.shared.is_ending.store(true, Ordering::Release);
        self.shared.news.notify_all();
        for sink in self.sinks {
            let _ = sink.join();
        }
        if let Err(error) = self.shared.journal().flush() {
            tracing::warn!(%error, "the calls' journal cannot be written");
        }
    }
}

fn give(sender: &SyncSender<Arc<[Event]>>, events: Arc<[Event]>) -> bool {
    sender.try_send(events).is_ok()
}

impl Shared {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, until nothing more can.
    fn write(&self, queue: &Receiver<Arc<[Event]>>) {
        let (mut is_synced, mut synced, mut is_told) = (true, Instant::now(), false);
        loop {
            let first = match queue.recv_timeout(SYNC_EVERY) {
                Ok(events) => Some(events),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Some(events) = first {
                std::thread::sleep(GATHERING);
                let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let mut journal = self.journal();
                take(&mut journal, &events, now_s);
                queue.try_iter().for_each(|events| take(&mut journal, &events, now_s));
                self.flush(&mut journal, &mut is_told);
                drop(journal);
                self.news.notify_all();
                is_synced = false;
            }
            if !is_synced && synced.elapsed() >= SYNC_EVERY {
                (is_synced, synced) = (true, Instant::now());
                let file = self.journal().handle();
                let _ = file.and_then(|file| file.sync_data());
            }
        }
    }

    /// Brings what the journal holds into its file. A failure is told once.
    fn flush(&self, journal: &mut Journal, is_told: &mut bool) {
        match journal.flush() {
            Ok(()) => *is_told = false,
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(is_told, true) {
                    tracing::warn!(%error, "the calls' journal cannot be written; a restart would lose calls and records");
                }
            }
        }
    }

    /// Gives records to a sink until the end, when what it does not take then stays in the journal.
    fn serve(&self, mut sink: Box<dyn Sink>) {
        let (mut wait, mut in_doubt) = (BACKOFF[0], self.journal().records.in_doubt);
        let mut is_told = false;
        loop {
            let is_ending = self.is_ending.load(Ordering::Acquire);
            let records = self.journal().untaken(sink.name(), AT_ONCE);
            let Some(last) = records.last().map(|(seq, _)| *seq) else {
                if is_ending {
                    return;
                }
                self.rest(SYNC_EVERY, true);
                continue;
            };
            match sink.write(&records, in_doubt) {
                Ok(Written { refused }) => {
                    if std::mem::replace(&mut is_told, false) {
                        tracing::info!(sink = sink.name(), "records of calls are taken again");
                    }
                    wait = BACKOFF[0];
                    let mut journal = self.journal();
                    journal.took(sink.name(), last);
                    self.flush(&mut journal, &mut true);
                    self.written.fetch_add(records.len() as u64 - refused, Ordering::Relaxed);
                    self.refused.fetch_add(refused, Ordering::Relaxed);
                }
                Err(error) => {
                    // It may have taken them, and only its answer is lost.
                    in_doubt = in_doubt.max(last);
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(%error, sink = sink.name(), "records of calls are not taken; they wait in the journal");
                    }
                    if is_ending {
                        return;
                    }
                    self.rest(wait, false);
                    wait = (wait * 2).min(BACKOFF[1]);
                }
            }
        }
    }

    /// Waits, at most until the end; or, where that matters, until records come.
    fn rest(&self, time: Duration, is_for_records: bool) {
        let until = Instant::now() + time;
        let mut journal = self.journal();
        while !self.is_ending.load(Ordering::Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.news.wait_timeout(journal, left).unwrap_or_else(PoisonError::into_inner);
            journal = waited.0;
            if is_for_records && !waited.1.timed_out() {
                return;
            }
        }
    }
}

/// Takes what a batch says of calls.
fn take(journal: &mut Journal, events: &[Event], now_s: u64) {
    for event in events {
        match event {
            Event::Dialog { record, end: Some(end), .. } => journal.ended(record, *end, now_s),
            Event::Dialog { record, end: None, .. }
                if record.state == roost_core::CallState::ConfirmedNotAcknowledged =>
            {
                journal.answered(record);
            }
            _ => {}
        }
    }
}
