//! The threads of a server: joined with one another at the start, taken down in order at the end.

use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use roost_admin::{Hub, InForce, Mi, Peers, Scope, ShellEvent, Statistics};
use roost_core::{CallRecord, Config, Engine, Moved, Rng, ShardId, Topics, Transport};
use roost_hep::Tracer;
use roost_net::{
    Carriers, Clock, Inbox, InboxItem, MovedStreams, Resolver, SlowNames, Streams, Tls, Worker, WorkerPool,
};
use roost_recorder::Recorder;
use roost_store::{
    BatchHistograms, Calls, DatabaseNews, Gatherer, Health, Journal, Preload, Receipts, Running, Store,
};
use tokio::sync::mpsc;

use crate::serve::certificates;
use crate::serve::console::{self, Console, With};
use crate::serve::delivery::{Dispatch, Questions, asker, deliver, dispatcher, reading_teller};
use crate::serve::drain::Drain;
use crate::serve::handover::Upgrade;
use crate::serve::interfaces::{self, Interfaces};
use crate::serve::listening::{Kept, Listening};
use crate::serve::loading::Loading;
use crate::serve::location::{self, Ends};
use crate::serve::logging::Levels;
use crate::serve::news::{self, Teller};
use crate::serve::reload::{Takers, reloader};
use crate::serve::signals::{Asked, Signals};
use crate::serve::sockets::stream_settings;
use crate::serve::systemd;
use crate::serve::tables::tables;
use crate::settings::Settings;
use crate::settings::hep::Hep;

/// A server whose threads run.
pub(super) struct Server {
    config: Arc<Config>,
    inboxes: Arc<Vec<Inbox>>,
    questions: Questions,
    running: Running,
    /// What speaks to the store that nodes share, where they do.
    location: Option<roost_cluster::Running>,
    peers: Option<Peers>,
    loading: Option<Loading>,
    hub: Hub,
    health: Health,
    tracer: Tracer,
    recorder: Option<Recorder>,
    resolver: Resolver,
    /// The thread that tells what has happened.
    teller: Teller,
    /// What keeps calls, where anything does.
    calls: Option<Calls>,
    store: Arc<Store>,
    streams: Option<Streams>,
    tls: Option<Arc<Tls>>,
    stream_threads: Vec<JoinHandle<()>>,
    clock: Clock,
    listening: Listening,
    pool: Arc<WorkerPool<Dispatch>>,
    workers: Vec<JoinHandle<()>>,
    /// Tells that a worker has ended.
    worker_ended: mpsc::Receiver<()>,
}

impl Server {
    /// Starts everything but the management interface.
    ///
    /// # Errors
    /// What could not be started.
    pub(super) fn start(
        settings: &Settings,
        config: Arc<Config>,
        store: &Arc<Store>,
        mut left: CallsLeft,
        (stream_sockets, datagrams): (Vec<(Transport, TcpListener)>, Vec<Vec<UdpSocket>>),
        tls: Option<Arc<Tls>>,
    ) -> Result<Server> {
        let clock = Clock::start();
        let inboxes = inboxes(usize::from(config.identity.shards))?;
        let receipts = receipts_to(&inboxes);
        let shed = Arc::default();
        let (hub, health) = start_hub(settings, &config, left.journal.is_some())?;
        let tracer = start_tracer(settings)?;
        let mut running =
            store.start(config.identity.write_through, receipts, Arc::clone(&shed), health.clone())?;
        let questions = Questions::default();
        let ask = asker(Arc::clone(&inboxes), Arc::clone(&questions));
        let ends = Ends { inboxes: &inboxes, health: health.clone(), ask, clock };
        let (location, peers) = location::start(settings, &config, store, ends)?;
        let kept = Kept::of(&stream_sockets, &datagrams)?;
        let moved = std::mem::take(&mut left.streams);
        let (streams, stream_threads) =
            start_streams(stream_sockets, settings, tls.clone(), &inboxes, clock, moved)?;
        let (calls, take_calls) = start_calls(left, &config, store, settings, &inboxes)?;
        let doers = Doers {
            running: &running,
            location: location.as_ref(),
            questions: &questions,
            streams: streams.as_ref(),
        };
        let resolver = start_resolver(settings, &config, tls.clone(), &inboxes, hub.clone())?;
        let listening = Listening::new(&inboxes, streams.clone(), resolver.clone(), tls.is_some(), kept);
        let engines = shards_of(engines(&config)?, datagrams, dispatchers(&config, &doers, &resolver));
        let recorder = recorder_of(settings);
        let (news, teller) = news::start(hub.clone(), recorder.clone(), take_calls)?;
        let pool = WorkerPool::new(engines, Arc::clone(&inboxes), streams.clone(), news, shed, tracer.tap())?;
        let (ended, worker_ended) = mpsc::channel(inboxes.len());
        let workers = start_workers(&pool, clock, &ended)?;
        let loading = start_loading(store, &config, &inboxes, clock)?;
        running.keep_subscribers(store, preload(settings, &config, &inboxes, clock))?;
        Ok(Server {
            config,
            inboxes,
            questions,
            running,
            location,
            peers,
            loading,
            hub,
            health,
            tracer,
            recorder,
            resolver,
            teller,
            calls,
            store: Arc::clone(store),
            streams,
            tls,
            stream_threads,
            clock,
            listening,
            pool,
            workers,
            worker_ended,
        })
    }

