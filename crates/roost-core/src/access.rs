//! Who may do what a request asks for: authentication, with the bans that are looked at between its steps.

use crate::admission::Admission;
use crate::auth::authenticator::{Authenticator, CacheAge, Checked, Claimed, Digest};
use crate::base::aor::UserKey;
use crate::base::stats::Counter;
use crate::continuation::Continuation;
use crate::contract::ban::Home;
use crate::contract::context::Ctx;
use crate::contract::reason::Reason;
use crate::dispatch::monitor::HopMonitor;
use crate::message::request::Request;
use crate::parking::{Message, Parking, Topic};
use crate::registrar::Registrar;

/// What authentication needs: secrets and bans, and facts of bindings and hops.
#[derive(Debug)]
pub(crate) struct Access<'e> {
    pub(crate) auth: &'e mut Authenticator,
    pub(crate) admission: &'e mut Admission,
    pub(crate) registrar: &'e Registrar,
    pub(crate) hops: &'e HopMonitor,
}

/// What authentication says of a request.
#[derive(Debug)]
pub(crate) enum Verdict {
    Granted,
    Refused(Reason),
    /// Ask the database about this user first.
    Load(UserKey),
}

impl Access<'_> {
    /// Checks the credentials of a request against whom it claims to be.
    pub(crate) fn authenticate(
        &mut self,
        ctx: &mut Ctx<'_>,
        request: &Request<'_>,
        claimed: &Claimed<'_>,
        age: CacheAge,
    ) -> Verdict {
        let digest = match self.auth.read(ctx, request, claimed) {
            Ok(digest) => digest,
            Err(reason) => {
                if matches!(reason, Reason::UnknownUser | Reason::UnknownUserHidden) {
                    ctx.count(Counter::AuthFailures);
                }
                return Verdict::Refused(reason);
            }
        };
        if let Some(reason) = self.banned(ctx, request, claimed, &digest) {
            ctx.count(Counter::Banned);
            return Verdict::Refused(reason);
        }
        match self.auth.check(ctx, request, &digest, age) {
            Checked::Load => {
                ctx.decide("auth_db.cache_ttl", || {
                    format!("the database is asked about {}", String::from_utf8_lossy(digest.key.text()))
                });
                Verdict::Load(digest.key)
            }
            Checked::Unknown => {
                self.failed(ctx, request, &digest, false);
                Verdict::Refused(self.auth.unknown_user(ctx, request, &digest))
            }
            Checked::Wrong => {
                self.failed(ctx, request, &digest, true);
                Verdict::Refused(Reason::WrongPassword)
            }
            Checked::Right => match self.auth.note_use(ctx, request, &digest, claimed) {
                Ok(()) => {
                    ctx.decide("", || {
                        format!("the credentials of {} are right", String::from_utf8_lossy(digest.key.text()))
                    });
                    Verdict::Granted
                }
                Err(reason) => Verdict::Refused(reason),
            },
        }
    }

    fn banned(
        &self,
        ctx: &mut Ctx<'_>,
        request: &Request<'_>,
        claimed: &Claimed<'_>,
        digest: &Digest<'_>,
    ) -> Option<Reason> {
        let source = request.flow.remote.ip();
        let banned = self.admission.banned(ctx, source, &digest.key)?;
        if self.hops.is_trusted(ctx.policy, source) {
            ctx.decide("proxy.trusted", || format!("the ban is passed over: {source} is trusted"));
            return None;
        }
        let home = match claimed.who {
            Some(who) => self.registrar.home_of(ctx, &request.flow, who),
            None => Home::default(),
        };
        if banned.spares(home) {
            ctx.decide("auth.ban_failures", || {
                "the ban is passed over: the phone is registered, and this comes from where it is".to_string()
            });
            return None;
        }
        Some(banned.reason())
    }

    fn failed(&mut self, ctx: &mut Ctx<'_>, request: &Request<'_>, digest: &Digest<'_>, is_known: bool) {
        let source = request.flow.remote.ip();
        let is_trusted = self.hops.is_trusted(ctx.policy, source);
        self.admission.failed(ctx, source, &digest.key, is_known, is_trusted);
    }
}

/// A request waits until the database has answered; one question per user is under way at a time.
///
/// # Errors
/// The limit that is reached.
pub(crate) fn wait_for_credentials(
    ctx: &mut Ctx<'_>,
    auth: &mut Authenticator,
    parking: &mut Parking<Continuation>,
    request: &Request<'_>,
    key: UserKey,
    then: Continuation,
) -> Result<(), Reason> {
    let message = message_of(ctx, request);
    let ticket = match auth.load_under_way(&key) {
        Some(ticket) => ticket,
        None => {
            auth.check_may_load(ctx, &key)?;
            parking.check_room(ctx, message.bytes.len())?;
            auth.load(ctx, key)
        }
    };
    parking.wait(ctx, Topic::Credentials(ticket), message, then)
}

/// A request as it waits; what a retransmission of it shares is its MAC and where it comes from.
pub(crate) fn message_of<'a>(ctx: &Ctx<'_>, request: &Request<'a>) -> Message<'a> {
    use std::hash::BuildHasher;
    let identity = ctx.hasher.hash_one((request.mac(&ctx.identity.mac_key), request.flow.remote));
    Message { flow: request.flow, bytes: request.bytes, since_ms: request.since_ms, identity }
}
