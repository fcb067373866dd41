//! Engines and phones by hand, in virtual time: a while of silence costs nothing, and what fails fails again.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use roost_core::{
    Address, Command, CommitOutcome, Config, Engine, Flow, HandOver, Listener, Now, Outbox, Receipt, Rng,
    Secrets, ShardEvent, ShardId, Transport,
};
use roost_rig::phone::Line;
use roost_sim::harness::statistic;
use roost_sim::settings::configure;
use roost_sip::Head;

pub(crate) use roost_rig::call::{A_WHILE, Message, ack_of_failure, cancel_of, with_body, without_first_via};
pub(crate) use roost_rig::phone::{Challenge, header, token};
pub(crate) use roost_rig::random::Random;

pub(crate) type Phone = roost_rig::phone::Phone<VirtualLine>;
pub(crate) type Dialog = roost_rig::call::Dialog;

/// What a monotonic clock says when a test begins.
const BASE_MS: u64 = 1 << 40;
const WS_PORT: u16 = 5044;
/// Extensions, whose passwords are their names.
const USERS: [&[u8]; 3] = [b"9001", b"9002", b"9003"];

/// Engines at an address, and the network around them.
pub(crate) struct Server {
    pub(crate) sip: SocketAddr,
    world: Rc<RefCell<World>>,
    ports: Cell<u16>,
}

/// A phone's way to it.
pub(crate) struct VirtualLine {
    local: SocketAddr,
    transport: Transport,
    world: Rc<RefCell<World>>,
}

struct World {
    /// One for each shard.
    engines: Vec<Engine>,
    local: SocketAddr,
    now_ms: u64,
    /// The connections that there are, by their peers.
    connections: HashMap<SocketAddr, (Transport, u64)>,
    /// Where names lead.
    names: HashMap<String, SocketAddr>,
    /// What has arrived, and from where.
    arrived: HashMap<SocketAddr, VecDeque<(Vec<u8>, SocketAddr)>>,
    head: Box<Head>,
    out: Outbox,
}

impl Server {
    /// With the extensions 9001, 9002 and 9003, and these settings: lines of `key = value` as in `roost.toml`.
    pub(crate) fn for_calls(settings: &str) -> Server {
        Server::of_shards(1, settings)
    }

    /// The same with so many workers.
    pub(crate) fn of_shards(shards: u16, settings: &str) -> Server {
        let local: SocketAddr = "127.0.0.1:5070".parse().expect("an address");
        let mut config = Config::default();
        let tcp = Listener::new(Transport::Tcp, local);
        let ws = Listener::new(Transport::Ws, SocketAddr::new(local.ip(), WS_PORT));
        config.policy.listeners = vec![Listener::udp(local), tcp, ws];
        config.identity.shards = shards;
        for line in settings.lines().filter(|line| !line.starts_with('[')) {
            let (key, value) = line.split_once(" = ").expect("key = value");
            let value = match value {
                "true" => "1",
                "false" => "0",
                value => value.trim_matches('"'),
            };
            configure(&mut config, key, value).expect("a setting");
        }
        let engine = |shard| Engine::new(&config, ShardId(shard), Rng::new(7 + u64::from(shard)));
        let world = World {
            engines: (0..shards).map(engine).collect(),
            local,
            now_ms: BASE_MS,
            connections: HashMap::new(),
            names: HashMap::new(),
            arrived: HashMap::new(),
            head: Head::new(),
            out: Outbox::default(),
        };
        Server { sip: local, world: Rc::new(RefCell::new(world)), ports: Cell::new(20_000) }
    }

    /// A phone of an extension, at 127.0.0.1.
    pub(crate) fn phone(&self, user: &str) -> Phone {
        self.phone_at("127.0.0.1", user, user)
    }

    /// A phone at an address.
    pub(crate) fn phone_at(&self, address: &str, user: &str, password: &str) -> Phone {
        self.line_at(address, Transport::Udp, user, password)
    }

