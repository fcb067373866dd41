//! The worker: a thread that owns one socket per listener, one engine and one inbox.
//!
//! Each round: mail, a batch from every socket, what is due, then everything that the engine wants sent or asked.
//! It waits only when a round found nothing to do.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use roost_core::{Command, Engine, Flow, Now, Outbox, ShardId, Transmit};
use roost_sip::Head;

use crate::batch::{Outgoing, Receiver, send_all, wait_readable};
use crate::inbox::{Inbox, Mail};

/// How long a stopping worker waits for its last receipts.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// The process's clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    /// Where monotonic time begins: far from zero, so that what is older than the process has an age.
    base_ms: u64,
}

impl Clock {
    /// A clock that starts running.
    pub fn start() -> Clock {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { start: Instant::now(), base_ms: unix.as_millis() as u64 }
    }

    /// The time.
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ms: self.base_ms + self.start.elapsed().as_millis() as u64, unix_s: unix.as_secs() }
    }
}

/// One shard's thread.
pub struct Worker<F> {
    shard: ShardId,
    engine: Engine,
    sockets: Vec<Bound>,
    inboxes: Arc<Vec<Inbox>>,
    clock: Clock,
    /// Takes a round's commands that are not for another shard, all of them out.
    ask: F,
    asked: Vec<Command>,
    receiver: Receiver,
    head: Box<Head>,
    outbox: Outbox,
    mail: Vec<Mail>,
    /// What goes to other shards after this round, by shard.
    handover: Vec<Vec<Mail>>,
}

/// A socket and what it is bound to.
struct Bound {
    socket: UdpSocket,
    address: SocketAddr,
}

impl<F> std::fmt::Debug for Worker<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl<F: FnMut(&mut Vec<Command>)> Worker<F> {
    /// A worker for shard `shard`, which reads its mail from the inbox of that number.
    ///
    /// # Errors
    /// When a socket does not tell its address.
    pub fn new(
        shard: ShardId,
        engine: Engine,
        sockets: Vec<UdpSocket>,
        inboxes: Arc<Vec<Inbox>>,
        clock: Clock,
        ask: F,
    ) -> io::Result<Self> {
        let bound = |socket: UdpSocket| Ok(Bound { address: socket.local_addr()?, socket });
        Ok(Worker {
            shard,
            engine,
            sockets: sockets.into_iter().map(bound).collect::<io::Result<_>>()?,
            handover: inboxes.iter().map(|_| Vec::new()).collect(),
            inboxes,
            clock,
            ask,
            asked: Vec::new(),
            receiver: Receiver::new(),
            head: Head::new(),
            outbox: Outbox::default(),
            mail: Vec::new(),
        })
    }

    /// Runs until it is told to stop, and until what was under way then is done.
    ///
    /// # Errors
    /// When waiting fails, which leaves nothing to go on with.
    pub fn run(mut self) -> io::Result<()> {
        let mut stopping: Option<Instant> = None;
        loop {
            let now = self.clock.now();
            let mut is_busy = false;
            if self.read_mail(now) {
                stopping = stopping.or(Some(Instant::now()));
            }
            if stopping.is_none() {
                is_busy = self.read_sockets(now);
            }
            self.engine.handle_timeout(now, &mut self.outbox);
            self.flush();
            match stopping {
                Some(_) if self.engine.is_idle() => return Ok(()),
                Some(since) if since.elapsed() > STOP_GRACE => return Ok(()),
                _ => {}
            }
            if !is_busy {
                self.wait(now, stopping.is_some())?;
            }
        }
    }

    /// Handles all mail; whether it said to stop.
    fn read_mail(&mut self, now: Now) -> bool {
        let Some(inbox) = self.inboxes.get(usize::from(self.shard.0)) else { return true };
        let mut mail = std::mem::take(&mut self.mail);
        inbox.take(&mut mail);
        let mut must_stop = false;
        for item in mail.drain(..) {
            match item {
                Mail::Receipt(ticket, outcome) => {
                    self.engine.handle_receipt(ticket, outcome, now, &mut self.outbox);
                }
                Mail::Message { flow, message, mark } => {
                    if self.head.parse(&message).is_ok() {
                        let (head, out) = (&self.head, &mut self.outbox);
                        self.engine.handle_handed_over(&flow, &message, head, mark, now, out);
                    }
                }
                Mail::Admin(ticket, request) => {
                    self.engine.handle_admin(ticket, request, now, &mut self.outbox);
                }
                Mail::Reading(reading, since_ms) => self.engine.handle_reading(reading, since_ms),
                Mail::News(news) => self.engine.handle_news(news, &mut self.outbox),
                Mail::Stop => must_stop = true,
            }
        }
        self.mail = mail;
        must_stop
    }

