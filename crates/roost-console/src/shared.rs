//! What all requests share.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::audit::Audit;
use crate::backend::Backend;
use crate::history::History;
use crate::index::Index;
use crate::kept::Kept;
use crate::people::{Logins, People};
use crate::refusals::Refusals;
use crate::sessions::{OnceLink, Sessions};
use crate::templates::Templates;
use crate::{Parts, Settings};

/// How old what is read for all may be, at least.
const FRESH: Duration = Duration::from_millis(900);

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) parts: Parts,
    pub(crate) backend: Backend,
    pub(crate) templates: Templates,
    pub(crate) logins: Logins,
    pub(crate) sessions: Sessions,
    pub(crate) audit: Audit,
    pub(crate) history: History,
    pub(crate) refusals: Refusals,
    pub(crate) index: Index,
    /// What is wrong now.
    wrong: Kept<Value>,
    /// All calls.
    calls: Kept<Value>,
}

impl Shared {
    /// # Errors
    /// The file of people is broken, or a template is.
    pub(crate) fn new(
        settings: Settings,
        parts: Parts,
        once: Option<OnceLink>,
    ) -> Result<Arc<Shared>, String> {
        let people = People::open(&settings.people).map_err(|error| error.to_string())?;
        Ok(Arc::new(Shared {
            backend: Backend::new(parts.mi.clone()),
            templates: Templates::new()?,
            logins: Logins::new(people),
            sessions: Sessions::new(once),
            audit: Audit::new(&settings.audit),
            history: History::default(),
            refusals: Refusals::default(),
            index: Index::default(),
            wrong: Kept::new(FRESH),
            calls: Kept::new(FRESH),
            settings,
            parts,
        }))
    }

    /// Starts what gathers figures while nobody looks.
    pub(crate) fn start(self: &Arc<Self>) -> [JoinHandle<()>; 2] {
        let (sampler, listener) = (Arc::clone(self), Arc::clone(self));
        [
            tokio::spawn(async move { sampler.history.sample(&sampler.backend).await }),
            tokio::spawn(async move { listener.refusals.listen(&listener.backend).await }),
        ]
    }

    /// What is wrong now, as `why` says it.
    ///
    /// # Errors
    /// For people.
    pub(crate) async fn wrong(&self) -> Result<Arc<Value>, String> {
        self.wrong.get(async { self.backend.mi("why", json!({})).await.map(Arc::new) }).await
    }

    /// All calls, as `dlg_list` lists them.
    ///
    /// # Errors
    /// For people.
    pub(crate) async fn calls(&self) -> Result<Arc<Value>, String> {
        self.calls.get(async { self.backend.mi("dlg_list", json!({})).await.map(Arc::new) }).await
    }

    /// Whether it is read by this machine alone.
    pub(crate) fn is_local(&self) -> bool {
        self.settings.address.ip().is_loopback()
    }
}
