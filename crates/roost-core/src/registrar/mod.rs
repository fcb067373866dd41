//! The registrar (RFC 3261 section 10): what a REGISTER changes, and what it is answered.
//!
//! A REGISTER is checked against the committed bindings, becomes a list of changes, and takes effect all or none: in
//! write-through mode once the changes are durable (`commit.rs`). One commit per AOR is in flight; what comes meanwhile
//! waits behind it, and a retransmission of one in flight is absorbed.

pub(crate) mod binding;
pub(crate) mod by_contact;
mod commit;
mod contacts;
pub(crate) mod exclusive;
mod features;
mod flows;
mod loading;
pub(crate) mod location;
pub(crate) mod operator;
mod plan;
mod shared;

use std::hash::BuildHasher;

use roost_sip::{HeaderName, Method, Uri};

use crate::base::aor::{UserHost, split_aor};
use crate::base::flow::{Flow, Now, ShardId, Ticket, responsible};
use crate::base::limits;
use crate::base::stats::{Counter, Timed};
use crate::contract::ban::Home;
use crate::contract::binding_ref::{BindingRef, ContactKey, ContactMoved, Place};
use crate::contract::call::AorText;
use crate::contract::command::{Command, ShardEvent};
use crate::contract::contact_id;
use crate::contract::context::Ctx;
use crate::contract::event::{Event, EventKind, Gone};
use crate::contract::exclusive::Exclusive;
use crate::contract::identity::Identity;
use crate::contract::policy::PathMode;
use crate::contract::reason::Reason;
use crate::contract::row::Write;
use crate::contract::shared::{BINDING, DOMAIN};
use crate::message::dialog_token::instance_hash;
use crate::message::path::{is_outbound, knows_path, write_path};
use crate::message::request::Request;
use crate::message::response::Response;
use crate::message::response_writer::ResponseWriter;
use crate::registrar::binding::Binding;
use crate::registrar::by_contact::ByContact;
use crate::registrar::commit::{Commits, Done};
use crate::registrar::contacts::{names_contact, write_contacts};
use crate::registrar::exclusive::is_free_or_own;
use crate::registrar::flows::Flows;
use crate::registrar::loading::Loading;
use crate::registrar::location::{Location, Record, RecordId};
use crate::registrar::plan::{Change, Changes, Entry, Plan, plan};
use crate::registrar::shared::Reads;

/// The bindings of one shard, and what is on its way to the database.
#[derive(Debug)]
pub(crate) struct Registrar {
    location: Location,
    /// Bindings of any shard whose Contacts' users are this shard's.
    by_contact: ByContact,
    commits: Commits,
    flows: Flows,
    /// What of the table is not read yet, at start.
    loading: Option<Loading>,
    /// Where bindings are shared with other nodes: which records are being read.
    reads: Option<Reads>,
    /// The last label given to an AOR, see [`contact_id`].
    next_label: u32,
}

/// What became of a REGISTER.
#[derive(Debug)]
pub(crate) enum Saved {
    /// It is answered, or its commit is under way, or it is a retransmission of one whose commit is.
    Done,
    /// Its commit is under way, and it is planned again if another node was faster.
    Committing { commit: Ticket, identity: u64 },
    /// It must wait for its AOR's commit of this ticket; a retransmission of it shares this identity.
    Behind { commit: Ticket, identity: u64 },
    /// It must wait until its AOR's record is read: by what is known of it, it would be refused.
    Unread { reading: Ticket, identity: u64 },
    /// It must wait until the rows of AORs with this hash are read.
    NotLoaded { hash: u16, identity: u64 },
    /// It is refused; of this AOR's bindings the answer may speak.
    Refused(Response, Option<RecordId>),
}

impl Registrar {
    /// A registrar without bindings; `first_label` is drawn at random.
    pub(crate) fn new(identity: &Identity, shard: ShardId, first_label: u32) -> Registrar {
        Registrar {
            location: Location::new(identity, shard),
            by_contact: ByContact::new(identity.hash_seed),
            commits: Commits::default(),
            flows: Flows::new(identity.hash_seed),
            loading: None,
            reads: Reads::of(identity),
            next_label: first_label,
        }
    }