    /// A phone of an extension over a connection.
    pub(crate) fn tcp_phone(&self, user: &str) -> Phone {
        self.line_at("127.0.0.1", Transport::Tcp, user, user)
    }

    /// A browser's phone, whose Contact leads nowhere.
    pub(crate) fn browser_at(&self, address: &str, user: &str) -> Phone {
        let mut phone = self.line_at(address, Transport::Ws, user, user);
        phone.contact = format!("sip:{}@{}.invalid;transport=ws", token(), token());
        phone
    }

    /// A phone's connection is gone, and the server has seen that.
    pub(crate) fn cut(&self, phone: &Phone) {
        let world = &mut *self.world.borrow_mut();
        let (_, number) = world.connections.remove(&phone.local()).expect("a connection");
        for shard in 0..world.engines.len() {
            let (now, event) = (world.now(), ShardEvent::ConnectionClosed(number));
            world.engines[shard].handle_shard_event(event, now, &mut world.out);
            world.pump(shard);
        }
    }

    /// A phone's connection is gone, and nobody has noticed.
    pub(crate) fn lose(&self, phone: &Phone) {
        self.world.borrow_mut().connections.remove(&phone.local());
    }

    fn line_at(&self, address: &str, transport: Transport, user: &str, password: &str) -> Phone {
        self.ports.set(self.ports.get() + 1);
        let local = SocketAddr::new(address.parse().expect("an address"), self.ports.get());
        let world = &mut *self.world.borrow_mut();
        world.arrived.insert(local, VecDeque::new());
        if transport.is_reliable() {
            world.connections.insert(local, (transport, local.port().into()));
        }
        let line = VirtualLine { local, transport, world: Rc::clone(&self.world) };
        Phone::over(line, "127.0.0.1", user, password)
    }

    /// From here on a name leads to an address.
    pub(crate) fn names(&self, name: &str, address: SocketAddr) {
        self.world.borrow_mut().names.insert(name.to_owned(), address);
    }

    /// A phone of an extension, registered for five minutes.
    pub(crate) fn registered(&self, user: &str) -> Phone {
        let mut phone = self.phone(user);
        assert_eq!(phone.register(300).line(), "200 OK");
        phone
    }

    pub(crate) fn statistic(&self, name: &str) -> u64 {
        let world = &mut *self.world.borrow_mut();
        let now = world.now();
        world.engines.iter_mut().map(|engine| statistic(engine, name, now)).sum()
    }
}

impl Line for VirtualLine {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn send(&self, bytes: &[u8]) {
        let is_request = !bytes.starts_with(b"SIP/2.0");
        let text = String::from_utf8_lossy(bytes);
        match self.transport.is_reliable() && is_request {
            true => {
                let via = format!("Via: SIP/2.0/{}", self.transport.via_name());
                let text = text.replacen("Via: SIP/2.0/UDP", &via, 1);
                self.world.borrow_mut().arrive(self.local, text.as_bytes());
            }
            false => self.world.borrow_mut().arrive(self.local, bytes),
        }
    }

    fn receive(&self, patience: Duration) -> Option<(Vec<u8>, SocketAddr)> {
        let world = &mut *self.world.borrow_mut();
        let end_ms = world.now_ms + patience.as_millis() as u64;
        loop {
            if let Some(arrived) = world.arrived.get_mut(&self.local).and_then(VecDeque::pop_front) {
                return Some(arrived);
            }
            if world.now_ms >= end_ms {
                return None;
            }
            let next_ms = world.engines.iter().map(Engine::poll_timeout).min().unwrap_or(end_ms);
            world.now_ms = next_ms.max(world.now_ms + 1).min(end_ms);
            for shard in 0..world.engines.len() {
                let now = world.now();
                world.engines[shard].handle_timeout(now, &mut world.out);
                world.pump(shard);
            }
        }
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.world.borrow().now_ms - BASE_MS)
    }
}

