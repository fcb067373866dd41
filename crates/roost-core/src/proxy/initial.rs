//! A request that starts something (no To tag): authorized in the shard of its From, then handled in that of its
//! Request-URI.

use std::borrow::Cow;

use roost_sip::{HeaderName, Method, Uri};

use crate::access::{Access, message_of, wait_for_credentials};
use crate::admission::Admission;
use crate::auth::authenticator::{Authenticator, CacheAge};
use crate::base::aor::{UserHost, UserKey};
use crate::base::flow::Ticket;
use crate::continuation::Continuation;
use crate::contract::binding_ref::{BindingRef, Place};
use crate::contract::call::CallNumber;
use crate::contract::context::Ctx;
use crate::contract::event::{CallStep, Event, EventKind};
use crate::contract::mark::Mark;
use crate::contract::policy::Authorize;
use crate::contract::reason::Reason;
use crate::contract::rule::Failure;
use crate::contract::shared::DOMAIN;
use crate::dialog::Parties;
use crate::message::branch_id::BranchId;
use crate::message::request::Request;
use crate::message::response::Response;
use crate::message::route::{RouteReader, Routes};
use crate::parking::Topic;
use crate::proxy::admitted::Admitted;
use crate::proxy::alias::dealiased;
use crate::proxy::authorize::{Call, authorize_call};
use crate::proxy::callee::{Routed, first_rule, look_up, next_hop_of, route_out, routes_of, trusted_target};
use crate::proxy::diversion::{diverted, ring_s};
use crate::proxy::edits::{Begun, RouteEdits};
use crate::proxy::forwarder::{Forwarder, Owner};
use crate::proxy::response_context::ResponseContext;
use crate::proxy::target::{Target, Targets};
use crate::refusal::Refusal;
use crate::registrar::Registrar;
use crate::transaction::routing_hash;

/// What is asked about callers and callees.
#[derive(Debug)]
pub(crate) struct Facts<'e> {
    pub(crate) auth: &'e mut Authenticator,
    pub(crate) admission: &'e mut Admission,
    pub(crate) registrar: &'e mut Registrar,
    pub(crate) admitted: &'e mut Admitted,
}

/// Handles a request that starts something; `age`: how old what is cached of its caller and callee may be.
///
/// # Errors
/// The refusal.
pub(crate) fn handle_initial(
    ctx: &mut Ctx<'_>,
    facts: &mut Facts<'_>,
    forwarder: &mut Forwarder<'_>,
    request: &Request<'_>,
    mark: Mark,
    age: CacheAge,
) -> Result<(), Refusal> {
    // Another node has let its caller in, and has found a binding of this one.
    if let Some(route) = request.route_to_binding() {
        return from_node(ctx, facts.registrar, forwarder, request, (&route, age));
    }
    if let Some(bytes) = dealiased(ctx, request) {
        return for_extension(ctx, facts, forwarder, request, (&bytes, mark, age));
    }
    let (caller, place) = match mark {
        Mark::Authorized(caller) => (caller, None),
        Mark::ToContact(caller, place) => (caller, Some(place)),
        Mark::None | Mark::InDialog => match admit(ctx, facts, forwarder, request, age)? {
            Call::Admitted(caller) => (caller, None),
            Call::Elsewhere => return Ok(()),
        },
    };
    let shard = ctx.identity.shard_of_user(request.shard_key());
    if place.is_none() && shard != ctx.shard {
        request.hand_over(ctx, shard, Mark::Authorized(caller));
        return Ok(());
    }
    if let Some(ticket) = forwarder.transactions.find(ctx, request) {
        forwarder.transactions.absorb(ctx, ticket);
        return Ok(());
    }
    let callee = check(ctx, request)?;
    let routes = routes_of(ctx, forwarder.hops, request);
    if routes.is_malformed {
        return Err(Reason::MalformedRoute.into());
    }
    let mark = place.map_or(Mark::Authorized(caller), |place| Mark::ToContact(caller, place));
    if routes.next.is_none()
        && place.is_none()
        && let Some((topic, hash)) = unknown_yet(ctx, facts.registrar, callee)
    {
        let message = message_of(ctx, request);
        let then = Continuation::Initial { mark, age, hash };
        return Ok(forwarder.parking.wait(ctx, topic, message, then)?);
    }
    let Facts { registrar, auth, .. } = facts;
    let found = match find_targets(ctx, (registrar, auth), forwarder, request, &routes, (callee, place), age)
    {
        Found::Targets(targets) => obeying_sips(request, targets)
            .and_then(|targets| has_room(ctx, forwarder, request, callee, targets))
            .map_err(Response::from),
        Found::Refused(reason) => Err(reason.into()),
        Found::Answered(response) => Err(response),
        Found::Elsewhere(place) => {
            request.hand_over(ctx, place.shard, Mark::ToContact(caller, place));
            return Ok(());
        }
        Found::Ask(key) => {
            let then = Continuation::Initial { mark, age: CacheAge::Fresh, hash: 0 };
            let waits = wait_for_credentials(ctx, facts.auth, forwarder.parking, request, key, then);
            let Err(reason) = waits else { return Ok(()) };
            Err(reason.into())
        }
    };
    begin(ctx, forwarder, request, found, (callee, Sender::Caller(caller)), &routes)
}

