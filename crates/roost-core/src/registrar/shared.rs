//! Bindings that are shared with other nodes: what is in memory is a cache of records, and the store decides.
//!
//! A change is planned against the record that is known and takes effect only if the store still has that one; else the store's
//! record is taken and the REGISTER is planned again. A call to an AOR whose record is not known, or may be another by now, waits
//! until it is read (bounded, one reading for all that wait). A store that is away: what is known counts.

use std::net::SocketAddr;

use hashbrown::HashMap;

use crate::base::aor::split_aor;
use crate::base::flow::{Now, Ticket};
use crate::base::hash::KeyedState;
use crate::base::limits;
use crate::base::stats::Counter;
use crate::base::tickets::Tickets;
use crate::base::transport::Transport;
use crate::contract::command::Command;
use crate::contract::contact_id;
use crate::contract::context::Ctx;
use crate::contract::identity::Identity;
use crate::contract::policy::Policy;
use crate::contract::row::Row;
use crate::contract::shared::{BINDING, Holder, StoredRecord, split_route};
use crate::message::path::first_hop;
use crate::registrar::Registrar;
use crate::registrar::binding::Binding;
use crate::registrar::location::RecordId;

/// How long an AOR without bindings, or whose record the store did not give, is not asked for again, in milliseconds.
const KNOWN_MS: u64 = 1_000;

/// Which records are being read.
#[derive(Debug)]
pub(crate) struct Reads {
    asked: Tickets<Box<[u8]>>,
    by_aor: HashMap<Box<[u8]>, Read, KeyedState>,
    /// How often records may have changed that nobody was told of.
    doubts: u64,
    staleness_ms: Option<u64>,
    /// The store counts this node as there until then, in monotonic milliseconds.
    leased_until_ms: u64,
}

#[derive(Debug, Clone, Copy)]
enum Read {
    Asked(Ticket),
    /// What is known counts until then, in monotonic milliseconds.
    Done(u64),
}

impl Reads {
    /// `None` where bindings are not shared.
    pub(crate) fn of(identity: &Identity) -> Option<Reads> {
        let node = identity.node.as_ref()?;
        let by_aor = HashMap::with_hasher(KeyedState::new(identity.hash_seed));
        Some(Reads {
            asked: Tickets::default(),
            by_aor,
            doubts: 1,
            staleness_ms: node.staleness_ms,
            leased_until_ms: 0,
        })
    }

    /// Whether what was read then is too old by now.
    fn is_stale(&self, read_ms: u64, now_ms: u64) -> bool {
        self.staleness_ms.is_some_and(|staleness_ms| now_ms >= read_ms + staleness_ms)
    }
}

impl Registrar {
    /// The reading that what is about an AOR waits for; `None`: what is known of it counts.
    pub(crate) fn unread(&mut self, ctx: &mut Ctx<'_>, aor: &[u8]) -> Option<Ticket> {
        let reads = self.reads.as_mut()?;
        let shared = self.location.find(aor).and_then(|id| self.location.get(id)?.shared.as_ref());
        if shared.is_some_and(|shared| {
            shared.version != 0
                && shared.told <= shared.version
                && shared.doubts == reads.doubts
                && !reads.is_stale(shared.read_ms, ctx.now.mono_ms)
        }) {
            return None;
        }
        match reads.by_aor.get(aor) {
            Some(Read::Done(until_ms)) if *until_ms > ctx.now.mono_ms => None,
            _ => self.read_again(ctx, aor),
        }
    }

    /// A reading of an AOR's record, however much is known of it; `None` where bindings are not shared, or too much is read.
    pub(super) fn read_again(&mut self, ctx: &mut Ctx<'_>, aor: &[u8]) -> Option<Ticket> {
        let reads = self.reads.as_mut()?;
        if let Some(Read::Asked(ticket)) = reads.by_aor.get(aor) {
            return Some(*ticket);
        }
        if reads.asked.len() >= limits::MAX_COMMITS {
            return None;
        }
        let ticket = reads.asked.insert(aor.into());
        reads.by_aor.insert(aor.into(), Read::Asked(ticket));
        ctx.count(Counter::RecordReads);
        ctx.out.commands.push(Command::LoadRecord { ticket, aor: aor.into() });
        Some(ticket)
    }

