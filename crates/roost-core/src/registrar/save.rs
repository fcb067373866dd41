//! The registrar (RFC 3261 section 10): what a REGISTER changes, and what it is answered.
//!
//! A REGISTER is checked against the committed bindings, becomes a list of changes, and takes effect all or none:
//! in write-through mode once the changes are durable. One commit per AOR is in flight; what comes meanwhile waits
//! behind it, and a retransmission of one in flight is absorbed.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use roost_sip::{ALL_METHODS, ContactValue, HeaderName, Uri, contacts, unescape_into};

use crate::base::flow::{Flow, Now, Ticket};
use crate::base::limits;
use crate::base::stats::Counter;
use crate::contract::contact_id;
use crate::contract::outbox::{Command, Mark, Outbox};
use crate::contract::row::Write;
use crate::engine::{Done, Engine, Parked, Pending, Waiting};
use crate::message::path::write_path;
use crate::message::request::{Request, To};
use crate::message::response::{Answer, write_contacts};
use crate::registrar::binding::{Binding, BindingText, Origin, PERMANENT};
use crate::registrar::exclusive::{Claim, is_free_or_own};
use crate::registrar::location::{Busy, Record, RecordId};
use crate::registrar::plan::{Change, Changes, Entry, Plan, TOO_MANY_CONTACTS};

impl Engine {
    /// Handles an authorized REGISTER: answers it, or sends it on its way to the database.
    pub(crate) fn save(&mut self, request: &Request<'_>, to: Option<To<'_>>, now: Now, out: &mut Outbox) {
        let mut aor = std::mem::take(&mut self.scratch);
        let result = match self.build_aor(to, &mut aor) {
            Ok(()) => self.save_aor(request, &aor, now, out),
            Err(answer) => Err((answer, None)),
        };
        self.scratch = aor;
        if let Err((answer, record)) = result {
            self.stats.count(Counter::RejectedRegs);
            self.refuse(request, answer, record, now, out);
        }
    }

    fn save_aor(
        &mut self,
        request: &Request<'_>,
        aor: &[u8],
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), (Answer, Option<RecordId>)> {
        let identity = self.identity(request);
        if !self.is_loaded(aor) {
            return self
                .wait_for_load(aor, identity, request, Mark::None, now)
                .map_err(|answer| (answer, None));
        }
        let found = self.location.find(aor);
        if let Some(id) =
            found.filter(|id| self.location.get(*id).is_some_and(|record| record.busy.is_some()))
        {
            return self.wait_behind(id, identity, request).map_err(|answer| (answer, None));
        }
        let record = found.and_then(|id| self.location.get(id));
        let plan = self.plan(request, record, now);
        // Where the database decides, it does so in the commit.
        let is_decided_later = self.config.registrar.exclusive_in_database
            && plan.as_ref().is_ok_and(|plan| !plan.changes.is_empty());
        if let Some(record) = record.filter(|_| !is_decided_later) {
            self.check_exclusive(record, request, now).map_err(|answer| (answer, None))?;
        }
        if plan.as_ref().is_err_and(|answer| answer.error == Some(TOO_MANY_CONTACTS)) {
            self.stats.count(Counter::TooManyContacts);
        }
        let plan = plan.map_err(|answer| (answer, found))?;
        if plan.changes.is_empty() {
            self.reply_ok(request, record, &plan, now, out);
            self.count_reply(200);
            self.stats.count(Counter::AcceptedRegs);
            return Ok(());
        }
        self.check_room(found).map_err(|answer| (answer, None))?;
        let id = match found {
            Some(id) => id,
            None => self.record_for(aor),
        };
        self.apply_plan(request, id, identity, plan, now, out);
        Ok(())
    }

    /// Whether there is room for one more commit, and for one more binding of this AOR.
    pub(crate) fn check_room(&mut self, record: Option<RecordId>) -> Result<(), Answer> {
        let held = record.and_then(|id| self.location.get(id)).map_or(0, |record| record.bindings.len());
        if self.pending.len() >= limits::MAX_COMMITS {
            self.stats.count(Counter::CommitsFull);
            return Err(Answer::busy("too many commits in flight"));
        }
        if held >= limits::MAX_HELD_PER_AOR {
            self.stats.count(Counter::HeldFull);
            return Err(Answer::busy("too many bindings of one AOR in memory"));
        }
        Ok(())
    }

