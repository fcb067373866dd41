//! The branches of a transaction: towards the contacts (RFC 3261 17.1), what is heard from them (16.7), and CANCEL.

use roost_sip::{Head, HeaderName, Method, StartLine, Via};

use crate::base::flow::{Flow, Now, Ticket, Transport};
use crate::base::mac::{Purpose, mac};
use crate::base::stats::Counter;
use crate::contract::next_hops::HopId;
use crate::contract::outbox::{Mark, Outbox};
use crate::dispatch::monitor::PINGS;
use crate::engine::Engine;
use crate::message::branch_id::BranchId;
use crate::message::forward::{write_ack, write_cancel, write_response};
use crate::transaction::machines::{ClientAction, ClientEvent, InviteClient, NonInviteClient};
use crate::transaction::pool::Pool;
use crate::transaction::server::event_of;
use crate::transaction::timers::{AlarmKind, LINGER_MS, T1_MS, T2_MS, T4_MS};
use crate::transaction::transactions::Target;

/// Why a branch is cancelled, as its Reason header says it.
pub(crate) const ORIGINATOR_CANCEL: &str = "SIP;cause=487;text=\"ORIGINATOR_CANCEL\"";
pub(crate) const NO_ANSWER: &str = "SIP;cause=480;text=\"NO_ANSWER\"";
pub(crate) const ELSEWHERE: &str = "SIP ;cause=200 ;text=\"Call completed elsewhere\"";

/// The side towards one contact.
#[derive(Debug)]
pub(crate) struct Branch {
    state: ClientState,
    flow: Flow,
    /// What our Via's branch says.
    id: BranchId,
    /// The request as sent; once a failure came, its ACK.
    sent: Vec<u8>,
    resend_ms: u64,
    /// When it counts as unanswered, in monotonic milliseconds.
    deadline_ms: u64,
    /// Whether its final response (or its silence) has been counted.
    is_counted: bool,
    cancel: Cancel,
    /// What is tried when this one fails, the next one last; mostly empty.
    pub(crate) rest: Vec<Target>,
    /// The next hop that it went to, where it is one.
    hop: Option<HopId>,
    /// Whether anything was heard but a 100.
    pub(crate) has_rung: bool,
}

