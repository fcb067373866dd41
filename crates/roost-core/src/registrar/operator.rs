//! What operators see of the bindings, and change in them. Changes commit like a REGISTER's.

use roost_sip::{ALL_METHODS, Uri};

use crate::base::aor::split_aor;
use crate::base::flow::{Now, Ticket};
use crate::base::limits;
use crate::contract::admin::{Admin, AdminReply, AorRecord, ContactRecord, ShownExpires};
use crate::contract::context::Ctx;
use crate::contract::event::Gone;
use crate::contract::identity::Identity;
use crate::registrar::binding::{Binding, BindingText, Origin, PERMANENT, uri_address};
use crate::registrar::commit::Done;
use crate::registrar::location::Record;
use crate::registrar::plan::{Change, Changes};
use crate::registrar::{Registrar, find_contact, mint};

/// What became of an operator's change.
#[derive(Debug)]
pub(crate) enum Changed {
    /// The answer.
    Now(AdminReply),
    /// The answer follows once the change is durable.
    Later,
    /// It must wait for its AOR's commit of this ticket.
    Behind(Ticket),
}

impl Registrar {
    /// A slice of all AORs from a slot on.
    pub(crate) fn dump(&self, ctx: &Ctx<'_>, from: usize) -> AdminReply {
        let (mut records, mut places) = (Vec::new(), Vec::new());
        for (slot, record) in self.location.records_from(from) {
            if records.len() == limits::MAX_DUMP_SLICE {
                return AdminReply::Slice { records, places, next: Some(slot) };
            }
            if !record.bindings.is_empty() {
                records.push(shown(ctx, record));
                places.push(slot);
            }
        }
        AdminReply::Slice { records, places, next: None }
    }

    /// One AOR.
    pub(crate) fn show(&self, ctx: &Ctx<'_>, aor: &[u8]) -> AdminReply {
        let record = self.location.find(&folded(ctx.identity, aor)).and_then(|id| self.location.get(id));
        match record.filter(|record| !record.bindings.is_empty()) {
            Some(record) => AdminReply::Record(shown(ctx, record)),
            None => AdminReply::AorNotFound,
        }
    }

    /// The reading that an operator's request about an AOR waits for, where bindings are shared.
    pub(crate) fn unread_of_operator(&mut self, ctx: &mut Ctx<'_>, aor: &[u8]) -> Option<Ticket> {
        ctx.identity.node.as_ref()?;
        let aor = folded(ctx.identity, aor);
        self.unread(ctx, &aor)
    }

    /// Adds, removes or writes again what the request says, under the operator's ticket.
    pub(crate) fn operator_change(&mut self, ctx: &mut Ctx<'_>, ticket: Ticket, request: &Admin) -> Changed {
        let aor = match request {
            Admin::Add { aor, .. }
            | Admin::Remove { aor }
            | Admin::RemoveContact { aor, .. }
            | Admin::Sync { aor } => folded(ctx.identity, aor),
            _ => return Changed::Now(AdminReply::Failed),
        };
        let found = self.location.find(&aor);
        if let Some(commit) = found.and_then(|id| self.location.get(id)?.commit) {
            return Changed::Behind(commit);
        }
        if self.check_room(ctx, found).is_err() {
            return Changed::Now(AdminReply::Failed);
        }
        let id = match (found, request) {
            (Some(id), _) => id,
            (None, Admin::Add { .. }) => self.record_for(&aor),
            (None, Admin::Remove { .. }) => return Changed::Now(AdminReply::Done),
            (None, _) => return Changed::Now(AdminReply::AorNotFound),
        };
        let Some(record) = self.location.get_mut(id) else { return Changed::Now(AdminReply::Failed) };
        let changes = match changes(record, request, ctx.now) {
            Ok(changes) => changes,
            Err(reply) => {
                self.location.drop_if_empty(id);
                return Changed::Now(reply);
            }
        };
        if changes.is_empty() {
            return Changed::Now(AdminReply::Done);
        }
        if !ctx.identity.write_through {
            self.change(ctx, id, changes, Gone::Removed);
            return Changed::Now(AdminReply::Done);
        }
        self.commit(ctx, id, 0, (changes, None), Done::Admin(ticket));
        Changed::Later
    }
}

fn changes(record: &mut Record, request: &Admin, now: Now) -> Result<Changes, AdminReply> {
    match request {
        Admin::Add { contact, expires_s, q, methods, .. } => {
            let uri = Uri::parse(contact).map_err(|_| AdminReply::Failed)?;
            let contact_id = find_contact(record, &uri).unwrap_or_else(|| mint(record));
            let old = record.bindings.iter().find(|old| old.contact_id == contact_id);
            let kv_others = old.map_or(&[][..], Binding::kv_others);
            let binding = binding((contact_id, kv_others), &uri, *expires_s, *q, *methods, now);
            Ok(Changes::from_iter([Change::Put(binding)]))
        }
        Admin::RemoveContact { contact, .. } => {
            let uri = Uri::parse(contact).map_err(|_| AdminReply::ContactNotFound)?;
            let contact_id = find_contact(record, &uri).ok_or(AdminReply::ContactNotFound)?;
            Ok(Changes::from_iter([Change::Remove(contact_id)]))
        }
        Admin::Sync { .. } if record.bindings.is_empty() => Err(AdminReply::AorNotFound),
        Admin::Sync { .. } => Ok(record.bindings.iter().cloned().map(Change::Put).collect()),
        _ => Ok(record.bindings.iter().map(|binding| Change::Remove(binding.contact_id)).collect()),
    }
}

/// A binding that an operator adds, with what of its row is kept; `expires_s` 0 never expires.
fn binding(
    (contact_id, kv_others): (u64, &[u8]),
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
        kv_others,
        ..BindingText::default()
    };
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
        origin: Origin::Loaded { local: None, source: uri_address(uri) }.into(),
        behind_nat: false,
    }
}

/// An AOR as an operator writes it, in the case that tables have it in.
fn folded(identity: &Identity, aor: &[u8]) -> Vec<u8> {
    let mut aor = aor.to_vec();
    let user_len = split_aor(&aor, identity.use_domain).0.len();
    let folded_from = if identity.case_sensitive { user_len } else { 0 };
    if let Some(part) = aor.get_mut(folded_from..).filter(|_| folded_from == 0 || identity.use_domain) {
        part.make_ascii_lowercase();
    }
    aor
}

fn shown(ctx: &Ctx<'_>, record: &Record) -> AorRecord {
    let is_synced = ctx.identity.write_through;
    let contacts = record.bindings.iter().map(|binding| shown_contact(binding, is_synced, ctx.now));
    AorRecord { aor: record.aor.to_vec(), contacts: contacts.collect() }
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
        is_stranded: binding.is_stranded(),
        is_synced: is_synced || matches!(binding.origin(), Origin::Loaded { .. }),
        socket: binding.socket(),
        methods: binding.methods,
        sip_instance: binding.instance().to_vec(),
        pings: None,
    }
}
