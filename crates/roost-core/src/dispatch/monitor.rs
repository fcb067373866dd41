//! Next hops as one shard sees them. Shard 0 watches them: it has their names looked up and pings them, hears from all
//! shards how calls to them went, and tells all shards when one goes down or comes back.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::base::flow::{Flow, ShardId};
use crate::base::transport::Transport;
use crate::contract::command::{Command, ShardEvent};
use crate::contract::context::Ctx;
use crate::contract::event::{Event, EventKind};
use crate::contract::hop_uri::Name;
use crate::contract::listener::{Listener, flow_to, local_for};
use crate::contract::next_hops::{Address, Hop, HopAddress, HopId, HopState, NextHops};
use crate::contract::policy::Policy;
use crate::contract::rule::Rule;
use crate::message::branch_id::BranchId;
use crate::message::own_request::OwnRequest;

/// How often the names of hops are looked up, in milliseconds. The resolver knows how long an answer holds.
const LOOK_UP_MS: u64 = 10_000;
/// When a ping is sent again first, in milliseconds; the time doubles.
pub(crate) const PING_RESEND_MS: u64 = 1_000;

/// The next hops of one shard.
#[derive(Debug)]
pub(crate) struct HopMonitor {
    next_hops: Arc<NextHops>,
    /// How often each hop was the first choice here.
    hits: Vec<u64>,
    /// What shard 0 alone does.
    watch: Watch,
}

#[derive(Debug, Default)]
struct Watch {
    /// Hops whose names are being looked up.
    looked_up: Vec<HopId>,
    /// Pings that have not been answered.
    pinged: Vec<(HopId, SocketAddr)>,
    next_look_up_ms: u64,
    /// `None` until the hops have been looked up once.
    next_ping_ms: Option<u64>,
    last_ping_ms: u64,
}

/// What is due.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// Names to look up, for [`HopMonitor::resolved`].
    pub(crate) names: Vec<(HopId, Name)>,
    /// Pings to send, for [`HopMonitor::ping_ended`].
    pub(crate) pings: Vec<Ping>,
}

/// An OPTIONS to send to a hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ping {
    pub(crate) hop: HopId,
    pub(crate) flow: Flow,
    /// The hop, as the configuration has it.
    uri: Box<str>,
}

impl HopMonitor {
    pub(crate) fn new(rules: &Arc<[Rule]>) -> HopMonitor {
        let next_hops = NextHops::new(Arc::clone(rules), 0);
        HopMonitor {
            hits: vec![0; next_hops.hops().len()],
            next_hops: Arc::new(next_hops),
            watch: Watch::default(),
        }
    }

    /// The same hops, of which nobody is told and which nobody pings.
    pub(crate) fn excerpt(&self) -> HopMonitor {
        let next_hops = Arc::clone(&self.next_hops);
        HopMonitor { hits: vec![0; next_hops.hops().len()], next_hops, watch: Watch::default() }
    }

    /// The hops and rules as they are.
    pub(crate) fn next_hops(&self) -> &Arc<NextHops> {
        &self.next_hops
    }

    /// How often each hop was the first choice here.
    pub(crate) fn hits(&self) -> &[u64] {
        &self.hits
    }

    /// Whether an address is trusted: by the configuration, or as a hop's.
    pub(crate) fn is_trusted(&self, policy: &Policy, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        policy.proxy.trusted.has(ip) || self.next_hops.trusts(ip)
    }

    /// Counts a request whose first choice is this hop.
    pub(crate) fn count_hit(&mut self, hop: HopId) {
        if let Some(hits) = self.hits.get_mut(usize::from(hop.index)) {
            *hits += 1;
        }
    }

    /// What is due: looking up, pinging. Called every second.
    pub(crate) fn due(&mut self, ctx: &mut Ctx<'_>) -> Due {
        let mut due = Due::default();
        if ctx.shard != ShardId(0) || self.next_hops.is_empty() {
            return due;
        }
        if self.watch.next_look_up_ms <= ctx.now.mono_ms {
            due.names = self.look_up(ctx);
        }
        let interval_ms = ping_interval_ms(ctx);
        match self.watch.next_ping_ms {
            _ if interval_ms == 0 => {}
            None => self.watch.next_ping_ms = Some(ctx.now.mono_ms),
            // Sooner than it was due where the interval has become shorter.
            Some(due_ms) if due_ms.min(self.watch.last_ping_ms + interval_ms) <= ctx.now.mono_ms => {
                self.watch.last_ping_ms = ctx.now.mono_ms;
                self.watch.next_ping_ms = Some(ctx.now.mono_ms + interval_ms);
                due.pings = self.pings(ctx);
            }
            Some(_) => {}
        }
        due
    }

