//! One engine, by hand: what is told to it, and what it says, by hand. For tests of what only an engine by itself
//! shows, such as its limits. What a test did not expect panics.

use std::net::{IpAddr, SocketAddr};

use roost_core::{
    Admin, AdminReply, Authorize, Command, Config, Engine, Flow, Listener, Now, Outbox, Reading, Receipt,
    Rng, Secrets, ShardEvent, ShardId, SubscriberRow, Ticket,
};
use roost_sip::{Head, StartLine};

use crate::call_message::Message;
use crate::client::Challenge;
use crate::scenario::SERVER;

/// Everybody's domain.
pub const REALM: &str = "roost.test";
/// Everybody's password.
pub const PASSWORD: &str = "secret";

/// What an engine sent and wants.
#[derive(Debug, Default)]
pub struct Said {
    /// The status codes of its responses.
    pub codes: Vec<u16>,
    pub texts: Vec<String>,
    /// Where its requests went.
    pub requests: Vec<SocketAddr>,
    pub commits: Vec<Ticket>,
    /// Of these, how many the database is asked to decide.
    pub exclusive: usize,
    pub loads: Vec<Ticket>,
    pub names: Vec<Ticket>,
    pub replies: Vec<AdminReply>,
}

/// One engine, and who talks to it.
pub struct Harness {
    pub engine: Engine,
    pub head: Box<Head>,
    pub out: Outbox,
    pub now: Now,
    pub challenge: Option<Challenge>,
    pub next: u32,
}

