//! Transactions: one server side, the branches it was forked to, and what is heard from them (RFC 3261 16.7 and 17).
//!
//! The state machines stand in `machines.rs`; here their actions are done. A transaction is found by the request's
//! branch (server side) or by our own branch parameter, which leads straight to its slot (client side).

use std::collections::VecDeque;
use std::hash::BuildHasher;

use roost_sip::{Head, HeaderName, Method, StartLine, Via};

use crate::answer::Answer;
use crate::branch_id::{BranchId, COOKIE};
use crate::engine::Engine;
use crate::flow::{Flow, Now, Ticket};
use crate::fork::Best;
use crate::forward::{write_ack, write_cancel, write_response};
use crate::limits;
use crate::machines::{
    ClientAction, ClientEvent, InviteClient, InviteServer, NonInviteClient, NonInviteServer, ServerAction,
    ServerEvent,
};
use crate::outbox::{Command, Mark, Outbox};
use crate::request::Request;
use crate::stats::Counter;
use crate::timers::{Alarm, AlarmKind, LINGER_MS, T1_MS, T2_MS, T4_MS};

/// Why a branch is cancelled, as its Reason header says it.
pub(crate) const ORIGINATOR_CANCEL: &str = "SIP;cause=487;text=\"ORIGINATOR_CANCEL\"";
pub(crate) const NO_ANSWER: &str = "SIP;cause=480;text=\"NO_ANSWER\"";
pub(crate) const ELSEWHERE: &str = "SIP ;cause=200 ;text=\"Call completed elsewhere\"";

