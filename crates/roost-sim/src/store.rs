//! The fake database: tables that obey the store's contract, and a writer that is slow, fails, or loses its answer.
//!
//! Writes are applied in the order they were asked for, as by one writer thread; lookups come back on their own time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use roost_core::{CommitOutcome, Receipt, Row, Secrets, ShardId, Ticket, Write};

use crate::dice::Dice;

/// What is durable: rows of `location`, and subscribers.
#[derive(Debug, Default)]
pub struct Tables {
    rows: BTreeMap<u64, Row>,
    /// The contact ids of each AOR.
    by_aor: BTreeMap<Vec<u8>, BTreeSet<u64>>,
    /// By user and domain; without `use_domain` the domain is empty.
    subscribers: BTreeMap<(Vec<u8>, Vec<u8>), Secrets>,
}

/// What a list of writes did.
#[derive(Debug, Default)]
pub struct Applied {
    /// The AORs whose rows it touched.
    pub aors: BTreeSet<Vec<u8>>,
    /// AOR and contact of rows that are there no more.
    pub removed: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Tables {
    /// Makes all writes durable or none. Repeating them changes nothing.
    ///
    /// # Errors
    /// When a row's `contact_id` belongs to another AOR.
    pub fn apply(&mut self, writes: &[Write]) -> Result<Applied, String> {
        for write in writes {
            if let Write::Put(packed) = write
                && let row = packed.row()
                && let Some(old) = self.rows.get(&row.contact_id)
                && (*old.username != *row.username || old.domain.as_deref() != row.domain)
            {
                return Err(format!("contact_id {} belongs to another AOR", row.contact_id));
            }
        }
        let mut applied = Applied::default();
        for write in writes {
            match write {
                Write::Put(row) => self.put(&row.unpack(), &mut applied),
                Write::Remove { contact_id, username } => {
                    if self.rows.get(contact_id).is_some_and(|row| row.username == *username) {
                        self.remove(*contact_id, &mut applied);
                    }
                }
                Write::Purge { contact_id, expires_by } => {
                    let is_over = |row: &Row| row.expires != 0 && row.expires <= *expires_by;
                    if self.rows.get(contact_id).is_some_and(is_over) {
                        self.remove(*contact_id, &mut applied);
                    }
                }
            }
        }
        Ok(applied)
    }

    fn put(&mut self, row: &Row, applied: &mut Applied) {
        let aor = aor_of(row);
        self.by_aor.entry(aor.clone()).or_default().insert(row.contact_id);
        if let Some(old) = self.rows.insert(row.contact_id, row.clone())
            && old.contact != row.contact
        {
            applied.removed.push((aor.clone(), old.contact.to_vec()));
        }
        applied.aors.insert(aor);
    }

    fn remove(&mut self, contact_id: u64, applied: &mut Applied) {
        let Some(row) = self.rows.remove(&contact_id) else { return };
        let aor = aor_of(&row);
        if let Some(ids) = self.by_aor.get_mut(&aor) {
            ids.remove(&contact_id);
        }
        applied.aors.insert(aor.clone());
        applied.removed.push((aor, row.contact.to_vec()));
    }

    /// The rows of an AOR, written as [`roost_core::Engine::lookup`] takes it.
    pub fn rows_of(&self, aor: &[u8]) -> impl Iterator<Item = &Row> {
        self.by_aor.get(aor).into_iter().flatten().filter_map(|contact_id| self.rows.get(contact_id))
    }

    /// Deletes the rows of expired bindings.
    pub fn purge(&mut self, now_unix_s: u64) {
        let is_over = |row: &&Row| row.expires != 0 && row.expires <= now_unix_s;
        let expired: Vec<u64> = self.rows.values().filter(is_over).map(|row| row.contact_id).collect();
        for contact_id in expired {
            self.remove(contact_id, &mut Applied::default());
        }
    }

    /// The next rows from this id on, in the order of their ids, as many as asked for.
    pub fn page(&self, from: u64, most: usize) -> Vec<Row> {
        self.rows.range(from..).take(most).map(|(_, row)| row.clone()).collect()
    }

    /// Adds or replaces a subscriber; `domain` is empty without `use_domain`.
    pub fn add_subscriber(&mut self, user: &str, domain: &str, secrets: Secrets) {
        self.subscribers.insert((user.into(), domain.into()), secrets);
    }

    /// A subscriber's secrets.
    pub fn secrets(&self, user: &[u8], domain: Option<&[u8]>) -> Option<Secrets> {
        self.subscribers.get(&(user.to_vec(), domain.unwrap_or(&[]).to_vec())).cloned()
    }
}

/// The AOR that a row belongs to: its user, with `use_domain` `@` and its domain.
pub fn aor_of(row: &Row) -> Vec<u8> {
    let mut aor = row.username.to_vec();
    if let Some(domain) = &row.domain {
        aor.push(b'@');
        aor.extend_from_slice(domain);
    }
    aor
}

/// How bad the database is; shares are in thousandths, times in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct StoreFaults {
    /// Commits of which nothing is written.
    pub fail: u64,
    /// Commits that are written, but nobody hears so: the answer is a failure, and late.
    pub lose_answer: u64,
    /// Commits and lookups that take long.
    pub slow: u64,
    pub lookup_fail: u64,
    pub quick_ms: (u64, u64),
    pub slow_ms: (u64, u64),
    /// For tests of the checks: every commit is acknowledged and none is written.
    pub lies: bool,
}

