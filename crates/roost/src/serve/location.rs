//! Bindings that are shared with other nodes: starts what speaks to their store.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use roost_core::{Admin, AdminReply, Config, ShardEvent, ShardId};
use roost_net::{Inbox, InboxItem};
use roost_redis::{Change, Health, Member, NodeState, Nodes, Running};
use serde_json::{Value, json};

use crate::serve::delivery::deliver;
use crate::settings::Settings;

/// Starts it, where there is one.
///
/// # Errors
/// The store cannot be reached, or does not keep what it must.
pub(super) fn start(
    settings: &Settings,
    config: &Arc<Config>,
    inboxes: &Arc<Vec<Inbox>>,
    health: roost_store::Health,
    ask: roost_admin::Ask,
) -> Result<Option<Running>> {
    if !settings.is_clustered() {
        return Ok(None);
    }
    let shards = config.identity.shards;
    let address = settings.cluster_listen.clone();
    let tells = address.clone();
    let member = Member {
        name: settings.cluster_node.clone(),
        address,
        figures: Arc::new(move || figures(&ask, shards, &tells)),
    };
    let to = Arc::clone(inboxes);
    let receipts: roost_redis::Receipts = Arc::new(move |receipts| deliver(&to, receipts));
    let (to, config) = (Arc::clone(inboxes), Arc::clone(config));
    let news = Arc::new(move |change| match change {
        Change::Record { aor, version } => {
            let shard = config.identity.shard_of_aor(&aor);
            if let Some(inbox) = to.get(usize::from(shard.0)) {
                inbox.post([InboxItem::ShardEvent(ShardEvent::RecordChanged { aor, version })]);
            }
        }
        Change::Found { aor, record } => {
            let shard = config.identity.shard_of_aor(&aor);
            if let Some(inbox) = to.get(usize::from(shard.0)) {
                inbox.post([InboxItem::ShardEvent(ShardEvent::RecordFound { aor, record })]);
            }
        }
        Change::Nodes(nodes) => {
            let is_down = |node: &&NodeState| !node.is_alive;
            let down: Arc<[SocketAddr]> = nodes.iter().filter(is_down).filter_map(address_of).collect();
            tracing::info!(nodes = ?nodes.iter().map(|node| (&node.name, node.is_alive)).collect::<Vec<_>>(), "nodes");
            for inbox in to.iter() {
                inbox.post([InboxItem::ShardEvent(ShardEvent::NodesDown(Arc::clone(&down)))]);
            }
        }
        Change::Doubtful => {
            for inbox in to.iter() {
                inbox.post([InboxItem::ShardEvent(ShardEvent::RecordsDoubtful)]);
            }
        }
    });
    let health: Health = Arc::new(move |is_away| health.note(is_away));
    let started =
        roost_redis::start(&settings.location, settings.durability(), member, &receipts, news, health)?;
    Ok(Some(started))
}

/// How long the workers may take to say how they are: one that does not is no node that others count on.
const PATIENCE: Duration = Duration::from_millis(500);

/// What this node tells of itself.
fn figures(ask: &roost_admin::Ask, shards: u16, address: &str) -> String {
    let answers: Vec<_> = (0..shards).map(|shard| ask(ShardId(shard), Admin::Statistics)).collect();
    let (mut bindings, mut calls, mut silent) = (0, 0, 0);
    let end = std::time::Instant::now() + PATIENCE;
    for mut answer in answers {
        let figures = loop {
            match answer.try_recv() {
                Ok(AdminReply::Statistics(figures)) => break Some(figures),
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) if std::time::Instant::now() < end => {
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
    let mut told = json!({ "address": address, "bindings": bindings, "calls": calls, "version": env!("CARGO_PKG_VERSION") });
    if silent > 0 {
        told["silent_workers"] = json!(silent);
    }
    told.to_string()
}

/// Where a node is reached.
fn address_of(node: &NodeState) -> Option<SocketAddr> {
    let told: Value = serde_json::from_str(&node.figures).ok()?;
    told["address"].as_str()?.parse().ok()
}

/// `nodes` of MI: all nodes and how each is, as this one knows.
pub(super) fn shown(nodes: &Nodes, own: &str) -> Value {
    let (all, asked) = nodes.list();
    let shown = all.iter().map(|node| {
        let told: Value = serde_json::from_str(&node.figures).unwrap_or_default();
        json!({
            "Node": node.name, "State": if node.is_alive { "up" } else { "down" }, "Self": node.name == own,
            "Address": told["address"], "Bindings": told["bindings"], "Calls": told["calls"],
            "Heard_ms": node.heard_ms, "Version": told["version"],
        })
    });
    let (lag_ms, asked_ms) = asked.unzip();
    json!({ "Nodes": shown.collect::<Vec<_>>(), "Store_ms": lag_ms, "Asked_ms": asked_ms })
}
