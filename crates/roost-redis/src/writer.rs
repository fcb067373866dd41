//! The thread that writes: everything that is queued goes in one round trip.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use redis::{Connection, ConnectionLike as _, Pipeline, Value};
use roost_cluster::{Commit, Health, Receipts};
use roost_core::{CommitOutcome, Receipt, Write};

use crate::connection::{Guard, Source};
use crate::error::RedisError;
use crate::place::Kept;
use crate::record::{CHANNEL, SCRIPT, field_of, key_of, record_of};

/// Commits of one round trip at most.
const AT_ONCE: usize = 512;
/// How long the store keeps a record behind the end of its last binding: clocks differ, in milliseconds.
const GRACE_MS: u64 = 60_000;

pub(crate) fn start(
    source: Source,
    queue: Receiver<Vec<Commit>>,
    receipts: Receipts,
    health: Health,
) -> Result<JoinHandle<()>, RedisError> {
    let run = move || {
        let script = redis::Script::new(SCRIPT).get_hash().to_string();
        let mut writer = Writer { kept: Kept::new(&source.place), source, script };
        while let Ok(first) = queue.recv() {
            let mut commits = first;
            while commits.len() < AT_ONCE
                && let Ok(more) = queue.try_recv()
            {
                commits.extend(more);
            }
            let outcomes = writer.write(&commits);
            health(matches!(outcomes.first(), Some(CommitOutcome::Failed(_))));
            let told = commits.iter().zip(outcomes);
            receipts(told.map(|(one, outcome)| (one.shard, Receipt::Commit(one.ticket, outcome))).collect());
        }
    };
    std::thread::Builder::new().name("roost-redis".to_string()).spawn(run).map_err(RedisError::Thread)
}

struct Writer {
    source: Source,
    /// The script's hash.
    script: String,
    kept: Kept<(Connection, Guard)>,
}

impl Writer {
    /// What became of each, in their order.
    fn write(&mut self, commits: &[Commit]) -> Vec<CommitOutcome> {
        self.kept.follow(&self.source.place);
        let topology = Arc::clone(&self.kept.topology);
        if let [_] = topology.servers.as_slice() {
            return self.write_at(0, &commits.iter().collect::<Vec<_>>());
        }
        let homes: Vec<usize> =
            commits.iter().map(|one| topology.server_of(&key_of(&one.planned.aor))).collect();
        let mut outcomes: Vec<_> =
            commits.iter().map(|_| CommitOutcome::Failed("no server is known".to_string())).collect();
        for server in 0..topology.servers.len() {
            let own: Vec<usize> = (0..commits.len()).filter(|at| homes[*at] == server).collect();
            if !own.is_empty() {
                let some: Vec<_> = own.iter().map(|at| &commits[*at]).collect();
                own.into_iter()
                    .zip(self.write_at(server, &some))
                    .for_each(|(at, outcome)| outcomes[at] = outcome);
            }
        }
        outcomes
    }

    /// The same of those that one server has. Where it does not answer nobody knows.
    fn write_at(&mut self, server: usize, commits: &[&Commit]) -> Vec<CommitOutcome> {
        match self.try_write(server, commits) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.kept.drop(server);
                commits.iter().map(|_| CommitOutcome::Failed(error.clone())).collect()
            }
        }
    }

    fn try_write(&mut self, server: usize, commits: &[&Commit]) -> Result<Vec<CommitOutcome>, String> {
        let source = &self.source;
        let topology = Arc::clone(&self.kept.topology);
        let known = topology.servers.get(server).ok_or("no server is known")?;
        let kept = self.kept.get(server, |server| source.guarded(server));
        let (connection, guard) = kept.map_err(|error| error.to_string())?;
        source.renew(known, connection, guard).map_err(|error| error.to_string())?;
        let mut pipe = Pipeline::with_capacity(commits.len() + 2);
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        for commit in commits {
            add(&mut pipe, &self.script, commit, now_s);
        }
        let guards = guard.ask(&mut pipe);
        let asked = connection.req_packed_commands(&pipe.get_packed_pipeline(), 0, commits.len() + guards);
        let answers = asked.map_err(|error| error.to_string())?;
        let (done, guarded) = answers.split_at_checked(commits.len()).ok_or("answers are missing")?;
        if !guard.is_safe(guarded) {
            return Err("the store has not said that it is safe".to_string());
        }
        // Another server is the primary now, or has these keys: it is asked where.
        if done.iter().any(|answer| matches!(answer, Value::ServerError(_))) {
            self.kept.drop(server);
        }
        Ok(done.iter().map(outcome_of).collect())
    }
}

/// The script with its arguments.
fn add(pipe: &mut Pipeline, sha: &str, commit: &Commit, now_s: u64) {
    let (mut gone, mut puts, mut needed_ms, mut is_permanent) = (Vec::new(), Vec::new(), 1, false);
    for write in &commit.writes {
        match write {
            Write::Put(row) => {
                let expires = row.row().expires;
                is_permanent |= expires == 0;
                needed_ms = needed_ms.max(expires.saturating_sub(now_s) * 1000 + GRACE_MS);
                puts.push((field_of(row.contact_id()), row.as_bytes()));
            }
            Write::Remove { contact_id, .. } | Write::Purge { contact_id, .. } => {
                gone.push(field_of(*contact_id))
            }
        }
    }
    let asked = pipe.cmd("EVALSHA").arg(sha).arg(1).arg(key_of(&commit.planned.aor));
    asked.arg(commit.planned.version).arg(if is_permanent { 0 } else { needed_ms });
    asked.arg(CHANNEL).arg(&*commit.planned.aor).arg(gone.len()).arg(&gone);
    for (field, row) in puts {
        asked.arg(field).arg(row);
    }
}

fn outcome_of(answer: &Value) -> CommitOutcome {
    match answer {
        Value::Int(version) => CommitOutcome::Stored(*version as u64),
        Value::ServerError(error) => CommitOutcome::Failed(format!("{error:?}")),
        other => match record_of(other) {
            Some(record) => CommitOutcome::Changed(Box::new(record)),
            None => CommitOutcome::Failed(format!("an answer that means nothing: {other:?}")),
        },
    }
}
