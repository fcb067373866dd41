//! Connections (TCP, TLS, WebSocket): threads that accept, connect, cut streams into messages for the workers' inboxes, and write.
//!
//! All connections with a peer are one thread's; a connection is known by a number that is never used again and names its
//! thread. What cannot be sent goes back to the engine, and so does the news that a connection is gone which a binding was
//! made over. Whatever a peer does, it costs a bounded amount of memory (`limits.rs`).

mod carriers;
mod command;
mod connection;
mod connections;
mod counters;
mod framer;
mod handing;
mod limits;
mod moved;
mod peer;
mod proxied;
mod shared;
mod sources;
mod thread;
mod tls_session;
mod websocket;
mod wire;
mod write_queue;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use roost_core::{Flow, Transport};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::clock::Clock;
use crate::inbox::Inbox;
use crate::stream::command::{Outgoing, StreamCommand};
use crate::stream::limits::{MAX_COMMANDED, MAX_THREADS, PER_THREAD};
use crate::stream::shared::Shared;
use crate::stream::thread::StreamThread;
use crate::tls::is_named;

pub use carriers::Carriers;
pub use command::ConnectionRecord;
pub use limits::StreamSettings;
pub use moved::{MovedConnection, MovedStreams};

/// Where messages for connections go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Streams {
    threads: Arc<[UnboundedSender<StreamCommand>]>,
    shared: Arc<Shared>,
}

