//! The URI of a next hop, and the name in it.

use std::net::SocketAddr;

use roost_sip::{Scheme, Uri};

use serde::{Deserialize, Serialize};

use crate::base::limits;
use crate::base::transport::Transport;

/// The URI of a next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopUri {
    /// As the configuration has it.
    pub text: Box<str>,
    pub name: Name,
}

/// Where a host is to be looked up (RFC 3263).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Name {
    /// A name or an address, without brackets, in lower case.
    pub host: Box<str>,
    /// The port, where one is written: then there is no SRV record to look for.
    pub port: Option<u16>,
    pub transport: Transport,
}

/// Why a text is not a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HopError {
    #[error("is not a SIP URI such as \"sip:10.0.0.5:5060\" or \"sip:fs.example.com\"")]
    Uri,
    #[error("names a user: the user comes from the Request-URI, write the host alone")]
    User,
    #[error("may have one parameter, transport=udp, tcp or tls")]
    Params,
}

impl HopUri {
    /// Reads one.
    ///
    /// # Errors
    /// [`HopError`] says what it may be.
    pub fn parse(text: &str) -> Result<HopUri, HopError> {
        let uri = Uri::parse(text.as_bytes()).map_err(|_| HopError::Uri)?;
        if uri.scheme != Scheme::Sip || text.len() > limits::MAX_CONTACT {
            return Err(HopError::Uri);
        }
        if uri.user.is_some() {
            return Err(HopError::User);
        }
        let host_port = text.split([';', '?']).next().unwrap_or("");
        let transport = match text.get(host_port.len()..).unwrap_or("") {
            "" => Transport::Udp,
            params => {
                let name = params.get(..11).filter(|start| start.eq_ignore_ascii_case(";transport="));
                let name = name.and(params.as_bytes().get(11..)).ok_or(HopError::Params)?;
                Transport::named(name).filter(|transport| transport.can_connect()).ok_or(HopError::Params)?
            }
        };
        let name = Name::new(uri.host, uri.port, transport);
        Ok(HopUri { text: text.into(), name })
    }

    /// `host[:port][;transport=…]`: what stands behind the user of a Request-URI that goes there.
    pub(crate) fn behind_user(&self) -> &str {
        self.text.split_once(':').map_or("", |(_, rest)| rest)
    }
}

impl Name {
    /// A host as a URI has it.
    pub fn new(host: &[u8], port: Option<u16>, transport: Transport) -> Name {
        let inner = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
        let host = String::from_utf8_lossy(inner).to_ascii_lowercase().into();
        Name { host, port, transport }
    }

    /// The address that it is, where it is not a name.
    pub fn address(&self) -> Option<SocketAddr> {
        let ip = self.host.parse().ok()?;
        Some(SocketAddr::new(ip, self.transport.port_or_default(self.port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_hop() {
        for (text, expected) in [
            ("sip:10.0.0.5:5060", Ok(("10.0.0.5", Some(5060), Transport::Udp))),
            ("sip:FS.example.com", Ok(("fs.example.com", None, Transport::Udp))),
            ("sip:[2001:db8::1]:5070;transport=TCP", Ok(("2001:db8::1", Some(5070), Transport::Tcp))),
            ("sip:9001@10.0.0.5", Err(HopError::User)),
            ("sips:10.0.0.5", Err(HopError::Uri)),
            ("10.0.0.5", Err(HopError::Uri)),
            ("sip:10.0.0.5;lr", Err(HopError::Params)),
            ("sip:10.0.0.5;transport=tls", Ok(("10.0.0.5", None, Transport::Tls))),
            ("sip:10.0.0.5;transport=ws", Err(HopError::Params)),
        ] {
            let found = HopUri::parse(text);
            let found = found.as_ref().map(|hop| (&*hop.name.host, hop.name.port, hop.name.transport));
            assert_eq!(found.map_err(|error| *error), expected, "{text}");
        }
    }
}
