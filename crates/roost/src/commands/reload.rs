//! `roost reload`: the running server reads its configuration file anew.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::mi_client::{MiError, call};
use crate::output::{say, table};
use crate::settings::Settings;

/// Has it read, or only compare.
///
/// # Errors
/// What is wrong with the file, or that no server runs; nothing has changed.
pub(crate) fn run(file: Option<&Path>, is_dry: bool, is_json: bool) -> Result<()> {
    const UNCHANGED: &str = "nothing was changed";
    let settings = Settings::load(file).context(UNCHANGED)?;
    let params = json!({ "dry_run": u8::from(is_dry) });
    let found = call(&settings, "reload", &params).map_err(|error| match error {
        MiError::Refused { message, .. } => anyhow::anyhow!("{UNCHANGED}: {message}"),
        _ => error.into_error(),
    })?;
    if is_json {
        return say(&serde_json::to_string_pretty(&found)?);
    }
    let of = |name: &str| found[name].as_array().cloned().unwrap_or_default();
    let (changed, restart) = (of("Changed"), of("Restart"));
    let title = match (is_dry, changed.is_empty()) {
        (_, true) if restart.is_empty() => {
            return say("the file says what is in force: nothing is changed by it");
        }
        (true, true) => "a reload would change nothing",
        (true, false) => "a reload would change:",
        (false, true) => "nothing was changed",
        (false, false) => "changed:",
    };
    say(title)?;
    list(&changed)?;
    if !restart.is_empty() {
        say("\nneeds a restart:")?;
        list(&restart)?;
    }
    Ok(())
}

fn list(changes: &[Value]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut table = table();
    table.set_header(["KEY", "IN FORCE", "IN THE FILE"]);
    for change in changes {
        let text = |name: &str| change[name].as_str().unwrap_or("-").to_string();
        table.add_row([text("Key"), text("Old"), text("New")]);
    }
    say(&table.trim_fmt())
}