impl Streams {
    /// Starts threads, as many as there are workers at most. What arrives goes to `inboxes`, one of each worker. Connections of
    /// the process before go on.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        listeners: Vec<(Transport, TcpListener)>,
        settings: StreamSettings,
        carriers: Carriers,
        inboxes: Arc<Vec<Inbox>>,
        clock: Clock,
        moved: MovedStreams,
    ) -> io::Result<(Streams, Vec<JoinHandle<()>>)> {
        let wanted = settings.max_connections.div_ceil(PER_THREAD);
        let threads = inboxes.len().min(wanted).clamp(1, MAX_THREADS);
        let seed = moved.hash_seed;
        let (streams, commands) = Streams::unstarted(threads, settings, carriers, inboxes, clock, seed);
        // The first thread accepts for all.
        let mut listeners = Some(listeners);
        let mut moved = streams.shared.divided(moved);
        let start = |(own, commands): (usize, UnboundedReceiver<StreamCommand>)| {
            let listeners = listeners.take().unwrap_or_default();
            let moved = moved.get_mut(own).map(std::mem::take).unwrap_or_default();
            let (shared, threads) = (Arc::clone(&streams.shared), Arc::clone(&streams.threads));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let run = move || {
                let thread = StreamThread::new(own, shared, threads);
                tokio::task::LocalSet::new().block_on(&runtime, thread.serve(listeners, moved, commands));
            };
            std::thread::Builder::new().name(format!("roost-stream-{own}")).spawn(run)
        };
        let started = commands.into_iter().enumerate().map(start).collect::<io::Result<_>>()?;
        Ok((streams, started))
    }

    fn unstarted(
        threads: usize,
        settings: StreamSettings,
        carriers: Carriers,
        inboxes: Arc<Vec<Inbox>>,
        clock: Clock,
        hash_seed: u64,
    ) -> (Streams, Vec<UnboundedReceiver<StreamCommand>>) {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..threads).map(|_| unbounded_channel()).unzip();
        let shared = Arc::new(Shared::new(settings, carriers, (threads, hash_seed), inboxes, clock));
        (Streams { threads: senders.into(), shared }, receivers)
    }

    /// Sends a message over a flow's connection; over 0, or the number of a name that its peer must prove, the one that leads
    /// to its peer, or a new one. What cannot be sent
    /// comes back as [`roost_core::ShardEvent::Unsent`], and what there is no room for as `NoRoom`.
    pub fn send(&self, flow: Flow, message: &[u8]) {
        let thread = match flow.connection {
            number if number == 0 || is_named(number) => self.shared.thread_of_peer(flow.remote),
            number => self.shared.thread_of(number),
        };
        let commanded = self.shared.commanded.fetch_add(message.len(), Ordering::Relaxed);
        let command = StreamCommand::Send(Outgoing { flow, message: message.into() });
        let refused = match self.threads.get(thread) {
            Some(thread) if commanded <= MAX_COMMANDED => thread.send(command).err().map(|error| error.0),
            _ => Some(command),
        };
        if let Some(StreamCommand::Send(outgoing)) = refused {
            self.shared.commanded.fetch_sub(message.len(), Ordering::Relaxed);
            self.shared.counters.memory_full.increment();
            self.shared.no_room(outgoing);
        }
    }

    /// Keeps a connection until then, in monotonic milliseconds, however silent.
    pub fn keep(&self, connection: u64, until_ms: u64) {
        if let Some(thread) = self.threads.get(self.shared.thread_of(connection)) {
            let _ = thread.send(StreamCommand::Keep { connection, until_ms });
        }
    }

    /// Closes all connections, evenly over so long; `None`: no more of them.
    pub fn drain(&self, within: Option<Duration>) {
        let until_ms = within.map_or(0, |within| self.shared.now_ms() + within.as_millis() as u64);
        for thread in self.threads.iter() {
            let _ = thread.send(StreamCommand::Drain { until_ms });
        }
    }

    /// Takes a connection that somebody else of the process has accepted and looked at: its addresses are those that its peer knows.
    pub fn adopt(&self, transport: Transport, stream: TcpStream, local: SocketAddr, remote: SocketAddr) {
        if !self.shared.sources.admit(remote.ip(), self.shared.settings.max_per_source) {
            return self.shared.counters.refused_source.increment();
        }
        let command = StreamCommand::Accepted { transport, stream, local: Some(local), remote };
        let thread = self.threads.get(self.shared.thread_of_peer(remote));
        if thread.is_none_or(|thread| thread.send(command).is_err()) {
            self.shared.sources.release(remote.ip());
        }
    }

    /// Accepts connections from this socket, too.
    pub fn listen(&self, transport: Transport, listener: TcpListener) {
        // The first thread accepts for all.
        if let Some(thread) = self.threads.first() {
            let _ = thread.send(StreamCommand::Listen(transport, listener));
        }
    }

    /// Accepts connections of this address no more, and closes those that came to it.
    pub fn unlisten(&self, transport: Transport, address: SocketAddr) {
        for thread in self.threads.iter() {
            let _ = thread.send(StreamCommand::Unlisten(transport, address));
        }
    }

    /// Accepts and reads nothing any more; what was read is in the inboxes when it returns. It still writes.
    pub fn pause(&self) {
        self.ask(StreamCommand::Pause);
    }

    /// Takes all connections out, for the process after this one; it is paused, and nothing is sent any more.
    pub fn take_out(&self) -> MovedStreams {
        let (threads, hash_seed) = (self.threads.len(), self.shared.hash_seed);
        let all = MovedStreams { threads, hash_seed, ..MovedStreams::default() };
        self.ask(StreamCommand::TakeOut).into_iter().fold(all, |mut all, more| {
            all.connections.extend(more.connections);
            all.held.extend(more.held);
            all
        })
    }

    /// What each thread answers; it is waited for, not longer than a second for each.
    fn ask<T>(&self, command: impl Fn(std::sync::mpsc::Sender<T>) -> StreamCommand) -> Vec<T> {
        let ask = |thread: &UnboundedSender<StreamCommand>| {
            let (answer, answered) = std::sync::mpsc::channel();
            thread.send(command(answer)).ok()?;
            answered.recv_timeout(Duration::from_secs(1)).ok()
        };
        self.threads.iter().filter_map(ask).collect()
    }

    /// Ends the threads, once what was sent before is written as far as the peers read.
    pub fn stop(&self) {
        for thread in self.threads.iter() {
            let _ = thread.send(StreamCommand::End);
        }
    }

    /// All connections, by number. It waits for the threads, not longer than a second for each.
    pub fn list(&self) -> Vec<ConnectionRecord> {
        let mut all: Vec<ConnectionRecord> = self.ask(StreamCommand::List).into_iter().flatten().collect();
        all.sort_unstable_by_key(|record| record.flow.connection);
        all
    }

    /// Names (`group:name`) and values.
    pub fn statistics(&self) -> Vec<(&'static str, u64)> {
        self.shared.counters.all()
    }
}

#[cfg(test)]
mod tests;
