//! Where a rule's requests go: to its hops that are up.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::contract::context::Ctx;
use crate::contract::listener::{flow_to, local_for};
use crate::contract::next_hops::{Hop, HopState, RuleId};
use crate::contract::policy::Policy;
use crate::contract::reason::Reason;
use crate::contract::rule::Failure;
use crate::dispatch::monitor::HopMonitor;
use crate::message::request::Request;
use crate::proxy::target::{NextHop, RouteTaken, Target, Targets};

/// The hops of a rule that are up, in their order; `failure`: why the extension is not reached that is called.
pub(crate) fn targets_of<'t>(
    ctx: &mut Ctx<'_>,
    hops: &mut HopMonitor,
    request: &Request<'_>,
    (id, failure): (RuleId, Option<Failure>),
) -> Result<Targets<'t>, Reason> {
    let next_hops = Arc::clone(hops.next_hops());
    let (Some(rule), Ok(uri)) = (next_hops.rule(id), &request.target) else { return Err(Reason::NoNextHop) };
    let why = |failure: Failure| format!("who is called {}: ", failure.words());
    ctx.decide("route", || failure.map_or(String::new(), why) + &rule.words());
    ctx.out.decide_each("route.hops", || {
        let hops = next_hops.hops_of(id).filter_map(|hop| next_hops.hop(hop));
        let passed_over = hops.filter(|hop| hop.state != HopState::Active);
        passed_over.map(|hop| format!("{} is passed over: {}", hop.uri.text, hop.state.as_str()))
    });
    let mut targets = Targets::new();
    let mut reason = Reason::NoNextHop;
    for hop_id in next_hops.hops_of(id) {
        let Some(hop) = next_hops.hop(hop_id).filter(|hop| hop.state == HopState::Active) else { continue };
        let text = rule.rewrite(uri, &hop.uri).ok_or(Reason::NothingLeftOfNumber)?;
        match way_to(ctx.policy, request.flow.local, hop) {
            Ok(next_hop) => {
                let route = Some(RouteTaken { hop: hop_id, rule: id, failure });
                targets.push(Target { route, ..Target::new(text, next_hop) });
            }
            Err(other) => reason = other,
        }
    }
    match targets.first().and_then(|first| first.route) {
        Some(first) => {
            hops.count_hit(first.hop);
            Ok(targets)
        }
        None => Err(reason),
    }
}

/// How a hop is reached: at its address, or by its name.
fn way_to(policy: &Policy, usual: SocketAddr, hop: &Hop) -> Result<NextHop, Reason> {
    let name = &hop.uri.name;
    match (name.address(), hop.addresses.first()) {
        (Some(_), Some(known)) => {
            let local = local_for(&policy.listeners, name.transport, &known.address, usual);
            flow_to(&policy.listeners, name.transport, local, known.address.remote).map(NextHop::Flow)
        }
        _ => Ok(NextHop::Name(usual, Box::new(name.clone()))),
    }
}
