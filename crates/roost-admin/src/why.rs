//! `why`: why an extension is offline, why a call failed, what is wrong now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use roost_core::{Admin, AdminReply, Ban, ContactRecord, HopState, Reason, ShardId};
use roost_recorder::{
    Explanation, Facts, Language, Life, Note, Recorder, Verdict, What, call_word, call_words, clock,
    note_words, refusal_words, verdict,
};
use serde_json::{Value, json};

use crate::Mi;
use crate::ask::{ask, ask_owner, shards, stored_aor};
use crate::health::why_not_ready;
use crate::rpc::{Params, RpcError};
use crate::statistics;
use crate::{ExtensionQuery, Read};

/// Names that are told as like another at most.
const SIMILAR: usize = 3;
/// Subscribers that are looked through for these.
const LIKE_SEARCHED: usize = 1_000;
/// Extensions that are looked through for what is wrong now.
const LOOKED_AT: usize = 10_000;
/// What is longer ago is not wrong now, in milliseconds.
const LATELY_MS: u64 = 600_000;

/// How long events are on their way from a worker to the recorder.
const ON_ITS_WAY: Duration = Duration::from_millis(60);

/// `why [AOR [OTHER]] [callid] [since]`; `since`, in milliseconds of unix time: what is older is not told.
pub(crate) async fn why(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let recorder = mi.recorder.as_ref();
    let recorder =
        recorder.ok_or_else(|| RpcError::new(404, "nothing is recorded: `memory` in [recorder] is 0"))?;
    // What has just happened is on its way to the recorder.
    tokio::time::sleep(ON_ITS_WAY).await;
    let now_ms = unix_ms(SystemTime::now());
    if let Some(call_id) = params.filled_text("callid")? {
        let is_its = |note: &&Note| *note.call_id == *call_id;
        let found = recorder.find(1, |_, life| life.notes().any(|note| is_its(&note)));
        let (aor, life) =
            found.first().ok_or_else(|| RpcError::new(404, "no call of this Call-ID is remembered"))?;
        let note = life.notes().rev().find(is_its).ok_or_else(|| RpcError::new(404, "no such call"))?;
        return Ok(call(recorder, &String::from_utf8_lossy(aor), note, now_ms));
    }
    let since_ms = params.number("since")?.map(|since_ms| since_ms.max(0) as u64);
    let Some(aor) = params.filled_text("aor")? else {
        let lately_ms = since_ms.unwrap_or(now_ms.saturating_sub(LATELY_MS));
        return system(mi, recorder, lately_ms).await;
    };
    let aor = normal(mi, &aor)?;
    if let Some(other) = params.filled_text("other")? {
        let other = normal(mi, &other)?;
        let life = recorder.life(aor.as_bytes()).unwrap_or_default();
        let is_its = |note: &&Note| note.what.is_call() && *note.text == *other;
        let note = life.notes().rev().find(is_its);
        let note = note.ok_or_else(|| RpcError::new(404, "no call between the two is remembered"))?;
        return Ok(call(recorder, &aor, note, now_ms));
    }
    extension(mi, recorder, &aor, now_ms, since_ms.unwrap_or(0)).await
}

/// As tables have it.
pub(crate) fn normal(mi: &Mi, aor: &str) -> Result<String, RpcError> {
    let aor = aor.trim_start_matches("sip:");
    let missing = || {
        RpcError::new(400, "Domain missing in AOR").because(format!(
            "with use_domain an extension is {aor}@DOMAIN; `roost ul dump --brief` and `roost user list` show them"
        ))
    };
    stored_aor(mi, aor).map(str::to_string).ok_or_else(missing)
}

async fn extension(
    mi: &Mi,
    recorder: &Recorder,
    aor: &str,
    now_ms: u64,
    since_ms: u64,
) -> Result<Value, RpcError> {
    let contacts = contacts(mi, aor).await?;
    let bans = bans(mi).await?;
    let life = recorder.life(aor.as_bytes());
    let (exists, similar, mistaken) = named_like(mi, recorder, aor).await;
    let not_ready = why_not_ready(mi).await.unwrap_or_default();
    let found = verdict(&Facts {
        aor,
        now_ms,
        started_ms: unix_ms(mi.started),
        exists,
        contacts: &contacts,
        bans: &bans,
        life: life.as_ref(),
        similar: &similar,
        mistaken: &mistaken,
        elsewhere: &elsewhere(recorder, aor),
        is_database_away: not_ready.contains("database"),
        is_loading: not_ready.contains("being read"),
    });
    let Verdict { word, is_online, sentence, mut remedy } = found;
    if word != "fine" && recorder.failure(Some(aor.as_bytes()), None).is_some() {
        remedy.push(format!("roost trace --last {aor} shows the messages of its last failure"));
    }
    let code = Explanation::of(&word).map(Explanation::code);
    let notes = life.iter().flat_map(Life::notes).filter(|note| note.last_ms >= since_ms);
    let timeline = notes.map(|note| line(note, now_ms)).collect::<Vec<_>>();
    Ok(json!({
        "AOR": aor, "State": if is_online { "online" } else { "offline" }, "Code": code, "Reason": word, "Verdict": sentence, "Do": remedy,
        "Timeline": timeline,
    }))
}