    /// Takes a record that was read, or that the store did not give it.
    pub(crate) fn take_read(
        &mut self,
        ctx: &mut Ctx<'_>,
        ticket: Ticket,
        found: Result<StoredRecord, String>,
    ) {
        let Some(reads) = &mut self.reads else { return };
        let Some(aor) = reads.asked.remove(ticket) else { return };
        let known_ms = reads.staleness_ms.map_or(KNOWN_MS, |staleness_ms| staleness_ms.min(KNOWN_MS));
        reads.by_aor.insert(aor.clone(), Read::Done(ctx.now.mono_ms + known_ms));
        match found {
            Ok(stored) => {
                let id = self.record_for(&aor);
                // What is being changed is decided by its own commit.
                if self.location.get(id).is_some_and(|record| record.commit.is_none()) {
                    self.take_stored(ctx, id, &stored);
                }
                self.location.drop_if_empty(id);
            }
            Err(error) => tracing::warn!(error, "a record of location cannot be read; what is known counts"),
        }
    }

    /// Takes a record that was found at the start; what is known of the AOR since then is newer.
    pub(crate) fn record_found(&mut self, ctx: &mut Ctx<'_>, aor: &[u8], stored: &StoredRecord) {
        if self.reads.is_none() || self.location.find(aor).is_some() {
            return;
        }
        let id = self.record_for(aor);
        self.take_stored(ctx, id, stored);
        self.location.drop_if_empty(id);
    }

    /// A record is what the store says.
    pub(super) fn take_stored(&mut self, ctx: &mut Ctx<'_>, id: RecordId, stored: &StoredRecord) {
        let doubts = self.doubts();
        let (identity, policy, now) = (ctx.identity, ctx.policy, ctx.now);
        self.location.change(id, |record| {
            let own = std::mem::take(&mut record.bindings);
            let mut dead = Vec::new();
            for packed in &stored.rows {
                let row = here(identity, policy, &record.aor, packed.unpack());
                if row.expires != 0 && row.expires <= now.unix_s {
                    dead.push(row.contact_id);
                    continue;
                }
                record.label = contact_id::aor_label(row.contact_id);
                record.next_contact = record.next_contact.max(contact_id::contact_label(row.contact_id));
                let is_it = |one: &&Binding| {
                    one.contact_id == row.contact_id && one.callid() == &*row.callid && one.cseq == row.cseq
                };
                // Of what this node wrote it knows the connection, too.
                let read = Binding::from_row(&row, now);
                let known = own.iter().find(is_it).filter(|one| !one.is_elsewhere() && !read.is_elsewhere());
                record.put(known.cloned().unwrap_or(read));
            }
            let shared = record.shared_mut();
            (shared.version, shared.doubts, shared.dead) = (stored.version, doubts, dead);
            shared.read_ms = now.mono_ms;
        });
        self.tell_moved(ctx);
    }

    /// Another node has changed an AOR's record, or this one has.
    pub(crate) fn record_changed(&mut self, aor: &[u8], version: u64) {
        let Some(reads) = &mut self.reads else { return };
        if let Some(Read::Done(_)) = reads.by_aor.get(aor) {
            reads.by_aor.remove(aor);
        }
        if let Some(record) = self.location.find(aor).and_then(|id| self.location.get_mut(id)) {
            let shared = record.shared_mut();
            shared.told = shared.told.max(version);
        }
    }

    /// Records may have changed that nobody was told of: each is read again before it counts.
    pub(crate) fn records_doubtful(&mut self) {
        if let Some(reads) = &mut self.reads {
            reads.doubts += 1;
            reads.by_aor.retain(|_, read| matches!(read, Read::Asked(_)));
        }
    }

    /// How many doubts about all records there have been; 0 where they are not shared.
    pub(super) fn doubts(&self) -> u64 {
        self.reads.as_ref().map_or(0, |reads| reads.doubts)
    }

