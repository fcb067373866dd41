//! A thread of connections: accepts, connects, reads, writes, closes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use roost_core::{Flow, Listener, Transport};
use roost_sip::Head;
use tokio::io::{Interest, Ready};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::AbortHandle;

use crate::backpressure::Permit;
use crate::inbox::InboxItem;
use crate::stream::command::{ConnectionRecord, Outgoing, StreamCommand};
use crate::stream::connection::{Close, Connection};
use crate::stream::connections::Connections;
use crate::stream::limits::{
    COMMANDS_AT_ONCE, CONNECT_TIMEOUT, LAST_MS, MAX_CONNECTING, MAX_CONNECTING_PER_ADDRESS, MAX_HANDSHAKES,
    MAX_HANDSHAKES_PER_SECOND, MAX_HANDSHAKES_PER_SOURCE, MAX_PONGS, MAX_WAITING_PER_PEER, MAX_WRITE_QUEUE,
    READ, READS_PER_TURN, SWEEP,
};
use crate::stream::moved::MovedStreams;
use crate::stream::peer::Peer;
use crate::stream::proxied;
use crate::stream::shared::Shared;
use crate::stream::wire::{Refused, Wire};
use crate::tls::is_named;

/// What its tasks share.
pub(super) struct StreamThread {
    /// Its number.
    own: usize,
    pub(super) shared: Arc<Shared>,
    /// All threads' commands: a connection goes to the thread of its peer.
    threads: Arc<[UnboundedSender<StreamCommand>]>,
    pub(super) connections: RefCell<Connections>,
    /// The listeners that it accepts for, and what ends that.
    pub(super) accepting: RefCell<Vec<(Listener, AbortHandle)>>,
    /// What waits for a peer to be connected to.
    connecting: RefCell<HashMap<Peer, Vec<Outgoing>>>,
    /// All connections are closed by then, in monotonic milliseconds; 0: they are not.
    drain_until_ms: Cell<u64>,
    /// Nothing is read any more.
    pub(super) is_paused: Cell<bool>,
    /// Connections that it has had.
    pub(super) opened: Cell<u64>,
    /// Connections that messages of this round wait for.
    gathered: RefCell<Vec<Rc<Connection>>>,
    buffer: RefCell<Vec<u8>>,
    head: RefCell<Box<Head>>,
}

impl StreamThread {
    pub(super) fn new(
        own: usize,
        shared: Arc<Shared>,
        threads: Arc<[UnboundedSender<StreamCommand>]>,
    ) -> Rc<Self> {
        Rc::new(StreamThread {
            own,
            shared,
            threads,
            connections: RefCell::default(),
            accepting: RefCell::default(),
            connecting: RefCell::default(),
            drain_until_ms: Cell::new(0),
            is_paused: Cell::new(false),
            opened: Cell::new(0),
            gathered: RefCell::default(),
            buffer: RefCell::new(vec![0; READ]),
            head: RefCell::new(Head::new()),
        })
    }

