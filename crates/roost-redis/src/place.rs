//! Where the store is: one server, the primary that Sentinel names, or the primaries of a Cluster.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crc16::{State, XMODEM};
use redis::{Client, Connection, TlsCertificates, Value};
use roost_cluster::Background;

use crate::error::RedisError;

/// How long a connection may take to be made, and an answer to come.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often Sentinel, or the Cluster, is asked.
const ASKS_EVERY: Duration = Duration::from_millis(500);
/// Slots of a Cluster.
const SLOTS: u16 = 16_384;

/// The servers that take writes.
#[derive(Debug, Clone)]
pub(crate) struct Topology {
    /// Another one after each change.
    pub(crate) generation: u64,
    pub(crate) servers: Vec<Server>,
    /// The last slot of each range in order, and whose it is; empty: there is one server.
    ranges: Vec<(u16, usize)>,
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) client: Client,
    /// For people: without a password.
    pub(crate) address: String,
}

impl Topology {
    /// Which server has a key.
    pub(crate) fn server_of(&self, key: &[u8]) -> usize {
        if self.ranges.is_empty() {
            return 0;
        }
        let slot = slot_of(key);
        self.ranges.iter().find(|(last, _)| slot <= *last).map_or(0, |(_, server)| *server)
    }

    fn is_same(&self, other: &Topology) -> bool {
        let addresses = |topology: &Topology| {
            topology.servers.iter().map(|server| server.address.clone()).collect::<Vec<_>>()
        };
        addresses(self) == addresses(other) && self.ranges == other.ranges
    }
}

/// The slot of a key: of what stands in its braces, if there are any.
fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|byte| *byte == b'}').filter(|close| *close > 0)?;
        rest.get(..close)
    });
    State::<XMODEM>::calculate(tag.unwrap_or(key)) % SLOTS
}

/// How the servers are found.
#[derive(Debug)]
pub(crate) struct Place {
    kind: Kind,
    template: Template,
    topology: Mutex<Arc<Topology>>,
}

#[derive(Debug)]
enum Kind {
    One,
    Sentinel { sentinels: Vec<Client>, service: String },
    Cluster { seeds: Vec<Client> },
}

/// What all addresses of a URL share.
#[derive(Debug, Clone)]
struct Template {
    scheme: &'static str,
    /// `USER:PASSWORD@`, or nothing.
    credentials: String,
    database: String,
    authorities: Option<Vec<u8>>,
}

impl Template {
    fn client(&self, address: &str) -> Result<Client, RedisError> {
        let url = format!("{}://{}{address}/{}", self.scheme, self.credentials, self.database);
        open(&url, self.authorities.as_ref())
    }
}

fn open(url: &str, authorities: Option<&Vec<u8>>) -> Result<Client, RedisError> {
    let opened = match authorities.filter(|_| url.starts_with("rediss")) {
        Some(pem) => {
            let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) };
            Client::build_with_tls(url, certificates)
        }
        None => Client::open(url),
    };
    opened.map_err(|error| RedisError::Url(error.to_string()))
}

