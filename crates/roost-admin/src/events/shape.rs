//! What each event is called and says: OpenSIPS's names and parameters, in its order, and roost's own.

use std::borrow::Cow;
use std::time::Duration;

use roost_core::{
    CallEnd, CallNumber, CallRecord, CallState, CallText, ContactFacts, Event, EventKind, HopState, Reason,
    Topics,
};
use serde::Serialize;

use crate::events::unix_ms;
use crate::shapes::TABLE;

/// What has happened outside of the core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShellEvent {
    /// Something took longer than its threshold: what (`dns`, `mysql query`), for how long, and about what.
    Slow { source: &'static str, took: Duration, extra: String },
    /// The database takes nothing any more, or does again.
    Database { is_away: bool },
    /// A certificate was read anew, or could not be.
    Certificate { file: String, days_left: i64, error: Option<String> },
}

/// An event's name, and what the core must tell for it.
pub(crate) type Type = (&'static str, Topics);

const REFUSED: Topics = Topics::of(EventKind::Refusal(Reason::UnknownUser));
const NEW: Topics = Topics::of(EventKind::NewBinding);
const LOSS: Topics = Topics::of(EventKind::Loss);
const CALLS: Topics = Topics::of(EventKind::CallRecord).and(Topics::of(EventKind::CallState));

/// All, in the order of their numbers.
pub(crate) const TYPES: [Type; 17] = [
    ("E_UL_AOR_INSERT", NEW),
    ("E_UL_AOR_DELETE", LOSS),
    ("E_UL_CONTACT_INSERT", NEW),
    ("E_UL_CONTACT_UPDATE", Topics::of(EventKind::Renewal)),
    ("E_UL_CONTACT_DELETE", LOSS),
    ("E_PIKE_BLOCKED", Topics::of(EventKind::Flood)),
    ("E_DLG_STATE_CHANGED", CALLS),
    ("E_DISPATCHER_STATUS", Topics::of(EventKind::Hop)),
    ("E_CORE_THRESHOLD", Topics::of(EventKind::Slow)),
    ("E_ROOST_REFUSED", REFUSED),
    ("E_ROOST_AGENT_STATE", Topics::of(EventKind::Agent)),
    ("E_ROOST_BANNED", Topics::of(EventKind::Ban)),
    ("E_ROOST_NOT_STORED", LOSS),
    ("E_ROOST_FLOW_LOST", LOSS),
    ("E_ROOST_PINGS_LOST", LOSS),
    ("E_ROOST_CERTIFICATE", Topics::NONE),
    ("E_ROOST_DATABASE", Topics::NONE),
];

/// The event of this name.
pub(crate) fn type_named(name: &str) -> Option<Type> {
    TYPES.into_iter().find(|(known, _)| *known == name)
}

/// Takes an event's name, the extensions that it is about (an empty one is none), and its parameters.
type Take<'t> = &'t mut dyn FnMut(&'static str, &[&[u8]], &dyn Json);

/// Parameters: an object.
pub(crate) trait Json {
    /// Appends it.
    fn write(&self, out: &mut Vec<u8>);
}

impl<T: Serialize> Json for T {
    fn write(&self, out: &mut Vec<u8>) {
        let _ = serde_json::to_writer(out, self);
    }
}

#[derive(Serialize)]
struct Aor<'a> {
    domain: &'static str,
    aor: &'a str,
}

#[derive(Serialize)]
struct Contact<'a> {
    domain: &'static str,
    aor: &'a str,
    uri: Cow<'a, str>,
    received: Cow<'a, str>,
    path: Cow<'a, str>,
    qval: i32,
    user_agent: Cow<'a, str>,
    socket: Cow<'a, str>,
    bflags: u32,
    expires: u64,
    callid: Cow<'a, str>,
    cseq: u32,
    attr: &'static str,
    latency: u32,
    shtag: &'static str,
}

/// A call's new state. Four of them make a call, so they are not written field by field through serde.
struct Dialog<'a> {
    record: &'a CallRecord,
    old: CallState,
    end: Option<CallEnd>,
}

