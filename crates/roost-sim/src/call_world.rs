//! The world of calls of one seed: engines with their bindings, phones that call one another, and a bad network.
//!
//! It stands beside the world of registrations and shares nothing with it but the network, the agenda and the dice.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use roost_core::{
    Admin, AdminReply, Authorize, Command, Config, Engine, Flow, HandOver, Listening, Mark, Now, Outbox, Row,
    ShardId, Ticket, contact_id, shard_of,
};
use roost_sip::Head;

use crate::agenda::Agenda;
use crate::call_checks::{CallChecks, Ends};
use crate::call_message::Message;
use crate::call_phone::{Acts, Alarm, CallPhone, CallPlan};
use crate::dice::Dice;
use crate::network::{Network, NetworkFaults};
use crate::world::Failure;

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 5060);
/// What the monotonic clock says when the world begins.
const BASE_MS: u64 = 1 << 40;
/// The wall clock then.
const EPOCH_S: u64 = 1_700_000_000;

/// Nobody calls after this, in virtual milliseconds.
const LAST_CALL_MS: u64 = 90_000;
/// From here on nothing goes wrong any more.
const HEAL_MS: u64 = 120_000;
/// When nobody rings any more: every call has been answered, cancelled or given up.
const QUIET_MS: u64 = 190_000;
/// When the transactions are gone, too.
const END_MS: u64 = 280_000;
/// The longest way through the network: RFC 3261's T4 says that no message is older.
const LONGEST_MS: u64 = 3_000;

/// How to play a seed.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallOptions {
    /// One line for each message, on standard error.
    pub trace: bool,
    /// For tests of the checks: no phone knows CANCEL.
    pub ignores_cancel: bool,
    /// For tests of the checks: what the engines say of answered calls is lost on its way out.
    pub swallows_answers: bool,
}

/// What a seed that broke nothing did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallReport {
    pub virtual_ms: u64,
    /// Datagrams that were sent, both ways.
    pub messages: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub handed_over: u64,
    pub ends: Ends,
    /// A hash over the time, the destination and the bytes of everything that the engines sent.
    pub trace_hash: u64,
}

/// Plays a seed to its end.
///
/// # Errors
/// The first promise that is broken.
pub fn run(seed: u64, options: CallOptions) -> Result<CallReport, Failure> {
    let mut world = CallWorld::new(seed, options);
    world.begin().map_err(|what| Failure { at_ms: 0, what })?;
    while let Some((at_ms, event)) = world.agenda.pop() {
        world.now_ms = at_ms;
        let is_end = matches!(event, Event::End);
        world.happen(event).map_err(|what| Failure { at_ms, what })?;
        if is_end {
            break;
        }
    }
    Ok(world.report())
}

