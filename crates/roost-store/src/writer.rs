//! The writer: one thread, one connection, one transaction for all that is queued (group commit).
//!
//! While a batch syncs the next one gathers, so batches grow with the load by themselves. A commit of several rows
//! is a savepoint of its own: one bad row fails its own commit and no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use roost_core::{Outcome, Row, ShardId, Ticket, Write};
use rusqlite::{CachedStatement, Connection, params};

use crate::sqlite::{Sqlite, text};
use crate::{Receipts, StoreError};

/// Commits that share one transaction at most.
const MAX_BATCH: usize = 4_096;
/// How long a batch waits while another process writes, such as `roost user import`: as long as a phone waits for its
/// answer (RFC 3261 timer F).
const TURN_TIMEOUT: Duration = Duration::from_secs(32);
/// How often rows are looked for whose binding has expired and was not deleted (a purge that failed, a clock that stepped).
const PURGE_EVERY: Duration = Duration::from_secs(60);
/// Rows that such a look deletes at most.
const PURGE_AT_MOST: usize = 5_000;
/// How often the log is folded into the database file.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(500);
/// A log beyond this many bytes is cut even if that holds the writer up for a moment.
const MAX_LOG_BYTES: u64 = 64 << 20;

/// One commit.
#[derive(Debug)]
pub(crate) struct Job {
    /// Who hears of it.
    pub(crate) receipt: Option<(ShardId, Ticket)>,
    pub(crate) writes: Vec<Write>,
}

/// The writer's threads.
#[derive(Debug)]
pub(crate) struct Writer {
    thread: JoinHandle<()>,
    checkpoints: JoinHandle<()>,
}

impl Writer {
    pub(crate) fn start(
        sqlite: &Sqlite,
        queue: Receiver<Job>,
        receipts: Receipts,
    ) -> Result<Writer, StoreError> {
        let connection = sqlite.connect()?;
        connection.busy_timeout(TURN_TIMEOUT).map_err(StoreError::sql("setting the timeout"))?;
        let checkpointer = sqlite.connect()?;
        let log_path = sqlite.path.with_file_name(format!(
            "{}-wal",
            sqlite.path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default()
        ));
        let synchronous: i64 = connection
            .pragma_query_value(None, "synchronous", |row| row.get(0))
            .map_err(StoreError::sql("reading synchronous"))?;
        tracing::info!(path = %sqlite.path.display(), synchronous, "database open");
        let commits = Arc::new(AtomicU64::new(0));
        let (alive, gone) = channel::<()>();
        let counter = Arc::clone(&commits);
        let write = move || write_all(&connection, &queue, &receipts, &counter, alive);
        let checkpoint = move || checkpoint_all(&checkpointer, &log_path, &commits, &gone);
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.into()).spawn(run).map_err(StoreError::Thread)
        };
        Ok(Writer {
            thread: spawn("roost-writer", Box::new(write))?,
            checkpoints: spawn("roost-checkpoint", Box::new(checkpoint))?,
        })
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished() || self.checkpoints.is_finished()
    }

    pub(crate) fn join(self) {
        let _ = self.thread.join();
        let _ = self.checkpoints.join();
    }
}

/// Ends when every handle is gone and everything queued is done; `alive` goes with it.
fn write_all(
    connection: &Connection,
    queue: &Receiver<Job>,
    receipts: &Receipts,
    commits: &AtomicU64,
    alive: Sender<()>,
) {
    let mut batch = Vec::new();
    while let Ok(first) = queue.recv() {
        batch.push(first);
        batch.extend(queue.try_iter().take(MAX_BATCH - 1));
        let outcomes = write_batch(connection, &batch);
        commits.fetch_add(1, Ordering::Relaxed);
        let told =
            |(job, outcome): (Job, Outcome)| job.receipt.map(|(shard, ticket)| (shard, ticket, outcome));
        receipts(batch.drain(..).zip(outcomes).filter_map(told).collect());
    }
    drop(alive);
}

