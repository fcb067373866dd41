//! Connections to the store, and what it promises.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Connection, ConnectionLike as _, Pipeline, Value};

use crate::error::RedisError;
use crate::place::{Kept, Place, Server, timely};
use crate::record::SCRIPT;

/// How long the store may take to put a batch where it is safe, in milliseconds.
const SAFE_MS: u64 = 1_500;

/// When what was written counts (`cluster.durability`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once it is in the store's memory.
    Memory,
    /// Once it is on the store's disk.
    Fsync,
    /// Once all replicas have it, too.
    Replicated,
}

/// Where the store is, and what it must promise.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) place: Arc<Place>,
    durability: Durability,
}

/// How a batch is known to be safe: what is sent behind it, and what the answer must say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Guard {
    /// WAITAOF: the store's own disk, and those of so many replicas.
    synced: Option<u64>,
    /// WAIT: so many replicas.
    replicas: Option<u64>,
    /// When it must be asked again how many there are.
    until: Option<Instant>,
}

/// How often it is asked.
const COUNTS_EVERY: Duration = Duration::from_secs(5);

impl Source {
    /// Reads the URL, and looks whether the store keeps its promise.
    pub(crate) fn new(
        url: &str,
        authorities: Option<Vec<u8>>,
        durability: Durability,
    ) -> Result<Source, RedisError> {
        let place = Arc::new(Place::find(url, authorities)?);
        if place.may_change() && durability == Durability::Fsync {
            tracing::warn!(
                "cluster.durability = \"fsync\" with Sentinel or Cluster: a replica that becomes the primary may not have what \
                 was accepted last; \"replicated\" waits for the replicas"
            );
        }
        let source = Source { place, durability };
        for server in &source.place.topology().servers {
            source.guarded(server)?;
        }
        Ok(source)
    }

    /// A connection to the server that has a key, the one that is kept or a new one in its place.
    pub(crate) fn kept<'k>(
        &self,
        kept: &'k mut Kept<Connection>,
        key: &[u8],
    ) -> Result<&'k mut Connection, RedisError> {
        kept.follow(&self.place);
        let server = kept.topology.server_of(key);
        kept.get(server, connect)
    }

    /// What stands under these keys of one server, each as fields and values, in one round trip.
    pub(crate) fn hashes<'k>(
        &self,
        connection: &mut Connection,
        keys: impl ExactSizeIterator<Item = &'k [u8]>,
    ) -> Result<Vec<Value>, redis::RedisError> {
        let count = keys.len();
        let mut pipe = Pipeline::with_capacity(count);
        for key in keys {
            pipe.cmd("HGETALL").arg(key);
        }
        connection.req_packed_commands(&pipe.get_packed_pipeline(), 0, count)
    }

    /// One to write with: it knows the script, and how a batch is known to be safe.
    pub(crate) fn guarded(&self, server: &Server) -> Result<(Connection, Guard), RedisError> {
        let mut connection = connect(server)?;
        let load = redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query::<String>(&mut connection);
        load.map_err(|error| away(server, error))?;
        let guard = self.guard(server, &mut connection)?;
        Ok((connection, guard))
    }

    /// Counts the replicas again where that was long ago.
    pub(crate) fn renew(
        &self,
        server: &Server,
        connection: &mut Connection,
        guard: &mut Guard,
    ) -> Result<(), RedisError> {
        if guard.until.is_some_and(|until| Instant::now() >= until) {
            *guard = self.guard(server, connection)?;
        }
        Ok(())
    }

    fn guard(&self, server: &Server, connection: &mut Connection) -> Result<Guard, RedisError> {
        if self.durability == Durability::Memory {
            return Ok(Guard::default());
        }
        let not_safe = |missing: &str| RedisError::NotSafe {
            address: server.address.clone(),
            missing: missing.to_string(),
        };
        let mut ask = |command: &str, arg: &str| {
            let mut asked = redis::cmd(command);
            if command == "CONFIG" {
                asked.arg("GET");
            }
            asked.arg(arg).query::<Value>(connection).map_err(|error| away(server, error))
        };
        let is = |value: &Value, wanted: &str| text_of(value).split(' ').any(|word| word == wanted);
        if !is(&ask("CONFIG", "appendonly")?, "yes") {
            return Err(not_safe("cluster.durability = \"fsync\" needs `appendonly yes` there"));
        }
        let has_waitaof = text_of(&ask("COMMAND", "INFO").unwrap_or(Value::Nil)).contains("waitaof");
        let is_always = is(&ask("CONFIG", "appendfsync")?, "always");
        if !is_always && !has_waitaof {
            return Err(not_safe(
                "cluster.durability = \"fsync\" needs `appendfsync always` there, or a server with WAITAOF (7.2)",
            ));
        }
        let synced = (!is_always).then_some(0);
        if self.durability == Durability::Fsync {
            return Ok(Guard { synced, ..Guard::default() });
        }
        let info = text_of(&ask("INFO", "replication")?);
        // One that is being given all records does not count yet.
        match info.lines().filter(|line| line.contains("state=online")).count() as u64 {
            0 => Err(not_safe("cluster.durability = \"replicated\" needs a replica that is connected")),
            replicas => {
                Ok(Guard { synced, replicas: Some(replicas), until: Some(Instant::now() + COUNTS_EVERY) })
            }
        }
    }
}

/// A connection to a server.
pub(crate) fn connect(server: &Server) -> Result<Connection, RedisError> {
    timely(&server.client).map_err(|error| away(server, error))
}

pub(crate) fn away(server: &Server, error: redis::RedisError) -> RedisError {
    RedisError::Away { address: server.address.clone(), error }
}

impl Guard {
    /// Adds what is sent behind a batch; how many answers follow.
    pub(crate) fn ask(self, pipe: &mut Pipeline) -> usize {
        if let Some(replicas) = self.synced {
            pipe.cmd("WAITAOF").arg(1).arg(replicas).arg(SAFE_MS);
        }
        if let Some(replicas) = self.replicas {
            pipe.cmd("WAIT").arg(replicas).arg(SAFE_MS);
        }
        usize::from(self.synced.is_some()) + usize::from(self.replicas.is_some())
    }

    /// Whether these answers say that the batch is safe.
    pub(crate) fn is_safe(self, answers: &[Value]) -> bool {
        let mut answers = answers.iter();
        let is_synced = self.synced.is_none()
            || matches!(answers.next(), Some(Value::Array(counts)) if matches!(counts.first(), Some(Value::Int(1..))));
        let replicas = self
            .replicas
            .map(|wanted| matches!(answers.next(), Some(Value::Int(had)) if *had as u64 >= wanted));
        is_synced && replicas.unwrap_or(true)
    }
}

/// The texts of a reply, one behind the other.
fn text_of(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        Value::VerbatimString { text, .. } => text.clone(),
        Value::Array(all) | Value::Set(all) => all.iter().map(text_of).collect::<Vec<_>>().join(" "),
        Value::Map(all) => all
            .iter()
            .map(|(name, value)| format!("{} {}", text_of(name), text_of(value)))
            .collect::<Vec<_>>()
            .join(" "),
        _ => String::new(),
    }
}
