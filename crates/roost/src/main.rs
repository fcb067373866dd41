//! roost: a SIP registrar for the extensions of a call centre, in one binary.
#![forbid(unsafe_code)]

mod cli;
mod import;
mod keys;
mod logging;
mod mi_client;
mod serve;
mod settings;
mod ul;
mod user;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use cli::{Cli, Command, ConfigCommand};
use settings::Settings;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roost: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let file = cli.config.as_deref();
    match cli.command {
        Command::Serve => serve::run(&Settings::load(file)?),
        Command::User { command } => user::run(&Settings::load(file)?, command, cli.json),
        Command::Ul { command } => ul::run(&Settings::load(file)?, &command, cli.json),
        Command::Config { command: ConfigCommand::Check } => user::say(&settings::check(file)?),
    }
}