impl StoreFaults {
    /// A database without faults.
    pub const NONE: StoreFaults = StoreFaults {
        fail: 0,
        lose_answer: 0,
        slow: 0,
        lookup_fail: 0,
        quick_ms: (1, 5),
        slow_ms: (1, 5),
        lies: false,
    };

    /// One of many databases, good and bad.
    pub fn draw(dice: &mut Dice) -> StoreFaults {
        StoreFaults {
            fail: dice.pick(&[0, 0, 20, 100, 300]),
            lose_answer: dice.pick(&[0, 0, 10, 50]),
            slow: dice.pick(&[0, 50, 300]),
            lookup_fail: dice.pick(&[0, 0, 50, 300]),
            quick_ms: (0, dice.pick(&[0, 5, 50])),
            slow_ms: (200, dice.pick(&[500, 3_000])),
            lies: false,
        }
    }
}

/// The writer and the lookups over [`Tables`].
#[derive(Debug)]
pub struct Store {
    pub tables: Tables,
    faults: StoreFaults,
    dice: Dice,
    queue: VecDeque<Job>,
    /// Until when it is away.
    away_until_ms: u64,
    /// When the last job of the queue is done: none overtakes it.
    last_due_ms: u64,
    /// Commits that were written.
    pub commits: u64,
    pub failed: u64,
    pub answers_lost: u64,
}

#[derive(Debug)]
struct Job {
    due_ms: u64,
    receipt: Option<(ShardId, Ticket)>,
    writes: Vec<Write>,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Write,
    Fail,
    LoseAnswer,
    Lie,
}

/// A job that was just done.
#[derive(Debug)]
pub struct Done {
    pub applied: Applied,
    /// It was written, but its receipt says that it failed.
    pub is_answer_lost: bool,
    pub receipt: Option<Answer>,
}

/// An answer under way to an engine.
#[derive(Debug)]
pub struct Answer {
    pub at_ms: u64,
    pub shard: ShardId,
    pub receipt: Receipt,
}

impl Store {
    pub fn new(faults: StoreFaults, dice: Dice) -> Store {
        Store {
            tables: Tables::default(),
            faults,
            dice,
            queue: VecDeque::new(),
            away_until_ms: 0,
            last_due_ms: 0,
            commits: 0,
            failed: 0,
            answers_lost: 0,
        }
    }

    /// From here on nothing goes wrong any more.
    pub fn heal(&mut self) {
        self.faults = StoreFaults { lies: self.faults.lies, ..StoreFaults::NONE };
    }

    /// The process dies: what was queued is never written, what was written stays.
    pub fn crash(&mut self) {
        self.queue.clear();
        self.last_due_ms = 0;
    }

