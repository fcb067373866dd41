//! The journal: where a commit becomes durable. A batch is appended and synced; its rows reach `location` a moment
//! later, many at once and each binding's last state only (see [`crate::fold`]).
//!
//! Two files beside the database take turns, so that one is folded while the other grows. They are overwritten in place:
//! no block is allocated and no length changes when a batch is synced, which halves the time that takes.
//!
//! A file is a page of header (its epoch, and how far it was folded) and records one behind the other. A record is a
//! batch, whole or not there: its checksum covers its place and epoch, so what an earlier round left behind is never
//! taken for a part of this one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use roost_core::{PackedRow, Write};

use crate::error::StoreError;

/// The header's page; records begin behind it.
const PAGE: u64 = 4_096;
const MAGIC: &[u8; 16] = b"roost journal 1\n";
/// Bytes of a record before its writes: their length, a checksum, the epoch.
const RECORD: usize = 4 + 4 + 8;
/// A file of this length gives way to the other when that one is free.
const TURN: u64 = 1 << 20;
/// A file grows by this many bytes at a time.
const STEP: u64 = 1 << 20;
/// A file grows no longer: `location` has not taken rows for a long time.
const MAX_BYTES: u64 = 1 << 30;

/// The two files, open and locked, for the thread that appends.
#[derive(Debug)]
pub(crate) struct Journal {
    files: [Segment; 2],
    active: usize,
    epoch: u64,
    free: Arc<[AtomicBool; 2]>,
    record: Vec<u8>,
}

#[derive(Debug)]
struct Segment {
    file: File,
    /// Where the next record begins.
    end: u64,
    /// How far the file's blocks are there.
    allocated: u64,
}

/// How far a record reaches: everything up to there is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    segment: usize,
    epoch: u64,
    end: u64,
}

impl Position {
    /// Whether both are of one file between two turns.
    pub(crate) fn is_same_round(&self, other: Position) -> bool {
        self.epoch == other.epoch
    }
}

/// The two files for the thread that folds: it notes how far it came.
#[derive(Debug)]
pub(crate) struct Marks {
    files: [File; 2],
    free: Arc<[AtomicBool; 2]>,
    /// Where the last fold ended.
    last: Option<Position>,
}

impl Journal {
    /// Opens the journal of a database, which [`recover`] has emptied; nobody else may have it open.
    pub(crate) fn open(database: &Path) -> Result<(Journal, Marks), StoreError> {
        let [first, second] = paths(database);
        let error = |source| StoreError::Journal { path: first.clone(), source };
        let open = |path: &Path| {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
        };
        let files = [open(&first).map_err(error)?, open(&second).map_err(error)?];
        lock(&files, &first)?;
        let epochs = files.each_ref().map(|file| Header::read(file).map_or(0, |header| header.epoch));
        let length = |file: &File| file.metadata().map(|metadata| metadata.len().max(PAGE));
        let allocated = [length(&files[0]).map_err(error)?, length(&files[1]).map_err(error)?];
        let free = Arc::new([AtomicBool::new(true), AtomicBool::new(true)]);
        let marks = Marks {
            files: [files[0].try_clone().map_err(error)?, files[1].try_clone().map_err(error)?],
            free: Arc::clone(&free),
            last: None,
        };
        let [one, other] = files;
        let segment = |file, allocated| Segment { file, end: PAGE, allocated };
        let mut journal = Journal {
            files: [segment(one, allocated[0]), segment(other, allocated[1])],
            active: 0,
            epoch: epochs[0].max(epochs[1]),
            free,
            record: Vec::new(),
        };
        journal.begin(0).map_err(error)?;
        journal.files[0].file.sync_all().map_err(error)?;
        Ok((journal, marks))
    }