    /// The AOR's record, made with a label of its own where there is none.
    pub(crate) fn record_for(&mut self, aor: &[u8]) -> RecordId {
        let label = &mut self.next_label;
        self.location.find_or_insert(aor, || {
            *label = label.wrapping_add(1);
            *label
        })
    }

    /// Mints the new bindings' ids, renders the 200 and commits (or, in memory mode, sends it).
    fn apply_plan(
        &mut self,
        request: &Request<'_>,
        id: RecordId,
        identity: u64,
        mut plan: Plan,
        now: Now,
        out: &mut Outbox,
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
        if !self.config.usrloc.write_through {
            self.reply_ok(request, self.location.get(id), &plan, now, out);
            self.count_reply(200);
            self.change_location(id, plan.changes, out);
            self.stats.count(Counter::AcceptedRegs);
            return;
        }
        let mut text = std::mem::take(&mut self.message_scratch);
        text.clear();
        self.stationery.write_head(request, 200, "OK", &mut text);
        let head_end = text.len();
        self.write_ok_headers(request, self.location.get(id), &plan, now, &mut text);
        self.stationery.write_tail(&mut text);
        let reply = self.pool.copy(&text);
        self.message_scratch = text;
        let done = Done::Reply { flow: request.reply_flow(), reply, head_end };
        let registrar = &self.config.registrar;
        let is_claimed = registrar.exclusive_ip && registrar.exclusive_in_database;
        let claim = self.location.get(id).filter(|_| is_claimed).map(|record| {
            let (user, domain) = split_aor(&record.aor, self.config.use_domain);
            Box::new(claim(request, user, domain, now))
        });
        self.commit(id, identity, (plan.changes, claim), done, now, out);
    }

    /// Asks for a commit of these changes, if the claim holds, and marks the AOR busy.
    pub(crate) fn commit(
        &mut self,
        id: RecordId,
        identity: u64,
        (changes, claim): (Changes, Option<Box<Claim>>),
        done: Done,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(record) = self.location.get(id) else { return };
        let (user, domain) = split_aor(&record.aor, self.config.use_domain);
        let write = |change: &Change| match change {
            Change::Put(binding) => Write::Put(binding.row(user, domain, now)),
            Change::Remove(contact_id) => Write::Remove { contact_id: *contact_id, username: user.into() },
        };
        let is_touched = |id: &u64| {
            changes.iter().any(|change| match change {
                Change::Put(binding) => binding.contact_id == *id,
                Change::Remove(contact_id) => contact_id == id,
            })
        };
        let known = |id: u64| record.live(now).find(|binding| binding.contact_id == id);
        let repair = |id: &u64| match known(*id) {
            Some(binding) => Write::Put(binding.row(user, domain, now)),
            None => Write::Remove { contact_id: *id, username: user.into() },
        };
        let doubt = record.doubts().iter().filter(|id| !is_touched(id)).map(repair);
        let writes = changes.iter().map(write).chain(doubt).collect();
        let ticket = self.pending.insert(Pending::Commit { record: id, identity, changes, done });
        if let Some(record) = self.location.get_mut(id) {
            record.busy = Some(Box::new(Busy { ticket, waiting: VecDeque::new() }));
        }
        self.stats.count(Counter::Commits);
        out.commands.push(Command::Commit { ticket, writes, claim });
    }

    /// The changes are durable: they take effect, the answer leaves, and what waited goes on.
    pub(crate) fn committed(
        &mut self,
        id: RecordId,
        changes: Changes,
        done: Done,
        now: Now,
        out: &mut Outbox,
    ) {
        if let Some(record) = self.location.get_mut(id) {
            record.settle();
        }
        self.change_location(id, changes, out);
        match done {
            Done::Repair => {}
            Done::Reply { flow, reply, .. } => {
                self.stats.count(Counter::AcceptedRegs);
                self.count_reply(200);
                out.send(flow, |bytes| bytes.extend_from_slice(&reply));
                self.pool.give(reply);
            }
            Done::Admin(ticket) => self.admin_done(ticket, true, out),
        }
        self.go_on(id, now, out);
    }

