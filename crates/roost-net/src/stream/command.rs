//! What a thread of connections is told.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::Sender;

use roost_core::{Flow, Transport};

use crate::stream::moved::MovedStreams;

/// A message to send.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) flow: Flow,
    pub(super) message: Box<[u8]>,
}

/// A connection, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// Its number, transport and addresses.
    pub flow: Flow,
    /// Whether its handshake is under way.
    pub is_handshaking: bool,
    /// How long it has been silent, in milliseconds.
    pub silent_ms: u64,
    /// How long it is kept for a binding that was made over it, in milliseconds; 0: for none.
    pub kept_ms: u64,
}

#[derive(Debug)]
pub(super) enum StreamCommand {
    /// Another thread has accepted this connection, which counts as its source's already.
    Accepted {
        transport: Transport,
        stream: TcpStream,
        /// Our address, where it is another than the socket's.
        local: Option<SocketAddr>,
        remote: SocketAddr,
    },
    Send(Outgoing),
    /// Keep a connection until then, in monotonic milliseconds, however silent.
    Keep {
        connection: u64,
        until_ms: u64,
    },
    /// Say which connections there are.
    List(Sender<Vec<ConnectionRecord>>),
    /// Close all connections, a share each second, until then in monotonic milliseconds; 0: no more.
    Drain {
        until_ms: u64,
    },
    /// Accept connections here, too.
    Listen(Transport, TcpListener),
    /// Accept none here any more, and close those that were.
    Unlisten(Transport, SocketAddr),
    /// Accept and read nothing any more, and say so.
    Pause(Sender<()>),
    /// Give the connections away, for the process after this one.
    TakeOut(Sender<MovedStreams>),
    /// End the thread.
    End,
}