    /// The bindings of some AORs, and of the Contact that a request calls; `called`: where another shard says that it is here.
    pub(crate) fn excerpt(
        &self,
        (identity, shard): (&Identity, ShardId),
        aors: &[Vec<u8>],
        request: &Request<'_>,
        called: Option<Place>,
    ) -> (Registrar, Option<Place>) {
        let mut excerpt = Registrar::new(identity, shard, self.next_label);
        excerpt.loading = self.loading.as_ref().map(Loading::excerpt);
        // What is known counts.
        excerpt.reads = None;
        for record in aors.iter().filter_map(|aor| self.location.get(self.location.find(aor)?)) {
            excerpt.location.adopt(record);
        }
        let mut adopt = |place: Place| match self.location.get(RecordId::of_slot(place.record)) {
            Some(record) if place.shard == shard => {
                Place { record: excerpt.location.adopt(record).slot(), ..place }
            }
            _ => place,
        };
        let called = called.map(&mut adopt);
        if let Some(place) = self.place_of_contact(request).map(&mut adopt)
            && let Some(key) = self.key_called(request)
        {
            excerpt.by_contact.take(&ContactMoved { key, home: shard, place, is_there: true });
        }
        (excerpt, called)
    }

    /// Handles an authorized REGISTER: answers it, or sends its changes on their way to the database. `is_read`: its AOR's record
    /// has just been read, where bindings are shared.
    pub(crate) fn save(&mut self, ctx: &mut Ctx<'_>, request: &Request<'_>, is_read: bool) -> Saved {
        if self.is_cut_off(ctx.now) {
            ctx.count(Counter::RejectedRegs);
            return Saved::Refused(Reason::NodeCutOff.into(), None);
        }
        if ctx.policy.drain_s > 0 {
            ctx.count(Counter::RejectedRegs);
            // Not all at once.
            let spread = contact_id::core_hash(request.call_id().unwrap_or(&[])) % ctx.policy.drain_s;
            let response = Response::from(Reason::Draining).retry_after(ctx.policy.drain_s + spread);
            return Saved::Refused(response, None);
        }
        let mut aor = ctx.buffers.take_text();
        let saved = match ctx.write_aor(request.registrant(), &mut aor) {
            Ok(()) => match self.save_aor(ctx, request, &aor) {
                // Another node may have changed what speaks against it.
                Saved::Refused(..) if !is_read && let Some(reading) = self.read_again(ctx, &aor) => {
                    Saved::Unread { reading, identity: identity_of(ctx, request) }
                }
                saved => saved,
            },
            Err(reason) => Saved::Refused(reason.into(), None),
        };
        ctx.buffers.give_text(aor);
        if matches!(saved, Saved::Refused(..)) {
            ctx.count(Counter::RejectedRegs);
        }
        saved
    }

    fn save_aor(&mut self, ctx: &mut Ctx<'_>, request: &Request<'_>, aor: &[u8]) -> Saved {
        let identity = identity_of(ctx, request);
        if let Some(hash) = self.hash_not_loaded(aor) {
            ctx.decide("", || {
                "it waits: the extension's rows of `location` are still being read".to_string()
            });
            return Saved::NotLoaded { hash, identity };
        }
        let found = self.location.find(aor);
        let record = found.and_then(|id| self.location.get(id));
        if let Some(commit) = record.and_then(|record| record.commit) {
            if self.commits.identity(commit) == Some(identity) {
                ctx.count(Counter::Absorbed);
                return Saved::Done;
            }
            ctx.decide("", || "it waits: another change of the same extension is being written".to_string());
            return Saved::Behind { commit, identity };
        }
        let plan = plan(ctx, request, record);
        // Where the database decides, it does so in the commit.
        let is_decided_later = ctx.policy.registrar.exclusive_in_database
            && plan.as_ref().is_ok_and(|plan| !plan.changes.is_empty());
        if let Some(record) = record.filter(|_| !is_decided_later)
            && let Err(reason) = check_exclusive(ctx, record, request)
        {
            return Saved::Refused(reason.into(), None);
        }
        let plan = match plan {
            Ok(plan) => plan,
            Err(response) => {
                if response.reason == Some(Reason::TooManyContactsInRequest) {
                    ctx.count(Counter::TooManyContacts);
                }
                return Saved::Refused(response, found);
            }
        };
        decide_changes(ctx, record, &plan);
        if plan.changes.is_empty() {
            if self.reads.is_some()
                && let Some(reading) = self.unread(ctx, aor)
            {
                return Saved::Unread { reading, identity };
            }
            let record = found.and_then(|id| self.location.get(id));
            send_ok(ctx, request, record, &plan);
            return Saved::Done;
        }
        if let Err(reason) = self.check_room(ctx, found) {
            return Saved::Refused(reason.into(), None);
        }
        let id = match found {
            Some(id) => id,
            None => self.record_for(aor),
        };
        self.apply_plan(ctx, request, id, identity, plan);
        match self.location.get(id).and_then(|record| record.commit).filter(|_| self.reads.is_some()) {
            Some(commit) => Saved::Committing { commit, identity },
            None => Saved::Done,
        }
    }

