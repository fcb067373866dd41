//! The file that calls in progress, and records that nobody has taken yet, stand in: lines of JSON that are only appended.
//! What an earlier process left is read when it is opened; when most of it is about what is over, it is written anew.
//!
//! It is written behind the calls, a few times a second, and synced once a second: a killed process loses no call that was
//! answered a second before, a power cut those of the last seconds.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use roost_core::{CallNumber, CallRecord};

use crate::calls::stored::{Cdr, Line, StoredCall};
use crate::error::StoreError;

/// A shorter file is not written anew.
const SMALL: u64 = 4 << 20;
/// Bytes that wait for a disk that takes none; beyond it they are given up. Records are in memory, too.
const MOST_HELD: usize = 16 << 20;

/// The open file, and what it holds.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Where the next line begins.
    end: u64,
    /// Calls that are not over: where their lines stand.
    live: HashMap<CallNumber, (u64, u32)>,
    /// Bytes of those lines.
    live_bytes: u64,
    /// What sinks have not taken, by their names.
    queues: BTreeMap<Cow<'static, str>, Queue>,
    /// How many records of each may wait.
    most: usize,
    pub(super) lost: u64,
    key: [u8; 32],
    /// The key of the process before.
    left_key: Option<[u8; 32]>,
    /// What goes to the file next.
    buffer: Vec<u8>,
    /// The calls of lines in the buffer.
    fresh: Vec<(CallNumber, (u64, u32))>,
}

/// Records that a sink has not taken.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<(u64, Arc<Cdr<'static>>)>,
    next_seq: u64,
    /// The last one that it has taken.
    taken: u64,
    /// Records up to this one may be where they belong already: the process ended before it noted so.
    pub(super) in_doubt: u64,
}

/// What an earlier process left.
#[derive(Debug, Default)]
pub struct Left {
    /// The key of its marks.
    pub key: Option<[u8; 32]>,
    /// Calls that were in progress.
    pub calls: Vec<CallRecord>,
}

