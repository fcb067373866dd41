//! The world of one seed: engines, phones, network and database on one virtual clock, and what happens to them.

mod calls;
mod kept_calls;
mod previews;
mod process;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use roost_core::{
    Authorize, Config, Flow, Listening, Mark, Now, Outbox, Receipt, ShardEvent, ShardId, Topics,
};
use roost_sip::{Head, HeaderName, cseq};

use crate::call_checks::{CallChecks, Ends};
use crate::call_message::Message;
use crate::call_phone::{Alarm, CallPhone, CallPlan};
use crate::checks::{Asked, Checks, Scene};
use crate::client::Reply;
use crate::dice::Dice;
use crate::event_queue::EventQueue;
use crate::harness::HELD;
use crate::model::Model;
use crate::network::Network;
use crate::phone::{Phone, Step};
use crate::scenario::{Action, Crash, DRAINED_MS, EMPTY_MS, END_MS, HEAL_MS, Part, Scenario};
use crate::store::Store;
use crate::trace::Trace;
use crate::world::kept_calls::KeptCalls;
use crate::world::process::Server;

/// What a process's monotonic clock says when it starts: far from zero, so that what is older than it has an age.
pub(crate) const BASE_MS: u64 = 1 << 40;

/// The wall clock at virtual time 0, in milliseconds: not on a full second.
const EPOCH_MS: u64 = 1_700_000_000_437;

/// How to play a seed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// One line for each event, on standard error.
    pub trace: bool,
    /// For tests of the checks: the database acknowledges and writes nothing.
    pub store_lies: bool,
    /// For tests of the checks: no phone knows CANCEL.
    pub ignores_cancel: bool,
    /// For tests of the checks: what the engines say of answered calls is lost on its way out.
    pub swallows_answers: bool,
    /// For tests of the checks: the engines let anybody call.
    pub lets_anybody_call: bool,
    /// The calls of a process go with it.
    pub forgets_calls: bool,
    /// For tests of the checks: the model of the registrar has room for one contact more.
    pub model_has_more_room: bool,
    /// The engines tell what happens, and what they tell is checked.
    pub listens: bool,
    /// Requests are previewed, and must go as the preview said.
    pub previews: bool,
}

/// What a seed that broke nothing did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    pub virtual_ms: u64,
    /// Datagrams that were sent, both ways.
    pub messages: u64,
    pub commits: u64,
    pub handed_over: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub failed_commits: u64,
    pub lost_answers: u64,
    pub crashes: u64,
    pub ends: Ends,
    /// Answers that the model of the registrar gave too.
    pub compared: u64,
    /// What the engines told has happened, where they were listened to.
    pub told: u64,
    /// Requests that went as their preview said.
    pub previewed: u64,
    /// A hash over the time, the destination and the bytes of everything that the engines sent.
    pub trace_hash: u64,
    /// The same with every identifier masked: a run of eight hex digits or more counts as one.
    pub masked_hash: u64,
}

impl Report {
    /// Adds what another seed did.
    pub fn add(&mut self, other: &Report) {
        self.virtual_ms += other.virtual_ms;
        self.messages += other.messages;
        self.commits += other.commits;
        self.handed_over += other.handed_over;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.failed_commits += other.failed_commits;
        self.lost_answers += other.lost_answers;
        self.crashes += other.crashes;
        self.ends.add(&other.ends);
        self.compared += other.compared;
        self.told += other.told;
        self.previewed += other.previewed;
        self.trace_hash ^= other.trace_hash;
        self.masked_hash ^= other.masked_hash;
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub at_ms: u64,
    pub what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (at {}.{:03} s)", self.what, self.at_ms / 1_000, self.at_ms % 1_000)
    }
}

impl std::error::Error for Failure {}

/// Plays a seed to its end.
///
/// # Errors
/// The first promise that is broken.
pub fn run(seed: u64, options: Options) -> Result<Report, Failure> {
    run_without(seed, options, &[])
}

