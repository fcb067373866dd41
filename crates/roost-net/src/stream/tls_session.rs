//! One TLS session over bytes in memory.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, Error, ServerConfig, ServerConnection};

#[derive(Debug)]
pub(super) struct TlsSession(Connection);

impl TlsSession {
    /// Of a connection that was accepted.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<TlsSession, Error> {
        Ok(TlsSession::new(ServerConnection::new(config)?.into()))
    }

    /// Of a connection that was made, to a peer that must prove this name.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub(super) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<TlsSession, Error> {
        Ok(TlsSession::new(ClientConnection::new(config, name)?.into()))
    }

    fn new(mut session: Connection) -> TlsSession {
        // What is encrypted is taken at once.
        session.set_buffer_limit(None);
        TlsSession(session)
    }

    /// Whether the handshake is done.
    pub(super) fn is_established(&self) -> bool {
        !self.0.is_handshaking()
    }

    /// Decrypts what has `arrived`; `out` gets what the peer must be sent. True when the peer has ended the session.
    ///
    /// # Errors
    /// Why the session cannot go on; `out` has the alert that says so.
    pub(super) fn take(
        &mut self,
        mut arrived: &[u8],
        out: &mut Vec<u8>,
        plain: &mut impl FnMut(&[u8]),
    ) -> Result<bool, Error> {
        let mut has_ended = false;
        while !arrived.is_empty() && !has_ended {
            let read = self.0.read_tls(&mut arrived);
            read.map_err(|error| Error::General(error.to_string()))?;
            let processed = self.0.process_new_packets();
            self.write(out);
            has_ended = processed?.peer_has_closed();
            let mut reader = self.0.reader();
            while let Ok(bytes @ [_, ..]) = reader.fill_buf() {
                plain(bytes);
                let count = bytes.len();
                reader.consume(count);
            }
        }
        Ok(has_ended)
    }

    /// Encrypts, once the handshake is done.
    pub(super) fn encrypt(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        // Into memory: it cannot fail.
        let _ = self.0.writer().write_all(bytes);
        self.write(out);
    }

    /// What tells the peer that nothing more comes.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) {
        self.0.send_close_notify();
        self.write(out);
    }

    /// Takes what the peer must be sent: the beginning of a handshake, too.
    pub(super) fn write(&mut self, out: &mut Vec<u8>) {
        while self.0.wants_write() && self.0.write_tls(out).is_ok_and(|count| count > 0) {}
    }
}
