//! Calls in progress of one shard (OpenSIPS's `dialog`): one entry for each, from its INVITE to its BYE.
//!
//! An entry lives in the shard that sent the INVITE on. Its number is part of the token in Record-Route, so every request
//! inside the dialog names it; a shard that handles such a request tells the entry's shard. A call that nobody ends, because
//! a BYE was lost, ends when its session is over (RFC 4028) or after `dialog.default_timeout`.

mod agents;
mod call;
pub(crate) mod moved;
mod own;

use std::hash::BuildHasher;

use hashbrown::HashMap;
use roost_sip::{Head, HeaderName, Method, NameAddr, list, number};

use crate::base::aor::{UserHost, split_aor};
use crate::base::flow::Flow;
use crate::base::hash::KeyedState;
use crate::base::limits;
use crate::base::slab::Slab;
use crate::base::stats::Counter;
use crate::contract::admin::AdminReply;
use crate::contract::call::{
    AgentCalls, AgentStep, CallEnd, CallNumber, CallRecord, CallSide, CallState, CallStepInDialog, CallText,
    CallTexts, Heard, StepKind,
};
use crate::contract::command::{Command, ShardEvent};
use crate::contract::context::Ctx;
use crate::contract::event::{Event, EventKind};
use crate::contract::identity::Identity;
use crate::dialog::agents::Agents;
use crate::dialog::call::Call;
pub(crate) use crate::dialog::own::{CallPing, InDialog};
use crate::message::dialog_token::DialogToken;
use crate::message::request::Request;
use crate::message::route::route_uri;

/// How long after the end of its session a call may still be refreshed, in seconds: timer F.
const GRACE_S: u64 = 32;
/// So often in a row a side does not know of its call any more that the call is over.
const PINGS_LOST: u8 = 2;
/// How long one look at all calls takes, in seconds.
const SWEEP_S: usize = 10;

/// The calls of one shard.
#[derive(Debug)]
pub(crate) struct Dialogs {
    calls: Slab<Call>,
    early: usize,
    active: usize,
    /// The next slot to look at.
    sweep_at: u32,
    /// The serial of the last call.
    serial: u16,
    /// Where the calls of earlier processes are, which keep their numbers.
    restored: HashMap<CallNumber, u32, KeyedState>,
    agents: Agents,
}

/// Who is known of a call that begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parties<'a> {
    /// Whether the caller is an extension: nobody who is trusted without a password.
    pub(crate) is_from_extension: bool,
    pub(crate) callee: UserHost<'a>,
    /// Whether the callee is an extension: it goes to bindings.
    pub(crate) is_to_extension: bool,
}

impl Dialogs {
    pub(crate) fn new(hash_seed: u64) -> Dialogs {
        let agents = Agents::new(hash_seed);
        let restored = HashMap::with_hasher(KeyedState::new(hash_seed));
        Dialogs { calls: Slab::default(), early: 0, active: 0, sweep_at: 0, serial: 0, restored, agents }
    }

    /// No call, but how many these extensions have.
    pub(crate) fn excerpt(&self, hash_seed: u64, aors: &[Vec<u8>]) -> Dialogs {
        Dialogs { agents: self.agents.excerpt(hash_seed, aors), ..Dialogs::new(hash_seed) }
    }

