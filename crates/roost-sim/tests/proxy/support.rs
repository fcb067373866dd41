//! One engine and phones by hand, in virtual time: a while of silence costs nothing, and what fails fails again.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use roost_core::{
    Command, CommitOutcome, Config, Engine, Flow, Listener, Now, Outbox, Receipt, Rng, Secrets, ShardId,
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
/// Extensions, whose passwords are their names.
const USERS: [&[u8]; 3] = [b"9001", b"9002", b"9003"];

/// An engine at an address, and the network around it.
pub(crate) struct Server {
    pub(crate) sip: SocketAddr,
    world: Rc<RefCell<World>>,
    ports: Cell<u16>,
}

/// A phone's way to it.
pub(crate) struct VirtualLine {
    local: SocketAddr,
    world: Rc<RefCell<World>>,
}

struct World {
    engine: Engine,
    local: SocketAddr,
    now_ms: u64,
    /// What has arrived, and from where.
    arrived: HashMap<SocketAddr, VecDeque<(Vec<u8>, SocketAddr)>>,
    head: Box<Head>,
    out: Outbox,
}

impl Server {
    /// With the extensions 9001, 9002 and 9003, and these settings: lines of `key = value` as in `roost.toml`.
    pub(crate) fn for_calls(settings: &str) -> Server {
        let local: SocketAddr = "127.0.0.1:5070".parse().expect("an address");
        let mut config = Config::default();
        config.policy.listeners = vec![Listener::udp(local)];
        for line in settings.lines().filter(|line| !line.starts_with('[')) {
            let (key, value) = line.split_once(" = ").expect("key = value");
            let value = match value {
                "true" => "1",
                "false" => "0",
                value => value.trim_matches('"'),
            };
            configure(&mut config, key, value).expect("a setting");
        }
        let engine = Engine::new(&config, ShardId(0), Rng::new(7));
        let (head, out) = (Head::new(), Outbox::default());
        let world = World { engine, local, now_ms: BASE_MS, arrived: HashMap::new(), head, out };
        Server { sip: local, world: Rc::new(RefCell::new(world)), ports: Cell::new(20_000) }
    }

    /// A phone of an extension, at 127.0.0.1.
    pub(crate) fn phone(&self, user: &str) -> Phone {
        self.phone_at("127.0.0.1", user, user)
    }

    /// A phone at an address.
    pub(crate) fn phone_at(&self, address: &str, user: &str, password: &str) -> Phone {
        self.ports.set(self.ports.get() + 1);
        let local = SocketAddr::new(address.parse().expect("an address"), self.ports.get());
        self.world.borrow_mut().arrived.insert(local, VecDeque::new());
        let line = VirtualLine { local, world: Rc::clone(&self.world) };
        Phone::over(line, "127.0.0.1", user, password)
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
        statistic(&mut world.engine, name, now)
    }
}

impl Line for VirtualLine {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn send(&self, bytes: &[u8]) {
        self.world.borrow_mut().arrive(self.local, bytes);
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
            world.now_ms = world.engine.poll_timeout().max(world.now_ms + 1).min(end_ms);
            let now = world.now();
            world.engine.handle_timeout(now, &mut world.out);
            world.pump();
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

    fn arrive(&mut self, from: SocketAddr, bytes: &[u8]) {
        let (flow, now) = (Flow::udp(self.local, from), self.now());
        match self.head.parse(bytes) {
            Ok(()) => self.engine.handle_message(&flow, bytes, &self.head, now, &mut self.out),
            Err(error) => self.engine.handle_unreadable(error),
        }
        self.pump();
    }

    /// Carries out what the engine wants until it wants nothing more.
    fn pump(&mut self) {
        loop {
            let mut out = std::mem::take(&mut self.out);
            let now = self.now();
            for transmit in &out.transmits {
                let (to, bytes) = (transmit.flow.remote, out.message(transmit).to_vec());
                if to == self.local {
                    self.arrive_from_ourselves(&bytes);
                } else if let Some(arrived) = self.arrived.get_mut(&to) {
                    arrived.push_back((bytes, self.local));
                }
            }
            let commands: Vec<Command> = out.commands.drain(..).collect();
            for command in commands {
                let receipt = match command {
                    Command::Commit { ticket, .. } => Receipt::Commit(ticket, CommitOutcome::Committed),
                    Command::LoadCredentials { ticket, user, .. } => {
                        let is_known = USERS.contains(&&*user);
                        let secrets = Secrets { password: user, ..Secrets::default() };
                        Receipt::Credentials(ticket, Ok(is_known.then_some(secrets)))
                    }
                    Command::Resolve { ticket, .. } => Receipt::Resolved(ticket, Vec::new()),
                    _ => continue,
                };
                self.engine.handle_receipt(receipt, now, &mut self.out);
            }
            if self.out.transmits.is_empty() && self.out.commands.is_empty() {
                return;
            }
        }
    }

    fn arrive_from_ourselves(&mut self, bytes: &[u8]) {
        let (flow, now) = (Flow::udp(self.local, self.local), self.now());
        if self.head.parse(bytes).is_ok() {
            self.engine.handle_message(&flow, bytes, &self.head, now, &mut self.out);
        }
    }
}
