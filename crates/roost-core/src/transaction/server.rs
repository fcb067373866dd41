//! The server side of a transaction: towards the sender of the request (RFC 3261 17.2).

use std::hash::BuildHasher;

use roost_sip::{Head, Method, StartLine};

use serde::{Deserialize, Serialize};

use crate::base::flow::{Flow, Ticket};
use crate::base::limits;
use crate::base::stats::{Counter, Timed};
use crate::contract::context::Ctx;
use crate::contract::event::{CallStep, Event, EventKind, Passed};
use crate::contract::reason::Reason;
use crate::message::forward::write_response;
use crate::message::refused::tell_refused;
use crate::message::request::Request;
use crate::message::response::Response;
use crate::message::response_writer::ResponseWriter;
use crate::message::server_key::server_key;
use crate::message::trace;
use crate::transaction::arena::{Arena, Stored};
use crate::transaction::machines::{InviteServer, NonInviteServer, ServerAction, ServerEvent};
use crate::transaction::timers::{AlarmKind, LINGER_MS, T1_MS, T2_MS, T4_MS};
use crate::transaction::{Transaction, Transactions};

/// The side towards the sender.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ServerTransaction {
    state: ServerState,
    #[serde(with = "crate::base::method_serde")]
    method: Method,
    /// What a retransmission of the request repeats.
    pub(super) key: Stored,
    /// Its hash in the index.
    pub(super) key_hash: u64,
    /// Of an INVITE, what its CANCEL shares with it.
    pub(super) cancel_hash: Option<u64>,
    /// Where responses go.
    flow: Flow,
    /// Where the request came from.
    pub(super) source: Flow,
    /// The request as received; empty once it was answered finally.
    pub(super) request: Stored,
    /// The last response, for retransmissions.
    pub(super) last: Stored,
    resend_ms: u64,
    /// When the INVITE came that begins a call, in monotonic milliseconds.
    call_since_ms: Option<u64>,
    /// When its caller was given an 18x first, in monotonic milliseconds.
    rung_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum ServerState {
    Invite(InviteServer),
    Other(NonInviteServer),
}

impl ServerTransaction {
    pub(super) fn step(&mut self, event: ServerEvent) -> Option<ServerAction> {
        let (state, action) = match self.state {
            ServerState::Invite(state) => {
                let (state, action) = state.step(event)?;
                (ServerState::Invite(state), action)
            }
            ServerState::Other(state) => {
                let (state, action) = state.step(event)?;
                (ServerState::Other(state), action)
            }
        };
        self.state = state;
        Some(action)
    }

    pub(super) fn is_terminated(&self) -> bool {
        matches!(
            self.state,
            ServerState::Invite(InviteServer::Terminated) | ServerState::Other(NonInviteServer::Terminated)
        )
    }

    /// Whether it is an INVITE that begins a call, and no final response has left.
    pub(super) fn awaits_call(&self) -> bool {
        self.call_since_ms.is_some() && self.is_open()
    }

    /// When a failure that waits for its ACK is sent again, in milliseconds.
    pub(super) fn resends_after_ms(&self) -> Option<u64> {
        let waits =
            self.state == ServerState::Invite(InviteServer::Completed) && !self.flow.transport.is_reliable();
        waits.then_some(self.resend_ms)
    }

    /// Whether no final response has left.
    pub(super) fn is_open(&self) -> bool {
        matches!(
            self.state,
            ServerState::Invite(InviteServer::Proceeding)
                | ServerState::Other(NonInviteServer::Trying | NonInviteServer::Proceeding)
        )
    }
}

impl<O> Transactions<O> {
    /// Makes a transaction for a request; an INVITE gets its 100 at once.
    ///
    /// # Errors
    /// [`Reason::TooManyTransactions`].
    pub(crate) fn open(
        &mut self,
        ctx: &mut Ctx<'_>,
        request: &Request<'_>,
        owner: O,
    ) -> Result<Ticket, Reason> {
        let is_full = self.len() >= ctx.identity.share_of(limits::MAX_TRANSACTIONS)
            || self.held() + 2 * request.bytes.len() > ctx.identity.share_of(limits::MAX_TRANSACTION_BYTES);
        if is_full {
            ctx.count(Counter::TransactionsFull);
            return Err(Reason::TooManyTransactions);
        }
        let is_invite = request.method == Method::Invite;
        let begins_call = is_invite && request.to_tag().is_none();
        let mut key = ctx.buffers.take_text();
        server_key(request, request.method_name, &mut key);
        let key_hash = ctx.hasher.hash_one(&key[..]);
        // The request comes in and goes on, and answers come back.
        let mut arena = self.arenas.open(2 * request.bytes.len() + 1_024);
        let server = ServerTransaction {
            state: match is_invite {
                true => ServerState::Invite(InviteServer::Proceeding),
                false => ServerState::Other(NonInviteServer::Trying),
            },
            method: request.method,
            key: arena.add(&mut self.arenas, &key),
            key_hash,
            cancel_hash: is_invite.then(|| Self::cancel_hash(ctx, request)),
            flow: request.reply_flow(),
            source: request.flow,
            request: arena.add(&mut self.arenas, request.bytes),
            last: Stored::default(),
            resend_ms: T1_MS,
            call_since_ms: begins_call.then_some(request.since_ms),
            rung_ms: None,
        };
        ctx.buffers.give_text(key);
        let clients = smallvec::SmallVec::new();
        let cancel_hash = server.cancel_hash;
        let ticket = self.entries.insert(Transaction { server: Some(server), clients, arena, owner });
        if let Some(hash) = cancel_hash {
            self.invites.insert(hash, ticket);
        }
        self.index.insert_unique(key_hash, (key_hash, ticket), |(hash, _)| *hash);
        ctx.count(Counter::UasTransactions);
        if is_invite {
            let writer = ResponseWriter::of(ctx);
            self.send_upstream(ctx, ticket, ServerEvent::Provisional, |out| {
                writer.write_trying(request, out)
            });
            if begins_call {
                ctx.time(Timed::InviteTrying, request.since_ms);
            }
        }
        Ok(ticket)
    }