fn line(note: &Note, now_ms: u64) -> Value {
    let mut shown = json!({
        "Time": clock(if note.count > 1 { note.last_ms } else { note.first_ms }, now_ms), "At": note.last_ms, "Event": note_words(note), "Count": note.count
    });
    if note.count > 1 {
        shown["Since"] = json!(clock(note.first_ms, now_ms));
    }
    if let Some(source) = note.source {
        let text = if source.port() == 0 { source.ip().to_string() } else { source.to_string() };
        shown["Source"] = json!(text);
    }
    if !note.call_id.is_empty() {
        shown["Call-ID"] = json!(note.call_id);
    }
    shown
}

/// Why a call ended as it did: who was tried, what each said, what the caller was told.
fn call(recorder: &Recorder, aor: &str, note: &Note, now_ms: u64) -> Value {
    let (is_caller, how, word) = match note.what {
        What::WasCalled(outcome) => (false, call_words(&outcome), call_word(&outcome).map(str::to_string)),
        What::CalledOthers(outcome) => (true, call_words(&outcome), call_word(&outcome).map(str::to_string)),
        What::CallRefused { code, reason, is_caller } => {
            (is_caller, refusal_words(code, reason), Some(reason.word()))
        }
        _ => (true, note_words(note), None),
    };
    let (caller, callee) = if is_caller { (aor, &*note.text) } else { (&*note.text, aor) };
    let sentence = format!("{caller} called {callee} at {}: {how}.", clock(note.first_ms, now_ms));
    let mut shown = json!({
        "Call-ID": note.call_id, "Caller": caller, "Callee": callee, "Verdict": sentence, "At": note.first_ms,
        "Do": Value::Array(Vec::new())
    });
    if let Some(entry) = word.as_deref().and_then(Explanation::of) {
        (shown["Code"], shown["Reason"]) = (json!(entry.code()), json!(entry.word));
        let [_, remedy, besides] = entry.texts(Language::English);
        let besides = Some(besides).filter(|text| !text.is_empty()).map(|text| format!("or: {text}"));
        shown["Do"] = std::iter::once(remedy.to_string()).chain(besides).collect();
    }
    let Some(failure) = recorder.failure(None, Some(note.call_id.as_bytes())) else { return shown };
    let tried = failure.branches().into_iter().map(|branch| {
        let (answer, after_ms) = branch
            .answer
            .map_or((Value::Null, Value::Null), |(answer, after_ms)| (json!(answer), json!(after_ms)));
        json!({
            "To": branch.remote.to_string(), "Transport": branch.transport.as_str(), "URI": branch.uri,
            "At": branch.at_ms, "Answer": answer, "AfterMs": after_ms,
        })
    });
    shown["Tried"] = tried.collect();
    shown["Answer"] = json!(failure.answer());
    if let Some(hints) = shown["Do"].as_array_mut() {
        hints.push(json!(format!("roost trace --last --call {} shows the messages", note.call_id)));
    }
    shown
}

async fn contacts(mi: &Mi, aor: &str) -> Result<Vec<ContactRecord>, RpcError> {
    match ask_owner(mi, aor.as_bytes(), Admin::Show { aor: aor.into() }).await? {
        AdminReply::Record(record) => Ok(record.contacts),
        _ => Ok(Vec::new()),
    }
}

async fn bans(mi: &Mi) -> Result<Vec<Ban>, RpcError> {
    let mut all = Vec::new();
    for shard in shards(mi) {
        if let AdminReply::Bans(own) = ask(mi, shard, Admin::Bans).await? {
            all.extend(own);
        }
    }
    Ok(all)
}

