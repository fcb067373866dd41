//! The thread that finds this node's own bindings at its start: it pings their phones, and notices their loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::Connection;
use roost_cluster::{Background, Change, Member, News};
use roost_core::StoredRecord;

use crate::connection::{Source, away, connect};
use crate::error::RedisError;
use crate::place::Kept;
use crate::record::{aor_of, every_key, record_of};

/// Keys of one round trip, about.
const AT_ONCE: usize = 500;
/// How long it waits after the store has not answered.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Finds the records with bindings of this node, and those that were made over floating addresses which are here; again when it is
/// woken.
pub(crate) fn start(source: Source, member: &Member, news: News) -> Result<Background, RedisError> {
    let (own, floating) = (format!("@{};", member.address), Arc::clone(&member.floating));
    let started = Background::start("roost-redis-scan", move |ends| {
        while !ends.load(Ordering::Relaxed) {
            let here = floating();
            find(&source, (own.as_bytes(), &here), &news, ends);
            std::thread::park();
        }
    });
    started.map_err(RedisError::Thread)
}

fn find(source: &Source, (own, here): (&[u8], &[String]), news: &News, ends: &AtomicBool) {
    let begun = Instant::now();
    let (mut cursor, mut found, mut server) = (0, 0, 0);
    let mut kept = Kept::new(&source.place);
    while !ends.load(Ordering::Relaxed) {
        match some(source, &mut kept, (server, cursor)) {
            Ok((next, records)) => {
                for (aor, record) in records.into_iter().filter(|(_, record)| has(record, own, here)) {
                    found += 1;
                    news(Change::Found { aor, record });
                }
                cursor = next;
                server += usize::from(next == 0);
                if server >= kept.topology.servers.len() {
                    let milliseconds = begun.elapsed().as_millis() as u64;
                    tracing::info!(extensions = found, milliseconds, "the bindings of this node are known");
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the bindings of this node are not all read yet");
                kept = Kept::new(&source.place);
                (server, cursor) = (0, 0);
                std::thread::sleep(AGAIN_AFTER);
            }
        }
    }
}

/// Records and their AORs.
type Records = Vec<(Box<[u8]>, StoredRecord)>;

/// Some records of a server, and where the next ones are; 0: it has no more.
fn some(
    source: &Source,
    kept: &mut Kept<Connection>,
    (at, cursor): (usize, u64),
) -> Result<(u64, Records), RedisError> {
    let topology = Arc::clone(&kept.topology);
    let Some(server) = topology.servers.get(at) else { return Ok((0, Vec::new())) };
    let connection = kept.get(at, connect)?;
    let mut asked = redis::cmd("SCAN");
    asked.arg(cursor).arg("MATCH").arg(every_key()).arg("COUNT").arg(AT_ONCE);
    let (next, keys) = asked.query::<(u64, Vec<Vec<u8>>)>(connection).map_err(|error| away(server, error))?;
    if keys.is_empty() {
        return Ok((next, Vec::new()));
    }
    let answers = source.hashes(connection, keys.iter().map(Vec::as_slice));
    let answers = answers.map_err(|error| away(server, error))?;
    let records = keys.iter().zip(&answers);
    let records = records.filter_map(|(key, answer)| Some((aor_of(key)?.into(), record_of(answer)?)));
    Ok((next, records.collect()))
}

/// Whether a record has a binding whose path leads to this node first, or that was made over one of these sockets.
fn has(record: &StoredRecord, own: &[u8], here: &[String]) -> bool {
    record.rows.iter().any(|row| {
        let row = row.row();
        let first = row.path.unwrap_or(&[]).split(|byte| *byte == b'>').next().unwrap_or(&[]);
        first.windows(own.len()).any(|part| part == own)
            || row.socket.is_some_and(|socket| here.iter().any(|one| one.as_bytes() == socket))
    })
}
