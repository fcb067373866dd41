//! One collector: where it is, and the thread that sends to it.

use std::io::{self, IoSlice, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Bytes that wait for one collector at most.
const MAX_WAITING: usize = 4 << 20;
/// Lists of packets that are written at once: as many as one call takes.
const AT_ONCE: usize = 1_024;
/// How long it may take to connect, and to take something.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a connection is tried.
const TRY_EVERY: Duration = Duration::from_secs(5);

/// How packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// Who is sent messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// Its name, once.
    pub id: String,
    /// HOST:PORT.
    pub address: String,
    pub transport: Transport,
    /// What tells this roost from other senders.
    pub capture_id: u32,
    /// The collector's password; empty: none.
    pub key: String,
    /// Whether it is given up when its connection ends; else it is tried again for ever.
    pub is_temporary: bool,
    /// Whether it is also told what roost decided about each message.
    pub wants_decisions: bool,
    /// Whether it sees credentials as they came.
    pub shows_secrets: bool,
}

/// A collector that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CollectorError {
    /// No address in it.
    #[error("`{0}` is no collector: use hep:ADDRESS:PORT;transport=udp or tcp")]
    Uri(String),
    /// A transport that is not there.
    #[error("transport `{0}`: use udp or tcp")]
    Transport(String),
    /// Another version.
    #[error("HEP version `{0}`: version 3 is spoken")]
    Version(String),
    /// The name is taken.
    #[error("`{0}` is traced already")]
    Taken(String),
    /// No more are allowed.
    #[error("there are {0} collectors already")]
    TooMany(usize),
    /// A thread could not be started.
    #[error("no thread for the collector: {0}")]
    Thread(String),
}

impl Collector {
    /// Reads `hep:ADDRESS:PORT;transport=tcp;version=3`; `hep:` may be left out, UDP and version 3 need not be said.
    ///
    /// # Errors
    /// [`CollectorError`] says what is wrong.
    pub fn parse(id: &str, uri: &str) -> Result<Collector, CollectorError> {
        let mut parts = uri.trim().split(';');
        let first = parts.next().unwrap_or("");
        let address = first.strip_prefix("hep:").unwrap_or(first);
        let has_port = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
        if !has_port {
            return Err(CollectorError::Uri(uri.to_string()));
        }
        let mut transport = Transport::Udp;
        for part in parts {
            match part.split_once('=') {
                Some(("transport", "udp")) => transport = Transport::Udp,
                Some(("transport", "tcp")) => transport = Transport::Tcp,
                Some(("transport", other)) => return Err(CollectorError::Transport(other.to_string())),
                Some(("version", "3")) => {}
                Some(("version", other)) => return Err(CollectorError::Version(other.to_string())),
                _ => return Err(CollectorError::Uri(uri.to_string())),
            }
        }
        Ok(Collector {
            id: id.to_string(),
            address: address.to_string(),
            transport,
            capture_id: 1,
            key: String::new(),
            is_temporary: false,
            wants_decisions: false,
            shows_secrets: false,
        })
    }

    /// Whether it is on this machine.
    pub fn is_here(&self) -> bool {
        let host = self.address.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
        host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    }

    /// As [`Collector::parse`] reads it.
    pub fn uri(&self) -> String {
        let transport = match self.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        format!("hep:{};transport={transport};version=3", self.address)
    }
}

/// Packets, and where each ends.
#[derive(Debug, Default)]
pub(crate) struct Packets {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<usize>,
}

/// What is known of a collector's sender.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) waiting: AtomicUsize,
    pub(crate) sent: AtomicU64,
    pub(crate) lost: AtomicU64,
    has_ended: AtomicBool,
}

impl State {
    pub(crate) fn lose(&self, packets: usize) {
        self.lost.fetch_add(packets as u64, Ordering::Relaxed);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }
}

/// Gives packets to the thread of a collector.
#[derive(Debug)]
pub(crate) struct Feed {
    queue: Sender<Arc<Packets>>,
    pub(crate) state: Arc<State>,
}

impl Feed {
    /// Starts the thread; it ends with the feed.
    ///
    /// # Errors
    /// [`CollectorError::Thread`].
    pub(crate) fn start(collector: &Collector) -> Result<Feed, CollectorError> {
        let (queue, packets) = channel();
        let state = Arc::<State>::default();
        let (own, collector) = (Arc::clone(&state), collector.clone());
        std::thread::Builder::new()
            .name("roost-hep".to_string())
            .spawn(move || {
                send_all(&collector, &packets, &own);
                own.has_ended.store(true, Ordering::Relaxed);
            })
            .map_err(|error| CollectorError::Thread(error.to_string()))?;
        Ok(Feed { queue, state })
    }

    /// One that is read within the process.
    pub(crate) fn within() -> (Feed, Receiver<Arc<Packets>>) {
        let (queue, packets) = channel();
        (Feed { queue, state: Arc::default() }, packets)
    }

