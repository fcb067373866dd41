//! What operators ask of one shard.

use std::sync::Arc;

use roost_sip::Head;

use crate::auth::client::Challenge;
use crate::base::aor::UserKey;
use crate::base::flow::{Now, Ticket};
use crate::base::limits;
use crate::base::stats::Counter;
use crate::continuation::Continuation;
use crate::contract::admin::{Admin, AdminReply, ShardFigures};
use crate::contract::call::CallNumber;
use crate::contract::command::Command;
use crate::contract::mark::Mark;
use crate::contract::outbox::Outbox;
use crate::contract::preview::{Decision, Preview, Signer, Supposed};
use crate::contract::subscriber::Secrets;
use crate::engine::Engine;
use crate::message::request::Request;
use crate::moved::{self, Moved};
use crate::nathelper::NatPinger;
use crate::parking::{Parking, Topic};
use crate::preview::{aors_of, keys_of, preview_of};
use crate::proxy::admitted::Admitted;
use crate::registrar::operator::Changed;
use crate::transaction::Transactions;

impl Engine {
    /// Handles an operator's request; the answer comes as [`Command::AdminReply`] under the same ticket, for changes once
    /// they are durable.
    pub fn handle_admin(&mut self, ticket: Ticket, request: Admin, now: Now, out: &mut Outbox) {
        let Some(request) = self.once_read(ticket, request, now, out) else { return };
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

    /// What goes on in the process after this one. Nothing may happen here any more.
    pub fn take_out(&mut self, now: Now, out: &mut Outbox) -> Moved {
        let (shared, registrar, mut forwarder) = self.forwarding();
        moved::take_out(&shared.ctx(now, out), &mut forwarder, registrar)
    }

    /// Takes up what the process before has left under way. Nothing may have happened here yet.
    pub fn take_in(&mut self, moved: Moved, now: Now, out: &mut Outbox) {
        let (shared, registrar, mut forwarder) = self.forwarding();
        moved::take_in(&mut shared.ctx(now, out), &mut forwarder, registrar, moved);
    }

    /// Where bindings are shared: the request, unless it waits for the record that it is about.
    fn once_read(&mut self, ticket: Ticket, request: Admin, now: Now, out: &mut Outbox) -> Option<Admin> {
        let (Admin::Show { aor }
        | Admin::Add { aor, .. }
        | Admin::Remove { aor }
        | Admin::RemoveContact { aor, .. }) = &request
        else {
            return Some(request);
        };
        let ctx = &mut self.shared.ctx(now, out);
        let Some(reading) = self.registrar.unread_of_operator(ctx, aor) else { return Some(request) };
        let (topic, most) = (Topic::Record(reading), limits::MAX_WAITING_PER_AOR);
        if !self.parking.wait_without_message(ctx, topic, most, Continuation::Admin(ticket, request)) {
            ctx.count(Counter::WaitingFull);
            out.commands.push(Command::AdminReply { ticket, reply: AdminReply::Failed });
        }
        None
    }

    /// What can be answered at once and is not about bindings.
    fn answer(&mut self, request: Admin, now: Now, out: &mut Outbox) -> AdminReply {
        let ctx = &mut self.shared.ctx(now, out);
        match request {
            Admin::Preview(supposed) => return AdminReply::Preview(Box::new(self.preview(&supposed, now))),
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
            Admin::SetPolicy(policy) => self.handle_policy(&policy, now, out),
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
            ("usrloc:location-elsewhere", registrar.contacts_elsewhere() as u64),
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
            drops: stats.drops().collect(),
            call_ends: stats.call_ends().collect(),
            bindings: registrar.contacts_by_transport().collect(),
            times: stats.times().collect(),
        }))
    }

    /// What would become of a request that begins something, or of a REGISTER. Nothing changes: no counter, no nonce, no ban.
    pub fn preview(&self, supposed: &Supposed, now: Now) -> Preview {
        let first = self.preview_once(supposed, None, now);
        let Some(signer) = &supposed.signs else { return first };
        let challenge = first.sends.first().and_then(|(_, answer)| Challenge::of(answer));
        let Some(challenge) = challenge else { return first };
        let message = challenge.sign(&supposed.message, signer);
        let again = Supposed { message, signs: None, ..supposed.clone() };
        let presumed = match signer.password {
            Some(_) => None,
            None => Some((signer, challenge.secrets_of(signer, self.shared.policy.auth_db.calculate_ha1))),
        };
        let how =
            if presumed.is_some() { "the right password, whatever it is" } else { "the password given" };
        let mut decisions = first.decisions;
        decisions.push(Decision {
            key: "auth.realm",
            text: format!("it comes again with credentials: {how}"),
            before: 0,
        });
        let mut second = self.preview_once(&again, presumed, now);
        decisions.append(&mut second.decisions);
        Preview { decisions, signed: again.message, ..second }
    }

    fn preview_once(&self, supposed: &Supposed, presumed: Option<(&Signer, Secrets)>, now: Now) -> Preview {
        let mut head = Head::new();
        let policy = &self.shared.policy;
        let is_message = head.parse(&supposed.message).is_ok();
        let request = Request::new(policy, supposed.flow, &supposed.message, &head).filter(|_| is_message);
        let Some(request) = request else { return Preview::default() };
        let mut out = Outbox { decisions: Some(Vec::new()), ..Outbox::default() };
        let (mut copy, mark) = self.copy_for(&request, supposed, now, &mut out);
        if let Some((signer, secrets)) = presumed {
            let realm = request.registrant().or(request.caller()).map_or(&[][..], |who| who.host);
            let key = UserKey::new(&signer.username, realm, self.shared.identity.use_domain);
            key.iter().for_each(|key| copy.auth.suppose_if_known(key, secrets.clone(), now.mono_ms));
        }
        match mark {
            Some(mark) => {
                copy.handle_handed_over(&supposed.flow, &supposed.message, &head, mark, now, &mut out);
            }
            None => copy.handle_message(&supposed.flow, &supposed.message, &head, now, &mut out),
        }
        preview_of(out)
    }

    /// A copy of this engine as far as a request can touch it, and what is known of the request.
    fn copy_for(
        &self,
        request: &Request<'_>,
        supposed: &Supposed,
        now: Now,
        out: &mut Outbox,
    ) -> (Engine, Option<Mark>) {
        let mut shared = self.shared.apart();
        let ctx = &mut shared.ctx(now, out);
        let aors = aors_of(ctx, request);
        let (keys, digest) = keys_of(ctx, &self.auth, request);
        let (identity, seed) = (ctx.identity, ctx.identity.hash_seed);
        let called = match supposed.mark {
            Some(Mark::ToContact(_, place)) => Some(place),
            _ => None,
        };
        let (registrar, called) = self.registrar.excerpt((identity, ctx.shard), &aors, request, called);
        let mark = match (supposed.mark, called) {
            (Some(Mark::ToContact(caller, _)), Some(place)) => Some(Mark::ToContact(caller, place)),
            (mark, _) => mark,
        };
        let mut auth = self.auth.excerpt(identity, &keys, digest.as_ref());
        for one in &supposed.subscribers {
            if let Some(key) = UserKey::new(&one.user, &one.domain, identity.use_domain) {
                auth.suppose(&key, one.secrets.clone(), now.mono_ms);
            }
        }
        let admission = self.admission.excerpt(identity, request.flow.remote.ip(), &keys);
        let dialogs = self.dialogs.excerpt(seed, &aors);
        let copy = Engine {
            registrar,
            auth,
            admission,
            transactions: Transactions::new(seed, seed),
            admitted: Admitted::default(),
            hops: self.hops.excerpt(),
            pinger: NatPinger::new(seed),
            dialogs,
            parking: Parking::new(seed),
            shared,
            next_tick_ms: self.next_tick_ms,
        };
        (copy, mark)
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
