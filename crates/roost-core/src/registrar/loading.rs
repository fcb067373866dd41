//! While the table is read at start: what is read already counts, and what is about an AOR that is not read yet waits.
//!
//! Rows come in the order of `contact_id`, which begins with a hash of the AOR (S78): an AOR is read once the ids of its hash
//! have passed. Nobody is answered 404 for a row that is on its way, and no REGISTER is decided on half of an AOR's rows.

use std::collections::{BTreeMap, VecDeque};

use roost_sip::Method;

use crate::Admin;
use crate::base::flow::{Now, Ticket};
use crate::base::limits;
use crate::base::stats::Counter;
use crate::contract::contact_id::{aor_hash, core_hash};
use crate::contract::outbox::{Command, Mark, Outbox};
use crate::contract::row::{Row, Write};
use crate::engine::{Engine, Parked, RowError};
use crate::message::request::{Request, To};
use crate::message::response::Answer;
use crate::operator::AdminReply;

/// What of the table is not read yet.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    /// All rows of AORs with a smaller hash are read.
    from: u16,
    /// A row's id does not begin with its AOR's hash: no AOR counts as read before all are.
    is_unordered: bool,
    waiting: VecDeque<Late>,
    admin: VecDeque<(Ticket, Admin)>,
    skipped: BTreeMap<RowError, u64>,
}

/// A request that waits for its AOR's rows.
#[derive(Debug)]
struct Late {
    parked: Parked,
    hash: u16,
    since_ms: u64,
}

impl Engine {
    /// From here on the table is being read: [`Engine::load_page`] follows.
    pub fn begin_loading(&mut self) {
        self.unread = Some(Box::default());
    }

    /// Takes rows of this shard, in the order of their ids; all rows of the table with ids below `up_to` have been given, or
    /// all (`None`). What waited for them goes on.
    pub fn load_page(&mut self, rows: &[Row], up_to: Option<u64>, now: Now, out: &mut Outbox) {
        let Some(mut unread) = self.unread.take() else { return };
        let mut surplus = Vec::new();
        for row in rows {
            unread.is_unordered |= self.aor_of(row).is_ok_and(|aor| {
                // Ids that a database counted stand before all others.
                aor_hash(row.contact_id) != 0 && aor_hash(row.contact_id) != hash_of(&aor)
            });
            match self.load(row, now) {
                Ok(None) => {}
                Ok(Some(contact_id)) => {
                    surplus.push(Write::Remove { contact_id, username: row.username.clone() });
                }
                Err(error) => {
                    if error == RowError::Twice {
                        let (contact_id, username) = (row.contact_id, row.username.clone());
                        surplus.push(Write::Remove { contact_id, username });
                    }
                    *unread.skipped.entry(error).or_default() += 1;
                }
            }
        }
        if !surplus.is_empty() {
            out.commands.push(Command::Purge { writes: surplus });
        }
        match up_to {
            Some(_) if unread.is_unordered => {}
            Some(up_to) => unread.from = aor_hash(up_to),
            None => {
                for (error, rows) in &unread.skipped {
                    tracing::warn!(rows, %error, "rows of location skipped");
                }
                let waiting = std::mem::take(&mut unread.waiting);
                for late in waiting {
                    self.resume_late(&late.parked, now, out);
                }
                for (ticket, request) in unread.admin {
                    self.handle_admin(ticket, request, now, out);
                }
                return;
            }
        }
        let from = unread.from;
        let (ready, waiting) =
            std::mem::take(&mut unread.waiting).into_iter().partition(|late| late.hash < from);
        unread.waiting = waiting;
        self.unread = Some(unread);
        let ready: VecDeque<Late> = ready;
        for late in ready {
            self.resume_late(&late.parked, now, out);
        }
    }

    /// Whether all rows of an AOR are read.
    pub(crate) fn is_loaded(&self, aor: &[u8]) -> bool {
        self.unread.as_ref().is_none_or(|unread| hash_of(aor) < unread.from)
    }

    /// Whether all rows of the AOR that a URI names are read; if not, the request waits. `Ok(true)`: go on.
    pub(crate) fn is_loaded_or_waits(
        &mut self,
        to: Option<To<'_>>,
        request: &Request<'_>,
        mark: Mark,
        now: Now,
    ) -> Result<bool, Answer> {
        if self.unread.is_none() {
            return Ok(true);
        }
        let mut aor = Vec::new();
        if self.build_aor(to, &mut aor).is_err() || self.is_loaded(&aor) {
            return Ok(true);
        }
        let identity = self.request_identity(request);
        self.wait_for_load(&aor, identity, request, mark, now).map(|()| false)
    }

    /// Parks a request until its AOR's rows are read, unless it is there already.
    pub(crate) fn wait_for_load(
        &mut self,
        aor: &[u8],
        identity: u64,
        request: &Request<'_>,
        mark: Mark,
        now: Now,
    ) -> Result<(), Answer> {
        let Some(unread) = &self.unread else { return Ok(()) };
        if unread.waiting.iter().any(|late| late.parked.identity == identity) {
            self.stats.count(Counter::Absorbed);
            return Ok(());
        }
        let parked = Parked { mark, ..self.park(request, identity)? };
        if let Some(unread) = &mut self.unread {
            unread.waiting.push_back(Late { parked, hash: hash_of(aor), since_ms: now.mono_ms });
        }
        Ok(())
    }

    /// Keeps what an operator asks of the bindings until all are read; gives back what need not wait.
    pub(crate) fn wait_admin(&mut self, ticket: Ticket, request: Admin, out: &mut Outbox) -> Option<Admin> {
        let is_about_bindings = matches!(
            request,
            Admin::Dump { .. }
                | Admin::Show { .. }
                | Admin::Add { .. }
                | Admin::Remove { .. }
                | Admin::RemoveContact { .. }
                | Admin::Sync { .. }
        );
        match &mut self.unread {
            Some(unread) if is_about_bindings => {
                if unread.admin.len() < limits::MAX_WAITING_ADMIN {
                    unread.admin.push_back((ticket, request));
                } else {
                    self.stats.count(Counter::AdminFull);
                    out.commands.push(Command::AdminReply { ticket, reply: AdminReply::Failed });
                }
                None
            }
            _ => Some(request),
        }
    }

    /// Refuses what has waited too long.
    pub(crate) fn give_up_load(&mut self, now: Now, out: &mut Outbox) {
        let Some(unread) = &mut self.unread else { return };
        let is_late = |late: &Late| late.since_ms + limits::UNREAD_MS <= now.mono_ms;
        let late = unread.waiting.iter().take_while(|late| is_late(late)).count();
        let late: Vec<Late> = unread.waiting.drain(..late).collect();
        for Late { parked, .. } in late {
            self.stats.count(Counter::UnreadLate);
            self.unpark(&parked, |engine, request| {
                let answer =
                    Answer::busy("the table is being read, and this AOR's turn did not come in time");
                engine.refuse(request, answer, None, now, out);
            });
        }
    }

    /// What was checked before is not checked again.
    fn resume_late(&mut self, parked: &Parked, now: Now, out: &mut Outbox) {
        self.unpark(parked, |engine, request| match request.method {
            Method::Register => engine.save(request, request.to(), now, out),
            _ if request.to_tag().is_some() => engine.handle_in_dialog(request, parked.mark, now, out),
            _ => engine.handle_initial(request, parked.mark, false, now, out),
        });
    }
}

fn hash_of(aor: &[u8]) -> u16 {
    core_hash(aor) as u16
}
