//! Wire goldens: plays a script of [`crate::script`] against one engine and compares every answer byte by byte.
//!
//! The stage is small on purpose: one shard, keys that never change, a database that answers at once unless the
//! script says otherwise. It starts at Sat, 09 May 2020 02:11:39 GMT, half a minute before the nonces of the original
//! description end. Settings are roost's own defaults but for `server_header = roost`, `add_date = 0` and
//! `ds_ping_interval = 0`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::Path;

use roost_core::{
    Address, Command, CommitOutcome, Config, Engine, Flow, Listener, Now, Outbox, Receipt, Rng, Rule,
    Secrets, ShardEvent, ShardId, Ticket, Transport, Write,
};
use roost_sip::{Head, HeaderName, StartLine};

use crate::client::{Challenge, ha1};
use crate::harness::{HELD, statistic};
use crate::script::{Database, Peer, Step, What, fits, parse};
use crate::settings::{configure, flag};
use crate::store::Tables;

/// What a process's monotonic clock says when it starts.
const BASE_MS: u64 = 1 << 40;
/// The wall clock when a script begins.
const START_UNIX_S: u64 = 1_588_990_299;
/// How long next hops are looked at until none is being pinged, in seconds.
const PING_PAUSE_S: u32 = 30;
/// How long `db slow` takes.
const SLOW_MS: u64 = 2_000;

/// Plays a file.
///
/// # Errors
/// The file, the line, and what is not as written there.
pub fn run_file(path: &Path) -> Result<(), String> {
    let told = |error: String| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
    run(&text).map_err(told)
}

/// Plays a script.
///
/// # Errors
/// The line, and what is not as written there.
pub fn run(text: &str) -> Result<(), String> {
    run_on(Config::default(), text)
}

/// Plays a script on a configuration; what it sets itself counts.
///
/// # Errors
/// As [`run`].
pub fn run_on(config: Config, text: &str) -> Result<(), String> {
    let mut stage = Stage::new(config);
    for Step { line, what } in parse(text)? {
        stage.perform(what).map_err(|error| format!("line {line}: {error}"))?;
    }
    stage.nothing_is_left().map_err(|error| format!("at the end: {error}"))?;
    stage.drains()
}

struct Stage {
    config: Config,
    local: SocketAddr,
    subscribers: Vec<Subscriber>,
    /// `None` before the first message.
    engine: Option<Engine>,
    now_ms: u64,
    /// When this process's monotonic clock began.
    started_ms: u64,
    tables: Tables,
    /// Answers that no `<<` has taken yet.
    answers: VecDeque<(Flow, Vec<u8>)>,
    is_held: bool,
    /// What becomes of the next commit.
    next: Option<Database>,
    /// Commits that wait: until then, or for `db release`.
    waiting: VecDeque<(Option<u64>, Ticket, Vec<Write>)>,
    /// What DNS says.
    names: BTreeMap<String, Vec<SocketAddr>>,
    /// The last challenge seen, and how often it was answered.
    challenge: Option<Challenge>,
    nc: u32,
    /// The connections that are open, by their peer, and the number of the last one.
    open: BTreeMap<SocketAddr, u64>,
    connections: u64,
    /// Peers that take no connection.
    refusing: BTreeSet<SocketAddr>,
    /// The last message from each address.
    sent: BTreeMap<SocketAddr, Vec<u8>>,
    /// The Via lines of the last request that went to an address.
    vias: BTreeMap<SocketAddr, String>,
    /// The Record-Route of the last request that had one, as Route.
    routes: String,
    head: Box<Head>,
    outbox: Outbox,
}

struct Subscriber {
    name: String,
    domain: String,
    password: String,
}

impl Stage {
    fn new(mut config: Config) -> Stage {
        config.policy.server_header = "roost".to_string();
        config.identity.mac_key = [7; 32];
        config.policy.registrar.add_date = false;
        config.policy.dispatcher.ping_interval_s = 0;
        Stage {
            config,
            local: SocketAddr::from(([10, 2, 84, 19], 5060)),
            subscribers: Vec::new(),
            engine: None,
            now_ms: 0,
            started_ms: 0,
            tables: Tables::default(),
            answers: VecDeque::new(),
            is_held: false,
            next: None,
            waiting: VecDeque::new(),
            names: BTreeMap::new(),
            challenge: None,
            nc: 0,
            open: BTreeMap::new(),
            connections: 0,
            refusing: BTreeSet::new(),
            sent: BTreeMap::new(),
            vias: BTreeMap::new(),
            routes: String::new(),
            head: Head::new(),
            outbox: Outbox::default(),
        }
    }

