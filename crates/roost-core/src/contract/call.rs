//! Calls as operators and listeners see them.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use serde::{Deserialize, Serialize};

use crate::base::flow::{Flow, ShardId, StoredFlow};

/// A call in progress of some process, shard and slot; it may have ended, and another may stand there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CallNumber {
    /// Tells processes apart.
    pub(crate) epoch: u8,
    pub shard: ShardId,
    pub(crate) slot: u32,
    /// Tells calls of one slot apart, for a while.
    pub(crate) serial: u16,
}

impl CallNumber {
    /// Length of the text of one, in bytes.
    pub const ID_LEN: usize = 18;

    /// The process that gave it.
    pub fn epoch(self) -> u8 {
        self.epoch
    }

    /// The shard that keeps it: after a restart there may be fewer.
    pub fn home(self, shards: u16) -> ShardId {
        ShardId(self.shard.0 % shards.max(1))
    }

    /// As text: `dlg_list`'s ID.
    pub fn id(self) -> String {
        self.id_in(&mut [0; CallNumber::ID_LEN]).to_owned()
    }

    /// The same, in given room.
    pub fn id_in(self, room: &mut [u8; CallNumber::ID_LEN]) -> &str {
        let CallNumber { epoch, shard, slot, serial } = self;
        let number = u128::from(epoch) << 64 | u128::from(shard.0) << 48 | u128::from(slot) << 16;
        let mut rest = number | u128::from(serial);
        for digit in room.iter_mut().rev() {
            *digit = b"0123456789abcdef"[(rest & 15) as usize];
            rest >>= 4;
        }
        std::str::from_utf8(room).unwrap_or_default()
    }

    /// As a number that fits JSON's: without the epoch.
    pub fn as_number(self) -> u64 {
        let CallNumber { shard, slot, serial, .. } = self;
        (u64::from(shard.0 & 0x1f) << 48) | (u64::from(slot) << 16) | u64::from(serial)
    }

    /// The call of such a text.
    pub fn of_id(id: &str) -> Option<CallNumber> {
        let part = |from: usize, to: usize| u32::from_str_radix(id.get(from..to)?, 16).ok();
        let number = CallNumber {
            epoch: part(0, 2)? as u8,
            shard: ShardId(part(2, 6)? as u16),
            slot: part(6, 14)?,
            serial: part(14, 18)? as u16,
        };
        (id.len() == CallNumber::ID_LEN).then_some(number)
    }
}

/// How far a call has come: OpenSIPS's numbers of dialog states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallState {
    /// Nobody rings yet.
    Unconfirmed = 1,
    /// Somebody rings.
    Early = 2,
    /// Answered, and the caller has not said yet that it knows.
    ConfirmedNotAcknowledged = 3,
    Confirmed = 4,
    Deleted = 5,
}

/// How a call has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// It was never answered: the status code that the caller was given.
    Failed(u16),
    /// One side has hung up.
    CallerHungUp,
    CalleeHungUp,
    /// An operator has ended it.
    Operator,
    /// A side did not know of it any more, or did not answer (`dialog.options_ping_interval`).
    CallerGone,
    CalleeGone,
    /// Nobody has refreshed its session (RFC 4028), or it lasted longer than `dialog.default_timeout`.
    Timeout,
}

/// Which text of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallText {
    CallId,
    /// The extension that calls, and the one that is called, as tables have them; empty for the others.
    CallerAor,
    CalleeAor,
    /// The URI of From, or of To.
    CallerUri,
    CallerTag,
    /// The URI of its Contact: its remote target.
    CallerContact,
    /// Route values between us and it, other than ours.
    CallerRoutes,
    CalleeUri,
    CalleeTag,
    CalleeContact,
    CalleeRoutes,
}

const PARTS: usize = CallText::CalleeRoutes as usize + 1;

impl CallText {
    /// All, in their order.
    pub const ALL: [CallText; PARTS] = [
        CallText::CallId,
        CallText::CallerAor,
        CallText::CalleeAor,
        CallText::CallerUri,
        CallText::CallerTag,
        CallText::CallerContact,
        CallText::CallerRoutes,
        CallText::CalleeUri,
        CallText::CalleeTag,
        CallText::CalleeContact,
        CallText::CalleeRoutes,
    ];
}

/// All texts of a call, behind one another. Copies share them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallTexts {
    bytes: Arc<[u8]>,
    /// Where each ends.
    ends: [u16; PARTS],
}

