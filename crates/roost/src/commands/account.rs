//! Accounts: whether one fits the configuration, and word of changes to the running server.

use anyhow::{Result, bail};
use roost_core::Config;
use roost_store::Store;
use serde_json::json;

use crate::mi_client::{MiError, call};
use crate::settings::Settings;

/// Whether an account fits the configuration and the table.
///
/// # Errors
/// What does not fit, and the remedy.
pub(crate) fn check_account(config: &Config, user: &str, domain: &str, password: &str) -> Result<()> {
    if user.is_empty() || password.is_empty() {
        bail!("the user and the password must not be empty");
    }
    if user == "." || user == ".." {
        bail!("'{user}' is no name: it stands for a place in an address");
    }
    if user.contains('@') {
        bail!("'{user}': give the user alone, and its domain apart (--domain, or the column `domain`)");
    }
    if let Some(bad) =
        user.chars().find(|c| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '\\' | ':' | '%'))
    {
        bail!("'{user}': no phone can have a name with {bad:?} in it");
    }
    if let Some(bad) = domain.chars().find(|c| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '\\' | '@'))
    {
        bail!("'{domain}': no domain can have {bad:?} in it");
    }
    if [user, domain, password].iter().any(|text| text.contains(char::is_control)) {
        bail!("the user, the domain or the password holds a control character");
    }
    if realm(config, domain).is_empty() && !config.policy.auth_db.calculate_ha1 {
        bail!(
            "with [auth_db] calculate_ha1 = false a hash is stored, and it needs a realm: give the domain, or set \
             [auth] realm"
        );
    }
    Ok(roost_store::check_account(user, domain, password)?)
}

/// Gives a subscriber another password, if it fits.
///
/// # Errors
/// What does not fit, and the remedy; the database does not take it.
pub(crate) fn set_password_of(
    config: &Config,
    store: &Store,
    (user, domain): (&str, &str),
    password: &str,
) -> Result<()> {
    check_account(config, user, domain, password)?;
    Ok(store.set_password(user, domain, password, realm(config, domain))?)
}

/// What hashes are computed for; empty where no hash can be.
pub(crate) fn realm<'a>(config: &'a Config, domain: &'a str) -> &'a str {
    match config.policy.auth.realm.as_str() {
        "" => domain,
        realm => realm,
    }
}

/// Says that the running server, if there is one, has another database than the one that was written to.
pub(crate) fn warn_of_other_database(settings: &Settings, store: &Store) {
    let Ok(reply) = call(settings, "db_get", &json!({})) else { return };
    let (own, other) = (store.identity(), reply["database"].as_str().unwrap_or_default());
    if !other.is_empty() && other != own {
        eprintln!(
            "roost: the running server has another database, {other}: give its configuration with --config, or run this \
             in its folder"
        );
    }
}

/// Tells the running server, if there is one, that what it knows of this user is old.
pub(crate) fn forget(settings: &Settings, user: &str, domain: &str) {
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
