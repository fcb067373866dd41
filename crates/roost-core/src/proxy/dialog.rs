//! A request inside a dialog (with a To tag): it follows its Route (RFC 3261 16.4, 16.12).

use std::borrow::Cow;

use roost_sip::{Method, Uri};

use crate::access::message_of;
use crate::base::flow::{Flow, Ticket};
use crate::base::stats::Counter;
use crate::continuation::Continuation;
use crate::contract::command::{Command, Mark};
use crate::contract::context::Ctx;
use crate::contract::listener::is_local;
use crate::contract::next_hops::Address;
use crate::contract::policy::Authorize;
use crate::contract::reason::Reason;
use crate::message::branch_id::BranchId;
use crate::message::request::Request;
use crate::message::route::{Routes, dialog_mark};
use crate::parking::Topic;
use crate::proxy::callee::{is_trusted, next_hop_of};
use crate::proxy::edits::{ForwardWriter, RouteEdits};
use crate::proxy::forwarder::{Forwarder, Owner};
use crate::proxy::handing_over::pass_to_dialog;
use crate::proxy::initial::not_loaded;
use crate::proxy::response_context::ResponseContext;
use crate::proxy::target::{NextHop, Target};
use crate::refusal::Refusal;
use crate::registrar::Registrar;
use crate::registrar::binding::Binding;
use crate::transaction::routing_hash;

/// Handles a request inside a dialog, an ACK of a 2xx among them.
///
/// # Errors
/// The refusal. There is none of an ACK: nobody expects an answer.
pub(crate) fn handle_in_dialog(
    ctx: &mut Ctx<'_>,
    registrar: &Registrar,
    forwarder: &mut Forwarder<'_>,
    request: &Request<'_>,
    mark: Mark,
) -> Result<(), Refusal> {
    let done = handle(ctx, registrar, forwarder, request, mark);
    if request.method == Method::Ack {
        if done.is_err() {
            ctx.count(Counter::DropRequests);
        }
        return Ok(());
    }
    Ok(done?)
}

fn handle(
    ctx: &mut Ctx<'_>,
    registrar: &Registrar,
    forwarder: &mut Forwarder<'_>,
    request: &Request<'_>,
    mark: Mark,
) -> Result<(), Reason> {
    if pass_to_dialog(ctx, request, mark) {
        return Ok(());
    }
    let is_ack = request.method == Method::Ack;
    if !is_ack && let Some(ticket) = forwarder.transactions.find(ctx, request) {
        forwarder.transactions.absorb(ctx, ticket);
        return Ok(());
    }
    if !is_ack && request.required_of_proxy().next().is_some() {
        return Err(Reason::BadExtension);
    }
    let mark_of_dialog = dialog_mark(&ctx.identity.mac_key, request);
    let routes = Routes::of(request, ctx.policy, &mark_of_dialog);
    if routes.is_authentic
        && let Some(to) = request.to()
        && let Some(hash) = not_loaded(ctx, registrar, to)
    {
        let message = message_of(ctx, request);
        return forwarder.parking.wait(ctx, Topic::Rows, message, Continuation::InDialog { mark, hash });
    }
    let (target, edits) = dialog_target(ctx, registrar, forwarder, request, &routes)?;
    if is_ack {
        match target.next_hop {
            NextHop::Flow(flow) => forward_ack(ctx, request, &target, flow, &edits),
            NextHop::Name(..) => resolve_ack(ctx, forwarder, request, target),
        }
        return Ok(());
    }
    let owner = Owner::Forward(ResponseContext::default());
    let ticket = forwarder.transactions.open(ctx, request, owner)?;
    forwarder.try_target(ctx, request, ticket, target, Vec::new(), &edits);
    Ok(())
}

/// An ACK of a 2xx has no transaction (RFC 3261 16.11).
fn forward_ack(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    target: &Target<Cow<'_, [u8]>>,
    flow: Flow,
    edits: &RouteEdits<'_>,
) {
    let routing = routing_hash(ctx, request);
    let branch = BranchId {
        shard: ctx.shard,
        transaction: Ticket(u64::MAX),
        index: 0,
        secret: routing.into(),
        routing,
    };
    ctx.count(Counter::FwdRequests);
    let writer = ForwardWriter { identity: ctx.identity, policy: ctx.policy, request, edits };
    ctx.out.send(flow, |bytes| writer.write((&target.uri, &target.path), &flow, branch, bytes));
}

