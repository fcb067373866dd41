//! The transports, and all facts that differ between them. A new one is a variant here, what it makes of arrived bytes in
//! `roost-net`'s `stream/wire.rs`, and an entry of `listen` that its `listen.rs` takes.

use roost_sip::{Uri, eq_unescaped};

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 2] = [Transport::Udp, Transport::Tcp];

    /// As in a `listen` entry, the column `location.socket` and the URI parameter `transport`.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        }
    }

    /// As in a Via (RFC 3261 18.1.1).
    pub fn via_name(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
        }
    }

    /// The URI parameter that leads to it, with its semicolon; empty for the one that is taken without (RFC 3263 4.1).
    pub fn uri_param(self) -> &'static str {
        match self {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
        }
    }

    /// What stands before a host in the name of its SRV records (RFC 3263 4.2).
    pub fn srv_service(self) -> &'static str {
        match self {
            Transport::Udp => "_sip._udp",
            Transport::Tcp => "_sip._tcp",
        }
    }

    /// The port that is meant where none is written (RFC 3261 19.1.2).
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
        }
    }

    /// A port as written, or the one that is meant.
    pub fn port_or_default(self, port: Option<u16>) -> u16 {
        port.unwrap_or(self.default_port())
    }

    /// Whether what is sent arrives or the sender is told: then nothing is sent again (RFC 3261 17).
    pub fn is_reliable(self) -> bool {
        match self {
            Transport::Udp => false,
            Transport::Tcp => true,
        }
    }

    /// Whether what is sent is encrypted and the peer is known.
    pub fn is_secure(self) -> bool {
        match self {
            Transport::Udp | Transport::Tcp => false,
        }
    }

    /// The one of this name, in any case.
    pub fn named(name: &[u8]) -> Option<Transport> {
        Transport::ALL.into_iter().find(|transport| name.eq_ignore_ascii_case(transport.as_str().as_bytes()))
    }

    /// The one that a SIP URI asks for by its parameter; without one UDP. `None`: one that is not there.
    pub(crate) fn of_uri(uri: &Uri<'_>) -> Option<Transport> {
        let Some(name) = uri.param(b"transport") else { return Some(Transport::Udp) };
        Transport::ALL.into_iter().find(|transport| eq_unescaped(name, transport.as_str().as_bytes(), true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_their_transports() {
        for transport in Transport::ALL {
            assert_eq!(Transport::named(transport.via_name().as_bytes()), Some(transport));
            let text = format!("sip:a@b{}", transport.uri_param());
            assert_eq!(Transport::of_uri(&Uri::parse(text.as_bytes()).unwrap()), Some(transport));
        }
        assert_eq!(Transport::of_uri(&Uri::parse(b"sip:a@b;transport=%74CP").unwrap()), Some(Transport::Tcp));
        assert_eq!(Transport::of_uri(&Uri::parse(b"sip:a@b;transport=sctp").unwrap()), None);
        assert_eq!(Transport::named(b"sctp"), None);
    }
}
