//! A SIP peer over TCP, by hand: it shares no code with roost.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{PATIENCE, Server};
use roost_rig::phone::{Challenge, Response, header, token};

pub struct TcpPhone {
    pub stream: TcpStream,
    pub user: String,
    /// What has arrived and was not taken.
    waiting: Vec<u8>,
    cseq: u32,
    call_id: String,
}

impl TcpPhone {
    pub fn connect(server: &Server, user: &str) -> TcpPhone {
        let stream = TcpStream::connect(server.sip).expect("a TCP connection");
        stream.set_nodelay(true).expect("no delay");
        TcpPhone { stream, user: user.to_owned(), waiting: Vec::new(), cseq: 0, call_id: token() }
    }

    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("its address")
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("bytes sent");
    }

    /// A request with this number's Call-ID; `headers` end its head.
    pub fn message(&mut self, method: &str, uri: &str, headers: &[&str], body: &str) -> String {
        self.cseq += 1;
        let server = self.stream.peer_addr().expect("its peer").ip();
        let to = if method == "REGISTER" { format!("sip:{}@{server}", self.user) } else { uri.to_owned() };
        let mut lines = vec![
            format!("{method} {uri} SIP/2.0"),
            format!("Via: SIP/2.0/TCP {};branch=z9hG4bK{};rport", self.local(), token()),
            format!("From: <sip:{}@{server}>;tag=1", self.user),
            format!("To: <{to}>"),
            format!("Call-ID: {}", self.call_id),
            format!("CSeq: {} {method}", self.cseq),
            "Max-Forwards: 70".to_owned(),
        ];
        lines.extend(headers.iter().map(|line| (*line).to_owned()));
        lines.push(format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        lines.join("\r\n")
    }

    /// Registers this Contact with digest; its password is its number.
    pub fn register(&mut self, contact: &str, expires: u32) -> Response {
        let uri = format!("sip:{}", self.stream.peer_addr().expect("its peer").ip());
        let (contact, expires) = (format!("Contact: <{contact}>"), format!("Expires: {expires}"));
        let first = self.message("REGISTER", &uri, &[&contact, &expires], "");
        self.send(first);
        let challenge = self.response();
        assert_eq!(challenge.status, 401, "{}", challenge.text);
        let challenge = Challenge::parse(challenge.header("WWW-Authenticate").expect("a challenge"));
        let credentials = challenge.answer(&self.user, &self.user, "REGISTER", &uri, 1);
        let second = self.message("REGISTER", &uri, &[&contact, &expires, &credentials], "");
        self.send(second);
        self.response()
    }

    /// Registers where its connection comes from.
    pub fn registered(server: &Server, user: &str) -> TcpPhone {
        let mut phone = TcpPhone::connect(server, user);
        let contact = format!("sip:{user}@{};transport=tcp", phone.local());
        assert_eq!(phone.register(&contact, 300).line(), "200 OK");
        phone
    }

    pub fn response(&mut self) -> Response {
        let text = self.receive(PATIENCE).expect("a response");
        Response::parse(text.as_bytes()).unwrap_or_else(|| panic!("no response: {text}"))
    }

    /// The next message; `None` when the connection ends before one is whole.
    pub fn receive(&mut self, patience: Duration) -> Option<String> {
        let end = Instant::now() + patience;
        loop {
            if let Some(length) = whole(&self.waiting) {
                let message: Vec<u8> = self.waiting.drain(..length).collect();
                return Some(String::from_utf8_lossy(&message).into_owned());
            }
            if !self.read_more(end) {
                return None;
            }
        }
    }

    /// Exactly so many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let end = Instant::now() + PATIENCE;
        while self.waiting.len() < count {
            assert!(self.read_more(end), "the connection ended");
        }
        self.waiting.drain(..count).collect()
    }

    /// Whether the server ends the connection in time.
    pub fn is_ended(&mut self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if !self.read_more(end) {
                return Instant::now() < end;
            }
        }
        false
    }

    /// False when there is no more, or the time is over.
    fn read_more(&mut self, end: Instant) -> bool {
        let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
            return false;
        };
        self.stream.set_read_timeout(Some(left)).expect("a timeout");
        let mut bytes = [0; 65_536];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.waiting.extend_from_slice(&bytes[..count]);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(_) => false,
        }
    }

    pub fn close(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// The length of the first message, once it is whole.
fn whole(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let length = header(&head, "Content-Length").or(header(&head, "l"));
    let length: usize = length.map_or(0, |value| value.parse().expect("a length"));
    (bytes.len() >= end + length).then_some(end + length)
}
