//! What operators ask of one shard: to show, add and remove bindings. Changes commit like a REGISTER.

use std::net::IpAddr;
use std::sync::Arc;

use roost_sip::{MethodSet, Uri};

use crate::admission::bans::{Ban, responsible};
use crate::base::flow::{Now, Ticket};
use crate::base::limits;
use crate::base::stats::Counter;
use crate::contract::next_hops::{Dispatcher, HopState, Rule};
use crate::contract::outbox::{Command, Outbox};
use crate::engine::{Done, Engine, Pending, Waiting};
use crate::registrar::binding::{Binding, Origin, PERMANENT};
use crate::registrar::location::Record;
use crate::registrar::plan::{Change, Changes};
use crate::registrar::save::{mint, operator_binding, split_aor};

/// A request of an operator to one shard.
#[derive(Debug)]
pub enum Admin {
    /// A slice of all AORs, from a place on; start at 0.
    Dump { from: usize },
    /// One AOR.
    Show { aor: Vec<u8> },
    /// Adds or replaces a contact; `expires_s` 0 never expires.
    Add { aor: Vec<u8>, contact: Vec<u8>, expires_s: u32, q: Option<u16>, methods: Option<MethodSet> },
    /// Removes an AOR with all its contacts.
    Remove { aor: Vec<u8> },
    /// Removes one contact.
    RemoveContact { aor: Vec<u8>, contact: Vec<u8> },
    /// Writes all of an AOR's bindings to the database again, as memory has them.
    Sync { aor: Vec<u8> },
    /// Done once everything that was asked of the database before is durable.
    Flush,
    /// The shard's counters.
    Statistics,
    /// Forgets what the database said of a subscriber; `domain` only with `use_domain`.
    ForgetCredentials { user: Vec<u8>, domain: Vec<u8> },
    /// Forgets what the database said of any subscriber: many have changed.
    ForgetAllCredentials,
    /// The bans that last.
    Bans,
    /// Bans an address, an extension, or an extension at an address.
    Ban(Ban),
    /// Forgets bans and failures: of an address, of an extension (`user`, or `user@domain`), or of an extension at an address.
    Unban { source: Option<IpAddr>, user: Vec<u8> },
    /// The next hops, as this shard knows them.
    Hops,
    /// Puts a next hop into a state; for shard 0.
    SetHop { set: u32, uri: String, state: HopState },
    /// Other `[[route]]`s from here on; for shard 0.
    SetRules(Vec<Rule>),
}

/// An answer to [`Admin`].
#[derive(Debug)]
pub enum AdminReply {
    /// A slice of a dump, and the place where the next one starts, if there is more.
    Slice { records: Vec<AorRecord>, next: Option<usize> },
    /// One AOR.
    Record(AorRecord),
    /// It is done (and durable).
    Done,
    /// There is no such AOR.
    AorNotFound,
    /// There is no such contact.
    ContactNotFound,
    /// The database refused, or too much is under way.
    Failed,
    /// The next hops, and how often each was the first choice here.
    Hops(Arc<Dispatcher>, Vec<u64>),
    /// Bans.
    Bans(Vec<Ban>),
    /// So many bans and counts of failures were forgotten.
    Unbanned(usize),
    /// There is no such next hop.
    HopNotFound,
    /// Names (`group:name`) and values.
    Statistics(Vec<(&'static str, u64)>),
}

/// One AOR as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AorRecord {
    pub aor: Vec<u8>,
    pub contacts: Vec<ContactRecord>,
}

/// One contact as operators see it (S77).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactRecord {
    pub contact: Vec<u8>,
    pub contact_id: u64,
    pub expires: ShownExpires,
    /// In thousandths.
    pub q: Option<u16>,
    pub callid: Vec<u8>,
    pub cseq: u32,
    pub user_agent: Vec<u8>,
    pub received: Option<String>,
    /// Route values that lead to the contact (RFC 3327); empty when there are none.
    pub path: Vec<u8>,
    /// Whether the database has this very state.
    pub is_synced: bool,
    pub socket: Option<String>,
    pub methods: MethodSet,
    pub sip_instance: Vec<u8>,
}

/// What is left of a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownExpires {
    Seconds(u64),
    Permanent,
    /// Over, and not swept yet.
    Expired,
}

