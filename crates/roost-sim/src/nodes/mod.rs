//! Several nodes that share bindings, in virtual time: a store that is slow, fails, loses its answers; nodes that are cut off from it,
//! crash, or stop for half a minute and go on with what they believed; clocks that differ. Phones wander between nodes.
//!
//! What must hold: a 200 is given for what the store has; of an extension under the Occupied rule there are never two places; a CSeq
//! never goes back; a call visits no node twice and comes to an end; when all is well again, everybody registers, everybody knows it,
//! each extension rings whatever node it is called at, and no call is left.

mod calls;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use roost_core::{
    Admin, AdminReply, Command, CommitOutcome, Config, Engine, Flow, Listener, Node, Now, Outbox, PackedRow,
    Planned, Reading, Receipt, ShardEvent, ShardId, ShownExpires, StoredRecord, Ticket, Transport, Trusted,
    Write,
};
use roost_sip::Head;

use crate::client::{Ask, Client, Reply};
use crate::dice::Dice;
use crate::event_queue::EventQueue;
use crate::harness::{PASSWORD, REALM, subscriber};
use crate::nodes::calls::{Calls, GATEWAY};

pub use store::Store;

const NODES: usize = 3;
const EXTENSIONS: u32 = 3;
/// Phones of an extension: two at one address, one elsewhere.
const PHONES: usize = 3;
/// How long faults happen, and when all is looked at, in milliseconds.
const FAULTS_MS: u64 = 240_000;
const HEALED_MS: u64 = FAULTS_MS + 150_000;
const END_MS: u64 = HEALED_MS + 60_000;
/// How long a node waits for the store, and a phone for an answer.
const PATIENCE_MS: u64 = 2_000;
const ANSWER_MS: u64 = 4_000;
/// Clocks differ by so many seconds at most, each way.
const SKEW_S: u64 = 2;
/// Unix time at the beginning.
const BEGIN_S: u64 = 1_800_000_000;
/// Monotonic time at the beginning.
const BEGIN_MS: u64 = 1 << 40;
/// How long a node counts as there that the store has not heard of.
const LEASE_MS: u64 = 5_000;
/// How old what is known of a record may be where the store tells nobody of changes.
const STALENESS_MS: u64 = 1_000;

/// What is told to a node however often it was started anew.
const ANY_LIFE: u32 = u32::MAX;

/// How a world is played.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The store takes every change, whatever it was planned against: a fault that the world must find.
    pub last_writer_wins: bool,
    /// A version that was lost with a primary is given again: a fault that the world must find.
    pub versions_again: bool,
    pub trace: bool,
}

/// What happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    pub registers: u64,
    pub accepted: u64,
    pub refused: u64,
    pub conflicts: u64,
    pub crashes: u64,
    pub freezes: u64,
    pub cuts: u64,
    pub lost_answers: u64,
    pub failovers: u64,
    /// Ways between two nodes that were lost for a while.
    pub partitions: u64,
    pub calls: u64,
    pub rang: u64,
    /// Of these, at a phone of another node.
    pub across: u64,
}

impl Report {
    /// Adds another world's.
    pub fn add(&mut self, other: &Report) {
        self.registers += other.registers;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.conflicts += other.conflicts;
        self.crashes += other.crashes;
        self.freezes += other.freezes;
        self.cuts += other.cuts;
        self.lost_answers += other.lost_answers;
        self.failovers += other.failovers;
        self.partitions += other.partitions;
        self.calls += other.calls;
        self.rang += other.rang;
        self.across += other.across;
    }
}

enum Event {
    /// A phone does something.
    Act(usize),
    /// A message arrives at a node.
    Arrive {
        node: usize,
        flow: Flow,
        bytes: Vec<u8>,
    },
    /// Or at a phone, from a node.
    Answer {
        phone: usize,
        node: usize,
        bytes: Vec<u8>,
    },
    /// The gateway calls an extension at a node, because all is looked at or by chance.
    Call {
        extension: u32,
        node: usize,
        must_ring: bool,
    },
    /// Or hears of a call from a node.
    Gateway {
        node: usize,
        bytes: Vec<u8>,
    },
    Commit {
        node: usize,
        life: u32,
        ticket: Ticket,
        planned: Planned,
        writes: Vec<Write>,
        is_told: bool,
    },
    Load {
        node: usize,
        life: u32,
        ticket: Ticket,
        aor: Box<[u8]>,
    },
    Receipt {
        node: usize,
        life: u32,
        receipt: Receipt,
    },
    Heard {
        node: usize,
        life: u32,
        event: ShardEvent,
    },
    Tick(usize),
    /// A node renews its lease, if it reaches the store.
    Renew(usize),
    Fault,
    /// All is looked at: this extension registers at this node.
    Judge(u32),
}