/// Plays a seed without some parts of its scenario.
///
/// # Errors
/// The first promise that is broken.
pub fn run_without(seed: u64, options: Options, parts: &[Part]) -> Result<Report, Failure> {
    let mut world = World::new(seed, options, parts);
    world.begin();
    while let Some((at_ms, event)) = world.queue.pop() {
        world.now_ms = at_ms;
        let is_end = matches!(event, Event::Empty);
        world.happen(event).map_err(|what| Failure { at_ms, what })?;
        if is_end {
            break;
        }
    }
    Ok(world.report())
}

/// Something that happens. What belongs to a process carries its number and is void in the next one.
#[derive(Debug)]
pub(crate) enum Event {
    /// A datagram reaches the server; a REGISTER has a number.
    Arrive {
        from: SocketAddr,
        branch: Option<u64>,
        bytes: Vec<u8>,
    },
    /// A message reaches the shard that it belongs to; the shards before have sent so many because of it.
    HandOver {
        process: u32,
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
    /// The database may have done something.
    StoreDue {
        process: u32,
    },
    Receipt {
        process: u32,
        shard: ShardId,
        receipt: Receipt,
    },
    /// A shard hears of another one.
    Told {
        process: u32,
        shard: ShardId,
        news: ShardEvent,
    },
    /// More rows are read.
    Page {
        process: u32,
    },
    Tick {
        process: u32,
        shard: ShardId,
    },
    Wake {
        phone: usize,
        generation: u64,
    },
    SwitchOn {
        phone: usize,
    },
    Act {
        phone: usize,
        action: Action,
    },
    Call {
        phone: usize,
        plan: CallPlan,
    },
    Alarm {
        phone: usize,
        life: u64,
        alarm: Alarm,
    },
    Crash(Crash),
    Restart,
    /// The database is away for so long.
    Outage(u64),
    StepClock(i64),
    Heal,
    End,
    Drained,
    Empty,
}

/// Everything there is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) scenario: Scenario,
    pub(crate) config: Arc<Config>,
    pub(crate) now_ms: u64,
    /// By how much the wall clock was moved.
    pub(crate) stepped_ms: i64,
    pub(crate) queue: EventQueue<Event>,
    /// `None` while it is down.
    pub(crate) server: Option<Server>,
    pub(crate) process: u32,
    pub(crate) store: Store,
    pub(crate) network: Network,
    pub(crate) phones: Vec<Phone>,
    /// The other half of each phone.
    pub(crate) callers: Vec<CallPhone>,
    pub(crate) addresses: BTreeMap<SocketAddr, usize>,
    pub(crate) next_port: u16,
    pub(crate) checks: Checks,
    pub(crate) call_checks: CallChecks,
    pub(crate) model: Model,
    /// The AORs that the engine called last has answered for.
    pub(crate) answered: Vec<usize>,
    /// What the engine called last has sent of calls, and how many datagrams the shards before.
    pub(crate) sent: Vec<(SocketAddr, Message)>,
    pub(crate) caused: usize,
    /// Chance of the world itself, and of what the checks look at.
    pub(crate) dice: Dice,
    pub(crate) glances: Dice,
    pub(crate) outbox: Outbox,
    pub(crate) told: u64,
    pub(crate) previewed: u64,
    /// News from shard to shard that have not arrived.
    pub(crate) kept_calls: KeptCalls,
    pub(crate) news_under_way: usize,
    pub(crate) head: Box<Head>,
    pub(crate) is_over: bool,
    pub(crate) handed_over: u64,
    pub(crate) crashes: u64,
    pub(crate) trace: Trace,
}

