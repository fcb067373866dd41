//! Which shard a request belongs to, where it is not this one.

use roost_sip::{Uri, User};

use crate::base::aor::UserHost;
use crate::contract::context::Ctx;
use crate::contract::mark::Mark;
use crate::message::dialog_token::Side;
use crate::message::request::Request;
use crate::message::route::{RouteReader, Routes};
use crate::proxy::alias::owner;
use crate::proxy::authorize::needs_authorization;
use crate::registrar::Registrar;

/// Hands a request to the shard that its key names; whether it has gone.
pub(crate) fn pass_to_owner(ctx: &mut Ctx<'_>, request: &Request<'_>, mark: Mark) -> bool {
    let shard = owner(ctx, request);
    let goes = mark == Mark::None && shard != ctx.shard;
    if goes {
        request.hand_over(ctx, shard, Mark::None);
    }
    goes
}

/// Hands a CANCEL over along the way that its INVITE took, so that it cannot overtake it; whether it has gone.
pub(crate) fn pass_cancel(ctx: &mut Ctx<'_>, request: &Request<'_>, mark: Mark, is_trusted: bool) -> bool {
    let is_authorized_first = request.to_tag().is_none() && needs_authorization(ctx.policy, is_trusted);
    if mark != Mark::None || !is_authorized_first {
        return pass_to_owner(ctx, request, mark);
    }
    let caller = ctx.identity.shard_of_user(request.from().map_or(User::NONE, |from| from.user));
    let owner = owner(ctx, request);
    let (shard, mark) =
        if caller == ctx.shard { (owner, Mark::Authorized(None)) } else { (caller, Mark::None) };
    let goes = shard != ctx.shard;
    if goes {
        request.hand_over(ctx, shard, mark);
    }
    goes
}

/// Hands a dialog's request to the shard of the binding that it goes to, or else of the AOR that its target is, or else of its
/// To: the contact's user need not be the extension's, whose bindings are there. Whether it has gone.
pub(crate) fn pass_to_dialog(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    routes: &Routes<'_>,
    mark: Mark,
) -> bool {
    if mark != Mark::None || request.to_tag().is_none() {
        return false;
    }
    let of_aor = || {
        let target = Uri::parse(routes.target.unwrap_or(request.uri)).ok();
        let target = target.filter(|uri| routes.is_authentic && uri.user.is_some());
        let aor = target.filter(|uri| RouteReader::of(ctx, request).is_own(uri));
        aor.map(|uri| ctx.identity.shard_of_user(UserHost::of(&uri).user))
    };
    let of_to = || request.to().map_or(ctx.shard, |to| ctx.identity.shard_of_user(to.user));
    let shard = match routes.token.map(|token| token.destination(request)) {
        Some(Side::Binding { epoch, binding })
            if epoch == ctx.identity.epoch && binding.shard.0 < ctx.identity.shards.max(1) =>
        {
            binding.shard
        }
        _ => of_aor().unwrap_or_else(of_to),
    };
    let goes = shard != ctx.shard;
    if goes {
        request.hand_over(ctx, shard, Mark::InDialog);
    }
    goes
}

/// Hands the CANCEL or ACK of a request that was for a phone's own Contact to the shard of that phone; whether it has gone. Both
/// repeat the request's Route (RFC 3261 9.1, 17.1.1.3), which has no mark of a dialog.
pub(crate) fn pass_to_contact(
    ctx: &mut Ctx<'_>,
    registrar: &Registrar,
    request: &Request<'_>,
    routes: &Routes<'_>,
    mark: Mark,
) -> bool {
    if matches!(mark, Mark::ToContact(..) | Mark::InDialog) || routes.mark.is_some() {
        return false;
    }
    let Some(place) = registrar.place_of_contact(request).filter(|place| place.shard != ctx.shard) else {
        return false;
    };
    request.hand_over(ctx, place.shard, Mark::ToContact(None, place));
    true
}