    /// Whether there is room for one more commit, and for one more binding of this AOR.
    fn check_room(&self, ctx: &mut Ctx<'_>, record: Option<RecordId>) -> Result<(), Reason> {
        let held = record.and_then(|id| self.location.get(id)).map_or(0, |record| record.bindings.len());
        if self.commits.len() >= limits::MAX_COMMITS {
            ctx.count(Counter::CommitsFull);
            return Err(Reason::TooManyCommits);
        }
        if held >= limits::MAX_HELD_PER_AOR {
            ctx.count(Counter::HeldFull);
            return Err(Reason::TooManyBindingsHeld);
        }
        Ok(())
    }

    /// The AOR's record, made with a label of its own where there is none.
    fn record_for(&mut self, aor: &[u8]) -> RecordId {
        let label = &mut self.next_label;
        self.location.find_or_insert(aor, || {
            *label = label.wrapping_add(1);
            *label
        })
    }

    /// The next binding of this AOR gets an id that none of another AOR has, as far as is known; its commit is over.
    fn label_anew(&mut self, id: RecordId) {
        self.next_label = self.next_label.wrapping_add(1);
        if let Some(record) = self.location.get_mut(id) {
            (record.label, record.commit) = (self.next_label, None);
        }
    }

    /// Mints the new bindings' ids, renders the 200 and commits (or, in memory mode, sends it).
    fn apply_plan(
        &mut self,
        ctx: &mut Ctx<'_>,
        request: &Request<'_>,
        id: RecordId,
        identity: u64,
        mut plan: Plan,
    ) {
        if let Some(record) = self.location.get_mut(id) {
            for entry in &mut plan.entries {
                let put = entry.put.and_then(|index| plan.changes.get_mut(index));
                if let Some(Change::Put(binding)) = put
                    && binding.contact_id == 0
                {
                    binding.contact_id = mint(record);
                    entry.contact_id = binding.contact_id;
                }
            }
        }
        let record = self.location.get(id);
        if !ctx.identity.write_through {
            send_ok(ctx, request, record, &plan);
            return self.change(ctx, id, plan.changes, Gone::Unregistered);
        }
        let mut reply = ctx.buffers.take_text();
        let writer = ResponseWriter::of(ctx);
        writer.write_head(request, 200, "OK", &mut reply);
        let head_end = reply.len();
        write_ok_headers(&writer, request, record, &plan, &mut reply);
        writer.write_tail(&mut reply);
        let (flow, since_ms) = (request.reply_flow(), request.since_ms);
        let done = Done::Reply { flow, reply, head_end, since_ms };
        let registrar = &ctx.policy.registrar;
        let is_exclusive = registrar.exclusive_ip && registrar.exclusive_in_database;
        let exclusive = record.filter(|_| is_exclusive).map(|record| {
            let whose = split_aor(&record.aor, ctx.identity.use_domain);
            let stranded = record.live(ctx.now).filter(|one| one.is_stranded()).map(|one| one.contact_id);
            Box::new(Exclusive::of(request, whose, stranded, ctx.now))
        });
        self.commit(ctx, id, identity, (plan.changes, exclusive), done);
    }

