//! One shard: its parts, and the only code that knows all of them.

use std::sync::Arc;

use roost_sip::{Head, HeadError, HeaderName, Method, StartLine};

use crate::access::{Access, Verdict, message_of, wait_for_credentials};
use crate::admission::Admission;
use crate::auth::authenticator::{Authenticator, CacheAge, Claimed};
use crate::base::buffers::Buffers;
use crate::base::flow::{Flow, Now, Rng, ShardId, Ticket};
use crate::base::hash::KeyedState;
use crate::base::stats::{Counter, Stats};
use crate::continuation::Continuation;
use crate::contract::call::CallRecord;
use crate::contract::command::{Command, ShardEvent};
use crate::contract::config::Config;
use crate::contract::context::{Ctx, ResponseTexts};
use crate::contract::dropped::Dropped;
use crate::contract::event::{Event, EventKind};
use crate::contract::hop_uri::Name;
use crate::contract::identity::Identity;
use crate::contract::mark::Mark;
use crate::contract::next_hops::HopId;
use crate::contract::outbox::Outbox;
use crate::contract::policy::{PathMode, Policy};
use crate::contract::reason::Reason;
use crate::contract::row::{Row, RowError};
use crate::contract::subscriber::Reading;
use crate::dialog::{Dialogs, InDialog};
use crate::dispatch::monitor::{Due, HopMonitor, PING_RESEND_MS};
use crate::message::request::Request;
use crate::message::trace;
use crate::nathelper::NatPinger;
use crate::parking::{Message, Parking, Topic};
use crate::proxy::admitted::Admitted;
use crate::proxy::cancel_ack::{handle_ack, handle_cancel};
use crate::proxy::dialog::handle_in_dialog;
use crate::proxy::forwarder::{Forwarder, Owner, Received};
use crate::proxy::handing_over::{pass_cancel, pass_to_owner};
use crate::proxy::initial::{Facts, handle_initial};
use crate::proxy::unsent::{branch_of, handle_unsent};
use crate::refusal::{Refusal, refuse, registrar_realm};
use crate::registrar::{Registrar, Saved};
use crate::stateless::stateless_answer;
use crate::transaction::Transactions;
use crate::transaction::client::{ClientOutcome, What, drop_response};
use crate::transaction::timers::T1_MS;

/// How often [`Engine::handle_timeout`] wants to be called, in milliseconds.
const TICK_MS: u64 = 1_000;

/// One shard of the registrar and proxy, without I/O: bytes, time and receipts come in as arguments, effects go out
/// through a caller-owned [`Outbox`].
///
/// There are four kinds of methods:
///
/// - **What has arrived**: [`handle_message`](Engine::handle_message) from a socket (or
///   [`handle_unreadable`](Engine::handle_unreadable)), [`handle_handed_over`](Engine::handle_handed_over) from another
///   shard, [`handle_receipt`](Engine::handle_receipt) for what a command asked, [`handle_shard_event`](Engine::handle_shard_event)
///   and [`handle_reading`](Engine::handle_reading) for what nobody asked, [`handle_admin`](Engine::handle_admin) from an operator,
///   [`handle_policy`](Engine::handle_policy) with other settings.
/// - **Time**: [`poll_timeout`](Engine::poll_timeout) says when [`handle_timeout`](Engine::handle_timeout) is due. `Now` never goes
///   back in `mono_ms`.
/// - **Loading**: after [`begin_loading`](Engine::begin_loading) come pages of rows by [`load_page`](Engine::load_page), the last
///   one without a limit; meanwhile all else may be called.
/// - **Looking**: [`stats`](Engine::stats), [`bindings`](Engine::bindings), [`lookup`](Engine::lookup), [`is_idle`](Engine::is_idle).
///
/// After each call that takes an `Outbox` the caller sends its transmits, in their order, and carries out its commands, in
/// their order. Of commands `Commit`, `LoadCredentials` and `Resolve` must be answered by one receipt each; the others get
/// none. Effects may be gathered over several calls before they are carried out.
#[derive(Debug)]
pub struct Engine {
    pub(crate) shared: Shared,
    pub(crate) registrar: Registrar,
    pub(crate) auth: Authenticator,
    pub(crate) admission: Admission,
    pub(crate) transactions: Transactions<Owner>,
    pub(crate) admitted: Admitted,
    pub(crate) hops: HopMonitor,
    pub(crate) pinger: NatPinger,
    pub(crate) dialogs: Dialogs,
    pub(crate) parking: Parking<Continuation>,
    pub(crate) next_tick_ms: u64,
}