/// One transaction for the whole batch; the outcome of each of its jobs.
fn write_batch(connection: &Connection, batch: &[Job]) -> Vec<Outcome> {
    let failed = |error: &rusqlite::Error| Outcome::Failed(error.to_string());
    let outcomes = match try_batch(connection, batch) {
        Ok(outcomes) => outcomes,
        Err(error) => {
            tracing::warn!(%error, commits = batch.len(), "the database refused a batch");
            if !connection.is_autocommit() {
                let _ = connection.execute_batch("ROLLBACK");
            }
            return batch.iter().map(|_| failed(&error)).collect();
        }
    };
    outcomes.iter().map(|outcome| outcome.as_ref().map_or_else(failed, |()| Outcome::Committed)).collect()
}

type Outcomes = Vec<rusqlite::Result<()>>;

fn try_batch(connection: &Connection, batch: &[Job]) -> rusqlite::Result<Outcomes> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let mut statements = Statements::new(connection)?;
    let mut outcomes = Vec::with_capacity(batch.len());
    for job in batch {
        let outcome = statements.run_job(connection, &job.writes);
        if let Err(error) = &outcome {
            if connection.is_autocommit() {
                // SQLite rolled everything back: a full disk, an I/O error.
                return outcome.map(|()| Vec::new());
            }
            tracing::debug!(%error, "a row was refused");
        }
        outcomes.push(outcome);
    }
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(outcomes)
}

/// The statements of one batch.
pub(crate) struct Statements<'c> {
    put: CachedStatement<'c>,
    remove: CachedStatement<'c>,
    purge: CachedStatement<'c>,
    local_time: CachedStatement<'c>,
    /// The last time written, as text.
    stamp: (u64, String),
}

impl<'c> Statements<'c> {
    pub(crate) fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Statements {
            put: connection.prepare_cached(PUT)?,
            remove: connection.prepare_cached(
                "DELETE FROM location WHERE contact_id = ?1 AND username = ?2 COLLATE NOCASE",
            )?,
            purge: connection.prepare_cached(PURGE)?,
            local_time: connection.prepare_cached("SELECT datetime(?1, 'unixepoch', 'localtime')")?,
            stamp: (u64::MAX, String::new()),
        })
    }

    /// All writes of a job or none.
    fn run_job(&mut self, connection: &Connection, writes: &[Write]) -> rusqlite::Result<()> {
        let [first, second @ ..] = writes else { return Ok(()) };
        if second.is_empty() {
            return self.run(first);
        }
        connection.prepare_cached("SAVEPOINT job")?.execute([])?;
        let result = writes.iter().try_for_each(|write| self.run(write));
        if result.is_err() && !connection.is_autocommit() {
            connection.prepare_cached("ROLLBACK TO job")?.execute([])?;
        }
        if !connection.is_autocommit() {
            connection.prepare_cached("RELEASE job")?.execute([])?;
        }
        result
    }

    pub(crate) fn run(&mut self, write: &Write) -> rusqlite::Result<()> {
        match write {
            Write::Put(row) => self.put(row),
            Write::Remove { contact_id, username } => {
                self.remove.execute(params![*contact_id as i64, text(username)]).map(drop)
            }
            Write::Purge { contact_id, expires_by } => {
                self.purge.execute([*contact_id as i64, *expires_by as i64]).map(drop)
            }
        }
    }

    fn put(&mut self, row: &Row) -> rusqlite::Result<()> {
        if self.stamp.0 != row.last_modified {
            let stamp = self.local_time.query_row([row.last_modified as i64], |row| row.get(0))?;
            self.stamp = (row.last_modified, stamp);
        }
        let optional = |value: &Option<Box<[u8]>>| value.as_deref().map(text);
        let written = self.put.execute(params![
            row.contact_id as i64,
            text(&row.username),
            optional(&row.domain),
            text(&row.contact),
            optional(&row.received),
            row.expires as i64,
            row.q.map_or(-1.0, |q| f64::from(q) / 1000.0),
            text(&row.callid),
            row.cseq,
            self.stamp.1,
            row.flags,
            text(&row.cflags),
            text(&row.user_agent),
            optional(&row.socket),
            row.methods,
            optional(&row.sip_instance),
            optional(&row.path),
        ])?;
        match written {
            // Another AOR has this contact_id.
            0 => Err(rusqlite::Error::StatementChangedRows(0)),
            _ => Ok(()),
        }
    }
}