impl Json for Dialog<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let Dialog { record, old, end } = *self;
        let is_plain = record.texts.is_plain();
        let mut id = [0; CallNumber::ID_LEN];
        out.extend_from_slice(b"{\"id\":\"");
        out.extend_from_slice(record.number.id_in(&mut id).as_bytes());
        out.extend_from_slice(b"\",\"db_id\":");
        Json::write(&record.number.as_number(), out);
        let text = |name: &str, part: CallText, out: &mut Vec<u8>| {
            out.extend_from_slice(name.as_bytes());
            match is_plain {
                true => {
                    out.push(b'"');
                    out.extend_from_slice(record.text(part));
                    out.push(b'"');
                }
                false => Json::write(&record.utf8(part), out),
            }
        };
        text(",\"callid\":", CallText::CallId, out);
        text(",\"from_tag\":", CallText::CallerTag, out);
        text(",\"to_tag\":", CallText::CalleeTag, out);
        // Both are digits.
        out.extend_from_slice(b",\"old_state\":");
        out.push(b'0' + old as u8);
        out.extend_from_slice(b",\"new_state\":");
        out.push(b'0' + record.state as u8);
        text(",\"from_uri\":", CallText::CallerUri, out);
        text(",\"to_uri\":", CallText::CalleeUri, out);
        text(",\"caller_aor\":", CallText::CallerAor, out);
        text(",\"callee_aor\":", CallText::CalleeAor, out);
        // How it has ended; empty while it has not.
        out.extend_from_slice(b",\"end\":\"");
        out.extend_from_slice(end.map_or("", CallEnd::as_str).as_bytes());
        out.push(b'"');
        // The status code that the caller was given, where it was not answered.
        if let Some(CallEnd::Failed(code)) = end {
            out.extend_from_slice(b",\"code\":");
            Json::write(&code, out);
        }
        out.push(b'}');
    }
}

#[derive(Serialize)]
struct Refused<'a> {
    method: Cow<'a, str>,
    aor: &'a str,
    source: String,
    transport: &'static str,
    user_agent: Cow<'a, str>,
    code: u16,
    reason: &'static str,
    /// The reason's name, as `roost explain` takes it.
    word: String,
}

#[derive(Serialize)]
struct Agent<'a> {
    aor: &'a str,
    state: &'static str,
    ringing: u32,
    in_use: u32,
}

#[derive(Serialize)]
struct Banned<'a> {
    source: Option<String>,
    aor: &'a str,
    seconds: u64,
}

#[derive(Serialize)]
struct Lost<'a> {
    aor: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u32>,
}

#[derive(Serialize)]
struct Pike {
    ip: String,
}

#[derive(Serialize)]
struct Hop<'a> {
    group: u32,
    address: &'a str,
    status: &'static str,
}

#[derive(Serialize)]
struct Certificate<'a> {
    certificate: &'a str,
    days_left: i64,
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct Threshold<'a> {
    source: &'static str,
    /// Microseconds.
    time: u64,
    extra: Cow<'a, str>,
}

#[derive(Serialize)]
struct Database {
    status: &'static str,
}

/// Names and writes what an event of the core is for tools.
pub(crate) fn describe(event: &Event, max_calls: u32, take: Take<'_>) {
    match event {
        Event::Registered { aor, contact, is_new, is_first } => {
            let aor = &*text(aor);
            if *is_first {
                take("E_UL_AOR_INSERT", &[aor.as_bytes()], &Aor { domain: TABLE, aor });
            }
            let name = if *is_new { "E_UL_CONTACT_INSERT" } else { "E_UL_CONTACT_UPDATE" };
            take(name, &[aor.as_bytes()], &contact_of(aor, contact));
        }
        Event::Unregistered { aor, contact, is_last, .. } => {
            let aor = &*text(aor);
            take("E_UL_CONTACT_DELETE", &[aor.as_bytes()], &contact_of(aor, contact));
            if *is_last {
                take("E_UL_AOR_DELETE", &[aor.as_bytes()], &Aor { domain: TABLE, aor });
            }
        }
        Event::Dialog { record, old, end } => {
            let parties = [CallText::CallerAor, CallText::CalleeAor].map(|part| record.text(part));
            take("E_DLG_STATE_CHANGED", &parties, &Dialog { record, old: *old, end: *end });
        }
        Event::Agent { aor, calls, is_reached } => {
            let aor = &*text(aor);
            let state = calls.state(*is_reached, max_calls);
            let agent = Agent { aor, state, ringing: calls.ringing, in_use: calls.in_use };
            take("E_ROOST_AGENT_STATE", &[aor.as_bytes()], &agent);
        }
        Event::Refused { asked, code, reason } => {
            let aor = text(&asked.user);
            let refused = Refused {
                method: text(&asked.method),
                aor: &aor,
                source: asked.flow.remote.to_string(),
                transport: asked.flow.transport.as_str(),
                user_agent: text(&asked.user_agent),
                code: *code,
                reason: reason.why(),
                word: reason.word(),
            };
            take("E_ROOST_REFUSED", &[aor.as_bytes()], &refused);
        }
        Event::Banned(ban) => {
            let aor = text(&ban.user);
            let source = ban.source.map(|source| source.to_string());
            take("E_ROOST_BANNED", &[aor.as_bytes()], &Banned { source, aor: &aor, seconds: ban.left_s });
        }
        Event::Flooded { source } => take("E_PIKE_BLOCKED", &[], &Pike { ip: source.to_string() }),
        Event::Slow { waited_ms, message } => {
            slow(("msg processing", waited_ms * 1_000), String::from_utf8_lossy(message), take);
        }
        Event::Hop { set, uri, state } => {
            let status = if *state == HopState::Active { "active" } else { "inactive" };
            take("E_DISPATCHER_STATUS", &[], &Hop { group: *set, address: uri, status });
        }
        Event::CommitFailed { aor } => lost("E_ROOST_NOT_STORED", aor, None, take),
        Event::FlowLost { aor, .. } => lost("E_ROOST_FLOW_LOST", aor, None, take),
        Event::PingsLost { aor, lost: pings, .. } => lost("E_ROOST_PINGS_LOST", aor, Some(*pings), take),
        Event::Challenged { .. } | Event::Refreshed { .. } | Event::Call { .. } | Event::Exchange(_) => {}
    }
}

