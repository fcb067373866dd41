//! What an engine asks of its shells, and what comes back.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::flow::{Flow, ShardId, Ticket};
use crate::contract::admin::AdminReply;
use crate::contract::ban::Ban;
use crate::contract::binding_ref::ContactMoved;
use crate::contract::call::{AgentStep, AorText, CallStepInDialog};
use crate::contract::exclusive::Exclusive;
use crate::contract::hop_uri::Name;
use crate::contract::mark::Mark;
use crate::contract::next_hops::{Address, HopId, NextHops};
use crate::contract::row::Write;
use crate::contract::shared::{Floating, Planned, StoredRecord};
use crate::contract::subscriber::Secrets;

/// Work that the engine asks of a shell. [`Commit`](Command::Commit), [`LoadRecord`](Command::LoadRecord),
/// [`LoadCredentials`](Command::LoadCredentials) and [`Resolve`](Command::Resolve) are answered by [`crate::Engine::handle_receipt`], exactly once, under their tickets;
/// tickets of different kinds may be equal.
#[derive(Debug)]
pub enum Command {
    /// Make these writes durable, all or none; with a condition only if it holds.
    /// Where bindings are shared, only if the AOR's record is still what it was `planned` against.
    Commit {
        ticket: Ticket,
        writes: Vec<Write>,
        exclusive: Option<Box<Exclusive>>,
        planned: Option<Box<Planned>>,
    },
    /// Read an AOR's record, where bindings are shared.
    LoadRecord { ticket: Ticket, aor: Box<[u8]> },
    /// Delete rows of bindings that have expired, or that a newer row stands for; no answer is expected.
    Purge { writes: Vec<Write> },
    /// Look a subscriber up; `domain` only with `use_domain`.
    LoadCredentials { ticket: Ticket, user: Box<[u8]>, domain: Option<Box<[u8]>> },
    /// Hand a message to the shard that it belongs to: [`crate::Engine::handle_handed_over`].
    ToShard(HandOver),
    /// Look a name up (RFC 3263); an address leads to itself.
    Resolve { ticket: Ticket, name: Name },
    /// Tell a shard, or all: [`crate::Engine::handle_shard_event`].
    Tell { shard: Option<ShardId>, event: ShardEvent },
    /// Keep a connection as long as a binding that was made over it: until then, in monotonic milliseconds.
    KeepConnection { connection: u64, until_ms: u64 },
    /// The answer to [`crate::Engine::handle_admin`], under the caller's own ticket.
    AdminReply { ticket: Ticket, reply: AdminReply },
}

/// The answer to a command, under its ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// What became of a [`Command::Commit`].
    Commit(Ticket, CommitOutcome),
    /// The record of an AOR as it stands, or why the store did not say (for the log).
    Record(Ticket, Result<StoredRecord, String>),
    /// The subscriber's row, or that there is none; or why the database did not say (for the log).
    Credentials(Ticket, Result<Option<Secrets>, String>),
    /// Where a name leads, best first; nowhere when it does not exist, or was not resolved in time.
    Resolved(Ticket, Vec<Address>),
}

/// What became of writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// They are durable.
    Committed,
    /// They are durable, and the AOR's record, which is shared, has this version now.
    Stored(u64),
    /// They did not happen: the record is another one than they were planned against.
    Changed(Box<StoredRecord>),
    /// They did not happen: another AOR's binding has the `contact_id` of one of them.
    KeyTaken,
    /// They did not happen: the AOR is another address's.
    Occupied,
    /// They did not happen, or the database did not answer; the text is for the log.
    Failed(String),
}

/// A message for another shard.
#[derive(Debug, Clone, Copy)]
pub struct HandOver {
    pub shard: ShardId,
    pub flow: Flow,
    /// Offset of its first byte in [`crate::Outbox::bytes`].
    pub start: usize,
    /// Offset behind its last byte.
    pub end: usize,
    pub mark: Mark,
}

/// What shards tell one another, and what the shell that keeps the connections tells them.
#[derive(Debug, Clone)]
pub enum ShardEvent {
    /// The next hops as they are from here on.
    Hops(Arc<NextHops>),
    /// A connection is gone.
    ConnectionClosed(u64),
    /// A message could not be sent: its connection is gone, or none could be made.
    Unsent(Flow, Box<[u8]>),
    /// A message could not be sent now: too much waits for the connections, which are alive.
    NoRoom(Flow, Box<[u8]>),
    /// A Contact whose user is the other shard's has come, or gone.
    ContactMoved(ContactMoved),
    /// The nodes that are down, by where they are reached.
    NodesDown(Arc<[SocketAddr]>),
    /// Which addresses float, and where each is now.
    Floating(Arc<[Floating]>),
    /// An AOR's record in the shared store has this version.
    RecordChanged { aor: Box<[u8]>, version: u64 },
    /// The record of an AOR that has bindings of this node, read at its start.
    RecordFound { aor: Box<[u8]>, record: StoredRecord },
    /// Records may have changed that nobody was told of.
    RecordsDoubtful,
    /// The store counts this node as one that is there until then, in monotonic milliseconds.
    Leased { until_ms: u64 },
    /// An address is banned.
    Banned(Ban),
    /// A request inside a dialog, for the shard that keeps its call.
    CallStep(CallStepInDialog),
    /// A call of an extension of the other shard has come so far.
    Agent(AorText, AgentStep),
    /// How a call to a next hop went.
    HopHeard { hop: HopId, remote: SocketAddr, is_failure: bool },
}