    /// Handles one batch from every socket; whether there was any.
    fn read_sockets(&mut self, now: Now) -> bool {
        let mut is_busy = false;
        for bound in &self.sockets {
            // WouldBlock is the ordinary end; an ICMP error of an earlier answer is nobody's fault here.
            let count = self.receiver.receive(bound.socket.as_fd()).unwrap_or(0);
            is_busy |= count > 0;
            for index in 0..count {
                let (datagram, bytes) = self.receiver.datagram(index);
                let mut local = bound.address;
                if let Some(ip) = datagram.local_ip {
                    local.set_ip(ip);
                }
                let flow = Flow::udp(local, datagram.remote);
                handle(&mut self.engine, &mut self.head, &flow, bytes, now, &mut self.outbox);
            }
        }
        is_busy
    }

    /// Sends and asks everything that the engine left in the outbox.
    fn flush(&mut self) {
        for bound in &self.sockets {
            let ours = |transmit: &&Transmit| is_from(bound, transmit.flow.local);
            let is_wildcard = bound.address.ip().is_unspecified();
            let outgoing = |transmit: &Transmit| Outgoing {
                bytes: &self.outbox.bytes[transmit.start..transmit.end],
                remote: transmit.flow.remote,
                local_ip: is_wildcard.then(|| transmit.flow.local.ip()),
            };
            let all: Vec<_> = self.outbox.transmits.iter().filter(ours).map(outgoing).collect();
            if !all.is_empty() {
                let sent = send_all(bound.socket.as_fd(), &all);
                if sent < all.len() {
                    tracing::debug!(unsent = all.len() - sent, "datagrams that the kernel refused");
                }
            }
        }
        for command in self.outbox.commands.drain(..) {
            match command {
                Command::ToShard { shard, flow, message, mark } => {
                    if let Some(batch) = self.handover.get_mut(usize::from(shard.0)) {
                        batch.push(Mail::Message { flow, message, mark });
                    }
                }
                other => self.asked.push(other),
            }
        }
        if !self.asked.is_empty() {
            (self.ask)(&mut self.asked);
        }
        for (inbox, batch) in self.inboxes.iter().zip(&mut self.handover) {
            if !batch.is_empty() {
                let refused = inbox.post(batch.drain(..));
                if refused > 0 {
                    self.engine.count_refused(refused as u64);
                    tracing::debug!(refused, "another worker's inbox is full");
                }
            }
        }
        self.outbox.clear();
    }

    fn wait(&self, now: Now, is_stopping: bool) -> io::Result<()> {
        let Some(inbox) = self.inboxes.get(usize::from(self.shard.0)) else { return Ok(()) };
        if !inbox.may_sleep() {
            return Ok(());
        }
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![inbox.event()];
        if !is_stopping {
            descriptors.extend(self.sockets.iter().map(|bound| bound.socket.as_fd()));
        }
        let due_ms = self.engine.poll_timeout().saturating_sub(now.mono_ms).max(1);
        let waited = wait_readable(&descriptors, Duration::from_millis(due_ms));
        inbox.woke();
        waited
    }
}

fn handle(engine: &mut Engine, head: &mut Head, flow: &Flow, bytes: &[u8], now: Now, outbox: &mut Outbox) {
    match head.parse(bytes) {
        Ok(()) => engine.handle_message(flow, bytes, head, now, outbox),
        Err(error) => engine.handle_unreadable(error),
    }
}

/// Whether a flow's local address is this socket's.
fn is_from(bound: &Bound, local: SocketAddr) -> bool {
    let ours = bound.address;
    ours == local
        || (ours.ip().is_unspecified() && ours.port() == local.port() && ours.is_ipv4() == local.is_ipv4())
}
