//! The configuration: what each key means and what differs, and the file as text.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use crate::audit::Change;
use crate::fields::Fields;
use crate::guard::Visitor;
use crate::pages::{Asked, Content, Failed, Made, render, whole_page};
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
    let file = shown_file(shared, &asked.visitor);
    let data = json!({
        "sections": sections.into_iter().map(|(name, keys)| json!({ "name": name, "keys": keys })).collect::<Vec<_>>(),
        "is_changed_only": is_changed_only,
        "text": file.as_ref().map(|file| &file.text),
        "mark": file.as_ref().map(|file| &file.mark),
        "is_writable": file.as_ref().is_some_and(|file| file.is_writable),
    });
    Ok(Made { template: "config.html", title: "config", data })
}

fn shown_file(shared: &Shared, visitor: &Visitor) -> Option<ConfigText> {
    visitor.may(Role::Administrator).then(|| shared.parts.config.read()).flatten()
}

/// What became of a text: what it changes, and whether something of that needs a restart.
struct Done {
    changes: Vec<Value>,
    needs_restart: bool,
}

/// Checks a text, or puts it into the file's place and has it read.
pub(crate) async fn act(
    shared: &Shared,
    visitor: &Visitor,
    headers: &HeaderMap,
    fields: &Fields,
) -> Response {
    let text = fields.get("text").replace("\r\n", "\n");
    let (file, wanted) = (Arc::clone(&shared.parts.config), text.clone());
    let asked = Asked::of("/config", headers, visitor.clone());
    // What cannot be read has its mistake shown, not its differences.
    let compare = move || {
        let before = file.read().map(|file| file.text).unwrap_or_default();
        file.mask(&wanted).map_or_else(Vec::new, |shown| diff(&before, &shown))
    };
    let diff = tokio::task::spawn_blocking(compare).await.unwrap_or_default();
    let is_saved = fields.get("do") == "save";
    let done = match checked(shared, &text).await {
        Ok(changes) if is_saved => save(shared, &asked, (&text, fields.get("mark")), &diff, changes).await,
        checked => checked.map(|changes| Done { changes, needs_restart: false }),
    };
    if let (true, Ok(Done { needs_restart, .. })) = (is_saved, &done) {
        let said = if *needs_restart { "config-restart" } else { "config-saved" };
        return Redirect::to(&format!("/config?said={said}")).into_response();
    }
    let (changes, error) = match done {
        Ok(done) => (done.changes, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let line = error.as_deref().and_then(line_of);
    let data = match page(shared, &asked).await {
        Ok(Made { mut data, .. }) => {
            data["text"] = text.into();
            data["error"] = json!(error);
            data["error_line"] = json!(line);
            data["is_checked"] = error.is_none().into();
            data["changes"] = changes.into();
            data["diff"] =
                diff.into_iter().map(|(sign, line)| json!({ "sign": sign, "line": line })).collect();
            data
        }
        Err(failed) => return whole_page(shared, &asked, Err(failed)),
    };
    let html = render(shared, &asked, "config.html", "config", &data);
    whole_page(shared, &asked, html.map(|html| Content { html, title: "config", is_part: false }))
}

/// What would change with a text.
async fn checked(shared: &Shared, text: &str) -> Result<Vec<Value>, String> {
    let (file, text) = (Arc::clone(&shared.parts.config), text.to_string());
    let checked = tokio::task::spawn_blocking(move || file.check(&text)).await;
    checked.unwrap_or_else(|error| Err(error.to_string()))
}

/// Puts a text into the place of the one of this mark, and has it read.
async fn save(
    shared: &Shared,
    asked: &Asked,
    (text, mark): (&str, &str),
    diff: &[(String, String)],
    changes: Vec<Value>,
) -> Result<Done, String> {
    let conflict = || shared.templates.word(asked.language, "config.conflict");
    let shown = shown_file(shared, &asked.visitor);
    if shown.is_none_or(|shown| shown.mark != mark) {
        return Err(conflict());
    }
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
        saved.map_err(|error| error.to_string())?.map_err(|error| match error {
            // Somebody was faster.
            NotSaved::Changed => conflict(),
            NotSaved::Why(why) => why,
        })?;
        let reloaded = shared.backend.mi("reload", json!({})).await?;
        Ok(reloaded["Restart"].as_array().is_some_and(|keys| !keys.is_empty()))
    };
    let needs_restart = shared.audit.carried_out(asked.visitor.who(), change, work).await?;
    Ok(Done { changes, needs_restart })
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
