//! `roost why`: why an extension is offline, why a call failed, what is wrong now.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use roost_recorder::{Language, say as words};
use serde_json::{Value, json};

use crate::commands::calls::silent;
use crate::mi_client::{MiError, call};
use crate::output::{say, table};
use crate::settings::Settings;

/// How often `--follow` looks.
const EVERY: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) extension: Option<String>,
    /// The other side of a call.
    pub(crate) other: Option<String>,
    /// A Call-ID.
    pub(crate) call: Option<String>,
    /// What is older is not told; in milliseconds of unix time.
    pub(crate) since: Option<u64>,
    /// What people read; programs are told the same everywhere.
    pub(crate) language: Language,
}

impl Question {
    fn ask(&self, settings: &Settings) -> Result<Value> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let mut params =
            json!({ "aor": text(&self.extension), "other": text(&self.other), "callid": text(&self.call) });
        if let Some(since) = self.since {
            params["since"] = json!(since);
        }
        if self.language != Language::English {
            params["lang"] = json!(self.language.tag());
        }
        call(settings, "why", &params).map_err(MiError::into_error)
    }
}

/// Asks the running server, and prints what it says: the verdict first.
///
/// # Errors
/// What the server answered, or that none runs.
pub(crate) fn run(settings: &Settings, question: &Question, is_json: bool) -> Result<()> {
    let told = question.ask(settings)?;
    if is_json {
        return say(&serde_json::to_string_pretty(&told)?);
    }
    say_verdict(&told, question.language)?;
    say_timeline(&told, question.language)
}

/// The same, and then what is new each second: a verdict that has changed, and what has happened.
///
/// # Errors
/// What the server answered, or that none runs.
pub(crate) fn follow(settings: &Settings, mut question: Question, is_json: bool) -> Result<()> {
    let mut last = Value::Null;
    loop {
        let told = question.ask(settings)?;
        let is_changed = ["Reason", "State", "Problems"].iter().any(|name| told[*name] != last[*name]);
        let has_more = told["Timeline"].as_array().is_some_and(|lines| !lines.is_empty());
        match is_json {
            true if is_changed || has_more => say(&told.to_string())?,
            true => {}
            false => {
                if is_changed {
                    if !last.is_null() {
                        say("")?;
                    }
                    say_verdict(&told, question.language)?;
                }
                say_timeline(&told, question.language)?;
            }
        }
        let lines = told["Timeline"].as_array().into_iter().flatten();
        if let Some(at) = lines.filter_map(|line| line["At"].as_u64()).max() {
            question.since = Some(at + 1);
        }
        last = told;
        sleep(EVERY);
    }
}

fn say_verdict(told: &Value, language: Language) -> Result<()> {
    let todo = words!(language, "Do:", "处理：");
    say(told["Verdict"].as_str().unwrap_or_default())?;
    say_tried(told, language)?;
    let list = |name: &str| told[name].as_array().into_iter().flatten();
    let mut hints = list("Do").filter_map(Value::as_str).peekable();
    if hints.peek().is_some() {
        say(&format!("\n{todo}"))?;
        for hint in hints {
            say(&format!("  {hint}"))?;
        }
    }
    for problem in list("Problems") {
        let text = |name: &str| problem[name].as_str().unwrap_or_default();
        let node = problem["Node"].as_str();
        let node = node.map_or(String::new(), |node| words!(language, " (node {node})", "（节点 {node}）"));
        say(&format!("\n{}{node}\n  {todo} {}", text("Problem"), text("Do")))?;
    }
    if let Some(node) = told["Node"].as_str() {
        say(&words!(language, "\nSo says the node {node}.", "\n以上由节点 {node} 给出。"))?;
    }
    if let Some(silent) = silent(told, language) {
        say(&silent)?;
    }
    Ok(())
}

/// Of a call: whom it was sent to, and what came back.
fn say_tried(told: &Value, language: Language) -> Result<()> {
    let mut table = table();
    for tried in told["Tried"].as_array().into_iter().flatten() {
        let text = |name: &str| tried[name].as_str().unwrap_or_default();
        let answer = match (tried["Answer"].as_str(), tried["AfterMs"].as_u64()) {
            (Some(answer), Some(after_ms)) => {
                let seconds = after_ms as f64 / 1000.0;
                words!(language, "{answer} after {seconds:.1} s", "{seconds:.1} 秒后 {answer}")
            }
            _ => words!(language, "no answer", "没有应答"),
        };
        let (to, by) = (text("To"), text("Transport"));
        table.add_row([
            words!(language, "  {to} by {by}", "  {to} 经 {by}"),
            text("URI").to_string(),
            answer,
        ]);
    }
    if table.row_count() > 0 {
        let tried = words!(language, "Tried:", "试过：");
        say(&format!("\n{tried}\n{}", table.trim_fmt()))?;
    }
    match told["Answer"].as_str() {
        Some(answer) => say(&words!(language, "\nThe caller was told: {answer}", "\n主叫得到：{answer}")),
        None => Ok(()),
    }
}

fn say_timeline(told: &Value, language: Language) -> Result<()> {
    let mut table = table();
    for line in told["Timeline"].as_array().into_iter().flatten() {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_string();
        let time = match line["Since"].as_str() {
            Some(since) => words!(language, "{since} to {time}", "{since} 至 {time}", time = text("Time")),
            None => text("Time"),
        };
        table.add_row([time, text("Source"), text("Event")]);
    }
    match table.row_count() {
        0 => Ok(()),
        _ => say(&format!("\n{}", table.trim_fmt())),
    }
}
