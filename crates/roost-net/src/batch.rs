//! Batched system calls: recvmmsg and sendmmsg. The only unsafe code of roost.
//!
//! Buffers are made once. Every pointer handed to the kernel points into a `Vec` or array that outlives the call and
//! is not moved meanwhile; headers are rebuilt before each call.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

/// Datagrams that one call receives or sends at most.
pub(crate) const BATCH: usize = 32;
/// Room for one datagram; UDP carries no more.
const DATAGRAM: usize = 65_536;
/// Room for one packet-info control message, of either address family, for a count of losses and for a time.
const CONTROL: usize = 96;

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
    /// Datagrams that the kernel had no room for, as the last batch tells.
    lost: Option<u32>,
}

/// One received datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datagram {
    len: usize,
    pub(crate) remote: SocketAddr,
    /// The address it was sent to, where the socket tells (IP_PKTINFO).
    pub(crate) local_ip: Option<IpAddr>,
    /// When the kernel got it, as unix time, where the socket tells (SO_TIMESTAMPNS).
    arrived: Option<Duration>,
}

impl Datagram {
    /// How long it has waited, in milliseconds.
    pub(crate) fn age_ms(&self, unix: Duration) -> u64 {
        self.arrived.map_or(0, |arrived| unix.saturating_sub(arrived).as_millis() as u64)
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("received", &self.received).finish_non_exhaustive()
    }
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
            lost: None,
        }
    }

    /// Receives what is there, without waiting; how many.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received.clear();
        self.lost = None;
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
            // A datagram without a usable sender is given an address where no one answers.
            let remote = from_sockaddr(name).unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
            let Told { local_ip, lost, arrived } = told(&header.msg_hdr);
            self.lost = lost.or(self.lost);
            self.received.push(Datagram { len: header.msg_len as usize, remote, local_ip, arrived });
        }
        Ok(self.received.len())
    }

    /// How many datagrams this socket has lost for want of room since it was made, as the last batch tells: nothing until
    /// there was one.
    pub(crate) fn lost(&self) -> Option<u32> {
        self.lost
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

/// Sends all datagrams, in order; how many the kernel refused, which are passed over.
pub(crate) fn send_all<'a>(
    socket: BorrowedFd<'_>,
    mut outgoing: impl Iterator<Item = Outgoing<'a>>,
) -> usize {
    let nothing = Outgoing {
        bytes: &[],
        remote: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        local_ip: None,
    };
    let mut batch = [nothing; BATCH];
    let mut refused = 0;
    loop {
        let mut len = 0;
        while let Some((slot, next)) = batch.get_mut(len).and_then(|slot| Some((slot, outgoing.next()?))) {
            *slot = next;
            len += 1;
        }
        let mut rest = &batch[..len];
        while !rest.is_empty() {
            match send(socket, rest) {
                Ok(count) => rest = &rest[count.max(1).min(rest.len())..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    refused += 1;
                    rest = &rest[1..];
                }
            }
        }
        if len < BATCH {
            return refused;
        }
    }
}

fn send(socket: BorrowedFd<'_>, batch: &[Outgoing<'_>]) -> io::Result<usize> {
    // Only what is used is written: most batches of a server with little to do have one datagram.
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
    let mut names = [const { MaybeUninit::<libc::sockaddr_storage>::uninit() }; BATCH];
    let mut controls = [const { MaybeUninit::<Control>::uninit() }; BATCH];
    for (index, datagram) in batch.iter().enumerate() {
        let bytes = datagram.bytes;
        let vector = vectors[index]
            .write(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
        // SAFETY: plain data for which all zeroes is a value.
        let (header, name) = unsafe { (headers[index].write(zeroed()), names[index].write(zeroed())) };
        let header = &mut header.msg_hdr;
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        header.msg_namelen = to_sockaddr(datagram.remote, name);
        header.msg_name = ptr::from_mut(name).cast();
        if let Some(ip) = datagram.local_ip {
            header.msg_control = controls[index].write(Control([0; CONTROL])).0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
            put_packet_info(header, ip);
        }
    }
    // SAFETY: `batch.len()` (at most BATCH) headers were written, and their pointers lead to live buffers; the kernel
    // only reads them, but for the count of bytes in each header.
    let count = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr().cast(),
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

/// What control messages say of a datagram.
#[derive(Default)]
struct Told {
    /// The address it was sent to.
    local_ip: Option<IpAddr>,
    /// How many its socket has lost.
    lost: Option<u32>,
    /// When it came.
    arrived: Option<Duration>,
}

fn told(header: &libc::msghdr) -> Told {
    let mut told = Told::default();
    // SAFETY: the kernel filled `msg_control` and set `msg_controllen`; the CMSG macros stay within them, and the
    // payload is read unaligned as the type that level and type name.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = control.as_ref() {
            let data = libc::CMSG_DATA(control);
            match (message.cmsg_level, message.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    told.local_ip = Some(IpAddr::V4(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    told.local_ip = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                    told.lost = Some(data.cast::<u32>().read_unaligned());
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let time = data.cast::<libc::timespec>().read_unaligned();
                    told.arrived = Some(Duration::new(time.tv_sec as u64, time.tv_nsec as u32));
                }
                _ => {}
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    told
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use nix::sys::socket::{setsockopt, sockopt};

    use crate::poller::wait_readable;

    #[test]
    fn batches_there_and_back() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let (a, b) = (UdpSocket::bind(loopback).unwrap(), UdpSocket::bind(loopback).unwrap());
            let remote = b.local_addr().unwrap();
            let texts: Vec<Vec<u8>> = (0..100).map(|n| format!("message {n}").into_bytes()).collect();
            let outgoing: Vec<_> =
                texts.iter().map(|text| Outgoing { bytes: text, remote, local_ip: None }).collect();
            assert_eq!(send_all(a.as_fd(), outgoing.into_iter()), 0);
            let mut receiver = Receiver::new();
            let mut got = Vec::new();
            while got.len() < 100 {
                assert!(wait_readable(b.as_fd(), Duration::from_secs(5)).unwrap());
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
        setsockopt(&server, sockopt::Ipv4PacketInfo, &true).unwrap();
        let port = server.local_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"ping", ("127.0.0.9", port)).unwrap();
        assert!(wait_readable(server.as_fd(), Duration::from_secs(5)).unwrap());
        let mut receiver = Receiver::new();
        receiver.receive(server.as_fd()).unwrap();
        let (datagram, bytes) = receiver.datagram(0);
        assert_eq!((bytes, datagram.local_ip), (&b"ping"[..], Some("127.0.0.9".parse().unwrap())));
        let answer = Outgoing { bytes: b"pong", remote: datagram.remote, local_ip: datagram.local_ip };
        assert_eq!(send_all(server.as_fd(), [answer].into_iter()), 0);
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
        assert_eq!(send_all(socket.as_fd(), outgoing.into_iter()), 2);
        assert!(wait_readable(socket.as_fd(), Duration::from_secs(5)).unwrap(), "the one between arrives");
    }
}
