//! `roost config show`: what is in force, and where it comes from.

use anyhow::Result;
use serde_json::{Value as Json, json};

use crate::keys::{KEYS, Key, Kind, Value};
use crate::settings::{Settings, default_of, shown};
use crate::user::say;

/// Prints every key, or those that are not at their defaults.
///
/// # Errors
/// The key table is wrong, or nothing can be printed.
pub(crate) fn run(settings: &Settings, is_changed_only: bool, is_json: bool) -> Result<()> {
    let file = settings.file.as_ref().map_or(String::new(), |file| file.display().to_string());
    let mut lines = Vec::new();
    for key in KEYS {
        let line = Line::new(settings, key, &file)?;
        if !is_changed_only || line.value != line.default {
            lines.push(line);
        }
    }
    if is_json {
        let lines: Vec<_> = lines.iter().map(Line::to_json).collect();
        return say(&serde_json::to_string_pretty(&lines)?);
    }
    let mut table = comfy_table::Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_header(["key", "value", "default", "from", "meaning"]);
    for line in lines {
        let [value, default] =
            [&line.value, &line.default].map(|value| masked(line.key.kind, value).to_string());
        table.add_row([shown(line.key), value, default, line.source, line.key.meaning.to_string()]);
    }
    say(&table.trim_fmt())
}

/// One key.
struct Line<'k> {
    key: &'k Key,
    value: Value,
    default: Value,
    /// The file, `default`, or the key that it follows from.
    source: String,
}

impl<'k> Line<'k> {
    fn new(settings: &Settings, key: &'k Key, file: &str) -> Result<Line<'k>> {
        let default = default_of(key)?;
        let (value, source) = match settings.given.get(&shown(key)) {
            Some(value) => (value.clone(), file),
            None if key.name == "password_column" && !settings.core.auth_db.calculate_ha1 => {
                (Value::Text(settings.password_column.clone()), "auth_db.calculate_ha1")
            }
            None => (default.clone(), "default"),
        };
        Ok(Line { key, value, default, source: source.to_string() })
    }

    fn to_json(&self) -> Json {
        let plain = |value: &Value| match masked(self.key.kind, value) {
            Value::Text(text) => json!(text),
            Value::Switch(is_on) => json!(is_on),
            Value::Number(number) => json!(number),
            Value::List(list) => json!(list),
        };
        json!({
            "section": self.key.section,
            "key": self.key.name,
            "value": plain(&self.value),
            "default": plain(&self.default),
            "from": self.source,
            "meaning": self.key.meaning,
            "opensips": self.key.opensips,
        })
    }
}

/// Without what must not be shown.
fn masked(kind: Kind, value: &Value) -> Value {
    match (kind, value) {
        (Kind::Secret, Value::Text(text)) if !text.is_empty() => Value::Text(MASK.into()),
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
