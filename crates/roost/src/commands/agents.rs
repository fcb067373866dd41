//! `roost agents`: what each extension is doing, at the running server.

use anyhow::Result;
use serde_json::json;

use crate::commands::names::Name;
use crate::mi_client::{MiError, call};
use crate::output::{say, table};
use crate::settings::Settings;

/// Prints all extensions that are registered or have calls, or one.
///
/// # Errors
/// What the server answered, or that none runs.
pub(crate) fn run(
    settings: &Settings,
    extension: Option<&str>,
    domain: Option<&str>,
    is_json: bool,
) -> Result<()> {
    let params = match extension {
        Some(extension) => json!({ "aor": Name::new(extension, domain)?.aor(settings)? }),
        None => json!({}),
    };
    let result = call(settings, "agent_list", &params).map_err(MiError::into_error)?;
    if is_json {
        return say(&serde_json::to_string_pretty(&result)?);
    }
    let mut table = table();
    table.set_header(["EXTENSION", "STATE", "RINGING", "IN USE"]);
    for agent in result["Agents"].as_array().into_iter().flatten() {
        let text = |name: &str| agent[name].as_str().unwrap_or_default().to_owned();
        table.add_row([
            text("AOR"),
            text("state"),
            agent["ringing"].to_string(),
            agent["in_use"].to_string(),
        ]);
    }
    say(&table.trim_fmt())
}
