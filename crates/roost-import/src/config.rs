//! The configuration that is written.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::ast::Place;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Number(i64),
    Switch(bool),
    List(Vec<String>),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Text(text) => f.write_str(&quoted(text)),
            Value::Number(number) => write!(f, "{number}"),
            Value::Switch(is_on) => write!(f, "{is_on}"),
            Value::List(all) => {
                write!(f, "[{}]", all.iter().map(|one| quoted(one)).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            char if char.is_control() => {
                let _ = write!(out, "\\u{:04X}", char as u32);
            }
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

/// Where a key's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Line(Place),
    /// OpenSIPS's default, which is another than roost's.
    Default,
}

/// A `[[route]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Route {
    /// Keys in the order in which they are written.
    pub(crate) keys: Vec<(&'static str, Value)>,
}

/// Keys of a route that say which calls of extensions it takes.
pub(crate) const ON: &str = "on";
pub(crate) const AFTER: &str = "after";

impl Route {
    /// Whether both send the same numbers to the same place, calls of extensions.
    pub(crate) fn is_but_for_failures(&self, other: &Route) -> bool {
        let rest = |route: &Route| -> Vec<(&'static str, Value)> {
            route.keys.iter().filter(|(key, _)| ![ON, AFTER].contains(key)).cloned().collect()
        };
        let is_for_extensions = |route: &Route| route.keys.iter().any(|(key, _)| *key == ON);
        is_for_extensions(self) == is_for_extensions(other) && rest(self) == rest(other)
    }

    /// Takes in what another one is for.
    pub(crate) fn join_failures(&mut self, other: Route) {
        for (key, value) in other.keys.into_iter().filter(|(key, _)| [ON, AFTER].contains(key)) {
            match (self.keys.iter_mut().find(|(own, _)| *own == key), value) {
                (Some((_, Value::List(own))), Value::List(more)) => {
                    more.into_iter().for_each(|one| {
                        if !own.contains(&one) {
                            own.push(one)
                        }
                    });
                }
                (Some(_), _) => {}
                (None, value) => self.keys.push((key, value)),
            }
        }
    }
}

/// Keys by section, in the order in which sections are written; `[[route]]`s.
#[derive(Debug, Default)]
pub(crate) struct Config {
    keys: BTreeMap<(&'static str, &'static str), (Value, From)>,
    pub(crate) routes: Vec<(Route, Place)>,
}

/// The order of sections.
const SECTIONS: [&str; 19] = [
    "",
    "auth",
    "auth_db",
    "usrloc",
    "registrar",
    "proxy",
    "tm",
    "rr",
    "dialog",
    "dispatcher",
    "permissions",
    "alias_db",
    "nathelper",
    "pike",
    "tls",
    "acc",
    "mi",
    "mi_fifo",
    "mi_datagram",
];

impl Config {
    /// The first that says something of a key counts, unless that was a default.
    pub(crate) fn set(&mut self, section: &'static str, key: &'static str, value: Value, from: From) {
        let is_new = self.keys.get(&(section, key)).is_none_or(|(_, from)| *from == From::Default);
        if is_new {
            self.keys.insert((section, key), (value, from));
        }
    }

    pub(crate) fn replace(&mut self, section: &'static str, key: &'static str, value: Value, from: From) {
        self.keys.insert((section, key), (value, from));
    }

    /// The last that says something of a key counts; where the one before stands.
    pub(crate) fn set_last(
        &mut self,
        section: &'static str,
        key: &'static str,
        value: Value,
        from: From,
    ) -> Option<Place> {
        match self.keys.insert((section, key), (value, from)) {
            Some((_, From::Line(before))) => Some(before),
            _ => None,
        }
    }

    pub(crate) fn get(&self, section: &'static str, key: &'static str) -> Option<&Value> {
        self.keys.get(&(section, key)).map(|(value, _)| value)
    }

    /// Adds to a list what it has not.
    pub(crate) fn add(&mut self, section: &'static str, key: &'static str, entry: String, from: From) {
        let mut all = match self.get(section, key) {
            Some(Value::List(all)) => all.clone(),
            _ => Vec::new(),
        };
        if !all.contains(&entry) {
            all.push(entry);
            self.keys.insert((section, key), (Value::List(all), from));
        }
    }

    /// As a file; `lines` says where the lines of its origin stand.
    pub(crate) fn toml(&self, name: &str) -> String {
        let mut out = format!("# Made from {name} by `roost import`.\n");
        let whence = |from: &From| match from {
            From::Line(place) if place.file == 0 => format!("line {}", place.line),
            From::Line(place) => format!("line {} of an included file", place.line),
            From::Default => "OpenSIPS's default".to_string(),
        };
        for section in SECTIONS {
            let keys: Vec<_> = self.keys.iter().filter(|((of, _), _)| *of == section).collect();
            if keys.is_empty() {
                continue;
            }
            if !section.is_empty() {
                let _ = write!(out, "\n[{section}]");
            }
            out.push('\n');
            for ((_, key), (value, from)) in keys {
                let _ = writeln!(out, "{:<43} # {}", format!("{key} = {value}"), whence(from));
            }
        }
        for (route, place) in &self.routes {
            let _ = write!(out, "\n{:<43} # {}\n", "[[route]]", whence(&From::Line(*place)));
            for (key, value) in &route.keys {
                let _ = writeln!(out, "{key} = {value}");
            }
        }
        out
    }
}
