//! The effects of one call into the engine, in order; owned and reused by the caller.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::admission::bans::Ban;
use crate::base::flow::{Flow, ShardId, Ticket};
use crate::contract::next_hops::{Dispatcher, HopId, Name, Place};
use crate::contract::row::Write;
use crate::operator::AdminReply;
use crate::registrar::exclusive::Claim;

/// Bytes to send and work to do. Clear it after each round; its memory stays.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The text of every transmit and of every message for another shard, one behind the other.
    pub bytes: Vec<u8>,
    /// What to send, in order.
    pub transmits: Vec<Transmit>,
    /// What to ask of the shells, in order.
    pub commands: Vec<Command>,
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

/// Work that the engine asks of a shell. A ticket is answered by [`crate::Engine::handle_receipt`], exactly once.
#[derive(Debug)]
pub enum Command {
    /// Make these writes durable, all or none; with a claim only if it holds.
    Commit { ticket: Ticket, writes: Vec<Write>, claim: Option<Box<Claim>> },
    /// Delete rows of bindings that have expired, or that a newer row stands for; no answer is expected.
    Purge { writes: Vec<Write> },
    /// Look a subscriber up; `domain` only with `use_domain`.
    LoadCredentials { ticket: Ticket, user: Box<[u8]>, domain: Option<Box<[u8]>> },
    /// Hand a message to the shard that it belongs to: [`crate::Engine::handle_handed_over`].
    ToShard(HandOver),
    /// Look a name up (RFC 3263), for [`Outcome::Resolved`]; an address leads to itself.
    Resolve { ticket: Ticket, name: Name },
    /// Tell a shard, or all: [`crate::Engine::handle_news`].
    Tell { shard: Option<ShardId>, news: News },
    /// Keep a connection as long as a binding that was made over it: until then, in monotonic milliseconds.
    KeepConnection { connection: u64, until_ms: u64 },
    /// The answer to [`crate::Engine::handle_admin`], under the caller's own ticket.
    AdminReply { ticket: Ticket, reply: AdminReply },
}

/// A message for another shard.
#[derive(Debug, Clone, Copy)]
pub struct HandOver {
    pub shard: ShardId,
    pub flow: Flow,
    /// Offset of its first byte in [`Outbox::bytes`].
    pub start: usize,
    /// Offset behind its last byte.
    pub end: usize,
    pub mark: Mark,
}

/// What a shard already knows of a message that it hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mark {
    /// Nothing.
    #[default]
    None,
    /// The caller may call.
    Authorized,
    /// It belongs to a dialog, and to the shard of its To.
    InDialog,
}

/// What became of a command.
#[derive(Debug)]
pub enum Outcome {
    /// The writes are durable.
    Committed,
    /// The writes did not happen: the claim does not hold.
    Occupied,
    /// The writes did not happen, or the database did not answer; the text is for the log.
    Failed(String),
    /// The subscriber's row, or that there is none.
    Credentials(Option<Secrets>),
    /// Where a name leads, best first; nowhere when it does not exist, or was not resolved in time.
    Resolved(Vec<Place>),
}

/// What shards tell one another, and whoever keeps the connections tells them.
#[derive(Debug, Clone)]
pub enum News {
    /// The next hops as they are from here on.
    Hops(Arc<Dispatcher>),
    /// A connection is gone.
    Closed(u64),
    /// A message could not be sent: its connection is gone, or none could be made.
    Unsent(Flow, Box<[u8]>),
    /// An address is banned.
    Banned(Ban),
    /// How a call to a next hop went.
    Heard { hop: HopId, remote: SocketAddr, is_failure: bool },
}

/// A part of a whole reading of the subscriber table. Readings follow one another; the first tells every row, a later
/// one those that are new or have changed.
#[derive(Debug, Clone)]
pub enum Reading {
    Rows(Vec<SubscriberRow>),
    /// Rows that the reading before had are gone; the next one tells every row again.
    SomeGone,
    /// All rows were read: what was told of them before still holds.
    Done,
}

/// One row of `subscriber`.
#[derive(Debug, Clone)]
pub struct SubscriberRow {
    pub user: Box<[u8]>,
    pub domain: Box<[u8]>,
    pub secrets: Secrets,
}

/// A subscriber's secrets as the columns hold them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// `auth_db.password_column`: plaintext, or HA1 in hex when `calculate_ha1` is off.
    pub password: Box<[u8]>,
    /// `auth_db.password_column_2`: HA1 of `user@domain` in hex.
    pub password_2: Box<[u8]>,
    /// Column `ha1_sha256`, where there is one.
    pub sha256: Box<[u8]>,
    /// Column `ha1_sha512t256`, where there is one.
    pub sha512t256: Box<[u8]>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl Outbox {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.transmits.clear();
        self.commands.clear();
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

    /// Queues what `write` appends as one message.
    pub(crate) fn send(&mut self, flow: Flow, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.transmits.push(Transmit { flow, start, end: self.bytes.len() });
    }
}