struct NodeState {
    engine: Engine,
    life: u32,
    address: SocketAddr,
    skew_s: i64,
    frozen_until_ms: u64,
    cut_until_ms: u64,
    /// What an operator was shown last, by extension.
    shown: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
}

struct PhoneState {
    client: Client,
    address: SocketAddr,
    /// The request that it waits for, and at which node.
    asked: Option<(u64, usize, Ask)>,
    wakes: u64,
}

struct World {
    options: Options,
    dice: Dice,
    queue: EventQueue<Event>,
    now_ms: u64,
    nodes: Vec<NodeState>,
    staleness_ms: Option<u64>,
    phones: Vec<PhoneState>,
    store: Store,
    calls: Calls,
    report: Report,
    branch: u64,
}

/// Plays a seed.
///
/// # Errors
/// The promise that was broken, and when.
pub fn run(seed: u64, options: Options) -> Result<Report, String> {
    let mut world = World::new(seed, options);
    while let Some((at_ms, event)) = world.queue.pop() {
        if at_ms > END_MS {
            break;
        }
        world.now_ms = at_ms;
        world.handle(event).map_err(|broken| format!("seed {seed}, {at_ms} ms: {broken}"))?;
    }
    world.check_calls().map_err(|broken| format!("seed {seed}, at the end: {broken}"))?;
    Ok(world.report)
}

fn engine(index: usize, address: SocketAddr, staleness_ms: Option<u64>, dice: &mut Dice) -> Engine {
    let mut config = Config::default();
    let node: SocketAddr = SocketAddr::from(([10, 0, 0, 1 + index as u8], 5_070));
    config.policy.listeners = vec![Listener::udp(address), Listener::new(Transport::Tcp, node)];
    config.policy.node = Some(node);
    config.policy.auth.realm = REALM.to_string();
    config.policy.registrar.exclusive_ip = true;
    config.policy.proxy.trusted = Trusted::of_addresses([GATEWAY.ip()]);
    config.policy.registrar.min_expires_s = 0;
    config.identity.hash_seed = dice.next_u64();
    config.identity.mac_key = dice.key();
    config.identity.node = Some(Arc::new(Node {
        address: node,
        is_secure: false,
        keys: vec![[7; 32]],
        nonce_keys: vec![[8; 32]],
        dialog_keys: vec![[9; 32]],
        staleness_ms,
    }));
    let mut engine = Engine::new(&config, ShardId(0), dice.rng());
    engine.handle_reading(Reading::Rows((0..EXTENSIONS).map(subscriber).collect()), 1);
    engine.handle_reading(Reading::Done, 1);
    engine
}

impl World {
    fn new(seed: u64, options: Options) -> World {
        let mut dice = Dice::new(seed);
        // A store that tells of changes, or one that is asked again (Redis, SQL).
        let staleness_ms = (seed % 2 == 1).then_some(STALENESS_MS);
        let nodes = (0..NODES).map(|index| {
            let address = SocketAddr::from(([10, 0, 0, 1 + index as u8], 5_060));
            NodeState {
                engine: engine(index, address, staleness_ms, &mut dice),
                life: 0,
                address,
                skew_s: dice.below(2 * SKEW_S + 1) as i64 - SKEW_S as i64,
                frozen_until_ms: 0,
                cut_until_ms: 0,
                shown: BTreeMap::new(),
            }
        });
        let nodes: Vec<_> = nodes.collect();
        let phones = (0..EXTENSIONS).flat_map(|extension| (0..PHONES).map(move |number| (extension, number)));
        let phones = phones.map(|(extension, number)| {
            // The first two stand behind one address.
            let ip = [10, 1, extension as u8, if number < 2 { 1 } else { 2 }];
            let address = SocketAddr::from((ip, 5_060 + number as u16));
            let mut client = Client::new(&extension.to_string(), REALM, PASSWORD, address, true);
            client.call_id = format!("{extension}.{number}");
            PhoneState { client, address, asked: None, wakes: 0 }
        });
        let mut world = World {
            options,
            queue: EventQueue::default(),
            now_ms: 0,
            phones: phones.collect(),
            nodes,
            staleness_ms,
            store: Store { last_writer_wins: options.last_writer_wins, ..Store::default() },
            calls: Calls::default(),
            report: Report::default(),
            branch: 0,
            dice,
        };
        for phone in 0..world.phones.len() {
            let at_ms = world.dice.below(5_000);
            world.queue.push(at_ms, Event::Act(phone));
        }
        for node in 0..NODES {
            world.queue.push(1_000, Event::Tick(node));
            world.queue.push(0, Event::Renew(node));
        }
        world.queue.push(5_000, Event::Fault);
        for extension in 0..EXTENSIONS {
            world.queue.push(HEALED_MS + 5_000 * u64::from(extension), Event::Judge(extension));
        }
        world
    }

