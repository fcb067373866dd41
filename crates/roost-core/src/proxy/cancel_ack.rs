//! CANCEL and ACK: they belong to an INVITE (RFC 3261 9.2, 16.10, 17.2.1).

use std::borrow::Cow;

use roost_sip::HeaderName;

use crate::base::limits;
use crate::base::stats::Counter;
use crate::contract::context::Ctx;
use crate::contract::dropped::Dropped;
use crate::contract::mark::Mark;
use crate::message::request::{Request, joined};
use crate::message::response::Response;
use crate::message::route::RouteReader;
use crate::proxy::dialog::handle_in_dialog;
use crate::proxy::forwarder::Forwarder;
use crate::proxy::handing_over::{pass_to_contact, pass_to_dialog};
use crate::refusal::refuse;
use crate::registrar::Registrar;
use crate::transaction::client::ORIGINATOR_CANCEL;

/// A CANCEL: 200 at once, and the ringing ends; one that belongs to nothing, or comes from elsewhere, is dropped.
pub(crate) fn handle_cancel(
    ctx: &mut Ctx<'_>,
    registrar: &mut Registrar,
    forwarder: &mut Forwarder<'_>,
    request: &Request<'_>,
    mark: Mark,
) {
    let source = request.flow.remote.ip();
    let is_callers = |(asked, _): (crate::base::flow::Flow, roost_sip::Method)| asked.remote.ip() == source;
    let found = forwarder.transactions.find(ctx, request);
    let found = found.filter(|ticket| forwarder.transactions.asked(*ticket).is_some_and(is_callers));
    let Some(ticket) = found else {
        let routes = RouteReader::of(ctx, request).read();
        if !pass_to_dialog(ctx, request, &routes, mark)
            && !pass_to_contact(ctx, registrar, request, &routes, mark)
        {
            ctx.drop_message(Dropped::StrayRequest);
        }
        return;
    };
    refuse(ctx, registrar, request, &Response::ok("canceling").into());
    if !forwarder.transactions.is_open(ticket) {
        return;
    }
    if let Some(context) = forwarder.context(ticket) {
        context.cancel();
    }
    forwarder.cancel_branches(ctx, ticket, None, &reason_of(request));
}

/// What the caller said of why, for the CANCELs that take its place (RFC 3326 section 2).
fn reason_of<'a>(request: &Request<'a>) -> Cow<'a, [u8]> {
    let reason = joined(request, HeaderName::Reason);
    match reason.is_empty() || reason.len() > limits::MAX_REASON {
        true => Cow::Borrowed(ORIGINATOR_CANCEL),
        false => reason,
    }
}

/// An ACK: of a failure of ours it ends here; of a 2xx it follows its Route; any other is dropped.
pub(crate) fn handle_ack(
    ctx: &mut Ctx<'_>,
    registrar: &mut Registrar,
    forwarder: &mut Forwarder<'_>,
    request: &Request<'_>,
    mark: Mark,
) {
    ctx.count(Counter::ReceivedAcks);
    if request.has_bad_via {
        return ctx.drop_message(Dropped::StrayRequest);
    }
    if let Some(ticket) = forwarder.transactions.find(ctx, request)
        && !forwarder.transactions.acknowledge(ctx, ticket)
    {
        return;
    }
    if ctx.identity.shards > 1 {
        let routes = RouteReader::of(ctx, request).read();
        if pass_to_contact(ctx, registrar, request, &routes, mark)
            || pass_to_dialog(ctx, request, &routes, mark)
        {
            return;
        }
    }
    let is_sound = request.check().is_ok() && !request.is_too_many_hops();
    if !is_sound || request.to_tag().is_none() || request.head.line(HeaderName::Route).is_none() {
        return ctx.drop_message(Dropped::StrayRequest);
    }
    // An ACK is never refused.
    let _ = handle_in_dialog(ctx, registrar, forwarder, request, mark);
}
