//! What operators ask of one shard.

use std::sync::Arc;

use crate::base::aor::UserKey;
use crate::base::flow::{Now, Ticket};
use crate::base::limits;
use crate::base::stats::Counter;
use crate::continuation::Continuation;
use crate::contract::admin::{Admin, AdminReply, ShardFigures};
use crate::contract::call::CallNumber;
use crate::contract::command::Command;
use crate::contract::outbox::Outbox;
use crate::contract::policy::Policy;
use crate::engine::Engine;
use crate::parking::Topic;
use crate::registrar::operator::Changed;

impl Engine {
    /// Handles an operator's request; the answer comes as [`Command::AdminReply`] under the same ticket, for changes once
    /// they are durable.
    pub fn handle_admin(&mut self, ticket: Ticket, request: Admin, now: Now, out: &mut Outbox) {
        let reply = match request {
            request if self.registrar.is_loading() && is_about_bindings(&request) => {
                self.wait_until_loaded(ticket, request, now, out)
            }
            Admin::Dump { from } => {
                let reply = self.registrar.dump(&self.shared.ctx(now, out), from);
                Some(self.pinger.with_pings(reply))
            }
            Admin::Show { aor } => {
                let reply = self.registrar.show(&self.shared.ctx(now, out), &aor);
                Some(self.pinger.with_pings(reply))
            }
            Admin::Add { .. } | Admin::Remove { .. } | Admin::RemoveContact { .. } | Admin::Sync { .. } => {
                self.change_bindings(ticket, request, now, out)
            }
            Admin::Flush if self.shared.identity.write_through => {
                self.registrar.flush(&mut self.shared.ctx(now, out), ticket);
                None
            }
            Admin::Flush => Some(AdminReply::Done),
            request => Some(self.answer(request, now, out)),
        };
        if let Some(reply) = reply {
            out.commands.push(Command::AdminReply { ticket, reply });
        }
    }

    /// What can be answered at once and is not about bindings.
    fn answer(&mut self, request: Admin, now: Now, out: &mut Outbox) -> AdminReply {
        let ctx = &mut self.shared.ctx(now, out);
        match request {
            Admin::Statistics => return self.statistics(),
            Admin::ForgetCredentials { user, domain } => {
                if let Some(key) = UserKey::new(&user, &domain, ctx.identity.use_domain) {
                    self.auth.forget(ctx, &key);
                    self.admission.unban_users(&[key]);
                }
            }
            Admin::ForgetAllCredentials => self.auth.forget_all(now.mono_ms),
            Admin::Agents => return AdminReply::Agents(self.dialogs.agents()),
            Admin::Agent { aor } => return AdminReply::Agent(self.dialogs.calls_of(&aor)),
            Admin::Call(call) => return self.dialogs.show(ctx, call),
            Admin::EndCall(call) => return self.end_call(call, now, out),
            Admin::Calls { from } => return self.dialogs.dump(ctx, from),
            Admin::Bans => return AdminReply::Bans(self.admission.bans(ctx)),
            Admin::Ban(ban) => self.admission.ban(ctx, &ban),
            Admin::Unban { source, user } => {
                return AdminReply::Unbanned(self.admission.unban(source, &user));
            }
            Admin::Hops => {
                return AdminReply::Hops(Arc::clone(self.hops.next_hops()), self.hops.hits().to_vec());
            }
            Admin::SetHop { set, uri, state } => {
                if !self.hops.set_state(ctx, set, &uri, state) {
                    return AdminReply::HopNotFound;
                }
            }
            Admin::SetRules(rules) => {
                let policy = Policy { routes: rules.into(), ..Policy::clone(&self.shared.policy) };
                self.shared.policy = Arc::new(policy);
                self.set_rules(now, out);
            }
            _ => return AdminReply::Failed,
        }
        AdminReply::Done
    }

    fn end_call(&mut self, call: CallNumber, now: Now, out: &mut Outbox) -> AdminReply {
        let ctx = &mut self.shared.ctx(now, out);
        let Some(byes) = self.dialogs.end_by_operator(ctx, call) else { return AdminReply::CallNotFound };
        self.send_byes(byes, now, out);
        AdminReply::Done
    }

    /// `None`: the answer follows.
    fn change_bindings(
        &mut self,
        ticket: Ticket,
        request: Admin,
        now: Now,
        out: &mut Outbox,
    ) -> Option<AdminReply> {
        let ctx = &mut self.shared.ctx(now, out);
        match self.registrar.operator_change(ctx, ticket, &request) {
            Changed::Now(reply) => Some(reply),
            Changed::Later => None,
            Changed::Behind(commit) => {
                let then = Continuation::Admin(ticket, request);
                let most = limits::MAX_WAITING_PER_AOR;
                let waits = self.parking.wait_without_message(ctx, Topic::Commit(commit), most, then);
                if !waits {
                    ctx.count(Counter::WaitingFull);
                }
                (!waits).then_some(AdminReply::Failed)
            }
        }
    }

    /// Keeps what is asked of the bindings until all are read.
    fn wait_until_loaded(
        &mut self,
        ticket: Ticket,
        request: Admin,
        now: Now,
        out: &mut Outbox,
    ) -> Option<AdminReply> {
        let ctx = &mut self.shared.ctx(now, out);
        let then = Continuation::Admin(ticket, request);
        let most = limits::MAX_WAITING_ADMIN;
        let waits = self.parking.wait_without_message(ctx, Topic::AllRows, most, then);
        if !waits {
            ctx.count(Counter::AdminFull);
        }
        (!waits).then_some(AdminReply::Failed)
    }

    fn statistics(&self) -> AdminReply {
        let Engine { shared, registrar, auth, admission, transactions, admitted, parking, dialogs, .. } =
            self;
        let stats = &shared.stats;
        let mut all: Vec<_> = stats.iter().collect();
        all.extend([
            ("usrloc:registered_users", registrar.users() as u64),
            ("usrloc:location-users", registrar.users() as u64),
            ("usrloc:location-contacts", registrar.contacts() as u64),
            ("tm:inuse_transactions", transactions.len() as u64),
            ("roost:transaction_bytes", transactions.held() as u64),
            ("roost:commits_in_flight", registrar.commits_in_flight() as u64),
            ("roost:contact_places_full", registrar.contacts_without_place()),
            ("roost:loading", u64::from(registrar.is_loading())),
            ("roost:recent_evicted", admitted.evicted),
        ]);
        all.extend(dialogs.gauges());
        all.extend(parking.gauges());
        all.extend(admission.gauges());
        all.extend(auth.gauges());
        AdminReply::Statistics(Box::new(ShardFigures {
            values: all,
            refusals: stats.refusals().collect(),
            call_ends: stats.call_ends().collect(),
            bindings: registrar.contacts_by_transport().collect(),
            times: stats.times().collect(),
        }))
    }
}

/// Whether a request waits until all bindings are read.
fn is_about_bindings(request: &Admin) -> bool {
    matches!(
        request,
        Admin::Dump { .. }
            | Admin::Show { .. }
            | Admin::Add { .. }
            | Admin::Remove { .. }
            | Admin::RemoveContact { .. }
            | Admin::Sync { .. }
    )
}
