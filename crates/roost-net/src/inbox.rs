//! A worker's inbox: batches from other workers, the store and operators, and the event that wakes it.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roost_core::{Admin, CallRecord, Flow, HandOver, Moved, Reading, Receipt, Row, ShardEvent, Ticket};

use crate::backpressure::Permit;
use crate::poller::Event;

/// Messages from other workers and connections that wait at most; more are dropped and counted. Receipts always find room: each
/// answers a command, and commands are limited in the core.
pub const MAX_INBOX_MESSAGES: usize = 65_536;

/// One thing for a worker to handle.
#[derive(Debug)]
pub enum InboxItem {
    /// The answer to a command.
    Receipt(Receipt),
    /// Messages that arrived at the wrong worker.
    Messages(Batch),
    /// A message from a connection.
    Stream { flow: Flow, message: Box<[u8]>, permit: Permit },
    /// An operator's request.
    Admin(Ticket, Admin),
    /// A part of a reading of the subscriber table that began at this monotonic time, in milliseconds.
    Reading(Reading, u64),
    /// Rows of `location` that were read at start, see [`roost_core::Engine::load_page`]; `under_way` goes once they are taken.
    Rows { rows: Vec<Row>, up_to: Option<u64>, under_way: Arc<()> },
    /// Calls that were in progress when an earlier process ended.
    Calls(Vec<CallRecord>),
    /// What the connections' threads tell.
    ShardEvent(ShardEvent),
    /// What another shard tells.
    ShardEvents(Vec<ShardEvent>),
    /// What the process before had under way here.
    Moved(Box<Moved>),
    /// Read datagrams from this socket, too.
    Listen(UdpSocket),
    /// And from the one of this address no more.
    Unlisten(SocketAddr),
    /// A worker has given up this shard; for worker 0.
    Shard(usize),
    /// Finish what is under way and end.
    Stop,
}

/// Bytes of those messages.
pub const MAX_INBOX_BYTES: usize = 32 << 20;

/// Messages that one worker hands to another, in two allocations that are used again and again.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    messages: Vec<HandOver>,
}

