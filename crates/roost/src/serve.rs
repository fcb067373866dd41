//! `roost serve`: opens everything, loads, joins the threads with one another, and takes them down again.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use anyhow::{Context as _, Result, anyhow};
use roost_admin::Mi;
use roost_core::{
    Admin, AdminReply, Command, Config, Engine, Listener, Reading, Receipt, Rng, ShardId, Ticket,
};
use roost_net::{Clock, Inbox, Mail, Resolver, StreamSettings, Streams, Team, Worker};
use roost_store::{Commit, Preload, ReadTold, Receipts, Running, Store, StoreHandle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::loading::Loading;
use crate::logging;
use crate::settings::Settings;

/// Operators' requests that wait for their answers.
type Questions = Arc<Mutex<HashMap<Ticket, oneshot::Sender<AdminReply>>>>;

/// Runs the server until it is told to stop.
///
/// # Errors
/// What it could not start with, and the remedy.
pub(crate) fn run(settings: &Settings) -> Result<()> {
    logging::start(settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // From here on a signal is waited for, not died of.
    let signals = runtime.block_on(async { Signals::new() })?;
    let config = Arc::new(complete(settings)?);
    let workers = usize::from(config.identity.shards);
    for listener in &config.policy.listeners {
        roost_net::probe(listener)?;
    }
    let stream_sockets = stream_sockets(settings)?;
    let mi_listener = bind_mi(settings)?;
    let store = settings.open_store()?;
    let clock = Clock::start();
    let engines = engines(&config)?;
    let inboxes: Arc<Vec<Inbox>> = Arc::new(
        (0..workers).map(|_| Inbox::new()).collect::<std::io::Result<_>>().context("making inboxes")?,
    );

    let receipts: Receipts = {
        let inboxes = Arc::clone(&inboxes);
        Arc::new(move |receipts| deliver(&inboxes, receipts))
    };
    let mut running = store.start(config.identity.write_through, receipts)?;
    let questions = Questions::default();
    let resolver = Resolver::start(&settings.dns_servers, &config.policy.listeners, Arc::clone(&inboxes))
        .context("starting the resolver")?;
    let (streams, stream_thread) = match stream_sockets.is_empty() {
        true => (None, None),
        false => {
            let inboxes = Arc::clone(&inboxes);
            let started = Streams::start(stream_sockets, stream_settings(settings), inboxes, clock);
            let (streams, thread) = started.context("starting the thread of the connections")?;
            (Some(streams), Some(thread))
        }
    };
    let (ended, mut worker_ended) = tokio::sync::mpsc::channel(workers);
    let shard = |(index, (engine, sockets))| {
        let (store, inboxes) = (running.handle(), Arc::clone(&inboxes));
        let (shard, questions) = (ShardId(index as u16), Arc::clone(&questions));
        let ask = dispatcher(shard, store, questions, resolver.clone(), streams.clone(), inboxes);
        (engine, sockets, ask)
    };
    let sockets = sockets(&config.policy.listeners, workers)?;
    let shards = engines.into_iter().zip(sockets).enumerate().map(shard).collect();
    let team = Team::new(shards, Arc::clone(&inboxes), streams.clone())?;
    let spawn = |(index, worker)| spawn(index, worker, ended.clone());
    let threads = team.workers(clock)?.into_iter().enumerate().map(spawn).collect::<Result<Vec<_>>>()?;
    drop(ended);
    let loading = match config.identity.write_through {
        true => Some(Loading::start(store.loader(), Arc::clone(&config), Arc::clone(&inboxes), clock)?),
        false => None,
    };
    // The workers take the rows as they are read.
    let preload = Preload {
        limit: settings.preload,
        every: std::time::Duration::from_secs(u64::from(config.policy.auth_db.cache_ttl_s)) / 2,
        tell: reading_teller(Arc::clone(&config), Arc::clone(&inboxes), clock),
    };
    running.keep_subscribers(&store, preload)?;

    let (stop, stopped) = oneshot::channel::<()>();
    announce(settings, &config, &store);
    let failure = runtime.block_on(async {
        let mi = Mi {
            ask: asker(Arc::clone(&inboxes), Arc::clone(&questions)),
            config: Arc::clone(&config),
            started: SystemTime::now(),
            reload: reloader(settings.file.clone()),
            counters: counters(streams.clone(), running.statistics()),
            server: server_name(),
        };
        let admin = mi_listener.map(|listener| tokio::spawn(serve_mi(listener, mi, stopped)));
        let failure = tokio::select! {
            () = signals.wait() => None,
            () = store_ended(&running) => Some(anyhow!("a thread of the database has ended; see the log")),
            _ = worker_ended.recv() => Some(anyhow!("a worker ended; see the log")),
        };
        let _ = stop.send(());
        if let Some(admin) = admin {
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), admin).await;
        }
        failure
    });
    tracing::info!("stopping");
    drop(loading);
    team.stop();
    for thread in threads {
        let _ = thread.join();
    }
    // Its seats hold what asks the store for work, and the store waits until nobody can.
    drop(team);
    if let (Some(streams), Some(thread)) = (streams, stream_thread) {
        streams.stop();
        let _ = thread.join();
    }
    let statistics = running.statistics();
    running.stop();
    let [(_, transactions), (_, registrations), (_, largest)] = statistics();
    tracing::info!(transactions, registrations, largest, "written to the database");
    failure.map_or(Ok(()), Err)
}

