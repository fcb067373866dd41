//! The sockets that the process was started with: systemd's (socket activation), or those of the process before.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use roost_core::Listener;

/// The sockets that the process was started with.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    datagrams: Vec<(SocketAddr, UdpSocket)>,
    connections: Vec<(SocketAddr, TcpListener)>,
}

impl Inherited {
    /// From `LISTEN_FDS`, of systemd or of the process before; nothing where that is for another process. The first are listened
    /// on; behind so many there are the connections of the process before.
    pub(super) fn take(listening: usize) -> (Inherited, Vec<TcpStream>) {
        let mut inherited = Inherited::default();
        let mut connections = Vec::new();
        let mut all = listenfd::ListenFd::from_env();
        for index in 0..all.len() {
            if let Ok(Some(socket)) = all.take_udp_socket(index)
                && let Ok(address) = socket.local_addr()
            {
                inherited.datagrams.push((address, socket));
            } else if let Ok(Some(socket)) = all.take_tcp_listener(index) {
                match socket.local_addr() {
                    Ok(address) if index < listening => inherited.connections.push((address, socket)),
                    _ => connections.push(OwnedFd::from(socket).into()),
                }
            }
        }
        (inherited, connections)
    }

    /// Whether there is one of this address.
    pub(super) fn has_datagrams(&self, address: SocketAddr) -> bool {
        self.datagrams.iter().any(|(own, _)| *own == address)
    }

    /// Those of an address, so many at most.
    pub(super) fn take_datagrams(&mut self, address: SocketAddr, most: usize) -> Vec<UdpSocket> {
        let mut taken = Vec::new();
        while let Some(at) =
            self.datagrams.iter().position(|(own, _)| *own == address).filter(|_| taken.len() < most)
        {
            taken.push(self.datagrams.remove(at).1);
        }
        taken
    }

    /// The one of an address.
    pub(super) fn take_connections(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.connections.iter().position(|(own, _)| *own == address)?;
        Some(self.connections.remove(at).1)
    }

    /// Closes those that the configuration does not name, and says so: they may be in the way of those that it does.
    pub(super) fn close_others(&mut self, listeners: &[Listener]) {
        let is_named = |address: SocketAddr, is_reliable: bool| {
            listeners.iter().any(|one| one.address == address && one.transport.is_reliable() == is_reliable)
        };
        let warn = |transport: &str, address: SocketAddr| {
            tracing::warn!(
                "{transport}:{address} was inherited, and `listen` does not name it: it is closed"
            );
        };
        self.datagrams.retain(|(address, _)| {
            let stays = is_named(*address, false);
            if !stays {
                warn("udp", *address);
            }
            stays
        });
        self.connections.retain(|(address, _)| {
            let stays = is_named(*address, true);
            if !stays {
                warn("tcp", *address);
            }
            stays
        });
    }
}
