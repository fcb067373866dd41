//! The dialogue: each question with its default, asked again until the answer can be.

use std::path::Path;

use anyhow::Result;
use inquire::{Confirm, MultiSelect, Text};

use crate::commands::setup::Setup;
use crate::commands::setup::answers::{
    Answers, TRANSPORTS, check_address, check_database, check_listener, check_name, check_transports,
    extensions_of,
};

/// Asks for what the command line does not say.
///
/// # Errors
/// Nothing can be asked, or it was broken off.
pub(super) fn all(args: &Setup, answers: &mut Answers) -> Result<()> {
    if args.address.is_none() {
        let help = "0.0.0.0: all addresses of this machine";
        answers.address = text("Which address shall phones reach?", &answers.address, help, check_address)?;
    }
    if args.transports.is_empty() {
        answers.transports = transports()?;
    }
    if args.port.is_none() {
        let (address, transports) = (answers.address.clone(), answers.transports.clone());
        let check = |text: &str| -> Result<()> {
            let port = text.parse().map_err(|_| anyhow::anyhow!("a port is a number from 1 to 65535"))?;
            let with = Answers { port, ..answers.clone() };
            transports.iter().try_for_each(|one| check_listener(&address, with.port_of(one), one))
        };
        let port =
            text("Which port?", &answers.port.to_string(), "SIP's is 5060; tls has the next one", check)?;
        answers.port = port.parse()?;
    }
    if args.name.is_none() {
        let help = "a name in DNS, or the public address of a router; empty: this machine's own address";
        answers.name = text("By which name do phones call it?", "", help, check_name)?;
    }
    if answers.needs_certificate() {
        let own = Confirm::new("Is there a certificate?").with_default(false);
        if own.with_help_message("no: one is made, with an authority that phones must be given").prompt()? {
            let certificate = Text::new("The certificate's file (PEM):").prompt()?;
            let key = Text::new("Its private key's file:").prompt()?;
            answers.certificate = Some((certificate, key));
        }
    }
    if args.database.is_none() {
        let folder = args.output.parent().unwrap_or(Path::new("")).to_path_buf();
        let help = "sqlite:FILE, mysql://USER:PASSWORD@HOST/NAME, postgres://USER:PASSWORD@HOST/NAME";
        let check = |url: &str| check_database(url, &folder);
        answers.database = text("Which database?", &answers.database, help, check)?;
    }
    if !args.nat {
        let question = Confirm::new("Do phones stand behind routers (home offices)?").with_default(false);
        answers.nat = question.with_help_message("their ways are kept open by a ping each 30 s").prompt()?;
    }
    if args.extensions.is_empty() {
        let help =
            "9001, 9001-9010 or 9001:PASSWORD, with commas between; passwords are made; empty: none yet";
        let list = |text: &str| -> Result<Vec<_>> {
            let each = text.split(',').map(str::trim).filter(|one| !one.is_empty());
            Ok(each.map(extensions_of).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
        };
        let told = text("Which extensions first?", "", help, |text| list(text).map(drop))?;
        answers.extensions = list(&told)?;
    }
    Ok(())
}

fn transports() -> Result<Vec<String>> {
    loop {
        let question = MultiSelect::new("Which transports?", TRANSPORTS.to_vec()).with_default(&[0, 1]);
        let help = "space: choose, enter: done; tls for encrypted phones, wss for browsers";
        let chosen = question.with_help_message(help).prompt()?;
        let chosen: Vec<_> = chosen.into_iter().map(str::to_string).collect();
        match check_transports(&chosen) {
            Ok(()) => return Ok(chosen),
            Err(error) => eprintln!("  {error}"),
        }
    }
}

fn text(question: &str, default: &str, help: &str, check: impl Fn(&str) -> Result<()>) -> Result<String> {
    loop {
        let told = Text::new(question).with_default(default).with_help_message(help).prompt()?;
        match check(told.trim()) {
            Ok(()) => return Ok(told.trim().to_string()),
            Err(error) => eprintln!("  {error:#}"),
        }
    }
}
