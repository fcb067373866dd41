//! Extensions: all of them, one of them, and the wallboard.

use std::collections::BTreeMap;

use roost_admin::ExtensionFilter;
use roost_recorder::Language;
use serde_json::{Value, json};

use crate::backend::{Backend, encoded};
use crate::index::{Doing, Row};
use crate::ladders::Whose;
use crate::pages::{Asked, Failed, Made, ladder};
use crate::shared::Shared;

/// Rows that are given at once.
const MOST_ROWS: usize = 200;
/// Rows of a page without JavaScript.
const PAGE: usize = 50;
/// Tiles of the wallboard, and its groups.
const MOST_TILES: usize = 1_000;
const MOST_GROUPS: usize = 12;

pub(crate) async fn list(shared: &Shared, asked: &Asked) -> Result<Made, Failed> {
    let found = search(shared, asked.language, asked.query("q")).await?;
    let from = asked.number("from").min(found.rows.len());
    let rows = detailed(shared, asked, found.rows.get(from..).unwrap_or_default(), PAGE).await;
    let data = json!({
        "q": asked.query("q"),
        "error": found.error,
        "all": found.all,
        "count": found.rows.len(),
        "from": from,
        "before": from.checked_sub(PAGE),
        "after": (from + PAGE < found.rows.len()).then_some(from + PAGE),
        "rows": rows,
    });
    Ok(Made { template: "extensions.html", title: "extensions", data })
}

/// Rows of the list alone, for who scrolls.
pub(crate) async fn rows(shared: &Shared, asked: &Asked) -> Result<Made, Failed> {
    let found = search(shared, asked.language, asked.query("q")).await?;
    let from = asked.number("from").min(found.rows.len());
    let most = asked.number("count").clamp(1, MOST_ROWS);
    let rows = detailed(shared, asked, found.rows.get(from..).unwrap_or_default(), most).await;
    let data = json!({ "rows": rows, "from": from, "count": found.rows.len(), "error": found.error });
    Ok(Made { template: "rows.html", title: "extensions", data })
}

struct Found {
    /// How many there are in all.
    all: usize,
    rows: Vec<Row>,
    /// What is wrong with the condition.
    error: Option<String>,
}

/// The name of a state finds those in it; another text finds numbers that have it in them; what has an operator is a condition.
async fn search(shared: &Shared, language: Language, q: &str) -> Result<Found, Failed> {
    let rows = shared.index.rows(&shared.backend).await?;
    let (all, q) = (rows.len(), q.trim().to_string());
    let is_called = |doing: &Doing| {
        let word = shared.templates.word(language, &format!("state.{}", doing.as_str()));
        q == doing.as_str() || q == word
    };
    let doing = Doing::ALL.into_iter().find(is_called);
    let found = move || {
        if let Some(doing) = doing {
            return Ok(rows.iter().filter(|row| row.doing() == doing).cloned().collect());
        }
        let is_condition = q.contains(['=', '<', '>', '(', '!', '&', '|']);
        if !is_condition {
            return Ok(rows.iter().filter(|row| q.is_empty() || row.aor.contains(&*q)).cloned().collect());
        }
        let filter = ExtensionFilter::of(&q)?;
        Ok(rows.iter().filter(|row| filter.holds(&row.to_json())).cloned().collect::<Vec<Row>>())
    };
    let found: Result<Vec<Row>, String> =
        tokio::task::spawn_blocking(found).await.map_err(|error| Failed::Why(error.to_string()))?;
    Ok(match found {
        Ok(rows) => Found { all, rows, error: None },
        Err(error) => Found { all, rows: Vec::new(), error: Some(error) },
    })
}

/// Rows with what is known of each: its first contact, or why it has none. All are asked at once.
async fn detailed(shared: &Shared, asked: &Asked, rows: &[Row], most: usize) -> Vec<Value> {
    let language = asked.language.tag();
    let one = |row: &Row| tokio::spawn(detail(shared.backend.clone(), row.clone(), language));
    let under_way: Vec<_> = rows.iter().take(most).map(one).collect();
    let mut shown = Vec::with_capacity(under_way.len());
    for one in under_way {
        shown.extend(one.await);
    }
    shown
}

async fn detail(backend: Backend, row: Row, language: &str) -> Value {
    let mut one = row.to_json();
    one["doing"] = row.doing().as_str().into();
    match row.state() {
        "UNAVAILABLE" => {
            if let Ok(why) = backend.mi("why", json!({ "aor": &*row.aor, "lang": language })).await {
                let last = why["Timeline"].as_array().and_then(|all| all.last());
                one["why"] = why["Reason"].clone();
                one["verdict"] = why["Verdict"].clone();
                one["since"] = last.map_or(Value::Null, |last| last["Time"].clone());
            }
        }
        _ => {
            if let Ok(contact) = contacts(&backend, &row.aor).await {
                one["contact"] = contact["Contacts"][0].clone();
                one["more"] =
                    contact["Contacts"].as_array().map_or(0, |all| all.len().saturating_sub(1)).into();
            }
        }
    }
    one
}

