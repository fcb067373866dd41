//! The server side of a transaction: towards the caller (RFC 3261 17.2).

use std::collections::VecDeque;
use std::hash::BuildHasher;

use roost_sip::Method;

use crate::base::flow::{Flow, Now, Ticket};
use crate::base::limits;
use crate::base::stats::Counter;
use crate::contract::outbox::Outbox;
use crate::engine::Engine;
use crate::message::request::Request;
use crate::message::response::Answer;
use crate::transaction::machines::{InviteServer, NonInviteServer, ServerAction, ServerEvent};
use crate::transaction::pool::Pool;
use crate::transaction::timers::{AlarmKind, LINGER_MS, T1_MS, T2_MS, T4_MS};
use crate::transaction::transactions::{Transaction, server_key};

/// The side towards the caller.
#[derive(Debug)]
pub(crate) struct Server {
    state: ServerState,
    pub(crate) method: Method,
    /// Where responses go.
    flow: Flow,
    /// Where the request came from.
    pub(crate) source: Flow,
    /// The request as received; freed with the final response.
    pub(crate) request: Vec<u8>,
    /// The last response, for retransmissions.
    last: Vec<u8>,
    resend_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerState {
    Invite(InviteServer),
    Other(NonInviteServer),
}

impl Server {
    pub(crate) fn step(&mut self, event: ServerEvent) -> Option<ServerAction> {
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

    pub(crate) fn give_buffers(self, pool: &mut Pool) {
        pool.give(self.request);
        pool.give(self.last);
    }

    pub(crate) fn is_terminated(&self) -> bool {
        matches!(
            self.state,
            ServerState::Invite(InviteServer::Terminated) | ServerState::Other(NonInviteServer::Terminated)
        )
    }

    /// Whether no final response has left.
    pub(crate) fn is_open(&self) -> bool {
        matches!(
            self.state,
            ServerState::Invite(InviteServer::Proceeding)
                | ServerState::Other(NonInviteServer::Trying | NonInviteServer::Proceeding)
        )
    }

    pub(crate) fn is_accepted(&self) -> bool {
        self.state == ServerState::Invite(InviteServer::Accepted)
    }
}

impl Engine {
    /// Makes a transaction for a request; an INVITE gets its 100 at once.
    pub(crate) fn open_transaction(
        &mut self,
        request: &Request<'_>,
        out: &mut Outbox,
    ) -> Result<Ticket, Answer> {
        let shards = usize::from(self.config.shards.max(1));
        let is_full = self.transactions.len() >= limits::MAX_TRANSACTIONS / shards
            || self.pool.held() + 2 * request.bytes.len() > limits::MAX_TRANSACTION_BYTES / shards;
        if is_full {
            self.stats.count(Counter::TransactionsFull);
            return Err(Answer::busy("too many transactions"));
        }
        let is_invite = request.method == Method::Invite;
        let mut key = std::mem::take(&mut self.key_scratch);
        server_key(request, request.method_name, &mut key);
        let key_hash = self.hasher.hash_one(&key[..]);
        let kept_key = self.pool.copy(&key);
        self.key_scratch = key;
        let server = Server {
            state: match is_invite {
                true => ServerState::Invite(InviteServer::Proceeding),
                false => ServerState::Other(NonInviteServer::Trying),
            },
            method: request.method,
            flow: request.reply_flow(),
            source: request.flow,
            request: self.pool.copy(request.bytes),
            last: Vec::new(),
            resend_ms: T1_MS,
        };
        let ticket = self.transactions.insert(Transaction {
            key: kept_key,
            key_hash,
            server,
            branches: self.pool.take_branches(),
            best: None,
            later: VecDeque::new(),
            is_cancelled: false,
            resolving: 0,
        });
        self.server_index.insert_unique(key_hash, (key_hash, ticket), |(hash, _)| *hash);
        self.stats.count(Counter::UasTransactions);
        if is_invite {
            let mut trying = self.pool.take(request.bytes.len());
            self.stationery.write_trying(request, &mut trying);
            self.send_upstream(ticket, ServerEvent::Provisional, &trying, out, Now::default());
            self.pool.give(trying);
        }
        Ok(ticket)
    }

    /// The request came again: the last response goes out again, nothing else happens.
    pub(crate) fn absorb(&mut self, ticket: Ticket, out: &mut Outbox) {
        self.stats.count(Counter::Absorbed);
        let Some(transaction) = self.transactions.get_mut(ticket) else { return };
        let server = &mut transaction.server;
        if server.step(ServerEvent::Request) == Some(ServerAction::Resend) && !server.last.is_empty() {
            out.send(server.flow, |bytes| bytes.extend_from_slice(&server.last));
        }
    }

