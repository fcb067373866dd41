//! Connections as the registrar knows them: which bindings were made over one. The connections themselves are kept by a
//! shell.

use std::collections::BTreeMap;

use crate::base::flow::Flow;
use crate::base::hash::KeyedState;
use crate::contract::command::Command;
use crate::contract::context::Ctx;
use crate::contract::event::{Event, EventKind};
use crate::contract::row::Row;
use crate::registrar::Registrar;
use crate::registrar::binding::{Binding, Origin};
use crate::registrar::location::RecordId;

/// How long a connection outlives the last binding that was made over it, in milliseconds: as OpenSIPS does.
const AFTER_BINDINGS_MS: u64 = 10_000;

/// Connections and the records of the bindings that were made over them.
#[derive(Debug)]
pub(crate) struct Flows {
    /// The records whose bindings were made over a connection, and perhaps others that were once.
    records: hashbrown::HashMap<u64, hashbrown::HashSet<RecordId, KeyedState>, KeyedState>,
    /// Flows of the process before that go on, by the contact id of the binding whose row is not read yet.
    before: BTreeMap<u64, Flow>,
    hasher: KeyedState,
}

impl Flows {
    pub(crate) fn new(hash_seed: u64) -> Flows {
        let hasher = KeyedState::new(hash_seed);
        Flows { records: hashbrown::HashMap::with_hasher(hasher), before: BTreeMap::new(), hasher }
    }

    /// A binding that was made over a connection is committed: the connection lives as long as it.
    pub(super) fn keep(&mut self, ctx: &mut Ctx<'_>, record: RecordId, connection: u64, deadline_ms: u64) {
        let hasher = self.hasher;
        let of = self.records.entry(connection);
        of.or_insert_with(|| hashbrown::HashSet::with_hasher(hasher)).insert(record);
        let until_ms = deadline_ms.saturating_add(AFTER_BINDINGS_MS);
        ctx.out.commands.push(Command::KeepConnection { connection, until_ms });
    }
}

impl Registrar {
    /// The connections that bindings were made over, by contact id.
    pub(crate) fn flows(&self) -> Vec<(u64, Flow)> {
        let records = self.location.records_from(0);
        let bindings = records.flat_map(|(_, record)| &record.bindings);
        let over_connection = |binding: &Binding| match binding.origin() {
            Origin::Live(flow) if flow.connection != 0 => Some((binding.contact_id, flow)),
            _ => None,
        };
        bindings.filter_map(over_connection).collect()
    }

    /// Connections of the process before that go on: the rows of their bindings are read later.
    pub(crate) fn take_flows(&mut self, flows: Vec<(u64, Flow)>) {
        self.flows.before = flows.into_iter().collect();
    }

    /// A row has been read: its binding has the flow again that it was made over, where that goes on.
    pub(super) fn regain_flow(&mut self, ctx: &mut Ctx<'_>, row: &Row) {
        let Some(flow) = self.flows.before.remove(&row.contact_id) else { return };
        let aor = row.aor(ctx.identity.use_domain, ctx.identity.case_sensitive);
        let Some(id) = aor.and_then(|aor| self.location.find(&aor)) else { return };
        let mut deadline_ms = None;
        self.location.change(id, |record| {
            let binding = record.bindings.iter_mut().find(|one| one.contact_id == row.contact_id);
            deadline_ms = binding.map(|binding| {
                binding.made_over(flow);
                binding.deadline_ms
            });
        });
        if let Some(deadline_ms) = deadline_ms {
            self.flows.keep(ctx, id, flow.connection, deadline_ms);
        }
    }

    /// A connection is gone: its bindings stay, without a flow. Rows of those that nothing leads to go: they are removed as
    /// doubts are, behind the commit that may be under way.
    pub(crate) fn connection_closed(&mut self, ctx: &mut Ctx<'_>, connection: u64) {
        self.flows.before.retain(|_, flow| flow.connection != connection);
        for id in self.flows.records.remove(&connection).into_iter().flatten() {
            let mut stranded = Vec::new();
            self.location.change(id, |record| {
                for binding in &mut record.bindings {
                    if binding.connection() == connection {
                        binding.lose_connection();
                        let (aor, contact_id) = (&record.aor, binding.contact_id);
                        ctx.note_agent(aor);
                        ctx.out.tell(EventKind::Loss, || Event::FlowLost { aor: aor.clone(), contact_id });
                        if binding.is_stranded() {
                            stranded.push(contact_id);
                        }
                    }
                }
            });
            if ctx.identity.write_through && !stranded.is_empty() {
                self.doubt(ctx, id, stranded);
            }
        }
    }
}
