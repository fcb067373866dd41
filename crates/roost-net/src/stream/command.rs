//! What a thread of connections is told.

use std::net::{SocketAddr, TcpStream};

use roost_core::{Flow, Transport};

/// A message to send.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) flow: Flow,
    pub(super) message: Box<[u8]>,
}

#[derive(Debug)]
pub(super) enum StreamCommand {
    /// Another thread has accepted this connection, which counts as its source's already.
    Accepted {
        transport: Transport,
        stream: TcpStream,
        remote: SocketAddr,
    },
    Send(Outgoing),
    /// Keep a connection until then, in monotonic milliseconds, however silent.
    Keep {
        connection: u64,
        until_ms: u64,
    },
    /// End the thread.
    End,
}