    /// The changes did not happen: nothing changes, the phone gets 500.
    pub(crate) fn commit_failed(
        &mut self,
        id: RecordId,
        changes: &[Change],
        done: Done,
        now: Now,
        out: &mut Outbox,
    ) {
        self.stats.count(Counter::CommitFailures);
        if let Some(record) = self.location.get_mut(id) {
            for change in changes {
                let (Change::Put(Binding { contact_id, .. }) | Change::Remove(contact_id)) = change;
                if !record.doubt(*contact_id) {
                    self.stats.count(Counter::DoubtsFull);
                }
            }
            if record.queue_repair() {
                self.doubtful.push_back(record.aor.clone());
            }
        }
        match done {
            Done::Repair => {}
            Done::Reply { flow, reply, head_end } => {
                self.stats.count(Counter::RejectedRegs);
                self.count_reply(500);
                let is_known = |binding: &Binding| {
                    let record = self.location.get(id);
                    record.is_some_and(|record| {
                        record.bindings.iter().any(|old| old.contact_id == binding.contact_id)
                    })
                };
                let error = match changes.first() {
                    Some(Change::Put(binding)) if is_known(binding) => "usrloc_contact_update failed",
                    Some(Change::Put(_)) => "usrloc_contact_insert failed",
                    _ => "usrloc_contact_delete failed",
                };
                let retry_after_s = match self.config.registrar.retry_after_s {
                    0 => limits::BUSY_RETRY_AFTER_S,
                    configured => configured,
                };
                let headers = format!("P-Registrar-Error: {error}\r\nRetry-After: {retry_after_s}\r\n");
                self.reply_instead(flow, reply, head_end, "500 Server Internal Error", &headers, out);
            }
            Done::Admin(ticket) => self.admin_done(ticket, false, out),
        }
        self.go_on(id, now, out);
    }

    /// The database says that the AOR is another address's: nothing changes, the phone gets 403.
    pub(crate) fn commit_occupied(&mut self, id: RecordId, done: Done, now: Now, out: &mut Outbox) {
        match done {
            Done::Repair => {}
            Done::Reply { flow, reply, head_end } => {
                self.stats.count(Counter::RejectedRegs);
                self.count_reply(403);
                tracing::debug!(source = %flow, "403 Occupied: registered from another address, says the database");
                self.reply_instead(flow, reply, head_end, "403 Occupied", "", out);
            }
            Done::Admin(ticket) => self.admin_done(ticket, false, out),
        }
        self.go_on(id, now, out);
    }

    /// Answers with another status than the 200 that is ready.
    fn reply_instead(
        &mut self,
        flow: Flow,
        reply: Vec<u8>,
        head_end: usize,
        status: &str,
        headers: &str,
        out: &mut Outbox,
    ) {
        out.send(flow, |bytes| {
            let head = reply.get(..head_end).unwrap_or(&[]);
            let copied = memchr::memchr(b'\n', head).map_or(0, |at| at + 1);
            bytes.extend_from_slice(b"SIP/2.0 ");
            bytes.extend_from_slice(status.as_bytes());
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(head.get(copied..).unwrap_or(&[]));
            bytes.extend_from_slice(headers.as_bytes());
            self.stationery.write_tail(bytes);
        });
        self.pool.give(reply);
    }

    /// Tells the database again what failed commits left in doubt: a commit whose answer was lost may have been done.
    pub(crate) fn repair(&mut self, now: Now, out: &mut Outbox) {
        for _ in 0..self.doubtful.len().min(limits::MAX_REPAIRS) {
            let Some(aor) = self.doubtful.pop_front() else { return };
            let Some(id) = self.location.find(&aor) else { continue };
            let Some(record) = self.location.get_mut(id) else { continue };
            if record.busy.is_some() {
                self.doubtful.push_back(aor);
                continue;
            }
            record.repair_taken();
            match record.doubts().is_empty() {
                true => self.location.drop_if_empty(id),
                false => self.commit(id, 0, (Changes::default(), None), Done::Repair, now, out),
            }
        }
    }

    /// Ends an AOR's commit and handles what waited behind it, until the next commit.
    fn go_on(&mut self, id: RecordId, now: Now, out: &mut Outbox) {
        let Some(mut waiting) =
            self.location.get_mut(id).and_then(|record| record.busy.take()).map(|busy| busy.waiting)
        else {
            return;
        };
        let Some(aor) = self.location.get(id).map(|record| record.aor.clone()) else { return };
        self.location.drop_if_empty(id);
        while let Some(next) = waiting.pop_front() {
            match next {
                Waiting::Register(parked) => self.resume_save(parked, now, out),
                Waiting::Admin(ticket, request) => self.handle_admin(ticket, request, now, out),
            }
            let next_id = self.location.find(&aor);
            let busy =
                next_id.and_then(|id| self.location.get_mut(id)).and_then(|record| record.busy.as_mut());
            if let Some(busy) = busy {
                busy.waiting.append(&mut waiting);
                return;
            }
        }
    }

