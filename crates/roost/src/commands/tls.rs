//! `roost tls`: certificates, made here and shown and reloaded at the running server.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::cli::TlsCommand;
use crate::commands::certificate::{Files, make};
use crate::mi_client::{MiError, call};
use crate::output::{say, say_done, table};
use crate::settings::Settings;

/// Runs one of the commands.
///
/// # Errors
/// What cannot be written, what the server answered, or that none runs.
pub(crate) fn run(settings: &Settings, command: &TlsCommand, is_json: bool) -> Result<()> {
    match command {
        TlsCommand::New { names, folder, days, replace } => {
            let files = Files::of(names, folder, &settings.folder());
            make(&files, names, u64::from(*days), *replace)?;
            let shown = |path: &Path| path.display().to_string();
            if is_json {
                let paths =
                    [&files.authority, &files.certificate, &files.private_key].map(|path| shown(path));
                let [authority, certificate, private_key] = paths;
                return say(
                    &json!({ "ca_list": authority, "certificate": certificate, "private_key": private_key })
                        .to_string(),
                );
            }
            say(&files.advice())
        }
        TlsCommand::Show => show(settings, is_json),
        TlsCommand::Reload => {
            let result = call(settings, "tls_reload", &json!({})).map_err(MiError::into_error)?;
            let is_same = result.as_str().is_some_and(|text| text.contains("unchanged"));
            say_done(
                if is_same { "the files hold what is in use already" } else { "certificates read anew" },
                is_json,
            )
        }
    }
}

fn show(settings: &Settings, is_json: bool) -> Result<()> {
    let result = call(settings, "tls_list", &json!({})).map_err(MiError::into_error)?;
    if is_json {
        return say(&serde_json::to_string_pretty(&result)?);
    }
    let mut table = table();
    table.set_header(["ASKED FOR", "NAMES", "ISSUER", "DAYS LEFT", "FILE", "LISTENERS"]);
    for one in result["Domains"].as_array().into_iter().flatten() {
        let list = |name: &str| {
            let items = one[name].as_array().into_iter().flatten();
            items.filter_map(|item| item.as_str()).collect::<Vec<_>>().join(", ")
        };
        let text = |name: &str| one[name].as_str().unwrap_or_default().to_string();
        table.add_row([
            text("name"),
            list("names"),
            text("issuer"),
            one["days_left"].to_string(),
            text("certificate"),
            list("listeners"),
        ]);
    }
    say(&table.trim_fmt())
}
