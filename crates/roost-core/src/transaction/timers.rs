//! Transaction timers: one FIFO for each duration.
//!
//! SIP's timers come from a small closed set of durations, so entries of one duration fall due in the order in which
//! they were set. Setting and popping are O(1); nothing is cancelled: an alarm that no longer fits its transaction's
//! state (or whose ticket is of an earlier tenant) is passed over by its reader.

use std::collections::VecDeque;

use crate::base::flow::Ticket;

/// RFC 3261's T1, in milliseconds.
pub(crate) const T1_MS: u64 = 500;
/// RFC 3261's T2, in milliseconds.
pub(crate) const T2_MS: u64 = 4_000;
/// RFC 3261's T4, in milliseconds: timers I and K.
pub(crate) const T4_MS: u64 = 5_000;
/// 64 T1, in milliseconds: timers D, H, J, L and M.
pub(crate) const LINGER_MS: u64 = 64 * T1_MS;

/// What an alarm is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AlarmKind {
    /// Send the server side's last response again (timer G).
    ServerResend,
    /// The server side has lingered long enough (timers H, I, J, L).
    ServerEnd,
    /// Send a client transaction's request again (timers A and E).
    ClientResend(u16),
    /// It has not been answered finally (timers B, C and F); it knows its deadline.
    ClientTimeout(u16),
    /// It has lingered long enough (timers D, K, M).
    ClientEnd(u16),
    /// Send its CANCEL again (timer E of the CANCEL).
    CancelResend(u16),
}

/// A transaction's alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alarm {
    pub(crate) transaction: Ticket,
    pub(crate) kind: AlarmKind,
}

/// All alarms of one shard.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queues: Vec<(u64, VecDeque<(u64, Alarm)>)>,
}

impl Timers {
    /// Sets an alarm `after_ms` from now.
    pub(crate) fn set(&mut self, now_ms: u64, after_ms: u64, alarm: Alarm) {
        let due = now_ms + after_ms;
        match self.queues.iter_mut().find(|(duration, _)| *duration == after_ms) {
            Some((_, queue)) => queue.push_back((due, alarm)),
            None => self.queues.push((after_ms, VecDeque::from([(due, alarm)]))),
        }
    }

    /// When the next alarm is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.queues.iter().filter_map(|(_, queue)| queue.front()).map(|(due, _)| *due).min()
    }

    /// An alarm that is due, the earliest first.
    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<Alarm> {
        let earliest =
            self.queues.iter_mut().min_by_key(|(_, queue)| queue.front().map_or(u64::MAX, |(due, _)| *due));
        let (_, queue) = earliest?;
        let (_, alarm) = *queue.front().filter(|(due, _)| *due <= now_ms)?;
        queue.pop_front();
        Some(alarm)
    }

    /// How many alarms are set.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.queues.iter().map(|(_, queue)| queue.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_fall_due_in_order_over_all_durations() {
        let mut timers = Timers::default();
        let alarm = |n| Alarm { transaction: Ticket(n), kind: AlarmKind::ServerEnd };
        timers.set(0, 500, alarm(1));
        timers.set(0, 32_000, alarm(2));
        timers.set(100, 500, alarm(3));
        timers.set(100, 5_000, alarm(4));
        assert_eq!((timers.next_due(), timers.len()), (Some(500), 4));
        assert_eq!(timers.pop_due(499), None);
        let all: Vec<u64> =
            std::iter::from_fn(|| timers.pop_due(40_000)).map(|alarm| alarm.transaction.0).collect();
        assert_eq!(all, [1, 3, 4, 2]);
        assert_eq!(timers.next_due(), None);
    }
}