impl World {
    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, unix_s: 1_800_000_000 + (self.now_ms - BASE_MS) / 1_000 }
    }

    /// A message arrives, at any shard.
    fn arrive(&mut self, from: SocketAddr, bytes: &[u8]) {
        let flow = match self.connections.get(&from) {
            Some((Transport::Ws, number)) => {
                Flow::stream(Transport::Ws, SocketAddr::new(self.local.ip(), WS_PORT), from, *number)
            }
            Some((transport, number)) => Flow::stream(*transport, self.local, from, *number),
            None => Flow::udp(self.local, from),
        };
        let (shard, now) = (usize::from(from.port()) % self.engines.len(), self.now());
        match self.head.parse(bytes) {
            Ok(()) => self.engines[shard].handle_message(&flow, bytes, &self.head, now, &mut self.out),
            Err(error) => self.engines[shard].handle_unreadable(error),
        }
        self.pump(shard);
    }

    /// Carries out what a shard's engine wants until it wants nothing more.
    fn pump(&mut self, shard: usize) {
        loop {
            let mut out = std::mem::take(&mut self.out);
            let now = self.now();
            let mut unsent = Vec::new();
            for transmit in &out.transmits {
                let (flow, bytes) = (transmit.flow, out.message(transmit).to_vec());
                let connection = self.connections.get(&flow.remote).map(|(_, number)| *number);
                let is_there = match flow.transport.is_reliable() {
                    true => connection.is_some_and(|number| [0, number].contains(&flow.connection)),
                    false => connection.is_none(),
                };
                if flow.remote == self.local {
                    self.arrive(self.local, &bytes);
                } else if let Some(arrived) = self.arrived.get_mut(&flow.remote).filter(|_| is_there) {
                    arrived.push_back((bytes, self.local));
                } else if flow.transport.is_reliable() {
                    unsent.push(ShardEvent::Unsent(flow, bytes.into()));
                }
            }
            let commands: Vec<Command> = out.commands.drain(..).collect();
            for event in unsent {
                self.engines[shard].handle_shard_event(event, now, &mut self.out);
            }
            for command in commands {
                let receipt = match command {
                    Command::Commit { ticket, .. } => Receipt::Commit(ticket, CommitOutcome::Committed),
                    Command::LoadCredentials { ticket, user, .. } => {
                        let is_known = USERS.contains(&&*user);
                        let secrets = Secrets { password: user, ..Secrets::default() };
                        Receipt::Credentials(ticket, Ok(is_known.then_some(secrets)))
                    }
                    Command::Resolve { ticket, name } => {
                        let found = self.names.get(&*name.host).map(|remote| Address {
                            remote: *remote,
                            local: None,
                            connection: 0,
                        });
                        Receipt::Resolved(ticket, found.into_iter().collect())
                    }
                    Command::ToShard(message) => {
                        let bytes = out.bytes[message.start..message.end].to_vec();
                        self.hand_over(&message, &bytes);
                        continue;
                    }
                    Command::Tell { shard: told, event } => {
                        for other in 0..self.engines.len() {
                            if told.is_none_or(|told| usize::from(told.0) == other) {
                                let own = std::mem::take(&mut self.out);
                                self.engines[other].handle_shard_event(event.clone(), now, &mut self.out);
                                self.pump(other);
                                self.out = own;
                            }
                        }
                        continue;
                    }
                    _ => continue,
                };
                self.engines[shard].handle_receipt(receipt, now, &mut self.out);
            }
            if self.out.transmits.is_empty() && self.out.commands.is_empty() {
                return;
            }
        }
    }

    fn hand_over(&mut self, message: &HandOver, bytes: &[u8]) {
        let (to, now) = (usize::from(message.shard.0), self.now());
        self.head.parse(bytes).expect("a message");
        let own = std::mem::take(&mut self.out);
        let engine = &mut self.engines[to];
        engine.handle_handed_over(&message.flow, bytes, &self.head, message.mark, now, &mut self.out);
        self.pump(to);
        self.out = own;
    }
}
