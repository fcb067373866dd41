//! One TLS session over bytes in memory: what arrives is decrypted where it lies, and nothing is held but the rest of a record.

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, Error, ServerConfig};

/// What encryption adds to a record at most.
const RECORD_OVERHEAD: usize = 64;
/// Plain bytes of one record at most.
const RECORD: usize = 16 << 10;
/// Bytes of an unfinished record or handshake message at most.
const MAX_INCOMING: usize = 80 << 10;

pub(super) struct TlsSession {
    side: Side,
    /// The beginning of what has not arrived whole.
    incoming: Vec<u8>,
    is_established: bool,
}

enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What a step has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There is more to do.
    Again,
    /// The peer's turn.
    Waits,
    /// Both sides may say what they like.
    Open,
    /// The peer has said that it will say no more.
    Over,
}

impl TlsSession {
    /// Of a connection that was accepted.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<TlsSession, Error> {
        Ok(TlsSession::new(Side::Server(Box::new(UnbufferedServerConnection::new(config)?))))
    }

    /// Of a connection that was made, to a peer that must prove this name.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub(super) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<TlsSession, Error> {
        Ok(TlsSession::new(Side::Client(Box::new(UnbufferedClientConnection::new(config, name)?))))
    }

    fn new(side: Side) -> TlsSession {
        TlsSession { side, incoming: Vec::new(), is_established: false }
    }

    /// Whether the handshake is done.
    pub(super) fn is_established(&self) -> bool {
        self.is_established
    }

    /// Bytes that it holds.
    pub(super) fn held(&self) -> usize {
        self.incoming.len()
    }

    /// Decrypts what is held and what has `arrived`; `out` gets what the peer must be sent. True when the peer has ended the
    /// session.
    ///
    /// # Errors
    /// Why the session cannot go on; `out` has the alert that says so.
    pub(super) fn take(
        &mut self,
        arrived: &mut [u8],
        out: &mut Vec<u8>,
        plain: &mut impl FnMut(&[u8]),
    ) -> Result<bool, Error> {
        let mut joined = std::mem::take(&mut self.incoming);
        let all = match joined.is_empty() {
            true => arrived,
            false => {
                joined.extend_from_slice(arrived);
                &mut joined[..]
            }
        };
        let mut at = 0;
        loop {
            match self.step(all.get_mut(at..).unwrap_or_default(), &mut None, out, plain) {
                Ok((used, Step::Again)) => at += used,
                Ok((used, step)) => {
                    at += used;
                    self.is_established |= step == Step::Open;
                    let rest = all.get(at..).unwrap_or_default();
                    if rest.len() > MAX_INCOMING {
                        return Err(Error::General("a record that is too long".into()));
                    }
                    if step != Step::Over && !rest.is_empty() {
                        self.incoming = rest.to_vec();
                    }
                    return Ok(step == Step::Over);
                }
                Err(error) => {
                    self.alert(out);
                    return Err(error);
                }
            }
        }
    }

    /// Encrypts, once the handshake is done.
    ///
    /// # Errors
    /// Why the session cannot go on.
    pub(super) fn encrypt(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let mut incoming = std::mem::take(&mut self.incoming);
        let mut left = Some(bytes);
        let mut at = 0;
        let done = loop {
            let rest = incoming.get_mut(at..).unwrap_or_default();
            match self.step(rest, &mut left, out, &mut |_| {}) {
                Ok((used, step)) => {
                    at += used;
                    if step != Step::Again {
                        break Ok(());
                    }
                }
                Err(error) => break Err(error),
            }
        };
        incoming.drain(..at.min(incoming.len()));
        self.incoming = incoming;
        match left {
            Some(_) => done.and(Err(Error::HandshakeNotComplete)),
            None => done,
        }
    }

    /// What tells the peer that nothing more comes.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) {
        let mut say = |state: ConnectionStateOf<'_, '_>| {
            let start = out.len();
            out.resize(start + RECORD_OVERHEAD, 0);
            let written = state.close(&mut out[start..]).unwrap_or(0);
            out.truncate(start + written);
        };
        match &mut self.side {
            Side::Server(server) => {
                if let Ok(ConnectionState::WriteTraffic(traffic)) = server.process_tls_records(&mut []).state
                {
                    say(ConnectionStateOf::Server(traffic));
                }
            }
            Side::Client(client) => {
                if let Ok(ConnectionState::WriteTraffic(traffic)) = client.process_tls_records(&mut []).state
                {
                    say(ConnectionStateOf::Client(traffic));
                }
            }
        }
    }

    /// What tells the peer why the session ends.
    fn alert(&mut self, out: &mut Vec<u8>) {
        while let Ok((_, Step::Again)) = self.step(&mut [], &mut None, out, &mut |_| {}) {}
    }

    /// Goes on by one state; how many bytes it has used.
    fn step(
        &mut self,
        incoming: &mut [u8],
        left: &mut Option<&[u8]>,
        out: &mut Vec<u8>,
        plain: &mut impl FnMut(&[u8]),
    ) -> Result<(usize, Step), Error> {
        match &mut self.side {
            Side::Server(server) => step(server.process_tls_records(incoming), left, out, plain),
            Side::Client(client) => step(client.process_tls_records(incoming), left, out, plain),
        }
    }
}

/// The side that says goodbye.
enum ConnectionStateOf<'a, 'b> {
    Server(rustls::unbuffered::WriteTraffic<'a, rustls::server::ServerConnectionData>),
    Client(rustls::unbuffered::WriteTraffic<'b, rustls::client::ClientConnectionData>),
}

impl ConnectionStateOf<'_, '_> {
    fn close(self, out: &mut [u8]) -> Result<usize, EncryptError> {
        match self {
            ConnectionStateOf::Server(mut traffic) => traffic.queue_close_notify(out),
            ConnectionStateOf::Client(mut traffic) => traffic.queue_close_notify(out),
        }
    }
}

fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    left: &mut Option<&[u8]>,
    out: &mut Vec<u8>,
    plain: &mut impl FnMut(&[u8]),
) -> Result<(usize, Step), Error> {
    let UnbufferedStatus { mut discard, state, .. } = status;
    let step = match state? {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                discard += record.discard;
                plain(record.payload);
            }
            Step::Again
        }
        ConnectionState::EncodeTlsData(mut data) => {
            let start = out.len();
            out.resize(start + RECORD_OVERHEAD, 0);
            let mut encoded = data.encode(&mut out[start..]);
            if let Err(EncodeError::InsufficientSize(needed)) = &encoded {
                out.resize(start + needed.required_size, 0);
                encoded = data.encode(&mut out[start..]);
            }
            out.truncate(start + encoded.map_err(|error| Error::General(error.to_string()))?);
            Step::Again
        }
        // It is on its way: what is sent is sent in order.
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Step::Again
        }
        ConnectionState::WriteTraffic(mut traffic) => {
            if let Some(bytes) = left.take() {
                let start = out.len();
                let records = bytes.len().div_ceil(RECORD).max(1);
                out.resize(start + bytes.len() + records * RECORD_OVERHEAD, 0);
                let written = traffic.encrypt(bytes, &mut out[start..]);
                out.truncate(start + written.map_err(|error| Error::General(error.to_string()))?);
            }
            Step::Open
        }
        ConnectionState::BlockedHandshake => Step::Waits,
        // There is no early data: none is offered.
        _ => Step::Over,
    };
    Ok((discard, step))
}

impl fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession").field("is_established", &self.is_established).finish_non_exhaustive()
    }
}
