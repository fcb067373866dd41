//! What has happened, for those who keep a record of it: one stream, in order, and free while no one listens.

use std::net::{IpAddr, SocketAddr};

use crate::base::flow::Flow;
use crate::contract::ban::Ban;
use crate::contract::call::{AgentCalls, AorText, CallEnd, CallRecord, CallState};
use crate::contract::next_hops::HopState;
use crate::contract::reason::Reason;

/// One thing that has happened. The largest is the most frequent, too: it is made in place, as what another thread frees is
/// allocated slowly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A request was answered with a challenge: 401 or 407. `user` and `host` as in [`Asked`].
    Challenged { user: AorText, host: AorText, source: SocketAddr, reason: Reason, is_register: bool },
    /// A request was refused, with this status code.
    Refused { asked: Asked, code: u16, reason: Reason },
    /// A binding was added or renewed, and is durable where it must be.
    Registered {
        aor: Box<[u8]>,
        contact: Box<ContactFacts>,
        is_new: bool,
        /// Whether the AOR had none before.
        is_first: bool,
    },
    /// The same in short: a new binding of a phone that calls itself `agent` (cut), or one that was renewed when it would have
    /// lasted `left_ms` more (less than 0: it had expired), and now lasts `granted_s` (`None`: it never expires). It needs no
    /// allocation.
    Refreshed {
        aor: AorText,
        source: Option<SocketAddr>,
        left_ms: Option<i64>,
        granted_s: Option<u32>,
        agent: AorText,
    },
    /// A binding is gone; `is_last`: the AOR has none any more.
    Unregistered { aor: Box<[u8]>, contact: Box<ContactFacts>, why: Gone, is_last: bool },
    /// The database did not take the changes of an AOR.
    CommitFailed { aor: Box<[u8]> },
    /// The connection that a binding was made over is gone; the binding is not.
    FlowLost { aor: Box<[u8]>, contact_id: u64 },
    /// A phone has not answered so many pings (`nathelper.max_pings_lost`).
    PingsLost { aor: Box<[u8]>, contact_id: u64, lost: u32 },
    /// Somebody has guessed too often.
    Banned(Ban),
    /// An address has sent too much (`pike`); told once for each time that it begins to.
    Flooded { source: IpAddr },
    /// An extension has other calls, or its bindings have changed.
    Agent { aor: Box<[u8]>, calls: AgentCalls, is_reached: bool },
    /// A step of a call that is being set up.
    Call { call_id: Box<[u8]>, step: CallStep },
    /// A call in progress has another state than `old`; it has ended where `end` says how.
    Dialog { record: CallRecord, old: CallState, end: Option<CallEnd> },
    /// A message waited longer than `exec_msg_threshold` before it was handled: its first line and its Call-ID.
    Slow { waited_ms: u64, message: Box<[u8]> },
    /// A next hop has another state.
    Hop { set: u32, uri: Box<str>, state: HopState },
    /// Messages of a request that failed, the request first: one that was refused, or an INVITE that begins a call, as it came
    /// and was answered, or as it was sent on and what came back.
    Exchange(Box<[Passed]>),
}

impl Event {
    /// What it is about.
    pub fn kind(&self) -> EventKind {
        match self {
            Event::Challenged { .. } => EventKind::Challenge,
            Event::Refused { reason, .. } => EventKind::Refusal(*reason),
            Event::Registered { is_new: true, .. } => EventKind::NewBinding,
            Event::Registered { .. } => EventKind::Renewal,
            Event::Refreshed { .. } => EventKind::Refresh,
            Event::Unregistered { .. }
            | Event::CommitFailed { .. }
            | Event::FlowLost { .. }
            | Event::PingsLost { .. } => EventKind::Loss,
            Event::Banned(_) => EventKind::Ban,
            Event::Flooded { .. } => EventKind::Flood,
            Event::Agent { .. } => EventKind::Agent,
            Event::Call { .. } => EventKind::Call,
            Event::Dialog { record, .. } => match record.state {
                CallState::ConfirmedNotAcknowledged | CallState::Deleted => EventKind::CallRecord,
                _ => EventKind::CallState,
            },
            Event::Slow { .. } => EventKind::Slow,
            Event::Hop { .. } => EventKind::Hop,
            Event::Exchange(_) => EventKind::Exchange,
        }
    }
}

