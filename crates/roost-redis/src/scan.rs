//! The thread that finds this node's own bindings at its start: it pings their phones, and notices their loss.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::Connection;
use roost_cluster::{Background, Change, News};
use roost_core::StoredRecord;

use crate::connection::{RedisError, Source};
use crate::record::{aor_of, every_key, record_of};

/// Keys of one round trip, about.
const AT_ONCE: usize = 500;
/// How long it waits after the store has not answered.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Finds the records with bindings of the node at this address.
pub(crate) fn start(source: Source, address: &str, news: News) -> Result<Background, RedisError> {
    let own = format!("@{address};");
    let started = Background::start("roost-redis-scan", move |ends| {
        let begun = Instant::now();
        let (mut cursor, mut found, mut connection) = (0, 0, None);
        while !ends.load(Ordering::Relaxed) {
            match some(&source, &mut connection, cursor) {
                Ok((next, records)) => {
                    for (aor, record) in records.into_iter().filter(|(_, record)| has(record, own.as_bytes()))
                    {
                        found += 1;
                        news(Change::Found { aor, record });
                    }
                    cursor = next;
                    if next == 0 {
                        let milliseconds = begun.elapsed().as_millis() as u64;
                        tracing::info!(
                            extensions = found,
                            milliseconds,
                            "the bindings of this node are known"
                        );
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the bindings of this node are not all read yet");
                    connection = None;
                    std::thread::sleep(AGAIN_AFTER);
                }
            }
        }
    });
    started.map_err(RedisError::Thread)
}

/// Records and their AORs.
type Records = Vec<(Box<[u8]>, StoredRecord)>;

/// Some records, and where the next ones are; 0: there are no more.
fn some(source: &Source, kept: &mut Option<Connection>, cursor: u64) -> Result<(u64, Records), RedisError> {
    let connection = source.kept(kept)?;
    let mut asked = redis::cmd("SCAN");
    asked.arg(cursor).arg("MATCH").arg(every_key()).arg("COUNT").arg(AT_ONCE);
    let (next, keys) = asked.query::<(u64, Vec<Vec<u8>>)>(connection).map_err(|error| source.away(error))?;
    if keys.is_empty() {
        return Ok((next, Vec::new()));
    }
    let answers = source.hashes(connection, keys.iter().map(Vec::as_slice))?;
    let records = keys.iter().zip(&answers);
    let records = records.filter_map(|(key, answer)| Some((aor_of(key)?.into(), record_of(answer)?)));
    Ok((next, records.collect()))
}

/// Whether a record has a binding whose path leads to this node first.
fn has(record: &StoredRecord, own: &[u8]) -> bool {
    record.rows.iter().any(|row| {
        let path = row.row().path.unwrap_or(&[]);
        let first = path.split(|byte| *byte == b'>').next().unwrap_or(&[]);
        first.windows(own.len()).any(|part| part == own)
    })
}