    /// Changes take effect in memory; `why`: what becomes of bindings that are removed and have no successor.
    fn change(&mut self, ctx: &mut Ctx<'_>, id: RecordId, changes: Changes, why: Gone) {
        for change in changes.iter() {
            if let Change::Put(binding) = change
                && binding.connection() != 0
            {
                self.flows.keep(ctx, id, binding.connection(), binding.deadline_ms);
            }
        }
        let is_agent_told = ctx.out.listening.has(EventKind::Agent);
        let was_reached = is_agent_told && self.is_record_reached(id, ctx.now);
        let topics = [EventKind::NewBinding, EventKind::Renewal, EventKind::Refresh, EventKind::Loss];
        if topics.into_iter().any(|topic| ctx.out.listening.has(topic))
            && let Some(record) = self.location.get(id)
        {
            tell_changes(ctx, record, &changes, why);
        }
        for change in changes {
            match change {
                Change::Put(binding) => self.location.put(id, binding),
                Change::Remove(contact_id) => self.location.change(id, |record| record.remove(contact_id)),
            }
        }
        if is_agent_told
            && was_reached != self.is_record_reached(id, ctx.now)
            && let Some(record) = self.location.get(id)
        {
            ctx.note_agent(&record.aor);
        }
        self.tell_moved(ctx);
        self.location.drop_if_empty(id);
    }

    /// Tells the home shards of Contacts that have come or gone.
    fn tell_moved(&mut self, ctx: &mut Ctx<'_>) {
        if self.location.moved.is_empty() {
            return;
        }
        for moved in std::mem::take(&mut self.location.moved) {
            match moved.home == ctx.shard {
                true => self.by_contact.take(&moved),
                false => {
                    let event = ShardEvent::ContactMoved(moved);
                    ctx.out.commands.push(Command::Tell { shard: Some(moved.home), event });
                }
            }
        }
    }

    /// Takes what another shard tells of its Contacts.
    pub(crate) fn contact_moved(&mut self, moved: &ContactMoved) {
        self.by_contact.take(moved);
    }

    /// Visits a part of the bindings, as often as [`UsrlocParams::timer_interval_s`] wants, and drops what has expired.
    ///
    /// [`UsrlocParams::timer_interval_s`]: crate::contract::policy::UsrlocParams::timer_interval_s
    pub(crate) fn sweep(&mut self, ctx: &mut Ctx<'_>) {
        let interval = ctx.policy.usrloc.timer_interval_s.max(1) as usize;
        let mut expired = Vec::new();
        let slots = self.location.slots() / interval + 1;
        self.location.sweep(slots, ctx.now, |record, binding| {
            expired.push(binding.contact_id);
            ctx.note_agent(&record.aor);
            let now = ctx.now;
            let is_other = |other: &Binding| other.contact_id != binding.contact_id && other.is_live(now);
            ctx.out.tell(EventKind::Loss, || Event::Unregistered {
                aor: record.aor.clone(),
                contact: binding.facts(now).into(),
                why: Gone::Expired,
                is_last: !record.bindings.iter().any(is_other),
            });
        });
        self.tell_moved(ctx);
        self.sweep_reads(ctx.now.mono_ms);
        ctx.stats.add(Counter::LocationExpires, expired.len() as u64);
        if ctx.identity.write_through && !expired.is_empty() {
            // A second of grace: the two clocks do not turn over together.
            let expires_by = ctx.now.unix_s + 1;
            let purge = |contact_id| Write::Purge { contact_id, expires_by };
            ctx.out.commands.push(Command::Purge { writes: expired.into_iter().map(purge).collect() });
        }
    }

    /// The AOR's record; without `use_domain` any host will do.
    pub(crate) fn record_of(&self, ctx: &mut Ctx<'_>, who: UserHost<'_>) -> Option<&Record> {
        self.location.get(self.find(ctx, who)?)
    }

    /// The AOR's record.
    pub(crate) fn find(&self, ctx: &mut Ctx<'_>, who: UserHost<'_>) -> Option<RecordId> {
        let mut aor = ctx.buffers.take_text();
        let found = ctx.write_aor(Some(who), &mut aor).ok().and_then(|()| self.location.find(&aor));
        ctx.buffers.give_text(aor);
        found
    }

