//! An engine that gets whatever operations the bytes stand for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use roost_core::{
    Admin, Authorize, Command, CommitOutcome, Config, Engine, Flow, Now, Outbox, Reading, Receipt, Rng, Row,
    Secrets, ShardId, SubscriberRow, Ticket, Transport,
};
use roost_sip::{Head, HeaderName, StartLine};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 5060);
const EXTENSIONS: [&str; 4] = ["1001", "1002", "1003", "1004"];

/// The bytes, eaten from the front.
struct Food<'a>(&'a [u8]);

impl<'a> Food<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Up to the next zero byte.
    fn text(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        let (text, rest) = self.0.split_at(end);
        self.0 = rest.get(1..).unwrap_or(&[]);
        text
    }
}

struct Stage {
    engine: Engine,
    out: Outbox,
    head: Box<Head>,
    now: Now,
    /// Commands that are not answered, and their answers when all is well.
    waiting: Vec<Receipt>,
    /// What the engine sent last: requests are answered, responses acknowledged.
    sent: Vec<(SocketAddr, Vec<u8>)>,
    /// The nonce of the last challenge.
    messages: u64,
}

/// Operations until the bytes end: messages, answers of the database, time. Whatever is sent is a SIP message.
pub(crate) fn run(data: &[u8]) {
    let mut food = Food(data);
    let mut config = Config::default();
    let choice = food.byte();
    config.identity.write_through = choice & 1 == 0;
    config.identity.use_domain = choice & 2 != 0;
    config.policy.proxy.serial_fork = choice & 4 != 0;
    config.policy.registrar.max_contacts = u32::from(choice >> 3 & 3);
    config.policy.proxy.authorize = if choice & 32 != 0 { Authorize::Registered } else { Authorize::Off };
    config.policy.pike.reqs_density_per_unit = if choice & 64 != 0 { 50 } else { 0 };
    let mut stage = Stage {
        engine: Engine::new(&config, ShardId(0), Rng::new(1)),
        out: Outbox::default(),
        head: Head::new(),
        now: Now { mono_ms: 1 << 30, unix_s: 1_700_000_000 },
        waiting: Vec::new(),
        sent: Vec::new(),
        messages: 0,
    };
    stage.engine.handle_reading(Reading::Rows(EXTENSIONS.iter().map(|user| subscriber(user)).collect()), 1);
    stage.engine.handle_reading(Reading::Done, 1 << 30);
    while !food.0.is_empty() && stage.messages < 500 {
        stage.step(&mut food);
    }
    // All that it waits for comes to an end.
    for _ in 0..200 {
        stage.pass(1_000);
        stage.answer_all();
    }
    assert!(stage.engine.is_idle(), "something waits for ever");
}

fn subscriber(user: &str) -> SubscriberRow {
    let secrets = Secrets { password: user.as_bytes().into(), ..Secrets::default() };
    SubscriberRow { user: user.as_bytes().into(), domain: (*b"roost.test").into(), secrets }
}

impl Stage {
    fn step(&mut self, food: &mut Food<'_>) {
        match food.byte() % 12 {
            0 | 1 => {
                let (from, text) = (food.byte(), food.text());
                self.message(from, text);
            }
            2 | 3 => {
                let (from, user, headers) = (food.byte(), food.byte(), food.text());
                self.request("REGISTER", from, user, user, headers);
            }
            4 | 5 => {
                let (from, user, callee, headers) = (food.byte(), food.byte(), food.byte(), food.text());
                let method =
                    ["INVITE", "MESSAGE", "BYE", "CANCEL", "OPTIONS", "ACK"][usize::from(user >> 4) % 6];
                self.request(method, from, user, callee, headers);
            }
            6 => {
                let (which, status, headers) = (food.byte(), food.byte(), food.text());
                self.respond(which, status, headers);
            }
            7 => self.bind(food.byte(), food.text()),
            8 => {
                let fate = food.byte() % 4;
                if let Some(good) = self.waiting.pop() {
                    let receipt = match (good, fate) {
                        (Receipt::Commit(ticket, _), 0) => {
                            Receipt::Commit(ticket, CommitOutcome::Failed("fuzz".to_string()))
                        }
                        (Receipt::Commit(ticket, _), 1) => Receipt::Commit(ticket, CommitOutcome::Occupied),
                        (Receipt::Credentials(ticket, _), 0) => {
                            Receipt::Credentials(ticket, Err("fuzz".to_string()))
                        }
                        (good, _) => good,
                    };
                    self.engine.handle_receipt(receipt, self.now, &mut self.out);
                    self.flush();
                }
            }
            9 => self.pass(u64::from(food.byte()) * 100),
            10 => self.load(food.byte(), food.text()),
            _ => self.answer_all(),
        }
    }

