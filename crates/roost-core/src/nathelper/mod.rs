//! Keeps the ways open to phones behind NAT, and notes which of them answer (OpenSIPS's `nathelper`).
//!
//! The AORs are visited in turn, so that pings are spread evenly over `natping_interval`. A ping has no transaction: it is
//! sent once, and its branch says whose it is and when it was sent. A stream keeps its own ways open, so there only pings
//! that want an answer are sent.

use std::hash::BuildHasher;

use hashbrown::HashMap;

use crate::base::flow::Flow;
use crate::base::hash::KeyedState;
use crate::base::stats::Counter;
use crate::base::transport::Transport;
use crate::contract::admin::{AdminReply, PingsRecord};
use crate::contract::context::Ctx;
use crate::contract::event::{Event, EventKind};
use crate::message::branch_id::BranchId;
use crate::message::own_request::OwnRequest;
use crate::proxy::callee::next_hop_of;
use crate::proxy::target::NextHop;
use crate::registrar::Registrar;
use crate::registrar::binding::Binding;
use crate::registrar::location::{Record, RecordId};
use crate::transaction::client::drop_response;

/// A step is this long at least, and at most, in milliseconds.
const SHORTEST_STEP_MS: u64 = 10;
const LONGEST_STEP_MS: u64 = 1_000;
/// After a pause so many steps are made up for, not all: pings must not come in a burst.
const STEPS_AT_ONCE: u64 = 2;

/// The pings of one shard.
#[derive(Debug)]
pub(crate) struct NatPinger {
    /// The next place to visit.
    slot: usize,
    /// When the last step was, and when the next is due, in monotonic milliseconds.
    last_ms: u64,
    next_ms: u64,
    /// Places times milliseconds that are owed.
    owed: u64,
    /// Counts how often all places have been visited.
    round: u32,
    /// By contact id: those whose phones are asked for answers.
    health: HashMap<u64, Health, KeyedState>,
}

/// How a phone answers.
#[derive(Debug, Clone, Copy, Default)]
struct Health {
    /// When it was pinged last.
    round: u32,
    lost: u32,
    latency_ms: Option<u32>,
    /// The first ping that waits for an answer, in monotonic milliseconds.
    since_ms: Option<u64>,
}

impl NatPinger {
    pub(crate) fn new(hash_seed: u64) -> NatPinger {
        let health = HashMap::with_hasher(KeyedState::new(hash_seed));
        NatPinger { slot: 0, last_ms: 0, next_ms: 0, owed: 0, round: 0, health }
    }

    /// When [`NatPinger::step`] is due, in monotonic milliseconds.
    pub(crate) fn next_ms(&self) -> u64 {
        self.next_ms
    }

    /// Pings those whose turn it is. Bindings to be removed, whose phones have not answered for too long.
    pub(crate) fn step(&mut self, ctx: &mut Ctx<'_>, registrar: &Registrar) -> Vec<(RecordId, u64)> {
        let now_ms = ctx.now.mono_ms;
        let interval_ms = u64::from(ctx.policy.nathelper.natping_interval_s) * 1000;
        let slots = registrar.slots();
        let mut given_up = Vec::new();
        if interval_ms == 0 || slots == 0 || registrar.is_cut_off(ctx.now) {
            self.health.clear();
            (self.last_ms, self.next_ms, self.owed) = (now_ms, now_ms + LONGEST_STEP_MS, 0);
            return given_up;
        }
        let step_ms = (interval_ms / slots as u64).clamp(SHORTEST_STEP_MS, LONGEST_STEP_MS);
        let passed_ms = now_ms.saturating_sub(self.last_ms).min(step_ms * STEPS_AT_ONCE);
        self.owed += slots as u64 * passed_ms;
        let due = (self.owed / interval_ms).min(slots as u64);
        self.owed %= interval_ms;
        for _ in 0..due {
            if let Some((id, record)) = registrar.record_at(self.slot) {
                self.visit(ctx, id, record, &mut given_up);
            }
            self.slot += 1;
            if self.slot >= slots {
                self.end_round();
            }
        }
        (self.last_ms, self.next_ms) = (now_ms, now_ms + step_ms);
        given_up
    }

    /// What was not pinged in this round is not there any more.
    fn end_round(&mut self) {
        let round = self.round;
        self.health.retain(|_, health| health.round == round);
        self.round = round.wrapping_add(1);
        self.slot = 0;
    }

