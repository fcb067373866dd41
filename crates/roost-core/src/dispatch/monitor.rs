//! The keeper of the next hops, in shard 0: looks their names up, pings them, hears from all shards how calls to them
//! went, and tells all shards when one goes down or comes back.
//!
//! A ping is an OPTIONS without a transaction of the proxy's: a few fields here, and a branch parameter that leads to
//! them.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::auth::digest::push_hex;
use crate::base::flow::{Flow, Now, ShardId, Ticket, Transport};
use crate::base::stats::Counter;
use crate::contract::next_hops::{Dispatcher, HopId, HopPlace, HopState, Place, Rule};
use crate::contract::outbox::{Command, News, Outbox};
use crate::engine::Engine;
use crate::message::branch_id::BranchId;
use crate::message::forward::Sender;
use crate::proxy::next_hop::Resolving;

/// The transaction that the branches of pings name: no slot of the proxy's.
pub(crate) const PINGS: Ticket = Ticket(u64::MAX - 1);
/// How often the names of hops are looked up, in milliseconds. The resolver knows how long an answer holds.
const LOOK_UP_MS: u64 = 10_000;
/// When a ping is sent again first, in milliseconds; the time doubles.
const RESEND_MS: u64 = 1_000;

/// What shard 0 alone knows.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    pings: Vec<Ping>,
    next_look_up_ms: u64,
    /// `None` until the hops have been looked up once.
    next_ping_ms: Option<u64>,
}

/// An OPTIONS that has not been answered.
#[derive(Debug)]
struct Ping {
    hop: HopId,
    id: BranchId,
    flow: Flow,
    bytes: Vec<u8>,
    resend_ms: u64,
    next_ms: u64,
    deadline_ms: u64,
}

impl Engine {
    /// What is due: looking up, pinging, giving up. Called every second.
    pub(crate) fn keep_hops(&mut self, now: Now, out: &mut Outbox) {
        if self.shard != ShardId(0) || self.dispatcher.is_empty() {
            return;
        }
        self.follow_up_pings(now, out);
        if self.keeper.next_look_up_ms <= now.mono_ms {
            self.look_hops_up(now, out);
        }
        let interval_ms = u64::from(self.config.dispatcher.ping_interval_s) * 1000;
        if interval_ms == 0 {
            return;
        }
        match self.keeper.next_ping_ms {
            None => self.keeper.next_ping_ms = Some(now.mono_ms),
            Some(due_ms) if due_ms <= now.mono_ms => {
                self.keeper.next_ping_ms = Some(now.mono_ms + interval_ms);
                self.ping_hops(now, out);
            }
            Some(_) => {}
        }
    }

    fn look_hops_up(&mut self, now: Now, out: &mut Outbox) {
        self.keeper.next_look_up_ms = now.mono_ms + LOOK_UP_MS;
        let dispatcher = Arc::clone(&self.dispatcher);
        for (index, hop) in dispatcher.hops.iter().enumerate() {
            let id = dispatcher.id_of(index as u16);
            let is_asked = !self
                .resolving
                .tickets(|(_, what)| matches!(what, Resolving::Hop(other) if *other == id))
                .is_empty();
            if !is_asked {
                self.resolve(&hop.uri.name, Resolving::Hop(id), now, out);
            }
        }
    }

    /// A hop's name leads there. An empty answer takes nothing away: DNS may be down, and the hop is not.
    pub(crate) fn hop_resolved(&mut self, id: HopId, places: &[Place], _now: Now, out: &mut Outbox) {
        self.change_hops(out, |dispatcher| {
            let Some(hop) = dispatcher.hop_mut(id) else { return };
            if places.is_empty() {
                hop.lost = hop.lost.saturating_add(1);
                return;
            }
            hop.lost = 0;
            let old = std::mem::take(&mut hop.places);
            let failures = |place: &Place| {
                old.iter().find(|old| old.place.remote == place.remote).map_or(0, |old| old.failures)
            };
            let known = |place: &Place| HopPlace { place: *place, failures: failures(place) };
            hop.places = places.iter().map(known).collect();
            // The resolver mixes records of one priority anew each time: that is no news.
            hop.places.sort_by_key(|place| place.place.remote);
            hop.places.dedup_by_key(|place| place.place.remote);
        });
    }