    /// The request came again: the last response goes out again, nothing else happens.
    pub(crate) fn absorb(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket) {
        ctx.count(Counter::Absorbed);
        self.resend_last(ctx, ticket, ServerEvent::Request);
    }

    /// Sends the last response again, if the state has it so; whether it has.
    fn resend_last(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket, event: ServerEvent) -> bool {
        let Some(transaction) = self.entries.get_mut(ticket) else { return false };
        let Some(server) = &mut transaction.server else { return false };
        if server.step(event) != Some(ServerAction::Resend) || server.last.is_empty() {
            return false;
        }
        let last = transaction.arena.text(server.last);
        ctx.out.send(server.flow, |out| out.extend_from_slice(last));
        true
    }

    /// Timer G.
    pub(super) fn server_resend(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket) {
        if !self.resend_last(ctx, ticket, ServerEvent::Resend) {
            return;
        }
        let Some(server) = self.server_mut(ticket) else { return };
        server.resend_ms = (server.resend_ms * 2).min(T2_MS);
        let after_ms = server.resend_ms;
        self.set_alarm(ctx, after_ms, ticket, AlarmKind::ServerResend);
    }

    /// An ACK: of a failure that we sent it ends the retransmissions; whether it is of a 2xx, and goes on.
    pub(crate) fn acknowledge(&mut self, ctx: &Ctx<'_>, ticket: Ticket) -> bool {
        let Some(server) = self.server_mut(ticket) else { return false };
        if server.state == ServerState::Invite(InviteServer::Accepted) {
            return true;
        }
        let was_completed = server.state == ServerState::Invite(InviteServer::Completed);
        if server.step(ServerEvent::Ack).is_some() && was_completed {
            server.last = Stored::default();
            let after_ms = if server.flow.transport.is_reliable() { 0 } else { T4_MS };
            self.set_alarm(ctx, after_ms, ticket, AlarmKind::ServerEnd);
        }
        false
    }

    /// Whether no final response has left.
    pub(crate) fn is_open(&self, ticket: Ticket) -> bool {
        let server = self.entries.get(ticket).and_then(|transaction| transaction.server.as_ref());
        server.is_some_and(ServerTransaction::is_open)
    }

    /// Where the request came from, and its method.
    pub(crate) fn asked(&self, ticket: Ticket) -> Option<(Flow, Method)> {
        let server = self.entries.get(ticket)?.server.as_ref()?;
        Some((server.source, server.method))
    }

    /// Sends a response of our own.
    pub(crate) fn respond(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket, response: &Response) {
        let mut bytes = ctx.buffers.take_text();
        let Some(source) = self.copy_request(ticket, &mut bytes) else { return ctx.buffers.give_text(bytes) };
        ctx.with_head(&bytes, |ctx, head| {
            let Some(request) = Request::new(ctx.policy, source, &bytes, head) else { return };
            trace::response(&request, response);
            response.decide(ctx);
            // Those are what became of a call, not refusals.
            if !matches!(response.reason, Some(Reason::NoAnswer | Reason::Cancelled)) {
                tell_refused(ctx, &request, response);
            }
            ctx.count(Counter::LocalReplies);
            let writer = ResponseWriter::of(ctx);
            self.send_upstream(ctx, ticket, event_of(response.code), |out| {
                writer.write_head(&request, response.code, response.phrase.as_str(), out);
                writer.write_refusal(&request, response, out);
                writer.write_tail(out);
            });
            tell_failure(ctx, request.method, request.call_id(), response.code);
        });
        ctx.buffers.give_text(bytes);
    }

