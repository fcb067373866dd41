//! What every part of an engine is given with every call.

use std::cell::Cell;
#[cfg(test)]
use std::net::SocketAddr;

use roost_sip::{Head, HttpDate, http_date};

use crate::base::aor::{AorError, UserHost, write_aor};
use crate::base::buffers::Buffers;
use crate::base::flow::{Now, ShardId};
use crate::base::hash::KeyedState;
use crate::base::stats::{Counter, Stats, Timed};
use crate::contract::dropped::Dropped;
use crate::contract::event::EventKind;
use crate::contract::identity::Identity;
use crate::contract::outbox::Outbox;
use crate::contract::policy::Policy;
use crate::contract::reason::Reason;

/// Settings, time, and where effects go. A part takes it and facts as arguments, returns an outcome, and calls no other
/// part.
#[derive(Debug)]
pub(crate) struct Ctx<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) policy: &'a Policy,
    pub(crate) shard: ShardId,
    pub(crate) now: Now,
    pub(crate) out: &'a mut Outbox,
    pub(crate) stats: &'a mut Stats,
    pub(crate) hasher: KeyedState,
    pub(crate) buffers: &'a mut Buffers,
    pub(crate) responses: &'a ResponseTexts,
    /// Extensions that may be doing something else now, where somebody listens.
    pub(crate) changed_agents: &'a mut Vec<Box<[u8]>>,
}

impl Ctx<'_> {
    pub(crate) fn count(&mut self, counter: Counter) {
        self.stats.count(counter);
    }

    /// Notes a decision, if anybody asks, see [`Outbox::decide`].
    pub(crate) fn decide(&mut self, key: &'static str, text: impl FnOnce() -> String) {
        self.out.decide(key, text);
    }

    /// A message is neither answered nor sent on.
    pub(crate) fn drop_message(&mut self, why: Dropped) {
        self.stats.count_dropped(why, 1);
        self.out.decide("", || format!("dropped without an answer ({})", why.word()));
    }

    /// Notes how long something took that began at `since_ms`.
    pub(crate) fn time(&mut self, what: Timed, since_ms: u64) {
        self.stats.time(what, self.now.mono_ms.saturating_sub(since_ms));
    }

    /// Notes that an extension may be doing something else now.
    pub(crate) fn note_agent(&mut self, aor: &[u8]) {
        if self.out.listening.has(EventKind::Agent) {
            self.changed_agents.push(aor.into());
        }
    }

    /// The AOR of a user and host, as tables have it.
    pub(crate) fn write_aor(&self, of: Option<UserHost<'_>>, aor: &mut Vec<u8>) -> Result<(), Reason> {
        let of = of.ok_or(Reason::AorParse)?;
        let written = write_aor(of, self.identity.use_domain, self.identity.case_sensitive, aor);
        written.map_err(|error| match error {
            AorError::NoUser => Reason::AorParse,
            AorError::TooLong => Reason::AorTooLong,
        })
    }

    /// Indexes a message that was kept; `None` when it is not a message.
    pub(crate) fn with_head<R>(
        &mut self,
        message: &[u8],
        use_: impl FnOnce(&mut Self, &Head) -> R,
    ) -> Option<R> {
        let mut head = self.buffers.take_head();
        let done = head.parse(message).is_ok().then(|| use_(self, &head));
        self.buffers.give_head(head);
        done
    }
}

/// What responses of one shard have in common; derived from the policy.
#[derive(Debug, Clone)]
pub(crate) struct ResponseTexts {
    /// Server, Content-Length and the empty line.
    pub(crate) tail: Box<[u8]>,
    /// The second that Date was last written for, and its text.
    date: Cell<(u64, HttpDate)>,
}

impl ResponseTexts {
    pub(crate) fn of(policy: &Policy) -> ResponseTexts {
        let server = match policy.server_header.as_str() {
            "" => String::new(),
            server => format!("Server: {server}\r\n"),
        };
        ResponseTexts {
            tail: format!("{server}Content-Length: 0\r\n\r\n").into_bytes().into(),
            date: Cell::new((0, http_date(0))),
        }
    }

    /// The value of Date for a second of unix time.
    pub(crate) fn date(&self, unix_s: u64) -> HttpDate {
        if self.date.get().0 != unix_s {
            self.date.set((unix_s, http_date(unix_s)));
        }
        self.date.get().1
    }
}

/// What a part's tests are set in: one shard, its settings, and what it said.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct TestShard {
    pub(crate) identity: Identity,
    pub(crate) policy: Policy,
    pub(crate) now: Now,
    pub(crate) out: Outbox,
    pub(crate) stats: Stats,
    pub(crate) buffers: Buffers,
    responses: Option<ResponseTexts>,
    changed_agents: Vec<Box<[u8]>>,
}

#[cfg(test)]
impl TestShard {
    /// A shard in a process of some age.
    pub(crate) fn new() -> TestShard {
        TestShard { now: Now { mono_ms: 1 << 40, unix_s: 1_800_000_000 }, ..TestShard::default() }
    }

    pub(crate) fn ctx(&mut self) -> Ctx<'_> {
        Ctx {
            identity: &self.identity,
            policy: &self.policy,
            shard: ShardId(0),
            now: self.now,
            out: &mut self.out,
            stats: &mut self.stats,
            hasher: KeyedState::new(self.identity.hash_seed),
            buffers: &mut self.buffers,
            responses: self.responses.get_or_insert_with(|| ResponseTexts::of(&self.policy)),
            changed_agents: &mut self.changed_agents,
        }
    }

    /// What was sent since the last call: where to, and its text.
    pub(crate) fn sent(&mut self) -> Vec<(SocketAddr, String)> {
        let texts = self.out.transmits.iter().map(|transmit| {
            (transmit.flow.remote, String::from_utf8_lossy(self.out.message(transmit)).into_owned())
        });
        let texts = texts.collect();
        self.out.transmits.clear();
        self.out.bytes.clear();
        texts
    }

    /// The first lines of what was sent since the last call.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        let line = |(_, text): (SocketAddr, String)| text.lines().next().unwrap_or_default().to_string();
        self.sent().into_iter().map(line).collect()
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix_s += ms / 1_000;
    }
}