    fn ping_hops(&mut self, now: Now, out: &mut Outbox) {
        let dispatcher = Arc::clone(&self.dispatcher);
        let deadline_ms = now.mono_ms + u64::from(self.config.tm.fr_timeout_s) * 1000;
        for (index, hop) in dispatcher.hops.iter().enumerate() {
            let id = dispatcher.id_of(index as u16);
            if hop.state == HopState::Inactive {
                continue;
            }
            for place in &hop.places {
                let remote = place.place.remote;
                let is_under_way = |ping: &Ping| ping.hop == id && ping.flow.remote == remote;
                if self.keeper.pings.iter().any(is_under_way) {
                    continue;
                }
                let transport = hop.uri.name.transport;
                let Some(local) = self.ping_source(transport, &place.place) else { continue };
                match self.config.flow_to(transport, local, remote) {
                    Ok(flow) => self.send_ping(id, &hop.uri.text, flow, now, deadline_ms, out),
                    Err(_) => self.heard_of_hop(id, remote, true, out),
                }
            }
        }
    }

    /// The address of ours that a ping leaves from.
    fn ping_source(&self, transport: Transport, place: &Place) -> Option<SocketAddr> {
        let is_v4 = place.remote.is_ipv4();
        let same = self.config.listeners.iter().filter(|listening| listening.transport == transport);
        let mut same = same.map(|listening| listening.address);
        let usual = same.clone().find(|address| address.is_ipv4() == is_v4).or(same.next())?;
        let local = match place.local.filter(|_| usual.ip().is_unspecified()) {
            Some(ip) => SocketAddr::new(ip, usual.port()),
            None => self.local_for(transport, place, usual),
        };
        Some(local).filter(|local| !local.ip().is_unspecified())
    }

    fn send_ping(&mut self, hop: HopId, uri: &str, flow: Flow, now: Now, deadline_ms: u64, out: &mut Outbox) {
        let (secret, call) = (self.branch_secret(PINGS), self.branch_secret(PINGS));
        let id = BranchId { shard: self.shard, transaction: PINGS, index: hop.index, secret, routing: 0 };
        let advertised = self.config.advertised_address.as_str();
        let sender = Sender { transport: flow.transport, local: flow.local, advertised };
        let mut bytes = Vec::with_capacity(512);
        let _ = write!(bytes, "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/{} ", flow.transport.as_via());
        sender.write(&mut bytes);
        bytes.extend_from_slice(b";branch=");
        id.write(&mut bytes);
        let _ =
            write!(bytes, ";rport\r\nMax-Forwards: 70\r\nFrom: <{}>;tag=", self.config.dispatcher.ping_from);
        push_hex(&call.to_be_bytes()[..4], &mut bytes);
        let _ = write!(bytes, "\r\nTo: <{uri}>\r\nCall-ID: ");
        push_hex(&call.to_be_bytes(), &mut bytes);
        bytes.extend_from_slice(b"@");
        sender.write(&mut bytes);
        bytes.extend_from_slice(b"\r\nCSeq: 1 OPTIONS\r\n");
        if !self.config.server_header.is_empty() {
            let _ = write!(bytes, "User-Agent: {}\r\n", self.config.server_header);
        }
        bytes.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        out.send(flow, |out| out.extend_from_slice(&bytes));
        self.stats.count(Counter::Pings);
        let next_ms = now.mono_ms + RESEND_MS;
        self.keeper.pings.push(Ping { hop, id, flow, bytes, resend_ms: RESEND_MS, next_ms, deadline_ms });
    }

    fn follow_up_pings(&mut self, now: Now, out: &mut Outbox) {
        let mut pings = std::mem::take(&mut self.keeper.pings);
        let mut silent = Vec::new();
        pings.retain_mut(|ping| {
            if ping.deadline_ms <= now.mono_ms {
                silent.push((ping.hop, ping.flow.remote));
                return false;
            }
            if ping.next_ms <= now.mono_ms && !ping.flow.transport.is_reliable() {
                out.send(ping.flow, |out| out.extend_from_slice(&ping.bytes));
                ping.resend_ms *= 2;
                ping.next_ms = now.mono_ms + ping.resend_ms;
            }
            true
        });
        self.keeper.pings = pings;
        for (hop, remote) in silent {
            self.heard_of_hop(hop, remote, true, out);
        }
    }

    /// A response to a ping. Whoever answers is there, unless the answer is that it has no service to give.
    pub(crate) fn ping_answered(&mut self, id: BranchId, code: u16, flow: &Flow, out: &mut Outbox) {
        let Some(at) = self.keeper.pings.iter().position(|ping| ping.id == id) else {
            return self.drop_response(flow);
        };
        if code < 200 {
            return;
        }
        let ping = self.keeper.pings.swap_remove(at);
        let is_failure = code == 408 || (500..600).contains(&code);
        self.heard_of_hop(ping.hop, ping.flow.remote, is_failure, out);
    }