#[derive(Debug)]
enum Event {
    Call {
        phone: usize,
        plan: CallPlan,
    },
    Alarm {
        phone: usize,
        alarm: Alarm,
    },
    /// A datagram reaches the server.
    Arrive {
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    /// A message reaches the shard that it belongs to; the shards before have sent so much because of it.
    HandOver {
        shard: ShardId,
        flow: Flow,
        bytes: Box<[u8]>,
        mark: Mark,
        caused: usize,
    },
    /// A datagram reaches a phone.
    Deliver {
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    Tick {
        shard: ShardId,
    },
    Heal,
    Quiet,
    End,
}

#[derive(Debug)]
struct CallWorld {
    options: CallOptions,
    config: Arc<Config>,
    now_ms: u64,
    agenda: Agenda<Event>,
    engines: Vec<Engine>,
    /// When each engine is called next.
    ticks: Vec<u64>,
    phones: Vec<CallPhone>,
    places: BTreeMap<SocketAddr, usize>,
    /// The phones of each user.
    users: BTreeMap<String, Vec<usize>>,
    network: Network,
    checks: CallChecks,
    dice: Dice,
    outbox: Outbox,
    head: Box<Head>,
    handed_over: u64,
    hash: u64,
}

fn draw_config(dice: &mut Dice) -> Config {
    let mut config = Config {
        shards: dice.between((1, 4)) as u16,
        listeners: vec![Listening::udp(SERVER)],
        mac_key: dice.key(),
        hash_seed: dice.next_u64(),
        ..Config::default()
    };
    config.usrloc.write_through = false;
    config.registrar.exclusive_ip = false;
    config.registrar.max_contacts = 3;
    config.proxy.authorize = if dice.chance(500) { Authorize::Off } else { Authorize::Registered };
    config.proxy.serial_fork = dice.chance(400);
    config.tm.fr_timeout_s = 5;
    // One group after another: three of them must be through before all is quiet.
    let timeouts_s: [u32; 3] = if config.proxy.serial_fork { [6, 10, 15] } else { [10, 20, 30] };
    config.tm.fr_inv_timeout_s = dice.pick(&timeouts_s);
    config
}

/// The URI that a user is called by.
fn called(user: &str) -> String {
    format!("sip:{user}@{}", SERVER.ip())
}

impl CallWorld {
    fn new(seed: u64, options: CallOptions) -> CallWorld {
        // Other draws than those of the world of registrations.
        let mut dice = Dice::new(!seed);
        let config = Arc::new(draw_config(&mut dice));
        let (mut phones, mut users, mut contacts) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for number in 0..dice.between((5, 20)) {
            let user = format!("{}", 2_000 + number);
            for _ in 0..dice.between((1, 3)) {
                let place = phones.len();
                let ip = Ipv4Addr::new(10, 1, (place / 200) as u8, (place % 200 + 1) as u8);
                let source = SocketAddr::new(ip.into(), 5_060 + dice.below(50) as u16);
                users.entry(user.clone()).or_insert_with(Vec::new).push(place);
                contacts.entry(called(&user)).or_insert_with(Vec::new).push(source);
                phones.push(CallPhone::new(&user, source, SERVER, options.ignores_cancel, dice.fork()));
            }
        }
        let mut faults = NetworkFaults::draw(&mut dice);
        faults.detour_ms.1 = faults.detour_ms.1.min(LONGEST_MS);
        let shards = config.shards;
        let engines =
            (0..shards).map(|shard| Engine::new(Arc::clone(&config), ShardId(shard), dice.rng())).collect();
        CallWorld {
            options,
            now_ms: 0,
            agenda: Agenda::default(),
            engines,
            ticks: vec![u64::MAX; usize::from(shards)],
            places: phones.iter().enumerate().map(|(place, phone)| (phone.source, place)).collect(),
            phones,
            users,
            network: Network::new(faults, dice.fork()),
            checks: CallChecks::new(&config, contacts),
            dice,
            outbox: Outbox::default(),
            head: Head::new(),
            handed_over: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            config,
        }
    }

    /// Loads the bindings and puts the calls down.
    fn begin(&mut self) -> Result<(), String> {
        let now = self.now();
        for (label, (user, places)) in self.users.iter().enumerate() {
            let ShardId(shard) = shard_of(&self.config, user.as_bytes());
            for (contact_label, place) in places.iter().enumerate() {
                let row = Row {
                    contact_id: contact_id::compose(user.as_bytes(), label as u32, contact_label as u16),
                    username: user.as_bytes().into(),
                    contact: self.phones[*place].contact().into_bytes().into(),
                    expires: now.unix_s + 100_000,
                    q: self.dice.pick(&[None, None, Some(500), Some(1_000)]),
                    callid: format!("reg-{place}").into_bytes().into(),
                    cseq: 1,
                    last_modified: now.unix_s,
                    socket: Some(format!("udp:{SERVER}").into_bytes().into()),
                    ..Row::default()
                };
                let loaded = self.engines[usize::from(shard)].load(&row, now);
                loaded.map_err(|error| format!("a row is not taken: {error}: {row:?}"))?;
            }
        }
        for number in 0..self.dice.between((10, 40)) {
            let at_ms = self.dice.below(LAST_CALL_MS);
            let phone = self.dice.below(self.phones.len() as u64) as usize;
            let plan = self.draw_call(number, phone);
            self.agenda.push(at_ms, Event::Call { phone, plan });
        }
        for shard in 0..self.config.shards {
            self.schedule(ShardId(shard));
        }
        self.agenda.push(HEAL_MS, Event::Heal);
        self.agenda.push(QUIET_MS, Event::Quiet);
        self.agenda.push(END_MS, Event::End);
        Ok(())
    }

    fn draw_call(&mut self, number: u64, phone: usize) -> CallPlan {
        let caller = &self.phones[phone].user;
        let others: Vec<&String> = self.users.keys().filter(|user| *user != caller).collect();
        let callee = match self.dice.chance(30) {
            true => "nobody".to_string(),
            false => self.dice.pick(&others).clone(),
        };
        let dice = &mut self.dice;
        let mut sometimes =
            |permille, longest_ms| dice.chance(permille).then(|| dice.between((10, longest_ms)));
        CallPlan {
            number,
            callee,
            cancel_after_ms: sometimes(300, 15_000),
            talk_ms: sometimes(700, 15_000),
            vanish_after_ms: sometimes(50, 10_000),
        }
    }

    fn now(&self) -> Now {
        Now { mono_ms: BASE_MS + self.now_ms, unix_s: EPOCH_S + self.now_ms / 1_000 }
    }

    fn note(&self, line: impl FnOnce() -> String) {
        if self.options.trace {
            eprintln!("call {:>4}.{:03} {}", self.now_ms / 1_000, self.now_ms % 1_000, line());
        }
    }

    fn report(&self) -> CallReport {
        CallReport {
            virtual_ms: self.now_ms,
            messages: self.network.carried,
            lost: self.network.lost,
            duplicated: self.network.duplicated,
            handed_over: self.handed_over,
            ends: self.checks.ends(),
            trace_hash: self.hash,
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Call { phone, plan } => {
                let caller = &self.phones[phone];
                if !caller.is_dead && !caller.is_gone {
                    self.note(|| format!("phone {phone}: {plan:?}"));
                    self.move_phone(phone, |phone, now_ms, acts| phone.call(plan, now_ms, acts))?;
                }
            }
            Event::Alarm { phone, alarm } => {
                self.move_phone(phone, |phone, now_ms, acts| phone.wake(alarm, now_ms, acts))?;
            }
            Event::Arrive { from, bytes } => {
                let shard = ShardId(from.port() % self.config.shards);
                self.feed(shard, Flow::udp(SERVER, from), &bytes, None, 0)?;
            }
            Event::HandOver { shard, flow, bytes, mark, caused } => {
                self.feed(shard, flow, &bytes, Some(mark), caused)?;
            }
            Event::Deliver { to, bytes } => self.deliver(to, &bytes)?,
            Event::Tick { shard } => self.tick(shard)?,
            Event::Heal => self.network.heal(),
            Event::Quiet => {
                for phone in &self.phones {
                    phone.ringing().try_for_each(|branch| self.checks.rings(phone.source, branch))?;
                }
            }
            Event::End => self.end()?,
        }
        Ok(())
    }

    /// Lets a phone do something and carries out what it wants.
    fn move_phone(
        &mut self,
        place: usize,
        action: impl FnOnce(&mut CallPhone, u64, &mut Acts),
    ) -> Result<(), String> {
        let mut acts = Acts::default();
        let phone = &mut self.phones[place];
        action(phone, self.now_ms, &mut acts);
        let from = phone.source;
        for (at_ms, alarm) in acts.alarms {
            self.agenda.push(at_ms, Event::Alarm { phone: place, alarm });
        }
        for bytes in acts.messages {
            let Some(message) = Message::parse(&mut self.head, &bytes) else {
                return Err(format!("a phone wrote: {}", String::from_utf8_lossy(&bytes)));
            };
            self.checks.sent(from, &message);
            for delay_ms in self.network.copies() {
                self.agenda.push(self.now_ms + delay_ms, Event::Arrive { from, bytes: bytes.clone() });
            }
        }
        Ok(())
    }

    fn deliver(&mut self, to: SocketAddr, bytes: &[u8]) -> Result<(), String> {
        let Some(place) = self.places.get(&to).copied() else {
            return Err(format!("a datagram to {to}, where nobody is"));
        };
        let Some(message) = Message::parse(&mut self.head, bytes) else { return Ok(()) };
        self.checks.delivered(&message);
        self.note(|| format!("phone {place} gets {message}"));
        self.move_phone(place, |phone, now_ms, acts| phone.receive(&message, now_ms, acts))
    }

    /// Gives a message to a shard, from the network or (with a mark) from another shard.
    fn feed(
        &mut self,
        shard: ShardId,
        flow: Flow,
        bytes: &[u8],
        mark: Option<Mark>,
        caused: usize,
    ) -> Result<(), String> {
        let now = self.now();
        let Some(message) = Message::parse(&mut self.head, bytes) else {
            return Err("a message that its sender could read, and the server cannot".to_string());
        };
        self.note(|| format!("{} -> shard {} ({mark:?}): {message}", flow.remote, shard.0));
        if mark.is_none() {
            self.checks.arrived(&message);
        }
        let Some(engine) = self.engines.get_mut(usize::from(shard.0)) else {
            return Err(format!("a message for shard {}, which is not there", shard.0));
        };
        match mark {
            None => engine.handle_message(&flow, bytes, &self.head, now, &mut self.outbox),
            Some(mark) => {
                engine.handle_handed_over(&flow, bytes, &self.head, mark, now, &mut self.outbox);
            }
        }
        self.flush(shard, Some((&message, caused)))
    }

    fn tick(&mut self, shard: ShardId) -> Result<(), String> {
        let place = usize::from(shard.0);
        if self.ticks[place] != self.now_ms {
            return Ok(());
        }
        self.ticks[place] = u64::MAX;
        let now = self.now();
        self.engines[place].handle_timeout(now, &mut self.outbox);
        self.flush(shard, None)
    }

    /// Sees to it that an engine is called when it wants to be.
    fn schedule(&mut self, shard: ShardId) {
        let place = usize::from(shard.0);
        let due_ms = self.engines[place].poll_timeout().saturating_sub(BASE_MS).max(self.now_ms);
        if due_ms < self.ticks[place] {
            self.ticks[place] = due_ms;
            self.agenda.push(due_ms, Event::Tick { shard });
        }
    }

    /// Carries out and checks what an engine wants, because of a message or of its timers.
    fn flush(&mut self, shard: ShardId, cause: Option<(&Message, usize)>) -> Result<(), String> {
        let mut outbox = std::mem::take(&mut self.outbox);
        let mut sent = Vec::new();
        for transmit in &outbox.transmits {
            let (to, bytes) = (transmit.flow.remote, outbox.message(transmit));
            let Some(message) = Message::parse(&mut self.head, bytes) else {
                return Err(format!("sent what is no message: {}", String::from_utf8_lossy(bytes)));
            };
            if self.options.swallows_answers && !message.is_request() && message.is_answer() {
                continue;
            }
            self.add_to_hash(to, bytes);
            self.note(|| format!("{to} <- shard {}: {message}", shard.0));
            self.checks.transmitted(self.now_ms, to, &message, bytes)?;
            for delay_ms in self.network.copies() {
                self.agenda.push(self.now_ms + delay_ms, Event::Deliver { to, bytes: bytes.to_vec() });
            }
            sent.push((to, message));
        }
        let caused = sent.len() + cause.map_or(0, |(_, before)| before);
        let mut goes_on = false;
        for command in outbox.commands.drain(..) {
            let Command::ToShard(message) = command else {
                return Err(format!("a call asks for {command:?}"));
            };
            let HandOver { shard, flow, mark, .. } = message;
            let bytes = outbox.bytes[message.start..message.end].into();
            goes_on = true;
            self.handed_over += 1;
            let at_ms = self.now_ms + self.dice.below(4);
            self.agenda.push(at_ms, Event::HandOver { shard, flow, bytes, mark, caused });
        }
        outbox.clear();
        self.outbox = outbox;
        self.schedule(shard);
        match cause {
            Some((message, _)) if !goes_on => {
                self.checks.caused(message, caused)?;
                self.checks.handled(self.now_ms, message, &sent)
            }
            _ => Ok(()),
        }
    }

    /// FNV-1a.
    fn add_to_hash(&mut self, to: SocketAddr, bytes: &[u8]) {
        let (when, to) = (self.now_ms.to_le_bytes(), to.to_string());
        for byte in when.iter().chain(to.as_bytes()).chain(bytes) {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Every call has come to its end, and the tables are empty.
    fn end(&mut self) -> Result<(), String> {
        self.checks.each_is_final()?;
        for phone in &self.phones {
            phone.waiting().try_for_each(|branch| self.checks.waits(branch, HEAL_MS))?;
        }
        let now = self.now();
        for (shard, engine) in self.engines.iter_mut().enumerate() {
            let mut out = Outbox::default();
            engine.handle_admin(Ticket(1), Admin::Statistics, now, &mut out);
            let left = out.commands.iter().find_map(|command| match command {
                Command::AdminReply { reply: AdminReply::Statistics(all), .. } => {
                    all.iter().find(|(name, _)| *name == "tm:inuse_transactions").map(|(_, value)| *value)
                }
                _ => None,
            });
            if left != Some(0) {
                return Err(format!("shard {shard} holds {left:?} transactions at the end"));
            }
        }
        Ok(())
    }
}
