//! Retransmission timers (RFC 3261 17.1: A and E): one FIFO per step, since all waits of a step are equally long.

use std::collections::VecDeque;
use std::time::Duration;

/// RFC 3261's T1, the first wait.
const T1: Duration = Duration::from_millis(500);
/// RFC 3261's T2, the longest wait.
const T2: Duration = Duration::from_secs(4);

/// Which side of an operation a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// A request of ours waits for its answer.
    Client,
    /// A 200 to an INVITE waits for its ACK.
    Callee,
}

/// A timer; it is void when the slot has another generation by the time it fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timer {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    pub(crate) side: Side,
}

/// A timer that has fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fired {
    pub(crate) timer: Timer,
    /// The step to wait for next; none when it is time to give up.
    pub(crate) next: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct Timers {
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    wait_ns: u64,
    due: VecDeque<(u64, Timer)>,
}

impl Timers {
    /// Waits of T1, doubling up to T2, until `give_up` has passed since the first; without `retransmit` one wait.
    pub(crate) fn new(give_up: Duration, retransmit: bool) -> Timers {
        let (mut steps, mut left) = (Vec::new(), give_up.max(Duration::from_millis(1)));
        let mut wait = if retransmit { T1 } else { left };
        while !left.is_zero() {
            let step = wait.min(left);
            steps.push(Step { wait_ns: step.as_nanos() as u64, due: VecDeque::with_capacity(4096) });
            left -= step;
            wait = (wait * 2).min(T2);
        }
        Timers { steps }
    }

    /// Starts the wait of a step, 0 being the first.
    pub(crate) fn start(&mut self, now_ns: u64, step: usize, timer: Timer) {
        let step = &mut self.steps[step];
        step.due.push_back((now_ns + step.wait_ns, timer));
    }

    /// Takes one timer that is due.
    pub(crate) fn poll(&mut self, now_ns: u64) -> Option<Fired> {
        let last = self.steps.len() - 1;
        for (index, step) in self.steps.iter_mut().enumerate() {
            if let Some((due_ns, timer)) = step.due.front().copied()
                && due_ns <= now_ns
            {
                step.due.pop_front();
                return Some(Fired { timer, next: (index < last).then_some(index + 1) });
            }
        }
        None
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.steps.iter_mut().for_each(|step| step.due.clear());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMER: Timer = Timer { slot: 1, generation: 2, side: Side::Client };

    /// When a timer fires that is started again each time, in ms.
    fn times(give_up_ms: u64, retransmit: bool) -> Vec<u64> {
        let mut timers = Timers::new(Duration::from_millis(give_up_ms), retransmit);
        let mut times = Vec::new();
        timers.start(0, 0, TIMER);
        for now_ms in 0..60_000 {
            if let Some(fired) = timers.poll(now_ms * 1_000_000) {
                times.push(now_ms);
                match fired.next {
                    Some(step) => timers.start(now_ms * 1_000_000, step, fired.timer),
                    None => return times,
                }
            }
        }
        panic!("never gave up: {times:?}");
    }

    #[test]
    fn waits_double_up_to_t2_and_end_when_it_is_time_to_give_up() {
        assert_eq!(times(7500, true), [500, 1500, 3500, 7500]);
        assert_eq!(times(13_000, true), [500, 1500, 3500, 7500, 11_500, 13_000]);
        assert_eq!(times(300, true), [300]);
        assert_eq!(times(7500, false), [7500]);
    }
}
