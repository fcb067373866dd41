//! One shard: its whole state, and the only code that decides anything.
//!
//! No socket, no clock, no lock: bytes, time and receipts come in as arguments, effects go out through the
//! [`Outbox`] in the order in which they should happen.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher as _};
use std::sync::Arc;

use crate::base::hash::KeyedState;
use hashbrown::HashTable;
use roost_sip::{Head, HeadError, HeaderName, Method, Scheme, StartLine};

use crate::Config;
use crate::admission::bans::Guard;
use crate::admission::pike::Pike;
use crate::auth::authenticator::{Claimed, UserKey, Verdict};
use crate::auth::credentials::CredentialCache;
use crate::auth::nonce::NonceUses;
use crate::base::flow::{Flow, Now, Rng, ShardId, Ticket};
use crate::base::limits;
use crate::base::stats::{Counter, Stats};
use crate::base::tickets::Slots;
use crate::contract::contact_id;
use crate::contract::next_hops::Dispatcher;
use crate::contract::outbox::{Command, Mark, Outbox, Outcome, Reading, Secrets, SubscriberRow};
use crate::contract::row::{Row, Write};
use crate::dispatch::monitor::Keeper;
use crate::message::path::is_path;
use crate::message::request::{Request, To};
use crate::message::response::{Answer, Stationery, write_contacts};
use crate::message::trace;
use crate::operator::Admin;
use crate::proxy::admitted::Recent;
use crate::proxy::next_hop::Resolving;
use crate::registrar::binding::Binding;
use crate::registrar::loading::Unread;
use crate::registrar::location::{Location, RecordId, Swept};
use crate::registrar::plan::Changes;
use crate::registrar::save::names_contact;
use crate::transaction::pool::Pool;
use crate::transaction::timers::Timers;
use crate::transaction::transactions::Transaction;

/// How often [`Engine::handle_timeout`] wants to be called, in milliseconds.
const TICK_MS: u64 = 1_000;

/// One shard of the registrar.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: Arc<Config>,
    pub(crate) shard: ShardId,
    pub(crate) location: Location<Waiting>,
    pub(crate) secrets: CredentialCache,
    pub(crate) nonces: NonceUses,
    pub(crate) guard: Guard,
    pub(crate) pike: Option<Pike>,
    pub(crate) pending: Slots<Pending>,
    /// The users whose credentials are being loaded.
    loading: hashbrown::HashMap<Box<[u8]>, Ticket, KeyedState>,
    /// Requests that wait, and their bytes.
    pub(crate) parked: usize,
    parked_bytes: usize,
    /// The users that were forgotten last and when, in monotonic milliseconds.
    forgotten: VecDeque<(Box<[u8]>, u64)>,
    /// AORs with a doubt, to be told to the database again.
    pub(crate) doubtful: VecDeque<Box<[u8]>>,
    /// What of the table is not read yet, at start.
    pub(crate) unread: Option<Box<Unread>>,
    pub(crate) stats: Stats,
    pub(crate) stationery: Stationery,
    pub(crate) hasher: KeyedState,
    /// The records whose bindings were made over a connection, and perhaps others that were once.
    pub(crate) connections: hashbrown::HashMap<u64, hashbrown::HashSet<RecordId, KeyedState>, KeyedState>,
    /// The last label given to an AOR, see [`contact_id`].
    pub(crate) next_label: u32,
    pub(crate) scratch: Vec<u8>,
    pub(crate) transactions: Slots<Transaction>,
    /// Transactions by what a retransmission repeats, see [`crate::transaction::transactions::server_key`].
    pub(crate) server_index: HashTable<(u64, Ticket)>,
    pub(crate) pool: Pool,
    pub(crate) recent: Recent,
    pub(crate) timers: Timers,
    pub(crate) key_scratch: Vec<u8>,
    pub(crate) message_scratch: Vec<u8>,
    /// Makes the branches of this process's life unlike those of the one before.
    pub(crate) salt: u64,
    /// Where numbers go that are no extensions.
    pub(crate) dispatcher: Arc<Dispatcher>,
    /// How often each of its hops was the first choice here.
    pub(crate) hits: Vec<u64>,
    pub(crate) keeper: Keeper,
    /// What waits for names, and since when, in monotonic milliseconds.
    pub(crate) resolving: Slots<(u64, Resolving)>,
    pub(crate) branches_made: u64,
    head: Option<Box<Head>>,
    next_tick_ms: u64,
}

