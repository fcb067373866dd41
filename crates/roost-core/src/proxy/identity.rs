//! Who a request says that its sender is, beside From (RFC 3325; `proxy.asserted_identity`): what phones claim reaches nobody,
//! what trusted hops say does, and to them roost vouches for its own callers where it is told to.

use roost_sip::{Credentials, Head, HeaderName, Method, joined_credentials};

use crate::base::flow::Flow;
use crate::contract::policy::{AssertedIdentity, Authorize, Policy};
use crate::dispatch::monitor::HopMonitor;
use crate::message::forward::{IdentityEdit, has_identity};
use crate::message::request::Request;

/// What becomes of a request's identity headers on its way to this flow.
pub(crate) fn identity_of_request<'r>(
    policy: &Policy,
    hops: &HopMonitor,
    request: &Request<'r>,
    flow: &Flow,
) -> IdentityEdit<'r> {
    let mode = mode(policy);
    let is_set = mode == AssertedIdentity::Set && request.method != Method::Ack;
    if mode == AssertedIdentity::Off || !(is_set || has_identity(request.head)) {
        return IdentityEdit::Keep;
    }
    let is_trusted = |flow: &Flow| hops.is_trusted(policy, flow.remote.ip());
    match (is_trusted(&request.flow), is_trusted(flow)) {
        (true, true) => IdentityEdit::Keep,
        (true, false) if wants_privacy(request.head, request.bytes) => IdentityEdit::Strip,
        (true, false) => IdentityEdit::Keep,
        (false, true) if is_set => own_identity(request).unwrap_or(IdentityEdit::Strip),
        (false, _) => IdentityEdit::Strip,
    }
}

/// Whether a response with such headers that came over this flow loses its identity headers on its way to the other.
pub(crate) fn strips_response(
    policy: &Policy,
    hops: &HopMonitor,
    head: &Head,
    bytes: &[u8],
    (from, to): (&Flow, &Flow),
) -> bool {
    if mode(policy) == AssertedIdentity::Off {
        return false;
    }
    let is_trusted = |flow: &Flow| hops.is_trusted(policy, flow.remote.ip());
    !is_trusted(from) || (!is_trusted(to) && wants_privacy(head, bytes))
}

fn mode(policy: &Policy) -> AssertedIdentity {
    match policy.proxy.authorize {
        Authorize::Off => AssertedIdentity::Off,
        _ => policy.proxy.asserted_identity,
    }
}

/// The caller as it has proved itself: the digest's user, else From's, at From's host.
fn own_identity<'r>(request: &Request<'r>) -> Option<IdentityEdit<'r>> {
    let from = request.from()?;
    let proved = request
        .head
        .values(request.bytes, HeaderName::ProxyAuthorization)
        .find_map(|value| joined_credentials(value).find_map(|one| Credentials::parse(one).ok()?.username));
    let is_anonymous = from.host.eq_ignore_ascii_case(b"anonymous.invalid");
    let host = if is_anonymous { request.called_host() } else { from.host };
    let user = match proved {
        Some(user) => user,
        None if is_anonymous => return None,
        None => from.user.text,
    };
    // What cannot stand in a URI as it is proves nothing.
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/%@".contains(byte);
    let is_good = !user.is_empty() && !host.is_empty() && user.iter().all(is_plain);
    let user = user.split(|byte| *byte == b'@').next().unwrap_or(user);
    let display = if is_anonymous { &[][..] } else { request.from_addr?.display };
    is_good.then_some(IdentityEdit::Set { display, user, host })
}

/// Whether its sender wants nobody but servers to know who it is (`Privacy: id`, RFC 3325 section 7).
fn wants_privacy(head: &Head, bytes: &[u8]) -> bool {
    let is_id = |value: &[u8]| {
        let mut parts = value.split(|byte| matches!(byte, b';' | b','));
        parts.any(|part| part.trim_ascii().eq_ignore_ascii_case(b"id"))
    };
    head.others(bytes, b"privacy").any(is_id)
}