    /// Appends a batch and syncs it; when this returns, it is on disk.
    ///
    /// # Errors
    /// When it is not, or perhaps not: the place is written over by the next batch.
    pub(crate) fn append<'w>(&mut self, writes: impl Iterator<Item = &'w Write>) -> io::Result<Position> {
        self.record.clear();
        self.record.extend_from_slice(&[0; RECORD]);
        for write in writes {
            push_write(write, &mut self.record);
        }
        let other = 1 - self.active;
        if self.files[self.active].end >= TURN && self.free[other].load(Ordering::Acquire) {
            self.begin(other)?;
        }
        let (epoch, segment) = (self.epoch, &mut self.files[self.active]);
        let end = segment.end + self.record.len() as u64;
        if end > MAX_BYTES {
            return Err(io::Error::other(
                "the journal is full: `location` has taken no rows for a long time",
            ));
        }
        segment.make_room(end)?;
        seal(&mut self.record, epoch, segment.end);
        segment.file.write_all_at(&self.record, segment.end)?;
        segment.file.sync_data()?;
        segment.end = end;
        Ok(Position { segment: self.active, epoch, end })
    }

    /// Starts a new round in a file.
    fn begin(&mut self, index: usize) -> io::Result<()> {
        Header { epoch: self.epoch + 1, folded: PAGE }.write(&self.files[index].file)?;
        self.epoch += 1;
        self.active = index;
        self.free[index].store(false, Ordering::Release);
        self.files[index].end = PAGE;
        Ok(())
    }
}

impl Segment {
    /// Writes zeros where the file ends: later writes then change no length and allocate no block.
    fn make_room(&mut self, end: u64) -> io::Result<()> {
        if end <= self.allocated {
            return Ok(());
        }
        let zeros = vec![0; STEP as usize];
        while self.allocated < end {
            self.file.write_all_at(&zeros, self.allocated)?;
            self.allocated += STEP;
        }
        self.file.sync_all()
    }
}

impl Marks {
    /// Notes that everything up to here is in `location`, durably. The end of each round must be told, in order.
    pub(crate) fn folded(&mut self, to: Position) -> io::Result<()> {
        Header { epoch: to.epoch, folded: to.end }.write(&self.files[to.segment])?;
        if let Some(last) = self.last.replace(to).filter(|last| last.segment != to.segment) {
            self.free[last.segment].store(true, Ordering::Release);
        }
        Ok(())
    }
}

/// What became of a journal that an earlier process left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovered {
    /// There is none, or all of it is in `location`.
    Nothing,
    /// A server is using it.
    InUse,
    /// So many writes were given to `location`.
    Writes(usize),
}

/// Gives all that an earlier process journalled and did not fold to `take`, in order; empties the journal when that
/// succeeds.
pub(crate) fn recover(
    database: &Path,
    take: &mut dyn FnMut(Vec<Write>) -> Result<(), StoreError>,
) -> Result<Recovered, StoreError> {
    let [first, second] = paths(database);
    let error = |source| StoreError::Journal { path: first.clone(), source };
    let open = |path: &Path| match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(other) => Err(error(other)),
    };
    let (Some(one), Some(other)) = (open(&first)?, open(&second)?) else { return Ok(Recovered::Nothing) };
    let files = [one, other];
    if let Err(refused) = lock(&files, &first) {
        return if matches!(refused, StoreError::InUse { .. }) { Ok(Recovered::InUse) } else { Err(refused) };
    }
    let mut rounds: Vec<_> =
        files.iter().filter_map(|file| Header::read(file).map(|header| (header, file))).collect();
    rounds.sort_by_key(|(header, _)| header.epoch);
    let mut writes = Vec::new();
    let mut ends = Vec::new();
    for (header, file) in rounds {
        let end = read_records(file, header, &mut writes).map_err(error)?;
        ends.push((Header { folded: end, ..header }, file));
    }
    if writes.is_empty() {
        return Ok(Recovered::Nothing);
    }
    let count = writes.len();
    take(writes)?;
    for (header, file) in ends {
        header.write(file).and_then(|()| file.sync_data()).map_err(error)?;
    }
    Ok(Recovered::Writes(count))
}