    /// Serves the management interface until a signal comes or a thread ends.
    ///
    /// # Errors
    /// Which thread has ended.
    pub(super) async fn wait(
        &mut self,
        settings: &Settings,
        (interfaces, console): (Interfaces, Option<Console>),
        levels: &Levels,
        mut signals: Signals,
    ) -> Result<Outcome> {
        let (drain, upgrade) = (Drain::default(), Upgrade::default());
        let in_force = InForce::new(Arc::clone(&self.config));
        let mi = Mi {
            ask: asker(Arc::clone(&self.inboxes), Arc::clone(&self.questions)),
            started: SystemTime::now(),
            reload: reloader(settings, self.takers(settings, levels)),
            certificates: self
                .tls
                .as_ref()
                .map(|tls| certificates::control(tls, in_force.clone(), self.hub.clone())),
            in_force,
            counters: self.counters(),
            histograms: self.histograms(),
            statistics: Statistics::default(),
            tracer: self.tracer.clone(),
            recorder: self.recorder.clone(),
            nodes: self.nodes(settings),
            peers: self.peers.clone(),
            process: interfaces::process(
                levels,
                self.health.clone(),
                self.streams.clone(),
                (&drain, &upgrade, settings.file.clone()),
            ),
            server: interfaces::server_name(),
            database: self.store.identity(),
            events: self.hub.clone(),
            gate: settings.gate()?,
            tables: tables(&self.store, self.config.identity.use_domain, settings.acc_db),
        };
        let with = With { mi: &mi, store: &self.store, streams: self.streams.clone(), tls: self.tls.clone() };
        let console = console.and_then(|console| console.serve(settings, with));
        let served = interfaces.serve(&mi);
        let peers = tokio::spawn(roost_admin::serve_peers(mi.clone()));
        let watched = self.tls.clone().map(|tls| tokio::spawn(certificates::watch(tls, self.hub.clone())));
        let signalled = async {
            while signals.next().await == Asked::Reload {
                // It logs what has become of it.
                drop(systemd::reloading(roost_admin::reload(&mi, Scope::All, false)).await);
            }
        };
        let watchdog = tokio::spawn(systemd::watchdog(mi.clone()));
        let outcome = tokio::select! {
            () = signalled => Ok(Outcome::Stopped),
            binary = upgrade.asked() => Ok(Outcome::Upgrade(binary)),
            () = drain.is_over(&mi) => Ok(Outcome::Stopped),
            () = store_ended(&self.running, self.location.as_ref(), self.calls.as_ref()) => Err(anyhow!("a thread of the database has ended; see the log")),
            _ = self.worker_ended.recv() => Err(anyhow!("a worker ended; see the log")),
            () = thread_ended(&self.stream_threads) => Err(anyhow!("a thread of the connections has ended; see the log")),
        };
        for task in watched.into_iter().chain([peers, watchdog]) {
            task.abort();
        }
        if let Some(console) = console {
            console.stop();
        }
        served.stop().await;
        outcome
    }

    /// Who takes what a reload changes outside of the shards.
    fn takers(&self, settings: &Settings, levels: &Levels) -> Takers {
        let (tls, levels) = (self.tls.clone(), levels.clone());
        let (store, listening) = (Arc::clone(&self.store), self.listening.clone());
        let console = console::listener(settings);
        Takers { tls, tracer: self.tracer.clone(), hub: self.hub.clone(), levels, store, listening, console }
    }

    /// The nodes that share bindings, where it is not alone.
    fn nodes(&self, settings: &Settings) -> Option<Arc<dyn Fn() -> serde_json::Value + Send + Sync>> {
        let (nodes, own) = (self.location.as_ref()?.nodes(), settings.cluster_node.clone());
        Some(Arc::new(move || location::shown(&nodes, &own)))
    }

