//! The configuration: what each key means and what differs, and the file as text.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use crate::audit::{Change, Outcome};
use crate::fields::Fields;
use crate::guard::Visitor;
use crate::pages::{Asked, Failed, Made, whole_page};
use crate::people::Role;
use crate::shared::Shared;
use crate::{ConfigText, NotSaved};

pub(crate) async fn page(shared: &Shared, asked: &Asked) -> Result<Made, Failed> {
    let keys = shared.backend.mi("config_show", json!({})).await?;
    let is_changed_only = asked.query("changed") == "yes";
    let mut sections: Vec<(String, Vec<Value>)> = Vec::new();
    for key in keys.as_array().into_iter().flatten() {
        let is_changed = key["value"] != key["default"];
        if is_changed_only && !is_changed {
            continue;
        }
        let section = key["section"].as_str().unwrap_or_default();
        let name = key["name"].as_str().unwrap_or_default();
        let shown = name.rsplit_once('.').map_or(section, |(front, _)| front).to_string();
        let mut key = key.clone();
        key["is_changed"] = is_changed.into();
        match sections.last_mut().filter(|(own, _)| *own == shown) {
            Some((_, all)) => all.push(key),
            None => sections.push((shown, vec![key])),
        }
    }
    let file = asked.visitor.may(Role::Administrator).then(|| shared.parts.config.read()).flatten();
    let data = json!({
        "sections": sections.into_iter().map(|(name, keys)| json!({ "name": name, "keys": keys })).collect::<Vec<_>>(),
        "is_changed_only": is_changed_only,
        "text": file.as_ref().map(|file| &file.text),
        "mark": file.as_ref().map(|file| &file.mark),
        "is_writable": file.as_ref().is_some_and(|file| file.is_writable),
    });
    Ok(Made { template: "config.html", title: "config", data })
}

/// The file as it is now, and how a text differs from it.
#[derive(Default)]
struct Compared {
    mark: String,
    diff: Vec<(String, String)>,
}

/// What became of a text.
enum Fate {
    /// It may be saved: the keys that it changes.
    Sound(Vec<Value>),
    /// Another has changed the file since this one was opened.
    Conflict(Vec<Value>),
    Wrong(String),
    Saved(Outcome<bool>),
}

/// Checks a text, or puts it into the file's place and has it read.
pub(crate) async fn act(
    shared: &Shared,
    visitor: &Visitor,
    headers: &HeaderMap,
    fields: &Fields,
) -> Response {
    let (text, mark) = (fields.get("text").replace("\r\n", "\n"), fields.get("mark"));
    let asked = Asked::of("/config", headers, visitor.clone());
    let mut compared = compared(shared, &text).await;
    let fate = match checked(shared, &text).await {
        Err(why) => Fate::Wrong(why),
        Ok(changes) if compared.mark != mark => Fate::Conflict(changes),
        Ok(changes) if fields.get("do") == "save" => {
            match save(shared, visitor, (&text, mark), &compared.diff, &changes).await {
                Ok(saved) => Fate::Saved(saved),
                // Somebody was faster.
                Err(NotSaved::Changed) => {
                    compared = self::compared(shared, &text).await;
                    Fate::Conflict(checked(shared, &text).await.unwrap_or(changes))
                }
                Err(NotSaved::Why(why)) => Fate::Wrong(why),
            }
        }
        Ok(changes) => Fate::Sound(changes),
    };
    let (changes, error, mark) = match fate {
        Fate::Saved(Outcome { done: needs_restart, but }) => {
            let said = match (&but, needs_restart) {
                (Some(_), _) => "config-kept",
                (None, true) => "config-restart",
                (None, false) => "config-saved",
            };
            let but = but.map(|why| shared.templates.filled(asked.language, "config.not-in-force", &[why]));
            return visitor.led_to(shared, ("/config", said), but.as_deref());
        }
        Fate::Sound(changes) => (changes, None, mark),
        // What stands in the file now is on this page: who saves it has seen it.
        Fate::Conflict(changes) => {
            let error = shared.templates.word(asked.language, "config.conflict");
            (changes, Some(error), &*compared.mark)
        }
        Fate::Wrong(why) => (Vec::new(), Some(why), mark),
    };
    let content = page(shared, &asked).await.and_then(|Made { mut data, template, title }| {
        data["text"] = text.into();
        data["mark"] = mark.into();
        data["error_line"] = json!(error.as_deref().and_then(line_of));
        data["is_checked"] = error.is_none().into();
        data["error"] = json!(error);
        data["changes"] = changes.into();
        let line = |(sign, line): &(String, String)| json!({ "sign": sign, "line": line });
        data["diff"] = compared.diff.iter().map(line).collect();
        Made { data, template, title }.render(shared, &asked)
    });
    whole_page(shared, &asked, content)
}