/// A request that is being proxied.
#[derive(Debug)]
pub(crate) struct Transaction {
    key: Box<[u8]>,
    pub(crate) server: Server,
    pub(crate) branches: Vec<Branch>,
    pub(crate) best: Option<Best>,
    /// Groups of targets to try when the ones before have failed (`proxy.serial_fork`).
    pub(crate) later: VecDeque<Vec<Target>>,
    pub(crate) is_cancelled: bool,
}

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
    pub(crate) request: Box<[u8]>,
    /// Whether it carried credentials that were meant for us.
    pub(crate) mark: Mark,
    /// The last response, for retransmissions.
    last: Box<[u8]>,
    resend_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerState {
    Invite(InviteServer),
    Other(NonInviteServer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientState {
    Invite(InviteClient),
    Other(NonInviteClient),
}

/// The side towards one contact.
#[derive(Debug)]
pub(crate) struct Branch {
    state: ClientState,
    flow: Flow,
    secret: u64,
    /// The request as sent; once a failure came, its ACK.
    sent: Box<[u8]>,
    resend_ms: u64,
    /// When it counts as unanswered, in monotonic milliseconds.
    deadline_ms: u64,
    /// Whether its final response (or its silence) has been counted.
    is_counted: bool,
    cancel: Cancel,
}

#[derive(Debug)]
enum Cancel {
    No,
    /// As soon as a provisional response comes (RFC 3261 9.1).
    Wanted,
    /// Sent, and sent again until it is answered.
    Sent {
        bytes: Box<[u8]>,
        resend_ms: u64,
    },
    Done,
}

/// Where one branch goes.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) uri: Box<[u8]>,
    pub(crate) flow: Flow,
    pub(crate) q: Option<u16>,
}

impl Server {
    fn step(&mut self, event: ServerEvent) -> Option<ServerAction> {
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

    fn is_terminated(&self) -> bool {
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

impl Branch {
    fn step(&mut self, event: ClientEvent) -> Option<ClientAction> {
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

    fn is_terminated(&self) -> bool {
        matches!(
            self.state,
            ClientState::Invite(InviteClient::Terminated) | ClientState::Other(NonInviteClient::Terminated)
        )
    }

    /// Whether a final response may still come.
    fn is_open(&self) -> bool {
        matches!(
            self.state,
            ClientState::Invite(InviteClient::Calling | InviteClient::Proceeding)
                | ClientState::Other(NonInviteClient::Trying | NonInviteClient::Proceeding)
        )
    }

    fn is_ringing(&self) -> bool {
        self.state == ClientState::Invite(InviteClient::Proceeding)
    }
}

/// What a server transaction is found by: the branch and sent-by, or what RFC 2543 peers repeat (17.2.3).
pub(crate) fn server_key(request: &Request<'_>, method: &[u8], key: &mut Vec<u8>) {
    key.clear();
    let mut put = |part: &[u8]| {
        key.extend_from_slice(part);
        key.push(0);
    };
    put(method);
    match request.via.branch.filter(|branch| branch.len() > COOKIE.len() && branch.starts_with(COOKIE)) {
        Some(branch) => {
            put(branch);
            put(&request.via.host.to_ascii_lowercase());
            put(&request.via.port.unwrap_or(5060).to_be_bytes());
        }
        None => {
            let from = request.name_addr(HeaderName::From);
            put(request.uri);
            put(from.and_then(|from| from.tag()).unwrap_or(&[]));
            put(request.call_id().unwrap_or(&[]));
            put(&request.cseq().map_or(0, |cseq| cseq.number).to_be_bytes());
            put(request.via_line.value.of(request.bytes));
        }
    }
}

impl Engine {
    /// The transaction that a request belongs to; an ACK or CANCEL belongs to its INVITE.
    pub(crate) fn find_transaction(&mut self, request: &Request<'_>) -> Option<Ticket> {
        let method: &[u8] = match request.method {
            Method::Ack | Method::Cancel => b"INVITE",
            _ => request.method_name,
        };
        let mut key = std::mem::take(&mut self.key_scratch);
        server_key(request, method, &mut key);
        let found = self.server_index.get(&key[..]).copied();
        self.key_scratch = key;
        found
    }

    /// Makes a transaction for a request; an INVITE gets its 100 at once.
    pub(crate) fn open_transaction(
        &mut self,
        request: &Request<'_>,
        mark: Mark,
        out: &mut Outbox,
    ) -> Result<Ticket, Answer> {
        if self.transactions.len() >= limits::MAX_TRANSACTIONS / usize::from(self.config.shards.max(1)) {
            self.stats.count(Counter::TransactionsFull);
            return Err(Answer::busy("too many transactions"));
        }
        let is_invite = request.method == Method::Invite;
        let mut key = Vec::with_capacity(96);
        server_key(request, request.method_name, &mut key);
        let server = Server {
            state: match is_invite {
                true => ServerState::Invite(InviteServer::Proceeding),
                false => ServerState::Other(NonInviteServer::Trying),
            },
            method: request.method,
            flow: request.reply_flow(),
            source: request.flow,
            request: request.bytes.into(),
            mark,
            last: Box::default(),
            resend_ms: T1_MS,
        };
        let key: Box<[u8]> = key.into();
        let ticket = self.transactions.insert(Transaction {
            key: key.clone(),
            server,
            branches: Vec::new(),
            best: None,
            later: VecDeque::new(),
            is_cancelled: false,
        });
        self.server_index.insert(key, ticket);
        self.stats.count(Counter::UasTransactions);
        if is_invite {
            let mut trying = Vec::with_capacity(400);
            self.stationery.write_trying(request, &mut trying);
            self.send_upstream(ticket, ServerEvent::Provisional, &trying, out, Now::default());
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
            transaction.server.last = Box::default();
            self.set_alarm(now, T4_MS, ticket, AlarmKind::ServerEnd);
        }
    }

    /// Sends a request to a target as a new branch.
    pub(crate) fn open_branch(
        &mut self,
        ticket: Ticket,
        flow: Flow,
        write: impl FnOnce(&Engine, BranchId, &mut Vec<u8>),
        routing: u32,
        now: Now,
        out: &mut Outbox,
    ) {
        let secret = self.branch_secret(ticket);
        let Some(transaction) = self.transactions.get_mut(ticket) else { return };
        let index = transaction.branches.len() as u16;
        let is_invite = transaction.server.method == Method::Invite;
        let id = BranchId { shard: self.shard, transaction: ticket, index, secret, routing };
        let mut sent = Vec::with_capacity(transaction.server.request.len() + 256);
        write(self, id, &mut sent);
        out.send(flow, |bytes| bytes.extend_from_slice(&sent));
        let fr_ms = u64::from(self.config.tm.fr_timeout_s) * 1000;
        let branch = Branch {
            state: match is_invite {
                true => ClientState::Invite(InviteClient::Calling),
                false => ClientState::Other(NonInviteClient::Trying),
            },
            flow,
            secret,
            sent: sent.into(),
            resend_ms: T1_MS,
            deadline_ms: now.mono_ms + fr_ms,
            is_counted: false,
            cancel: Cancel::No,
        };
        if let Some(transaction) = self.transactions.get_mut(ticket) {
            transaction.branches.push(branch);
        }
        self.stats.count(Counter::UacTransactions);
        self.stats.count(Counter::FwdRequests);
        self.set_alarm(now, T1_MS, ticket, AlarmKind::BranchResend(index));
        self.set_alarm(now, fr_ms, ticket, AlarmKind::BranchTimeout(index));
    }

    /// Sends a response of our own to the caller.
    pub(crate) fn respond(&mut self, ticket: Ticket, answer: Answer, now: Now, out: &mut Outbox) {
        let Some(transaction) = self.transactions.get_mut(ticket) else { return };
        let server = &transaction.server;
        let (source, bytes) = (server.source, server.request.clone());
        let mut response = Vec::with_capacity(512);
        self.with_head(&bytes, |engine, head| {
            if let Some(request) = Request::new(source, &bytes, head) {
                crate::trace::answer(&request, &answer);
                engine.stationery.write_head(&request, answer.code, answer.reason, &mut response);
                engine.stationery.write_refusal(&request, &answer, &mut response);
                engine.stationery.write_tail(&mut response);
            }
        });
        self.stats.count(Counter::LocalReplies);
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
            server.last = response.into();
            return;
        }
        if !was_open {
            return;
        }
        server.request = Box::default();
        let accepted = is_invite && event == ServerEvent::Success;
        server.last = if accepted { Box::default() } else { response.into() };
        let resends = is_invite && event == ServerEvent::Failure;
        self.count_transaction(response);
        self.set_alarm(now, LINGER_MS, ticket, AlarmKind::ServerEnd);
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

    /// Handles a response: it must carry a branch that we made and nobody could guess.
    pub(crate) fn handle_response(
        &mut self,
        flow: &Flow,
        bytes: &[u8],
        head: &Head,
        now: Now,
        out: &mut Outbox,
    ) {
        let via = head.value(bytes, HeaderName::Via).and_then(|value| Via::parse(value).ok());
        let Some(id) = via.and_then(|via| BranchId::parse(via.branch?)) else {
            return self.drop_response(flow);
        };
        if id.shard != self.shard {
            if id.shard.0 >= self.config.shards {
                return self.drop_response(flow);
            }
            self.stats.count(Counter::HandedOver);
            let command =
                Command::ToShard { shard: id.shard, flow: *flow, message: bytes.into(), mark: Mark::None };
            return out.commands.push(command);
        }
        let StartLine::Response { code } = head.start_line() else { return };
        let cseq = head.value(bytes, HeaderName::CSeq).and_then(|value| roost_sip::cseq(value).ok());
        let is_ours = |branch: &Branch| branch.secret == id.secret;
        let found = self.transactions.get_mut(id.transaction).and_then(|transaction| {
            let method = transaction.server.method;
            Some((
                method,
                transaction.branches.get_mut(usize::from(id.index)).filter(|branch| is_ours(branch))?,
            ))
        });
        let (Some((method, branch)), Some(cseq)) = (found, cseq) else { return self.drop_response(flow) };
        if cseq.method == b"CANCEL" {
            if code >= 200 && matches!(branch.cancel, Cancel::Sent { .. }) {
                branch.cancel = Cancel::Done;
            }
            return;
        }
        let length = head.value(bytes, HeaderName::ContentLength).map(roost_sip::number);
        let is_cut =
            length.is_some_and(|length| length.is_ok_and(|length| length as usize > head.body(bytes).len()));
        if cseq.method() != method || head.defect().is_some() || is_cut {
            return self.drop_response(flow);
        }
        self.stats.count(Counter::ReceivedReplies);
        self.branch_response(id, code, bytes, head, now, out);
    }

    fn drop_response(&mut self, flow: &Flow) {
        self.stats.count(Counter::DropReplies);
        tracing::debug!(source = %flow, "response of no transaction dropped");
    }

    fn branch_response(
        &mut self,
        id: BranchId,
        code: u16,
        bytes: &[u8],
        head: &Head,
        now: Now,
        out: &mut Outbox,
    ) {
        let (ticket, index) = (id.transaction, id.index);
        let event = match code {
            ..200 => ClientEvent::Provisional,
            200..300 => ClientEvent::Success,
            _ => ClientEvent::Failure,
        };
        let Some(branch) = self.branch_mut(ticket, index) else { return };
        let was_ringing = branch.is_ringing();
        let Some(action) = branch.step(event) else { return };
        tracing::debug!(code, branch = index, "incoming reply");
        match action {
            ClientAction::Pass if code < 200 => {
                self.branch_rings(ticket, index, was_ringing, now, out);
                if code > 100 {
                    self.relay(ticket, bytes, head, None, now, out);
                }
            }
            ClientAction::Pass if code < 300 => {
                self.finish_branch(ticket, index, now);
                self.relay(ticket, bytes, head, None, now, out);
                self.cancel_others(ticket, index, ELSEWHERE, now, out);
            }
            ClientAction::Pass => {
                self.finish_branch(ticket, index, now);
                self.count_failure(ticket, index, Some((code, bytes, head)), now, out);
            }
            ClientAction::AckAndPass => {
                self.send_ack(ticket, index, bytes, head, out);
                self.finish_branch(ticket, index, now);
                self.count_failure(ticket, index, Some((code, bytes, head)), now, out);
            }
            ClientAction::Ack => {
                if let Some(branch) = self.branch_mut(ticket, index) {
                    out.send(branch.flow, |out| out.extend_from_slice(&branch.sent));
                }
            }
            ClientAction::Absorb | ClientAction::Resend | ClientAction::Timeout | ClientAction::End => {}
        }
    }

    /// The first provisional ends timer B and starts timer C; a CANCEL that waited for it goes out.
    fn branch_rings(&mut self, ticket: Ticket, index: u16, was_ringing: bool, now: Now, out: &mut Outbox) {
        let inv_ms = u64::from(self.config.tm.fr_inv_timeout_s) * 1000;
        let restarts = self.config.tm.restart_fr_on_each_reply;
        let Some(branch) = self.branch_mut(ticket, index) else { return };
        if !branch.is_ringing() {
            return;
        }
        if !branch.is_counted
            && (!was_ringing || restarts)
            && matches!(branch.cancel, Cancel::No | Cancel::Wanted)
        {
            branch.deadline_ms = now.mono_ms + inv_ms;
        }
        let is_wanted = matches!(branch.cancel, Cancel::Wanted);
        if !was_ringing {
            self.set_alarm(now, inv_ms, ticket, AlarmKind::BranchTimeout(index));
        }
        if is_wanted {
            self.send_cancel(ticket, index, None, now, out);
        }
    }

    /// A branch has its final response: it lingers, so that what comes again is known.
    fn finish_branch(&mut self, ticket: Ticket, index: u16, now: Now) {
        let Some(branch) = self.branch_mut(ticket, index) else { return };
        let linger_ms = match branch.state {
            ClientState::Invite(_) => LINGER_MS,
            ClientState::Other(_) => T4_MS,
        };
        if !matches!(branch.state, ClientState::Invite(InviteClient::Completed)) {
            branch.sent = Box::default();
        }
        self.set_alarm(now, linger_ms, ticket, AlarmKind::BranchEnd(index));
    }

    /// Gives a branch's response to the caller.
    pub(crate) fn relay(
        &mut self,
        ticket: Ticket,
        bytes: &[u8],
        head: &Head,
        status: Option<u16>,
        now: Now,
        out: &mut Outbox,
    ) {
        let StartLine::Response { code } = head.start_line() else { return };
        let mut response = std::mem::take(&mut self.message_scratch);
        response.clear();
        write_response(head, bytes, status, &[], &mut response);
        self.stats.count(Counter::RelayedReplies);
        self.send_upstream(ticket, event_of(code), &response, out, now);
        self.message_scratch = response;
    }

    fn send_ack(&mut self, ticket: Ticket, index: u16, response: &[u8], head: &Head, out: &mut Outbox) {
        let Some(to) = head.value(response, HeaderName::To) else { return };
        let Some(sent) = self.branch_mut(ticket, index).map(|branch| std::mem::take(&mut branch.sent)) else {
            return;
        };
        let mut ack = Vec::with_capacity(400);
        self.with_head(&sent, |engine, head| {
            write_ack(&sent, head, to, &engine.config.server_header, &mut ack)
        });
        if let Some(branch) = self.branch_mut(ticket, index) {
            out.send(branch.flow, |out| out.extend_from_slice(&ack));
            branch.sent = ack.into();
        }
    }

    /// Cancels every branch that may still answer, but for one.
    pub(crate) fn cancel_others(
        &mut self,
        ticket: Ticket,
        but: u16,
        reason: &'static str,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(transaction) = self.transactions.get_mut(ticket) else { return };
        transaction.later.clear();
        if transaction.server.method != Method::Invite {
            return;
        }
        for index in (0..transaction.branches.len() as u16).filter(|index| *index != but) {
            self.cancel_branch(ticket, index, reason, now, out);
        }
    }

    /// Cancels a ringing branch, or marks one that has not answered at all.
    pub(crate) fn cancel_branch(
        &mut self,
        ticket: Ticket,
        index: u16,
        reason: &'static str,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(branch) = self.branch_mut(ticket, index) else { return };
        if !branch.is_open() || !matches!(branch.cancel, Cancel::No) {
            return;
        }
        if branch.is_ringing() {
            self.send_cancel(ticket, index, Some(reason), now, out);
        } else {
            branch.cancel = Cancel::Wanted;
        }
    }

    fn send_cancel(
        &mut self,
        ticket: Ticket,
        index: u16,
        reason: Option<&'static str>,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(sent) = self.branch_mut(ticket, index).map(|branch| std::mem::take(&mut branch.sent)) else {
            return;
        };
        let mut cancel = Vec::with_capacity(400);
        self.with_head(&sent, |engine, head| {
            write_cancel(&sent, head, reason, &engine.config.server_header, &mut cancel);
        });
        let Some(branch) = self.branch_mut(ticket, index) else { return };
        branch.sent = sent;
        out.send(branch.flow, |out| out.extend_from_slice(&cancel));
        branch.cancel = Cancel::Sent { bytes: cancel.into(), resend_ms: T1_MS };
        // A callee that has accepted the CANCEL and says no more is given up after 64 T1 (RFC 3261 9.1).
        branch.deadline_ms = now.mono_ms + LINGER_MS;
        self.set_alarm(now, T1_MS, ticket, AlarmKind::CancelResend(index));
        self.set_alarm(now, LINGER_MS, ticket, AlarmKind::BranchTimeout(index));
    }

    /// Does what an alarm is about, if it still fits.
    pub(crate) fn handle_alarm(&mut self, alarm: Alarm, now: Now, out: &mut Outbox) {
        let ticket = alarm.transaction;
        match alarm.kind {
            AlarmKind::ServerResend => self.server_resend(ticket, now, out),
            AlarmKind::ServerEnd => {
                if let Some(transaction) = self.transactions.get_mut(ticket) {
                    transaction.server.step(ServerEvent::End);
                }
                self.close_if_done(ticket);
            }
            AlarmKind::BranchResend(index) => self.branch_resend(ticket, index, now, out),
            AlarmKind::BranchTimeout(index) => self.branch_timeout(ticket, index, now, out),
            AlarmKind::BranchEnd(index) => {
                if let Some(branch) = self.branch_mut(ticket, index) {
                    branch.step(ClientEvent::End);
                }
                self.close_if_done(ticket);
            }
            AlarmKind::CancelResend(index) => self.cancel_resend(ticket, index, now, out),
        }
    }

    fn server_resend(&mut self, ticket: Ticket, now: Now, out: &mut Outbox) {
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

    fn branch_resend(&mut self, ticket: Ticket, index: u16, now: Now, out: &mut Outbox) {
        let Some(branch) = self.branch_mut(ticket, index) else { return };
        if branch.step(ClientEvent::Resend) != Some(ClientAction::Resend) {
            return;
        }
        out.send(branch.flow, |bytes| bytes.extend_from_slice(&branch.sent));
        branch.resend_ms = match branch.state {
            ClientState::Invite(_) => branch.resend_ms * 2,
            ClientState::Other(NonInviteClient::Proceeding) => T2_MS,
            ClientState::Other(_) => (branch.resend_ms * 2).min(T2_MS),
        };
        let after_ms = branch.resend_ms;
        self.set_alarm(now, after_ms, ticket, AlarmKind::BranchResend(index));
    }

    fn cancel_resend(&mut self, ticket: Ticket, index: u16, now: Now, out: &mut Outbox) {
        let Some(branch) = self.branch_mut(ticket, index) else { return };
        let flow = branch.flow;
        let is_open = branch.is_open();
        let Cancel::Sent { bytes, resend_ms } = &mut branch.cancel else { return };
        if !is_open {
            return;
        }
        out.send(flow, |out| out.extend_from_slice(bytes));
        *resend_ms = (*resend_ms * 2).min(T2_MS);
        let after_ms = *resend_ms;
        self.set_alarm(now, after_ms, ticket, AlarmKind::CancelResend(index));
    }

    fn branch_timeout(&mut self, ticket: Ticket, index: u16, now: Now, out: &mut Outbox) {
        let Some(branch) = self.branch_mut(ticket, index) else { return };
        if !branch.is_open() {
            return;
        }
        if branch.deadline_ms > now.mono_ms {
            // Answered meanwhile; an alarm of its own stands for the new deadline, but a restarted one needs another.
            let left_ms = branch.deadline_ms - now.mono_ms;
            if self.config.tm.restart_fr_on_each_reply
                && self.branch_mut(ticket, index).is_some_and(|b| b.is_ringing())
            {
                let after_ms = [LINGER_MS, T2_MS].into_iter().find(|ms| *ms <= left_ms).unwrap_or(T1_MS);
                self.set_alarm(now, after_ms, ticket, AlarmKind::BranchTimeout(index));
            }
            return;
        }
        if branch.is_ringing() && matches!(branch.cancel, Cancel::No) {
            // Timer C: the callee's ringing ends, the caller hears at once; the 487 is absorbed.
            self.send_cancel(ticket, index, Some(NO_ANSWER), now, out);
            self.count_failure(ticket, index, None, now, out);
            return;
        }
        branch.step(ClientEvent::Timeout);
        branch.sent = Box::default();
        self.count_failure(ticket, index, None, now, out);
        self.close_if_done(ticket);
    }

    /// Whether a branch's end is counted for the first time.
    pub(crate) fn count_once(&mut self, ticket: Ticket, index: u16) -> bool {
        self.branch_mut(ticket, index).is_some_and(|branch| !std::mem::replace(&mut branch.is_counted, true))
    }

    /// Whether any branch has not been counted.
    pub(crate) fn is_any_open(&mut self, ticket: Ticket) -> bool {
        let transaction = self.transactions.get_mut(ticket);
        transaction.is_some_and(|transaction| {
            transaction.branches.iter().any(|branch| !branch.is_counted && branch.is_open())
        })
    }

    fn close_if_done(&mut self, ticket: Ticket) {
        let Some(transaction) = self.transactions.get_mut(ticket) else { return };
        if transaction.server.is_terminated() && transaction.branches.iter().all(Branch::is_terminated) {
            let key = std::mem::take(&mut transaction.key);
            self.server_index.remove(&key);
            self.transactions.remove(ticket);
        }
    }

    fn branch_mut(&mut self, ticket: Ticket, index: u16) -> Option<&mut Branch> {
        self.transactions.get_mut(ticket)?.branches.get_mut(usize::from(index))
    }

    fn set_alarm(&mut self, now: Now, after_ms: u64, transaction: Ticket, kind: AlarmKind) {
        self.timers.set(now.mono_ms, after_ms, Alarm { transaction, kind });
    }

    /// 64 bits that only this process's life can know.
    fn branch_secret(&mut self, ticket: Ticket) -> u64 {
        self.branches_made = self.branches_made.wrapping_add(1);
        let mut hasher = blake3::Hasher::new_keyed(&self.config.mac_key);
        hasher.update(b"branch").update(&self.salt.to_be_bytes());
        hasher.update(&ticket.0.to_be_bytes()).update(&self.branches_made.to_be_bytes());
        let mut secret = [0; 8];
        hasher.finalize_xof().fill(&mut secret);
        u64::from_be_bytes(secret)
    }

    /// A hash of what the routing of a request depends on.
    pub(crate) fn routing_hash(&self, request: &Request<'_>) -> u32 {
        let from_tag = request.name_addr(HeaderName::From).and_then(|from| from.tag());
        let routes = request.value(HeaderName::Route);
        let cseq = request.value(HeaderName::CSeq);
        let hash = self.hasher.hash_one((request.uri, routes, request.call_id(), from_tag, cseq));
        hash as u32
    }
}

fn event_of(code: u16) -> ServerEvent {
    match code {
        ..200 => ServerEvent::Provisional,
        200..300 => ServerEvent::Success,
        _ => ServerEvent::Failure,
    }
}
