//! What has happened, for those who keep a record of it: one stream, in order, and free while no one listens.

use std::net::SocketAddr;

use crate::base::flow::Flow;
use crate::contract::ban::Ban;
use crate::contract::call::{CallEnd, CallRecord};
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
    /// A phone has not answered so many pings (`nathelper.max_pings_lost`).
    PingsLost { aor: Box<[u8]>, contact_id: u64, lost: u32 },
    /// Somebody has guessed too often.
    Banned(Ban),
    /// A step of a call that is being set up.
    Call { call_id: Box<[u8]>, step: CallStep },
    /// A call in progress has another state; it has ended where `end` says how.
    Dialog { record: Box<CallRecord>, end: Option<CallEnd> },
    /// A next hop has another state.
    Hop { set: u32, uri: Box<str>, state: HopState },
}

/// What an event is about, for those who listen to some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    Challenge,
    Refusal(Reason),
    NewBinding,
    Renewal,
    /// A binding, its connection or its commit is gone.
    Loss,
    Ban,
    Call,
    Hop,
    Dialog,
}

impl EventKind {
    const fn bit(self) -> u16 {
        match self {
            EventKind::Challenge => 1,
            EventKind::Refusal(_) => 2,
            EventKind::NewBinding => 4,
            EventKind::Renewal => 8,
            EventKind::Loss => 16,
            EventKind::Ban => 32,
            EventKind::Call => 64,
            EventKind::Hop => 128,
            EventKind::Dialog => 256,
        }
    }
}

/// Which events are made, and how many: those beyond it are counted, which costs next to nothing.
#[derive(Debug, Clone, Default)]
pub struct Listening {
    topics: u16,
    left: u32,
    missed: Vec<(EventKind, u64)>,
}

impl Listening {
    /// Everything, without limit.
    pub fn to_all() -> Listening {
        Listening { topics: u16::MAX, left: u32::MAX, missed: Vec::new() }
    }

    /// What an operator should read: refusals, new and lost bindings, bans. So many, until [`Listening::refill`].
    pub fn to_news(most: u32) -> Listening {
        let topics = EventKind::Refusal(Reason::UnknownUser).bit()
            | EventKind::NewBinding.bit()
            | EventKind::Loss.bit()
            | EventKind::Ban.bit();
        Listening { topics, left: most, missed: Vec::new() }
    }

    /// So many more may be made; what was missed since the last time, by topic.
    pub fn refill(&mut self, most: u32) -> Vec<(EventKind, u64)> {
        self.left = most;
        std::mem::take(&mut self.missed)
    }

    /// Whether events of a topic are made or counted.
    pub(crate) fn has(&self, topic: EventKind) -> bool {
        self.topics & topic.bit() != 0
    }

    /// Whether one more event is made.
    pub(crate) fn takes(&mut self, topic: EventKind) -> bool {
        if !self.has(topic) {
            return false;
        }
        if self.left > 0 {
            self.left -= u32::from(self.left != u32::MAX);
            return true;
        }
        match self.missed.iter_mut().find(|(other, _)| *other == topic) {
            Some((_, count)) => *count += 1,
            None => self.missed.push((topic, 1)),
        }
        false
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_limit_is_counted_by_topic() {
        let mut listening = Listening::to_news(2);
        let wrong = EventKind::Refusal(Reason::WrongPassword);
        let taken = [wrong, EventKind::NewBinding, wrong, EventKind::Renewal, wrong, EventKind::Loss];
        assert_eq!(taken.map(|topic| listening.takes(topic)), [true, true, false, false, false, false]);
        assert_eq!(listening.refill(1), [(wrong, 2), (EventKind::Loss, 1)]);
        assert!(listening.takes(EventKind::Ban) && !listening.takes(EventKind::Ban));
        assert_eq!(listening.refill(1), [(EventKind::Ban, 1)]);
        assert!(!Listening::default().takes(EventKind::Ban));
    }
}