    /// The live bindings of a record by falling q, and how others name them.
    pub(crate) fn live<'s>(
        &'s self,
        ctx: &Ctx<'_>,
        id: RecordId,
    ) -> impl Iterator<Item = (&'s Binding, BindingRef)> + use<'s> {
        let (now, shard) = (ctx.now, ctx.shard);
        let record = self.location.get(id).into_iter();
        record.flat_map(move |record| {
            record.live(now).map(move |binding| (binding, reference(shard, id, binding)))
        })
    }

    /// The binding that a request comes from, of the AOR that it claims: there it is reached.
    pub(crate) fn binding_from(
        &self,
        ctx: &mut Ctx<'_>,
        who: UserHost<'_>,
        flow: &Flow,
    ) -> Option<BindingRef> {
        // What comes from a proxy that wrote a Path may come from anybody behind it.
        let is_own = |binding: &Binding| binding.path().is_empty() && binding.is_from(flow);
        let id = self.find(ctx, who)?;
        self.live(ctx, id).find(|(binding, _)| is_own(binding)).map(|(_, reference)| reference)
    }

    /// Contacts that cannot be called by their URI, for want of room.
    pub(crate) fn contacts_without_place(&self) -> u64 {
        self.by_contact.full
    }

    /// Where the only binding is whose Contact a request calls, in the caller's domain with `use_domain`.
    pub(crate) fn place_of_contact(&self, request: &Request<'_>) -> Option<Place> {
        self.by_contact.get(self.key_called(request)?)
    }

    fn key_called(&self, request: &Request<'_>) -> Option<ContactKey> {
        let uri = request.target.as_ref().ok().filter(|uri| uri.user.is_some())?;
        let domain = request.caller().map_or(&[][..], |caller| caller.host);
        Some(self.location.key_of(uri, domain))
    }

    /// The only live binding of a record of this shard whose Contact a request calls, in the caller's domain with `use_domain`.
    pub(crate) fn binding_called(
        &self,
        ctx: &Ctx<'_>,
        request: &Request<'_>,
        place: Place,
    ) -> Option<(&Binding, BindingRef)> {
        let uri = request.target.as_ref().ok()?;
        let id = RecordId::of_slot(place.record);
        // Another AOR may have taken the record since its shard told of it.
        let domain = request.caller().map_or(&[][..], |caller| caller.host);
        let (_, of) = split_aor(&self.location.get(id)?.aor, ctx.identity.use_domain);
        if of.is_some_and(|of| !of.eq_ignore_ascii_case(domain)) {
            return None;
        }
        let mut equal = self.live(ctx, id).filter(|(binding, _)| binding.is_contact(uri));
        equal.next().filter(|_| equal.next().is_none())
    }

    /// The live binding of this node that a Route of another node leads to; `None`: it is gone, or no node wrote that Route.
    pub(crate) fn binding_routed_to(
        &self,
        ctx: &mut Ctx<'_>,
        route: &Uri<'_>,
    ) -> Option<(&Binding, BindingRef)> {
        let node = ctx.identity.node.as_ref()?;
        let host = route.param(DOMAIN).unwrap_or(&[]);
        let mut aor = ctx.buffers.take_text();
        let written = ctx.write_aor(Some(UserHost { user: route.user_part(), host }), &mut aor);
        let contact_id = node.contact_of(&aor, route.param(BINDING).unwrap_or(&[]));
        let id = self.location.find(&aor).filter(|_| written.is_ok());
        ctx.buffers.give_text(aor);
        let contact_id = contact_id?;
        self.live(ctx, id?).find(|(one, _)| one.contact_id == contact_id && !one.is_elsewhere())
    }

    /// A live binding of this shard by its reference. Where it is gone, that of the same instance of its AOR, else its only
    /// one: a phone that registers anew is reached as before. And whether it is another one of the same instance.
    pub(crate) fn binding_of(
        &self,
        ctx: &mut Ctx<'_>,
        wanted: &BindingRef,
        is_this_process_s: bool,
        aor: Option<UserHost<'_>>,
    ) -> Option<(&Binding, bool)> {
        let now = ctx.now;
        let has_it = |record: &&Record| record.bindings.iter().any(|one| one.contact_id == wanted.contact_id);
        let label = contact_id::aor_label(wanted.contact_id);
        let at_slot = self.location.get(RecordId::of_slot(wanted.record)).filter(|_| is_this_process_s);
        let at_slot = at_slot.filter(|record| record.label == label || has_it(record));
        let record = match at_slot {
            Some(record) => record,
            None => self.record_of(ctx, aor?)?,
        };
        let live = || record.live(now).filter(|one| !one.is_stranded());
        let only = || Some((live().next().filter(|_| live().count() == 1)?, false));
        let is_same =
            |one: &&Binding| wanted.instance != 0 && instance_hash(one.instance()) == wanted.instance;
        let same = || Some((live().find(is_same).filter(|_| live().filter(is_same).count() == 1)?, true));
        let itself = live().find(|one| one.contact_id == wanted.contact_id).map(|one| (one, false));
        itself.or_else(same).or_else(only)
    }

    /// Whether anybody is registered as this user, and can be reached.
    pub(crate) fn is_registered(&self, ctx: &mut Ctx<'_>, who: UserHost<'_>) -> bool {
        self.record_of(ctx, who).is_some_and(|record| record.live(ctx.now).any(|one| !one.is_stranded()))
    }

    /// Whether a user is registered from where a flow comes from: from its very port, and from its address.
    pub(crate) fn home_of(&self, ctx: &mut Ctx<'_>, flow: &Flow, who: UserHost<'_>) -> Home {
        let Some(record) = self.record_of(ctx, who) else { return Home::default() };
        let source = responsible(flow.remote.ip());
        // What comes from a proxy that wrote a Path may come from anybody behind it.
        let own = || record.live(ctx.now).filter(|binding| binding.path().is_empty());
        let is_same = |binding: &Binding| binding.source_ip().map(responsible) == Some(source);
        Home { is_its_port: own().any(|binding| binding.is_from(flow)), is_its_address: own().any(is_same) }
    }

    /// Appends the Contact header of a refusal that lists the AOR's bindings.
    pub(crate) fn write_contacts(
        &self,
        ctx_now: Now,
        only_named: bool,
        request: &Request<'_>,
        record: Option<RecordId>,
        out: &mut Vec<u8>,
    ) {
        let Some(record) = record.and_then(|id| self.location.get(id)) else { return };
        let is_listed = |binding: &&Binding| !only_named || names_contact(request, binding);
        write_contacts(record.live(ctx_now).filter(is_listed), ctx_now, out);
    }

    /// The contacts of an AOR that would be called, by falling q.
    pub(crate) fn lookup(&self, aor: &[u8], now: Now) -> Vec<Vec<u8>> {
        let record = self.location.find(aor).and_then(|id| self.location.get(id));
        let live = record.into_iter().flat_map(|record| record.live(now));
        live.filter(|binding| binding.takes(Method::Invite))
            .map(|binding| binding.contact().to_vec())
            .collect()
    }

    /// How many places for AORs there are, empty ones included.
    pub(crate) fn slots(&self) -> usize {
        self.location.slots()
    }

    /// The AOR at a place, if there is one.
    pub(crate) fn record_at(&self, slot: usize) -> Option<(RecordId, &Record)> {
        let id = RecordId::of_slot(slot as u32);
        Some((id, self.location.get(id)?))
    }

    /// Removes a binding whose phone does not answer. Where a commit of its AOR is under way nothing happens.
    pub(crate) fn remove_unanswering(&mut self, ctx: &mut Ctx<'_>, id: RecordId, contact_id: u64) {
        let is_free = self.location.get(id).is_some_and(|record| record.commit.is_none());
        if !is_free || self.commits.len() >= limits::MAX_COMMITS {
            return;
        }
        let changes = Changes::from_iter([Change::Remove(contact_id)]);
        match ctx.identity.write_through {
            true => self.commit(ctx, id, 0, (changes, None), Done::GivenUp),
            false => self.change(ctx, id, changes, Gone::PingsLost),
        }
    }

    /// Whether a call to an AOR would ring.
    pub(crate) fn is_reached(&self, aor: &[u8], now: Now) -> bool {
        self.location.find(aor).is_some_and(|id| self.is_record_reached(id, now))
    }

    fn is_record_reached(&self, id: RecordId, now: Now) -> bool {
        let record = self.location.get(id);
        record.is_some_and(|record| record.live(now).any(|one| !one.is_stranded()))
    }

    /// How many AORs there are.
    pub(crate) fn users(&self) -> usize {
        self.location.users()
    }

    /// How many bindings other nodes have, of those that are known here.
    pub(crate) fn contacts_elsewhere(&self) -> usize {
        self.location.elsewhere()
    }

    /// How many bindings there are.
    pub(crate) fn contacts(&self) -> usize {
        self.location.contacts()
    }

    /// The same by the transport that their phones registered over.
    pub(crate) fn contacts_by_transport(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.location.contacts_by_transport()
    }
}