    fn message(&mut self, from: u8, bytes: &[u8]) {
        self.messages += 1;
        let remote = SocketAddr::from(([10, 0, 1, from % 4], 5060 + u16::from(from >> 6)));
        let flow = match from & 16 {
            0 => Flow::udp(SERVER, remote),
            _ => Flow::stream(Transport::Tcp, SERVER, remote, u64::from(from % 4) + 1),
        };
        match self.head.parse(bytes) {
            Ok(()) => self.engine.handle_message(&flow, bytes, &self.head, self.now, &mut self.out),
            Err(error) => self.engine.handle_unreadable(error),
        }
        self.flush();
    }

    fn request(&mut self, method: &str, from: u8, user: u8, callee: u8, headers: &[u8]) {
        let user = EXTENSIONS[usize::from(user) % EXTENSIONS.len()];
        let callee = EXTENSIONS[usize::from(callee) % EXTENSIONS.len()];
        let number = self.messages;
        let mut text = format!(
            "{method} sip:{callee}@roost.test SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.1;branch=z9hG4bK{number};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@roost.test>;tag=1\r\nTo: <sip:{callee}@roost.test>\r\n\
             Call-ID: {user}-{callee}\r\nCSeq: {number} {method}\r\n"
        )
        .into_bytes();
        text.extend_from_slice(headers);
        text.extend_from_slice(b"\r\n\r\n");
        self.message(from, &text);
    }

    /// Answers one of the requests that were forwarded.
    fn respond(&mut self, which: u8, status: u8, headers: &[u8]) {
        let requests: Vec<_> = self.sent.iter().filter(|(_, bytes)| !bytes.starts_with(b"SIP/2.0")).collect();
        let Some((to, request)) = requests.get(usize::from(which) % requests.len().max(1)) else { return };
        let status = [100, 180, 183, 200, 302, 408, 480, 486, 500, 503, 600][usize::from(status) % 11];
        let text = String::from_utf8_lossy(request);
        let kept = text.lines().filter(|line| {
            ["Via:", "From:", "To:", "Call-ID:", "CSeq:", "Record-Route:"]
                .iter()
                .any(|name| line.starts_with(name))
        });
        let mut response = format!("SIP/2.0 {status} Fuzz\r\n").into_bytes();
        for line in kept {
            response.extend_from_slice(line.as_bytes());
            response.extend_from_slice(b"\r\n");
        }
        response.extend_from_slice(headers);
        response.extend_from_slice(b"\r\n\r\n");
        let from = to.ip().to_string().bytes().last().unwrap_or(b'0') - b'0';
        self.message(from, &response);
    }

    /// A binding, as an operator adds it.
    fn bind(&mut self, user: u8, contact: &[u8]) {
        let aor = EXTENSIONS[usize::from(user) % EXTENSIONS.len()].as_bytes().to_vec();
        let request = Admin::Add { aor, contact: contact.to_vec(), expires_s: 60, q: None, methods: None };
        self.engine.handle_admin(Ticket(1), request, self.now, &mut self.out);
        self.flush();
    }

    /// A row of the table.
    fn load(&mut self, user: u8, contact: &[u8]) {
        let row = Row {
            contact_id: u64::from(user) + 1,
            username: EXTENSIONS[usize::from(user) % EXTENSIONS.len()].as_bytes().into(),
            domain: Some((*b"roost.test").into()),
            contact: contact.into(),
            expires: self.now.unix_s + 60,
            callid: (*b"row").into(),
            cseq: 1,
            ..Row::default()
        };
        let _ = self.engine.load(&row, self.now);
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix_s += ms / 1_000;
        while self.engine.poll_timeout() <= self.now.mono_ms {
            self.engine.handle_timeout(self.now, &mut self.out);
            self.flush();
        }
    }

    fn answer_all(&mut self) {
        while let Some(receipt) = self.waiting.pop() {
            self.engine.handle_receipt(receipt, self.now, &mut self.out);
            self.flush();
        }
    }

    /// What the engine wants sent is a message that a reader takes, with the headers that each must have.
    fn flush(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        for transmit in &out.transmits {
            let bytes = out.message(transmit);
            let mut head = Head::new();
            assert!(head.parse(bytes).is_ok(), "no message: {}", String::from_utf8_lossy(bytes));
            if let StartLine::Response { .. } = head.start_line() {
                assert!(head.count(HeaderName::Via) > 0, "no Via: {}", String::from_utf8_lossy(bytes));
            }
            self.sent.push((transmit.flow.remote, bytes.to_vec()));
        }
        let spare = self.sent.len().saturating_sub(16);
        self.sent.drain(..spare);
        for command in out.commands.drain(..) {
            match command {
                Command::Commit { ticket, .. } => {
                    self.waiting.push(Receipt::Commit(ticket, CommitOutcome::Committed));
                }
                Command::LoadCredentials { ticket, .. } => {
                    self.waiting.push(Receipt::Credentials(ticket, Ok(None)));
                }
                Command::Resolve { ticket, .. } => self.waiting.push(Receipt::Resolved(ticket, Vec::new())),
                _ => {}
            }
        }
        out.clear();
        self.out = out;
    }
}
