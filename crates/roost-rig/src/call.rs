//! Calls by hand: what a phone sends and expects as caller and as callee, message by message.

use std::net::SocketAddr;
use std::time::Duration;

use crate::PATIENCE;
use crate::phone::{Line, Phone, header, token};

/// Long enough for roost to send what it should not: its own retransmissions come after 500 ms.
pub const A_WHILE: Duration = Duration::from_millis(700);

/// A received request or response.
#[derive(Clone, Debug)]
pub struct Message {
    pub text: String,
    pub source: SocketAddr,
}

impl Message {
    /// The first line, without `SIP/2.0 ` where it is a response.
    pub fn line(&self) -> &str {
        let line = self.text.split("\r\n").next().unwrap_or_default();
        line.strip_prefix("SIP/2.0 ").unwrap_or(line)
    }

    /// The method of a request.
    pub fn method(&self) -> Option<&str> {
        let (method, _) = self.text.split_once(' ')?;
        (method != "SIP/2.0").then_some(method)
    }

    /// The Request-URI.
    pub fn uri(&self) -> &str {
        self.line().split(' ').nth(1).unwrap_or_default()
    }

    /// The status of a response.
    pub fn status(&self) -> Option<u16> {
        self.text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.text, name)
    }

    /// The values of all header lines of this name.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head().into_iter().skip(1).filter_map(|line| line.split_once(':'));
        lines
            .filter(|(key, _)| key.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// First line and header lines.
    pub fn head(&self) -> Vec<&str> {
        let (head, _) = self.text.split_once("\r\n\r\n").unwrap_or((self.text.as_str(), ""));
        head.split("\r\n").collect()
    }

    pub fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    /// The branch of its topmost Via.
    pub fn branch(&self) -> &str {
        let via = self.header("Via").unwrap_or_default();
        via.split(';').find_map(|param| param.strip_prefix("branch=")).unwrap_or_default()
    }
}

impl<L: Line> Phone<L> {
    /// The URI of another extension.
    pub fn uri_of(&self, user: &str) -> String {
        format!("sip:{user}@{}", self.domain)
    }

    /// An initial request to an extension, with a Call-ID of its own; not sent.
    pub fn initial(&mut self, method: &str, user: &str, headers: &[&str]) -> String {
        self.call_id = format!("{}@call", token());
        let contact = format!("Contact: <{}>", self.contact);
        let mut headers = headers.to_vec();
        if method == "INVITE" {
            headers.push(&contact);
        }
        let uri = self.uri_of(user);
        self.message(method, &uri, &headers)
    }

    /// Sends an INVITE to an extension; gives its bytes.
    pub fn invite(&mut self, user: &str) -> String {
        let invite = self.initial("INVITE", user, &[]);
        self.send(&invite);
        invite
    }

    /// The next request of this method; what comes before it is passed over.
    pub fn await_request(&self, method: &str) -> Message {
        self.await_message(method, |message| message.method() == Some(method))
    }

    /// The next response of this status to a request of this method; what comes before it is passed over.
    pub fn await_status(&self, status: u16, method: &str) -> Message {
        self.await_message(&format!("{status} to {method}"), |message| {
            message.status() == Some(status) && answers_method(message, method)
        })
    }

    /// The next final response to a request of this method.
    pub fn await_final(&self, method: &str) -> Message {
        self.await_message(&format!("final answer to {method}"), |message| {
            message.status().is_some_and(|status| status >= 200) && answers_method(message, method)
        })
    }

    /// The next final response to an INVITE; a failure is acknowledged.
    pub fn await_outcome(&self, invite: &str) -> Message {
        let answer = self.await_final("INVITE");
        if answer.status().is_some_and(|status| status >= 300) {
            self.send(ack_of_failure(invite, &answer));
        }
        answer
    }

    pub fn await_message(&self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        let end = self.line.now() + PATIENCE;
        let mut passed = Vec::new();
        loop {
            let left = end.saturating_sub(self.line.now());
            let Some(message) = self.message_within(left) else {
                panic!("{}: no {what} within {PATIENCE:?}, but {passed:#?}", self.user)
            };
            if wanted(&message) {
                return message;
            }
            passed.push(message.text);
        }
    }

