//! One lock for each AOR, which rows that are not there have, too: locks of rows or gaps do not exclude two nodes that both find
//! nothing.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::database::Database;
use crate::error::DbError;
use crate::value::Value;

/// How an AOR is locked: by a lock of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockBy {
    /// Advisory (PostgreSQL).
    Number,
    /// `GET_LOCK` (MariaDB, MySQL).
    Name,
}

impl LockBy {
    pub(crate) fn of(database: &Database) -> LockBy {
        match database {
            Database::Postgres(_) => LockBy::Number,
            _ => LockBy::Name,
        }
    }

    /// What takes a lock that nobody holds; 1 if it is ours then.
    fn take(self) -> String {
        match self {
            LockBy::Name => format!("GET_LOCK({LOCK_NAME}, 0)"),
            LockBy::Number => "CASE WHEN pg_try_advisory_lock(5060, hashtext(?)) THEN 1 ELSE 0 END".into(),
        }
    }

    fn release(self) -> String {
        match self {
            LockBy::Name => format!("RELEASE_LOCK({LOCK_NAME})"),
            LockBy::Number => "CASE WHEN pg_advisory_unlock(5060, hashtext(?)) THEN 1 ELSE 0 END".into(),
        }
    }
}

/// How long a batch waits for locks that other nodes hold, all together.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Why nothing was written, after [`LOCK_WAIT`].
pub(crate) const HELD_BY_ANOTHER: &str = "another node has held the AOR's lock for 2 s";
/// How long until a lock is tried again, the first time and at most.
const LOCK_PAUSE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(16)];
/// Names that one statement tries at most.
const TRIED_AT_ONCE: usize = 16;
/// The lock of an AOR by name: at most 64 characters, and the server's, not the database's.
const LOCK_NAME: &str = "CONCAT('roost ', MD5(CONCAT(DATABASE(), '/', ?, '@', ?)))";

/// An AOR's user, and its domain where AORs have one.
pub(crate) type AorName<'a> = (&'a [u8], Option<&'a [u8]>);

/// The locks of a batch's AORs.
pub(crate) struct Locks<'a> {
    by: LockBy,
    /// Until then locks are waited for that others hold.
    wait_until: Instant,
    names: Vec<AorName<'a>>,
    /// Which of them are ours.
    held: Vec<bool>,
}

impl<'a> Locks<'a> {
    /// `names` stand in one order at all nodes: then none waits for another that waits for it.
    pub(crate) fn new(by: LockBy, wait_until: Instant, names: Vec<AorName<'a>>) -> Locks<'a> {
        let held = vec![false; names.len()];
        Locks { by, wait_until, names, held }
    }

    /// One transaction that holds the locks which could be had; `work` is told which, and commits.
    pub(crate) fn hold(
        mut self,
        client: &mut Client,
        work: impl FnOnce(&mut Client, &[bool]) -> Result<(), DbError>,
    ) -> Result<(), DbError> {
        // Before the transaction, so that it sees what the last holder has committed.
        let done = self.take(client).and_then(|()| transaction(client, &self.held, work));
        if !done.as_ref().is_err_and(DbError::is_lost) {
            // Some are ours although not all could be taken.
            self.release(client)?;
        }
        done
    }

    /// Takes the locks in order. No lock after one that is waited for is held meanwhile, or two nodes could wait for one
    /// another. What others hold for too long stays theirs.
    fn take(&mut self, client: &mut Client) -> Result<(), DbError> {
        let mut from = 0;
        let mut pause = LOCK_PAUSE[0];
        while from < self.names.len() {
            let to = self.names.len().min(from + TRIED_AT_ONCE);
            self.try_some(client, from..to)?;
            let missing = self.held[from..to].iter().position(|is_held| !is_held);
            let Some(missing) = missing.filter(|_| Instant::now() < self.wait_until) else {
                from = to;
                continue;
            };
            from += missing;
            self.release_some(client, from..to)?;
            std::thread::sleep(pause);
            pause = (pause * 2).min(LOCK_PAUSE[1]);
        }
        Ok(())
    }

    /// Takes those of some locks that nobody holds.
    fn try_some(&mut self, client: &mut Client, some: Range<usize>) -> Result<(), DbError> {
        let params = self.names[some.clone()].iter().flat_map(|name| self.params(name)).collect();
        let taken = select(client, &self.by.take(), some.len(), params)?;
        for (is_held, taken) in self.held[some].iter_mut().zip(taken) {
            *is_held = taken.int() == Some(1);
        }
        Ok(())
    }

    fn release(&mut self, client: &mut Client) -> Result<(), DbError> {
        let mut parts = (0..self.names.len()).step_by(TRIED_AT_ONCE);
        parts.try_for_each(|from| self.release_some(client, from..self.names.len().min(from + TRIED_AT_ONCE)))
    }

    fn release_some(&mut self, client: &mut Client, some: Range<usize>) -> Result<(), DbError> {
        let held: Vec<&AorName<'_>> =
            some.clone().filter(|&at| self.held[at]).map(|at| &self.names[at]).collect();
        if !held.is_empty() {
            let params = held.iter().flat_map(|name| self.params(name)).collect();
            select(client, &self.by.release(), held.len(), params)?;
        }
        self.held[some].fill(false);
        Ok(())
    }

    /// What the name of a lock is made from.
    fn params(&self, (user, domain): &AorName<'_>) -> impl Iterator<Item = Value> {
        let domain = (self.by == LockBy::Name).then(|| Value::from(domain.unwrap_or(&[])));
        std::iter::once(Value::from(*user)).chain(domain)
    }
}

/// What is done in one transaction, which `work` commits.
fn transaction(
    client: &mut Client,
    held: &[bool],
    work: impl FnOnce(&mut Client, &[bool]) -> Result<(), DbError>,
) -> Result<(), DbError> {
    client.begin()?;
    let done = work(client, held);
    if let Err(error) = &done
        && !error.is_lost()
    {
        client.run("ROLLBACK")?;
    }
    done
}

/// Evaluates an expression many times in one statement.
fn select(client: &mut Client, one: &str, times: usize, params: Vec<Value>) -> Result<Vec<Value>, DbError> {
    let rows = client.all(&format!("SELECT {}", vec![one; times].join(", ")), &params)?;
    Ok(rows.into_iter().flatten().collect())
}