    /// An INVITE begins a call; its number. `None`: there is no room for it, and it goes on without an entry.
    pub(crate) fn begin<'a>(
        &mut self,
        ctx: &mut Ctx<'_>,
        request: &Request<'a>,
        parties: Parties<'_>,
    ) -> Option<CallNumber> {
        if self.early + self.active >= ctx.identity.share_of(limits::MAX_CALLS) {
            ctx.count(Counter::CallsFull);
            return None;
        }
        let uri_of = |address: &Option<NameAddr<'a>>| address.map_or(&[][..], |address| address.uri_text);
        let mut routes = Vec::new();
        join_routes(request.head, request.bytes, HeaderName::RecordRoute, |_| true, &mut routes);
        let (mut caller, mut callee) = (ctx.buffers.take_text(), ctx.buffers.take_text());
        // One that cannot be written is no extension.
        for (aor, who) in [
            (&mut caller, request.caller().filter(|_| parties.is_from_extension)),
            (&mut callee, Some(parties.callee).filter(|_| parties.is_to_extension)),
        ] {
            if who.is_some() && ctx.write_aor(who, aor).is_err() {
                aor.clear();
            }
        }
        let (mut texts, mut scratch) = (CallTexts::default(), ctx.buffers.take_text());
        texts.set(
            &mut scratch,
            &[
                (CallText::CallId, request.call_id().unwrap_or(&[])),
                (CallText::CallerAor, &caller),
                (CallText::CalleeAor, &callee),
                (CallText::CallerUri, uri_of(&request.from_addr)),
                (CallText::CallerTag, request.sender_tag().unwrap_or(&[])),
                (CallText::CallerContact, contact_of(request.value(HeaderName::Contact))),
                (CallText::CallerRoutes, &routes),
                (CallText::CalleeUri, uri_of(&request.to_addr)),
            ],
        );
        self.serial = self.serial.wrapping_add(1);
        let call = Call {
            texts,
            begun_s: ctx.now.unix_s,
            answered_s: 0,
            answered_mono_ms: 0,
            until_ms: u64::MAX,
            caller: CallSide::new(request.cseq().map_or(0, |cseq| cseq.number), Some(request.flow)),
            callee: CallSide::default(),
            pinged_s: 0,
            restored: None,
            serial: self.serial,
            state: CallState::Unconfirmed,
            lost: [0; 2],
        };
        let slot = self.calls.put(call);
        self.agent(ctx, &caller, AgentStep::Calls);
        self.agent(ctx, &callee, AgentStep::Rings);
        for text in [caller, callee, scratch] {
            ctx.buffers.give_text(text);
        }
        self.early += 1;
        ctx.count(Counter::DialogsProcessed);
        ctx.identity.calls.begin();
        Some(self.number(ctx, slot))
    }

    /// Somebody rings.
    pub(crate) fn ringing(&mut self, ctx: &mut Ctx<'_>, number: CallNumber) {
        if let Some(slot) = self.slot_of(ctx, number)
            && let Some(call) = self.calls.get_mut(slot).filter(|call| call.state == CallState::Unconfirmed)
        {
            call.state = CallState::Early;
            self.tell(ctx, slot, CallState::Unconfirmed, None);
        }
    }

    /// A 2xx to its INVITE is on its way to the caller. Of several the first counts: the caller ends the others.
    pub(crate) fn answered(
        &mut self,
        ctx: &mut Ctx<'_>,
        number: CallNumber,
        flow: Flow,
        (bytes, head): (&[u8], &Head),
    ) {
        let default_s = u64::from(ctx.policy.dialog.default_timeout_s);
        let Some(slot) = self.slot_of(ctx, number) else { return };
        let Some(call) = self.calls.get_mut(slot).filter(|call| !call.is_answered()) else { return };
        let to = head.value(bytes, HeaderName::To).and_then(|value| NameAddr::parse(value).ok());
        let mut routes = Vec::new();
        // Ours is the last one above those that were there before. Another node may stand above it.
        let identity = ctx.identity;
        let call_id = head.value(bytes, HeaderName::CallId).unwrap_or(&[]);
        let is_beyond = |value: &[u8]| !is_mark_of(identity, call_id, value, number);
        join_routes(head, bytes, HeaderName::RecordRoute, is_beyond, &mut routes);
        let old = std::mem::replace(&mut call.state, CallState::ConfirmedNotAcknowledged);
        call.answered_s = ctx.now.unix_s.max(1);
        call.answered_mono_ms = ctx.now.mono_ms as i64;
        let mut scratch = ctx.buffers.take_text();
        call.texts.set(
            &mut scratch,
            &[
                (CallText::CalleeTag, to.and_then(|to| to.tag()).unwrap_or(&[])),
                (CallText::CalleeContact, contact_of(head.value(bytes, HeaderName::Contact))),
                (CallText::CalleeRoutes, &routes),
            ],
        );
        call.callee.set_flow(flow);
        let session_s = session_of(head, bytes);
        call.until_ms = ctx.now.mono_ms + lasts_s(session_s, default_s) * 1000;
        scratch.clear();
        scratch.extend_from_slice(call.texts.get(CallText::CalleeAor));
        self.agent(ctx, &scratch, AgentStep::Answers);
        ctx.buffers.give_text(scratch);
        self.early -= 1;
        self.active += 1;
        self.tell(ctx, slot, old, None);
    }

    /// The caller was told this: there is no call.
    pub(crate) fn failed(&mut self, ctx: &mut Ctx<'_>, number: CallNumber, code: u16) {
        let open = self.slot_of(ctx, number);
        let open = open.filter(|slot| self.calls.get(*slot).is_some_and(|call| !call.is_answered()));
        if let Some(slot) = open {
            ctx.count(Counter::DialogsFailed);
            self.end(ctx, slot, CallEnd::Failed(code));
        }
    }

    /// Takes what a request inside a dialog says of its call, which is here or in another shard.
    pub(crate) fn hear(&mut self, ctx: &mut Ctx<'_>, token: &DialogToken, request: &Request<'_>) {
        let Some((number, is_from_caller)) = token.call.zip(token.is_from_caller(request)) else { return };
        let kind = match request.method {
            Method::Ack => StepKind::Ack,
            Method::Bye => StepKind::Bye,
            Method::Invite | Method::Update => StepKind::Refresh,
            _ => StepKind::Other,
        };
        let tag = if is_from_caller { request.to_tag() } else { request.sender_tag() };
        let (call_id, callee_tag) = (request.call_id().unwrap_or(&[]), tag.unwrap_or(&[]));
        let heard = Heard {
            is_from_caller,
            kind,
            cseq: request.cseq().map_or(0, |cseq| cseq.number),
            contact: match kind {
                StepKind::Refresh => contact_of(request.value(HeaderName::Contact)).into(),
                _ => Box::default(),
            },
            session_s: match kind {
                StepKind::Refresh => session_of(request.head, request.bytes),
                _ => 0,
            },
        };
        let home = number.home(ctx.identity.shards);
        if home == ctx.shard {
            let is_it = |call: &Call| {
                let is_its_answer = !call.is_answered() || call.texts.get(CallText::CalleeTag) == callee_tag;
                call.texts.get(CallText::CallId) == call_id && is_its_answer
            };
            return self.take(ctx, number, is_it, &heard);
        }
        let hash = |text: &[u8]| ctx.hasher.hash_one(text);
        let step = CallStepInDialog { number, call_id: hash(call_id), callee_tag: hash(callee_tag), heard };
        let event = ShardEvent::CallStep(step);
        ctx.out.commands.push(Command::Tell { shard: Some(home), event });
    }

    /// Takes what another shard has heard.
    pub(crate) fn take_step(&mut self, ctx: &mut Ctx<'_>, step: &CallStepInDialog) {
        let hasher = ctx.hasher;
        let is_it = |call: &Call| {
            let hash = |part: CallText| hasher.hash_one(call.texts.get(part));
            let is_its_answer = !call.is_answered() || hash(CallText::CalleeTag) == step.callee_tag;
            hash(CallText::CallId) == step.call_id && is_its_answer
        };
        self.take(ctx, step.number, is_it, &step.heard);
    }

    fn take(&mut self, ctx: &mut Ctx<'_>, number: CallNumber, is_it: impl Fn(&Call) -> bool, heard: &Heard) {
        let default_s = u64::from(ctx.policy.dialog.default_timeout_s);
        let Some(slot) = self.slot_of(ctx, number) else { return };
        let Some(call) = self.calls.get_mut(slot).filter(|call| is_it(call)) else { return };
        let side = if heard.is_from_caller { &mut call.caller } else { &mut call.callee };
        side.cseq = side.cseq.max(heard.cseq);
        if !call.is_answered() {
            // Of early dialogs there may be several; what they have in common is the caller's numbers.
            return;
        }
        if !heard.contact.is_empty() {
            let part = if heard.is_from_caller { CallText::CallerContact } else { CallText::CalleeContact };
            call.texts.set(&mut Vec::new(), &[(part, &heard.contact)]);
        }
        match heard.kind {
            StepKind::Bye => {
                let end = if heard.is_from_caller { CallEnd::CallerHungUp } else { CallEnd::CalleeHungUp };
                self.end(ctx, slot, end);
            }
            StepKind::Ack if call.state == CallState::ConfirmedNotAcknowledged => {
                call.state = CallState::Confirmed;
                self.tell(ctx, slot, CallState::ConfirmedNotAcknowledged, None);
            }
            StepKind::Refresh => {
                call.until_ms = ctx.now.mono_ms + lasts_s(heard.session_s, default_s) * 1000;
            }
            StepKind::Ack | StepKind::Other => {}
        }
    }

    /// Where the call of a number is, unless it has ended.
    fn slot_of(&self, ctx: &Ctx<'_>, number: CallNumber) -> Option<u32> {
        let is_its = |call: &Call| call.serial == number.serial && call.restored.is_none();
        let is_here = number.epoch == ctx.identity.epoch && self.calls.get(number.slot).is_some_and(is_its);
        // The epoch of an earlier process may be ours by chance.
        if is_here { Some(number.slot) } else { self.restored.get(&number).copied() }
    }

    fn end(&mut self, ctx: &mut Ctx<'_>, slot: u32, end: CallEnd) {
        let Some(call) = self.calls.get_mut(slot) else { return };
        let old = std::mem::replace(&mut call.state, CallState::Deleted);
        self.tell(ctx, slot, old, Some(end));
        ctx.stats.count_call_end(end);
        let Some(call) = self.calls.take(slot) else { return };
        if let Some(number) = call.restored {
            self.restored.remove(&*number);
        }
        let (count, step) = match call.answered_s {
            0 => (&mut self.early, AgentStep::RingsNoMore),
            _ => (&mut self.active, AgentStep::HangsUp),
        };
        *count = count.saturating_sub(1);
        ctx.identity.calls.end();
        self.agent(ctx, call.texts.get(CallText::CallerAor), AgentStep::HangsUp);
        self.agent(ctx, call.texts.get(CallText::CalleeAor), step);
    }

    /// Takes up a call that was in progress when an earlier process ended. It keeps its number, by which its phones name it.
    pub(crate) fn restore(&mut self, ctx: &mut Ctx<'_>, record: &CallRecord) {
        let is_known = self.restored.contains_key(&record.number);
        if is_known || record.answered_s.is_none() {
            return;
        }
        let call = Call::restored(ctx, record);
        self.active += 1;
        self.take_up(ctx, call, record);
        self.agent(ctx, record.text(CallText::CalleeAor), AgentStep::Answers);
    }

    /// Keeps a call of an earlier process under its number there; its caller's and callee's shards count it.
    fn take_up(&mut self, ctx: &mut Ctx<'_>, call: Call, record: &CallRecord) {
        let slot = self.calls.put(call);
        self.restored.insert(record.number, slot);
        ctx.identity.calls.begin();
        self.agent(ctx, record.text(CallText::CallerAor), AgentStep::Calls);
        self.agent(ctx, record.text(CallText::CalleeAor), AgentStep::Rings);
    }

    /// A call of an extension has come so far: the extension's shard counts.
    fn agent(&mut self, ctx: &mut Ctx<'_>, aor: &[u8], step: AgentStep) {
        if aor.is_empty() {
            return;
        }
        let (user, _) = split_aor(aor, ctx.identity.use_domain);
        let shard = ctx.identity.shard_of(user);
        if shard == ctx.shard {
            return self.take_agent(ctx, aor, step);
        }
        let event = ShardEvent::Agent(aor.into(), step);
        ctx.out.commands.push(Command::Tell { shard: Some(shard), event });
    }

    /// Takes what another shard knows of an extension of this one.
    pub(crate) fn take_agent(&mut self, ctx: &mut Ctx<'_>, aor: &[u8], step: AgentStep) {
        self.agents.take(aor, step);
        ctx.note_agent(aor);
    }

    /// The calls of an extension of this shard.
    pub(crate) fn calls_of(&self, aor: &[u8]) -> AgentCalls {
        self.agents.of(aor)
    }

    /// Whether an extension of this shard may have no other call (`dialog.max_calls`).
    pub(crate) fn is_full(&self, ctx: &Ctx<'_>, who: Option<UserHost<'_>>) -> bool {
        let most = ctx.policy.dialog.max_calls;
        most != 0
            && aor_of(ctx, who).is_some_and(|aor| {
                let AgentCalls { ringing, in_use } = self.agents.of(&aor);
                ringing + in_use >= most
            })
    }

    /// The extensions of this shard that have calls.
    pub(crate) fn agents(&self) -> Vec<(Box<[u8]>, AgentCalls)> {
        self.agents.iter().map(|(aor, calls)| (aor.into(), calls)).collect()
    }

    /// Ends calls whose time is over. Called every second. What asks phones whether they still know of their calls
    /// (`dialog.options_ping_interval`), to be sent.
    pub(crate) fn sweep(&mut self, ctx: &mut Ctx<'_>) -> Vec<CallPing> {
        let mut pings = Vec::new();
        let slots = self.calls.len();
        for _ in 0..slots.div_ceil(SWEEP_S) {
            let slot = self.sweep_at;
            self.sweep_at = if (slot as usize) + 1 < slots { slot + 1 } else { 0 };
            if self.calls.get(slot).is_some_and(|call| call.until_ms <= ctx.now.mono_ms) {
                ctx.count(Counter::DialogsExpired);
                self.end(ctx, slot, CallEnd::Timeout);
            } else if ctx.policy.dialog.options_ping_interval_s != 0 {
                self.ping(ctx, slot, &mut pings);
            }
        }
        pings
    }

    /// Asks both sides of a call, if it is time.
    fn ping(&mut self, ctx: &Ctx<'_>, slot: u32, pings: &mut Vec<CallPing>) {
        let number = self.number(ctx, slot);
        let interval_s = ctx.policy.dialog.options_ping_interval_s;
        let Some(call) = self.calls.get_mut(slot).filter(|call| call.is_answered()) else { return };
        let age_s = ctx.now.unix_s.saturating_sub(call.answered_s).min(u64::from(u32::MAX)) as u32;
        if age_s < call.pinged_s + interval_s {
            return;
        }
        call.pinged_s = age_s;
        let (record, is_restored) = (call.record(ctx, number), call.restored.is_some());
        let ping = |is_to_callee| CallPing {
            request: InDialog::new(record.clone(), is_restored, is_to_callee, None),
            number,
            is_to_callee,
        };
        pings.extend([ping(true), ping(false)]);
    }

    /// What a side says to being asked. A call that it does not know any more, or not any more that it can be asked, twice in
    /// a row, is over: BYEs for both.
    pub(crate) fn ping_ended(
        &mut self,
        ctx: &mut Ctx<'_>,
        number: CallNumber,
        is_to_callee: bool,
        is_lost: bool,
    ) -> Option<[InDialog; 2]> {
        let slot = self.slot_of(ctx, number)?;
        let lost = &mut self.calls.get_mut(slot)?.lost[usize::from(is_to_callee)];
        *lost = if is_lost { *lost + 1 } else { 0 };
        if *lost < PINGS_LOST {
            return None;
        }
        let end = if is_to_callee { CallEnd::CalleeGone } else { CallEnd::CallerGone };
        self.end_for_both(ctx, slot, end)
    }

    /// An operator ends a call: BYEs for both. `None`: there is no such call, or it is not answered.
    pub(crate) fn end_by_operator(&mut self, ctx: &mut Ctx<'_>, number: CallNumber) -> Option<[InDialog; 2]> {
        let slot = self.slot_of(ctx, number)?;
        self.end_for_both(ctx, slot, CallEnd::Operator)
    }

    /// A call is over, and both sides are to be told, each by the BYE of the other.
    fn end_for_both(&mut self, ctx: &mut Ctx<'_>, slot: u32, end: CallEnd) -> Option<[InDialog; 2]> {
        let call = self.calls.get(slot).filter(|call| call.is_answered())?;
        let (record, is_restored) = (call.record(ctx, self.number(ctx, slot)), call.restored.is_some());
        self.end(ctx, slot, end);
        Some([
            InDialog::new(record.clone(), is_restored, true, Some(end)),
            InDialog::new(record, is_restored, false, Some(end)),
        ])
    }

    /// Calls from a slot on, for operators.
    pub(crate) fn dump(&self, ctx: &Ctx<'_>, from: usize) -> AdminReply {
        let (mut calls, mut places) = (Vec::new(), Vec::new());
        for (slot, call) in self.calls.iter_from(from) {
            if calls.len() == limits::MAX_DUMP_SLICE {
                return AdminReply::Calls { calls, places, next: Some(slot) };
            }
            calls.push(call.record(ctx, self.number(ctx, slot as u32)));
            places.push(slot);
        }
        AdminReply::Calls { calls, places, next: None }
    }

    /// One call, for operators.
    pub(crate) fn show(&self, ctx: &Ctx<'_>, number: CallNumber) -> AdminReply {
        let slot = self.slot_of(ctx, number);
        let call =
            slot.and_then(|slot| self.calls.get(slot).map(|call| call.record(ctx, self.number(ctx, slot))));
        call.map_or(AdminReply::CallNotFound, |call| AdminReply::Call(call.into()))
    }

    /// Early and active calls.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.early, self.active)
    }

    /// The same, by name.
    pub(crate) fn gauges(&self) -> [(&'static str, u64); 3] {
        [
            ("dialog:early_dialogs", self.early as u64),
            ("dialog:active_dialogs", self.active as u64),
            ("roost:agents_with_calls", self.agents.len() as u64),
        ]
    }

    fn number(&self, ctx: &Ctx<'_>, slot: u32) -> CallNumber {
        let call = self.calls.get(slot);
        if let Some(number) = call.and_then(|call| call.restored.as_ref()) {
            return **number;
        }
        let serial = call.map_or(0, |call| call.serial);
        CallNumber { epoch: ctx.identity.epoch, shard: ctx.shard, slot, serial }
    }

    /// Tells that a call has another state than `old`.
    fn tell(&self, ctx: &mut Ctx<'_>, slot: u32, old: CallState, end: Option<CallEnd>) {
        let Some(call) = self.calls.get(slot) else { return };
        let topic = match call.state {
            CallState::ConfirmedNotAcknowledged | CallState::Deleted => EventKind::CallRecord,
            _ => EventKind::CallState,
        };
        if ctx.out.listening.has(topic) {
            let record = call.record(ctx, self.number(ctx, slot));
            ctx.out.tell(topic, || Event::Dialog { record, old, end });
        }
    }
}