impl CallTexts {
    /// A text; empty when it is not known.
    pub fn get(&self, part: CallText) -> &[u8] {
        let at = part as usize;
        let end = |at: usize| self.ends.get(at).map_or(0, |end| usize::from(*end));
        let start = at.checked_sub(1).map_or(0, end);
        self.bytes.get(start..end(at)).unwrap_or(&[])
    }

    /// Whether each is also what it is between quotes in JSON: printable ASCII without quotes and backslashes.
    pub fn is_plain(&self) -> bool {
        // Without an early end it looks at many bytes at once.
        self.bytes
            .iter()
            .fold(true, |all, byte| all & (matches!(byte, b' '..=b'~') & (*byte != b'"') & (*byte != b'\\')))
    }

    /// Other texts for some parts, in their order. One that finds no room is left out: all together have as much as a
    /// message. What is in `scratch` goes.
    pub fn set(&mut self, scratch: &mut Vec<u8>, new: &[(CallText, &[u8])]) {
        let bytes = scratch;
        bytes.clear();
        let (mut ends, mut new, mut start) = ([0; PARTS], new.iter().peekable(), 0);
        for ((at, end), old_end) in ends.iter_mut().enumerate().zip(self.ends) {
            let old = start..usize::from(old_end);
            start = old.end;
            let text = match new.next_if(|(part, _)| *part as usize == at) {
                Some((_, text)) => text,
                None => self.bytes.get(old).unwrap_or(&[]),
            };
            if bytes.len() + text.len() <= usize::from(u16::MAX) {
                bytes.extend_from_slice(text);
            }
            *end = bytes.len() as u16;
        }
        *self = CallTexts { bytes: bytes.as_slice().into(), ends };
    }

    /// The texts of one side.
    pub fn side(&self, is_caller: bool) -> SideTexts<'_> {
        use CallText::{
            CalleeContact, CalleeRoutes, CalleeTag, CalleeUri, CallerContact, CallerRoutes, CallerTag,
            CallerUri,
        };
        let [uri, tag, contact, routes] = match is_caller {
            true => [CallerUri, CallerTag, CallerContact, CallerRoutes],
            false => [CalleeUri, CalleeTag, CalleeContact, CalleeRoutes],
        };
        SideTexts {
            uri: self.get(uri),
            tag: self.get(tag),
            contact: self.get(contact),
            routes: self.get(routes),
        }
    }
}

impl CallEnd {
    /// As records and events name it.
    pub fn as_str(self) -> &'static str {
        match self {
            CallEnd::Failed(487) => "cancelled",
            CallEnd::Failed(_) => "failed",
            CallEnd::CallerHungUp => "caller",
            CallEnd::CalleeHungUp => "callee",
            CallEnd::Operator => "operator",
            CallEnd::CallerGone => "caller_gone",
            CallEnd::CalleeGone => "callee_gone",
            CallEnd::Timeout => "timeout",
        }
    }
}

/// One side of a call, beside its texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallSide {
    /// The number of its last request; 0 before its first.
    pub cseq: u32,
    flow: Option<StoredFlow>,
}

impl CallSide {
    /// A side that was reached over `flow` last; `None` where that is not known yet.
    pub fn new(cseq: u32, flow: Option<Flow>) -> CallSide {
        CallSide { cseq, flow: flow.map(StoredFlow::from) }
    }

    /// How it was reached last; `None` where that is not known yet.
    pub fn flow(&self) -> Option<Flow> {
        self.flow.as_ref().map(StoredFlow::get)
    }

    pub(crate) fn set_flow(&mut self, flow: Flow) {
        self.flow = Some(flow.into());
    }
}

/// The texts of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideTexts<'a> {
    pub uri: &'a [u8],
    pub tag: &'a [u8],
    pub contact: &'a [u8],
    pub routes: &'a [u8],
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    pub number: CallNumber,
    pub state: CallState,
    /// Seconds of unix time.
    pub begun_s: u64,
    pub answered_s: Option<u64>,
    /// How long ago it was answered, in milliseconds; 0 before.
    pub lasted_ms: u64,
    /// When it ends by itself, in seconds of unix time; `None` before it is answered.
    pub until_s: Option<u64>,
    pub caller: CallSide,
    pub callee: CallSide,
    pub texts: CallTexts,
}

