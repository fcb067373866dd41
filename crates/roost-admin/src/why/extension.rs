//! Why an extension is offline.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use roost_core::{Admin, AdminReply, Ban, ContactRecord};
use roost_recorder::{
    Explanation, Facts, Language, Life, Namesake, Note, Recorder, Verdict, argument, clock, note_words, say,
    verdict,
};
use serde_json::{Value, json};

use crate::ask::{ask, ask_owner, shards};
use crate::health::{NotReady, why_not_ready};
use crate::rpc::RpcError;
use crate::{ExtensionQuery, Mi, Read};

/// Names that are told as like another at most.
const SIMILAR: usize = 3;
/// Subscribers that are looked through for these.
const LIKE_SEARCHED: usize = 1_000;

/// What is the same for all extensions.
pub(super) struct Situation {
    now_ms: u64,
    language: Language,
    bans: Vec<Ban>,
    not_ready: Option<NotReady>,
    nodes_down: Vec<String>,
}

impl Situation {
    pub(super) async fn now(mi: &Mi, (now_ms, language): (u64, Language)) -> Result<Situation, RpcError> {
        let mut bans = Vec::new();
        for shard in shards(mi) {
            if let AdminReply::Bans(own) = ask(mi, shard, Admin::Bans).await? {
                bans.extend(own);
            }
        }
        let nodes = mi.nodes.as_ref().map(|nodes| nodes()).unwrap_or_default();
        let down = nodes["Nodes"].as_array().into_iter().flatten().filter(|node| node["State"] == "down");
        let nodes_down = down.filter_map(|node| node["Address"].as_str().map(str::to_string)).collect();
        Ok(Situation { now_ms, language, bans, not_ready: why_not_ready(mi).await, nodes_down })
    }

    /// Of an extension of which nothing is known.
    pub(super) fn facts<'a>(&'a self, mi: &Mi, aor: &'a str) -> Facts<'a> {
        let config = mi.config();
        let policy = &config.policy;
        Facts {
            language: self.language,
            aor,
            now_ms: self.now_ms,
            started_ms: unix_ms(mi.started),
            exists: None,
            contacts: &[],
            bans: &self.bans,
            life: None,
            similar: &[],
            mistaken: &[],
            elsewhere: &[],
            nodes_down: &self.nodes_down,
            is_database_away: self.not_ready == Some(NotReady::DatabaseAway),
            is_loading: self.not_ready == Some(NotReady::Loading),
            natping_interval_s: policy.nathelper.natping_interval_s,
            max_expires_s: policy.registrar.max_expires_s,
        }
    }
}

/// Why it is offline, or that it is not.
pub(super) async fn extension(
    mi: &Mi,
    recorder: &Recorder,
    aor: &str,
    (now_ms, language): (u64, Language),
    since_ms: u64,
) -> Result<Value, RpcError> {
    let contacts = contacts(mi, aor).await?;
    // Where bindings are shared: whether its phone is this node's.
    let is_here = contacts.iter().any(|contact| !contact.is_elsewhere());
    let life = recorder.life(aor.as_bytes());
    let (exists, similar, mistaken) = named_like(mi, recorder, aor).await;
    let situation = Situation::now(mi, (now_ms, language)).await?;
    let found = verdict(&Facts {
        exists,
        contacts: &contacts,
        life: life.as_ref(),
        similar: &similar,
        mistaken: &mistaken,
        elsewhere: &elsewhere(recorder, aor),
        ..situation.facts(mi, aor)
    });
    let Verdict { word, is_online, sentence, mut remedy } = found;
    if word != "fine" && recorder.failure(Some(aor.as_bytes()), None).is_some() {
        let own = argument(aor);
        remedy.push(say!(
            language,
            "roost trace --last {own} shows the messages of its last failure",
            "roost trace --last {own} 显示它最近一次失败的消息"
        ));
    }
    let code = Explanation::of(&word).map(Explanation::code);
    let notes = life.iter().flat_map(Life::notes).filter(|note| note.last_ms >= since_ms);
    let timeline = notes.map(|note| line(language, note, now_ms)).collect::<Vec<_>>();
    let mut answer = json!({
        "AOR": aor, "State": if is_online { "online" } else { "offline" }, "Code": code, "Reason": word, "Verdict": sentence, "Do": remedy,
        "Timeline": timeline,
    });
    if mi.nodes.is_some() {
        answer["Here"] = json!(is_here);
    }
    Ok(answer)
}

fn line(language: Language, note: &Note, now_ms: u64) -> Value {
    let mut shown = json!({
        "Time": clock(if note.count > 1 { note.last_ms } else { note.first_ms }, now_ms), "At": note.last_ms, "Event": note_words(language, note), "Count": note.count
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

/// Where it is registered.
pub(super) async fn contacts(mi: &Mi, aor: &str) -> Result<Vec<ContactRecord>, RpcError> {
    match ask_owner(mi, aor.as_bytes(), Admin::Show { aor: aor.into() }).await? {
        AdminReply::Record(record) => Ok(record.contacts),
        _ => Ok(Vec::new()),
    }
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
    let heard = |wants: fn(&Life) -> bool| {
        let is_it = |name: &[u8], life: &Life| std::str::from_utf8(name).is_ok_and(is_like) && wants(life);
        let found = recorder.find(SIMILAR, is_it).into_iter();
        found.map(|(name, _)| String::from_utf8_lossy(&name).into_owned()).collect::<Vec<_>>()
    };
    similar.extend(heard(Life::has_registered));
    similar.sort();
    similar.dedup();
    similar.truncate(SIMILAR);
    let mistaken = heard(Life::is_of_unknown_name).into_iter().filter(|name| !similar.contains(name));
    (exists, similar.clone(), mistaken.collect())
}

async fn read<Asked: Send + 'static, Found: Send + 'static>(
    read: &Read<Asked, Found>,
    asked: Asked,
) -> Option<Found> {
    let read = Arc::clone(read);
    tokio::task::spawn_blocking(move || read(asked)).await.ok()?.ok()
}

/// The same user in other domains that do not have it, and that a phone registers as.
fn elsewhere(recorder: &Recorder, aor: &str) -> Vec<Namesake> {
    let Some((user, _)) = aor.split_once('@') else { return Vec::new() };
    let is_other = |name: &[u8]| {
        name != aor.as_bytes() && name.split(|byte| *byte == b'@').next() == Some(user.as_bytes())
    };
    let found = recorder.find(SIMILAR, |name, life| is_other(name) && life.is_of_unknown_name());
    let named = found.into_iter().filter_map(|(name, life)| {
        Some(Namesake { name: String::from_utf8_lossy(&name).into_owned(), last: life.last()?.clone() })
    });
    named.collect()
}

/// In milliseconds of unix time.
pub(super) fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
