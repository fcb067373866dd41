//! What is wrong now.

use std::collections::BTreeMap;

use roost_core::{Admin, AdminReply, Gone, HopState, ShardId};
use roost_recorder::{Facts, Life, Recorder, What, call_word, verdict};
use serde_json::{Value, json};

use crate::Mi;
use crate::ask::ask;
use crate::health::why_not_ready;
use crate::rpc::RpcError;
use crate::statistics;
use crate::why::extension::{Situation, contacts};

/// Extensions that may be in trouble and are looked at, who was heard of last first.
const LOOKED_AT: usize = 2_000;
/// Names of extensions that are told of each trouble.
const NAMED: usize = 3;

/// Something that is wrong: how bad (0 is worst), what, what to do.
type Problem = (u8, String, String);

/// What is wrong now, the worst first.
pub(super) async fn system(
    mi: &Mi,
    recorder: &Recorder,
    now_ms: u64,
    since_ms: u64,
) -> Result<Value, RpcError> {
    let mut problems: Vec<Problem> = Vec::new();
    if let Some(why) = why_not_ready(mi).await {
        problems.push((0, format!("roost is not ready: {why}."), "roost db check".to_string()));
    }
    if let AdminReply::Hops(hops, _) = ask(mi, ShardId(0), Admin::Hops).await? {
        for hop in hops.hops().iter().filter(|hop| hop.state != HopState::Active) {
            let state = if hop.state == HopState::Probing { "does not answer" } else { "is taken out" };
            let text = format!("The next hop {} of set {} {state}.", hop.uri.text, hop.set);
            problems.push((1, text, "roost ds list".to_string()));
        }
    }
    let certificates = mi.certificates.as_ref().map(|certificates| (certificates.list)());
    for one in certificates.iter().filter_map(Value::as_array).flatten() {
        if let (Some(name), Some(days)) = (one["name"].as_str(), one["days_left"].as_i64())
            && days < 14
        {
            let text = format!("The certificate {name} is good for {days} days.");
            problems.push((1, text, "renew its files; roost tls reload".to_string()));
        }
    }
    for (name, value, help) in statistics::losses(mi).await? {
        problems.push((
            2,
            format!("{name} is {value} since the start: {help}."),
            format!("roost stats {name}"),
        ));
    }
    problems.extend(troubled(mi, recorder, now_ms, since_ms).await?);
    problems.sort_by_key(|(severity, ..)| *severity);
    let verdict = match problems.len() {
        0 => "Nothing is wrong.".to_string(),
        1 => "One thing is wrong.".to_string(),
        count => format!("{count} things are wrong, the worst first."),
    };
    let shown: Vec<_> =
        problems.into_iter().map(|(_, text, remedy)| json!({ "Problem": text, "Do": remedy })).collect();
    Ok(json!({ "Verdict": verdict, "Problems": shown }))
}

/// Extensions that something is wrong with, as their verdicts say, by what it is.
async fn troubled(
    mi: &Mi,
    recorder: &Recorder,
    now_ms: u64,
    since_ms: u64,
) -> Result<Vec<Problem>, RpcError> {
    let situation = Situation::now(mi, now_ms).await?;
    let mut by_word: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let suspects = recorder.find(LOOKED_AT, |_, life| is_suspect(life, since_ms));
    let is_capped = suspects.len() == LOOKED_AT;
    for (name, life) in suspects {
        let Ok(aor) = String::from_utf8(name.into_vec()) else { continue };
        let contacts = contacts(mi, &aor).await?;
        let facts = Facts { contacts: &contacts, life: Some(&life), ..situation.facts(mi, &aor) };
        by_word.entry(verdict(&facts).word).or_default().push(aor);
    }
    let told = by_word.into_iter().filter_map(|(word, names)| {
        let (severity, one, many) = trouble(&word)?;
        let is_are = if names.len() == 1 { one } else { many };
        let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = match names.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let least = if is_capped { "at least " } else { "" };
        let text = format!("{least}{} {is_are} ({word}): {shown}{more}.", names.len());
        Some((severity, text, format!("roost why {}", names.first()?)))
    });
    Ok(told.collect())
}

/// Whether something has happened since then that may be a trouble.
fn is_suspect(life: &Life, since_ms: u64) -> bool {
    let is_bad = |what: What| match what {
        What::Refused { is_register, .. } | What::Challenged { is_register, .. } => is_register,
        What::NotStored | What::Banned { .. } | What::FlowLost | What::PingsLost(_) => true,
        What::Refreshed { least_left_ms, .. } => least_left_ms < 0,
        What::Gone(why) => why != Gone::Unregistered,
        What::WasCalled(outcome) => call_word(&outcome).is_some_and(|word| NO_ANSWER.contains(&word)),
        What::Registered | What::CalledOthers(_) | What::CallRefused { .. } => false,
    };
    life.notes().any(|note| note.last_ms >= since_ms && is_bad(note.what))
}

/// Words of calls that a phone did not answer at all.
const NO_ANSWER: [&str; 2] = ["no-response", "not-sent"];

/// How bad a verdict is, and what is said of one extension and of several; `None`: nothing is wrong.
fn trouble(word: &str) -> Option<(u8, &'static str, &'static str)> {
    Some(match word {
        "fine" | "unregistered" | "removed" | "replaced" => return None,
        "no-response" | "not-sent" => {
            (3, "extension does not answer calls", "extensions do not answer calls")
        }
        "two-phones" => (3, "extension is used by two phones", "extensions are used by two phones each"),
        "node-down" => (
            1,
            "extension has its phone at a node that is down",
            "extensions have their phones at a node that is down",
        ),
        "method-mask" => (4, "extension takes no calls", "extensions take no calls"),
        "refreshes-late" => (4, "extension refreshes late", "extensions refresh late"),
        "refreshes-often" => (4, "extension refreshes all too often", "extensions refresh all too often"),
        "no-credentials" => (
            4,
            "extension has not come back with its password",
            "extensions have not come back with their passwords",
        ),
        "pings-lost" => (4, "extension does not answer pings", "extensions do not answer pings"),
        "flow-lost" | "connection-gone" | "expired" => (5, "extension is gone", "extensions are gone"),
        "unknown-user"
        | "unknown-user-hidden"
        | "similar-name"
        | "banned-source"
        | "too-many-unknown-names" => (3, "name is refused", "names are refused"),
        _ => (3, "extension is refused", "extensions are refused"),
    })
}