    /// What the connections, the store and those who tell count.
    fn counters(&self) -> roost_admin::Counters {
        let (streams, store, teller) = (self.streams.clone(), self.running.statistics(), self.teller.lost());
        let (resolver, tracer, recorder) =
            (self.resolver.clone(), self.tracer.clone(), self.recorder.clone());
        let (calls, inboxes) = (self.calls.as_ref().map(Calls::statistics), Arc::clone(&self.inboxes));
        Arc::new(move || {
            let mut all = streams.as_ref().map_or(Vec::new(), Streams::statistics);
            all.extend(store());
            all.extend(calls.as_ref().map(|calls| calls()).into_iter().flatten());
            all.push(teller.statistics());
            all.extend(resolver.statistics());
            all.extend(tracer.statistics());
            all.extend(recorder.iter().flat_map(Recorder::statistics));
            let waiting: usize = inboxes.iter().map(Inbox::waiting).sum();
            all.push(("roost:inbox_waiting", waiting as u64));
            all
        })
    }

    /// How long the store's transactions took, and how large they were.
    fn histograms(&self) -> roost_admin::Histograms {
        let store = self.running.histograms();
        Arc::new(move || {
            let BatchHistograms { times, sizes } = store();
            vec![("roost_commit_seconds", times), ("roost_commit_changes", sizes)]
        })
    }

    /// Lets the threads finish what is under way, and ends them. What goes on in the process after this one, where there `is_next` one.
    pub(super) fn stop(self, settings: &Settings, is_next: bool) -> Stopped {
        tracing::info!("stopping");
        drop(self.loading);
        if let Some(streams) = self.streams.as_ref().filter(|_| is_next) {
            streams.pause();
        }
        self.pool.stop();
        for thread in self.workers {
            let _ = thread.join();
        }
        let moved = self.pool.take_out(self.clock.now());
        // Its shards hold what asks the store for work, and the store waits until none can. What has happened is told
        // to the end.
        drop(self.pool);
        self.teller.join();
        if let Some(recorder) = self.recorder {
            let path = settings.recorder_file();
            if let Err(error) = recorder.save(&path) {
                tracing::warn!(path = %path.display(), %error, "what happened to extensions is not kept");
            }
        }
        if let Some(calls) = self.calls {
            calls.stop();
        }
        let mut left = MovedStreams::default();
        if let Some(streams) = self.streams {
            if is_next {
                left = streams.take_out();
            }
            streams.stop();
        }
        for thread in self.stream_threads {
            let _ = thread.join();
        }
        if let Some(location) = self.location {
            location.stop();
        }
        let statistics = self.running.statistics();
        self.running.stop();
        let [_, _, (_, transactions), (_, registrations), (_, largest)] = statistics();
        tracing::info!(transactions, registrations, largest, "written to the database");
        Stopped { kept: self.listening.into_kept(), moved, streams: left }
    }
}

/// Why a server has ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Stopped,
    /// It becomes this binary.
    Upgrade(PathBuf),
}

/// Gives shards what the process before had under way, before anything else.
fn take_moved(inboxes: &[Inbox], moved: Vec<Moved>) {
    if !moved.is_empty() && moved.len() != inboxes.len() {
        tracing::warn!("there are other workers than in the process before: what was under way is lost");
        return;
    }
    for (inbox, moved) in inboxes.iter().zip(moved) {
        let (calls, transactions) = moved.len();
        if !moved.is_empty() {
            tracing::info!(calls, transactions, "what the process before had under way goes on");
            inbox.post([InboxItem::Moved(Box::new(moved))]);
        }
    }
}

fn inboxes(shards: usize) -> Result<Arc<Vec<Inbox>>> {
    let inboxes = (0..shards).map(|_| Inbox::new()).collect::<std::io::Result<_>>();
    Ok(Arc::new(inboxes.context("making inboxes")?))
}

/// What takes receipts to the inboxes of those who asked.
fn receipts_to(inboxes: &Arc<Vec<Inbox>>) -> Receipts {
    let inboxes = Arc::clone(inboxes);
    Arc::new(move |receipts| deliver(&inboxes, receipts))
}