    /// Packets that find no room are lost, and counted.
    pub(crate) fn give(&self, packets: Arc<Packets>) {
        let (count, len) = (packets.ends.len(), packets.bytes.len());
        if self.state.waiting.fetch_add(len, Ordering::Relaxed) > MAX_WAITING
            || self.queue.send(packets).is_err()
        {
            self.state.waiting.fetch_sub(len, Ordering::Relaxed);
            self.state.lose(count);
        }
    }
}

/// A way to a collector.
enum Way {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Way {
    fn open(collector: &Collector) -> io::Result<Way> {
        let addresses: Vec<SocketAddr> = collector.address.to_socket_addrs()?.collect();
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            let opened = match collector.transport {
                Transport::Udp => {
                    let any: SocketAddr = match address {
                        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                    };
                    UdpSocket::bind(any).and_then(|socket| socket.connect(address).map(|()| Way::Udp(socket)))
                }
                Transport::Tcp => TcpStream::connect_timeout(&address, PATIENCE).and_then(|stream| {
                    stream.set_write_timeout(Some(PATIENCE))?;
                    stream.set_nodelay(true)?;
                    Ok(Way::Tcp(stream))
                }),
            };
            match opened {
                Ok(way) => return Ok(way),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Sends all; how many were sent.
    fn send(&mut self, all: &[Arc<Packets>]) -> io::Result<usize> {
        match self {
            Way::Tcp(stream) => {
                let mut slices: Vec<IoSlice<'_>> =
                    all.iter().map(|packets| IoSlice::new(&packets.bytes)).collect();
                let mut rest = &mut slices[..];
                while !rest.is_empty() {
                    let written = stream.write_vectored(rest)?;
                    if written == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                    IoSlice::advance_slices(&mut rest, written);
                }
                Ok(all.iter().map(|packets| packets.ends.len()).sum())
            }
            Way::Udp(socket) => {
                let mut sent = 0;
                for packets in all {
                    let mut start = 0;
                    for end in &packets.ends {
                        // A refusal is about an earlier one: nobody listens, or not yet; one that is too long is left out.
                        let packet = packets.bytes.get(start..*end).unwrap_or(&[]);
                        sent += usize::from(socket.send(packet).is_ok());
                        start = *end;
                    }
                }
                Ok(sent)
            }
        }
    }
}

fn send_all(collector: &Collector, queue: &Receiver<Arc<Packets>>, state: &State) {
    let mut way: Option<Way> = None;
    let mut tried: Option<Instant> = None;
    // Who asked for a trace waits for the connection.
    if collector.is_temporary {
        way = open(collector);
        if way.is_none() {
            return;
        }
    }
    while let Ok(first) = queue.recv() {
        let packets: Vec<_> = std::iter::once(first).chain(queue.try_iter().take(AT_ONCE - 1)).collect();
        let bytes = packets.iter().map(|packets| packets.bytes.len()).sum();
        if way.is_none() && tried.is_none_or(|tried| tried.elapsed() >= TRY_EVERY) {
            tried = Some(Instant::now());
            way = open(collector);
        }
        let all = packets.iter().map(|packets| packets.ends.len()).sum();
        let outcome = way.as_mut().map(|way| way.send(&packets));
        state.waiting.fetch_sub(bytes, Ordering::Relaxed);
        match outcome {
            Some(Ok(sent)) => {
                state.sent.fetch_add(sent as u64, Ordering::Relaxed);
                state.lose(all - sent);
            }
            Some(Err(error)) => {
                state.lose(all);
                way = None;
                if collector.is_temporary {
                    tracing::info!(collector = collector.id, %error, "trace ended: its connection is gone");
                    return;
                }
                tracing::warn!(collector = collector.id, %error, "the connection to a collector is gone");
            }
            None => state.lose(all),
        }
    }
}

fn open(collector: &Collector) -> Option<Way> {
    Way::open(collector)
        .inspect_err(|error| {
            let (id, address) = (&collector.id, &collector.address);
            tracing::warn!(collector = id, address, %error, "a collector cannot be reached");
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_are_read_as_opensips_writes_them() {
        let read = |uri| Collector::parse("a", uri).map(|collector| collector.uri());
        assert_eq!(
            read("hep:127.0.0.1:9060;transport=tcp;version=3").unwrap(),
            "hep:127.0.0.1:9060;transport=tcp;version=3"
        );
        assert_eq!(read("homer.test:9060").unwrap(), "hep:homer.test:9060;transport=udp;version=3");
        assert_eq!(read("hep:[::1]:9060").unwrap(), "hep:[::1]:9060;transport=udp;version=3");
        assert_eq!(
            read("hep:1.2.3.4:1;version=2").unwrap_err().to_string(),
            "HEP version `2`: version 3 is spoken"
        );
        for bad in ["", "hep:", "127.0.0.1", "127.0.0.1:0", ":9060", "a:1;transport=tls", "a:1;x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