/// What a phone calls itself, as far as an event has room.
fn agent_of(binding: &Binding) -> AorText {
    let agent = binding.user_agent();
    AorText::from_slice(agent.get(..AorText::new().inline_size()).unwrap_or(agent))
}

/// Tells of changes that are about to be made.
fn tell_changes(ctx: &mut Ctx<'_>, record: &Record, changes: &Changes, why: Gone) {
    let now = ctx.now;
    let known = |id: u64| record.bindings.iter().find(|old| old.contact_id == id);
    let mut left = record.bindings.len();
    let is_successor =
        |change: &Change| matches!(change, Change::Put(new) if known(new.contact_id).is_none());
    for (at, change) in changes.iter().enumerate() {
        match change {
            Change::Put(binding) => {
                let old = known(binding.contact_id);
                let is_new = old.is_none();
                ctx.out.tell(EventKind::Refresh, || Event::Refreshed {
                    aor: AorText::from_slice(&record.aor),
                    source: binding.source(),
                    left_ms: old.map(|old| old.deadline_ms as i64 - now.mono_ms as i64),
                    granted_s: binding.remaining_s(now).map(|seconds| seconds as u32),
                    agent: if is_new { agent_of(binding) } else { AorText::new() },
                });
                let topic = if is_new { EventKind::NewBinding } else { EventKind::Renewal };
                ctx.out.tell(topic, || Event::Registered {
                    aor: record.aor.clone(),
                    contact: binding.facts(now).into(),
                    is_new,
                    is_first: left == 0,
                });
                left += usize::from(is_new);
            }
            Change::Remove(contact_id) => {
                let Some(binding) = known(*contact_id) else { continue };
                left = left.saturating_sub(1);
                let has_more = changes.iter().skip(at + 1).any(|later| matches!(later, Change::Put(_)));
                ctx.out.tell(EventKind::Loss, || Event::Unregistered {
                    aor: record.aor.clone(),
                    contact: binding.facts(now).into(),
                    why: if changes.iter().any(is_successor) { Gone::Replaced } else { why },
                    is_last: left == 0 && !has_more,
                });
            }
        }
    }
}