/// The same for the extension that an alias stands for, whose request is in `bytes`.
fn for_extension(
    ctx: &mut Ctx<'_>,
    facts: &mut Facts<'_>,
    forwarder: &mut Forwarder<'_>,
    request: &Request<'_>,
    (bytes, mark, age): (&[u8], Mark, CacheAge),
) -> Result<(), Refusal> {
    let done = ctx.with_head(bytes, |ctx, head| {
        let request = Request::new(ctx.policy, request.flow, bytes, head)?.since(request.since_ms);
        Some(handle_initial(ctx, facts, forwarder, &request, mark, age))
    });
    done.flatten().unwrap_or(Err(Reason::BadRequestUri.into()))
}

/// A request that another node sends to a binding of this one: that node knows the call, and its caller.
fn from_node(
    ctx: &mut Ctx<'_>,
    registrar: &mut Registrar,
    forwarder: &mut Forwarder<'_>,
    request: &Request<'_>,
    (route, age): (&Uri<'_>, CacheAge),
) -> Result<(), Refusal> {
    let shard = ctx.identity.shard_of_user(request.shard_key());
    if shard != ctx.shard {
        request.hand_over(ctx, shard, Mark::None);
        return Ok(());
    }
    if let Some(ticket) = forwarder.transactions.find(ctx, request) {
        forwarder.transactions.absorb(ctx, ticket);
        return Ok(());
    }
    let callee = check(ctx, request)?;
    let routes = RouteReader::of(ctx, request).read();
    let Some((binding, reference)) = registrar.binding_routed_to(ctx, route).filter(|_| routes.own > 0)
    else {
        // One that has come with an address is not known yet.
        if let Some(topic) = unread(ctx, registrar, registrar_user(route)).map(Topic::Record) {
            let then = Continuation::Initial { mark: Mark::None, age, hash: 0 };
            return Ok(forwarder.parking.wait(ctx, topic, message_of(ctx, request), then)?);
        }
        return Err(Reason::NotRegistered.into());
    };
    ctx.decide("cluster.listen", || "another node sends it to the phone of this one".to_string());
    let found = next_hop_of(ctx.policy, request.flow.local, binding).map(|next_hop| {
        // The rest of its path has come as Routes.
        let target =
            Target { path: Cow::Borrowed(&[][..]), ..Target::of_binding(binding, reference, next_hop) };
        Targets::from_iter([target])
    });
    let found = found.and_then(|targets| obeying_sips(request, targets)).map_err(Response::from);
    begin(ctx, forwarder, request, found, (callee, Sender::Node), &routes)
}

/// What a request must wait for before anything can be said of its callee's bindings, and the hash of his AOR.
fn unknown_yet(ctx: &mut Ctx<'_>, registrar: &mut Registrar, callee: UserHost<'_>) -> Option<(Topic, u16)> {
    match not_loaded(ctx, registrar, callee) {
        Some(hash) => Some((Topic::Rows, hash)),
        None => Some((Topic::Record(unread(ctx, registrar, callee)?), 0)),
    }
}

/// The AOR's user and domain in a Route to a binding.
fn registrar_user<'a>(route: &Uri<'a>) -> UserHost<'a> {
    UserHost { user: route.user_part(), host: route.param(DOMAIN).unwrap_or(&[]) }
}