/// The core's configuration with what only a process has: shards and secrets.
fn complete(settings: &Settings) -> Result<Config> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = if settings.workers == 0 { cores.min(64) } else { settings.workers };
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| anyhow!("no random numbers: {error}"))?;
    let mac_key = match settings.secret.as_str() {
        "" => random,
        secret => blake3::derive_key("roost 2026 auth.secret nonces and tags", secret.as_bytes()),
    };
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| anyhow!("no random numbers: {error}"))?;
    let mut config = settings.core.clone();
    config.identity.shards = shards as u16;
    config.identity.mac_key = mac_key;
    config.identity.hash_seed = u64::from_ne_bytes(seed);
    Ok(config)
}

fn bind_mi(settings: &Settings) -> Result<Option<TcpListener>> {
    let Some(address) = settings.mi_address else { return Ok(None) };
    let listener = TcpListener::bind(address).with_context(|| {
        format!(
            "cannot listen on {address} for the management interface; another roost may run there: stop it, or set \
             `listen` in [mi] to another port"
        )
    })?;
    listener.set_nonblocking(true)?;
    Ok(Some(listener))
}

/// The sockets that connections come to.
fn stream_sockets(settings: &Settings) -> Result<Vec<TcpListener>> {
    let is_stream = |listener: &&Listener| listener.transport.is_reliable();
    let listeners = settings.core.policy.listeners.iter().filter(is_stream);
    Ok(listeners.map(roost_net::stream_socket).collect::<Result<_, _>>()?)
}

/// Descriptors for all but connections.
const DESCRIPTORS: u64 = 1_024;

/// What is set, with as many connections as the process may have: each takes a descriptor, and one that cannot be accepted
/// would keep others waiting. Asks the system for as many descriptors as it gives without further rights.
fn stream_settings(settings: &Settings) -> StreamSettings {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let wanted = settings.streams.max_connections as u64 + DESCRIPTORS;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return settings.streams };
    // root may go beyond the hard limit.
    if soft >= wanted || setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_ok() {
        return settings.streams;
    }
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    let most = hard.saturating_sub(DESCRIPTORS).max(hard / 2);
    tracing::info!(
        connections = most,
        "fewer than tcp_max_connections: the system allows {hard} open files (ulimit -n, LimitNOFILE= in systemd)"
    );
    StreamSettings { max_connections: most as usize, ..settings.streams }
}

