//! `roost try`: what the running server would do with a request, which is not sent.

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::cli::Attempt;
use crate::commands::user::asked;
use crate::mi_client::{MiError, call};
use crate::output::{say, table};
use crate::settings::Settings;

/// Asks the running server, and prints its decisions, its answer and what it would send.
///
/// # Errors
/// What the server answered, or that none runs.
pub(crate) fn run(settings: &Settings, attempt: &Attempt, is_json: bool) -> Result<()> {
    let course = call(settings, "try", &params(attempt)?).map_err(MiError::into_error)?;
    if is_json {
        return say(&serde_json::to_string_pretty(&course)?);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let each = |value: &Value| value.as_array().cloned().unwrap_or_default();
    say(&format!(
        "{} from {} by {}",
        text(&course["Request"]),
        text(&course["From"]),
        text(&course["Transport"])
    ))?;
    let mut table = table();
    for decision in each(&course["Decisions"]) {
        table.add_row([text(&decision["Decision"]), text(&decision["Key"])]);
    }
    if table.row_count() > 0 {
        say(&format!("\n{}", table.trim_fmt()))?;
    }
    for sent in each(&course["Sent"]) {
        let (request, to, transport) = (text(&sent["Request"]), text(&sent["To"]), text(&sent["Transport"]));
        say(&format!("\nSent to {to} by {transport}:\n  {request}"))?;
        for line in each(&sent["Headers"]) {
            say(&format!("  {}", text(&line)))?;
        }
    }
    match course["Answer"].as_str() {
        Some(answer) => say(&format!("\nAnswer: {answer}")),
        None => say("\nNo answer yet: it is up to who gets the request"),
    }
}

/// The parameters of MI's `try`: only what was given.
fn params(attempt: &Attempt) -> Result<Value> {
    let Attempt { method, who, target, from, transport, password, contact, expires, user_agent, headers } =
        attempt;
    let mut params = Map::from_iter([
        ("method".to_string(), json!(method)),
        ("who".to_string(), json!(who)),
        ("transport".to_string(), json!(transport)),
    ]);
    let password = match password.as_deref() {
        Some("") => Some(asked("Password: ")?),
        given => given.map(str::to_string),
    };
    let headers = (!headers.is_empty()).then(|| headers.join("\n"));
    let texts = [
        ("target", target.clone()),
        ("from", from.clone()),
        ("password", password),
        ("contact", contact.clone()),
        ("user_agent", user_agent.clone()),
        ("headers", headers),
    ];
    for (name, text) in texts {
        params.extend(text.map(|text| (name.to_string(), json!(text))));
    }
    params.extend(expires.map(|seconds| ("expires".to_string(), json!(seconds))));
    Ok(Value::Object(params))
}
