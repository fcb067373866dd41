//! How a target is reached: at once, or once its name is resolved (RFC 3263); and what is tried when it is not: its
//! other addresses, then the next hops.

use std::net::SocketAddr;

use roost_sip::Uri;

use crate::auth::authenticator::UserKey;
use crate::auth::credentials::Cached;
use crate::base::flow::{Flow, Now, Ticket, Transport};
use crate::base::limits;
use crate::base::stats::Counter;
use crate::contract::config::Config;
use crate::contract::next_hops::{HopId, HopState, Name, Place, Rule};
use crate::contract::outbox::{Command, Outbox};
use crate::engine::Engine;
use crate::message::request::{Request, To};
use crate::message::response::Answer;
use crate::proxy::proxy::{Way, transport_of, unresolvable};
use crate::transaction::transactions::Target;

/// Where a branch goes.
#[derive(Debug, Clone)]
pub(crate) enum Reach {
    Flow(Flow),
    /// By name, from this address of ours unless another one leads there.
    Name(SocketAddr, Box<Name>),
}

/// What waits for a name.
#[derive(Debug)]
pub(crate) enum Resolving {
    /// A branch, and what is tried when it fails (the next one last).
    Branch { transaction: Ticket, target: Target, rest: Vec<Target> },
    /// The ACK of a 2xx.
    Ack { source: Flow, bytes: Box<[u8]>, target: Target },
    /// A hop of the dispatcher.
    Hop(HopId),
}

/// Where a request for a number that nobody has registered goes.
pub(crate) enum Routed {
    /// No rule is for it.
    Nowhere,
    To(Vec<Target>),
    Refused(Answer),
    /// The database knows whether it is an extension.
    Ask(UserKey),
}

impl Config {
    /// Where a URI leads; an address at once.
    pub(crate) fn reach(&self, uri: &Uri<'_>, local: SocketAddr) -> Result<Reach, Answer> {
        let transport = transport_of(uri)?;
        match uri.host_ip() {
            Some(ip) => {
                let remote = SocketAddr::new(ip, uri.port.unwrap_or(5060));
                self.flow_to(transport, local, remote).map(Reach::Flow)
            }
            None if uri.host.is_empty() => Err(unresolvable()),
            None => Ok(Reach::Name(local, Box::new(Name::new(uri.host, uri.port, transport)))),
        }
    }
}

impl Engine {
    /// Sends a request to a target, or asks for its name first; `rest` is tried when it fails, its last one first.
    #[expect(clippy::too_many_arguments, reason = "a request, its way, and what follows")]
    pub(crate) fn try_target(
        &mut self,
        request: &Request<'_>,
        ticket: Ticket,
        target: Target,
        rest: Vec<Target>,
        way: &Way<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        match &target.reach {
            Reach::Flow(flow) => {
                self.send_to(request, ticket, &target, *flow, rest, way, now, out);
                self.pool.give_target(target);
            }
            Reach::Name(_, name) => {
                let name = name.clone();
                if self.resolving.len() >= limits::MAX_RESOLVING {
                    self.stats.count(Counter::ResolvingFull);
                    self.pool.give_target(target);
                    return self.try_rest(ticket, rest, Some(476), now, out);
                }
                if let Some(transaction) = self.transactions.get_mut(ticket) {
                    transaction.resolving += 1;
                }
                self.resolve(&name, Resolving::Branch { transaction: ticket, target, rest }, now, out);
            }
        }
    }

    /// Asks where a name leads.
    pub(crate) fn resolve(&mut self, name: &Name, what: Resolving, now: Now, out: &mut Outbox) {
        let ticket = self.resolving.insert((now.mono_ms, what));
        out.commands.push(Command::Resolve { ticket, name: name.clone() });
    }

    /// An ACK whose next hop is a name waits for it like a branch.
    pub(crate) fn resolve_ack(&mut self, request: &Request<'_>, target: Target, now: Now, out: &mut Outbox) {
        let Reach::Name(_, name) = &target.reach else { return };
        if self.resolving.len() >= limits::MAX_RESOLVING {
            self.stats.count(Counter::ResolvingFull);
            return self.pool.give_target(target);
        }
        let name = name.clone();
        let what = Resolving::Ack { source: request.flow, bytes: request.bytes.into(), target };
        self.resolve(&name, what, now, out);
    }

    /// A name leads to these places, the first one first; to none when it does not exist or nobody answers.
    pub(crate) fn resolved(&mut self, ticket: Ticket, places: &[Place], now: Now, out: &mut Outbox) {
        match self.resolving.remove(ticket) {
            Some((_, Resolving::Branch { transaction, target, rest })) => {
                self.branch_resolved(transaction, target, rest, places, now, out);
            }
            Some((_, Resolving::Ack { source, bytes, target })) => {
                let flow = self.flows_of(&target, places).into_iter().next();
                match flow {
                    Some(flow) => self.with_head(&bytes, |engine, head| {
                        if let Some(request) = Request::new(source, &bytes, head) {
                            engine.forward_ack(&request, &target, flow, out);
                        }
                    }),
                    None => self.stats.count(Counter::DropRequests),
                }
                self.pool.give_target(target);
            }
            Some((_, Resolving::Hop(id))) => self.hop_resolved(id, places, now, out),
            None => {}
        }
    }

