//! `roost config show`: what is in force, and where it comes from.

use anyhow::Result;
use serde_json::{Value as Json, json};

use crate::output::{say, table, terminal_width};
use crate::settings::Settings;
use crate::settings::key::{Key, Kind, Value};
use crate::settings::keys::{HEP_KEYS, KEYS, ROUTE_KEYS, TLS_DOMAIN_KEYS, WEBHOOK_KEYS};

/// Prints every key, or those that are not at their defaults.
///
/// # Errors
/// The key table is wrong, or nothing can be printed.
pub(crate) fn run(settings: &Settings, is_changed_only: bool, is_json: bool) -> Result<()> {
    let file = settings.file.as_ref().map_or(String::new(), |file| file.display().to_string());
    let mut lines = Vec::new();
    for key in KEYS {
        lines.push(Line::new(settings, key, &file)?);
    }
    for (index, route) in settings.routes.iter().enumerate() {
        for key in ROUTE_KEYS {
            let name = format!("{}[{}].{}", key.section, index + 1, key.name);
            lines.push(Line::of(name, key, route.given.get(key.name), &file)?);
        }
    }
    for (index, domain) in settings.tls_domains.iter().enumerate() {
        for key in TLS_DOMAIN_KEYS {
            let name = format!("{}[{}].{}", key.section, index + 1, key.name);
            lines.push(Line::of(name, key, domain.given.get(key.name), &file)?);
        }
    }
    for (index, webhook) in settings.webhooks.iter().enumerate() {
        for key in WEBHOOK_KEYS {
            let name = format!("{}[{}].{}", key.section, index + 1, key.name);
            lines.push(Line::of(name, key, webhook.given.get(key.name), &file)?);
        }
    }
    for (index, hep) in settings.hep.iter().enumerate() {
        for key in HEP_KEYS {
            let name = format!("{}[{}].{}", key.section, index + 1, key.name);
            lines.push(Line::of(name, key, hep.given.get(key.name), &file)?);
        }
    }
    lines.retain(|line| !is_changed_only || line.value != line.default);
    if is_json {
        let lines: Vec<_> = lines.iter().map(Line::to_json).collect();
        return say(&serde_json::to_string_pretty(&lines)?);
    }
    let width = terminal_width();
    let is_narrow = width.is_some_and(|width| width < NARROW);
    let mut table = table();
    match is_narrow {
        true => table.set_header(["key", "value, and what it means"]),
        false => table.set_header(["key", "value", "default", "from", "meaning"]),
    };
    for line in lines {
        let [value, default] = [&line.value, &line.default].map(|value| masked(line.kind, value).to_string());
        let meaning = line.meaning;
        match is_narrow {
            true => {
                let from = if value == default { String::new() } else { format!("\n(default {default})") };
                table.add_row([line.name, format!("{value}{from}\n{meaning}")]);
            }
            false => {
                table.add_row([line.name, value, default, line.source, meaning.to_string()]);
            }
        }
    }
    say(&table.trim_fmt())
}

/// Below so many columns the meaning stands under its key.
const NARROW: u16 = 120;

/// One key.
struct Line {
    /// With its section, and the number of its table where there are several.
    name: String,
    section: &'static str,
    key: &'static str,
    kind: Kind,
    meaning: &'static str,
    opensips: &'static str,
    value: Value,
    default: Value,
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

    fn to_json(&self) -> Json {
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

const MASK: &str = "***";

/// `scheme://user:password@host` with a mask for the password.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_string() };
    // A password may hold an @ or a / that should have been escaped: rather too much is masked than too little.
    let Some((account, host)) = rest.rsplit_once('@') else { return url.to_string() };
    match account.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:{MASK}@{host}"),
        None => url.to_string(),
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
