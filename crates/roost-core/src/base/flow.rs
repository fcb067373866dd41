//! Where a message came from and where an answer goes; time; identities.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4};

use serde::{Deserialize, Serialize};

use crate::base::transport::Transport;

/// One way to a peer: transport, our address, its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// The transport.
    pub transport: Transport,
    /// Our address, never a wildcard: answers leave from it.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// The connection's id; 0 for datagrams, and for whichever connection leads there. With [`Flow::ANY_PROVEN`] it stands for
    /// any whose peer has proven a name.
    pub connection: u64,
}

impl Flow {
    /// Marks the number of a name among those of connections, which count from 1. It fits the 48 bits of a dialog's token.
    pub const ANY_PROVEN: u64 = 1 << 47;

    /// Whether it is one connection and no other: when that is gone, so is the way.
    pub fn is_one_connection(&self) -> bool {
        self.connection != 0 && self.connection & Flow::ANY_PROVEN == 0
    }

    /// A datagram flow.
    pub fn udp(local: SocketAddr, remote: SocketAddr) -> Flow {
        Flow { transport: Transport::Udp, local, remote, connection: 0 }
    }

    /// A flow over a connection; 0 is whichever leads there, a new one if need be.
    pub fn stream(transport: Transport, local: SocketAddr, remote: SocketAddr, connection: u64) -> Flow {
        Flow { transport, local, remote, connection }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport.as_str(), self.remote)
    }
}

/// A flow where many are kept: nearly all are of UDP over IPv4, and those take twelve bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoredFlow {
    UdpV4 { local: SocketAddrV4, remote: SocketAddrV4 },
    Other(Box<Flow>),
}

impl From<Flow> for StoredFlow {
    fn from(flow: Flow) -> StoredFlow {
        match flow {
            Flow {
                transport: Transport::Udp,
                local: SocketAddr::V4(local),
                remote: SocketAddr::V4(remote),
                connection: 0,
            } => StoredFlow::UdpV4 { local, remote },
            other => StoredFlow::Other(Box::new(other)),
        }
    }
}

impl StoredFlow {
    pub(crate) fn get(&self) -> Flow {
        match self {
            StoredFlow::UdpV4 { local, remote } => Flow::udp((*local).into(), (*remote).into()),
            StoredFlow::Other(flow) => **flow,
        }
    }
}

/// The two clocks, read once per batch by the shell. `mono_ms` never goes back and rules every deadline in memory;
/// `unix_s` may step and is used for what leaves the process: nonces, rows, Date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic milliseconds since any start.
    pub mono_ms: u64,
    /// Seconds since 1970.
    pub unix_s: u64,
}

/// One engine of a process, 0 to shards-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShardId(pub u16);

/// The receipt that brings an answer back to what asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ticket(pub u64);

/// A small generator for labels; its seed is an argument (xorshift64*).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// From any seed.
    pub fn new(seed: u64) -> Rng {
        Rng(seed | 1)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// The address that is held responsible: of IPv6 the /64, which one customer has.
pub(crate) fn responsible(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_ipv6_the_network_is_held_responsible() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(responsible(address("2001:db8::1:2")), address("2001:db8::"));
        assert_eq!(responsible(address("::ffff:10.0.0.1")), address("10.0.0.1"));
    }

    #[test]
    fn a_stored_flow_comes_back() {
        let (v4, v6) = ("10.0.0.1:5060".parse().unwrap(), "[2001:db8::1]:5060".parse().unwrap());
        for flow in [Flow::udp(v4, v4), Flow::udp(v6, v6), Flow::stream(Transport::Tls, v4, v4, 7)] {
            assert_eq!(StoredFlow::from(flow).get(), flow);
        }
    }
}
