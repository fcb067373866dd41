//! Batched system calls: recvmmsg, sendmmsg, poll, eventfd. The only unsafe code of roost.
//!
//! Buffers are made once. Every pointer handed to the kernel points into a `Vec` or array that outlives the call and
//! is not moved meanwhile; headers are rebuilt before each call.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// Datagrams that one call receives or sends at most.
pub(crate) const BATCH: usize = 32;
/// Room for one datagram; UDP carries no more.
const DATAGRAM: usize = 65_536;
/// Room for one packet-info control message, of either address family.
const CONTROL: usize = 64;

/// The control messages of one datagram, aligned as `cmsghdr` wants it.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// Buffers to receive a batch into.
pub(crate) struct Receiver {
    data: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    received: Vec<Datagram>,
}

/// One received datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datagram {
    len: usize,
    pub(crate) remote: SocketAddr,
    /// The address it was sent to, where the socket tells (`want_packet_info`).
    pub(crate) local_ip: Option<IpAddr>,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        // SAFETY: sockaddr_storage is plain data for which all zeroes is a value.
        let name: libc::sockaddr_storage = unsafe { zeroed() };
        Receiver {
            data: vec![0; BATCH * DATAGRAM],
            names: vec![name; BATCH],
            controls: vec![Control([0; CONTROL]); BATCH],
            received: Vec::with_capacity(BATCH),
        }
    }

    /// Receives what is there, without waiting; how many.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received.clear();
        // SAFETY: iovec and mmsghdr are plain data for which all zeroes is a value.
        let (mut vectors, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { zeroed() };
        for (index, buffer) in self.data.chunks_exact_mut(DATAGRAM).enumerate() {
            vectors[index] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: DATAGRAM };
            let header = &mut headers[index].msg_hdr;
            header.msg_iov = &raw mut vectors[index];
            header.msg_iovlen = 1;
            header.msg_name = ptr::from_mut(&mut self.names[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_control = self.controls[index].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
        }
        // SAFETY: BATCH headers whose pointers lead to live buffers of the lengths given; the kernel writes only there.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        for (header, name) in headers.iter().zip(&self.names).take(count as usize) {
            // A datagram without a usable sender is given an address that nobody answers.
            let remote = from_sockaddr(name).unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
            let local_ip = packet_info(&header.msg_hdr);
            self.received.push(Datagram { len: header.msg_len as usize, remote, local_ip });
        }
        Ok(self.received.len())
    }

    /// One datagram of the last batch.
    pub(crate) fn datagram(&self, index: usize) -> (Datagram, &[u8]) {
        let datagram = self.received[index];
        let start = index * DATAGRAM;
        (datagram, &self.data[start..start + datagram.len.min(DATAGRAM)])
    }
}

/// One datagram to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) remote: SocketAddr,
    /// The address to send from, for sockets that are bound to a wildcard.
    pub(crate) local_ip: Option<IpAddr>,
}

/// Sends all datagrams, in order; how many the kernel took. What it refuses is passed over.
pub(crate) fn send_all(socket: BorrowedFd<'_>, outgoing: &[Outgoing<'_>]) -> usize {
    let mut sent = 0;
    for batch in outgoing.chunks(BATCH) {
        let mut rest = batch;
        while !rest.is_empty() {
            match send(socket, rest) {
                Ok(count) => {
                    sent += count;
                    rest = &rest[count.max(1).min(rest.len())..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => rest = &rest[1..],
            }
        }
    }
    sent
}

fn send(socket: BorrowedFd<'_>, batch: &[Outgoing<'_>]) -> io::Result<usize> {
    // SAFETY: plain data for which all zeroes is a value.
    let (mut vectors, mut headers, mut names): (
        [libc::iovec; BATCH],
        [libc::mmsghdr; BATCH],
        [libc::sockaddr_storage; BATCH],
    ) = unsafe { zeroed() };
    let mut controls = [Control([0; CONTROL]); BATCH];
    for (index, datagram) in batch.iter().enumerate() {
        let bytes = datagram.bytes;
        vectors[index] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let header = &mut headers[index].msg_hdr;
        header.msg_iov = &raw mut vectors[index];
        header.msg_iovlen = 1;
        header.msg_namelen = to_sockaddr(datagram.remote, &mut names[index]);
        header.msg_name = ptr::from_mut(&mut names[index]).cast();
        if let Some(ip) = datagram.local_ip {
            header.msg_control = controls[index].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
            put_packet_info(header, ip);
        }
    }
    // SAFETY: `batch.len()` (at most BATCH) headers whose pointers lead to live buffers; the kernel only reads them.
    let count = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            batch.len() as libc::c_uint,
            libc::MSG_DONTWAIT,
        )
    };
    if count < 0 { Err(io::Error::last_os_error()) } else { Ok(count as usize) }
}

