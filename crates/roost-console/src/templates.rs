//! The templates, and what they may call.

use std::sync::Arc;

use chrono::{DateTime, Local};
use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, State, Value};
use roost_recorder::Language;

use crate::backend::encoded;
use crate::chart::escaped;
use crate::words::Words;

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        /// Names and texts.
        pub(crate) const ALL: &[(&str, &str)] = &[$(($name, include_str!(concat!("../templates/", $name)))),*];
    };
}

templates![
    "base.html",
    "parts.html",
    "now.html",
    "extensions.html",
    "rows.html",
    "extension.html",
    "calls.html",
    "history.html",
    "ladder.html",
    "routes.html",
    "wall.html",
    "config.html",
    "people.html",
    "phone.html",
    "login.html",
    "reason.html",
    "error.html",
];

#[derive(Debug)]
pub(crate) struct Templates {
    environment: Environment<'static>,
    words: Arc<Words>,
}

impl Templates {
    /// # Errors
    /// One of them is broken.
    pub(crate) fn new() -> Result<Templates, String> {
        let words = Arc::new(Words::new()?);
        let mut environment = Environment::new();
        environment.set_undefined_behavior(minijinja::UndefinedBehavior::Chainable);
        let (own, below) = (Arc::clone(&words), Arc::clone(&words));
        environment.add_function("t", move |state: &State<'_, '_>, name: &str, parts: Rest<Value>| {
            let language = language(state);
            let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
            own.filled(language, name, &parts)
        });
        environment.add_function("words", move |state: &State<'_, '_>, front: &str| {
            below.below(language(state), front)
        });
        environment.add_filter("enc", |text: &str| encoded(text));
        environment.add_filter("after", after);
        environment.add_filter("since", since);
        environment.add_filter("ago", |at_s: i64| since((Local::now().timestamp() - at_s).max(0)));
        environment.add_filter("clock", clock);
        environment.add_filter("shown", shown);
        environment.add_filter("coded", |text: &str| Value::from_safe_string(coded(text)));
        for (name, text) in ALL {
            environment.add_template(name, text).map_err(|error| format!("{name}: {error:#}"))?;
        }
        Ok(Templates { environment, words })
    }

    pub(crate) fn word(&self, language: Language, name: &str) -> String {
        self.words.get(language, name).to_string()
    }

    /// The same with what stands in it: `{0}`, `{1}`.
    pub(crate) fn filled(&self, language: Language, name: &str, parts: &[String]) -> String {
        self.words.filled(language, name, parts)
    }

    pub(crate) fn has_word(&self, name: &str) -> bool {
        self.words.get(Language::English, name) != name
    }

    /// # Errors
    /// What went wrong, for the log.
    pub(crate) fn render(&self, name: &str, context: &Value) -> Result<String, String> {
        let template = self.environment.get_template(name).map_err(|error| error.to_string())?;
        template.render(context).map_err(|error| format!("{name}: {error:#}"))
    }
}

fn language(state: &State<'_, '_>) -> Language {
    match state.lookup("lang").and_then(|lang| lang.as_str().and_then(Language::wanted)) {
        Some(language) => language,
        None => Language::English,
    }
}

/// A key's value: lists without brackets, switches as TOML has them.
fn shown(value: &Value) -> String {
    match value.kind() {
        ValueKind::Bool => value.is_true().to_string(),
        ValueKind::Seq => value
            .try_iter()
            .map(|all| all.map(|one| one.to_string()).collect::<Vec<_>>().join(", "))
            .unwrap_or_default(),
        ValueKind::None | ValueKind::Undefined => String::new(),
        _ => value.to_string(),
    }
}

/// A text in which what stands between backquotes is code.
fn coded(text: &str) -> String {
    let parts = text.split('`').map(escaped).enumerate();
    parts.map(|(index, part)| if index % 2 == 1 { format!("<code>{part}</code>") } else { part }).collect()
}

/// A moment of unix time, in seconds, by the server's clock.
fn clock(at_s: i64) -> String {
    let at = DateTime::from_timestamp(at_s, 0).map(|at| at.with_timezone(&Local));
    at.map_or(String::new(), |at| at.format("%Y-%m-%d %H:%M:%S").to_string())
}

/// Milliseconds, or seconds where they are many.
fn after(milliseconds: i64) -> String {
    match milliseconds {
        10_000.. => format!("{:.1} s", milliseconds as f64 / 1000.0),
        _ => format!("{milliseconds} ms"),
    }
}

/// Seconds as h:mm:ss or m:ss.
fn since(seconds: i64) -> String {
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_backquotes_is_code_and_nothing_is_markup() {
        assert_eq!(coded("see `a <b>` & c"), "see <code>a &lt;b&gt;</code> &amp; c");
        assert_eq!((after(9_999), after(220_471)), ("9999 ms".to_string(), "220.5 s".to_string()));
        assert_eq!((since(59), since(3_661)), ("0:59".to_string(), "1:01:01".to_string()));
    }
}
