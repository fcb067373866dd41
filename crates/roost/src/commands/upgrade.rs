//! `roost upgrade`: the running server becomes another binary.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::mi_client::{MiError, call};
use crate::output::say_done;
use crate::settings::Settings;

/// How long it may take until it serves again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Has it become one, and waits until it serves again.
///
/// # Errors
/// No server runs, the binary does not run or does not take the configuration, or it does not come back.
pub(crate) fn run(settings: &Settings, binary: Option<PathBuf>, is_json: bool) -> Result<()> {
    let binary = match binary {
        Some(path) => {
            let path = path.canonicalize().with_context(|| format!("there is no file {}", path.display()))?;
            json!({ "binary": path.display().to_string() })
        }
        None => json!({}),
    };
    let begun = Instant::now();
    let result = call(settings, "upgrade", &binary).map_err(MiError::into_error)?;
    let binary = result["Binary"].as_str().unwrap_or_default().to_string();
    // The process that was asked may answer once more.
    std::thread::sleep(Duration::from_millis(100));
    while begun.elapsed() < PATIENCE {
        match call(settings, "sr_get_status", &json!({})) {
            Ok(status) if status["Readiness"] == true => {
                return say_done(&format!("the server runs {binary} now"), is_json);
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
    bail!("the server does not answer for {} s: see its log", PATIENCE.as_secs())
}
