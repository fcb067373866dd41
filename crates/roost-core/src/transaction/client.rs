//! The client sides of a transaction: towards those that a request was sent to (RFC 3261 17.1), and CANCEL (9.1).

use std::net::SocketAddr;

use roost_sip::{Head, HeaderName, Method};

use serde::{Deserialize, Serialize};

use crate::base::flow::{Flow, Ticket};
use crate::base::stats::Counter;
use crate::contract::context::Ctx;
use crate::contract::dropped::Dropped;
use crate::contract::event::{Event, EventKind, Passed};
use crate::message::branch_id::BranchId;
use crate::message::forward::{write_ack, write_cancel};
use crate::message::trace;
use crate::transaction::arena::Stored;
use crate::transaction::machines::{ClientAction, ClientEvent, InviteClient, NonInviteClient};
use crate::transaction::server::ServerTransaction;
use crate::transaction::timers::{AlarmKind, LINGER_MS, T1_MS, T2_MS, T4_MS};
use crate::transaction::{Transaction, Transactions};

/// Why a client transaction is cancelled, as its Reason header says it (RFC 3326), where no peer has said why.
pub(crate) const ORIGINATOR_CANCEL: &[u8] = b"SIP;cause=487;text=\"ORIGINATOR_CANCEL\"";
pub(crate) const NO_ANSWER: &[u8] = b"SIP;cause=480;text=\"NO_ANSWER\"";
pub(crate) const ELSEWHERE: &[u8] = b"SIP ;cause=200 ;text=\"Call completed elsewhere\"";

/// The side towards one peer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ClientTransaction {
    state: ClientState,
    #[serde(with = "crate::base::method_serde")]
    method: Method,
    pub(super) flow: Flow,
    /// What our Via's branch says.
    id: BranchId,
    /// The request as sent; once a failure came, its ACK.
    pub(super) sent: Stored,
    resend_ms: u64,
    /// When it was sent, in monotonic milliseconds.
    since_ms: u64,
    /// When it counts as unanswered, in monotonic milliseconds.
    pub(super) deadline_ms: u64,
    /// How long its callee rings, in seconds; 0: `tm.fr_inv_timeout`.
    ring_s: u32,
    /// Nobody waits for it any longer; what it says after all is still heard.
    is_given_up: bool,
    cancel: Cancel,
    /// Whether anything was heard but a 100.
    has_rung: bool,
}

#[derive(Debug, Serialize, Deserialize)]
enum Cancel {
    No,
    /// As soon as a provisional response comes (RFC 3261 9.1), with this Reason; mostly empty, which is none.
    Wanted(Stored),
    /// Sent, and sent again until it is answered.
    Sent {
        bytes: Stored,
        resend_ms: u64,
    },
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum ClientState {
    Invite(InviteClient),
    Other(NonInviteClient),
}

/// What a client transaction has to say to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientOutcome {
    pub(crate) transaction: Ticket,
    /// Which client transaction of it.
    pub(crate) index: u16,
    /// Where its request went.
    pub(crate) remote: SocketAddr,
    /// Whether anything was heard but a 100.
    pub(crate) has_rung: bool,
    pub(crate) what: What,
}

/// Where a request is sent on to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Going {
    pub(crate) flow: Flow,
    /// A hash of what its routing depends on.
    pub(crate) routing: u32,
    /// How long its callee rings, in seconds; 0: `tm.fr_inv_timeout`.
    pub(crate) ring_s: u32,
}

/// What has happened. Of [`What::Failure`], [`What::Silence`] and [`What::Unsent`] there is one at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Provisional(u16),
    /// A 2xx, which comes again until its ACK does.
    Success {
        is_first: bool,
    },
    /// A final response of 300 or more.
    Failure(u16),
    /// The same, after the owner has heard of [`What::Silence`].
    Late(u16),
    /// No answer in time (timers B, C and F).
    Silence,
    /// It could not be sent; the status code that says so best.
    Unsent(u16),
}