impl Engine {
    /// Handles an operator's request; the answer comes as [`Command::AdminReply`], for changes once they are durable.
    pub fn handle_admin(&mut self, ticket: Ticket, request: Admin, now: Now, out: &mut Outbox) {
        let Some(request) = self.wait_admin(ticket, request, out) else { return };
        let reply = match request {
            Admin::Dump { from } => self.dump(from, now),
            Admin::Show { aor } => self.show(&aor, now),
            Admin::Statistics => self.statistics(),
            Admin::ForgetCredentials { user, domain } => {
                if let Some(key) =
                    crate::auth::authenticator::UserKey::new(&user, &domain, self.config.use_domain)
                {
                    self.forget_credentials(&key, now);
                }
                AdminReply::Done
            }
            Admin::ForgetAllCredentials => {
                self.forget_all_credentials(now);
                AdminReply::Done
            }
            Admin::Bans => AdminReply::Bans(self.guard.bans(now)),
            Admin::Ban(ban) => {
                let source = ban.source.map(responsible);
                self.guard.ban(&Ban { source, ..ban }, now);
                AdminReply::Done
            }
            Admin::Unban { source, user } => {
                AdminReply::Unbanned(self.guard.unban(source.map(responsible), &user))
            }
            Admin::Hops => AdminReply::Hops(Arc::clone(&self.dispatcher), self.hits.clone()),
            Admin::SetHop { set, uri, state } => match self.set_hop(set, &uri, state, out) {
                true => AdminReply::Done,
                false => AdminReply::HopNotFound,
            },
            Admin::SetRules(rules) => {
                self.set_rules(rules, now, out);
                AdminReply::Done
            }
            Admin::Flush if self.config.usrloc.write_through => {
                // What failed commits left in doubt goes first; the store works in the order in which it is asked.
                self.repair(now, out);
                let ticket = self.pending.insert(Pending::Flush { ticket });
                out.commands.push(Command::Commit { ticket, writes: Vec::new(), claim: None });
                return;
            }
            Admin::Flush => AdminReply::Done,
            change => match self.admin_change(ticket, change, now, out) {
                Some(reply) => reply,
                None => return,
            },
        };
        out.commands.push(Command::AdminReply { ticket, reply });
    }

    pub(crate) fn admin_done(&mut self, ticket: Ticket, is_done: bool, out: &mut Outbox) {
        let reply = if is_done { AdminReply::Done } else { AdminReply::Failed };
        out.commands.push(Command::AdminReply { ticket, reply });
    }

    fn dump(&self, from: usize, now: Now) -> AdminReply {
        let mut records = Vec::new();
        for (place, record) in self.location.records_from(from) {
            if records.len() == limits::MAX_DUMP_SLICE {
                return AdminReply::Slice { records, next: Some(place) };
            }
            if !record.bindings.is_empty() {
                records.push(self.shown(record, now));
            }
        }
        AdminReply::Slice { records, next: None }
    }

    fn show(&self, aor: &[u8], now: Now) -> AdminReply {
        let record = self.location.find(&self.folded(aor)).and_then(|id| self.location.get(id));
        match record.filter(|record| !record.bindings.is_empty()) {
            Some(record) => AdminReply::Record(self.shown(record, now)),
            None => AdminReply::AorNotFound,
        }
    }

    fn statistics(&self) -> AdminReply {
        let mut all: Vec<_> = self.stats.iter().collect();
        all.push(("usrloc:registered_users", self.location.users() as u64));
        all.push(("usrloc:location-users", self.location.users() as u64));
        all.push(("usrloc:location-contacts", self.location.contacts() as u64));
        all.push(("tm:inuse_transactions", self.transactions.len() as u64));
        all.push(("roost:transaction_bytes", self.pool.held() as u64));
        all.push(("roost:commits_in_flight", self.pending.len() as u64));
        all.push(("roost:parked", self.parked as u64));
        all.push(("roost:loading", u64::from(self.unread.is_some())));
        all.push(("roost:resolving", self.resolving.len() as u64));
        all.push(("roost:suspects", self.guard.len() as u64));
        all.push(("roost:secrets_evicted", self.secrets.evicted));
        all.push(("roost:unknown_evicted", self.secrets.unknown_evicted));
        all.push(("roost:suspects_evicted", self.guard.evicted()));
        all.push(("roost:recent_evicted", self.recent.evicted));
        all.push(("roost:buckets_evicted", self.pike.as_ref().map_or(0, |pike| pike.evicted)));
        AdminReply::Statistics(all)
    }

