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

use roost_core::{CallEnd, CallRecord, CallState, Event};

use crate::calls::acc::{Acc, NAME as ACC};
pub use crate::calls::journal::{Journal, Left};
use crate::calls::lines::Lines;
pub use crate::calls::query::{RecordQuery, StoredRecord};
pub use crate::calls::stored::Cdr;
use crate::error::StoreError;
use crate::job::spawn;
use crate::store::Store;

/// Batches that wait for the journal, one for each 50 ms.
const WAITING: usize = 1_024;
/// Calls that last less may have been answered and have ended in one batch.
const SHORT_MS: u64 = 1_000;
/// How often the file is synced.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Records that a sink takes at once.
const AT_ONCE: usize = 512;
/// How long a sink is left alone after a failure: the first time, and at most.
const BACKOFF: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];

/// A record and its number in the journal.
pub(crate) type Numbered = (u64, Arc<Cdr<'static>>);

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
    /// Those that end once nothing more can come.
    threads: Vec<JoinHandle<()>>,
    sinks: Vec<JoinHandle<()>>,
}

/// How a sink fails.
struct Failing {
    sink: &'static str,
    /// How long it is left alone.
    wait: Duration,
    /// Records up to this one it may have taken although it failed.
    in_doubt: u64,
    is_told: bool,
}

impl Failing {
    fn new(sink: &'static str) -> Failing {
        Failing { sink, wait: BACKOFF[0], in_doubt: 0, is_told: false }
    }

    fn begins(&mut self, error: &StoreError, last: u64) {
        // It may have taken them, and only its answer is lost.
        self.in_doubt = self.in_doubt.max(last);
        self.wait = (self.wait * 2).min(BACKOFF[1]);
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!(%error, sink = self.sink, "records of calls are not taken; they wait in the journal");
        }
    }

    fn is_over(&mut self) {
        self.wait = BACKOFF[0];
        if std::mem::replace(&mut self.is_told, false) {
            tracing::info!(sink = self.sink, "records of calls are taken again");
        }
    }
}

/// What the threads share.
#[derive(Debug)]
struct Shared {
    journal: Mutex<Journal>,
    /// Whether records go to the database.
    has_acc: bool,
    /// Records have come, or the end.
    news: Condvar,
    is_ending: AtomicBool,
    written: AtomicU64,
    refused: AtomicU64,
    failures: AtomicU64,
}

/// What some batches of events say of calls. One that was answered and has ended in them leaves no trace but its record.
#[derive(Debug, Default)]
struct Batch {
    answered: Vec<CallRecord>,
    ended: Vec<Ended>,
}

/// A call that has ended.
#[derive(Debug)]
struct Ended {
    call: CallRecord,
    end: CallEnd,
    at_s: u64,
    /// Whether the journal may know that it was answered.
    is_known: bool,
}

/// Gathers what events say of calls, for the threads that keep them.
#[derive(Debug, Default)]
pub struct Gatherer {
    batch: Batch,
    senders: Vec<SyncSender<Arc<Batch>>>,
}

impl Gatherer {
    /// Takes what an event says of a call; nothing of one that nobody keeps.
    pub fn take(&mut self, event: Event) {
        let Event::Dialog { record, end, .. } = event else { return };
        match end {
            _ if self.senders.is_empty() => {}
            Some(end) => {
                let is_it = |call: &CallRecord| call.number == record.number;
                // One that lasted longer is not among them.
                let fresh = match record.lasted_ms < SHORT_MS {
                    true => self.batch.answered.iter().rposition(is_it),
                    false => None,
                };
                let is_known = record.answered_s.is_some() && fresh.is_none();
                if let Some(at) = fresh {
                    self.batch.answered.swap_remove(at);
                }
                self.batch.ended.push(Ended { call: record, end, at_s: unix_s(), is_known });
            }
            None if record.state == CallState::ConfirmedNotAcknowledged => self.batch.answered.push(record),
            None => {}
        }
    }

    /// Gives what was gathered to the threads; how many calls found no room.
    pub fn give(&mut self) -> u64 {
        if self.batch.answered.is_empty() && self.batch.ended.is_empty() {
            return 0;
        }
        let batch = Arc::new(std::mem::take(&mut self.batch));
        let is_full = |sender: &&SyncSender<Arc<Batch>>| sender.try_send(Arc::clone(&batch)).is_err();
        let lost = self.senders.iter().filter(is_full).count();
        (lost * (batch.answered.len() + batch.ended.len())) as u64
    }
}

