//! Which worker runs which shard. Worker 0 runs all that have no worker of their own at the time.
//!
//! A worker that is busy for most of a window and runs more than its own shard gives one to that shard's own worker, which
//! slept till then. A worker that has been idle for long leaves its shard to worker 0 again, if that one has room (`load.rs`).

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use roost_core::{Command, Engine, Event, EventKind, Listener, Moved, Now, Outbox};
use roost_hep::Tap;

use crate::inbox::{Inbox, InboxItem};
use crate::stream::Streams;

/// All shards, and the workers that wait for theirs.
#[derive(Debug)]
pub struct WorkerPool<F> {
    pub(crate) shards: Vec<Shard<F>>,
    pub(crate) inboxes: Arc<Vec<Inbox>>,
    /// Where messages for connections go; none where only datagrams are listened for.
    pub(crate) streams: Option<Streams>,
    /// Whether worker 0 can take another shard.
    pub(crate) has_room: AtomicBool,
    /// Takes what has happened.
    pub(crate) news: News,
    /// Datagrams that were passed over so far: what can wait does while there are more.
    pub(crate) shed: Arc<AtomicU64>,
    /// Where copies of messages go while somebody wants them.
    pub(crate) tap: Arc<Tap>,
    is_stopping: Mutex<bool>,
}

/// Who is told what has happened.
pub struct News {
    /// Takes events out, and how many more of which topics there were.
    pub tell: Box<Tell>,
    /// Topics of which every event is wanted, as [`roost_core::Topics::bits`]; they may change at any time.
    pub wanted: Arc<AtomicU16>,
    /// Whether news for a log are wanted: at most [`NEWS_PER_S`] of each worker a second.
    pub is_logged: bool,
}

/// Takes events out of a list; the numbers are of events that were not made.
pub type Tell = dyn Fn(&mut Vec<Event>, Vec<(EventKind, u64)>) + Send + Sync;

impl std::fmt::Debug for News {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("News")
    }
}

/// Events for a log of one worker in a second that are made; more are counted.
pub const NEWS_PER_S: u32 = 50;

/// What one shard works with.
#[derive(Debug)]
pub(crate) struct Shard<F> {
    state: Mutex<ShardState<F>>,
    call: Mutex<Call>,
    called: Condvar,
}

/// What the worker that runs a shard holds.
#[derive(Debug)]
pub(crate) struct ShardState<F> {
    pub(crate) engine: Engine,
    /// One of every listener for datagrams.
    pub(crate) sockets: Vec<BoundSocket>,
    /// Takes the engine's commands that are not for another shard, all of them out.
    pub(crate) ask: F,
}

/// A socket and what it is bound to.
#[derive(Debug)]
pub(crate) struct BoundSocket {
    pub(crate) socket: UdpSocket,
    pub(crate) address: SocketAddr,
}

/// What a worker without a shard waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Wait,
    Come,
    End,
}

impl<F: FnMut(&mut Vec<Command>)> WorkerPool<F> {
    /// A pool of one worker for each shard: its engine, its socket of every listener, and what takes its commands. Shard
    /// `n` reads the inbox of that number.
    ///
    /// # Errors
    /// When a socket does not tell its address.
    pub fn new(
        shards: Vec<(Engine, Vec<UdpSocket>, F)>,
        inboxes: Arc<Vec<Inbox>>,
        streams: Option<Streams>,
        news: News,
        shed: Arc<AtomicU64>,
        tap: Arc<Tap>,
    ) -> io::Result<Arc<Self>> {
        let shard = |(engine, sockets, ask): (Engine, Vec<UdpSocket>, F)| {
            let sockets = sockets.into_iter().map(BoundSocket::new).collect::<io::Result<_>>()?;
            Ok(Shard {
                state: Mutex::new(ShardState { engine, sockets, ask }),
                call: Mutex::new(Call::Wait),
                called: Condvar::new(),
            })
        };
        let shards = shards.into_iter().map(shard).collect::<io::Result<_>>()?;
        Ok(Arc::new(WorkerPool {
            shards,
            inboxes,
            streams,
            has_room: AtomicBool::new(false),
            news,
            shed,
            tap,
            is_stopping: Mutex::new(false),
        }))
    }

    /// Tells all workers to finish what is under way and to end.
    pub fn stop(&self) {
        // No shard changes its worker from here on, and what has left its own is in worker 0's inbox before the end is.
        *self.is_stopping.lock().unwrap_or_else(PoisonError::into_inner) = true;
        for inbox in self.inboxes.iter() {
            inbox.post([InboxItem::Stop]);
        }
        self.shards.iter().for_each(|shard| shard.call(Call::End));
    }
}

impl<F> WorkerPool<F> {
    /// What of each shard goes on in the process after this one, once all workers have ended.
    pub fn take_out(&self, now: Now) -> Vec<Moved> {
        let mut out = Outbox::default();
        self.shards.iter().map(|shard| shard.state().engine.take_out(now, &mut out)).collect()
    }

    /// Sleeps until the worker must run its own shard; false when it must end.
    pub(crate) fn wait_for_call(&self, own: usize) -> bool {
        let Some(shard) = self.shards.get(own) else { return false };
        let call = shard.call.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = shard.called.wait_while(call, |call| *call == Call::Wait);
        let mut call = waited.unwrap_or_else(PoisonError::into_inner);
        let must_come = *call == Call::Come;
        if must_come {
            *call = Call::Wait;
        }
        must_come
    }

    /// Tells a shard's own worker to run it.
    pub(crate) fn call(&self, index: usize) {
        if let Some(shard) = self.shards.get(index) {
            shard.call(Call::Come);
        }
    }

    /// Leaves a shard to worker 0 by `give_up`, unless that is ending.
    pub(crate) fn leave(&self, index: usize, give_up: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let is_stopping = self.is_stopping.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inbox) = self.inboxes.first().filter(|_| !*is_stopping) {
            give_up()?;
            inbox.post([InboxItem::Shard(index)]);
        }
        Ok(())
    }
}

impl<F> Shard<F> {
    /// Its state, once no other worker has it.
    pub(crate) fn state(&self) -> MutexGuard<'_, ShardState<F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is called to a shard comes first, and finds there that it must end.
    fn call(&self, call: Call) {
        let mut called = self.call.lock().unwrap_or_else(PoisonError::into_inner);
        if *called != Call::Come {
            *called = call;
        }
        self.called.notify_all();
    }
}

impl BoundSocket {
    /// # Errors
    /// It does not tell its address.
    pub(crate) fn new(socket: UdpSocket) -> io::Result<BoundSocket> {
        Ok(BoundSocket { address: socket.local_addr()?, socket })
    }

    /// Whether a flow's local address is this socket's.
    pub(crate) fn is_from(&self, local: SocketAddr) -> bool {
        Listener::udp(self.address).covers(local)
    }
}