/// Work that a receipt will end.
#[derive(Debug)]
pub(crate) enum Pending {
    /// `is_stale`: the user was changed meanwhile, the answer counts for nothing.
    Credentials {
        key: Box<UserKey>,
        since_ms: u64,
        waiting: Vec<Parked>,
        is_stale: bool,
    },
    Commit {
        record: RecordId,
        identity: u64,
        changes: Changes,
        done: Done,
    },
    /// A commit of nothing, behind all others; `ticket` is the operator's.
    Flush {
        ticket: Ticket,
    },
}

/// What follows a commit.
#[derive(Debug)]
pub(crate) enum Done {
    /// The 200, ready to leave; up to `head_end` a 500 would say the same.
    Reply {
        flow: Flow,
        reply: Vec<u8>,
        head_end: usize,
    },
    Admin(Ticket),
    /// The database was told again what a failed commit left in doubt.
    Repair,
}

/// What waits behind an AOR's commit.
#[derive(Debug)]
pub(crate) enum Waiting {
    Register(Parked),
    Admin(Ticket, Admin),
}

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) flow: Flow,
    pub(crate) bytes: Box<[u8]>,
    /// What a retransmission of it shares.
    pub(crate) identity: u64,
    /// What was known of it.
    pub(crate) mark: Mark,
}

/// Why a row of the database was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum RowError {
    /// It has expired; its row may go.
    #[error("expired")]
    Expired,
    /// With `use_domain`, a row without a domain belongs to nobody.
    #[error("no domain, but use_domain is set")]
    NoDomain,
    /// The contact is no URI.
    #[error("the contact is no URI")]
    Contact,
    /// The path is no Path: nobody knows how to reach the contact.
    #[error("the path is no list of SIP routes that begins with a loose router")]
    Path,
    /// A newer row has the same contact.
    #[error("a second row of the same contact")]
    Twice,
}

impl Engine {
    /// A shard without bindings. `rng` seeds the labels of contact ids.
    pub fn new(config: Arc<Config>, shard: ShardId, mut rng: Rng) -> Engine {
        // A copy of its own: workers share no counter that they would fight for.
        let config = Arc::new(Config::clone(&config));
        let shards = usize::from(config.shards.max(1));
        let dispatcher = Dispatcher::new(config.routes.clone(), 0);
        Engine {
            shard,
            location: Location::new(config.hash_seed),
            secrets: CredentialCache::new(limits::MAX_SECRETS / shards, config.hash_seed),
            nonces: NonceUses::new(config.hash_seed),
            guard: Guard::new(config.hash_seed),
            pike: Pike::new(
                config.pike.reqs_density_per_unit,
                config.pike.sampling_time_unit_s,
                config.hash_seed,
            ),
            pending: Slots::default(),
            loading: hashbrown::HashMap::with_hasher(KeyedState::new(config.hash_seed)),
            parked: 0,
            parked_bytes: 0,
            forgotten: VecDeque::new(),
            doubtful: VecDeque::new(),
            unread: None,
            stats: Stats::default(),
            stationery: Stationery::new(&config),
            hasher: KeyedState::new(config.hash_seed),
            connections: hashbrown::HashMap::with_hasher(KeyedState::new(config.hash_seed)),
            next_label: rng.next_u64() as u32,
            scratch: Vec::new(),
            transactions: Slots::default(),
            server_index: HashTable::new(),
            pool: Pool::default(),
            recent: Recent::default(),
            timers: Timers::default(),
            key_scratch: Vec::new(),
            message_scratch: Vec::new(),
            salt: rng.next_u64(),
            hits: vec![0; dispatcher.hops.len()],
            dispatcher: Arc::new(dispatcher),
            keeper: Keeper::default(),
            resolving: Slots::default(),
            branches_made: 0,
            head: Some(Head::new()),
            next_tick_ms: 0,
            config,
        }
    }

