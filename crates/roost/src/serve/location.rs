//! Bindings that are shared with other nodes: starts what speaks to their store.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Result;
use roost_admin::Peers;
use roost_cluster::{Change, Health, Member, News, NodeState, Nodes, Receipts, Running, Speaker};
use roost_core::{Admin, AdminReply, Config, ShardEvent, ShardId, Transport};
use roost_net::{Clock, Inbox, InboxItem};
use roost_store::{SharedWith, Store};
use serde_json::{Value, json};

use crate::serve::delivery::deliver;
use crate::serve::floating::Addresses;
use crate::settings::Settings;

/// What it tells the workers, and how it is told itself.
pub(super) struct Ends<'a> {
    pub(super) inboxes: &'a Arc<Vec<Inbox>>,
    pub(super) health: roost_store::Health,
    pub(super) ask: roost_admin::Ask,
    pub(super) clock: Clock,
}

/// Starts it, where there is one.
///
/// # Errors
/// The store cannot be reached, or does not keep what it must.
pub(super) fn start(
    settings: &Settings,
    config: &Arc<Config>,
    store: &Store,
    Ends { inboxes, health, ask, clock }: Ends<'_>,
) -> Result<(Option<Running>, Option<Peers>)> {
    if !settings.is_clustered() {
        return Ok((None, None));
    }
    let shards = config.identity.shards;
    let address = settings.cluster_listen.clone();
    let tells = address.clone();
    let to = Arc::clone(inboxes);
    let addresses = Addresses::new(&config.policy.listeners, move |floating| {
        to.iter().for_each(|inbox| {
            inbox.post([InboxItem::ShardEvent(ShardEvent::Floating(Arc::clone(&floating)))]);
        });
    });
    let (shown, here) = (addresses.clone(), addresses.clone());
    let member = Member {
        name: settings.cluster_node.clone(),
        address,
        figures: Arc::new(move || figures(&ask, shards, (&tells, shown.here()))),
        floating: Arc::new(move || here.here()),
    };
    let to = Arc::clone(inboxes);
    let receipts: Receipts = Arc::new(move |receipts| deliver(&to, receipts));
    let nodes = (addresses.clone(), settings.cluster_listen.clone());
    let (peers, speaker) = peers_of(settings);
    let news = news_to(Arc::clone(inboxes), Arc::clone(config), clock, (nodes, peers.clone()));
    let health: Health = Arc::new(move |is_away| health.note(is_away));
    let started = match settings.location.as_str() {
        "" => {
            let (case_sensitive, config) = (config.identity.case_sensitive, Arc::clone(config));
            let is_own_socket = Arc::new(move |socket: &str| is_own_socket(&config, socket));
            let with = SharedWith { case_sensitive, is_own_socket };
            store.share(with, member, &receipts, &news, health)?
        }
        url => roost_redis::start(
            (url, settings.location_authorities()?),
            settings.durability(),
            member,
            &receipts,
            &news,
            health,
        )?,
    };
    let watched = addresses.watch(started.waker())?;
    let started = started.with(watched);
    let _ = speaker.set((started.speaker(), started.nodes()));
    Ok((Some(started), Some(peers)))
}

/// What speaks to the other nodes, once it is known.
type Speaks = Arc<OnceLock<(Speaker, Nodes)>>;

fn peers_of(settings: &Settings) -> (Peers, Speaks) {
    let speaker = Speaks::default();
    let own = settings.cluster_node.clone();
    let (says, knows, name) = (Arc::clone(&speaker), Arc::clone(&speaker), own.clone());
    let peers = Peers::new(
        own,
        move |text| says.get().is_some_and(|(speaker, _)| speaker.say(text)),
        move || {
            let (all, _) = knows.get().map_or_else(Default::default, |(_, nodes)| nodes.list());
            let others = all.into_iter().filter(|node| node.is_alive && node.name != name);
            others.map(|node| node.name).collect()
        },
    );
    (peers, speaker)
}

/// Whether `udp:10.0.0.5:5060` is an address of ours.
fn is_own_socket(config: &Config, socket: &str) -> bool {
    let is_it = |(transport, address)| {
        config.policy.listeners.iter().any(|own| own.transport == transport && own.covers(address))
    };
    Transport::of_socket(socket.as_bytes()).is_some_and(is_it)
}