    /// Nobody knows what became of a change of this record: it is read again before it counts.
    pub(super) fn doubt_record(&mut self, id: RecordId) {
        if let Some(record) = self.location.get_mut(id) {
            record.shared_mut().version = 0;
        }
    }

    /// The store counts this node as there until then.
    pub(crate) fn leased(&mut self, until_ms: u64) {
        if let Some(reads) = &mut self.reads {
            reads.leased_until_ms = until_ms;
        }
    }

    /// Whether bindings are shared and the other nodes count this one as gone: it takes no REGISTER then, and pings nobody.
    pub(crate) fn is_cut_off(&self, now: Now) -> bool {
        self.reads.as_ref().is_some_and(|reads| now.mono_ms >= reads.leased_until_ms)
    }

    /// Floating addresses are elsewhere than they were: what was registered over them goes with them.
    pub(crate) fn addresses_moved(&mut self, ctx: &mut Ctx<'_>) {
        let (identity, policy, now) = (ctx.identity, ctx.policy, ctx.now);
        let has_it =
            |binding: &Binding| binding.local().is_some_and(|local| floating(policy, local).is_some());
        let all = self.location.records_from(0);
        let moved: Vec<_> = all
            .filter(|(_, record)| record.bindings.iter().any(has_it))
            .map(|(slot, _)| RecordId::of_slot(slot as u32))
            .collect();
        for id in moved {
            self.location.change(id, |record| {
                let (user, domain) = split_aor(&record.aor, identity.use_domain);
                let row = |binding: &Binding| binding.row(user, domain, None, now).unpack();
                let moved: Vec<_> = record
                    .bindings
                    .iter()
                    .filter(|one| has_it(one))
                    .map(|one| Binding::from_row(&here(identity, policy, &record.aor, row(one)), now))
                    .collect();
                moved.into_iter().for_each(|binding| record.put(binding));
            });
        }
        self.tell_moved(ctx);
    }

    /// Forgets what was asked long ago.
    pub(crate) fn sweep_reads(&mut self, now_ms: u64) {
        if let Some(reads) = &mut self.reads {
            reads.by_aor.retain(|_, read| {
                matches!(read, Read::Asked(_)) || matches!(read, Read::Done(until_ms) if *until_ms > now_ms)
            });
        }
    }

    /// Drops an AOR's record if nothing is left of it.
    pub(crate) fn drop_if_unused(&mut self, aor: &[u8]) {
        if let Some(id) = self.location.find(aor) {
            self.location.drop_if_empty(id);
        }
    }
}

/// A row as this node reaches its phone: without a Route to this very node, and by way of the node that has the floating address
/// over which it was registered.
fn here(identity: &Identity, policy: &Policy, aor: &[u8], mut row: Row) -> Row {
    let Some(node) = &identity.node else { return row };
    let path = row.path.take().unwrap_or_default();
    let hop = first_hop(&path).filter(|hop| hop.param(BINDING).is_some());
    let is_own = hop
        .as_ref()
        .is_some_and(|hop| hop.host_ip() == Some(node.address.ip()) && hop.port == Some(node.address.port()));
    let rest = split_route(&path).1;
    let local = row.socket.as_deref().and_then(Transport::of_socket);
    let path = match local.and_then(|local| floating(policy, local)) {
        Some(Holder::Here) => rest.to_vec(),
        Some(Holder::Node(at)) => {
            let mut path = Vec::with_capacity(96 + rest.len());
            let (user, _) = split_aor(aor, identity.use_domain);
            node.route_to(at, (user, aor), row.contact_id, &mut path);
            if !rest.is_empty() {
                path.push(b',');
                path.extend_from_slice(rest);
            }
            path
        }
        _ if is_own => rest.to_vec(),
        _ => path.to_vec(),
    };
    row.path = Some(path).filter(|path| !path.is_empty()).map(Into::into);
    row
}

/// Where an address is that floats; `None`: it does not.
fn floating(policy: &Policy, (transport, address): (Transport, SocketAddr)) -> Option<Holder> {
    let mut all = policy.floating.iter();
    all.find(|one| one.transport == transport && one.address == address).map(|one| one.holder)
}
