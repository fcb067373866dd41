//! Sends requests on to their targets, and answers their senders once nothing is left to try (RFC 3261 16.6 to 16.9).

use std::borrow::Cow;
use std::collections::VecDeque;

use roost_sip::{Head, HeaderName, Method};

use crate::base::flow::{Flow, Ticket};
use crate::base::limits;
use crate::base::stats::Counter;
use crate::continuation::Continuation;
use crate::contract::call::CallNumber;
use crate::contract::command::Command;
use crate::contract::context::Ctx;
use crate::contract::event::{CallStep, Event, EventKind};
use crate::contract::listener::{flow_to, is_local, local_for};
use crate::contract::next_hops::{Address, HopId};
use crate::contract::policy::Policy;
use crate::contract::reason::Reason;
use crate::dialog::Dialogs;
use crate::dispatch::monitor::HopMonitor;
use crate::message::forward::{has_identity, write_response};
use crate::message::request::Request;
use crate::message::trace;
use crate::parking::Parking;
use crate::proxy::callee::routes_of;
use crate::proxy::diversion::{RouteHeaders, diverted};
use crate::proxy::edits::{Begun, ForwardWriter, RouteEdits};
use crate::proxy::identity::{identity_of_request, strips_response};
use crate::proxy::response_context::{Best, Noted, ResponseContext};
use crate::proxy::target::{NextHop, Target, Targets};
use crate::transaction::arena::Stored;
use crate::transaction::client::{ClientOutcome, ELSEWHERE, Going, What};
use crate::transaction::server::tell_failure;
use crate::transaction::{Transactions, routing_hash};

/// Who owns a transaction.
#[derive(Debug)]
pub(crate) enum Owner {
    /// A request that is sent on.
    Forward(ResponseContext),
    /// A ping of a next hop.
    HopPing(HopId),
    /// A BYE of ours: nobody waits for its answer.
    Bye,
    /// An OPTIONS of ours inside a call, for the callee's side or the caller's.
    CallPing { call: CallNumber, is_to_callee: bool },
}

/// What sending a request on needs: nothing of bindings, secrets or bans.
#[derive(Debug)]
pub(crate) struct Forwarder<'e> {
    pub(crate) transactions: &'e mut Transactions<Owner>,
    pub(crate) hops: &'e mut HopMonitor,
    pub(crate) parking: &'e mut Parking<Continuation>,
    pub(crate) dialogs: &'e mut Dialogs,
}

/// A response that was received.
pub(crate) type Received<'a> = (&'a [u8], &'a Head);

