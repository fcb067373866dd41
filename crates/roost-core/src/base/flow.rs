//! Where a message came from and where an answer goes; time; identities.

use std::fmt;
use std::net::SocketAddr;

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    /// `udp`, `tcp`: as in a `listen` entry or the `location.socket` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        }
    }

    /// `UDP`, `TCP`: as in a Via.
    pub fn as_via(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
        }
    }

    /// Whether what is sent arrives or the sender is told: then nothing is sent again (RFC 3261 17).
    pub fn is_reliable(self) -> bool {
        self == Transport::Tcp
    }
}

/// One way to a peer: transport, our address, its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The transport.
    pub transport: Transport,
    /// Our address, never a wildcard: answers leave from it.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// The connection's id; 0 for datagrams, and for whichever connection leads there.
    pub connection: u64,
}

impl Flow {
    /// A datagram flow.
    pub fn udp(local: SocketAddr, remote: SocketAddr) -> Flow {
        Flow { transport: Transport::Udp, local, remote, connection: 0 }
    }

    /// A flow over a connection; 0 is whichever leads there, a new one if need be.
    pub fn tcp(local: SocketAddr, remote: SocketAddr, connection: u64) -> Flow {
        Flow { transport: Transport::Tcp, local, remote, connection }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport.as_str(), self.remote)
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// The receipt that brings an answer back to what asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
