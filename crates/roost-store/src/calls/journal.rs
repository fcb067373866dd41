//! The file that calls in progress, and records that nobody has taken yet, stand in: lines of JSON that are only appended.
//! What an earlier process left is read when it is opened; when most of it is about what is over, it is written anew.
//!
//! It is written behind the calls, a few times a second, and synced once a second: a killed process loses no call that was
//! answered a second before, a power cut those of the last seconds.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use roost_core::{CallEnd, CallNumber, CallRecord};

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
    pub(super) records: Records,
    key: [u8; 32],
    /// The key of the process before.
    left_key: Option<[u8; 32]>,
    /// What goes to the file next.
    buffer: Vec<u8>,
    /// The calls of lines in the buffer.
    fresh: Vec<(CallNumber, (u64, u32))>,
}

/// Records that not all sinks have taken.
#[derive(Debug, Default)]
pub(super) struct Records {
    waiting: VecDeque<(u64, Arc<Cdr>)>,
    next_seq: u64,
    /// The last one that each sink has taken.
    taken: HashMap<String, u64>,
    /// Records up to this one may be where they belong already: the process ended before it noted so.
    pub(super) in_doubt: u64,
    /// How many may wait; 0: nobody takes any.
    most: usize,
    pub(super) lost: u64,
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
            records: Records { next_seq: 1, ..Records::default() },
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
                Line::Record { seq, cdr } => {
                    self.records.next_seq = seq + 1;
                    self.records.waiting.push_back((seq, cdr.into()));
                }
                Line::Taken { sink, seq } => {
                    self.records.next_seq = self.records.next_seq.max(seq + 1);
                    self.records.taken.insert(sink.into_owned(), seq);
                }
            }
        }
        self.records.in_doubt = self.records.next_seq - 1;
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
        self.records.most = if sinks.is_empty() { 0 } else { most };
        self.records.taken.retain(|sink, _| sinks.contains(&sink.as_str()));
        // One that is new takes what comes from now on.
        let last = self.records.next_seq - 1;
        for sink in sinks {
            self.records.taken.entry((*sink).to_string()).or_insert(last);
        }
        self.records.forget();
        self.rewrite().map_err(|source| StoreError::CallJournal { path: self.path.clone(), source })
    }

    /// A call was answered.
    pub(super) fn answered(&mut self, call: &CallRecord) {
        let start = self.end + self.buffer.len() as u64;
        let length = self.push(&Line::Answered(StoredCall::of(call).into()));
        self.fresh.push((call.number, (start, length)));
    }

    /// A call has ended; what is kept of it.
    pub(super) fn ended(&mut self, call: &CallRecord, end: CallEnd, now_s: u64) {
        if call.answered_s.is_some() {
            // It may have been answered in this very batch: its line goes with the rest.
            if let Some(at) = self.fresh.iter().position(|(number, _)| *number == call.number) {
                self.fresh.swap_remove(at);
                self.push(&Line::Ended(call.number.id()));
            } else if self.leave(call.number) {
                self.push(&Line::Ended(call.number.id()));
            }
        }
        if self.records.most == 0 {
            return;
        }
        if self.records.waiting.len() >= self.records.most {
            self.records.lost += 1;
            return;
        }
        let seq = self.records.next_seq;
        self.records.next_seq += 1;
        let cdr = Cdr::of(call, end, now_s);
        self.push(&Line::Record { seq, cdr: Box::new(cdr.clone()) });
        self.records.waiting.push_back((seq, Arc::new(cdr)));
    }

    /// Records that a sink has not taken, in order; at most so many.
    pub(super) fn untaken(&self, sink: &str, most: usize) -> Vec<(u64, Arc<Cdr>)> {
        let taken = self.records.taken.get(sink).copied().unwrap_or(0);
        let is_new = |(seq, _): &&(u64, Arc<Cdr>)| *seq > taken;
        self.records.waiting.iter().filter(is_new).take(most).cloned().collect()
    }

    /// A sink has taken all up to this one.
    pub(super) fn took(&mut self, sink: &'static str, seq: u64) {
        self.records.taken.insert(sink.to_string(), seq);
        self.push(&Line::Taken { sink: sink.into(), seq });
        self.records.forget();
    }

    pub(super) fn waiting(&self) -> usize {
        self.records.waiting.len()
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
        let records = self.records.waiting.len() as u64 * 512;
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
        for (sink, seq) in &self.records.taken {
            push(&Line::Taken { sink: sink.clone().into(), seq: *seq }, &mut bytes);
        }
        for (seq, cdr) in &self.records.waiting {
            push(&Line::Record { seq: *seq, cdr: Box::new(Cdr::clone(cdr)) }, &mut bytes);
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

impl Records {
    /// Forgets what all sinks have taken.
    fn forget(&mut self) {
        let taken_by_all = self.taken.values().min().copied().unwrap_or(u64::MAX);
        while self.waiting.front().is_some_and(|(seq, _)| *seq <= taken_by_all) {
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
    use super::*;
    use crate::calls::stored::call;

    const END: CallEnd = CallEnd::CallerHungUp;

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
        journal.ended(&call(4), END, 0);
        journal.flush().unwrap();
        journal.ended(&call(2), END, 0);
        journal.flush().unwrap();
        drop(journal);
        let (mut journal, left) = open(&path, &[]);
        assert_eq!((left.key, &left.calls[..]), (Some([7; 32]), &[call(1), call(3)][..]));
        // What was read counts as well as what is new, also after the file was written anew.
        journal.ended(&call(1), END, 0);
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
    fn records_wait_for_all_sinks_over_restarts_and_no_more_than_may() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls");
        let (mut journal, _) = open(&path, &["db", "file"]);
        (1..=4).for_each(|number| journal.ended(&call(number), END, 1_800_000_009));
        journal.flush().unwrap();
        assert_eq!((journal.waiting(), journal.records.lost), (3, 1));
        let seqs = |journal: &Journal, sink| {
            journal.untaken(sink, 9).iter().map(|(seq, _)| *seq).collect::<Vec<_>>()
        };
        journal.took("db", 2);
        journal.took("file", 1);
        journal.flush().unwrap();
        drop(journal);
        let (mut journal, _) = open(&path, &["db", "file"]);
        assert_eq!((seqs(&journal, "db"), seqs(&journal, "file")), (vec![3], vec![2, 3]));
        assert_eq!(journal.records.in_doubt, 3);
        journal.took("db", 3);
        journal.flush().unwrap();
        drop(journal);
        // Without the sink that had not taken them nobody waits for them.
        let (journal, _) = open(&path, &["db"]);
        assert_eq!((journal.waiting(), seqs(&journal, "db")), (0, vec![]));
        drop(journal);
        let (mut journal, _) = open(&path, &["db", "file"]);
        journal.ended(&call(9), END, 0);
        assert_eq!((seqs(&journal, "db"), seqs(&journal, "file")), (vec![4], vec![4]));
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls");
        let (mut journal, _) = open(&path, &[]);
        journal.answered(&call(0));
        for round in 0..20 {
            (1..2_000).for_each(|number| journal.answered(&call(number)));
            journal.flush().unwrap();
            (1..2_000).for_each(|number| journal.ended(&call(number), END, round));
            journal.flush().unwrap();
        }
        let length = std::fs::metadata(&path).unwrap().len();
        assert!(length < 2 * SMALL, "{length}");
        drop(journal);
        assert_eq!(numbers(&open(&path, &[]).1), [call(0).number]);
    }
}
