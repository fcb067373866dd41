//! Where a request goes: to the callee's contacts, along a `[[route]]`, or to a next hop that its Route names.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use roost_sip::{HeaderName, Uri};
use smallvec::SmallVec;

use crate::auth::authenticator::{Authenticator, CacheAge};
use crate::base::aor::{UserHost, UserKey};
use crate::base::limits;
use crate::base::stats::Counter;
use crate::base::transport::Transport;
use crate::contract::context::Ctx;
use crate::contract::listener::{flow_to, is_local};
use crate::contract::next_hops::{NextHops, RuleId};
use crate::contract::policy::{Authorize, Policy};
use crate::contract::reason::Reason;
use crate::contract::rule::{Failure, Rule};
use crate::contract::shared::BINDING;
use crate::dispatch::monitor::HopMonitor;
use crate::message::facts::MessageFacts;
use crate::message::path::first_hop;
use crate::message::request::Request;
use crate::message::response::Response;
use crate::message::route::{RouteReader, Routes};
use crate::proxy::by_rule::targets_of;
use crate::proxy::diversion::rule_on;
use crate::proxy::target::{NextHop, Target, Targets};
use crate::registrar::Registrar;
use crate::registrar::binding::{Binding, Origin};

/// Where a request for a number that nobody has registered goes.
pub(crate) enum Routed<'t> {
    /// No rule is for it.
    Nowhere,
    To(Targets<'t>),
    Refused(Reason),
    /// The database knows whether it is an extension.
    Ask(UserKey),
}

/// The callee's contacts, by falling q. A contact that cannot be reached harms no other.
pub(crate) fn look_up<'r>(
    ctx: &mut Ctx<'_>,
    registrar: &'r Registrar,
    request: &Request<'_>,
    callee: UserHost<'_>,
) -> Result<Targets<'r>, Reason> {
    let record = registrar.find(ctx, callee).ok_or(Reason::NotRegistered)?;
    let mut targets = Targets::new();
    let mut failure = Reason::MethodNotTaken;
    let mut flows = SmallVec::<[(&[u8], u64, usize); 1]>::new();
    for (binding, reference) in registrar.live(ctx, record) {
        if !binding.takes(request.method) {
            continue;
        }
        if targets.len() == limits::MAX_BRANCHES {
            ctx.count(Counter::BranchesCut);
            break;
        }
        match next_hop_of(ctx.policy, request.flow.local, binding) {
            Ok(next_hop) => {
                if binding.reg_id().is_some() {
                    flows.push((binding.instance(), binding.updated_ms, targets.len()));
                }
                targets.push(Target::of_binding(binding, reference, next_hop));
            }
            Err(reason) => failure = reason,
        }
    }
    if flows.len() > 1 {
        order_flows(&mut targets, &flows);
    }
    if targets.is_empty() { Err(failure) } else { Ok(targets) }
}

/// Puts the flows of each phone behind one another, the one that was heard of last first (RFC 5626 5.3). A flow has its
/// phone's instance, when it was refreshed, and its place among the targets.
fn order_flows(targets: &mut Targets<'_>, flows: &[(&[u8], u64, usize)]) {
    let mut order = Vec::with_capacity(targets.len());
    for at in 0..targets.len() {
        let Some((instance, ..)) = flows.iter().find(|(.., flow)| *flow == at) else {
            order.push((at, false));
            continue;
        };
        let mut own: Vec<_> = flows.iter().filter(|(other, ..)| other == instance).collect();
        if own.first().is_some_and(|(.., first)| *first == at) {
            own.sort_by_key(|(_, updated_ms, _)| std::cmp::Reverse(*updated_ms));
            order.extend(own.iter().enumerate().map(|(index, (.., at))| (*at, index > 0)));
        }
    }
    let mut all: Vec<Option<Target<Cow<'_, [u8]>>>> = targets.drain(..).map(Some).collect();
    targets.extend(
        order
            .into_iter()
            .filter_map(|(at, is_other_flow)| Some(Target { is_other_flow, ..all.get_mut(at)?.take()? })),
    );
}

