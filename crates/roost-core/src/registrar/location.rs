//! The location service of one shard: AORs and their bindings.
//!
//! Only what is committed stands here (in memory mode: only what was accepted). Expired bindings stay until the
//! sweep passes; every reader compares with now.

use std::hash::BuildHasher;

use roost_sip::Uri;
use smallvec::SmallVec;

use crate::base::flow::{Now, ShardId, Ticket};
use crate::base::hash::KeyedState;
use crate::base::limits;
use crate::base::table::Table;
use crate::base::transport::Transport;
use crate::contract::binding_ref::{ContactKey, ContactMoved, Place};
use crate::contract::identity::Identity;
use crate::registrar::binding::Binding;
use crate::registrar::by_contact::{ContactKeys, Keys, moved};

/// A record's slot; valid until the record is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RecordId(u32);

impl RecordId {
    /// Its slot, for a [`crate::BindingRef`].
    pub(crate) fn slot(self) -> u32 {
        self.0
    }

    /// The record of a slot, if there is one; it may be another than it was.
    pub(crate) fn of_slot(slot: u32) -> RecordId {
        RecordId(slot)
    }
}

/// One AOR.
#[derive(Debug)]
pub(crate) struct Record {
    /// `user` or `user@domain`, as the key of the table.
    pub(crate) aor: Box<[u8]>,
    /// The AOR's label in contact ids.
    pub(crate) label: u32,
    /// The next contact's label.
    pub(crate) next_contact: u16,
    /// By falling q, those without q last; equals by age. Most AORs have one.
    pub(crate) bindings: SmallVec<[Binding; 1]>,
    doubt: Option<Box<Doubt>>,
    /// Where bindings are shared with other nodes: which version of the store's record it is.
    pub(crate) shared: Option<Box<Shared>>,
    /// The commit in flight.
    pub(crate) commit: Option<Ticket>,
}

/// What a shared record is, beside its bindings.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The store's version of what is in memory; 0: none is known.
    pub(crate) version: u64,
    /// The latest version that was heard of.
    pub(crate) told: u64,
    /// How many doubts about all records there had been when it was read.
    pub(crate) doubts: u64,
    /// When the store has said so, in monotonic milliseconds.
    pub(crate) read_ms: u64,
    /// Bindings that have expired here and that the store still has: the next change removes them, so that no node whose clock is
    /// behind counts them.
    pub(crate) dead: Vec<u64>,
}

/// What failed commits left.
#[derive(Debug, Default)]
struct Doubt {
    /// Ids that they were about: whether the database has done it is not known. The next commit says of each what memory
    /// says.
    contact_ids: Vec<u64>,
    /// Whether the AOR stands in the queue of those to be told to the database again.
    is_queued: bool,
}

/// How many bindings there are of each transport, in the order of [`Transport::ALL`].
#[derive(Debug, Default)]
struct ByTransport([usize; Transport::ALL.len()]);

impl ByTransport {
    fn add(&mut self, binding: &Binding) {
        if let Some(count) = self.0.get_mut(binding.transport() as usize) {
            *count += 1;
        }
    }

    fn remove(&mut self, binding: &Binding) {
        if let Some(count) = self.0.get_mut(binding.transport() as usize) {
            *count = count.saturating_sub(1);
        }
    }
}

/// All AORs.
#[derive(Debug)]
pub(crate) struct Location {
    records: Table<Record>,
    hasher: KeyedState,
    contacts: usize,
    /// Whether other nodes have some, and how many of these are known.
    is_shared: bool,
    elsewhere: usize,
    by_transport: ByTransport,
    keys: ContactKeys,
    shard: ShardId,
    /// Contacts that have come and gone and are not told yet.
    pub(crate) moved: Vec<ContactMoved>,
}

impl Record {
    pub(crate) fn live(&self, now: Now) -> impl Iterator<Item = &Binding> {
        self.bindings.iter().filter(move |binding| binding.is_live(now))
    }

    /// Inserts or replaces by contact id, keeping the order.
    pub(crate) fn put(&mut self, binding: Binding) {
        let rank = |binding: &Binding| binding.q.map_or(-1, i32::from);
        match self.bindings.iter_mut().find(|old| old.contact_id == binding.contact_id) {
            Some(old) if old.q == binding.q => *old = binding,
            _ => {
                self.bindings.retain(|old| old.contact_id != binding.contact_id);
                let at = self.bindings.partition_point(|old| rank(old) >= rank(&binding));
                self.bindings.insert(at, binding);
            }
        }
    }

    pub(crate) fn remove(&mut self, contact_id: u64) {
        self.bindings.retain(|binding| binding.contact_id != contact_id);
    }

    pub(crate) fn shared_mut(&mut self) -> &mut Shared {
        self.shared.get_or_insert_default()
    }

    /// The ids that the next commit must settle.
    pub(crate) fn doubts(&self) -> &[u64] {
        self.doubt.as_ref().map_or(&[], |doubt| &doubt.contact_ids)
    }

