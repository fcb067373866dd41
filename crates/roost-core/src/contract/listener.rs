//! The addresses that we listen on, and which of them a message to somebody leaves from.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use smallvec::SmallVec;

use crate::base::flow::Flow;
use crate::base::hash::lasting_hash;
use crate::base::transport::Transport;
use crate::contract::next_hops::Address;
use crate::contract::reason::Reason;

/// One address that is listened on, a wildcard perhaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    pub transport: Transport,
    pub address: SocketAddr,
    /// What others are told in its place (`as`), where a router stands before it.
    pub advertised: Option<SocketAddr>,
    /// One node after the other has the address (`floating`): it is listened on whether or not it is here.
    pub is_floating: bool,
    /// What marks of dialogs call it, below 128: the same in another process, and when other listeners have come or gone.
    pub number: u8,
}

impl Listener {
    pub fn new(transport: Transport, address: SocketAddr) -> Listener {
        let number = number(transport, address);
        Listener { transport, address, advertised: None, is_floating: false, number }
    }

    /// A listener for datagrams.
    pub fn udp(address: SocketAddr) -> Listener {
        Listener::new(Transport::Udp, address)
    }

    /// What a mark of a dialog calls it.
    pub(crate) fn mark(&self) -> u8 {
        self.number | if self.is_floating { FLOATS } else { 0 }
    }

    /// Whether it is the same socket.
    pub fn is_at(&self, other: &Listener) -> bool {
        self.transport == other.transport && self.address == other.address
    }

    /// Whether an address of ours is this one, or one that it stands for.
    pub fn covers(&self, local: SocketAddr) -> bool {
        let own = self.address;
        own == local
            || (own.ip().is_unspecified() && own.port() == local.port() && own.is_ipv4() == local.is_ipv4())
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport.as_str(), self.address)?;
        if let Some(advertised) = self.advertised {
            write!(f, " as {advertised}")?;
        }
        f.write_str(if self.is_floating { " floating" } else { "" })
    }
}

/// Gives listeners numbers of their own, where two would have the same. Those that were there `before` keep theirs.
pub fn number_apart(listeners: &mut [Listener], before: &[Listener]) {
    let mut used = 0_u128;
    let mut others = Vec::new();
    for (index, listener) in listeners.iter_mut().enumerate().filter(|(_, listener)| !listener.is_floating) {
        match before.iter().find(|old| old.is_at(listener)) {
            Some(old) => {
                listener.number = old.number;
                used |= 1 << old.number;
            }
            None => others.push(index),
        }
    }
    for index in others {
        let Some(listener) = listeners.get_mut(index) else { continue };
        let wanted = number(listener.transport, listener.address);
        let numbers = (0..FLOATS).map(|more| wanted.wrapping_add(more) & !FLOATS);
        listener.number = numbers.into_iter().find(|number| used >> number & 1 == 0).unwrap_or(wanted);
        used |= 1 << listener.number;
    }
}

/// The bit of a listener that floats: its number is the same on all nodes, which may have other listeners beside it.
const FLOATS: u8 = 0x80;

fn number(transport: Transport, address: SocketAddr) -> u8 {
    let mut bytes = SmallVec::<[u8; 24]>::new();
    match address.ip() {
        IpAddr::V4(v4) => bytes.extend_from_slice(&v4.octets()),
        IpAddr::V6(v6) => bytes.extend_from_slice(&v6.octets()),
    }
    bytes.extend_from_slice(&address.port().to_be_bytes());
    bytes.extend_from_slice(transport.as_str().as_bytes());
    lasting_hash(&bytes) as u8 & !FLOATS
}

/// What others are told of an address of ours, where that is something else.
pub(crate) fn advertised(
    listeners: &[Listener],
    transport: Transport,
    local: SocketAddr,
) -> Option<SocketAddr> {
    let told = listeners.iter().filter(|listener| listener.advertised.is_some());
    told.filter(|listener| listener.transport == transport && listener.covers(local))
        .find_map(|listener| listener.advertised)
}

/// The address of ours that others know by this one, where we know which it is.
pub(crate) fn behind(listeners: &[Listener], told: SocketAddr) -> SocketAddr {
    let own = listeners.iter().find(|listener| listener.advertised == Some(told));
    own.map(|listener| listener.address).filter(|own| !own.ip().is_unspecified()).unwrap_or(told)
}

/// Whether we listen on an address, by any transport.
pub(crate) fn is_local(listeners: &[Listener], address: SocketAddr) -> bool {
    listeners.iter().any(|listener| listener.covers(address))
}