/// What a retransmission of a REGISTER shares.
fn identity_of(ctx: &Ctx<'_>, request: &Request<'_>) -> u64 {
    ctx.hasher.hash_one((request.call_id(), request.value(HeaderName::CSeq), request.flow.remote))
}

fn reference(shard: ShardId, id: RecordId, binding: &Binding) -> BindingRef {
    let instance = instance_hash(binding.instance());
    BindingRef { shard, record: id.slot(), contact_id: binding.contact_id, instance }
}

/// Notes what a REGISTER changes among the decisions.
fn decide_changes(ctx: &mut Ctx<'_>, record: Option<&Record>, plan: &Plan) {
    if ctx.out.decisions.is_none() {
        return;
    }
    let now = ctx.now;
    let known =
        |id: u64| record.into_iter().flat_map(|record| &record.bindings).find(|old| old.contact_id == id);
    if plan.changes.is_empty() {
        ctx.decide("", || "nothing changes: the answer lists what is registered".to_string());
    }
    for change in plan.changes.iter() {
        match change {
            Change::Put(binding) => {
                let contact = String::from_utf8_lossy(binding.contact()).into_owned();
                let verb = if known(binding.contact_id).is_some() { "renewed" } else { "registered" };
                let seconds = binding.deadline_ms.saturating_sub(now.mono_ms) / 1000;
                ctx.decide("registrar.min_expires, registrar.max_expires, registrar.default_expires", || {
                    format!("{contact} is {verb} for {seconds} s")
                });
                if binding.behind_nat && binding.source().is_some() {
                    ctx.decide("", || {
                        "behind NAT: calls go to where its packets come from, not to its Contact".to_string()
                    });
                }
            }
            Change::Remove(id) => {
                let contact = known(*id)
                    .map_or_else(String::new, |old| String::from_utf8_lossy(old.contact()).into_owned());
                ctx.decide("registrar.max_contacts", || format!("{contact} is removed"));
            }
        }
    }
    if ctx.identity.write_through && !plan.changes.is_empty() {
        ctx.decide("usrloc.db_mode", || "the answer is 200 once this is on disk".to_string());
    }
}

