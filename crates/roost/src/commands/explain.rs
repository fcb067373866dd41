//! `roost explain`: what a reason means.

use anyhow::{Result, bail};
use roost_recorder::{Explanation, Language, Names, REASONS, answer_of};
use serde_json::json;

use crate::output::{say, table};
use crate::settings::key::nearest;

/// Explains one, by its code or word, or lists all.
///
/// # Errors
/// There is no such reason.
pub(crate) fn run(name: Option<&str>, is_json: bool) -> Result<()> {
    let Some(name) = name else { return list(is_json) };
    let Some(entry) = Explanation::of(name) else {
        let hint = nearest(name, REASONS.iter().map(|entry| entry.word));
        bail!("there is no reason {name}{hint}; `roost explain` lists all");
    };
    if is_json {
        return say(&entry.to_json(language()).to_string());
    }
    let [what, remedy, besides] = entry.texts(language(), &Names::EXAMPLE);
    let answer = match answer_of(entry.word) {
        answer if answer.is_empty() => String::new(),
        answer => format!(", answered with {answer}"),
    };
    say(&format!("{} {}{answer}\n\n{what}\n\nDo: {remedy}", entry.code(), entry.word))?;
    if besides.is_empty() { Ok(()) } else { say(&format!("\nBesides: {besides}")) }
}

fn list(is_json: bool) -> Result<()> {
    let language = language();
    if is_json {
        let all: Vec<_> = REASONS
            .iter()
            .map(
                |entry| json!({ "code": entry.code(), "word": entry.word, "what": entry.texts(language, &Names::EXAMPLE)[0] }),
            )
            .collect();
        return say(&serde_json::to_string_pretty(&all)?);
    }
    let mut table = table();
    for entry in REASONS {
        table.add_row([
            entry.code(),
            entry.word.to_string(),
            entry.texts(language, &Names::EXAMPLE)[0].clone(),
        ]);
    }
    say(&table.trim_fmt())
}

/// The terminal's.
pub(crate) fn language() -> Language {
    let of = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = of("LC_ALL").or_else(|| of("LC_MESSAGES")).or_else(|| of("LANG")).unwrap_or_default();
    Language::of(&locale)
}