/// What every part is given.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) policy: Arc<Policy>,
    pub(crate) shard: ShardId,
    pub(crate) stats: Stats,
    hasher: KeyedState,
    pub(crate) buffers: Buffers,
    responses: ResponseTexts,
    changed_agents: Vec<Box<[u8]>>,
}

impl Shared {
    pub(crate) fn ctx<'a>(&'a mut self, now: Now, out: &'a mut Outbox) -> Ctx<'a> {
        Ctx {
            identity: &self.identity,
            policy: &self.policy,
            shard: self.shard,
            now,
            out,
            stats: &mut self.stats,
            hasher: self.hasher,
            buffers: &mut self.buffers,
            responses: &self.responses,
            changed_agents: &mut self.changed_agents,
        }
    }

    /// The same for a copy of the engine that is thrown away: it counts apart.
    pub(crate) fn apart(&self) -> Shared {
        let identity = Identity { calls: self.identity.calls.apart(), ..self.identity.clone() };
        Shared {
            identity,
            policy: Arc::clone(&self.policy),
            shard: self.shard,
            stats: Stats::default(),
            hasher: self.hasher,
            buffers: Buffers::default(),
            responses: self.responses.clone(),
            changed_agents: Vec::new(),
        }
    }
}

impl Engine {
    /// A shard without bindings. `rng` seeds the labels of contact ids and the branches.
    pub fn new(config: &Config, shard: ShardId, mut rng: Rng) -> Engine {
        let Config { identity, policy } = config;
        let first_label = rng.next_u64() as u32;
        Engine {
            registrar: Registrar::new(identity, shard, first_label),
            auth: Authenticator::new(identity),
            admission: Admission::new(identity, policy),
            transactions: Transactions::new(rng.next_u64(), identity.hash_seed),
            admitted: Admitted::default(),
            hops: HopMonitor::new(&policy.routes),
            pinger: NatPinger::new(identity.hash_seed),
            dialogs: Dialogs::new(identity.hash_seed),
            parking: Parking::new(identity.hash_seed),
            shared: Shared {
                identity: identity.clone(),
                // A copy of its own: shards share no counter that they would fight for.
                policy: Arc::new(policy.clone()),
                shard,
                stats: Stats::default(),
                hasher: KeyedState::new(identity.hash_seed),
                buffers: Buffers::default(),
                responses: ResponseTexts::of(policy),
                changed_agents: Vec::new(),
            },
            next_tick_ms: 0,
        }
    }

    /// Other settings from here on; what is derived from them is made anew. What the shells have told of other nodes stays.
    pub fn handle_policy(&mut self, policy: &Policy, now: Now, out: &mut Outbox) {
        let before = &self.shared.policy;
        let has_other_rules = !Arc::ptr_eq(&policy.routes, &before.routes);
        let has_other_pike = policy.pike != before.pike;
        let (nodes_down, floating) = (Arc::clone(&before.nodes_down), Arc::clone(&before.floating));
        self.shared.policy = Arc::new(Policy { nodes_down, floating, ..policy.clone() });
        self.shared.responses = ResponseTexts::of(policy);
        if has_other_pike {
            self.admission.set_pike(&self.shared.identity, &policy.pike);
        }
        self.hops.reconsider(&mut self.shared.ctx(now, out));
        if has_other_rules && self.shared.shard == ShardId(0) {
            self.set_rules(now, out);
        }
    }

    /// Takes a row that was read at start, or says why not. Rows may come in any order.
    ///
    /// The id of an older row of the same contact, which may be deleted.
    ///
    /// # Errors
    /// [`RowError`]: skip the row and go on.
    pub fn load(&mut self, row: &Row, now: Now) -> Result<Option<u64>, RowError> {
        self.registrar.load(&self.shared.identity, row, now)
    }

    /// From here on the table is being read: [`Engine::load_page`] follows.
    pub fn begin_loading(&mut self) {
        self.registrar.begin_loading();
    }