/// Starts what gives events to those who listen; and what tells it how the database is.
fn start_hub(settings: &Settings, config: &Config, keeps_calls: bool) -> Result<(Hub, Health)> {
    let base = if keeps_calls { Topics::CALLS } else { Topics::NONE };
    let base = match (settings.recorder_megabytes, settings.failed_megabytes) {
        (0, _) => base,
        (_, 0) => base.and(Recorder::TOPICS),
        _ => base.and(Recorder::TOPICS_WITH_MESSAGES),
    };
    let hub = Hub::start(base, config.policy.dialog.max_calls, settings.webhooks()?)?;
    let told = hub.clone();
    let slow_after = Duration::from_micros(u64::from(settings.exec_query_threshold));
    let source = match settings.database.split(':').next() {
        Some("mysql") => "mysql query",
        Some("postgres" | "postgresql") => "pgsql query",
        _ => "sqlite query",
    };
    let health = Health::new(slow_after, move |news| {
        told.publish_shell(&match news {
            DatabaseNews::Away(is_away) => ShellEvent::Database { is_away },
            DatabaseNews::Slow { what, took } => ShellEvent::Slow { source, took, extra: what.to_string() },
        });
    });
    Ok((hub, health))
}

/// The calls of the process before, and the file that keeps this one's.
pub(super) struct CallsLeft {
    pub(super) journal: Option<Journal>,
    pub(super) calls: Vec<CallRecord>,
    /// What it had under way, by shard.
    pub(super) moved: Vec<Moved>,
    /// Its connections.
    pub(super) streams: MovedStreams,
}

/// What a server leaves to the process after this one.
pub(super) struct Stopped {
    pub(super) kept: Kept,
    pub(super) moved: Vec<Moved>,
    pub(super) streams: MovedStreams,
}

/// Gives shards their calls, and starts what keeps them.
fn start_calls(
    left: CallsLeft,
    config: &Config,
    store: &Store,
    settings: &Settings,
    inboxes: &[Inbox],
) -> Result<(Option<Calls>, Gatherer)> {
    let mut by_shard: Vec<Vec<CallRecord>> = inboxes.iter().map(|_| Vec::new()).collect();
    for call in left.calls {
        let home = call.number.home(config.identity.shards);
        if let Some(own) = by_shard.get_mut(usize::from(home.0)) {
            own.push(call);
        }
    }
    for (inbox, own) in inboxes.iter().zip(by_shard) {
        if !own.is_empty() {
            inbox.post([InboxItem::Calls(own)]);
        }
    }
    take_moved(inboxes, left.moved);
    let Some(journal) = left.journal else { return Ok((None, Gatherer::default())) };
    let (calls, take) = Calls::start(journal, config.identity.mac_key, store, &settings.acc())?;
    Ok((Some(calls), take))
}

fn start_streams(
    sockets: Vec<(Transport, TcpListener)>,
    settings: &Settings,
    tls: Option<Arc<Tls>>,
    inboxes: &Arc<Vec<Inbox>>,
    clock: Clock,
    moved: MovedStreams,
) -> Result<(Option<Streams>, Vec<JoinHandle<()>>)> {
    // A phone in the console comes by no socket of its own.
    if sockets.is_empty() && settings.console_address().is_none() {
        return Ok((None, Vec::new()));
    }
    let carriers = Carriers {
        tls,
        origins: settings.websocket_origins.as_slice().into(),
        balancers: settings.balancers.as_slice().into(),
    };
    let settings = stream_settings(settings);
    let started = Streams::start(sockets, settings, carriers, Arc::clone(inboxes), clock, moved);
    let (streams, threads) = started.context("starting the threads of the connections")?;
    Ok((Some(streams), threads))
}

/// What remembers what happens to extensions, where anything does.
fn recorder_of(settings: &Settings) -> Option<Recorder> {
    let bytes = settings.recorder_megabytes << 20;
    let recorder = (bytes > 0).then(|| Recorder::new(bytes, settings.core.identity.use_domain))?;
    let recorder = recorder.with_messages(settings.failed_megabytes << 20);
    let path = settings.recorder_file();
    match recorder.load(&path) {
        Ok(0) => {}
        Ok(extensions) => tracing::info!(extensions, "what happened before the restart is remembered"),
        Err(error) => tracing::warn!(path = %path.display(), %error, "what happened before is forgotten"),
    }
    Some(recorder)
}

/// Starts what sends messages to collectors.
fn start_tracer(settings: &Settings) -> Result<Tracer> {
    let tracer = Tracer::start().context("starting the thread that sends messages to collectors")?;
    for (collector, filter) in settings.hep.iter().filter_map(Hep::collector) {
        tracer.add(collector, filter)?;
    }
    Ok(tracer)
}

