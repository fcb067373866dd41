//! `roost stats`: the statistics of the running server.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use roost_admin::STATISTICS;
use serde_json::{Value, json};

use crate::mi_client::{MiError, call};
use crate::output::{say, table};
use crate::settings::Settings;

/// How often `--watch` looks.
const EVERY: Duration = Duration::from_secs(1);

/// Shows them once, or again each second.
///
/// # Errors
/// What the server answered, or that none runs.
pub(crate) fn run(settings: &Settings, names: &[String], watch: bool, is_json: bool) -> Result<()> {
    let mut before = BTreeMap::new();
    loop {
        let now = values(settings, names)?;
        match is_json {
            true => say(&serde_json::to_string_pretty(&now)?)?,
            false => show(&now, &before, watch)?,
        }
        if !watch {
            return Ok(());
        }
        say("")?;
        before = now;
        sleep(EVERY);
    }
}

fn values(settings: &Settings, names: &[String]) -> Result<BTreeMap<String, u64>> {
    let all = [String::from("all")];
    let wanted = if names.is_empty() { &all[..] } else { names };
    let result = call(settings, "get_statistics", &json!({ "statistics": wanted }));
    let result = result.map_err(|error| match error {
        MiError::Refused { code: 404, .. } => error.into_error().context(format!(
            "no statistic is called {}; `roost stats` shows all, `roost stats tm:` those of a group",
            wanted.join(", ")
        )),
        _ => error.into_error(),
    })?;
    let Value::Object(values) = result else { return Ok(BTreeMap::new()) };
    Ok(values.into_iter().filter_map(|(name, value)| Some((name, value.as_u64()?))).collect())
}

/// What changes is shown with how much it did in the last second.
fn show(now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>, watch: bool) -> Result<()> {
    let mut table = table();
    for (name, value) in now {
        let change = match before.get(name) {
            Some(before) if value > before => format!("+{}", value - before),
            Some(before) if value < before => format!("-{}", before - value),
            _ => String::new(),
        };
        let meaning = STATISTICS.iter().find(|statistic| statistic.name == name);
        let meaning = meaning.map_or("", |statistic| statistic.help).to_string();
        match watch {
            true => table.add_row([name.clone(), value.to_string(), change]),
            false => table.add_row([name.clone(), value.to_string(), meaning]),
        };
    }
    say(&table.trim_fmt())
}
