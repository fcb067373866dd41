//! A request inside a dialog (with a To tag): it follows its Route (RFC 3261 16.4, 16.12).

use std::borrow::Cow;
use std::net::IpAddr;

use roost_sip::{Method, Uri};

use crate::access::message_of;
use crate::base::aor::UserHost;
use crate::base::flow::{Flow, Ticket};
use crate::base::host::{is_local_host, is_private};
use crate::base::stats::Counter;
use crate::continuation::Continuation;
use crate::contract::command::Command;
use crate::contract::context::Ctx;
use crate::contract::dropped::Dropped;
use crate::contract::listener::{behind, is_local};
use crate::contract::mark::Mark;
use crate::contract::next_hops::Address;
use crate::contract::policy::Authorize;
use crate::contract::reason::Reason;
use crate::message::branch_id::BranchId;
use crate::message::dialog_token::Side;
use crate::message::request::Request;
use crate::message::route::{RouteReader, Routes};
use crate::parking::Topic;
use crate::proxy::callee::{is_trusted, next_hop_of};
use crate::proxy::edits::{Begun, ForwardWriter, RouteEdits};
use crate::proxy::forwarder::{Forwarder, Owner};
use crate::proxy::handing_over::pass_to_dialog;
use crate::proxy::identity::identity_of_request;
use crate::proxy::initial::{not_loaded, unread};
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
    registrar: &mut Registrar,
    forwarder: &mut Forwarder<'_>,
    request: &Request<'_>,
    mark: Mark,
) -> Result<(), Refusal> {
    let done = handle(ctx, registrar, forwarder, request, mark);
    if request.method == Method::Ack {
        if done.is_err() {
            ctx.drop_message(Dropped::StrayRequest);
        }
        return Ok(());
    }
    Ok(done?)
}

fn handle(
    ctx: &mut Ctx<'_>,
    registrar: &mut Registrar,
    forwarder: &mut Forwarder<'_>,
    request: &Request<'_>,
    mark: Mark,
) -> Result<(), Reason> {
    let routes = RouteReader::of(ctx, request).read();
    if pass_to_dialog(ctx, request, &routes, mark) {
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
    if routes.is_authentic
        && let Some(to) = request.to()
        && let Some(hash) = not_loaded(ctx, registrar, to)
    {
        let message = message_of(ctx, request);
        return forwarder.parking.wait(ctx, Topic::Rows, message, Continuation::InDialog { mark, hash });
    }
    // A phone that has come with an address is not known yet.
    if routes.token.is_some()
        && ctx.identity.node.is_some()
        && let Some(to) = request.to()
        && registrar.record_of(ctx, to).is_none()
        && let Some(reading) = unread(ctx, registrar, to)
    {
        let message = message_of(ctx, request);
        let then = Continuation::InDialog { mark, hash: 0 };
        return forwarder.parking.wait(ctx, Topic::Record(reading), message, then);
    }
    if let Some(token) = &routes.token {
        forwarder.dialogs.hear(ctx, token, request);
    }
    let edits = RouteEdits::of(ctx.policy, request, &routes, Begun::default());
    let (target, mut rest) = dialog_target(ctx, registrar, forwarder, request, &routes)?;
    if routes.is_sips {
        // It began with a sips URI, so all of it goes over TLS (RFC 3261 16.6 step 4).
        if !request.flow.transport.is_secure() {
            return Err(Reason::SipsInsecure);
        }
        if !target.next_hop.is_secure() {
            return Err(Reason::SipsUnreachable);
        }
        rest = rest.filter(|target| target.next_hop.is_secure());
    }
    if is_ack {
        match target.next_hop {
            NextHop::Flow(flow) => forward_ack(ctx, forwarder, request, &target, flow, &edits),
            NextHop::Name(..) => resolve_ack(ctx, forwarder, request, target),
        }
        return Ok(());
    }
    let owner = Owner::Forward(ResponseContext::default());
    let ticket = forwarder.transactions.open(ctx, request, owner)?;
    let rest = rest.map(|target| target.store(forwarder.transactions, ticket)).into_iter().collect();
    forwarder.try_target(ctx, request, ticket, target, rest, &edits);
    Ok(())
}

/// An ACK of a 2xx has no transaction (RFC 3261 16.11).
fn forward_ack(
    ctx: &mut Ctx<'_>,
    forwarder: &Forwarder<'_>,
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
    let asserted = identity_of_request(ctx.policy, forwarder.hops, request, &flow);
    let writer =
        ForwardWriter { identity: ctx.identity, policy: ctx.policy, request, edits, asserted, route: None };
    ctx.out.send(flow, |bytes| writer.write(target, &flow, branch, bytes));
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
            let reader = RouteReader::of(ctx, request);
            let edits = RouteEdits::of(ctx.policy, request, &reader.read(), Begun::default());
            forward_ack(ctx, forwarder, request, &target.borrowed(), flow, &edits);
        }
        None => ctx.drop_message(Dropped::StrayRequest),
    }
}

