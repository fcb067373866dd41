//! Nodes that share bindings, whatever store they share them in: how it is asked, what is heard of it, and who is there.
//!
//! `roost-redis` and `roost-store` each start threads that take what is asked here: commits that count only against the record that
//! they were planned on, and readings of records. Both answer with receipts, and tell changes.
#![forbid(unsafe_code)]

mod background;
mod lease;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use roost_core::{Planned, Receipt, ShardId, StoredRecord, Ticket, Write};

pub use background::Background;
pub use lease::{Figures, Leases, NodeState, Nodes, keep_lease};

/// Takes receipts, a batch at a time, on a thread of the store's.
pub type Receipts = Arc<dyn Fn(Vec<(ShardId, Receipt)>) + Send + Sync>;

/// Takes what other nodes have changed, on a thread of the store's.
pub type News = Arc<dyn Fn(Change) + Send + Sync>;

/// Hears whether the store takes what is written.
pub type Health = Arc<dyn Fn(bool) + Send + Sync>;

/// What is heard of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A record has this version now.
    Record { aor: Box<[u8]>, version: u64 },
    /// A record that has bindings of this node, as it was at its start.
    Found { aor: Box<[u8]>, record: StoredRecord },
    /// Another node is up, or down, than before.
    Nodes(Vec<NodeState>),
    /// The lease of this node lasts until then.
    Leased(Instant),
    /// Records may have changed meanwhile: nobody was listening.
    Doubtful,
    /// What another node has said to all.
    Said(String),
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
pub struct Question {
    pub shard: ShardId,
    pub ticket: Ticket,
    pub aor: Box<[u8]>,
}

/// Who this node is.
#[derive(Clone)]
pub struct Member {
    /// Its name, and where the others reach it.
    pub name: String,
    pub address: String,
    pub figures: Figures,
    /// The floating addresses that are here now, as `location.socket` has them.
    pub floating: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Asks for work. Clones are cheap; one for each shard.
#[derive(Debug, Clone)]
pub struct Handle {
    writer: Sender<Vec<Commit>>,
    reader: Sender<Question>,
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

/// Says something to all nodes, as far as they hear it: nobody answers for it. Clones are cheap, and keep no thread.
#[derive(Debug, Clone)]
pub struct Speaker(SyncSender<String>);

impl Speaker {
    /// Whether there was room for it.
    pub fn say(&self, text: String) -> bool {
        self.0.try_send(text).is_ok()
    }
}

/// What is asked, for the threads that do it.
#[derive(Debug)]
pub struct Queues {
    pub commits: Receiver<Vec<Commit>>,
    pub questions: Receiver<Question>,
    /// What all nodes shall hear.
    pub said: Receiver<String>,
}

/// What may wait to be said.
const UNSAID: usize = 4_096;

/// What asks and speaks, and where that arrives.
pub fn queues() -> (Handle, Speaker, Queues) {
    let (writer, commits) = channel();
    let (reader, questions) = channel();
    let (speaker, said) = sync_channel(UNSAID);
    (Handle { writer, reader }, Speaker(speaker), Queues { commits, questions, said })
}

/// The threads that speak to the store; they end when all handles are dropped.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    speaker: Speaker,
    /// These end once nobody asks any more: nothing would be written or read without them.
    workers: Vec<JoinHandle<()>>,
    /// These are told to end, in this order.
    helpers: Vec<Background>,
    nodes: Nodes,
}

impl Running {
    pub fn new(
        (handle, speaker): (Handle, Speaker),
        workers: Vec<JoinHandle<()>>,
        helpers: Vec<Background>,
        nodes: Nodes,
    ) -> Running {
        Running { handle, speaker, workers, helpers, nodes }
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    pub fn speaker(&self) -> Speaker {
        self.speaker.clone()
    }

    /// All nodes.
    pub fn nodes(&self) -> Nodes {
        self.nodes.clone()
    }

    /// The same with one more helper, that ends first.
    pub fn with(mut self, helper: Option<Background>) -> Running {
        self.helpers.splice(0..0, helper);
        self
    }

    /// Makes the helpers look at once: the lease is renewed, and this node's bindings are looked for again.
    pub fn waker(&self) -> impl Fn() + Send + 'static {
        let threads: Vec<_> = self.helpers.iter().map(Background::waker).collect();
        move || threads.iter().for_each(std::thread::Thread::unpark)
    }

    /// Whether one of the threads has ended: nothing would be written or read any more.
    pub fn has_ended(&self) -> bool {
        self.workers.iter().any(JoinHandle::is_finished)
    }

    /// Ends the threads once everything queued is done. Handles must have been dropped, or nothing ends.
    pub fn stop(self) {
        let Running { handle, workers, helpers, .. } = self;
        drop(handle);
        helpers.into_iter().for_each(Background::stop);
        for thread in workers {
            let _ = thread.join();
        }
    }
}