/// The reading of the callee's record that a request must wait for, where bindings are shared.
pub(crate) fn unread(ctx: &mut Ctx<'_>, registrar: &mut Registrar, who: UserHost<'_>) -> Option<Ticket> {
    ctx.identity.node.as_ref()?;
    let mut aor = ctx.buffers.take_text();
    let written = ctx.write_aor(Some(who), &mut aor);
    let ticket = written.ok().and_then(|()| registrar.unread(ctx, &aor));
    ctx.buffers.give_text(aor);
    ticket
}

/// Who has sent a request that starts something.
#[derive(Debug, Clone, Copy)]
enum Sender {
    /// Its caller, from this binding where he has one.
    Caller(Option<BindingRef>),
    /// Another node, which keeps the call.
    Node,
}

/// Whether the caller may call.
fn admit(
    ctx: &mut Ctx<'_>,
    facts: &mut Facts<'_>,
    forwarder: &mut Forwarder<'_>,
    request: &Request<'_>,
    age: CacheAge,
) -> Result<Call, Refusal> {
    let Facts { auth, admission, registrar, admitted } = facts;
    let mut access = Access { auth, admission, registrar, hops: forwarder.hops };
    let is_full = request.method == Method::Invite
        && forwarder.dialogs.is_full(ctx, request.caller())
        && !request.has_replaces();
    authorize_call(ctx, &mut access, forwarder.parking, admitted, request, (age, is_full))
}

/// Sends a request to its targets, or answers why there are none: an INVITE by a transaction.
fn begin<'r>(
    ctx: &mut Ctx<'_>,
    forwarder: &mut Forwarder<'_>,
    request: &Request<'r>,
    found: Result<Targets<'_>, Response>,
    (callee, sender): (UserHost<'_>, Sender),
    routes: &Routes<'r>,
) -> Result<(), Refusal> {
    let caller = match sender {
        Sender::Caller(caller) => caller,
        Sender::Node => None,
    };
    let found = match found {
        Err(response) if request.method != Method::Invite => return Err(response.into()),
        found => found,
    };
    let owner = Owner::Forward(ResponseContext::of(Begun { caller, call: None }));
    let ticket = forwarder.transactions.open(ctx, request, owner)?;
    match found {
        Ok(targets) => {
            let call = match sender {
                Sender::Caller(_) => {
                    tell_begun(ctx, request, callee);
                    begin_call(ctx, forwarder, request, callee, &targets)
                }
                Sender::Node => None,
            };
            let ring_s = is_for_extension(request, &targets)
                .then(|| ring_s(ctx, forwarder.hops.next_hops(), request))
                .filter(|_| matches!(sender, Sender::Caller(_)));
            if let Some(context) = forwarder.context(ticket) {
                context.set_call(call);
                if let Some(ring_s) = ring_s {
                    context.may_be_diverted(ring_s);
                }
            }
            let edits = RouteEdits::of(ctx.policy, request, routes, Begun { caller, call });
            forwarder.fork(ctx, request, ticket, targets, &edits);
        }
        Err(response) => forwarder.transactions.respond(ctx, ticket, &response),
    }
    Ok(())
}