fn to_sockaddr(address: SocketAddr, name: &mut libc::sockaddr_storage) -> libc::socklen_t {
    match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is large enough and aligned for every address family.
            unsafe { ptr::from_mut(name).cast::<libc::sockaddr_in>().write(raw) };
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { ptr::from_mut(name).cast::<libc::sockaddr_in6>().write(raw) };
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

fn from_sockaddr(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that a sockaddr_in was written into this storage.
            let raw = unsafe { ptr::from_ref(name).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(raw.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that a sockaddr_in6 was written into this storage.
            let raw = unsafe { ptr::from_ref(name).cast::<libc::sockaddr_in6>().read() };
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            let port = u16::from_be(raw.sin6_port);
            Some(SocketAddr::V6(SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id)))
        }
        _ => None,
    }
}

/// The address that a datagram was sent to, from its control messages.
fn packet_info(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel filled `msg_control` and set `msg_controllen`; the CMSG macros stay within them, and the
    // payload is read unaligned as the type that level and type name.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = control.as_ref() {
            let data = libc::CMSG_DATA(control);
            match (message.cmsg_level, message.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    return Some(IpAddr::V4(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    return Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                }
                _ => control = libc::CMSG_NXTHDR(header, control),
            }
        }
    }
    None
}

/// Writes the source address into a header whose control buffer has `CONTROL` bytes.
fn put_packet_info(header: &mut libc::msghdr, ip: IpAddr) {
    // SAFETY: `msg_control` points to CONTROL aligned bytes, more than either message takes; CMSG_FIRSTHDR is not null
    // because `msg_controllen` holds at least a header.
    unsafe {
        let control = libc::CMSG_FIRSTHDR(header);
        let length = match ip {
            IpAddr::V4(v4) => {
                let mut info: libc::in_pktinfo = zeroed();
                info.ipi_spec_dst.s_addr = u32::from_ne_bytes(v4.octets());
                (*control).cmsg_level = libc::IPPROTO_IP;
                (*control).cmsg_type = libc::IP_PKTINFO;
                libc::CMSG_DATA(control).cast::<libc::in_pktinfo>().write_unaligned(info);
                size_of::<libc::in_pktinfo>()
            }
            IpAddr::V6(v6) => {
                let mut info: libc::in6_pktinfo = zeroed();
                info.ipi6_addr.s6_addr = v6.octets();
                (*control).cmsg_level = libc::IPPROTO_IPV6;
                (*control).cmsg_type = libc::IPV6_PKTINFO;
                libc::CMSG_DATA(control).cast::<libc::in6_pktinfo>().write_unaligned(info);
                size_of::<libc::in6_pktinfo>()
            }
        };
        (*control).cmsg_len = libc::CMSG_LEN(length as libc::c_uint) as _;
        header.msg_controllen = libc::CMSG_SPACE(length as libc::c_uint) as _;
    }
}

/// Asks a socket to tell each datagram's destination address.
pub(crate) fn want_packet_info(socket: BorrowedFd<'_>, is_v6: bool) -> io::Result<()> {
    let (level, option) = if is_v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    };
    set_option(socket, level, option, 1)
}

