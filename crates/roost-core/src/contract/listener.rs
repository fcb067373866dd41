//! The addresses that we listen on, and which of them a message to somebody leaves from.

use std::net::SocketAddr;

use crate::base::flow::{Flow, Transport};
use crate::contract::config::Config;
use crate::message::response::Answer;

/// One address that is listened on, a wildcard perhaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    pub transport: Transport,
    pub address: SocketAddr,
}

impl Listening {
    /// Listening for datagrams.
    pub fn udp(address: SocketAddr) -> Listening {
        Listening { transport: Transport::Udp, address }
    }

    /// Whether an address of ours is this one, or one that it stands for.
    pub fn covers(&self, local: SocketAddr) -> bool {
        let own = self.address;
        own == local
            || (own.ip().is_unspecified() && own.port() == local.port() && own.is_ipv4() == local.is_ipv4())
    }
}

impl Config {
    /// Whether we listen on an address, by any transport.
    pub(crate) fn is_local(&self, address: SocketAddr) -> bool {
        self.listeners.iter().any(|listening| listening.covers(address))
    }

    /// A flow to an address, from `usual` where we listen there by that transport, else from another address of ours
    /// that does. A connection is whichever leads there.
    pub(crate) fn flow_to(
        &self,
        transport: Transport,
        usual: SocketAddr,
        remote: SocketAddr,
    ) -> Result<Flow, Answer> {
        let same = self.listeners.iter().filter(|listening| listening.transport == transport);
        // Who names no listeners has datagrams alone.
        if same.clone().next().is_none() && (transport != Transport::Udp || !self.listeners.is_empty()) {
            return Err(no_way("the contact wants a transport that is not there"));
        }
        let family = "no socket of that address family";
        let is_usual = usual.is_ipv4() == remote.is_ipv4();
        let local = match is_usual && (self.listeners.is_empty() || same.clone().any(|l| l.covers(usual))) {
            true => usual,
            false => {
                let at_usual =
                    |l: &&Listening| l.address.ip() == usual.ip() || l.address.ip().is_unspecified();
                let mut fitting = same.clone().filter(|l| l.address.is_ipv4() == remote.is_ipv4());
                let near = fitting.clone().find(at_usual).filter(|_| is_usual);
                let near = near.map(|l| SocketAddr::new(usual.ip(), l.address.port()));
                let other = fitting.find(|l| !l.address.ip().is_unspecified()).map(|l| l.address);
                near.or(other).ok_or_else(|| no_way(family))?
            }
        };
        Ok(Flow { transport, local, remote, connection: 0 })
    }
}

/// 477: a target cannot be reached with what we have.
pub(crate) fn no_way(why: &'static str) -> Answer {
    Answer::new(477, "Send failed (477/TM)").why(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listeners: &[&str]) -> Config {
        let listening = |text: &&str| {
            let (transport, address) = text.split_once(':').unwrap();
            let transport = if transport == "tcp" { Transport::Tcp } else { Transport::Udp };
            Listening { transport, address: address.parse().unwrap() }
        };
        Config { listeners: listeners.iter().map(listening).collect(), ..Config::default() }
    }

    #[test]
    fn a_message_leaves_from_where_we_listen() {
        let local = |config: &Config, transport, usual: &str, remote: &str| {
            let flow = config.flow_to(transport, usual.parse().unwrap(), remote.parse().unwrap());
            flow.map(|flow| flow.local.to_string()).map_err(|answer| answer.code)
        };
        let (udp, tcp) = (Transport::Udp, Transport::Tcp);
        let both = config(&["udp:10.0.0.9:5060", "tcp:10.0.0.9:5070", "tcp:10.0.0.8:5060"]);
        assert_eq!(local(&both, udp, "10.0.0.9:5060", "10.0.0.1:5060"), Ok("10.0.0.9:5060".into()));
        assert_eq!(local(&both, tcp, "10.0.0.9:5060", "10.0.0.1:5060"), Ok("10.0.0.9:5070".into()));
        assert_eq!(local(&both, udp, "10.0.0.8:5060", "10.0.0.1:5060"), Ok("10.0.0.9:5060".into()));
        assert_eq!(local(&both, tcp, "10.0.0.8:5060", "10.0.0.1:5060"), Ok("10.0.0.8:5060".into()));
        assert_eq!(local(&both, udp, "10.0.0.9:5060", "[2001:db8::1]:5060"), Err(477));
        let any = config(&["udp:0.0.0.0:5060", "tcp:0.0.0.0:5062", "udp:[2001:db8::9]:5060"]);
        assert_eq!(local(&any, tcp, "10.0.0.9:5060", "10.0.0.1:5060"), Ok("10.0.0.9:5062".into()));
        assert_eq!(local(&any, udp, "10.0.0.9:5060", "[2001:db8::1]:5060"), Ok("[2001:db8::9]:5060".into()));
        let datagrams = config(&["udp:10.0.0.9:5060"]);
        assert_eq!(local(&datagrams, tcp, "10.0.0.9:5060", "10.0.0.1:5060"), Err(477));
        assert_eq!(local(&config(&[]), udp, "10.0.0.9:5060", "10.0.0.1:5060"), Ok("10.0.0.9:5060".into()));
    }
}
