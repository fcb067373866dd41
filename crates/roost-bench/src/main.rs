//! The command `roost-bench`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use roost_bench::bench;
use roost_bench::cli::{Cli, Command, EchoOptions, Load};
use roost_bench::echo;
use roost_bench::kind::Kind;
use roost_bench::stop::Stop;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Register(load) => run(Kind::Register, &load),
        Command::Refresh(load) => run(Kind::Refresh, &load),
        Command::Call(load) => run(Kind::Call, &load),
        Command::Options(load) => run(Kind::Options, &load),
        Command::Raw(load) => run(Kind::Raw, &load),
        Command::Echo(options) => serve_echo(options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roost-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(kind: Kind, load: &Load) -> Result<()> {
    let stop = Stop::on_signals()?;
    let program = std::env::current_exe().context("where am I")?;
    let report = bench::run(kind, load, &program, &stop)?;
    let text = if load.json { report.to_json().to_string() } else { report.to_table() };
    writeln!(std::io::stdout().lock(), "{text}")?;
    anyhow::ensure!(report.has_success(), "no operation succeeded: {}", report.describe_failures());
    Ok(())
}

fn serve_echo(options: EchoOptions) -> Result<()> {
    if let Some(parent) = options.parent {
        echo::end_with_parent(parent)?;
    }
    echo::serve(options.port, options.workers)
}