impl ClientTransaction {
    pub(super) fn step(&mut self, event: ClientEvent) -> Option<ClientAction> {
        let (state, action) = match self.state {
            ClientState::Invite(state) => {
                let (state, action) = state.step(event)?;
                (ClientState::Invite(state), action)
            }
            ClientState::Other(state) => {
                let (state, action) = state.step(event)?;
                (ClientState::Other(state), action)
            }
        };
        self.state = state;
        Some(action)
    }

    pub(super) fn is_terminated(&self) -> bool {
        matches!(
            self.state,
            ClientState::Invite(InviteClient::Terminated) | ClientState::Other(NonInviteClient::Terminated)
        )
    }

    /// Whether a final response may still come.
    pub(super) fn is_open(&self) -> bool {
        matches!(
            self.state,
            ClientState::Invite(InviteClient::Calling | InviteClient::Proceeding)
                | ClientState::Other(NonInviteClient::Trying | NonInviteClient::Proceeding)
        )
    }

    /// Whether an INVITE's failure came, whose ACK may have to be sent again.
    pub(super) fn is_completed(&self) -> bool {
        self.state == ClientState::Invite(InviteClient::Completed)
    }

    /// Whether its owner waits for its end.
    fn is_awaited(&self) -> bool {
        self.is_open() && !self.is_given_up
    }

    pub(super) fn is_ringing(&self) -> bool {
        self.state == ClientState::Invite(InviteClient::Proceeding)
    }

    fn outcome(&self, transaction: Ticket, index: u16, what: What) -> ClientOutcome {
        ClientOutcome { transaction, index, remote: self.flow.remote, has_rung: self.has_rung, what }
    }
}

impl<O> Transactions<O> {
    /// Sends a request of roost's own, which has no server side; `write` is given its branch. `resend_ms`: when it is sent
    /// again first.
    pub(crate) fn open_own(
        &mut self,
        ctx: &mut Ctx<'_>,
        owner: O,
        (method, flow): (Method, Flow),
        resend_ms: u64,
        write: impl FnOnce(BranchId, &mut Vec<u8>),
    ) -> Ticket {
        let arena = self.arenas.open(0);
        let clients = smallvec::SmallVec::new();
        let ticket = self.entries.insert(Transaction { server: None, clients, arena, owner });
        self.start_client(ctx, ticket, (method, resend_ms), Going { flow, routing: 0, ring_s: 0 }, write);
        ticket
    }

    /// Sends a transaction's request on as a new client transaction; its index. `write` is given its branch.
    pub(crate) fn open_client(
        &mut self,
        ctx: &mut Ctx<'_>,
        ticket: Ticket,
        goes: Going,
        write: impl FnOnce(BranchId, &mut Vec<u8>),
    ) {
        let Some((_, method)) = self.asked(ticket) else { return };
        self.start_client(ctx, ticket, (method, T1_MS), goes, write);
        ctx.count(Counter::UacTransactions);
        ctx.count(Counter::FwdRequests);
    }

    fn start_client(
        &mut self,
        ctx: &mut Ctx<'_>,
        ticket: Ticket,
        (method, resend_ms): (Method, u64),
        Going { flow, routing, ring_s }: Going,
        write: impl FnOnce(BranchId, &mut Vec<u8>),
    ) {
        let secret = self.fresh_secret(ctx, ticket);
        let Some(transaction) = self.entries.get_mut(ticket) else { return };
        let index = transaction.clients.len() as u16;
        let id = BranchId { shard: ctx.shard, transaction: ticket, index, secret, routing };
        let sent = ctx.out.send(flow, |out| write(id, out));
        let sent = transaction.arena.add(&mut self.arenas, sent);
        let fr_ms = u64::from(ctx.policy.tm.fr_timeout_s) * 1000;
        transaction.clients.push(ClientTransaction {
            state: match method {
                Method::Invite => ClientState::Invite(InviteClient::Calling),
                _ => ClientState::Other(NonInviteClient::Trying),
            },
            method,
            flow,
            id,
            sent,
            resend_ms,
            since_ms: ctx.now.mono_ms,
            deadline_ms: ctx.now.mono_ms + fr_ms,
            ring_s,
            is_given_up: false,
            cancel: Cancel::No,
            has_rung: false,
        });
        if !flow.transport.is_reliable() {
            self.set_alarm(ctx, resend_ms, ticket, AlarmKind::ClientResend(index));
        }
        self.set_alarm(ctx, fr_ms, ticket, AlarmKind::ClientTimeout(index));
    }

