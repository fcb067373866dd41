//! The transports, and all facts that differ between them. A new one is a variant here, what it makes of arrived bytes in
//! `roost-net`'s `stream/wire.rs`, and an entry of `listen` that its `listen.rs` takes.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

use roost_sip::{Scheme, Uri, eq_unescaped};

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
    /// WebSocket (RFC 7118).
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 5] =
        [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

    /// As in a `listen` entry and the column `location.socket`.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        }
    }

    /// As in a Via (RFC 3261 18.1.1, RFC 7118 5.2).
    pub fn via_name(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        }
    }

    /// The parameter of a `sip` URI that leads to it, with its semicolon; empty for the one that is taken without (RFC 3263
    /// 4.1). WebSockets have one for both kinds (RFC 7118 5.2.4).
    pub fn uri_param(self) -> &'static str {
        match self {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
            Transport::Ws | Transport::Wss => ";transport=ws",
        }
    }

    /// What stands before a host in the name of its SRV records (RFC 3263 4.2).
    pub fn srv_service(self) -> &'static str {
        match self {
            Transport::Udp => "_sip._udp",
            Transport::Tcp => "_sip._tcp",
            Transport::Tls => "_sips._tcp",
            Transport::Ws => "_sip._ws",
            Transport::Wss => "_sips._ws",
        }
    }

    /// The port that is meant where none is written (RFC 3261 19.1.2, RFC 7118 5.2.4).
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
            Transport::Ws => 80,
            Transport::Wss => 443,
        }
    }

    /// A port as written, or the one that is meant.
    pub fn port_or_default(self, port: Option<u16>) -> u16 {
        port.unwrap_or(self.default_port())
    }

    /// Whether what is sent arrives or the sender is told: then nothing is sent again (RFC 3261 17).
    pub fn is_reliable(self) -> bool {
        !matches!(self, Transport::Udp)
    }

    /// Whether messages come whole, so that none needs to say its length (RFC 7118 5.2.2).
    pub fn is_framed(self) -> bool {
        matches!(self, Transport::Udp | Transport::Ws | Transport::Wss)
    }

    /// Whether what is sent is encrypted and the server is known.
    pub fn is_secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }

    /// Whether we can begin a conversation with it: nobody listens for WebSockets but servers.
    pub fn can_connect(self) -> bool {
        !matches!(self, Transport::Ws | Transport::Wss)
    }

    /// The one of this name, in any case.
    pub fn named(name: &[u8]) -> Option<Transport> {
        Transport::ALL.into_iter().find(|transport| name.eq_ignore_ascii_case(transport.as_str().as_bytes()))
    }

    /// One with an address of ours, as the column `socket` has them: `udp:ip:port`.
    pub fn of_socket(text: &[u8]) -> Option<(Transport, SocketAddr)> {
        let (transport, address) = std::str::from_utf8(text).ok()?.split_once(':')?;
        Some((Transport::named(transport.as_bytes())?, address.parse().ok()?))
    }

    /// The one that a SIP URI asks for by its parameter and scheme; without a parameter UDP, or TLS for `sips` (RFC 3261
    /// 19.1.2, RFC 3263 4.1). `None`: one that is not there, or that a `sips` URI forbids.
    pub(crate) fn of_uri(uri: &Uri<'_>) -> Option<Transport> {
        let is_sips = uri.scheme == Scheme::Sips;
        let Some(name) = uri.param(b"transport") else {
            return Some(if is_sips { Transport::Tls } else { Transport::Udp });
        };
        let is_it = |transport: &Transport| eq_unescaped(name, transport.as_str().as_bytes(), true);
        let transport = Transport::ALL.into_iter().find(is_it)?;
        match transport {
            Transport::Tcp if is_sips => Some(Transport::Tls),
            Transport::Ws if is_sips => Some(Transport::Wss),
            _ => Some(transport).filter(|transport| !is_sips || transport.is_secure()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str) -> Option<Transport> {
        Transport::of_uri(&Uri::parse(uri.as_bytes()).unwrap())
    }

    #[test]
    fn names_lead_to_their_transports() {
        for transport in Transport::ALL {
            assert_eq!(Transport::named(transport.via_name().as_bytes()), Some(transport));
            let scheme = if transport == Transport::Wss { "sips" } else { "sip" };
            assert_eq!(of(&format!("{scheme}:a@b{}", transport.uri_param())), Some(transport));
        }
        assert_eq!(of("sip:a@b;transport=%74CP"), Some(Transport::Tcp));
        assert_eq!(of("sip:a@b;transport=sctp"), None);
        assert_eq!(Transport::named(b"sctp"), None);
        for (text, transport) in [
            ("sips:a@b", Some(Transport::Tls)),
            ("sips:a@b;transport=tcp", Some(Transport::Tls)),
            ("sips:a@b;transport=tls", Some(Transport::Tls)),
            ("sips:a@b;transport=udp", None),
            ("sip:a@b;transport=wss", Some(Transport::Wss)),
        ] {
            assert_eq!(of(text), transport, "{text}");
        }
    }
}