    /// The database is away until then: what is under way fails, and what comes. It returns with what it had committed.
    pub fn go_away(&mut self, until_ms: u64) {
        self.away_until_ms = self.away_until_ms.max(until_ms);
        self.queue.iter_mut().for_each(|job| job.fate = Fate::Fail);
    }

    /// Queues a commit (with a receipt) or a purge (without); when it will be done.
    pub fn submit(&mut self, now_ms: u64, receipt: Option<(ShardId, Ticket)>, writes: Vec<Write>) -> u64 {
        let fate = match receipt {
            Some(_) => self.fate(),
            None => Fate::Write,
        };
        let fate = if now_ms < self.away_until_ms && fate != Fate::Lie { Fate::Fail } else { fate };
        let due_ms = (now_ms + self.delay_ms()).max(self.last_due_ms);
        self.last_due_ms = due_ms;
        self.queue.push_back(Job { due_ms, receipt, writes, fate });
        due_ms
    }

    fn fate(&mut self) -> Fate {
        if self.faults.lies {
            Fate::Lie
        } else if self.dice.chance(self.faults.fail) {
            Fate::Fail
        } else if self.dice.chance(self.faults.lose_answer) {
            Fate::LoseAnswer
        } else {
            Fate::Write
        }
    }

    fn delay_ms(&mut self) -> u64 {
        let is_slow = self.dice.chance(self.faults.slow);
        self.dice.between(if is_slow { self.faults.slow_ms } else { self.faults.quick_ms })
    }

    /// Does all jobs that are due, in order.
    pub fn take_due(&mut self, now_ms: u64) -> Vec<Done> {
        let mut done = Vec::new();
        while let Some(job) = self.queue.pop_front_if(|job| job.due_ms <= now_ms) {
            done.push(self.run(job, now_ms));
        }
        done
    }

    fn run(&mut self, job: Job, now_ms: u64) -> Done {
        let result = match job.fate {
            Fate::Fail => Err("the disk is full".to_string()),
            Fate::Lie => Ok(Applied::default()),
            Fate::Write | Fate::LoseAnswer => self.tables.apply(&job.writes),
        };
        let is_answer_lost = job.fate == Fate::LoseAnswer && result.is_ok();
        let (applied, outcome) = match result {
            Ok(applied) if is_answer_lost => (applied, CommitOutcome::Failed("no answer".to_string())),
            Ok(applied) => (applied, CommitOutcome::Committed),
            Err(error) => (Applied::default(), CommitOutcome::Failed(error)),
        };
        if job.receipt.is_some() {
            match outcome {
                CommitOutcome::Committed => self.commits += 1,
                _ if is_answer_lost => self.answers_lost += 1,
                _ => self.failed += 1,
            }
        }
        let late_ms = self.dice.between(if is_answer_lost { (200, 5_000) } else { (0, 3) });
        let at_ms = now_ms + late_ms;
        let answer = |(shard, ticket)| Answer { at_ms, shard, receipt: Receipt::Commit(ticket, outcome) };
        let receipt = job.receipt.map(answer);
        Done { applied, is_answer_lost, receipt }
    }

