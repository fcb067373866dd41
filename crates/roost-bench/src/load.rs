//! The loop: starts operations in a closed loop or at a fixed rate, takes answers, repeats what got lost.

use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::ProgressBar;

use crate::context::Context;
use crate::process;
use crate::scenario::Scenario;
use crate::stop::Stop;
use crate::tally::Tally;
use crate::wire::Receiver;

/// The longest wait of a round: timers and progress need no finer one.
const ROUND: Duration = Duration::from_millis(20);
/// Operations that a fixed rate starts in one round at most: catching up must not be a burst.
const BURST: u32 = 8;
/// How often the progress line is drawn.
const DRAW_NS: u64 = 100_000_000;

/// How much is done, and how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Operations in all.
    pub(crate) count: u64,
    /// Operations under way at once.
    pub(crate) window: u32,
    /// Operations per second; none for a closed loop.
    pub(crate) rate: Option<f64>,
    /// When no more operations are started.
    pub(crate) max_time: Duration,
}

/// Runs one phase to its end; the context was cleared for it. What is under way when the time is up is waited for.
///
/// # Errors
/// When the system refuses to wait for datagrams.
pub(crate) fn run(
    scenario: &mut Scenario,
    context: &mut Context,
    receiver: &mut Receiver,
    pace: &Pace,
    progress: &ProgressBar,
    stop: &Stop,
) -> Result<Tally> {
    let clock = Instant::now();
    let (start_ns, own_cpu_us) = (context.now_ns, process::own_cpu_us());
    let now = |context: &mut Context| context.now_ns = start_ns + clock.elapsed().as_nanos() as u64;
    let (mut last_end_ns, mut drawn_ns) = (start_ns, start_ns);
    loop {
        now(context);
        while let Some(fired) = context.timers.poll(context.now_ns) {
            scenario.handle_timer(context, fired);
        }
        let elapsed_ns = context.now_ns - start_ns;
        let is_closing = elapsed_ns > pace.max_time.as_nanos() as u64;
        if !is_closing {
            start_operations(scenario, context, pace, elapsed_ns);
        }
        context.sender.flush();
        let is_over = context.tally.ended() >= pace.count || (is_closing && context.outstanding() == 0);
        if is_over || stop.is_wanted() {
            break;
        }
        if context.now_ns - drawn_ns > DRAW_NS {
            drawn_ns = context.now_ns;
            progress.set_position(context.tally.ended());
        }

        let ended = context.tally.ended();
        for event in 0..receiver.wait(wait(context, pace, elapsed_ns, is_closing))? {
            now(context);
            receiver.receive(event, |socket, message| scenario.handle_datagram(context, socket, message));
        }
        if context.tally.ended() > ended {
            last_end_ns = context.now_ns;
        }
    }
    progress.set_position(context.tally.ended());
    let mut tally = std::mem::take(&mut context.tally);
    (tally.sent, tally.unsent) = (context.sender.sent, context.sender.unsent);
    tally.elapsed_s = (last_end_ns - start_ns) as f64 / 1e9;
    tally.own_cpu_us = process::own_cpu_us() - own_cpu_us;
    Ok(tally)
}

fn start_operations(scenario: &mut Scenario, context: &mut Context, pace: &Pace, elapsed_ns: u64) {
    let (allowed, burst) = match pace.rate {
        None => (pace.count, u32::MAX),
        Some(rate) => (pace.count.min((elapsed_ns as f64 * rate / 1e9) as u64 + 1), BURST),
    };
    for _ in 0..burst {
        let nth = context.tally.started;
        if nth >= allowed {
            return;
        }
        let Some(slot) = context.take_slot() else { return };
        if !scenario.start(context, slot, nth) {
            context.return_slot(slot);
            return;
        }
        if let Some(rate) = pace.rate {
            let behind_ns = elapsed_ns.saturating_sub(due_ns(nth, rate));
            context.tally.behind_us = context.tally.behind_us.max(behind_ns / 1000);
        }
    }
}

/// When the nth operation is due, since the start.
fn due_ns(nth: u64, rate: f64) -> u64 {
    (nth as f64 * 1e9 / rate) as u64
}

/// How long a round may sleep.
fn wait(context: &Context, pace: &Pace, elapsed_ns: u64, is_closing: bool) -> Duration {
    match pace.rate {
        Some(rate) if !is_closing && context.tally.started < pace.count && context.has_free_slot() => {
            let due = Duration::from_nanos(due_ns(context.tally.started, rate).saturating_sub(elapsed_ns));
            due.min(ROUND)
        }
        _ => ROUND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_due_evenly() {
        assert_eq!((0..4).map(|nth| due_ns(nth, 5000.0)).collect::<Vec<_>>(), [0, 200_000, 400_000, 600_000]);
    }
}
