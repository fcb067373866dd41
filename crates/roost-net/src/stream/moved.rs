//! What of connections goes along to the process after this one (`roost upgrade`).

use std::net::{SocketAddr, TcpStream};

use serde::{Deserialize, Serialize};

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
    pub connections: Vec<(MovedConnection, TcpStream)>,
    /// Those that cannot go on.
    pub held: Vec<TcpStream>,
}