    fn branch_resolved(
        &mut self,
        ticket: Ticket,
        target: Target,
        mut rest: Vec<Target>,
        places: &[Place],
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(transaction) = self.transactions.get_mut(ticket) else {
            rest.push(target);
            return self.pool.give_all(rest);
        };
        transaction.resolving = transaction.resolving.saturating_sub(1);
        for flow in self.flows_of(&target, places).into_iter().rev() {
            let (uri, path) = (self.pool.copy(&target.uri), self.pool.copy_some(&target.path));
            rest.push(Target { uri, path, reach: Reach::Flow(flow), is_same: true, ..target });
        }
        let is_lost = rest.last().is_none_or(|next| !next.is_same);
        self.pool.give_target(target);
        self.try_rest(ticket, rest, is_lost.then_some(476), now, out);
    }

    /// The flows to the places of a target's name, those that are known to be down last.
    fn flows_of(&mut self, target: &Target, places: &[Place]) -> Vec<Flow> {
        let Reach::Name(local, name) = &target.reach else { return Vec::new() };
        if places.len() > limits::MAX_PLACES {
            self.stats.count(Counter::PlacesCut);
        }
        let flow = |place: &Place| {
            let local = self.local_for(name.transport, place, *local);
            self.config.flow_to(name.transport, local, place.remote).ok()
        };
        let mut flows: Vec<Flow> = places.iter().take(limits::MAX_PLACES).filter_map(flow).collect();
        if !self.dispatcher.is_empty() {
            let threshold = self.config.dispatcher.probing_threshold;
            flows.sort_by_key(|flow| self.dispatcher.is_down(flow.remote, threshold));
        }
        flows
    }

    /// The address of ours that leads to a place; `usual` unless another one is known to.
    pub(crate) fn local_for(&self, transport: Transport, place: &Place, usual: SocketAddr) -> SocketAddr {
        let is_v4 = place.remote.is_ipv4();
        let Some(ip) = place.local.filter(|ip| ip.is_ipv4() == is_v4 && *ip != usual.ip()) else {
            return usual;
        };
        let listens = |address: &SocketAddr| address.ip() == ip || address.ip().is_unspecified();
        let listeners = self.config.listeners.iter().filter(|listening| listening.transport == transport);
        let mut same =
            listeners.map(|listening| listening.address).filter(|address| address.is_ipv4() == is_v4);
        let listener = same.clone().find(listens).map(|address| SocketAddr::new(ip, address.port()));
        let other = || same.find(|_| usual.is_ipv4() != is_v4);
        listener.or_else(other).unwrap_or(usual)
    }

    /// Goes on with what is left to try; `code` is how the last one failed, where nobody has noted it.
    pub(crate) fn try_rest(
        &mut self,
        ticket: Ticket,
        mut rest: Vec<Target>,
        code: Option<u16>,
        now: Now,
        out: &mut Outbox,
    ) {
        if let Some(code) = code {
            self.note_failure(ticket, code, None);
        }
        let Some(transaction) = self.transactions.get_mut(ticket) else { return self.pool.give_all(rest) };
        if transaction.is_cancelled || !transaction.server.is_open() {
            self.pool.give_all(rest);
            return self.settle(ticket, now, out);
        }
        let Some(target) = rest.pop() else {
            return self.settle(ticket, now, out);
        };
        self.with_request(ticket, |engine, request, way| {
            engine.try_target(request, ticket, target, rest, way, now, out);
        });
    }

    /// The request of a transaction that has not been answered, and how it is edited on its way.
    pub(crate) fn with_request(
        &mut self,
        ticket: Ticket,
        use_: impl FnOnce(&mut Engine, &Request<'_>, &Way<'_>),
    ) {
        let Some(transaction) = self.transactions.get(ticket) else { return };
        let (source, bytes) = (transaction.server.source, transaction.server.request.clone());
        self.with_head(&bytes, |engine, head| {
            if let Some(request) = Request::new(source, &bytes, head) {
                let way = engine.way_of(&request);
                use_(engine, &request, &way);
            }
        });
    }

