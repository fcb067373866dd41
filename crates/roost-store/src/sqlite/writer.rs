//! The threads that write: one makes commits durable in the journal, one folds them into `location`, one makes
//! checkpoints of the database file.
//!
//! While a batch syncs the next one gathers, so batches grow with the load by themselves.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use roost_core::{CommitOutcome, Receipt};
use rusqlite::Connection;

use crate::columns::{EXPIRED, LocationColumns};
use crate::error::StoreError;
use crate::job::{Batches, Commit, Gathered, Job, PURGE_EVERY, Receipts, expired_by, gather, spawn};
use crate::sqlite::connect;
use crate::sqlite::fold::{Fold, FoldQueue, PURGE, ToFold};
use crate::sqlite::journal::Journal;

/// Commits that are synced at once at most.
const MAX_BATCH: usize = 4_096;
/// A batch of so many says that more come at once: then the next sync waits until [`ROUND`] is over, and takes them
/// together. A sync and the wake-ups after it cost as much as ten REGISTERs.
const MANY: usize = 4;
/// How often there is a sync under load. Less than that there is none to wait for: each commit is synced when it comes.
const ROUND: Duration = Duration::from_micros(400);
/// Rows that such a look deletes at most.
const PURGE_AT_MOST: usize = 5_000;
/// How often the log is folded into the database file.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);
/// A log beyond this many bytes is cut even if that holds the fold up for a moment.
const MAX_LOG_BYTES: u64 = 256 << 20;

/// Starts the threads that write; they end one after the other, in this order, when nobody can send any more.
///
/// # Errors
/// [`StoreError`] when a connection cannot be made or a thread not be started.
pub(crate) fn start(
    path: &PathBuf,
    columns: &LocationColumns,
    queue: Receiver<Job>,
    receipts: Receipts,
    batches: Batches,
    shed: Arc<AtomicU64>,
) -> Result<[JoinHandle<()>; 3], StoreError> {
    let connection = connect(path)?;
    let checkpointer = connect(path)?;
    let log_path = path.with_file_name(format!(
        "{}-wal",
        path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default()
    ));
    let synchronous: i64 = connection
        .pragma_query_value(None, "synchronous", |row| row.get(0))
        .map_err(StoreError::sql("reading synchronous"))?;
    let (journal, marks) = Journal::open(path)?;
    tracing::debug!(path = %path.display(), synchronous, "database open");
    let folds = Arc::new(AtomicU64::new(0));
    let swept = columns.clone();
    let (alive, gone) = channel::<()>();
    let to_fold = Arc::new(FoldQueue::default());
    let fold = Fold {
        connection,
        columns: columns.clone(),
        queue: Arc::clone(&to_fold),
        marks,
        receipts: Arc::clone(&receipts),
        folds: Arc::clone(&folds),
        shed,
    };
    Ok([
        spawn("roost-journal", move || write_all(journal, &queue, &receipts, &to_fold, &batches))?,
        spawn("roost-fold", move || run_fold(fold, alive))?,
        spawn("roost-checkpoint", move || checkpoint_all(&checkpointer, &swept, &log_path, &folds, &gone))?,
    ])
}

/// `alive` goes with it.
fn run_fold(fold: Fold, alive: Sender<()>) {
    fold.run();
    drop(alive);
}

/// Ends when every handle is gone and everything queued is in the journal.
fn write_all(
    mut journal: Journal,
    queue: &Receiver<Job>,
    receipts: &Receipts,
    to_fold: &FoldQueue,
    batches: &Batches,
) {
    while let Ok(first) = queue.recv() {
        let begun = Instant::now();
        let Gathered { commits, purges } = gather(first, queue, MAX_BATCH);
        if !purges.is_empty() {
            to_fold.send(ToFold::Purge(purges));
        }
        let many = commits.len() >= MANY;
        if !commits.is_empty() {
            batches.count(commits.len());
            let (count, begun) = (commits.len(), Instant::now());
            let is_written = write_batch(&mut journal, commits, receipts, to_fold);
            batches.done(count, begun);
            batches.note(!is_written);
        }
        if many {
            std::thread::sleep(ROUND.saturating_sub(begun.elapsed()));
        }
    }
    to_fold.close();
}

