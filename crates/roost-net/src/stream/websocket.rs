//! A WebSocket that carries SIP (RFC 6455, RFC 7118) over bytes in memory.

use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::sync::Arc;

use tungstenite::error::CapacityError;
use tungstenite::handshake::machine::TryParse as _;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Bytes, Error, Message};

use crate::stream::framer::{Found, Garbage};

/// Bytes of one message at most.
const MAX_MESSAGE: usize = 64 << 10;
/// Bytes of the request that asks for a WebSocket at most.
const MAX_REQUEST: usize = 8 << 10;
/// Bytes that are read ahead.
const READ_AHEAD: usize = 512;

/// The pages from which a browser may connect; none: all.
pub(super) type Origins = Arc<[String]>;

#[derive(Debug)]
pub(super) struct WebSocket {
    state: State,
    /// Since when a message is unfinished, in monotonic milliseconds. Of the request the wire knows it.
    since_ms: Option<NonZeroU64>,
    is_held_back: bool,
}

#[derive(Debug)]
enum State {
    /// The request that asks for a WebSocket, as far as it has arrived.
    Asked(Vec<u8>, Origins),
    Open(Box<tungstenite::WebSocket<Memory>>),
    Over,
}

/// What has arrived, and what is to be sent.
#[derive(Debug, Default)]
struct Memory {
    incoming: Vec<u8>,
    /// Bytes of it that are read.
    read: usize,
    outgoing: Vec<u8>,
}

impl Memory {
    fn left(&self) -> usize {
        self.incoming.len() - self.read
    }
}

