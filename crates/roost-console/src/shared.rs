//! What all requests share.

use std::sync::Arc;
use std::time::Duration;

use roost_recorder::Language;
use serde_json::{Value, json};

use crate::audit::Audit;
use crate::backend::Backend;
use crate::heard;
use crate::history::History;
use crate::index::Index;
use crate::kept::Kept;
use crate::ladders::Ladders;
use crate::people::{Logins, People};
use crate::places::Places;
use crate::refusals::Refusals;
use crate::sessions::{OnceLink, Session, Sessions};
use crate::since::Since;
use crate::templates::Templates;
use crate::{Parts, Settings};

/// How old what is read for all may be, at least.
const FRESH: Duration = Duration::from_millis(900);
/// Pages that are watched at once, and from one address: behind one there may be a whole call centre.
const WATCHED: (usize, usize) = (200, 100);
/// The same by who has not logged in, on this machine.
const WATCHED_BY_STRANGERS: (usize, usize) = (40, 20);

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) parts: Parts,
    pub(crate) backend: Backend,
    pub(crate) templates: Templates,
    pub(crate) logins: Logins,
    pub(crate) sessions: Sessions,
    /// The cookie of sessions: browsers do not tell the ports of a host apart.
    pub(crate) cookie: String,
    pub(crate) audit: Audit,
    pub(crate) history: History,
    pub(crate) refusals: Refusals,
    pub(crate) index: Index,
    /// What is wrong now, in English and in Chinese.
    wrong: [Kept<Value>; 2],
    pub(crate) since: Since,
    pub(crate) ladders: Ladders,
    /// Pages that are watched.
    pub(crate) watching: Places,
    pub(crate) strangers_watching: Places,
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
            cookie: format!("roost_session_{}", settings.address.port()),
            audit: Audit::new(&settings.audit),
            history: History::default(),
            refusals: Refusals::default(),
            index: Index::default(),
            wrong: [Kept::new(FRESH), Kept::new(FRESH)],
            since: Since::default(),
            watching: Places::new(WATCHED),
            strangers_watching: Places::new(WATCHED_BY_STRANGERS),
            ladders: Ladders::new(parts.mi.tracer.clone()),
            settings,
            parts,
        }))
    }

    /// Starts what gathers figures while nobody looks; it ends with the runtime.
    pub(crate) fn start(self: &Arc<Self>) {
        let (sampler, listener, own) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        tokio::spawn(async move { sampler.history.sample(&sampler.backend).await });
        tokio::spawn(async move {
            heard::listen(&listener.backend, &listener.refusals, &listener.since).await;
        });
        tokio::spawn(async move { own.ladders.forget().await });
    }

    /// The session of a cookie, which counts as used; one of somebody who is gone, or has another role or password, ends.
    pub(crate) fn session(&self, token: &str) -> Option<Session> {
        let session = self.sessions.of(token)?;
        if self.logins.knows(&session.who) {
            return Some(session);
        }
        self.sessions.end(token);
        None
    }

    /// Whether a session lasts yet.
    pub(crate) fn lasts(&self, token: &str) -> bool {
        self.sessions.who(token).is_some_and(|who| self.logins.knows(&who))
    }

    /// What is wrong now, as `why` says it.
    ///
    /// # Errors
    /// For people.
    pub(crate) async fn wrong(&self, language: Language) -> Result<Arc<Value>, String> {
        let [english, chinese] = &self.wrong;
        let kept = if language == Language::English { english } else { chinese };
        let asked = json!({ "lang": language.tag() });
        kept.get(async { self.backend.mi("why", asked).await.map(Arc::new) }).await
    }

    /// Whether it is read by this machine alone.
    pub(crate) fn is_local(&self) -> bool {
        self.settings.address.ip().is_loopback()
    }
}