/// One socket of every UDP listener for each worker.
fn sockets(listeners: &[Listener], workers: usize) -> Result<Vec<Vec<std::net::UdpSocket>>> {
    let mut by_worker: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    for listener in listeners.iter().filter(|listener| !listener.transport.is_reliable()) {
        for (own, socket) in by_worker.iter_mut().zip(roost_net::sockets(listener, workers)?) {
            own.push(socket);
        }
    }
    Ok(by_worker)
}

/// Makes the engines; with write-through they wait for the rows of the table.
fn engines(config: &Arc<Config>) -> Result<Vec<Engine>> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| anyhow!("no random numbers: {error}"))?;
    let mut rng = Rng::new(u64::from_ne_bytes(seed));
    let make = |shard| {
        let mut engine = Engine::new(config, ShardId(shard), Rng::new(rng.next_u64()));
        if config.identity.write_through {
            engine.begin_loading();
        }
        engine
    };
    Ok((0..config.identity.shards).map(make).collect())
}

/// Hands receipts to the inboxes of their shards, a batch for each.
fn deliver(inboxes: &[Inbox], receipts: Vec<(ShardId, Receipt)>) {
    let mut by_shard: Vec<Vec<Mail>> = inboxes.iter().map(|_| Vec::new()).collect();
    for (shard, receipt) in receipts {
        if let Some(batch) = by_shard.get_mut(usize::from(shard.0)) {
            batch.push(Mail::Receipt(receipt));
        }
    }
    for (inbox, batch) in inboxes.iter().zip(by_shard) {
        if !batch.is_empty() {
            inbox.post(batch);
        }
    }
}

/// Takes rows of the subscriber table to the shards of their users.
fn reading_teller(
    config: Arc<Config>,
    inboxes: Arc<Vec<Inbox>>,
    clock: Clock,
) -> Box<dyn FnMut(ReadTold) + Send> {
    let mut since_ms = 0;
    Box::new(move |told| match told {
        ReadTold::Begin => since_ms = clock.now().mono_ms,
        ReadTold::Part(Reading::Rows(rows)) => {
            let mut by_shard: Vec<Vec<_>> = inboxes.iter().map(|_| Vec::new()).collect();
            for row in rows {
                let shard = config.identity.shard_of(&row.user);
                if let Some(batch) = by_shard.get_mut(usize::from(shard.0)) {
                    batch.push(row);
                }
            }
            for (inbox, rows) in inboxes.iter().zip(by_shard) {
                inbox.post([Mail::Reading(Reading::Rows(rows), since_ms)]);
            }
        }
        ReadTold::Part(other) => {
            for inbox in inboxes.iter() {
                inbox.post([Mail::Reading(other.clone(), since_ms)]);
            }
        }
    })
}

/// Takes a worker's commands to whoever does them.
fn dispatcher(
    shard: ShardId,
    store: StoreHandle,
    questions: Questions,
    resolver: Resolver,
    streams: Option<Streams>,
    inboxes: Arc<Vec<Inbox>>,
) -> impl FnMut(&mut Vec<Command>) + Send + 'static {
    move |commands| {
        let mut commits = Vec::new();
        for command in commands.drain(..) {
            match command {
                Command::Commit { ticket, writes, exclusive } => {
                    commits.push(Commit { shard, ticket, writes, exclusive });
                }
                Command::Purge { writes } => store.purge(writes),
                Command::LoadCredentials { ticket, user, domain } => {
                    store.load_credentials(shard, ticket, user, domain);
                }
                Command::AdminReply { ticket, reply } => {
                    let asked = questions.lock().unwrap_or_else(PoisonError::into_inner).remove(&ticket);
                    if let Some(answer) = asked {
                        let _ = answer.send(reply);
                    }
                }
                Command::Resolve { ticket, name } => resolver.resolve(shard, ticket, name),
                Command::Tell { shard: None, event } => {
                    for inbox in inboxes.iter() {
                        inbox.post([Mail::ShardEvent(event.clone())]);
                    }
                }
                Command::Tell { shard: Some(other), event } => {
                    if let Some(inbox) = inboxes.get(usize::from(other.0)) {
                        inbox.post([Mail::ShardEvent(event)]);
                    }
                }
                Command::KeepConnection { connection, until_ms } => {
                    if let Some(streams) = &streams {
                        streams.keep(connection, until_ms);
                    }
                }
                Command::ToShard(_) => {}
            }
        }
        if !commits.is_empty() {
            store.commit(commits);
        }
    }
}

