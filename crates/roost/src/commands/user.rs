//! `roost user`: extensions in the database, and word of them to the running server.

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::cli::{Account, UserCommand};
use crate::commands::account::{check_account, forget, realm};
use crate::commands::import;
use crate::mi_client::{MiError, call};
use crate::output::say;
use crate::settings::Settings;

/// Runs one of the commands.
pub(crate) fn run(settings: &Settings, command: UserCommand, is_json: bool) -> Result<()> {
    match command {
        UserCommand::Add(account) => {
            let Checked { user, domain, password, realm } = check(settings, account)?;
            settings.open_store()?.add_user(&user, &domain, &password, &realm)?;
            forget(settings, &user, &domain);
            say(&format!("new user '{user}' added"))
        }
        UserCommand::Passwd(account) => {
            let Checked { user, domain, password, realm } = check(settings, account)?;
            settings.open_store()?.set_password(&user, &domain, &password, &realm)?;
            forget(settings, &user, &domain);
            say(&format!("password of user '{user}' changed"))
        }
        UserCommand::Rm { user, domain } => remove(settings, &user, domain),
        UserCommand::List => list(settings, is_json),
        UserCommand::Import { file, replace } => import::run(settings, &file, replace, is_json),
    }
}

/// An account that fits the configuration.
struct Checked {
    user: String,
    domain: String,
    password: String,
    /// What hashes are computed for; empty where no hash can be.
    realm: String,
}

fn check(settings: &Settings, account: Account) -> Result<Checked> {
    let domain = check_domain(settings, account.domain)?;
    let password = match account.password {
        Some(password) => password,
        None => read_password()?,
    };
    check_account(settings, &account.user, &domain, &password)?;
    let realm = realm(settings, &domain).to_string();
    Ok(Checked { user: account.user, domain, password, realm })
}

fn check_domain(settings: &Settings, domain: Option<String>) -> Result<String> {
    match domain {
        None if settings.core.identity.use_domain => {
            bail!("use_domain is set: give the extension's domain with --domain")
        }
        domain => Ok(domain.unwrap_or_default()),
    }
}

fn read_password() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("reading the password from standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_string())
}

fn remove(settings: &Settings, user: &str, domain: Option<String>) -> Result<()> {
    let domain = check_domain(settings, domain)?;
    let store = settings.open_store()?;
    store.remove_user(user, &domain)?;
    forget(settings, user, &domain);
    let aor = if settings.core.identity.use_domain { format!("{user}@{domain}") } else { user.to_string() };
    let params = json!({ "table_name": roost_admin::TABLE, "aor": aor });
    match call(settings, "ul_rm", &params) {
        Ok(_) => {}
        Err(MiError::NotRunning(_)) => {
            store.remove_bindings(user, settings.core.identity.use_domain.then_some(&domain))?;
        }
        Err(error) => {
            let reason = error.into_error();
            bail!("user '{user}' is removed, but its bindings are not: {reason}; try `roost ul show {aor}`");
        }
    }
    say(&format!("user '{user}' removed"))
}

fn list(settings: &Settings, is_json: bool) -> Result<()> {
    let users = settings.open_store()?.users()?;
    if is_json {
        let users: Vec<_> =
            users.iter().map(|user| json!({ "username": user.username, "domain": user.domain })).collect();
        return say(&serde_json::to_string_pretty(&users)?);
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(["username", "domain"]);
    for user in users {
        table.add_row([user.username, user.domain]);
    }
    say(&table.trim_fmt())
}
