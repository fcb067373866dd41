//! The thread that says to all nodes what one of them has to say.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use redis::Pipeline;
use roost_cluster::Background;

use crate::connection::Source;
use crate::error::RedisError;
use crate::place::Kept;

/// The channel on which nodes speak.
pub(crate) const CHANNEL: &str = "roost:said";
/// Texts of one round trip at most.
const AT_ONCE: usize = 256;

/// How often it looks whether it shall end.
const LOOKS_EVERY: Duration = Duration::from_millis(200);

pub(crate) fn start(source: Source, queue: Receiver<String>) -> Result<Background, RedisError> {
    let started = Background::start("roost-redis-say", move |ends| {
        let mut kept = Kept::new(&source.place);
        while !ends.load(Ordering::Relaxed) {
            let first = match queue.recv_timeout(LOOKS_EVERY) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut pipe = Pipeline::new();
            for text in std::iter::once(first).chain(queue.try_iter().take(AT_ONCE - 1)) {
                pipe.cmd("PUBLISH").arg(CHANNEL).arg(text).ignore();
            }
            let said = source.kept(&mut kept, CHANNEL.as_bytes()).map_err(|error| error.to_string());
            let said = said.and_then(|connection| pipe.exec(connection).map_err(|error| error.to_string()));
            if let Err(error) = said {
                tracing::debug!(error, "the other nodes do not hear something");
                kept = Kept::new(&source.place);
            }
        }
    });
    started.map_err(RedisError::Thread)
}
