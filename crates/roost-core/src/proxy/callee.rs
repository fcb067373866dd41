//! Where a request goes: to the callee's contacts, along a `[[route]]`, or to a next hop that its Route names.

use std::borrow::Cow;
use std::net::SocketAddr;

use roost_sip::{HeaderName, Uri};
use smallvec::SmallVec;

use crate::auth::authenticator::{Authenticator, CacheAge};
use crate::base::aor::{UserHost, UserKey};
use crate::base::limits;
use crate::base::stats::Counter;
use crate::base::transport::Transport;
use crate::contract::context::Ctx;
use crate::contract::listener::{flow_to, is_local, local_for};
use crate::contract::next_hops::{HopState, NextHops, Numbers, Rule};
use crate::contract::policy::{Authorize, Policy};
use crate::contract::reason::Reason;
use crate::contract::shared::BINDING;
use crate::dispatch::monitor::HopMonitor;
use crate::message::path::first_hop;
use crate::message::request::Request;
use crate::proxy::target::{NextHop, Target};
use crate::registrar::Registrar;
use crate::registrar::binding::{Binding, Origin};

/// Targets of one request, in the order in which they are tried; most have one.
pub(crate) type Targets<'a> = SmallVec<[Target<Cow<'a, [u8]>>; 1]>;

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

/// The host of the Request-URI as a name of ours: who is let in and names it in his Route, too, has set us as his outbound
/// proxy. Names that lead elsewhere by our configuration are not ours, and where nobody is authorized none is.
pub(crate) fn own_host<'a>(policy: &Policy, hops: &HopMonitor, request: &Request<'a>) -> Option<&'a [u8]> {
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

/// Where a request of a service goes, whether or not its Request-URI is an extension; `None` where no rule takes it.
pub(crate) fn service_targets<'t>(
    policy: &Policy,
    hops: &mut HopMonitor,
    request: &Request<'_>,
) -> Option<Result<Targets<'t>, Reason>> {
    let uri = request.target.ok()?;
    let next_hops = std::sync::Arc::clone(hops.next_hops());
    let (rule, indices) = service_rule(&next_hops, request, &uri)?;
    let found = hop_targets(policy, &next_hops, request.flow.local, &uri, rule, indices);
    if let Ok(targets) = &found
        && let Some(first) = targets.first().and_then(|first| first.hop)
    {
        hops.count_hit(first);
    }
    Some(found)
}

/// Whether a rule takes a request of a service.
pub(crate) fn has_service(next_hops: &NextHops, request: &Request<'_>) -> bool {
    request.target.is_ok_and(|uri| service_rule(next_hops, request, &uri).is_some())
}

fn service_rule<'n>(
    next_hops: &'n NextHops,
    request: &Request<'_>,
    uri: &Uri<'_>,
) -> Option<(&'n Rule, &'n [u16])> {
    let event = request.value(HeaderName::Event).unwrap_or(&[]);
    let event = event.split(|byte| *byte == b';').next().unwrap_or(&[]).trim_ascii();
    next_hops.service_for(request.method, event, (&uri.user_part().plain(), uri.host))
}

/// Where a number goes that nobody has registered. Extensions that exist are at home here, registered or not.
pub(crate) fn route_out<'t>(
    ctx: &mut Ctx<'_>,
    (registrar, auth, hops): (&Registrar, &mut Authenticator, &mut HopMonitor),
    request: &Request<'_>,
    uri: &Uri<'_>,
    age: CacheAge,
) -> Routed<'t> {
    let user = uri.user_part().plain();
    let next_hops = std::sync::Arc::clone(hops.next_hops());
    let Some((rule, indices)) = next_hops.rule_for(&user, uri.host) else {
        ctx.decide("route", || format!("no [[route]] takes {}", String::from_utf8_lossy(&user)));
        return Routed::Nowhere;
    };
    ctx.decide("route", || rule_words(rule));
    let callee = request.callee().unwrap_or(UserHost::of(uri));
    if registrar.is_registered(ctx, callee) {
        ctx.decide("route", || "but who is called is registered, and stays here".to_string());
        return Routed::Nowhere;
    }
    if !rule.offline
        && let Some(key) = UserKey::new(&user, callee.host, ctx.identity.use_domain)
    {
        match auth.is_extension(ctx, &key) {
            Some(true) => {
                ctx.decide("route.offline", || {
                    "but who is called is an extension of ours, and the rule is not for those".to_string()
                });
                return Routed::Refused(Reason::NotRegistered);
            }
            Some(false) => {}
            None if age == CacheAge::Any => return Routed::Refused(Reason::CalleeNotLookedUp),
            None => return Routed::Ask(key),
        }
    }
    ctx.out.decide_each("route.hops", || {
        let hops = indices.iter().filter_map(|index| next_hops.hop(next_hops.id_of(*index)));
        let passed_over = hops.filter(|hop| hop.state != HopState::Active);
        passed_over.map(|hop| format!("{} is passed over: {}", hop.uri.text, hop.state.as_str()))
    });
    match hop_targets(ctx.policy, &next_hops, request.flow.local, uri, rule, indices) {
        Ok(targets) => {
            if let Some(first) = targets.first().and_then(|first| first.hop) {
                hops.count_hit(first);
            }
            Routed::To(targets)
        }
        Err(reason) => Routed::Refused(reason),
    }
}

/// What a rule is for, for who asks.
fn rule_words(rule: &Rule) -> String {
    let what = match &rule.numbers {
        Numbers::Any => "any number".to_string(),
        Numbers::Prefix(prefix) => format!("prefix = \"{prefix}\""),
        Numbers::Pattern(pattern) => format!("user = '{pattern}'"),
    };
    let domain = rule.domain.as_ref().map_or(String::new(), |domain| format!(", domain = \"{domain}\""));
    let edits = match (rule.strip, rule.prepend.is_empty()) {
        (0, true) => String::new(),
        (strip, _) => {
            format!("; {strip} characters are taken off the number, \"{}\" is put before it", rule.prepend)
        }
    };
    let hops: Vec<_> = rule.hops.iter().map(|hop| &*hop.text).collect();
    format!("the [[route]] of set {} takes it ({what}{domain}): {}{edits}", rule.set, hops.join(", "))
}

/// The hops of a rule that are up, in their order.
fn hop_targets<'t>(
    policy: &Policy,
    next_hops: &NextHops,
    usual: SocketAddr,
    uri: &Uri<'_>,
    rule: &Rule,
    indices: &[u16],
) -> Result<Targets<'t>, Reason> {
    let mut targets = Targets::new();
    let mut failure = Reason::NoNextHop;
    for index in indices {
        let id = next_hops.id_of(*index);
        let Some(hop) = next_hops.hop(id).filter(|hop| hop.state == HopState::Active) else { continue };
        let text = rule.rewrite(uri, &hop.uri).ok_or(Reason::NothingLeftOfNumber)?;
        let name = &hop.uri.name;
        let next_hop = match (name.address(), hop.addresses.first()) {
            (Some(_), Some(known)) => {
                let local = local_for(&policy.listeners, name.transport, &known.address, usual);
                flow_to(&policy.listeners, name.transport, local, known.address.remote).map(NextHop::Flow)
            }
            _ => Ok(NextHop::Name(usual, Box::new(name.clone()))),
        };
        match next_hop {
            Ok(next_hop) => targets.push(Target { hop: Some(id), ..Target::new(text, next_hop) }),
            Err(reason) => failure = reason,
        }
    }
    if targets.is_empty() { Err(failure) } else { Ok(targets) }
}
