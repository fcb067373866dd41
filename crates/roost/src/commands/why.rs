//! `roost why`: why an extension is offline, why a call failed, what is wrong now.

use anyhow::Result;
use serde_json::{Value, json};

use crate::mi_client::{MiError, call};
use crate::output::{say, table};
use crate::settings::Settings;

/// Asks the running server, and prints what it says: the verdict first.
///
/// # Errors
/// What the server answered, or that none runs.
pub(crate) fn run(
    settings: &Settings,
    extension: Option<&str>,
    other: Option<&str>,
    call_id: Option<&str>,
    is_json: bool,
) -> Result<()> {
    let params = json!({
        "aor": extension.unwrap_or(""), "other": other.unwrap_or(""), "callid": call_id.unwrap_or("")
    });
    let said = call(settings, "why", &params).map_err(MiError::into_error)?;
    if is_json {
        return say(&serde_json::to_string_pretty(&said)?);
    }
    say(said["Verdict"].as_str().unwrap_or_default())?;
    let list = |name: &str| said[name].as_array().into_iter().flatten();
    let mut hints = list("Do").filter_map(Value::as_str).peekable();
    if hints.peek().is_some() {
        say("\nDo:")?;
        for hint in hints {
            say(&format!("  {hint}"))?;
        }
    }
    for problem in list("Problems") {
        let text = |name: &str| problem[name].as_str().unwrap_or_default();
        say(&format!("\n{}\n  Do: {}", text("Problem"), text("Do")))?;
    }
    let mut table = table();
    for line in list("Timeline") {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_string();
        let time = match line["Since"].as_str() {
            Some(since) => format!("{since} to {}", text("Time")),
            None => text("Time"),
        };
        table.add_row([time, text("Source"), text("Event")]);
    }
    if table.row_count() > 0 {
        say("")?;
        say(&table.trim_fmt())?;
    }
    Ok(())
}
