//! The process's clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use roost_core::Now;

/// The process's clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    /// Where monotonic time begins: far from zero, so that what is older than the process has an age.
    base_ms: u64,
}

impl Clock {
    /// A clock that starts running.
    pub fn start() -> Clock {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { start: Instant::now(), base_ms: unix.as_millis() as u64 }
    }

    /// Unix time, as the kernel stamps datagrams with it.
    pub(crate) fn unix(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// The time.
    pub fn now(&self) -> Now {
        let unix = self.unix();
        Now { mono_ms: self.base_ms + self.start.elapsed().as_millis() as u64, unix_s: unix.as_secs() }
    }
}
