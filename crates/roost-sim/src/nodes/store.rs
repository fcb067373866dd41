//! The store that nodes share, in memory: what Redis, MariaDB and PostgreSQL do for them. The tests of those are this one's, too.

use std::collections::{BTreeMap, BTreeSet};

use roost_core::{CommitOutcome, PackedRow, Planned, StoredRecord, Write};

use crate::dice::Dice;

/// The records, by AOR.
#[derive(Debug, Default)]
pub struct Store {
    /// It takes every change, whatever that was planned against: a fault.
    pub(super) last_writer_wins: bool,
    pub(super) records: BTreeMap<Vec<u8>, (u64, BTreeMap<u64, PackedRow>)>,
    pub(super) version: u64,
    /// What changes that nobody was told of had found: a replica may not have them.
    pub(super) before: BTreeMap<Vec<u8>, (u64, BTreeMap<u64, PackedRow>)>,
    /// AOR, contact, Call-ID and CSeq of whatever it had.
    pub(super) kept: BTreeSet<Kept>,
}

pub(super) type Kept = (Vec<u8>, Vec<u8>, Vec<u8>, u32);

impl Store {
    /// What it has of an AOR.
    pub fn record(&self, aor: &[u8]) -> StoredRecord {
        self.records.get(aor).map_or_else(StoredRecord::default, |(version, rows)| StoredRecord {
            version: *version,
            rows: rows.values().cloned().collect(),
        })
    }

    /// A replica becomes the primary: it has what was acknowledged, and of the rest what it has.
    pub(super) fn fail_over(&mut self, dice: &mut Dice, versions_again: bool) {
        for (aor, (version, rows)) in std::mem::take(&mut self.before) {
            if !dice.chance(500) {
                continue;
            }
            if versions_again {
                self.version = version;
            }
            match rows.is_empty() {
                true => drop(self.records.remove(&aor)),
                false => drop(self.records.insert(aor, (version, rows))),
            }
        }
    }

    /// Changes a record if it still has the version that this was planned against. `is_told`: who asked will hear of it.
    pub fn compare_and_set(&mut self, planned: &Planned, writes: &[Write], is_told: bool) -> CommitOutcome {
        let found = self.record(&planned.aor);
        match self.last_writer_wins || found.version == planned.version {
            true => CommitOutcome::Stored(self.apply(&planned.aor, writes, is_told)),
            false => CommitOutcome::Changed(Box::new(found)),
        }
    }

    /// `is_told`: somebody will be told that it has happened, once all replicas have it.
    fn apply(&mut self, aor: &[u8], writes: &[Write], is_told: bool) -> u64 {
        match is_told {
            // With it the replicas have what came before.
            true => drop(self.before.remove(aor)),
            false => {
                let now = self.records.get(aor).cloned().unwrap_or_default();
                self.before.entry(aor.to_vec()).or_insert(now);
            }
        }
        self.version += 1;
        let (version, rows) = self.records.entry(aor.to_vec()).or_default();
        *version = self.version;
        for write in writes {
            match write {
                Write::Put(packed) => {
                    let row = packed.row();
                    self.kept.insert((aor.to_vec(), row.contact.to_vec(), row.callid.to_vec(), row.cseq));
                    rows.insert(row.contact_id, packed.clone());
                }
                Write::Remove { contact_id, .. } | Write::Purge { contact_id, .. } => {
                    rows.remove(contact_id);
                }
            }
        }
        if rows.is_empty() {
            self.records.remove(aor);
        }
        self.version
    }
}