/// Where a request goes first, and where it goes when that fails.
type Way<'t> = (Target<Cow<'t, [u8]>>, Option<Target<Cow<'t, [u8]>>>);

/// Where a request inside a dialog goes.
fn dialog_target<'t, 'r: 't>(
    ctx: &mut Ctx<'_>,
    registrar: &'t Registrar,
    forwarder: &Forwarder<'_>,
    request: &Request<'r>,
    routes: &Routes<'r>,
) -> Result<Way<'t>, Reason> {
    if routes.is_malformed {
        return Err(Reason::MalformedRoute);
    }
    let listeners = &ctx.policy.listeners;
    // With two own Routes the second names the interface that the other side is on.
    let own_last = routes.own_last.and_then(|(_, address)| Some(behind(listeners, address?)));
    let own_last = own_last.filter(|own| is_local(listeners, *own));
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
    if let Some(next) = routes.next {
        let uri = Uri::parse(next).map_err(|_| Reason::MalformedRoute)?;
        let next_hop = NextHop::of(listeners, &uri, local)?;
        if !may_go(&next_hop) {
            return Err(Reason::RouteToStranger);
        }
        let target = if routes.next_is_loose { remote } else { next };
        return Ok((Target::new(target, next_hop), None));
    }
    let uri = Uri::parse(remote).map_err(|_| Reason::BadRequestUri)?;
    let side = routes.token.map_or(Side::Unknown, |token| token.destination(request));
    let is_known = is_open || routes.is_authentic;
    if let Some(target) = binding_target(ctx, registrar, request, &uri, (&side, is_known))? {
        return Ok((target, None));
    }
    let peer = side.flow(listeners, local);
    let reader = RouteReader::of(ctx, request);
    if is_known && uri.user.is_some() && reader.is_own(&uri) {
        // Its target is an AOR, or whatever it calls itself at our address.
        return match (look_up_one(ctx, registrar, request, &uri), peer) {
            (Some(target), _) => Ok((target?, None)),
            (None, Some(flow)) => Ok((Target::new(remote, NextHop::Flow(flow)), None)),
            (None, None) => Err(Reason::NotRegistered),
        };
    }
    let transport =
        routes.own_last.map(|(transport, _)| transport).filter(|_| uri.param(b"transport").is_none());
    let named = NextHop::by(listeners, &uri, local, transport);
    if let Some(flow) = peer.filter(|flow| is_peers(&uri, flow)) {
        let named = named.ok().filter(|_| flow.connection != 0).map(|next_hop| Target::new(remote, next_hop));
        return Ok((Target::new(remote, NextHop::Flow(flow)), named));
    }
    let next_hop = named?;
    if !may_go(&next_hop) {
        return Err(Reason::NotOurDialog);
    }
    Ok((Target { source: peer, ..Target::new(remote, next_hop) }, None))
}

/// Whether a remote target is at the peer whose flow the dialog remembers: it names the peer's address over a connection,
/// whose port nobody else can reach, or a host that means nothing here.
fn is_peers(uri: &Uri<'_>, flow: &Flow) -> bool {
    match uri.host_ip().map(|ip| ip.to_canonical()) {
        Some(ip) if ip == flow.remote.ip().to_canonical() => flow.connection != 0,
        // A neighbour of a peer that is in a private network itself is reached there.
        Some(ip) if is_private(flow.remote.ip()) && ip.is_loopback() == flow.remote.ip().is_loopback() => {
            false
        }
        _ => is_local_host(uri),
    }
}

