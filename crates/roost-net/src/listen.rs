//! Listeners: what `listen = ["udp:0.0.0.0:5060"]` means, and the sockets behind it.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};
use roost_core::{Listener, Transport};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::overload::Buffer;

/// Kernel buffer of each socket, in bytes: what arrives while a worker handles a batch waits there.
const SOCKET_BUFFER: usize = 4 << 20;
/// The same while the queue in it stands, see `overload.rs`: as much as is handled while a phone waits for an answer.
const SHORT_BUFFER: usize = 160 << 10;
/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 4_096;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An entry is not `TRANSPORT:ADDRESS:PORT`.
    #[error(
        "listen: \"{entry}\" is not a listening address; write udp:, tcp:, tls:, ws: or wss: and ADDRESS:PORT, such as \
         \"udp:0.0.0.0:5060\", and behind it \" as ADDRESS:PORT\" where others know another one, or \" floating\" where one node after the other has it"
    )]
    Syntax { entry: String },
    /// Another process has the port.
    #[error(
        "cannot listen on {listener}: the port is in use; another roost or SIP server runs there: stop it, or set \
         `listen` in roost.toml to another port"
    )]
    InUse { listener: Listener },
    /// The address is not this machine's.
    #[error(
        "cannot listen on {listener}: this machine has no such address; set `listen` in roost.toml to one that \
         it has, or to {}:0.0.0.0:{}", listener.transport.as_str(), listener.address.port()
    )]
    NotOurs { listener: Listener },
    /// Anything else, such as a port below 1024 without the right to it.
    #[error("cannot listen on {listener}: {source}")]
    Other { listener: Listener, source: io::Error },
}

/// Reads one entry of `listen`.
///
/// # Errors
/// [`ListenError::Syntax`].
pub fn parse_listen(entry: &str) -> Result<Listener, ListenError> {
    let syntax = || ListenError::Syntax { entry: entry.to_string() };
    let (entry, is_floating) = match entry.strip_suffix(" floating") {
        Some(entry) => (entry.trim_end(), true),
        None => (entry, false),
    };
    let (entry, advertised) = match entry.split_once(" as ") {
        Some((entry, advertised)) => (entry.trim_end(), Some(advertised.trim())),
        None => (entry, None),
    };
    let (transport, address) = entry.split_once(':').ok_or_else(syntax)?;
    let transport = Transport::named(transport.as_bytes()).ok_or_else(syntax)?;
    let read = |text: &str, port: u16| match text.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, port)),
        Err(_) => text.parse::<SocketAddr>().map_err(|_| syntax()),
    };
    let address = read(address, transport.default_port())?;
    let advertised = advertised.map(|text| read(text, address.port())).transpose()?;
    Ok(Listener { advertised, is_floating, ..Listener::new(transport, address) })
}

/// Makes sure that no other process listens here: SO_REUSEPORT would let a second roost take half of the phones.
///
/// # Errors
/// [`ListenError`] names the address and the remedy.
pub fn probe(listener: &Listener) -> Result<(), ListenError> {
    match listener.transport.is_reliable() {
        false => bind(listener, false).map(drop),
        // Its own socket is bound to this address alone.
        true => Ok(()),
    }
}

/// Whether a message could be meant for both.
pub fn overlap(one: &Listener, other: &Listener) -> bool {
    let (a, b) = (one.address, other.address);
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    one.transport.is_reliable() == other.transport.is_reliable()
        && a.port() == b.port()
        && a.is_ipv4() == b.is_ipv4()
        && same_ip
}

/// One socket for each worker, on one port.
///
/// # Errors
/// [`ListenError`].
pub fn sockets(listener: &Listener, workers: usize) -> Result<Vec<UdpSocket>, ListenError> {
    (0..workers).map(|_| bind(listener, true)).collect()
}

/// The socket that connections come to.
///
/// # Errors
/// [`ListenError`].
pub fn stream_socket(listener: &Listener) -> Result<TcpListener, ListenError> {
    let address = listener.address;
    let make = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Connections of a process before, in TIME_WAIT, are not obstacle; another listener is.
        socket.set_reuse_address(true)?;
        may_be_elsewhere(&socket, listener)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    make().map_err(|source| failed(listener, source))
}

fn failed(listener: &Listener, source: io::Error) -> ListenError {
    let listener = *listener;
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { listener },
        io::ErrorKind::AddrNotAvailable => ListenError::NotOurs { listener },
        _ => ListenError::Other { listener, source },
    }
}

