//! What is on its way to the database, and what follows once it has said what became of it.

use std::collections::VecDeque;

use crate::base::aor::split_aor;
use crate::base::flow::{Flow, Ticket};
use crate::base::limits;
use crate::base::stats::{Counter, Timed};
use crate::base::tickets::Tickets;
use crate::contract::admin::AdminReply;
use crate::contract::command::{Command, CommitOutcome};
use crate::contract::context::Ctx;
use crate::contract::event::{Event, EventKind, Gone};
use crate::contract::exclusive::Exclusive;
use crate::contract::identity::Identity;
use crate::contract::reason::Reason;
use crate::contract::row::Write;
use crate::contract::shared::Planned;
use crate::message::response::Response;
use crate::message::response_writer::ResponseWriter;
use crate::registrar::Registrar;
use crate::registrar::binding::Binding;
use crate::registrar::location::RecordId;
use crate::registrar::plan::{Change, Changes};

/// All commits of one shard.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    in_flight: Tickets<InFlight>,
    /// AORs with a doubt, to be told to the database again.
    doubtful: VecDeque<Box<[u8]>>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are changes")]
enum InFlight {
    Changes {
        record: RecordId,
        /// What a retransmission of its REGISTER shares; 0 for no REGISTER.
        identity: u64,
        changes: Changes,
        done: Done,
        /// How many doubts about all shared records there were when it was asked for.
        doubts: u64,
    },
    /// A commit of nothing, behind all others; the ticket is the operator's.
    Flush(Ticket),
}

/// What follows a commit.
#[derive(Debug)]
pub(crate) enum Done {
    /// The 200, ready to leave; up to `head_end` another status would say the same.
    Reply { flow: Flow, reply: Vec<u8>, head_end: usize, since_ms: u64 },
    /// An operator's request is done.
    Admin(Ticket),
    /// Nobody waits: a phone answers no pings.
    GivenUp,
    /// Nobody waits: the database was told again what a failed commit left in doubt.
    Nothing,
}

impl Commits {
    pub(crate) fn len(&self) -> usize {
        self.in_flight.len()
    }

    /// What a retransmission of the REGISTER shares whose commit this is.
    pub(crate) fn identity(&self, ticket: Ticket) -> Option<u64> {
        match self.in_flight.get(ticket)? {
            InFlight::Changes { identity, .. } => Some(*identity),
            InFlight::Flush(_) => None,
        }
    }
}

impl Registrar {
    /// Asks for a commit of these changes, where a condition is given only if it holds, and marks the AOR busy.
    pub(super) fn commit(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: RecordId,
        identity: u64,
        (changes, exclusive): (Changes, Option<Box<Exclusive>>),
        done: Done,
    ) {
        let Some(record) = self.location.get(id) else { return };
        let now = ctx.now;
        let (user, domain) = split_aor(&record.aor, ctx.identity.use_domain);
        let write = |change: &Change| match change {
            Change::Put(binding) => {
                let route = route_here(ctx.identity, (user, &record.aor), binding);
                Write::Put(binding.row(user, domain, route.as_deref(), now))
            }
            Change::Remove(contact_id) => Write::Remove { contact_id: *contact_id, username: user.into() },
        };
        let is_touched = |id: &u64| {
            changes.iter().any(|change| match change {
                Change::Put(binding) => binding.contact_id == *id,
                Change::Remove(contact_id) => contact_id == id,
            })
        };
        let known = |id: u64| record.live(now).find(|one| one.contact_id == id && !one.is_stranded());
        let repair = |id: &u64| match known(*id) {
            Some(binding) => Write::Put(binding.row(user, domain, None, now)),
            None => Write::Remove { contact_id: *id, username: user.into() },
        };
        let doubt = record.doubts().iter().filter(|id| !is_touched(id)).map(repair);
        let dead = record.shared.iter().flat_map(|shared| {
            let expired = record.bindings.iter().filter(|one| !one.is_live(now)).map(|one| one.contact_id);
            shared.dead.iter().copied().chain(expired)
        });
        let remove = |contact_id| Write::Remove { contact_id, username: user.into() };
        let dead = dead.filter(|id| !is_touched(id)).map(remove);
        let writes = changes.iter().map(write).chain(doubt).chain(dead).collect();
        let version = record.shared.as_ref().map_or(0, |shared| shared.version);
        let planned = || Box::new(Planned { aor: record.aor.clone(), version });
        let planned = ctx.identity.node.is_some().then(planned);
        let doubts = self.doubts();
        let in_flight = InFlight::Changes { record: id, identity, changes, done, doubts };
        let ticket = self.commits.in_flight.insert(in_flight);
        if let Some(record) = self.location.get_mut(id) {
            record.commit = Some(ticket);
        }
        ctx.count(Counter::Commits);
        ctx.out.commands.push(Command::Commit { ticket, writes, exclusive, planned });
    }