    /// How many client transactions a transaction has, those that have ended included.
    pub(crate) fn clients(&self, ticket: Ticket) -> u16 {
        self.entries.get(ticket).map_or(0, |transaction| transaction.clients.len() as u16)
    }

    /// Where a client transaction's request went.
    pub(crate) fn client_flow(&self, ticket: Ticket, index: u16) -> Option<Flow> {
        Some(self.entries.get(ticket)?.clients.get(usize::from(index))?.flow)
    }

    /// Whether any client transaction is waited for.
    pub(crate) fn is_any_awaited(&self, ticket: Ticket) -> bool {
        let transaction = self.entries.get(ticket);
        transaction.is_some_and(|transaction| transaction.clients.iter().any(ClientTransaction::is_awaited))
    }

    /// Handles a response whose branch is of our making: it must be one that nobody could guess. What it means for the
    /// owner.
    pub(crate) fn handle_response(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: BranchId,
        flow: &Flow,
        code: u16,
        (bytes, head): (&[u8], &Head),
    ) -> Option<ClientOutcome> {
        let cseq = head.value(bytes, HeaderName::CSeq).and_then(|value| roost_sip::cseq(value).ok());
        let client = self.client_mut(id.transaction, id.index).filter(|client| client.id == id);
        let (Some(client), Some(cseq)) = (client, cseq) else {
            drop_response(ctx, flow);
            return None;
        };
        if cseq.method == b"CANCEL" {
            match client.cancel {
                Cancel::Sent { .. } if code >= 200 => client.cancel = Cancel::Done,
                Cancel::No | Cancel::Wanted(_) => drop_response(ctx, flow),
                Cancel::Sent { .. } | Cancel::Done => {}
            }
            return None;
        }
        if cseq.method() != client.method || is_unsound(flow, bytes, head) {
            drop_response(ctx, flow);
            return None;
        }
        ctx.count(Counter::ReceivedReplies);
        trace::reply(flow, code, head, bytes);
        self.client_response(ctx, id, code, (bytes, head))
    }

    fn client_response(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: BranchId,
        code: u16,
        (bytes, head): (&[u8], &Head),
    ) -> Option<ClientOutcome> {
        let (ticket, index) = (id.transaction, id.index);
        let event = match code {
            ..200 => ClientEvent::Provisional,
            200..300 => ClientEvent::Success,
            _ => ClientEvent::Failure,
        };
        let client = self.client_mut(ticket, index)?;
        let (was_ringing, was_open, was_awaited) =
            (client.is_ringing(), client.is_open(), client.is_awaited());
        client.has_rung |= (101..200).contains(&code);
        let action = client.step(event)?;
        let outcome = |what| client.outcome(ticket, index, what);
        match action {
            ClientAction::Pass if code < 200 => {
                let outcome = outcome(What::Provisional(code));
                self.client_rings(ctx, ticket, index, was_ringing);
                Some(outcome)
            }
            ClientAction::Pass if code < 300 => {
                let outcome = outcome(What::Success { is_first: was_open });
                if was_open {
                    self.finish_client(ctx, ticket, index);
                }
                Some(outcome)
            }
            ClientAction::Pass | ClientAction::AckAndPass => {
                let what = if was_awaited { What::Failure(code) } else { What::Late(code) };
                let outcome = Some(outcome(what));
                self.tell_failed(ctx, ticket, index, Some(bytes));
                if action == ClientAction::AckAndPass {
                    self.send_ack(ctx, ticket, index, (bytes, head));
                }
                self.finish_client(ctx, ticket, index);
                outcome
            }
            ClientAction::Ack => {
                self.send_again(ctx, ticket, index);
                None
            }
            ClientAction::Absorb | ClientAction::Resend | ClientAction::Timeout | ClientAction::End => None,
        }
    }