impl World {
    fn new(seed: u64, options: Options, without: &[Part]) -> World {
        let mut dice = Dice::new(seed);
        let mut scenario = Scenario::draw(&mut dice);
        scenario.leave_out(without);
        scenario.store.lies = options.store_lies;
        let mut store = Store::new(scenario.store, dice.fork());
        for subscriber in &scenario.subscribers {
            store.tables.add_subscriber(&subscriber.user, &subscriber.domain, subscriber.secrets.clone());
        }
        let plans = scenario.phones.iter().cloned().zip(0..);
        let phones: Vec<Phone> = plans.map(|(plan, number)| Phone::new(number, plan, dice.fork())).collect();
        let mut model_config = scenario.config.clone();
        model_config.policy.registrar.max_contacts += u32::from(options.model_has_more_room);
        let deaf = options.ignores_cancel;
        let mut engines = scenario.config.clone();
        if options.lets_anybody_call {
            engines.policy.proxy.authorize = Authorize::Off;
        }
        let mut call_checks = CallChecks::new(&scenario.config);
        phones.iter().for_each(|phone| call_checks.stands(phone.source, phone.client.via));
        let mut listening = Listening::default();
        listening.listen_to(if options.listens { Topics::ALL } else { Topics::CALLS });
        World {
            options,
            config: Arc::new(engines),
            now_ms: 0,
            stepped_ms: 0,
            queue: EventQueue::default(),
            server: None,
            process: 0,
            store,
            network: Network::new(scenario.network, dice.fork()),
            addresses: phones.iter().enumerate().map(|(place, phone)| (phone.source, place)).collect(),
            callers: phones.iter().map(|phone| CallPhone::new(&phone.client, deaf, dice.fork())).collect(),
            phones,
            next_port: 20_000,
            checks: Checks::new(&scenario.config),
            call_checks,
            model: Model::new(&model_config),
            answered: Vec::new(),
            sent: Vec::new(),
            caused: 0,
            glances: dice.fork(),
            dice,
            outbox: Outbox { listening, ..Outbox::default() },
            told: 0,
            previewed: 0,
            kept_calls: KeptCalls::default(),
            news_under_way: 0,
            head: Head::new(),
            is_over: false,
            handed_over: 0,
            crashes: 0,
            trace: Trace::default(),
            scenario,
        }
    }

    /// Puts down everything that the scenario says.
    fn begin(&mut self) {
        self.queue.push(0, Event::Restart);
        for (phone, plan) in self.scenario.phones.iter().enumerate() {
            self.queue.push(plan.starts_ms, Event::SwitchOn { phone });
        }
        for (at_ms, phone, action) in &self.scenario.actions {
            self.queue.push(*at_ms, Event::Act { phone: *phone, action: *action });
        }
        for crash in &self.scenario.crashes {
            self.queue.push(crash.at_ms, Event::Crash(*crash));
        }
        for (at_ms, seconds) in &self.scenario.clock_steps {
            self.queue.push(*at_ms, Event::StepClock(*seconds));
        }
        for (at_ms, long_ms) in &self.scenario.outages {
            self.queue.push(*at_ms, Event::Outage(*long_ms));
        }
        for (at_ms, phone, plan) in &self.scenario.calls {
            self.queue.push(*at_ms, Event::Call { phone: *phone, plan: plan.clone() });
        }
        self.queue.push(HEAL_MS, Event::Heal);
        self.queue.push(END_MS, Event::End);
        self.queue.push(DRAINED_MS, Event::Drained);
        self.queue.push(EMPTY_MS, Event::Empty);
    }

    fn report(&mut self) -> Report {
        self.call_checks.count_ends();
        Report {
            virtual_ms: self.now_ms,
            messages: self.network.carried,
            commits: self.store.commits,
            handed_over: self.handed_over,
            lost: self.network.lost,
            duplicated: self.network.duplicated,
            failed_commits: self.store.failed,
            lost_answers: self.store.answers_lost,
            crashes: self.crashes,
            ends: self.call_checks.ends,
            compared: self.model.compared,
            told: self.told,
            previewed: self.previewed,
            trace_hash: self.trace.exact,
            masked_hash: self.trace.masked,
        }
    }

    /// Both clocks of the process.
    pub(crate) fn now(&self) -> Now {
        let started_ms = self.server.as_ref().map_or(0, |server| server.started_ms);
        Now { mono_ms: BASE_MS + self.now_ms - started_ms, unix_s: self.unix_s() }
    }

