//! What operators and their tools see of roost: the management interface (MI), which is JSON-RPC 2.0 over HTTP at `/mi` with
//! OpenSIPS's commands and shapes; events, for MI subscribers, webhooks and readers of a stream; and the API at `/api/v1`.
//!
//! Without a token only this machine is served: the address must be a loopback one, and so must the Host header, so that no
//! web page can reach it through a browser.
#![forbid(unsafe_code)]

mod across;
mod agents;
mod api;
mod ask;
mod bans;
mod calls;
mod commands;
mod dump;
mod events;
mod facts;
mod gate;
mod health;
mod hops;
mod http;
mod mi;
mod peers;
mod reload;
mod rpc;
mod shapes;
mod statistics;
mod traces;
mod what_if;
mod why;

use std::sync::Arc;

use roost_core::{Admin, AdminReply, Config, Histogram, Secrets, ShardId, SubscriberName};
use roost_hep::Tracer;
use roost_recorder::Recorder;
use tokio::sync::oneshot;

pub use agents::Agent;
pub use api::{Kind as RecordKind, Record, RecordQuery};
pub use events::{Hub, ShellEvent, Webhook, WebhookError};
pub use facts::EVENT;
pub use gate::{Gate, is_own_host};
pub use http::serve;
pub use mi::{DatagramAddress, Fifo, MiDatagram, MiFifo};
pub use peers::Peers;
pub use reload::{ChangedKey, Found, InForce, ReadFile, Reload, Scope, Show, reload};
pub use shapes::TABLE;
pub use statistics::{STATISTICS, Statistic, StatisticKind, Statistics};

/// Reads a request as the interface does, for fuzzing; whether it is a call.
pub fn check_call(body: &[u8]) -> bool {
    rpc::Call::parse(body).is_ok_and(|call| commands::takes(&call))
}

/// Reads bytes as the FIFO does, for fuzzing; how many are taken.
pub fn check_text(bytes: &[u8]) -> usize {
    mi::taken(bytes)
}

/// Sends a request to a shard; the answer comes through the receiver.
pub type Ask = Arc<dyn Fn(ShardId, Admin) -> oneshot::Receiver<AdminReply> + Send + Sync>;

/// Names (`group:name`) and values.
pub type Counters = Arc<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;

/// Reads the database's tables; errors are for people.
#[derive(Clone)]
pub struct Tables {
    /// Extensions by name.
    pub extensions: Read<ExtensionQuery, Vec<String>>,
    /// Whether there is such an extension.
    pub is_extension: Read<String, bool>,
    /// The secrets of a subscriber, if there is one.
    pub secrets: Read<SubscriberName, Option<Secrets>>,
    /// Records of calls; `None` where none are kept in the database.
    pub records: Option<Read<RecordQuery, Vec<Record>>>,
}

/// Which extensions.
#[derive(Debug, Clone, Default)]
pub struct ExtensionQuery {
    /// Those after this one.
    pub after: Option<String>,
    /// Those with this text in their names.
    pub search: Option<String>,
    /// So many.
    pub limit: usize,
}

/// Reads something; called where it may wait.
pub type Read<Asked, Found> = Arc<dyn Fn(Asked) -> Result<Found, String> + Send + Sync>;

/// The certificates of the running server.
#[derive(Clone)]
pub struct Certificates {
    /// Those in use, an object for each.
    pub list: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// Reads their files again, and takes what has changed into use; false when nothing has. The error is for people.
    pub reload: Arc<dyn Fn() -> Result<bool, String> + Send + Sync>,
}

/// How long things took, or how many they were, by metric.
pub type Histograms = Arc<dyn Fn() -> Vec<(&'static str, Histogram)> + Send + Sync>;

/// Another log level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChange {
    /// OpenSIPS's: -3 to 4.
    pub level: i64,
    /// For lines about this extension or address only; else for all.
    pub only: Option<String>,
    /// For so long; `None`: until it is changed again.
    pub seconds: Option<u64>,
}

/// The log of the running server.
#[derive(Clone)]
pub struct LogControl {
    /// The levels, an object.
    pub show: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    pub set: Arc<dyn Fn(LogChange) + Send + Sync>,
}

/// Takes a binary, or none; says which it is.
pub type BecomeBinary = Arc<dyn Fn(Option<&str>) -> Result<String, String> + Send + Sync>;