impl CallRecord {
    /// A text; empty when it is not known.
    pub fn text(&self, text: CallText) -> &[u8] {
        self.texts.get(text)
    }

    /// The same as UTF-8, with marks in place of what is none.
    pub fn utf8(&self, text: CallText) -> Cow<'_, str> {
        let bytes = self.text(text);
        // Nearly always it is, and this looks at more than a byte at a time.
        std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
    }

    /// The caller's side, or the callee's.
    pub fn side(&self, is_caller: bool) -> (&CallSide, SideTexts<'_>) {
        let side = if is_caller { &self.caller } else { &self.callee };
        (side, self.texts.side(is_caller))
    }
}

/// What a request inside a dialog says of its call, for the shard that keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallStepInDialog {
    pub(crate) number: CallNumber,
    /// A hash of the Call-ID, and of the tag of the callee's side: they tell this call from another of the number.
    pub(crate) call_id: u64,
    pub(crate) callee_tag: u64,
    pub(crate) heard: Heard,
}

/// What such a request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) is_from_caller: bool,
    pub(crate) kind: StepKind,
    pub(crate) cseq: u32,
    /// The sender's remote target, where the request may change it; else empty.
    pub(crate) contact: Box<[u8]>,
    /// Session-Expires, in seconds; 0: it says nothing.
    pub(crate) session_s: u32,
}

/// Which request it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepKind {
    Ack,
    Bye,
    /// A re-INVITE or an UPDATE.
    Refresh,
    Other,
}

/// The calls of an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AgentCalls {
    /// Calls to it that are not answered.
    pub ringing: u32,
    /// Calls that it is in, or makes.
    pub in_use: u32,
}

impl AgentCalls {
    /// What the extension is doing, by Asterisk's names of device states; `is_reached`: a call to it would ring; `most`: calls
    /// that it may have (`dialog.max_calls`), 0 for any number.
    pub fn state(self, is_reached: bool, most: u32) -> &'static str {
        match self {
            AgentCalls { ringing, in_use } if most != 0 && ringing + in_use >= most => "BUSY",
            AgentCalls { in_use: 1.., .. } => "INUSE",
            AgentCalls { ringing: 1.., .. } => "RINGING",
            _ if is_reached => "NOT_INUSE",
            _ => "UNAVAILABLE",
        }
    }
}

/// An AOR as tables have it: a usual one needs no memory of its own.
pub type AorText = SmallVec<[u8; 32]>;

/// How far a call of an extension has come, for the shard that counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentStep {
    /// It is called.
    Rings,
    /// It calls.
    Calls,
    Answers,
    RingsNoMore,
    HangsUp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_set_and_left() {
        let (mut texts, mut scratch) = (CallTexts::default(), Vec::new());
        texts.set(
            &mut scratch,
            &[(CallText::CallId, b"id"), (CallText::CalleeUri, b"sip:b"), (CallText::CalleeRoutes, b"r")],
        );
        texts.set(&mut scratch, &[(CallText::CallerTag, b"tag"), (CallText::CalleeUri, b"sip:bb")]);
        let got = [
            CallText::CallId,
            CallText::CallerTag,
            CallText::CallerUri,
            CallText::CalleeUri,
            CallText::CalleeRoutes,
        ]
        .map(|part| texts.get(part).to_vec());
        assert_eq!(got, [&b"id"[..], b"tag", b"", b"sip:bb", b"r"]);
        // Too much: the rest stays.
        let long = vec![b'x'; 65_535];
        texts.set(&mut scratch, &[(CallText::CalleeContact, &long)]);
        assert_eq!(
            (texts.get(CallText::CalleeContact), texts.get(CallText::CalleeRoutes)),
            (&b""[..], &b"r"[..])
        );
    }

    #[test]
    fn states_by_calls_and_bindings() {
        for (is_reached, ringing, in_use, most, expected) in [
            (false, 0, 0, 0, "UNAVAILABLE"),
            (true, 0, 0, 0, "NOT_INUSE"),
            (true, 1, 0, 0, "RINGING"),
            (true, 1, 1, 0, "INUSE"),
            (false, 0, 1, 0, "INUSE"),
            (true, 1, 1, 2, "BUSY"),
            (true, 0, 1, 2, "INUSE"),
        ] {
            assert_eq!(AgentCalls { ringing, in_use }.state(is_reached, most), expected);
        }
    }
}