    /// Parks a request behind its AOR's commit, unless it is there already.
    fn wait_behind(&mut self, id: RecordId, identity: u64, request: &Request<'_>) -> Result<(), Answer> {
        let Some(busy) = self.location.get(id).and_then(|record| record.busy.as_ref()) else { return Ok(()) };
        let in_flight = match self.pending.get_mut(busy.ticket) {
            Some(Pending::Commit { identity, .. }) => *identity,
            _ => 0,
        };
        let same =
            |waiting: &Waiting| matches!(waiting, Waiting::Register(parked) if parked.identity == identity);
        if in_flight == identity || busy.waiting.iter().any(same) {
            self.stats.count(Counter::Absorbed);
            return Ok(());
        }
        if busy.waiting.len() >= limits::MAX_WAITING_PER_AOR {
            self.stats.count(Counter::WaitingFull);
            return Err(Answer::busy("too many requests wait for this AOR's commit"));
        }
        let parked = self.park(request, identity)?;
        if let Some(busy) = self.location.get_mut(id).and_then(|record| record.busy.as_mut()) {
            busy.waiting.push_back(Waiting::Register(parked));
        }
        Ok(())
    }

    /// Queues an operator's request behind its AOR's commit; gives it back when there is none.
    pub(crate) fn admin_wait(
        &mut self,
        id: RecordId,
        ticket: Ticket,
        request: crate::Admin,
    ) -> Option<crate::Admin> {
        match self.location.get_mut(id).and_then(|record| record.busy.as_mut()) {
            Some(busy) => {
                busy.waiting.push_back(Waiting::Admin(ticket, request));
                None
            }
            None => Some(request),
        }
    }

    fn resume_save(&mut self, parked: Parked, now: Now, out: &mut Outbox) {
        self.unpark(&parked, |engine, request| engine.save(request, request.to(), now, out));
    }

    pub(crate) fn change_location(&mut self, id: RecordId, changes: Changes, out: &mut Outbox) {
        for change in changes.iter() {
            if let Change::Put(binding) = change
                && binding.connection() != 0
            {
                self.keep_connection(id, binding.connection(), binding.deadline_ms, out);
            }
        }
        self.location.change(id, |record| {
            for change in changes {
                match change {
                    Change::Put(binding) => record.put(binding),
                    Change::Remove(contact_id) => record.remove(contact_id),
                }
            }
        });
        self.location.drop_if_empty(id);
    }

    /// The AOR as the table has it: the unescaped user, with `use_domain` `@` and the lower-case host (S52).
    pub(crate) fn build_aor(&self, to: Option<To<'_>>, aor: &mut Vec<u8>) -> Result<(), Answer> {
        let failed = Answer::registrar(400, "Error while parsing AOR");
        let to = to.filter(|to| !to.user.is_empty()).ok_or(failed)?;
        aor.clear();
        unescape_into(to.user, aor);
        let user_len = aor.len();
        if !self.config.registrar.case_sensitive {
            aor.make_ascii_lowercase();
        }
        if self.config.use_domain {
            aor.push(b'@');
            aor.extend(to.host.iter().map(u8::to_ascii_lowercase));
        }
        if user_len > limits::MAX_USER || to.host.len() > limits::MAX_DOMAIN {
            return Err(Answer::registrar(500, "Address Of Record too long"));
        }
        Ok(())
    }

    /// The Occupied rule by what is in memory (S40, B2, B19).
    fn check_exclusive(
        &self,
        record: &Record<Waiting>,
        request: &Request<'_>,
        now: Now,
    ) -> Result<(), Answer> {
        if !self.config.registrar.exclusive_ip {
            return Ok(());
        }
        let is_same = |binding: &Binding| {
            request.call_id() == Some(binding.callid()) || names_contact(request, binding)
        };
        match is_free_or_own(record.live(now), request.flow.remote.ip(), is_same) {
            true => Ok(()),
            false => Err(Answer::new(403, "Occupied").why("registered from another address")),
        }
    }