    /// Where a number goes that nobody has registered. Extensions that exist are at home here, registered or not.
    /// `is_retry` says that the database was asked and did not answer.
    pub(crate) fn route_out(
        &mut self,
        request: &Request<'_>,
        uri: &Uri<'_>,
        is_retry: bool,
        now: Now,
    ) -> Routed {
        let raw = uri.user.unwrap_or(&[]);
        let mut user = Vec::with_capacity(raw.len());
        roost_sip::unescape_into(raw, &mut user);
        let dispatcher = std::sync::Arc::clone(&self.dispatcher);
        let Some((rule, hops)) = dispatcher.rule_for(&user, uri.host) else { return Routed::Nowhere };
        let to = To { user: raw, host: uri.host };
        if self.is_registered(to, now) {
            return Routed::Nowhere;
        }
        if !rule.offline
            && let Some(key) = UserKey::new(&user, uri.host, self.config.use_domain)
        {
            match self.is_extension(&key, now) {
                Some(true) => {
                    let answer = Answer::new(404, "Not Found").why("the callee is not registered");
                    return Routed::Refused(answer);
                }
                Some(false) => {}
                None if is_retry => {
                    let why = "the database did not say whether the callee is an extension";
                    return Routed::Refused(Answer::new(500, "Server Internal Error").why(why));
                }
                None => return Routed::Ask(key),
            }
        }
        self.hop_targets(request, uri, rule, hops)
    }

    /// Whether a user is a subscriber, as far as that is known.
    fn is_extension(&mut self, key: &UserKey, now: Now) -> Option<bool> {
        let ttl_ms = u64::from(self.config.auth_db.cache_ttl_s) * 1000;
        let is_fresh = |loaded_ms: u64| loaded_ms + ttl_ms >= now.mono_ms;
        match self.secrets.get(key.text()) {
            Cached::Known(_, loaded_ms) if is_fresh(loaded_ms) => Some(true),
            Cached::Unknown { loaded_ms } if is_fresh(loaded_ms) => Some(false),
            _ => None,
        }
    }

    /// The hops of a rule that are up, in their order.
    fn hop_targets(&mut self, request: &Request<'_>, uri: &Uri<'_>, rule: &Rule, hops: &[u16]) -> Routed {
        let dispatcher = std::sync::Arc::clone(&self.dispatcher);
        let mut targets = Vec::new();
        let mut failure = Answer::new(503, "Service Unavailable").why("no next hop is up");
        for index in hops {
            let id = dispatcher.id_of(*index);
            let Some(hop) = dispatcher.hop(id).filter(|hop| hop.state == HopState::Active) else { continue };
            let Some(text) = rule.rewrite(uri, &hop.uri) else {
                let answer = Answer::new(484, "Address Incomplete").why("nothing is left of the number");
                return Routed::Refused(answer);
            };
            let (name, usual) = (&hop.uri.name, request.flow.local);
            let reach = match (name.address(), hop.places.first()) {
                (Some(_), Some(place)) => {
                    let local = self.local_for(name.transport, &place.place, usual);
                    self.config.flow_to(name.transport, local, place.place.remote).map(Reach::Flow)
                }
                _ => Ok(Reach::Name(usual, Box::new(name.clone()))),
            };
            match reach {
                Ok(reach) => {
                    let uri = self.pool.copy(&text);
                    targets.push(Target {
                        uri,
                        path: Vec::new(),
                        reach,
                        q: None,
                        hop: Some(id),
                        is_same: false,
                    });
                }
                Err(answer) => failure = answer,
            }
        }
        match targets.first().and_then(|first| first.hop) {
            Some(first) => {
                self.count_hit(first);
                Routed::To(targets)
            }
            None => Routed::Refused(failure),
        }
    }

    /// Whether anybody may be led to a target: a trusted address, or a hop by its name.
    pub(crate) fn is_trusted_reach(&self, reach: &Reach) -> bool {
        match reach {
            Reach::Flow(flow) => self.is_trusted(flow.remote.ip()),
            Reach::Name(_, name) => self.dispatcher.names(name),
        }
    }

    /// Gives up on names that nobody resolves.
    pub(crate) fn give_up_names(&mut self, now: Now, out: &mut Outbox) {
        if self.resolving.len() == 0 {
            return;
        }
        let is_late = |(since_ms, _): &(u64, Resolving)| since_ms + limits::RESOLVING_MS <= now.mono_ms;
        for ticket in self.resolving.tickets(is_late) {
            self.stats.count(Counter::ResolvingLate);
            self.resolved(ticket, &[], now, out);
        }
    }

    /// What a failed branch leaves to try: other addresses of the same target after silence or a 503 (RFC 3263 4.3),
    /// other hops after any 5xx, nothing after an answer that another hop would give too.
    pub(crate) fn left_to_try(&mut self, ticket: Ticket, index: u16, code: Option<u16>) -> Vec<Target> {
        let Some(branch) = self.branch_mut(ticket, index) else { return Vec::new() };
        let mut rest = std::mem::take(&mut branch.rest);
        if rest.is_empty() {
            return rest;
        }
        let kept = match code {
            None if branch.has_rung => 0,
            None | Some(503) => rest.len(),
            Some(500..600) => rest.iter().rposition(|next| !next.is_same).map_or(0, |at| at + 1),
            Some(_) => 0,
        };
        let given = rest.split_off(kept);
        self.pool.give_all(given);
        rest
    }
}
