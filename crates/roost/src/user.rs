//! `roost user`: extensions in the database, and word of them to the running server.

use std::io::Write as _;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::cli::{Account, UserCommand};
use crate::import;
use crate::mi_client::{MiError, call};
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

/// Whether an account fits the configuration and the table.
///
/// # Errors
/// What does not fit, and the remedy.
pub(crate) fn check_account(settings: &Settings, user: &str, domain: &str, password: &str) -> Result<()> {
    if user.is_empty() || password.is_empty() {
        bail!("the user and the password must not be empty");
    }
    if user.contains('@') {
        bail!("'{user}': give the user alone, and its domain apart (--domain, or the column `domain`)");
    }
    if [user, domain, password].iter().any(|text| text.contains(char::is_control)) {
        bail!("the user, the domain or the password holds a control character");
    }
    if realm(settings, domain).is_empty() && !settings.core.policy.auth_db.calculate_ha1 {
        bail!(
            "with [auth_db] calculate_ha1 = false a hash is stored, and it needs a realm: give the domain, or set \
             [auth] realm"
        );
    }
    Ok(roost_store::check_account(user, domain, password)?)
}

/// What hashes are computed for.
fn realm<'a>(settings: &'a Settings, domain: &'a str) -> &'a str {
    match settings.core.policy.auth.realm.as_str() {
        "" => domain,
        realm => realm,
    }
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

/// Tells the running server, if there is one, that what it knows of this user is old.
fn forget(settings: &Settings, user: &str, domain: &str) {
    forget_with(settings, &json!({ "user": user, "domain": domain }));
}

/// Tells the running server that what it knows of any user may be old.
pub(crate) fn forget_all(settings: &Settings) {
    forget_with(settings, &json!({}));
}

fn forget_with(settings: &Settings, params: &serde_json::Value) {
    if let Err(error @ (MiError::Other(_) | MiError::Refused { .. })) =
        call(settings, "auth_db_forget", params)
    {
        let ttl = settings.core.policy.auth_db.cache_ttl_s;
        eprintln!("roost: the running server may take {ttl} s to notice: {}", error.into_error());
    }
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

/// One answer on standard output; a reader that has gone is no error.
pub(crate) fn say(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// What the running server has done: its "OK" for scripts, words for people.
pub(crate) fn say_done(text: &str, is_json: bool) -> Result<()> {
    say(if is_json { "\"OK\"" } else { text })
}