    /// Asks for a commit of nothing: done once everything that was asked before is.
    pub(crate) fn flush(&mut self, ctx: &mut Ctx<'_>, operator: Ticket) {
        // What failed commits left in doubt goes first; the store works in the order in which it is asked.
        self.repair(ctx);
        let ticket = self.commits.in_flight.insert(InFlight::Flush(operator));
        ctx.out.commands.push(Command::Commit { ticket, writes: Vec::new(), exclusive: None, planned: None });
    }

    /// The AOR whose commit this is.
    pub(crate) fn aor_of_commit(&self, ticket: Ticket) -> Option<Box<[u8]>> {
        match self.commits.in_flight.get(ticket)? {
            InFlight::Changes { record, .. } => Some(self.location.get(*record)?.aor.clone()),
            InFlight::Flush(_) => None,
        }
    }

    /// The commit that an AOR waits for.
    pub(crate) fn commit_of(&self, aor: &[u8]) -> Option<Ticket> {
        self.location.get(self.location.find(aor)?)?.commit
    }

    /// Takes what became of a commit: the changes take effect or not, and the one who asked is answered. A ticket that is not
    /// known any more is passed over. `is_tried_again`: its REGISTER waits, and is planned again where the record was another.
    pub(crate) fn settle(
        &mut self,
        ctx: &mut Ctx<'_>,
        ticket: Ticket,
        outcome: CommitOutcome,
        is_tried_again: bool,
    ) {
        let (record, changes, done, doubts) = match self.commits.in_flight.remove(ticket) {
            Some(InFlight::Changes { record, changes, done, doubts, .. }) => (record, changes, done, doubts),
            Some(InFlight::Flush(operator)) => {
                return admin_done(ctx, operator, outcome == CommitOutcome::Committed);
            }
            None => return,
        };
        match outcome {
            CommitOutcome::Committed | CommitOutcome::Stored(_) => {
                if let Some(record) = self.location.get_mut(record) {
                    record.settle();
                    if let CommitOutcome::Stored(version) = outcome {
                        let shared = record.shared_mut();
                        (shared.version, shared.doubts) = (version, doubts);
                        shared.read_ms = ctx.now.mono_ms;
                        shared.dead.clear();
                    }
                }
                let why = match done {
                    Done::Reply { .. } => Gone::Unregistered,
                    Done::GivenUp => Gone::PingsLost,
                    Done::Admin(_) | Done::Nothing => Gone::Removed,
                };
                self.change(ctx, record, changes, why);
                committed(ctx, done);
            }
            CommitOutcome::Changed(stored) => {
                if let Some(own) = self.location.get_mut(record) {
                    own.commit = None;
                }
                self.take_stored(ctx, record, &stored);
                ctx.count(Counter::CommitConflicts);
                // It keeps the version that the next plan goes against.
                return match (is_tried_again, done) {
                    (true, Done::Reply { reply, .. }) => ctx.buffers.give_text(reply),
                    (_, done) => refused(ctx, done, Response::from(Reason::TooManyWaiting).retry_after(1)),
                };
            }
            CommitOutcome::KeyTaken => {
                self.label_anew(record);
                return match (is_tried_again, done) {
                    (true, Done::Reply { reply, .. }) => ctx.buffers.give_text(reply),
                    (_, done) => self.failed(ctx, record, &changes, done),
                };
            }
            CommitOutcome::Occupied => refused(ctx, done, Reason::OccupiedInDatabase.into()),
            CommitOutcome::Failed(error) => {
                tracing::debug!(error, "commit failed");
                self.failed(ctx, record, &changes, done);
            }
        }
        if let Some(record) = self.location.get_mut(record) {
            record.commit = None;
        }
        self.location.drop_if_empty(record);
    }