/// A flow to an address, from `usual` where we listen there by that transport, else from another address of ours that
/// does. A connection is whichever leads there.
///
/// # Errors
/// [`Reason::NoOwnConnection`], [`Reason::NoTransport`] or [`Reason::NoAddressFamily`].
pub(crate) fn flow_to(
    listeners: &[Listener],
    transport: Transport,
    usual: SocketAddr,
    remote: SocketAddr,
) -> Result<Flow, Reason> {
    if !transport.can_connect() {
        return Err(Reason::NoOwnConnection);
    }
    let same = listeners.iter().filter(|listener| listener.transport == transport);
    // Who names no listeners has datagrams alone.
    if same.clone().next().is_none() && (transport != Transport::Udp || !listeners.is_empty()) {
        return Err(Reason::NoTransport);
    }
    let is_usual = usual.is_ipv4() == remote.is_ipv4();
    let local = match is_usual && (listeners.is_empty() || same.clone().any(|l| l.covers(usual))) {
        true => usual,
        false => {
            let at_usual = |l: &&Listener| l.address.ip() == usual.ip() || l.address.ip().is_unspecified();
            let mut fitting = same.clone().filter(|l| l.address.is_ipv4() == remote.is_ipv4());
            let near = fitting.clone().find(at_usual).filter(|_| is_usual);
            let near = near.map(|l| SocketAddr::new(usual.ip(), l.address.port()));
            let other = fitting.find(|l| !l.address.ip().is_unspecified()).map(|l| l.address);
            near.or(other).ok_or(Reason::NoAddressFamily)?
        }
    };
    Ok(Flow { transport, local, remote, connection: 0 })
}

/// The address of ours that leads to an address; `usual` unless another one is known to.
pub(crate) fn local_for(
    listeners: &[Listener],
    transport: Transport,
    address: &Address,
    usual: SocketAddr,
) -> SocketAddr {
    let is_v4 = address.remote.is_ipv4();
    let Some(ip) = address.local.filter(|ip| ip.is_ipv4() == is_v4 && *ip != usual.ip()) else {
        return usual;
    };
    let listens = |own: &SocketAddr| own.ip() == ip || own.ip().is_unspecified();
    let same_transport = listeners.iter().filter(|listener| listener.transport == transport);
    let mut same = same_transport.map(|listener| listener.address).filter(|own| own.is_ipv4() == is_v4);
    let listener = same.clone().find(listens).map(|own| SocketAddr::new(ip, own.port()));
    let other = || same.find(|_| usual.is_ipv4() != is_v4);
    listener.or_else(other).unwrap_or(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners(texts: &[&str]) -> Vec<Listener> {
        let listener = |text: &&str| {
            let (transport, address) = text.split_once(':').unwrap();
            let transport = Transport::named(transport.as_bytes()).unwrap();
            Listener::new(transport, address.parse().unwrap())
        };
        texts.iter().map(listener).collect()
    }

    #[test]
    fn a_message_leaves_from_where_we_listen() {
        let local = |listeners: &[Listener], transport, usual: &str, remote: &str| {
            let flow = flow_to(listeners, transport, usual.parse().unwrap(), remote.parse().unwrap());
            flow.map(|flow| flow.local.to_string()).map_err(Reason::code)
        };
        let (udp, tcp) = (Transport::Udp, Transport::Tcp);
        let both = listeners(&["udp:10.0.0.9:5060", "tcp:10.0.0.9:5070", "tcp:10.0.0.8:5060"]);
        assert_eq!(local(&both, udp, "10.0.0.9:5060", "10.0.0.1:5060"), Ok("10.0.0.9:5060".into()));
        assert_eq!(local(&both, tcp, "10.0.0.9:5060", "10.0.0.1:5060"), Ok("10.0.0.9:5070".into()));
        assert_eq!(local(&both, udp, "10.0.0.8:5060", "10.0.0.1:5060"), Ok("10.0.0.9:5060".into()));
        assert_eq!(local(&both, tcp, "10.0.0.8:5060", "10.0.0.1:5060"), Ok("10.0.0.8:5060".into()));
        assert_eq!(local(&both, udp, "10.0.0.9:5060", "[2001:db8::1]:5060"), Err(477));
        let any = listeners(&["udp:0.0.0.0:5060", "tcp:0.0.0.0:5062", "udp:[2001:db8::9]:5060"]);
        assert_eq!(local(&any, tcp, "10.0.0.9:5060", "10.0.0.1:5060"), Ok("10.0.0.9:5062".into()));
        assert_eq!(local(&any, udp, "10.0.0.9:5060", "[2001:db8::1]:5060"), Ok("[2001:db8::9]:5060".into()));
        let datagrams = listeners(&["udp:10.0.0.9:5060"]);
        assert_eq!(local(&datagrams, tcp, "10.0.0.9:5060", "10.0.0.1:5060"), Err(477));
        assert_eq!(local(&listeners(&[]), udp, "10.0.0.9:5060", "10.0.0.1:5060"), Ok("10.0.0.9:5060".into()));
    }
}