    fn is_healed(&self) -> bool {
        self.now_ms >= FAULTS_MS
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        // A node that stands still hears everything later.
        let node = match &event {
            Event::Arrive { node, .. }
            | Event::Receipt { node, .. }
            | Event::Heard { node, .. }
            | Event::Renew(node)
            | Event::Tick(node) => Some(*node),
            _ => None,
        };
        if let Some(until_ms) =
            node.map(|node| self.nodes[node].frozen_until_ms).filter(|until| *until > self.now_ms)
        {
            self.queue.push(until_ms, event);
            return Ok(());
        }
        match event {
            Event::Act(phone) => self.act(phone),
            Event::Arrive { node, flow, bytes } => {
                let mut head = Head::new();
                head.parse(&bytes).map_err(|error| format!("{error:?}"))?;
                self.visit(node, &flow, &bytes)?;
                self.engine(node, |engine, now, out| engine.handle_message(&flow, &bytes, &head, now, out));
            }
            Event::Answer { phone, node, bytes } => match bytes.starts_with(b"SIP/2.0") {
                true => return self.answered(phone, &bytes),
                false => self.rings(phone, node, &bytes),
            },
            Event::Call { extension, node, must_ring } => self.call(extension, node, must_ring),
            Event::Gateway { node, bytes } => self.gateway_hears(node, &bytes),
            Event::Commit { node, life, ticket, planned, writes, is_told } => {
                return self.commit((node, life, ticket), &planned, &writes, is_told);
            }
            Event::Load { node, life, ticket, aor } => {
                let receipt = Receipt::Record(ticket, Ok(self.store.record(&aor)));
                let at_ms = self.now_ms + self.dice.between((0, 3));
                self.queue.push(at_ms, Event::Receipt { node, life, receipt });
            }
            Event::Receipt { node, life, receipt } if life == self.nodes[node].life => {
                self.engine(node, |engine, now, out| engine.handle_receipt(receipt, now, out));
            }
            Event::Heard { node, life, event } if [ANY_LIFE, self.nodes[node].life].contains(&life) => {
                self.engine(node, |engine, now, out| engine.handle_shard_event(event, now, out));
            }
            Event::Receipt { .. } | Event::Heard { .. } => {}
            Event::Tick(node) => {
                self.engine(node, |engine, now, out| engine.handle_timeout(now, out));
                self.queue.push(self.now_ms + 1_000, Event::Tick(node));
            }
            Event::Renew(node) => self.renew(node),
            Event::Fault => self.fault(),
            Event::Judge(extension) => return self.judge(extension),
        }
        Ok(())
    }

    fn renew(&mut self, node: usize) {
        if self.nodes[node].cut_until_ms <= self.now_ms {
            let event = ShardEvent::Leased { until_ms: BEGIN_MS + self.now_ms + LEASE_MS };
            self.engine(node, |engine, now, out| engine.handle_shard_event(event, now, out));
        }
        self.queue.push(self.now_ms + 1_000, Event::Renew(node));
    }