    /// The changes did not happen, or nobody knows: nothing changes, the phone gets 500.
    fn failed(&mut self, ctx: &mut Ctx<'_>, id: RecordId, changes: &Changes, done: Done) {
        ctx.count(Counter::CommitFailures);
        let mut reason = match changes.first() {
            Some(Change::Put(_)) => Reason::InsertFailed,
            _ => Reason::DeleteFailed,
        };
        match ctx.identity.node.is_some() {
            // What stands in the store now is read again, and nothing is written on a guess.
            true => self.doubt_record(id),
            false => {
                let touched = changes.iter().map(|change| match change {
                    Change::Put(Binding { contact_id, .. }) | Change::Remove(contact_id) => *contact_id,
                });
                self.doubt(ctx, id, touched);
            }
        }
        if let Some(record) = self.location.get(id) {
            if let Some(Change::Put(binding)) = changes.first()
                && record.bindings.iter().any(|old| old.contact_id == binding.contact_id)
            {
                reason = Reason::UpdateFailed;
            }
            ctx.out.tell(EventKind::Loss, || Event::CommitFailed { aor: record.aor.clone() });
        }
        let retry_after_s = match ctx.policy.registrar.retry_after_s {
            0 => limits::BUSY_RETRY_AFTER_S,
            configured => configured,
        };
        refused(ctx, done, Response::from(reason).retry_after(retry_after_s));
    }

    /// Has the database told again, soon, what these bindings of an AOR are.
    pub(super) fn doubt(&mut self, ctx: &mut Ctx<'_>, id: RecordId, ids: impl IntoIterator<Item = u64>) {
        let Some(record) = self.location.get_mut(id) else { return };
        for contact_id in ids {
            if !record.doubt(contact_id) {
                ctx.count(Counter::DoubtsFull);
            }
        }
        if record.queue_repair() {
            self.commits.doubtful.push_back(record.aor.clone());
        }
    }

    /// Tells the database again what failed commits left in doubt: a commit whose answer was lost may have been done.
    pub(crate) fn repair(&mut self, ctx: &mut Ctx<'_>) {
        for _ in 0..self.commits.doubtful.len().min(limits::MAX_REPAIRS) {
            let Some(aor) = self.commits.doubtful.pop_front() else { return };
            let Some(id) = self.location.find(&aor) else { continue };
            let Some(record) = self.location.get_mut(id) else { continue };
            if record.commit.is_some() {
                self.commits.doubtful.push_back(aor);
                continue;
            }
            record.repair_taken();
            match record.doubts().is_empty() {
                true => self.location.drop_if_empty(id),
                false => self.commit(ctx, id, 0, (Changes::default(), None), Done::Nothing),
            }
        }
    }

    /// Whether nothing is on its way to the database.
    pub(crate) fn is_idle(&self) -> bool {
        self.commits.len() == 0
    }

    /// Commits in flight.
    pub(crate) fn commits_in_flight(&self) -> usize {
        self.commits.len()
    }
}

/// The Route by which the other nodes reach a binding of this one, where bindings are shared.
fn route_here(identity: &Identity, (user, aor): (&[u8], &[u8]), binding: &Binding) -> Option<Vec<u8>> {
    let node = identity.node.as_ref().filter(|_| !binding.is_elsewhere())?;
    let mut route = Vec::with_capacity(96);
    node.route_to(node.address, (user, aor), binding.contact_id, &mut route);
    Some(route)
}

/// It is durable: the answer leaves.
fn committed(ctx: &mut Ctx<'_>, done: Done) {
    match done {
        Done::GivenUp | Done::Nothing => {}
        Done::Reply { flow, reply, since_ms, .. } => {
            ctx.count(Counter::AcceptedRegs);
            ctx.time(Timed::RegisterAccepted, since_ms);
            ctx.stats.count_reply(200);
            ctx.out.send(flow, |bytes| bytes.extend_from_slice(&reply));
            ctx.buffers.give_text(reply);
        }
        Done::Admin(ticket) => admin_done(ctx, ticket, true),
    }
}

/// It is not: another answer leaves than the 200 that is ready.
fn refused(ctx: &mut Ctx<'_>, done: Done, response: Response) {
    match done {
        Done::GivenUp | Done::Nothing => {}
        Done::Reply { flow, reply, head_end, since_ms } => {
            ctx.count(Counter::RejectedRegs);
            ctx.time(Timed::RegisterRefused, since_ms);
            if let Some(reason) = response.reason {
                ctx.stats.count_refusal(reason);
            }
            ctx.stats.count_reply(response.code);
            tracing::debug!(source = %flow, code = response.code, why = response.why(), "answer");
            let writer = ResponseWriter::of(ctx);
            ctx.out.send(flow, |bytes| writer.write_instead(&response, &reply, head_end, bytes));
            ctx.buffers.give_text(reply);
        }
        Done::Admin(ticket) => admin_done(ctx, ticket, false),
    }
}

pub(super) fn admin_done(ctx: &mut Ctx<'_>, ticket: Ticket, is_done: bool) {
    let reply = if is_done { AdminReply::Done } else { AdminReply::Failed };
    ctx.out.commands.push(Command::AdminReply { ticket, reply });
}
