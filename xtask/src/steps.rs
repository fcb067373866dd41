//! Runs steps one after the other, all of them whatever becomes of one, and says at the end what became of each.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::command::exit_code;
use crate::{dist, gates, tools};

#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) title: &'static str,
    pub(crate) work: Work,
}

#[derive(Debug)]
pub(crate) enum Work {
    /// Run this; its exit code is the step's.
    Run(Command),
    /// Have the commands that the black-box tests call.
    DebianPackages,
    /// Have `cargo deny`.
    CargoDeny,
    /// Compare instructions per operation, or note them.
    Gates { write: bool },
    /// Build the release binary and take its symbols off.
    Dist,
}

impl Step {
    pub(crate) fn run(title: &'static str, command: Command) -> Self {
        Step { title, work: Work::Run(command) }
    }
}

/// Runs the steps in order; the exit code is that of the first failure, else 0. A step that fails hides no other.
pub(crate) fn run(steps: Vec<Step>) -> ExitCode {
    let count = steps.len();
    let mut lines = Vec::new();
    let mut failure = None;
    for (index, step) in steps.into_iter().enumerate() {
        eprintln!("\n==> [{}/{}] {}", index + 1, count, step.title);
        let start = Instant::now();
        let outcome = step.work.carry_out();
        let took = seconds(start.elapsed());
        match outcome {
            Ok(0) => lines.push(format!("  ok      {took}  {}", step.title)),
            Ok(code) => {
                lines.push(format!("  FAILED  {took}  {} (exit code {code})", step.title));
                failure = failure.or(Some(code));
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                lines.push(format!("  FAILED  {took}  {}: {error:#}", step.title));
                failure = failure.or(Some(1));
            }
        }
    }
    eprintln!("\n==> summary\n{}", lines.join("\n"));
    failure.map_or(ExitCode::SUCCESS, ExitCode::from)
}

impl Work {
    fn carry_out(self) -> anyhow::Result<u8> {
        match self {
            Work::Run(mut command) => exit_code(&mut command),
            Work::DebianPackages => {
                tools::have_debian_packages()?;
                tools::have_valkey().map(|()| 0)
            }
            Work::CargoDeny => tools::have_cargo_deny().map(|()| 0),
            Work::Gates { write } => gates::run(write).map(|()| 0),
            Work::Dist => dist::run().map(|()| 0),
        }
    }
}

fn seconds(took: Duration) -> String {
    format!("{:7.1} s", took.as_secs_f64())
}
