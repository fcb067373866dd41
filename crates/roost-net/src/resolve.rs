//! Names (RFC 3263): a thread that looks them up, so that no worker waits for DNS.
//!
//! A port is an address record's; without one there may be SRV records. NAPTR is not asked: the transport is the URI's.
//! Answers, that there is none included, are kept as long as DNS says, in a table of fixed size.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::SRV;
use roost_core::{Address, Listener, Name, Receipt, Rng, ShardId, Ticket, limits};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::inbox::{Inbox, InboxItem};
use crate::tls::Tls;

/// How long a name server may take.
const TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long all questions about one name may take: the engine gives up a little later.
const PATIENCE: Duration = Duration::from_millis(limits::RESOLVING_MS - 500);
/// Answers that are kept.
const MAX_KEPT: u64 = 4_096;

/// Where names are sent to be resolved. The questions that wait are limited in the core.
#[derive(Debug, Clone)]
pub struct Resolver {
    questions: UnboundedSender<Asked>,
    counts: Arc<Counts>,
}

/// What was looked up.
#[derive(Debug, Default)]
struct Counts {
    queries: AtomicU64,
    slow: AtomicU64,
}

/// Is told a name, and how long it took.
pub type TellSlow = dyn Fn(&str, Duration) + Send + Sync;

/// What is done about a name that takes long.
#[derive(Clone)]
pub struct SlowNames {
    /// How long that is.
    pub after: Duration,
    pub tell: Arc<TellSlow>,
}

impl std::fmt::Debug for SlowNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlowNames").field("after", &self.after).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Asked {
    Question(Question),
    /// Addresses of these families are wanted from now on.
    Families(LookupIpStrategy),
}

#[derive(Debug)]
struct Question {
    shard: ShardId,
    ticket: Ticket,
    name: Name,
}

impl Resolver {
    /// Starts the thread. It asks `servers`, or the system's if there are none, for addresses of the families that
    /// `listeners` have, and answers into `inboxes`; what is slow is counted and told. Over TLS a peer must prove the name that led to it (RFC 5922).
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        servers: &[SocketAddr],
        listeners: &[Listener],
        tls: Option<Arc<Tls>>,
        inboxes: Arc<Vec<Inbox>>,
        slow: SlowNames,
    ) -> io::Result<Resolver> {
        let strategy = families(listeners);
        let servers = servers.to_vec();
        let (questions, asked) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let counts = Arc::<Counts>::default();
        let shared = Shared { tls, inboxes, counts: Arc::clone(&counts), slow };
        let run = move || runtime.block_on(serve(&servers, strategy, asked, shared));
        std::thread::Builder::new().name("roost-resolver".to_string()).spawn(run)?;
        Ok(Resolver { questions, counts })
    }

    /// Names looked up, and those that took long, by name.
    pub fn statistics(&self) -> [(&'static str, u64); 2] {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [("dns:dns_total_queries", of(&self.counts.queries)), ("dns:dns_slow_queries", of(&self.counts.slow))]
    }

    /// Asks where a name leads; the receipt goes to the shard's inbox.
    pub fn resolve(&self, shard: ShardId, ticket: Ticket, name: Name) {
        let _ = self.questions.send(Asked::Question(Question { shard, ticket, name }));
    }

    /// There are other listeners.
    pub fn listeners_changed(&self, listeners: &[Listener]) {
        let _ = self.questions.send(Asked::Families(families(listeners)));
    }
}

/// What each question needs.
#[derive(Clone)]
struct Shared {
    tls: Option<Arc<Tls>>,
    inboxes: Arc<Vec<Inbox>>,
    counts: Arc<Counts>,
    slow: SlowNames,
}

/// Of which there are listeners.
fn families(listeners: &[Listener]) -> LookupIpStrategy {
    let has = |is_v4| listeners.iter().any(|listener| listener.address.is_ipv4() == is_v4);
    match (has(true), has(false)) {
        (true, true) => LookupIpStrategy::Ipv4AndIpv6,
        (false, true) => LookupIpStrategy::Ipv6Only,
        _ => LookupIpStrategy::Ipv4Only,
    }
}

