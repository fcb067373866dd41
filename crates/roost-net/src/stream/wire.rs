//! How SIP messages are carried over a connection: what is read from its socket and written to it.
//!
//! A transport is a way to cut arrived bytes into messages ([`Framing`]), with or without TLS below it. What goes out that is
//! not a message as it stands (records, frames, answers of theirs) waits in `outgoing`, in order. The rest of the connection
//! knows the transport by its flow alone.

use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::sync::Arc;

use roost_core::Transport;
use roost_sip::Head;

use crate::stream::framer::{Found, Framer, Garbage};
use crate::stream::tls_session::TlsSession;
use crate::stream::websocket::{Origins, WebSocket};

#[derive(Debug)]
pub(super) struct Wire {
    tls: Option<Box<TlsSession>>,
    framing: Framing,
    outgoing: Outgoing,
    /// Since when handshakes are unfinished, in monotonic milliseconds.
    since_ms: Option<NonZeroU64>,
}

#[derive(Debug)]
enum Framing {
    Stream(Framer),
    WebSocket(Box<WebSocket>),
}

/// Bytes for the socket.
#[derive(Debug, Default)]
struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
}

/// Why nothing more is read.
#[derive(Debug)]
pub(super) enum Refused {
    /// It holds what is not SIP.
    Garbage,
    Tls(rustls::Error),
}

impl From<Garbage> for Refused {
    fn from(_: Garbage) -> Refused {
        Refused::Garbage
    }
}

impl Outgoing {
    fn left(&self) -> usize {
        self.bytes.len() - self.written
    }

    fn flush(&mut self, socket: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<()> {
        while self.left() > 0 {
            self.written += socket(&[IoSlice::new(&self.bytes[self.written..])])?;
        }
        *self = Outgoing::default();
        Ok(())
    }
}

impl Wire {
    /// Of a connection that has begun: over TLS its session begins, too.
    pub(super) fn new(transport: Transport, tls: Option<TlsSession>, origins: &Origins, now_ms: u64) -> Wire {
        let framing = match transport {
            Transport::Udp | Transport::Tcp | Transport::Tls => Framing::Stream(Framer::default()),
            Transport::Ws | Transport::Wss => {
                Framing::WebSocket(Box::new(WebSocket::new(Arc::clone(origins))))
            }
        };
        let mut wire =
            Wire { tls: tls.map(Box::new), framing, outgoing: Outgoing::default(), since_ms: None };
        if !wire.is_ready() {
            wire.since_ms = NonZeroU64::new(now_ms);
        }
        wire
    }

    /// Delivers the whole messages of what is held and what has `arrived`, as long as `may_go_on`.
    ///
    /// # Errors
    /// Why nothing more is read; what tells the peer may wait to be written.
    pub(super) fn take(
        &mut self,
        arrived: &[u8],
        head: &mut Head,
        now_ms: u64,
        may_go_on: impl Fn() -> bool,
        mut deliver: impl FnMut(&[u8]),
    ) -> Result<Found, Refused> {
        let Wire { tls, framing, outgoing, .. } = self;
        let Some(tls) = tls.as_mut().filter(|_| !arrived.is_empty()) else {
            let mut answer = Vec::new();
            let found = framing.take(arrived, head, now_ms, &may_go_on, &mut deliver, &mut answer);
            self.put(&answer);
            self.note_progress();
            return Ok(found?);
        };
        let (mut found, mut answer) = (Ok(Found::default()), Vec::new());
        let mut plain = |bytes: &[u8]| {
            if let Ok(before) = &mut found
                && !before.is_last
                && !before.is_over
            {
                let more = framing.take(bytes, head, now_ms, &may_go_on, &mut deliver, &mut answer);
                found = more.map(|more| Found { pings: before.pings + more.pings, ..more });
            }
        };
        let taken = tls.take(arrived, &mut outgoing.bytes, &mut plain);
        self.put(&answer);
        self.note_progress();
        let is_over = taken.map_err(Refused::Tls)?;
        let mut found = found?;
        found.is_over |= is_over;
        Ok(found)
    }

    /// Notes that handshakes are done.
    fn note_progress(&mut self) {
        if self.is_ready() {
            self.since_ms = None;
        }
    }

    /// Puts bytes behind what is to be written.
    fn put(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match &mut self.tls {
            Some(tls) => tls.encrypt(bytes, &mut self.outgoing.bytes),
            None => self.outgoing.bytes.extend_from_slice(bytes),
        }
    }