    /// Looks a subscriber up; the answer comes at its own time.
    pub fn lookup(
        &mut self,
        now_ms: u64,
        shard: ShardId,
        ticket: Ticket,
        user: &[u8],
        domain: Option<&[u8]>,
    ) -> Answer {
        let found = match self.dice.chance(self.faults.lookup_fail) || now_ms < self.away_until_ms {
            true => Err("no connection".to_string()),
            false => Ok(self.tables.secrets(user, domain)),
        };
        // Some answers come when the engine has given up long ago.
        let patience = if self.dice.chance(self.faults.slow / 10) { 10 } else { 1 };
        let at_ms = now_ms + self.delay_ms() * patience;
        Answer { at_ms, shard, receipt: Receipt::Credentials(ticket, found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket_of(done: &Done) -> u64 {
        match &done.receipt.as_ref().unwrap().receipt {
            Receipt::Commit(ticket, _)
            | Receipt::Record(ticket, _)
            | Receipt::Credentials(ticket, _)
            | Receipt::Resolved(ticket, _) => ticket.0,
        }
    }

    fn row(contact_id: u64, username: &str, expires: u64) -> Row {
        Row {
            contact_id,
            username: username.as_bytes().into(),
            contact: format!("sip:{username}@10.0.0.9:{contact_id}").into_bytes().into(),
            expires,
            ..Row::default()
        }
    }

    fn put(contact_id: u64, username: &str) -> Write {
        Write::Put(row(contact_id, username, 1_000).pack())
    }

    fn ids(tables: &Tables, aor: &str) -> Vec<u64> {
        tables.rows_of(aor.as_bytes()).map(|row| row.contact_id).collect()
    }

    #[test]
    fn all_writes_or_none_and_never_another_aors_row() {
        let mut tables = Tables::default();
        tables.apply(&[put(1, "1001"), put(2, "1001")]).unwrap();
        tables.apply(&[put(1, "1001"), put(2, "1001")]).unwrap();
        assert_eq!(ids(&tables, "1001"), [1, 2]);
        tables.apply(&[put(3, "1002"), put(1, "1002")]).unwrap_err();
        assert_eq!((ids(&tables, "1001"), ids(&tables, "1002")), (vec![1, 2], vec![]));
        let applied = tables.apply(&[Write::Remove { contact_id: 1, username: (*b"1001").into() }]).unwrap();
        assert_eq!(applied.removed, [(b"1001".to_vec(), b"sip:1001@10.0.0.9:1".to_vec())]);
    }

    #[test]
    fn a_purge_leaves_renewed_and_permanent_rows() {
        let mut tables = Tables::default();
        let write = |row: Row| Write::Put(row.pack());
        tables
            .apply(&[write(row(1, "1001", 100)), write(row(2, "1001", 101)), write(row(3, "1001", 0))])
            .unwrap();
        let purge = |contact_id| Write::Purge { contact_id, expires_by: 100 };
        tables.apply(&[purge(1), purge(2), purge(3)]).unwrap();
        assert_eq!(ids(&tables, "1001"), [2, 3]);
        tables.purge(101);
        assert_eq!(tables.page(0, 9).len(), 1);
    }

    #[test]
    fn jobs_are_done_in_order_and_a_crash_forgets_them() {
        let mut store = Store::new(StoreFaults { slow: 500, ..StoreFaults::NONE }, Dice::new(1));
        let due: Vec<u64> =
            (1..=20).map(|n| store.submit(10, Some((ShardId(0), Ticket(n))), vec![put(n, "1001")])).collect();
        assert!(due.is_sorted());
        let done = store.take_due(*due.last().unwrap());
        let tickets: Vec<u64> = done.iter().map(ticket_of).collect();
        assert_eq!(tickets, (1..=20).collect::<Vec<_>>());
        assert_eq!((store.commits, ids(&store.tables, "1001").len()), (20, 20));
        store.submit(50, None, vec![Write::Remove { contact_id: 1, username: (*b"1001").into() }]);
        store.crash();
        assert!(store.take_due(10_000).is_empty());
    }

    #[test]
    fn a_lost_answer_is_written_and_a_failure_is_not() {
        let run = |faults| {
            let mut store = Store::new(faults, Dice::new(1));
            store.submit(0, Some((ShardId(0), Ticket(1))), vec![put(1, "1001")]);
            let done = store.take_due(1_000).remove(0);
            let is_failed =
                matches!(done.receipt.unwrap().receipt, Receipt::Commit(_, CommitOutcome::Failed(_)));
            (is_failed, done.is_answer_lost, ids(&store.tables, "1001").len())
        };
        assert_eq!(run(StoreFaults { lose_answer: 1_000, ..StoreFaults::NONE }), (true, true, 1));
        assert_eq!(run(StoreFaults { fail: 1_000, ..StoreFaults::NONE }), (true, false, 0));
        assert_eq!(run(StoreFaults { lies: true, ..StoreFaults::NONE }), (false, false, 0));
    }
}
