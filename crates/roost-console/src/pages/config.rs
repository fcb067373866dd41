//! The configuration: what each key means and what differs, and the file as text.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use crate::audit::Change;
use crate::fields::Fields;
use crate::guard::Visitor;
use crate::pages::{Asked, Content, Failed, Made, render, whole_page};
use crate::shared::Shared;

/// The longest diff that is written down.
const MOST_NOTED: usize = 20_000;

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
    let file =
        asked.visitor.may(crate::people::Role::Administrator).then(|| (shared.parts.config.read)()).flatten();
    let data = json!({
        "sections": sections.into_iter().map(|(name, keys)| json!({ "name": name, "keys": keys })).collect::<Vec<_>>(),
        "is_changed_only": is_changed_only,
        "text": file.as_ref().map(|(text, _)| text),
        "mark": file.as_ref().map(|(text, _)| mark(text)),
        "is_writable": file.as_ref().is_some_and(|(_, is_writable)| *is_writable),
    });
    Ok(Made { template: "config.html", title: "config", data })
}

/// Checks a text, or puts it into the file's place and has it read.
pub(crate) async fn act(
    shared: &Shared,
    visitor: &Visitor,
    headers: &HeaderMap,
    fields: &Fields,
) -> Response {
    let text = fields.get("text").replace("\r\n", "\n");
    let (file, wanted) = (shared.parts.config.clone(), text.clone());
    let before = (file.read)().map(|(text, _)| text).unwrap_or_default();
    let is_another = mark(&before) != fields.get("mark");
    let shown = (file.mask)(&text);
    // What cannot be read has its mistake shown, not its differences.
    let compare = move || shown.map_or_else(Vec::new, |shown| diff(&before, &shown));
    let diff = tokio::task::spawn_blocking(compare).await.unwrap_or_default();
    let is_saved = fields.get("do") == "save";
    let (check, write) = (file.check, file.write);
    let checked = tokio::task::spawn_blocking(move || check(&wanted))
        .await
        .unwrap_or_else(|error| Err(error.to_string()));
    let mut said = "config-saved";
    let done = match (checked, is_saved) {
        (Err(error), _) => Err(error),
        (Ok(changes), false) => Ok(changes),
        (Ok(_), true) if is_another => {
            Err("the file has changed since this page was opened: the difference below is to what it is now; save again to put this text in its place".to_string())
        }
        (Ok(changes), true) => {
            let names: Vec<&str> = changes.iter().filter_map(|change| change["key"].as_str()).collect();
            let of = names.join(", ");
            let saved = save(shared, visitor, (&text, &of), &diff, move |text| write(text)).await;
            saved.map(|needs_restart| {
                said = if needs_restart { "config-restart" } else { "config-saved" };
                changes
            })
        }
    };
    let asked = Asked::of("/config", headers, visitor.clone());
    if is_saved && done.is_ok() {
        return Redirect::to(&format!("/config?said={said}")).into_response();
    }
    let (changes, error) = match done {
        Ok(changes) => (changes, None),
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

/// Whether something of it needs a restart.
async fn save(
    shared: &Shared,
    visitor: &Visitor,
    (text, of): (&str, &str),
    diff: &[(String, String)],
    write: impl FnOnce(&str) -> Result<(), String> + Send + 'static,
) -> Result<bool, String> {
    let side = |sign: &str| {
        let lines = diff.iter().filter(|(own, _)| own == sign).map(|(_, line)| line.as_str());
        lines.collect::<Vec<_>>().join("\n").chars().take(MOST_NOTED).collect::<String>()
    };
    let (before, after) = (side("-"), side("+"));
    let change = Change {
        who: visitor.name(),
        from: visitor.from,
        what: "configuration",
        of,
        before: &before,
        after: &after,
    };
    shared.audit.write(&change)?;
    let text = text.to_string();
    tokio::task::spawn_blocking(move || write(&text)).await.map_err(|error| error.to_string())??;
    let reloaded = shared.backend.mi("reload", json!({})).await?;
    Ok(reloaded["Restart"].as_array().is_some_and(|keys| !keys.is_empty()))
}

/// Tells a text from the one that another has put in its place meanwhile.
fn mark(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
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