    fn perform(&mut self, what: What) -> Result<(), String> {
        match what {
            What::Expect { to, lines } => return self.expect(to, &lines),
            What::Database(order) => {
                self.order(order);
                return Ok(());
            }
            _ => self.nothing_is_left()?,
        }
        match what {
            What::Config { key, value } => self.configure(&key, &value)?,
            What::Local(local) => self.local = local,
            What::Route(rule) => {
                let mut rules = self.config.policy.routes.to_vec();
                let set = rules.len() as u32 + 1;
                rules.push(Rule { set, ..*rule });
                self.config.policy.routes = rules.into();
            }
            What::Name { name, places } => drop(self.names.insert(name, places)),
            What::User { name, domain, password } => {
                self.subscribers.push(Subscriber { name, domain, password });
            }
            What::Send { from, lines } => {
                let message = self.message(from.address, &lines)?;
                self.sent.insert(from.address, message.clone());
                self.receive(from, &message)?;
            }
            What::SendAgain { from } => {
                let sent = self.sent.get(&from.address);
                let message = sent.cloned().ok_or("nothing came from there before")?;
                self.receive(from, &message)?;
            }
            What::Closed(remote) => {
                let connection = self.open.remove(&remote).ok_or("no connection to there is open")?;
                let now = self.now();
                if let Some(engine) = &mut self.engine {
                    engine.handle_shard_event(
                        ShardEvent::ConnectionClosed(connection),
                        now,
                        &mut self.outbox,
                    );
                }
                self.pump();
            }
            What::Refuse(remote) => drop(self.refusing.insert(remote)),
            What::Pass(ms) => self.pass(ms),
            What::Restart => {
                self.engine = None;
                self.open.clear();
                self.waiting.clear();
                self.started_ms = self.now_ms;
                self.start()?;
            }
            What::Expect { .. } | What::ExpectNothing | What::Database(_) => {}
        }
        Ok(())
    }

    fn now(&self) -> Now {
        Now { mono_ms: BASE_MS + self.now_ms - self.started_ms, unix_s: START_UNIX_S + self.now_ms / 1_000 }
    }

    fn configure(&mut self, key: &str, value: &str) -> Result<(), String> {
        if self.engine.is_some() {
            return Err("config belongs before the first message".to_string());
        }
        let listening = |transport| Listener::new(transport, self.local);
        if key == "tcp" {
            self.config.policy.listeners = [Transport::Udp, Transport::Tcp].map(listening).into();
            return flag(value).map(drop);
        }
        // What pings has an address to send from.
        if key == "ds_ping_interval" {
            self.config.policy.listeners = vec![listening(Transport::Udp)];
        }
        configure(&mut self.config, key, value)
    }

