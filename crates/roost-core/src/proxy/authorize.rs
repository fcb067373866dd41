//! Who may call (`proxy.authorize`).

use std::hash::BuildHasher;

use roost_sip::{HeaderName, User};

use crate::access::{Access, Verdict, wait_for_credentials};
use crate::auth::authenticator::{CacheAge, Claimed};
use crate::base::aor::UserHost;
use crate::continuation::Continuation;
use crate::contract::binding_ref::BindingRef;
use crate::contract::context::Ctx;
use crate::contract::mark::Mark;
use crate::contract::policy::{Authorize, Policy};
use crate::contract::reason::Reason;
use crate::message::request::Request;
use crate::message::response::Response;
use crate::message::server_key::server_key;
use crate::parking::Parking;
use crate::proxy::admitted::Admitted;
use crate::refusal::Refusal;

/// Whether a request's sender is asked who it is.
pub(crate) fn needs_authorization(policy: &Policy, is_trusted: bool) -> bool {
    policy.proxy.authorize != Authorize::Off && !is_trusted
}

/// What becomes of a caller.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Call {
    /// He may call, from this binding where he has one.
    Admitted(Option<BindingRef>),
    /// The request has gone to another shard, or waits for the database.
    Elsewhere,
}

/// Whether the caller may call.
///
/// # Errors
/// The refusal, a challenge in most cases.
pub(crate) fn authorize_call(
    ctx: &mut Ctx<'_>,
    access: &mut Access<'_>,
    parking: &mut Parking<Continuation>,
    admitted: &mut Admitted,
    request: &Request<'_>,
    (age, is_full): (CacheAge, bool),
) -> Result<Call, Refusal> {
    if !needs_authorization(ctx.policy, access.hops.is_trusted(ctx.policy, request.flow.remote.ip())) {
        decide_unasked(ctx, request);
        return Ok(Call::Admitted(None));
    }
    let from = request.caller();
    let shard = ctx.identity.shard_of_user(from.map_or(User::NONE, |from| from.user));
    if shard != ctx.shard {
        request.hand_over(ctx, shard, Mark::None);
        return Ok(Call::Elsewhere);
    }
    let binding = from.and_then(|from| access.registrar.binding_from(ctx, from, &request.flow));
    let repeated = repeated_hash(ctx, request);
    if admitted.contains(repeated, ctx.now.mono_ms) {
        return Ok(Call::Admitted(binding));
    }
    let may_call = if is_full { Err(Refusal::from(Reason::CallerHasEnough)) } else { Ok(()) };
    if ctx.policy.proxy.authorize == Authorize::Registered && binding.is_some() {
        may_call?;
        admitted.note(repeated, ctx.now.mono_ms);
        return Ok(Call::Admitted(binding));
    }
    let realm = call_realm(ctx.policy, request);
    if realm.is_empty() {
        return Err(Reason::NoRealm.into());
    }
    let claimed = Claimed {
        who: from,
        is_checked: ctx.policy.proxy.check_from && !from.is_none_or(|from| is_anonymous(&from)),
        header: HeaderName::ProxyAuthorization,
        realm: &realm,
    };
    match access.authenticate(ctx, request, &claimed, age) {
        Verdict::Granted => {
            may_call?;
            admitted.note(repeated, ctx.now.mono_ms);
            Ok(Call::Admitted(binding))
        }
        Verdict::Refused(reason) => {
            Err(Refusal { realm: Some(realm), ..Response::from(reason).by_proxy().into() })
        }
        Verdict::Load(_) if age == CacheAge::Any => Err(Reason::CredentialsNotLoaded.into()),
        Verdict::Load(key) => {
            let then = Continuation::Initial { mark: Mark::None, age: CacheAge::Fresh, hash: 0 };
            wait_for_credentials(ctx, access.auth, parking, request, key, then)?;
            Ok(Call::Elsewhere)
        }
    }
}

fn decide_unasked(ctx: &mut Ctx<'_>, request: &Request<'_>) {
    let source = request.flow.remote.ip();
    match ctx.policy.proxy.authorize {
        Authorize::Off => ctx.decide("proxy.authorize", || "nobody is asked for a password".to_string()),
        _ => ctx.decide("proxy.trusted", || {
            format!("{source} is trusted, or a next hop's: no password is asked for")
        }),
    }
}

/// The realm that a caller is challenged with, and whose credentials go no further.
pub(crate) fn call_realm(policy: &Policy, request: &Request<'_>) -> Vec<u8> {
    if !policy.auth.realm.is_empty() {
        return policy.auth.realm.clone().into_bytes();
    }
    match request.caller() {
        Some(caller) if !is_anonymous(&caller) => caller.host.to_vec(),
        _ => request.called_host().to_vec(),
    }
}

/// What a retransmission repeats, with its sender's address.
fn repeated_hash(ctx: &mut Ctx<'_>, request: &Request<'_>) -> u64 {
    let mut key = ctx.buffers.take_text();
    server_key(request, request.method_name, &mut key);
    let to = request.value(HeaderName::To);
    let hash = ctx.hasher.hash_one((&key[..], request.flow.remote, request.uri, to));
    ctx.buffers.give_text(key);
    hash
}

fn is_anonymous(from: &UserHost<'_>) -> bool {
    from.host.eq_ignore_ascii_case(b"anonymous.invalid") || from.user.text.eq_ignore_ascii_case(b"anonymous")
}
