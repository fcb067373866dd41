//! What one phase of a load counted, and how long its operations took.

use hdrhistogram::Histogram;

/// The longest latency that is told apart, in µs.
const MAX_LATENCY_US: u64 = 120_000_000;

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    /// An answer said no.
    Failed,
    /// No answer until it was time to give up.
    TimedOut,
}

#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) started: u64,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) timed_out: u64,
    pub(crate) retransmissions: u64,
    /// Challenges to credentials made from a nonce of an earlier operation.
    pub(crate) stale: u64,
    /// 200s to REGISTER that do not list the contact just registered.
    pub(crate) unlisted: u64,
    /// Datagrams that belong to no operation under way: repeated and late ones.
    pub(crate) strays: u64,
    /// Messages sent, retransmissions included.
    pub(crate) sent: u64,
    /// Messages that the kernel did not take.
    pub(crate) unsent: u64,
    pub(crate) received: u64,
    /// Answers received, by status code.
    answers: Vec<u64>,
    latency_us: Histogram<u64>,
    /// From the first start to the last end.
    pub(crate) elapsed_s: f64,
    /// How far a fixed rate fell behind its plan at worst.
    pub(crate) behind_us: u64,
    /// The generator's own CPU.
    pub(crate) own_cpu_us: f64,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            started: 0,
            ok: 0,
            failed: 0,
            timed_out: 0,
            retransmissions: 0,
            stale: 0,
            unlisted: 0,
            strays: 0,
            sent: 0,
            unsent: 0,
            received: 0,
            answers: vec![0; 700],
            latency_us: Histogram::new_with_bounds(1, MAX_LATENCY_US, 3).expect("valid bounds"),
            elapsed_s: 0.0,
            behind_us: 0,
            own_cpu_us: 0.0,
        }
    }
}

impl Tally {
    /// Counts an operation's end.
    pub(crate) fn end(&mut self, outcome: Outcome, latency_ns: u64) {
        match outcome {
            Outcome::Ok => {
                self.ok += 1;
                self.latency_us.saturating_record(latency_ns / 1000);
            }
            Outcome::Failed => self.failed += 1,
            Outcome::TimedOut => self.timed_out += 1,
        }
    }

    /// Counts an answer; a code outside 100 to 699 is passed over.
    pub(crate) fn answer(&mut self, code: u16) {
        if let Some(count) = self.answers.get_mut(usize::from(code)) {
            *count += 1;
        }
    }

    /// Operations that have ended, one way or another.
    pub(crate) fn ended(&self) -> u64 {
        self.ok + self.failed + self.timed_out
    }

    /// The answers that came at all: code and count.
    pub(crate) fn answers(&self) -> impl Iterator<Item = (usize, u64)> {
        self.answers.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }

    /// The latency below which this share (0 to 1) of the successful operations stayed, in µs.
    pub(crate) fn latency_us(&self, share: f64) -> u64 {
        self.latency_us.value_at_quantile(share)
    }

    pub(crate) fn ops_per_s(&self) -> f64 {
        if self.elapsed_s > 0.0 { self.ok as f64 / self.elapsed_s } else { 0.0 }
    }

    /// Spreads a total over the successful operations; none without any.
    pub(crate) fn per_op(&self, total: f64) -> Option<f64> {
        (self.ok > 0).then(|| total / self.ok as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_successful_ones() {
        let mut tally = Tally::default();
        for us in 1..=1000u64 {
            tally.end(Outcome::Ok, us * 1000);
        }
        tally.end(Outcome::TimedOut, 7_500_000_000);
        tally.end(Outcome::Failed, 1);
        assert_eq!((tally.latency_us(0.5), tally.latency_us(0.99), tally.latency_us(1.0)), (500, 990, 1000));
        assert_eq!((tally.ok, tally.failed, tally.timed_out, tally.ended()), (1000, 1, 1, 1002));
        assert_eq!(tally.per_op(2000.0), Some(2.0));
        assert_eq!(Tally::default().per_op(1.0), None);
    }

    #[test]
    fn answers_by_code() {
        let mut tally = Tally::default();
        [200, 401, 200, 999].into_iter().for_each(|code| tally.answer(code));
        assert_eq!(tally.answers().collect::<Vec<_>>(), [(200, 2), (401, 1)]);
    }
}
