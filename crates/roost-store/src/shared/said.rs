//! What nodes say to all others: a table that each reads again and again. Best effort: a node that was away has not heard it.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use roost_cluster::{Background, Change, News};

use crate::error::StoreError;
use crate::link::Link;
use crate::value::Value;

/// How often the table is read.
const READS_EVERY: Duration = Duration::from_millis(250);
/// Numbers of rows that are looked at again: a row may become visible after one with a higher number.
const AGAIN: i64 = 64;
/// Rows that one reading gives at most.
const MOST: usize = 1_000;
/// How often old rows are deleted, and how many stay.
const SWEEPS_EVERY: Duration = Duration::from_secs(30);
const STAY: i64 = 10_000;

/// Writes what this node has to say.
pub(super) fn speak(mut link: Link, node: String, queue: Receiver<String>) -> Result<Background, StoreError> {
    let started = Background::start("roost-say", move |ends| {
        let mut swept = Instant::now();
        while !ends.load(Ordering::Relaxed) {
            let first = match queue.recv_timeout(READS_EVERY) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            for text in std::iter::once(first).chain(queue.try_iter().take(MOST)) {
                let params = [Value::from(node.as_str()), Value::from(text.as_str())];
                let said = link.run(|client| {
                    client.execute("INSERT INTO roost_said (node, told) VALUES (?, ?)", &params)
                });
                if let Err(error) = said {
                    tracing::debug!(%error, "the other nodes do not hear something");
                }
            }
            if swept.elapsed() > SWEEPS_EVERY {
                swept = Instant::now();
                let sql = "DELETE FROM roost_said WHERE id <= ?";
                let old = link.run(|client| {
                    let newest = client.one("SELECT MAX(id) FROM roost_said", &[])?;
                    let newest = newest.and_then(|newest| newest.int()).unwrap_or(0);
                    client.execute(sql, &[Value::Int(newest - STAY)])
                });
                if let Err(error) = old {
                    tracing::debug!(%error, "what nodes have said is not deleted");
                }
            }
        }
    });
    started.map_err(StoreError::Thread)
}

/// Hears what the others say from now on.
pub(super) fn listen(mut link: Link, node: String, news: News) -> Result<Background, StoreError> {
    let heard = Background::start("roost-hear", move |ends| {
        let (mut seen, mut last) = (BTreeSet::new(), None);
        while !ends.load(Ordering::Relaxed) {
            let read = link.run(|client| match last {
                None => {
                    let newest = client.one("SELECT MAX(id) FROM roost_said", &[])?;
                    Ok((newest.and_then(|newest| newest.int()).unwrap_or(0), Vec::new()))
                }
                Some(last) => {
                    let sql = format!(
                        "SELECT id, told FROM roost_said WHERE id > ? AND node <> ? ORDER BY id LIMIT {MOST}"
                    );
                    Ok((last, client.all(&sql, &[Value::Int(last - AGAIN), Value::from(node.as_str())])?))
                }
            });
            match read {
                Ok((at, rows)) => {
                    let first = last.is_none();
                    last = Some(at);
                    if first {
                        // What was said before was not for this process.
                        seen.extend(at - AGAIN..=at);
                    }
                    for row in rows {
                        let mut columns = row.into_iter();
                        let Some(id) = columns.next().and_then(|id| id.int()) else { continue };
                        if seen.insert(id) {
                            let text = columns.next().map(Value::into_bytes).unwrap_or_default();
                            news(Change::Said(String::from_utf8_lossy(&text).into_owned()));
                        }
                        last = last.max(Some(id));
                    }
                    seen = seen.split_off(&(last.unwrap_or(0) - 2 * AGAIN));
                }
                Err(error) => tracing::debug!(%error, "what other nodes say is not heard"),
            }
            std::thread::park_timeout(READS_EVERY);
        }
    });
    heard.map_err(StoreError::Thread)
}