    /// The first provisional ends timer B and starts timer C; a CANCEL that waited for it goes out.
    fn client_rings(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket, index: u16, was_ringing: bool) {
        let usual_s = ctx.policy.tm.fr_inv_timeout_s;
        let restarts = ctx.policy.tm.restart_fr_on_each_reply;
        let Some(client) = self.client_mut(ticket, index).filter(|client| client.is_ringing()) else {
            return;
        };
        let ring_s = if client.ring_s == 0 { usual_s } else { client.ring_s };
        let inv_ms = u64::from(ring_s) * 1000;
        if !client.is_given_up
            && (!was_ringing || restarts)
            && matches!(client.cancel, Cancel::No | Cancel::Wanted(_))
        {
            client.deadline_ms = ctx.now.mono_ms + inv_ms;
        }
        let wanted = match client.cancel {
            Cancel::Wanted(reason) => Some(reason),
            _ => None,
        };
        if !was_ringing {
            self.set_alarm(ctx, inv_ms, ticket, AlarmKind::ClientTimeout(index));
        }
        if let Some(reason) = wanted {
            let mut text = ctx.buffers.take_text();
            text.extend_from_slice(self.text(ticket, reason));
            self.send_cancel(ctx, ticket, index, &text);
            ctx.buffers.give_text(text);
        }
    }

    /// A client transaction has its final response: it lingers, so that what comes again is known.
    fn finish_client(&mut self, ctx: &Ctx<'_>, ticket: Ticket, index: u16) {
        let Some(client) = self.client_mut(ticket, index) else { return };
        let linger_ms = match client.state {
            // A 2xx may come again from end to end, whatever carries it (RFC 6026 8.4).
            ClientState::Invite(InviteClient::Accepted) => LINGER_MS,
            _ if client.flow.transport.is_reliable() => 0,
            ClientState::Invite(_) => LINGER_MS,
            ClientState::Other(_) => T4_MS,
        };
        self.set_alarm(ctx, linger_ms, ticket, AlarmKind::ClientEnd(index));
        self.shrink_if_settled(ticket);
    }

    /// Tells of a call that failed at one of those it was sent to: its INVITE, and what came back, if anything did.
    fn tell_failed(&self, ctx: &mut Ctx<'_>, ticket: Ticket, index: u16, response: Option<&[u8]>) {
        let Some(transaction) = self.entries.get(ticket) else { return };
        let Some(client) = transaction.clients.get(usize::from(index)) else { return };
        // What fails after the call was answered is no failure of the call.
        let is_waiting = transaction.server.as_ref().is_some_and(ServerTransaction::awaits_call);
        if !is_waiting {
            return;
        }
        let ago_ms = ctx.now.mono_ms.saturating_sub(client.since_ms);
        ctx.out.tell(EventKind::Exchange, || {
            let sent = Passed::sent(client.flow, ago_ms, transaction.arena.text(client.sent));
            let came = response.map(|bytes| Passed::received(client.flow, 0, bytes));
            Event::Exchange(std::iter::once(sent).chain(came).collect())
        });
    }

    /// Acknowledges a failure, hop by hop; the ACK is kept in the place of the INVITE.
    fn send_ack(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket, index: u16, (bytes, head): (&[u8], &Head)) {
        let Some(to) = head.value(bytes, HeaderName::To) else { return };
        let agent = ctx.policy.server_header.as_str();
        let write = |sent: &[u8], head: &Head, out: &mut Vec<u8>| write_ack(sent, head, to, agent, out);
        if let Some(ack) = self.send_of_invite(ctx, ticket, index, write)
            && let Some(transaction) = self.entries.get_mut(ticket)
            && let Some(client) = transaction.clients.get_mut(usize::from(index))
        {
            let ack = ctx.out.bytes.get(ack..).unwrap_or(&[]);
            transaction.arena.set(&mut self.arenas, &mut client.sent, ack);
        }
    }

