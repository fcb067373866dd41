//! The thread that hears which records have changed.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::{Connection, PubSub};
use roost_cluster::{Background, Change, News};

use crate::connection::{Source, away, connect};
use crate::error::RedisError;
use crate::record::{CHANNEL, told};
use crate::speaker;

/// How often it looks whether it shall end.
const LOOKS_EVERY: Duration = Duration::from_millis(200);
/// After so long without a word it asks whether the connection is there, and waits as long for the answer.
const SILENCE: Duration = Duration::from_secs(1);
/// How long it waits after a connection has failed.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

pub(crate) fn start(source: Source, news: News) -> Result<Background, RedisError> {
    let started = Background::start("roost-redis-news", move |ends| {
        while !ends.load(Ordering::Relaxed) {
            let topology = source.place.topology();
            let is_same = || source.place.topology().generation == topology.generation;
            // Any server of a Cluster says what all publish.
            let heard = topology.servers.first().map_or(Ok(()), |server| {
                let mut connection = connect(server)?;
                listen(&mut connection, &news, &|| is_same() && !ends.load(Ordering::Relaxed))
                    .map_err(|error| away(server, error))
            });
            if let Err(error) = heard {
                tracing::warn!(%error, "the store does not say which records change; each is read again before it counts");
                std::thread::sleep(AGAIN_AFTER);
            }
        }
    });
    started.map_err(RedisError::Thread)
}

fn listen(
    connection: &mut Connection,
    news: &News,
    goes_on: &dyn Fn() -> bool,
) -> Result<(), redis::RedisError> {
    let mut heard = connection.as_pubsub();
    heard.subscribe(CHANNEL)?;
    heard.subscribe(speaker::CHANNEL)?;
    // What happened before is not known.
    news(Change::Doubtful);
    let ended = follow(&mut heard, news, goes_on);
    news(Change::Doubtful);
    ended
}

fn follow(heard: &mut PubSub<'_>, news: &News, goes_on: &dyn Fn() -> bool) -> Result<(), redis::RedisError> {
    let mut silent_since = Instant::now();
    while goes_on() {
        heard.set_read_timeout(Some(LOOKS_EVERY))?;
        match heard.get_message() {
            Ok(message) => {
                silent_since = Instant::now();
                if message.get_channel_name() == speaker::CHANNEL {
                    news(Change::Said(String::from_utf8_lossy(message.get_payload_bytes()).into_owned()));
                } else if let Some((version, aor)) = told(message.get_payload_bytes()) {
                    news(Change::Record { aor, version });
                }
            }
            Err(error) if error.is_timeout() => {}
            Err(error) => return Err(error),
        }
        // A network that has gone without a word says nothing either.
        if silent_since.elapsed() > SILENCE {
            heard.set_read_timeout(Some(SILENCE))?;
            heard.ping::<redis::Value>()?;
            silent_since = Instant::now();
        }
    }
    Ok(())
}
