//! A response of roost's own: a final answer, or the refusal that a [`Reason`] stands for.

use std::sync::Arc;

use crate::base::limits;
use crate::contract::context::Ctx;
use crate::contract::reason::{Kind, Reason};
use crate::contract::rule::Reply;

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) code: u16,
    pub(crate) phrase: Phrase,
    /// Why it refuses; none when it does not.
    pub(crate) reason: Option<Reason>,
    pub(crate) kind: Kind,
    /// Retry-After, in seconds; 0 sends none.
    pub(crate) retry_after_s: u32,
}

/// A reason phrase: of the table, or of an operator's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phrase {
    Known(&'static str),
    Own(Arc<str>),
}

impl Phrase {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Phrase::Known(text) => text,
            Phrase::Own(text) => text,
        }
    }
}

impl From<Reply> for Response {
    fn from(Reply { code, phrase }: Reply) -> Response {
        Response { code, phrase: Phrase::Own(phrase), ..Response::from(Reason::RouteReplies) }
    }
}

impl From<Reason> for Response {
    fn from(reason: Reason) -> Response {
        let entry = reason.entry();
        let retry_after_s = if entry.kind == Kind::Busy { limits::BUSY_RETRY_AFTER_S } else { 0 };
        let (code, phrase, kind) = (entry.code, Phrase::Known(entry.phrase), entry.kind);
        Response { code, phrase, reason: Some(reason), kind, retry_after_s }
    }
}

impl Response {
    /// A 200 with this phrase.
    pub(crate) fn ok(phrase: &'static str) -> Response {
        Response {
            code: 200,
            phrase: Phrase::Known(phrase),
            reason: None,
            kind: Kind::Plain,
            retry_after_s: 0,
        }
    }

    /// The same to come back after so many seconds; 0 says nothing of it.
    pub(crate) fn retry_after(self, seconds: u32) -> Response {
        Response { retry_after_s: seconds, ..self }
    }

    /// A challenge as a proxy sends it (407); any other response stays as it is.
    pub(crate) fn by_proxy(self) -> Response {
        match self.is_challenge() {
            true => Response { code: 407, phrase: Phrase::Known("Proxy Authentication Required"), ..self },
            false => self,
        }
    }

    pub(crate) fn is_challenge(&self) -> bool {
        matches!(self.kind, Kind::Challenge | Kind::Stale)
    }

    /// Whether Contact lists the AOR's bindings.
    pub(crate) fn has_contacts(&self) -> bool {
        self.kind == Kind::RegistrarWithContacts
    }

    /// Notes it among the decisions.
    pub(crate) fn decide(&self, ctx: &mut Ctx<'_>) {
        let (code, phrase) = (self.code, self.phrase.as_str());
        ctx.decide("", || match self.reason {
            Some(reason) => format!("answered {code} {phrase}: {} ({})", reason.why(), reason.word()),
            None => format!("answered {code} {phrase}"),
        });
    }

    /// What was wrong, in words.
    pub(crate) fn why(&self) -> &str {
        self.reason.map_or(self.phrase.as_str(), |reason| reason.why())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_sound_status() {
        for reason in Reason::ALL {
            let response = Response::from(*reason);
            assert!(
                (400..700).contains(&response.code) && !response.phrase.as_str().is_empty(),
                "{reason:?}"
            );
            assert_eq!(response.is_challenge(), response.code == 401, "{reason:?}");
            assert_eq!(
                response.clone().by_proxy().code,
                if response.code == 401 { 407 } else { response.code }
            );
            assert_eq!(response.kind == Kind::Busy, response.retry_after_s > 0, "{reason:?}");
            assert_eq!(response.why(), reason.why());
        }
    }
}
