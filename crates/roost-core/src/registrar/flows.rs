//! Connections as the registrar knows them: which bindings were made over one. The connections themselves are kept by a
//! shell.

use crate::base::hash::KeyedState;
use crate::contract::command::Command;
use crate::contract::context::Ctx;
use crate::contract::event::{Event, EventKind};
use crate::registrar::Registrar;
use crate::registrar::location::RecordId;

/// How long a connection outlives the last binding that was made over it, in milliseconds: as OpenSIPS does.
const AFTER_BINDINGS_MS: u64 = 10_000;

/// Connections and the records of the bindings that were made over them.
#[derive(Debug)]
pub(crate) struct Flows {
    /// The records whose bindings were made over a connection, and perhaps others that were once.
    records: hashbrown::HashMap<u64, hashbrown::HashSet<RecordId, KeyedState>, KeyedState>,
    hasher: KeyedState,
}

impl Flows {
    pub(crate) fn new(hash_seed: u64) -> Flows {
        let hasher = KeyedState::new(hash_seed);
        Flows { records: hashbrown::HashMap::with_hasher(hasher), hasher }
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
    /// A connection is gone: its bindings stay, without a flow. Rows of those that nothing leads to go: they are removed as
    /// doubts are, behind the commit that may be under way.
    pub(crate) fn connection_closed(&mut self, ctx: &mut Ctx<'_>, connection: u64) {
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