    /// Takes rows of this shard, in the order of their ids; all rows of the table with ids below `up_to` have been given, or
    /// all (`None`). What waited for them goes on.
    pub fn load_page(&mut self, rows: &[Row], up_to: Option<u64>, now: Now, out: &mut Outbox) {
        if !self.registrar.is_loading() {
            return;
        }
        self.registrar.load_page(&mut self.shared.ctx(now, out), rows, up_to);
        let registrar = &self.registrar;
        let ready = self.parking.release_some(Topic::Rows, |then| !registrar.awaits_hash(then.hash()));
        self.resume_all(ready, now, out);
        if !self.registrar.is_loading() {
            let operators = self.parking.release(Topic::AllRows);
            self.resume_all(operators, now, out);
        }
    }

    /// How many bindings there are.
    pub fn bindings(&self) -> usize {
        self.registrar.contacts()
    }

    /// How many calls ring, or wait for that, and how many are answered.
    pub fn calls(&self) -> (usize, usize) {
        self.dialogs.counts()
    }

    /// This shard's counters.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Whether anything waits for a receipt: a stopping process lets it end first.
    pub fn is_idle(&self) -> bool {
        self.registrar.is_idle() && self.auth.is_idle()
    }

    /// The contacts of an AOR that would be called, by falling q (for tests and the simulated world).
    pub fn lookup(&self, aor: &[u8], now: Now) -> Vec<Vec<u8>> {
        self.registrar.lookup(aor, now)
    }

    /// Counts messages that a shell drops.
    pub fn count_dropped(&mut self, why: Dropped, messages: u64) {
        self.shared.stats.count_dropped(why, messages);
    }

    /// Notes how long a message has waited before it is handled, in milliseconds.
    pub fn note_age(&mut self, age_ms: u64, (bytes, head): (&[u8], &Head), out: &mut Outbox) {
        if age_ms <= self.shared.policy.exec_msg_threshold_ms {
            return;
        }
        self.shared.stats.count(Counter::Slow);
        out.tell(EventKind::Slow, || {
            let mut message = head.start_line_text(bytes).to_vec();
            if let Some(line) = head.line(HeaderName::CallId) {
                message.extend_from_slice(line.whole.of(bytes));
            }
            Event::Slow { waited_ms: age_ms, message: message.into() }
        });
    }

    /// Counts bytes that are not a SIP message.
    pub fn handle_unreadable(&mut self, error: HeadError) {
        match error {
            HeadError::KeepAlive => self.shared.stats.count(Counter::KeepAlives),
            HeadError::NotSip | HeadError::TooLarge => self.shared.stats.count_dropped(Dropped::NotSip, 1),
        }
    }

    /// Handles one received message and its index.
    pub fn handle_message(&mut self, flow: &Flow, bytes: &[u8], head: &Head, now: Now, out: &mut Outbox) {
        if head.left_out() > 0 {
            self.shared.stats.add(Counter::LinesLeftOut, u64::from(head.left_out()));
        }
        if let StartLine::Response { .. } = head.start_line() {
            self.shared.stats.count(Counter::RcvReplies);
            return self.handle_response(flow, bytes, head, now, out);
        }
        let ctx = &mut self.shared.ctx(now, out);
        ctx.count(Counter::RcvRequests);
        let (source, policy, hops) = (flow.remote.ip(), ctx.policy, &self.hops);
        let is_trusted = || hops.is_trusted(policy, source);
        if self.admission.is_unwelcome(ctx, source, head, bytes, is_trusted) {
            return;
        }
        match Request::new(policy, *flow, bytes, head) {
            Some(request) => {
                let request = request.since(now.mono_ms);
                trace::request(&request);
                self.handle_request(&request, Mark::None, now, out);
            }
            None => {
                ctx.count(Counter::BadMsgHdr);
                ctx.drop_message(Dropped::NoVia);
                tracing::debug!(source = %flow, "request without a usable Via dropped");
            }
        }
    }

    /// Handles a message that another shard handed over.
    pub fn handle_handed_over(
        &mut self,
        flow: &Flow,
        bytes: &[u8],
        head: &Head,
        mark: Mark,
        now: Now,
        out: &mut Outbox,
    ) {
        match Request::new(&self.shared.policy, *flow, bytes, head) {
            Some(request) => self.handle_request(&request.since(now.mono_ms), mark, now, out),
            None => self.handle_response(flow, bytes, head, now, out),
        }
    }