    /// The names of all hops that are not being looked up.
    fn look_up(&mut self, ctx: &Ctx<'_>) -> Vec<(HopId, Name)> {
        self.watch.next_look_up_ms = ctx.now.mono_ms + LOOK_UP_MS;
        let mut names = Vec::new();
        for (index, hop) in self.next_hops.hops().iter().enumerate() {
            let id = self.next_hops.id_of(index as u16);
            if !self.watch.looked_up.contains(&id) {
                self.watch.looked_up.push(id);
                names.push((id, hop.uri.name.clone()));
            }
        }
        names
    }

    /// A hop's name leads there. An empty answer takes nothing away: DNS may be down, and the hop is not.
    pub(crate) fn resolved(&mut self, ctx: &mut Ctx<'_>, id: HopId, found: &[Address]) {
        self.watch.looked_up.retain(|other| *other != id);
        self.change(ctx, |next_hops| {
            let Some(hop) = next_hops.hop_mut(id) else { return };
            if found.is_empty() {
                hop.lost = hop.lost.saturating_add(1);
                return;
            }
            hop.lost = 0;
            let old = std::mem::take(&mut hop.addresses);
            let failures = |address: &Address| {
                old.iter().find(|old| old.address.remote == address.remote).map_or(0, |old| old.failures)
            };
            let known = |address: &Address| HopAddress { address: *address, failures: failures(address) };
            hop.addresses = found.iter().map(known).collect();
            // The resolver mixes records of one priority anew each time: that changes nothing.
            hop.addresses.sort_by_key(|known| known.address.remote);
            hop.addresses.dedup_by_key(|known| known.address.remote);
        });
    }

    fn pings(&mut self, ctx: &mut Ctx<'_>) -> Vec<Ping> {
        let next_hops = Arc::clone(&self.next_hops);
        let listeners = &ctx.policy.listeners;
        let mut pings = Vec::new();
        for (index, hop) in next_hops.hops().iter().enumerate() {
            let id = next_hops.id_of(index as u16);
            if hop.state == HopState::Inactive {
                continue;
            }
            for HopAddress { address, .. } in &hop.addresses {
                let remote = address.remote;
                if self.watch.pinged.contains(&(id, remote)) {
                    continue;
                }
                let transport = hop.uri.name.transport;
                let Some(local) = ping_source(listeners, transport, address) else { continue };
                match flow_to(listeners, transport, local, remote) {
                    Ok(flow) => {
                        let flow = Flow { connection: address.connection, ..flow };
                        self.watch.pinged.push((id, remote));
                        pings.push(Ping { hop: id, flow, uri: hop.uri.text.clone() });
                    }
                    Err(_) => self.heard(ctx, id, remote, true),
                }
            }
        }
        pings
    }

    /// How a ping went.
    pub(crate) fn ping_ended(&mut self, ctx: &mut Ctx<'_>, hop: HopId, remote: SocketAddr, is_failure: bool) {
        self.watch.pinged.retain(|pinged| *pinged != (hop, remote));
        self.heard(ctx, hop, remote, is_failure);
    }

    /// How a call to a hop went: shard 0 counts.
    pub(crate) fn call_ended(&mut self, ctx: &mut Ctx<'_>, hop: HopId, remote: SocketAddr, is_failure: bool) {
        let Some(known) = self.next_hops.hop(hop) else { return };
        // What changes nothing is not worth telling.
        let is_suspected =
            known.addresses.iter().any(|known| known.address.remote == remote && known.failures > 0);
        if ctx.policy.dispatcher.ping_interval_s == 0 || (!is_failure && !is_suspected) {
            return;
        }
        if ctx.shard == ShardId(0) {
            return self.heard(ctx, hop, remote, is_failure);
        }
        let event = ShardEvent::HopHeard { hop, remote, is_failure };
        ctx.out.commands.push(Command::Tell { shard: Some(ShardId(0)), event });
    }

    /// How a ping or a call went.
    pub(crate) fn heard(&mut self, ctx: &mut Ctx<'_>, hop: HopId, remote: SocketAddr, is_failure: bool) {
        let threshold = ctx.policy.dispatcher.probing_threshold;
        self.change(ctx, |next_hops| {
            let Some(hop) = next_hops.hop_mut(hop) else { return };
            for known in hop.addresses.iter_mut().filter(|known| known.address.remote == remote) {
                known.failures = if is_failure { (known.failures + 1).min(threshold) } else { 0 };
            }
        });
    }

    /// What shard 0 says of the hops.
    pub(crate) fn take(&mut self, next_hops: Arc<NextHops>) {
        if !next_hops.is_of(&self.next_hops) {
            self.hits = vec![0; next_hops.hops().len()];
        }
        self.next_hops = next_hops;
    }