    /// Gives a node something to do, and carries out what it wants.
    fn engine(&mut self, node: usize, act: impl FnOnce(&mut Engine, Now, &mut Outbox)) {
        let mut out = Outbox::default();
        let own = &mut self.nodes[node];
        let unix_s = (BEGIN_S + self.now_ms / 1_000).saturating_add_signed(own.skew_s);
        let now = Now { mono_ms: BEGIN_MS + self.now_ms, unix_s };
        act(&mut own.engine, now, &mut out);
        let life = own.life;
        for transmit in &out.transmits {
            let bytes = out.message(transmit).to_vec();
            let remote = transmit.flow.remote;
            let at_ms = self.now_ms + self.dice.between((1, 30));
            if let Some(other) = self.nodes.iter().position(|other| other.address.ip() == remote.ip()) {
                self.send_across(node, other, (transmit.flow, bytes));
            } else if remote == GATEWAY {
                self.queue.push(at_ms, Event::Gateway { node, bytes });
            } else if let Some(phone) = self.phones.iter().position(|phone| phone.address == remote) {
                self.queue.push(at_ms, Event::Answer { phone, node, bytes });
            }
        }
        for command in out.commands {
            self.carry_out(node, life, command);
        }
    }

    fn carry_out(&mut self, node: usize, life: u32, command: Command) {
        let is_cut = self.nodes[node].cut_until_ms > self.now_ms;
        let is_lost = !self.is_healed() && self.dice.chance(20);
        let failed = |receipt| Event::Receipt { node, life, receipt };
        let late_ms = self.now_ms + PATIENCE_MS;
        match command {
            Command::Commit { ticket, writes, planned: Some(planned), .. } => {
                let is_refused = is_cut || !self.is_healed() && self.dice.chance(20);
                if is_refused || is_lost {
                    let outcome = CommitOutcome::Failed("no answer".to_string());
                    self.queue.push(late_ms, failed(Receipt::Commit(ticket, outcome)));
                }
                if is_refused {
                    return;
                }
                self.report.lost_answers += u64::from(is_lost);
                let slow_ms = if !self.is_healed() && self.dice.chance(50) { 1_500 } else { 8 };
                let at_ms = self.now_ms + self.dice.between((0, slow_ms));
                let commit =
                    Event::Commit { node, life, ticket, planned: *planned, writes, is_told: !is_lost };
                self.queue.push(at_ms, commit);
            }
            Command::LoadRecord { ticket, aor } => match is_cut || is_lost {
                true => {
                    let receipt = Receipt::Record(ticket, Err("no answer".to_string()));
                    self.queue.push(late_ms, failed(receipt));
                }
                false => {
                    let at_ms = self.now_ms + self.dice.between((0, 5));
                    self.queue.push(at_ms, Event::Load { node, life, ticket, aor });
                }
            },
            Command::AdminReply { reply: AdminReply::Record(record), .. } => {
                let live =
                    record.contacts.into_iter().filter(|one| !matches!(one.expires, ShownExpires::Expired));
                let contacts = live.map(|one| one.contact.to_vec()).collect();
                self.nodes[node].shown.insert(record.aor.to_vec(), contacts);
            }
            _ => {}
        }
    }

    /// The store takes a change, or says why not.
    fn commit(
        &mut self,
        (node, life, ticket): (usize, u32, Ticket),
        planned: &Planned,
        writes: &[Write],
        is_told: bool,
    ) -> Result<(), String> {
        let before = self.store.record(&planned.aor);
        let outcome = self.store.compare_and_set(planned, writes, is_told);
        match &outcome {
            CommitOutcome::Stored(version) => {
                self.check(&planned.aor, &before)?;
                self.tell(&planned.aor, *version);
            }
            _ => self.report.conflicts += 1,
        }
        if is_told {
            let at_ms = self.now_ms + self.dice.between((0, 8));
            let receipt = Receipt::Commit(ticket, outcome);
            self.queue.push(at_ms, Event::Receipt { node, life, receipt });
        }
        Ok(())
    }

    /// All hear of a change, but who is cut off: it knows afterwards that it may have missed something.
    fn tell(&mut self, aor: &[u8], version: u64) {
        for node in 0..NODES {
            let at_ms = self.now_ms + self.dice.between((0, 20));
            let own = &self.nodes[node];
            if self.staleness_ms.is_none() && own.cut_until_ms <= self.now_ms {
                let event = ShardEvent::RecordChanged { aor: aor.into(), version };
                self.queue.push(at_ms, Event::Heard { node, life: own.life, event });
            }
        }
    }

