//! `roost ds`: the next hops of the running server.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::{DsCommand, HopState};
use crate::mi_client::{MiError, call};
use crate::output::{say, say_done, table};
use crate::settings::Settings;

/// Runs one of the commands.
///
/// # Errors
/// What the server answered, or that none runs.
pub(crate) fn run(settings: &Settings, command: &DsCommand, is_json: bool) -> Result<()> {
    match command {
        DsCommand::List => list(settings, is_json),
        DsCommand::SetState { state, set, uri } => {
            let (letter, name) = match state {
                HopState::Active => ("a", "active"),
                HopState::Inactive => ("i", "inactive"),
                HopState::Probing => ("p", "probing"),
            };
            let params = json!({ "state": letter, "group": set.to_string(), "address": uri });
            call(settings, "ds_set_state", &params).map_err(|error| match error {
                MiError::Refused { code: 404, .. } => error
                    .into_error()
                    .context(format!("no next hop {uri} in set {set}; `roost ds list` shows them all")),
                _ => error.into_error(),
            })?;
            say_done(&format!("next hop {uri} of set {set} is {name}"), is_json)
        }
        DsCommand::Reload => {
            call(settings, "ds_reload", &json!({})).map_err(|error| match error {
                MiError::Refused { message, .. } => anyhow::anyhow!("nothing was changed: {message}"),
                _ => error.into_error(),
            })?;
            say_done("routes read anew", is_json)
        }
    }
}

/// A line for each hop.
fn list(settings: &Settings, is_json: bool) -> Result<()> {
    let result = call(settings, "ds_list", &json!({ "full": 1 })).map_err(MiError::into_error)?;
    if is_json {
        return say(&serde_json::to_string_pretty(&result)?);
    }
    let mut table = table();
    table.set_header(["SET", "URI", "STATE", "FIRST HITS", "ADDRESSES"]);
    for set in items(&result["PARTITIONS"]).flat_map(|partition| items(&partition["SETS"])) {
        for hop in items(&set["Destinations"]) {
            let addresses: Vec<_> =
                items(&hop["Addresses"]).filter_map(|place| place["address"].as_str()).collect();
            let text = |name: &str| hop[name].as_str().unwrap_or_default().to_string();
            let (id, hits) = (set["id"].to_string(), hop["first_hit_counter"].to_string());
            table.add_row([id, text("URI"), text("state"), hits, addresses.join(" ")]);
        }
    }
    say(&table.trim_fmt())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}
