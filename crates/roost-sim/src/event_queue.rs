//! What will happen, by virtual time and, within one millisecond, in the order it was put down.

use std::collections::BTreeMap;

/// Events to come.
#[derive(Debug)]
pub struct EventQueue<E> {
    events: BTreeMap<(u64, u64), E>,
    next: u64,
}

impl<E> Default for EventQueue<E> {
    fn default() -> Self {
        EventQueue { events: BTreeMap::new(), next: 0 }
    }
}

impl<E> EventQueue<E> {
    /// Puts an event down for this virtual time, in milliseconds.
    pub fn push(&mut self, at_ms: u64, event: E) {
        self.events.insert((at_ms, self.next), event);
        self.next += 1;
    }

    /// Takes the next event and its time.
    pub fn pop(&mut self) -> Option<(u64, E)> {
        self.events.pop_first().map(|((at_ms, _), event)| (at_ms, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_time_then_in_order() {
        let mut queue = EventQueue::default();
        for (at_ms, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            queue.push(at_ms, event);
        }
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, "abcd");
    }
}