    /// The order of checks is that of OpenSIPS's original routing script. What needs no state is answered by any shard.
    fn handle_request(&mut self, request: &Request<'_>, mark: Mark, now: Now, out: &mut Outbox) {
        let ctx = &mut self.shared.ctx(now, out);
        if request.method == Method::Ack {
            if !pass_to_owner(ctx, request, mark) {
                let (shared, registrar, mut forwarder) = self.forwarding();
                handle_ack(&mut shared.ctx(now, out), registrar, &mut forwarder, request, mark);
            }
            return;
        }
        if let Some(response) = stateless_answer(ctx, self.hops.next_hops(), request) {
            return refuse(ctx, &self.registrar, request, &response.into());
        }
        let has_gone = match request.method {
            Method::Cancel => {
                let is_trusted = self.hops.is_trusted(ctx.policy, request.flow.remote.ip());
                pass_cancel(ctx, request, mark, is_trusted)
            }
            Method::Register => pass_to_owner(ctx, request, mark),
            _ => request.to_tag().is_some() && pass_to_owner(ctx, request, mark),
        };
        if has_gone {
            return;
        }
        let done = match request.method {
            Method::Cancel => {
                let (shared, registrar, mut forwarder) = self.forwarding();
                return handle_cancel(&mut shared.ctx(now, out), registrar, &mut forwarder, request, mark);
            }
            Method::Register => self.register(request, CacheAge::Fresh, now, out),
            _ if request.to_tag().is_some() => self.in_dialog(request, mark, now, out),
            _ => self.initial(request, mark, CacheAge::Fresh, now, out),
        };
        self.refuse_if_err(request, done, now, out);
    }

    /// Takes a request up where its continuation says.
    pub(crate) fn go_on(&mut self, request: &Request<'_>, then: Continuation, now: Now, out: &mut Outbox) {
        let done = match then {
            Continuation::Register(age) => self.register(request, age, now, out),
            Continuation::Save { is_read, .. } => self.save(request, is_read, now, out),
            Continuation::Initial { mark, age, .. } => self.initial(request, mark, age, now, out),
            Continuation::InDialog { mark, .. } => self.in_dialog(request, mark, now, out),
            // These have no request to go on with.
            Continuation::Admin(..)
            | Continuation::Forward { .. }
            | Continuation::ForwardAck(_)
            | Continuation::Hop(_) => Ok(()),
        };
        self.refuse_if_err(request, done, now, out);
    }

    /// An `Err` is the reply.
    fn refuse_if_err(
        &mut self,
        request: &Request<'_>,
        done: Result<(), Refusal>,
        now: Now,
        out: &mut Outbox,
    ) {
        if let Err(refusal) = done {
            refuse(&mut self.shared.ctx(now, out), &self.registrar, request, &refusal);
        }
    }

    /// What sending a request on needs, and who is registered.
    pub(crate) fn forwarding(&mut self) -> (&mut Shared, &mut Registrar, Forwarder<'_>) {
        let Engine { shared, registrar, transactions, hops, parking, dialogs, .. } = self;
        (shared, registrar, Forwarder { transactions, hops, parking, dialogs })
    }

    fn initial(
        &mut self,
        request: &Request<'_>,
        mark: Mark,
        age: CacheAge,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let Engine {
            shared, registrar, auth, admission, admitted, transactions, hops, parking, dialogs, ..
        } = self;
        let facts = &mut Facts { auth, admission, registrar, admitted };
        let forwarder = &mut Forwarder { transactions, hops, parking, dialogs };
        handle_initial(&mut shared.ctx(now, out), facts, forwarder, request, mark, age)
    }

    fn in_dialog(
        &mut self,
        request: &Request<'_>,
        mark: Mark,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let (shared, registrar, mut forwarder) = self.forwarding();
        handle_in_dialog(&mut shared.ctx(now, out), registrar, &mut forwarder, request, mark)
    }