    /// Sends what is made of the INVITE that was sent; where it begins in the outbox.
    fn send_of_invite(
        &mut self,
        ctx: &mut Ctx<'_>,
        ticket: Ticket,
        index: u16,
        write: impl FnOnce(&[u8], &Head, &mut Vec<u8>),
    ) -> Option<usize> {
        let transaction = self.entries.get(ticket)?;
        let client = transaction.clients.get(usize::from(index))?;
        let sent = transaction.arena.text(client.sent);
        let flow = client.flow;
        ctx.with_head(sent, |ctx, head| {
            let start = ctx.out.bytes.len();
            ctx.out.send(flow, |out| write(sent, head, out));
            start
        })
    }

    fn send_again(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket, index: u16) {
        let Some(transaction) = self.entries.get(ticket) else { return };
        let Some(client) = transaction.clients.get(usize::from(index)) else { return };
        let sent = transaction.arena.text(client.sent);
        ctx.out.send(client.flow, |out| out.extend_from_slice(sent));
    }

    /// Cancels a ringing client transaction, or marks one that has not answered at all; whether there was anything to
    /// cancel. `reason` is the value of the Reason header.
    pub(crate) fn cancel(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket, index: u16, reason: &[u8]) -> bool {
        let Some(client) = self.client_mut(ticket, index) else { return false };
        if !client.is_open() || !matches!(client.cancel, Cancel::No) {
            return false;
        }
        if client.is_ringing() {
            self.send_cancel(ctx, ticket, index, reason);
        } else {
            // OpenSIPS gives no Reason when the caller gave up before the callee was heard of.
            self.want_cancel(ticket, index, if reason == ORIGINATOR_CANCEL { b"" } else { reason });
        }
        true
    }

    /// A CANCEL goes out as soon as it may.
    fn want_cancel(&mut self, ticket: Ticket, index: u16, reason: &[u8]) {
        let reason = self.store(ticket, reason);
        if let Some(client) = self.client_mut(ticket, index) {
            client.cancel = Cancel::Wanted(reason);
        }
    }

    /// `reason`: the value of its Reason header; empty for none.
    fn send_cancel(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket, index: u16, reason: &[u8]) {
        let agent = ctx.policy.server_header.as_str();
        let write =
            |sent: &[u8], head: &Head, out: &mut Vec<u8>| write_cancel(sent, head, reason, agent, out);
        let Some(start) = self.send_of_invite(ctx, ticket, index, write) else { return };
        let Some(transaction) = self.entries.get_mut(ticket) else { return };
        let Some(client) = transaction.clients.get_mut(usize::from(index)) else { return };
        let bytes = transaction.arena.add(&mut self.arenas, ctx.out.bytes.get(start..).unwrap_or(&[]));
        client.cancel = Cancel::Sent { bytes, resend_ms: T1_MS };
        // A callee that has accepted the CANCEL and says no more is given up after 64 T1 (RFC 3261 9.1).
        client.deadline_ms = ctx.now.mono_ms + LINGER_MS;
        if !client.flow.transport.is_reliable() {
            self.set_alarm(ctx, T1_MS, ticket, AlarmKind::CancelResend(index));
        }
        self.set_alarm(ctx, LINGER_MS, ticket, AlarmKind::ClientTimeout(index));
    }

    /// Timers A and E.
    pub(super) fn client_resend(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket, index: u16) {
        let Some(client) = self.client_mut(ticket, index).filter(|client| !client.is_given_up) else {
            return;
        };
        if client.step(ClientEvent::Resend) != Some(ClientAction::Resend) {
            return;
        }
        client.resend_ms = match client.state {
            ClientState::Invite(_) => client.resend_ms * 2,
            ClientState::Other(NonInviteClient::Proceeding) => T2_MS,
            ClientState::Other(_) => (client.resend_ms * 2).min(T2_MS),
        };
        let after_ms = client.resend_ms;
        self.send_again(ctx, ticket, index);
        self.set_alarm(ctx, after_ms, ticket, AlarmKind::ClientResend(index));
    }

