//! Transactions: one server side, and the branches that a request was forked to.
//!
//! The state machines stand in `machines.rs`; their actions are done in `server.rs` and `branch.rs`. A transaction is
//! found by the request's branch (server side) or by our own branch parameter, which leads straight to its slot.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use roost_sip::{HeaderName, Method};

use crate::base::flow::{Now, Ticket};
use crate::contract::next_hops::HopId;
use crate::contract::outbox::Outbox;
use crate::engine::Engine;
use crate::message::branch_id::COOKIE;
use crate::message::request::Request;
use crate::proxy::next_hop::Reach;
use crate::proxy::response_context::Best;
use crate::registrar::binding::Binding;
use crate::transaction::client::Branch;
use crate::transaction::machines::{ClientEvent, ServerEvent};
use crate::transaction::pool::Pool;
use crate::transaction::server::Server;
use crate::transaction::timers::{Alarm, AlarmKind};

/// A request that is being proxied.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// What its server side is found by.
    pub(crate) key: Vec<u8>,
    pub(crate) key_hash: u64,
    pub(crate) server: Server,
    pub(crate) branches: Vec<Branch>,
    pub(crate) best: Option<Best>,
    /// Groups of targets to try when the ones before have failed (`proxy.serial_fork`).
    pub(crate) later: VecDeque<Vec<Target>>,
    pub(crate) is_cancelled: bool,
    /// Branches that wait for a name.
    pub(crate) resolving: u16,
}

/// Where one branch goes.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) uri: Vec<u8>,
    /// Route values that lead there (RFC 3327); mostly empty.
    pub(crate) path: Vec<u8>,
    pub(crate) reach: Reach,
    pub(crate) q: Option<u16>,
    /// The next hop that it is, where it is one.
    pub(crate) hop: Option<HopId>,
    /// Whether it is another address of the target before it.
    pub(crate) is_same: bool,
}

impl Target {
    /// A binding that is reached that way.
    pub(crate) fn of(binding: &Binding, reach: Reach, pool: &mut Pool) -> Target {
        let (uri, path) = (pool.copy(binding.contact()), pool.copy_some(binding.path()));
        Target { uri, path, reach, q: binding.q, hop: None, is_same: false }
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
            put(&request.via.port.unwrap_or(5060).to_be_bytes());
            key.extend(request.via.host.iter().map(u8::to_ascii_lowercase));
        }
        None => {
            put(request.uri);
            put(request.sender_tag().unwrap_or(&[]));
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
        let hash = self.hasher.hash_one(&key[..]);
        let is_it = |(_, ticket): &(u64, Ticket)| {
            self.transactions.get(*ticket).is_some_and(|transaction| transaction.key == key)
        };
        let found = self.server_index.find(hash, is_it).map(|(_, ticket)| *ticket);
        self.key_scratch = key;
        found
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

    pub(crate) fn close_if_done(&mut self, ticket: Ticket) {
        let Some(transaction) = self.transactions.get_mut(ticket) else { return };
        if transaction.server.is_terminated() && transaction.branches.iter().all(Branch::is_terminated) {
            let hash = transaction.key_hash;
            if let Ok(entry) = self.server_index.find_entry(hash, |(_, other)| *other == ticket) {
                entry.remove();
            }
            if let Some(transaction) = self.transactions.remove(ticket) {
                let Transaction { key, server, branches, later, .. } = transaction;
                later.into_iter().for_each(|group| self.pool.give_targets(group));
                self.pool.give(key);
                server.give_buffers(&mut self.pool);
                self.pool.give_branches(branches);
            }
        }
    }

    pub(crate) fn branch_mut(&mut self, ticket: Ticket, index: u16) -> Option<&mut Branch> {
        self.transactions.get_mut(ticket)?.branches.get_mut(usize::from(index))
    }

    pub(crate) fn set_alarm(&mut self, now: Now, after_ms: u64, transaction: Ticket, kind: AlarmKind) {
        self.timers.set(now.mono_ms, after_ms, Alarm { transaction, kind });
    }

    /// A hash of what the routing of a request depends on.
    pub(crate) fn routing_hash(&self, request: &Request<'_>) -> u32 {
        let from_tag = request.sender_tag();
        let routes = request.value(HeaderName::Route);
        let cseq = request.value(HeaderName::CSeq);
        let hash = self.hasher.hash_one((request.uri, routes, request.call_id(), from_tag, cseq));
        hash as u32
    }
}