    /// A REGISTER: who it is from, then what it changes.
    fn register(
        &mut self,
        request: &Request<'_>,
        age: CacheAge,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let ctx = &mut self.shared.ctx(now, out);
        if request.unsupported(ctx.policy.registrar.path != PathMode::Ignore).next().is_some() {
            return Err(Reason::BadExtension.into());
        }
        let realm = registrar_realm(ctx.policy, request).ok_or(Reason::ToWithoutAddress)?;
        let claimed = Claimed {
            who: request.registrant(),
            is_checked: ctx.policy.auth.check_to,
            header: HeaderName::Authorization,
            realm,
        };
        let Engine { registrar, auth, admission, hops, parking, .. } = self;
        let mut access = Access { auth, admission, registrar, hops };
        match access.authenticate(ctx, request, &claimed, age) {
            Verdict::Granted => {}
            Verdict::Refused(reason) => return Err(reason.into()),
            Verdict::Load(_) if age == CacheAge::Any => return Err(Reason::CredentialsNotLoaded.into()),
            Verdict::Load(key) => {
                let then = Continuation::Register(CacheAge::Fresh);
                let Err(busy) = wait_for_credentials(ctx, access.auth, parking, request, key, then) else {
                    return Ok(());
                };
                // The database has enough to do: what is known of the user counts, however old.
                if !matches!(access.authenticate(ctx, request, &claimed, CacheAge::Any), Verdict::Granted) {
                    return Err(busy.into());
                }
            }
        }
        self.save(request, false, now, out)
    }

    /// Carries an authorized REGISTER out.
    fn save(
        &mut self,
        request: &Request<'_>,
        is_read: bool,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let ctx = &mut self.shared.ctx(now, out);
        let (identity, topic, hash) = match self.registrar.save(ctx, request, is_read) {
            Saved::Done => return Ok(()),
            Saved::Committing { commit, identity } => {
                // Without room for it the answer is 503 should another node have been faster.
                let message = Message { identity, ..message_of(ctx, request) };
                let then = Continuation::Save { hash: 0, is_read: false };
                let _ = self.parking.wait(ctx, Topic::Again(commit), message, then);
                return Ok(());
            }
            Saved::Unread { reading, identity } => (identity, Topic::Record(reading), 0),
            Saved::Behind { commit, identity } => (identity, Topic::Commit(commit), 0),
            Saved::NotLoaded { hash, identity } => (identity, Topic::Rows, hash),
            Saved::Refused(response, record) => return Err(Refusal { record, ..response.into() }),
        };
        let message = Message { identity, ..message_of(ctx, request) };
        let then = Continuation::Save { hash, is_read: matches!(topic, Topic::Record(_)) };
        let waits = self.parking.wait(ctx, topic, message, then);
        waits.map_err(|reason| {
            ctx.count(Counter::RejectedRegs);
            reason.into()
        })
    }

    /// Handles a response: it must carry a branch that we made and nobody could guess.
    fn handle_response(&mut self, flow: &Flow, bytes: &[u8], head: &Head, now: Now, out: &mut Outbox) {
        let ctx = &mut self.shared.ctx(now, out);
        let StartLine::Response { code } = head.start_line() else { return };
        let Some(id) = branch_of(head, bytes).filter(|id| id.shard.0 < ctx.identity.shards.max(1)) else {
            return drop_response(ctx, flow);
        };
        if id.shard != ctx.shard {
            ctx.count(Counter::HandedOver);
            return ctx.out.hand_over(id.shard, *flow, bytes, Mark::None);
        }
        if id.is_ping() {
            return self.pinger.answered(ctx, id, flow);
        }
        if let Some(outcome) = self.transactions.handle_response(ctx, id, flow, code, (bytes, head)) {
            self.client_ended(&outcome, Some((bytes, head)), now, out);
        }
    }

    /// Takes what a client transaction has to say to its owner.
    fn client_ended(
        &mut self,
        outcome: &ClientOutcome,
        response: Option<Received<'_>>,
        now: Now,
        out: &mut Outbox,
    ) {
        match self.transactions.owner(outcome.transaction) {
            Some(Owner::Forward(_)) => {
                let (shared, _, mut forwarder) = self.forwarding();
                forwarder.handle_outcome(&mut shared.ctx(now, out), *outcome, response);
            }
            Some(Owner::HopPing(hop)) => {
                let is_failure = match outcome.what {
                    What::Provisional(_) | What::Late(_) => return,
                    What::Success { .. } => false,
                    What::Failure(code) => code == 408 || (500..600).contains(&code),
                    What::Silence | What::Unsent(_) => true,
                };
                let ctx = &mut self.shared.ctx(now, out);
                self.hops.ping_ended(ctx, *hop, outcome.remote, is_failure);
            }
            Some(Owner::CallPing { call, is_to_callee }) => {
                let is_lost = match outcome.what {
                    What::Provisional(_) | What::Late(_) => return,
                    What::Silence => true,
                    What::Failure(code) => matches!(code, 408 | 481),
                    What::Success { .. } | What::Unsent(_) => false,
                };
                let ctx = &mut self.shared.ctx(now, out);
                if let Some(byes) = self.dialogs.ping_ended(ctx, *call, *is_to_callee, is_lost) {
                    self.send_byes(byes, now, out);
                }
            }
            Some(Owner::Bye) | None => {}
        }
    }

