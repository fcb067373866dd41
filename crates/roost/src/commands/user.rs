//! `roost user`: extensions in the database, and word of them to the running server.

use std::io::IsTerminal as _;

use anyhow::{Context as _, Result, bail};
use roost_recorder::argument;
use roost_store::Store;
use serde_json::json;

use crate::cli::{Account, UserCommand, Whose};
use crate::commands::account::{check_account, forget, realm, set_password_of, warn_of_other_database};
use crate::commands::names::Name;
use crate::commands::{export, import};
use crate::mi_client::{MiError, call};
use crate::output::{say, say_done, table};
use crate::settings::Settings;

/// Runs one of the commands.
pub(crate) fn run(settings: &Settings, command: UserCommand, is_json: bool) -> Result<()> {
    settings.require_database()?;
    match command {
        UserCommand::Add(account) => add(settings, account, is_json),
        UserCommand::Passwd { account, all } => change_password(settings, account, all, is_json),
        UserCommand::Rm { user, whose } => remove(settings, &user, &whose, is_json),
        UserCommand::List => list(settings, is_json),
        UserCommand::Export { file } => export::run(settings, &file, is_json),
        UserCommand::Import { file, replace } => import::run(settings, &file, replace, is_json),
    }
}

fn add(settings: &Settings, account: Account, is_json: bool) -> Result<()> {
    let name = Name::new(&account.user, account.domain.as_deref())?;
    let domain = domain_of(settings, &name)?;
    let password = given_or_asked(account.password)?;
    check_account(&settings.core, &name.user, &domain, &password)?;
    let store = settings.open_store()?;
    store.add_user(&name.user, &domain, &password, realm(&settings.core, &domain))?;
    forget(settings, &name.user, &domain);
    done(settings, &store, &name, &format!("new user '{}' added", name.user), is_json)
}

fn change_password(settings: &Settings, account: Account, all: bool, is_json: bool) -> Result<()> {
    let name = Name::new(&account.user, account.domain.as_deref())?;
    let store = settings.open_store()?;
    let domains = rows(settings, &store, &name, all)?;
    let password = given_or_asked(account.password)?;
    for domain in &domains {
        set_password_of(&settings.core, &store, (&name.user, domain), &password)?;
        forget(settings, &name.user, domain);
    }
    done(settings, &store, &name, &format!("password of user '{}' changed", name.user), is_json)
}

fn remove(settings: &Settings, user: &str, whose: &Whose, is_json: bool) -> Result<()> {
    let name = Name::new(user, whose.domain.as_deref())?;
    let store = settings.open_store()?;
    for domain in rows(settings, &store, &name, whose.all)? {
        store.remove_user(&name.user, &domain)?;
        forget(settings, &name.user, &domain);
        let use_domain = settings.core.identity.use_domain;
        // Without `use_domain` an extension lives on in its other rows.
        if use_domain || store.domains_of(&name.user)?.is_empty() {
            remove_bindings(settings, &store, &name.user, use_domain.then_some(&*domain))?;
        }
    }
    done(settings, &store, &name, &format!("user '{}' removed", name.user), is_json)
}

fn remove_bindings(settings: &Settings, store: &Store, user: &str, domain: Option<&str>) -> Result<()> {
    let aor = domain.map_or(user.to_string(), |domain| format!("{user}@{domain}"));
    let params = json!({ "table_name": roost_admin::TABLE, "aor": aor });
    match call(settings, "ul_rm", &params) {
        // The server says so where nothing was registered.
        Ok(_) | Err(MiError::Refused { code: 404, .. }) => Ok(()),
        Err(MiError::NotRunning(_)) => Ok(store.remove_bindings(user, domain).map(drop)?),
        Err(error) => {
            let reason = error.into_error();
            let own = argument(&aor);
            bail!("user '{user}' is removed, but its bindings are not: {reason}; try `roost ul show {own}`")
        }
    }
}

/// What was done, in opensipsctl's words, in which database, and what may be another than was meant.
fn done(settings: &Settings, store: &Store, name: &Name, text: &str, is_json: bool) -> Result<()> {
    warn_of_domain(settings, name);
    warn_of_other_database(settings, store);
    eprintln!("roost: in the database {}", store.identity());
    say_done(text, is_json)
}

/// The domain that a new row has.
fn domain_of(settings: &Settings, name: &Name) -> Result<String> {
    name.aor(settings)?;
    Ok(name.domain.clone().unwrap_or_default())
}

/// The domains of the rows that a name means.
///
/// # Errors
/// There is none, or there are several and nobody has said which.
fn rows(settings: &Settings, store: &Store, name: &Name, all: bool) -> Result<Vec<String>> {
    if !all {
        name.aor(settings)?;
    }
    let mut domains = store.domains_of(&name.user)?;
    if let Some(domain) = &name.domain {
        domains.retain(|there| there.eq_ignore_ascii_case(domain));
    }
    match domains.len() {
        0 => bail!("user '{name}' does not exist in {}", store.identity()),
        1 => Ok(domains),
        _ if all => Ok(domains),
        _ => {
            let shown = domains.iter().map(|domain| match domain.as_str() {
                "" => format!("  {} (no domain: --domain \"\")", name.user),
                domain => format!("  {}@{domain}", name.user),
            });
            let shown: Vec<_> = shown.collect();
            bail!(
                "user '{}' has several rows:\n{}\nsay which with --domain, or --all",
                name.user,
                shown.join("\n")
            )
        }
    }
}

fn warn_of_domain(settings: &Settings, name: &Name) {
    let is_given = name.domain.as_deref().is_some_and(|domain| !domain.is_empty());
    if is_given && !settings.core.identity.use_domain {
        eprintln!("roost: the domain is kept in the row, and not looked at while use_domain is off");
    }
}

/// The password: as it was given, asked for twice at a terminal, or the first line of what is piped in.
fn given_or_asked(password: Option<String>) -> Result<String> {
    if let Some(password) = password {
        return Ok(password);
    }
    let first = asked("Password: ")?;
    if std::io::stdin().is_terminal() && asked("Once more: ")? != first {
        bail!("the two passwords differ: nothing was changed");
    }
    Ok(first)
}

/// A password: asked for at a terminal, or the first line of what is piped in.
///
/// # Errors
/// Standard input cannot be read.
pub(crate) fn asked(prompt: &str) -> Result<String> {
    if std::io::stdin().is_terminal() {
        return rpassword::prompt_password(prompt).context("reading the password");
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("reading the password from standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_string())
}

fn list(settings: &Settings, is_json: bool) -> Result<()> {
    let users = settings.open_store()?.users()?;
    if is_json {
        let users: Vec<_> =
            users.iter().map(|user| json!({ "username": user.username, "domain": user.domain })).collect();
        return say(&serde_json::to_string_pretty(&users)?);
    }
    let mut table = table();
    table.set_header(["username", "domain"]);
    for user in users {
        table.add_row([user.username, user.domain]);
    }
    say(&table.trim_fmt())
}
