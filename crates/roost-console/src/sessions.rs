//! Who is logged in: a random cookie for each, known here alone and for a time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq as _;

use crate::people::Who;

/// How long a session lasts that is not used, and how long at most.
const IDLE: Duration = Duration::from_secs(2 * 3_600);
const LONGEST: Duration = Duration::from_secs(12 * 3_600);
/// Sessions at once; the one that has been idle longest goes for another.
const MOST: usize = 1_000;
/// How long the one-time link may be used.
const ONCE: Duration = Duration::from_secs(15 * 60);

/// How long after a form its page says that it failed.
const SAID_WITHIN: Duration = Duration::from_secs(60);

/// A link that makes who opens it an administrator, one time.
#[derive(Debug, Clone)]
pub struct OnceLink(String);

impl OnceLink {
    /// # Errors
    /// The system gives no random numbers.
    pub fn new() -> Result<OnceLink, getrandom::Error> {
        random().map(OnceLink)
    }

    /// What stands behind `/login?once=`.
    pub fn token(&self) -> &str {
        &self.0
    }
}

/// Somebody who is logged in.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) who: Who,
    /// What its forms must show.
    pub(crate) csrf: String,
    begun: Instant,
    used: Instant,
    /// Why the last form did nothing, and the page that says it.
    failure: Option<Failure>,
}

/// Why a form did nothing, or did it only in part.
#[derive(Debug, Clone)]
struct Failure {
    page: String,
    why: String,
    at: Instant,
}

#[derive(Debug)]
pub(crate) struct Sessions {
    by_token: Mutex<HashMap<String, Session>>,
    once: Mutex<Option<(OnceLink, Instant)>>,
}

impl Sessions {
    pub(crate) fn new(once: Option<OnceLink>) -> Sessions {
        let once = Mutex::new(once.map(|once| (once, Instant::now())));
        Sessions { by_token: Mutex::default(), once }
    }

    /// A new session; the cookie that names it. One that a stranger has planted is never taken.
    pub(crate) fn begin(&self, who: Who) -> Option<String> {
        let (token, csrf) = (random().ok()?, random().ok()?);
        let now = Instant::now();
        let mut all = self.all();
        all.retain(|_, session| session.lasts(now));
        if all.len() >= MOST
            && let Some(oldest) =
                all.iter().min_by_key(|(_, session)| session.used).map(|(token, _)| token.clone())
        {
            all.remove(&oldest);
        }
        all.insert(token.clone(), Session { who, csrf, begun: now, used: now, failure: None });
        Some(token)
    }

    /// The session of a cookie, which counts as used.
    pub(crate) fn of(&self, token: &str) -> Option<Session> {
        let now = Instant::now();
        let mut all = self.all();
        let session = all.get_mut(token).filter(|session| session.lasts(now))?;
        session.used = now;
        Some(session.clone())
    }

    /// Whose it is while it lasts; looking at a page that changes by itself is no use of it.
    pub(crate) fn who(&self, token: &str) -> Option<Who> {
        let now = Instant::now();
        self.all().get(token).filter(|session| session.lasts(now)).map(|session| session.who.clone())
    }

    /// Keeps why a form did nothing for the page that it leads back to: what stands in an address anybody may have written.
    pub(crate) fn fail(&self, token: &str, page: &str, why: &str) {
        if let Some(session) = self.all().get_mut(token) {
            let (page, why) = (page.to_string(), why.to_string());
            session.failure = Some(Failure { page, why, at: Instant::now() });
        }
    }

    /// Takes it out, if it is for this page.
    pub(crate) fn take_failure(&self, token: &str, page: &str) -> Option<String> {
        let mut all = self.all();
        let failure = all.get_mut(token).map(|session| &mut session.failure)?;
        let failure = failure.take_if(|failure| failure.page == page)?;
        (failure.at.elapsed() < SAID_WITHIN).then_some(failure.why)
    }

    pub(crate) fn end(&self, token: &str) {
        self.all().remove(token);
    }

    /// Whether this is the one-time link's; it is used up then.
    pub(crate) fn take_once(&self, token: &str) -> bool {
        let mut once = self.once.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = once.as_ref().is_some_and(|(link, since)| {
            since.elapsed() < ONCE && bool::from(link.0.as_bytes().ct_eq(token.as_bytes()))
        });
        if is_it {
            *once = None;
        }
        is_it
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.by_token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn lasts(&self, now: Instant) -> bool {
        now < self.used + IDLE && now < self.begun + LONGEST
    }
}

/// 32 bytes that nobody guesses, as hexadecimal digits.
fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_known_by_its_own_cookie_and_the_link_works_once() {
        let sessions = Sessions::new(Some(OnceLink("once".to_string())));
        let token = sessions.begin(Who::of_link()).unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(sessions.of(&token).map(|session| session.who), Some(Who::of_link()));
        assert!(sessions.of("planted").is_none());
        assert!(!sessions.take_once("other") && sessions.take_once("once") && !sessions.take_once("once"));
        assert!(sessions.who(&token).is_some());
        sessions.fail(&token, "/people", "it did not work");
        assert_eq!(sessions.take_failure(&token, "/calls"), None);
        assert_eq!(sessions.take_failure(&token, "/people").as_deref(), Some("it did not work"));
        assert_eq!(sessions.take_failure(&token, "/people"), None);
        sessions.end(&token);
        assert!(sessions.of(&token).is_none() && sessions.who(&token).is_none());
    }
}
