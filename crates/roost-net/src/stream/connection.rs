//! One connection, and when it ends.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use roost_core::Flow;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::backpressure::Backpressure;
use crate::stream::limits::{STUCK_MS, StreamSettings};
use crate::stream::wire::Wire;
use crate::stream::write_queue::WriteQueue;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) flow: Flow,
    pub(super) stream: TcpStream,
    pub(super) backpressure: Arc<Backpressure>,
    pub(super) must_close: Cell<Option<Close>>,
    /// What is to be written when the peer reads on.
    pub(super) queue: RefCell<WriteQueue>,
    pub(super) wire: RefCell<Wire>,
    /// When anything was read or written last, in monotonic milliseconds.
    pub(super) active_ms: Cell<u64>,
    /// When something was written last, or began to wait.
    pub(super) written_ms: Cell<u64>,
    /// A binding that was made over it lives until then; 0: there has been none.
    pub(super) keep_until_ms: Cell<u64>,
    /// It is not read any more and ends then; 0: it is read.
    pub(super) last_ms: Cell<u64>,
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
    Evicted,
    MemoryFull,
    /// It has had its last answer.
    Last,
}

impl Connection {
    pub(super) fn new(flow: Flow, stream: TcpStream, now_ms: u64) -> Connection {
        let _ = stream.set_nodelay(true);
        // A phone whose router has forgotten it does not say so.
        let keepalive =
            TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        Connection {
            flow,
            stream,
            backpressure: Arc::default(),
            must_close: Cell::new(None),
            queue: RefCell::default(),
            wire: RefCell::new(Wire::new(flow.transport)),
            active_ms: Cell::new(now_ms),
            written_ms: Cell::new(0),
            keep_until_ms: Cell::new(0),
            last_ms: Cell::new(0),
        }
    }

    /// Whether it is read: the workers keep up, and its last message has not come.
    pub(super) fn is_read(&self) -> bool {
        self.last_ms.get() == 0 && self.backpressure.is_open()
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
        if self.queue.borrow().left() > 0 && is_over(self.written_ms.get(), STUCK_MS) {
            return Some(Close::Stuck);
        }
        let until_ms = (self.active_ms.get() + settings.lifetime_ms).max(self.keep_until_ms.get());
        (until_ms <= now_ms).then_some(Close::Idle)
    }

    /// Has its task look at it.
    pub(super) fn wake(&self) {
        self.backpressure.wake.notify_one();
    }
}