/// What only the process knows.
#[derive(Clone)]
pub struct Process {
    /// Whether the database does not answer.
    pub is_database_away: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The connections, an object.
    pub connections: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// Closes all connections within so long, and ends the process then, or once no call is left; `None`: not any more.
    pub drain: Arc<dyn Fn(Option<std::time::Duration>) + Send + Sync>,
    /// Has the process become another binary, or the one at its own place; which that is, or why it does not.
    pub upgrade: BecomeBinary,
    pub log: LogControl,
}

/// Why a command was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NotDone {
    /// As `/mi` gives it; 404: there is nothing to do it to.
    pub code: i64,
    /// For people.
    pub why: String,
}

/// Runs a command as `/mi` does, for other parts of the process.
///
/// # Errors
/// There is no such command, its parameters are wrong, or it cannot be done.
pub async fn run(mi: &Mi, method: &str, params: serde_json::Value) -> Result<serde_json::Value, NotDone> {
    let call = rpc::Call { id: None, method: method.to_string(), params };
    match commands::run(mi, &call).await {
        Ok(commands::Answer::Value(value)) => Ok(value),
        Ok(commands::Answer::Aors(_)) => {
            Err(NotDone { code: -32601, why: format!("{method} answers in parts") })
        }
        Err(error) => Err(NotDone { code: error.code, why: error.for_people() }),
    }
}

/// What all extensions are doing that are registered or have calls, at all nodes, in the order of their names: `agent_list`
/// without JSON.
///
/// # Errors
/// For people.
pub async fn agents(mi: &Mi) -> Result<Vec<Agent>, String> {
    if mi.peers.is_none() {
        return agents::here(mi, None).await.map_err(rpc::RpcError::for_people);
    }
    let listed = run(mi, "agent_list", serde_json::json!({})).await.map_err(|error| error.why)?;
    Ok(listed["Agents"].as_array().into_iter().flatten().map(Agent::of_json).collect())
}

/// A condition on extensions, as `filter` of `/api/v1/extensions` is.
#[derive(Debug)]
pub struct ExtensionFilter(api::Wanted);

impl ExtensionFilter {
    /// # Errors
    /// What is wrong with it, and where.
    pub fn of(text: &str) -> Result<ExtensionFilter, String> {
        api::Wanted::of(Some(text), &api::EXTENSION)
            .map(ExtensionFilter)
            .map_err(|error| error.text().to_string())
    }

    /// Whether it holds of an object with `aor`, `state`, `ringing` and `in_use`.
    pub fn holds(&self, extension: &serde_json::Value) -> bool {
        self.0.takes(extension)
    }
}

/// The API (`/api/v1`), for other parts of the process: it asks nobody who they are.
pub fn api(mi: Mi) -> axum::Router {
    api::router().with_state(Arc::new(mi))
}

/// Calls that are in progress at this node.
pub async fn calls_left(mi: &Mi) -> u64 {
    health::calls(mi).await.unwrap_or(u64::MAX)
}

/// Whether every worker answers.
pub async fn workers_answer(mi: &Mi) -> bool {
    health::calls(mi).await.is_some()
}

/// Answers what other nodes ask, and tells them what they want to hear; as long as the process lives. At once where there is none.
pub async fn serve_peers(mi: Mi) {
    if let Some(peers) = mi.peers.clone() {
        peers.serve(mi, commands::run_here).await;
    }
}

/// What the interface needs to know of the running server.
#[derive(Clone)]
pub struct Mi {
    pub in_force: InForce,
    pub ask: Ask,
    pub reload: Reload,
    /// `None` where nothing speaks TLS.
    pub certificates: Option<Certificates>,
    pub gate: Gate,
    /// Subscribers and call records.
    pub tables: Tables,
    /// What has happened.
    pub events: Hub,
    /// Counters that no shard has.
    pub counters: Counters,
    /// Histograms of other threads than the workers.
    pub histograms: Histograms,
    pub statistics: Statistics,
    /// Sends messages to collectors.
    pub tracer: Tracer,
    pub process: Process,
    /// The nodes that share bindings; `None` where it is alone.
    pub nodes: Option<Arc<dyn Fn() -> serde_json::Value + Send + Sync>>,
    /// The other nodes; `None` where it is alone, or is asked for itself.
    pub peers: Option<Peers>,
    /// What happened to each extension; `None` where nothing is recorded.
    pub recorder: Option<Recorder>,
    /// When the server started.
    pub started: std::time::SystemTime,
    /// `roost (VERSION (ARCH/OS))`.
    pub server: String,
    /// The database: a file's whole path, or a server's address and the database's name.
    pub database: String,
}

impl Mi {
    /// What is in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.in_force.get()
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for LogControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogControl").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Mi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mi").field("server", &self.server).finish_non_exhaustive()
    }
}
