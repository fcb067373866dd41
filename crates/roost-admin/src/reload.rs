//! `reload` and `ds_reload`: the configuration file is read whole, compared with what is in force, and taken by all shards, or nothing
//! changes.

use std::sync::{Arc, PoisonError, RwLock};

use roost_core::{Admin, Config, Policy};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::Mi;
use crate::ask::{answered, shards};

/// The configuration in force; its policy is another one after a reload. Clones are one.
#[derive(Debug, Clone)]
pub struct InForce(Arc<RwLock<Arc<Config>>>);

impl InForce {
    pub fn new(config: Arc<Config>) -> InForce {
        InForce(Arc::new(RwLock::new(config)))
    }

    /// As it is now.
    pub fn get(&self) -> Arc<Config> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_policy(&self, policy: &Policy) {
        let identity = self.get().identity.clone();
        let config = Arc::new(Config { identity, policy: policy.clone() });
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }
}

/// What of the file is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    All,
    /// Its `[[route]]`s.
    Routes,
    /// Nothing of it, but the tables of the database that are kept in memory.
    Tables,
}

/// A key that the file gives another value than the one in force; secrets are masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedKey {
    /// `section.key`, with its number where there are several tables.
    pub name: String,
    /// As they stand in a file; `None`: there is no such table.
    pub old: Option<String>,
    pub new: Option<String>,
    /// Whether it counts from now on; else from the next start.
    pub is_live: bool,
}

/// What a reading of the file has found.
pub struct Found {
    pub changes: Vec<ChangedKey>,
    /// For the shards.
    pub policy: Arc<Policy>,
    /// Takes the rest into use, once the shards have theirs.
    pub finish: Box<dyn FnOnce() + Send>,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found").field("changes", &self.changes).finish_non_exhaustive()
    }
}

/// Reads the file; the error is for people, and names the line.
pub type ReadFile = Arc<dyn Fn(Scope, &Config) -> Result<Found, String> + Send + Sync>;

/// All keys with the values in force, as JSON.
pub type Show = Arc<dyn Fn() -> Value + Send + Sync>;

/// Reads the configuration anew, one at a time. Clones are one.
#[derive(Clone)]
pub struct Reload {
    read: ReadFile,
    show: Show,
    /// Held while one is under way.
    turn: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reload").finish_non_exhaustive()
    }
}

impl Reload {
    pub fn new(read: ReadFile, show: Show) -> Reload {
        Reload { read, show, turn: Arc::default() }
    }

    /// `config_show`: what is in force.
    pub(crate) fn show(&self) -> Value {
        (self.show)()
    }
}

/// Takes the file into use; `is_dry`: says what that would change.
///
/// # Errors
/// What is wrong with the file; nothing has changed.
pub async fn reload(mi: &Mi, scope: Scope, is_dry: bool) -> Result<Vec<ChangedKey>, String> {
    let outcome = read_and_take(mi, scope, is_dry).await;
    match &outcome {
        Err(error) => tracing::warn!("the configuration stays as it is: {error}"),
        Ok(changes) if !is_dry => {
            let names = |is_live: bool| -> Vec<&str> {
                let some = changes.iter().filter(|change| change.is_live == is_live);
                some.map(|change| change.name.as_str()).collect()
            };
            let (changed, restart) = (names(true).join(", "), names(false).join(", "));
            tracing::info!(%changed, needs_restart = %restart, "the configuration was read anew");
        }
        Ok(_) => {}
    }
    outcome
}

async fn read_and_take(mi: &Mi, scope: Scope, is_dry: bool) -> Result<Vec<ChangedKey>, String> {
    let _turn = mi.reload.turn.lock().await;
    let (read, config) = (Arc::clone(&mi.reload.read), mi.config());
    let found = tokio::task::spawn_blocking(move || read(scope, &config)).await;
    let found = found.unwrap_or_else(|_| Err("the file was not read".to_string()))?;
    if is_dry {
        return Ok(found.changes);
    }
    give(mi, &found.policy).await?;
    (found.finish)();
    Ok(found.changes)
}

/// Gives all shards another policy.
async fn give(mi: &Mi, policy: &Arc<Policy>) -> Result<(), String> {
    // All are asked before the first answers.
    let asked = shards(mi).map(|shard| (mi.ask)(shard, Admin::SetPolicy(Arc::clone(policy))));
    for answer in asked.collect::<Vec<_>>() {
        answered(answer).await.map_err(|error| error.message)?;
    }
    mi.in_force.set_policy(policy);
    Ok(())
}

/// Takes the server out of service: who comes is told to come back after so many seconds, or up to twice as many; 0 takes it back.
pub(crate) async fn drain(mi: &Mi, retry_after_s: u32) -> Result<(), String> {
    let _turn = mi.reload.turn.lock().await;
    let policy = Policy { drain_s: retry_after_s, ..mi.config().policy.clone() };
    give(mi, &Arc::new(policy)).await
}

/// The command's answer.
pub(crate) fn shown(changes: &[ChangedKey]) -> Value {
    let some = |is_live: bool| -> Value {
        let some = changes.iter().filter(|change| change.is_live == is_live);
        some.map(|change| json!({ "Key": change.name, "Old": change.old, "New": change.new })).collect()
    };
    json!({ "Changed": some(true), "Restart": some(false) })
}