/// Makes the receive buffer this large even beyond the system's limit, where the process may.
pub(crate) fn force_receive_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes as libc::c_int)
}

fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the value lives through the call and has the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits until one of the descriptors can be read, or the time is over.
pub(crate) fn wait_readable(descriptors: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<()> {
    let entry = |fd: &BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut entries: Vec<_> = descriptors.iter().map(entry).collect();
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the entries live through the call and their number is given.
    let result = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timeout_ms) };
    match io::Error::last_os_error() {
        error if result < 0 && error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// A descriptor that one thread waits for and others make readable.
#[derive(Debug)]
pub(crate) struct Event(pub(crate) OwnedFd);

impl Event {
    pub(crate) fn new() -> io::Result<Event> {
        // SAFETY: no pointers; the descriptor returned is ours alone.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh, open descriptor that nobody else owns.
        Ok(Event(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(crate) fn set(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight live bytes. It can only fail when it is set already.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    pub(crate) fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight live bytes. It can only fail when it is not set.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn batches_there_and_back() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let (a, b) = (UdpSocket::bind(loopback).unwrap(), UdpSocket::bind(loopback).unwrap());
            let remote = b.local_addr().unwrap();
            let texts: Vec<Vec<u8>> = (0..100).map(|n| format!("message {n}").into_bytes()).collect();
            let outgoing: Vec<_> =
                texts.iter().map(|text| Outgoing { bytes: text, remote, local_ip: None }).collect();
            assert_eq!(send_all(a.as_fd(), &outgoing), 100);
            let mut receiver = Receiver::new();
            let mut got = Vec::new();
            while got.len() < 100 {
                wait_readable(&[b.as_fd()], Duration::from_secs(5)).unwrap();
                for index in 0..receiver.receive(b.as_fd()).unwrap() {
                    let (datagram, bytes) = receiver.datagram(index);
                    assert_eq!(datagram.remote, a.local_addr().unwrap());
                    got.push(bytes.to_vec());
                }
            }
            assert_eq!(got, texts);
            assert_eq!(receiver.receive(b.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn a_wildcard_socket_knows_and_keeps_the_address() {
        let server = UdpSocket::bind("0.0.0.0:0").unwrap();
        want_packet_info(server.as_fd(), false).unwrap();
        let port = server.local_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"ping", ("127.0.0.9", port)).unwrap();
        wait_readable(&[server.as_fd()], Duration::from_secs(5)).unwrap();
        let mut receiver = Receiver::new();
        receiver.receive(server.as_fd()).unwrap();
        let (datagram, bytes) = receiver.datagram(0);
        assert_eq!((bytes, datagram.local_ip), (&b"ping"[..], Some("127.0.0.9".parse().unwrap())));
        let answer = Outgoing { bytes: b"pong", remote: datagram.remote, local_ip: datagram.local_ip };
        assert_eq!(send_all(server.as_fd(), &[answer]), 1);
        let mut buffer = [0; 16];
        let (len, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from), (&b"pong"[..], SocketAddr::from(([127, 0, 0, 9], port))));
    }

    #[test]
    fn what_cannot_be_sent_is_passed_over() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = |remote: &str| Outgoing { bytes: b"x", remote: remote.parse().unwrap(), local_ip: None };
        let good = socket.local_addr().unwrap();
        let outgoing = [to("[::1]:9"), Outgoing { remote: good, ..to("127.0.0.1:1") }, to("127.0.0.1:0")];
        assert_eq!(send_all(socket.as_fd(), &outgoing), 1);
    }

    #[test]
    fn events_wake() {
        let event = Event::new().unwrap();
        event.set();
        event.set();
        wait_readable(&[event.0.as_fd()], Duration::from_secs(5)).unwrap();
        event.clear();
        event.clear();
        wait_readable(&[event.0.as_fd()], Duration::from_millis(1)).unwrap();
    }
}
