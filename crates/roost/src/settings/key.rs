//! What a configuration key is, and what values it takes.

use anyhow::{Result, anyhow};
use toml::de::DeValue;

/// One key of `roost.toml`, or of one of its `[[route]]`s.
pub(crate) struct Key<T: 'static> {
    /// The table it stands in; empty for the top level.
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The default as TOML text.
    pub(crate) default: &'static str,
    /// One line for people.
    pub(crate) meaning: &'static str,
    /// The module and parameter of OpenSIPS that it stands for; empty: there is none.
    pub(crate) opensips: &'static str,
    pub(crate) set: fn(&mut T, Value),
}

/// What values a key takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    /// A text that is never shown.
    Secret,
    /// A database's URL, whose password is never shown.
    Url,
    /// true, false, 1 or 0.
    Switch,
    /// An integer from the first to the second.
    Number(i64, i64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of strings.
    List,
    /// A list of strings that are never shown.
    Secrets,
    /// A list of words of these.
    Choices(&'static [&'static str]),
}

/// A value that fits its key's kind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Switch(bool),
    Number(i64),
    List(Vec<String>),
}

/// As it stands in a TOML file.
impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // JSON's escapes are TOML's too.
        let quoted = |text: &String| serde_json::Value::from(text.as_str()).to_string();
        match self {
            Value::Text(text) => write!(f, "{}", quoted(text)),
            Value::Switch(is_on) => write!(f, "{is_on}"),
            Value::Number(number) => write!(f, "{number}"),
            Value::List(list) => write!(f, "[{}]", list.iter().map(quoted).collect::<Vec<_>>().join(", ")),
        }
    }
}

impl Value {
    pub(crate) fn text(self) -> String {
        match self {
            Value::Text(text) => text,
            _ => String::new(),
        }
    }

    pub(crate) fn switch(self) -> bool {
        matches!(self, Value::Switch(true))
    }

    pub(crate) fn number(self) -> u32 {
        match self {
            Value::Number(number) => u32::try_from(number).unwrap_or(u32::MAX),
            _ => 0,
        }
    }

    pub(crate) fn list(self) -> Vec<String> {
        match self {
            Value::List(list) => list,
            _ => Vec::new(),
        }
    }
}

impl<T> Key<T> {
    /// Its name with its section.
    pub(crate) fn shown(&self) -> String {
        if self.section.is_empty() {
            self.name.to_string()
        } else {
            format!("{}.{}", self.section, self.name)
        }
    }

    /// Its default.
    ///
    /// # Errors
    /// The table itself is wrong.
    pub(crate) fn default(&self) -> Result<Value> {
        let value = DeValue::parse(self.default).map_err(|error| anyhow!("{}: {error}", self.shown()))?;
        read(self.kind, value.get_ref()).map_err(|wanted| anyhow!("{}: {wanted}", self.shown()))
    }
}

/// Reads a value of a kind; the error says what is wanted.
pub(crate) fn read(kind: Kind, value: &DeValue<'_>) -> Result<Value, String> {
    let found = value.type_str();
    let strings = |value: &DeValue<'_>| -> Option<Vec<String>> {
        value.as_array()?.iter().map(|item| item.get_ref().as_str().map(str::to_string)).collect()
    };
    let one_of = |choices: &[&str], text: &str| {
        let hint = nearest(text, choices.iter().copied());
        format!("must be one of {}, not \"{text}\"{hint}", quoted(choices))
    };
    match kind {
        Kind::Text | Kind::Secret | Kind::Url => value
            .as_str()
            .map(|text| Value::Text(text.into()))
            .ok_or(format!("must be a string, not {found}")),
        Kind::Switch => match (value.as_bool(), integer(value)) {
            (Some(is_on), _) => Ok(Value::Switch(is_on)),
            (_, Some(number @ 0..=1)) => Ok(Value::Switch(number == 1)),
            _ => Err(format!("must be true or false (or 1 or 0), not {found}")),
        },
        Kind::Number(least, most) => match integer(value) {
            Some(number) if (least..=most).contains(&number) => Ok(Value::Number(number)),
            Some(number) => Err(format!("must be from {least} to {most}, not {number}")),
            None => Err(format!("must be an integer, not {found}")),
        },
        Kind::Choice(choices) => match value.as_str() {
            Some(text) if choices.contains(&text) => Ok(Value::Text(text.into())),
            Some(text) => Err(one_of(choices, text)),
            None => Err(format!("must be one of {}, not {found}", quoted(choices))),
        },
        Kind::List | Kind::Secrets => {
            strings(value).map(Value::List).ok_or(format!("must be a list of strings, not {found}"))
        }
        Kind::Choices(choices) => {
            let list = strings(value).ok_or(format!("must be a list of strings, not {found}"))?;
            match list.iter().find(|text| !choices.contains(&text.as_str())) {
                Some(text) => Err(one_of(choices, text)),
                None if list.is_empty() => Err(format!("must name at least one of {}", quoted(choices))),
                None => Ok(Value::List(list)),
            }
        }
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
}

fn quoted(choices: &[&str]) -> String {
    choices.iter().map(|choice| format!("\"{choice}\"")).collect::<Vec<_>>().join(", ")
}

/// `; did you mean …?` where something is near.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near =
        known.map(|other| (strsim::jaro_winkler(name, other), other)).max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((likeness, other)) if likeness > 0.7 => format!("; did you mean `{other}`?"),
        _ => String::new(),
    }
}

/// Whether a text may stand for our host in a Via; empty says nothing.
pub(crate) fn is_host(text: &str) -> bool {
    let is_v6 = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match is_v6 {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')),
    }
}

/// An entry of a key table.
macro_rules! key {
    ($section:literal, $name:literal, $kind:expr, $default:literal, $meaning:literal, $set:expr) => {
        key!($section, $name, $kind, $default, $meaning, "", $set)
    };
    ($section:literal, $name:literal, $kind:expr, $default:literal, $meaning:literal, $opensips:literal, $set:expr) => {
        Key {
            section: $section,
            name: $name,
            kind: $kind,
            default: $default,
            meaning: $meaning,
            opensips: $opensips,
            set: $set,
        }
    };
}

pub(crate) use key;