/// What is compared is what is read once; of what cannot be read the mistake is shown, not the differences.
async fn compared(shared: &Shared, text: &str) -> Compared {
    let (file, text) = (Arc::clone(&shared.parts.config), text.to_string());
    let compare = move || {
        let (ConfigText { text: before, mark, .. }, masked) = file.read_beside(&text)?;
        Some(Compared { mark, diff: masked.map_or_else(Vec::new, |masked| diff(&before, &masked)) })
    };
    tokio::task::spawn_blocking(compare).await.ok().flatten().unwrap_or_default()
}

/// What would change with a text.
async fn checked(shared: &Shared, text: &str) -> Result<Vec<Value>, String> {
    let (file, text) = (Arc::clone(&shared.parts.config), text.to_string());
    let checked = tokio::task::spawn_blocking(move || file.check(&text)).await;
    checked.unwrap_or_else(|error| Err(error.to_string()))
}

/// Puts a text into the place of the one of this mark, and has it read; whether something of it needs a restart.
async fn save(
    shared: &Shared,
    visitor: &Visitor,
    (text, mark): (&str, &str),
    diff: &[(String, String)],
    changes: &[Value],
) -> Result<Outcome<bool>, NotSaved> {
    let side = |sign: &str| {
        let lines = diff.iter().filter(|(own, _)| own == sign).map(|(_, line)| line.as_str());
        lines.collect::<Vec<_>>().join("\n")
    };
    let (before, after) = (side("-"), side("+"));
    let names: Vec<&str> = changes.iter().filter_map(|change| change["key"].as_str()).collect();
    let of = names.join(", ");
    let change = Change { what: "configuration", of: &of, before: &before, after: &after };
    let (file, text, mark) = (Arc::clone(&shared.parts.config), text.to_string(), mark.to_string());
    let work = async {
        let saved = tokio::task::spawn_blocking(move || file.save(&text, &mark)).await;
        saved.map_err(|error| NotSaved::Why(error.to_string()))??;
        let but = shared.backend.mi("reload", json!({})).await.err();
        Ok(Outcome { done: changes.iter().any(|change| change["live"] == false), but })
    };
    shared.audit.carried_out(visitor.who(), change, work).await
}

/// Lines that differ, with what stands around them: `-`, `+` or a blank, and the line.
fn diff(before: &str, after: &str) -> Vec<(String, String)> {
    let all = TextDiff::configure().timeout(Duration::from_millis(500)).diff_lines(before, after);
    let groups = all.grouped_ops(2);
    let changes = groups.iter().flatten().flat_map(|op| all.iter_changes(op));
    let sign = |tag| match tag {
        ChangeTag::Delete => "-",
        ChangeTag::Insert => "+",
        ChangeTag::Equal => " ",
    };
    changes
        .map(|change| (sign(change.tag()).to_string(), change.value().trim_end_matches('\n').to_string()))
        .collect()
}

/// The line that a message names: `roost.toml:12: …`.
fn line_of(message: &str) -> Option<usize> {
    message.split(':').take(4).find_map(|part| part.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_and_where_it_is_wrong() {
        let shown = diff("a = 1\nb = 2\nc = 3\n", "a = 1\nb = 4\nc = 3\n");
        assert!(
            shown.contains(&("-".into(), "b = 2".into())) && shown.contains(&("+".into(), "b = 4".into()))
        );
        assert_eq!(line_of("/etc/roost/roost.toml:12: unknown key"), Some(12));
        assert_eq!(line_of("no line"), None);
    }
}