    pub(crate) fn unix_s(&self) -> u64 {
        (EPOCH_MS + self.now_ms).saturating_add_signed(self.stepped_ms) / 1_000
    }

    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        if self.options.trace {
            eprintln!("{:>4}.{:03} {}", self.now_ms / 1_000, self.now_ms % 1_000, line());
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Arrive { from, branch, bytes } => self.arrive(from, branch, &bytes),
            Event::HandOver { process, shard, flow, bytes, mark, caused } if process == self.process => {
                self.hand_over(shard, flow, &bytes, mark, caused)
            }
            Event::StoreDue { process } if process == self.process => {
                self.store_done();
                Ok(())
            }
            Event::Receipt { process, shard, receipt } if process == self.process => {
                self.note(|| format!("shard {} hears: {receipt:?}", shard.0));
                if let Receipt::Commit(ticket, _) = &receipt {
                    self.checks.heard(shard, *ticket);
                    self.model.hears(shard, *ticket);
                }
                self.with_engine(shard, |engine, _, now, out| engine.handle_receipt(receipt, now, out))?;
                self.model.has_heard();
                Ok(())
            }
            Event::Tick { process, shard } if process == self.process => self.tick(shard),
            Event::Page { process } if process == self.process => self.read_page(),
            Event::Told { process, shard, news } if process == self.process => {
                self.note(|| format!("shard {} hears: {news:?}", shard.0));
                self.news_under_way -= 1;
                self.with_engine(shard, |engine, _, now, out| engine.handle_shard_event(news, now, out))?;
                self.calls_agree()
            }
            Event::HandOver { .. }
            | Event::StoreDue { .. }
            | Event::Receipt { .. }
            | Event::Page { .. }
            | Event::Told { .. }
            | Event::Tick { .. } => Ok(()),
            Event::Restart => self.restart(),
            Event::End => self.end(),
            Event::Deliver { to, bytes } => self.deliver(to, &bytes),
            Event::Call { phone, plan } => self.call(phone, plan),
            Event::Alarm { phone, life, alarm } => self.alarm(phone, life, alarm),
            Event::Drained => self.drained(),
            Event::Empty => self.is_empty(),
            Event::Crash(crash) => self.crash(crash),
            other => {
                self.happen_outside(other);
                Ok(())
            }
        }
    }

    /// What happens to the world around the server.
    fn happen_outside(&mut self, event: Event) {
        match event {
            Event::Wake { phone, generation } => {
                let now_ms = self.now_ms;
                self.move_phone(phone, |phone| phone.wake(generation, now_ms));
            }
            Event::SwitchOn { phone } => {
                let now_ms = self.now_ms;
                if !self.phones[phone].is_dead() {
                    self.callers[phone].power_up(&self.phones[phone].client);
                }
                self.move_phone(phone, |phone| phone.switch_on(now_ms));
            }
            Event::Act { phone, action } => self.act(phone, action),
            Event::Outage(long_ms) => {
                self.note(|| format!("the database is away for {long_ms} ms"));
                self.store.go_away(self.now_ms + long_ms);
            }
            Event::StepClock(seconds) => {
                self.note(|| format!("the wall clock moves by {seconds} s"));
                self.stepped_ms += seconds * 1_000;
                self.checks.stepped(seconds);
            }
            Event::Heal => {
                self.note(|| "nothing goes wrong any more".to_string());
                self.network.heal();
                self.store.heal();
            }
            _ => {}
        }
    }

    fn deliver(&mut self, to: SocketAddr, bytes: &[u8]) -> Result<(), String> {
        let Some(place) = self.addresses.get(&to).copied() else { return Ok(()) };
        if !is_of_register(&mut self.head, bytes) {
            return self.deliver_call(place, bytes);
        }
        let Some(reply) = Reply::parse(&mut self.head, bytes) else { return Ok(()) };
        let now_ms = self.now_ms;
        self.move_phone(place, |phone| phone.receive(&reply, now_ms));
        Ok(())
    }

    /// Lets a phone do something and carries out what it wants.
    fn move_phone(&mut self, place: usize, action: impl FnOnce(&mut Phone) -> Step) {
        if self.is_over {
            return;
        }
        let phone = &mut self.phones[place];
        let Step { message, wake } = action(phone);
        if let Some((at_ms, generation)) = wake {
            self.queue.push(at_ms, Event::Wake { phone: place, generation });
        }
        let Some(message) = message else { return };
        let (branch, from) = (message.branch, phone.source);
        if let Some(ask) = message.new {
            self.checks.sent(branch, Asked::new(place, phone, ask, message.bytes.len()));
        }
        for delay_ms in self.network.copies() {
            let event = Event::Arrive { from, branch: Some(branch), bytes: message.bytes.clone() };
            self.queue.push(self.now_ms + delay_ms, event);
        }
    }

    fn act(&mut self, place: usize, action: Action) {
        self.note(|| format!("phone {place}: {action:?}"));
        let now_ms = self.now_ms;
        let back_after_ms = match action {
            Action::Reboot { keeps_call_id } => {
                let Phone { source, plan, .. } = &self.phones[place];
                let (ip, private) = (source.ip(), plan.private);
                self.power_cycle(place, ip, private, keeps_call_id);
                None
            }
            Action::Roam { keeps_call_id } => {
                let (ip, private) = self.elsewhere(place);
                self.power_cycle(place, ip, private, keeps_call_id);
                None
            }
            Action::Rebind => {
                self.rebind(place);
                None
            }
            Action::Unregister { back_after_ms } => {
                self.move_phone(place, |phone| phone.unregister(now_ms));
                Some(back_after_ms)
            }
            Action::Silence { back_after_ms } => {
                self.callers[place].power_down();
                self.move_phone(place, |phone| phone.fall_silent(false));
                Some(back_after_ms)
            }
            Action::Die => {
                self.callers[place].power_down();
                self.move_phone(place, |phone| phone.fall_silent(true));
                None
            }
            Action::Query => {
                self.move_phone(place, |phone| phone.query(now_ms));
                None
            }
        };
        if let Some(after_ms) = back_after_ms {
            let at_ms = (now_ms + after_ms).min(HEAL_MS + 5_000);
            self.queue.push(at_ms, Event::SwitchOn { phone: place });
        }
    }

    /// A phone loses power or its network and comes back, at a port that nobody has had.
    fn power_cycle(&mut self, place: usize, ip: IpAddr, private: Option<SocketAddr>, keeps_call_id: bool) {
        let source = SocketAddr::new(ip, self.fresh_port());
        let now_ms = self.now_ms;
        self.addresses.remove(&self.phones[place].source);
        self.callers[place].power_down();
        self.move_phone(place, |phone| phone.move_to(source, private, keeps_call_id, now_ms));
        let phone = &self.phones[place];
        self.call_checks.stands(phone.source, phone.client.via);
        self.addresses.insert(phone.source, place);
        if !phone.is_dead() {
            self.callers[place].power_up(&phone.client);
        }
    }

    /// Another address for a phone, with a router in between or without.
    fn elsewhere(&mut self, place: usize) -> (IpAddr, Option<SocketAddr>) {
        let low = place as u8;
        match self.dice.chance(500) {
            true => {
                let private = SocketAddr::new(IpAddr::from([192, 168, 2, low]), 5_060);
                (IpAddr::from([198, 51, 100, self.dice.below(3) as u8]), Some(private))
            }
            false => (IpAddr::from([10, 2, self.dice.below(200) as u8, low]), None),
        }
    }

    /// The router in front of a phone gives it another port.
    fn rebind(&mut self, place: usize) {
        if self.phones[place].plan.private.is_none() {
            return;
        }
        let port = self.fresh_port();
        let phone = &mut self.phones[place];
        self.addresses.remove(&phone.source);
        self.call_checks.forgotten(phone.source);
        phone.source.set_port(port);
        self.call_checks.stands(phone.source, phone.client.via);
        self.addresses.insert(phone.source, place);
    }

    fn fresh_port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    /// Looks at one user by chance, and at those that the engine called last has answered for.
    pub(crate) fn glance(&mut self) -> Result<(), String> {
        if self.server.as_ref().is_some_and(|server| server.read_up_to.is_some()) {
            // What is not read yet cannot be shown, and is not denied either: requests for it wait.
            return Ok(());
        }
        let place = self.glances.below(self.phones.len() as u64) as usize;
        self.look(place, |world, scene| {
            world.checks.shown(scene, &world.phones)?;
            world.model.agrees(scene.aor, scene.shown, scene.now_ms)
        })?;
        for place in std::mem::take(&mut self.answered) {
            self.look(place, |world, scene| world.model.agrees(scene.aor, scene.shown, scene.now_ms))?;
        }
        Ok(())
    }

    fn look(
        &self,
        place: usize,
        check: impl FnOnce(&World, Scene<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let shown = self.lookup(place);
        let scene = Scene {
            now_ms: self.now_ms,
            unix_s: self.unix_s(),
            tables: &self.store.tables,
            aor: &self.phones[place].plan.aor,
            shown: &shown,
        };
        check(self, scene)
    }

    pub(crate) fn each_aor(
        &self,
        check: impl Fn(&World, Scene<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        (0..self.phones.len()).try_for_each(|place| self.look(place, &check))
    }

    /// The faults stopped long ago: who is alive is registered. From here on the phones are silent.
    fn end(&mut self) -> Result<(), String> {
        self.note(|| "the phones fall silent".to_string());
        self.is_over = true;
        for (place, phone) in self.phones.iter().enumerate() {
            self.look(place, |world, scene| world.checks.registered(scene, phone, &world.phones))?;
        }
        self.calls_are_over()
    }

    /// Nothing is under way any more.
    fn drained(&mut self) -> Result<(), String> {
        let Some(server) = &self.server else { return Err("the server is down at the end".to_string()) };
        if let Some(shard) = server.engines.iter().position(|engine| !engine.is_idle()) {
            return Err(format!("shard {shard} still waits for a receipt at the end"));
        }
        self.each_aor(|world, scene| {
            world.checks.shown(scene, &world.phones)?;
            world.model.agrees(scene.aor, scene.shown, scene.now_ms)?;
            world.checks.agree(scene)
        })?;
        self.is_gone("tm:inuse_transactions")
    }

    /// Nobody has said anything for so long that nothing is left.
    fn is_empty(&mut self) -> Result<(), String> {
        let bound = [
            "usrloc:location-users",
            "usrloc:location-contacts",
            "roost:loading",
            "dialog:early_dialogs",
            "dialog:active_dialogs",
            "roost:agents_with_calls",
        ];
        HELD.iter().chain(&bound).try_for_each(|name| self.is_gone(name))?;
        if !self.options.lets_anybody_call {
            self.call_checks.recorded(self.kept_calls.ended, self.kept_calls.forgotten)?;
        }
        // What a purge missed, because the database was away or the clock stepped, the store's own sweeper finds.
        if self.scenario.may_miss_purges() {
            self.store.tables.purge(self.unix_s());
        }
        match self.store.tables.page(0, 1).first() {
            Some(row) => Err(format!(
                "the row {:x} of {} until {} is left at the end, at {}",
                row.contact_id,
                String::from_utf8_lossy(&row.contact),
                row.expires,
                self.unix_s()
            )),
            None => Ok(()),
        }
    }
}

/// Whether this is a REGISTER or a response to one.
pub(crate) fn is_of_register(head: &mut Head, bytes: &[u8]) -> bool {
    head.parse(bytes).is_ok()
        && head
            .value(bytes, HeaderName::CSeq)
            .and_then(|value| cseq(value).ok())
            .is_some_and(|cseq| cseq.method == b"REGISTER")
}
