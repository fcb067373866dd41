//! What any shard answers, because it needs no state.

use roost_sip::{HeaderName, Method, Scheme};

use crate::base::stats::Counter;
use crate::contract::context::Ctx;
use crate::contract::next_hops::NextHops;
use crate::contract::policy::Authorize;
use crate::contract::reason::Reason;
use crate::message::request::Request;
use crate::message::response::Response;
use crate::message::route::RouteReader;
use crate::proxy::callee::has_service;

/// Whether an OPTIONS of a dialog is meant for the other side: a dead call must look dead. Our own Route and the dialog's mark
/// say so; with `authorize = "off"` all are answered here, as in OpenSIPS's original script.
fn is_for_peer(ctx: &Ctx<'_>, request: &Request<'_>) -> bool {
    if ctx.policy.proxy.authorize == Authorize::Off || request.head.line(HeaderName::Route).is_none() {
        return false;
    }
    let reader = RouteReader::of(ctx, request);
    let routes = reader.read();
    routes.is_authentic && !reader.is_at_end(&routes)
}

/// The answer; `None` when the request goes on.
pub(crate) fn stateless_answer(
    ctx: &mut Ctx<'_>,
    next_hops: &NextHops,
    request: &Request<'_>,
) -> Option<Response> {
    if let Err(reason) = request.check() {
        ctx.count(Counter::ErrRequests);
        if request.target.is_err() {
            ctx.count(Counter::BadUrisRcvd);
        }
        return Some(reason.into());
    }
    let is_in_dialog = request.to_tag().is_some();
    let reason = match request.method {
        _ if !is_in_dialog && request.target.as_ref().is_ok_and(|uri| uri.scheme == Scheme::Other) => {
            Reason::UriScheme
        }
        _ if request.is_too_many_hops() => Reason::TooManyHops,
        Method::Options if is_in_dialog && is_for_peer(ctx, request) => return None,
        Method::Options if request.unsupported(false).next().is_some() => Reason::BadExtension,
        Method::Options => return Some(Response::ok("OK")),
        Method::Register if is_in_dialog => Reason::RegisterInDialog,
        Method::Register | Method::Cancel => return None,
        _ if !is_in_dialog && request.is_sips() && !request.flow.transport.is_secure() => {
            Reason::SipsInsecure
        }
        Method::Publish | Method::Subscribe if !is_in_dialog && !has_service(next_hops, request) => {
            Reason::MethodNotAllowed
        }
        _ => return None,
    };
    Some(reason.into())
}