    fn reply_ok(
        &self,
        request: &Request<'_>,
        record: Option<&Record<Waiting>>,
        plan: &Plan,
        now: Now,
        out: &mut Outbox,
    ) {
        out.send(request.reply_flow(), |bytes| {
            self.stationery.write_head(request, 200, "OK", bytes);
            self.write_ok_headers(request, record, plan, now, bytes);
            self.stationery.write_tail(bytes);
        });
    }

    fn write_ok_headers(
        &self,
        request: &Request<'_>,
        record: Option<&Record<Waiting>>,
        plan: &Plan,
        now: Now,
        bytes: &mut Vec<u8>,
    ) {
        let old =
            |entry: &Entry| record?.bindings.iter().find(|binding| binding.contact_id == entry.contact_id);
        let only_named = self.config.registrar.only_request_contacts;
        let entries = plan.entries.iter().filter(|entry| entry.is_named || !only_named);
        let listed = entries.filter_map(|entry| match entry.put.and_then(|put| plan.changes.get(put)) {
            Some(Change::Put(binding)) => Some(binding),
            _ => old(entry),
        });
        write_contacts(listed, now, bytes);
        if self.echoes_path(request) {
            write_path(request, bytes);
        }
        if self.config.registrar.add_date {
            self.stationery.write_date(now, bytes);
        }
    }

    /// What a retransmission of a REGISTER repeats.
    fn identity(&self, request: &Request<'_>) -> u64 {
        let cseq = request.value(HeaderName::CSeq);
        self.hasher.hash_one((request.call_id(), cseq, request.flow.remote))
    }
}

fn claim(request: &Request<'_>, user: &[u8], domain: Option<&[u8]>, now: Now) -> Claim {
    let named = contacts(request.head.values(request.bytes, HeaderName::Contact));
    let uri = |contact| match contact {
        Ok(ContactValue::Contact(_, uri)) => Some(Box::from(uri.text)),
        _ => None,
    };
    Claim {
        username: user.into(),
        domain: domain.map(Into::into),
        now_unix_s: now.unix_s,
        source: request.flow.remote.ip(),
        call_id: request.call_id().unwrap_or(&[]).into(),
        contacts: named.take(limits::MAX_CONTACTS_PER_REGISTER).filter_map(uri).collect(),
    }
}

/// Splits a table key into user and domain.
pub(crate) fn split_aor(aor: &[u8], use_domain: bool) -> (&[u8], Option<&[u8]>) {
    match memchr::memrchr(b'@', aor).filter(|_| use_domain) {
        Some(at) => (aor.get(..at).unwrap_or(&[]), aor.get(at + 1..)),
        None => (aor, None),
    }
}

/// A new contact's id: the AOR's label with the next contact's that no binding has.
pub(crate) fn mint(record: &mut Record<Waiting>) -> u64 {
    loop {
        record.next_contact = record.next_contact.wrapping_add(1);
        let id = contact_id::compose(&record.aor, record.label, record.next_contact);
        if id != 0 && !record.bindings.iter().any(|binding| binding.contact_id == id) {
            return id;
        }
    }
}

/// A binding that an operator adds; `expires_s` 0 never expires.
pub(crate) fn operator_binding(
    contact_id: u64,
    uri: &Uri<'_>,
    expires_s: u32,
    q: Option<u16>,
    methods: Option<u32>,
    now: Now,
) -> Binding {
    let text = BindingText {
        contact: uri.text,
        callid: b"dfjrewr12386fd6-343@opensips.mi",
        user_agent: b"OpenSIPS MI Server",
        instance: b"",
        path: b"",
    };
    let source = uri.host_ip().map(|ip| std::net::SocketAddr::new(ip, uri.port.unwrap_or(5060)));
    Binding {
        contact_id,
        text: text.into(),
        cseq: 1,
        q,
        methods: methods.unwrap_or(ALL_METHODS),
        deadline_ms: match expires_s {
            0 => PERMANENT,
            seconds => now.mono_ms + u64::from(seconds) * 1000,
        },
        updated_ms: now.mono_ms,
        origin: Origin::Loaded { local: None, source }.into(),
        behind_nat: false,
    }
}

/// Whether one of the request's contacts is this binding's.
pub(crate) fn names_contact(request: &Request<'_>, binding: &Binding) -> bool {
    contacts(request.head.values(request.bytes, HeaderName::Contact))
        .take(limits::MAX_CONTACTS_PER_REGISTER)
        .any(|contact| matches!(contact, Ok(ContactValue::Contact(_, uri)) if binding.is_contact(&uri)))
}