/// What an event is about, for those who listen to some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    Challenge,
    Refusal(Reason),
    NewBinding,
    Renewal,
    /// The same, in short.
    Refresh,
    /// A binding, its connection or its commit is gone.
    Loss,
    Ban,
    Flood,
    Call,
    Hop,
    /// A call is answered or has ended.
    CallRecord,
    /// Other steps of a call in progress.
    CallState,
    Agent,
    Slow,
    /// Messages of what has failed.
    Exchange,
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
            EventKind::CallRecord => 256,
            EventKind::CallState => 2048,
            EventKind::Agent => 512,
            EventKind::Flood => 1024,
            EventKind::Slow => 4096,
            EventKind::Refresh => 8192,
            EventKind::Exchange => 16_384,
        }
    }
}

/// Some topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Topics(u16);

impl Topics {
    pub const NONE: Topics = Topics(0);
    pub const ALL: Topics = Topics(u16::MAX);
    /// Calls that are answered, and that have ended.
    pub const CALLS: Topics = Topics(EventKind::CallRecord.bit());
    /// What an operator should read: refusals, new and lost bindings, bans.
    const NEWS: Topics = Topics(
        EventKind::Refusal(Reason::UnknownUser).bit()
            | EventKind::NewBinding.bit()
            | EventKind::Loss.bit()
            | EventKind::Ban.bit(),
    );

    /// One topic; of refusals all reasons.
    pub const fn of(topic: EventKind) -> Topics {
        Topics(topic.bit())
    }

    /// Both.
    #[must_use]
    pub const fn and(self, others: Topics) -> Topics {
        Topics(self.0 | others.0)
    }

    /// Whether they have one in common.
    pub const fn meet(self, others: Topics) -> bool {
        self.0 & others.0 != 0
    }

    /// As a number, for who shares it between threads.
    pub fn bits(self) -> u16 {
        self.0
    }

    /// The topics of such a number.
    pub fn from_bits(bits: u16) -> Topics {
        Topics(bits)
    }

    fn has(self, topic: EventKind) -> bool {
        self.0 & topic.bit() != 0
    }
}

/// Which events are made, and how many: those beyond it are counted, which costs next to nothing.
#[derive(Debug, Clone, Default)]
pub struct Listening {
    /// Of these every one is made.
    whole: Topics,
    /// Of these so many more are made.
    some: Topics,
    left: u32,
    missed: Vec<(EventKind, u64)>,
    /// So many more exchanges are told: they are copies of messages, and strangers can make us refuse.
    exchanges_left: u32,
}

/// Exchanges that are told until [`Listening::refill`].
const EXCHANGES: u32 = 100;

impl Listening {
    /// Everything, without limit.
    pub fn to_all() -> Listening {
        Listening { whole: Topics::ALL, exchanges_left: EXCHANGES, ..Listening::default() }
    }

    /// What an operator should read: so much of it, until [`Listening::refill`].
    pub fn to_news(most: u32) -> Listening {
        Listening { some: Topics::NEWS, left: most, ..Listening::default() }
    }

    /// From here on every event of these topics is made.
    pub fn listen_to(&mut self, topics: Topics) {
        self.whole = topics;
    }

    /// So many more may be made; what was missed since the last time, by topic.
    pub fn refill(&mut self, most: u32) -> Vec<(EventKind, u64)> {
        self.left = most;
        self.exchanges_left = EXCHANGES;
        std::mem::take(&mut self.missed)
    }

    /// Whether events of a topic are made or counted.
    pub(crate) fn has(&self, topic: EventKind) -> bool {
        self.whole.has(topic) || self.some.has(topic)
    }