/// One record for the whole batch; whether it is on disk. A commit without writes waits until everything before it is in the table.
fn write_batch(journal: &mut Journal, batch: Vec<Commit>, receipts: &Receipts, to_fold: &FoldQueue) -> bool {
    let writes = || batch.iter().flat_map(|commit| &commit.writes);
    let appended = match writes().next() {
        Some(_) => journal.append(writes()).map(Some),
        None => Ok(None),
    };
    let mut told = Vec::with_capacity(batch.len());
    let mut flushes = Vec::new();
    for Commit { shard, ticket, writes, .. } in &batch {
        match &appended {
            Ok(_) if writes.is_empty() => flushes.push(ToFold::Flush(*shard, *ticket)),
            Ok(_) => told.push((*shard, Receipt::Commit(*ticket, CommitOutcome::Committed))),
            Err(error) => {
                let failed = CommitOutcome::Failed(error.to_string());
                told.push((*shard, Receipt::Commit(*ticket, failed)));
            }
        }
    }
    receipts(told);
    let is_written = appended.is_ok();
    match appended {
        Ok(Some(position)) => {
            let writes = batch.into_iter().flat_map(|commit| commit.writes).collect();
            to_fold.send(ToFold::Writes(writes, position));
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, commits = batch.len(), "the journal cannot be written"),
    }
    for flush in flushes {
        to_fold.send(flush);
    }
    is_written
}

/// Folds the log into the database file beside the writer, not in its way; the last time when the writer has ended.
fn checkpoint_all(
    connection: &Connection,
    columns: &LocationColumns,
    log: &std::path::Path,
    commits: &AtomicU64,
    gone: &Receiver<()>,
) {
    let mut done = 0;
    let mut purge_at = Instant::now() + CHECKPOINT_EVERY;
    loop {
        let ended = !matches!(gone.recv_timeout(CHECKPOINT_EVERY), Err(RecvTimeoutError::Timeout));
        let so_far = commits.load(Ordering::Relaxed);
        if so_far != done || ended {
            done = so_far;
            let is_long = std::fs::metadata(log).is_ok_and(|log| log.len() > MAX_LOG_BYTES);
            let mode = if ended || is_long { "TRUNCATE" } else { "PASSIVE" };
            if let Err(error) =
                connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
            {
                tracing::debug!(%error, "checkpoint");
            }
        }
        if ended {
            return;
        }
        if Instant::now() > purge_at {
            let purged = purge_leftovers(connection, columns);
            // There are more: the next part follows soon.
            let is_full = purged.as_ref().is_ok_and(|rows| *rows == PURGE_AT_MOST);
            purge_at = Instant::now() + if is_full { CHECKPOINT_EVERY } else { PURGE_EVERY };
            if let Err(error) = purged {
                tracing::debug!(%error, "deleting expired rows");
            }
        }
    }
}