    /// Does what it is told until it must end.
    pub(super) async fn serve(
        self: Rc<Self>,
        listeners: Vec<(Transport, std::net::TcpListener)>,
        moved: MovedStreams,
        mut commands: UnboundedReceiver<StreamCommand>,
    ) {
        for (transport, listener) in listeners {
            self.listen(transport, listener);
        }
        self.take_in(moved);
        let sweeper = Rc::clone(&self);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                sweeper.sweep();
            }
        });
        let mut taken = Vec::with_capacity(COMMANDS_AT_ONCE);
        while commands.recv_many(&mut taken, COMMANDS_AT_ONCE).await > 0 {
            let is_one = taken.len() == 1;
            for command in taken.drain(..) {
                match command {
                    StreamCommand::Send(outgoing) => {
                        self.shared.commanded.fetch_sub(outgoing.message.len(), Ordering::Relaxed);
                        self.send(outgoing, is_one);
                    }
                    StreamCommand::End => return self.write_gathered(),
                    command => self.obey(command),
                }
            }
            self.write_gathered();
        }
    }

    fn obey(self: &Rc<Self>, command: StreamCommand) {
        match command {
            StreamCommand::Keep { connection, until_ms } => self.keep(connection, until_ms),
            StreamCommand::Accepted { transport, stream, local, remote } => {
                match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                    Ok(stream) => self.begin(transport, stream, local, remote),
                    Err(_) => self.shared.sources.release(remote.ip()),
                }
            }
            StreamCommand::List(answer) => {
                let _ = answer.send(self.list());
            }
            StreamCommand::Drain { until_ms } => self.drain_until_ms.set(until_ms),
            StreamCommand::Listen(transport, listener) => self.listen(transport, listener),
            StreamCommand::Unlisten(transport, address) => {
                self.unlisten(&Listener::new(transport, address));
            }
            StreamCommand::Pause(answer) => {
                self.pause();
                let _ = answer.send(());
            }
            StreamCommand::TakeOut(answer) => {
                self.write_gathered();
                let _ = answer.send(self.take_out());
            }
            StreamCommand::Send(_) | StreamCommand::End => {}
        }
    }

    fn listen(self: &Rc<Self>, transport: Transport, listener: std::net::TcpListener) {
        let begun = listener.local_addr().and_then(|address| Ok((address, TcpListener::from_std(listener)?)));
        match begun {
            Ok((address, listener)) => {
                let task = tokio::task::spawn_local(Rc::clone(self).accept(transport, listener));
                self.accepting.borrow_mut().push((Listener::new(transport, address), task.abort_handle()));
            }
            Err(error) => tracing::error!(transport = transport.as_str(), %error, "a listener failed"),
        }
    }

    fn unlisten(&self, gone: &Listener) {
        self.accepting.borrow_mut().retain(|(listener, task)| {
            let stays = !listener.is_at(gone);
            if !stays {
                task.abort();
            }
            stays
        });
        for connection in self.connections.borrow().iter() {
            let Flow { transport, local, .. } = connection.flow;
            if transport == gone.transport && gone.covers(local) {
                connection.must_close.set(Some(Close::Drained));
                connection.wake();
            }
        }
    }

    async fn accept(self: Rc<Self>, transport: Transport, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, remote)) if self.is_balancer(remote) => {
                    tokio::task::spawn_local(Rc::clone(&self).accept_proxied(transport, stream, remote));
                }
                Ok((stream, remote)) => self.accepted(transport, stream, remote),
                Err(error) => {
                    // No descriptor is left, most likely: who is connected goes on.
                    tracing::debug!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn is_balancer(&self, remote: SocketAddr) -> bool {
        self.shared.carriers.balancers.contains(&remote.ip().to_canonical())
    }

    /// Takes a connection from a balancer once that has said whose it is.
    async fn accept_proxied(
        self: Rc<Self>,
        transport: Transport,
        mut stream: TcpStream,
        balancer: SocketAddr,
    ) {
        let patience = Duration::from_millis(self.shared.settings.message_ms);
        match tokio::time::timeout(patience, proxied::source(&mut stream, balancer)).await {
            Ok(Ok(remote)) => self.accepted(transport, stream, remote),
            _ => {
                tracing::debug!(%balancer, "a connection without a PROXY header");
                self.shared.counters.unproxied.increment();
            }
        }
    }

    /// Gives a new connection to the thread of its peer.
    fn accepted(self: &Rc<Self>, transport: Transport, stream: TcpStream, remote: SocketAddr) {
        if !self.shared.sources.admit(remote.ip(), self.shared.settings.max_per_source) {
            tracing::debug!(source = %remote, "too many connections of one address");
            return self.shared.counters.refused_source.increment();
        }
        let thread = self.shared.thread_of_peer(remote);
        if thread == self.own {
            return self.begin(transport, stream, None, remote);
        }
        let sent = match (stream.into_std(), self.threads.get(thread)) {
            (Ok(stream), Some(thread)) => {
                thread.send(StreamCommand::Accepted { transport, stream, local: None, remote }).is_ok()
            }
            _ => false,
        };
        if !sent {
            self.shared.sources.release(remote.ip());
        }
    }

    /// Opens a connection that its source was admitted with, where there is room for one.
    fn begin(
        self: &Rc<Self>,
        transport: Transport,
        stream: TcpStream,
        local: Option<SocketAddr>,
        remote: SocketAddr,
    ) {
        let Shared { settings, counters, sources, .. } = &*self.shared;
        let is_full = counters.connections.get() >= settings.max_connections as u64;
        match local.map_or_else(|| stream.local_addr(), Ok) {
            Ok(_) if is_full && !self.evict() => {
                tracing::debug!(source = %remote, "too many connections");
                counters.refused.increment();
                sources.release(remote.ip());
            }
            Ok(local) => {
                let flow = Flow::stream(transport, local, remote, 0);
                match self.shared.carriers.accepted(transport, self.shared.now_ms()) {
                    Ok(wire) => {
                        let is_handshaking = !wire.is_ready();
                        if is_handshaking && !self.begin_handshake(remote) {
                            tracing::debug!(source = %remote, "too many handshakes");
                            counters.handshakes_refused.increment();
                            return sources.release(remote.ip());
                        }
                        counters.accepted.increment();
                        self.open(flow, stream, wire, is_handshaking);
                    }
                    Err(error) => {
                        tracing::warn!(source = %remote, %error, "a connection could not begin");
                        counters.tls_failed.increment();
                        sources.release(remote.ip());
                    }
                }
            }
            Err(_) => sources.release(remote.ip()),
        }
    }

    /// Whether a peer may begin a handshake; then it counts.
    fn begin_handshake(&self, remote: SocketAddr) -> bool {
        let Shared { counters, sources, .. } = &*self.shared;
        let is_room = counters.handshakes.get() < MAX_HANDSHAKES as u64;
        let limits = (MAX_HANDSHAKES_PER_SOURCE, MAX_HANDSHAKES_PER_SECOND);
        let begins = is_room && sources.begin_handshake(remote.ip(), limits, self.shared.now_ms() / 1_000);
        if begins {
            counters.handshakes.increment();
        }
        begins
    }

    /// Counts that a handshake is over, however it went.
    fn end_handshake(&self, connection: &Connection) {
        if connection.is_handshaking.replace(false) {
            self.shared.counters.handshakes.decrement();
            self.shared.sources.end_handshake(connection.flow.remote.ip());
        }
    }

    /// Ends the connection that has been silent longest among those that no binding was made over; false when there is
    /// none.
    fn evict(&self) -> bool {
        let silent = self.connections.borrow().most_silent(self.shared.now_ms());
        if let Some(connection) = &silent {
            self.close(connection, Close::Evicted);
        }
        silent.is_some()
    }

    /// Opens a connection that counts as its source's; of one that was made `flow` says what its peer proves.
    fn open(self: &Rc<Self>, flow: Flow, stream: TcpStream, wire: Wire, is_handshaking: bool) {
        self.opened.set(self.opened.get() + 1);
        // Never used again, never 0, and its thread's.
        let number = self.opened.get() * self.shared.threads as u64 + self.own as u64;
        let peer = Peer::of(flow);
        let flow = Flow { connection: number, ..flow };
        let settings = &self.shared.settings;
        let connection = Connection::new(flow, peer, stream, wire, settings, self.shared.now_ms());
        connection.is_handshaking.set(is_handshaking);
        self.attend_to(connection);
    }

    /// Starts the task of a connection.
    pub(super) fn attend_to(self: &Rc<Self>, connection: Connection) -> Rc<Connection> {
        connection.is_paused.set(self.is_paused.get());
        let connection = Rc::new(connection);
        self.connections.borrow_mut().insert(&connection);
        self.shared.counters.opened(connection.flow.transport);
        let attended = Attended { thread: Rc::clone(self), connection: Rc::clone(&connection) };
        tokio::task::spawn_local(async move { attended.thread.attend(&attended.connection).await });
        connection
    }

    /// Reads and writes until the connection ends.
    async fn attend(&self, connection: &Connection) {
        let why = loop {
            if let Some(why) = connection.must_close.get() {
                break why;
            }
            if connection.may_take() && connection.wire.borrow().is_held_back() {
                // What has arrived comes before what will.
                if let Err(why) = self.take(connection, &[]) {
                    break why;
                }
                tokio::task::yield_now().await;
                continue;
            }
            let Some(interest) = interest(connection) else {
                connection.backpressure.wake.notified().await;
                continue;
            };
            tokio::select! {
                biased;
                () = connection.backpressure.wake.notified() => {}
                ready = connection.stream.ready(interest) => {
                    let done = ready.map_err(|_| Close::Broken);
                    if let Err(why) = done.and_then(|ready| self.is_ready(connection, interest, ready)) {
                        break why;
                    }
                    // One that always has something to say has a turn, as all others have.
                    tokio::task::yield_now().await;
                }
            }
        };
        self.close(connection, why);
    }

    fn is_ready(&self, connection: &Connection, interest: Interest, ready: Ready) -> Result<(), Close> {
        if interest.is_writable() && ready.is_writable() {
            self.write_on(connection)?;
        }
        if interest.is_readable() && (ready.is_readable() || ready.is_read_closed()) {
            self.read(connection)?;
        }
        Ok(())
    }

    fn read(&self, connection: &Connection) -> Result<(), Close> {
        let mut buffer = self.buffer.borrow_mut();
        for _ in 0..READS_PER_TURN {
            match connection.stream.try_read(&mut buffer) {
                Ok(0) => return Err(Close::ByPeer),
                Ok(count) => {
                    let now_ms = self.shared.now_ms();
                    connection.active_ms.set(now_ms);
                    connection.heard_ms.set(now_ms);
                    self.take(connection, &buffer[..count])?;
                    if !connection.is_read() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Close::Broken),
            }
        }
        Ok(())
    }

    /// Gives the messages of what has arrived to a worker, all of one connection to the same, and answers keep-alives.
    pub(super) fn take(&self, connection: &Connection, arrived: &[u8]) -> Result<(), Close> {
        let mut items = Vec::new();
        let deliver = |message: &[u8]| {
            let permit = Permit::new(&connection.backpressure);
            items.push(InboxItem::Stream { flow: connection.flow, message: message.into(), permit });
        };
        let may_go_on = || connection.may_take();
        let mut wire = connection.wire.borrow_mut();
        self.shared.release(wire.held());
        let now_ms = self.shared.now_ms();
        if wire.to_write() == 0 && connection.queue.borrow().left() == 0 {
            // What begins to wait now.
            connection.written_ms.set(now_ms);
        }
        let found = wire.take(arrived, &mut self.head.borrow_mut(), now_ms, may_go_on, deliver);
        let is_room = self.shared.hold(wire.held());
        let to_write = wire.to_write();
        if wire.is_ready() {
            self.end_handshake(connection);
        }
        drop(wire);
        if let Some(inbox) = self.shared.inbox_of(connection.flow.connection).filter(|_| !items.is_empty()) {
            self.shared.counters.inbox_full.add(inbox.post(items));
        }
        if to_write > 0 {
            self.write_on(connection)?;
        }
        let found = found.map_err(|why| self.refused(connection, &why))?;
        if found.is_over {
            connection.is_over.set(true);
            connection.last_ms.set(now_ms + LAST_MS);
            return self.write_on(connection);
        }
        if found.is_last {
            connection.last_ms.set(now_ms + LAST_MS);
        }
        if found.pings > 0 {
            // A peer needs no more answers than that at once.
            self.write(connection, &b"\r\n".repeat(found.pings.min(MAX_PONGS)))?;
        }
        if is_room { Ok(()) } else { Err(Close::MemoryFull) }
    }

    fn refused(&self, connection: &Connection, why: &Refused) -> Close {
        match why {
            Refused::Garbage => Close::Garbage,
            Refused::Tls(error) => {
                tracing::debug!(source = %connection.flow, %error, "a TLS session has failed");
                Close::Tls
            }
        }
    }

    /// Writes to a connection, or queues what its peer does not read now.
    fn write(&self, connection: &Connection, bytes: &[u8]) -> Result<(), Close> {
        let mut written = 0;
        let now_ms = self.shared.now_ms();
        if connection.queue.borrow().left() == 0 {
            connection.written_ms.set(now_ms);
            let mut wire = connection.wire.borrow_mut();
            match wire.write(&[IoSlice::new(bytes)], |slices| connection.stream.try_write_vectored(slices)) {
                Ok(count) => written = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Close::Broken),
            }
        }
        connection.active_ms.set(now_ms);
        if written == bytes.len() {
            return Ok(());
        }
        self.enqueue(connection, bytes.into(), written).map_err(|(why, _)| why)?;
        connection.wake();
        Ok(())
    }

    /// Queues a message of which so many bytes are written.
    fn enqueue(
        &self,
        connection: &Connection,
        message: Box<[u8]>,
        written: usize,
    ) -> Result<(), (Close, Box<[u8]>)> {
        let mut queue = connection.queue.borrow_mut();
        let rest = message.len() - written;
        if queue.left() + rest > MAX_WRITE_QUEUE {
            return Err((Close::Stuck, message));
        }
        if !self.shared.try_hold(rest) {
            return Err((Close::MemoryFull, message));
        }
        queue.push(message, written);
        Ok(())
    }

    /// Queues a message that is written with others of the same round.
    fn gather(&self, connection: &Rc<Connection>, message: Box<[u8]>) -> Result<(), (Close, Box<[u8]>)> {
        let is_first = connection.queue.borrow().left() == 0;
        if let Err((_, message)) = self.enqueue(connection, message, 0) {
            // There is no room to wait for the others of the round: they go now, and it behind them.
            let written = self.write_on(connection).and_then(|()| self.write(connection, &message));
            return written.map_err(|why| (why, message));
        }
        if is_first {
            let now_ms = self.shared.now_ms();
            connection.written_ms.set(now_ms);
            connection.active_ms.set(now_ms);
            self.gathered.borrow_mut().push(Rc::clone(connection));
        }
        Ok(())
    }

    fn write_gathered(&self) {
        for connection in self.gathered.take() {
            if connection.must_close.get().is_some() {
                continue;
            }
            match self.write_on(&connection) {
                Ok(()) if connection.queue.borrow().left() > 0 => connection.wake(),
                Ok(()) => {}
                Err(why) => self.close(&connection, why),
            }
        }
    }

    /// Writes what has waited.
    fn write_on(&self, connection: &Connection) -> Result<(), Close> {
        let mut wire = connection.wire.borrow_mut();
        let mut queue = connection.queue.borrow_mut();
        let before = queue.left();
        let answers = wire.to_write();
        let flushed = wire.flush(|slices| connection.stream.try_write_vectored(slices));
        if wire.to_write() < answers {
            connection.written_ms.set(self.shared.now_ms());
        }
        match flushed {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return Err(Close::Broken),
            Ok(()) if connection.is_over.get() => return Err(Close::Last),
            Ok(()) => {}
        }
        let socket = |slices: &[IoSlice<'_>]| connection.stream.try_write_vectored(slices);
        let written = queue.write(|messages| wire.write(messages, socket));
        if before > queue.left() {
            connection.written_ms.set(self.shared.now_ms());
            self.shared.release(before - queue.left());
        }
        written.map_err(|_| Close::Broken).map(drop)
    }

    /// Sends at once, or gathers what [`StreamThread::write_gathered`] writes.
    fn send(self: &Rc<Self>, outgoing: Outgoing, at_once: bool) {
        let number = outgoing.flow.connection;
        let is_any = number == 0 || is_named(number);
        let found = match number {
            _ if is_any => self.connections.borrow().to(Peer::of(outgoing.flow)),
            number => self.connections.borrow().get(number),
        };
        match found.filter(|connection| connection.must_close.get().is_none()) {
            Some(connection) if at_once => {
                if let Err(why) = self.write(&connection, &outgoing.message) {
                    self.close(&connection, why);
                    self.shared.unsent(outgoing);
                }
            }
            Some(connection) => {
                let Outgoing { flow, message } = outgoing;
                if let Err((why, message)) = self.gather(&connection, message) {
                    self.close(&connection, why);
                    self.shared.unsent(Outgoing { flow, message });
                }
            }
            None if is_any => self.connect(outgoing),
            None => self.shared.unsent(outgoing),
        }
    }

    /// Connects to a peer; what is sent to it meanwhile waits.
    fn connect(self: &Rc<Self>, outgoing: Outgoing) {
        let flow = outgoing.flow;
        let peer = Peer::of(flow);
        let mut connecting = self.connecting.borrow_mut();
        if !self.shared.try_hold(outgoing.message.len()) {
            return self.refuse(outgoing);
        }
        if let Some(waiting) = connecting.get_mut(&peer)
            && waiting.len() < MAX_WAITING_PER_PEER
        {
            return waiting.push(outgoing);
        }
        if !connecting.contains_key(&peer) && self.begin_connecting(flow.remote, connecting.len()) {
            connecting.insert(peer, vec![outgoing]);
            tokio::task::spawn_local(Rc::clone(self).connect_to(flow));
            return;
        }
        self.shared.release(outgoing.message.len());
        self.refuse(outgoing);
    }

    /// Whether another peer may be connected to; then it counts. Nobody has to go for a peer that has too many already.
    fn begin_connecting(&self, remote: SocketAddr, own: usize) -> bool {
        let Shared { sources, counters, settings, connecting, .. } = &*self.shared;
        if own >= MAX_CONNECTING || !sources.begin_connecting(remote.ip(), MAX_CONNECTING_PER_ADDRESS) {
            return false;
        }
        let all = counters.connections.get() as usize + connecting.fetch_add(1, Ordering::Relaxed);
        if all < settings.max_connections || self.evict() {
            return true;
        }
        self.end_connecting(remote);
        false
    }

    fn end_connecting(&self, remote: SocketAddr) {
        self.shared.sources.end_connecting(remote.ip());
        self.shared.connecting.fetch_sub(1, Ordering::Relaxed);
    }

    fn refuse(&self, outgoing: Outgoing) {
        self.shared.counters.refused.increment();
        self.shared.unsent(outgoing);
    }

    async fn connect_to(self: Rc<Self>, flow: Flow) {
        let Flow { local, remote, .. } = flow;
        let connect = async {
            let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.bind(SocketAddr::new(local.ip(), 0))?;
            socket.connect(remote).await
        };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
        let waiting = self.connecting.borrow_mut().remove(&Peer::of(flow)).unwrap_or_default();
        self.shared.release(waiting.iter().map(|outgoing| outgoing.message.len()).sum());
        self.end_connecting(remote);
        let connected = match connected {
            Ok(Ok(stream)) => {
                let wire = self.shared.carriers.connected(&flow, self.shared.now_ms());
                wire.map(|wire| (stream, wire)).map_err(io::Error::other)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let (stream, wire) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                tracing::debug!(%remote, %error, "no connection");
                self.shared.counters.connect_failed.increment();
                return waiting.into_iter().for_each(|outgoing| self.shared.unsent(outgoing));
            }
        };
        self.shared.counters.connected.increment();
        // It was asked for: it counts, and is not refused.
        self.shared.sources.admit(remote.ip(), usize::MAX);
        // What comes back over it is for the address that our Via names.
        self.open(flow, stream, wire, false);
        waiting.into_iter().for_each(|outgoing| self.send(outgoing, false));
        self.write_gathered();
    }

    /// What operators may know of each connection.
    fn list(&self) -> Vec<ConnectionRecord> {
        let now_ms = self.shared.clock.now().mono_ms;
        let record = |connection: &Rc<Connection>| ConnectionRecord {
            flow: connection.flow,
            is_handshaking: connection.is_handshaking.get(),
            silent_ms: now_ms.saturating_sub(connection.active_ms.get()),
            kept_ms: connection.keep_until_ms.get().saturating_sub(now_ms),
        };
        self.connections.borrow().iter().map(record).collect()
    }

    fn keep(&self, number: u64, until_ms: u64) {
        let connection = self.connections.borrow().get(number);
        match connection {
            Some(connection) => {
                connection.keep_until_ms.set(connection.keep_until_ms.get().max(until_ms));
            }
            // It went while the binding was being committed.
            None => self.shared.tell_closed(number),
        }
    }

    /// Has those end whose time is over.
    fn sweep(&self) {
        let now_ms = self.shared.now_ms();
        for connection in self.connections.borrow().iter() {
            if let Some(why) = connection.overdue(&self.shared.settings, now_ms) {
                connection.must_close.set(Some(why));
                connection.wake();
            }
            connection.ping(&self.shared.settings, now_ms);
        }
        self.drain(now_ms);
    }

    /// Has a share of the connections end, so that all have when the time has come.
    fn drain(&self, now_ms: u64) {
        let until_ms = self.drain_until_ms.get();
        if until_ms == 0 {
            return;
        }
        let connections = self.connections.borrow();
        let rounds = until_ms.saturating_sub(now_ms).div_ceil(SWEEP.as_millis() as u64).max(1);
        let share = (connections.iter().count() as u64).div_ceil(rounds) as usize;
        for connection in connections.iter().take(share) {
            connection.must_close.set(Some(Close::Drained));
            connection.wake();
        }
    }

    pub(super) fn close(&self, connection: &Connection, why: Close) {
        connection.must_close.set(Some(why));
        connection.wake();
        if !self.connections.borrow_mut().remove(connection) {
            return;
        }
        let Shared { counters, sources, .. } = &*self.shared;
        let flow = connection.flow;
        if !matches!(why, Close::ByPeer | Close::Broken | Close::Tls) {
            let mut wire = connection.wire.borrow_mut();
            wire.close();
            let _ = wire.flush(|slices| connection.stream.try_write_vectored(slices));
        }
        let queue = std::mem::take(&mut *connection.queue.borrow_mut());
        self.shared.release(queue.left() + connection.wire.borrow().held());
        // A connection that never got ready was none: nothing is lost but an attempt.
        let is_ready = connection.wire.borrow().is_ready();
        let flow = if is_ready { flow } else { Flow { connection: connection.peer.name, ..flow } };
        for message in queue.into_messages().filter(|message| !message.starts_with(b"\r\n")) {
            self.shared.unsent(Outgoing { flow, message });
        }
        counters.closed(flow.transport);
        self.end_handshake(connection);
        sources.release(flow.remote.ip());
        match why {
            Close::ByPeer | Close::Broken | Close::Last | Close::Drained => {}
            Close::Idle => counters.closed_idle.increment(),
            Close::Unfinished => counters.closed_unfinished.increment(),
            Close::Garbage => counters.closed_garbage.increment(),
            Close::Stuck => counters.closed_stuck.increment(),
            Close::Silent => counters.closed_silent.increment(),
            Close::Tls => counters.tls_failed.increment(),
            Close::Evicted => counters.evicted.increment(),
            Close::MemoryFull => counters.memory_full.increment(),
        }
        tracing::debug!(source = %flow, ?why, "connection closed");
        if connection.keep_until_ms.get() != 0 {
            self.shared.tell_closed(connection.flow.connection);
        }
    }
}

/// A connection with the thread that attends to it: however that ends, the connection ends, too.
struct Attended {
    thread: Rc<StreamThread>,
    connection: Rc<Connection>,
}

impl Drop for Attended {
    fn drop(&mut self) {
        self.thread.close(&self.connection, Close::Broken);
    }
}

/// What a connection waits for on its socket; nothing while it is neither read nor written.
fn interest(connection: &Connection) -> Option<Interest> {
    match (connection.is_read(), connection.is_written()) {
        (true, false) => Some(Interest::READABLE),
        (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
        (false, true) => Some(Interest::WRITABLE),
        (false, false) => None,
    }
}