impl Calls {
    /// Starts the threads. They end once what the gatherer was given is written, and that is dropped.
    ///
    /// # Errors
    /// [`StoreError`] when a sink cannot be used or a thread not be started.
    pub fn start(
        mut journal: Journal,
        key: [u8; 32],
        store: &Store,
        settings: &AccSettings,
    ) -> Result<(Calls, Gatherer), StoreError> {
        let acc = if settings.db { Some(Acc::open(store)?) } else { None };
        let lines = settings.file.as_deref().map(Lines::open).transpose()?;
        let names: Vec<_> =
            acc.as_ref().map(Sink::name).into_iter().chain(lines.as_ref().map(Sink::name)).collect();
        journal.begin(key, &names, settings.journal_max)?;
        let shared = Arc::new(Shared {
            journal: Mutex::new(journal),
            has_acc: acc.is_some(),
            news: Condvar::new(),
            is_ending: AtomicBool::new(false),
            written: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        let (mut senders, mut threads) = (Vec::new(), Vec::new());
        let (sender, queue) = sync_channel(WAITING);
        senders.push(sender);
        let writing = Arc::clone(&shared);
        threads.push(spawn("roost-calls", move || writing.write(&queue))?);
        if let Some(lines) = lines {
            let (sender, queue) = sync_channel(WAITING);
            senders.push(sender);
            let filing = Arc::clone(&shared);
            threads.push(spawn("roost-records", move || filing.file(lines, &queue))?);
        }
        let sinks = match acc {
            Some(acc) => {
                let serving = Arc::clone(&shared);
                vec![spawn("roost-acc", move || serving.serve(Box::new(acc)))?]
            }
            None => Vec::new(),
        };
        Ok((Calls { shared, threads, sinks }, Gatherer { batch: Batch::default(), senders }))
    }

    /// What has become of records, by name.
    pub fn statistics(&self) -> impl Fn() -> [(&'static str, u64); 5] + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || {
            let (waiting, lost) = {
                let journal = shared.journal();
                (journal.waiting() as u64, journal.lost)
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
        self.threads.iter().chain(&self.sinks).any(JoinHandle::is_finished)
    }

    /// Ends the threads. The gatherer must have been dropped, or nothing ends.
    pub fn stop(self) {
        for thread in self.threads {
            let _ = thread.join();
        }
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

impl Shared {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, until nothing more can.
    fn write(&self, queue: &Receiver<Arc<Batch>>) {
        let (mut is_synced, mut synced, mut is_told) = (true, Instant::now(), false);
        loop {
            let first = match queue.recv_timeout(SYNC_EVERY) {
                Ok(batch) => Some(batch),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Some(batch) = first {
                let mut journal = self.journal();
                self.take(&mut journal, &batch);
                queue.try_iter().for_each(|batch| self.take(&mut journal, &batch));
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

    /// Takes what a batch says of calls.
    fn take(&self, journal: &mut Journal, batch: &Batch) {
        batch.answered.iter().for_each(|call| journal.answered(call));
        for Ended { call, end, at_s, is_known } in &batch.ended {
            if *is_known {
                journal.ended(call.number);
            }
            if self.has_acc {
                journal.wait(ACC, Cdr::of(call, *end, *at_s).into_owned());
            }
        }
    }

    /// Appends records to files, until nothing more can come. What a file does not take waits in the journal.
    fn file(&self, mut lines: Lines, queue: &Receiver<Arc<Batch>>) {
        let mut failing = Failing::new(lines.name());
        loop {
            let first = match queue.recv_timeout(failing.wait) {
                Ok(batch) => Some(batch),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let batches: Vec<_> = first.into_iter().chain(queue.try_iter()).collect();
            let ended = batches.iter().flat_map(|batch| &batch.ended);
            let cdrs: Vec<_> = ended.map(|ended| Cdr::of(&ended.call, ended.end, ended.at_s)).collect();
            // In their order: those that wait come first.
            let mut is_taken = self.file_waiting(&mut lines, &mut failing);
            if cdrs.is_empty() {
                continue;
            }
            if is_taken && let Err(source) = lines.append(cdrs.iter()) {
                failing.begins(&lines.error(source), 0);
                is_taken = false;
            }
            if is_taken {
                self.written.fetch_add(cdrs.len() as u64, Ordering::Relaxed);
                continue;
            }
            let mut journal = self.journal();
            cdrs.into_iter().for_each(|cdr| journal.wait(lines.name(), cdr.into_owned()));
            self.flush(&mut journal, &mut true);
        }
    }

    /// Appends the records that wait for the file; whether it has all of them.
    fn file_waiting(&self, lines: &mut Lines, failing: &mut Failing) -> bool {
        loop {
            let (some, in_doubt) = self.journal().untaken(lines.name(), AT_ONCE);
            let Some((last, _)) = some.last() else { return true };
            if let Err(error) = lines.write(&some, failing.in_doubt.max(in_doubt)) {
                failing.begins(&error, *last);
                return false;
            }
            failing.is_over();
            self.took(lines.name(), *last, some.len() as u64, 0);
        }
    }

    /// A sink has taken so many records, up to this one, but for those that it refuses.
    fn took(&self, sink: &'static str, last: u64, records: u64, refused: u64) {
        let mut journal = self.journal();
        journal.took(sink, last);
        self.flush(&mut journal, &mut true);
        self.written.fetch_add(records - refused, Ordering::Relaxed);
        self.refused.fetch_add(refused, Ordering::Relaxed);
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
        let mut failing = Failing::new(sink.name());
        loop {
            let is_ending = self.is_ending.load(Ordering::Acquire);
            let (records, in_doubt) = self.journal().untaken(sink.name(), AT_ONCE);
            let Some(last) = records.last().map(|(seq, _)| *seq) else {
                if is_ending {
                    return;
                }
                self.rest(SYNC_EVERY, true);
                continue;
            };
            match sink.write(&records, failing.in_doubt.max(in_doubt)) {
                Ok(Written { refused }) => {
                    failing.is_over();
                    self.took(sink.name(), last, records.len() as u64, refused);
                }
                Err(error) => {
                    failing.begins(&error, last);
                    if is_ending {
                        return;
                    }
                    self.rest(failing.wait, false);
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

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
