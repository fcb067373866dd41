//! Whom an engine does not hear: floods, scanners, guessers.

use roost_sip::{Head, HeaderName};

use crate::admission::bans::{Banned, responsible};
use crate::auth::authenticator::{Claimed, UserKey};
use crate::base::flow::{Flow, Now};
use crate::base::stats::Counter;
use crate::contract::outbox::{Command, News, Outbox};
use crate::engine::Engine;
use crate::message::request::{Request, To};
use crate::registrar::binding::Binding;

impl Engine {
    /// Whether a request is dropped before it is looked at: its address sends too much, an operator has banned it, or it is
    /// a scanner's.
    pub(crate) fn is_unwelcome(&mut self, flow: &Flow, bytes: &[u8], head: &Head, now: Now) -> bool {
        let source = flow.remote.ip();
        if self.guard.manual > 0 && self.guard.is_shut_out(responsible(source), now) {
            self.stats.count(Counter::Banned);
            return true;
        }
        if !self.config.pike.drop_user_agents.is_empty()
            && let Some(agent) = head.value(bytes, HeaderName::UserAgent)
            && self.config.pike.drop_user_agents.iter().any(|scanner| begins_so(agent, scanner.as_bytes()))
        {
            self.stats.count(Counter::ScannersDropped);
            return true;
        }
        if self.pike.is_some() && !self.is_trusted(source) {
            let source = responsible(source);
            if self.pike.as_mut().is_some_and(|pike| !pike.takes(source, now.mono_ms)) {
                self.stats.count(Counter::PikeDropped);
                return true;
            }
        }
        false
    }

    /// Why nothing is believed of this request, if it is so. A registered phone is always heard: from its own port, and by
    /// its neighbours' fault from its address.
    pub(crate) fn banned(
        &mut self,
        request: &Request<'_>,
        key: &UserKey,
        claimed: Claimed<'_>,
        now: Now,
    ) -> Option<Banned> {
        let source = request.flow.remote.ip();
        let banned = self.guard.banned(responsible(source), key, now)?;
        if self.is_trusted(source) {
            return None;
        }
        let at_home = claimed.identity.map(|user| self.is_at_home(request, user, now));
        let (is_its_port, is_its_address) = at_home.unwrap_or((false, false));
        match banned {
            Banned::Pair if is_its_port => None,
            Banned::Source | Banned::User if is_its_address => None,
            banned => Some(banned),
        }
    }

    /// Counts a wrong name or password, and bans whom that is too much of.
    pub(crate) fn note_guess(
        &mut self,
        request: &Request<'_>,
        key: &UserKey,
        is_known: bool,
        now: Now,
        out: &mut Outbox,
    ) {
        self.stats.count(Counter::AuthFailures);
        let source = request.flow.remote.ip();
        if self.is_trusted(source) {
            return;
        }
        let shards = self.config.shards;
        let bans = self.guard.failed(responsible(source), key, is_known, (&self.config.auth, shards), now);
        for ban in bans {
            self.stats.count(Counter::Bans);
            let user = String::from_utf8_lossy(&ban.user);
            match ban.source {
                Some(source) if ban.user.is_empty() => {
                    tracing::warn!(%source, seconds = ban.left_s, "banned: too many wrong names and passwords");
                    // Whatever shard its next name belongs to.
                    if shards > 1 {
                        out.commands.push(Command::Tell { shard: None, news: News::Banned(ban) });
                    }
                }
                Some(source) => {
                    tracing::warn!(%user, %source, seconds = ban.left_s, "banned: too many wrong passwords");
                }
                None => {
                    tracing::warn!(
                        %user,
                        seconds = ban.left_s,
                        "banned from everywhere but where it is registered: too many wrong passwords"
                    );
                }
            }
        }
    }

    /// Whether a user is registered from where a request comes from: from its very port, and from its address.
    fn is_at_home(&mut self, request: &Request<'_>, user: To<'_>, now: Now) -> (bool, bool) {
        let Some(record) = self.record_of(user).and_then(|id| self.location.get(id)) else {
            return (false, false);
        };
        let ip = responsible(request.flow.remote.ip());
        // What comes from a proxy that wrote a Path may come from anybody behind it.
        let own = || record.live(now).filter(|binding| binding.path().is_empty());
        let is_same = |binding: &Binding| binding.source_ip().map(responsible) == Some(ip);
        (own().any(|binding| binding.is_from(&request.flow)), own().any(is_same))
    }
}

/// Whether a text begins with a word in lower case, whatever the text's case. Most do not by their first letter.
fn begins_so(text: &[u8], word: &[u8]) -> bool {
    let has_letter =
        matches!((text.first(), word.first()), (Some(one), Some(other)) if one | 0x20 == other | 0x20);
    has_letter && text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}
