//! While the table is read at start: what is read already counts, and what is about an AOR that is not read yet waits.
//!
//! Rows come in the order of `contact_id`, which begins with a hash of the AOR: an AOR is read once the ids of its hash
//! have passed. Nobody is answered 404 for a row that is on its way, and no REGISTER is decided on half of an AOR's rows.

use std::collections::BTreeMap;

use roost_sip::Uri;

use crate::base::flow::Now;
use crate::contract::command::Command;
use crate::contract::contact_id;
use crate::contract::context::Ctx;
use crate::contract::identity::Identity;
use crate::contract::row::{Row, RowError, Write};
use crate::message::path::is_path;
use crate::registrar::Registrar;
use crate::registrar::binding::Binding;

/// What of the table is not read yet.
#[derive(Debug, Default)]
pub(crate) struct Loading {
    /// All rows of AORs with a smaller hash are read.
    from: u16,
    /// A row's id does not begin with its AOR's hash: no AOR counts as read before all are.
    is_unordered: bool,
    skipped: BTreeMap<RowError, u64>,
}

impl Loading {
    /// As far as it has come.
    pub(crate) fn excerpt(&self) -> Loading {
        Loading { from: self.from, is_unordered: self.is_unordered, skipped: BTreeMap::new() }
    }
}

impl Registrar {
    /// From here on the table is being read: [`Registrar::load_page`] follows.
    pub(crate) fn begin_loading(&mut self) {
        self.loading = Some(Loading::default());
    }

    /// Whether rows are still missing.
    pub(crate) fn is_loading(&self) -> bool {
        self.loading.is_some()
    }

    /// Takes rows of this shard, in the order of their ids; all rows of the table with ids below `up_to` have been given,
    /// or all (`None`).
    pub(crate) fn load_page(&mut self, ctx: &mut Ctx<'_>, rows: &[Row], up_to: Option<u64>) {
        let Some(mut loading) = self.loading.take() else { return };
        let mut surplus = Vec::new();
        let remove = |contact_id, row: &Row| Write::Remove { contact_id, username: row.username.clone() };
        for row in rows {
            loading.is_unordered |= aor_of(ctx.identity, row).is_some_and(|aor| {
                // Ids that a database counted stand before all others.
                let hash = contact_id::aor_hash(row.contact_id);
                hash != 0 && hash != hash_of(&aor)
            });
            match self.load(ctx.identity, row, ctx.now) {
                Ok(older) => {
                    surplus.extend(older.map(|contact_id| remove(contact_id, row)));
                    self.regain_flow(ctx, row);
                }
                Err(error) => {
                    if error == RowError::Twice {
                        surplus.push(remove(row.contact_id, row));
                    }
                    *loading.skipped.entry(error).or_default() += 1;
                }
            }
        }
        if !surplus.is_empty() {
            ctx.out.commands.push(Command::Purge { writes: surplus });
        }
        match up_to {
            Some(_) if loading.is_unordered => {}
            Some(up_to) => loading.from = contact_id::aor_hash(up_to),
            None => {
                for (error, rows) in &loading.skipped {
                    tracing::warn!(rows, %error, "rows of location skipped");
                }
                return;
            }
        }
        self.loading = Some(loading);
    }

    /// Takes a row that was read at start, or says why not. Rows may come in any order.
    ///
    /// The id of an older row of the same contact, which may be deleted.
    ///
    /// # Errors
    /// [`RowError`]: skip the row and go on.
    pub(crate) fn load(&mut self, identity: &Identity, row: &Row, now: Now) -> Result<Option<u64>, RowError> {
        if row.expires != 0 && row.expires <= now.unix_s {
            return Err(RowError::Expired);
        }
        let uri = Uri::parse(&row.contact).map_err(|_| RowError::Contact)?;
        if row.path.as_deref().is_some_and(|path| !path.is_empty() && !is_path(path)) {
            return Err(RowError::Path);
        }
        let aor = aor_of(identity, row).ok_or(RowError::NoDomain)?;
        let binding = Binding::from_row(row, now);
        let id = self.location.find_or_insert(&aor, || contact_id::aor_label(row.contact_id));
        let same = |other: &&Binding| other.is_contact(&uri);
        let twin = self.location.get(id).and_then(|record| record.bindings.iter().find(same));
        let twin = twin.map(|twin| (twin.contact_id, twin.updated_ms));
        if twin.is_some_and(|(_, updated_ms)| updated_ms >= binding.updated_ms) {
            return Err(RowError::Twice);
        }
        self.location.change(id, |record| {
            if let Some((contact_id, _)) = twin {
                record.remove(contact_id);
            }
            record.next_contact = record.next_contact.max(contact_id::contact_label(row.contact_id));
            record.put(binding);
        });
        Ok(twin.map(|(contact_id, _)| contact_id))
    }

    /// Whether rows with this hash are still missing.
    pub(crate) fn awaits_hash(&self, hash: u16) -> bool {
        self.loading.as_ref().is_some_and(|loading| hash >= loading.from)
    }

    /// The hash of an AOR whose rows are still missing.
    pub(crate) fn hash_not_loaded(&self, aor: &[u8]) -> Option<u16> {
        self.loading.as_ref()?;
        Some(hash_of(aor)).filter(|hash| self.awaits_hash(*hash))
    }
}

fn aor_of(identity: &Identity, row: &Row) -> Option<Vec<u8>> {
    row.aor(identity.use_domain, identity.case_sensitive)
}

fn hash_of(aor: &[u8]) -> u16 {
    contact_id::core_hash(aor) as u16
}
