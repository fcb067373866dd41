//! A SIP phone as far as registering goes, over UDP and by hand: it shares no code with roost. It calls in `call`.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::md5;
use crate::random::Random;

/// The Allow of eyeBeam: the methods mask 5951.
pub const ALLOW: &str = "Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, MESSAGE, SUBSCRIBE, INFO";
pub const USER_AGENT: &str = "eyeBeam release 1011d stamp 40820";

/// What a phone speaks and hears over.
pub trait Line {
    fn local(&self) -> SocketAddr;
    fn send(&self, bytes: &[u8]);
    /// The next datagram and who has sent it, if one comes in time.
    fn receive(&self, patience: Duration) -> Option<(Vec<u8>, SocketAddr)>;
    /// The time since some moment.
    fn now(&self) -> Duration;
}

/// A socket of this machine, to one server.
#[derive(Debug)]
pub struct UdpLine {
    socket: UdpSocket,
    server: SocketAddr,
    start: Instant,
}

impl Line for UdpLine {
    fn local(&self) -> SocketAddr {
        self.socket.local_addr().expect("its address")
    }

    fn send(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.server).expect("a datagram sent");
    }

    fn receive(&self, patience: Duration) -> Option<(Vec<u8>, SocketAddr)> {
        self.socket.set_read_timeout(Some(patience.max(Duration::from_millis(1)))).expect("a timeout");
        let mut bytes = vec![0; 65_536];
        let (length, source) = self.socket.recv_from(&mut bytes).ok()?;
        bytes.truncate(length);
        Some((bytes, source))
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A phone.
#[derive(Debug)]
pub struct Phone<L: Line = UdpLine> {
    pub line: L,
    pub user: String,
    pub password: String,
    /// The domain of its address, and the Request-URI of its REGISTER.
    pub domain: String,
    /// The username of its credentials.
    pub digest_user: String,
    /// The URI of its Contact.
    pub contact: String,
    pub call_id: String,
    /// The number of the request sent last.
    pub cseq: u32,
    /// The From tag of its requests, and the To tag of its answers.
    pub tag: String,
    /// What it answers with its next REGISTER, until the server challenges again.
    pub challenge: Option<Challenge>,
    /// How often the nonce has been used, for qop=auth.
    pub nc: u32,
    /// How often it has been challenged.
    pub challenges: u32,
}

impl Phone {
    /// A phone at 127.0.0.1.
    pub fn new(server: SocketAddr, user: &str, password: &str) -> Phone {
        Phone::at("127.0.0.1", server, user, password)
    }

    /// A phone at another of this machine's addresses, such as 127.0.0.2.
    pub fn at(address: &str, server: SocketAddr, user: &str, password: &str) -> Phone {
        let socket = UdpSocket::bind((address, 0)).expect("a UDP socket");
        let line = UdpLine { socket, server, start: Instant::now() };
        Phone::over(line, &server.ip().to_string(), user, password)
    }
}

impl<L: Line> Phone<L> {
    /// A phone of an extension in a domain.
    pub fn over(line: L, domain: &str, user: &str, password: &str) -> Phone<L> {
        let local = line.local();
        Phone {
            line,
            user: user.to_owned(),
            password: password.to_owned(),
            domain: domain.to_owned(),
            digest_user: user.to_owned(),
            contact: format!("sip:{user}@{local}"),
            call_id: format!("{}@{}", token(), local.ip()),
            cseq: 0,
            tag: token(),
            challenge: None,
            nc: 0,
            challenges: 0,
        }
    }

    pub fn register(&mut self, expires: u32) -> Response {
        let contact = format!("Contact: <{}>", self.contact);
        let expires = format!("Expires: {expires}");
        self.send_register(&[&contact, &expires, ALLOW])
    }

    pub fn unregister(&mut self) -> Response {
        self.register(0)
    }

    /// A REGISTER without Contact asks for the bindings.
    pub fn query(&mut self) -> Response {
        self.send_register(&[])
    }

    /// A REGISTER with these header lines, with credentials if the phone has a nonce, and once more if it is
    /// challenged.
    pub fn send_register(&mut self, headers: &[&str]) -> Response {
        let first = self.send_register_once(headers);
        if first.status != 401 {
            return first;
        }
        self.send_register_once(headers)
    }

    /// One REGISTER and its answer; a 401 is remembered for the next.
    pub fn send_register_once(&mut self, headers: &[&str]) -> Response {
        let message = self.register_message(headers);
        let response = self.exchange(&message);
        if response.status == 401 {
            self.challenge =
                Some(Challenge::parse(response.header("WWW-Authenticate").expect("a challenge")));
            self.challenges += 1;
            self.nc = 0;
        }
        response
    }

    /// The next REGISTER, not sent.
    pub fn register_message(&mut self, headers: &[&str]) -> String {
        let uri = format!("sip:{}", self.domain);
        let credentials = self.challenge.clone().map(|challenge| {
            self.nc += 1;
            challenge.answer(&self.digest_user, &self.password, "REGISTER", &uri, self.nc)
        });
        let mut headers = headers.to_vec();
        headers.extend(credentials.as_deref());
        self.message("REGISTER", &uri, &headers)
    }

    /// A request without credentials, and its final answer.
    pub fn ask(&mut self, method: &str, uri: &str, headers: &[&str]) -> Response {
        let message = self.message(method, uri, headers);
        self.exchange(&message)
    }

    /// The bytes of the next request; `headers` may replace To and Max-Forwards.
    pub fn message(&mut self, method: &str, uri: &str, headers: &[&str]) -> String {
        self.cseq += 1;
        let own = |name: &str| headers.iter().any(|line| line.to_ascii_lowercase().starts_with(name));
        let aor = format!("sip:{}@{}", self.user, self.domain);
        let to = if method == "REGISTER" { aor.as_str() } else { uri };
        let mut lines = vec![
            format!("{method} {uri} SIP/2.0"),
            format!("Via: SIP/2.0/UDP {};branch=z9hG4bK{};rport", self.local(), token()),
            format!("From: \"{}\" <{aor}>;tag={}", self.user, self.tag),
            format!("Call-ID: {}", self.call_id),
            format!("CSeq: {} {method}", self.cseq),
            format!("User-Agent: {USER_AGENT}"),
        ];
        if !own("to:") {
            lines.push(format!("To: <{to}>"));
        }
        if !own("max-forwards:") {
            lines.push("Max-Forwards: 70".to_owned());
        }
        lines.extend(headers.iter().map(|line| (*line).to_owned()));
        lines.push("Content-Length: 0\r\n\r\n".to_owned());
        lines.join("\r\n")
    }

    /// Sends a request, again while no answer comes (RFC 3261 17.1.2.2), and gives the final answer.
    pub fn exchange(&self, message: &str) -> Response {
        let mut pause = Duration::from_millis(500);
        for _ in 0..5 {
            self.send(message);
            let end = self.line.now() + pause;
            while let Some(left) = end.checked_sub(self.line.now()).filter(|left| !left.is_zero()) {
                let Some(response) = self.hear(left) else { continue };
                if response.answers(message) && response.status >= 200 {
                    return response;
                }
            }
            pause = (pause * 2).min(Duration::from_secs(4));
        }
        panic!("no answer to\n{message}");
    }

    pub fn send(&self, bytes: impl AsRef<[u8]>) {
        self.line.send(bytes.as_ref());
    }

    /// The next response, if one comes in time.
    pub fn hear(&self, patience: Duration) -> Option<Response> {
        let (bytes, _) = self.receive(patience)?;
        Response::parse(&bytes)
    }

    /// The time since some moment.
    pub fn now(&self) -> Duration {
        self.line.now()
    }

    /// The next datagram and who has sent it, if one comes in time.
    pub fn receive(&self, patience: Duration) -> Option<(Vec<u8>, SocketAddr)> {
        self.line.receive(patience)
    }

    /// All responses that come within this time.
    pub fn listen(&self, time: Duration) -> Vec<Response> {
        let end = self.line.now() + time;
        let mut heard = Vec::new();
        while let Some(left) = end.checked_sub(self.line.now()).filter(|left| !left.is_zero()) {
            heard.extend(self.hear(left));
        }
        heard
    }

    pub fn local(&self) -> SocketAddr {
        self.line.local()
    }
}

/// What a 401 asks for.
#[derive(Debug, Clone)]
pub struct Challenge {
    pub realm: String,
    pub nonce: String,
    pub qop: bool,
    pub stale: bool,
}

impl Challenge {
    /// From the value of WWW-Authenticate.
    pub fn parse(value: &str) -> Challenge {
        let params = value.strip_prefix("Digest ").expect("a Digest challenge");
        let param = |name: &str| {
            params.split(',').find_map(|param| {
                let (key, value) = param.trim().split_once('=')?;
                (key == name).then(|| value.trim_matches('"').to_owned())
            })
        };
        Challenge {
            realm: param("realm").expect("a realm"),
            nonce: param("nonce").expect("a nonce"),
            qop: param("qop").is_some(),
            stale: param("stale").is_some_and(|stale| stale == "true"),
        }
    }

    /// The header line with the credentials.
    pub fn answer(&self, user: &str, password: &str, method: &str, uri: &str, nc: u32) -> String {
        let cnonce = token();
        let counted = self.qop.then_some((nc, cnonce.as_str()));
        let response = digest([user, &self.realm, password], method, uri, &self.nonce, counted);
        let mut line = format!(
            "Authorization: Digest username=\"{user}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", \
             response=\"{response}\", algorithm=MD5",
            self.realm, self.nonce
        );
        if self.qop {
            line.push_str(&format!(", qop=auth, nc={nc:08x}, cnonce=\"{cnonce}\""));
        }
        line
    }
}

/// The response of RFC 2617 3.2.2.1. `secret` is user, realm, password; `counted` is nc and cnonce of qop=auth.
pub fn digest(
    secret: [&str; 3],
    method: &str,
    uri: &str,
    nonce: &str,
    counted: Option<(u32, &str)>,
) -> String {
    let ha1 = md5::hex(secret.join(":").as_bytes());
    let ha2 = md5::hex(format!("{method}:{uri}").as_bytes());
    let middle = match counted {
        Some((nc, cnonce)) => format!("{nonce}:{nc:08x}:{cnonce}:auth"),
        None => nonce.to_owned(),
    };
    md5::hex(format!("{ha1}:{middle}:{ha2}").as_bytes())
}

/// A received response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub reason: String,
    pub text: String,
}

impl Response {
    pub fn parse(bytes: &[u8]) -> Option<Response> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let line = text.lines().next()?.strip_prefix("SIP/2.0 ")?;
        let (status, reason) = line.split_once(' ')?;
        Some(Response { status: status.parse().ok()?, reason: reason.to_owned(), text })
    }

    /// Status and reason phrase, such as `200 OK`.
    pub fn line(&self) -> String {
        format!("{} {}", self.status, self.reason)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.text, name)
    }

    pub fn answers(&self, request: &str) -> bool {
        ["Call-ID", "CSeq"].iter().all(|name| self.header(name) == header(request, name))
    }
}

/// The value of the first header line of this name, in its long form.
pub fn header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.lines().skip(1).take_while(|line| !line.is_empty()).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// For tags, branches, Call-IDs and cnonces.
pub fn token() -> String {
    format!("{:016x}", Random::fresh_seed())
}
