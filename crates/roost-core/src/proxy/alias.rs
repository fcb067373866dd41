//! A number that stands for an extension: a call for it becomes a call for the extension before anything else is decided.

use roost_sip::{Method, User};

use crate::base::aor::UserHost;
use crate::base::flow::ShardId;
use crate::contract::aliases::Meant;
use crate::contract::context::Ctx;
use crate::message::request::Request;

/// A user and a host that stand in no message.
pub(crate) struct Extension {
    user: Box<[u8]>,
    host: Box<[u8]>,
}

impl Extension {
    pub(crate) fn who(&self) -> UserHost<'_> {
        UserHost { user: User { text: &self.user, is_number: false }, host: &self.host }
    }
}

/// Whom the Request-URI stands for, where it is an alias.
fn meant<'c>(ctx: &mut Ctx<'c>, request: &Request<'_>) -> Option<&'c Meant> {
    let policy = ctx.policy;
    if policy.aliases.is_empty() || request.method == Method::Register {
        return None;
    }
    let callee = request.callee()?;
    let mut aor = ctx.buffers.take_text();
    let written = ctx.write_aor(Some(callee), &mut aor);
    let found = written.ok().and_then(|()| policy.aliases.get(&aor));
    ctx.buffers.give_text(aor);
    found
}

/// The extension that is called, where an alias of it stands in the Request-URI.
pub(crate) fn extension(ctx: &mut Ctx<'_>, request: &Request<'_>) -> Option<Extension> {
    let meant = meant(ctx, request)?;
    let host = request.callee().map_or(&[][..], |callee| callee.host);
    let host = meant.domain.as_deref().map_or(host, str::as_bytes);
    Some(Extension { user: meant.user.as_bytes().into(), host: host.into() })
}

/// The shard that a request belongs to: that of the extension, where its Request-URI is an alias.
pub(crate) fn owner(ctx: &mut Ctx<'_>, request: &Request<'_>) -> ShardId {
    match meant(ctx, request).filter(|_| request.route_to_binding().is_none()) {
        Some(meant) => ctx.identity.shard_of_user(User { text: meant.user.as_bytes(), is_number: false }),
        None => ctx.identity.shard_of_user(request.shard_key()),
    }
}

/// The request with the extension in its Request-URI; `None` where that is no alias.
pub(crate) fn dealiased(ctx: &mut Ctx<'_>, request: &Request<'_>) -> Option<Vec<u8>> {
    let meant = meant(ctx, request)?;
    let uri = request.target.ok()?;
    let UserHost { host, .. } = request.callee()?;
    ctx.decide("alias", || {
        format!("{} is an alias of {}", String::from_utf8_lossy(uri.user_part().text), meant.user)
    });
    let mut bytes = Vec::with_capacity(request.bytes.len() + meant.user.len());
    bytes.extend_from_slice(request.method_name);
    bytes.extend_from_slice(if request.is_sips() { b" sips:" } else { b" sip:" });
    bytes.extend_from_slice(meant.user.as_bytes());
    bytes.push(b'@');
    // Of a telephone number's URI nothing else is left.
    let behind = uri.text.iter().position(|byte| *byte == b'@').and_then(|at| uri.text.get(at + 1..));
    match (meant.domain.as_deref(), behind) {
        (Some(domain), _) => bytes.extend_from_slice(domain.as_bytes()),
        (None, Some(behind)) => bytes.extend_from_slice(behind),
        (None, None) => bytes.extend_from_slice(host),
    }
    let rest = request.method_name.len() + 1 + request.uri.len();
    bytes.extend_from_slice(request.bytes.get(rest..)?);
    Some(bytes)
}