impl Batch {
    pub(crate) fn push(&mut self, message: HandOver, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.messages.push(HandOver { start, end: self.bytes.len(), ..message });
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&HandOver, &[u8])> {
        let bytes = |message: &HandOver| self.bytes.get(message.start..message.end).unwrap_or(&[]);
        self.messages.iter().map(move |message| (message, bytes(message)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes that it holds without growing.
    pub(crate) fn room(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.messages.clear();
    }
}

impl InboxItem {
    /// How many messages it is, and their bytes; nothing for what always finds room.
    fn weight(&self) -> (usize, usize) {
        match self {
            InboxItem::Messages(batch) => (batch.messages.len(), batch.bytes.len()),
            InboxItem::Stream { message, .. } => (1, message.len()),
            InboxItem::ShardEvent(event) => weight_of(event),
            _ => (0, 0),
        }
    }
}

/// The same of one event.
fn weight_of(event: &ShardEvent) -> (usize, usize) {
    match event {
        ShardEvent::NoRoom(_, message) => (1, message.len()),
        _ => (0, 0),
    }
}

/// Where items wait for a worker.
#[derive(Debug)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    /// Set when something waits and the worker sleeps.
    event: Event,
}

#[derive(Debug, Default)]
struct Waiting {
    items: Vec<InboxItem>,
    messages: usize,
    message_bytes: usize,
    /// The worker waits for the event, or is about to.
    is_asleep: bool,
}

impl Waiting {
    /// Counts messages and their bytes, if there is room for them.
    fn admits(&mut self, (messages, bytes): (usize, usize)) -> bool {
        let is_full =
            self.messages + messages > MAX_INBOX_MESSAGES || self.message_bytes + bytes > MAX_INBOX_BYTES;
        if messages > 0 && is_full {
            return false;
        }
        self.messages += messages;
        self.message_bytes += bytes;
        true
    }
}

impl Inbox {
    /// An empty inbox.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Inbox> {
        Ok(Inbox { waiting: Mutex::default(), event: Event::new()? })
    }

    /// Puts items in and wakes the worker; how many messages found no room.
    pub fn post(&self, batch: impl IntoIterator<Item = InboxItem>) -> usize {
        let mut refused = 0;
        let mut waiting = self.lock();
        for mut item in batch {
            if let InboxItem::ShardEvents(events) = &mut item {
                // Each by itself: most always find room.
                let all = events.len();
                events.retain(|event| waiting.admits(weight_of(event)));
                refused += all - events.len();
            } else {
                let weight = item.weight();
                if !waiting.admits(weight) {
                    refused += weight.0;
                    continue;
                }
            }
            waiting.items.push(item);
        }
        // Under the lock, where the worker goes to sleep: no wake-up is lost. A busy worker needs none.
        if waiting.is_asleep && !waiting.items.is_empty() {
            waiting.is_asleep = false;
            self.event.set();
        }
        refused
    }

    /// Messages and other items that wait.
    pub fn waiting(&self) -> usize {
        let waiting = self.lock();
        waiting.items.len().max(waiting.messages)
    }

    /// Takes everything out, into `taken`, which should be empty.
    pub(crate) fn take(&self, taken: &mut Vec<InboxItem>) {
        let mut waiting = self.lock();
        if !waiting.items.is_empty() {
            (waiting.messages, waiting.message_bytes) = (0, 0);
            std::mem::swap(&mut waiting.items, taken);
        }
    }

    /// The worker is about to wait for the event; false when something waits, and it should not.
    pub(crate) fn may_sleep(&self) -> bool {
        let mut waiting = self.lock();
        waiting.is_asleep = waiting.items.is_empty();
        waiting.is_asleep
    }

    /// The worker waits no more.
    pub(crate) fn woke(&self) {
        let mut waiting = self.lock();
        // It is unset where the event was set.
        if !std::mem::take(&mut waiting.is_asleep) {
            self.event.clear();
        }
    }

    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.event.descriptor()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use roost_core::{CommitOutcome, Mark};

    use super::*;

    #[test]
    fn messages_are_bounded_receipts_are_not() {
        let inbox = Inbox::new().unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        let shard = roost_core::ShardId(0);
        let handed =
            HandOver { shard, flow: Flow::udp(address, address), start: 0, end: 0, mark: Mark::None };
        let message = |bytes: usize| {
            let mut batch = Batch::default();
            batch.push(handed, &vec![0; bytes]);
            InboxItem::Messages(batch)
        };
        assert_eq!(inbox.post((0..MAX_INBOX_MESSAGES + 5).map(|_| message(0))), 5);
        assert_eq!(inbox.post([InboxItem::Receipt(Receipt::Commit(Ticket(1), CommitOutcome::Committed))]), 0);
        let mut taken = Vec::new();
        inbox.take(&mut taken);
        assert_eq!(taken.len(), MAX_INBOX_MESSAGES + 1);
        taken.clear();
        inbox.take(&mut taken);
        assert!(taken.is_empty());
        assert_eq!(inbox.post((0..1_000).map(|_| message(60_000))), 1_000 - MAX_INBOX_BYTES / 60_000);
        let mut batch = Batch::default();
        (0..3).for_each(|_| batch.push(handed, &[0; 60_000]));
        assert_eq!(inbox.post([InboxItem::Messages(batch)]), 3, "whole or not at all");
        let no_room = || ShardEvent::NoRoom(Flow::udp(address, address), vec![0; 60_000].into());
        let events = vec![no_room(), ShardEvent::ConnectionClosed(1), no_room()];
        assert_eq!(inbox.post([InboxItem::ShardEvents(events)]), 2);
        inbox.take(&mut taken);
        assert!(matches!(taken.last(), Some(InboxItem::ShardEvents(events)) if events.len() == 1));
    }

    #[test]
    fn no_wake_up_is_lost() {
        let inbox = std::sync::Arc::new(Inbox::new().unwrap());
        let posts = 20_000;
        let poster = std::sync::Arc::clone(&inbox);
        let thread = std::thread::spawn(move || {
            for _ in 0..posts {
                poster.post([InboxItem::Receipt(Receipt::Commit(Ticket(1), CommitOutcome::Committed))]);
            }
        });
        let mut got = 0;
        while got < posts {
            let before = std::time::Instant::now();
            if inbox.may_sleep() {
                crate::poller::wait_readable(inbox.event(), std::time::Duration::from_secs(20)).unwrap();
                inbox.woke();
            }
            assert!(before.elapsed().as_secs() < 20, "slept while something waited");
            let mut taken = Vec::new();
            inbox.take(&mut taken);
            got += taken.len();
        }
        thread.join().unwrap();
    }
}