/// Reads records from where the last fold ended; where they end.
fn read_records(file: &File, header: Header, writes: &mut Vec<Write>) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut at = header.folded;
    loop {
        let mut start = [0; RECORD];
        if at + RECORD as u64 > length {
            return Ok(at);
        }
        file.read_exact_at(&mut start, at)?;
        let size = u64::from(u32::from_le_bytes([start[0], start[1], start[2], start[3]]));
        if size == 0 || at + RECORD as u64 + size > length {
            return Ok(at);
        }
        let mut record = vec![0; RECORD + size as usize];
        file.read_exact_at(&mut record, at)?;
        let mut sealed = record.clone();
        seal(&mut sealed, header.epoch, at);
        if sealed != record {
            return Ok(at);
        }
        let Some(batch) = read_writes(&record[RECORD..]) else { return Ok(at) };
        writes.extend(batch);
        at += record.len() as u64;
    }
}

/// Fills in length, epoch and checksum.
fn seal(record: &mut [u8], epoch: u64, at: u64) {
    let size = (record.len() - RECORD) as u32;
    record[..4].copy_from_slice(&size.to_le_bytes());
    record[8..RECORD].copy_from_slice(&epoch.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&at.to_le_bytes());
    hasher.update(&record[..4]);
    hasher.update(&record[8..]);
    record[4..8].copy_from_slice(&hasher.finalize().to_le_bytes());
}

/// The first page of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    epoch: u64,
    /// Records before this offset are in `location`.
    folded: u64,
}

