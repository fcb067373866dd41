//! Whom a connection leads to.

use std::net::SocketAddr;

use roost_core::{Flow, Transport};

use crate::tls::is_named;

/// Whom a connection leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    transport: Transport,
    remote: SocketAddr,
    /// The number of the name that it has proven; 0: none.
    pub(super) name: u64,
}

impl Peer {
    pub(super) fn of(flow: Flow) -> Peer {
        let name = if is_named(flow.connection) { flow.connection } else { 0 };
        Peer { transport: flow.transport, remote: flow.remote, name }
    }
}