/// An ACK whose next hop is a name waits for it like a branch.
fn resolve_ack(
    ctx: &mut Ctx<'_>,
    forwarder: &mut Forwarder<'_>,
    request: &Request<'_>,
    target: Target<Cow<'_, [u8]>>,
) {
    let NextHop::Name(_, name) = &target.next_hop else { return };
    if !forwarder.parking.has_room_for_name(ctx) {
        return;
    }
    let name = (**name).clone();
    let then = Continuation::ForwardAck(Box::new(target.into_owned()));
    let ticket = forwarder.parking.wait_for_name(ctx, Some((request.flow, request.bytes)), then);
    ctx.out.commands.push(Command::Resolve { ticket, name });
}

/// The name that an ACK waits for leads to these addresses.
pub(crate) fn ack_resolved(
    ctx: &mut Ctx<'_>,
    forwarder: &Forwarder<'_>,
    request: &Request<'_>,
    target: &Target<Box<[u8]>>,
    addresses: &[Address],
) {
    match forwarder.flows_of(ctx, &target.next_hop, addresses).into_iter().next() {
        Some(flow) => {
            let edits = RouteEdits::read(ctx, request);
            forward_ack(ctx, request, &target.borrowed(), flow, &edits);
        }
        None => ctx.count(Counter::DropRequests),
    }
}

/// The next hop of a request, and what becomes of its Routes.
type Next<'t, 'r> = (Target<Cow<'t, [u8]>>, RouteEdits<'r>);

/// Where a request inside a dialog goes.
fn dialog_target<'t, 'r: 't>(
    ctx: &mut Ctx<'_>,
    registrar: &'t Registrar,
    forwarder: &Forwarder<'_>,
    request: &Request<'r>,
    routes: &Routes<'r>,
) -> Result<Next<'t, 'r>, Reason> {
    if routes.is_malformed {
        return Err(Reason::MalformedRoute);
    }
    let listeners = &ctx.policy.listeners;
    // With two own Routes the second names the interface that the other side is on.
    let own_last = routes.own_last.filter(|local| is_local(listeners, *local));
    let local = own_last.unwrap_or(request.flow.local);
    let is_open = ctx.policy.proxy.authorize == Authorize::Off;
    if routes.own == 0 && !routes.from_strict && (routes.next.is_none() || !is_open) {
        return Err(match routes.next {
            None => Reason::DialogWithoutRoute,
            Some(_) => Reason::RouteToStranger,
        });
    }
    let may_go = |next_hop: &NextHop| {
        is_open || routes.is_authentic || is_trusted(ctx.policy, forwarder.hops, next_hop)
    };
    let remote = routes.target.unwrap_or(request.uri);
    let edits = RouteEdits::of(ctx.policy, request, routes);
    if let Some(next) = routes.next {
        let uri = Uri::parse(next).map_err(|_| Reason::MalformedRoute)?;
        let next_hop = NextHop::of(listeners, &uri, local)?;
        if !may_go(&next_hop) {
            return Err(Reason::RouteToStranger);
        }
        let target = if routes.next_is_loose { remote } else { next };
        return Ok((Target::new(target, next_hop), edits));
    }
    let uri = Uri::parse(remote).map_err(|_| Reason::BadRequestUri)?;
    if let Some(target) = binding_target(ctx, registrar, request, &uri) {
        return target.map(|target| (target, edits));
    }
    let next_hop = NextHop::of(listeners, &uri, local)?;
    if !may_go(&next_hop) {
        return Err(Reason::NotOurDialog);
    }
    Ok((Target::new(remote, next_hop), edits))
}

/// The remote target as a live binding of To's user: it goes where that binding goes. A phone that registered over a
/// connection may name that connection's port in its dialogs, which nobody else can reach.
fn binding_target<'t, 'r: 't>(
    ctx: &mut Ctx<'_>,
    registrar: &'t Registrar,
    request: &Request<'_>,
    uri: &Uri<'r>,
) -> Option<Result<Target<Cow<'t, [u8]>>, Reason>> {
    let now = ctx.now;
    let record = registrar.record_of(ctx, request.to()?)?;
    let same_but_port = || {
        let is_it = |binding: &&Binding| binding.connection() != 0 && binding.is_contact_but_port(uri);
        let mut found = record.live(now).filter(is_it);
        found.next().filter(|_| found.next().is_none())
    };
    let binding = record.live(now).find(|binding| binding.is_contact(uri)).or_else(same_but_port)?;
    let path = Cow::Borrowed(binding.path());
    let next_hop = next_hop_of(ctx.policy, request.flow.local, binding);
    Some(next_hop.map(|next_hop| Target { path, ..Target::new(uri.text, next_hop) }))
}