    pub(super) fn cancel_resend(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket, index: u16) {
        let Some(transaction) = self.entries.get_mut(ticket) else { return };
        let Some(client) = transaction.clients.get_mut(usize::from(index)) else { return };
        let (flow, is_open) = (client.flow, client.is_open());
        let Cancel::Sent { bytes, resend_ms } = &mut client.cancel else { return };
        if !is_open {
            return;
        }
        let cancel = transaction.arena.text(*bytes);
        ctx.out.send(flow, |out| out.extend_from_slice(cancel));
        *resend_ms = (*resend_ms * 2).min(T2_MS);
        let after_ms = *resend_ms;
        self.set_alarm(ctx, after_ms, ticket, AlarmKind::CancelResend(index));
    }

    /// Timers B, C and F.
    pub(super) fn client_timeout(
        &mut self,
        ctx: &mut Ctx<'_>,
        ticket: Ticket,
        index: u16,
    ) -> Option<ClientOutcome> {
        let client = self.client_mut(ticket, index).filter(|client| client.is_open())?;
        if client.deadline_ms > ctx.now.mono_ms {
            // Answered meanwhile; an alarm of its own stands for the new deadline, but a restarted one needs another.
            let left_ms = client.deadline_ms - ctx.now.mono_ms;
            if client.is_ringing() {
                let after_ms = [LINGER_MS, T2_MS].into_iter().find(|ms| *ms <= left_ms).unwrap_or(T1_MS);
                self.set_alarm(ctx, after_ms, ticket, AlarmKind::ClientTimeout(index));
            }
            return None;
        }
        let outcome = client.is_awaited().then(|| client.outcome(ticket, index, What::Silence));
        if outcome.is_some() {
            self.tell_failed(ctx, ticket, index, None);
        }
        let client = self.client_mut(ticket, index)?;
        if client.is_ringing() && matches!(client.cancel, Cancel::No) {
            // Timer C: the callee's ringing ends, the caller hears at once; the 487 is absorbed.
            client.is_given_up = true;
            self.send_cancel(ctx, ticket, index, NO_ANSWER);
            return outcome;
        }
        if client.state == ClientState::Invite(InviteClient::Calling) && !client.is_given_up {
            // Timer B: nobody waits any longer, but a phone that rings after all is silenced, and a 2xx forwarded.
            client.is_given_up = true;
            client.deadline_ms = ctx.now.mono_ms + LINGER_MS;
            if matches!(client.cancel, Cancel::No) {
                self.want_cancel(ticket, index, NO_ANSWER);
            }
            self.set_alarm(ctx, LINGER_MS, ticket, AlarmKind::ClientTimeout(index));
            return outcome;
        }
        client.step(ClientEvent::Timeout);
        self.shrink_if_settled(ticket);
        outcome
    }

    /// A request could not be sent; `code` says so best. What it means for the owner.
    pub(crate) fn client_unsent(&mut self, id: BranchId, code: u16) -> Option<ClientOutcome> {
        let (ticket, index) = (id.transaction, id.index);
        let client =
            self.client_mut(ticket, index).filter(|client| client.id == id && client.is_awaited())?;
        let outcome = client.outcome(ticket, index, What::Unsent(code));
        client.step(ClientEvent::Timeout);
        self.shrink_if_settled(ticket);
        Some(outcome)
    }
}

/// Counts a response that belongs to nothing.
pub(crate) fn drop_response(ctx: &mut Ctx<'_>, flow: &Flow) {
    ctx.drop_message(Dropped::StrayResponse);
    tracing::debug!(source = %flow, "response of no transaction dropped");
}

/// Whether two readers could read a response differently, or it is not whole.
fn is_unsound(flow: &Flow, bytes: &[u8], head: &Head) -> bool {
    let length = head.value(bytes, HeaderName::ContentLength).map(roost_sip::number);
    let is_cut = match length {
        // What is not a length to us may be one to the next hop.
        Some(length) => length.map_or(true, |length| length as usize > head.body(bytes).len()),
        // Where its body ends in a stream nobody can tell.
        None => flow.transport.is_reliable(),
    };
    let singles = [HeaderName::To, HeaderName::From, HeaderName::CallId, HeaderName::CSeq];
    is_cut
        || head.defect().is_some()
        || singles.iter().any(|name| head.line(*name).is_none() || head.is_repeated(*name))
        || head.is_repeated(HeaderName::ContentLength)
}
