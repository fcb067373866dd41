//! `roost-costs KIND COUNT`: repeats one operation, for valgrind or perf to count what it costs.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command's answer")]

use clap::Parser;
use roost_sim::costs::{Kind, Stage};

/// Repeat one operation of the engine, without sockets.
#[derive(Debug, Parser)]
#[command(name = "roost-costs")]
struct Cli {
    /// options, challenge, refresh, durable, call, dialog or garbage
    kind: String,
    /// How often.
    count: u64,
    /// How many extensions take turns.
    #[arg(long, default_value_t = 100)]
    users: usize,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let found = Kind::ALL.iter().find(|(name, _)| *name == cli.kind);
    let (_, kind) = found.ok_or_else(|| anyhow::anyhow!("no kind is called `{}`", cli.kind))?;
    let mut stage = Stage::new(*kind, cli.users);
    let start = std::time::Instant::now();
    for _ in 0..cli.count {
        stage.once();
    }
    println!("{} {:.0} ns", cli.kind, start.elapsed().as_nanos() as f64 / cli.count.max(1) as f64);
    Ok(())
}
