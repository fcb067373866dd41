//! Why a call failed, and how one goes that is in progress.

use roost_core::{CallRecord, CallState, CallText};
use roost_recorder::{
    Explanation, Language, Names, Note, Recorder, What, argument, call_word, call_words, clock, note_words,
    refusal_words, say, shell_word,
};
use serde_json::{Value, json};

use crate::Mi;
use crate::ask::{self, shards};
use crate::rpc::RpcError;

/// The word of a call that has not ended.
const IN_PROGRESS: &str = "in-progress";

/// Of the call of a Call-ID.
pub(super) async fn of_id(
    mi: &Mi,
    recorder: &Recorder,
    call_id: &str,
    (now_ms, language): (u64, Language),
) -> Result<Value, RpcError> {
    let is_wanted = |call: &CallRecord| call.text(CallText::CallId) == call_id.as_bytes();
    if let Some(call) = in_progress(mi, is_wanted).await? {
        return Ok(going(language, &call, now_ms));
    }
    let is_its = |note: &&Note| note.what.is_call() && *note.call_id == *call_id;
    let found = recorder.find(1, |_, life| life.notes().any(|note| is_its(&note)));
    let found = found.first().and_then(|(aor, life)| Some((aor, life.notes().rev().find(is_its)?)));
    let (aor, note) = found.ok_or_else(|| RpcError::new(404, "no call of this Call-ID is remembered"))?;
    Ok(ended(recorder, &String::from_utf8_lossy(aor), note, (now_ms, language)))
}

/// Of the last call between two.
pub(super) async fn between(
    mi: &Mi,
    recorder: &Recorder,
    aor: &str,
    other: &str,
    (now_ms, language): (u64, Language),
) -> Result<Value, RpcError> {
    let is_side = |call: &CallRecord, own: CallText, uri: CallText, name: &str| {
        is_named(&call.utf8(own), name) || is_named(&call.utf8(uri), name)
    };
    let is_wanted = |call: &CallRecord| {
        let is_from_to = |caller: &str, callee: &str| {
            is_side(call, CallText::CallerAor, CallText::CallerUri, caller)
                && is_side(call, CallText::CalleeAor, CallText::CalleeUri, callee)
        };
        is_from_to(aor, other) || is_from_to(other, aor)
    };
    if let Some(call) = in_progress(mi, is_wanted).await? {
        return Ok(going(language, &call, now_ms));
    }
    let life = recorder.life(aor.as_bytes()).unwrap_or_default();
    let note = life.notes().rev().find(|note| note.what.is_call() && is_named(&note.text, other));
    let note = note.ok_or_else(|| RpcError::new(404, "no call between the two is remembered"))?;
    Ok(ended(recorder, aor, note, (now_ms, language)))
}

/// Whether an AOR or a URI is what an operator calls so.
fn is_named(text: &str, name: &str) -> bool {
    let bare = text.trim_start_matches("sips:").trim_start_matches("sip:");
    bare == name || text != bare && bare.split(['@', ';']).next() == Some(name)
}

/// The call in progress that `is_wanted`, the one that began last.
async fn in_progress(
    mi: &Mi,
    is_wanted: impl Fn(&CallRecord) -> bool,
) -> Result<Option<CallRecord>, RpcError> {
    let mut found: Option<CallRecord> = None;
    for shard in shards(mi) {
        let mut place = Some(0);
        while let Some(at) = place {
            let (calls, next) = ask::calls(mi, shard, at).await?;
            let wanted = calls.into_iter().map(|(_, call)| call);
            let wanted = wanted.filter(|call| call.state != CallState::Deleted && is_wanted(call));
            found = found.into_iter().chain(wanted).max_by_key(|call| call.begun_s);
            place = next;
        }
    }
    Ok(found)
}