    /// Gives a response of a client transaction to the sender; `strips`: without its sender's identity.
    pub(crate) fn relay(
        &mut self,
        ctx: &mut Ctx<'_>,
        ticket: Ticket,
        (bytes, head): (&[u8], &Head),
        strips: bool,
    ) {
        let StartLine::Response { code } = head.start_line() else { return };
        let Some((source, _)) = self.asked(ticket) else { return };
        ctx.count(Counter::RelayedReplies);
        self.note_time(ctx, ticket, code);
        self.send_upstream(ctx, ticket, event_of(code), |out| {
            write_response(head, bytes, None, (source.transport, strips), out);
        });
    }

    /// Notes how long a call has waited for its first 18x, and for its answer.
    fn note_time(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket, code: u16) {
        let Some(server) = self.server_mut(ticket).filter(|server| server.is_open()) else { return };
        let Some(since_ms) = server.call_since_ms else { return };
        match code {
            180..=189 if server.rung_ms.is_none() => {
                server.rung_ms = Some(ctx.now.mono_ms);
                ctx.time(Timed::InviteRinging, since_ms);
            }
            200..=299 => ctx.time(Timed::InviteAnswered, since_ms),
            _ => {}
        }
    }

    /// Sends a failure that is ready.
    pub(crate) fn send_failure(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket, response: &[u8]) {
        ctx.count(Counter::RelayedReplies);
        self.send_upstream(ctx, ticket, ServerEvent::Failure, |out| out.extend_from_slice(response));
    }

    /// Sends a response to the sender, as the state allows.
    fn send_upstream(
        &mut self,
        ctx: &mut Ctx<'_>,
        ticket: Ticket,
        event: ServerEvent,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(transaction) = self.entries.get_mut(ticket) else { return };
        let Some(server) = &mut transaction.server else { return };
        let (flow, is_invite) = (server.flow, server.method == Method::Invite);
        let was_open = server.is_open();
        if server.step(event) != Some(ServerAction::Send) {
            // A 2xx always reaches the caller (RFC 6026 8.4 and RFC 3261 16.7 step 5).
            if event == ServerEvent::Success && is_invite {
                ctx.out.send(flow, write);
            }
            return;
        }
        let response = ctx.out.send(flow, write);
        if event == ServerEvent::Provisional {
            return transaction.arena.set(&mut self.arenas, &mut server.last, response);
        }
        if !was_open {
            return;
        }
        ctx.stats.count(counter_of(response));
        if event == ServerEvent::Failure {
            tell_failed(ctx, server, &transaction.arena);
        }
        let response = ctx.out.last_sent();
        server.request = Stored::default();
        match is_invite && event == ServerEvent::Success {
            true => server.last = Stored::default(),
            false => transaction.arena.set(&mut self.arenas, &mut server.last, response),
        }
        let is_reliable = flow.transport.is_reliable();
        let resends = is_invite && event == ServerEvent::Failure && !is_reliable;
        let linger_ms = if is_reliable && !is_invite { 0 } else { LINGER_MS };
        self.set_alarm(ctx, linger_ms, ticket, AlarmKind::ServerEnd);
        if resends {
            self.set_alarm(ctx, T1_MS, ticket, AlarmKind::ServerResend);
        }
        self.shrink_if_settled(ticket);
    }
}

/// Tells of a call that failed: its INVITE, the last provisional response, and the failure that was sent just now.
fn tell_failed(ctx: &mut Ctx<'_>, server: &ServerTransaction, arena: &Arena) {
    let Some(since_ms) = server.call_since_ms else { return };
    let now_ms = ctx.now.mono_ms;
    ctx.out.tell_answered(|| {
        let ago_ms = |at_ms| now_ms.saturating_sub(at_ms);
        let mut passed = vec![Passed::received(server.source, ago_ms(since_ms), arena.text(server.request))];
        if !server.last.is_empty() {
            let answered_ms = server.rung_ms.unwrap_or(since_ms);
            passed.push(Passed::sent(server.flow, ago_ms(answered_ms), arena.text(server.last)));
        }
        passed
    });
}

/// What sending a response is to the server side.
fn event_of(code: u16) -> ServerEvent {
    match code {
        ..200 => ServerEvent::Provisional,
        200..300 => ServerEvent::Success,
        _ => ServerEvent::Failure,
    }
}

fn counter_of(response: &[u8]) -> Counter {
    match response.get(8) {
        Some(b'2') => Counter::Transactions2xx,
        Some(b'3') => Counter::Transactions3xx,
        Some(b'4') => Counter::Transactions4xx,
        Some(b'5') => Counter::Transactions5xx,
        _ => Counter::Transactions6xx,
    }
}

/// A call that was not answered ends.
pub(crate) fn tell_failure(ctx: &mut Ctx<'_>, method: Method, call_id: Option<&[u8]>, code: u16) {
    if method == Method::Invite && code >= 300 {
        ctx.out.tell(EventKind::Call, || Event::Call {
            call_id: call_id.unwrap_or(&[]).into(),
            step: CallStep::Failed(code),
        });
    }
}