    /// How a call to a hop went, from any shard: shard 0 counts.
    pub(crate) fn hop_heard(&mut self, hop: HopId, remote: SocketAddr, is_failure: bool, out: &mut Outbox) {
        let Some(known) = self.dispatcher.hop(hop) else { return };
        // What changes nothing is not worth a word.
        let is_suspected =
            known.places.iter().any(|place| place.place.remote == remote && place.failures > 0);
        if self.config.dispatcher.ping_interval_s == 0 || (!is_failure && !is_suspected) {
            return;
        }
        if self.shard == ShardId(0) {
            return self.heard_of_hop(hop, remote, is_failure, out);
        }
        let news = News::Heard { hop, remote, is_failure };
        out.commands.push(Command::Tell { shard: Some(ShardId(0)), news });
    }

    fn heard_of_hop(&mut self, hop: HopId, remote: SocketAddr, is_failure: bool, out: &mut Outbox) {
        let threshold = self.config.dispatcher.probing_threshold;
        self.change_hops(out, |dispatcher| {
            let Some(hop) = dispatcher.hop_mut(hop) else { return };
            for place in hop.places.iter_mut().filter(|place| place.place.remote == remote) {
                place.failures = if is_failure { (place.failures + 1).min(threshold) } else { 0 };
            }
        });
    }

    /// What another shard, or whoever keeps the connections, has to say.
    pub fn handle_news(&mut self, news: News, now: Now, out: &mut Outbox) {
        match news {
            News::Closed(connection) => self.connection_closed(connection),
            News::Unsent(flow, message) => self.unsent(&flow, &message, now, out),
            News::Hops(dispatcher) if self.shard != ShardId(0) => self.take_hops(dispatcher),
            News::Hops(_) => {}
            News::Banned(ban) => self.guard.ban(&ban, now),
            News::Heard { hop, remote, is_failure } => self.heard_of_hop(hop, remote, is_failure, out),
        }
    }

    fn take_hops(&mut self, dispatcher: Arc<Dispatcher>) {
        if dispatcher.version != self.dispatcher.version {
            self.hits = vec![0; dispatcher.hops.len()];
        }
        self.dispatcher = dispatcher;
    }

    /// Counts a request whose first choice is this hop.
    pub(crate) fn count_hit(&mut self, hop: HopId) {
        if let Some(hits) = self.hits.get_mut(usize::from(hop.index)) {
            *hits += 1;
        }
    }

    /// Puts a hop into a state for an operator; whether there is such a hop.
    pub(crate) fn set_hop(&mut self, set: u32, uri: &str, state: HopState, out: &mut Outbox) -> bool {
        let threshold = self.config.dispatcher.probing_threshold;
        let is_it =
            |hop: &crate::contract::next_hops::Hop| hop.set == set && hop.uri.text.eq_ignore_ascii_case(uri);
        let is_there = self.dispatcher.hops.iter().any(is_it);
        self.change_hops(out, |dispatcher| {
            dispatcher.hops.iter_mut().filter(|hop| is_it(hop)).for_each(|hop| hop.put(state, threshold));
        });
        is_there
    }

    /// Other rules from here on. Hops that were there before keep their states.
    pub(crate) fn set_rules(&mut self, rules: Vec<Rule>, now: Now, out: &mut Outbox) {
        let mut dispatcher = Dispatcher::new(rules, self.dispatcher.version.wrapping_add(1));
        dispatcher.inherit(&self.dispatcher);
        self.keeper = Keeper::default();
        let dispatcher = Arc::new(dispatcher);
        self.take_hops(Arc::clone(&dispatcher));
        out.commands.push(Command::Tell { shard: None, news: News::Hops(dispatcher) });
        self.look_hops_up(now, out);
    }

    /// Changes the hops, and tells all shards if that made a difference.
    fn change_hops(&mut self, out: &mut Outbox, change: impl FnOnce(&mut Dispatcher)) {
        let threshold = self.config.dispatcher.probing_threshold;
        let mut new = Dispatcher::clone(&self.dispatcher);
        change(&mut new);
        for (hop, old) in new.hops.iter_mut().zip(&self.dispatcher.hops) {
            if hop.places != old.places || hop.lost != old.lost {
                hop.weigh(threshold);
            }
            let (set, uri) = (hop.set, &hop.uri.text);
            match (old.state, hop.state) {
                (old, new) if old == new => {}
                (_, HopState::Active) => tracing::info!(set, uri = &**uri, "next hop is up"),
                (_, HopState::Probing) => tracing::warn!(set, uri = &**uri, "next hop does not answer"),
                (_, HopState::Inactive) => tracing::info!(set, uri = &**uri, "next hop is taken out"),
            }
        }
        if new.hops == self.dispatcher.hops {
            return;
        }
        new.note_trusted();
        self.dispatcher = Arc::new(new);
        let news = News::Hops(Arc::clone(&self.dispatcher));
        if self.config.shards > 1 {
            out.commands.push(Command::Tell { shard: None, news });
        }
    }
}