impl Journal {
    /// Opens or makes the file. Nobody else may have it open.
    ///
    /// # Errors
    /// [`StoreError::CallJournal`] when it cannot be used, [`StoreError::CallJournalInUse`].
    pub fn open(path: &Path) -> Result<(Journal, Left), StoreError> {
        let error = |source| StoreError::CallJournal { path: path.to_path_buf(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::CallJournalInUse { path: path.to_path_buf() });
            }
            Err(TryLockError::Error(source)) => return Err(error(source)),
        }
        let mut journal = Journal {
            path: path.to_path_buf(),
            file,
            end: 0,
            live: HashMap::new(),
            live_bytes: 0,
            queues: BTreeMap::new(),
            most: 0,
            lost: 0,
            key: [0; 32],
            left_key: None,
            buffer: Vec::new(),
            fresh: Vec::new(),
        };
        let left = journal.read().map_err(error)?;
        journal.left_key = left.key;
        Ok((journal, left))
    }

    /// Reads what is there. A line that is torn ends it; what stands behind was written after a failure and is not known.
    fn read(&mut self) -> io::Result<Left> {
        let (mut left, mut calls) = (Left::default(), HashMap::new());
        let mut reader = BufReader::new(self.file.try_clone()?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line)? as u64;
            if !line.ends_with(b"\n") {
                break;
            }
            let Ok(read) = serde_json::from_slice(&line) else {
                tracing::warn!(path = %self.path.display(), offset = self.end, "a line of the calls' journal cannot be read");
                self.end += length;
                continue;
            };
            let place = (self.end, length as u32);
            self.end += length;
            match read {
                Line::Key(key) => left.key = key_of(&key),
                Line::Answered(call) => {
                    if let Some(call) = call.get() {
                        self.enter(call.number, place);
                        calls.insert(call.number, call);
                    }
                }
                Line::Ended(id) => {
                    if let Some(number) = CallNumber::of_id(&id) {
                        self.leave(number);
                        calls.remove(&number);
                    }
                }
                Line::Record { sink, seq, cdr } => {
                    let queue = self.queues.entry(sink).or_default();
                    queue.next_seq = queue.next_seq.max(seq + 1);
                    queue.waiting.push_back((seq, cdr.into()));
                }
                Line::Taken { sink, seq } => self.queues.entry(sink).or_default().took(seq),
            }
        }
        self.queues.values_mut().for_each(|queue| queue.in_doubt = queue.next_seq.saturating_sub(1));
        left.calls = calls.into_values().collect();
        left.calls.sort_by_key(|call| (call.begun_s, call.number.id()));
        Ok(left)
    }

    /// Says which marks this process makes (with others all calls are forgotten), who takes records, and how many may wait for them. Writes the file anew.
    ///
    /// # Errors
    /// [`StoreError::CallJournal`].
    pub fn begin(&mut self, key: [u8; 32], sinks: &[&'static str], most: usize) -> Result<(), StoreError> {
        self.key = key;
        if self.left_key != Some(key) {
            // Nobody could name these calls any more.
            self.live.clear();
            self.live_bytes = 0;
        }
        self.most = most;
        self.queues.retain(|sink, _| sinks.contains(&sink.as_ref()));
        for sink in sinks {
            self.queues.entry(Cow::Borrowed(*sink)).or_default();
        }
        self.rewrite().map_err(|source| StoreError::CallJournal { path: self.path.clone(), source })
    }

    /// A call was answered.
    pub(super) fn answered(&mut self, call: &CallRecord) {
        let start = self.end + self.buffer.len() as u64;
        let length = self.push(&Line::Answered(StoredCall::of(call).into()));
        self.fresh.push((call.number, (start, length)));
    }

    /// A call that was answered has ended.
    pub(super) fn ended(&mut self, number: CallNumber) {
        let is_it = |(other, _): &(CallNumber, _)| *other == number;
        // It may not be in the file yet: its line goes with the rest.
        let fresh = self.fresh.iter().position(is_it).map(|at| self.fresh.swap_remove(at));
        if fresh.is_some() || self.leave(number) {
            self.push(&Line::Ended(number.id()));
        }
    }

    /// A record waits for a sink.
    pub(super) fn wait(&mut self, sink: &'static str, cdr: Cdr<'static>) {
        let most = self.most;
        let Some(queue) = self.queues.get_mut(sink) else { return };
        if queue.waiting.len() >= most {
            self.lost += 1;
            return;
        }
        queue.next_seq = queue.next_seq.max(queue.taken + 1);
        let seq = queue.next_seq;
        queue.next_seq += 1;
        let cdr = Arc::new(cdr);
        queue.waiting.push_back((seq, Arc::clone(&cdr)));
        self.push(&Line::Record { sink: sink.into(), seq, cdr: Box::new(Cdr::clone(&cdr)) });
    }

    /// Records that a sink has not taken, in order, at most so many; and the last one that it may have taken nevertheless.
    pub(super) fn untaken(&self, sink: &str, most: usize) -> (Vec<(u64, Arc<Cdr<'static>>)>, u64) {
        let queue = self.queues.get(sink);
        let some = queue.map_or(Vec::new(), |queue| queue.waiting.iter().take(most).cloned().collect());
        (some, queue.map_or(0, |queue| queue.in_doubt))
    }

    /// A sink has taken all up to this one.
    pub(super) fn took(&mut self, sink: &'static str, seq: u64) {
        if let Some(queue) = self.queues.get_mut(sink) {
            queue.took(seq);
            self.push(&Line::Taken { sink: sink.into(), seq });
        }
    }

    /// How many records wait.
    pub(super) fn waiting(&self) -> usize {
        self.queues.values().map(|queue| queue.waiting.len()).sum()
    }

    /// Brings the buffer into the file. What does not go in stays in memory and goes in with the next.
    ///
    /// # Errors
    /// When the file does not take it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.file.write_all_at(&self.buffer, self.end) {
            // Half a line would hide what follows.
            let _ = self.file.set_len(self.end);
            if self.buffer.len() > MOST_HELD {
                self.buffer.clear();
                self.fresh.clear();
            }
            return Err(error);
        }
        self.end += self.buffer.len() as u64;
        self.buffer.clear();
        for (number, place) in std::mem::take(&mut self.fresh) {
            self.enter(number, place);
        }
        let records = self.waiting() as u64 * 512;
        if self.end > SMALL && self.end / 4 > self.live_bytes + records {
            self.rewrite()?;
        }
        Ok(())
    }

    /// The file, to be synced while nobody waits for it.
    pub(super) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Writes what still counts into a new file, which takes the place of the old one.
    fn rewrite(&mut self) -> io::Result<()> {
        let mut path = self.path.clone().into_os_string();
        path.push(".new");
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.try_lock().map_err(|error| io::Error::other(error.to_string()))?;
        let mut bytes = Vec::new();
        let push = |line: &Line, bytes: &mut Vec<u8>| {
            let _ = serde_json::to_writer(&mut *bytes, line);
            bytes.push(b'\n');
        };
        push(&Line::Key(self.key.iter().map(|byte| format!("{byte:02x}")).collect()), &mut bytes);
        let mut live = HashMap::with_capacity(self.live.len());
        let (mut end, mut line) = (0, Vec::new());
        for (number, (start, length)) in &self.live {
            line.resize(*length as usize, 0);
            self.file.read_exact_at(&mut line, *start)?;
            live.insert(*number, (end + bytes.len() as u64, *length));
            bytes.extend_from_slice(&line);
            if bytes.len() > 1 << 20 {
                file.write_all_at(&bytes, end)?;
                end += bytes.len() as u64;
                bytes.clear();
            }
        }
        for (sink, queue) in &self.queues {
            push(&Line::Taken { sink: sink.clone(), seq: queue.taken }, &mut bytes);
            for (seq, cdr) in &queue.waiting {
                push(
                    &Line::Record { sink: sink.clone(), seq: *seq, cdr: Box::new(Cdr::clone(cdr)) },
                    &mut bytes,
                );
            }
        }
        file.write_all_at(&bytes, end)?;
        file.sync_data()?;
        std::fs::rename(&path, &self.path)?;
        (self.file, self.live, self.end) = (file, live, end + bytes.len() as u64);
        Ok(())
    }

    fn push(&mut self, line: &Line) -> u32 {
        let start = self.buffer.len();
        let _ = serde_json::to_writer(&mut self.buffer, line);
        self.buffer.push(b'\n');
        (self.buffer.len() - start) as u32
    }

    fn enter(&mut self, number: CallNumber, place: (u64, u32)) {
        self.live_bytes += u64::from(place.1);
        if let Some((_, length)) = self.live.insert(number, place) {
            self.live_bytes -= u64::from(length);
        }
    }

    fn leave(&mut self, number: CallNumber) -> bool {
        let was = self.live.remove(&number);
        self.live_bytes -= was.map_or(0, |(_, length)| u64::from(length));
        was.is_some()
    }
}

