//! What the journal's lines say: calls, how they ended, and which records were taken.

use std::borrow::Cow;

use roost_core::{
    CallEnd, CallNumber, CallRecord, CallSide, CallState, CallText, CallTexts, Flow, Transport,
};
use serde::{Deserialize, Serialize};

/// One line of the journal, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// The key of the process's marks, in hexadecimal digits: with another one phones could not name their calls.
    Key(String),
    /// A call was answered.
    Answered(Box<StoredCall>),
    /// That call has ended.
    Ended(String),
    /// A record of an ended call that a sink has not taken yet.
    Record { sink: Cow<'static, str>, seq: u64, cdr: Box<Cdr<'static>> },
    /// A sink has taken all records up to this one.
    Taken { sink: Cow<'static, str>, seq: u64 },
}

/// A call that was answered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredCall {
    pub(super) id: String,
    begun_s: u64,
    answered_s: u64,
    until_s: u64,
    caller_cseq: u32,
    callee_cseq: u32,
    caller_flow: Option<StoredFlow>,
    callee_flow: Option<StoredFlow>,
    /// In the order of [`CallText::ALL`]; each byte is a character.
    texts: Vec<String>,
}

/// A flow without its connection, which ends with the process.
#[derive(Debug, Serialize, Deserialize)]
struct StoredFlow(String, std::net::SocketAddr, std::net::SocketAddr);

impl StoredFlow {
    fn of(side: &CallSide) -> Option<StoredFlow> {
        side.flow().map(|flow| StoredFlow(flow.transport.as_str().to_string(), flow.local, flow.remote))
    }

    fn get(&self) -> Option<Flow> {
        let transport = Transport::ALL.into_iter().find(|transport| transport.as_str() == self.0)?;
        Some(Flow { transport, local: self.1, remote: self.2, connection: 0 })
    }
}

impl StoredCall {
    pub(super) fn of(call: &CallRecord) -> StoredCall {
        StoredCall {
            id: call.number.id(),
            begun_s: call.begun_s,
            answered_s: call.answered_s.unwrap_or(0),
            until_s: call.until_s.unwrap_or(0),
            caller_cseq: call.caller.cseq,
            callee_cseq: call.callee.cseq,
            caller_flow: StoredFlow::of(&call.caller),
            callee_flow: StoredFlow::of(&call.callee),
            texts: CallText::ALL.iter().map(|text| to_text(call.text(*text)).into_owned()).collect(),
        }
    }

    /// The call again; `None` for what no roost has written.
    pub(super) fn get(&self) -> Option<CallRecord> {
        let texts: Vec<Vec<u8>> = self.texts.iter().map(|text| to_bytes(text)).collect::<Option<_>>()?;
        let pairs: Vec<(CallText, &[u8])> =
            CallText::ALL.into_iter().zip(texts.iter().map(Vec::as_slice)).collect();
        let mut all = CallTexts::default();
        all.set(&mut Vec::new(), &pairs);
        let side =
            |cseq, flow: &Option<StoredFlow>| CallSide::new(cseq, flow.as_ref().and_then(StoredFlow::get));
        Some(CallRecord {
            number: CallNumber::of_id(&self.id)?,
            state: CallState::Confirmed,
            begun_s: self.begun_s,
            answered_s: Some(self.answered_s),
            lasted_ms: 0,
            until_s: Some(self.until_s),
            caller: side(self.caller_cseq, &self.caller_flow),
            callee: side(self.callee_cseq, &self.callee_flow),
            texts: all,
        })
    }
}

/// The record of a call that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cdr<'a> {
    pub call_id: Cow<'a, str>,
    pub from_tag: Cow<'a, str>,
    pub to_tag: Cow<'a, str>,
    /// The URIs of From and To.
    pub caller: Cow<'a, str>,
    pub callee: Cow<'a, str>,
    /// The extensions among them, as tables have them; else empty.
    pub caller_aor: Cow<'a, str>,
    pub callee_aor: Cow<'a, str>,
    /// Seconds of unix time.
    pub begun_s: u64,
    pub answered_s: Option<u64>,
    pub ended_s: u64,
    /// From the answer to the end.
    pub lasted_ms: u64,
    /// The status code that the caller was given, and its phrase.
    pub code: u16,
    pub reason: Cow<'a, str>,
    /// Who or what has ended it.
    pub ended_by: Cow<'a, str>,
}

