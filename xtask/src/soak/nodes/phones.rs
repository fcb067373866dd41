//! Many phones at one address: they register, refresh and call one another, and remember what they were told.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use roost_rig::phone::Challenge;
use roost_rig::random::Random;

/// When a request is sent again (RFC 3261 17.1), and when it is given up.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const GIVEN_UP: Duration = Duration::from_secs(32);
/// REGISTERs that are under way at once, while all register.
const WINDOW: usize = 256;

/// How a call went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) begun: Instant,
    pub(super) answered: Option<Instant>,
    pub(super) ended: Instant,
    /// 200: hung up as it should; else what was said instead; 0: nothing.
    pub(super) code: u16,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) calls: Vec<Ended>,
    /// REGISTERs by their final answers; 0: none came.
    pub(super) registers: BTreeMap<u16, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Call(u64),
    HangUp(u64),
    Register(u32),
}

#[derive(Debug)]
struct Phone {
    challenge: Option<Challenge>,
    cseq: u32,
    /// The number of the last REGISTER that was accepted; 0: none.
    accepted: u32,
    /// The one that is under way: since when, and what was sent.
    asked: Option<(Instant, Duration, String)>,
}

#[derive(Debug)]
struct Call {
    begun: Instant,
    answered: Option<Instant>,
    /// What is under way, and how long until it is sent again.
    message: String,
    again: Duration,
    asked: Instant,
    is_heard: bool,
    caller: u32,
    callee: u32,
    to: String,
    target: String,
    routes: Vec<String>,
    is_ending: bool,
}

/// The phones.
pub(super) struct Phones {
    socket: UdpSocket,
    own: SocketAddr,
    server: SocketAddr,
    first: u32,
    phones: Vec<Phone>,
    calls: HashMap<u64, Call>,
    due: BinaryHeap<Reverse<(Instant, Due)>>,
    next: u64,
    random: Random,
    /// How long calls last.
    pub(super) hold: Duration,
    pub(super) tally: Tally,
}

/// New calls and refreshes, a second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rates {
    pub(super) calls: u32,
    pub(super) registers: u32,
}

