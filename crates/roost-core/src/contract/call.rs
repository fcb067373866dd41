//! Calls as operators and listeners see them.

use crate::base::flow::{Flow, ShardId};

/// A call in progress of some process, shard and slot; it may have ended, and another may stand there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallNumber {
    /// Tells processes apart.
    pub(crate) epoch: u8,
    pub shard: ShardId,
    pub(crate) slot: u32,
    /// Tells calls of one slot apart, for a while.
    pub(crate) serial: u16,
}

impl CallNumber {
    /// As text: `dlg_list`'s ID.
    pub fn id(self) -> String {
        let CallNumber { epoch, shard, slot, serial } = self;
        format!("{:02x}{:04x}{slot:08x}{serial:04x}", epoch, shard.0)
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
        (id.len() == 18).then_some(number)
    }
}

/// How far a call has come: OpenSIPS's numbers of dialog states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Nobody has refreshed its session (RFC 4028), or it lasted longer than `dialog.default_timeout`.
    Timeout,
}

/// One side of a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallSide {
    /// The URI of From, or of To.
    pub uri: Box<[u8]>,
    pub tag: Box<[u8]>,
    /// The URI of its Contact: its remote target.
    pub contact: Box<[u8]>,
    /// Route values between us and it, other than ours.
    pub routes: Box<[u8]>,
    /// The number of its last request; 0 before its first.
    pub cseq: u32,
    /// How it was reached last; `None` where that is not known yet.
    pub flow: Option<Flow>,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    pub number: CallNumber,
    pub call_id: Box<[u8]>,
    pub state: CallState,
    /// Seconds of unix time.
    pub begun_s: u64,
    pub answered_s: Option<u64>,
    /// When it ends by itself, in seconds of unix time; `None` before it is answered.
    pub until_s: Option<u64>,
    pub caller: CallSide,
    pub callee: CallSide,
    /// The extension that calls, and the one that is called, as tables have them; empty for the others.
    pub caller_aor: Box<[u8]>,
    pub callee_aor: Box<[u8]>,
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