/// What the connections and the store count.
fn counters(
    streams: Option<Streams>,
    store: impl Fn() -> [(&'static str, u64); 3] + Send + Sync + 'static,
) -> roost_admin::Counters {
    Arc::new(move || {
        let mut all = streams.as_ref().map_or(Vec::new(), Streams::statistics);
        all.extend(store());
        all
    })
}

/// Reads the `[[route]]`s of the configuration file anew.
fn reloader(file: Option<PathBuf>) -> roost_admin::Reload {
    Arc::new(move || match &file {
        Some(file) => match Settings::load(Some(file)) {
            Ok(settings) => Ok(settings.core.policy.routes.to_vec()),
            Err(error) => Err(format!("{error:#}")),
        },
        None => Err("the server was started without a configuration file: it has no [[route]]".to_string()),
    })
}

/// Takes operators' requests to the shards.
fn asker(inboxes: Arc<Vec<Inbox>>, questions: Questions) -> roost_admin::Ask {
    let next = AtomicU64::new(1);
    Arc::new(move |shard: ShardId, request: Admin| {
        let (answer, answered) = oneshot::channel();
        let ticket = Ticket(next.fetch_add(1, Ordering::Relaxed));
        if let Some(inbox) = inboxes.get(usize::from(shard.0)) {
            questions.lock().unwrap_or_else(PoisonError::into_inner).insert(ticket, answer);
            inbox.post([Mail::Admin(ticket, request)]);
        }
        answered
    })
}

fn spawn<F: FnMut(&mut Vec<Command>) + Send + 'static>(
    index: usize,
    worker: Worker<F>,
    ended: tokio::sync::mpsc::Sender<()>,
) -> Result<JoinHandle<()>> {
    let ended = Ended(ended);
    let run = move || {
        if let Err(error) = worker.run() {
            tracing::error!(%error, "a worker failed");
        }
        drop(ended);
    };
    std::thread::Builder::new().name(format!("roost-worker-{index}")).spawn(run).context("starting a worker")
}

/// Says that a worker has ended, however it did.
struct Ended(tokio::sync::mpsc::Sender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

async fn serve_mi(listener: TcpListener, mi: Mi, stopped: oneshot::Receiver<()>) {
    let stop = async {
        let _ = stopped.await;
    };
    let served = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => roost_admin::serve(listener, mi, stop).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::error!(%error, "the management interface failed");
    }
}

/// The signals that end the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Resolves when a registrar whose bindings go nowhere should rather end.
async fn store_ended(running: &Running) {
    while !running.has_ended() {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

/// What a newcomer needs to know, on standard error whatever the log level.
fn announce(settings: &Settings, config: &Config, store: &Store) {
    let version = env!("CARGO_PKG_VERSION");
    eprintln!("roost {version}: database {}", store.name());
    for listener in &config.policy.listeners {
        eprintln!("roost: listening on {listener} ({} workers)", config.identity.shards);
    }
    match settings.mi_address {
        Some(address) => eprintln!("roost: management interface at http://{address}/mi"),
        None => eprintln!("roost: no management interface (mi.listen is empty)"),
    }
    let domain = if config.identity.use_domain { " --domain example.com" } else { "" };
    eprintln!("roost: add an extension with: roost user add 9001 PASSWORD{domain}");
    eprintln!("roost: ready");
}

/// As OpenSIPS's tools expect it: name, version, machine.
fn server_name() -> String {
    format!("roost ({} ({}/{}))", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, std::env::consts::OS)
}