/// How a binding is reached: by the first hop of its path, else over the connection that it was made over, else at the
/// packet's source where the Contact names another address, else at the Contact.
pub(crate) fn next_hop_of(policy: &Policy, usual: SocketAddr, binding: &Binding) -> Result<NextHop, Reason> {
    let listeners = &policy.listeners;
    let (transport, local) = match binding.origin() {
        Origin::Live(flow) => (flow.transport, flow.local),
        Origin::Loaded { local: Some((transport, local)), .. } if is_local(listeners, local) => {
            (transport, local)
        }
        Origin::Loaded { local, .. } => (local.map_or(Transport::Udp, |(transport, _)| transport), usual),
    };
    if !binding.path().is_empty() {
        let hop = first_hop(binding.path()).ok_or(Reason::Unresolvable)?;
        // Nodes reach one another at their own addresses.
        let own = policy.node.filter(|_| hop.param(BINDING).is_some());
        let next_hop = NextHop::of(listeners, &hop, own.unwrap_or(local))?;
        return match &next_hop {
            NextHop::Flow(flow) if own.is_some() && policy.nodes_down.contains(&flow.remote) => {
                Err(Reason::NodeDown)
            }
            _ => Ok(next_hop),
        };
    }
    if binding.is_stranded() {
        return Err(Reason::NoOwnConnection);
    }
    match (binding.origin(), binding.source().filter(|_| binding.behind_nat)) {
        (Origin::Live(flow), _) if flow.connection != 0 => Ok(NextHop::Flow(flow)),
        (_, Some(source)) => flow_to(listeners, transport, local, source).map(NextHop::Flow),
        (_, None) => {
            let contact = Uri::parse(binding.contact()).map_err(|_| Reason::Unresolvable)?;
            NextHop::of(listeners, &contact, local)
        }
    }
}

/// What the Routes of a request say, its Request-URI's host among our names.
pub(crate) fn routes_of<'a>(ctx: &Ctx<'_>, hops: &HopMonitor, request: &Request<'a>) -> Routes<'a> {
    let own_host = own_host(ctx.policy, hops, request);
    RouteReader { own_host, ..RouteReader::of(ctx, request) }.read()
}

/// The host of the Request-URI as a name of ours: who is let in and names it in his Route, too, has set us as his outbound
/// proxy. Names that lead elsewhere by our configuration are not ours, and where nobody is authorized none is.
fn own_host<'a>(policy: &Policy, hops: &HopMonitor, request: &Request<'a>) -> Option<&'a [u8]> {
    let is_initial = request.to_tag().is_none() && policy.proxy.authorize != Authorize::Off;
    let uri = request.target.ok().filter(|uri| is_initial && uri.host_ip().is_none())?;
    let is_elsewhere = hops.next_hops().has_host(uri.host);
    Some(uri.host).filter(|host| !host.is_empty() && !is_elsewhere)
}

/// A next hop outside: only addresses that the configuration trusts, or any where nobody is authorized.
pub(crate) fn trusted_target<'a>(
    ctx: &Ctx<'_>,
    hops: &HopMonitor,
    request: &Request<'_>,
    next: &[u8],
    target: &'a [u8],
) -> Result<Targets<'a>, Reason> {
    let next = Uri::parse(next).map_err(|_| Reason::MalformedRoute)?;
    let next_hop = NextHop::of(&ctx.policy.listeners, &next, request.flow.local)?;
    if ctx.policy.proxy.authorize != Authorize::Off && !is_trusted(ctx.policy, hops, &next_hop) {
        return Err(Reason::RouteToStranger);
    }
    Ok(Targets::from_iter([Target::new(target, next_hop)]))
}

/// Whether anybody may be led there: to a trusted address, or a hop by its name.
pub(crate) fn is_trusted(policy: &Policy, hops: &HopMonitor, next_hop: &NextHop) -> bool {
    match next_hop {
        NextHop::Flow(flow) => hops.is_trusted(policy, flow.remote.ip()),
        NextHop::Name(_, name) => hops.next_hops().names(name),
    }
}