    /// An ACK of a failure that we sent.
    pub(crate) fn acknowledge(&mut self, ticket: Ticket, now: Now) {
        let Some(transaction) = self.transactions.get_mut(ticket) else { return };
        let was_completed = transaction.server.state == ServerState::Invite(InviteServer::Completed);
        if transaction.server.step(ServerEvent::Ack).is_some() && was_completed {
            let last = std::mem::take(&mut transaction.server.last);
            let is_reliable = transaction.server.flow.transport.is_reliable();
            self.pool.give(last);
            self.set_alarm(now, if is_reliable { 0 } else { T4_MS }, ticket, AlarmKind::ServerEnd);
        }
    }

    /// Sends a response of our own to the caller.
    pub(crate) fn respond(&mut self, ticket: Ticket, answer: Answer, now: Now, out: &mut Outbox) {
        let Some(transaction) = self.transactions.get_mut(ticket) else { return };
        let server = &mut transaction.server;
        // With a final response of our own the request is not needed any more.
        let (source, bytes) = (server.source, std::mem::take(&mut server.request));
        let mut response = Vec::with_capacity(512);
        self.with_head(&bytes, |engine, head| {
            if let Some(request) = Request::new(source, &bytes, head) {
                crate::message::trace::answer(&request, &answer);
                engine.stationery.write_head(&request, answer.code, answer.reason, &mut response);
                engine.stationery.write_refusal(&request, &answer, &mut response);
                engine.stationery.write_tail(&mut response);
            }
        });
        self.stats.count(Counter::LocalReplies);
        self.pool.give(bytes);
        self.send_upstream(ticket, event_of(answer.code), &response, out, now);
    }

    /// Sends a response to the caller, as the server side's state allows.
    pub(crate) fn send_upstream(
        &mut self,
        ticket: Ticket,
        event: ServerEvent,
        response: &[u8],
        out: &mut Outbox,
        now: Now,
    ) {
        let Some(transaction) = self.transactions.get_mut(ticket) else { return };
        let server = &mut transaction.server;
        let flow = server.flow;
        let was_open = server.is_open();
        if server.step(event) != Some(ServerAction::Send) {
            // A 2xx always reaches the caller (RFC 6026 8.4 and RFC 3261 16.7 step 5).
            if event == ServerEvent::Success && server.method == Method::Invite {
                out.send(flow, |bytes| bytes.extend_from_slice(response));
            }
            return;
        }
        out.send(flow, |bytes| bytes.extend_from_slice(response));
        let is_invite = server.method == Method::Invite;
        if event == ServerEvent::Provisional {
            server.last.clear();
            let mut last = std::mem::take(&mut server.last);
            if last.capacity() < response.len() {
                self.pool.give(last);
                last = self.pool.take(response.len());
            }
            last.extend_from_slice(response);
            server.last = last;
            return;
        }
        if !was_open {
            return;
        }
        let accepted = is_invite && event == ServerEvent::Success;
        let last = if accepted { Vec::new() } else { self.pool.copy(response) };
        self.pool.give(std::mem::take(&mut server.request));
        self.pool.give(std::mem::replace(&mut server.last, last));
        let is_reliable = flow.transport.is_reliable();
        let resends = is_invite && event == ServerEvent::Failure && !is_reliable;
        self.count_transaction(response);
        let linger_ms = if is_reliable && !is_invite { 0 } else { LINGER_MS };
        self.set_alarm(now, linger_ms, ticket, AlarmKind::ServerEnd);
        if resends {
            self.set_alarm(now, T1_MS, ticket, AlarmKind::ServerResend);
        }
    }

    fn count_transaction(&mut self, response: &[u8]) {
        self.stats.count(match response.get(8) {
            Some(b'2') => Counter::Transactions2xx,
            Some(b'3') => Counter::Transactions3xx,
            Some(b'4') => Counter::Transactions4xx,
            Some(b'5') => Counter::Transactions5xx,
            _ => Counter::Transactions6xx,
        });
    }

    pub(crate) fn server_resend(&mut self, ticket: Ticket, now: Now, out: &mut Outbox) {
        let Some(transaction) = self.transactions.get_mut(ticket) else { return };
        let server = &mut transaction.server;
        if server.step(ServerEvent::Resend) != Some(ServerAction::Resend) {
            return;
        }
        out.send(server.flow, |bytes| bytes.extend_from_slice(&server.last));
        server.resend_ms = (server.resend_ms * 2).min(T2_MS);
        let after_ms = server.resend_ms;
        self.set_alarm(now, after_ms, ticket, AlarmKind::ServerResend);
    }
}

/// What sending a response is to the server side.
pub(crate) fn event_of(code: u16) -> ServerEvent {
    match code {
        ..200 => ServerEvent::Provisional,
        200..300 => ServerEvent::Success,
        _ => ServerEvent::Failure,
    }
}