/// What takes changes to the workers.
fn news_to(
    inboxes: Arc<Vec<Inbox>>,
    config: Arc<Config>,
    clock: Clock,
    ((addresses, own), peers): ((Addresses, String), Peers),
) -> News {
    let of_aor = {
        let inboxes = Arc::clone(&inboxes);
        move |aor: &[u8], event| {
            let shard = config.identity.shard_of_aor(aor);
            if let Some(inbox) = inboxes.get(usize::from(shard.0)) {
                inbox.post([InboxItem::ShardEvent(event)]);
            }
        }
    };
    let all = move |event: ShardEvent| {
        for inbox in inboxes.iter() {
            inbox.post([InboxItem::ShardEvent(event.clone())]);
        }
    };
    Arc::new(move |change| match change {
        Change::Record { aor, version } => of_aor(&aor.clone(), ShardEvent::RecordChanged { aor, version }),
        Change::Found { aor, record } => of_aor(&aor.clone(), ShardEvent::RecordFound { aor, record }),
        Change::Nodes(nodes) => {
            tracing::info!(nodes = ?nodes.iter().map(|node| (&node.name, node.is_alive)).collect::<Vec<_>>(), "nodes");
            addresses.nodes(&nodes, &own);
            let is_down = |node: &&NodeState| !node.is_alive;
            all(ShardEvent::NodesDown(nodes.iter().filter(is_down).filter_map(address_of).collect()));
        }
        Change::Leased(until) => {
            let lasts = until.saturating_duration_since(Instant::now());
            all(ShardEvent::Leased { until_ms: clock.now().mono_ms + lasts.as_millis() as u64 });
        }
        Change::Said(text) => peers.hear(text),
        Change::Doubtful => all(ShardEvent::RecordsDoubtful),
    })
}

/// How long the workers may take to say how they are: one that does not is no node that others count on.
const PATIENCE: Duration = Duration::from_millis(500);

/// What this node tells of itself.
fn figures(ask: &roost_admin::Ask, shards: u16, (address, floating): (&str, Vec<String>)) -> String {
    let answers: Vec<_> = (0..shards).map(|shard| ask(ShardId(shard), Admin::Statistics)).collect();
    let (mut bindings, mut calls, mut silent) = (0, 0, 0);
    let end = Instant::now() + PATIENCE;
    for mut answer in answers {
        let figures = loop {
            match answer.try_recv() {
                Ok(AdminReply::Statistics(figures)) => break Some(figures),
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                _ => break None,
            }
        };
        let Some(figures) = figures else {
            silent += 1;
            continue;
        };
        let value =
            |name: &str| figures.values.iter().find(|(own, _)| *own == name).map_or(0, |(_, value)| *value);
        bindings += value("usrloc:location-contacts").saturating_sub(value("usrloc:location-elsewhere"));
        calls += value("dialog:active_dialogs") + value("dialog:early_dialogs");
    }
    let mut told = json!({ "address": address, "floating": floating, "bindings": bindings, "calls": calls, "version": env!("CARGO_PKG_VERSION") });
    if silent > 0 {
        told["silent_workers"] = json!(silent);
    }
    told.to_string()
}

/// Where a node is reached.
fn address_of(node: &NodeState) -> Option<SocketAddr> {
    node.told()["address"].as_str()?.parse().ok()
}

/// `nodes` of MI: all nodes and how each is, as this one knows.
pub(super) fn shown(nodes: &Nodes, own: &str) -> Value {
    let (all, asked) = nodes.list();
    let shown = all.iter().map(|node| {
        let told = node.told();
        json!({
            "Node": node.name, "State": if node.is_alive { "up" } else { "down" }, "Self": node.name == own,
            "Address": told["address"], "Floating": told["floating"], "Bindings": told["bindings"], "Calls": told["calls"],
            "Heard_ms": node.heard_ms, "Version": told["version"],
        })
    });
    let (lag_ms, asked_ms) = asked.unzip();
    json!({ "Nodes": shown.collect::<Vec<_>>(), "Store_ms": lag_ms, "Asked_ms": asked_ms })
}