const PURGE: &str = "DELETE FROM location WHERE contact_id = ?1 AND expires > 0 AND expires <= ?2";

/// Repeating it changes nothing; a row of another AOR is never touched (one that spells ours in another case, or has a
/// domain where `use_domain` is off, is ours); columns that roost does not know keep their
/// values.
const PUT: &str = "INSERT INTO location (contact_id, username, domain, contact, received, expires, q, callid, cseq, \
    last_modified, flags, cflags, user_agent, socket, methods, sip_instance, path) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) \
    ON CONFLICT (contact_id) DO UPDATE SET username = excluded.username, domain = excluded.domain, contact = excluded.contact, received = excluded.received, \
    expires = excluded.expires, q = excluded.q, callid = excluded.callid, cseq = excluded.cseq, \
    last_modified = excluded.last_modified, flags = excluded.flags, cflags = excluded.cflags, \
    user_agent = excluded.user_agent, socket = excluded.socket, methods = excluded.methods, \
    sip_instance = excluded.sip_instance, path = excluded.path \
    WHERE location.username = excluded.username COLLATE NOCASE AND (location.domain = excluded.domain COLLATE NOCASE \
    OR location.domain IS NULL OR excluded.domain IS NULL)";

/// Folds the log into the database file beside the writer, not in its way; the last time when the writer has ended.
fn checkpoint_all(connection: &Connection, log: &std::path::Path, commits: &AtomicU64, gone: &Receiver<()>) {
    let mut done = 0;
    let mut purged = std::time::Instant::now();
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
        if purged.elapsed() > PURGE_EVERY {
            purged = std::time::Instant::now();
            if let Err(error) = purge_leftovers(connection) {
                tracing::debug!(%error, "deleting expired rows");
            }
        }
    }
}