    /// What must hold of a record after each change.
    fn check(&self, aor: &[u8], before: &StoredRecord) -> Result<(), String> {
        let after = self.store.record(aor);
        // A node whose clock is ahead takes the place of what ends in a moment.
        let lives = BEGIN_S + self.now_ms / 1_000 + 2 * SKEW_S + 2;
        let live: Vec<_> = after.rows.iter().map(|row| row.row()).filter(|row| row.expires > lives).collect();
        let place = |contact: &[u8]| {
            let text = String::from_utf8_lossy(contact).into_owned();
            text.rsplit('@').next().and_then(|host| host.split(':').next().map(str::to_owned))
        };
        let places: BTreeSet<_> = live.iter().map(|row| place(row.contact)).collect();
        if places.len() > 1 {
            return Err(format!("{} is accepted from {places:?}", String::from_utf8_lossy(aor)));
        }
        if live.len() > 1 {
            return Err(format!("{} has {} contacts", String::from_utf8_lossy(aor), live.len()));
        }
        for row in &live {
            let old = before.rows.iter().map(PackedRow::row).find(|old| old.contact_id == row.contact_id);
            if let Some(old) = old.filter(|old| old.callid == row.callid && old.cseq > row.cseq) {
                return Err(format!("CSeq goes back from {} to {}", old.cseq, row.cseq));
            }
        }
        Ok(())
    }

    /// A phone registers, refreshes, unregisters or asks, at whichever node.
    fn act(&mut self, phone: usize) {
        if self.now_ms > FAULTS_MS {
            return;
        }
        let node = self.dice.below(NODES as u64) as usize;
        let ask = match self.dice.below(10) {
            0 => Ask::Unbind,
            1 => Ask::Query,
            _ => Ask::Bind { expires_s: 30 + self.dice.below(60) as u32, in_contact: true },
        };
        if self.dice.chance(100) {
            // It was switched off and on.
            let client = &mut self.phones[phone].client;
            client.call_id = format!("{}'", client.call_id);
            client.forget_challenge();
        }
        self.ask(phone, node, ask);
        if self.dice.chance(300) {
            let (extension, node) =
                (self.dice.below(u64::from(EXTENSIONS)) as u32, self.dice.below(NODES as u64));
            let at_ms = self.now_ms + self.dice.between((0, 2_000));
            self.queue.push(at_ms, Event::Call { extension, node: node as usize, must_ring: false });
        }
        let at_ms = self.now_ms + self.dice.between((1_000, 20_000)).max(ANSWER_MS);
        self.queue.push(at_ms, Event::Act(phone));
    }

    fn ask(&mut self, phone: usize, node: usize, ask: Ask) {
        self.branch += 1;
        self.report.registers += 1;
        let own = &mut self.phones[phone];
        own.asked = Some((self.branch, node, ask));
        own.wakes += 1;
        let bytes = own.client.register(ask, self.branch);
        let at_ms = self.now_ms + self.dice.between((1, 30));
        let flow = Flow::udp(self.nodes[node].address, self.phones[phone].address);
        self.queue.push(at_ms, Event::Arrive { node, flow, bytes });
    }

    fn answered(&mut self, phone: usize, bytes: &[u8]) -> Result<(), String> {
        let Some(reply) = Reply::parse(&mut Head::new(), bytes) else { return Ok(()) };
        let own = &mut self.phones[phone];
        let Some((branch, node, ask)) = own.asked.filter(|(branch, ..)| *branch == reply.branch) else {
            return Ok(());
        };
        if self.options.trace {
            eprintln!("{} ms: {} at node {node}, {ask:?}: {}", self.now_ms, own.client.contact, reply.status);
        }
        match (reply.status, reply.challenge) {
            (401, Some(challenge)) => {
                own.client.take_challenge(challenge);
                self.ask(phone, node, ask);
            }
            (200, _) => {
                own.asked = None;
                self.report.accepted += 1;
                let client = &own.client;
                let kept = (
                    client.user.clone().into_bytes(),
                    client.contact.clone().into_bytes(),
                    reply.call_id.clone().into_bytes(),
                    reply.cseq,
                );
                if matches!(ask, Ask::Bind { .. }) && !self.store.kept.contains(&kept) {
                    return Err(format!(
                        "{} is answered 200, and the store never had it ({branch})",
                        client.contact
                    ));
                }
            }
            _ => {
                own.asked = None;
                self.report.refused += 1;
            }
        }
        Ok(())
    }