impl Header {
    fn bytes(self) -> [u8; 36] {
        let mut bytes = [0; 36];
        bytes[..16].copy_from_slice(MAGIC);
        bytes[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.folded.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..32]);
        bytes[32..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None` when the file holds none, or a torn one: then it holds no round that was answered for.
    fn read(file: &File) -> Option<Header> {
        let mut bytes = [0; 36];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let number = |from: usize| bytes[from..from + 8].try_into().map(u64::from_le_bytes).ok();
        let header = Header { epoch: number(16)?, folded: number(24)? };
        (header.bytes() == bytes && header.folded >= PAGE).then_some(header)
    }

    fn write(self, file: &File) -> io::Result<()> {
        file.write_all_at(&self.bytes(), 0)
    }
}

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const PURGE: u8 = 3;

fn push_write(write: &Write, out: &mut Vec<u8>) {
    let mut push = |kind: u8, number: u64, text: &[u8]| {
        out.push(kind);
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text);
    };
    match write {
        Write::Put(row) => push(PUT, row.contact_id(), row.as_bytes()),
        Write::Remove { contact_id, username } => push(REMOVE, *contact_id, username),
        Write::Purge { contact_id, expires_by } => push(PURGE, *contact_id, &expires_by.to_le_bytes()),
    }
}

fn read_writes(mut bytes: &[u8]) -> Option<Vec<Write>> {
    let mut writes = Vec::new();
    while let Some((kind, rest)) = bytes.split_first() {
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        let contact_id = u64::from_le_bytes(*number);
        writes.push(match *kind {
            PUT => Write::Put(PackedRow::from_bytes(text)?),
            REMOVE => Write::Remove { contact_id, username: text.into() },
            PURGE => Write::Purge { contact_id, expires_by: u64::from_le_bytes(text.try_into().ok()?) },
            _ => return None,
        });
        bytes = rest;
    }
    Some(writes)
}

/// `roost.db-commits.0` and `.1` beside `roost.db`.
fn paths(database: &Path) -> [PathBuf; 2] {
    [0, 1].map(|index| {
        let mut name = database.file_name().unwrap_or_default().to_os_string();
        name.push(format!("-commits.{index}"));
        database.with_file_name(name)
    })
}

/// One process at a time; the lock ends with the process, however that ends.
fn lock(files: &[File; 2], path: &Path) -> Result<(), StoreError> {
    match files[0].try_lock() {
        Ok(()) => Ok(()),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_path_buf() }),
        Err(std::fs::TryLockError::Error(source)) => {
            Err(StoreError::Journal { path: path.to_path_buf(), source })
        }
    }
}

#[cfg(test)]
mod tests {
    use roost_core::Row;

    use super::*;

    fn put(contact_id: u64) -> Write {
        let text = |text: String| text.into_bytes().into_boxed_slice();
        let row = Row {
            contact_id,
            username: text(contact_id.to_string()),
            contact: text("sip:x@y".repeat(20)),
            ..Row::default()
        };
        Write::Put(row.pack())
    }

    fn recovered(database: &Path) -> Vec<Write> {
        let mut all = Vec::new();
        let result = recover(database, &mut |writes| {
            all = writes;
            Ok(())
        });
        let expected = if all.is_empty() { Recovered::Nothing } else { Recovered::Writes(all.len()) };
        assert_eq!(result.unwrap(), expected);
        all
    }

    #[test]
    fn what_was_synced_and_not_folded_comes_back_in_order_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("x.db");
        assert_eq!(recovered(&database), []);
        let remove = Write::Remove { contact_id: 2, username: (*b"9001").into() };
        let purge = Write::Purge { contact_id: 3, expires_by: 77 };
        let (mut journal, mut marks) = Journal::open(&database).unwrap();
        let first = journal.append([put(1)].iter()).unwrap();
        journal.append([put(2), remove.clone()].iter()).unwrap();
        journal.append([purge.clone(), put(1)].iter()).unwrap();
        marks.folded(first).unwrap();
        drop((journal, marks));
        assert_eq!(recovered(&database), [put(2), remove, purge, put(1)]);
        assert_eq!(recovered(&database), []);
        drop(Journal::open(&database).unwrap());
        assert_eq!(recovered(&database), []);
    }

    #[test]
    fn the_files_take_turns_and_grow_when_they_cannot() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("x.db");
        let (mut journal, mut marks) = Journal::open(&database).unwrap();
        let mut expected = Vec::new();
        let mut segments = Vec::new();
        let mut unfolded: Vec<Position> = Vec::new();
        for round in 0..60_u64 {
            let batch: Vec<_> = (round * 1_000..round * 1_000 + 500).map(put).collect();
            let position = journal.append(batch.iter()).unwrap();
            segments.push(position.segment);
            unfolded.push(position);
            expected.extend(batch);
            if round == 20 || round == 40 {
                unfolded.drain(..).for_each(|position| marks.folded(position).unwrap());
                expected.clear();
            }
        }
        assert!(segments.contains(&0) && segments.contains(&1), "{segments:?}");
        drop((journal, marks));
        assert_eq!(recovered(&database), expected);
    }

    #[test]
    fn a_torn_record_and_all_behind_it_are_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("x.db");
        let (mut journal, marks) = Journal::open(&database).unwrap();
        let first = journal.append([put(1)].iter()).unwrap();
        let second = journal.append([put(2)].iter()).unwrap();
        drop((journal, marks));
        let path = &paths(&database)[0];
        let whole = std::fs::read(path).unwrap();
        for at in first.end..second.end {
            let mut torn = whole.clone();
            torn[at as usize] ^= 1;
            std::fs::write(path, &torn).unwrap();
            assert_eq!(recovered(&database), [put(1)], "byte {at}");
        }
        for at in 0..36 {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            std::fs::write(path, &torn).unwrap();
            assert_eq!(recovered(&database), [], "byte {at} of the header");
        }
        std::fs::write(path, &whole[..second.end as usize - 1]).unwrap();
        assert_eq!(recovered(&database), [put(1)]);
        std::fs::write(path, b"").unwrap();
        assert_eq!(recovered(&database), []);
    }

    #[test]
    fn what_an_earlier_round_left_is_never_read() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("x.db");
        let (mut journal, mut marks) = Journal::open(&database).unwrap();
        for id in 0..50 {
            marks.folded(journal.append([put(id)].iter()).unwrap()).unwrap();
        }
        drop((journal, marks));
        let (mut journal, marks) = Journal::open(&database).unwrap();
        journal.append([put(99)].iter()).unwrap();
        drop((journal, marks));
        assert_eq!(recovered(&database), [put(99)]);
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("x.db");
        let (mut journal, marks) = Journal::open(&database).unwrap();
        journal.append([put(1)].iter()).unwrap();
        assert!(matches!(Journal::open(&database), Err(StoreError::InUse { .. })));
        assert_eq!(recover(&database, &mut |_| panic!("in use")).unwrap(), Recovered::InUse);
        drop((journal, marks));
        assert_eq!(recovered(&database), [put(1)]);
    }
}