/// Deletes rows that expired a minute ago or more; what is renewed meanwhile stays.
fn purge_leftovers(connection: &Connection) -> rusqlite::Result<()> {
    let by = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
        as i64
        - 60;
    let mut expired = connection
        .prepare_cached("SELECT contact_id FROM location WHERE expires > 0 AND expires <= ?1 LIMIT ?2")?;
    let ids =
        expired.query_map([by, PURGE_AT_MOST as i64], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    if ids.is_empty() {
        return Ok(());
    }
    let transaction = connection.unchecked_transaction()?;
    let mut purge = transaction.prepare_cached(PURGE)?;
    for id in ids {
        purge.execute([id, by])?;
    }
    drop(purge);
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Columns, Preload, Store};
    use std::path::Path;
    use std::sync::Mutex;

    fn open(folder: &Path) -> Store {
        let columns = Columns {
            user: "username".into(),
            domain: "domain".into(),
            password: "password".into(),
            password_2: "ha1b".into(),
            calculate_ha1: true,
            use_domain: false,
        };
        Store::open("sqlite:test.db", folder, columns).unwrap()
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
        Write::Put(Box::new(row(contact_id, username)))
    }

    fn rows(store: &Store) -> Vec<Row> {
        let mut rows = Vec::new();
        store.load(1_800_000_000, &mut |row| rows.push(row)).unwrap();
        rows
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
            contact: (*b"sip:j\xf8rgen@x").into(),
            ..row(1 << 61 | 7, "9001")
        };
        store.write(&[Write::Put(Box::new(full.clone()))]).unwrap();
        store.write(&[Write::Put(Box::new(full.clone()))]).unwrap();
        assert_eq!(rows(&store), std::slice::from_ref(&full));
        // A refresh takes away what it does not say.
        let bare = Row { received: None, path: None, sip_instance: None, ..full };
        store.write(&[Write::Put(Box::new(bare.clone()))]).unwrap();
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
        store
            .write(&[
                Write::Put(Box::new(theirs)),
                Write::Put(Box::new(ours)),
                Write::Put(Box::new(bare.clone())),
            ])
            .unwrap();
        assert_eq!(rows(&store), [bare]);
    }

    #[test]
    fn expired_rows_go_at_load_and_renewed_ones_are_not_purged() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let expired = Row { expires: 1_800_000_000, ..row(1, "9001") };
        let permanent = Row { expires: 0, ..row(2, "9002") };
        store
            .write(&[Write::Put(Box::new(expired)), Write::Put(Box::new(permanent)), put(3, "9003")])
            .unwrap();
        let loaded = store.load(1_800_000_000, &mut |_| ()).unwrap();
        assert_eq!((loaded.rows, loaded.purged), (2, 1));
        let purge = |contact_id| Write::Purge { contact_id, expires_by: 3_999_999_999 };
        store.write(&[purge(2), purge(3)]).unwrap();
        assert_eq!(rows(&store).len(), 2);
    }

    #[test]
    fn leftovers_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let left = Row { expires: 1_000, ..row(1, "9001") };
        store.write(&[Write::Put(Box::new(left)), put(2, "9002")]).unwrap();
        let Store::Sqlite(sqlite) = &store;
        let connection = sqlite.connect().unwrap();
        purge_leftovers(&connection).unwrap();
        let count: i64 = connection.query_row("SELECT count(*) FROM location", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1);
    }

    #[test]
    fn one_bad_row_fails_its_own_commit_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let Store::Sqlite(sqlite) = &store;
        let connection = sqlite.connect().unwrap();
        let trigger = "CREATE TRIGGER bad BEFORE INSERT ON location WHEN NEW.username = 'bad' \
            BEGIN SELECT RAISE(ABORT, 'bad row'); END";
        connection.execute_batch(trigger).unwrap();
        let job = |ticket, writes| Job { receipt: Some((ShardId(0), Ticket(ticket))), writes };
        let batch = [
            job(1, vec![put(1, "9001")]),
            job(2, vec![put(2, "bad")]),
            job(3, vec![put(3, "9003"), put(4, "bad")]),
            job(4, vec![put(5, "9005"), put(6, "9006")]),
        ];
        let outcomes = write_batch(&connection, &batch);
        let committed: Vec<bool> =
            outcomes.iter().map(|outcome| matches!(outcome, Outcome::Committed)).collect();
        assert_eq!(committed, [true, false, false, true]);
        let users: Vec<_> = rows(&store).into_iter().map(|row| row.contact_id).collect();
        assert_eq!(users, [1, 5, 6]);
    }

    #[test]
    fn the_writers_connection_syncs_every_commit() {
        let folder = tempfile::tempdir().unwrap();
        let Store::Sqlite(sqlite) = open(folder.path());
        let connection = sqlite.connect().unwrap();
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

    #[test]
    fn no_receipt_while_the_commit_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let Store::Sqlite(sqlite) = &store;
        let other = sqlite.connect().unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let (tell, told) = channel();
        let tell = Mutex::new(tell);
        let running = store
            .start(
                Arc::new(move |receipts| {
                    for receipt in receipts {
                        tell.lock().unwrap().send(receipt).unwrap();
                    }
                }),
                Preload::never(),
            )
            .unwrap();
        running.handle().commit(ShardId(3), Ticket(9), vec![put(1, "9001")]);
        assert!(told.recv_timeout(Duration::from_millis(300)).is_err());
        other.execute_batch("COMMIT").unwrap();
        let (shard, ticket, outcome) = told.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(matches!((shard, ticket, outcome), (ShardId(3), Ticket(9), Outcome::Committed)));
        assert_eq!(rows(&store).len(), 1);
        running.stop();
    }

    #[test]
    fn a_stopped_store_has_done_all_that_was_queued() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let running = store.start(Arc::new(|_| ()), Preload::never()).unwrap();
        let handle = running.handle();
        for id in 1..=1000 {
            handle.commit(ShardId(0), Ticket(id), vec![put(id, &id.to_string())]);
        }
        drop(handle);
        running.stop();
        assert_eq!(rows(&store).len(), 1000);
    }
}