impl Forwarder<'_> {
    /// Sends a request to all targets, or to the first group of equal q with `serial_fork`; hops of a rule are tried one
    /// after the other.
    pub(crate) fn fork(
        &mut self,
        ctx: &mut Ctx<'_>,
        request: &Request<'_>,
        ticket: Ticket,
        mut targets: Targets<'_>,
        edits: &RouteEdits<'_>,
    ) {
        if targets.first().is_some_and(|first| first.route.is_some()) {
            let first = targets.remove(0);
            ctx.out.decide_each("route", || {
                let uris = targets.iter().map(|later| String::from_utf8_lossy(&later.uri));
                uris.map(|uri| format!("where that fails, {uri} is tried next"))
            });
            let rest = targets.into_iter().rev();
            let rest = rest.map(|target| target.store(self.transactions, ticket)).collect();
            return self.try_target(ctx, request, ticket, first, rest, edits);
        }
        if ctx.policy.proxy.serial_fork {
            let first = targets.first().and_then(|first| first.q);
            let same = targets.iter().take_while(|target| target.q == first).count();
            let mut groups: VecDeque<Vec<Target<Stored>>> = VecDeque::new();
            for target in targets.drain(same..) {
                let uri = || String::from_utf8_lossy(&target.uri);
                ctx.decide("proxy.serial_fork", || format!("{} has a lower q: it is tried later", uri()));
                let target = target.store(self.transactions, ticket);
                match groups.back_mut().filter(|group| group.first().is_some_and(|one| one.q == target.q)) {
                    Some(group) => group.push(target),
                    None => groups.push_back(vec![target]),
                }
            }
            if let Some(context) = self.context(ticket) {
                context.set_later(groups);
            }
        }
        let mut targets = targets.into_iter().peekable();
        while let Some(target) = targets.next() {
            let mut rest = Vec::new();
            while let Some(other) = targets.next_if(|next| next.is_other_flow) {
                rest.insert(0, other.store(self.transactions, ticket));
            }
            self.try_target(ctx, request, ticket, target, rest, edits);
        }
    }

    /// Sends a request to a target, or asks for its name first; `rest` is tried when it fails, its last one first.
    pub(crate) fn try_target(
        &mut self,
        ctx: &mut Ctx<'_>,
        request: &Request<'_>,
        ticket: Ticket,
        target: Target<Cow<'_, [u8]>>,
        rest: Vec<Target<Stored>>,
        edits: &RouteEdits<'_>,
    ) {
        let name = match &target.next_hop {
            NextHop::Flow(flow) => {
                let flow = *flow;
                return self.send_to(ctx, request, ticket, &target, flow, rest, edits);
            }
            NextHop::Name(_, name) => (**name).clone(),
        };
        if !self.parking.has_room_for_name(ctx) {
            return self.try_rest(ctx, ticket, rest, Some(476));
        }
        if let Some(context) = self.context(ticket) {
            context.begin_resolving();
        }
        ctx.decide("", || format!("the name {} is looked up in DNS, and it is sent there", name.host));
        let target = target.store(self.transactions, ticket);
        let then = Continuation::Forward { transaction: ticket, target, rest };
        let ticket = self.parking.wait_for_name(ctx, None, then);
        ctx.out.commands.push(Command::Resolve { ticket, name });
    }

    #[expect(clippy::too_many_arguments, reason = "a request, its edits, and what follows")]
    fn send_to(
        &mut self,
        ctx: &mut Ctx<'_>,
        request: &Request<'_>,
        ticket: Ticket,
        target: &Target<Cow<'_, [u8]>>,
        flow: Flow,
        rest: Vec<Target<Stored>>,
        edits: &RouteEdits<'_>,
    ) {
        let goes = Going {
            flow,
            routing: routing_hash(ctx, request),
            ring_s: self.context(ticket).map_or(0, |context| context.ring_s()),
        };
        trace::branch(request, &target.uri, &flow);
        ctx.decide("", || format!("sent to {} at {flow}", String::from_utf8_lossy(&target.uri)));
        if let Some(context) = self.context(ticket) {
            context.add_branch(target.route.map(|route| route.hop), rest);
        }
        let asserted = identity_of_request(ctx.policy, self.hops, request, &flow);
        let next_hops = self.hops.next_hops();
        let route = target.route.map(|taken| RouteHeaders { next_hops, taken });
        let writer =
            ForwardWriter { identity: ctx.identity, policy: ctx.policy, request, edits, asserted, route };
        let write = |branch, bytes: &mut Vec<u8>| writer.write(target, &flow, branch, bytes);
        self.transactions.open_client(ctx, ticket, goes, write);
    }

    /// A name leads to these addresses, the first one first; to none when it does not exist or nobody answers.
    pub(crate) fn resolved(
        &mut self,
        ctx: &mut Ctx<'_>,
        ticket: Ticket,
        target: Target<Stored>,
        mut rest: Vec<Target<Stored>>,
        addresses: &[Address],
    ) {
        let Some(context) = self.context(ticket) else { return };
        context.end_resolving();
        for flow in self.flows_of(ctx, &target.next_hop, addresses).into_iter().rev() {
            let flow = not_ourselves(ctx.policy, flow, &target);
            rest.push(Target { next_hop: NextHop::Flow(flow), is_same: true, ..target.clone() });
        }
        let is_lost = rest.last().is_none_or(|next| !next.is_same);
        self.try_rest(ctx, ticket, rest, is_lost.then_some(476));
    }

    /// The flows to the addresses of a name, those that are known to be down last.
    pub(crate) fn flows_of(&self, ctx: &mut Ctx<'_>, next_hop: &NextHop, addresses: &[Address]) -> Vec<Flow> {
        let NextHop::Name(usual, name) = next_hop else { return Vec::new() };
        if addresses.len() > limits::MAX_ADDRESSES {
            ctx.count(Counter::PlacesCut);
        }
        let listeners = &ctx.policy.listeners;
        let flow = |address: &Address| {
            let local = local_for(listeners, name.transport, address, *usual);
            let flow = flow_to(listeners, name.transport, local, address.remote).ok()?;
            Some(Flow { connection: address.connection, ..flow })
        };
        let mut flows: Vec<Flow> = addresses.iter().take(limits::MAX_ADDRESSES).filter_map(flow).collect();
        let next_hops = self.hops.next_hops();
        if !next_hops.is_empty() {
            let threshold = ctx.policy.dispatcher.probing_threshold;
            flows.sort_by_key(|flow| next_hops.is_down(flow.remote, threshold));
        }
        flows
    }

    /// Goes on with what is left to try; `code` is how the last one failed, where nobody has noted it.
    fn try_rest(
        &mut self,
        ctx: &mut Ctx<'_>,
        ticket: Ticket,
        mut rest: Vec<Target<Stored>>,
        code: Option<u16>,
    ) {
        if let Some(code) = code {
            self.note_failure(ctx, ticket, code, None);
        }
        let is_over = self.context(ticket).is_none_or(|context| context.is_cancelled())
            || !self.transactions.is_open(ticket);
        match rest.pop().filter(|_| !is_over) {
            Some(target) => self.try_stored(ctx, ticket, vec![target], rest),
            None => self.settle(ctx, ticket),
        }
    }

    /// Sends the request of a transaction that is not answered to targets that were kept with it.
    fn try_stored(
        &mut self,
        ctx: &mut Ctx<'_>,
        ticket: Ticket,
        targets: Vec<Target<Stored>>,
        mut rest: Vec<Target<Stored>>,
    ) {
        let mut bytes = ctx.buffers.take_text();
        let Some(source) = self.transactions.copy_request(ticket, &mut bytes) else {
            return ctx.buffers.give_text(bytes);
        };
        ctx.with_head(&bytes, |ctx, head| {
            let Some(request) = Request::new(ctx.policy, source, &bytes, head) else { return };
            let edits = self.edits_of(ctx, &request, ticket);
            let mut targets = targets.into_iter().peekable();
            while let Some(target) = targets.next() {
                while let Some(other) = targets.next_if(|next| next.is_other_flow) {
                    rest.insert(0, other);
                }
                let target = target.load(self.transactions, ticket);
                self.try_target(ctx, &request, ticket, target, std::mem::take(&mut rest), &edits);
            }
        });
        ctx.buffers.give_text(bytes);
    }

    /// How a transaction's request is edited.
    fn edits_of<'a>(&mut self, ctx: &Ctx<'_>, request: &Request<'a>, ticket: Ticket) -> RouteEdits<'a> {
        let begun = self.context(ticket).map_or_else(Begun::default, |context| context.begun());
        let routes = routes_of(ctx, self.hops, request);
        RouteEdits::of(ctx.policy, request, &routes, begun)
    }

    /// Takes what a client transaction has to say.
    pub(crate) fn handle_outcome(
        &mut self,
        ctx: &mut Ctx<'_>,
        outcome: ClientOutcome,
        response: Option<Received<'_>>,
    ) {
        let ClientOutcome { transaction: ticket, index, what, .. } = outcome;
        self.report_hop(ctx, &outcome);
        match (what, response) {
            (What::Provisional(code), Some(response)) => {
                if code > 100 {
                    self.tell(ctx, response, || CallStep::Ringing);
                    if let Some(call) = self.call_of(ticket) {
                        self.dialogs.ringing(ctx, call);
                    }
                    let strips = self.strips(ctx, ticket, index, response);
                    self.transactions.relay(ctx, ticket, response, strips);
                }
            }
            (What::Success { is_first }, Some(response)) => {
                if is_first {
                    self.tell(ctx, response, || CallStep::Answered);
                    if let Some(call) = self.call_of(ticket)
                        && let Some(flow) = self.transactions.client_flow(ticket, index)
                    {
                        self.dialogs.answered(ctx, call, flow, response);
                    }
                }
                let strips = self.strips(ctx, ticket, index, response);
                self.transactions.relay(ctx, ticket, response, strips);
                self.cancel_others(ctx, ticket, index, ELSEWHERE);
            }
            (What::Provisional(_) | What::Success { .. }, None) | (What::Late(_), _) => {}
            (What::Failure(code), response) => self.failed(ctx, &outcome, Some(code), response),
            (What::Silence, _) => self.failed(ctx, &outcome, None, None),
            (What::Unsent(code), _) => {
                self.note_failure(ctx, ticket, code, None);
                // As after a 503 (RFC 3261 16.9, RFC 3263 4.3).
                let rest = self.left_to_try(&outcome, Some(503));
                match rest.is_empty() {
                    false => self.try_rest(ctx, ticket, rest, None),
                    true => self.settle(ctx, ticket),
                }
            }
        }
    }

    /// A branch has failed, with a response or by silence: the next target, or the caller's answer once all have.
    fn failed(
        &mut self,
        ctx: &mut Ctx<'_>,
        outcome: &ClientOutcome,
        code: Option<u16>,
        response: Option<Received<'_>>,
    ) {
        let (ticket, index) = (outcome.transaction, outcome.index);
        let Some(context) = self.context(ticket) else { return };
        let silent = if context.is_cancelled() { 487 } else { 408 };
        self.note_failure(ctx, ticket, code.unwrap_or(silent), response.map(|response| (index, response)));
        let rest = self.left_to_try(outcome, code);
        if !rest.is_empty() {
            return self.try_rest(ctx, ticket, rest, None);
        }
        if let Some(code) = code.filter(|code| *code >= 600) {
            self.cancel_others(ctx, ticket, index, &cause(code, response));
        }
        self.settle(ctx, ticket);
    }

    fn left_to_try(&mut self, outcome: &ClientOutcome, code: Option<u16>) -> Vec<Target<Stored>> {
        match self.context(outcome.transaction) {
            Some(context) => context.left_to_try(outcome.index, code, outcome.has_rung),
            None => Vec::new(),
        }
    }

    /// A next hop has answered a call, or has not.
    fn report_hop(&mut self, ctx: &mut Ctx<'_>, outcome: &ClientOutcome) {
        let hop = self.context(outcome.transaction).and_then(|context| context.hop_of(outcome.index));
        let Some(hop) = hop else { return };
        let is_failure = match outcome.what {
            What::Silence | What::Unsent(_) if !outcome.has_rung => true,
            // A 5xx shows that the hop is there; only a ping decides whether it is usable.
            What::Provisional(101..) | What::Success { .. } => false,
            What::Failure(code) | What::Late(code) if !(500..600).contains(&code) => false,
            _ => return,
        };
        self.hops.call_ended(ctx, hop, outcome.remote, is_failure);
    }

    /// Goes on with what another process has begun, and nothing is awaited for.
    pub(crate) fn resume(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket) {
        if self.context(ticket).is_some_and(|context| context.has_no_answer()) {
            self.note_failure(ctx, ticket, 480, None);
        }
        self.settle(ctx, ticket);
    }

    /// Answers the caller once nothing is awaited and nothing is left to try.
    fn settle(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket) {
        let is_resolving = self.context(ticket).is_some_and(|context| context.is_resolving());
        if is_resolving || self.transactions.is_any_awaited(ticket) {
            return;
        }
        match self.context(ticket).and_then(ResponseContext::next_group) {
            Some(group) => self.try_stored(ctx, ticket, group, Vec::new()),
            None if self.divert(ctx, ticket) => {}
            None => self.answer_best(ctx, ticket),
        }
    }

    /// Sends a call that has not reached its extension another way, where a rule says so.
    fn divert(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket) -> bool {
        if !self.hops.next_hops().diverts().has_diversions() || !self.transactions.is_open(ticket) {
            return false;
        }
        let Some(failure) = self.context(ticket).and_then(ResponseContext::take_failure) else {
            return false;
        };
        let mut bytes = ctx.buffers.take_text();
        let source = self.transactions.copy_request(ticket, &mut bytes);
        let is_sent = ctx.with_head(&bytes, |ctx, head| {
            let request = Request::new(ctx.policy, source?, &bytes, head)?;
            let targets = diverted(ctx, self.hops, &request, failure)?.ok()?;
            let edits = self.edits_of(ctx, &request, ticket);
            self.fork(ctx, &request, ticket, targets, &edits);
            Some(())
        });
        ctx.buffers.give_text(bytes);
        is_sent.flatten().is_some()
    }

    /// Keeps a failure if it is the best so far; one without a response is our own.
    fn note_failure(
        &mut self,
        ctx: &mut Ctx<'_>,
        ticket: Ticket,
        code: u16,
        response: Option<(u16, Received<'_>)>,
    ) {
        let Some(noted) = self.context(ticket).map(|context| context.weigh(code, response.is_some())) else {
            return;
        };
        match (noted, response) {
            (Noted::Better, None) => {
                self.set_best(ticket, Best { code, response: None, challenges: Stored::default() });
            }
            (Noted::Better, Some((index, (bytes, head)))) => {
                let Some((source, _)) = self.transactions.asked(ticket) else { return };
                let mut text = ctx.buffers.take_text();
                // A 503 speaks of one server only: the caller is told 500 (16.7 step 6).
                let status = (code == 503).then_some(500);
                let strips = self.strips(ctx, ticket, index, (bytes, head));
                write_response(head, bytes, status, (source.transport, strips), &mut text);
                let response = Some(self.transactions.store(ticket, &text));
                ctx.buffers.give_text(text);
                // The response itself has this branch's own challenges; what is better than another's has none.
                self.set_best(ticket, Best { code, response, challenges: Stored::default() });
            }
            (Noted::AddChallenges(mut best), Some((_, (bytes, head)))) => {
                let mut text = self.transactions.text(ticket, best.challenges).to_vec();
                copy_challenges(head, bytes, &mut text);
                self.transactions.store_instead(ticket, &mut best.challenges, &text);
                self.set_best(ticket, best);
            }
            (Noted::AddChallenges(_) | Noted::Worse, _) => {}
        }
    }

    fn set_best(&mut self, ticket: Ticket, best: Best) {
        if let Some(context) = self.context(ticket) {
            context.set_best(best);
        }
    }

    fn answer_best(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket) {
        if !self.transactions.is_open(ticket) {
            return;
        }
        let Some(context) = self.context(ticket) else { return };
        let (best, is_cancelled) = (context.take_best(), context.is_cancelled());
        let reason = match best {
            Some(Best { code, response: Some(response), challenges }) => {
                self.call_failed(ctx, ticket, code);
                return self.send_best(ctx, ticket, code, response, challenges);
            }
            Some(Best { code: 476, .. }) if !is_cancelled => Reason::Unresolvable,
            Some(Best { code: 477, .. }) if !is_cancelled => Reason::NoConnection,
            Some(Best { code: 480, .. }) if !is_cancelled => Reason::ConnectionLost,
            None if !is_cancelled => return,
            None | Some(Best { code: 476 | 477 | 480 | 487, .. }) => Reason::Cancelled,
            Some(_) => Reason::NoAnswer,
        };
        self.call_failed(ctx, ticket, reason.code());
        self.transactions.respond(ctx, ticket, &reason.into());
    }

    /// Whether a response of a branch loses who its sender says that it is.
    fn strips(&self, ctx: &Ctx<'_>, ticket: Ticket, index: u16, (bytes, head): Received<'_>) -> bool {
        if !has_identity(head) {
            return false;
        }
        let flows = self.transactions.client_flow(ticket, index).zip(self.transactions.asked(ticket));
        flows.is_some_and(|(from, (to, _))| strips_response(ctx.policy, self.hops, head, bytes, (&from, &to)))
    }

    /// The call that a transaction began.
    fn call_of(&mut self, ticket: Ticket) -> Option<CallNumber> {
        self.context(ticket)?.begun().call
    }

    fn call_failed(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket, code: u16) {
        if let Some(call) = self.call_of(ticket) {
            self.dialogs.failed(ctx, call, code);
        }
    }

    fn send_best(
        &mut self,
        ctx: &mut Ctx<'_>,
        ticket: Ticket,
        code: u16,
        response: Stored,
        challenges: Stored,
    ) {
        let mut text = ctx.buffers.take_text();
        text.extend_from_slice(self.transactions.text(ticket, response));
        if matches!(code, 401 | 407) && !challenges.is_empty() {
            let end = text.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 2);
            text.splice(end..end, self.transactions.text(ticket, challenges).iter().copied());
        }
        self.tell_failure(ctx, ticket, &text, code);
        self.transactions.send_failure(ctx, ticket, &text);
        ctx.buffers.give_text(text);
    }

    /// Cancels every branch that may still answer, but for one; nothing else is tried.
    pub(crate) fn cancel_others(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket, but: u16, reason: &[u8]) {
        if let Some(context) = self.context(ticket) {
            context.drop_later();
        }
        if self.transactions.asked(ticket).is_some_and(|(_, method)| method == Method::Invite) {
            self.cancel_branches(ctx, ticket, Some(but), reason);
        }
    }

    /// Cancels every branch but one that may still answer.
    pub(crate) fn cancel_branches(
        &mut self,
        ctx: &mut Ctx<'_>,
        ticket: Ticket,
        but: Option<u16>,
        reason: &[u8],
    ) {
        for index in (0..self.transactions.clients(ticket)).filter(|index| Some(*index) != but) {
            if self.transactions.cancel(ctx, ticket, index, reason)
                && let Some(context) = self.context(ticket)
            {
                context.drop_rest(index);
            }
        }
    }

    /// The response context of a request that is sent on.
    pub(crate) fn context(&mut self, ticket: Ticket) -> Option<&mut ResponseContext> {
        match self.transactions.owner_mut(ticket)? {
            Owner::Forward(context) => Some(context),
            Owner::HopPing(_) | Owner::Bye | Owner::CallPing { .. } => None,
        }
    }

    fn tell(&self, ctx: &mut Ctx<'_>, (bytes, head): Received<'_>, step: impl FnOnce() -> CallStep) {
        let cseq = || head.value(bytes, HeaderName::CSeq).and_then(|value| roost_sip::cseq(value).ok());
        if ctx.out.listening.has(EventKind::Call)
            && cseq().is_some_and(|cseq| cseq.method() == Method::Invite)
        {
            let call_id = head.value(bytes, HeaderName::CallId).unwrap_or(&[]).into();
            ctx.out.tell(EventKind::Call, || Event::Call { call_id, step: step() });
        }
    }

    fn tell_failure(&self, ctx: &mut Ctx<'_>, ticket: Ticket, response: &[u8], code: u16) {
        if !ctx.out.listening.has(EventKind::Call) {
            return;
        }
        let Some((_, method)) = self.transactions.asked(ticket) else { return };
        ctx.with_head(response, |ctx, head| {
            tell_failure(ctx, method, head.value(response, HeaderName::CallId), code);
        });
    }
}

