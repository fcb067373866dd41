//! The effects of one call into the engine, in order; owned and reused by the caller.

use crate::base::flow::{Flow, ShardId};
use crate::contract::command::{Command, HandOver};
use crate::contract::event::{Event, EventKind, Listening, Passed};
use crate::contract::mark::Mark;
use crate::contract::preview::Decision;

/// Bytes to send, work to do and what is worth telling. Clear it after each round; its memory stays.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The text of every transmit and of every message for another shard, one behind the other.
    pub bytes: Vec<u8>,
    /// What to send, in order.
    pub transmits: Vec<Transmit>,
    /// What to ask of the shells, in order.
    pub commands: Vec<Command>,
    /// What has happened, in order; nothing while nobody listens.
    pub events: Vec<Event>,
    /// Which events somebody listens to. Others are not made.
    pub listening: Listening,
    /// What was decided and why, in order, where somebody asks.
    pub decisions: Option<Vec<Decision>>,
}

/// One message to send.
#[derive(Debug, Clone, Copy)]
pub struct Transmit {
    /// Where to, and from which of our addresses.
    pub flow: Flow,
    /// Offset of its first byte in [`Outbox::bytes`].
    pub start: usize,
    /// Offset behind its last byte.
    pub end: usize,
}

impl Outbox {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.transmits.clear();
        self.commands.clear();
        self.events.clear();
        self.decisions.iter_mut().for_each(Vec::clear);
    }

    /// The bytes of one transmit.
    pub fn message(&self, transmit: &Transmit) -> &[u8] {
        self.bytes.get(transmit.start..transmit.end).unwrap_or(&[])
    }

    /// Queues a message for another shard.
    pub(crate) fn hand_over(&mut self, shard: ShardId, flow: Flow, bytes: &[u8], mark: Mark) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let message = HandOver { shard, flow, start, end: self.bytes.len(), mark };
        self.commands.push(Command::ToShard(message));
    }

    /// Queues what `write` appends as one message; the message.
    pub fn send(&mut self, flow: Flow, write: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.transmits.push(Transmit { flow, start, end: self.bytes.len() });
        self.bytes.get(start..).unwrap_or(&[])
    }

    /// The message that was sent last.
    pub(crate) fn last_sent(&self) -> &[u8] {
        self.transmits.last().map_or(&[], |last| self.message(last))
    }

    /// Notes a decision, if anybody asks; `key`: what of the configuration it hangs on, as `section.key`, or nothing.
    pub(crate) fn decide(&mut self, key: &'static str, text: impl FnOnce() -> String) {
        self.decide_each(key, || [text()]);
    }

    /// The same for several: who asks for none goes through none.
    pub(crate) fn decide_each<Texts: IntoIterator<Item = String>>(
        &mut self,
        key: &'static str,
        texts: impl FnOnce() -> Texts,
    ) {
        if let Some(decisions) = &mut self.decisions {
            let before = self.transmits.len();
            decisions.extend(texts().into_iter().map(|text| Decision { key, text, before }));
        }
    }

    /// Tells of messages of what has failed, if anybody keeps them, and of the one that was sent last.
    pub(crate) fn tell_answered(&mut self, passed: impl FnOnce() -> Vec<Passed>) {
        if !self.listening.takes(EventKind::Exchange) {
            return;
        }
        let sent = self.transmits.last().map(|last| Passed::sent(last.flow, 0, self.message(last)));
        self.events.push(Event::Exchange(passed().into_iter().chain(sent).collect()));
    }

    /// Tells what has happened, if anybody listens.
    pub(crate) fn tell(&mut self, topic: EventKind, event: impl FnOnce() -> Event) {
        if self.listening.takes(topic) {
            self.events.push(event());
        }
    }
}
