//! What waited goes on: with the answer to a command, or without it when that does not come.

use std::sync::Arc;

use roost_sip::Method;

use crate::auth::authenticator::Loaded;
use crate::base::flow::{Flow, Now, Ticket};
use crate::base::limits;
use crate::base::stats::Counter;
use crate::continuation::Continuation;
use crate::contract::command::{CommitOutcome, Receipt};
use crate::contract::dropped::Dropped;
use crate::contract::next_hops::Address;
use crate::contract::outbox::Outbox;
use crate::contract::reason::Reason;
use crate::engine::Engine;
use crate::message::request::Request;
use crate::parking::{Parked, Released, Topic};
use crate::proxy::dialog::ack_resolved;
use crate::refusal::refuse;

impl Engine {
    /// Handles the answer to a command. A ticket that is not known any more is passed over.
    pub fn handle_receipt(&mut self, receipt: Receipt, now: Now, out: &mut Outbox) {
        match receipt {
            Receipt::Commit(ticket, outcome) => self.committed(ticket, outcome, now, out),
            Receipt::Record(ticket, found) => {
                self.registrar.take_read(&mut self.shared.ctx(now, out), ticket, found);
                let released = self.parking.release(Topic::Record(ticket));
                self.resume_all(released, now, out);
            }
            Receipt::Credentials(ticket, found) => {
                let ctx = &mut self.shared.ctx(now, out);
                let topic = Topic::Credentials(ticket);
                match self.auth.loaded(ctx, ticket, found) {
                    Some(Loaded::Again(ticket)) => {
                        let released = self.parking.release(topic);
                        self.parking.wait_again(released, Topic::Credentials(ticket));
                    }
                    Some(Loaded::Done { age, changed }) => {
                        self.admission.unban_users(changed.as_slice());
                        let mut released = self.parking.release(topic);
                        while let Some(mut parked) = self.parking.next(&mut released) {
                            parked.then = parked.then.with_age(age);
                            self.resume(parked, now, out);
                        }
                    }
                    None => {}
                }
            }
            Receipt::Resolved(ticket, addresses) => {
                if let Some(parked) = self.parking.take_named(ticket) {
                    self.resolved(parked, &addresses, now, out);
                }
            }
        }
    }

    /// What became of a commit: what waits behind it goes on, its own REGISTER first where that is planned again.
    fn committed(&mut self, ticket: Ticket, outcome: CommitOutcome, now: Now, out: &mut Outbox) {
        let topic = Topic::Commit(ticket);
        let is_changed = matches!(outcome, CommitOutcome::Changed(_) | CommitOutcome::KeyTaken);
        let mut own = self.parking.release(Topic::Again(ticket));
        let is_awaited = is_changed || self.parking.is_awaited(topic);
        let aor = is_awaited.then(|| self.registrar.aor_of_commit(ticket)).flatten();
        self.registrar.settle(&mut self.shared.ctx(now, out), ticket, outcome, !own.is_empty());
        while let Some(parked) = self.parking.next(&mut own) {
            if is_changed {
                self.resume(parked, now, out);
            }
        }
        if let Some(aor) = aor {
            self.resume_behind(topic, &aor, now, out);
            self.registrar.drop_if_unused(&aor);
        }
    }

    /// What waited behind an AOR's commit goes on, until one of it makes the next commit.
    fn resume_behind(&mut self, topic: Topic, aor: &[u8], now: Now, out: &mut Outbox) {
        let mut released = self.parking.release(topic);
        if let Some(commit) = self.registrar.commit_of(aor) {
            return self.parking.wait_again(released, Topic::Commit(commit));
        }
        while let Some(parked) = self.parking.next(&mut released) {
            self.resume(parked, now, out);
            if let Some(commit) = self.registrar.commit_of(aor) {
                return self.parking.wait_again(released, Topic::Commit(commit));
            }
        }
    }

    pub(crate) fn resume_all(&mut self, mut released: Released, now: Now, out: &mut Outbox) {
        while let Some(parked) = self.parking.next(&mut released) {
            self.resume(parked, now, out);
        }
    }

    /// Takes up what waited.
    pub(crate) fn resume(&mut self, parked: Parked<Continuation>, now: Now, out: &mut Outbox) {
        let Parked { flow, bytes, since_ms, then, .. } = parked;
        match then {
            Continuation::Admin(ticket, request) => self.handle_admin(ticket, request, now, out),
            then => self.with_request((flow, since_ms), &bytes, |engine, request| {
                engine.go_on(request, then, now, out);
            }),
        }
    }

    /// Indexes a request that was kept.
    pub(crate) fn with_request(
        &mut self,
        (flow, since_ms): (Flow, u64),
        bytes: &[u8],
        use_: impl FnOnce(&mut Engine, &Request<'_>),
    ) {
        let policy = Arc::clone(&self.shared.policy);
        let mut head = self.shared.buffers.take_head();
        if head.parse(bytes).is_ok()
            && let Some(request) = Request::new(&policy, flow, bytes, &head)
        {
            use_(self, &request.since(since_ms));
        }
        self.shared.buffers.give_head(head);
    }

    /// A name leads to these addresses, or nowhere.
    fn resolved(&mut self, parked: Parked<Continuation>, addresses: &[Address], now: Now, out: &mut Outbox) {
        match parked.then {
            Continuation::Forward { transaction, target, rest } => {
                let (shared, _, mut forwarder) = self.forwarding();
                forwarder.resolved(&mut shared.ctx(now, out), transaction, target, rest, addresses);
            }
            Continuation::ForwardAck(target) => {
                self.with_request((parked.flow, parked.since_ms), &parked.bytes, |engine, request| {
                    let (shared, _, forwarder) = engine.forwarding();
                    ack_resolved(&mut shared.ctx(now, out), &forwarder, request, &target, addresses);
                });
            }
            Continuation::Hop(id) => self.hops.resolved(&mut self.shared.ctx(now, out), id, addresses),
            _ => {}
        }
    }

    /// Gives up on what does not come.
    pub(crate) fn give_up(&mut self, now: Now, out: &mut Outbox) {
        for ticket in self.auth.late_loads(now.mono_ms) {
            self.shared.stats.count(Counter::CredentialsLate);
            self.handle_receipt(Receipt::Credentials(ticket, Err("no answer".to_string())), now, out);
        }
        let mut late = self.parking.release_late(Topic::Rows, now.mono_ms, limits::UNREAD_MS);
        while let Some(parked) = self.parking.next(&mut late) {
            self.shared.stats.count(Counter::UnreadLate);
            self.with_request((parked.flow, parked.since_ms), &parked.bytes, |engine, request| {
                let ctx = &mut engine.shared.ctx(now, out);
                match request.method {
                    Method::Ack => ctx.drop_message(Dropped::StrayRequest),
                    _ => refuse(ctx, &engine.registrar, request, &Reason::RowsNotRead.into()),
                }
            });
        }
        for ticket in self.parking.late_names(now.mono_ms, limits::RESOLVING_MS) {
            self.shared.stats.count(Counter::ResolvingLate);
            self.handle_receipt(Receipt::Resolved(ticket, Vec::new()), now, out);
        }
    }
}
