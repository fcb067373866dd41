//! `roost config show`: what is in force, and where it comes from.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value as Json, json};

use crate::mi_client::{MiError, call};
use crate::output::{say, table, terminal_width};
use crate::settings::Settings;
use crate::settings::key::{Key, Kind, Value};
use crate::settings::keys::KEYS;
use crate::settings::keys_of_tables::{ALIAS_KEYS, HEP_KEYS, ROUTE_KEYS, TLS_DOMAIN_KEYS, WEBHOOK_KEYS};
use crate::settings::live::is_live;
use crate::settings::masked::{MASK, without_password};

/// Prints every key, or those that are not at their defaults; of the file, or of the running server.
///
/// # Errors
/// The key table is wrong, no server answers, or nothing can be printed.
pub(crate) fn run(settings: &Settings, is_changed_only: bool, is_running: bool, is_json: bool) -> Result<()> {
    let all = match is_running {
        true => call(settings, "config_show", &json!({})).map_err(MiError::into_error)?,
        false => lines(settings)?.iter().map(Line::to_json).collect(),
    };
    let all = all.as_array().cloned().unwrap_or_default();
    let is_wanted = |line: &&Json| !is_changed_only || line["value"] != line["default"];
    let all: Vec<&Json> = all.iter().filter(is_wanted).collect();
    if is_json {
        return say(&serde_json::to_string_pretty(&all)?);
    }
    let width = terminal_width();
    let is_narrow = width.is_some_and(|width| width < NARROW);
    let mut table = table();
    match is_narrow {
        true => table.set_header(["key", "value, and what it means"]),
        false => table.set_header(["key", "value", "default", "from", "meaning"]),
    };
    for line in all {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_string();
        let (value, default) = (as_in_file(&line["value"]), as_in_file(&line["default"]));
        match is_narrow {
            true => {
                let from = if value == default { String::new() } else { format!("\n(default {default})") };
                table.add_row([text("name"), format!("{value}{from}\n{}", text("meaning"))]);
            }
            false => {
                table.add_row([text("name"), value, default, text("from"), text("meaning")]);
            }
        }
    }
    say(&table.trim_fmt())
}

/// Every key, and those of each table.
///
/// # Errors
/// The key table is wrong.
pub(crate) fn lines(settings: &Settings) -> Result<Vec<Line>> {
    let file = settings.file.as_ref().map_or(String::new(), |file| file.display().to_string());
    let mut lines = KEYS.iter().map(|key| Line::new(settings, key, &file)).collect::<Result<Vec<_>>>()?;
    let mut table = |all: Vec<Line>| lines.extend(all);
    for (index, route) in settings.routes.iter().enumerate() {
        table(of_table(ROUTE_KEYS, index, &route.given, &file)?);
    }
    for (index, alias) in settings.aliases.iter().enumerate() {
        table(of_table(ALIAS_KEYS, index, &alias.given, &file)?);
    }
    for (index, domain) in settings.tls_domains.iter().enumerate() {
        table(of_table(TLS_DOMAIN_KEYS, index, &domain.given, &file)?);
    }
    for (index, webhook) in settings.webhooks.iter().enumerate() {
        table(of_table(WEBHOOK_KEYS, index, &webhook.given, &file)?);
    }
    for (index, hep) in settings.hep.iter().enumerate() {
        table(of_table(HEP_KEYS, index, &hep.given, &file)?);
    }
    Ok(lines)
}

fn of_table<T>(
    keys: &[Key<T>],
    index: usize,
    given: &BTreeMap<&str, Value>,
    file: &str,
) -> Result<Vec<Line>> {
    let line = |key: &Key<T>| {
        let name = format!("{}[{}].{}", key.section, index + 1, key.name);
        Line::of(name, key, given.get(key.name), file)
    };
    keys.iter().map(line).collect()
}

/// A value as it stands in a file.
fn as_in_file(value: &Json) -> String {
    match value {
        Json::Array(all) => format!("[{}]", all.iter().map(Json::to_string).collect::<Vec<_>>().join(", ")),
        value => value.to_string(),
    }
}

/// Below so many columns the meaning stands under its key.
const NARROW: u16 = 120;

/// One key.
#[derive(Debug)]
pub(crate) struct Line {
    /// With its section, and the number of its table where there are several.
    pub(crate) name: String,
    section: &'static str,
    key: &'static str,
    kind: Kind,
    meaning: &'static str,
    opensips: &'static str,
    pub(crate) value: Value,
    pub(crate) default: Value,
    /// The file, `default`, or the key that it follows from.
    source: String,
}

impl Line {
    fn new(settings: &Settings, key: &Key<Settings>, file: &str) -> Result<Line> {
        let given = settings.given.get(&key.shown());
        let line = Line::of(key.shown(), key, given, file)?;
        if given.is_none() && key.name == "password_column" && !settings.core.policy.auth_db.calculate_ha1 {
            let value = Value::Text(settings.password_column.clone());
            return Ok(Line { value, source: "auth_db.calculate_ha1".to_string(), ..line });
        }
        Ok(line)
    }

    fn of<T>(name: String, key: &Key<T>, given: Option<&Value>, file: &str) -> Result<Line> {
        let Key { section, name: key_name, kind, meaning, opensips, .. } = *key;
        let default = key.default()?;
        let (value, source) = match given {
            Some(value) => (value.clone(), file),
            None => (default.clone(), "default"),
        };
        let source = source.to_string();
        Ok(Line { name, section, key: key_name, kind, meaning, opensips, value, default, source })
    }

    /// The value as it stands in a file, without what must not be shown.
    pub(crate) fn shown(&self) -> String {
        masked(self.kind, &self.value).to_string()
    }

    /// Whether a running server takes another value.
    pub(crate) fn is_live(&self) -> bool {
        is_live(self.section, self.key)
    }

    pub(crate) fn to_json(&self) -> Json {
        let plain = |value: &Value| match masked(self.kind, value) {
            Value::Text(text) => json!(text),
            Value::Switch(is_on) => json!(is_on),
            Value::Number(number) => json!(number),
            Value::List(list) => json!(list),
        };
        json!({
            "section": self.section,
            "key": self.key,
            "name": self.name,
            "value": plain(&self.value),
            "default": plain(&self.default),
            "from": self.source,
            "live": self.is_live(),
            "meaning": self.meaning,
            "opensips": self.opensips,
        })
    }
}

/// Without what must not be shown.
fn masked(kind: Kind, value: &Value) -> Value {
    match (kind, value) {
        (Kind::Secret, Value::Text(text)) if !text.is_empty() => Value::Text(MASK.into()),
        (Kind::Secrets, Value::List(all)) => Value::List(all.iter().map(|_| MASK.to_string()).collect()),
        (Kind::Url, Value::Text(url)) => Value::Text(without_password(url)),
        (_, value) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_urls_are_masked() {
        for (url, expected) in [
            ("sqlite:roost.db", "sqlite:roost.db"),
            ("mysql://db/roost", "mysql://db/roost"),
            ("mysql://root@db/roost", "mysql://root@db/roost"),
            ("mysql://root:passwd@192.168.1.202:3306/roost", "mysql://root:***@192.168.1.202:3306/roost"),
            ("postgres://u:p@ss/word@db", "postgres://u:***@db"),
        ] {
            assert_eq!(without_password(url), expected);
        }
    }
}