    /// The bytes of a message, its `{nonce}` and `{auth …}` filled in; `{vias}` stands for the Via lines of the last
    /// request that went to its sender, `{routes}` for the Record-Route of the last one anywhere, as Route.
    fn message(&mut self, from: SocketAddr, lines: &[String]) -> Result<Vec<u8>, String> {
        let start = lines.first().cloned().unwrap_or_default();
        let mut words = start.split(' ');
        let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut message = String::new();
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                message.push_str("\r\n");
            }
            if line == "{vias}" {
                message.push_str(self.vias.get(&from).ok_or("{vias} before a request went there")?);
                continue;
            }
            if line == "{routes}" {
                message.push_str(&self.routes);
                continue;
            }
            match line.strip_prefix("{auth ").and_then(|rest| rest.strip_suffix('}')) {
                Some(words) => message.push_str(&self.credentials(words, method, uri)?),
                None if line.contains("{nonce}") => {
                    let challenge = self.challenge.as_ref().ok_or("{nonce} before the first challenge")?;
                    message.push_str(&line.replace("{nonce}", &challenge.nonce));
                }
                None => message.push_str(line),
            }
        }
        message.push_str("\r\n\r\n");
        Ok(message.into_bytes())
    }

    /// `USER PASSWORD [nc=N]` as an Authorization line that answers the last challenge.
    fn credentials(&mut self, words: &str, method: &str, uri: &str) -> Result<String, String> {
        let words: Vec<&str> = words.split_whitespace().collect();
        let challenge = self.challenge.as_ref().ok_or("{auth} before the first challenge")?;
        let (user, password) = match words[..] {
            [user, password] => {
                self.nc += 1;
                (user, password)
            }
            [user, password, count] => {
                let count = count.strip_prefix("nc=").and_then(|count| count.parse().ok());
                self.nc = count.ok_or("{auth USER PASSWORD nc=N}")?;
                (user, password)
            }
            _ => return Err("{auth USER PASSWORD [nc=N]}".to_string()),
        };
        Ok(challenge.answer(user, password, method, uri, self.nc))
    }

    fn receive(&mut self, from: Peer, message: &[u8]) -> Result<(), String> {
        self.start()?;
        let flow = match from.transport {
            Transport::Udp => Flow::udp(self.local, from.address),
            transport => {
                let id = *self.open.entry(from.address).or_insert_with(|| {
                    self.connections += 1;
                    self.connections
                });
                Flow::stream(transport, self.local, from.address, id)
            }
        };
        let now = self.now();
        if let Some(engine) = &mut self.engine {
            match self.head.parse(message) {
                Ok(()) => engine.handle_message(&flow, message, &self.head, now, &mut self.outbox),
                Err(error) => engine.handle_unreadable(error),
            }
        }
        self.pump();
        Ok(())
    }

    /// Starts the process, if it does not run: what is durable is loaded.
    fn start(&mut self) -> Result<(), String> {
        if self.engine.is_some() {
            return Ok(());
        }
        let now = self.now();
        let mut engine = Engine::new(&self.config, ShardId(0), Rng::new(now.unix_s));
        self.tables.purge(now.unix_s);
        for row in self.tables.page(0, usize::MAX) {
            engine.load(&row, now).map_err(|error| format!("a row is not taken: {error}: {row:?}"))?;
        }
        self.engine = Some(engine);
        Ok(())
    }

    /// Carries out what the engine wants until it wants nothing more.
    fn pump(&mut self) {
        loop {
            let mut outbox = std::mem::take(&mut self.outbox);
            let mut unsent = Vec::new();
            for transmit in &outbox.transmits {
                let (flow, message) = (transmit.flow, outbox.message(transmit));
                let is_open =
                    self.open.get(&flow.remote).is_some_and(|id| [0, *id].contains(&flow.connection));
                let is_made = flow.connection == 0 && !self.refusing.contains(&flow.remote);
                match flow.transport.is_reliable() && !is_open && !is_made {
                    true => unsent.push(ShardEvent::Unsent(flow, message.into())),
                    false => self.answer(flow, message),
                }
            }
            let commands: Vec<Command> = outbox.commands.drain(..).collect();
            outbox.clear();
            self.outbox = outbox;
            if commands.is_empty() && unsent.is_empty() {
                return;
            }
            let now = self.now();
            for news in unsent {
                if let Some(engine) = &mut self.engine {
                    engine.handle_shard_event(news, now, &mut self.outbox);
                }
            }
            for command in commands {
                self.command(command);
            }
        }
    }

    fn answer(&mut self, flow: Flow, message: &[u8]) {
        if self.head.parse(message).is_ok()
            && let Some(challenge) = Challenge::of(&self.head, message)
        {
            if self.challenge.as_ref().is_none_or(|last| last.nonce != challenge.nonce) {
                self.nc = 0;
            }
            self.challenge = Some(challenge);
        }
        if matches!(self.head.start_line(), StartLine::Request { .. }) {
            let of = |name| self.head.values(message, name).map(String::from_utf8_lossy);
            let vias: Vec<_> = of(HeaderName::Via).map(|via| format!("Via: {via}")).collect();
            let routes: Vec<_> = of(HeaderName::RecordRoute).map(|route| format!("Route: {route}")).collect();
            self.vias.insert(flow.remote, vias.join("\r\n"));
            if !routes.is_empty() {
                self.routes = routes.join("\r\n");
            }
        }
        self.answers.push_back((flow, message.to_vec()));
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Commit { ticket, writes, .. } if self.is_held => {
                self.waiting.push_back((None, ticket, writes))
            }
            Command::Commit { ticket, writes, .. } => match self.next.take() {
                Some(Database::Slow) => {
                    self.waiting.push_back((Some(self.now_ms + SLOW_MS), ticket, writes));
                }
                fate => self.commit(fate, ticket, &writes),
            },
            Command::Purge { writes } => drop(self.tables.apply(&writes)),
            Command::LoadCredentials { ticket, user, domain } => {
                let secrets = self.secrets(&user, domain.as_deref());
                self.receipt(Receipt::Credentials(ticket, Ok(secrets)));
            }
            Command::Resolve { ticket, name } => {
                let found = match name.address() {
                    Some(address) => vec![address],
                    None => self.names.get(&*name.host).cloned().unwrap_or_default(),
                };
                let address = |remote| Address { remote, local: Some(self.local.ip()), connection: 0 };
                let addresses = found.into_iter().map(address).collect();
                self.receipt(Receipt::Resolved(ticket, addresses));
            }
            // Nothing is shared here.
            Command::LoadRecord { .. }
            | Command::ToShard(_)
            | Command::AdminReply { .. }
            | Command::Tell { .. }
            | Command::KeepConnection { .. } => {}
        }
    }

    fn commit(&mut self, fate: Option<Database>, ticket: Ticket, writes: &[Write]) {
        let outcome = match fate {
            Some(Database::Fail) => CommitOutcome::Failed("the disk is full".to_string()),
            _ => match self.tables.apply(writes) {
                Ok(_) if fate == Some(Database::Lose) => CommitOutcome::Failed("no answer".to_string()),
                Ok(_) => CommitOutcome::Committed,
                Err(error) => CommitOutcome::Failed(error),
            },
        };
        self.receipt(Receipt::Commit(ticket, outcome));
    }

    fn receipt(&mut self, receipt: Receipt) {
        let now = self.now();
        if let Some(engine) = &mut self.engine {
            engine.handle_receipt(receipt, now, &mut self.outbox);
        }
    }

    /// A subscriber's row. Its hashes are made for the fixed realm, else for its domain, else for our address.
    fn secrets(&self, user: &[u8], domain: Option<&[u8]>) -> Option<Secrets> {
        let is_it = |subscriber: &&Subscriber| {
            subscriber.name.as_bytes() == user
                && domain.is_none_or(|domain| subscriber.domain.as_bytes() == domain)
        };
        let Subscriber { name, domain, password } = self.subscribers.iter().find(is_it)?;
        if self.config.policy.auth_db.calculate_ha1 {
            return Some(Secrets { password: password.as_bytes().into(), ..Secrets::default() });
        }
        let own = self.local.ip().to_string();
        let domain = if domain.is_empty() { &own } else { domain };
        let realm =
            if self.config.policy.auth.realm.is_empty() { domain } else { &self.config.policy.auth.realm };
        Some(Secrets {
            password: ha1(name, realm, password).into_bytes().into(),
            password_2: ha1(&format!("{name}@{domain}"), realm, password).into_bytes().into(),
            ..Secrets::default()
        })
    }

    fn order(&mut self, order: Database) {
        match order {
            Database::Fail | Database::Lose | Database::Slow => self.next = Some(order),
            Database::Hold => self.is_held = true,
            Database::Release => {
                self.is_held = false;
                self.go_on(|due_ms, _| due_ms.is_none());
            }
        }
    }

    /// Does the commits that waited, in their order, as long as they may go on.
    fn go_on(&mut self, may: impl Fn(Option<u64>, u64) -> bool) {
        while self.waiting.front().is_some_and(|(due_ms, ..)| may(*due_ms, self.now_ms)) {
            let Some((_, ticket, writes)) = self.waiting.pop_front() else { return };
            self.commit(None, ticket, &writes);
            self.pump();
        }
    }

    /// Lets time pass, a tenth of a second at most at once.
    fn pass(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while self.now_ms < end_ms {
            self.now_ms = (self.now_ms + 100).min(end_ms);
            self.go_on(|due_ms, now_ms| due_ms.is_some_and(|due_ms| due_ms <= now_ms));
            let now = self.now();
            if let Some(engine) = &mut self.engine {
                engine.handle_timeout(now, &mut self.outbox);
            }
            self.pump();
        }
    }

    /// Long after the last line the engine holds nothing for anybody.
    fn drains(&mut self) -> Result<(), String> {
        self.is_held = false;
        self.go_on(|_, _| true);
        self.pass(400_000);
        let mut held = None;
        // Between two pings of next hops there is a moment without any.
        for _ in 0..PING_PAUSE_S {
            let now = self.now();
            let Some(engine) = &mut self.engine else { return Ok(()) };
            held = HELD
                .map(|name| (name, statistic(engine, name, now)))
                .into_iter()
                .find(|(_, held)| *held != 0);
            if held.is_none() {
                return Ok(());
            }
            self.pass(1_000);
        }
        held.map_or(Ok(()), |(name, held)| Err(format!("{name} is {held} long after the end")))
    }

    fn expect(&mut self, to: Peer, expected: &[String]) -> Result<(), String> {
        let wanted = expected.join("\n");
        let Some((flow, message)) = self.answers.pop_front() else {
            return Err(format!("no answer, where this was expected to {to}:\n{wanted}"));
        };
        let got = shown(&message);
        let went = Peer { transport: flow.transport, address: flow.remote };
        if (flow.local, went) != (self.local, to) {
            let (own, local) = (self.local, flow.local);
            return Err(format!("expected from {own} to {to}, but from {local} to {went}:\n{got}"));
        }
        let Some(body) = message.strip_suffix(b"\r\n\r\n") else {
            return Err(format!("an answer that does not end in an empty line:\n{got}"));
        };
        let lines: Vec<&[u8]> = split_lines(body);
        let differs = (0..lines.len().max(expected.len())).find(|index| {
            match (expected.get(*index), lines.get(*index)) {
                (Some(pattern), Some(line)) => !fits(pattern.as_bytes(), line),
                _ => true,
            }
        });
        match differs {
            Some(index) => {
                Err(format!("line {} of the answer differs; expected\n{wanted}\n\nbut got\n{got}", index + 1))
            }
            None => Ok(()),
        }
    }

    fn nothing_is_left(&self) -> Result<(), String> {
        match self.answers.front() {
            Some((flow, message)) => {
                Err(format!("an answer to {} that nobody expects:\n{}", flow.remote, shown(message)))
            }
            None => Ok(()),
        }
    }
}

