//! `roost why`: why an extension is offline, why a call failed, what is wrong now.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::commands::calls::silent;
use crate::mi_client::{MiError, call};
use crate::output::{say, table};
use crate::settings::Settings;

/// How often `--follow` looks.
const EVERY: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Debug, Default)]
pub(crate) struct Question {
    pub(crate) extension: Option<String>,
    /// The other side of a call.
    pub(crate) other: Option<String>,
    /// A Call-ID.
    pub(crate) call: Option<String>,
    /// What is older is not told; in milliseconds of unix time.
    pub(crate) since: Option<u64>,
    /// For people who read Chinese; programs are told the same everywhere.
    pub(crate) is_chinese: bool,
}

impl Question {
    fn ask(&self, settings: &Settings) -> Result<Value> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let mut params =
            json!({ "aor": text(&self.extension), "other": text(&self.other), "callid": text(&self.call) });
        if let Some(since) = self.since {
            params["since"] = json!(since);
        }
        if self.is_chinese {
            params["lang"] = json!("zh");
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
    say_verdict(&told, question.is_chinese)?;
    say_timeline(&told)
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
                    say_verdict(&told, question.is_chinese)?;
                }
                say_timeline(&told)?;
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

fn say_verdict(told: &Value, is_chinese: bool) -> Result<()> {
    let todo = if is_chinese { "处理：" } else { "Do:" };
    say(told["Verdict"].as_str().unwrap_or_default())?;
    say_tried(told, is_chinese)?;
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
        let node = problem["Node"].as_str().map_or(String::new(), |node| format!(" (node {node})"));
        say(&format!("\n{}{node}\n  {todo} {}", text("Problem"), text("Do")))?;
    }
    if let Some(node) = told["Node"].as_str() {
        say(&format!("\nSo says the node {node}."))?;
    }
    if let Some(silent) = silent(told) {
        say(&silent)?;
    }
    Ok(())
}

/// Of a call: whom it was sent to, and what came back.
fn say_tried(told: &Value, is_chinese: bool) -> Result<()> {
    let mut table = table();
    for tried in told["Tried"].as_array().into_iter().flatten() {
        let text = |name: &str| tried[name].as_str().unwrap_or_default();
        let answer = match (tried["Answer"].as_str(), tried["AfterMs"].as_u64()) {
            (Some(answer), Some(after_ms)) => {
                let seconds = after_ms as f64 / 1000.0;
                if is_chinese {
                    format!("{seconds:.1} 秒后 {answer}")
                } else {
                    format!("{answer} after {seconds:.1} s")
                }
            }
            _ => if is_chinese { "没有应答" } else { "no answer" }.to_string(),
        };
        let by = if is_chinese { "经" } else { "by" };
        table.add_row([
            format!("  {} {by} {}", text("To"), text("Transport")),
            text("URI").to_string(),
            answer,
        ]);
    }
    if table.row_count() > 0 {
        let tried = if is_chinese { "试过：" } else { "Tried:" };
        say(&format!("\n{tried}\n{}", table.trim_fmt()))?;
    }
    match told["Answer"].as_str() {
        Some(answer) if is_chinese => say(&format!("\n主叫得到：{answer}")),
        Some(answer) => say(&format!("\nThe caller was told: {answer}")),
        None => Ok(()),
    }
}

fn say_timeline(told: &Value) -> Result<()> {
    let mut table = table();
    for line in told["Timeline"].as_array().into_iter().flatten() {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_string();
        let time = match line["Since"].as_str() {
            Some(since) => format!("{since} to {}", text("Time")),
            None => text("Time"),
        };
        table.add_row([time, text("Source"), text("Event")]);
    }
    match table.row_count() {
        0 => Ok(()),
        _ => say(&format!("\n{}", table.trim_fmt())),
    }
}