    /// Everything that comes within this time.
    pub fn overhear(&self, time: Duration) -> Vec<Message> {
        let end = self.line.now() + time;
        let mut heard = Vec::new();
        while let Some(left) = end.checked_sub(self.line.now()).filter(|left| !left.is_zero()) {
            heard.extend(self.message_within(left));
        }
        heard
    }

    /// Nothing comes for a while.
    pub fn hears_nothing(&self, why: &str) {
        let heard = self.overhear(A_WHILE);
        assert!(heard.is_empty(), "{}: {why}, and yet it hears {heard:#?}", self.user);
    }

    fn message_within(&self, patience: Duration) -> Option<Message> {
        let (bytes, source) = self.receive(patience)?;
        Some(Message { text: String::from_utf8_lossy(&bytes).into_owned(), source })
    }

    /// Sends an answer, such as `180 Ringing`, with a Contact; gives its bytes.
    pub fn answer(&self, request: &Message, line: &str) -> String {
        self.answer_with(request, line, &[&format!("Contact: <{}>", self.contact)])
    }

    pub fn answer_with(&self, request: &Message, line: &str, headers: &[&str]) -> String {
        let mut lines = vec![format!("SIP/2.0 {line}")];
        for name in ["Via", "Record-Route"] {
            lines.extend(request.headers(name).into_iter().map(|value| format!("{name}: {value}")));
        }
        for name in ["From", "To", "Call-ID", "CSeq"] {
            let value = request.header(name).unwrap_or_else(|| panic!("no {name} in {}", request.text));
            let tag = match name == "To" && !value.contains(";tag=") && !line.starts_with("100") {
                true => format!(";tag={}", self.tag),
                false => String::new(),
            };
            lines.push(format!("{name}: {value}{tag}"));
        }
        lines.extend(headers.iter().map(|line| (*line).to_owned()));
        lines.push("Content-Length: 0\r\n\r\n".to_owned());
        let answer = lines.join("\r\n");
        self.send(&answer);
        answer
    }

    /// Calls an extension whose phone is `callee`: INVITE, 180, 200, ACK. Both ends of the dialog.
    pub fn establish(&mut self, callee: &Phone<L>) -> (Dialog, Dialog) {
        let user = callee.user.clone();
        self.invite(&user);
        let invite = callee.await_request("INVITE");
        callee.answer(&invite, "180 Ringing");
        self.await_status(180, "INVITE");
        callee.answer(&invite, "200 OK");
        let ok = self.await_status(200, "INVITE");
        let (mut ours, theirs) = (Dialog::of_caller(self, &ok), Dialog::of_callee(callee, &invite));
        self.send(ours.request("ACK", &[]));
        callee.await_request("ACK");
        (ours, theirs)
    }
}

/// One end of a call: what its requests are made of.
#[derive(Clone, Debug)]
pub struct Dialog {
    local: SocketAddr,
    pub call_id: String,
    from: String,
    to: String,
    /// The remote target, a URI.
    pub target: String,
    /// The route set, in the order of Route.
    pub routes: Vec<String>,
    pub cseq: u32,
}

impl Dialog {
    /// From the 2xx (RFC 3261 12.1.2).
    pub fn of_caller<L: Line>(phone: &Phone<L>, ok: &Message) -> Dialog {
        let mut routes = owned(&ok.headers("Record-Route"));
        routes.reverse();
        Dialog {
            local: phone.local(),
            call_id: ok.header("Call-ID").expect("a Call-ID").to_owned(),
            from: ok.header("From").expect("a From").to_owned(),
            to: ok.header("To").expect("a To").to_owned(),
            target: contact_uri(ok),
            routes,
            cseq: number(ok),
        }
    }

    /// From the INVITE that the phone has answered (RFC 3261 12.1.1).
    pub fn of_callee<L: Line>(phone: &Phone<L>, invite: &Message) -> Dialog {
        Dialog {
            local: phone.local(),
            call_id: invite.header("Call-ID").expect("a Call-ID").to_owned(),
            from: format!("{};tag={}", invite.header("To").expect("a To"), phone.tag),
            to: invite.header("From").expect("a From").to_owned(),
            target: contact_uri(invite),
            routes: owned(&invite.headers("Record-Route")),
            cseq: 100,
        }
    }

