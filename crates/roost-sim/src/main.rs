//! `roost-sim`: plays seeds of the simulated world until a promise is broken.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use roost_sim::nodes;
use roost_sim::shortest::shortest;
use roost_sim::world::{self, Failure, Options, Report};

/// Play seeds of the simulated world: phones that register and call, a bad network, a failing database, crashes.
#[derive(Debug, Parser)]
#[command(name = "roost-sim")]
struct Cli {
    /// Replay one seed with a trace on standard error.
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// How many seeds to play.
    #[arg(long, value_name = "N", default_value_t = 200)]
    seeds: u64,
    /// The first of them.
    #[arg(long, value_name = "M", default_value_t = 0)]
    from: u64,
    /// Worlds of several nodes that share bindings, in place of worlds of one.
    #[arg(long)]
    nodes: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let (first, count, trace) = match cli.seed {
        Some(seed) => (seed, 1, true),
        None => (cli.from, cli.seeds, false),
    };
    if cli.nodes {
        return Ok(play_nodes(first, count, trace));
    }
    let last = first.checked_add(count).ok_or_else(|| anyhow::anyhow!("there are no seeds beyond 2^64"))?;
    let bar = if trace { ProgressBar::hidden() } else { ProgressBar::new(count) };
    let style = ProgressStyle::with_template("{pos}/{len} seeds {wide_bar} {per_sec}, {eta} left");
    bar.set_style(style?);
    let played = Mutex::new(Played::default());
    let next = AtomicU64::new(first);
    let threads = if trace { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= last || !play(seed, trace, &played) {
                        return;
                    }
                    bar.inc(1);
                }
            });
        }
    });
    let Played { seeds, sum, failures } = played.into_inner().unwrap_or_else(PoisonError::into_inner);
    bar.finish_and_clear();
    if let Some((seed, failure)) = failures.first_key_value() {
        explain(*seed, failure);
        return Ok(ExitCode::FAILURE);
    }
    print(seeds, &sum);
    Ok(ExitCode::SUCCESS)
}

/// Plays worlds of several nodes.
#[expect(clippy::print_stdout, reason = "the summary is what the command is for")]
fn play_nodes(first: u64, count: u64, trace: bool) -> ExitCode {
    let mut sum = nodes::Report::default();
    for seed in first..first.saturating_add(count) {
        match nodes::run(seed, nodes::Options { trace, ..nodes::Options::default() }) {
            Ok(report) => sum.add(&report),
            Err(broken) => {
                eprintln!("{broken}\nreplay it: cargo xtask sim --nodes --seed {seed}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "{count} seeds of three nodes: {} REGISTERs, {} accepted, {} refused, {} planned again; {} crashes, {} nodes that stood still, \
         {} cut off, {} lost answers of the store, {} primaries lost, {} ways between nodes lost; {} calls, {} rang, {} of them \
         at another node; nothing broken",
        sum.registers,
        sum.accepted,
        sum.refused,
        sum.conflicts,
        sum.crashes,
        sum.freezes,
        sum.cuts,
        sum.lost_answers,
        sum.failovers,
        sum.partitions,
        sum.calls,
        sum.rang,
        sum.across
    );
    ExitCode::SUCCESS
}

/// Says what broke, and plays the shortest world that breaks it with a trace.
fn explain(seed: u64, failure: &Failure) {
    eprintln!("seed {seed}: {failure}; looking for the shortest way to it");
    let Some(shortest) = shortest(seed, Options::default()) else { return };
    let traced = Options { trace: true, ..Options::default() };
    drop(world::run_without(seed, traced, &shortest.without));
    eprintln!("what it takes: {:?}", shortest.needed);
    eprintln!("seed {seed}: {}", shortest.failure);
    eprintln!("replay all of it: cargo xtask sim --seed {seed}");
}

/// What the threads have done together.
#[derive(Debug, Default)]
struct Played {
    seeds: u64,
    sum: Report,
    failures: BTreeMap<u64, Failure>,
}

/// Plays one seed, by whichever thread; whether all are well so far.
fn play(seed: u64, trace: bool, played: &Mutex<Played>) -> bool {
    let outcome = world::run(seed, Options { trace, ..Options::default() });
    let mut played = played.lock().unwrap_or_else(PoisonError::into_inner);
    match outcome {
        Ok(report) => {
            played.seeds += 1;
            played.sum.add(&report);
        }
        Err(failure) => drop(played.failures.insert(seed, failure)),
    }
    played.failures.is_empty()
}

#[expect(clippy::print_stdout, reason = "the summary is what the command is for")]
fn print(seeds: u64, sum: &Report) {
    let hours = sum.virtual_ms as f64 / 3_600_000.0;
    let ends = &sum.ends;
    println!(
        "{seeds} seeds, {hours:.1} virtual hours: {} messages ({} handed over), {} commits; {} lost, {} duplicated, \
         {} failed commits, {} lost acknowledgements, {} crashes; {} answers given by the model too; {} calls set up, \
         {} answered, {} cancelled, {} busy, {} unanswered, {} forked, {} transferred; {} call records; nothing broken",
        sum.messages,
        sum.handed_over,
        sum.commits,
        sum.lost,
        sum.duplicated,
        sum.failed_commits,
        sum.lost_answers,
        sum.crashes,
        sum.compared,
        ends.set_up,
        ends.answered,
        ends.cancelled,
        ends.busy,
        ends.unanswered,
        ends.forked,
        ends.transferred,
        ends.recorded
    );
}