/// What is told of a call in progress.
fn going(language: Language, call: &CallRecord, now_ms: u64) -> Value {
    let name = |aor: CallText, uri: CallText| match call.utf8(aor) {
        aor if aor.is_empty() => call.utf8(uri).into_owned(),
        aor => aor.into_owned(),
    };
    let caller = name(CallText::CallerAor, CallText::CallerUri);
    let callee = name(CallText::CalleeAor, CallText::CalleeUri);
    let (how, since_s) = match (call.state, call.answered_s) {
        (CallState::Early, _) => (["it rings", "正在振铃"], call.begun_s),
        (_, Some(answered_s)) => (["they talk", "正在通话"], answered_s),
        _ => (["nothing has rung yet", "尚未振铃"], call.begun_s),
    };
    let lasted_s = (now_ms / 1000).saturating_sub(since_s);
    let begun_ms = call.begun_s * 1000;
    let (begun, [how, how_chinese]) = (clock(begun_ms, now_ms), how);
    let sentence = say!(
        language,
        "{caller} called {callee} at {begun}: {how}, for {lasted_s} s now.",
        "{caller} 于 {begun} 呼叫 {callee}：{how_chinese}，已 {lasted_s} 秒。"
    );
    let call_id = call.utf8(CallText::CallId);
    let hints = match call.state {
        CallState::Unconfirmed => {
            let (own, word) = (argument(&callee), shell_word(&call_id));
            vec![
                say!(
                    language,
                    "roost why {own} says whether its phone can be reached",
                    "roost why {own} 说明能否到达其话机"
                ),
                say!(
                    language,
                    "roost trace --call={word} shows what is sent from now on",
                    "roost trace --call={word} 显示此后发送的消息"
                ),
            ]
        }
        _ => Vec::new(),
    };
    json!({
        "Call-ID": call_id, "Caller": caller, "Callee": callee, "Verdict": sentence, "At": begun_ms, "Do": hints,
        "Code": Explanation::of(IN_PROGRESS).map(Explanation::code), "Reason": IN_PROGRESS,
    })
}

/// Why a call ended as it did: who was tried, what each said, what the caller was told.
fn ended(recorder: &Recorder, aor: &str, note: &Note, (now_ms, language): (u64, Language)) -> Value {
    let (is_caller, how, word) = match note.what {
        What::WasCalled(outcome) => {
            (false, call_words(language, &outcome), call_word(&outcome).map(str::to_string))
        }
        What::CalledOthers(outcome) => {
            (true, call_words(language, &outcome), call_word(&outcome).map(str::to_string))
        }
        What::CallRefused { code, reason, is_caller } => {
            (is_caller, refusal_words(language, code, reason), Some(reason.word()))
        }
        _ => (true, note_words(language, note), None),
    };
    let (caller, callee) = if is_caller { (aor, &*note.text) } else { (&*note.text, aor) };
    let at = clock(note.first_ms, now_ms);
    let sentence =
        say!(language, "{caller} called {callee} at {at}: {how}.", "{caller} 于 {at} 呼叫 {callee}：{how}。");
    let mut shown = json!({
        "Call-ID": note.call_id, "Caller": caller, "Callee": callee, "Verdict": sentence, "At": note.first_ms,
        "Do": Value::Array(Vec::new())
    });
    if let Some(entry) = word.as_deref().and_then(Explanation::of) {
        (shown["Code"], shown["Reason"]) = (json!(entry.code()), json!(entry.word));
        let address = source_of(recorder, caller, &note.call_id);
        let names = Names { extension: caller, callee, address: &address };
        let [_, remedy, besides] = entry.texts(language, &names);
        let besides = Some(besides)
            .filter(|text| !text.is_empty())
            .map(|text| say!(language, "or: {text}", "或：{text}"));
        shown["Do"] = std::iter::once(remedy).chain(besides).collect();
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
        let call_id = shell_word(&note.call_id);
        hints.push(json!(say!(
            language,
            "roost trace --last --call={call_id} shows the messages",
            "roost trace --last --call={call_id} 显示其消息"
        )));
    }
    shown
}

/// The IP address that a call came from, as its caller's notes have it; else a word that stands for it.
fn source_of(recorder: &Recorder, caller: &str, call_id: &str) -> String {
    let life = recorder.life(caller.as_bytes()).unwrap_or_default();
    let source = life.notes().rev().filter(|note| *note.call_id == *call_id).find_map(|note| note.source);
    source.map_or("ADDRESS".to_string(), |source| source.ip().to_string())
}
