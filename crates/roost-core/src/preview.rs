//! What a request that is only thought of can touch, and what is told of its course. The request goes through a copy of that,
//! which is thrown away: `Engine::preview`.
//!
//! The code that decides is the one that decides real requests; what it changes, counts and sends stays in the copy. Requests
//! inside dialogs are not previewed: their tokens name slots, and slots of the copy are others.

use roost_sip::HeaderName;

use crate::auth::authenticator::{Authenticator, Claimed, Digest};
use crate::base::aor::{UserHost, UserKey};
use crate::contract::command::Command;
use crate::contract::context::Ctx;
use crate::contract::outbox::Outbox;
use crate::contract::preview::Preview;
use crate::message::request::Request;
use crate::proxy::alias::{Extension, extension};
use crate::proxy::authorize::call_realm;
use crate::refusal::registrar_realm;

/// Whose bindings and calls a request is about: its registrant's, its caller's, its callee's.
pub(crate) fn aors_of(ctx: &mut Ctx<'_>, request: &Request<'_>) -> Vec<Vec<u8>> {
    let meant = extension(ctx, request);
    let meant = meant.as_ref().map(Extension::who);
    let written = |who: Option<UserHost<'_>>| {
        let mut aor = Vec::new();
        ctx.write_aor(who, &mut aor).ok().map(|()| aor)
    };
    [request.registrant(), request.caller(), request.callee(), meant]
        .into_iter()
        .filter_map(written)
        .collect()
}

/// Whose secrets it is about, and its credentials.
pub(crate) fn keys_of<'a>(
    ctx: &mut Ctx<'_>,
    auth: &Authenticator,
    request: &Request<'a>,
) -> (Vec<UserKey>, Option<Digest<'a>>) {
    let use_domain = ctx.identity.use_domain;
    let realms = [
        (HeaderName::Authorization, registrar_realm(ctx.policy, request).map(<[u8]>::to_vec)),
        (HeaderName::ProxyAuthorization, Some(call_realm(ctx.policy, request))),
    ];
    let digest = realms.iter().find_map(|(header, realm)| {
        let claimed = Claimed { who: None, is_checked: false, header: *header, realm: realm.as_deref()? };
        auth.read(ctx, request, &claimed).ok()
    });
    let meant = extension(ctx, request);
    let meant = meant.as_ref().map(Extension::who);
    let named = [request.registrant(), request.caller(), request.callee(), meant].into_iter().flatten();
    let keys = named.filter_map(|who| UserKey::new(&who.user.plain(), who.host, use_domain));
    (keys.chain(digest.iter().map(|digest| digest.key)).collect(), digest)
}

/// What was decided, and would be done.
pub(crate) fn preview_of(out: Outbox) -> Preview {
    let mut preview = Preview {
        sends: out.transmits.iter().map(|one| (one.flow, out.message(one).to_vec())).collect(),
        decisions: out.decisions.unwrap_or_default(),
        ..Preview::default()
    };
    for command in out.commands {
        match command {
            Command::Commit { .. } => preview.commits = true,
            Command::LoadRecord { .. } => {}
            Command::LoadCredentials { user, domain, .. } => preview.asks = Some((user, domain)),
            Command::ToShard(over) => preview.goes_on = Some((over.shard, over.mark)),
            Command::Resolve { name, .. } => preview.names.push(name),
            Command::Purge { .. } | Command::Tell { .. } | Command::KeepConnection { .. } => {}
            Command::AdminReply { .. } => {}
        }
    }
    preview
}
