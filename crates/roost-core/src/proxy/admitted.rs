//! Which calls were let in a moment ago: a retransmission of one must not be refused because its caller's binding has
//! expired or moved, or its nonce has run out, meanwhile.

use std::collections::VecDeque;

use hashbrown::HashTable;

use crate::base::limits;
use crate::transaction::timers::LINGER_MS;

/// Hashes of requests that were authorized, for as long as a client repeats one (64 T1). Only who may call is
/// remembered, the newest at most.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    table: HashTable<u64>,
    order: VecDeque<(u64, u64)>,
    /// Those that made room for others before their time was over.
    pub(crate) evicted: u64,
}

impl Admitted {
    pub(crate) fn note(&mut self, request: u64, now_ms: u64) {
        if self.contains(request, now_ms) {
            return;
        }
        if self.order.len() >= limits::MAX_ADMITTED_CALLS {
            self.evicted += 1;
            self.drop_oldest();
        }
        self.table.insert_unique(request, request, |hash| *hash);
        self.order.push_back((now_ms + LINGER_MS, request));
    }

    pub(crate) fn contains(&mut self, request: u64, now_ms: u64) -> bool {
        while self.order.front().is_some_and(|(deadline_ms, _)| *deadline_ms <= now_ms) {
            self.drop_oldest();
        }
        self.table.find(request, |hash| *hash == request).is_some()
    }

    fn drop_oldest(&mut self) {
        if let Some((_, request)) = self.order.pop_front()
            && let Ok(entry) = self.table.find_entry(request, |hash| *hash == request)
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembered_for_64_t1_and_bounded() {
        let mut admitted = Admitted::default();
        admitted.note(7, 0);
        admitted.note(7, 1_000);
        assert!(admitted.contains(7, LINGER_MS - 1) && !admitted.contains(8, 0));
        assert!(!admitted.contains(7, LINGER_MS));
        for request in 0..2 * limits::MAX_ADMITTED_CALLS as u64 {
            admitted.note(request, LINGER_MS);
        }
        assert_eq!(
            (admitted.table.len(), admitted.order.len()),
            (limits::MAX_ADMITTED_CALLS, limits::MAX_ADMITTED_CALLS)
        );
        assert!(!admitted.contains(0, LINGER_MS));
    }
}
