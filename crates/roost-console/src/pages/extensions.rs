//! Extensions: all of them, one of them, and the wallboard.

use std::collections::{BTreeMap, HashMap};

use roost_admin::ExtensionFilter;
use serde_json::{Value, json};

use crate::backend::{Backend, encoded};
use crate::index::Row;
use crate::pages::{Asked, Failed, Made};
use crate::shared::Shared;

/// Rows that are given at once.
const MOST_ROWS: usize = 200;
/// Rows of a page without JavaScript.
const PAGE: usize = 50;
/// Tiles of the wallboard.
const MOST_TILES: usize = 1_000;

pub(crate) async fn list(shared: &Shared, asked: &Asked) -> Result<Made, Failed> {
    let found = search(shared, asked).await?;
    let from = asked.number("from").min(found.rows.len());
    let rows = detailed(shared, found.rows.get(from..).unwrap_or_default(), PAGE).await;
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
    let found = search(shared, asked).await?;
    let from = asked.number("from").min(found.rows.len());
    let most = asked.number("count").clamp(1, MOST_ROWS);
    let rows = detailed(shared, found.rows.get(from..).unwrap_or_default(), most).await;
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

/// A text finds numbers that have it in them; what has an operator is a condition.
async fn search(shared: &Shared, asked: &Asked) -> Result<Found, Failed> {
    let rows = shared.index.rows(&shared.backend).await?;
    let (all, q) = (rows.len(), asked.query("q").trim().to_string());
    let found = move || {
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
async fn detailed(shared: &Shared, rows: &[Row], most: usize) -> Vec<Value> {
    let one = |row: &Row| tokio::spawn(detail(shared.backend.clone(), row.clone()));
    let asked: Vec<_> = rows.iter().take(most).map(one).collect();
    let mut shown = Vec::with_capacity(asked.len());
    for one in asked {
        shown.extend(one.await);
    }
    shown
}

async fn detail(backend: Backend, row: Row) -> Value {
    let mut one = row.to_json();
    match row.state() {
        "UNAVAILABLE" => {
            if let Ok(why) = backend.mi("why", json!({ "aor": &*row.aor })).await {
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

pub(crate) async fn one(shared: &Shared, aor: &str) -> Result<Made, Failed> {
    let backend = &shared.backend;
    let why = backend.mi("why", json!({ "aor": aor })).await?;
    let agent = backend.get(&format!("extensions/{}", encoded(aor))).await.unwrap_or(Value::Null);
    let failure = backend.mi("trace_last", json!({ "aor": aor })).await.ok();
    let calls = backend.get(&format!("calls?aor={}", encoded(aor))).await.unwrap_or(Value::Null);
    let records = backend.get(&format!("records?limit=10&aor={}", encoded(aor))).await.unwrap_or(Value::Null);
    let bans = backend.mi("ban_list", json!({})).await.unwrap_or(Value::Null);
    let own_bans: Vec<&Value> =
        bans["Bans"].as_array().into_iter().flatten().filter(|ban| ban["user"] == aor).collect();
    let data = json!({
        "aor": aor,
        "why": why,
        "state": agent["state"],
        "contacts": contacts(backend, aor).await.unwrap_or(Value::Null)["Contacts"],
        "ladder": failure.as_ref().map(|failure| ladder(&failure["Messages"])),
        "calls": calls["items"],
        "records": records["items"],
        "bans": own_bans,
    });
    Ok(Made { template: "extension.html", title: "extension", data })
}

/// Messages with their first lines, and which way each went.
pub(crate) fn ladder(messages: &Value) -> Vec<Value> {
    let first = messages[0]["At"].as_i64().unwrap_or(0);
    let message = |one: &Value| {
        let text = one["Message"].as_str().unwrap_or_default();
        json!({
            "after_ms": one["At"].as_i64().unwrap_or(first) - first,
            "line": text.lines().next().unwrap_or_default(),
            "text": text.replace("\r\n", "\n").replace('\r', " ").trim_end(),
            "is_sent": one["Sent"],
            "peer": if one["Sent"] == true { &one["To"] } else { &one["From"] },
        })
    };
    messages.as_array().into_iter().flatten().map(message).collect()
}

/// Agents as tiles, by state.
pub(crate) async fn wall(shared: &Shared, asked: &Asked) -> Result<Made, Failed> {
    let found = search(shared, asked).await?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &found.rows {
        *counts.entry(name_of(row.state())).or_default() += 1;
    }
    let calls = shared.calls().await?;
    let now_s =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut began: HashMap<&str, u64> = HashMap::new();
    for call in calls["Dialogs"].as_array().into_iter().flatten() {
        for uri in ["from_uri", "to_uri"].into_iter().filter_map(|side| call[side].as_str()) {
            began.insert(user_of(uri), call["timestart"].as_u64().unwrap_or(now_s));
        }
    }
    let begun = |aor: &str| began.get(aor.split('@').next().unwrap_or(aor)).copied();
    let tile = |row: &Row| {
        let since =
            (row.state() != "NOT_INUSE" && row.state() != "UNAVAILABLE").then(|| begun(&row.aor)).flatten();
        json!({
            "aor": &*row.aor, "state": name_of(row.state()), "began_s": since,
            "seconds": since.map(|since| now_s.saturating_sub(since)),
        })
    };
    let data = json!({
        "q": asked.query("q"),
        "error": found.error,
        "counts": counts,
        "count": found.rows.len(),
        "is_cut": found.rows.len() > MOST_TILES,
        "tiles": found.rows.iter().take(MOST_TILES).map(tile).collect::<Vec<_>>(),
    });
    Ok(Made { template: "wall.html", title: "wall", data })
}

/// A state as the pages call it.
fn name_of(state: &str) -> &'static str {
    match state {
        "NOT_INUSE" => "free",
        "RINGING" => "ringing",
        "RINGINUSE" => "ringing",
        "INUSE" => "talking",
        "BUSY" => "talking",
        "ONHOLD" => "talking",
        _ => "offline",
    }
}

fn user_of(uri: &str) -> &str {
    let rest = uri.strip_prefix("sips:").or_else(|| uri.strip_prefix("sip:")).unwrap_or(uri);
    rest.split(['@', ';']).next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_counts_from_its_first_message() {
        let shown = ladder(&json!([
            { "At": 1000, "From": "a", "To": "b", "Sent": false, "Message": "REGISTER sip:x SIP/2.0\r\nVia: y\r\n\r\n" },
            { "At": 1040, "From": "b", "To": "a", "Sent": true, "Message": "SIP/2.0 403 Forbidden\r\n\r\n" },
        ]));
        assert_eq!(
            (&shown[1]["after_ms"], &shown[1]["line"], &shown[1]["peer"]),
            (&json!(40), &json!("SIP/2.0 403 Forbidden"), &json!("a"))
        );
        assert_eq!(user_of("sip:9001@10.0.0.1;x=y"), "9001");
    }
}