    fn visit(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: RecordId,
        record: &Record,
        given_up: &mut Vec<(RecordId, u64)>,
    ) {
        for binding in record.live(ctx.now) {
            let Some(flow) = way_to(ctx, binding) else { continue };
            let params = &ctx.policy.nathelper;
            if params.sipping_method.is_empty() {
                if flow.transport == Transport::Udp {
                    ctx.out.send(flow, |bytes| bytes.extend_from_slice(b"\r\n\r\n"));
                    ctx.count(Counter::NatPings);
                }
                continue;
            }
            let health = self.health.entry(binding.contact_id).or_default();
            health.round = self.round;
            let threshold_ms = u64::from(params.ping_threshold_s) * 1000;
            if health.since_ms.is_some_and(|since_ms| ctx.now.mono_ms >= since_ms + threshold_ms) {
                (health.lost, health.since_ms) = (health.lost.saturating_add(1), None);
                ctx.stats.count(Counter::NatPingsLost);
                let lost = health.lost;
                if lost == params.max_pings_lost {
                    let (aor, contact_id) = (&record.aor, binding.contact_id);
                    ctx.out.tell(EventKind::Loss, || Event::PingsLost { aor: aor.clone(), contact_id, lost });
                }
                if lost >= params.max_pings_lost && params.remove_on_timeout {
                    given_up.push((id, binding.contact_id));
                    continue;
                }
            }
            health.since_ms.get_or_insert(ctx.now.mono_ms);
            send_ping(ctx, flow, binding);
        }
    }

    /// A ping's answer: whatever it says, its phone is there.
    pub(crate) fn answered(&mut self, ctx: &mut Ctx<'_>, id: BranchId, flow: &Flow) {
        let (contact_id, sent_ms) = (id.transaction.0, id.routing);
        let is_ours = id.secret == secret(ctx, contact_id, sent_ms);
        let Some(health) = self.health.get_mut(&contact_id).filter(|_| is_ours) else {
            return drop_response(ctx, flow);
        };
        ctx.stats.count(Counter::ReceivedReplies);
        let took_ms = (ctx.now.mono_ms as u32).wrapping_sub(sent_ms);
        *health = Health { lost: 0, since_ms: None, latency_ms: Some(took_ms), ..*health };
    }

    fn pings(&self, contact_id: u64) -> Option<PingsRecord> {
        let Health { latency_ms, lost, .. } = *self.health.get(&contact_id)?;
        Some(PingsRecord { latency_ms: latency_ms.map(u64::from), lost })
    }

    /// Adds to what operators see of bindings how their phones answer.
    pub(crate) fn with_pings(&self, mut reply: AdminReply) -> AdminReply {
        let records = match &mut reply {
            AdminReply::Slice { records, .. } => &mut records[..],
            AdminReply::Record(record) => std::slice::from_mut(record),
            _ => &mut [],
        };
        for contact in records.iter_mut().flat_map(|record| &mut record.contacts) {
            contact.pings = self.pings(contact.contact_id);
        }
        reply
    }
}

/// How a binding is pinged; `None` for one that is not.
fn way_to(ctx: &Ctx<'_>, binding: &Binding) -> Option<Flow> {
    let is_wanted = binding.behind_nat || !ctx.policy.nathelper.ping_nated_only;
    if !is_wanted || !binding.path().is_empty() {
        return None;
    }
    let usual = ctx.policy.listeners.first()?.address;
    match next_hop_of(ctx.policy, usual, binding) {
        // What is connected to for a call only needs no way that is kept open.
        Ok(NextHop::Flow(flow)) if !flow.transport.is_reliable() || flow.connection != 0 => Some(flow),
        _ => None,
    }
}

fn send_ping(ctx: &mut Ctx<'_>, flow: Flow, binding: &Binding) {
    let sent_ms = ctx.now.mono_ms as u32;
    let contact_id = binding.contact_id;
    let secret = secret(ctx, contact_id, sent_ms);
    let branch = BranchId::of_ping(ctx.shard, contact_id, secret, sent_ms);
    let call = ctx.hasher.hash_one(("Call-ID of a ping", secret));
    let policy = ctx.policy;
    let params = &policy.nathelper;
    let (method, from) = (params.sipping_method.as_str(), params.sipping_from.as_str());
    let request = OwnRequest { method, flow: &flow, uri: binding.contact(), from };
    ctx.out.send(flow, |bytes| request.write(policy, branch, call, bytes));
    ctx.count(Counter::NatPings);
}

/// What nobody can guess who has not seen the ping.
fn secret(ctx: &Ctx<'_>, contact_id: u64, sent_ms: u32) -> u64 {
    ctx.hasher.hash_one(("ping", contact_id, sent_ms))
}

#[cfg(test)]
mod tests;
