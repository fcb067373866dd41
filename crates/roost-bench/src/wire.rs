//! The generator's UDP sockets: batches out, batches in, one wait for all.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// Datagrams that one call sends or receives at most.
pub(crate) const BATCH: usize = 64;
/// Room for one received datagram; SIP over UDP stays below the MTU.
const DATAGRAM: usize = 4096;
/// Wished socket buffers, in bytes.
const SOCKET_BUFFER: usize = 8 << 20;
/// Waits from here on may be rounded to milliseconds.
const COARSE: Duration = Duration::from_millis(10);
/// The timer's mark among the sockets' numbers.
const TIMER: u64 = u64::MAX;

/// Waits for datagrams and receives them.
pub(crate) struct Receiver {
    sockets: Rc<[UdpSocket]>,
    epoll: Epoll,
    timer: TimerFd,
    events: [EpollEvent; BATCH],
    headers: MultiHeaders<()>,
    buffers: Box<[[u8; DATAGRAM]; BATCH]>,
}

/// Queues messages per socket and sends them in batches, all to one server.
pub(crate) struct Sender {
    sockets: Rc<[UdpSocket]>,
    queues: Vec<Queue>,
    server: [Option<SockaddrIn>; BATCH],
    headers: MultiHeaders<SockaddrIn>,
    /// Datagrams that the kernel took.
    pub(crate) sent: u64,
    /// Datagrams that it did not take.
    pub(crate) unsent: u64,
}

struct Queue {
    messages: Vec<Vec<u8>>,
    len: usize,
}

/// Opens `count` sockets on `local`, with ports from `base` on, or any free ones with 0.
///
/// # Errors
/// When a port is taken or the system refuses.
pub(crate) fn open(
    local: Ipv4Addr,
    base: u16,
    count: u16,
    server: SocketAddrV4,
) -> Result<(Sender, Receiver)> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
    epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
    let mut sockets = Vec::new();
    for index in 0..count {
        let port = if base == 0 { 0 } else { base + index };
        let socket = UdpSocket::bind((local, port)).with_context(|| format!("cannot bind {local}:{port}"))?;
        socket.set_nonblocking(true)?;
        // What root may force, others get as far as the system's limit goes.
        if setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BUFFER)?;
        }
        if setsockopt(&socket, sockopt::SndBufForce, &SOCKET_BUFFER).is_err() {
            setsockopt(&socket, sockopt::SndBuf, &SOCKET_BUFFER)?;
        }
        epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, u64::from(index)))?;
        sockets.push(socket);
    }
    let sockets: Rc<[UdpSocket]> = sockets.into();
    let queue = || Queue { messages: (0..BATCH).map(|_| Vec::with_capacity(2048)).collect(), len: 0 };
    let sender = Sender {
        queues: sockets.iter().map(|_| queue()).collect(),
        sockets: sockets.clone(),
        server: [Some(SockaddrIn::from(server)); BATCH],
        headers: MultiHeaders::preallocate(BATCH, None),
        sent: 0,
        unsent: 0,
    };
    let receiver = Receiver {
        sockets,
        epoll,
        timer,
        events: [EpollEvent::empty(); BATCH],
        headers: MultiHeaders::preallocate(BATCH, None),
        buffers: Box::new([[0; DATAGRAM]; BATCH]),
    };
    Ok((sender, receiver))
}

impl Sender {
    /// How many sockets there are.
    pub(crate) fn ports(&self) -> u32 {
        self.sockets.len() as u32
    }

    /// The UDP port of a socket.
    pub(crate) fn port(&self, socket: u32) -> u16 {
        self.sockets[socket as usize].local_addr().map_or(0, |address| address.port())
    }

    /// An empty buffer whose content is sent by the next [`flush`](Sender::flush), from this socket.
    pub(crate) fn message(&mut self, socket: u32) -> &mut Vec<u8> {
        if self.queues[socket as usize].len == BATCH {
            self.send(socket as usize);
        }
        let queue = &mut self.queues[socket as usize];
        let message = &mut queue.messages[queue.len];
        queue.len += 1;
        message.clear();
        message
    }

    /// Sends all that is queued.
    pub(crate) fn flush(&mut self) {
        for socket in 0..self.queues.len() {
            if self.queues[socket].len > 0 {
                self.send(socket);
            }
        }
    }

    fn send(&mut self, socket: usize) {
        let fd = self.sockets[socket].as_raw_fd();
        let queue = &mut self.queues[socket];
        let mut rest = &queue.messages[..queue.len];
        while !rest.is_empty() {
            let slices: [[IoSlice<'_>; 1]; BATCH] =
                std::array::from_fn(|index| [IoSlice::new(rest.get(index).map_or(&[], Vec::as_slice))]);
            let (slices, to) = (&slices[..rest.len()], &self.server[..rest.len()]);
            match sendmmsg(fd, &mut self.headers, slices, to, [], MsgFlags::empty()) {
                Ok(results) => {
                    let count = results.count();
                    self.sent += count as u64;
                    rest = &rest[count..];
                }
                Err(Errno::EINTR) => {}
                // A full socket buffer, or a message that is refused: it counts as lost.
                Err(_) => {
                    self.unsent += 1;
                    rest = &rest[1..];
                }
            }
        }
        queue.len = 0;
    }
}

impl Receiver {
    /// Waits until datagrams are there, but not longer than this; how many sockets have some.
    ///
    /// # Errors
    /// When the system refuses to wait.
    pub(crate) fn wait(&mut self, at_most: Duration) -> Result<usize> {
        let timeout = if at_most.is_zero() || at_most >= COARSE {
            EpollTimeout::try_from(at_most).unwrap_or(EpollTimeout::ZERO)
        } else {
            // epoll_wait counts in milliseconds, which is too coarse to pace a fixed rate.
            let expiration = Expiration::OneShot(TimeSpec::from_duration(at_most));
            self.timer.set(expiration, TimerSetTimeFlags::empty())?;
            EpollTimeout::NONE
        };
        match self.epoll.wait(&mut self.events, timeout) {
            Ok(count) => Ok(count),
            Err(Errno::EINTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Receives one batch from the socket behind an event of the last wait, and hands over each datagram.
    pub(crate) fn receive(&mut self, event: usize, mut handle: impl FnMut(u32, &[u8])) {
        let mark = self.events[event].data();
        if mark == TIMER {
            // Reading makes the timer quiet; it has nothing to tell.
            let _ = self.timer.wait();
            return;
        }
        let fd = self.sockets[mark as usize].as_raw_fd();
        let mut lengths = [0; BATCH];
        let mut count = 0;
        {
            let mut slices = self.buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
            let Ok(results) = recvmmsg(fd, &mut self.headers, &mut slices, MsgFlags::MSG_DONTWAIT, None)
            else {
                return;
            };
            for result in results {
                lengths[count] = result.bytes;
                count += 1;
            }
        }
        for (buffer, length) in self.buffers.iter().zip(&lengths[..count]) {
            handle(mark as u32, &buffer[..*length]);
        }
    }
}