/// Makes an entry for a call, where there is a table: a dialog without our mark could not be told again.
fn begin_call(
    ctx: &mut Ctx<'_>,
    forwarder: &mut Forwarder<'_>,
    request: &Request<'_>,
    callee: UserHost<'_>,
    targets: &Targets<'_>,
) -> Option<CallNumber> {
    if request.method != Method::Invite || ctx.policy.proxy.authorize == Authorize::Off {
        return None;
    }
    let parties = Parties {
        is_from_extension: !forwarder.hops.is_trusted(ctx.policy, request.flow.remote.ip()),
        callee,
        is_to_extension: targets.iter().any(|target| target.binding.is_some()),
    };
    forwarder.dialogs.begin(ctx, request, parties)
}

/// What must hold of a request that starts something; its callee.
fn check<'a>(ctx: &Ctx<'_>, request: &Request<'a>) -> Result<UserHost<'a>, Reason> {
    request.target.map_err(|_| Reason::BadRequestUri)?;
    let callee = request.callee().ok_or(Reason::NoNumber)?;
    if request.required_of_proxy().next().is_some() {
        return Err(Reason::BadExtension);
    }
    if is_looped(ctx, request) {
        return Err(Reason::Loop);
    }
    Ok(callee)
}

/// Whether it is a call that goes to an extension's phones.
fn is_for_extension(request: &Request<'_>, targets: &Targets<'_>) -> bool {
    request.method == Method::Invite && targets.iter().any(|target| target.binding.is_some())
}

/// The targets of a callee that may have another call; where he has as many as he may, he is busy.
fn has_room<'t>(
    ctx: &mut Ctx<'_>,
    forwarder: &mut Forwarder<'_>,
    request: &Request<'_>,
    callee: UserHost<'_>,
    targets: Targets<'t>,
) -> Result<Targets<'t>, Reason> {
    let is_new_call = request.method == Method::Invite && !request.has_replaces();
    if is_new_call && ctx.policy.drain_s > 0 {
        return Err(Reason::Draining);
    }
    let most = u64::from(ctx.policy.proxy.max_calls);
    if is_new_call && most != 0 && ctx.identity.calls.now() >= most {
        return Err(Reason::TooManyCalls);
    }
    let is_for_extension = is_new_call && is_for_extension(request, &targets);
    if !is_for_extension || !forwarder.dialogs.is_full(ctx, Some(callee)) {
        return Ok(targets);
    }
    let diverted = diverted(ctx, forwarder.hops, request, Failure::Busy);
    diverted.and_then(Result::ok).ok_or(Reason::CalleeHasEnough)
}

/// Of a `sips` request's targets those that it may go to (RFC 5630 5.3): a contact's scheme says less than the way there.
fn obeying_sips<'t>(request: &Request<'_>, mut targets: Targets<'t>) -> Result<Targets<'t>, Reason> {
    if request.is_sips() {
        targets.retain(|target| target.next_hop.is_secure());
        if targets.is_empty() {
            return Err(Reason::SipsUnreachable);
        }
    }
    Ok(targets)
}

/// Whether one of our Vias was written for the very same routing (RFC 3261 16.3 step 4).
fn is_looped(ctx: &Ctx<'_>, request: &Request<'_>) -> bool {
    let routing = routing_hash(ctx, request);
    let vias = request.head.values(request.bytes, HeaderName::Via).flat_map(roost_sip::list);
    let ids = vias.filter_map(|value| BranchId::parse(roost_sip::Via::parse(value).ok()?.branch?));
    ids.into_iter().any(|id| id.routing == routing)
}

/// The hash of an AOR whose rows are not read yet.
pub(crate) fn not_loaded(ctx: &mut Ctx<'_>, registrar: &Registrar, who: UserHost<'_>) -> Option<u16> {
    if !registrar.is_loading() {
        return None;
    }
    let mut aor = ctx.buffers.take_text();
    let written = ctx.write_aor(Some(who), &mut aor);
    let hash = written.ok().and_then(|()| registrar.hash_not_loaded(&aor));
    ctx.buffers.give_text(aor);
    hash
}

enum Found<'a> {
    Targets(Targets<'a>),
    Refused(Reason),
    /// A rule answers it, or has no hop for it.
    Answered(Response),
    /// The Contact of a binding of another shard is called.
    Elsewhere(Place),
    /// The database knows whether it is an extension.
    Ask(UserKey),
}