    /// Whether one more event is made.
    pub(crate) fn takes(&mut self, topic: EventKind) -> bool {
        if topic == EventKind::Exchange {
            let takes = self.whole.has(topic) && self.exchanges_left > 0;
            self.exchanges_left -= u32::from(takes);
            return takes;
        }
        if self.whole.has(topic) || !self.some.has(topic) {
            return self.whole.has(topic);
        }
        if self.left > 0 {
            self.left -= 1;
            return true;
        }
        match self.missed.iter_mut().find(|(other, _)| *other == topic) {
            Some((_, count)) => *count += 1,
            None => self.missed.push((topic, 1)),
        }
        false
    }
}

/// A binding, for those who are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactFacts {
    pub contact_id: u64,
    /// Its URI.
    pub uri: Box<[u8]>,
    /// Where its phone registered from.
    pub source: Option<SocketAddr>,
    /// Our socket, as the table has it.
    pub socket: Option<Box<[u8]>>,
    /// Its `received`, as the table has it.
    pub received: Option<Box<[u8]>>,
    pub path: Box<[u8]>,
    /// In thousandths.
    pub q: Option<u16>,
    pub callid: Box<[u8]>,
    pub cseq: u32,
    pub user_agent: Box<[u8]>,
    /// Seconds; `None`: it never expires.
    pub expires_s: Option<u64>,
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
    pub more: Box<AskedMore>,
}

/// What else a request says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AskedMore {
    pub call_id: Box<[u8]>,
    /// Whom an INVITE that begins a call is for, user and host; empty for everything else.
    pub callee_user: Box<[u8]>,
    pub callee_host: Box<[u8]>,
}

/// A message that came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    pub flow: Flow,
    /// Whether it went.
    pub is_sent: bool,
    /// How long before the event, in milliseconds.
    pub ago_ms: u64,
    pub bytes: Box<[u8]>,
}

impl Passed {
    pub(crate) fn received(flow: Flow, ago_ms: u64, bytes: &[u8]) -> Passed {
        Passed { flow, is_sent: false, ago_ms, bytes: bytes.into() }
    }

    pub(crate) fn sent(flow: Flow, ago_ms: u64, bytes: &[u8]) -> Passed {
        Passed { flow, is_sent: true, ago_ms, bytes: bytes.into() }
    }
}

/// Why a binding is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Its phone has ended it.
    Unregistered,
    /// Another one of the same extension, or the same phone with another Contact, took its place.
    Replaced,
    /// An operator has ended it.
    Removed,
    /// Its phone answers no pings (`nathelper.remove_on_timeout`).
    PingsLost,
    /// Its time was over.
    Expired,
}

impl Gone {
    /// All of them.
    pub const ALL: [Gone; 5] =
        [Gone::Unregistered, Gone::Replaced, Gone::Removed, Gone::PingsLost, Gone::Expired];

    /// Its word in the table of reasons.
    pub fn word(self) -> &'static str {
        match self {
            Gone::Unregistered => "unregistered",
            Gone::Replaced => "replaced",
            Gone::Removed => "removed",
            Gone::PingsLost => "pings-lost",
            Gone::Expired => "expired",
        }
    }
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
    fn an_event_is_small_as_it_is_moved_several_times() {
        assert!(size_of::<Event>() <= 168, "{}", size_of::<Event>());
    }

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
        listening.listen_to(Topics::of(EventKind::Exchange));
        let taken = (0..1_000).filter(|_| listening.takes(EventKind::Exchange)).count();
        assert_eq!((taken, listening.refill(0)), (EXCHANGES as usize, Vec::new()));
        assert!(listening.takes(EventKind::Exchange) && !Listening::to_news(1).takes(EventKind::Exchange));
        listening.listen_to(Topics::CALLS);
        assert!(
            (0..9).all(|_| listening.takes(EventKind::CallRecord)),
            "who wants all of a topic misses nothing"
        );
    }
}
