//! Bindings that nodes share in Valkey or Redis.
//!
//! An AOR's record is a hash: the field `v` is its version, each other field a binding's packed row under its `contact_id`. It is
//! changed by one script (`commit.lua`) that compares the version first, so whoever planned against an older record changes
//! nothing and is given the newer one. The server forgets records whose bindings have expired. Who has changed what is published.
#![forbid(unsafe_code)]

mod background;
mod connection;
mod lease;
mod listener;
mod reader;
mod record;
mod scan;
mod writer;

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use roost_core::{Planned, Receipt, ShardId, StoredRecord, Ticket, Write};

pub use connection::{Durability, RedisError};
pub use lease::{Figures, NodeState, Nodes};

/// Takes receipts, a batch at a time, on a thread of this crate's.
pub type Receipts = Arc<dyn Fn(Vec<(ShardId, Receipt)>) + Send + Sync>;

/// Takes what other nodes have changed, on a thread of this crate's.
pub type News = Arc<dyn Fn(Change) + Send + Sync>;

/// Hears whether the store takes what is written.
pub type Health = Arc<dyn Fn(bool) + Send + Sync>;

/// What is heard of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A record has this version now.
    Record { aor: Box<[u8]>, version: u64 },
    /// A record that has bindings of this node, as it was at its start.
    Found { aor: Box<[u8]>, record: StoredRecord },
    /// Another node is up, or down, than before.
    Nodes(Vec<NodeState>),
    /// Records may have changed meanwhile: nobody was listening.
    Doubtful,
}

/// Writes that happen together, if a record is still what they were planned against.
#[derive(Debug)]
pub struct Commit {
    /// Who hears of it.
    pub shard: ShardId,
    pub ticket: Ticket,
    pub writes: Vec<Write>,
    pub planned: Planned,
}

/// The question for a record.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) shard: ShardId,
    pub(crate) ticket: Ticket,
    pub(crate) aor: Box<[u8]>,
}

/// The threads that speak to the store; they end when all handles are dropped.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    writer: JoinHandle<()>,
    reader: JoinHandle<()>,
    listener: background::Background,
    lease: background::Background,
    scan: background::Background,
    nodes: Nodes,
}

/// Asks for work. Clones are cheap; one for each shard.
#[derive(Debug, Clone)]
pub struct Handle {
    writer: Sender<Vec<Commit>>,
    reader: Sender<Question>,
}

/// Who this node is.
pub struct Member {
    /// Its name, and where the others reach it.
    pub name: String,
    pub address: String,
    pub figures: Figures,
}

/// Connects and starts the threads.
///
/// # Errors
/// [`RedisError`]: the store cannot be reached, or does not keep what `durability` promises; or another node has this one's name.
pub fn start(
    url: &str,
    durability: Durability,
    member: Member,
    receipts: &Receipts,
    news: News,
    health: Health,
) -> Result<Running, RedisError> {
    let source = connection::Source::new(url, durability)?;
    let nodes = Nodes::default();
    let Member { name, address, figures } = member;
    let lease =
        lease::start(source.clone(), (name, address.clone()), figures, nodes.clone(), Arc::clone(&news))?;
    let scan = scan::start(source.clone(), &address, Arc::clone(&news))?;
    let (commits, commit_queue) = channel();
    let (questions, question_queue) = channel();
    let writer = writer::start(source.clone(), commit_queue, Arc::clone(receipts), health)?;
    let reader = reader::start(source.clone(), question_queue, Arc::clone(receipts))?;
    let listener = listener::start(source, news)?;
    let handle = Handle { writer: commits, reader: questions };
    Ok(Running { handle, writer, reader, listener, lease, scan, nodes })
}

impl Handle {
    /// Makes each commit's writes, all or none; the receipts are `Stored`, `Changed` or `Failed`.
    pub fn commit(&self, commits: Vec<Commit>) {
        let _ = self.writer.send(commits);
    }

    /// Reads a record; the receipt is `Record`.
    pub fn load(&self, shard: ShardId, ticket: Ticket, aor: Box<[u8]>) {
        let _ = self.reader.send(Question { shard, ticket, aor });
    }
}

impl Running {
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// All nodes.
    pub fn nodes(&self) -> Nodes {
        self.nodes.clone()
    }

    /// Whether one of the threads has ended: nothing would be written or read any more.
    pub fn has_ended(&self) -> bool {
        self.writer.is_finished() || self.reader.is_finished()
    }

    /// Ends the threads once everything queued is done. Handles must have been dropped, or nothing ends.
    pub fn stop(self) {
        let Running { handle, writer, reader, listener, lease, scan, .. } = self;
        drop(handle);
        scan.stop();
        listener.stop();
        lease.stop();
        for thread in [writer, reader] {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("name", &self.name).finish_non_exhaustive()
    }
}
