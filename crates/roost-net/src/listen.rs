//! Listeners: what `listen = ["udp:0.0.0.0:5060"]` means, and the sockets behind it.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, Socket, Type};

use crate::batch::{force_receive_buffer, want_packet_info};

/// Kernel buffer of each socket, in bytes: what arrives while a worker handles a batch waits there.
const SOCKET_BUFFER: usize = 4 << 20;

/// One listening address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An entry that is no `udp:ADDRESS:PORT`.
    #[error(
        "listen: \"{entry}\" is no listening address; write \"udp:ADDRESS:PORT\", such as \"udp:0.0.0.0:5060\""
    )]
    Syntax { entry: String },
    /// A transport that this roost does not speak.
    #[error("listen: \"{entry}\": this roost listens on UDP only; write \"udp:…\"")]
    Transport { entry: String },
    /// Somebody else has the port.
    #[error(
        "cannot listen on udp:{address}: the port is in use; another roost or SIP server runs there: stop it, or set \
         `listen` in roost.toml to another port"
    )]
    InUse { address: SocketAddr },
    /// The address is not this machine's.
    #[error(
        "cannot listen on udp:{address}: this machine has no such address; set `listen` in roost.toml to one that \
         it has, or to udp:0.0.0.0:{}", address.port()
    )]
    NotOurs { address: SocketAddr },
    /// Anything else, such as a port below 1024 without the right to it.
    #[error("cannot listen on udp:{address}: {source}")]
    Other { address: SocketAddr, source: io::Error },
}

/// Reads one entry of `listen`.
///
/// # Errors
/// [`ListenError::Syntax`] or [`ListenError::Transport`].
pub fn parse_listen(entry: &str) -> Result<Listener, ListenError> {
    let syntax = || ListenError::Syntax { entry: entry.to_string() };
    let (transport, address) = entry.split_once(':').ok_or_else(syntax)?;
    match transport.to_ascii_lowercase().as_str() {
        "udp" => {}
        "tcp" | "tls" | "ws" | "wss" => return Err(ListenError::Transport { entry: entry.to_string() }),
        _ => return Err(syntax()),
    }
    let with_port =
        if address.parse::<std::net::IpAddr>().is_ok() { format!("{address}:5060") } else { address.into() };
    with_port.parse().map(|address| Listener { address }).map_err(|_| syntax())
}

impl Listener {
    /// Makes sure that nobody listens here: SO_REUSEPORT would let a second roost take half of the phones.
    ///
    /// # Errors
    /// [`ListenError`] names the address and the remedy.
    pub fn probe(&self) -> Result<(), ListenError> {
        self.bind(false).map(drop)
    }

    /// Whether a datagram could be meant for both.
    pub fn overlaps(&self, other: &Listener) -> bool {
        let (a, b) = (self.address, other.address);
        let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
        a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && same_ip
    }

    /// One socket for each worker, on one port.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn sockets(&self, workers: usize) -> Result<Vec<UdpSocket>, ListenError> {
        (0..workers).map(|_| self.bind(true)).collect()
    }

    fn bind(&self, shared: bool) -> Result<UdpSocket, ListenError> {
        let address = self.address;
        let make = || -> io::Result<UdpSocket> {
            let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            socket.set_reuse_port(shared)?;
            if force_receive_buffer(socket.as_fd(), SOCKET_BUFFER).is_err() {
                socket.set_recv_buffer_size(SOCKET_BUFFER)?;
            }
            socket.set_send_buffer_size(SOCKET_BUFFER)?;
            socket.bind(&address.into())?;
            if address.ip().is_unspecified() {
                want_packet_info(socket.as_fd(), address.is_ipv6())?;
            }
            Ok(socket.into())
        };
        make().map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse { address },
            io::ErrorKind::AddrNotAvailable => ListenError::NotOurs { address },
            _ => ListenError::Other { address, source },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let parse = |entry: &str| parse_listen(entry).map(|listener| listener.address.to_string());
        assert_eq!(parse("udp:0.0.0.0:5060").unwrap(), "0.0.0.0:5060");
        assert_eq!(parse("UDP:192.168.1.201").unwrap(), "192.168.1.201:5060");
        assert_eq!(parse("udp:[::1]:5070").unwrap(), "[::1]:5070");
        assert!(matches!(parse("tcp:0.0.0.0:5060"), Err(ListenError::Transport { .. })));
        for bad in ["", "5060", "udp:", "udp:host:5060", "udp:1.2.3.4:99999", "sctp:1.2.3.4:5060"] {
            assert!(matches!(parse(bad), Err(ListenError::Syntax { .. })), "{bad}");
        }
    }

    #[test]
    fn a_port_is_ours_alone() {
        let first = Listener { address: "127.0.0.1:0".parse().unwrap() }.bind(true).unwrap();
        let listener = Listener { address: first.local_addr().unwrap() };
        assert!(matches!(listener.probe(), Err(ListenError::InUse { .. })));
        assert_eq!(listener.sockets(2).unwrap().len(), 2);
        drop(first);
        assert!(listener.probe().is_ok());
        let elsewhere = Listener { address: "192.0.2.1:5060".parse().unwrap() };
        assert!(matches!(elsewhere.probe(), Err(ListenError::NotOurs { .. })));
    }
}