    /// `None` when the answer follows later.
    fn admin_change(
        &mut self,
        ticket: Ticket,
        request: Admin,
        now: Now,
        out: &mut Outbox,
    ) -> Option<AdminReply> {
        let aor = match &request {
            Admin::Add { aor, .. }
            | Admin::Remove { aor }
            | Admin::RemoveContact { aor, .. }
            | Admin::Sync { aor } => self.folded(aor),
            _ => return Some(AdminReply::Failed),
        };
        let found = self.location.find(&aor);
        let waiting =
            found.and_then(|id| self.location.get(id)?.busy.as_ref()).map_or(0, |busy| busy.waiting.len());
        if waiting >= limits::MAX_WAITING_PER_AOR {
            self.stats.count(Counter::WaitingFull);
            return Some(AdminReply::Failed);
        }
        let request = match found {
            Some(id) => self.admin_wait(id, ticket, request)?,
            None => request,
        };
        if self.check_room(found).is_err() {
            return Some(AdminReply::Failed);
        }
        let id = match (found, &request) {
            (Some(id), _) => id,
            (None, Admin::Add { .. }) => self.record_for(&aor),
            (None, Admin::Remove { .. }) => return Some(AdminReply::Done),
            (None, _) => return Some(AdminReply::AorNotFound),
        };
        let record = self.location.get_mut(id)?;
        let changes = match changes(record, &request, now) {
            Ok(changes) => changes,
            Err(reply) => {
                self.location.drop_if_empty(id);
                return Some(reply);
            }
        };
        if changes.is_empty() {
            return Some(AdminReply::Done);
        }
        if !self.config.usrloc.write_through {
            self.change_location(id, changes, out);
            return Some(AdminReply::Done);
        }
        self.commit(id, 0, (changes, None), Done::Admin(ticket), now, out);
        None
    }

    fn folded(&self, aor: &[u8]) -> Vec<u8> {
        let mut aor = aor.to_vec();
        let user_len = split_aor(&aor, self.config.use_domain).0.len();
        let folded_from = if self.config.registrar.case_sensitive { user_len } else { 0 };
        if let Some(part) = aor.get_mut(folded_from..).filter(|_| folded_from == 0 || self.config.use_domain)
        {
            part.make_ascii_lowercase();
        }
        aor
    }

    fn shown(&self, record: &Record<Waiting>, now: Now) -> AorRecord {
        let is_synced = self.config.usrloc.write_through;
        let contacts = record.bindings.iter().map(|binding| shown_contact(binding, is_synced, now)).collect();
        AorRecord { aor: record.aor.to_vec(), contacts }
    }
}

fn changes(record: &mut Record<Waiting>, request: &Admin, now: Now) -> Result<Changes, AdminReply> {
    let find = |record: &Record<Waiting>, uri: &Uri<'_>| {
        record.bindings.iter().find(|binding| binding.is_contact(uri)).map(|binding| binding.contact_id)
    };
    match request {
        Admin::Add { contact, expires_s, q, methods, .. } => {
            let uri = Uri::parse(contact).map_err(|_| AdminReply::Failed)?;
            let contact_id = find(record, &uri).unwrap_or_else(|| mint(record));
            Ok(Changes::from_iter([Change::Put(operator_binding(
                contact_id, &uri, *expires_s, *q, *methods, now,
            ))]))
        }
        Admin::RemoveContact { contact, .. } => {
            let uri = Uri::parse(contact).map_err(|_| AdminReply::ContactNotFound)?;
            let contact_id = find(record, &uri).ok_or(AdminReply::ContactNotFound)?;
            Ok(Changes::from_iter([Change::Remove(contact_id)]))
        }
        Admin::Sync { .. } if record.bindings.is_empty() => Err(AdminReply::AorNotFound),
        Admin::Sync { .. } => Ok(record.bindings.iter().cloned().map(Change::Put).collect()),
        _ => Ok(record.bindings.iter().map(|binding| Change::Remove(binding.contact_id)).collect()),
    }
}

fn shown_contact(binding: &Binding, is_synced: bool, now: Now) -> ContactRecord {
    ContactRecord {
        contact: binding.contact().to_vec(),
        contact_id: binding.contact_id,
        expires: match binding.deadline_ms {
            PERMANENT => ShownExpires::Permanent,
            _ if !binding.is_live(now) => ShownExpires::Expired,
            _ => ShownExpires::Seconds(binding.remaining_s(now).unwrap_or(0)),
        },
        q: binding.q,
        callid: binding.callid().to_vec(),
        cseq: binding.cseq,
        user_agent: binding.user_agent().to_vec(),
        received: binding.received(),
        path: binding.path().to_vec(),
        is_synced: is_synced || matches!(binding.origin(), Origin::Loaded { .. }),
        socket: binding.socket(),
        methods: binding.methods,
        sip_instance: binding.instance().to_vec(),
    }
}
