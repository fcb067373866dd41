//! The first page: is everything all right?

use roost_recorder::{Explanation, Language, Names};
use serde_json::{Value, json};

use crate::backend::encoded;
use crate::pages::{Asked, Failed, Made};
use crate::shared::Shared;

/// Statistics that stand in large figures.
const FIGURES: &[&str] = &[
    "usrloc:registered_users",
    "usrloc:location-contacts",
    "dialog:active_dialogs",
    "dialog:early_dialogs",
    "net:tcp_connections",
    "core:timestamp",
    "shmem:real_used_size",
];

/// Limits that turned something away, beside those that are problems of their own: `limit.NAME` says what.
const LIMITS: &[&str] =
    &["roost:too_many_contacts", "net:tcp_refused", "net:tcp_refused_per_source", "net:handshakes_refused"];

pub(crate) async fn page(shared: &Shared, asked: &Asked) -> Result<Made, Failed> {
    let backend = &shared.backend;
    let why = shared.wrong(asked.language).await?;
    let figures = backend.statistics(FIGURES).await;
    let limits = backend.statistics(LIMITS).await;
    let number = |name: &str| figures[name].as_u64().unwrap_or(0);
    let status = backend.mi("sr_get_status", json!({})).await.unwrap_or(Value::Null);
    let hops = backend.mi("ds_list", json!({})).await.unwrap_or(Value::Null);
    let nodes = backend.mi("nodes", json!({})).await.ok();
    let met: Vec<Value> = LIMITS
        .iter()
        .filter(|name| limits[**name].as_u64().unwrap_or(0) > 0)
        .map(|name| json!({ "name": name, "count": limits[*name] }))
        .collect();
    let data = json!({
        "problems": problems(&why["Problems"]),
        "registered": number("usrloc:registered_users"),
        "contacts": number("usrloc:location-contacts"),
        "talking": number("dialog:active_dialogs"),
        "ringing": number("dialog:early_dialogs"),
        "connections": number("net:tcp_connections"),
        "memory_mb": number("shmem:real_used_size") >> 20,
        "up_days": number("core:timestamp") / 86_400,
        "up_hours": number("core:timestamp") / 3_600 % 24,
        "up_minutes": number("core:timestamp") / 60 % 60,
        "ready": status["Readiness"],
        "hops": hop_counts(&hops),
        "certificates": backend.mi("tls_list", json!({})).await.unwrap_or(json!([])),
        "nodes": nodes,
        "limits": met,
        "refusals": refusals(shared, asked.language),
        "charts": shared.history.charts(|name| shared.templates.word(asked.language, &format!("chart.{name}"))),
    });
    Ok(Made { template: "now.html", title: "now", data })
}

/// The refusals, each with its reason in the page's language.
fn refusals(shared: &Shared, language: Language) -> Vec<Value> {
    let mut shown = shared.refusals.shown();
    if language != Language::English {
        for one in &mut shown {
            let word = one["word"].as_str().unwrap_or_default();
            one["text"] = Explanation::of(word).map_or(Value::Null, |entry| {
                let [what, ..] = entry.texts(language, &Names::EXAMPLE);
                what.trim_end_matches('。').into()
            });
        }
    }
    shown
}

/// What is wrong, with a link to where it is seen and mended.
fn problems(all: &Value) -> Vec<Value> {
    let link = |one: &Value| match one["AOR"].as_str() {
        Some(aor) => Some(format!("/extensions/{}", encoded(aor))),
        None => one["Hop"].as_str().map(|_| "/routes".to_string()),
    };
    let problem = |one: &Value| json!({ "problem": one["Problem"], "do": one["Do"], "link": link(one) });
    all.as_array().into_iter().flatten().map(problem).collect()
}

/// How many next hops there are, and how many take calls.
fn hop_counts(listed: &Value) -> Value {
    let sets = listed["PARTITIONS"][0]["SETS"].as_array().into_iter().flatten();
    let states: Vec<&str> = sets
        .flat_map(|set| set["Destinations"].as_array().into_iter().flatten())
        .filter_map(|hop| hop["state"].as_str())
        .collect();
    let up = states.iter().filter(|state| **state == "Active").count();
    json!({ "all": states.len(), "up": up })
}

/// What a reason means.
pub(crate) fn reason(shared: &Shared, asked: &Asked, name: &str) -> Result<Made, Failed> {
    let entry = Explanation::of(name).ok_or(Failed::NotFound)?;
    let explained = entry.to_json(asked.language);
    let shown = shared.refusals.shown();
    let hit = shown.into_iter().find(|one| one["word"] == name);
    Ok(Made { template: "reason.html", title: "reason", data: json!({ "reason": explained, "hit": hit }) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::templates::Templates;

    #[test]
    fn every_limit_has_its_words() {
        let templates = Templates::new().unwrap();
        for name in LIMITS {
            assert!(templates.has_word(&format!("limit.{name}")), "{name}");
        }
    }
}