impl<'a> Cdr<'a> {
    /// The record of a call that ended so, at this time.
    pub(super) fn of(call: &'a CallRecord, end: CallEnd, ended_s: u64) -> Cdr<'a> {
        let text = |part: CallText| call.utf8(part);
        let code = match end {
            CallEnd::Failed(code) => code,
            _ => 200,
        };
        Cdr {
            call_id: text(CallText::CallId),
            from_tag: text(CallText::CallerTag),
            to_tag: text(CallText::CalleeTag),
            caller: text(CallText::CallerUri),
            callee: text(CallText::CalleeUri),
            caller_aor: text(CallText::CallerAor),
            callee_aor: text(CallText::CalleeAor),
            begun_s: call.begun_s,
            answered_s: call.answered_s,
            ended_s,
            lasted_ms: call.lasted_ms,
            code,
            reason: roost_sip::phrase(code).into(),
            ended_by: end.as_str().into(),
        }
    }

    /// The same with texts of its own.
    pub(super) fn into_owned(self) -> Cdr<'static> {
        let own = |text: Cow<'a, str>| Cow::Owned(text.into_owned());
        Cdr {
            call_id: own(self.call_id),
            from_tag: own(self.from_tag),
            to_tag: own(self.to_tag),
            caller: own(self.caller),
            callee: own(self.callee),
            caller_aor: own(self.caller_aor),
            callee_aor: own(self.callee_aor),
            begun_s: self.begun_s,
            answered_s: self.answered_s,
            ended_s: self.ended_s,
            lasted_ms: self.lasted_ms,
            code: self.code,
            reason: own(self.reason),
            ended_by: own(self.ended_by),
        }
    }

    /// Seconds from the INVITE to the answer, or to the end.
    pub fn setup_s(&self) -> u64 {
        self.answered_s.unwrap_or(self.ended_s).saturating_sub(self.begun_s)
    }

    /// Begun seconds of talking.
    pub fn duration_s(&self) -> u64 {
        self.lasted_ms.div_ceil(1000)
    }
}

/// Each byte as a character: nothing is lost, and ASCII stays readable.
fn to_text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii()) {
        Some(text) => Cow::Borrowed(text),
        None => Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect()),
    }
}

fn to_bytes(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|one| u8::try_from(u32::from(one)).ok()).collect()
}

#[cfg(test)]
pub(super) fn call(number: u32) -> CallRecord {
    let mut texts = CallTexts::default();
    let tag = number.to_string();
    texts.set(
        &mut Vec::new(),
        &[
            (CallText::CallId, b"call\xe9"),
            (CallText::CallerAor, b"9001"),
            (CallText::CallerUri, b"sip:9001@a.test"),
            (CallText::CallerTag, b"one"),
            (CallText::CalleeUri, b"sip:9002@a.test"),
            (CallText::CalleeTag, tag.as_bytes()),
            (CallText::CalleeRoutes, b"<sip:far.test;lr>"),
        ],
    );
    let flow = Flow::udp("10.0.0.1:5060".parse().unwrap(), "10.0.0.9:5062".parse().unwrap());
    CallRecord {
        number: CallNumber::of_id(&format!("070001{number:08x}0009")).unwrap(),
        state: CallState::Confirmed,
        begun_s: 1_800_000_000,
        answered_s: Some(1_800_000_005),
        lasted_ms: 0,
        until_s: Some(1_800_043_200),
        caller: CallSide::new(3, Some(flow)),
        callee: CallSide::default(),
        texts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_comes_back_as_it_was() {
        let stored = serde_json::to_string(&Line::Answered(StoredCall::of(&call(3)).into())).unwrap();
        let Line::Answered(again) = serde_json::from_str(&stored).unwrap() else { panic!("{stored}") };
        assert_eq!(again.get(), Some(call(3)));
    }
}
