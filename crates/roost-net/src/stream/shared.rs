//! What the threads of connections share with one another and with the senders.

use std::hash::{Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use roost_core::ShardEvent;
use siphasher::sip::SipHasher13;

use crate::clock::Clock;
use crate::inbox::{Inbox, InboxItem};
use crate::stream::carriers::Carriers;
use crate::stream::command::Outgoing;
use crate::stream::counters::Counters;
use crate::stream::limits::{MAX_HELD, StreamSettings};
use crate::stream::moved::MovedStreams;
use crate::stream::sources::Sources;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: StreamSettings,
    pub(super) carriers: Carriers,
    pub(super) threads: usize,
    pub(super) inboxes: Arc<Vec<Inbox>>,
    pub(super) clock: Clock,
    pub(super) counters: Counters,
    pub(super) sources: Sources,
    /// Bytes that `MAX_COMMANDED` limits.
    pub(super) commanded: AtomicUsize,
    /// Peers that are being connected to.
    pub(super) connecting: AtomicUsize,
    /// Bytes that `MAX_HELD` limits.
    held: AtomicUsize,
    /// What thread has a peer hangs on it: the same in the process after this one.
    pub(super) hash_seed: u64,
}

impl Shared {
    pub(super) fn new(
        settings: StreamSettings,
        carriers: Carriers,
        (threads, hash_seed): (usize, u64),
        inboxes: Arc<Vec<Inbox>>,
        clock: Clock,
    ) -> Shared {
        Shared {
            settings,
            carriers,
            threads,
            inboxes,
            clock,
            counters: Counters::default(),
            sources: Sources::default(),
            commanded: AtomicUsize::new(0),
            connecting: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            hash_seed,
        }
    }

    /// The thread that has a connection.
    pub(super) fn thread_of(&self, connection: u64) -> usize {
        (connection % self.threads as u64) as usize
    }

    /// The thread that has all connections with a peer, whichever side began them.
    pub(super) fn thread_of_peer(&self, remote: SocketAddr) -> usize {
        if self.threads == 1 {
            return 0;
        }
        let mut hasher = SipHasher13::new_with_keys(self.hash_seed, !self.hash_seed);
        remote.hash(&mut hasher);
        (hasher.finish() % self.threads as u64) as usize
    }

    /// Each thread's connections of the process before; all are held where that had other threads.
    pub(super) fn divided(&self, moved: MovedStreams) -> Vec<MovedStreams> {
        let mut all: Vec<_> = (0..self.threads).map(|_| MovedStreams::default()).collect();
        let is_same = moved.threads == self.threads;
        let mut held = moved.held;
        for (connection, stream) in moved.connections {
            match all.get_mut(self.thread_of(connection.number)).filter(|_| is_same) {
                Some(thread) => thread.connections.push((connection, stream)),
                None => held.push(stream),
            }
        }
        if let Some(first) = all.first_mut() {
            first.held = held;
        }
        all
    }

    /// Where what arrives over a connection goes: all of one connection to the same.
    pub(super) fn inbox_of(&self, connection: u64) -> Option<&Inbox> {
        self.inboxes.get((connection % self.inboxes.len().max(1) as u64) as usize)
    }

    /// Tells the engines that a message cannot be sent.
    pub(super) fn unsent(&self, Outgoing { flow, message }: Outgoing) {
        self.counters.unsent.increment();
        if let Some(inbox) = self.inboxes.first() {
            inbox.post([InboxItem::ShardEvent(ShardEvent::Unsent(flow, message))]);
        }
    }

    /// Tells the engines that there is no room for a message now.
    pub(super) fn no_room(&self, Outgoing { flow, message }: Outgoing) {
        self.counters.unsent.increment();
        if let Some(inbox) = self.inboxes.first() {
            inbox.post([InboxItem::ShardEvent(ShardEvent::NoRoom(flow, message))]);
        }
    }

    /// Tells all shards that a connection is gone which a binding was made over.
    pub(super) fn tell_closed(&self, connection: u64) {
        for inbox in self.inboxes.iter() {
            inbox.post([InboxItem::ShardEvent(ShardEvent::ConnectionClosed(connection))]);
        }
    }

    /// Counts bytes that are held from here on; false when there are too many.
    pub(super) fn hold(&self, bytes: usize) -> bool {
        bytes == 0 || self.held.fetch_add(bytes, Ordering::Relaxed) + bytes <= MAX_HELD
    }

    /// Counts bytes that are held if there is room for them.
    pub(super) fn try_hold(&self, bytes: usize) -> bool {
        let is_room = self.hold(bytes);
        if !is_room {
            self.release(bytes);
        }
        is_room
    }

    /// Counts bytes that are not held any more.
    pub(super) fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now().mono_ms
    }
}
