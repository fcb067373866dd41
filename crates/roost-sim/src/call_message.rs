//! Messages of calls, as the phones and the checks of the call world look at them.

use roost_sip::{Head, HeaderName, NameAddr, StartLine, Via, cseq, list, number};

/// One message, taken apart. What stands in it is ASCII, as this world's phones write nothing else.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// 0 for a request.
    pub status: u16,
    /// The request's method; a response's is that of its CSeq.
    pub method: String,
    /// A request's Request-URI.
    pub uri: String,
    /// All Via values, topmost first.
    pub vias: Vec<String>,
    /// Their branches.
    pub branches: Vec<String>,
    /// The topmost branch.
    pub branch: String,
    pub from: String,
    pub to: String,
    pub to_tag: String,
    pub call_id: String,
    pub cseq: u32,
    pub record_routes: Vec<String>,
    /// The URI of its Contact.
    pub contact: String,
    pub max_forwards: Option<u32>,
    /// The header fields that a proxy has no business with, byte for byte.
    pub kept: Vec<Vec<u8>>,
    pub body: Vec<u8>,
}

impl Message {
    /// Takes a message apart; `None` for what no phone would understand.
    pub fn parse(head: &mut Head, bytes: &[u8]) -> Option<Message> {
        head.parse(bytes).ok()?;
        let head = &*head;
        if head.defect().is_some() {
            return None;
        }
        let value = |name| head.value(bytes, name);
        let values = |name| head.values(bytes, name).flat_map(list).map(text).collect::<Vec<String>>();
        let sequence = cseq(value(HeaderName::CSeq)?).ok()?;
        let (status, method, uri) = match head.start_line() {
            StartLine::Response { code } => (code, text(sequence.method), String::new()),
            StartLine::Request { name, uri, .. } => (0, text(name.of(bytes)), text(uri.of(bytes))),
        };
        let to = value(HeaderName::To)?;
        let to_tag = NameAddr::parse(to).ok()?.tag().map_or(String::new(), text);
        let contact = value(HeaderName::Contact).and_then(|value| NameAddr::parse(value).ok());
        let vias = values(HeaderName::Via);
        let branch_of = |via: &String| Some(text(Via::parse(via.as_bytes()).ok()?.branch?));
        let branches = vias.iter().map(branch_of).collect::<Option<Vec<String>>>()?;
        let is_kept = |name: HeaderName| {
            !matches!(
                name,
                HeaderName::Via | HeaderName::MaxForwards | HeaderName::Route | HeaderName::RecordRoute
            )
        };
        let kept = head.lines().iter().filter(|line| is_kept(line.name));
        Some(Message {
            status,
            method,
            uri,
            branch: branches.first()?.clone(),
            vias,
            branches,
            from: text(value(HeaderName::From)?),
            to: text(to),
            to_tag,
            call_id: text(value(HeaderName::CallId)?),
            cseq: sequence.number,
            record_routes: values(HeaderName::RecordRoute),
            contact: contact.map_or(String::new(), |contact| text(contact.uri_text)),
            max_forwards: value(HeaderName::MaxForwards).and_then(|value| number(value).ok()),
            kept: kept.map(|line| line.whole.of(bytes).to_vec()).collect(),
            body: head.body(bytes).to_vec(),
        })
    }

    pub fn is_request(&self) -> bool {
        self.status == 0
    }

    /// Whether it is a 2xx of an INVITE.
    pub fn is_answer(&self) -> bool {
        (200..300).contains(&self.status) && self.method == "INVITE"
    }

    /// A response to this request, without body. `to_tag` is put where To has none.
    pub fn response(&self, status: u16, reason: &str, to_tag: &str, contact: &str) -> Vec<u8> {
        let mut text = format!("SIP/2.0 {status} {reason}\r\n");
        for via in &self.vias {
            text.push_str(&format!("Via: {via}\r\n"));
        }
        for route in &self.record_routes {
            text.push_str(&format!("Record-Route: {route}\r\n"));
        }
        let tag = if self.to_tag.is_empty() { format!(";tag={to_tag}") } else { String::new() };
        let Message { from, to, call_id, cseq, method, .. } = self;
        text.push_str(&format!(
            "From: {from}\r\nTo: {to}{tag}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <{contact}>\r\nContent-Length: 0\r\n\r\n"
        ));
        text.into_bytes()
    }
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.status {
            0 => write!(f, "{} {}", self.method, self.uri)?,
            status => write!(f, "{status} of {}", self.method)?,
        }
        write!(f, " ({}, branch {}, To tag {:?})", self.call_id, self.branch, self.to_tag)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
