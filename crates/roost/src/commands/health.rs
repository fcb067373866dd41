//! `roost health`: whether the running server can do its work, for containers and scripts.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::mi_client::{MiError, call};
use crate::output::say;
use crate::settings::Settings;

/// Says so; the exit code is 1 where it cannot.
///
/// # Errors
/// No server answers.
pub(crate) fn run(settings: &Settings, is_json: bool) -> Result<ExitCode> {
    let status = call(settings, "sr_get_status", &json!({})).map_err(MiError::into_error)?;
    let is_ready = status["Readiness"].as_bool().unwrap_or(false);
    let details = status["Details"].as_str().unwrap_or_default();
    match is_json {
        true => say(&json!({ "ready": is_ready, "details": details }).to_string())?,
        false if is_ready => say("ready")?,
        false => say(&format!("not ready: {details}"))?,
    }
    Ok(if is_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