impl Phones {
    pub(super) fn new(own: SocketAddr, server: SocketAddr, first: u32, count: u32) -> Result<Phones> {
        let socket = UdpSocket::bind(own).context("the phones' socket")?;
        socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(16 << 20));
        let phone = |_| Phone { challenge: None, cseq: 0, accepted: 0, asked: None };
        Ok(Phones {
            socket,
            own,
            server,
            first,
            phones: (0..count).map(phone).collect(),
            calls: HashMap::new(),
            due: BinaryHeap::new(),
            next: u64::from(own.port()) << 32,
            random: Random::seeded(7),
            hold: Duration::from_secs(20),
            tally: Tally::default(),
        })
    }

    /// What each extension was accepted with: its name, and the number of its REGISTER.
    pub(super) fn accepted(&self) -> impl Iterator<Item = (String, u32)> {
        let all = (self.first..).zip(&self.phones).filter(|(_, phone)| phone.accepted > 0);
        all.map(|(user, phone)| (user.to_string(), phone.accepted))
    }

    /// Calls in progress: those that were answered, and those that are being set up.
    pub(super) fn going(&self) -> (usize, usize) {
        let answered = self.calls.values().filter(|call| call.answered.is_some()).count();
        (answered, self.calls.len() - answered)
    }

    pub(super) fn going_at_all(&self) -> usize {
        self.calls.len()
    }

    /// All register; how many were accepted.
    pub(super) fn register_all(&mut self) -> Result<u64> {
        let count = self.phones.len() as u32;
        let mut next = 0;
        while next < count || self.phones.iter().any(|phone| phone.asked.is_some()) {
            let until = count.min(next + WINDOW.saturating_sub(self.due.len()) as u32);
            (next..until).for_each(|index| self.register(index));
            next = until;
            self.step()?;
        }
        Ok(self.accepted().count() as u64)
    }

    /// Calls and refreshes go on for so long.
    pub(super) fn run(&mut self, time: Duration, rates: Rates) -> Result<()> {
        let begun = Instant::now();
        let (mut calls, mut registers) = (0, 0);
        while begun.elapsed() < time {
            let due = |rate: u32| (begun.elapsed().as_secs_f64() * f64::from(rate)) as u64;
            while calls < due(rates.calls) {
                calls += 1;
                let (caller, callee) = (self.any(), self.any());
                self.call(caller, callee);
            }
            while registers < due(rates.registers) {
                registers += 1;
                let phone = self.any();
                self.register(phone);
            }
            self.step()?;
        }
        Ok(())
    }

    /// Nothing new begins; what is under way ends.
    pub(super) fn drain(&mut self) -> Result<()> {
        while !self.calls.is_empty() || self.phones.iter().any(|phone| phone.asked.is_some()) {
            self.step()?;
        }
        Ok(())
    }

    /// Each extension is called once, so many a second; how many calls were not answered.
    pub(super) fn call_all(&mut self, rate: u32) -> Result<usize> {
        let before = self.tally.calls.len();
        let begun = Instant::now();
        self.hold = Duration::ZERO;
        for callee in 0..self.phones.len() as u32 {
            while (begun.elapsed().as_secs_f64() * f64::from(rate)) < f64::from(callee) {
                self.step()?;
            }
            self.call(self.any_but(callee), callee);
        }
        self.drain()?;
        Ok(self.tally.calls[before..].iter().filter(|call| call.answered.is_none()).count())
    }

    pub(super) fn any(&mut self) -> u32 {
        self.random.below(self.phones.len() as u64) as u32
    }

    fn any_but(&self, other: u32) -> u32 {
        (other + 1) % self.phones.len() as u32
    }

    fn send(&self, text: &str) {
        // A network that is down says so: it is sent again.
        let _ = self.socket.send_to(text.as_bytes(), self.server);
    }

    pub(super) fn step(&mut self) -> Result<()> {
        let mut bytes = [0; 8_192];
        // What comes at once is taken at once.
        for _ in 0..64 {
            let Ok((length, from)) = self.socket.recv_from(&mut bytes) else { break };
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            match text.starts_with("SIP/2.0 ") {
                true => self.answered(&text),
                false => self.asked(&text, from),
            }
        }
        let now = Instant::now();
        while let Some(Reverse((at, due))) = self.due.peek().copied()
            && at <= now
        {
            self.due.pop();
            match due {
                Due::Call(id) => self.call_due(id, now),
                Due::HangUp(id) => self.hang_up(id),
                Due::Register(index) => self.register_due(index, now),
            }
        }
        Ok(())
    }

    fn register(&mut self, index: u32) {
        let user = self.first + index;
        let (own, server) = (self.own, self.server);
        let phone = &mut self.phones[index as usize];
        if phone.asked.is_some() {
            return;
        }
        phone.cseq += 1;
        let uri = format!("sip:{server}");
        let name = user.to_string();
        let credentials = phone
            .challenge
            .as_ref()
            .map_or(String::new(), |one| one.answer(&name, &name, "REGISTER", &uri, phone.cseq) + "\r\n");
        let text = format!(
            "REGISTER {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKr{user}-{cseq};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@{host}>;tag=r{user}\r\nTo: <sip:{user}@{host}>\r\n\
             Call-ID: r{user}-{ip}\r\nCSeq: {cseq} REGISTER\r\nContact: <sip:{user}@{own}>\r\nExpires: 3600\r\n\
             {credentials}Content-Length: 0\r\n\r\n",
            cseq = phone.cseq,
            host = server.ip(),
            ip = own.ip(),
        );
        let now = Instant::now();
        phone.asked = Some((now, T1, text.clone()));
        self.due.push(Reverse((now + T1, Due::Register(index))));
        self.send(&text);
    }

    fn register_due(&mut self, index: u32, now: Instant) {
        let Some((since, again, text)) = &mut self.phones[index as usize].asked else { return };
        if now >= *since + GIVEN_UP {
            self.phones[index as usize].asked = None;
            *self.tally.registers.entry(0).or_default() += 1;
            return;
        }
        *again = (*again * 2).min(T2);
        self.due.push(Reverse((now + *again, Due::Register(index))));
        let text = text.clone();
        self.send(&text);
    }

    fn registered(&mut self, index: u32, text: &str, code: u16) {
        let phone = &mut self.phones[index as usize];
        let number = header(text, "CSeq").and_then(|value| value.split(' ').next()?.parse::<u32>().ok());
        if phone.asked.is_none() || number != Some(phone.cseq) || code < 200 {
            return;
        }
        phone.asked = None;
        match header(text, "WWW-Authenticate").filter(|_| code == 401) {
            Some(challenge) => {
                phone.challenge = Some(Challenge::parse(challenge));
                self.register(index);
            }
            None => {
                if code == 200 {
                    phone.accepted = phone.cseq;
                }
                *self.tally.registers.entry(code).or_default() += 1;
            }
        }
    }

    pub(super) fn call(&mut self, caller: u32, callee: u32) {
        self.next += 1;
        let (id, own, host) = (self.next, self.own, self.server.ip());
        let (from, to) = (self.first + caller, self.first + callee);
        let message = format!(
            "INVITE sip:{to}@{host} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKc{id}i;rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{from}@{host}>;tag=c{id}\r\nTo: <sip:{to}@{host}>\r\nCall-ID: c{id}\r\n\
             CSeq: 1 INVITE\r\nContact: <sip:{from}@{own}>\r\nContent-Length: 0\r\n\r\n"
        );
        let now = Instant::now();
        self.send(&message);
        self.due.push(Reverse((now + T1, Due::Call(id))));
        let call = Call {
            begun: now,
            answered: None,
            message,
            again: T1,
            asked: now,
            is_heard: false,
            caller,
            callee,
            to: String::new(),
            target: String::new(),
            routes: Vec::new(),
            is_ending: false,
        };
        self.calls.insert(id, call);
    }

    /// A request of a call has had no final answer so far.
    fn call_due(&mut self, id: u64, now: Instant) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.answered.is_some() && !call.is_ending {
            return;
        }
        if now >= call.asked + GIVEN_UP {
            return self.ended(id, 0);
        }
        call.again *= 2;
        if call.is_ending {
            call.again = call.again.min(T2);
        }
        self.due.push(Reverse((now + call.again, Due::Call(id))));
        // Who has heard something waits (RFC 3261 17.1.1.2).
        if !call.is_heard || call.is_ending {
            let message = call.message.clone();
            self.send(&message);
        }
    }

    fn in_dialog(&self, call: &Call, id: u64, method: &str, cseq: u32) -> String {
        let (own, host, from) = (self.own, self.server.ip(), self.first + call.caller);
        let routes: String = call.routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
        let Call { target, to, .. } = call;
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKc{id}{method};rport\r\n{routes}\
             Max-Forwards: 70\r\nFrom: <sip:{from}@{host}>;tag=c{id}\r\nTo: {to}\r\nCall-ID: c{id}\r\n\
             CSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n"
        )
    }

    fn hang_up(&mut self, id: u64) {
        let Some(call) = self.calls.get(&id) else { return };
        let bye = self.in_dialog(call, id, "BYE", 2);
        self.send(&bye);
        let now = Instant::now();
        self.due.push(Reverse((now + T1, Due::Call(id))));
        if let Some(call) = self.calls.get_mut(&id) {
            (call.is_ending, call.message, call.again, call.asked) = (true, bye, T1, now);
        }
    }

    fn ended(&mut self, id: u64, code: u16) {
        if let Some(call) = self.calls.remove(&id) {
            let Call { begun, answered, .. } = call;
            self.tally.calls.push(Ended { begun, answered, ended: Instant::now(), code });
        }
    }

    fn answered(&mut self, text: &str) {
        let code = text.get(8..11).and_then(|code| code.parse().ok()).unwrap_or(0);
        let call_id = header(text, "Call-ID").unwrap_or_default();
        if let Some(user) =
            call_id.strip_prefix('r').and_then(|rest| rest.split('-').next()?.parse::<u32>().ok())
        {
            return self.registered(user - self.first, text, code);
        }
        let Some(id) = call_id.strip_prefix('c').and_then(|id| id.parse().ok()) else { return };
        let is_invite = header(text, "CSeq").is_some_and(|value| value.ends_with("INVITE"));
        let Some(call) = self.calls.get_mut(&id) else { return };
        match (code, is_invite) {
            (..200, _) => call.is_heard = true,
            (200..300, true) => {
                let is_first = call.answered.is_none();
                if is_first {
                    call.answered = Some(Instant::now());
                    call.routes = headers(text, "Record-Route").map(str::to_string).collect();
                    call.routes.reverse();
                    call.to = header(text, "To").unwrap_or_default().to_string();
                    let contact = header(text, "Contact").unwrap_or_default();
                    let inside = contact.split_once('<').and_then(|(_, rest)| Some(rest.split_once('>')?.0));
                    call.target = inside.unwrap_or(contact).to_string();
                }
                let call = &self.calls[&id];
                let ack = self.in_dialog(call, id, "ACK", 1);
                self.send(&ack);
                if is_first {
                    self.due.push(Reverse((Instant::now() + self.hold, Due::HangUp(id))));
                }
            }
            (_, true) => {
                let to = header(text, "To").unwrap_or_default();
                let (own, host) = (self.own, self.server.ip());
                let (from, callee) = (self.first + call.caller, self.first + call.callee);
                let ack = format!(
                    "ACK sip:{callee}@{host} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKc{id}i;rport\r\n\
                     Max-Forwards: 70\r\nFrom: <sip:{from}@{host}>;tag=c{id}\r\nTo: {to}\r\nCall-ID: c{id}\r\n\
                     CSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n"
                );
                self.send(&ack);
                self.ended(id, code);
            }
            (_, false) => self.ended(id, code),
        }
    }

    /// A phone is called, or its call ends: it answers at once.
    fn asked(&self, text: &str, from: SocketAddr) {
        let method = text.split(' ').next().unwrap_or_default();
        let lines: &[&str] = match method {
            "INVITE" => &["180 Ringing", "200 OK"],
            "ACK" => return,
            _ => &["200 OK"],
        };
        let id = header(text, "Call-ID").unwrap_or_default();
        let mut head = String::new();
        for line in text.lines().skip(1).take_while(|line| !line.is_empty()) {
            let name = line.split(':').next().unwrap_or_default();
            match name {
                "Via" | "From" | "Call-ID" | "CSeq" | "Record-Route" => head.push_str(&format!("{line}\r\n")),
                "To" if line.contains(";tag=") => head.push_str(&format!("{line}\r\n")),
                "To" => head.push_str(&format!("{line};tag=t{id}\r\n")),
                _ => {}
            }
        }
        let user = text.split(' ').nth(1).and_then(|uri| uri.strip_prefix("sip:")?.split('@').next());
        let contact = format!("Contact: <sip:{}@{}>\r\n", user.unwrap_or_default(), self.own);
        for line in lines {
            let answer = format!("SIP/2.0 {line}\r\n{head}{contact}Content-Length: 0\r\n\r\n");
            let _ = self.socket.send_to(answer.as_bytes(), from);
        }
    }
}

fn headers<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = text.lines().skip(1).take_while(|line| !line.is_empty());
    lines.filter_map(move |line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    headers(text, name).next()
}
