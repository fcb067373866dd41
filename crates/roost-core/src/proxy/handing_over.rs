//! Which shard a request belongs to, where it is not this one.

use roost_sip::User;

use crate::contract::command::Mark;
use crate::contract::context::Ctx;
use crate::message::request::Request;
use crate::proxy::authorize::needs_authorization;

/// Hands a request to the shard that its key names; whether it has gone.
pub(crate) fn pass_to_owner(ctx: &mut Ctx<'_>, request: &Request<'_>, mark: Mark) -> bool {
    let shard = ctx.identity.shard_of_user(request.shard_key());
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
    let owner = ctx.identity.shard_of_user(request.shard_key());
    let (shard, mark) = if caller == ctx.shard { (owner, Mark::Authorized) } else { (caller, Mark::None) };
    let goes = shard != ctx.shard;
    if goes {
        request.hand_over(ctx, shard, mark);
    }
    goes
}

/// Hands a dialog's request to the shard of its To: the contact's user need not be the extension's, whose bindings are
/// there. Whether it has gone.
pub(crate) fn pass_to_dialog(ctx: &mut Ctx<'_>, request: &Request<'_>, mark: Mark) -> bool {
    let shard = request.to().map_or(ctx.shard, |to| ctx.identity.shard_of_user(to.user));
    let goes = mark == Mark::None && request.to_tag().is_some() && shard != ctx.shard;
    if goes {
        request.hand_over(ctx, shard, Mark::InDialog);
    }
    goes
}
