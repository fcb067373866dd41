//! `roost log-level`: what the running server logs.

use anyhow::Result;
use serde_json::{Value, json};

use crate::mi_client::{MiError, call};
use crate::output::say;
use crate::settings::Settings;

/// Levels by name, and OpenSIPS's numbers of them.
const NAMES: [(&str, i64); 4] = [("error", -1), ("warning", 1), ("info", 3), ("debug", 4)];

/// Reads a level: a word, or OpenSIPS's number.
///
/// # Errors
/// Which there are.
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    let named = NAMES.iter().find(|(name, _)| *name == text).map(|(_, level)| *level);
    let level = named.or_else(|| text.parse().ok()).filter(|level| (-3..=4).contains(level));
    level.ok_or_else(|| "use error, warning, info or debug, or a number from -3 to 4".to_string())
}

/// Shows the level, or sets it.
///
/// # Errors
/// What the server answered, or that none runs.
pub(crate) fn run(
    settings: &Settings,
    level: Option<i64>,
    only: Option<&str>,
    seconds: u64,
    is_json: bool,
) -> Result<()> {
    let params = match (level, only) {
        (None, _) => json!({}),
        (Some(level), None) => json!({ "level": level }),
        (Some(level), Some(only)) => json!({ "level": level, "only": only, "seconds": seconds }),
    };
    let state = call(settings, "log_level", &params).map_err(MiError::into_error)?;
    if is_json {
        return say(&state.to_string());
    }
    let word = |level: &Value| {
        let level = level.as_i64().unwrap_or(3);
        let name = NAMES.iter().rev().find(|(_, other)| *other <= level).map_or("error", |(name, _)| name);
        format!("{name} ({level})")
    };
    say(&format!("log level {}", word(&state["Log level"])))?;
    match state["Only"].as_str() {
        Some(only) => {
            let left = state["Seconds left"].as_u64();
            let left = left.map_or(String::new(), |left| format!(" for {left} s more"));
            say(&format!("log level {} for {only} only{left}", word(&state["Only log level"])))
        }
        None => Ok(()),
    }
}
