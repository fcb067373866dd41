//! The project's own commands: `cargo xtask test | ci | sim | gates | bench | soak | dist`.
//!
//! Owns which steps there are and their order. How a step runs is in `steps`, what the machine must have is in `tools`.

mod bench;
mod command;
mod dist;
mod figures;
mod gates;
mod soak;
mod steps;
mod tools;

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use clap::{Args, Parser, Subcommand};

use command::cargo;
use steps::{Step, Work};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The project's own commands")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run every test: units, house rules, simulation, and the black box with SIPp and baresip.
    Test {
        /// Arguments for the test programs, such as a part of a test's name or --nocapture.
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Run all that a change must pass: format, lints, documentation, licences, then every test.
    Ci,
    /// Run the simulated world.
    Sim(Seeds),
    /// Compare instructions per operation with what they were (xtask/gates.txt).
    Gates {
        /// Note what they are now.
        #[arg(long)]
        write: bool,
    },
    /// Measure roost's CPU per operation, latency and memory, beside a bare UDP echo.
    ///
    /// docs/benchmarks.md says what the figures mean.
    Bench(bench::Bench),
    /// Build the release binary without symbols, and the symbols beside it.
    Dist,
    /// Run what takes longer than a test may.
    #[command(subcommand)]
    Soak(soak::Soak),
}

#[derive(Debug, Args)]
struct Seeds {
    /// Replay one seed.
    #[arg(long, value_name = "N", required_unless_present = "seeds", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Try this many seeds.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Worlds of several nodes that share bindings, in place of worlds of one.
    #[arg(long)]
    nodes: bool,
}

fn main() -> ExitCode {
    let steps = match Cli::parse().task {
        Task::Test { args } => test_steps(&args),
        Task::Ci => ci_steps().into_iter().chain(test_steps(&[])).collect(),
        Task::Sim(seeds) => vec![sim_step(seeds)],
        Task::Bench(bench) => return bench::run(&bench),
        Task::Soak(soak) => return soak::run(&soak),
        Task::Gates { write } => vec![gates_step(write)],
        Task::Dist => vec![Step { title: "release binary", work: Work::Dist }],
    };
    steps::run(steps)
}

fn ci_steps() -> Vec<Step> {
    let mut doc = cargo(["doc", "--workspace", "--no-deps"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    vec![
        Step::run("format", cargo(["fmt", "--all", "--check"])),
        Step::run("lints", cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        Step::run("documentation", doc),
        Step { title: "cargo-deny is there", work: Work::CargoDeny },
        Step::run("dependencies", cargo(["deny", "check", "bans", "licenses", "sources"])),
    ]
}

/// `args` go to the test programs; the simulation takes none.
///
/// Every step that builds for tests names the whole workspace: another choice of packages has other features of libraries,
/// and would be built once more.
fn test_steps(args: &[OsString]) -> Vec<Step> {
    let mut tests = cargo(["test", "--workspace", "--no-fail-fast"]);
    tests.env("RUST_TEST_THREADS", threads());
    if !args.is_empty() {
        tests.arg("--").args(args);
    }
    vec![
        Step { title: "SIPp, baresip, database servers and valgrind are there", work: Work::DebianPackages },
        Step::run("tests of every crate, and black box", tests),
        Step::run("the same behaviour on MariaDB", on_database("mariadb", args)),
        Step::run("the same behaviour on PostgreSQL", on_database("postgres", args)),
        Step::run("nodes of which one is lost", lost_node()),
        sim_step(Seeds { seed: None, seeds: Some(500), nodes: false }),
        sim_step(Seeds { seed: None, seeds: Some(1_000), nodes: true }),
        gates_step(false),
    ]
}

/// How many tests of the black box run at once: most of them wait for a timer.
fn threads() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (4 * cores).clamp(6, 16).to_string()
}

/// The suites that must pass whatever the database is; SQLite's turn is with all the others.
fn on_database(kind: &str, args: &[OsString]) -> Command {
    let mut tests = cargo(["test", "--workspace", "--test", "blackbox", "--"]);
    tests.env("ROOST_TEST_DATABASE", kind).env("RUST_TEST_THREADS", threads());
    if args.is_empty() {
        tests.args(["register::", "mi::", "user::", "import::"]);
    }
    tests.args(args);
    tests
}

/// A short `cargo xtask soak nodes`.
fn lost_node() -> Command {
    let size = ["--count", "300", "--calls", "20", "--hold", "3"];
    let mut lost = cargo(["xtask", "soak", "nodes", "--debug", "--if-possible", "--lose", "node"]);
    lost.args(size);
    lost
}

fn gates_step(write: bool) -> Step {
    Step { title: "instructions per operation", work: Work::Gates { write } }
}

fn sim_step(Seeds { seed, seeds, nodes }: Seeds) -> Step {
    let mut sim = cargo(["run", "--release", "-p", "roost-sim", "--bin", "roost-sim", "--"]);
    for (flag, value) in [("--seed", seed), ("--seeds", seeds)] {
        if let Some(value) = value {
            sim.arg(flag).arg(value.to_string());
        }
    }
    if nodes {
        sim.arg("--nodes");
    }
    Step::run(if nodes { "simulation of several nodes" } else { "simulation" }, sim)
}