    /// A node crashes, stands still, or is cut off from the store.
    fn fault(&mut self) {
        if self.is_healed() {
            return;
        }
        let node = self.dice.below(NODES as u64) as usize;
        match self.dice.below(5) {
            4 => self.part(node),
            3 => {
                self.report.failovers += 1;
                let World { store, dice, options, .. } = self;
                store.fail_over(dice, options.versions_again);
                // All have lost their connections, and know that they may have missed something.
                for node in 0..NODES {
                    let (life, at_ms) = (ANY_LIFE, self.now_ms + self.dice.below(1_500));
                    self.queue.push(at_ms, Event::Heard { node, life, event: ShardEvent::RecordsDoubtful });
                }
            }
            0 => {
                self.report.crashes += 1;
                let fresh = engine(node, self.nodes[node].address, self.staleness_ms, &mut self.dice);
                let own = &mut self.nodes[node];
                (own.engine, own.life, own.frozen_until_ms) = (fresh, own.life + 1, 0);
                let life = own.life;
                // The lease of the process before lasts.
                let event = ShardEvent::Leased { until_ms: BEGIN_MS + self.now_ms + LEASE_MS };
                self.queue.push(self.now_ms, Event::Heard { node, life, event });
                // It finds its own bindings.
                let (life, aors) = (own.life, self.store.records.keys().cloned().collect::<Vec<_>>());
                for aor in aors {
                    let (record, at_ms) =
                        (self.store.record(&aor), self.now_ms + self.dice.between((0, 500)));
                    let event = ShardEvent::RecordFound { aor: aor.into(), record };
                    self.queue.push(at_ms, Event::Heard { node, life, event });
                }
                self.queue
                    .push(self.now_ms + 600, Event::Heard { node, life, event: ShardEvent::RecordsDoubtful });
            }
            1 => {
                self.report.freezes += 1;
                self.nodes[node].frozen_until_ms = self.now_ms + self.dice.between((1_000, 30_000));
            }
            _ => {
                self.report.cuts += 1;
                let until_ms = self.now_ms + self.dice.between((500, 20_000));
                self.nodes[node].cut_until_ms = until_ms;
                // Whatever becomes of the node meanwhile.
                let life = ANY_LIFE;
                for at_ms in [self.now_ms + PATIENCE_MS, until_ms + self.dice.between((0, 1_000))] {
                    self.queue.push(at_ms, Event::Heard { node, life, event: ShardEvent::RecordsDoubtful });
                }
            }
        }
        let at_ms = self.now_ms + self.dice.between((500, 15_000));
        self.queue.push(at_ms, Event::Fault);
    }

    /// All is well for long: an extension registers at one node, and all nodes know it.
    fn judge(&mut self, extension: u32) -> Result<(), String> {
        let phone = extension as usize * PHONES;
        let aor = extension.to_string().into_bytes();
        let contact = self.phones[phone].client.contact.clone().into_bytes();
        let node = extension as usize % NODES;
        let is_shown =
            |world: &World, node: usize| world.nodes[node].shown.get(&aor) == Some(&vec![contact.clone()]);
        let lives = BEGIN_S + self.now_ms / 1_000 + 2 * SKEW_S;
        let is_its = |row: &PackedRow| row.row().contact == &*contact && row.row().expires > lives;
        let is_bound = self.store.record(&aor).rows.iter().any(is_its);
        match is_bound {
            false if self.now_ms > END_MS - 15_000 => {
                return Err(format!("extension {extension} cannot register though all is well"));
            }
            false => self.ask(phone, node, Ask::Bind { expires_s: 300, in_contact: true }),
            true => {
                for node in 0..NODES {
                    if self.now_ms > END_MS - 15_000 && !is_shown(self, node) {
                        return Err(format!("node {node} does not know of extension {extension}"));
                    }
                    let aor = aor.clone();
                    // So long before the end, that it is over then.
                    if self.now_ms < END_MS - 40_000 {
                        self.call(extension, node, true);
                    }
                    let show = move |engine: &mut Engine, now: Now, out: &mut Outbox| {
                        engine.handle_admin(Ticket(1), Admin::Show { aor }, now, out);
                    };
                    self.engine(node, show);
                }
            }
        }
        self.queue.push(self.now_ms + 5_000, Event::Judge(extension));
        Ok(())
    }
}