    /// Takes another `ds_ping_interval` or threshold up: states are weighed anew, and where nothing is pinged nothing is down.
    pub(crate) fn reconsider(&mut self, ctx: &mut Ctx<'_>) {
        if ctx.shard != ShardId(0) {
            return;
        }
        let (threshold, is_pinged) = (ctx.policy.dispatcher.probing_threshold, ping_interval_ms(ctx) > 0);
        self.change(ctx, |next_hops| {
            for hop in next_hops.hops.iter_mut() {
                if !is_pinged {
                    hop.addresses.iter_mut().for_each(|known| known.failures = 0);
                }
                hop.weigh(threshold);
            }
        });
    }

    /// Puts a hop into a state for an operator; whether there is such a hop.
    pub(crate) fn set_state(&mut self, ctx: &mut Ctx<'_>, set: u32, uri: &str, state: HopState) -> bool {
        let threshold = ctx.policy.dispatcher.probing_threshold;
        let is_it = |hop: &Hop| hop.set == set && hop.uri.text.eq_ignore_ascii_case(uri);
        let is_there = self.next_hops.hops().iter().any(is_it);
        self.change(ctx, |next_hops| {
            next_hops.hops.iter_mut().filter(|hop| is_it(hop)).for_each(|hop| hop.put(state, threshold));
        });
        is_there
    }

    /// Other rules from here on; the names to look up. Hops that were there before keep their states.
    pub(crate) fn set_rules(&mut self, ctx: &mut Ctx<'_>, rules: &Arc<[Rule]>) -> Vec<(HopId, Name)> {
        let version = self.next_hops.version.wrapping_add(1);
        let mut next_hops = NextHops::new(Arc::clone(rules), version);
        next_hops.inherit(&self.next_hops);
        self.watch = Watch::default();
        let next_hops = Arc::new(next_hops);
        self.take(Arc::clone(&next_hops));
        ctx.out.commands.push(Command::Tell { shard: None, event: ShardEvent::Hops(next_hops) });
        self.look_up(ctx)
    }

    /// Changes the hops, and tells all shards if that made a difference.
    fn change(&mut self, ctx: &mut Ctx<'_>, change: impl FnOnce(&mut NextHops)) {
        let threshold = ctx.policy.dispatcher.probing_threshold;
        let mut new = NextHops::clone(&self.next_hops);
        change(&mut new);
        for (hop, old) in new.hops.iter_mut().zip(self.next_hops.hops()) {
            if hop.addresses != old.addresses || hop.lost != old.lost {
                hop.weigh(threshold);
            }
            if old.state != hop.state {
                log_state(hop);
                let (set, uri, state) = (hop.set, &hop.uri.text, hop.state);
                ctx.out.tell(EventKind::Hop, || Event::Hop { set, uri: uri.clone(), state });
            }
        }
        if new.hops == self.next_hops.hops {
            return;
        }
        new.note_trusted();
        self.next_hops = Arc::new(new);
        if ctx.identity.shards > 1 {
            let event = ShardEvent::Hops(Arc::clone(&self.next_hops));
            ctx.out.commands.push(Command::Tell { shard: None, event });
        }
    }
}

impl Ping {
    /// Writes the OPTIONS. `call` is 64 random bits.
    pub(crate) fn write(&self, policy: &Policy, branch: BranchId, call: u64, out: &mut Vec<u8>) {
        let Ping { flow, uri, .. } = self;
        let from = &policy.dispatcher.ping_from;
        OwnRequest { method: "OPTIONS", flow, uri: uri.as_bytes(), from }.write(policy, branch, call, out);
    }
}

fn ping_interval_ms(ctx: &Ctx<'_>) -> u64 {
    u64::from(ctx.policy.dispatcher.ping_interval_s) * 1000
}

fn log_state(hop: &Hop) {
    let (set, uri) = (hop.set, &*hop.uri.text);
    match hop.state {
        HopState::Active => tracing::info!(set, uri, "next hop is up"),
        HopState::Probing => tracing::warn!(set, uri, "next hop does not answer"),
        HopState::Inactive => tracing::info!(set, uri, "next hop is taken out"),
    }
}

/// The address of ours that a ping leaves from.
fn ping_source(listeners: &[Listener], transport: Transport, address: &Address) -> Option<SocketAddr> {
    let is_v4 = address.remote.is_ipv4();
    let mut same =
        listeners.iter().filter(|listener| listener.transport == transport).map(|listener| listener.address);
    let usual = same.clone().find(|own| own.is_ipv4() == is_v4).or(same.next())?;
    let local = match address.local.filter(|_| usual.ip().is_unspecified()) {
        Some(ip) => SocketAddr::new(ip, usual.port()),
        None => local_for(listeners, transport, address, usual),
    };
    Some(local).filter(|local| !local.ip().is_unspecified())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
