//! What connections of some transports begin with.

use std::net::IpAddr;
use std::sync::Arc;

use roost_core::{Flow, Transport};
use rustls::Error;
use rustls::pki_types::ServerName;

use crate::stream::tls_session::TlsSession;
use crate::stream::websocket::Origins;
use crate::stream::wire::Wire;
use crate::tls::Tls;

/// What TLS and WebSockets begin with.
#[derive(Debug, Clone, Default)]
pub struct Carriers {
    /// Certificates; `None` where nothing speaks TLS.
    pub tls: Option<Arc<Tls>>,
    /// The pages from which a browser may connect; none: all.
    pub origins: Origins,
    /// Balancers that say first whose connection it is (PROXY protocol).
    pub balancers: Arc<[IpAddr]>,
}

impl Carriers {
    /// Of a connection that a peer has begun.
    ///
    /// # Errors
    /// There is no certificate, or it cannot be used.
    pub(super) fn accepted(&self, transport: Transport, now_ms: u64) -> Result<Wire, Error> {
        let session = match transport.is_secure() {
            false => None,
            true => {
                let config = self.tls.as_ref().and_then(|tls| tls.server(transport));
                Some(TlsSession::server(config.ok_or_else(|| Error::General("no certificate".into()))?)?)
            }
        };
        Ok(Wire::new(transport, session, &self.origins, now_ms))
    }

    /// Of a connection that was made along a flow: over TLS its peer must prove the flow's name, or its address.
    ///
    /// # Errors
    /// It cannot be begun.
    pub(super) fn connected(&self, flow: &Flow, now_ms: u64) -> Result<Wire, Error> {
        let session = match (flow.transport.is_secure(), &self.tls) {
            (false, _) => None,
            (true, None) => return Err(Error::General("no TLS".into())),
            (true, Some(tls)) => {
                let name = match tls.names.name_of(flow.connection) {
                    Some(name) => ServerName::try_from(name).map_err(|error| {
                        Error::General(format!("a name that no certificate has: {error}"))
                    })?,
                    None => ServerName::IpAddress(flow.remote.ip().to_canonical().into()),
                };
                Some(TlsSession::client(tls.client(), name)?)
            }
        };
        let mut wire = Wire::new(flow.transport, session, &self.origins, now_ms);
        wire.begin();
        Ok(wire)
    }
}