/// An address that floats is listened on before it is here (IP_FREEBIND).
fn may_be_elsewhere(socket: &Socket, listener: &Listener) -> io::Result<()> {
    match (listener.is_floating, listener.address.is_ipv6()) {
        (false, _) => Ok(()),
        (true, false) => socket.set_freebind_v4(true),
        (true, true) => socket.set_freebind_v6(true),
    }
}

fn bind(listener: &Listener, shared: bool) -> Result<UdpSocket, ListenError> {
    let address = listener.address;
    let make = || -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_port(shared)?;
        may_be_elsewhere(&socket, listener)?;
        socket.bind(&address.into())?;
        let socket = socket.into();
        set_options(&socket, address)?;
        Ok(socket)
    };
    make().map_err(|source| failed(listener, source))
}

/// Makes a socket that somebody else has opened like one of ours.
///
/// # Errors
/// [`ListenError`].
pub fn adopt(socket: &UdpSocket, listener: &Listener) -> Result<(), ListenError> {
    set_options(socket, listener.address).map_err(|source| failed(listener, source))
}

fn set_options(socket: &UdpSocket, address: SocketAddr) -> io::Result<()> {
    set_receive_buffer(socket, SOCKET_BUFFER)?;
    SockRef::from(socket).set_send_buffer_size(SOCKET_BUFFER)?;
    // The kernel tells with each datagram how many it has lost, once it has lost one, and when it came.
    setsockopt(socket, sockopt::RxqOvfl, &1)?;
    setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
    // Each datagram tells which of our addresses it was sent to.
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?
        }
        _ => {}
    }
    Ok(())
}

/// Shortens a socket's buffer, or gives it its length again.
pub(crate) fn set_buffer(socket: &UdpSocket, buffer: Buffer) {
    let bytes = match buffer {
        Buffer::Shorten => SHORT_BUFFER,
        Buffer::Restore => SOCKET_BUFFER,
    };
    if let Err(error) = set_receive_buffer(socket, bytes) {
        tracing::debug!(%error, "a socket's buffer keeps its length");
    }
}

fn set_receive_buffer(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    // Beyond the system's limit, where the process may.
    if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let parse = |entry: &str| parse_listen(entry).map(|listener| listener.to_string());
        assert_eq!(parse("udp:0.0.0.0:5060").unwrap(), "udp:0.0.0.0:5060");
        assert_eq!(parse("UDP:192.168.1.201").unwrap(), "udp:192.168.1.201:5060");
        assert_eq!(parse("udp:[::1]:5070").unwrap(), "udp:[::1]:5070");
        assert_eq!(parse("tcp:0.0.0.0:5060").unwrap(), "tcp:0.0.0.0:5060");
        assert_eq!(parse("tls:0.0.0.0").unwrap(), "tls:0.0.0.0:5061");
        assert_eq!(parse("udp:10.0.0.100 floating").unwrap(), "udp:10.0.0.100:5060 floating");
        assert_eq!(parse("wss:[::]:8443").unwrap(), "wss:[::]:8443");
        let told = "udp:10.0.0.5:5062 as 203.0.113.7";
        assert_eq!(parse(told).unwrap(), "udp:10.0.0.5:5062 as 203.0.113.7:5062");
        assert_eq!(
            parse("tcp:0.0.0.0 as [2001:db8::7]:5070").unwrap(),
            "tcp:0.0.0.0:5060 as [2001:db8::7]:5070"
        );
        for bad in [
            "",
            "5060",
            "udp:",
            "udp:10.0.0.1:5060 as",
            "udp:10.0.0.1 as sip.example.com",
            "udp:host:5060",
            "udp:1.2.3.4:99999",
            "sctp:1.2.3.4:5060",
        ] {
            assert!(matches!(parse(bad), Err(ListenError::Syntax { .. })), "{bad}");
        }
    }

    #[test]
    fn a_port_is_ours_alone() {
        let at = |transport, address: &str| Listener::new(transport, address.parse().unwrap());
        let first = bind(&at(Transport::Udp, "127.0.0.1:0"), true).unwrap();
        let listener = Listener::udp(first.local_addr().unwrap());
        assert!(matches!(probe(&listener), Err(ListenError::InUse { .. })));
        assert_eq!(sockets(&listener, 2).unwrap().len(), 2);
        drop(first);
        assert!(probe(&listener).is_ok());
        let first = stream_socket(&at(Transport::Tcp, "127.0.0.1:0")).unwrap();
        let listener = Listener::new(Transport::Tcp, first.local_addr().unwrap());
        assert!(matches!(stream_socket(&listener), Err(ListenError::InUse { .. })));
        let elsewhere = at(Transport::Udp, "192.0.2.1:5060");
        assert!(matches!(probe(&elsewhere), Err(ListenError::NotOurs { .. })));
    }
}
