//! Where workers put copies of messages.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use roost_core::Flow;

/// One message, in a [`Capture`].
#[derive(Debug, Clone, Copy)]
pub struct Captured {
    /// When, in unix time.
    pub at: Duration,
    pub flow: Flow,
    /// Whether roost has sent it.
    pub is_sent: bool,
    start: usize,
    end: usize,
}

/// Messages that a worker saw in one round.
#[derive(Debug, Default)]
pub struct Capture {
    bytes: Vec<u8>,
    messages: Vec<Captured>,
}

impl Capture {
    /// Adds a message. What is no message (keep-alives) is passed over.
    pub fn push(&mut self, at: Duration, flow: Flow, is_sent: bool, message: &[u8]) {
        if message.first().is_none_or(|first| !first.is_ascii_alphabetic()) {
            return;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message);
        self.messages.push(Captured { at, flow, is_sent, start, end: self.bytes.len() });
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Visits all messages, in their order.
    pub fn each(&mut self, mut visit: impl FnMut(&Captured, &mut [u8])) {
        for one in &self.messages {
            if let Some(message) = self.bytes.get_mut(one.start..one.end) {
                visit(one, message);
            }
        }
    }
}

/// Takes captures while anybody wants them.
#[derive(Debug)]
pub struct Tap {
    is_open: AtomicBool,
    queue: SyncSender<Capture>,
    lost: AtomicU64,
}

impl Tap {
    pub(crate) fn new(queue: SyncSender<Capture>) -> Tap {
        Tap { is_open: AtomicBool::new(false), queue, lost: AtomicU64::new(0) }
    }

    /// Whether messages are wanted now.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    pub(crate) fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Relaxed);
    }

    /// Gives messages away; what the thread has no time for is counted.
    pub fn give(&self, capture: Capture) {
        if let Err(TrySendError::Full(capture) | TrySendError::Disconnected(capture)) =
            self.queue.try_send(capture)
        {
            self.lost.fetch_add(capture.messages.len() as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}
