//! Runs steps one after the other, stops at the first that fails, and says at the end what became of each.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::{gates, tools};

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
}

impl Step {
    pub(crate) fn run(title: &'static str, command: Command) -> Self {
        Step { title, work: Work::Run(command) }
    }
}

/// Runs the steps in order; the exit code is that of the first failure, else 0.
pub(crate) fn run(steps: Vec<Step>) -> ExitCode {
    let titles: Vec<_> = steps.iter().map(|step| step.title).collect();
    let mut lines = Vec::new();
    let mut failure = None;
    for (index, step) in steps.into_iter().enumerate() {
        eprintln!("\n==> [{}/{}] {}", index + 1, titles.len(), step.title);
        let start = Instant::now();
        let outcome = step.work.carry_out();
        let took = seconds(start.elapsed());
        match outcome {
            Ok(0) => lines.push(format!("  ok      {took}  {}", step.title)),
            Ok(code) => {
                lines.push(format!("  FAILED  {took}  {} (exit code {code})", step.title));
                failure = Some(code);
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                lines.push(format!("  FAILED  {took}  {}", step.title));
                failure = Some(1);
            }
        }
        if failure.is_some() {
            break;
        }
    }
    for title in &titles[lines.len()..] {
        lines.push(format!("  not run            {title}"));
    }
    eprintln!("\n==> summary\n{}", lines.join("\n"));
    failure.map_or(ExitCode::SUCCESS, ExitCode::from)
}

/// `cargo` with these arguments, at the workspace's root.
pub(crate) fn cargo<const N: usize>(args: [&str; N]) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| OsString::from(env!("CARGO")));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let mut command = Command::new(program);
    command.args(args).current_dir(root);
    command
}

/// Runs a command with the terminal's outputs and no input; returns its exit code, or as a shell does 128 + signal.
pub(crate) fn exit_code(command: &mut Command) -> anyhow::Result<u8> {
    let line = command_line(command);
    eprintln!("    $ {line}");
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run `{line}`"))?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(u8::try_from(code).unwrap_or(1))
}

impl Work {
    fn carry_out(self) -> anyhow::Result<u8> {
        match self {
            Work::Run(mut command) => exit_code(&mut command),
            Work::DebianPackages => tools::have_debian_packages().map(|()| 0),
            Work::CargoDeny => tools::have_cargo_deny().map(|()| 0),
            Work::Gates { write } => gates::run(write).map(|()| 0),
        }
    }
}

/// As a person would type it: the program by its name, with the variables that were set for it.
fn command_line(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        let value = value.unwrap_or_default().to_string_lossy();
        words.push(format!("{}=\"{value}\"", name.to_string_lossy()));
    }
    let program = Path::new(command.get_program());
    words.push(program.file_name().unwrap_or(OsStr::new("?")).to_string_lossy().into_owned());
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

fn seconds(took: Duration) -> String {
    format!("{:7.1} s", took.as_secs_f64())
}
