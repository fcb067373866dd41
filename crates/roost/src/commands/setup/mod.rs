//! `roost setup`: asks for what a first configuration needs, tries each answer, and writes the file.

mod answers;
mod ask;

use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::commands::account::{check_account, realm};
use crate::commands::certificate::make_for;
use crate::commands::setup::answers::{Answers, Extension};
use crate::output::say;
use crate::settings::Settings;

/// The answers that are given on the command line; the others are asked for, or are the defaults.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Setup {
    /// The file to write, beside which the database and certificates stand
    #[arg(long, value_name = "FILE", default_value = "roost.toml")]
    pub(crate) output: PathBuf,
    /// The address to listen on; 0.0.0.0: all of this machine's
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// The port of udp and tcp; tls has the next one
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Of udp, tcp, tls, wss
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    transports: Vec<String>,
    /// The name or address that phones call the server by, where it stands behind a router or has a certificate
    #[arg(long, value_name = "HOST")]
    name: Option<String>,
    /// sqlite:FILE, mysql://USER:PASSWORD@HOST/NAME or postgres://USER:PASSWORD@HOST/NAME
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// The certificate's file; without it one is made for tls and wss
    #[arg(long, value_name = "FILE", requires = "private_key")]
    certificate: Option<String>,
    /// Its private key's file
    #[arg(long, value_name = "FILE", requires = "certificate")]
    private_key: Option<String>,
    /// Phones stand behind routers: their ways are kept open by pings
    #[arg(long)]
    nat: bool,
    /// An extension, with its password or with one that is made: 9001:PASSWORD, 9001, or 9001-9010; may be given more than once
    #[arg(long = "extension", value_name = "WHO")]
    extensions: Vec<String>,
    /// Ask nothing
    #[arg(long)]
    yes: bool,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

/// Asks, checks, and writes.
///
/// # Errors
/// What is wrong with an answer, and the remedy; nothing is written then.
pub(crate) fn run(args: &Setup, is_json: bool) -> Result<()> {
    if args.output.exists() && !args.force {
        bail!(
            "{} is there already: --force writes over it, --output FILE writes another one",
            args.output.display()
        );
    }
    let asks = !args.yes && !is_json && std::io::stdin().is_terminal();
    let mut answers = Answers::of(args)?;
    if asks {
        ask::all(args, &mut answers)?;
    }
    answers.check(args.output.parent().unwrap_or(Path::new("")))?;
    if answers.needs_certificate() {
        answers.certificate = Some(make_certificate(args, &answers)?);
    }
    let text = answers.toml();
    let settings = Settings::parse(&text, &args.output.display().to_string())?;
    let settings = Settings { file: Some(args.output.clone()), ..settings };
    if let Some(tls) = settings.tls() {
        roost_net::Tls::load(tls)?;
    }
    let domain = answers.domain();
    for Extension { user, password } in &answers.extensions {
        check_account(&settings.core, user, &domain, password)?;
    }
    write(&args.output, &text).with_context(|| format!("cannot write {}", args.output.display()))?;
    let added = add_extensions(&settings, &answers)?;
    told(args, &settings, &answers, &added, is_json)
}

/// Writes the file; one with a password in it for its owner alone.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let mode = if text.lines().any(|line| line.starts_with("database = ") && line.contains('@')) {
        0o600
    } else {
        0o644
    };
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(file)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())
}

/// A certificate of an authority of its own, for the name that phones call the server by.
fn make_certificate(args: &Setup, answers: &Answers) -> Result<(String, String)> {
    let beside = args.output.parent().unwrap_or(Path::new(""));
    make_for(&answers.certificate_names(), beside)
}

/// Adds those that are not there; which were added.
fn add_extensions(settings: &Settings, answers: &Answers) -> Result<Vec<Extension>> {
    let (store, domain) = (settings.open_store()?, answers.domain());
    let mut added = Vec::new();
    for extension in &answers.extensions {
        if !store.domains_of(&extension.user)?.is_empty() {
            eprintln!("roost: extension {} is there already, and keeps its password", extension.user);
            continue;
        }
        store.add_user(&extension.user, &domain, &extension.password, realm(&settings.core, &domain))?;
        added.push(extension.clone());
    }
    Ok(added)
}

fn told(
    args: &Setup,
    settings: &Settings,
    answers: &Answers,
    added: &[Extension],
    is_json: bool,
) -> Result<()> {
    let file = args.output.display();
    if is_json {
        let extensions: Vec<_> =
            added.iter().map(|one| json!({ "user": one.user, "password": one.password })).collect();
        return say(
            &json!({ "file": file.to_string(), "listen": settings.listen, "extensions": extensions })
                .to_string(),
        );
    }
    let mut text = format!("wrote {file}: it listens on {}\n", settings.listen.join(", "));
    for Extension { user, password } in added {
        text += &format!("\nextension {user}, password {password}");
    }
    if !added.is_empty() {
        text += &format!("\n\nIn the phone: server {}, user and password as above.", answers.shown_server());
    }
    let option =
        if args.output.as_os_str() == "roost.toml" { String::new() } else { format!(" --config {file}") };
    text += &format!(
        "\n\nStart it:            roost{option} serve\nWho is registered:   roost{option} ul show\nIs anything wrong:   roost{option} doctor"
    );
    say(&text)
}