    /// Tells both sides of a call that it is over.
    pub(crate) fn send_byes(&mut self, byes: [InDialog; 2], now: Now, out: &mut Outbox) {
        for bye in byes {
            self.send_in_dialog(&bye, Owner::Bye, now, out);
        }
    }

    /// Sends a request of ours inside a call.
    fn send_in_dialog(&mut self, request: &InDialog, owner: Owner, now: Now, out: &mut Outbox) {
        let ctx = &mut self.shared.ctx(now, out);
        let policy = ctx.policy;
        if let Some(flow) = request.flow() {
            let write = |branch, bytes: &mut Vec<u8>| request.write(policy, &flow, branch, bytes);
            self.transactions.open_own(ctx, owner, (request.method(), flow), T1_MS, write);
        }
    }

    /// Takes up the calls of this shard that were in progress when an earlier process ended.
    pub fn restore_calls(&mut self, calls: &[CallRecord], now: Now, out: &mut Outbox) {
        let ctx = &mut self.shared.ctx(now, out);
        calls.iter().for_each(|call| self.dialogs.restore(ctx, call));
    }

    /// Takes what another shard, or the shell that keeps the connections, has to say.
    pub fn handle_shard_event(&mut self, event: ShardEvent, now: Now, out: &mut Outbox) {
        let ctx = &mut self.shared.ctx(now, out);
        match event {
            ShardEvent::ConnectionClosed(connection) => self.registrar.connection_closed(ctx, connection),
            ShardEvent::Unsent(flow, message) => self.unsent(&flow, &message, true, now, out),
            ShardEvent::NoRoom(flow, message) => self.unsent(&flow, &message, false, now, out),
            ShardEvent::Hops(next_hops) if ctx.shard != ShardId(0) => self.hops.take(next_hops),
            ShardEvent::Hops(_) => {}
            ShardEvent::ContactMoved(moved) => self.registrar.contact_moved(&moved),
            ShardEvent::Agent(aor, step) => self.dialogs.take_agent(ctx, &aor, step),
            ShardEvent::CallStep(step) => self.dialogs.take_step(ctx, &step),
            ShardEvent::NodesDown(nodes_down) => {
                self.shared.policy = Arc::new(Policy { nodes_down, ..Policy::clone(&self.shared.policy) });
            }
            ShardEvent::Floating(floating) => {
                self.shared.policy = Arc::new(Policy { floating, ..Policy::clone(&self.shared.policy) });
                self.registrar.addresses_moved(&mut self.shared.ctx(now, out));
            }
            ShardEvent::RecordChanged { aor, version } => self.registrar.record_changed(&aor, version),
            ShardEvent::RecordFound { aor, record } => self.registrar.record_found(ctx, &aor, &record),
            ShardEvent::RecordsDoubtful => self.registrar.records_doubtful(),
            ShardEvent::Leased { until_ms } => self.registrar.leased(until_ms),
            ShardEvent::Banned(ban) => self.admission.ban(ctx, &ban),
            ShardEvent::HopHeard { hop, remote, is_failure } => {
                self.hops.heard(ctx, hop, remote, is_failure);
            }
        }
    }

    /// A message was not sent; `is_gone`: because there is no connection.
    fn unsent(&mut self, flow: &Flow, message: &[u8], is_gone: bool, now: Now, out: &mut Outbox) {
        let ctx = &mut self.shared.ctx(now, out);
        ctx.count(Counter::Unsent);
        if is_gone && flow.is_one_connection() {
            self.registrar.connection_closed(ctx, flow.connection);
        }
        let Some(id) = handle_unsent(ctx, flow, message, is_gone).filter(|id| !id.is_ping()) else { return };
        if id.shard != ctx.shard {
            let message = message.into();
            let event = match is_gone {
                true => ShardEvent::Unsent(*flow, message),
                false => ShardEvent::NoRoom(*flow, message),
            };
            return ctx.out.commands.push(Command::Tell { shard: Some(id.shard), event });
        }
        let code = if is_gone && flow.is_one_connection() { 480 } else { 477 };
        if let Some(outcome) = self.transactions.client_unsent(id, code) {
            self.client_ended(&outcome, None, now, out);
            self.transactions.close_if_done(id.transaction);
        }
    }

