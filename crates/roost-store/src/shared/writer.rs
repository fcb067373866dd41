//! The thread that writes: everything that is queued goes in one transaction, under the locks of its AORs.

use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use roost_cluster::{Commit, Health, Receipts};
use roost_core::{CommitOutcome, Receipt, Row, Write, split_route};

use crate::client::Client;
use crate::columns::LocationColumns;
use crate::database::Database;
use crate::error::{DbError, StoreError};
use crate::job::spawn;
use crate::link::Link;
use crate::locks::{HELD_BY_ANOTHER, LOCK_WAIT, LockBy, Locks};
use crate::shared::record::{Record, Records};
use crate::store::Store;
use crate::value::Value;

/// Commits of one transaction at most.
const MAX_BATCH: usize = 512;
/// Rows of one statement: few statements are ever prepared.
const ROWS: [usize; 3] = [32, 8, 1];
/// How often a batch is tried that another transaction is in the way of.
const TRIES: u32 = 8;
/// How long the other transaction is given before the second try; each later one waits that much longer.
const CONFLICT_PAUSE: Duration = Duration::from_millis(2);

pub(super) struct Writer {
    link: Link,
    records: Records,
    columns: LocationColumns,
    lock: LockBy,
    flows: Flows,
    /// Whose ids these are.
    owners: String,
}

/// The statements of `roost_flow`.
struct Flows {
    node: String,
    on_conflict: &'static str,
}

pub(super) fn start(
    mut writer: Writer,
    queue: Receiver<Vec<Commit>>,
    receipts: Receipts,
    health: Health,
) -> Result<JoinHandle<()>, StoreError> {
    spawn("roost-shared", move || {
        while let Ok(first) = queue.recv() {
            let mut commits = first;
            while commits.len() < MAX_BATCH
                && let Ok(more) = queue.try_recv()
            {
                commits.extend(more);
            }
            let outcomes = writer.write_batch(&commits);
            health(outcomes.iter().all(|outcome| matches!(outcome, CommitOutcome::Failed(_))));
            let told = commits.iter().zip(outcomes);
            receipts(told.map(|(one, outcome)| (one.shard, Receipt::Commit(one.ticket, outcome))).collect());
        }
    })
}

impl Writer {
    pub(super) fn new(store: &Store, records: Records, node: String) -> Writer {
        let on_conflict = match store.database {
            Database::Postgres(_) => {
                "ON CONFLICT (contact_id) DO UPDATE SET node = excluded.node, route = excluded.route"
            }
            _ => "ON DUPLICATE KEY UPDATE node = VALUES(node), route = VALUES(route)",
        };
        let columns = store.columns.location.clone();
        let owners = columns.sql("SELECT {username}, {domain} FROM location WHERE {contact_id} = ?");
        Writer {
            link: Link::new(store.database.clone()),
            records,
            columns,
            lock: LockBy::of(&store.database),
            flows: Flows { node, on_conflict },
            owners,
        }
    }

    /// What became of each. Where the database does not answer nobody knows.
    fn write_batch(&mut self, batch: &[Commit]) -> Vec<CommitOutcome> {
        let failed = |error: &StoreError| CommitOutcome::Failed(error.to_string());
        match self.write(batch) {
            Ok(outcomes) => outcomes,
            // One row of them is not taken: which one?
            Err(StoreError::Sql { source, .. }) if !source.is_lost() && batch.len() > 1 => {
                batch.iter().flat_map(|one| self.write_batch(std::slice::from_ref(one))).collect()
            }
            Err(error) => {
                if let [one] = batch
                    && self.is_key_taken(one)
                {
                    return vec![CommitOutcome::KeyTaken];
                }
                tracing::warn!(%error, commits = batch.len(), "location was not written");
                batch.iter().map(|_| failed(&error)).collect()
            }
        }
    }

    fn write(&mut self, batch: &[Commit]) -> Result<Vec<CommitOutcome>, StoreError> {
        let Writer { link, records, columns, lock, flows, .. } = self;
        // In one order at all nodes.
        let mut order: Vec<&Commit> = batch.iter().collect();
        order.sort_by_key(|one| &one.planned.aor);
        let wait_until = Instant::now() + LOCK_WAIT;
        let mut done = Ok(());
        let mut told = Vec::new();
        for attempt in 0..TRIES {
            std::thread::sleep(CONFLICT_PAUSE * attempt);
            done = link.run(|client| {
                let names = order.iter().map(|one| records.split(&one.planned.aor)).collect();
                Locks::new(*lock, wait_until, names).hold(client, |client, held| {
                    told = write_locked(client, (records, columns, flows), &order, held)?;
                    Ok(())
                })
            });
            if !matches!(&done, Err(StoreError::Sql { source, .. }) if source.is_conflict()) {
                break;
            }
        }
        done?;
        let mut by_ticket: Vec<_> = order.iter().map(|one| (one.shard, one.ticket)).zip(told).collect();
        let outcome = |one: &Commit| {
            let at = by_ticket.iter().position(|(ticket, _)| *ticket == (one.shard, one.ticket));
            at.map_or(CommitOutcome::Failed("no outcome".to_string()), |at| by_ticket.swap_remove(at).1)
        };
        Ok(batch.iter().map(outcome).collect())
    }

