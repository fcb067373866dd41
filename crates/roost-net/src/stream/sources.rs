//! How many connections each IP address has, over all threads. Asked when a connection begins or ends, not per message.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub(super) struct Sources {
    by_ip: Mutex<HashMap<IpAddr, Source>>,
    begun: Mutex<Begun>,
}

/// The handshakes that were begun in a second.
#[derive(Debug, Default)]
struct Begun {
    second: u64,
    by_ip: HashMap<IpAddr, u32>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Source {
    connections: usize,
    connecting: usize,
    /// Handshakes that are not finished.
    handshakes: usize,
}

impl Sources {
    /// Counts another connection of an address unless it has so many.
    pub(super) fn admit(&self, ip: IpAddr, most: usize) -> bool {
        let mut sources = self.lock();
        let source = sources.entry(ip).or_default();
        let is_admitted = source.connections < most;
        if is_admitted {
            source.connections += 1;
        }
        is_admitted
    }

    /// Counts that one is gone.
    pub(super) fn release(&self, ip: IpAddr) {
        self.change(ip, |source| source.connections = source.connections.saturating_sub(1));
    }

    /// Counts another handshake of an address, which has a connection, unless it has so many, or has begun so many in this
    /// second.
    pub(super) fn begin_handshake(&self, ip: IpAddr, (most, most_begun): (usize, u32), now_s: u64) -> bool {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if begun.second != now_s {
            *begun = Begun { second: now_s, ..Begun::default() };
        }
        let in_second = begun.by_ip.entry(ip).or_default();
        let mut sources = self.lock();
        let source = sources.entry(ip).or_default();
        let is_admitted = source.handshakes < most && *in_second < most_begun;
        if is_admitted {
            source.handshakes += 1;
            *in_second += 1;
        }
        is_admitted
    }

    /// Counts that one is over.
    pub(super) fn end_handshake(&self, ip: IpAddr) {
        self.change(ip, |source| source.handshakes = source.handshakes.saturating_sub(1));
    }

    /// Counts another attempt to connect to an address unless there are so many.
    pub(super) fn begin_connecting(&self, ip: IpAddr, most: usize) -> bool {
        let mut sources = self.lock();
        let source = sources.entry(ip).or_default();
        let is_admitted = source.connecting < most;
        if is_admitted {
            source.connecting += 1;
        }
        is_admitted
    }

    /// Counts that an attempt is over.
    pub(super) fn end_connecting(&self, ip: IpAddr) {
        self.change(ip, |source| source.connecting = source.connecting.saturating_sub(1));
    }

    fn change(&self, ip: IpAddr, change: impl FnOnce(&mut Source)) {
        let mut sources = self.lock();
        if let Some(source) = sources.get_mut(&ip) {
            change(source);
            if source.connections == 0 && source.connecting == 0 && source.handshakes == 0 {
                sources.remove(&ip);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Source>> {
        self.by_ip.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_counted_and_forgotten() {
        let sources = Sources::default();
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(sources.admit(ip, 2) && sources.admit(ip, 2));
        assert!(!sources.admit(ip, 2));
        sources.release(ip);
        assert!(sources.admit(ip, 2));
        assert!(sources.begin_handshake(ip, (2, 3), 7) && sources.begin_handshake(ip, (2, 3), 7));
        assert!(!sources.begin_handshake(ip, (2, 3), 7), "two are not finished");
        sources.end_handshake(ip);
        assert!(sources.begin_handshake(ip, (2, 3), 7));
        sources.end_handshake(ip);
        assert!(!sources.begin_handshake(ip, (2, 3), 7), "three in a second");
        assert!(sources.begin_handshake(ip, (2, 3), 8));
        sources.end_handshake(ip);
        sources.end_handshake(ip);
        assert!(sources.begin_connecting(ip, 1));
        assert!(!sources.begin_connecting(ip, 1));
        sources.release(ip);
        sources.release(ip);
        assert_eq!(sources.lock().len(), 1, "a connection is being made");
        sources.end_connecting(ip);
        assert!(sources.lock().is_empty());
    }
}
