//! What each event is called and says: OpenSIPS's names and parameters, in its order, and roost's own.

use std::borrow::Cow;

use roost_core::{
    CallEnd, CallRecord, CallState, CallText, ContactFacts, Event, EventKind, HopState, Reason, Topics,
};
use serde::Serialize;

use crate::events::unix_ms;
use crate::shapes::TABLE;

/// What has happened outside of the core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShellEvent {
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
pub(crate) const TYPES: [Type; 16] = [
    ("E_UL_AOR_INSERT", NEW),
    ("E_UL_AOR_DELETE", LOSS),
    ("E_UL_CONTACT_INSERT", NEW),
    ("E_UL_CONTACT_UPDATE", Topics::of(EventKind::Renewal)),
    ("E_UL_CONTACT_DELETE", LOSS),
    ("E_PIKE_BLOCKED", Topics::of(EventKind::Flood)),
    ("E_DLG_STATE_CHANGED", CALLS),
    ("E_DISPATCHER_STATUS", Topics::of(EventKind::Hop)),
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

/// Takes an event's name, the extension that it is about, and its parameters.
type Take<'t> = &'t mut dyn FnMut(&'static str, &str, &dyn Json);

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

#[derive(Serialize)]
struct Dialog<'a> {
    id: String,
    db_id: u64,
    callid: Cow<'a, str>,
    from_tag: Cow<'a, str>,
    to_tag: Cow<'a, str>,
    old_state: u8,
    new_state: u8,
    from_uri: Cow<'a, str>,
    to_uri: Cow<'a, str>,
    caller_aor: Cow<'a, str>,
    callee_aor: Cow<'a, str>,
    /// How it has ended; empty while it has not.
    end: &'static str,
    /// The status code that the caller was given, where it was not answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
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
struct Database {
    status: &'static str,
}

/// Names and writes what an event of the core is for tools.
pub(crate) fn describe(event: &Event, max_calls: u32, take: Take<'_>) {
    match event {
        Event::Registered { aor, contact, is_new, is_first } => {
            let aor = &*text(aor);
            if *is_first {
                take("E_UL_AOR_INSERT", aor, &Aor { domain: TABLE, aor });
            }
            let name = if *is_new { "E_UL_CONTACT_INSERT" } else { "E_UL_CONTACT_UPDATE" };
            take(name, aor, &contact_of(aor, contact));
        }
        Event::Unregistered { aor, contact, is_last, .. } => {
            let aor = &*text(aor);
            take("E_UL_CONTACT_DELETE", aor, &contact_of(aor, contact));
            if *is_last {
                take("E_UL_AOR_DELETE", aor, &Aor { domain: TABLE, aor });
            }
        }
        Event::Dialog { record, old, end } => {
            take("E_DLG_STATE_CHANGED", &aor_of_call(record), &dialog(record, *old, *end));
        }
        Event::Agent { aor, calls, is_reached } => {
            let aor = &*text(aor);
            let state = calls.state(*is_reached, max_calls);
            let agent = Agent { aor, state, ringing: calls.ringing, in_use: calls.in_use };
            take("E_ROOST_AGENT_STATE", aor, &agent);
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
            };
            take("E_ROOST_REFUSED", &aor, &refused);
        }
        Event::Banned(ban) => {
            let aor = text(&ban.user);
            let source = ban.source.map(|source| source.to_string());
            take("E_ROOST_BANNED", &aor, &Banned { source, aor: &aor, seconds: ban.left_s });
        }
        Event::Flooded { source } => take("E_PIKE_BLOCKED", "", &Pike { ip: source.to_string() }),
        Event::Hop { set, uri, state } => {
            let status = if *state == HopState::Active { "active" } else { "inactive" };
            take("E_DISPATCHER_STATUS", "", &Hop { group: *set, address: uri, status });
        }
        Event::CommitFailed { aor } => lost("E_ROOST_NOT_STORED", aor, None, take),
        Event::FlowLost { aor, .. } => lost("E_ROOST_FLOW_LOST", aor, None, take),
        Event::PingsLost { aor, lost: pings, .. } => lost("E_ROOST_PINGS_LOST", aor, Some(*pings), take),
        Event::Challenged { .. } | Event::Call { .. } => {}
    }
}

/// The same for what has happened outside of the core.
pub(crate) fn describe_shell(event: &ShellEvent, take: Take<'_>) {
    match event {
        ShellEvent::Database { is_away } => {
            take("E_ROOST_DATABASE", "", &Database { status: if *is_away { "away" } else { "back" } });
        }
        ShellEvent::Certificate { file, days_left, error } => {
            let certificate =
                Certificate { certificate: file, days_left: *days_left, error: error.as_deref() };
            take("E_ROOST_CERTIFICATE", "", &certificate);
        }
    }
}

fn lost(name: &'static str, aor: &[u8], lost: Option<u32>, take: Take<'_>) {
    let aor = &*text(aor);
    take(name, aor, &Lost { aor, lost });
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

fn dialog(record: &CallRecord, old: CallState, end: Option<CallEnd>) -> Dialog<'_> {
    let part = |part: CallText| text(record.text(part));
    Dialog {
        id: record.number.id(),
        db_id: record.number.as_number(),
        callid: part(CallText::CallId),
        from_tag: part(CallText::CallerTag),
        to_tag: part(CallText::CalleeTag),
        old_state: old as u8,
        new_state: record.state as u8,
        from_uri: part(CallText::CallerUri),
        to_uri: part(CallText::CalleeUri),
        caller_aor: part(CallText::CallerAor),
        callee_aor: part(CallText::CalleeAor),
        end: end.map_or("", CallEnd::as_str),
        code: match end {
            Some(CallEnd::Failed(code)) => Some(code),
            _ => None,
        },
    }
}

/// The extensions of a call, both where both are some: a reader that wants the events of one asks whether it is among them.
fn aor_of_call(record: &CallRecord) -> String {
    let [caller, callee] = [CallText::CallerAor, CallText::CalleeAor].map(|part| text(record.text(part)));
    match (caller.is_empty(), callee.is_empty()) {
        (false, false) => format!("{caller} {callee}"),
        (true, _) => callee.into_owned(),
        _ => caller.into_owned(),
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
