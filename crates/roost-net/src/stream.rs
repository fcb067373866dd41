//! Connections (TCP): one thread that accepts, connects, cuts streams into messages for the workers' inboxes, and writes.
//!
//! A connection is known by a number that is never used again. What cannot be sent goes back to the engine, and so does
//! the news that a connection is gone which a binding was made over. Whatever a peer does, it costs a bounded amount of
//! memory: see the limits below, each of which has a counter.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use roost_core::{Flow, ShardEvent, Transport};
use roost_sip::{Frame, Head, Progress};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::inbox::{Inbox, Mail};
use crate::worker::Clock;

/// Messages of one connection that the workers have not handled; it is not read while there are more.
const MAX_UNDER_WAY: usize = 16;
/// Keep-alives that are answered at once.
const MAX_PONGS: usize = 8;
/// Bytes that wait for one peer to read; a connection with more is closed.
const MAX_WRITE_QUEUE: usize = 256 << 10;
/// Bytes of unfinished messages and of what waits to be written, over all connections.
const MAX_HELD: usize = 128 << 20;
/// Bytes of messages on their way from the workers to this thread; more are as good as not sent.
const MAX_ORDERED: usize = 64 << 20;
/// Peers that are being connected to at once, those of one address, and messages that wait for each.
const MAX_CONNECTING: usize = 1_024;
const MAX_CONNECTING_PER_ADDRESS: usize = 32;
const MAX_WAITING_PER_PEER: usize = 64;
/// How long a peer may take to be connected to.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a peer that does not read is borne, in milliseconds.
const STUCK_MS: u64 = 10_000;
/// How long a stream that ends stays for its last answer, in milliseconds.
const LAST_MS: u64 = 2_000;
/// How often all connections are looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// Bytes of one read, and reads of one connection before the others' turn.
const READ: usize = 64 << 10;
const READS_PER_TURN: usize = 8;

/// What operators set.
#[derive(Debug, Clone, Copy)]
pub struct StreamSettings {
    /// How long a connection without bindings may be silent, in milliseconds.
    pub lifetime_ms: u64,
    /// How long a message may take to arrive, in milliseconds.
    pub message_ms: u64,
    pub max_connections: usize,
    /// Of one IP address.
    pub max_per_source: usize,
}

/// Where messages for connections go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Streams {
    orders: UnboundedSender<Order>,
    counters: Arc<Counters>,
}

/// A message to send.
#[derive(Debug)]
struct Letter {
    flow: Flow,
    message: Box<[u8]>,
}

#[derive(Debug)]
enum Order {
    Send(Letter),
    Keep { connection: u64, until_ms: u64 },
    End,
}

