//! All extensions with their states, read once for many rows and searches: who scrolls through 100,000 asks for each screen of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::backend::Backend;
use crate::kept::Kept;

/// How old what is shown may be, at least.
const FRESH: Duration = Duration::from_secs(2);
/// Names of extensions are read from the database less often.
const NAMES_FRESH: Duration = Duration::from_secs(15);
/// Extensions that are listed at most.
const MOST: usize = 1_000_000;

/// A row: its name, and its state where it is not UNAVAILABLE.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) aor: Arc<str>,
    pub(crate) agent: Option<Agent>,
}

#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) state: String,
    pub(crate) ringing: u64,
    pub(crate) in_use: u64,
}

impl Row {
    pub(crate) fn state(&self) -> &str {
        self.agent.as_ref().map_or("UNAVAILABLE", |agent| agent.state.as_str())
    }

    /// As conditions see it.
    pub(crate) fn to_json(&self) -> Value {
        let (ringing, in_use) = self.agent.as_ref().map_or((0, 0), |agent| (agent.ringing, agent.in_use));
        json!({ "aor": &*self.aor, "state": self.state(), "ringing": ringing, "in_use": in_use })
    }
}

pub(crate) struct Index {
    names: Kept<[Arc<str>]>,
    rows: Kept<[Row]>,
}

impl Default for Index {
    fn default() -> Index {
        Index { names: Kept::new(NAMES_FRESH), rows: Kept::new(FRESH) }
    }
}

impl Index {
    /// All rows, in the order of their names.
    ///
    /// # Errors
    /// The database does not answer.
    pub(crate) async fn rows(&self, backend: &Backend) -> Result<Arc<[Row]>, String> {
        let read = async {
            let names = self.names.get(read_names(backend)).await?;
            let listed = backend.mi("agent_list", json!({})).await?;
            let rows = tokio::task::spawn_blocking(move || joined(&names, &listed)).await;
            rows.map_err(|error| error.to_string())
        };
        self.rows.get(read).await
    }
}

async fn read_names(backend: &Backend) -> Result<Arc<[Arc<str>]>, String> {
    let read = Arc::clone(&backend.mi.tables.extensions);
    let query = roost_admin::ExtensionQuery { limit: MOST, ..roost_admin::ExtensionQuery::default() };
    let names =
        tokio::task::spawn_blocking(move || read(query)).await.map_err(|error| error.to_string())??;
    Ok(names.into_iter().map(Arc::from).collect())
}

/// Names of the table, and those that are registered though they are not in it.
fn joined(names: &[Arc<str>], listed: &Value) -> Arc<[Row]> {
    let agent = |one: &Value| {
        let number = |name: &str| one[name].as_u64().unwrap_or(0);
        let state = one["state"].as_str().unwrap_or_default().to_string();
        Some((
            one["AOR"].as_str()?.to_string(),
            Agent { state, ringing: number("ringing"), in_use: number("in_use") },
        ))
    };
    let mut agents: HashMap<String, Agent> =
        listed["Agents"].as_array().into_iter().flatten().filter_map(agent).collect();
    let of_table = names.iter().map(|aor| Row { aor: Arc::clone(aor), agent: agents.remove(&**aor) });
    let mut rows: Vec<Row> = of_table.collect();
    if !agents.is_empty() {
        rows.extend(agents.into_iter().map(|(aor, agent)| Row { aor: aor.into(), agent: Some(agent) }));
        rows.sort_by(|a, b| a.aor.cmp(&b.aor));
    }
    rows.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_of_the_table_and_registered_ones_are_one_list() {
        let names: Vec<Arc<str>> = ["9001", "9003"].map(Arc::from).to_vec();
        let listed = json!({ "Agents": [
            { "AOR": "9003", "state": "INUSE", "ringing": 0, "in_use": 1 },
            { "AOR": "9002", "state": "NOT_INUSE", "ringing": 0, "in_use": 0 },
        ]});
        let rows = joined(&names, &listed);
        let shown: Vec<(&str, &str)> = rows.iter().map(|row| (&*row.aor, row.state())).collect();
        assert_eq!(shown, [("9001", "UNAVAILABLE"), ("9002", "NOT_INUSE"), ("9003", "INUSE")]);
    }
}
