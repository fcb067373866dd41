//! One connection, and when it ends.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use roost_core::Flow;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::backpressure::Backpressure;
use crate::stream::limits::{MAX_ANSWERS, PONG_MS, STUCK_MS, StreamSettings};
use crate::stream::moved::MovedConnection;
use crate::stream::peer::Peer;
use crate::stream::wire::Wire;
use crate::stream::write_queue::WriteQueue;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) flow: Flow,
    pub(super) peer: Peer,
    pub(super) stream: TcpStream,
    pub(super) backpressure: Arc<Backpressure>,
    pub(super) must_close: Cell<Option<Close>>,
    /// What is to be written when the peer reads on.
    pub(super) queue: RefCell<WriteQueue>,
    pub(super) wire: RefCell<Wire>,
    /// When anything was read or written last, in monotonic milliseconds.
    pub(super) active_ms: Cell<u64>,
    /// When anything was read last.
    pub(super) heard_ms: Cell<u64>,
    /// When its peer was asked whether it is there; 0: never.
    pub(super) pinged_ms: Cell<u64>,
    /// When something was written last, or began to wait.
    pub(super) written_ms: Cell<u64>,
    /// A binding that was made over it lives until then; 0: there has been none.
    pub(super) keep_until_ms: Cell<u64>,
    /// It is not read any more and ends then; 0: it is read.
    pub(super) last_ms: Cell<u64>,
    /// Its handshake counts as its source's.
    pub(super) is_handshaking: Cell<bool>,
    /// It is not read any more: it goes on in the process after this one.
    pub(super) is_paused: Cell<bool>,
    /// What is to be written yet is its end.
    pub(super) is_over: Cell<bool>,
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// The peer has closed it.
    ByPeer,
    Broken,
    Idle,
    Unfinished,
    Garbage,
    Stuck,
    /// It does not say that it is there.
    Silent,
    /// Its TLS session cannot go on.
    Tls,
    Evicted,
    MemoryFull,
    /// It has had its last answer.
    Last,
    /// The server is taken out of service.
    Drained,
}

impl Connection {
    pub(super) fn new(
        flow: Flow,
        peer: Peer,
        stream: TcpStream,
        wire: Wire,
        settings: &StreamSettings,
        now_ms: u64,
    ) -> Connection {
        let _ = stream.set_nodelay(true);
        if settings.ping_interval_ms > 0 {
            // A phone whose router has forgotten it does not say so.
            let keepalive = TcpKeepalive::new()
                .with_time(Duration::from_millis(settings.ping_interval_ms))
                .with_interval(Duration::from_millis(PONG_MS / 2))
                .with_retries(2);
            let socket = SockRef::from(&stream);
            let _ = socket.set_tcp_keepalive(&keepalive);
            let most = Duration::from_millis(settings.ping_interval_ms + PONG_MS);
            let _ = socket.set_tcp_user_timeout(Some(most));
        }
        Connection {
            flow,
            peer,
            stream,
            backpressure: Arc::default(),
            must_close: Cell::new(None),
            queue: RefCell::default(),
            wire: RefCell::new(wire),
            active_ms: Cell::new(now_ms),
            heard_ms: Cell::new(now_ms),
            pinged_ms: Cell::new(0),
            written_ms: Cell::new(0),
            keep_until_ms: Cell::new(0),
            last_ms: Cell::new(0),
            is_handshaking: Cell::new(false),
            is_paused: Cell::new(false),
            is_over: Cell::new(false),
        }
    }

    /// Whether it is read: the workers keep up, the peer takes our answers, and its last message has not come.
    pub(super) fn is_read(&self) -> bool {
        let takes_answers = self.wire.borrow().to_write() <= MAX_ANSWERS;
        self.last_ms.get() == 0 && self.may_take() && takes_answers
    }

    /// Whether the workers take another message.
    pub(super) fn may_take(&self) -> bool {
        self.backpressure.is_open() && !self.is_paused.get()
    }

    /// What goes along with its socket where it can go on in another process.
    pub(super) fn moved(&self, now_ms: u64) -> Option<MovedConnection> {
        let is_ending = self.must_close.get().is_some() || self.last_ms.get() != 0 || self.is_over.get();
        let read = self.wire.borrow().plain_rest().filter(|_| !is_ending)?;
        let kept_until_ms = self.keep_until_ms.get();
        let kept_ms = (kept_until_ms != 0).then(|| kept_until_ms.saturating_sub(now_ms));
        let Flow { connection, local, remote, .. } = self.flow;
        let unsent = self.queue.borrow().bytes();
        Some(MovedConnection { number: connection, local, remote, kept_ms, read, unsent })
    }

    /// Whether it must end because of the time: it is idle, unfinished, stuck, or has had its last answer.
    pub(super) fn overdue(&self, settings: &StreamSettings, now_ms: u64) -> Option<Close> {
        let is_over = |since_ms: u64, lasts_ms: u64| since_ms + lasts_ms <= now_ms;
        if self.last_ms.get() != 0 {
            return (self.last_ms.get() <= now_ms).then_some(Close::Last);
        }
        let unfinished = self.wire.borrow().unfinished_since_ms();
        if unfinished.is_some_and(|since_ms| is_over(since_ms, settings.message_ms)) {
            return Some(Close::Unfinished);
        }
        if self.is_written() && is_over(self.written_ms.get(), STUCK_MS) {
            return Some(Close::Stuck);
        }
        let pinged_ms = self.pinged_ms.get();
        if pinged_ms > self.heard_ms.get() && is_over(pinged_ms, PONG_MS) {
            return Some(Close::Silent);
        }
        let until_ms = (self.active_ms.get() + settings.lifetime_ms).max(self.keep_until_ms.get());
        (until_ms <= now_ms).then_some(Close::Idle)
    }

    /// Whether something waits until its peer reads.
    pub(super) fn is_written(&self) -> bool {
        let wire = self.wire.borrow();
        wire.to_write() > 0 || (self.queue.borrow().left() > 0 && wire.is_ready())
    }

    /// Asks a WebSocket's peer that has been silent so long whether it is there. Browsers do not ask by themselves, and what
    /// is in between may keep the TCP connection alive.
    pub(super) fn ping(&self, settings: &StreamSettings, now_ms: u64) {
        let interval_ms = settings.ping_interval_ms;
        let heard_ms = self.heard_ms.get();
        let is_due = interval_ms > 0 && heard_ms + interval_ms <= now_ms && self.pinged_ms.get() <= heard_ms;
        if is_due && self.wire.borrow_mut().ping() {
            self.pinged_ms.set(now_ms);
            self.written_ms.set(now_ms);
            self.wake();
        }
    }

    /// Has its task look at it.
    pub(super) fn wake(&self) {
        self.backpressure.wake.notify_one();
    }
}