async fn contacts(backend: &Backend, aor: &str) -> Result<Value, String> {
    backend.mi("ul_show_contact", json!({ "table_name": "location", "aor": aor })).await
}

pub(crate) async fn one(shared: &Shared, asked: &Asked, aor: &str) -> Result<Made, Failed> {
    let backend = &shared.backend;
    let why = backend.mi("why", json!({ "aor": aor, "lang": asked.language.tag() })).await?;
    let agent = backend.get(&format!("extensions/{}", encoded(aor))).await.unwrap_or(Value::Null);
    let whose = Whose::Extension(aor.to_string());
    let ladder = ladder::shown(shared, asked, &whose, json!({ "aor": aor })).await;
    let calls = backend.get(&format!("calls?aor={}", encoded(aor))).await.unwrap_or(Value::Null);
    let records = backend.get(&format!("records?limit=10&aor={}", encoded(aor))).await.unwrap_or(Value::Null);
    let bans = backend.mi("ban_list", json!({})).await.unwrap_or(Value::Null);
    let own_bans: Vec<&Value> =
        bans["Bans"].as_array().into_iter().flatten().filter(|ban| ban["user"] == aor).collect();
    let data = json!({
        "aor": aor,
        "why": why,
        "doing": Doing::of(agent["state"].as_str().unwrap_or_default()).as_str(),
        "contacts": contacts(backend, aor).await.unwrap_or(Value::Null)["Contacts"],
        "ladder": ladder,
        "path": format!("/extensions/{}", encoded(aor)),
        "calls": calls["items"],
        "records": records["items"],
        "bans": own_bans,
    });
    Ok(Made { template: "extension.html", title: "extension", data })
}

/// Agents as tiles by state: all, or those of each group that is asked for.
pub(crate) async fn wall(shared: &Shared, asked: &Asked) -> Result<Made, Failed> {
    let mut asked_for: Vec<&str> = asked.queries("q").map(str::trim).filter(|q| !q.is_empty()).collect();
    asked_for.truncate(MOST_GROUPS);
    let shown: &[&str] = if asked_for.is_empty() { &[""] } else { &asked_for };
    let mut groups = Vec::new();
    for (at, q) in shown.iter().enumerate() {
        let mut group = group(shared, asked.language, q, MOST_TILES / shown.len()).await?;
        let others = asked_for.iter().enumerate().filter(|(own, _)| *own != at);
        let others: Vec<_> = others.map(|(_, q)| format!("q={}", encoded(q))).collect();
        group["without"] = format!("/wall?{}", others.join("&")).into();
        groups.push(group);
    }
    Ok(Made { template: "wall.html", title: "wall", data: json!({ "asked": asked_for, "groups": groups }) })
}

async fn group(shared: &Shared, language: Language, q: &str, most: usize) -> Result<Value, Failed> {
    let (name, condition) = named(q);
    let found = search(shared, language, condition).await?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &found.rows {
        *counts.entry(row.doing().as_str()).or_default() += 1;
    }
    let shown = || found.rows.iter().take(most);
    let since = shared.since.of(shown().map(|row| (&*row.aor, row.doing())));
    let tile = |(row, since_s): (&Row, Option<u64>)| json!({ "aor": &*row.aor, "doing": row.doing().as_str(), "since_s": since_s });
    Ok(json!({
        "q": q,
        "name": name,
        "error": found.error,
        "counts": counts,
        "count": found.rows.len(),
        "is_cut": found.rows.len() > most,
        "tiles": shown().zip(since).map(tile).collect::<Vec<_>>(),
    }))
}

/// A group's name and who is in it: `NAME: CONDITION`; without a name it is called as its condition.
fn named(q: &str) -> (&str, &str) {
    let is_name = |name: &str| name.chars().all(|sign| sign.is_alphanumeric() || " -_.&+".contains(sign));
    match q.split_once(':').or_else(|| q.split_once('：')) {
        Some((name, condition)) if is_name(name) && !name.trim().is_empty() => {
            (name.trim(), condition.trim())
        }
        _ => (q, q),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_have_a_name() {
        assert_eq!(named("Sales: aor.startsWith(\"90\")"), ("Sales", "aor.startsWith(\"90\")"));
        assert_eq!(named("客服：90"), ("客服", "90"));
        for q in ["90", "aor == \"a:b\"", "aor == \"a\" ? true : false", ": 90"] {
            assert_eq!(named(q), (q, q));
        }
    }
}