/// Deletes rows that expired a minute ago or more; what is renewed meanwhile stays.
fn purge_leftovers(connection: &Connection, columns: &LocationColumns) -> rusqlite::Result<usize> {
    let by = expired_by() as i64;
    let mut expired = connection.prepare_cached(&columns.sql(EXPIRED))?;
    let ids =
        expired.query_map([by, PURGE_AT_MOST as i64], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    let rows = ids.len();
    if rows == 0 {
        return Ok(0);
    }
    let transaction = connection.unchecked_transaction()?;
    let mut purge = transaction.prepare_cached(&columns.sql(PURGE))?;
    for id in ids {
        purge.execute([id, by])?;
    }
    drop(purge);
    transaction.commit()?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use roost_core::{Row, ShardId, Ticket, Write};

    use super::*;
    use crate::access::Access;
    use crate::columns::Columns;
    use crate::job::Health;
    use crate::sqlite::fold::fold_all;
    use crate::store::Store;
    use std::path::Path;
    use std::sync::Mutex;

    fn open(folder: &Path) -> Store {
        Store::open("sqlite:test.db", folder, &Access::default(), Columns::default()).unwrap()
    }

    fn row(contact_id: u64, username: &str) -> Row {
        Row {
            contact_id,
            username: username.as_bytes().into(),
            contact: format!("sip:{username}@127.0.0.1").into_bytes().into(),
            expires: 4_000_000_000,
            callid: (*b"call").into(),
            cseq: 1,
            last_modified: 1_800_000_000,
            user_agent: (*b"n/a").into(),
            socket: Some((*b"udp:127.0.0.1:5060").into()),
            ..Row::default()
        }
    }

    fn put(contact_id: u64, username: &str) -> Write {
        Write::Put(row(contact_id, username).pack())
    }

    fn rows(store: &Store) -> Vec<Row> {
        store.loader().next_page(1_800_000_000).unwrap().unwrap().rows
    }

    #[test]
    fn a_row_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let full = Row {
            domain: Some((*b"tony.com").into()),
            received: Some((*b"sip:10.0.0.1:99").into()),
            path: Some((*b"<sip:10.0.0.1;lr>, <sip:j\xf8rgen@10.0.0.2>").into()),
            q: Some(123),
            cflags: (*b"NAT").into(),
            flags: 3,
            methods: Some(5951),
            sip_instance: Some((*b"<urn:uuid:1>").into()),
            features: Some((*b";reg-id=1;+sip.a=\"x\"").into()),
            kv_others: Some((*br#"{"a":"b","n":7}"#).into()),
            contact: (*b"sip:j\xf8rgen@x").into(),
            ..row(1 << 61 | 7, "9001")
        };
        store.write(&[Write::Put(full.pack())]).unwrap();
        store.write(&[Write::Put(full.pack())]).unwrap();
        assert_eq!(rows(&store), std::slice::from_ref(&full));
        // A refresh takes away what it does not say.
        let bare = Row { received: None, path: None, sip_instance: None, ..full };
        store.write(&[Write::Put(bare.pack())]).unwrap();
        assert_eq!(rows(&store), [bare]);
    }

    #[test]
    fn a_row_of_another_aor_is_never_touched() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        store.write(&[put(7, "9001")]).unwrap();
        assert!(store.write(&[put(8, "9002"), put(7, "9002")]).is_err());
        store.write(&[Write::Remove { contact_id: 7, username: (*b"9002").into() }]).unwrap();
        assert_eq!(rows(&store), [row(7, "9001")]);
    }

    #[test]
    fn a_row_that_spells_its_aor_otherwise_is_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let theirs = Row { domain: Some((*b"Tony.com").into()), ..row(7, "Bob") };
        let ours = Row { domain: Some((*b"tony.com").into()), cseq: 2, ..row(7, "bob") };
        let bare = Row { cseq: 3, ..row(7, "bob") };
        store.write(&[Write::Put(theirs.pack()), Write::Put(ours.pack()), Write::Put(bare.pack())]).unwrap();
        assert_eq!(rows(&store), [bare]);
    }

    #[test]
    fn expired_rows_go_at_load_and_renewed_ones_are_not_purged() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let expired = Row { expires: 1_700_000_000, ..row(1, "9001") };
        let permanent = Row { expires: 0, ..row(2, "9002") };
        store.write(&[Write::Put(expired.pack()), Write::Put(permanent.pack()), put(3, "9003")]).unwrap();
        assert_eq!(rows(&store).len(), 2);
        let columns = LocationColumns::default();
        assert_eq!(purge_leftovers(&store.sqlite(), &columns).unwrap(), 1);
        assert_eq!(rows_of(&store.sqlite()), 2);
        let purge = |contact_id| Write::Purge { contact_id, expires_by: 3_999_999_999 };
        store.write(&[purge(2), purge(3)]).unwrap();
        assert_eq!(rows(&store).len(), 2);
    }

    #[test]
    fn leftovers_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let left = Row { expires: 1_000, ..row(1, "9001") };
        store.write(&[Write::Put(left.pack()), put(2, "9002")]).unwrap();
        let connection = store.sqlite();
        purge_leftovers(&connection, &LocationColumns::default()).unwrap();
        let count: i64 = connection.query_row("SELECT count(*) FROM location", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1);
    }

    #[test]
    fn a_row_that_the_table_refuses_harms_no_neighbour() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let connection = store.sqlite();
        let trigger = "CREATE TRIGGER bad BEFORE INSERT ON location WHEN NEW.username = 'bad' \
            BEGIN SELECT RAISE(ABORT, 'bad row'); END";
        connection.execute_batch(trigger).unwrap();
        fold_all(
            &connection,
            &LocationColumns::default(),
            vec![put(1, "9001"), put(2, "bad"), put(3, "9003")],
        )
        .unwrap();
        let users: Vec<_> = rows(&store).into_iter().map(|row| row.contact_id).collect();
        assert_eq!(users, [1, 3]);
    }

    #[test]
    fn the_writers_connection_syncs_every_commit() {
        let folder = tempfile::tempdir().unwrap();
        let connection = open(folder.path()).sqlite();
        let pragma = |name: &str| -> String {
            connection
                .pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))
                .map(|value| format!("{value:?}"))
                .unwrap()
        };
        assert_eq!(pragma("synchronous"), "Integer(2)");
        assert_eq!(pragma("journal_mode"), "Text(\"wal\")");
        assert_eq!(pragma("wal_autocheckpoint"), "Integer(0)");
    }

    /// Starts the store's threads; what they tell.
    fn start(store: &Store) -> (crate::Running, Receiver<(ShardId, Receipt)>) {
        start_beside(store, Arc::default())
    }

    fn start_beside(store: &Store, shed: Arc<AtomicU64>) -> (crate::Running, Receiver<(ShardId, Receipt)>) {
        let (tell, told) = channel();
        let tell = Mutex::new(tell);
        let receipts: Receipts = Arc::new(move |receipts| {
            for receipt in receipts {
                let _ = tell.lock().unwrap().send(receipt);
            }
        });
        (store.start(true, receipts, shed, Health::new(Duration::MAX, |_| ())).unwrap(), told)
    }

    fn commit(ticket: u64, writes: Vec<Write>) -> Vec<Commit> {
        vec![Commit { shard: ShardId(3), ticket: Ticket(ticket), writes, exclusive: None }]
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_receipt_waits_for_the_disk_and_not_for_somebody_elses_lock() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let other = store.sqlite();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let (running, told) = start(&store);
        running.handle().commit(commit(9, vec![put(1, "9001")]));
        let committed = |ticket| Receipt::Commit(Ticket(ticket), CommitOutcome::Committed);
        assert_eq!(told.recv_timeout(LONG), Ok((ShardId(3), committed(9))));
        assert_eq!(rows_of(&other), 0);
        running.handle().commit(commit(10, Vec::new()));
        assert!(told.recv_timeout(Duration::from_millis(300)).is_err(), "a flush waits for the table");
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(told.recv_timeout(LONG), Ok((ShardId(3), committed(10))));
        assert_eq!(rows_of(&other), 1);
        running.stop();
    }

    #[test]
    fn rows_are_seen_by_others_within_a_second_and_in_their_last_state() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let other = store.sqlite();
        let (running, _told) = start(&store);
        let begun = std::time::Instant::now();
        for cseq in 1..=500 {
            let row = Row { cseq, ..row(1, "9001") };
            running.handle().commit(commit(u64::from(cseq), vec![Write::Put(row.pack())]));
        }
        let last = || other.query_row("SELECT max(cseq) FROM location", [], |row| row.get(0)).unwrap_or(0);
        while last() < 500 {
            assert!(begun.elapsed() < LONG, "only {}", last());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(rows_of(&other), 1);
        running.stop();
    }

    #[test]
    fn while_the_server_sheds_load_rows_are_put_off_but_not_who_waits_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let other = store.sqlite();
        let shed = Arc::new(AtomicU64::new(0));
        let (running, told) = start_beside(&store, Arc::clone(&shed));
        let shed_for = |time: Duration| {
            let begun = Instant::now();
            while begun.elapsed() < time && rows_of(&other) == 0 {
                shed.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
            rows_of(&other)
        };
        running.handle().commit(commit(1, vec![put(1, "9001")]));
        assert_eq!(told.recv_timeout(LONG).map(|(shard, _)| shard), Ok(ShardId(3)), "durable all the same");
        assert_eq!(shed_for(Duration::from_secs(2)), 0, "later");
        running.handle().commit(commit(2, Vec::new()));
        told.recv_timeout(LONG).unwrap();
        assert_eq!(rows_of(&other), 1, "a flush waits for no calm");
        other.execute("DELETE FROM location", []).unwrap();
        running.handle().commit(commit(3, vec![put(2, "9002")]));
        assert_eq!(shed_for(LONG), 1, "not for ever");
        running.stop();
    }

    #[test]
    fn what_a_killed_server_left_is_in_the_table_when_the_database_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let (mut journal, marks) = Journal::open(&folder.path().join("test.db")).unwrap();
        journal.append([put(1, "9001"), put(2, "9002")].iter()).unwrap();
        assert!(matches!(
            store.start(true, Arc::new(|_| ()), Arc::default(), Health::new(Duration::MAX, |_| ())),
            Err(StoreError::InUse { .. })
        ));
        assert_eq!(rows(&open(folder.path())), [], "a running server's journal is its own");
        drop((journal, marks));
        assert_eq!(rows(&open(folder.path())).len(), 2);
    }

    #[test]
    fn a_stopped_store_has_done_all_that_was_queued() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let (running, told) = start(&store);
        let handle = running.handle();
        for id in 1..=1000 {
            handle.commit(commit(id, vec![put(id, &id.to_string())]));
        }
        drop(handle);
        running.stop();
        assert_eq!(
            told.iter()
                .filter(|(_, told)| matches!(told, Receipt::Commit(_, CommitOutcome::Committed)))
                .count(),
            1000
        );
        assert_eq!(rows(&store).len(), 1000);
    }

    fn rows_of(connection: &Connection) -> i64 {
        connection.query_row("SELECT count(*) FROM location", [], |row| row.get(0)).unwrap()
    }
}