    /// The next request; an ACK has the number of the request before.
    pub fn request(&mut self, method: &str, headers: &[&str]) -> String {
        self.cseq += u32::from(method != "ACK");
        let mut lines = vec![
            format!("{method} {} SIP/2.0", self.target),
            format!("Via: SIP/2.0/UDP {};branch=z9hG4bK{};rport", self.local, token()),
        ];
        lines.extend(self.routes.iter().map(|route| format!("Route: {route}")));
        lines.extend([
            "Max-Forwards: 70".to_owned(),
            format!("From: {}", self.from),
            format!("To: {}", self.to),
            format!("Call-ID: {}", self.call_id),
            format!("CSeq: {} {method}", self.cseq),
        ]);
        lines.extend(headers.iter().map(|line| (*line).to_owned()));
        lines.push("Content-Length: 0\r\n\r\n".to_owned());
        lines.join("\r\n")
    }
}

/// The ACK of a response other than 2xx, which belongs to the INVITE's transaction (RFC 3261 17.1.1.3).
pub fn ack_of_failure(invite: &str, response: &Message) -> String {
    same_transaction(invite, "ACK", response.header("To").expect("a To"))
}

/// The CANCEL of an INVITE (RFC 3261 9.1).
pub fn cancel_of(invite: &str) -> String {
    same_transaction(invite, "CANCEL", header(invite, "To").expect("a To"))
}

fn same_transaction(invite: &str, method: &str, to: &str) -> String {
    let uri = invite.split(' ').nth(1).expect("a Request-URI");
    let value = |name: &str| header(invite, name).unwrap_or_else(|| panic!("no {name} in {invite}"));
    let cseq = value("CSeq").split(' ').next().unwrap_or_default();
    format!(
        "{method} {uri} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\n\
         CSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n",
        value("Via"),
        value("From"),
        value("Call-ID"),
    )
}

/// The message with a body, where it had none.
pub fn with_body(message: &str, content_type: &str, body: &str) -> String {
    let head = message.strip_suffix("Content-Length: 0\r\n\r\n").expect("a message without a body");
    format!("{head}Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn answers_method(response: &Message, method: &str) -> bool {
    response.header("CSeq").is_some_and(|cseq| cseq.ends_with(&format!(" {method}")))
}

fn contact_uri(message: &Message) -> String {
    let contact = message.header("Contact").expect("a Contact");
    contact.trim_start_matches('<').split('>').next().unwrap_or_default().to_owned()
}

fn number(message: &Message) -> u32 {
    let cseq = message.header("CSeq").and_then(|cseq| cseq.split(' ').next()?.parse().ok());
    cseq.expect("a CSeq")
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// The head of a forwarded INVITE without the Via and the Record-Route that roost has added.
pub fn without_our_lines(message: &Message, server: SocketAddr) -> Vec<&str> {
    let mut head = message.head();
    let first_via = head.iter().position(|line| line.starts_with("Via:")).expect("a Via");
    let via = head.remove(first_via);
    assert!(via.starts_with(&format!("Via: SIP/2.0/UDP {server};branch=z9hG4bK")), "{via} is not roost's");

    // The nearest hop stands first.
    let at = head.iter().position(|line| line.starts_with("Record-Route:"));
    let ours = head.remove(at.unwrap_or_else(|| panic!("no Record-Route: {}", message.text)));
    assert!(ours.starts_with(&format!("Record-Route: <sip:{server};lr")) && ours.ends_with('>'), "{ours}");
    assert!(!ours.contains("ftag"), "{ours}");
    head
}

/// A Via without what roost has noted in it: `received`, and the value of `rport`.
pub fn without_source<L: Line>(via: &str, sender: &Phone<L>) -> String {
    let local = sender.local();
    let (received, rport) = (format!(";received={}", local.ip()), format!(";rport={}", local.port()));
    assert!(via.contains(&received) && via.contains(&rport), "{via}");
    via.replace(&received, "").replace(&rport, ";rport")
}

/// An answer as it is sent on.
pub fn without_first_via(response: &str) -> String {
    let (before, rest) = response.split_once("Via:").expect("a Via");
    let (_, after) = rest.split_once("\r\n").expect("the end of its line");
    format!("{before}{after}")
}