fn start_resolver(
    settings: &Settings,
    config: &Config,
    tls: Option<Arc<Tls>>,
    inboxes: &Arc<Vec<Inbox>>,
    hub: Hub,
) -> Result<Resolver> {
    let slow = SlowNames {
        after: Duration::from_micros(u64::from(settings.exec_dns_threshold)),
        tell: Arc::new(move |name, took| {
            hub.publish_shell(&ShellEvent::Slow { source: "dns", took, extra: name.to_string() });
        }),
    };
    let (servers, listeners) = (&settings.dns_servers, &config.policy.listeners);
    let resolver = Resolver::start(servers, listeners, tls, Arc::clone(inboxes), slow);
    resolver.context("starting the resolver")
}

/// What each worker runs.
fn shards_of(
    engines: Vec<Engine>,
    sockets: Vec<Vec<UdpSocket>>,
    dispatch: Vec<Dispatch>,
) -> Vec<(Engine, Vec<UdpSocket>, Dispatch)> {
    let all = engines.into_iter().zip(sockets).zip(dispatch);
    all.map(|((engine, sockets), dispatch)| (engine, sockets, dispatch)).collect()
}

/// What does the workers' commands.
struct Doers<'a> {
    running: &'a Running,
    location: Option<&'a roost_cluster::Running>,
    questions: &'a Questions,
    streams: Option<&'a Streams>,
}

/// What takes each worker's commands.
fn dispatchers(config: &Config, doers: &Doers<'_>, resolver: &Resolver) -> Vec<Dispatch> {
    let Doers { running, location, questions, streams } = doers;
    let dispatch = |shard| {
        let (store, questions) = (running.handle(), Arc::clone(questions));
        let stores = (store, location.map(roost_cluster::Running::handle));
        dispatcher(ShardId(shard), stores, questions, resolver.clone(), streams.cloned())
    };
    (0..config.identity.shards).map(dispatch).collect()
}

/// How subscribers are kept in memory; the workers take the rows as they are read.
fn preload(settings: &Settings, config: &Arc<Config>, inboxes: &Arc<Vec<Inbox>>, clock: Clock) -> Preload {
    Preload {
        limit: settings.preload,
        every: Duration::from_secs(u64::from(config.policy.auth_db.cache_ttl_s)) / 2,
        tell: reading_teller(Arc::clone(config), Arc::clone(inboxes), clock),
    }
}

/// Starts reading the bindings, where they are read at start.
fn start_loading(
    store: &Store,
    config: &Arc<Config>,
    inboxes: &Arc<Vec<Inbox>>,
    clock: Clock,
) -> Result<Option<Loading>> {
    let load = || Loading::start(store.loader(), Arc::clone(config), Arc::clone(inboxes), clock);
    reads_table(config).then(load).transpose()
}

/// Whether the database's table has the bindings, and is read at start.
pub(super) fn reads_table(config: &Config) -> bool {
    config.identity.write_through && config.identity.node.is_none()
}

/// Makes the engines; with write-through they wait for the rows of the table.
fn engines(config: &Config) -> Result<Vec<Engine>> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| anyhow!("no random numbers: {error}"))?;
    let mut rng = Rng::new(u64::from_ne_bytes(seed));
    let make = |shard| {
        let mut engine = Engine::new(config, ShardId(shard), Rng::new(rng.next_u64()));
        if reads_table(config) {
            engine.begin_loading();
        }
        engine
    };
    Ok((0..config.identity.shards).map(make).collect())
}

fn start_workers(
    pool: &Arc<WorkerPool<Dispatch>>,
    clock: Clock,
    ended: &mpsc::Sender<()>,
) -> Result<Vec<JoinHandle<()>>> {
    let workers = Worker::of_pool(pool, clock)?.into_iter().enumerate();
    workers.map(|(index, worker)| spawn(index, worker, ended.clone())).collect()
}

fn spawn(index: usize, worker: Worker<Dispatch>, ended: mpsc::Sender<()>) -> Result<JoinHandle<()>> {
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
struct Ended(mpsc::Sender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

/// Resolves when a registrar whose bindings go nowhere should rather end.
async fn store_ended(running: &Running, location: Option<&roost_cluster::Running>, calls: Option<&Calls>) {
    while !running.has_ended()
        && !location.is_some_and(roost_cluster::Running::has_ended)
        && !calls.is_some_and(Calls::has_ended)
    {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Resolves when one of these has ended.
async fn thread_ended(threads: &[JoinHandle<()>]) {
    while !threads.iter().any(JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
