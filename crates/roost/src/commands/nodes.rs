//! `roost nodes`: the nodes that share bindings, and how each is, as the running server knows.

use anyhow::Result;
use serde_json::{Value, json};

use crate::mi_client::{MiError, call};
use crate::output::{say, table};
use crate::settings::Settings;

/// Prints them.
///
/// # Errors
/// What the server answered, or that none runs.
pub(crate) fn run(settings: &Settings, is_json: bool) -> Result<()> {
    let result = call(settings, "nodes", &json!({})).map_err(MiError::into_error)?;
    if is_json {
        return say(&serde_json::to_string_pretty(&result)?);
    }
    let mut table = table();
    table.set_header(["NODE", "STATE", "ADDRESS", "BINDINGS", "CALLS", "HEARD", "VERSION", "FLOATING"]);
    for node in result["Nodes"].as_array().into_iter().flatten() {
        let text = |name: &str| node[name].as_str().unwrap_or("-").to_owned();
        let number = |name: &str| node[name].as_u64().map_or("-".to_owned(), |number| number.to_string());
        let own = if node["Self"] == true { " (this one)" } else { "" };
        let heard =
            node["Heard_ms"].as_u64().map_or("-".to_owned(), |ms| format!("{:.1} s ago", ms as f64 / 1000.0));
        let floating: Vec<_> =
            node["Floating"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let floating = if floating.is_empty() { "-".to_owned() } else { floating.join(", ") };
        table.add_row([
            text("Node") + own,
            text("State"),
            text("Address"),
            number("Bindings"),
            number("Calls"),
            heard,
            text("Version"),
            floating,
        ]);
    }
    say(&table.trim_fmt())?;
    match (&result["Store_ms"], result["Asked_ms"].as_u64()) {
        (Value::Number(lag_ms), Some(asked_ms)) if asked_ms < 5_000 => {
            say(&format!("\nThe store answers in {lag_ms} ms."))
        }
        (_, Some(asked_ms)) => say(&format!(
            "\nThe store has not answered for {} s: this is what was known then.",
            asked_ms / 1000
        )),
        _ => say("\nThe store has not answered yet."),
    }
}