    /// Notes an id that a failed commit was about; whether there was room for it.
    pub(crate) fn doubt(&mut self, contact_id: u64) -> bool {
        let ids = &mut self.doubt.get_or_insert_default().contact_ids;
        if ids.contains(&contact_id) {
            return true;
        }
        let has_room = ids.len() < limits::MAX_DOUBTS_PER_AOR;
        if has_room {
            ids.push(contact_id);
        }
        has_room
    }

    /// A commit has settled all of them; the queue, where the AOR stands in it, will find nothing to do.
    pub(crate) fn settle(&mut self) {
        if let Some(doubt) = &mut self.doubt {
            doubt.contact_ids = Vec::new();
            if !doubt.is_queued {
                self.doubt = None;
            }
        }
    }

    /// Whether the AOR must be put into the queue; it then counts as queued.
    pub(crate) fn queue_repair(&mut self) -> bool {
        !std::mem::replace(&mut self.doubt.get_or_insert_default().is_queued, true)
    }

    /// The queue has come to the AOR.
    pub(crate) fn repair_taken(&mut self) {
        if let Some(doubt) = &mut self.doubt {
            doubt.is_queued = false;
            if doubt.contact_ids.is_empty() {
                self.doubt = None;
            }
        }
    }
}

impl Location {
    pub(crate) fn new(identity: &Identity, shard: ShardId) -> Self {
        Location {
            records: Table::default(),
            hasher: KeyedState::new(identity.hash_seed),
            contacts: 0,
            is_shared: identity.node.is_some(),
            elsewhere: 0,
            by_transport: ByTransport::default(),
            keys: ContactKeys::new(identity),
            shard,
            moved: Vec::new(),
        }
    }

    /// Takes an AOR over from another shard's copy of the bindings; its slot here.
    pub(crate) fn adopt(&mut self, record: &Record) -> RecordId {
        let id = self.find_or_insert(&record.aor, || record.label);
        self.change(id, |own| {
            own.next_contact = record.next_contact;
            own.bindings = record.bindings.clone();
            own.commit = record.commit;
        });
        self.moved.clear();
        id
    }

    /// The key of a Contact as it is called.
    pub(crate) fn key_of(&self, uri: &Uri<'_>, domain: &[u8]) -> ContactKey {
        self.keys.of_uri(uri, domain)
    }

    pub(crate) fn find(&self, aor: &[u8]) -> Option<RecordId> {
        self.records.find(self.hasher.hash_one(aor), |record| *record.aor == *aor).map(RecordId)
    }

    pub(crate) fn find_or_insert(&mut self, aor: &[u8], label: impl FnOnce() -> u32) -> RecordId {
        if let Some(id) = self.find(aor) {
            return id;
        }
        let record = Record {
            aor: aor.into(),
            label: label(),
            next_contact: 0,
            bindings: SmallVec::new(),
            doubt: None,
            shared: None,
            commit: None,
        };
        RecordId(self.records.insert(self.hasher.hash_one(aor), record))
    }

    pub(crate) fn get(&self, id: RecordId) -> Option<&Record> {
        self.records.get(id.0)
    }

    pub(crate) fn get_mut(&mut self, id: RecordId) -> Option<&mut Record> {
        self.records.get_mut(id.0)
    }

    /// Changes a record's bindings and keeps the count of contacts right.
    pub(crate) fn change(&mut self, id: RecordId, change: impl FnOnce(&mut Record)) {
        let Some(record) = self.records.get_mut(id.0) else { return };
        let keys = |record: &Record| -> Keys {
            let contacts = record.bindings.iter().map(Binding::contact);
            contacts.filter_map(|contact| self.keys.of_contact(&record.aor, contact)).collect()
        };
        let counts = self.is_shared;
        let elsewhere = |record: &Record| match counts {
            true => record.bindings.iter().filter(|one| one.is_elsewhere()).count(),
            false => 0,
        };
        let (before, keys_before, elsewhere_before) =
            (record.bindings.len(), keys(record), elsewhere(record));
        record.bindings.iter().for_each(|binding| self.by_transport.remove(binding));
        change(record);
        record.bindings.iter().for_each(|binding| self.by_transport.add(binding));
        self.contacts = self.contacts + record.bindings.len() - before;
        self.elsewhere = self.elsewhere + elsewhere(record) - elsewhere_before;
        let place = Place { shard: self.shard, record: id.0 };
        moved(&keys_before, &keys(record), place, &mut self.moved);
    }

    /// Puts a binding into a record, where it may replace the one with its id.
    pub(crate) fn put(&mut self, id: RecordId, binding: Binding) {
        let Some(record) = self.records.get_mut(id.0) else { return };
        let old = record.bindings.iter().find(|old| old.contact_id == binding.contact_id);
        // Nearly all are refreshed with the Contact that they have.
        if old.is_none_or(|old| old.contact() != binding.contact() || old.is_elsewhere()) {
            return self.change(id, |record| record.put(binding));
        }
        if let Some(old) = old {
            self.by_transport.remove(old);
            self.by_transport.add(&binding);
        }
        record.put(binding);
    }