/// Something took longer than its threshold.
fn slow((source, time): (&'static str, u64), extra: Cow<'_, str>, take: Take<'_>) {
    take("E_CORE_THRESHOLD", &[], &Threshold { source, time, extra });
}

/// The same for what has happened outside of the core.
pub(crate) fn describe_shell(event: &ShellEvent, take: Take<'_>) {
    match event {
        ShellEvent::Slow { source, took, extra } => {
            slow((source, took.as_micros() as u64), extra.into(), take);
        }
        ShellEvent::Database { is_away } => {
            take("E_ROOST_DATABASE", &[], &Database { status: if *is_away { "away" } else { "back" } });
        }
        ShellEvent::Certificate { file, days_left, error } => {
            let certificate =
                Certificate { certificate: file, days_left: *days_left, error: error.as_deref() };
            take("E_ROOST_CERTIFICATE", &[], &certificate);
        }
    }
}

fn lost(name: &'static str, aor: &[u8], lost: Option<u32>, take: Take<'_>) {
    let aor = &*text(aor);
    take(name, &[aor.as_bytes()], &Lost { aor, lost });
}

fn contact_of<'a>(aor: &'a str, contact: &'a ContactFacts) -> Contact<'a> {
    let now_s = unix_ms() / 1000;
    let or_none =
        |text_: &Option<Box<[u8]>>| text_.as_deref().map_or(String::new(), |one| text(one).into_owned());
    Contact {
        domain: TABLE,
        aor,
        uri: text(&contact.uri),
        received: or_none(&contact.received).into(),
        path: text(&contact.path),
        // From 0 to 10; -1: it says none.
        qval: contact.q.map_or(-1, |q| i32::from(q / 100)),
        user_agent: text(&contact.user_agent),
        socket: or_none(&contact.socket).into(),
        bflags: 0,
        expires: contact.expires_s.map_or(0, |left_s| now_s + left_s),
        callid: text(&contact.callid),
        cseq: contact.cseq,
        attr: "",
        latency: 0,
        shtag: "",
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use roost_core::{CallSide, CallTexts};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_call_is_json_whatever_its_texts_are() {
        for call_id in [&b"a84b4c76@h"[..], br#"a"b\"#, b"a\xffb", b"\x7f\x01", "\u{8bdd}".as_bytes()] {
            let mut texts = CallTexts::default();
            let given = [
                (CallText::CallId, call_id),
                (CallText::CallerAor, b"9001"),
                (CallText::CallerUri, b"sip:9001@h"),
                (CallText::CallerTag, b"1"),
                (CallText::CalleeUri, b"sip:9002@h"),
                (CallText::CalleeTag, b"2"),
            ];
            texts.set(&mut Vec::new(), &given);
            let record = CallRecord {
                number: CallNumber::of_id("0a000100000002000f").unwrap(),
                state: CallState::Deleted,
                begun_s: 1,
                answered_s: None,
                lasted_ms: 0,
                until_s: None,
                caller: CallSide::default(),
                callee: CallSide::default(),
                texts,
            };
            let end = Some(CallEnd::Failed(486));
            let event = Event::Dialog { record, old: CallState::Early, end };
            let mut told = Vec::new();
            describe(&event, 0, &mut |name, about, params| {
                let mut text = Vec::new();
                params.write(&mut text);
                told.push((name, about.concat(), serde_json::from_slice::<Value>(&text).unwrap()));
            });
            let expected = json!({
                "id": "0a000100000002000f", "db_id": (1_u64 << 48) | (2 << 16) | 15,
                "callid": String::from_utf8_lossy(call_id), "from_tag": "1", "to_tag": "2",
                "old_state": 2, "new_state": 5, "from_uri": "sip:9001@h", "to_uri": "sip:9002@h",
                "caller_aor": "9001", "callee_aor": "", "end": "failed", "code": 486,
            });
            assert_eq!(told, [("E_DLG_STATE_CHANGED", b"9001".to_vec(), expected)]);
        }
    }
}