impl Read for Memory {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.incoming.get(self.read..).unwrap_or_default();
        if left.is_empty() {
            self.incoming = Vec::new();
            self.read = 0;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = left.len().min(into.len());
        into[..count].copy_from_slice(&left[..count]);
        self.read += count;
        Ok(count)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WebSocket {
    pub(super) fn new(origins: Origins) -> WebSocket {
        WebSocket { state: State::Asked(Vec::new(), origins), since_ms: None, is_held_back: false }
    }

    /// Whether messages may be sent.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Bytes that it holds.
    pub(super) fn held(&self) -> usize {
        match &self.state {
            State::Asked(request, _) => request.len(),
            State::Open(socket) => socket.get_ref().left(),
            State::Over => 0,
        }
    }

    pub(super) fn unfinished_since_ms(&self) -> Option<u64> {
        self.since_ms.map(NonZeroU64::get)
    }

    pub(super) fn is_held_back(&self) -> bool {
        self.is_held_back
    }

    /// Delivers the messages of what is held and what has `arrived`, as long as `may_go_on`; `out` gets what the peer must be
    /// sent.
    ///
    /// # Errors
    /// [`Garbage`].
    pub(super) fn take(
        &mut self,
        arrived: &[u8],
        now_ms: u64,
        may_go_on: impl Fn() -> bool,
        deliver: impl FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> Result<Found, Garbage> {
        self.is_held_back = false;
        match &mut self.state {
            State::Asked(request, _) => {
                request.extend_from_slice(arrived);
                if !self.answer(out)? {
                    let is_over = matches!(self.state, State::Over);
                    return Ok(Found { is_over, ..Found::default() });
                }
            }
            State::Open(socket) => socket.get_mut().incoming.extend_from_slice(arrived),
            State::Over => return Ok(Found { is_over: true, ..Found::default() }),
        }
        self.read(!arrived.is_empty(), now_ms, may_go_on, deliver, out)
    }

    /// Answers the request once it is whole; true when it has become a WebSocket.
    fn answer(&mut self, out: &mut Vec<u8>) -> Result<bool, Garbage> {
        let State::Asked(text, origins) = &self.state else { return Ok(true) };
        let (length, request) = match Request::try_parse(text) {
            Ok(Some(whole)) if whole.0 <= MAX_REQUEST => whole,
            Ok(None) if text.len() <= MAX_REQUEST => return Ok(false),
            _ => return Err(Garbage),
        };
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let protocols = header("Sec-WebSocket-Protocol").unwrap_or("").split(',');
        let refusal = match create_response(&request) {
            Err(_) if header("Upgrade").is_none() => Some(("200 OK", PAGE)),
            Err(_) => Some(("400 Bad Request", "This is no request for a WebSocket (RFC 6455).\n")),
            Ok(_) if !is_allowed(origins, header("Origin")) => Some((
                "403 Forbidden",
                "Pages of this origin may not connect: it is not in websocket.allowed_origins.\n",
            )),
            Ok(_) if !protocols.map(str::trim).any(|protocol| protocol.eq_ignore_ascii_case("sip")) => {
                Some((
                    "400 Bad Request",
                    "Ask for the subprotocol \"sip\" (Sec-WebSocket-Protocol: sip, RFC 7118).\n",
                ))
            }
            Ok(mut response) => {
                if let Ok(value) = "sip".parse() {
                    response.headers_mut().insert("Sec-WebSocket-Protocol", value);
                }
                write_response(&mut *out, &response).map_err(|_| Garbage)?;
                None
            }
        };
        if let Some((status, text)) = refusal {
            write_page(status, text, out);
            self.state = State::Over;
            return Ok(false);
        }
        let memory =
            Memory { incoming: text.get(length..).unwrap_or_default().to_vec(), ..Memory::default() };
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_AHEAD)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let socket = tungstenite::WebSocket::from_raw_socket(memory, Role::Server, Some(config));
        self.state = State::Open(Box::new(socket));
        Ok(true)
    }

    fn read(
        &mut self,
        has_arrived: bool,
        now_ms: u64,
        may_go_on: impl Fn() -> bool,
        mut deliver: impl FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> Result<Found, Garbage> {
        let State::Open(socket) = &mut self.state else { return Ok(Found::default()) };
        let mut found = Found::default();
        let (mut messages, mut others) = (0, 0);
        loop {
            if !may_go_on() {
                self.is_held_back = true;
                break;
            }
            let message = match socket.read() {
                Ok(Message::Text(text)) => Bytes::from(text),
                Ok(Message::Binary(bytes)) => bytes,
                // The answer to a ping, and to a close, waits to be flushed.
                Ok(_) => {
                    others += 1;
                    continue;
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    found.is_over = true;
                    if let Error::Capacity(CapacityError::MessageTooLong { .. }) = error {
                        let reason = "a message has at most 65536 bytes".into();
                        let _ = socket.close(Some(CloseFrame { code: CloseCode::Size, reason }));
                    }
                    break;
                }
            };
            messages += 1;
            match &message[..] {
                [] | b"\r\n" => {}
                b"\r\n\r\n" => found.pings += 1,
                message => deliver(message),
            }
        }
        let _ = socket.flush();
        out.append(&mut socket.get_mut().outgoing);
        // What has arrived and has ended nothing has begun something; a ping may come in between.
        let has_begun = has_arrived && others == 0;
        self.since_ms = match self.since_ms {
            _ if messages > 0 || self.is_held_back => None,
            None if has_begun => NonZeroU64::new(now_ms),
            since_ms => since_ms,
        };
        if found.is_over {
            self.state = State::Over;
        }
        Ok(found)
    }

    /// Makes a frame of a message.
    ///
    /// # Errors
    /// The WebSocket is not open.
    pub(super) fn frame(&mut self, message: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        // A text has an encoding; whoever wrote something else gets it as it is.
        let message = match std::str::from_utf8(message) {
            Ok(text) => Message::text(text),
            Err(_) => Message::binary(message.to_vec()),
        };
        self.send(message, out)
    }

    /// Asks whether the peer is still there.
    ///
    /// # Errors
    /// The WebSocket is not open.
    pub(super) fn ping(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.send(Message::Ping(Bytes::new()), out)
    }

    /// Says that nothing more comes.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) {
        if let State::Open(socket) = &mut self.state {
            let _ = socket.close(Some(CloseFrame { code: CloseCode::Away, reason: "".into() }));
            let _ = socket.flush();
            out.append(&mut socket.get_mut().outgoing);
        }
    }

    fn send(&mut self, message: Message, out: &mut Vec<u8>) -> io::Result<()> {
        let State::Open(socket) = &mut self.state else { return Err(io::ErrorKind::BrokenPipe.into()) };
        socket.send(message).map_err(io::Error::other)?;
        out.append(&mut socket.get_mut().outgoing);
        Ok(())
    }
}

/// What a browser shows that was led here by hand.
const PAGE: &str =
    "This is the SIP server's port for WebSockets (RFC 7118): phones in browsers connect here.\n";

fn is_allowed(origins: &Origins, origin: Option<&str>) -> bool {
    origins.is_empty()
        || origin.is_some_and(|origin| origins.iter().any(|own| own.eq_ignore_ascii_case(origin)))
}

fn write_page(status: &str, text: &str, out: &mut Vec<u8>) {
    let length = text.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{text}"
    );
    out.extend_from_slice(head.as_bytes());
}