/// Whether there is such a subscriber, extensions whose names are one letter from it (or whose domain is another), and names
/// like it that do not exist and that phones register as.
async fn named_like(mi: &Mi, recorder: &Recorder, aor: &str) -> (Option<bool>, Vec<String>, Vec<String>) {
    let exists = read(&mi.tables.is_extension, aor.to_string()).await;
    let user = aor.split('@').next().unwrap_or(aor);
    let is_elsewhere = |name: &str| aor.contains('@') && name.split('@').next() == Some(user);
    let is_like = |name: &str| name != aor && (strsim::osa_distance(name, aor) == 1 || is_elsewhere(name));
    let mut similar = Vec::new();
    // One letter's difference leaves one half as it is.
    let parts = [user.get(..user.len() / 2), user.get(user.len() / 2..)];
    for part in parts.into_iter().flatten().filter(|part| part.len() >= 2) {
        let query = ExtensionQuery { after: None, search: Some(part.to_string()), limit: LIKE_SEARCHED };
        let found = read(&mi.tables.extensions, query).await.unwrap_or_default();
        similar.extend(found.into_iter().filter(|name| is_like(name)));
    }
    let heard = |wants: fn(&Note) -> bool| {
        let is_it = |name: &[u8], life: &Life| {
            std::str::from_utf8(name).is_ok_and(is_like) && life.notes().any(wants)
        };
        let found = recorder.find(SIMILAR, is_it).into_iter();
        found.map(|(name, _)| String::from_utf8_lossy(&name).into_owned()).collect::<Vec<_>>()
    };
    similar.extend(heard(|note| matches!(note.what, What::Registered | What::Refreshed { .. })));
    similar.sort();
    similar.dedup();
    similar.truncate(SIMILAR);
    let mistaken = heard(is_unknown).into_iter().filter(|name| !similar.contains(name));
    (exists, similar.clone(), mistaken.collect())
}

fn is_unknown(note: &Note) -> bool {
    matches!(note.what, What::Refused { reason: Reason::UnknownUser | Reason::UnknownUserHidden, .. })
}

async fn read<Asked: Send + 'static, Found: Send + 'static>(
    read: &Read<Asked, Found>,
    asked: Asked,
) -> Option<Found> {
    let read = Arc::clone(read);
    tokio::task::spawn_blocking(move || read(asked)).await.ok()?.ok()
}

/// The same user in other domains that do not have it, and that a phone registers as.
fn elsewhere(recorder: &Recorder, aor: &str) -> Vec<String> {
    let Some((user, _)) = aor.split_once('@') else { return Vec::new() };
    let is_other = |name: &[u8]| {
        name != aor.as_bytes() && name.split(|byte| *byte == b'@').next() == Some(user.as_bytes())
    };
    let found = recorder.find(SIMILAR, |name, life| is_other(name) && life.last().is_some_and(is_unknown));
    found.into_iter().map(|(name, _)| String::from_utf8_lossy(&name).into_owned()).collect()
}

/// What is wrong now, the worst first.
async fn system(mi: &Mi, recorder: &Recorder, since_ms: u64) -> Result<Value, RpcError> {
    let mut problems: Vec<(u8, String, String)> = Vec::new();
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
    for (word, (count, names)) in failing(recorder, since_ms) {
        let shown = names.join(", ");
        let more =
            if count > names.len() { format!(" and {} more", count - names.len()) } else { String::new() };
        let is_are = match (count, word.as_str()) {
            (1, "no-response" | "not-sent") => "extension does not answer calls",
            (_, "no-response" | "not-sent") => "extensions do not answer calls",
            (1, _) => "extension is refused",
            _ => "extensions are refused",
        };
        problems.push((
            3,
            format!("{count} {is_are} ({word}): {shown}{more}."),
            format!("roost why {}", names.first().map_or("", String::as_str)),
        ));
    }
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

/// Extensions whose last REGISTER was refused lately, by reason: how many, and some of them.
fn failing(recorder: &Recorder, since_ms: u64) -> BTreeMap<String, (usize, Vec<String>)> {
    let mut by_reason: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
    let is_failing = |life: &Life| {
        let last = life.last().filter(|note| note.last_ms >= since_ms)?;
        match last.what {
            What::Refused { reason, is_register: true, .. } => Some(reason.word()),
            What::NotStored => Some("not-stored".to_string()),
            What::WasCalled(outcome) => call_word(&outcome)
                .filter(|word| ["no-response", "not-sent"].contains(word))
                .map(str::to_string),
            _ => None,
        }
    };
    for (name, life) in recorder.find(LOOKED_AT, |_, life| is_failing(life).is_some()) {
        let Some(reason) = is_failing(&life) else { continue };
        let (count, names) = by_reason.entry(reason).or_default();
        *count += 1;
        if names.len() < SIMILAR {
            names.push(String::from_utf8_lossy(&name).into_owned());
        }
    }
    by_reason
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
