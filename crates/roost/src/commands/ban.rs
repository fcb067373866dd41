//! `roost ban`: who has guessed too often, at the running server.

use std::net::IpAddr;

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::BanCommand;
use crate::commands::names::Name;
use crate::mi_client::{MiError, call};
use crate::output::{say, say_done, table};
use crate::settings::Settings;

/// Runs one of the commands.
///
/// # Errors
/// What the server answered, or that none runs.
pub(crate) fn run(settings: &Settings, command: &BanCommand, is_json: bool) -> Result<()> {
    match command {
        BanCommand::List => list(settings, is_json),
        BanCommand::Add { whom, domain, at, seconds } => {
            let mut params = params(settings, whom, domain.as_deref(), *at)?;
            params["seconds"] = json!(seconds);
            call(settings, "ban_add", &params).map_err(MiError::into_error)?;
            say_done(&format!("{whom} is banned for {seconds} s"), is_json)
        }
        BanCommand::Rm { whom, domain, at } => {
            let params = params(settings, whom, domain.as_deref(), *at)?;
            call(settings, "ban_rm", &params).map_err(|error| match error {
                MiError::Refused { code: 404, .. } => {
                    error.into_error().context(format!("{whom} is not banned; `roost ban list` shows who is"))
                }
                _ => error.into_error(),
            })?;
            say_done(&format!("nothing is held against {whom} any more"), is_json)
        }
    }
}

/// What is an address bans an address, everything else is an extension.
fn params(settings: &Settings, whom: &str, domain: Option<&str>, at: Option<IpAddr>) -> Result<Value> {
    if let Ok(source) = whom.trim_end_matches("/64").parse::<IpAddr>() {
        return Ok(json!({ "source": source }));
    }
    let user = Name::new(whom, domain)?.aor(settings)?;
    Ok(match at {
        Some(source) => json!({ "user": user, "source": source }),
        None => json!({ "user": user }),
    })
}

fn list(settings: &Settings, is_json: bool) -> Result<()> {
    let result = call(settings, "ban_list", &json!({})).map_err(MiError::into_error)?;
    if is_json {
        return say(&serde_json::to_string_pretty(&result)?);
    }
    let mut table = table();
    table.set_header(["SOURCE", "EXTENSION", "SECONDS", "BY"]);
    for ban in result["Bans"].as_array().into_iter().flatten() {
        let text = |name: &str| ban[name].as_str().unwrap_or("any").to_string();
        let by = if ban["manual"] == true { "operator" } else { "failures" };
        table.add_row([text("source"), text("user"), ban["seconds"].to_string(), by.into()]);
    }
    say(&table.trim_fmt())
}