    /// Whether a row of this commit has an id that another AOR's row has.
    fn is_key_taken(&mut self, commit: &Commit) -> bool {
        let ids = commit.writes.iter().filter_map(|write| match write {
            Write::Put(row) => Some(row.contact_id()),
            _ => None,
        });
        let Writer { link, records, owners, .. } = self;
        let is_other = |id: u64| {
            let rows = link.run(|client| client.all(owners, &[Value::Int(id as i64)])).unwrap_or_default();
            rows.into_iter().any(|row| {
                let mut columns = row.into_iter();
                let username = columns.next().map(Value::into_bytes).unwrap_or_default();
                let domain = columns.next().and_then(Value::into_text);
                let owner = records.aor_of(&Row { username, domain, ..Row::default() });
                owner.as_deref() != Some(&*commit.planned.aor)
            })
        };
        ids.into_iter().any(is_other)
    }
}

/// Compares, and writes what is still as it was; what became of each.
fn write_locked(
    client: &mut Client,
    (records, columns, flows): (&Records, &LocationColumns, &Flows),
    order: &[&Commit],
    held: &[bool],
) -> Result<Vec<CommitOutcome>, DbError> {
    let aors: Vec<&[u8]> = order.iter().map(|one| &*one.planned.aor).collect();
    let known = records.read(client, &aors)?;
    let (mut told, mut writes) = (Vec::with_capacity(order.len()), Vec::new());
    let (mut claimed, mut left) = (Vec::new(), Vec::new());
    for ((commit, mut record), is_held) in order.iter().zip(known).zip(held) {
        if !is_held {
            told.push(CommitOutcome::Failed(HELD_BY_ANOTHER.to_string()));
            continue;
        }
        if record.version() != commit.planned.version {
            told.push(CommitOutcome::Changed(Box::new(record.stored())));
            continue;
        }
        for write in &commit.writes {
            writes.push(change(&mut record, write, &mut claimed, &mut left));
        }
        told.push(CommitOutcome::Stored(record.version()));
    }
    flows.claim(client, &claimed)?;
    flows.leave(client, &left)?;
    client.write(columns, writes.iter(), true)?;
    Ok(told)
}

/// Makes a change in memory; what is to be written, and which flows are new or gone.
fn change(
    record: &mut Record,
    write: &Write,
    claimed: &mut Vec<(u64, Box<[u8]>)>,
    left: &mut Vec<u64>,
) -> Write {
    match write {
        Write::Put(packed) => {
            let row = packed.unpack();
            let id = row.contact_id;
            let (route, rest) = split_route(row.path.as_deref().unwrap_or(&[]));
            let before = record.rows.get(&id).and_then(|old| split_route(old.path.as_deref()?).0);
            match route {
                Some(route) if before != Some(route) => claimed.push((id, route.into())),
                None if before.is_some() => left.push(id),
                _ => {}
            }
            let path = Some(rest).filter(|rest| !rest.is_empty()).map(Into::into);
            let written = Row { path, ..row.clone() }.pack();
            record.rows.insert(id, row);
            Write::Put(written)
        }
        Write::Remove { contact_id, .. } | Write::Purge { contact_id, .. } => {
            record.rows.remove(contact_id);
            left.push(*contact_id);
            write.clone()
        }
    }
}

impl Flows {
    fn claim(&self, client: &mut Client, claimed: &[(u64, Box<[u8]>)]) -> Result<(), DbError> {
        in_parts(claimed, |some| {
            let rows = vec!["(?, ?, ?)"; some.len()].join(", ");
            let sql = format!(
                "INSERT INTO roost_flow (contact_id, node, route) VALUES {rows} {}",
                self.on_conflict
            );
            let params: Vec<Value> = some
                .iter()
                .flat_map(|(id, route)| {
                    [Value::Int(*id as i64), self.node.as_str().into(), (&**route).into()]
                })
                .collect();
            client.execute(&sql, &params).map(drop)
        })
    }

    fn leave(&self, client: &mut Client, left: &[u64]) -> Result<(), DbError> {
        in_parts(left, |some| {
            let marks = vec!["?"; some.len()].join(", ");
            let params: Vec<Value> = some.iter().map(|id| Value::Int(*id as i64)).collect();
            client
                .execute(&format!("DELETE FROM roost_flow WHERE contact_id IN ({marks})"), &params)
                .map(drop)
        })
    }
}

/// Does something with parts of the sizes of [`ROWS`].
fn in_parts<T>(mut rest: &[T], mut work: impl FnMut(&[T]) -> Result<(), DbError>) -> Result<(), DbError> {
    while let Some(count) = ROWS.into_iter().find(|count| *count <= rest.len()) {
        let (some, later) = rest.split_at(count);
        work(some)?;
        rest = later;
    }
    Ok(())
}
