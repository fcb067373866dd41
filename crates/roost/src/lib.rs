//! roost: a SIP registrar and proxy for the extensions of a call centre, in one binary. The library is the program's.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod mi_client;
mod output;
mod reference;
mod serve;
mod settings;
mod template;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser as _};

use cli::{Cli, Command, ConfigCommand, ConsoleCommand};
use commands::{
    agents, ban, calls, config_show, console, db, doctor, drain, ds, explain, health, log_level, mcp, nodes,
    opensips, reload, setup, stats, tls, trace, ul, upgrade, user, what_if, why,
};
use output::{say, say_done, say_error};
use roost_recorder::Language;
use settings::Settings;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let is_json = cli.json;
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            say_error(&error, is_json);
            ExitCode::FAILURE
        }
    }
}

/// Reads the text of a configuration file, for fuzzing; the error names the line.
///
/// # Errors
/// What `roost config check` would say of a file `fuzz.toml`.
pub fn check_text(text: &str) -> Result<(), String> {
    settings::Settings::parse(text, "fuzz.toml").map(drop).map_err(|error| format!("{error:#}"))
}

/// The exit code of a command that worked is 0, unless it is one that judges.
fn run(cli: Cli) -> Result<ExitCode> {
    let file = cli.config.as_deref();
    let done = match cli.command {
        Command::Setup(args) => setup::run(&args, cli.json),
        Command::Serve { console } => serve::run(&Settings::load(file)?.with_console(console), console),
        Command::Console { command: ConsoleCommand::User { command } } => {
            console::run(&Settings::load(file)?, &command, cli.json)
        }
        Command::User { command } => user::run(&Settings::load(file)?, command, cli.json),
        Command::Db { command } => db::run(&Settings::load(file)?, &command, cli.json),
        Command::Nodes => nodes::run(&Settings::load(file)?, cli.json),
        Command::Agents { extension, domain } => {
            let settings = Settings::load(file)?;
            agents::run(&settings, extension.as_deref(), domain.as_deref(), cli.json)
        }
        Command::Calls { follow, command } => {
            calls::run(&Settings::load(file)?, command.as_ref(), follow, cli.json)
        }
        Command::Why { extension, other, call, since, follow } => {
            let language = if cli.json { Language::English } else { explain::language() };
            let question = why::Question { extension, other, call, since, language };
            match follow {
                true => why::follow(&Settings::load(file)?, question, cli.json),
                false => why::run(&Settings::load(file)?, &question, cli.json),
            }
        }
        Command::Try(attempt) => what_if::run(&Settings::load(file)?, &attempt, cli.json),
        Command::Trace(args) => trace::run(&Settings::load(file)?, &args, cli.json),
        Command::Mcp => mcp::run(file),
        Command::Health => return health::run(&Settings::load(file)?, cli.json),
        Command::Doctor => return doctor::run(file, cli.json),
        Command::Explain { reason } => explain::run(reason.as_deref(), cli.json),
        Command::Stats { names, watch } => stats::run(&Settings::load(file)?, &names, watch, cli.json),
        Command::LogLevel { level, only, seconds } => {
            log_level::run(&Settings::load(file)?, level, only.as_deref(), seconds, cli.json)
        }
        Command::Ban { command } => ban::run(&Settings::load(file)?, &command, cli.json),
        Command::Drain(args) => drain::run(&Settings::load(file)?, &args, cli.json),
        Command::Upgrade { binary } => upgrade::run(&Settings::load(file)?, binary, cli.json),
        Command::Import(args) => opensips::run(&args, cli.json),
        Command::Reload { dry_run } => reload::run(file, dry_run, cli.json),
        Command::Ds { command } => ds::run(&Settings::load(file)?, &command, cli.json),
        Command::Tls { command } => tls::run(&Settings::load(file)?, &command, cli.json),
        Command::Ul { command } => ul::run(&Settings::load(file)?, &command, cli.json),
        Command::Config { command: ConfigCommand::Check } => say_done(&settings::check(file)?, cli.json),
        Command::Config { command: ConfigCommand::Show { changed, running } } => {
            config_show::run(&Settings::load(file)?, changed, running, cli.json)
        }
        Command::Config { command: ConfigCommand::Reasons { language } } => say_reasons(&language),
        Command::Config { command: ConfigCommand::Template } => say(template::configuration().trim_end()),
        Command::Config { command: ConfigCommand::Man { folder } } => template::manual(&folder),
        Command::Config { command: ConfigCommand::Reference } => say(reference::page().trim_end()),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "roost", &mut script);
            say(String::from_utf8_lossy(&script).trim_end())
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// All reasons as a page.
fn say_reasons(language: &str) -> Result<()> {
    let language = if language == "zh" { Language::Chinese } else { Language::English };
    say(roost_recorder::page(language).trim_end())
}
