//! How a thread hands its connections over to the process after this one, and takes those of the one before: TCP's go on; sessions of TLS and
//! WebSocket are not moved, and theirs are closed at a pace, so that not all phones come again at once.

use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::time::Duration;

use roost_core::{Flow, Transport};
use tokio::net::TcpStream;

use crate::stream::connection::Connection;
use crate::stream::moved::{MovedConnection, MovedStreams};
use crate::stream::peer::Peer;
use crate::stream::shared::Shared;
use crate::stream::thread::StreamThread;

/// So many connections are closed in a second at most; the thread of each has a share.
const CLOSED_PER_S: usize = 500;

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
