//! How busy a worker is, and whether a shard should change its worker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use roost_core::Now;

/// How long a worker's load is measured before it counts, in milliseconds.
const WINDOW_MS: u64 = 20;
/// Busy for more than this part of a window, in percent, is too much for more than one shard.
const TOO_MUCH: u128 = 60;
/// Worker 0 has room for another shard below this.
const HAS_ROOM: u128 = 30;
/// A worker that is busy for less than this ...
const IDLE: u128 = 20;
/// ... for so many windows in a row leaves its shard.
const IDLE_WINDOWS: u32 = 10;

/// How busy a worker is.
#[derive(Debug)]
pub(crate) struct Load {
    since: Instant,
    slept: Duration,
    /// When the window is over, in monotonic milliseconds.
    until_ms: u64,
    idle_windows: u32,
}

/// What a worker's load says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Stay,
    /// Give a shard to its own worker.
    Give,
    /// Leave the own shard to worker 0.
    Leave,
}

impl Load {
    /// The load from `since` on.
    pub(crate) fn new(since: Instant) -> Load {
        Load { since, slept: Duration::ZERO, until_ms: 0, idle_windows: 0 }
    }

    /// The worker has slept so long.
    pub(crate) fn slept(&mut self, time: Duration) {
        self.slept += time;
    }

    /// Worker `own` of several runs so many shards: what it should do. `has_room` says whether worker 0 can take another.
    pub(crate) fn verdict(&mut self, own: usize, shards: usize, has_room: &AtomicBool, now: Now) -> Verdict {
        if now.mono_ms < self.until_ms {
            return Verdict::Stay;
        }
        self.until_ms = now.mono_ms + WINDOW_MS;
        let busy = self.busy(Instant::now());
        if own == 0 {
            has_room.store(busy < HAS_ROOM, Ordering::Relaxed);
            return if busy > TOO_MUCH && shards > 1 { Verdict::Give } else { Verdict::Stay };
        }
        self.idle_windows = if busy < IDLE { self.idle_windows + 1 } else { 0 };
        // One worker at a time: the room is for one shard.
        if self.idle_windows >= IDLE_WINDOWS && has_room.swap(false, Ordering::Relaxed) {
            self.idle_windows = 0;
            return Verdict::Leave;
        }
        Verdict::Stay
    }

    /// The part of the time since the last call that the worker did not sleep, in percent.
    fn busy(&mut self, now: Instant) -> u128 {
        let window = now.duration_since(std::mem::replace(&mut self.since, now)).as_micros().max(1);
        let slept = std::mem::take(&mut self.slept).as_micros();
        window.saturating_sub(slept) * 100 / window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_what_was_not_slept() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut load = Load::new(start);
        load.slept(Duration::from_millis(15));
        assert_eq!(load.busy(at(20)), 25);
        assert_eq!(load.busy(at(40)), 100);
        load.slept(Duration::from_millis(60));
        assert_eq!(load.busy(at(80)), 0, "a sleep that began in the window before");
    }
}
