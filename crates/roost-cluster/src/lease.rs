//! Who is there: each node renews its lease each second, by the store's clock, and says how it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::background::Background;
use crate::{Change, Member, News};

/// How often a lease is renewed.
const EVERY: Duration = Duration::from_secs(1);
/// How long one lasts.
const LASTS: Duration = Duration::from_secs(5);
/// How long a node that has ended is remembered.
const REMEMBERED: Duration = Duration::from_hours(24);

/// Says how the node is: a JSON object as text, with its `address`.
pub type Figures = Arc<dyn Fn() -> String + Send + Sync>;

/// Where leases stand: a table of names, what each has told, and when by the store's clock.
pub trait Leases: Send + 'static {
    /// This node is there. (`None`: it only looks.) All nodes: name, what it tells, how long ago in milliseconds.
    ///
    /// # Errors
    /// The store is away; for the log.
    fn renew(&mut self, own: Option<(&str, &str)>) -> Result<Vec<(String, String, u64)>, String>;

    /// A node is forgotten.
    fn forget(&mut self, name: &str);
}

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

impl NodeState {
    /// What it says of itself, read.
    pub fn told(&self) -> Value {
        serde_json::from_str(&self.figures).unwrap_or_default()
    }
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

/// Takes the lease of this node's name, and renews it until it is stopped.
///
/// # Errors
/// Another node has the name, the store is away, or a thread cannot be started.
pub fn keep_lease(
    mut leases: impl Leases,
    member: Member,
    nodes: Nodes,
    news: News,
) -> Result<Background, String> {
    let Member { name, address, figures, .. } = member;
    let all = states(leases.renew(None)?);
    let is_other =
        |node: &&NodeState| node.name == name && node.is_alive && node.told()["address"] != *address;
    if let Some(other) = all.iter().find(is_other) {
        return Err(format!(
            "`cluster.node`: another node is \"{name}\" already ({}): give each a name of its own",
            other.figures
        ));
    }
    let mut keeper = Keeper { leases, name, figures, nodes, news, told: Vec::new() };
    // Before the first phone comes, and before anybody could say more.
    keeper.renew(&json!({ "address": address }).to_string());
    let run = move |ends: &AtomicBool| {
        while !ends.load(Ordering::Relaxed) {
            std::thread::park_timeout(EVERY);
            let figures = (keeper.figures)();
            keeper.renew(&figures);
        }
        // The others know at once.
        keeper.leases.forget(&keeper.name);
    };
    Background::start("roost-lease", run).map_err(|error| format!("starting a thread: {error}"))
}

struct Keeper<L> {
    leases: L,
    name: String,
    figures: Figures,
    nodes: Nodes,
    news: News,
    /// Who was there, and where, when it was last told.
    told: Vec<(String, bool, Value, Value)>,
}

impl<L: Leases> Keeper<L> {
    fn renew(&mut self, figures: &str) {
        let asked = Instant::now();
        match self.leases.renew(Some((&self.name, figures))) {
            Ok(all) => {
                (self.news)(Change::Leased(asked + LASTS));
                note(&mut self.leases, &self.nodes, all, asked);
            }
            Err(error) => tracing::debug!(error, "the lease of this node is not renewed"),
        }
        let (all, _) = self.nodes.list();
        let now: Vec<_> = all
            .iter()
            .map(|node| {
                let told = node.told();
                (node.name.clone(), node.is_alive, told["address"].clone(), told["floating"].clone())
            })
            .collect();
        if now != self.told {
            self.told = now;
            (self.news)(Change::Nodes(all));
        }
    }
}

/// Keeps what was told; those that have ended long ago are forgotten.
fn note(leases: &mut impl Leases, nodes: &Nodes, all: Vec<(String, String, u64)>, asked: Instant) {
    let mut all = states(all);
    all.retain(|node| {
        let is_remembered = u128::from(node.heard_ms) <= REMEMBERED.as_millis();
        if !is_remembered {
            leases.forget(&node.name);
        }
        is_remembered
    });
    let lag_ms = asked.elapsed().as_millis() as u64;
    *nodes.0.lock().unwrap_or_else(PoisonError::into_inner) =
        Seen { nodes: all, lag_ms, at: Some(Instant::now()) };
}

fn states(all: Vec<(String, String, u64)>) -> Vec<NodeState> {
    let state = |(name, figures, heard_ms)| NodeState {
        name,
        is_alive: u128::from(heard_ms) <= LASTS.as_millis(),
        heard_ms,
        figures,
    };
    all.into_iter().map(state).collect()
}