    /// Takes a row that was read at start, or says why not. Rows may come in any order.
    ///
    /// The id of an older row of the same contact, which may be deleted.
    ///
    /// # Errors
    /// [`RowError`]: skip the row and go on.
    pub fn load(&mut self, row: &Row, now: Now) -> Result<Option<u64>, RowError> {
        if row.expires != 0 && row.expires <= now.unix_s {
            return Err(RowError::Expired);
        }
        let uri = roost_sip::Uri::parse(&row.contact).map_err(|_| RowError::Contact)?;
        if row.path.as_deref().is_some_and(|path| !path.is_empty() && !is_path(path)) {
            return Err(RowError::Path);
        }
        let aor = self.aor_of(row)?;
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

    /// The AOR that a row belongs to.
    pub(crate) fn aor_of(&self, row: &Row) -> Result<Vec<u8>, RowError> {
        let mut aor = row.username.to_vec();
        if !self.config.registrar.case_sensitive {
            aor.make_ascii_lowercase();
        }
        if self.config.use_domain {
            let domain = row.domain.as_deref().filter(|domain| !domain.is_empty());
            aor.push(b'@');
            aor.extend(domain.ok_or(RowError::NoDomain)?.iter().map(u8::to_ascii_lowercase));
        }
        Ok(aor)
    }

    /// How many bindings there are.
    pub fn bindings(&self) -> usize {
        self.location.contacts()
    }

    /// This shard's counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Whether anything waits for a receipt: a stopping process lets it end first.
    pub fn is_idle(&self) -> bool {
        self.pending.len() == 0
    }

    /// The contacts of an AOR that would be called, by falling q (for tests and the simulated world).
    pub fn lookup(&self, aor: &[u8], now: Now) -> Vec<Vec<u8>> {
        let record = self.location.find(aor).and_then(|id| self.location.get(id));
        let live = record.into_iter().flat_map(|record| record.live(now));
        live.filter(|binding| binding.takes(Method::Invite))
            .map(|binding| binding.contact().to_vec())
            .collect()
    }

    /// Counts what has become of messages before they reached an engine.
    pub fn count(&mut self, counter: Counter, messages: u64) {
        self.stats.add(counter, messages);
    }

    /// Counts bytes that are no SIP message.
    pub fn handle_unreadable(&mut self, error: HeadError) {
        match error {
            HeadError::KeepAlive => self.stats.count(Counter::KeepAlives),
            HeadError::NotSip | HeadError::TooLarge => self.stats.count(Counter::NotSip),
        }
    }

    /// Handles one received message and its index.
    pub fn handle_message(&mut self, flow: &Flow, bytes: &[u8], head: &Head, now: Now, out: &mut Outbox) {
        match head.start_line() {
            StartLine::Response { .. } => {
                self.stats.count(Counter::RcvReplies);
                self.handle_response(flow, bytes, head, now, out);
            }
            StartLine::Request { .. } => {
                self.stats.count(Counter::RcvRequests);
                if self.is_unwelcome(flow, bytes, head, now) {
                    self.stats.count(Counter::DropRequests);
                    return;
                }
                match Request::new(*flow, bytes, head) {
                    Some(request) => {
                        trace::request(&request);
                        self.handle_request(&request, Mark::None, now, out);
                    }
                    None => {
                        self.stats.count(Counter::BadMsgHdr);
                        self.stats.count(Counter::DropRequests);
                        tracing::debug!(source = %flow, "request without a usable Via dropped");
                    }
                }
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
        match Request::new(*flow, bytes, head) {
            Some(request) => self.handle_request(&request, mark, now, out),
            None => self.handle_response(flow, bytes, head, now, out),
        }
    }

    /// The order of checks is that of the original routing script. What needs no state is answered by any shard.
    fn handle_request(&mut self, request: &Request<'_>, mark: Mark, now: Now, out: &mut Outbox) {
        if request.method == Method::Ack {
            if !self.pass_to_owner(request, mark, out) {
                self.handle_ack(request, mark, now, out);
            }
            return;
        }
        if let Err(answer) = request.check() {
            self.stats.count(Counter::ErrRequests);
            if request.target.is_err() {
                self.stats.count(Counter::BadUrisRcvd);
            }
            return self.refuse(request, answer, None, now, out);
        }
        let is_in_dialog = request.to_tag().is_some();
        let answer = match request.method {
            _ if !is_in_dialog && request.target.as_ref().is_ok_and(|uri| uri.scheme == Scheme::Other) => {
                Answer::new(416, "Unsupported URI Scheme")
            }
            _ if request.is_too_many_hops() => Answer::new(483, "Too Many Hops"),
            Method::Options if request.unsupported(false).next().is_some() => Answer::bad_extension(),
            Method::Options => Answer::new(200, "OK"),
            Method::Register if is_in_dialog => Answer::new(404, "Not here"),
            Method::Publish | Method::Subscribe if !is_in_dialog => Answer::new(405, "Method Not Allowed"),
            Method::Register if self.pass_to_owner(request, mark, out) => return,
            Method::Register => return self.handle_register(request, false, now, out),
            Method::Cancel if self.pass_cancel(request, mark, out) => return,
            Method::Cancel => return self.handle_cancel(request, mark, now, out),
            _ if is_in_dialog => {
                if !self.pass_to_owner(request, mark, out) {
                    self.handle_in_dialog(request, mark, now, out);
                }
                return;
            }
            _ => return self.handle_initial(request, mark, false, now, out),
        };
        self.refuse(request, answer, None, now, out);
    }

    /// Hands a request to the shard that its key names; true when it has gone.
    pub(crate) fn pass_to_owner(&mut self, request: &Request<'_>, mark: Mark, out: &mut Outbox) -> bool {
        let shard = shard_of_uri(&self.config, request.shard_key());
        let goes = mark == Mark::None && shard != self.shard;
        if goes {
            self.hand_over(request, shard, Mark::None, out);
        }
        goes
    }

    /// `retry` says that the database was asked about this user and did not answer.
    fn handle_register(&mut self, request: &Request<'_>, retry: bool, now: Now, out: &mut Outbox) {
        if request.unsupported(self.stationery.knows_path).next().is_some() {
            return self.refuse(request, Answer::bad_extension(), None, now, out);
        }
        let to = request.to();
        let Some(realm) = self.realm(to) else {
            let answer = Answer::new(403, "Forbidden").why("To names no SIP address");
            return self.refuse(request, answer, None, now, out);
        };
        let (config, fixed) = (Arc::clone(&self.config), realm.is_none());
        let realm = match realm {
            Some(host) if !fixed => host,
            _ => config.auth.realm.as_bytes(),
        };
        let claimed = Claimed {
            identity: to,
            is_checked: self.config.auth.check_to,
            header: HeaderName::Authorization,
            realm,
        };
        match self.authorize(request, claimed, retry, now, out) {
            Verdict::Granted => self.save(request, to, now, out),
            Verdict::Refused(answer) => self.refuse(request, answer, None, now, out),
            Verdict::Load(_) if retry => {
                let answer = Answer::new(500, "Server Internal Error").why("the database did not answer");
                self.refuse(request, answer, None, now, out);
            }
            Verdict::Load(key) => {
                if let Err(busy) = self.load_credentials(request, key, Mark::None, now, out) {
                    // The database has enough to do: what is known of the user counts, however old.
                    match self.authorize(request, claimed, true, now, out) {
                        Verdict::Granted => self.save(request, to, now, out),
                        _ => self.refuse(request, busy, None, now, out),
                    }
                }
            }
        }
    }

    /// The realm of a REGISTER: `Some(None)` stands for the configured one, `None` for no realm at all.
    #[expect(clippy::option_option, reason = "configured, taken from To, or none")]
    fn realm<'a>(&self, to: Option<To<'a>>) -> Option<Option<&'a [u8]>> {
        match self.config.auth.realm.is_empty() {
            true => to.map(|to| Some(to.host)),
            false => Some(None),
        }
    }

    /// Parks a request until the database has answered; one question per user is under way at a time.
    pub(crate) fn load_credentials(
        &mut self,
        request: &Request<'_>,
        key: UserKey,
        mark: Mark,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Answer> {
        let identity = self.request_identity(request);
        let under_way = self.loading.get(key.text()).copied();
        if let Some(Pending::Credentials { waiting, .. }) =
            under_way.and_then(|ticket| self.pending.get_mut(ticket))
        {
            if waiting.iter().any(|parked| parked.identity == identity) {
                self.stats.count(Counter::Absorbed);
                return Ok(());
            }
            if waiting.len() >= limits::MAX_WAITING_PER_AOR {
                self.stats.count(Counter::WaitingFull);
                return Err(Answer::busy("too many requests wait for this user's credentials"));
            }
        } else if self.secrets.is_stranger(key.text()) && !self.guard.takes_stranger(now) {
            self.stats.count(Counter::StrangersFull);
            return Err(Answer::busy("too many names that nobody knows are looked up"));
        } else if self.loading.len() >= limits::MAX_LOADING {
            self.stats.count(Counter::LoadingFull);
            return Err(Answer::busy("too many users wait for their credentials"));
        }
        let parked = Parked { mark, ..self.park(request, identity)? };
        if let Some(Pending::Credentials { waiting, .. }) =
            under_way.and_then(|ticket| self.pending.get_mut(ticket))
        {
            waiting.push(parked);
            return Ok(());
        }
        self.stats.count(Counter::CredentialLoads);
        let (user, domain) = (key.user().into(), key.domain().map(Into::into));
        let text = key.text().into();
        let ticket = self.pending.insert(Pending::Credentials {
            key: Box::new(key),
            since_ms: now.mono_ms,
            waiting: vec![parked],
            is_stale: false,
        });
        self.loading.insert(text, ticket);
        out.commands.push(Command::LoadCredentials { ticket, user, domain });
        Ok(())
    }

    /// What a retransmission repeats.
    pub(crate) fn request_identity(&self, request: &Request<'_>) -> u64 {
        self.hasher.hash_one((request.mac(&self.config.mac_key), request.flow.remote))
    }

    pub(crate) fn park(&mut self, request: &Request<'_>, identity: u64) -> Result<Parked, Answer> {
        let bytes = self.parked_bytes + request.bytes.len();
        if self.parked >= limits::MAX_PARKED || bytes > limits::MAX_PARKED_BYTES {
            self.stats.count(Counter::ParkedFull);
            return Err(Answer::busy("too many requests wait"));
        }
        self.parked += 1;
        self.parked_bytes = bytes;
        Ok(Parked { flow: request.flow, bytes: request.bytes.into(), identity, mark: Mark::None })
    }

    /// Takes a request that waited up again.
    pub(crate) fn unpark(&mut self, parked: &Parked, use_: impl FnOnce(&mut Engine, &Request<'_>)) {
        self.parked = self.parked.saturating_sub(1);
        self.parked_bytes = self.parked_bytes.saturating_sub(parked.bytes.len());
        self.with_head(&parked.bytes, |engine, head| {
            if let Some(request) = Request::new(parked.flow, &parked.bytes, head) {
                use_(engine, &request);
            }
        });
    }

    /// Handles the answer to a command. A ticket that is not known any more is passed over.
    pub fn handle_receipt(&mut self, ticket: Ticket, outcome: Outcome, now: Now, out: &mut Outbox) {
        if let Outcome::Resolved(places) = outcome {
            return self.resolved(ticket, &places, now, out);
        }
        match self.pending.remove(ticket) {
            Some(Pending::Commit { record, changes, done, .. }) => match outcome {
                Outcome::Committed => self.committed(record, changes, done, now, out),
                Outcome::Occupied => self.commit_occupied(record, done, now, out),
                Outcome::Failed(error) => {
                    tracing::debug!(error, "commit failed");
                    self.commit_failed(record, &changes, done, now, out);
                }
                Outcome::Credentials(_) | Outcome::Resolved(_) => {
                    self.commit_failed(record, &changes, done, now, out)
                }
            },
            Some(Pending::Flush { ticket }) => {
                self.admin_done(ticket, matches!(outcome, Outcome::Committed), out)
            }
            Some(Pending::Credentials { key, since_ms, waiting, is_stale: true }) => {
                let (user, domain) = (key.user().into(), key.domain().map(Into::into));
                let text = key.text().into();
                let again = Pending::Credentials { key, since_ms, waiting, is_stale: false };
                let ticket = self.pending.insert(again);
                self.loading.insert(text, ticket);
                out.commands.push(Command::LoadCredentials { ticket, user, domain });
            }
            Some(Pending::Credentials { key, waiting, .. }) => {
                self.loading.remove(key.text());
                let failed = match outcome {
                    Outcome::Credentials(secrets) => {
                        self.put_secrets(&key, secrets, now);
                        false
                    }
                    Outcome::Failed(error) => {
                        tracing::debug!(error, "credentials not loaded");
                        true
                    }
                    Outcome::Committed | Outcome::Occupied | Outcome::Resolved(_) => true,
                };
                for parked in waiting {
                    self.resume(&parked, failed, now, out);
                }
            }
            None => {}
        }
    }

    /// Takes what a whole reading of the subscriber table found, see [`Reading`]. `since_ms` is when it began, in
    /// monotonic milliseconds.
    pub fn handle_reading(&mut self, reading: Reading, since_ms: u64) {
        match reading {
            Reading::Rows(rows) => {
                let mut changed = Vec::new();
                for SubscriberRow { user, domain, secrets } in rows {
                    let use_domain = self.config.use_domain;
                    // A name with an `@` of its own is looked up when somebody uses it.
                    if user.contains(&b'@') {
                        continue;
                    }
                    let Some(key) = UserKey::new(&user, &domain, use_domain) else { continue };
                    // A row that was changed while the table was read may be the old one.
                    let was_forgotten =
                        self.forgotten.iter().any(|(user, ms)| *ms >= since_ms && **user == *key.text());
                    if !was_forgotten && self.secrets.put_read(key.text(), &secrets, since_ms) {
                        changed.push(key);
                    }
                }
                self.guard.unban_users(&changed);
            }
            Reading::SomeGone => self.secrets.some_gone(),
            Reading::Done => self.secrets.all_read(since_ms),
        }
    }

    /// Forgets what the database said of a user, and what it is about to say.
    pub(crate) fn forget_credentials(&mut self, key: &UserKey, now: Now) {
        if self.forgotten.len() == limits::MAX_FORGOTTEN {
            self.stats.count(Counter::ForgottenEvicted);
            self.forgotten.pop_front();
        }
        self.forgotten.push_back((key.text().into(), now.mono_ms));
        self.guard.unban_users(std::slice::from_ref(key));
        self.secrets.forget(key.text());
        let under_way = self.loading.get(key.text()).copied();
        if let Some(Pending::Credentials { is_stale, .. }) =
            under_way.and_then(|ticket| self.pending.get_mut(ticket))
        {
            *is_stale = true;
        }
    }

    /// Forgets what the database said of anybody, and what it is about to say.
    pub(crate) fn forget_all_credentials(&mut self, now: Now) {
        self.secrets.clear(now.mono_ms);
        for ticket in self.loading.values() {
            if let Some(Pending::Credentials { is_stale, .. }) = self.pending.get_mut(*ticket) {
                *is_stale = true;
            }
        }
    }

    fn put_secrets(&mut self, key: &UserKey, secrets: Option<Secrets>, now: Now) {
        if self.secrets.put(key.text(), secrets, now.mono_ms) {
            self.guard.unban_users(std::slice::from_ref(key));
        }
    }

    fn resume(&mut self, parked: &Parked, retry: bool, now: Now, out: &mut Outbox) {
        self.unpark(parked, |engine, request| match request.method {
            Method::Register => engine.handle_register(request, retry, now, out),
            _ => engine.handle_initial(request, parked.mark, retry, now, out),
        });
    }

    /// Indexes parked bytes again. The engine keeps one head for that; a nested use makes its own.
    pub(crate) fn with_head(&mut self, bytes: &[u8], use_: impl FnOnce(&mut Engine, &Head)) {
        let mut head = self.head.take().unwrap_or_default();
        if head.parse(bytes).is_ok() {
            use_(self, &head);
        }
        self.head = Some(head);
    }

    /// When [`handle_timeout`](Engine::handle_timeout) is due, in monotonic milliseconds.
    pub fn poll_timeout(&self) -> u64 {
        self.timers.next_due().map_or(self.next_tick_ms, |due| due.min(self.next_tick_ms))
    }

    /// Does what timers are due, sweeps a part of the bindings and gives up on credentials that do not come.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        while let Some(alarm) = self.timers.pop_due(now.mono_ms) {
            self.handle_alarm(alarm, now, out);
        }
        if now.mono_ms < self.next_tick_ms {
            return;
        }
        self.next_tick_ms = now.mono_ms + TICK_MS;
        let interval = self.config.usrloc.timer_interval_s.max(1) as usize;
        let mut swept = Swept::default();
        self.location.sweep(self.location.places() / interval + 1, now, &mut swept);
        self.stats.add(Counter::LocationExpires, swept.contact_ids.len() as u64);
        if self.config.usrloc.write_through && !swept.contact_ids.is_empty() {
            // A second of grace: the two clocks do not turn over together.
            let expires_by = now.unix_s + 1;
            let purge = |contact_id| Write::Purge { contact_id, expires_by };
            out.commands.push(Command::Purge { writes: swept.contact_ids.into_iter().map(purge).collect() });
        }
        self.repair(now, out);
        self.give_up(now, out);
        self.give_up_load(now, out);
        self.give_up_names(now, out);
        self.keep_hops(now, out);
    }

    fn give_up(&mut self, now: Now, out: &mut Outbox) {
        if self.loading.is_empty() {
            return;
        }
        let is_late = |pending: &Pending| matches!(pending, Pending::Credentials { since_ms, .. } if since_ms + limits::PARKED_MS <= now.mono_ms);
        for ticket in self.pending.tickets(is_late) {
            self.stats.count(Counter::CredentialsLate);
            self.handle_receipt(ticket, Outcome::Failed("no answer".to_string()), now, out);
        }
    }

    /// Answers with anything but a REGISTER's 200, without a transaction.
    pub(crate) fn refuse(
        &mut self,
        request: &Request<'_>,
        answer: Answer,
        record: Option<RecordId>,
        now: Now,
        out: &mut Outbox,
    ) {
        let config = Arc::clone(&self.config);
        let realm = self.realm(request.to()).flatten().unwrap_or(config.auth.realm.as_bytes());
        self.write_answer(request, answer, record, realm, now, out);
    }

    /// The same with a challenge for a realm.
    pub(crate) fn refuse_with_realm(
        &mut self,
        request: &Request<'_>,
        answer: Answer,
        realm: &[u8],
        now: Now,
        out: &mut Outbox,
    ) {
        self.write_answer(request, answer, None, realm, now, out);
    }

    fn write_answer(
        &mut self,
        request: &Request<'_>,
        answer: Answer,
        record: Option<RecordId>,
        realm: &[u8],
        now: Now,
        out: &mut Outbox,
    ) {
        trace::answer(request, &answer);
        self.count_reply(answer.code);
        if answer.challenge.is_some() {
            self.stats.count(Counter::Challenges);
        }
        out.send(request.reply_flow(), |bytes| {
            self.stationery.write_head(request, answer.code, answer.reason, bytes);
            if answer.with_contacts
                && let Some(record) = record.and_then(|id| self.location.get(id))
            {
                let only_named = self.config.registrar.only_request_contacts;
                let is_listed = |binding: &&Binding| !only_named || names_contact(request, binding);
                write_contacts(record.live(now).filter(is_listed), now, bytes);
            }
            if let Some(challenge) = answer.challenge {
                self.stationery.write_challenge(request, realm, challenge, now, bytes);
            }
            self.stationery.write_refusal(request, &answer, bytes);
            self.stationery.write_tail(bytes);
        });
    }

    pub(crate) fn count_reply(&mut self, code: u16) {
        self.stats.count(Counter::SentReplies);
        self.stats.count(match code / 100 {
            1 => Counter::Replies1xx,
            2 => Counter::Replies2xx,
            3 => Counter::Replies3xx,
            4 => Counter::Replies4xx,
            5 => Counter::Replies5xx,
            _ => Counter::Replies6xx,
        });
        if code >= 300 {
            self.stats.count(Counter::SentErrReplies);
        }
    }
}

/// The shard of a URI's user, with its escapes.
pub(crate) fn shard_of_uri(config: &Config, user: &[u8]) -> ShardId {
    if config.shards <= 1 {
        return ShardId(0);
    }
    if !user.contains(&b'%') {
        return shard_of(config, user);
    }
    let mut plain = Vec::with_capacity(user.len());
    roost_sip::unescape_into(user, &mut plain);
    shard_of(config, &plain)
}

/// The shard that a user's bindings live in: a pure function of the user as rows have it, never of its domain.
pub fn shard_of(config: &Config, user: &[u8]) -> ShardId {
    if config.shards <= 1 {
        return ShardId(0);
    }
    let mut hasher = KeyedState::new(config.hash_seed).build_hasher();
    for byte in user {
        hasher.write_u8(if config.registrar.case_sensitive { *byte } else { byte.to_ascii_lowercase() });
    }
    let hash = hasher.finish();
    ShardId((hash % u64::from(config.shards)) as u16)
}