/// The lines of a message, without their CRLF; a CR or LF alone ends none.
fn split_lines(message: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = message;
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    lines
}

fn shown(message: &[u8]) -> String {
    String::from_utf8_lossy(message).replace("\r\n", "\n").trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: &str = "\
>> 10.0.0.9:5062
OPTIONS sip:10.2.84.19 SIP/2.0
Via: SIP/2.0/UDP 10.0.0.9:5062;branch=z9hG4bK1;rport
From: <sip:a@b>;tag=1
To: <sip:10.2.84.19>
Call-ID: c
CSeq: 1 OPTIONS

<< 10.0.0.9:5062
SIP/2.0 200 OK
Via: SIP/2.0/UDP 10.0.0.9:5062;received=10.0.0.9;branch=z9hG4bK1;rport=5062
From: <sip:a@b>;tag=1
To: <sip:10.2.84.19>;tag=*
Call-ID: c
CSeq: 1 OPTIONS
Server: roost
Content-Length: 0
";

    #[test]
    fn a_flow_that_is_as_written() {
        assert_eq!(run(FLOW), Ok(()));
        assert_eq!(run(&format!("{FLOW}\n>> 10.0.0.9:5062\n<< nothing\n")), Ok(()));
    }

    #[test]
    fn a_flow_that_is_not() {
        let told = |from: &str, to: &str| run(&FLOW.replace(from, to)).unwrap_err();
        assert!(told("Server: roost", "Server: other").contains("line 7 of the answer differs"));
        assert!(told("Content-Length: 0\n", "Content-Length: 0\nDate: *\n").contains("line 9"));
        assert!(told("<< 10.0.0.9:5062", "<< 10.0.0.9:5063").contains("expected from"));
        assert!(
            run(&format!("{FLOW}\n<< 10.0.0.9:5062\nSIP/2.0 200 OK\n")).unwrap_err().contains("no answer")
        );
        assert!(run(FLOW.split("<<").next().unwrap()).unwrap_err().contains("nobody expects"));
    }
}