/// How long a call may last that is refreshed so often, in seconds.
fn lasts_s(session_s: u32, default_s: u64) -> u64 {
    match session_s {
        0 => default_s,
        session_s => (u64::from(session_s) + GRACE_S).min(default_s),
    }
}

/// Session-Expires, in seconds (RFC 4028 section 4); 0 where there is none.
fn session_of(head: &Head, bytes: &[u8]) -> u32 {
    // `x` is short for it, and the beginning of too many other names to be one.
    let value = head.value(bytes, HeaderName::SessionExpires).or_else(|| head.others(bytes, b"x").next());
    let seconds = value.and_then(|value| value.split(|byte| *byte == b';').next());
    seconds.and_then(|seconds| number(seconds.trim_ascii()).ok()).unwrap_or(0)
}

fn contact_of(value: Option<&[u8]>) -> &[u8] {
    let first = value.and_then(|value| list(value).next());
    first.and_then(|value| NameAddr::parse(value).ok()).map_or(&[][..], |address| address.uri_text)
}

fn aor_of(ctx: &Ctx<'_>, who: Option<UserHost<'_>>) -> Option<Vec<u8>> {
    let mut aor = Vec::new();
    ctx.write_aor(who, &mut aor).ok()?;
    Some(aor)
}

/// Whether a Record-Route is ours, and of this call.
fn is_mark_of(identity: &Identity, call_id: &[u8], value: &[u8], number: CallNumber) -> bool {
    let has_mark = memchr::memmem::find(value, b";did=").is_some();
    if !has_mark || identity.node.is_none() {
        return has_mark;
    }
    let Some(mark) = route_uri(value).and_then(|(uri, _)| uri.param(b"did")) else { return false };
    let mut keys = std::iter::once(&identity.mac_key).chain(identity.floating_keys());
    keys.any(|key| DialogToken::parse(key, call_id, mark).is_some_and(|token| token.call == Some(number)))
}

/// Appends the values of a route header up to the first that is not wanted, joined by commas.
fn join_routes(
    head: &Head,
    bytes: &[u8],
    name: HeaderName,
    is_wanted: impl Fn(&[u8]) -> bool,
    out: &mut Vec<u8>,
) {
    for value in head.values(bytes, name).flat_map(list) {
        if !is_wanted(value) || out.len() + value.len() > limits::MAX_ROUTES {
            return;
        }
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests;
