//! All extensions with their states, read once for many rows and searches: who scrolls through 100,000 asks for each screen of them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use roost_admin::Agent;
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::kept::Kept;

/// How old what is shown may be, at least.
const FRESH: Duration = Duration::from_secs(2);
/// Names of extensions are read from the database less often.
const NAMES_FRESH: Duration = Duration::from_secs(15);
/// Extensions that are listed at most.
const MOST: usize = 1_000_000;

/// What an extension is doing, as the pages call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doing {
    Talking,
    Ringing,
    Free,
    Offline,
}

impl Doing {
    pub(crate) const ALL: [Doing; 4] = [Doing::Talking, Doing::Ringing, Doing::Free, Doing::Offline];

    /// By the name of a device state.
    pub(crate) fn of(state: &str) -> Doing {
        match state {
            "NOT_INUSE" => Doing::Free,
            "RINGING" | "RINGINUSE" => Doing::Ringing,
            "INUSE" | "BUSY" | "ONHOLD" => Doing::Talking,
            _ => Doing::Offline,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Doing::Talking => "talking",
            Doing::Ringing => "ringing",
            Doing::Free => "free",
            Doing::Offline => "offline",
        }
    }
}

/// A row: its name, and what it is doing where it is not UNAVAILABLE.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) aor: Arc<str>,
    agent: Option<OfCalls>,
}

#[derive(Debug, Clone)]
struct OfCalls {
    state: Cow<'static, str>,
    ringing: u32,
    in_use: u32,
}

impl Row {
    pub(crate) fn state(&self) -> &str {
        self.agent.as_ref().map_or("UNAVAILABLE", |agent| &agent.state)
    }

    pub(crate) fn doing(&self) -> Doing {
        Doing::of(self.state())
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
            let agents = roost_admin::agents(&backend.mi).await?;
            let rows = tokio::task::spawn_blocking(move || joined(&names, agents)).await;
            rows.map_err(|error| error.to_string())
        };
        self.rows.get(read).await
    }

    /// Reads anew for who looks next: an extension has come or gone.
    pub(crate) async fn forget(&self) {
        self.names.forget().await;
        self.rows.forget().await;
    }
}

async fn read_names(backend: &Backend) -> Result<Arc<[Arc<str>]>, String> {
    let read = Arc::clone(&backend.mi.tables.extensions);
    let query = roost_admin::ExtensionQuery { limit: MOST, ..roost_admin::ExtensionQuery::default() };
    let names =
        tokio::task::spawn_blocking(move || read(query)).await.map_err(|error| error.to_string())??;
    let mut names: Vec<Arc<str>> = names.into_iter().map(Arc::from).collect();
    // Databases have orders of their own.
    names.sort_unstable();
    Ok(names.into())
}

/// Names of the table, and those that are registered though they are not in it; both come in their order.
fn joined(names: &[Arc<str>], agents: Vec<Agent>) -> Arc<[Row]> {
    let mut rows = Vec::with_capacity(names.len().max(agents.len()));
    let mut agents = agents.into_iter().peekable();
    let of_calls = |Agent { state, ringing, in_use, .. }: Agent| Some(OfCalls { state, ringing, in_use });
    for aor in names {
        while let Some(agent) = agents.next_if(|agent| *agent.aor < **aor) {
            rows.push(Row { aor: agent.aor.as_str().into(), agent: of_calls(agent) });
        }
        let own = agents.next_if(|agent| *agent.aor == **aor);
        rows.push(Row { aor: Arc::clone(aor), agent: own.and_then(of_calls) });
    }
    rows.extend(agents.map(|agent| Row { aor: agent.aor.as_str().into(), agent: of_calls(agent) }));
    rows.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_of_the_table_and_registered_ones_are_one_list() {
        let names: Vec<Arc<str>> = ["9001", "9003"].map(Arc::from).to_vec();
        let agent = |aor: &str, state: &'static str| Agent {
            aor: aor.to_string(),
            state: state.into(),
            ringing: 0,
            in_use: 0,
        };
        let agents = [("9000", "INUSE"), ("9002", "NOT_INUSE"), ("9003", "INUSE"), ("9004", "RINGING")];
        let rows = joined(&names, agents.map(|(aor, state)| agent(aor, state)).to_vec());
        let shown: Vec<(&str, &str)> = rows.iter().map(|row| (&*row.aor, row.state())).collect();
        assert_eq!(
            shown,
            [
                ("9000", "INUSE"),
                ("9001", "UNAVAILABLE"),
                ("9002", "NOT_INUSE"),
                ("9003", "INUSE"),
                ("9004", "RINGING")
            ]
        );
    }
}
