//! How SIP messages are carried over a connection: what is read from its socket and written to it.
//!
//! What a transport makes of arrived bytes and how it writes a message is a variant here. What a variant needs (a TLS
//! session, a WebSocket's frames) is its own; the rest of the connection knows the transport by its flow alone.

use std::io;

use roost_core::Transport;
use roost_sip::Head;

use crate::stream::framer::{Found, Framer, Garbage};

#[derive(Debug)]
pub(super) enum Wire {
    Tcp(Framer),
}

impl Wire {
    pub(super) fn new(transport: Transport) -> Wire {
        match transport {
            Transport::Udp | Transport::Tcp => Wire::Tcp(Framer::default()),
        }
    }

    /// Delivers the whole messages of what is held and what has `arrived`, as long as `may_go_on`.
    ///
    /// # Errors
    /// [`Garbage`].
    pub(super) fn take(
        &mut self,
        arrived: &[u8],
        head: &mut Head,
        now_ms: u64,
        may_go_on: impl Fn() -> bool,
        deliver: impl FnMut(&[u8]),
    ) -> Result<Found, Garbage> {
        match self {
            Wire::Tcp(framer) => framer.take(arrived, head, now_ms, may_go_on, deliver),
        }
    }

    /// Writes a message, or the rest of one, as far as the peer takes it; how many of its bytes need not be written again.
    ///
    /// # Errors
    /// `WouldBlock` when the peer takes nothing now.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        mut socket: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match self {
            Wire::Tcp(_) => socket(bytes),
        }
    }

    /// Bytes that are held until more arrives.
    pub(super) fn held(&self) -> usize {
        match self {
            Wire::Tcp(framer) => framer.held(),
        }
    }

    /// Whether it was told to wait, and may have whole messages.
    pub(super) fn is_held_back(&self) -> bool {
        match self {
            Wire::Tcp(framer) => framer.is_held_back(),
        }
    }

    /// Since when a message is unfinished, in monotonic milliseconds.
    pub(super) fn unfinished_since_ms(&self) -> Option<u64> {
        match self {
            Wire::Tcp(framer) => framer.unfinished_since_ms(),
        }
    }
}
