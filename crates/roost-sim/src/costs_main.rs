//! `roost-costs KIND COUNT`: repeats one operation, for valgrind or perf to count what it costs.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command's answer")]

use std::sync::Arc;

use clap::Parser;
use roost_core::{HopUri, Numbers, REQUEST, Rule};
use roost_filter::Filter;
use roost_sim::costs::{Kind, Stage};

/// Repeat one operation of the engine, without sockets.
#[derive(Debug, Parser)]
#[command(name = "roost-costs")]
struct Cli {
    /// options, challenge, refresh, durable, call, dialog, unrouted or garbage
    kind: String,
    /// How often.
    count: u64,
    /// How many extensions take turns.
    #[arg(long, default_value_t = 100)]
    users: usize,
    /// How many `[[route]]`s there are that take none of it: prefixes and regular expressions.
    #[arg(long, default_value_t = 0)]
    routes: usize,
    /// The condition of one more, for all numbers, which must not hold.
    #[arg(long)]
    when: Option<String>,
}

/// Routes for other numbers, and the one with the condition.
fn routes(cli: &Cli) -> anyhow::Result<Vec<Rule>> {
    let hops = vec![HopUri::parse("sip:192.0.2.7")?];
    let mut rules = Vec::new();
    for at in 0..cli.routes {
        let numbers = match at % 4 {
            0 => Numbers::Pattern(regex::bytes::Regex::new(&format!("^9{at:04}[0-9]{{2,4}}$"))?),
            1 => Numbers::Prefix(format!("0033{at:04}").into()),
            2 => Numbers::Prefix(format!("8{at}").into()),
            _ => Numbers::Prefix(format!("0049{at:04}").into()),
        };
        rules.push(Rule { set: 1, ..Rule::new(numbers, hops.clone()) });
    }
    if let Some(when) = &cli.when {
        let when = Some(Arc::new(Filter::compile(when, &REQUEST)?));
        rules.push(Rule { set: 1, when, ..Rule::new(Numbers::Any, hops) });
    }
    Ok(rules)
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let found = Kind::ALL.iter().find(|(name, _)| *name == cli.kind);
    let (_, kind) = found.ok_or_else(|| anyhow::anyhow!("no kind is called `{}`", cli.kind))?;
    let mut stage = Stage::with_routes(*kind, cli.users, &routes(&cli)?);
    let start = std::time::Instant::now();
    for _ in 0..cli.count {
        stage.once();
    }
    println!("{} {:.0} ns", cli.kind, start.elapsed().as_nanos() as f64 / cli.count.max(1) as f64);
    Ok(())
}