/// The Occupied rule by what is in memory.
fn check_exclusive(ctx: &mut Ctx<'_>, record: &Record, request: &Request<'_>) -> Result<(), Reason> {
    if !ctx.policy.registrar.exclusive_ip {
        return Ok(());
    }
    let is_same =
        |binding: &Binding| request.call_id() == Some(binding.callid()) || names_contact(request, binding);
    let (source, now) = (request.flow.remote.ip(), ctx.now);
    let live = || record.live(now).filter(|one| !one.is_stranded());
    match is_free_or_own(live(), source, is_same) {
        true => Ok(()),
        false => {
            ctx.decide("registrar.exclusive", || {
                let held = live().find_map(Binding::source_ip);
                let held = held.map_or("another address".to_string(), |ip| ip.to_string());
                format!("{held} holds the extension, and this comes from {source}")
            });
            Err(Reason::Occupied)
        }
    }
}

/// Answers a REGISTER at once with 200.
fn send_ok(ctx: &mut Ctx<'_>, request: &Request<'_>, record: Option<&Record>, plan: &Plan) {
    let writer = ResponseWriter::of(ctx);
    ctx.out.send(request.reply_flow(), |bytes| {
        writer.write_head(request, 200, "OK", bytes);
        write_ok_headers(&writer, request, record, plan, bytes);
        writer.write_tail(bytes);
    });
    ctx.stats.count_reply(200);
    ctx.time(Timed::RegisterAccepted, request.since_ms);
    ctx.count(Counter::AcceptedRegs);
}

/// Contact, Path and Date of a 200.
fn write_ok_headers(
    writer: &ResponseWriter<'_>,
    request: &Request<'_>,
    record: Option<&Record>,
    plan: &Plan,
    bytes: &mut Vec<u8>,
) {
    let registrar = &writer.policy.registrar;
    let old = |entry: &Entry| record?.bindings.iter().find(|binding| binding.contact_id == entry.contact_id);
    let only_named = registrar.only_request_contacts;
    let entries = plan.entries.iter().filter(|entry| entry.is_named || !only_named);
    let listed = entries.filter_map(|entry| match entry.put.and_then(|put| plan.changes.get(put)) {
        Some(Change::Put(binding)) => Some(binding),
        _ => old(entry),
    });
    write_contacts(listed, writer.now, bytes);
    let mut put = plan.entries.iter().filter_map(|entry| plan.changes.get(entry.put?));
    if put.any(|change| matches!(change, Change::Put(binding) if binding.reg_id().is_some()))
        && is_outbound(request)
    {
        bytes.extend_from_slice(b"Require: outbound\r\nFlow-Timer: 120\r\n");
    }
    // The phone knows Path, and may see what its REGISTER came through.
    let echoes_path = matches!(registrar.path, PathMode::Lazy | PathMode::Strict)
        && request.head.line(HeaderName::Path).is_some()
        && knows_path(request);
    if echoes_path {
        write_path(request, bytes);
    }
    if registrar.add_date {
        writer.write_date(bytes);
    }
}

/// A new contact's id: the AOR's label with the next contact's that no binding has.
fn mint(record: &mut Record) -> u64 {
    loop {
        record.next_contact = record.next_contact.wrapping_add(1);
        let id = contact_id::compose(&record.aor, record.label, record.next_contact);
        if id != 0 && !record.bindings.iter().any(|binding| binding.contact_id == id) {
            return id;
        }
    }
}

/// Whether a Contact names this binding (for an operator's request).
fn find_contact(record: &Record, uri: &Uri<'_>) -> Option<u64> {
    record.bindings.iter().find(|binding| binding.is_contact(uri)).map(|binding| binding.contact_id)
}

#[cfg(test)]
mod tests;
