//! The thread that reads records: everything that is asked goes in one round trip.

use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use redis::Connection;
use roost_cluster::{Question, Receipts};
use roost_core::{Receipt, StoredRecord};

use crate::connection::{RedisError, Source};
use crate::record::{key_of, record_of};

/// Questions of one round trip at most.
const AT_ONCE: usize = 512;

pub(crate) fn start(
    source: Source,
    queue: Receiver<Question>,
    receipts: Receipts,
) -> Result<JoinHandle<()>, RedisError> {
    let run = move || {
        let mut connection = None;
        while let Ok(first) = queue.recv() {
            let mut questions = vec![first];
            questions.extend(queue.try_iter().take(AT_ONCE - 1));
            let found = read(&source, &mut connection, &questions);
            if found.is_err() {
                connection = None;
            }
            let record = |at: usize| match &found {
                Ok(records) => records.get(at).cloned().flatten().ok_or_else(|| "no record".to_string()),
                Err(error) => Err(error.to_string()),
            };
            let told = questions.iter().enumerate();
            receipts(told.map(|(at, one)| (one.shard, Receipt::Record(one.ticket, record(at)))).collect());
        }
    };
    std::thread::Builder::new().name("roost-redis-read".to_string()).spawn(run).map_err(RedisError::Thread)
}

fn read(
    source: &Source,
    kept: &mut Option<Connection>,
    questions: &[Question],
) -> Result<Vec<Option<StoredRecord>>, RedisError> {
    let connection = source.kept(kept)?;
    let keys: Vec<_> = questions.iter().map(|question| key_of(&question.aor)).collect();
    let answers = source.hashes(connection, keys.iter().map(Vec::as_slice))?;
    Ok(answers.iter().map(record_of).collect())
}
