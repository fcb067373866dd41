//! `roost calls`: who talks to whom, at the running server.

use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use roost_recorder::{Language, say as words};
use serde_json::{Value, json};

use crate::cli::CallsCommand;
use crate::mi_client::{MiError, call};
use crate::output::{say, say_done, table};
use crate::settings::Settings;

/// How often `--follow` looks.
const EVERY: Duration = Duration::from_secs(1);

/// Runs one of the commands.
///
/// # Errors
/// What the server answered, or that none runs.
pub(crate) fn run(
    settings: &Settings,
    command: Option<&CallsCommand>,
    follow: bool,
    is_json: bool,
) -> Result<()> {
    match command {
        Some(CallsCommand::End { id }) => {
            call(settings, "dlg_end_dlg", &json!({ "dialog_id": id })).map_err(|error| match error {
                MiError::Refused { code: 404, .. } => error
                    .into_error()
                    .context(format!("no call {id} is answered; `roost calls` shows their IDs")),
                _ => error.into_error(),
            })?;
            say_done(&format!("call {id} is over; both sides were told"), is_json)
        }
        None if follow => loop {
            show(settings, is_json)?;
            say("")?;
            sleep(EVERY);
        },
        None => show(settings, is_json),
    }
}

fn show(settings: &Settings, is_json: bool) -> Result<()> {
    let result = call(settings, "dlg_list", &json!({})).map_err(MiError::into_error)?;
    if is_json {
        return say(&serde_json::to_string_pretty(&result)?);
    }
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut table = table();
    // Where several nodes share bindings.
    let has_nodes =
        result["Dialogs"].as_array().is_some_and(|all| all.iter().any(|one| one["node"].is_string()));
    let mut header = vec!["ID", "STATE", "CALLER", "CALLEE", "FOR", "CALL-ID"];
    header.extend(has_nodes.then_some("NODE"));
    table.set_header(header);
    for dialog in result["Dialogs"].as_array().into_iter().flatten() {
        let text = |name: &str| dialog[name].as_str().unwrap_or_default().to_owned();
        let who =
            |aor: &str, uri: &str| Some(text(aor)).filter(|aor| !aor.is_empty()).unwrap_or_else(|| text(uri));
        let since = dialog["answered"].as_u64().or(dialog["begun"].as_u64()).unwrap_or(now_s);
        let mut row = vec![
            text("ID"),
            state(&dialog["state"]).to_owned(),
            who("caller_aor", "from_uri"),
            who("callee_aor", "to_uri"),
            length(now_s.saturating_sub(since)),
            text("callid"),
        ];
        row.extend(has_nodes.then(|| text("node")));
        table.add_row(row);
    }
    say(&table.trim_fmt())?;
    match silent(&result, Language::English) {
        Some(silent) => say(&silent),
        None => Ok(()),
    }
}

/// Which nodes did not say anything in time.
pub(crate) fn silent(told: &Value, language: Language) -> Option<String> {
    let names: Vec<_> = told["Silent"].as_array()?.iter().filter_map(Value::as_str).collect();
    let names = (!names.is_empty()).then(|| names.join(", "))?;
    Some(words!(language, "\nNo answer in time from: {names}.", "\n以下节点未及时应答：{names}。"))
}

fn state(number: &Value) -> &'static str {
    match number.as_u64() {
        Some(1) => "calling",
        Some(2) => "ringing",
        Some(3 | 4) => "answered",
        _ => "ended",
    }
}

/// Minutes and seconds, with hours where there are some.
fn length(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}