impl Place {
    /// Reads the URL, and asks where the servers are.
    pub(crate) fn find(url: &str, authorities: Option<Vec<u8>>) -> Result<Place, RedisError> {
        let scheme = url.split(':').next().unwrap_or("");
        let several = match scheme {
            "redis" | "rediss" | "unix" | "redis+unix" | "valkey" | "valkeys" => None,
            "redis+sentinel" | "redis+cluster" => Some("redis"),
            "rediss+sentinel" | "rediss+cluster" => Some("rediss"),
            _ => {
                let text = format!(
                    "`{scheme}://` is not taken: use redis://HOST:PORT/DATABASE, redis+sentinel://HOST:PORT,HOST:PORT/SERVICE, \
                     redis+cluster://HOST:PORT,HOST:PORT or rediss for TLS, or leave it out for the database"
                );
                return Err(RedisError::Url(text));
            }
        };
        let Some(plain) = several else {
            let client = open(url, authorities.as_ref())?;
            let address = client.get_connection_info().addr().to_string();
            let template = Template {
                scheme: "redis",
                credentials: String::new(),
                database: String::new(),
                authorities,
            };
            return Ok(Place::of(Kind::One, template, vec![Server { client, address }]));
        };
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let (credentials, rest) = rest.rsplit_once('@').map_or(("", rest), |(own, rest)| (own, rest));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts: Vec<&str> = hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).collect();
        if hosts.is_empty() {
            return Err(RedisError::Url(format!("`{scheme}://` names no HOST:PORT")));
        }
        let credentials = if credentials.is_empty() { String::new() } else { format!("{credentials}@") };
        let is_sentinel = scheme.ends_with("sentinel");
        let (service, database) = match is_sentinel {
            true => path.split_once('/').unwrap_or((path, "0")),
            false => ("", "0"),
        };
        if is_sentinel && service.is_empty() {
            let text = format!("`{scheme}://` needs the name of the service: {scheme}://HOST:PORT/SERVICE");
            return Err(RedisError::Url(text));
        }
        let template = Template { scheme: plain, credentials, database: database.to_string(), authorities };
        // Sentinels know no databases.
        let entry = Template { database: String::new(), ..template.clone() };
        let clients = hosts.iter().map(|host| entry.client(host)).collect::<Result<Vec<_>, _>>()?;
        let kind = match is_sentinel {
            true => Kind::Sentinel { sentinels: clients, service: service.to_string() },
            false => Kind::Cluster { seeds: clients },
        };
        let place = Place::of(kind, template, Vec::new());
        place.ask()?;
        Ok(place)
    }

    fn of(kind: Kind, template: Template, servers: Vec<Server>) -> Place {
        let topology = Topology { generation: 0, servers, ranges: Vec::new() };
        Place { kind, template, topology: Mutex::new(Arc::new(topology)) }
    }

    pub(crate) fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the servers may become others.
    pub(crate) fn may_change(&self) -> bool {
        !matches!(self.kind, Kind::One)
    }

    /// Asks again and again where they are.
    pub(crate) fn watch(self: &Arc<Place>) -> std::io::Result<Option<Background>> {
        if !self.may_change() {
            return Ok(None);
        }
        let place = Arc::clone(self);
        let watched = Background::start("roost-redis-place", move |ends| {
            while !ends.load(Ordering::Relaxed) {
                std::thread::park_timeout(ASKS_EVERY);
                if let Err(error) = place.ask() {
                    tracing::warn!(%error, "where the store's servers are is not known; those that were count");
                }
            }
        });
        watched.map(Some)
    }

    fn ask(&self) -> Result<(), RedisError> {
        let mut last = RedisError::Url("no server was asked".to_string());
        let asked = match &self.kind {
            Kind::One => return Ok(()),
            Kind::Sentinel { sentinels, .. } => sentinels.clone(),
            // Those that are known now may be others than once.
            Kind::Cluster { seeds } => {
                let known = self.topology();
                known
                    .servers
                    .iter()
                    .map(|server| server.client.clone())
                    .chain(seeds.iter().cloned())
                    .collect()
            }
        };
        for client in &asked {
            match self.ask_one(client) {
                Ok(found) => {
                    let mut topology = self.topology.lock().unwrap_or_else(PoisonError::into_inner);
                    if !topology.is_same(&found) {
                        let servers: Vec<_> = found.servers.iter().map(|one| &one.address).collect();
                        tracing::info!(?servers, "the store's servers");
                        let generation = topology.generation + 1;
                        *topology = Arc::new(Topology { generation, ..found });
                    }
                    return Ok(());
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn ask_one(&self, client: &Client) -> Result<Topology, RedisError> {
        let address = client.get_connection_info().addr().to_string();
        let away = |error| RedisError::Away { address: address.clone(), error };
        let mut connection = timely(client).map_err(away)?;
        let missing = |missing: String| RedisError::NotSafe { address: address.clone(), missing };
        let server = |address: String| -> Result<Server, RedisError> {
            Ok(Server { client: self.template.client(&address)?, address })
        };
        match &self.kind {
            Kind::One => Ok(Topology::clone(&self.topology())),
            Kind::Sentinel { service, .. } => {
                let mut asked = redis::cmd("SENTINEL");
                asked.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
                let found = asked.query::<Option<(String, u16)>>(&mut connection).map_err(away)?;
                let (host, port) =
                    found.ok_or_else(|| missing(format!("Sentinel knows no service \"{service}\"")))?;
                Ok(Topology { generation: 0, servers: vec![server(shown(&host, port))?], ranges: Vec::new() })
            }
            Kind::Cluster { .. } => {
                let found =
                    redis::cmd("CLUSTER").arg("SLOTS").query::<Value>(&mut connection).map_err(away)?;
                let ranges = slots(&found).filter(|ranges| !ranges.is_empty());
                let mut ranges = ranges.ok_or_else(|| missing("the Cluster has no slots".to_string()))?;
                ranges.sort();
                let (mut servers, mut owned) = (Vec::<Server>::new(), Vec::new());
                for (_, last, address) in ranges {
                    let at = match servers.iter().position(|one| one.address == address) {
                        Some(at) => at,
                        None => {
                            servers.push(server(address)?);
                            servers.len() - 1
                        }
                    };
                    owned.push((last, at));
                }
                Ok(Topology { generation: 0, servers, ranges: owned })
            }
        }
    }
}

/// A connection that is made and answers in time.
pub(crate) fn timely(client: &Client) -> Result<Connection, redis::RedisError> {
    let connection = client.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    Ok(connection)
}

fn shown(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// First and last slot of each range, and the address of its primary.
fn slots(answer: &Value) -> Option<Vec<(u16, u16, String)>> {
    let Value::Array(ranges) = answer else { return None };
    let range = |one: &Value| {
        let Value::Array(parts) = one else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = parts.as_slice() else {
            return None;
        };
        let [Value::BulkString(host), Value::Int(port), ..] = primary.as_slice() else { return None };
        let host = std::str::from_utf8(host).ok()?;
        Some((
            u16::try_from(*first).ok()?,
            u16::try_from(*last).ok()?,
            shown(host, u16::try_from(*port).ok()?),
        ))
    };
    ranges.iter().map(range).collect()
}

/// Connections to the servers as they were when they were made.
pub(crate) struct Kept<C> {
    pub(crate) topology: Arc<Topology>,
    open: Vec<Option<C>>,
}

impl<C> Kept<C> {
    pub(crate) fn new(place: &Place) -> Kept<C> {
        let topology = place.topology();
        let open = topology.servers.iter().map(|_| None).collect();
        Kept { topology, open }
    }

    /// Where the servers are others now the connections are given up.
    pub(crate) fn follow(&mut self, place: &Place) {
        if place.topology().generation != self.topology.generation {
            *self = Kept::new(place);
        }
    }

    /// The connection to a server, made where there is none.
    pub(crate) fn get(
        &mut self,
        server: usize,
        make: impl FnOnce(&Server) -> Result<C, RedisError>,
    ) -> Result<&mut C, RedisError> {
        let (Some(open), Some(known)) = (self.open.get_mut(server), self.topology.servers.get(server)) else {
            return Err(RedisError::Url("no server is known".to_string()));
        };
        Ok(match open {
            Some(connection) => connection,
            None => open.insert(make(known)?),
        })
    }

    /// It is of no use any more.
    pub(crate) fn drop(&mut self, server: usize) {
        if let Some(open) = self.open.get_mut(server) {
            *open = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_at_the_server_that_has_its_slot() {
        // As the specification of the Cluster has it.
        assert_eq!((slot_of(b"123456789"), slot_of(b"{123456789}.x")), (0x31c3, 0x31c3));
        assert_eq!(slot_of(b"roost:location:{9001}"), slot_of(b"9001"));
        assert_eq!((slot_of(b"{}a"), slot_of(b"a{b")), (slot_of(b"{}a"), slot_of(b"a{b")));
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let range = |first, last, port| {
            let primary = Value::Array(vec![bulk("10.0.0.1"), Value::Int(port), bulk("id")]);
            Value::Array(vec![Value::Int(first), Value::Int(last), primary])
        };
        let found = slots(&Value::Array(vec![range(0, 8_191, 7_000), range(8_192, 16_383, 7_001)]));
        assert_eq!(found.unwrap()[1], (8_192, 16_383, "10.0.0.1:7001".to_string()));
        assert_eq!((slots(&Value::Nil), shown("::1", 7)), (None, "[::1]:7".to_string()));
    }

    #[test]
    fn a_url_is_of_a_kind_that_is_known_and_names_what_it_needs() {
        for (url, says) in [
            ("memcached://h", "is not taken"),
            ("redis+sentinel://127.0.0.1:1", "needs the name of the service"),
            ("redis+sentinel:///service", "names no HOST:PORT"),
            ("redis+cluster://u:p@127.0.0.1:1", "127.0.0.1:1"),
        ] {
            let error = Place::find(url, None).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("u:p"), "{url}: {error}");
        }
    }
}