impl std::fmt::Debug for Harness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Harness").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Harness {
    /// An engine of shard 0 with one realm, in a process of some age.
    pub fn new(change: impl FnOnce(&mut Config)) -> Harness {
        let mut config = Config::default();
        config.policy.listeners = vec![Listener::udp(SERVER)];
        config.identity.hash_seed = 7;
        config.policy.auth.realm = REALM.to_string();
        change(&mut config);
        let now = Now { mono_ms: 1 << 40, unix_s: 1_800_000_000 };
        let mut engine = Engine::new(&config, ShardId(0), Rng::new(7));
        let mut out = Outbox::default();
        engine.handle_timeout(now, &mut out);
        out.clear();
        Harness { engine, head: Head::new(), out, now, challenge: None, next: 0 }
    }

    /// The same, with extensions from 0 on whose secrets are known.
    pub fn with_users(users: u32, change: impl FnOnce(&mut Config)) -> Harness {
        let mut harness = Harness::new(change);
        harness.read((0..users).map(subscriber).collect());
        harness
    }

    /// A whole reading of `subscriber`.
    pub fn read(&mut self, rows: Vec<SubscriberRow>) {
        self.engine.handle_reading(Reading::Rows(rows), self.now.mono_ms);
        self.engine.handle_reading(Reading::Done, self.now.mono_ms);
    }

    /// A statistic by its name.
    pub fn count(&mut self, name: &str) -> u64 {
        statistic(&mut self.engine, name, self.now)
    }

    /// What an operator is answered at once.
    pub fn admin(&mut self, request: Admin) -> AdminReply {
        self.ask(request).replies.pop().expect("an answer at once")
    }

    pub fn ask(&mut self, request: Admin) -> Said {
        self.engine.handle_admin(Ticket(1), request, self.now, &mut self.out);
        self.said()
    }

    /// What became of a command.
    pub fn receipt(&mut self, receipt: Receipt) -> Said {
        self.engine.handle_receipt(receipt, self.now, &mut self.out);
        self.said()
    }

    /// Time passes.
    pub fn wait(&mut self, ms: u64) -> Said {
        self.now.mono_ms += ms;
        self.now.unix_s += ms / 1_000;
        self.engine.handle_timeout(self.now, &mut self.out);
        self.said()
    }

    /// A datagram arrives.
    pub fn send(&mut self, from: SocketAddr, text: &str) -> Said {
        self.head.parse(text.as_bytes()).expect("a message");
        let flow = Flow::udp(SERVER, from);
        self.engine.handle_message(&flow, text.as_bytes(), &self.head, self.now, &mut self.out);
        self.said()
    }

    fn said(&mut self) -> Said {
        let mut said = Said::default();
        for transmit in &self.out.transmits {
            let bytes = self.out.message(transmit);
            self.head.parse(bytes).expect("a message");
            match self.head.start_line() {
                StartLine::Response { code } => said.codes.push(code),
                StartLine::Request { .. } => said.requests.push(transmit.flow.remote),
            }
            said.texts.push(String::from_utf8_lossy(bytes).into_owned());
        }
        for command in self.out.commands.drain(..) {
            match command {
                Command::Commit { ticket, exclusive, .. } => {
                    said.commits.push(ticket);
                    said.exclusive += usize::from(exclusive.is_some());
                }
                Command::LoadCredentials { ticket, .. } => said.loads.push(ticket),
                Command::Resolve { ticket, .. } => said.names.push(ticket),
                Command::AdminReply { reply, .. } => said.replies.push(reply),
                _ => {}
            }
        }
        self.out.clear();
        said
    }

    /// A REGISTER of a user with the right password; `headers` are more lines.
    pub fn register(&mut self, user: &str, headers: &str) -> Said {
        let words = Words { user, headers, ..Words::default() };
        self.register_as(phone(1), &words)
    }

    /// A REGISTER with credentials for the nonce that was asked for first.
    pub fn register_as(&mut self, from: SocketAddr, words: &Words<'_>) -> Said {
        let text = self.register_text(words);
        self.send(from, &text)
    }

    /// The same, not sent.
    pub fn register_text(&mut self, words: &Words<'_>) -> String {
        let Words { user, domain, call_id, password, headers, body } = *words;
        if self.challenge.is_none() {
            let text = request("REGISTER", "sip:roost.test", user, "first", 1, "", 0);
            let said = self.send(phone(9), &text);
            self.head.parse(said.texts[0].as_bytes()).expect("a 401");
            self.challenge = Challenge::of(&self.head, said.texts[0].as_bytes());
        }
        self.next += 1;
        let challenge = self.challenge.as_ref().expect("a challenge");
        let line = challenge.answer(user, password, "REGISTER", "sip:roost.test", 1);
        let headers = format!("{headers}{line}\r\n");
        let text = request("REGISTER", "sip:roost.test", user, call_id, self.next, &headers, body);
        text.replace(&format!("To: <sip:{user}@{REALM}>"), &format!("To: <sip:{user}@{domain}>"))
    }

    /// The other shards, and the shell that keeps the connections, have something to say.
    pub fn hear(&mut self, news: ShardEvent) -> Said {
        self.engine.handle_shard_event(news, self.now, &mut self.out);
        self.said()
    }

    /// An INVITE of `caller`, the phone of this number, to somebody.
    pub fn invite(&mut self, from: u32, to: &str, body: usize) -> Said {
        self.next += 1;
        let uri = format!("sip:{to}@{REALM}");
        let text = request("INVITE", &uri, "caller", &format!("call{}", self.next), 1, "", body);
        self.send(phone(from), &text)
    }

    /// Binds contacts as an operator does, without time limits.
    pub fn bind(&mut self, aor: &str, contact: &str) -> AdminReply {
        let (aor, contact) = (aor.as_bytes().to_vec(), contact.as_bytes().to_vec());
        self.admin(Admin::Add { aor, contact, expires_s: 0, q: None, methods: None })
    }
}

/// Statistics of what an engine holds for requests under way: 0 when nobody has asked anything for long.
pub const HELD: [&str; 5] = [
    "tm:inuse_transactions",
    "roost:transaction_bytes",
    "roost:commits_in_flight",
    "roost:parked",
    "roost:resolving",
];