/// What becomes of a request that a rule takes whether or not its Request-URI is an extension; `None` where no rule does.
pub(crate) fn first_rule<'t>(
    ctx: &mut Ctx<'_>,
    hops: &mut HopMonitor,
    request: &Request<'_>,
) -> Option<Result<Targets<'t>, Response>> {
    let next_hops = Arc::clone(hops.next_hops());
    let id = service_rule(&next_hops, request)?;
    if let Some(reply) = next_hops.rule(id).and_then(|rule| rule.reply.clone()) {
        ctx.decide("route.reply", || "a [[route]] answers it, whoever is called".to_string());
        return Some(Err(reply.into()));
    }
    ctx.decide("route.methods", || "a [[route]] of a service takes it, whoever is called".to_string());
    Some(targets_of(ctx, hops, request, (id, None)).map_err(Response::from))
}

/// Whether a rule takes a request of a service, or answers it.
pub(crate) fn has_service(next_hops: &NextHops, request: &Request<'_>) -> bool {
    service_rule(next_hops, request).is_some()
}

fn service_rule(next_hops: &NextHops, request: &Request<'_>) -> Option<RuleId> {
    if !next_hops.has_first() {
        return None;
    }
    let uri = request.target.ok()?;
    let event = request.value(HeaderName::Event).unwrap_or(&[]);
    let event = event.split(|byte| *byte == b';').next().unwrap_or(&[]).trim_ascii();
    let who = (&*uri.user_part().plain(), uri.host);
    next_hops.service_for(request.method, event, who, &MessageFacts::of(request))
}

/// Where a number goes that has no target here; `reason` says why. Extensions that exist are at home here, registered or not.
pub(crate) fn route_out<'t>(
    ctx: &mut Ctx<'_>,
    (registrar, auth, hops): (&Registrar, &mut Authenticator, &mut HopMonitor),
    request: &Request<'_>,
    uri: &Uri<'_>,
    (reason, age): (Reason, CacheAge),
) -> Routed<'t> {
    let user = uri.user_part().plain();
    let next_hops = Arc::clone(hops.next_hops());
    let callee = request.callee().unwrap_or(UserHost::of(uri));
    if registrar.is_registered(ctx, callee) {
        if reason == Reason::MethodNotTaken {
            ctx.decide("route", || "who is called is registered, and stays here".to_string());
            return Routed::Nowhere;
        }
        let Some(offline) = rule_on(ctx, &next_hops, request, Failure::Offline) else {
            return Routed::Nowhere;
        };
        return routed(targets_of(ctx, hops, request, (offline, Some(Failure::Offline))));
    }
    let facts = MessageFacts::of(request);
    ctx.out.decide_each("route.when", || next_hops.not_held((&user, uri.host), &facts));
    let Some(any) = next_hops.rule_for((&user, uri.host), &facts) else {
        ctx.decide("route", || format!("no [[route]] takes {}", String::from_utf8_lossy(&user)));
        return Routed::Nowhere;
    };
    let offline = rule_on(ctx, &next_hops, request, Failure::Offline);
    let is_extension = match UserKey::new(&user, callee.host, ctx.identity.use_domain) {
        Some(key) if offline != Some(any) || next_hops.tells_diversions(any) => {
            match auth.is_extension(ctx, &key) {
                Some(is_extension) => is_extension,
                None if age == CacheAge::Any => return Routed::Refused(Reason::CalleeNotLookedUp),
                None => return Routed::Ask(key),
            }
        }
        _ => false,
    };
    let taken = match (is_extension, offline) {
        (false, _) => (any, None),
        (true, Some(offline)) => (offline, Some(Failure::Offline)),
        (true, None) => {
            let words = next_hops.rule(any).map_or(String::new(), Rule::words);
            ctx.decide("route.on", || {
                format!("{words}, but who is called is an extension of ours, and the rule is not for those")
            });
            return Routed::Refused(Reason::NotRegistered);
        }
    };
    routed(targets_of(ctx, hops, request, taken))
}

fn routed(found: Result<Targets<'_>, Reason>) -> Routed<'_> {
    found.map_or_else(Routed::Refused, Routed::To)
}