fn find_targets<'t, 'r: 't>(
    ctx: &mut Ctx<'_>,
    (registrar, auth): (&'t Registrar, &mut Authenticator),
    forwarder: &mut Forwarder<'_>,
    request: &Request<'r>,
    routes: &Routes<'r>,
    (callee, place): (UserHost<'_>, Option<Place>),
    age: CacheAge,
) -> Found<'t> {
    let Ok(uri) = request.target else { return Found::Refused(Reason::BadRequestUri) };
    // A preloaded Route to somebody else.
    if let Some(next) = routes.next {
        let target = if routes.next_is_loose { uri.text } else { next };
        ctx.decide("", || format!("its Route header leads to {}", String::from_utf8_lossy(next)));
        return match trusted_target(ctx, forwarder.hops, request, next, target) {
            Ok(targets) => Found::Targets(targets),
            Err(reason) => Found::Refused(reason),
        };
    }
    if place.is_none()
        && let Some(first) = first_rule(ctx, forwarder.hops, request)
    {
        return first.map_or_else(Found::Answered, Found::Targets);
    }
    if let Some(place) = place {
        ctx.decide("", || "its Request-URI is the Contact of a registered phone".to_string());
        return called_contact(ctx, registrar, request, place)
            .unwrap_or(Found::Refused(Reason::NotRegistered));
    }
    let name = || String::from_utf8_lossy(callee.user.text);
    let refused = match look_up(ctx, registrar, request, callee) {
        Ok(targets) => {
            let count = targets.len();
            ctx.decide("", || match count {
                1 => format!("{} is registered and takes it at its contact", name()),
                count => format!("{} is registered and takes it at {count} contacts", name()),
            });
            return Found::Targets(targets);
        }
        Err(reason) => reason,
    };
    ctx.decide("", || format!("{} is no target here: {}", name(), refused.why()));
    // A phone's own Contact, which another phone has learnt in a dialog.
    if let Some(place) = registrar.place_of_contact(request)
        && !registrar.is_registered(ctx, callee)
        && let Some(found) = called_contact(ctx, registrar, request, place)
    {
        return found;
    }
    if forwarder.hops.next_hops().is_empty() {
        ctx.decide("route", || "there is no [[route]]".to_string());
        return Found::Refused(refused);
    }
    let known = (registrar, auth, &mut *forwarder.hops);
    match route_out(ctx, known, request, &uri, (refused, age)) {
        Routed::Nowhere => Found::Refused(refused),
        Routed::To(targets) => Found::Targets(targets),
        Routed::Refused(reason) => Found::Refused(reason),
        Routed::Ask(key) => Found::Ask(key),
    }
}

/// The binding of a place whose Contact is called; `None` when it is gone.
fn called_contact<'t>(
    ctx: &Ctx<'_>,
    registrar: &'t Registrar,
    request: &Request<'_>,
    place: Place,
) -> Option<Found<'t>> {
    if place.shard != ctx.shard {
        return Some(Found::Elsewhere(place));
    }
    let (binding, reference) = registrar.binding_called(ctx, request, place)?;
    if !binding.takes(request.method) {
        return Some(Found::Refused(Reason::MethodNotTaken));
    }
    Some(match next_hop_of(ctx.policy, request.flow.local, binding) {
        Ok(next_hop) => {
            Found::Targets(Targets::from_iter([Target::of_binding(binding, reference, next_hop)]))
        }
        Err(reason) => Found::Refused(reason),
    })
}

fn tell_begun(ctx: &mut Ctx<'_>, request: &Request<'_>, callee: UserHost<'_>) {
    if request.method != Method::Invite {
        return;
    }
    ctx.out.tell(EventKind::Call, || Event::Call {
        call_id: request.call_id().unwrap_or(&[]).into(),
        step: CallStep::Begun {
            caller: request.from().map_or(&[][..], |from| from.user.text).into(),
            callee: Cow::Borrowed(callee.user.text).into(),
        },
    });
}