/// A statistic of an engine by its name.
pub fn statistic(engine: &mut Engine, name: &str, now: Now) -> u64 {
    let mut out = Outbox::default();
    engine.handle_admin(Ticket(0), Admin::Statistics, now, &mut out);
    let all = out.commands.into_iter().find_map(|command| match command {
        Command::AdminReply { reply: AdminReply::Statistics(all), .. } => Some(all),
        _ => None,
    });
    let found = all.and_then(|all| all.values.into_iter().find(|(other, _)| *other == name));
    found.unwrap_or_else(|| panic!("no statistic is called {name}")).1
}

/// The words of a REGISTER.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    pub user: &'a str,
    pub domain: &'a str,
    pub call_id: &'a str,
    pub password: &'a str,
    pub headers: &'a str,
    pub body: usize,
}

impl Default for Words<'_> {
    fn default() -> Self {
        Words { user: "0", domain: REALM, call_id: "c", password: PASSWORD, headers: "", body: 0 }
    }
}

/// A request of a user, with a body of so many bytes.
pub fn request(
    method: &str,
    uri: &str,
    user: &str,
    call_id: &str,
    cseq: u32,
    headers: &str,
    body: usize,
) -> String {
    let to = if method == "REGISTER" { format!("sip:{user}@{REALM}") } else { uri.to_string() };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 10.9.9.9;branch=z9hG4bK{call_id}.{cseq};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@{REALM}>;tag=f\r\nTo: <{to}>\r\nCall-ID: {call_id}\r\n\
         CSeq: {cseq} {method}\r\n{headers}Content-Length: {body}\r\n\r\n{}",
        "x".repeat(body)
    )
}

/// Phones at addresses of their own.
pub fn phone(number: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::from((0x0b00_0000 + number).to_be_bytes()), 5_060)
}

/// The row of an extension.
pub fn subscriber(number: u32) -> SubscriberRow {
    let user = number.to_string().into_bytes().into();
    let secrets = Secrets { password: PASSWORD.as_bytes().into(), ..Secrets::default() };
    SubscriberRow { user, domain: (*b"").into(), secrets }
}

/// What the database says of somebody who is there.
pub fn known(ticket: Ticket) -> Receipt {
    Receipt::Credentials(ticket, Ok(Some(subscriber(0).secrets)))
}

/// Bindings in memory only: an answer needs no commit.
pub fn memory(config: &mut Config) {
    config.identity.write_through = false;
}

/// The same, and everybody may call.
pub fn open(config: &mut Config) {
    memory(config);
    config.policy.proxy.authorize = Authorize::Off;
}

/// A response of the callee to a forwarded request.
pub fn response(request: &str, line: &str) -> String {
    let request = Message::parse(&mut Head::new(), request.as_bytes()).expect("a request");
    let (code, reason) = line.split_once(' ').expect("a code and a reason");
    let bytes = request.response(code.parse().expect("a code"), reason, "callee", "sip:x@10.2.0.1");
    String::from_utf8(bytes).expect("text")
}

/// A call to the phones 2 and so on, all of which ring; gives their INVITEs.
pub fn ringing(harness: &mut Harness, phones: u32) -> Vec<String> {
    for number in 2..2 + phones {
        harness.bind("9", &format!("sip:x@{}", phone(number)));
    }
    let mut invites = harness.invite(1, "9", 0).texts;
    assert_eq!(invites.len() as u32, 1 + phones);
    invites.remove(0);
    for (invite, number) in invites.iter().zip(2..) {
        assert_eq!(harness.send(phone(number), &response(invite, "180 Ringing")).codes, [180]);
    }
    invites
}

/// What the caller of an INVITE sends to end it: CANCEL, or the ACK of a failure.
pub fn of_invite(invite: &str, method: &str) -> String {
    let lines = invite
        .split("\r\n")
        .filter(|line| !line.starts_with("Record-Route:") && !line.contains("10.0.0.1:5060"));
    let text = lines.collect::<Vec<_>>().join("\r\n").replace("INVITE", method);
    let uri = text.split(' ').nth(1).unwrap_or_default().to_string();
    text.replacen(&uri, "sip:9@roost.test", 1)
}
