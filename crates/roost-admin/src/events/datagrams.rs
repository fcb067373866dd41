//! MI subscribers (`event_subscribe`): each event is one datagram, as OpenSIPS's `event_datagram` sends it, or goes over a connection.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use roost_core::Topics;

use crate::events::connections::Connections;
use crate::events::shape::type_named;
use crate::events::{Batch, Told};

/// Subscriptions at once.
const MAX_SUBSCRIPTIONS: usize = 1_024;

/// All subscriptions, and the sockets that serve them.
#[derive(Debug, Default)]
pub(crate) struct Datagrams {
    subscriptions: Vec<Subscription>,
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    unix: Option<UnixDatagram>,
    connections: Connections,
    pub(crate) sent: u64,
    /// Those that no socket took.
    pub(crate) lost: u64,
}

/// Who wants one event.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) event: &'static str,
    topics: Topics,
    address: Address,
    pub(crate) expire_s: u32,
    until: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Udp(SocketAddr),
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    /// `udp:ADDRESS:PORT`, `tcp:ADDRESS:PORT`, `unix:/PATH` or `/PATH`.
    fn parse(socket: &str) -> Option<Address> {
        if let Some(udp) = socket.strip_prefix("udp:") {
            return udp.parse().ok().map(Address::Udp);
        }
        if let Some(tcp) = socket.strip_prefix("tcp:") {
            return tcp.parse().ok().map(Address::Tcp);
        }
        let path = socket.strip_prefix("unix:").unwrap_or(socket);
        path.starts_with('/').then(|| Address::Unix(path.into()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Udp(address) => write!(f, "udp:{address}"),
            Address::Tcp(address) => write!(f, "tcp:{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Subscription {
    pub(crate) fn socket(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn left_s(&self) -> u64 {
        self.until.saturating_duration_since(Instant::now()).as_secs()
    }
}

impl Datagrams {
    pub(crate) fn len(&self) -> usize {
        self.subscriptions.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.subscriptions.iter()
    }

    pub(crate) fn topics(&self) -> Topics {
        self.subscriptions.iter().fold(Topics::NONE, |all, one| all.and(one.topics))
    }

    /// Adds, renews or (0 s) ends a subscription.
    ///
    /// # Errors
    /// In words for people.
    pub(crate) fn subscribe(
        &mut self,
        event: &'static str,
        socket: &str,
        expire_s: u32,
    ) -> Result<(), String> {
        let address = Address::parse(socket)
            .ok_or_else(|| format!("\"{socket}\" is not udp:ADDRESS:PORT, tcp:ADDRESS:PORT or unix:/PATH"))?;
        let is_it = |one: &Subscription| one.event == event && one.address == address;
        if expire_s == 0 {
            self.subscriptions.retain(|one| !is_it(one));
            self.close_unused();
            return Ok(());
        }
        let until = Instant::now() + Duration::from_secs(u64::from(expire_s));
        if let Some(own) = self.subscriptions.iter_mut().find(|one| is_it(one)) {
            (own.until, own.expire_s) = (until, expire_s);
            return Ok(());
        }
        if self.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return Err(format!("more than {MAX_SUBSCRIPTIONS} subscriptions"));
        }
        self.open(&address).map_err(|error| format!("no socket for {address}: {error}"))?;
        let topics = type_named(event).map_or(Topics::NONE, |(_, topics)| topics);
        self.subscriptions.push(Subscription { event, topics, address, expire_s, until });
        Ok(())
    }

    /// Opens the socket that an address needs.
    fn open(&mut self, address: &Address) -> std::io::Result<()> {
        match address {
            Address::Udp(SocketAddr::V4(_)) if self.v4.is_none() => {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
                socket.set_nonblocking(true)?;
                self.v4 = Some(socket);
            }
            Address::Udp(SocketAddr::V6(_)) if self.v6.is_none() => {
                let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
                socket.set_nonblocking(true)?;
                self.v6 = Some(socket);
            }
            Address::Unix(_) if self.unix.is_none() => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                self.unix = Some(socket);
            }
            Address::Tcp(address) => self.connections.open(*address)?,
            _ => {}
        }
        Ok(())
    }

    /// Ends connections that nobody is subscribed over any more.
    fn close_unused(&mut self) {
        let subscriptions = &self.subscriptions;
        self.connections
            .keep(|address| subscriptions.iter().any(|one| one.address == Address::Tcp(*address)));
    }

    /// Forgets subscriptions whose time is over.
    pub(crate) fn forget(&mut self, now: Instant) {
        let before = self.subscriptions.len();
        self.subscriptions.retain(|one| now < one.until);
        if self.subscriptions.len() < before {
            self.close_unused();
        }
    }

    /// Sends each event to those who want it; nobody is waited for.
    pub(crate) fn send(&mut self, batch: &Batch) {
        if !self.subscriptions.is_empty() {
            batch.iter().for_each(|told| self.send_one(&told));
        }
    }

    fn send_one(&mut self, told: &Told<'_>) {
        let mut datagram = None;
        for one in self.subscriptions.iter().filter(|one| one.event == told.name) {
            let bytes = datagram.get_or_insert_with(|| {
                format!(r#"{{"jsonrpc":"2.0","method":"{}","params":{}}}"#, told.name, told.params())
            });
            let sent = match &one.address {
                Address::Udp(to) => {
                    let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
                    socket.as_ref().is_some_and(|socket| socket.send_to(bytes.as_bytes(), to).is_ok())
                }
                Address::Tcp(to) => self.connections.send(*to, bytes),
                Address::Unix(path) => {
                    self.unix.as_ref().is_some_and(|socket| socket.send_to(bytes.as_bytes(), path).is_ok())
                }
            };
            match sent {
                true => self.sent += 1,
                false => self.lost += 1,
            }
        }
    }
}