/// The flow, or where the binding's REGISTER came from when its Contact's name leads to an address of ours.
fn not_ourselves<T>(policy: &Policy, flow: Flow, target: &Target<T>) -> Flow {
    let source = target.source.filter(|_| is_local(&policy.listeners, flow.remote));
    // What was to go over TLS still does.
    source.filter(|source| source.transport.is_secure() || !flow.transport.is_secure()).unwrap_or(flow)
}

/// The Reason of a CANCEL to the others once one callee has refused for all (RFC 3326).
fn cause(code: u16, response: Option<Received<'_>>) -> Vec<u8> {
    let mut reason = format!("SIP;cause={code}").into_bytes();
    let phrase = response.map_or(&[][..], |(bytes, head)| head.reason_phrase(bytes));
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if !phrase.is_empty() && phrase.len() <= limits::MAX_REASON && phrase.iter().all(is_plain) {
        reason.extend_from_slice(b";text=\"");
        reason.extend_from_slice(phrase);
        reason.push(b'"');
    }
    reason
}

fn copy_challenges(head: &Head, bytes: &[u8], out: &mut Vec<u8>) {
    for line in head.lines() {
        if matches!(line.name, HeaderName::WwwAuthenticate | HeaderName::ProxyAuthenticate) {
            out.extend_from_slice(line.whole.of(bytes));
        }
    }
}