/// The remote target as a live binding, of the side that the request goes to or else of To's user: it goes where that
/// binding goes. Of a dialog that is not known to be ours only a Contact itself leads to its binding.
///
/// # Errors
/// The binding cannot be reached.
fn binding_target<'t, 'r: 't>(
    ctx: &mut Ctx<'_>,
    registrar: &'t Registrar,
    request: &Request<'_>,
    uri: &Uri<'r>,
    (side, is_known): (&Side, bool),
) -> Result<Option<Target<Cow<'t, [u8]>>>, Reason> {
    let to = request.to();
    let of_side = match side {
        Side::Binding { epoch, binding } => {
            registrar.binding_of(ctx, binding, *epoch == ctx.identity.epoch, to)
        }
        _ => None,
    };
    // What an instance registered once is gone when it has registered something else.
    let leads = |(binding, is_successor): &(&Binding, bool)| {
        binding.is_contact(uri) || is_at(binding, uri) || *is_successor
    };
    // Where the side is known to be none, To says nothing of it: a phone subscribes to its own mailbox.
    let is_known = is_known && !matches!(side, Side::Peer { .. });
    let binding = match of_side.filter(leads) {
        Some((binding, _)) => Some(binding),
        None => to.and_then(|to| binding_at(ctx, registrar, to, uri, is_known)),
    };
    let Some(binding) = binding else { return Ok(None) };
    let path = Cow::Borrowed(binding.path());
    let next_hop = next_hop_of(ctx.policy, request.flow.local, binding)?;
    Ok(Some(Target { path, ..Target::new(uri.text, next_hop) }))
}

/// The live binding of a user whose Contact a URI is, or, in a dialog of ours, the only one that it may be.
fn binding_at<'t>(
    ctx: &mut Ctx<'_>,
    registrar: &'t Registrar,
    user: UserHost<'_>,
    uri: &Uri<'_>,
    is_known: bool,
) -> Option<&'t Binding> {
    let now = ctx.now;
    let record = registrar.record_of(ctx, user)?;
    let only = || {
        let mut found = record.live(now).filter(|binding| is_at(binding, uri));
        found.next().filter(|_| found.next().is_none())
    };
    record.live(now).find(|binding| binding.is_contact(uri)).or_else(|| only().filter(|_| is_known))
}

/// Whether a URI that is not a binding's Contact leads to the same phone: in its dialogs a phone may leave its user out, or
/// name the port of its connection. Only of one that has a way of its own, behind NAT or over a connection: any other is
/// reached where it says.
fn is_at(binding: &Binding, uri: &Uri<'_>) -> bool {
    if binding.connection() == 0 && !binding.behind_nat {
        return false;
    }
    let is_source = |ip: IpAddr| binding.source_ip().map(|own| own.to_canonical()) == Some(ip.to_canonical());
    match uri.host_ip() {
        Some(ip) if is_source(ip) => true,
        _ => binding.is_contact_host(uri) || is_local_host(uri),
    }
}

/// An AOR inside a dialog: where its first binding is.
fn look_up_one<'t, 'r: 't>(
    ctx: &mut Ctx<'_>,
    registrar: &'t Registrar,
    request: &Request<'_>,
    uri: &Uri<'r>,
) -> Option<Result<Target<Cow<'t, [u8]>>, Reason>> {
    let record = registrar.find(ctx, UserHost::of(uri))?;
    let (binding, reference) = registrar.live(ctx, record).next()?;
    let next_hop = next_hop_of(ctx.policy, request.flow.local, binding);
    Some(next_hop.map(|next_hop| Target::of_binding(binding, reference, next_hop)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::transport::Transport;

    #[test]
    fn a_peer_is_at_its_address_and_its_private_neighbour_is_not() {
        let local = "10.0.0.1:5060".parse().unwrap();
        let flow = |remote: &str, connection| {
            Flow::stream(Transport::Tcp, local, remote.parse().unwrap(), connection)
        };
        for (uri, remote, connection, expected) in [
            ("sip:a@192.0.2.1:40000", "192.0.2.1:40000", 1, true),
            ("sip:a@192.0.2.1:5060", "192.0.2.1:40000", 1, true),
            ("sip:a@192.0.2.1", "192.0.2.1:40000", 0, false),
            ("sip:a@192.0.2.2", "192.0.2.1:40000", 1, false),
            ("sip:a@192.168.1.5", "192.0.2.1:40000", 0, true),
            ("sip:a@localhost", "192.0.2.1:40000", 0, true),
            // Both are in networks that we reach: it is where it says.
            ("sip:a@10.0.0.8", "10.0.0.7:40000", 1, false),
            ("sip:a@192.168.1.5", "10.0.0.7:40000", 1, false),
            ("sip:a@127.0.0.1", "10.0.0.7:40000", 1, true),
            ("sip:a@127.0.0.2", "127.0.0.1:40000", 1, false),
            ("sip:a@[::ffff:10.0.0.7]", "10.0.0.7:40000", 1, true),
            ("sip:a@pbx.example.com", "192.0.2.1:40000", 1, false),
        ] {
            let flow = flow(remote, connection);
            assert_eq!(is_peers(&Uri::parse(uri.as_bytes()).unwrap(), &flow), expected, "{uri} {remote}");
        }
    }
}