    /// Takes what a whole reading of the subscriber table found, see [`Reading`]. `since_ms` is when it began, in
    /// monotonic milliseconds.
    pub fn handle_reading(&mut self, reading: Reading, since_ms: u64) {
        let changed = self.auth.take_reading(self.shared.identity.use_domain, reading, since_ms);
        self.admission.unban_users(&changed);
    }

    /// When [`handle_timeout`](Engine::handle_timeout) is due, in monotonic milliseconds.
    pub fn poll_timeout(&self) -> u64 {
        let next_ms = self.next_tick_ms.min(self.pinger.next_ms());
        self.transactions.next_due().map_or(next_ms, |due| due.min(next_ms))
    }

    /// Does what timers are due, sweeps a part of the bindings and gives up on what does not come.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        while let Some(alarm) = self.transactions.pop_alarm(now.mono_ms) {
            if let Some(outcome) = self.transactions.handle_alarm(&mut self.shared.ctx(now, out), alarm) {
                self.client_ended(&outcome, None, now, out);
            }
            self.transactions.close_if_done(alarm.transaction);
        }
        if now.mono_ms >= self.pinger.next_ms() {
            self.ping(now, out);
        }
        self.tell_agents(now, out);
        if now.mono_ms < self.next_tick_ms {
            return;
        }
        self.next_tick_ms = now.mono_ms + TICK_MS;
        self.registrar.sweep(&mut self.shared.ctx(now, out));
        self.registrar.repair(&mut self.shared.ctx(now, out));
        for ping in self.dialogs.sweep(&mut self.shared.ctx(now, out)) {
            let owner = Owner::CallPing { call: ping.number, is_to_callee: ping.is_to_callee };
            self.send_in_dialog(&ping.request, owner, now, out);
        }
        self.give_up(now, out);
        let due = self.hops.due(&mut self.shared.ctx(now, out));
        self.watch_hops(due, now, out);
    }

    /// Tells what extensions are doing that may be doing something else since the last call.
    fn tell_agents(&mut self, now: Now, out: &mut Outbox) {
        if self.shared.changed_agents.is_empty() {
            return;
        }
        let mut agents = std::mem::take(&mut self.shared.changed_agents);
        agents.sort_unstable();
        agents.dedup();
        for aor in agents {
            let (calls, is_reached) = (self.dialogs.calls_of(&aor), self.registrar.is_reached(&aor, now));
            out.tell(EventKind::Agent, || Event::Agent { aor, calls, is_reached });
        }
    }

    fn ping(&mut self, now: Now, out: &mut Outbox) {
        let ctx = &mut self.shared.ctx(now, out);
        for (record, contact_id) in self.pinger.step(ctx, &self.registrar) {
            self.registrar.remove_unanswering(ctx, record, contact_id);
        }
    }

    /// The policy's rules count from here on.
    pub(crate) fn set_rules(&mut self, now: Now, out: &mut Outbox) {
        let rules = Arc::clone(&self.shared.policy.routes);
        let names = self.hops.set_rules(&mut self.shared.ctx(now, out), &rules);
        self.look_hops_up(names, now, out);
    }

    fn look_hops_up(&mut self, names: Vec<(HopId, Name)>, now: Now, out: &mut Outbox) {
        let ctx = &mut self.shared.ctx(now, out);
        for (hop, name) in names {
            let ticket = self.parking.wait_for_name(ctx, None, Continuation::Hop(hop));
            ctx.out.commands.push(Command::Resolve { ticket, name });
        }
    }

    fn watch_hops(&mut self, due: Due, now: Now, out: &mut Outbox) {
        self.look_hops_up(due.names, now, out);
        let ctx = &mut self.shared.ctx(now, out);
        for ping in due.pings {
            let call = self.transactions.fresh_secret(ctx, Ticket(u64::MAX));
            let policy = ctx.policy;
            let write = |branch, bytes: &mut Vec<u8>| ping.write(policy, branch, call, bytes);
            let owner = Owner::HopPing(ping.hop);
            self.transactions.open_own(ctx, owner, (Method::Options, ping.flow), PING_RESEND_MS, write);
            ctx.count(Counter::Pings);
        }
    }
}