#[derive(Debug)]
enum Cancel {
    No,
    /// As soon as a provisional response comes (RFC 3261 9.1), with this Reason.
    Wanted(Option<&'static str>),
    /// Sent, and sent again until it is answered.
    Sent {
        bytes: Vec<u8>,
        resend_ms: u64,
    },
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientState {
    Invite(InviteClient),
    Other(NonInviteClient),
}

impl Branch {
    pub(crate) fn step(&mut self, event: ClientEvent) -> Option<ClientAction> {
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

    pub(crate) fn give_buffers(self, pool: &mut Pool) {
        pool.give(self.sent);
        if let Cancel::Sent { bytes, .. } = self.cancel {
            pool.give(bytes);
        }
        pool.give_all(self.rest);
    }

    pub(crate) fn is_terminated(&self) -> bool {
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

impl Engine {
    /// Sends a request to a target as a new branch; `then` is the hop that it goes to, and what is tried when it fails.
    #[expect(clippy::too_many_arguments, reason = "what a branch is made of")]
    pub(crate) fn open_branch(
        &mut self,
        ticket: Ticket,
        flow: Flow,
        then: (Option<HopId>, Vec<Target>),
        write: impl FnOnce(&Engine, BranchId, &mut Vec<u8>),
        routing: u32,
        now: Now,
        out: &mut Outbox,
    ) {
        let secret = self.branch_secret(ticket);
        let (hop, rest) = then;
        let Some(transaction) = self.transactions.get(ticket) else { return self.pool.give_all(rest) };
        let index = transaction.branches.len() as u16;
        let is_invite = transaction.server.method == Method::Invite;
        let id = BranchId { shard: self.shard, transaction: ticket, index, secret, routing };
        let mut sent = self.pool.take(transaction.server.request.len() + 256);
        write(self, id, &mut sent);
        out.send(flow, |bytes| bytes.extend_from_slice(&sent));
        let fr_ms = u64::from(self.config.tm.fr_timeout_s) * 1000;
        let branch = Branch {
            state: match is_invite {
                true => ClientState::Invite(InviteClient::Calling),
                false => ClientState::Other(NonInviteClient::Trying),
            },
            flow,
            id,
            sent,
            resend_ms: T1_MS,
            deadline_ms: now.mono_ms + fr_ms,
            is_counted: false,
            cancel: Cancel::No,
            rest,
            hop,
            has_rung: false,
        };
        if let Some(transaction) = self.transactions.get_mut(ticket) {
            transaction.branches.push(branch);
        }
        self.stats.count(Counter::UacTransactions);
        self.stats.count(Counter::FwdRequests);
        if !flow.transport.is_reliable() {
            self.set_alarm(now, T1_MS, ticket, AlarmKind::BranchResend(index));
        }
        self.set_alarm(now, fr_ms, ticket, AlarmKind::BranchTimeout(index));
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
            return out.hand_over(id.shard, *flow, bytes, Mark::None);
        }
        let StartLine::Response { code } = head.start_line() else { return };
        if id.transaction == PINGS {
            return self.ping_answered(id, code, flow, out);
        }
        let cseq = head.value(bytes, HeaderName::CSeq).and_then(|value| roost_sip::cseq(value).ok());
        let is_ours = |branch: &Branch| branch.id == id;
        let found = self.transactions.get_mut(id.transaction).and_then(|transaction| {
            let method = transaction.server.method;
            Some((
                method,
                transaction.branches.get_mut(usize::from(id.index)).filter(|branch| is_ours(branch))?,
            ))
        });
        let (Some((method, branch)), Some(cseq)) = (found, cseq) else { return self.drop_response(flow) };
        if cseq.method == b"CANCEL" {
            match &mut branch.cancel {
                Cancel::Sent { bytes, .. } if code >= 200 => {
                    let bytes = std::mem::take(bytes);
                    branch.cancel = Cancel::Done;
                    self.pool.give(bytes);
                }
                Cancel::No | Cancel::Wanted(_) => self.drop_response(flow),
                Cancel::Sent { .. } | Cancel::Done => {}
            }
            return;
        }
        let length = head.value(bytes, HeaderName::ContentLength).map(roost_sip::number);
        let is_cut = match length {
            // What is no length to us may be one to the next hop.
            Some(length) => length.map_or(true, |length| length as usize > head.body(bytes).len()),
            // Where its body ends in a stream nobody can tell.
            None => flow.transport.is_reliable(),
        };
        let singles = [HeaderName::To, HeaderName::From, HeaderName::CallId, HeaderName::CSeq];
        let is_odd = singles.iter().any(|name| head.line(*name).is_none() || head.is_repeated(*name))
            || head.is_repeated(HeaderName::ContentLength);
        if cseq.method() != method || head.defect().is_some() || is_cut || is_odd {
            return self.drop_response(flow);
        }
        self.stats.count(Counter::ReceivedReplies);
        crate::message::trace::reply(flow, code, head, bytes);
        self.branch_response(id, code, bytes, head, now, out);
    }

    pub(crate) fn drop_response(&mut self, flow: &Flow) {
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
        let (was_ringing, was_open) = (branch.is_ringing(), branch.is_open());
        branch.has_rung |= (101..200).contains(&code);
        let Some(action) = branch.step(event) else { return };
        if branch.hop.is_some() && code != 100 {
            self.heard_of_branch(ticket, index, Some(code), out);
        }
        match action {
            ClientAction::Pass if code < 200 => {
                self.branch_rings(ticket, index, was_ringing, now, out);
                if code > 100 {
                    self.relay(ticket, bytes, head, None, now, out);
                }
            }
            ClientAction::Pass if code < 300 => {
                if was_open {
                    self.finish_branch(ticket, index, now);
                }
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
            && matches!(branch.cancel, Cancel::No | Cancel::Wanted(_))
        {
            branch.deadline_ms = now.mono_ms + inv_ms;
        }
        let wanted = match branch.cancel {
            Cancel::Wanted(reason) => Some(reason),
            _ => None,
        };
        if !was_ringing {
            self.set_alarm(now, inv_ms, ticket, AlarmKind::BranchTimeout(index));
        }
        if let Some(reason) = wanted {
            self.send_cancel(ticket, index, reason, now, out);
        }
    }

    /// A branch has its final response: it lingers, so that what comes again is known.
    fn finish_branch(&mut self, ticket: Ticket, index: u16, now: Now) {
        let Some(branch) = self.branch_mut(ticket, index) else { return };
        let linger_ms = match branch.state {
            // A 2xx may come again from end to end, whatever carries it (RFC 6026 8.4).
            ClientState::Invite(InviteClient::Accepted) => LINGER_MS,
            _ if branch.flow.transport.is_reliable() => 0,
            ClientState::Invite(_) => LINGER_MS,
            ClientState::Other(_) => T4_MS,
        };
        if !matches!(branch.state, ClientState::Invite(InviteClient::Completed)) {
            let sent = std::mem::take(&mut branch.sent);
            self.pool.give(sent);
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
        let transport = self.transport_upstream(ticket);
        write_response(head, bytes, status, transport, &mut response);
        self.stats.count(Counter::RelayedReplies);
        self.send_upstream(ticket, event_of(code), &response, out, now);
        self.message_scratch = response;
    }

    /// What carries responses to the caller.
    pub(crate) fn transport_upstream(&self, ticket: Ticket) -> Transport {
        let transaction = self.transactions.get(ticket);
        transaction.map_or(Transport::Udp, |transaction| transaction.server.source.transport)
    }

    fn send_ack(&mut self, ticket: Ticket, index: u16, response: &[u8], head: &Head, out: &mut Outbox) {
        let Some(to) = head.value(response, HeaderName::To) else { return };
        let Some(sent) = self.branch_mut(ticket, index).map(|branch| std::mem::take(&mut branch.sent)) else {
            return;
        };
        let mut ack = self.pool.take(sent.len());
        self.with_head(&sent, |engine, head| {
            write_ack(&sent, head, to, &engine.config.server_header, &mut ack)
        });
        if let Some(branch) = self.branch_mut(ticket, index) {
            out.send(branch.flow, |out| out.extend_from_slice(&ack));
            branch.sent = ack;
        }
        self.pool.give(sent);
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
        let later = std::mem::take(&mut transaction.later);
        let (method, branches) = (transaction.server.method, transaction.branches.len() as u16);
        later.into_iter().for_each(|group| self.pool.give_targets(group));
        if method != Method::Invite {
            return;
        }
        for index in (0..branches).filter(|index| *index != but) {
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
        let rest = std::mem::take(&mut branch.rest);
        self.pool.give_all(rest);
        let Some(branch) = self.branch_mut(ticket, index) else { return };
        if branch.is_ringing() {
            self.send_cancel(ticket, index, Some(reason), now, out);
        } else {
            // OpenSIPS gives no Reason when the caller gave up before the callee was heard of.
            branch.cancel = Cancel::Wanted((reason != ORIGINATOR_CANCEL).then_some(reason));
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
        let mut cancel = self.pool.take(sent.len());
        self.with_head(&sent, |engine, head| {
            write_cancel(&sent, head, reason, &engine.config.server_header, &mut cancel);
        });
        let Some(branch) = self.branch_mut(ticket, index) else { return };
        branch.sent = sent;
        out.send(branch.flow, |out| out.extend_from_slice(&cancel));
        let is_reliable = branch.flow.transport.is_reliable();
        branch.cancel = Cancel::Sent { bytes: cancel, resend_ms: T1_MS };
        // A callee that has accepted the CANCEL and says no more is given up after 64 T1 (RFC 3261 9.1).
        branch.deadline_ms = now.mono_ms + LINGER_MS;
        if !is_reliable {
            self.set_alarm(now, T1_MS, ticket, AlarmKind::CancelResend(index));
        }
        self.set_alarm(now, LINGER_MS, ticket, AlarmKind::BranchTimeout(index));
    }

    pub(crate) fn branch_resend(&mut self, ticket: Ticket, index: u16, now: Now, out: &mut Outbox) {
        let Some(branch) = self.branch_mut(ticket, index).filter(|branch| !branch.is_counted) else { return };
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

    pub(crate) fn cancel_resend(&mut self, ticket: Ticket, index: u16, now: Now, out: &mut Outbox) {
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

    pub(crate) fn branch_timeout(&mut self, ticket: Ticket, index: u16, now: Now, out: &mut Outbox) {
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
        if branch.state == ClientState::Invite(InviteClient::Calling) && !branch.is_counted {
            // Timer B: nobody waits any longer, but a phone that rings after all is silenced, and a 2xx forwarded.
            if matches!(branch.cancel, Cancel::No) {
                branch.cancel = Cancel::Wanted(Some(NO_ANSWER));
            }
            branch.deadline_ms = now.mono_ms + LINGER_MS;
            self.set_alarm(now, LINGER_MS, ticket, AlarmKind::BranchTimeout(index));
            return self.count_failure(ticket, index, None, now, out);
        }
        branch.step(ClientEvent::Timeout);
        let sent = std::mem::take(&mut branch.sent);
        self.pool.give(sent);
        self.count_failure(ticket, index, None, now, out);
        self.close_if_done(ticket);
    }

    /// A branch's request could not be sent: the next target is tried as after a 503 (RFC 3261 16.9, RFC 3263 4.3).
    pub(crate) fn branch_unsent(&mut self, id: BranchId, code: u16, now: Now, out: &mut Outbox) {
        let (ticket, index) = (id.transaction, id.index);
        let is_it = |branch: &&mut Branch| branch.id == id && branch.is_open() && !branch.is_counted;
        let Some(branch) = self.branch_mut(ticket, index).filter(is_it) else { return };
        branch.step(ClientEvent::Timeout);
        let sent = std::mem::take(&mut branch.sent);
        self.pool.give(sent);
        if !self.count_once(ticket, index) {
            return;
        }
        self.note_failure(ticket, code, None);
        self.heard_of_branch(ticket, index, None, out);
        let rest = self.left_to_try(ticket, index, Some(503));
        match rest.is_empty() {
            false => self.try_rest(ticket, rest, None, now, out),
            true => self.settle(ticket, now, out),
        }
        self.close_if_done(ticket);
    }

    /// A next hop has answered a call, or has not.
    pub(crate) fn heard_of_branch(
        &mut self,
        ticket: Ticket,
        index: u16,
        code: Option<u16>,
        out: &mut Outbox,
    ) {
        let Some(branch) = self.branch_mut(ticket, index) else { return };
        let (remote, has_rung) = (branch.flow.remote, branch.has_rung);
        match (branch.hop, code) {
            (Some(hop), None) if !has_rung => self.hop_heard(hop, remote, true, out),
            // Whoever says 5xx is there, but for a ping to judge.
            (Some(hop), Some(..500 | 600..)) => self.hop_heard(hop, remote, false, out),
            _ => {}
        }
    }

    /// Whether a branch's end is counted for the first time.
    pub(crate) fn count_once(&mut self, ticket: Ticket, index: u16) -> bool {
        self.branch_mut(ticket, index).is_some_and(|branch| !std::mem::replace(&mut branch.is_counted, true))
    }

    /// Whether any branch has not been counted, or waits for a name.
    pub(crate) fn is_any_open(&mut self, ticket: Ticket) -> bool {
        let transaction = self.transactions.get_mut(ticket);
        transaction.is_some_and(|transaction| {
            transaction.resolving > 0
                || transaction.branches.iter().any(|branch| !branch.is_counted && branch.is_open())
        })
    }

    /// 64 bits that only this process's life can know.
    pub(crate) fn branch_secret(&mut self, ticket: Ticket) -> u64 {
        self.branches_made = self.branches_made.wrapping_add(1);
        let parts = [self.salt, ticket.0, self.branches_made].map(u64::to_be_bytes);
        let [salt, ticket, made] = &parts;
        let mac = mac(&self.config.mac_key, Purpose::Branch, &[salt, ticket, made]);
        u128::from_be_bytes(mac) as u64
    }
}
