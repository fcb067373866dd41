//! What one operation costs the engine, without sockets: the same messages again and again, so that instructions and
//! allocations can be counted. `cargo xtask gates` compares them with what they were.

use std::net::SocketAddr;

use md5::{Digest, Md5};
use roost_core::{
    Authorize, Command, CommitOutcome, Config, Engine, Flow, Listener, Now, Outbox, Receipt, Rng, Row, Rule,
    Secrets, ShardId, Ticket, Trusted,
};
use roost_sip::{Head, HeaderName};

/// One kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// OPTIONS and its 200.
    Options,
    /// A REGISTER without credentials and its 401.
    Challenge,
    /// A REGISTER with a good nonce that renews a binding, in memory mode.
    Refresh,
    /// The same in write-through mode, with its commit.
    Durable,
    /// INVITE, 100, 180, 200, ACK, BYE, 200: 6 messages in, 7 out.
    Call,
    /// The same, of a trusted caller: with our mark in Route, and an entry in the table of calls.
    Dialog,
    /// A MESSAGE for a number that no `[[route]]` takes, and its 404.
    Unrouted,
    /// A datagram that is not SIP.
    Garbage,
}

impl Kind {
    /// All kinds by their names on the command line.
    pub const ALL: [(&'static str, Kind); 8] = [
        ("options", Kind::Options),
        ("challenge", Kind::Challenge),
        ("refresh", Kind::Refresh),
        ("durable", Kind::Durable),
        ("call", Kind::Call),
        ("dialog", Kind::Dialog),
        ("unrouted", Kind::Unrouted),
        ("garbage", Kind::Garbage),
    ];
}

const REALM: &str = "pbx.example.com";
const SERVER: &str = "192.0.2.9:5060";
const PHONE: &str = "192.0.2.1:5062";
const CALLEE: &str = "192.0.2.2:5064";

/// One engine with subscribers, bindings and a load of one kind.
pub struct Stage {
    engine: Engine,
    kind: Kind,
    head: Box<Head>,
    out: Outbox,
    now: Now,
    /// One message for each user; its CSeq is written anew each round.
    messages: Vec<Vec<u8>>,
    /// Where its digits stand, by user.
    cseq_at: Vec<usize>,
    round: u32,
    at: usize,
    /// The messages of a call, reused.
    call: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Stage {
    /// An engine of one shard with `users` extensions, `100000` and up, all registered where the kind needs it.
    ///
    /// # Panics
    /// When the engine does not answer as this load needs it.
    pub fn new(kind: Kind, users: usize) -> Stage {
        Stage::with_routes(kind, users, &[])
    }

    /// The same with these routes.
    ///
    /// # Panics
    /// As [`Stage::new`].
    pub fn with_routes(kind: Kind, users: usize, routes: &[Rule]) -> Stage {
        let mut config = Config::default();
        config.policy.routes = routes.into();
        config.policy.listeners = vec![Listener::udp(address(SERVER))];
        config.policy.server_header = "roost/0".to_string();
        config.identity.use_domain = true;
        config.identity.mac_key = [7; 32];
        config.identity.hash_seed = 7;
        if kind == Kind::Dialog {
            config.policy.proxy.trusted = Trusted::of_addresses([address(PHONE).ip()]);
        } else {
            config.policy.proxy.authorize = Authorize::Off;
        }
        config.identity.write_through = kind == Kind::Durable;
        config.policy.registrar.exclusive_ip = false;
        let mut stage = Stage {
            engine: Engine::new(&config, ShardId(0), Rng::new(7)),
            kind,
            head: Head::new(),
            out: Outbox::default(),
            now: Now { mono_ms: 1 << 40, unix_s: 1_800_000_000 },
            messages: Vec::new(),
            cseq_at: Vec::new(),
            round: 0,
            at: 0,
            call: Vec::new(),
        };
        match kind {
            Kind::Call | Kind::Dialog => stage.load_callee(),
            Kind::Garbage => stage.messages = vec![b"\x16\x03\x01 no SIP at all \r\n\r\n".to_vec()],
            Kind::Options => {
                let uri = format!("sip:{REALM}");
                stage.messages = (0..users).map(|user| request("OPTIONS", &uri, user, "")).collect();
            }
            Kind::Unrouted => {
                let uri = format!("sip:0049301234567@{REALM}");
                stage.messages = (0..users).map(|user| request("MESSAGE", &uri, user, "")).collect();
            }
            Kind::Challenge | Kind::Refresh | Kind::Durable => {
                let uri = format!("sip:{REALM}");
                stage.messages = (0..users).map(|user| request("REGISTER", &uri, user, "")).collect();
            }
        }
        if matches!(kind, Kind::Refresh | Kind::Durable) {
            stage.authorize(users);
        }
        stage.find_cseqs();
        stage
    }

    /// One operation; what it made roost send stays in the outbox until the next.
    ///
    /// # Panics
    /// When the engine does not answer as it should: a load that fails measures nothing.
    pub fn once(&mut self) {
        if matches!(self.kind, Kind::Call | Kind::Dialog) {
            return self.call();
        }
        if self.at == self.messages.len() {
            self.at = 0;
            self.round += 1;
            self.now.mono_ms += 1;
        }
        let mut message = std::mem::take(&mut self.messages[self.at]);
        if let Some(at) = self.cseq_at.get(self.at) {
            put_digits(&mut message[*at..at + CSEQ.len()], 100_000_000 + self.round);
        }
        self.receive(PHONE, &message);
        self.messages[self.at] = message;
        self.at += 1;
        let expected: &[u8] = match self.kind {
            Kind::Garbage => b"",
            Kind::Challenge => b"SIP/2.0 401",
            Kind::Unrouted => b"SIP/2.0 404",
            _ => b"SIP/2.0 200",
        };
        assert!(
            self.out.bytes.starts_with(expected),
            "unexpected answer: {}",
            String::from_utf8_lossy(&self.out.bytes)
        );
    }

    /// The bytes that the last operation made roost send.
    pub fn sent(&self) -> &[u8] {
        &self.out.bytes
    }

    /// Gives every user a good nonce's credentials, a cached secret and a binding.
    fn authorize(&mut self, users: usize) {
        for user in 0..users {
            let message = std::mem::take(&mut self.messages[user]);
            self.receive(PHONE, &message);
            let answer = String::from_utf8_lossy(&self.out.bytes).into_owned();
            let nonce = between(&answer, "nonce=\"", "\"");
            let (name, uri) = (100_000 + user, format!("sip:{REALM}"));
            let ha1 = hex(&format!("{name}:{REALM}:{name}"));
            let response = hex(&format!("{ha1}:{nonce}:{}", hex(&format!("REGISTER:{uri}"))));
            let credentials = format!(
                "Authorization: Digest username=\"{name}\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"{uri}\", \
                 response=\"{response}\", algorithm=MD5\r\n"
            );
            self.messages[user] = request("REGISTER", &uri, user, &credentials);
        }
        self.find_cseqs();
        // The first round loads the secrets and makes the bindings.
        for _ in 0..users {
            self.once();
        }
    }

    fn find_cseqs(&mut self) {
        let place = |message: &Vec<u8>| Some(position(message, b"CSeq: ")? + 6);
        self.cseq_at = self.messages.iter().filter_map(place).collect();
    }

    fn load_callee(&mut self) {
        let row = Row {
            contact_id: 1,
            username: (*b"9002").into(),
            domain: Some(REALM.as_bytes().into()),
            contact: format!("sip:9002@{CALLEE}").into_bytes().into(),
            expires: 0,
            callid: (*b"c").into(),
            socket: Some(format!("udp:{SERVER}").into_bytes().into()),
            ..Row::default()
        };
        self.engine.load(&row, self.now).expect("a binding");
        let body = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                    m=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n";
        let text = |method: &str, uri: &str, branch: &str, to_tag: &str, route: &str, body: &str| {
            format!(
                "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bK{branch}00000000;rport\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:9001@{REALM}>;tag=f00000000\r\nTo: <sip:9002@{REALM}>{to_tag}\r\n\
                 Call-ID: call-00000000@192.0.2.1\r\nCSeq: 1 {method}\r\nContact: <sip:9001@{PHONE}>\r\n{route}\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        };
        let (aor, target, route) = (
            format!("sip:9002@{REALM}"),
            format!("sip:9002@{CALLEE}"),
            format!("Route: <sip:{SERVER};lr>\r\n"),
        );
        self.call = vec![
            text("INVITE", &aor, "i", "", "", body),
            text("ACK", &target, "a", ";tag=t", &route, ""),
            text("BYE", &target, "b", ";tag=t", &route, ""),
        ];
        self.messages = vec![Vec::new(); 3];
    }

    /// The 13 messages of a call. The callee's answers are made of what roost sent.
    fn call(&mut self) {
        self.round += 1;
        // Calls end for good after 32 s; time passes so that 1,000 of them linger.
        self.now.mono_ms += 40;
        self.out.clear();
        self.engine.handle_timeout(self.now, &mut self.out);
        let mut requests = std::mem::take(&mut self.call);
        for request in &mut requests {
            put_number(request, self.round);
        }
        let mut answers = std::mem::take(&mut self.messages);
        self.receive(PHONE, &requests[0]);
        assert_eq!(self.out.transmits.len(), 2, "100 and INVITE");
        if self.kind == Kind::Dialog {
            let (invite, route) = (self.out.message(&self.out.transmits[1]), b"Record-Route: ");
            let from = position(invite, route).expect("our Record-Route") + route.len();
            let length = invite[from..].iter().position(|byte| *byte == b'\r').expect("its end");
            for request in &mut requests[1..] {
                let at = position(request, b"\r\nRoute: ").expect("a Route") + 9;
                let end = at + request[at..].iter().position(|byte| *byte == b'\r').expect("its end");
                request.splice(at..end, invite[from..from + length].iter().copied());
            }
        }
        for (slot, (status, body)) in [("180 Ringing", ""), ("200 OK", "v=0\r\n")].into_iter().enumerate() {
            self.answer(1, status, body, &mut answers[slot]);
        }
        for answer in &answers[..2] {
            self.receive(CALLEE, answer);
            assert_eq!(self.out.transmits.len(), 1, "answer to the INVITE");
        }
        self.receive(PHONE, &requests[1]);
        assert_eq!(self.out.transmits.len(), 1, "ACK");
        self.receive(PHONE, &requests[2]);
        assert_eq!(self.out.transmits.len(), 1, "BYE");
        self.answer(0, "200 OK", "", &mut answers[2]);
        self.receive(CALLEE, &answers[2]);
        assert_eq!(self.out.transmits.len(), 1, "200 of BYE");
        self.call = requests;
        self.messages = answers;
    }

    /// The callee's answer to the request that roost sent as number `index`.
    fn answer(&mut self, index: usize, status: &str, body: &str, text: &mut Vec<u8>) {
        let request = self.out.message(&self.out.transmits[index]);
        self.head.parse(request).expect("a request that roost sent");
        text.clear();
        text.extend_from_slice(b"SIP/2.0 ");
        text.extend_from_slice(status.as_bytes());
        text.extend_from_slice(b"\r\n");
        for line in self.head.lines() {
            match line.name {
                HeaderName::Via
                | HeaderName::RecordRoute
                | HeaderName::From
                | HeaderName::CallId
                | HeaderName::CSeq => text.extend_from_slice(line.whole.of(request)),
                HeaderName::To => {
                    text.extend_from_slice(b"To: <sip:9002@pbx.example.com>;tag=t\r\n");
                }
                _ => {}
            }
        }
        text.extend_from_slice(b"Contact: <sip:9002@192.0.2.2:5064>\r\n\r\n");
        text.extend_from_slice(body.as_bytes());
    }

    fn receive(&mut self, from: &str, message: &[u8]) {
        let flow = Flow::udp(address(SERVER), address(from));
        let Stage { engine, head, out, now, .. } = self;
        out.clear();
        match head.parse(message) {
            Ok(()) => engine.handle_message(&flow, message, head, *now, out),
            Err(error) => engine.handle_unreadable(error),
        }
        while let Some(command) = out.commands.pop() {
            match command {
                Command::Commit { ticket, .. } => {
                    engine.handle_receipt(Receipt::Commit(ticket, CommitOutcome::Committed), *now, out);
                }
                Command::LoadCredentials { ticket, user, .. } => give_secret(engine, ticket, user, *now, out),
                _ => {}
            }
        }
    }
}

fn give_secret(engine: &mut Engine, ticket: Ticket, user: Box<[u8]>, now: Now, out: &mut Outbox) {
    let secrets = Secrets { password: user, ..Secrets::default() };
    engine.handle_receipt(Receipt::Credentials(ticket, Ok(Some(secrets))), now, out);
}

/// A request as a harness phone sends it.
fn request(method: &str, uri: &str, user: usize, credentials: &str) -> Vec<u8> {
    let name = 100_000 + user;
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bK{name}b42;rport\r\nMax-Forwards: 70\r\n\
         From: \"Agent {name}\" <sip:{name}@{REALM}>;tag={name}f7\r\nTo: \"Agent {name}\" <sip:{name}@{REALM}>\r\n\
         Call-ID: 0_{name}21@192.0.2.1\r\nCSeq: {CSEQ} {method}\r\nContact: <sip:{name}@{PHONE}>\r\n{credentials}\
         Allow: INVITE, INFO, PRACK, ACK, BYE, CANCEL, OPTIONS, NOTIFY, REGISTER, SUBSCRIBE, REFER, PUBLISH, UPDATE, \
         MESSAGE\r\nUser-Agent: Yealink SIP-T46S 66.84.0.15\r\nExpires: 300\r\nAllow-Events: talk,hold,conference\r\n\
         Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// The CSeq of the first round; later rounds write theirs over it.
const CSEQ: &str = "100000000";

/// Writes a call's number over each run of eight digits zero that a template has, and over what it wrote before.
fn put_number(message: &mut [u8], number: u32) {
    for mark in [&b"z9hG4bK"[..], b";tag=f", b"Call-ID: call-"] {
        let at = position(message, mark).expect("a mark") + mark.len() + usize::from(mark == b"z9hG4bK");
        put_digits(&mut message[at..at + 8], number);
    }
}

fn put_digits(place: &mut [u8], mut number: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn position(message: &[u8], text: &[u8]) -> Option<usize> {
    message.windows(text.len()).position(|window| window == text)
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let rest = text.split_once(from).expect("a nonce").1;
    rest.split_once(to).expect("its end").0
}

fn hex(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}
