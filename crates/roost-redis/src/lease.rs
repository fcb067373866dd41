//! Who is there: each node renews its lease each second, by the store's clock, and says how it is.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{Connection, Script};

use crate::background::Background;
use crate::connection::{RedisError, Source};
use crate::{Change, News};

/// The table of nodes.
const NODES: &str = "roost:nodes";
const SCRIPT: &str = include_str!("lease.lua");
/// How often a lease is renewed.
const EVERY: Duration = Duration::from_secs(1);
/// How long one lasts, in milliseconds.
const LASTS_MS: u64 = 5_000;
/// How long a node that has ended is remembered, in milliseconds.
const REMEMBERED_MS: u64 = 24 * 3_600_000;

/// Says how the node is: a JSON object as text.
pub type Figures = Arc<dyn Fn() -> String + Send + Sync>;

/// A node, as it has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    pub name: String,
    /// Whether its lease lasts.
    pub is_alive: bool,
    /// How long ago it has renewed it, in milliseconds.
    pub heard_ms: u64,
    /// What it says of itself.
    pub figures: String,
}

/// All nodes, as they were a second ago. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Nodes(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    nodes: Vec<NodeState>,
    /// How long the store took to answer, in milliseconds.
    lag_ms: u64,
    at: Option<Instant>,
}

impl Nodes {
    /// By name; how long the store took to answer and how long ago that was, in milliseconds (`None`: it never did).
    pub fn list(&self) -> (Vec<NodeState>, Option<(u64, u64)>) {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.nodes.clone(), seen.at.map(|at| (seen.lag_ms, at.elapsed().as_millis() as u64)))
    }
}

/// Takes the lease of this name, and renews it until it is stopped.
///
/// # Errors
/// Another node has the name, or the store is away.
pub(crate) fn start(
    source: Source,
    (name, address): (String, String),
    figures: Figures,
    nodes: Nodes,
    news: News,
) -> Result<Background, RedisError> {
    let mut connection = source.connect()?;
    let all = read(&mut connection, None).map_err(|error| source.away(error))?;
    let is_other = |node: &&NodeState| node.name == name && node.is_alive && !node.figures.contains(&address);
    if let Some(other) = all.iter().find(is_other) {
        return Err(RedisError::SameName { name, figures: other.figures.clone() });
    }
    Background::start("roost-lease", move |ends| {
        let mut connection = Some(connection);
        let mut told = Vec::new();
        while !ends.load(Ordering::Relaxed) {
            let renewed = renew(&source, &mut connection, (&name, &figures()), &nodes);
            if let Err(error) = renewed {
                tracing::debug!(%error, "the lease of this node is not renewed");
                connection = None;
            }
            let (all, _) = nodes.list();
            let now: Vec<_> = all.iter().map(|node| (node.name.clone(), node.is_alive)).collect();
            if now != told {
                told = now;
                news(Change::Nodes(all));
            }
            std::thread::park_timeout(EVERY);
        }
        // The others know at once.
        if let Some(connection) = &mut connection {
            let _ = redis::cmd("HDEL").arg(NODES).arg(&name).exec(connection);
        }
    })
}

fn renew(
    source: &Source,
    kept: &mut Option<Connection>,
    (name, figures): (&str, &str),
    nodes: &Nodes,
) -> Result<(), RedisError> {
    let connection = source.kept(kept)?;
    let asked = Instant::now();
    let script = Script::new(SCRIPT);
    let now = script.key(NODES).arg(name).arg(figures).invoke::<String>(connection);
    let now = now.map_err(|error| source.away(error))?;
    let lag_ms = asked.elapsed().as_millis() as u64;
    let all = read(connection, now.parse().ok()).map_err(|error| source.away(error))?;
    *nodes.0.lock().unwrap_or_else(PoisonError::into_inner) =
        Seen { nodes: all, lag_ms, at: Some(Instant::now()) };
    Ok(())
}

/// All nodes; those that have ended long ago are forgotten.
fn read(connection: &mut Connection, now_ms: Option<u64>) -> Result<Vec<NodeState>, redis::RedisError> {
    let now_ms = match now_ms {
        Some(now_ms) => now_ms,
        None => {
            let (seconds, micros) = redis::cmd("TIME").query::<(u64, u64)>(connection)?;
            seconds * 1000 + micros / 1000
        }
    };
    let all = redis::cmd("HGETALL").arg(NODES).query::<BTreeMap<String, String>>(connection)?;
    let mut nodes = Vec::new();
    for (name, told) in all {
        let (seen_ms, figures) = told.split_once(' ').unwrap_or((&told, ""));
        let heard_ms = now_ms.saturating_sub(seen_ms.parse().unwrap_or(0));
        if heard_ms > REMEMBERED_MS {
            redis::cmd("HDEL").arg(NODES).arg(&name).exec(connection)?;
            continue;
        }
        nodes.push(NodeState {
            name,
            is_alive: heard_ms <= LASTS_MS,
            heard_ms,
            figures: figures.to_string(),
        });
    }
    Ok(nodes)
}