    /// Writes messages, the first perhaps the rest of one, as far as the peer takes them; how many of their bytes need not be
    /// written again.
    ///
    /// # Errors
    /// `WouldBlock` when the peer takes nothing now.
    pub(super) fn write(
        &mut self,
        messages: &[IoSlice<'_>],
        mut socket: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.tls.is_none() && matches!(self.framing, Framing::Stream(_)) {
            return socket(messages);
        }
        self.outgoing.flush(&mut socket)?;
        if !self.is_ready() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for message in messages {
            match &mut self.framing {
                Framing::Stream(_) => self.put(message),
                Framing::WebSocket(socket) => {
                    let mut frame = Vec::with_capacity(message.len() + 16);
                    socket.frame(message, &mut frame)?;
                    self.put(&frame);
                }
            }
        }
        match self.outgoing.flush(&mut socket) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(messages.iter().map(|message| message.len()).sum()),
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// `WouldBlock` when the peer takes nothing now.
    pub(super) fn flush(
        &mut self,
        mut socket: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.outgoing.flush(&mut socket)
    }

    /// Begins the handshake of a connection that was made.
    pub(super) fn begin(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.write(&mut self.outgoing.bytes);
        }
    }

    /// Asks a WebSocket's peer whether it is there; false where there is no way to.
    pub(super) fn ping(&mut self) -> bool {
        let mut frame = Vec::new();
        let is_sent = match &mut self.framing {
            Framing::WebSocket(socket) => socket.ping(&mut frame).is_ok(),
            Framing::Stream(_) => false,
        };
        self.put(&frame);
        is_sent
    }

    /// Puts what says that nothing more comes.
    pub(super) fn close(&mut self) {
        let mut frame = Vec::new();
        if let Framing::WebSocket(socket) = &mut self.framing {
            socket.close(&mut frame);
        }
        self.put(&frame);
        if let Some(tls) = &mut self.tls {
            tls.close(&mut self.outgoing.bytes);
        }
    }

    /// Bytes that wait to be written, beside messages.
    pub(super) fn to_write(&self) -> usize {
        self.outgoing.left()
    }

    /// Whether messages can be written: handshakes are done.
    pub(super) fn is_ready(&self) -> bool {
        let is_secure = self.tls.as_ref().is_none_or(|tls| tls.is_established());
        is_secure && self.framing.is_open()
    }

    /// Bytes that are held until more arrives.
    pub(super) fn held(&self) -> usize {
        self.framing.held()
    }

    /// The beginning of a message that is held, where that is all there is to know: of TCP alone.
    pub(super) fn plain_rest(&self) -> Option<Vec<u8>> {
        match &self.framing {
            Framing::Stream(framer) if self.tls.is_none() && self.to_write() == 0 => {
                Some(framer.rest().to_vec())
            }
            _ => None,
        }
    }

    /// Whether it was told to wait, and may have whole messages.
    pub(super) fn is_held_back(&self) -> bool {
        match &self.framing {
            Framing::Stream(framer) => framer.is_held_back(),
            Framing::WebSocket(socket) => socket.is_held_back(),
        }
    }

    /// Since when something is unfinished (a handshake, a record, a message), in monotonic milliseconds.
    pub(super) fn unfinished_since_ms(&self) -> Option<u64> {
        let own = self.since_ms.map(NonZeroU64::get);
        match &self.framing {
            Framing::Stream(framer) => own.or(framer.unfinished_since_ms()),
            Framing::WebSocket(socket) => own.or(socket.unfinished_since_ms()),
        }
    }
}

impl Framing {
    fn take(
        &mut self,
        arrived: &[u8],
        head: &mut Head,
        now_ms: u64,
        may_go_on: impl Fn() -> bool,
        deliver: impl FnMut(&[u8]),
        answer: &mut Vec<u8>,
    ) -> Result<Found, Garbage> {
        match self {
            Framing::Stream(framer) => framer.take(arrived, head, now_ms, may_go_on, deliver),
            Framing::WebSocket(socket) => socket.take(arrived, now_ms, may_go_on, deliver, answer),
        }
    }

    fn is_open(&self) -> bool {
        match self {
            Framing::Stream(_) => true,
            Framing::WebSocket(socket) => socket.is_open(),
        }
    }

    fn held(&self) -> usize {
        match self {
            Framing::Stream(framer) => framer.held(),
            Framing::WebSocket(socket) => socket.held(),
        }
    }
}