impl Queue {
    fn took(&mut self, seq: u64) {
        self.taken = self.taken.max(seq);
        self.next_seq = self.next_seq.max(seq + 1);
        while self.waiting.front().is_some_and(|(first, _)| *first <= seq) {
            self.waiting.pop_front();
        }
    }
}

fn key_of(text: &str) -> Option<[u8; 32]> {
    let byte = |at: usize| u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok();
    let bytes: Vec<u8> = (0..32).map(byte).collect::<Option<_>>()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use roost_core::CallEnd;

    use super::*;
    use crate::calls::stored::call;

    fn cdr(number: u32) -> Cdr<'static> {
        Cdr::of(&call(number), CallEnd::CallerHungUp, 1_800_000_009).into_owned()
    }

    fn open(path: &Path, sinks: &[&'static str]) -> (Journal, Left) {
        let (mut journal, left) = Journal::open(path).unwrap();
        journal.begin([7; 32], sinks, 3).unwrap();
        (journal, left)
    }

    fn numbers(left: &Left) -> Vec<CallNumber> {
        left.calls.iter().map(|call| call.number).collect()
    }

    #[test]
    fn calls_that_did_not_end_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls");
        let (mut journal, left) = open(&path, &[]);
        assert!(left.key.is_none() && left.calls.is_empty());
        assert!(matches!(Journal::open(&path), Err(StoreError::CallJournalInUse { .. })));
        (1..=4).for_each(|number| journal.answered(&call(number)));
        journal.ended(call(4).number);
        journal.flush().unwrap();
        journal.ended(call(2).number);
        journal.flush().unwrap();
        drop(journal);
        let (mut journal, left) = open(&path, &[]);
        assert_eq!((left.key, &left.calls[..]), (Some([7; 32]), &[call(1), call(3)][..]));
        // What was read counts as well as what is new, also after the file was written anew.
        journal.ended(call(1).number);
        journal.answered(&call(5));
        journal.flush().unwrap();
        journal.rewrite().unwrap();
        drop(journal);
        assert_eq!(numbers(&open(&path, &[]).1), [call(3).number, call(5).number]);
    }

    #[test]
    fn calls_of_another_key_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls");
        let (mut journal, _) = open(&path, &[]);
        journal.answered(&call(1));
        journal.flush().unwrap();
        drop(journal);
        let (mut journal, left) = Journal::open(&path).unwrap();
        assert_eq!(left.calls.len(), 1);
        journal.begin([8; 32], &[], 3).unwrap();
        drop(journal);
        assert!(Journal::open(&path).unwrap().1.calls.is_empty());
    }

    #[test]
    fn a_torn_end_hides_nothing_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls");
        let (mut journal, _) = open(&path, &[]);
        journal.answered(&call(1));
        journal.flush().unwrap();
        journal.answered(&call(2));
        journal.flush().unwrap();
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        for cut in [1, 2, 100, 300] {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            assert_eq!(numbers(&open(&path, &[]).1), [call(1).number], "{cut}");
        }
        std::fs::write(&path, [b"nonsense\n", &whole[..]].concat()).unwrap();
        assert_eq!(open(&path, &[]).1.calls.len(), 2);
    }

    #[test]
    fn records_wait_for_their_sinks_over_restarts_and_no_more_than_may() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls");
        let (mut journal, _) = open(&path, &["db", "file"]);
        (1..=4).for_each(|number| journal.wait("db", cdr(number)));
        journal.wait("file", cdr(5));
        journal.flush().unwrap();
        assert_eq!((journal.waiting(), journal.lost), (4, 1));
        let seqs = |journal: &Journal, sink| -> (Vec<u64>, u64) {
            let (some, in_doubt) = journal.untaken(sink, 9);
            (some.iter().map(|(seq, _)| *seq).collect(), in_doubt)
        };
        let first = journal.untaken("db", 9).0[0].clone();
        journal.took("db", first.0 + 1);
        journal.flush().unwrap();
        drop(journal);
        let (mut journal, _) = open(&path, &["db", "file"]);
        let last = first.0 + 2;
        assert_eq!((seqs(&journal, "db").0, seqs(&journal, "file").0.len()), (vec![last], 1));
        assert_eq!(seqs(&journal, "db").1, last, "it may have been taken");
        assert_eq!(*journal.untaken("db", 1).0[0].1, cdr(3));
        journal.took("db", last);
        journal.flush().unwrap();
        drop(journal);
        let (mut journal, _) = open(&path, &["db"]);
        assert_eq!((journal.waiting(), seqs(&journal, "db").1), (0, last));
        // A number is never given twice.
        journal.wait("db", cdr(9));
        assert_eq!(seqs(&journal, "db").0, [last + 1]);
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls");
        let (mut journal, _) = open(&path, &[]);
        journal.answered(&call(0));
        for _ in 0..20 {
            (1..2_000).for_each(|number| journal.answered(&call(number)));
            journal.flush().unwrap();
            (1..2_000).for_each(|number| journal.ended(call(number).number));
            journal.flush().unwrap();
        }
        let length = std::fs::metadata(&path).unwrap().len();
        assert!(length < 2 * SMALL, "{length}");
        drop(journal);
        assert_eq!(numbers(&open(&path, &[]).1), [call(0).number]);
    }
}
