//! Connections in the process after this one (`roost upgrade`): TCP's go on there; sessions of TLS and WebSocket are not moved, and
//! theirs are closed there at a pace, so that not all phones come again at once.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::time::Duration;

use roost_core::{Flow, Transport};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use crate::stream::connection::Connection;
use crate::stream::peer::Peer;
use crate::stream::shared::Shared;
use crate::stream::thread::StreamThread;

/// So many connections are closed in a second at most; the thread of each has a share.
const CLOSED_PER_S: usize = 500;

/// What goes along with a connection's socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedConnection {
    /// It stays the same.
    pub number: u64,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// How long it is kept for a binding, in milliseconds; `None`: there has been none.
    pub(super) kept_ms: Option<u64>,
    /// The beginning of a message.
    pub(super) read: Vec<u8>,
    /// What its peer has not taken yet.
    pub(super) unsent: Vec<u8>,
}

/// All connections of a process that ends.
#[derive(Debug, Default)]
pub struct MovedStreams {
    /// How many threads they belong to.
    pub threads: usize,
    /// What thread has a peer hangs on it.
    pub hash_seed: u64,
    pub connections: Vec<(MovedConnection, std::net::TcpStream)>,
    /// Those that cannot go on.
    pub held: Vec<std::net::TcpStream>,
}

/// When each of so many is closed.
fn close_after(index: usize) -> Duration {
    Duration::from_millis((index * 1_000 / CLOSED_PER_S) as u64)
}

impl StreamThread {
    /// Accepts and reads nothing any more.
    pub(super) fn pause(&self) {
        self.is_paused.set(true);
        self.accepting.borrow_mut().drain(..).for_each(|(_, task)| task.abort());
        for connection in self.connections.borrow().iter() {
            connection.is_paused.set(true);
            connection.wake();
        }
    }

    /// Takes out the connections that can go on elsewhere, and the sockets of the others.
    pub(super) fn take_out(&self) -> MovedStreams {
        let now_ms = self.shared.now_ms();
        let mut all = MovedStreams::default();
        for connection in self.connections.take().into_all() {
            let Ok(socket) = connection.stream.as_fd().try_clone_to_owned() else { continue };
            match connection.moved(now_ms) {
                Some(moved) => all.connections.push((moved, socket.into())),
                None => all.held.push(socket.into()),
            }
        }
        all
    }

    /// Goes on with the connections of the process before, and closes those that cannot go on, one after the other, but at once
    /// when its peer has something to say.
    pub(super) fn take_in(self: &Rc<Self>, moved: MovedStreams) {
        for (moved, stream) in moved.connections {
            let begun = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            match begun {
                Ok(stream) => self.go_on(moved, stream),
                Err(error) => tracing::debug!(source = %moved.remote, %error, "a connection does not go on"),
            }
        }
        for (index, stream) in moved.held.into_iter().enumerate() {
            if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                tokio::task::spawn_local(async move {
                    let _ = tokio::time::timeout(close_after(index), stream.readable()).await;
                });
            }
        }
    }

    fn go_on(self: &Rc<Self>, moved: MovedConnection, stream: TcpStream) {
        let Shared { settings, sources, .. } = &*self.shared;
        let MovedConnection { number, local, remote, kept_ms, read, unsent } = moved;
        let flow = Flow::stream(Transport::Tcp, local, remote, 0);
        let now_ms = self.shared.now_ms();
        let Ok(wire) = self.shared.carriers.accepted(Transport::Tcp, now_ms) else { return };
        sources.admit(remote.ip(), usize::MAX);
        self.opened.set(self.opened.get().max(number / self.shared.threads as u64));
        let flow = Flow { connection: number, ..flow };
        let connection = Connection::new(flow, Peer::of(flow), stream, wire, settings, now_ms);
        if let Some(kept_ms) = kept_ms {
            connection.keep_until_ms.set(now_ms + kept_ms);
        }
        if !unsent.is_empty() && self.shared.hold(unsent.len()) {
            connection.queue.borrow_mut().push(unsent.into(), 0);
        }
        let connection = self.attend_to(connection);
        if !read.is_empty()
            && let Err(why) = self.take(&connection, &read)
        {
            self.close(&connection, why);
        }
    }
}