macro_rules! counters {
    ($($field:ident $name:literal,)*) => {
        /// What has happened, and what is.
        #[derive(Debug, Default)]
        struct Counters {
            $($field: AtomicU64,)*
            /// Bytes that [`MAX_ORDERED`] limits.
            ordered: AtomicUsize,
        }

        impl Counters {
            fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$(($name, self.$field.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters! {
    connections "net:tcp_connections",
    accepted "net:tcp_accepted",
    connected "net:tcp_connected",
    connect_failed "net:tcp_connect_failed",
    refused "net:tcp_refused",
    refused_source "net:tcp_refused_per_source",
    evicted "net:tcp_evicted",
    closed_idle "net:tcp_closed_idle",
    closed_unfinished "net:tcp_closed_unfinished",
    closed_garbage "net:tcp_closed_garbage",
    closed_stuck "net:tcp_closed_stuck",
    memory_full "net:tcp_memory_full",
    inbox_full "net:tcp_inbox_full",
    unsent "net:tcp_unsent",
}

impl Streams {
    /// Starts the thread. What arrives goes to `inboxes`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        listeners: Vec<std::net::TcpListener>,
        settings: StreamSettings,
        inboxes: Arc<Vec<Inbox>>,
        clock: Clock,
    ) -> io::Result<(Streams, JoinHandle<()>)> {
        let (orders, ordered) = unbounded_channel();
        let counters = Arc::new(Counters::default());
        let streams = Streams { orders, counters: Arc::clone(&counters) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            let office = Rc::new(Office {
                settings,
                inboxes,
                clock,
                counters,
                connections: RefCell::default(),
                by_remote: RefCell::default(),
                by_source: RefCell::default(),
                connecting: RefCell::default(),
                last_id: Cell::new(0),
                held: Cell::new(0),
                buffer: RefCell::new(vec![0; READ]),
                head: RefCell::new(Head::new()),
            });
            tokio::task::LocalSet::new().block_on(&runtime, office.serve(listeners, ordered));
        };
        let thread = std::thread::Builder::new().name("roost-tcp".to_string()).spawn(run)?;
        Ok((streams, thread))
    }

    /// Sends a message over a flow's connection; over 0, the one that leads to its peer, or a new one. What cannot be sent
    /// comes back as [`ShardEvent::Unsent`].
    pub fn send(&self, flow: Flow, message: &[u8]) {
        let ordered = self.counters.ordered.fetch_add(message.len(), Ordering::Relaxed);
        let letter = Letter { flow, message: message.into() };
        if ordered > MAX_ORDERED || self.orders.send(Order::Send(letter)).is_err() {
            self.counters.ordered.fetch_sub(message.len(), Ordering::Relaxed);
            self.counters.memory_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Keeps a connection until then, in monotonic milliseconds, however silent.
    pub fn keep(&self, connection: u64, until_ms: u64) {
        let _ = self.orders.send(Order::Keep { connection, until_ms });
    }

    /// Ends the thread, once what was sent before is written as far as the peers read.
    pub fn stop(&self) {
        let _ = self.orders.send(Order::End);
    }

    /// Names (`group:name`) and values.
    pub fn statistics(&self) -> Vec<(&'static str, u64)> {
        self.counters.all()
    }
}

/// All connections, and what their tasks share: one thread has it.
struct Office {
    settings: StreamSettings,
    inboxes: Arc<Vec<Inbox>>,
    clock: Clock,
    counters: Arc<Counters>,
    connections: RefCell<HashMap<u64, Rc<Connection>>>,
    /// The newest connection to a peer.
    by_remote: RefCell<HashMap<SocketAddr, u64>>,
    by_source: RefCell<HashMap<IpAddr, usize>>,
    /// What waits for a peer to be connected to.
    connecting: RefCell<HashMap<SocketAddr, Vec<Letter>>>,
    last_id: Cell<u64>,
    /// Bytes that [`MAX_HELD`] limits.
    held: Cell<usize>,
    buffer: RefCell<Vec<u8>>,
    head: RefCell<Box<Head>>,
}

struct Connection {
    flow: Flow,
    stream: TcpStream,
    gate: Arc<Gate>,
    must_end: Cell<Option<End>>,
    /// What is to be written when the peer reads on.
    queue: RefCell<Queue>,
    /// The beginning of a message.
    part: RefCell<Part>,
    /// When anything was read or written last, in monotonic milliseconds.
    active_ms: Cell<u64>,
    /// When something was written last, or began to wait.
    written_ms: Cell<u64>,
    /// A binding that was made over it lives until then; 0: there has been none.
    keep_until_ms: Cell<u64>,
    /// It is not read any more and ends then; 0: it is read.
    last_ms: Cell<u64>,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Box<[u8]>>,
    /// Bytes of the first that are written, and of all that are not.
    written: usize,
    left: usize,
}

#[derive(Default)]
struct Part {
    bytes: Vec<u8>,
    progress: Progress,
    /// When the message began, in monotonic milliseconds; 0: none has.
    since_ms: u64,
    /// More may be whole than was looked at.
    is_held_back: bool,
}

/// How many messages of a connection the workers have not handled, and the bell of its task.
#[derive(Debug, Default)]
struct Gate {
    under_way: AtomicUsize,
    /// Something waits to be written, it must end, or the gate is open again.
    wake: Notify,
}

/// A message on its way to a worker.
#[derive(Debug)]
pub struct Pass(Arc<Gate>);

impl Gate {
    fn is_open(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) < MAX_UNDER_WAY
    }
}

impl Pass {
    fn new(gate: &Arc<Gate>) -> Pass {
        gate.under_way.fetch_add(1, Ordering::Relaxed);
        Pass(Arc::clone(gate))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::Relaxed) == MAX_UNDER_WAY {
            self.0.wake.notify_one();
        }
    }
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The peer has closed it.
    Closed,
    Broken,
    Idle,
    Unfinished,
    Garbage,
    Stuck,
    Evicted,
    MemoryFull,
    /// It has had its last answer.
    Last,
}

impl Office {
    async fn serve(
        self: Rc<Self>,
        listeners: Vec<std::net::TcpListener>,
        mut orders: UnboundedReceiver<Order>,
    ) {
        for listener in listeners {
            match TcpListener::from_std(listener) {
                Ok(listener) => drop(tokio::task::spawn_local(Rc::clone(&self).accept(listener))),
                Err(error) => tracing::error!(%error, "a TCP listener failed"),
            }
        }
        let office = Rc::clone(&self);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                office.sweep();
            }
        });
        while let Some(order) = orders.recv().await {
            match order {
                Order::Send(letter) => {
                    self.counters.ordered.fetch_sub(letter.message.len(), Ordering::Relaxed);
                    self.send(letter);
                }
                Order::Keep { connection, until_ms } => self.keep(connection, until_ms),
                Order::End => return,
            }
        }
    }

    async fn accept(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, remote)) => self.accepted(stream, remote),
                Err(error) => {
                    // No descriptor is left, most likely: whoever is connected goes on.
                    tracing::debug!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn accepted(self: &Rc<Self>, stream: TcpStream, remote: SocketAddr) {
        let Ok(local) = stream.local_addr() else { return };
        let of_source = self.by_source.borrow().get(&remote.ip()).copied().unwrap_or(0);
        if of_source >= self.settings.max_per_source {
            tracing::debug!(source = %remote, "too many connections of one address");
            return count(&self.counters.refused_source);
        }
        if self.connections.borrow().len() >= self.settings.max_connections && !self.evict() {
            tracing::debug!(source = %remote, "too many connections");
            return count(&self.counters.refused);
        }
        count(&self.counters.accepted);
        self.open(stream, local, remote);
    }

    /// Ends the connection that has been silent longest among those that no binding was made over; false when there is
    /// none.
    fn evict(&self) -> bool {
        let connections = self.connections.borrow();
        let now_ms = self.now_ms();
        let unused = connections.values().filter(|connection| connection.keep_until_ms.get() <= now_ms);
        let silent = unused.min_by_key(|connection| connection.active_ms.get()).cloned();
        drop(connections);
        if let Some(connection) = &silent {
            self.close(connection, End::Evicted);
        }
        silent.is_some()
    }

    fn open(self: &Rc<Self>, stream: TcpStream, local: SocketAddr, remote: SocketAddr) -> Rc<Connection> {
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        let _ = stream.set_nodelay(true);
        // A phone whose router has forgotten it does not say so.
        let keepalive =
            TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        let connection = Rc::new(Connection {
            flow: Flow::stream(Transport::Tcp, local, remote, id),
            stream,
            gate: Arc::default(),
            must_end: Cell::new(None),
            queue: RefCell::default(),
            part: RefCell::default(),
            active_ms: Cell::new(self.now_ms()),
            written_ms: Cell::new(0),
            keep_until_ms: Cell::new(0),
            last_ms: Cell::new(0),
        });
        self.connections.borrow_mut().insert(id, Rc::clone(&connection));
        self.by_remote.borrow_mut().insert(remote, id);
        *self.by_source.borrow_mut().entry(remote.ip()).or_insert(0) += 1;
        self.counters.connections.store(self.connections.borrow().len() as u64, Ordering::Relaxed);
        tokio::task::spawn_local(Rc::clone(self).attend(Rc::clone(&connection)));
        connection
    }

    /// Reads and writes until the connection ends.
    async fn attend(self: Rc<Self>, connection: Rc<Connection>) {
        let why = loop {
            if let Some(why) = connection.must_end.get() {
                break why;
            }
            let is_open = connection.gate.is_open();
            if is_open && connection.part.borrow().is_held_back {
                // What has arrived comes before what will.
                if let Err(why) = self.take(&connection, &[]) {
                    break why;
                }
                tokio::task::yield_now().await;
                continue;
            }
            let is_read = connection.last_ms.get() == 0 && is_open;
            let waits = connection.queue.borrow().left > 0;
            let interest = match (is_read, waits) {
                (true, false) => Interest::READABLE,
                (true, true) => Interest::READABLE | Interest::WRITABLE,
                (false, true) => Interest::WRITABLE,
                (false, false) => {
                    connection.gate.wake.notified().await;
                    continue;
                }
            };
            tokio::select! {
                biased;
                () = connection.gate.wake.notified() => {}
                ready = connection.stream.ready(interest) => {
                    let done = ready.map_err(|_| End::Broken).and_then(|ready| {
                        if waits && ready.is_writable() {
                            self.write_on(&connection)?;
                        }
                        if is_read && (ready.is_readable() || ready.is_read_closed()) {
                            self.read(&connection)?;
                        }
                        Ok(())
                    });
                    if let Err(why) = done {
                        break why;
                    }
                    // Whoever always has something to say has a turn, as all others have.
                    tokio::task::yield_now().await;
                }
            }
        };
        self.close(&connection, why);
    }

    fn read(&self, connection: &Connection) -> Result<(), End> {
        let mut buffer = self.buffer.borrow_mut();
        for _ in 0..READS_PER_TURN {
            match connection.stream.try_read(&mut buffer) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => {
                    connection.active_ms.set(self.now_ms());
                    self.take(connection, &buffer[..count])?;
                    if connection.last_ms.get() != 0 || !connection.gate.is_open() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(End::Broken),
            }
        }
        Ok(())
    }

    /// Cuts what has arrived into messages and gives them to a worker, all of one connection to the same.
    fn take(&self, connection: &Connection, arrived: &[u8]) -> Result<(), End> {
        let mut part = connection.part.borrow_mut();
        let mut joined = std::mem::take(&mut part.bytes);
        self.held.set(self.held.get() - joined.len());
        let all = match joined.is_empty() {
            true => arrived,
            false => {
                joined.extend_from_slice(arrived);
                &joined
            }
        };
        let mut head = self.head.borrow_mut();
        let mut mail = Vec::new();
        let mut at = 0;
        let mut ended = Ok(());
        let mut pings = 0;
        let mut message = |length: usize, at: usize| {
            let pass = Pass::new(&connection.gate);
            mail.push(Mail::Stream { flow: connection.flow, message: all[at..at + length].into(), pass });
        };
        part.is_held_back = false;
        loop {
            if !connection.gate.is_open() {
                // The peer is faster than the workers: it waits, and so does the time for its next message.
                part.is_held_back = at < all.len();
                part.since_ms = 0;
                break;
            }
            let length = match Frame::at(&all[at..], &mut part.progress, &mut head) {
                Frame::Part { is_message } => {
                    if !is_message {
                        part.since_ms = 0;
                    } else if part.since_ms == 0 {
                        part.since_ms = self.now_ms();
                    }
                    break;
                }
                Frame::Garbage => {
                    ended = Err(End::Garbage);
                    break;
                }
                Frame::Blank(length) => length,
                Frame::Ping(length) => {
                    pings += 1;
                    length
                }
                Frame::Message(length) => {
                    message(length, at);
                    length
                }
                Frame::LastMessage(length) => {
                    message(length, at);
                    connection.last_ms.set(self.now_ms() + LAST_MS);
                    break;
                }
            };
            at += length;
            (part.progress, part.since_ms) = (Progress::default(), 0);
        }
        if ended.is_ok() && connection.last_ms.get() == 0 && at < all.len() {
            part.bytes = match joined.is_empty() {
                true => arrived[at..].to_vec(),
                false => {
                    joined.drain(..at);
                    joined
                }
            };
            self.held.set(self.held.get() + part.bytes.len());
        }
        drop(part);
        self.post(connection, mail);
        if pings > 0 && ended.is_ok() {
            // Nobody needs more answers than that at once.
            ended = self.write(connection, &b"\r\n".repeat(pings.min(MAX_PONGS)));
        }
        match self.held.get() > MAX_HELD {
            true => Err(End::MemoryFull),
            false => ended,
        }
    }

    fn post(&self, connection: &Connection, mail: Vec<Mail>) {
        let place = connection.flow.connection as usize % self.inboxes.len().max(1);
        if let Some(inbox) = self.inboxes.get(place).filter(|_| !mail.is_empty()) {
            let refused = inbox.post(mail);
            self.counters.inbox_full.fetch_add(refused as u64, Ordering::Relaxed);
        }
    }

    /// Writes to a connection, or queues what its peer does not read now.
    fn write(&self, connection: &Connection, bytes: &[u8]) -> Result<(), End> {
        let mut queue = connection.queue.borrow_mut();
        let mut written = 0;
        if queue.left == 0 {
            connection.written_ms.set(self.now_ms());
            match connection.stream.try_write(bytes) {
                Ok(count) => written = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(End::Broken),
            }
        }
        connection.active_ms.set(self.now_ms());
        let rest = bytes.len() - written;
        if rest == 0 {
            return Ok(());
        }
        if queue.left + rest > MAX_WRITE_QUEUE {
            return Err(End::Stuck);
        }
        if self.held.get() + rest > MAX_HELD {
            return Err(End::MemoryFull);
        }
        self.held.set(self.held.get() + rest);
        if queue.left == 0 {
            queue.written = written;
        }
        queue.left += rest;
        queue.messages.push_back(bytes.into());
        connection.gate.wake.notify_one();
        Ok(())
    }

    /// Writes what has waited.
    fn write_on(&self, connection: &Connection) -> Result<(), End> {
        let mut queue = connection.queue.borrow_mut();
        while let Some(first) = queue.messages.front() {
            match connection.stream.try_write(&first[queue.written..]) {
                Ok(count) => {
                    let is_whole = queue.written + count == first.len();
                    connection.written_ms.set(self.now_ms());
                    self.held.set(self.held.get() - count);
                    queue.left -= count;
                    queue.written += count;
                    if is_whole {
                        queue.messages.pop_front();
                        queue.written = 0;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(End::Broken),
            }
        }
        *queue = Queue::default();
        Ok(())
    }

    fn send(self: &Rc<Self>, letter: Letter) {
        let id = match letter.flow.connection {
            0 => self.by_remote.borrow().get(&letter.flow.remote).copied(),
            id => Some(id),
        };
        let found = id.and_then(|id| self.connections.borrow().get(&id).cloned());
        match found.filter(|connection| connection.must_end.get().is_none()) {
            Some(connection) => {
                if let Err(why) = self.write(&connection, &letter.message) {
                    self.close(&connection, why);
                    self.unsent(letter);
                }
            }
            None if letter.flow.connection == 0 => self.connect(letter),
            None => self.unsent(letter),
        }
    }

    fn unsent(&self, Letter { flow, message }: Letter) {
        count(&self.counters.unsent);
        if let Some(inbox) = self.inboxes.first() {
            inbox.post([Mail::ShardEvent(ShardEvent::Unsent(flow, message))]);
        }
    }

    /// Connects to a peer; what is sent to it meanwhile waits.
    fn connect(self: &Rc<Self>, letter: Letter) {
        let flow = letter.flow;
        let length = letter.message.len();
        let mut connecting = self.connecting.borrow_mut();
        let is_room = self.held.get() + length <= MAX_HELD;
        if let Some(waiting) = connecting.get_mut(&flow.remote) {
            if waiting.len() < MAX_WAITING_PER_PEER && is_room {
                self.held.set(self.held.get() + length);
                return waiting.push(letter);
            }
        } else if is_room
            && connecting.len() < MAX_CONNECTING
            && connecting.keys().filter(|peer| peer.ip() == flow.remote.ip()).count()
                < MAX_CONNECTING_PER_ADDRESS
            && (self.connections.borrow().len() + connecting.len() < self.settings.max_connections
                || self.evict())
        {
            self.held.set(self.held.get() + length);
            connecting.insert(flow.remote, vec![letter]);
            tokio::task::spawn_local(Rc::clone(self).connect_to(flow.local, flow.remote));
            return;
        }
        drop(connecting);
        count(&self.counters.refused);
        self.unsent(letter);
    }

    async fn connect_to(self: Rc<Self>, local: SocketAddr, remote: SocketAddr) {
        let connect = async {
            let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.bind(SocketAddr::new(local.ip(), 0))?;
            socket.connect(remote).await
        };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
        let waiting = self.connecting.borrow_mut().remove(&remote).unwrap_or_default();
        let bytes: usize = waiting.iter().map(|letter| letter.message.len()).sum();
        self.held.set(self.held.get() - bytes);
        let Ok(Ok(stream)) = connected else {
            tracing::debug!(%remote, "no connection");
            count(&self.counters.connect_failed);
            return waiting.into_iter().for_each(|letter| self.unsent(letter));
        };
        count(&self.counters.connected);
        // What comes back over it is for the address that our Via names.
        self.open(stream, local, remote);
        waiting.into_iter().for_each(|letter| self.send(letter));
    }

    fn keep(&self, id: u64, until_ms: u64) {
        let connection = self.connections.borrow().get(&id).cloned();
        match connection {
            Some(connection) => {
                connection.keep_until_ms.set(connection.keep_until_ms.get().max(until_ms));
            }
            // It went while the binding was being committed.
            None => self.tell_closed(id),
        }
    }

    fn tell_closed(&self, id: u64) {
        for inbox in self.inboxes.iter() {
            inbox.post([Mail::ShardEvent(ShardEvent::ConnectionClosed(id))]);
        }
    }

    /// Ends what is idle, unfinished, stuck, or has had its last answer.
    fn sweep(&self) {
        let now_ms = self.now_ms();
        let StreamSettings { lifetime_ms, message_ms, .. } = self.settings;
        for connection in self.connections.borrow().values() {
            let since_ms = connection.part.borrow().since_ms;
            let is_waiting = connection.queue.borrow().left > 0;
            let (last_ms, active_ms) = (connection.last_ms.get(), connection.active_ms.get());
            let why = if last_ms != 0 {
                (last_ms <= now_ms).then_some(End::Last)
            } else if since_ms != 0 && since_ms + message_ms <= now_ms {
                Some(End::Unfinished)
            } else if is_waiting && connection.written_ms.get() + STUCK_MS <= now_ms {
                Some(End::Stuck)
            } else if (active_ms + lifetime_ms).max(connection.keep_until_ms.get()) <= now_ms {
                Some(End::Idle)
            } else {
                None
            };
            if why.is_some() {
                connection.must_end.set(why);
                connection.gate.wake.notify_one();
            }
        }
    }

    fn close(&self, connection: &Connection, why: End) {
        let Flow { connection: id, remote, .. } = connection.flow;
        connection.must_end.set(Some(why));
        connection.gate.wake.notify_one();
        if self.connections.borrow_mut().remove(&id).is_none() {
            return;
        }
        let queue = std::mem::take(&mut *connection.queue.borrow_mut());
        let part = std::mem::take(&mut *connection.part.borrow_mut());
        self.held.set(self.held.get() - queue.left - part.bytes.len());
        for message in queue.messages.into_iter().filter(|message| !message.starts_with(b"\r\n")) {
            self.unsent(Letter { flow: connection.flow, message });
        }
        self.counters.connections.store(self.connections.borrow().len() as u64, Ordering::Relaxed);
        let mut by_remote = self.by_remote.borrow_mut();
        if by_remote.get(&remote) == Some(&id) {
            by_remote.remove(&remote);
        }
        let mut by_source = self.by_source.borrow_mut();
        if let Some(of_source) = by_source.get_mut(&remote.ip()) {
            *of_source -= 1;
            if *of_source == 0 {
                by_source.remove(&remote.ip());
            }
        }
        let counters = &self.counters;
        match why {
            End::Closed | End::Broken | End::Last => {}
            End::Idle => count(&counters.closed_idle),
            End::Unfinished => count(&counters.closed_unfinished),
            End::Garbage => count(&counters.closed_garbage),
            End::Stuck => count(&counters.closed_stuck),
            End::Evicted => count(&counters.evicted),
            End::MemoryFull => count(&counters.memory_full),
        }
        tracing::debug!(source = %connection.flow, ?why, "connection closed");
        if connection.keep_until_ms.get() != 0 {
            self.tell_closed(id);
        }
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().mono_ms
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