/// Answers until no one can ask any more.
async fn serve(
    servers: &[SocketAddr],
    mut strategy: LookupIpStrategy,
    mut asked: UnboundedReceiver<Asked>,
    shared: Shared,
) {
    let make = |strategy| match resolver(servers, strategy) {
        Ok(resolver) => Some(resolver),
        Err(error) => {
            tracing::warn!(%error, "no names can be resolved: set `servers` in [dns] or repair /etc/resolv.conf");
            None
        }
    };
    let mut resolver = make(strategy);
    while let Some(asked) = asked.recv().await {
        let Question { shard, ticket, name } = match asked {
            Asked::Question(question) => question,
            Asked::Families(other) if other == strategy => continue,
            Asked::Families(other) => {
                (strategy, resolver) = (other, make(other));
                continue;
            }
        };
        let (resolver, shared) = (resolver.clone(), shared.clone());
        let Shared { tls, inboxes, counts, slow } = shared;
        tokio::spawn(async move {
            let found = match (name.address(), resolver) {
                (Some(address), _) => vec![address],
                (None, Some(resolver)) => {
                    let begun = Instant::now();
                    let looked_up = tokio::time::timeout(PATIENCE, look_up(&resolver, &name)).await;
                    counts.queries.fetch_add(1, Ordering::Relaxed);
                    let took = begun.elapsed();
                    if took > slow.after {
                        counts.slow.fetch_add(1, Ordering::Relaxed);
                        (slow.tell)(&name.host, took);
                    }
                    looked_up.unwrap_or_default()
                }
                (None, None) => Vec::new(),
            };
            tracing::debug!(host = &*name.host, ?found, "name resolved");
            let proves = tls.filter(|_| name.transport.is_secure() && name.address().is_none());
            let connection = proves.map_or(0, |tls| tls.names.number_of(&name.host));
            let address = |remote| Address { remote, local: source_of(remote), connection };
            let addresses = found.into_iter().map(address).collect();
            if let Some(inbox) = inboxes.get(usize::from(shard.0)) {
                inbox.post([InboxItem::Receipt(Receipt::Resolved(ticket, addresses))]);
            }
        });
    }
}

fn resolver(
    servers: &[SocketAddr],
    strategy: LookupIpStrategy,
) -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder = match servers {
        [] => TokioResolver::builder_tokio()?,
        servers => {
            let servers = servers.iter().map(name_server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options: &mut ResolverOpts = builder.options_mut();
    options.ip_strategy = strategy;
    options.cache_size = MAX_KEPT;
    options.timeout = TIMEOUT;
    options.attempts = 2;
    builder.build()
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

/// SRV where there is no port, else (or where there is no SRV) address records (RFC 3263 4.2). Best first.
async fn look_up(resolver: &TokioResolver, name: &Name) -> Vec<SocketAddr> {
    if let Some(port) = name.port {
        return addresses(resolver, &name.host, port).await;
    }
    let service = format!("{}.{}.", name.transport.srv_service(), name.host.trim_end_matches('.'));
    let records = match resolver.srv_lookup(service).await {
        Ok(found) => {
            let srv = |data: &RData| if let RData::SRV(srv) = data { Some(srv.clone()) } else { None };
            found.answers().iter().filter_map(|record| srv(&record.data)).collect()
        }
        Err(_) => Vec::new(),
    };
    if records.is_empty() {
        return addresses(resolver, &name.host, name.transport.default_port()).await;
    }
    let mut found = Vec::new();
    let mut rng = Rng::new(RandomState::new().hash_one(&*name.host));
    for record in ordered(records, &mut rng) {
        // A target of "." says that there is no such service.
        if !record.target.is_root() && found.len() < limits::MAX_ADDRESSES {
            found.extend(addresses(resolver, &record.target.to_string(), record.port).await);
        }
    }
    found
}

async fn addresses(resolver: &TokioResolver, host: &str, port: u16) -> Vec<SocketAddr> {
    // A name with a dot is whole: the system's search list is for short ones.
    let host = match host.contains('.') && !host.ends_with('.') {
        true => format!("{host}."),
        false => host.to_string(),
    };
    match resolver.lookup_ip(host).await {
        Ok(found) => found.iter().map(|ip| SocketAddr::new(ip, port)).collect(),
        Err(_) => Vec::new(),
    }
}

/// By priority, and within one at random by weight (RFC 2782).
fn ordered(mut records: Vec<SRV>, rng: &mut Rng) -> Vec<SRV> {
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut order = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let same = records.iter().take_while(|record| record.priority == first.priority).count();
        let total: u64 = records[..same].iter().map(|record| u64::from(record.weight)).sum();
        let drawn = rng.next_u64() % (total + 1);
        let mut sum = 0;
        let chosen = records[..same].iter().position(|record| {
            sum += u64::from(record.weight);
            sum >= drawn
        });
        order.push(records.remove(chosen.unwrap_or(0)));
    }
    order
}

/// The address of ours that the kernel would send from; nothing is sent.
fn source_of(remote: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(priority: u16, weight: u16, port: u16) -> SRV {
        SRV::new(priority, weight, port, hickory_resolver::proto::rr::Name::root())
    }

    #[test]
    fn priorities_rule_and_weights_share() {
        let mut rng = Rng::new(7);
        let mut first = [0; 3];
        for _ in 0..1_000 {
            let order = ordered(vec![srv(20, 0, 9), srv(10, 75, 1), srv(10, 25, 2), srv(10, 0, 0)], &mut rng);
            let ports: Vec<u16> = order.iter().map(|record| record.port).collect();
            assert_eq!(ports[3], 9, "the higher number is the last resort: {ports:?}");
            first[usize::from(ports[0])] += 1;
        }
        assert!(first[1] > 650 && first[2] > 150 && first[0] > 0 && first[0] < 50, "{first:?}");
    }

    #[test]
    fn the_loopback_leads_to_itself() {
        assert_eq!(source_of("127.0.0.1:5060".parse().unwrap()), Some("127.0.0.1".parse().unwrap()));
    }
}
