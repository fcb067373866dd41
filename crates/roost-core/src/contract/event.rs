//! What has happened, for those who keep a record of it: one stream, in order, and free while no one listens.

use std::net::SocketAddr;

use crate::base::flow::Flow;
use crate::contract::ban::Ban;
use crate::contract::next_hops::HopState;
use crate::contract::reason::Reason;

/// One thing that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A request was answered with a challenge: 401 or 407.
    Challenged { asked: Asked, reason: Reason },
    /// A request was refused, with this status code.
    Refused { asked: Asked, code: u16, reason: Reason },
    /// A binding was added or renewed, and is durable where it must be.
    Registered {
        aor: Box<[u8]>,
        contact_id: u64,
        contact: Box<[u8]>,
        source: Option<SocketAddr>,
        user_agent: Box<[u8]>,
        /// Seconds; `None`: it never expires.
        expires_s: Option<u64>,
        is_new: bool,
    },
    /// A binding is gone.
    Unregistered { aor: Box<[u8]>, contact_id: u64, why: Gone },
    /// The database did not take the changes of an AOR.
    CommitFailed { aor: Box<[u8]> },
    /// The connection that a binding was made over is gone; the binding is not.
    FlowLost { aor: Box<[u8]>, contact_id: u64 },
    /// Somebody has guessed too often.
    Banned(Ban),
    /// A step of a call that is being set up.
    Call { call_id: Box<[u8]>, step: CallStep },
    /// A next hop has another state.
    Hop { set: u32, uri: Box<str>, state: HopState },
}

/// Who asked for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub method: Box<[u8]>,
    /// The user of To in a REGISTER, else of From; escapes as sent.
    pub user: Box<[u8]>,
    /// The host beside it.
    pub host: Box<[u8]>,
    pub flow: Flow,
    /// Empty when it names none.
    pub user_agent: Box<[u8]>,
}

/// Why a binding is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Its phone, another one of the same extension that needed its room, or an operator has ended it.
    Removed,
    /// Its time was over.
    Expired,
}

/// How far the setting up of a call has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallStep {
    /// The INVITE was let in and goes on.
    Begun {
        /// The user of From.
        caller: Box<[u8]>,
        /// The user of the Request-URI.
        callee: Box<[u8]>,
    },
    /// The callee's phone rings: a provisional response but 100.
    Ringing,
    Answered,
    /// The caller was told this status code.
    Failed(u16),
}