    /// Drops a record that holds neither bindings nor a commit nor a doubt.
    pub(crate) fn drop_if_empty(&mut self, id: RecordId) {
        let is_empty = |record: &Record| {
            record.bindings.is_empty() && record.commit.is_none() && record.doubts().is_empty()
        };
        if self.get(id).is_some_and(is_empty) {
            let hasher = self.hasher;
            self.records.remove(id.0, |record| hasher.hash_one(&*record.aor));
        }
    }

    /// How many AORs there are.
    pub(crate) fn users(&self) -> usize {
        self.records.len()
    }

    /// How many contacts there are, expired ones that were not swept yet included.
    pub(crate) fn contacts(&self) -> usize {
        self.contacts
    }

    /// How many of them other nodes have.
    pub(crate) fn elsewhere(&self) -> usize {
        self.elsewhere
    }

    /// The same by transport.
    pub(crate) fn contacts_by_transport(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.by_transport.0.iter().map(|count| *count as u64);
        Transport::ALL.into_iter().map(Transport::as_str).zip(counts)
    }

    /// How many slots a sweep or a dump passes.
    pub(crate) fn slots(&self) -> usize {
        self.records.slots()
    }

    /// The records from a slot on, with their slots.
    pub(crate) fn records_from(&self, slot: usize) -> impl Iterator<Item = (usize, &Record)> {
        self.records.iter_from(slot)
    }

    /// Visits so many slots, going round, and drops the bindings that have expired, each of which `expired` is told. A
    /// record with a commit in flight is left for the next round.
    pub(crate) fn sweep(&mut self, slots: usize, now: Now, mut expired: impl FnMut(&Record, &Binding)) {
        for _ in 0..slots.min(self.slots()) {
            let Some(id) = self.records.next_in_turn().map(RecordId) else { return };
            let has_expired = |record: &Record| record.bindings.iter().any(|binding| !binding.is_live(now));
            if self.get(id).is_none_or(|record| record.commit.is_some() || !has_expired(record)) {
                continue;
            }
            self.change(id, |record| {
                let dead = record.bindings.iter().filter(|binding| !binding.is_live(now));
                dead.for_each(|binding| expired(record, binding));
                if let Some(shared) = &mut record.shared {
                    let dead = record.bindings.iter().filter(|binding| !binding.is_live(now));
                    shared.dead.extend(dead.map(|binding| binding.contact_id));
                }
                record.bindings.retain(|binding| binding.is_live(now));
            });
            self.drop_if_empty(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registrar::binding::{BindingText, Origin};

    fn binding(contact_id: u64, q: Option<u16>, deadline_ms: u64) -> Binding {
        let text = BindingText { contact: b"sip:a@b", callid: b"c", ..BindingText::default() };
        Binding {
            contact_id,
            text: text.into(),
            cseq: 0,
            q,
            methods: 0,
            deadline_ms,
            updated_ms: 0,
            origin: Origin::Loaded { local: None, source: None }.into(),
            behind_nat: false,
        }
    }

    #[test]
    fn bindings_stand_by_falling_q_then_age() {
        let mut location = Location::new(&Identity::default(), ShardId(0));
        let id = location.find_or_insert(b"9001", || 1);
        for (contact_id, q) in [(1, None), (2, Some(500)), (3, Some(1000)), (4, Some(500)), (5, None)] {
            location.change(id, |record| record.put(binding(contact_id, q, 10)));
        }
        let order = |location: &Location| -> Vec<u64> {
            location.get(id).unwrap().bindings.iter().map(|binding| binding.contact_id).collect()
        };
        assert_eq!(order(&location), [3, 2, 4, 1, 5]);
        location.change(id, |record| record.put(binding(2, Some(500), 20)));
        assert_eq!(order(&location), [3, 2, 4, 1, 5]);
        location.change(id, |record| record.put(binding(1, Some(600), 20)));
        assert_eq!(order(&location), [3, 1, 2, 4, 5]);
        assert_eq!(location.contacts(), 5);
    }

    #[test]
    fn the_sweep_frees_what_has_expired() {
        let mut location = Location::new(&Identity::default(), ShardId(0));
        for n in 0..100u64 {
            let id = location.find_or_insert(n.to_string().as_bytes(), || 1);
            location.change(id, |record| record.put(binding(n, None, n)));
        }
        let mut swept = Vec::new();
        for _ in 0..2 {
            location.sweep(60, Now { mono_ms: 49, unix_s: 0 }, |_, binding| swept.push(binding.contact_id));
        }
        assert_eq!(swept.len(), 50);
        assert_eq!((location.users(), location.contacts()), (50, 50));
        assert_eq!(location.contacts_by_transport().next(), Some(("udp", 50)));
        assert_eq!(location.find(b"3"), None);
        assert!(location.find(b"77").is_some());
        let id = location.find_or_insert(b"new", || 1);
        assert_eq!(location.slots(), 100);
        location.drop_if_empty(id);
        assert_eq!(location.find(b"new"), None);
    }
}
