//! The thread that reads records: everything that is asked goes in one round trip.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use redis::Connection;
use roost_cluster::{Question, Receipts};
use roost_core::{Receipt, StoredRecord};

use crate::connection::{Source, away, connect};
use crate::error::RedisError;
use crate::place::Kept;
use crate::record::{key_of, record_of};

/// Questions of one round trip at most.
const AT_ONCE: usize = 512;

pub(crate) fn start(
    source: Source,
    queue: Receiver<Question>,
    receipts: Receipts,
) -> Result<JoinHandle<()>, RedisError> {
    let run = move || {
        let mut kept = Kept::new(&source.place);
        while let Ok(first) = queue.recv() {
            let mut questions = vec![first];
            questions.extend(queue.try_iter().take(AT_ONCE - 1));
            let found = read(&source, &mut kept, &questions);
            let told = questions.iter().zip(found);
            receipts(told.map(|(one, record)| (one.shard, Receipt::Record(one.ticket, record))).collect());
        }
    };
    std::thread::Builder::new().name("roost-redis-read".to_string()).spawn(run).map_err(RedisError::Thread)
}

/// The records, in the order of the questions.
fn read(
    source: &Source,
    kept: &mut Kept<Connection>,
    questions: &[Question],
) -> Vec<Result<StoredRecord, String>> {
    kept.follow(&source.place);
    let topology = Arc::clone(&kept.topology);
    let keys: Vec<_> = questions.iter().map(|question| key_of(&question.aor)).collect();
    let mut found: Vec<_> = questions.iter().map(|_| Err("no record".to_string())).collect();
    for (at, server) in topology.servers.iter().enumerate() {
        let own: Vec<usize> = (0..keys.len()).filter(|key| topology.server_of(&keys[*key]) == at).collect();
        if own.is_empty() {
            continue;
        }
        let asked = kept.get(at, connect).and_then(|connection| {
            let answers = source.hashes(connection, own.iter().map(|key| keys[*key].as_slice()));
            answers.map_err(|error| away(server, error))
        });
        if asked.is_err() {
            kept.drop(at);
        }
        for (place, key) in own.into_iter().enumerate() {
            found[key] = match &asked {
                Ok(answers) => answers.get(place).and_then(record_of).ok_or_else(|| "no record".to_string()),
                Err(error) => Err(error.to_string()),
            };
        }
    }
    found
}
