//! A message as a test cuts it up: by line ends alone, without the grammar that is under test.

use std::net::SocketAddr;

/// The first line, the header fields with their folded lines, and the body.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) start: Vec<u8>,
    pub(crate) fields: Vec<Vec<u8>>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// Cuts at CRLF; a line that begins with a blank belongs to the field before it.
    pub(crate) fn cut(bytes: &[u8]) -> Message {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
        let (head, body) = (&bytes[..end], bytes.get(end + 4..).unwrap_or(&[]));
        let mut fields: Vec<Vec<u8>> = Vec::new();
        for line in head.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            match fields.last_mut().filter(|_| matches!(line.first(), Some(b' ' | b'\t'))) {
                Some(field) => {
                    field.extend_from_slice(b"\r\n");
                    field.extend_from_slice(line);
                }
                None => fields.push(line.to_vec()),
            }
        }
        Message { start: fields.remove(0), fields, body: body.to_vec() }
    }

    /// The same bytes again.
    pub(crate) fn join(&self) -> Vec<u8> {
        let mut bytes = self.start.clone();
        for field in &self.fields {
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(field);
        }
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The fields of one of these names, in order.
    pub(crate) fn named<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a Vec<u8>> {
        self.fields.iter().filter(move |field| is_named(field, names))
    }

    /// As far as Content-Length says.
    pub(crate) fn body_by_length(&self) -> &[u8] {
        let length = self.named(&LENGTH).next().and_then(|field| {
            let value =
                String::from_utf8_lossy(field).split_once(':').map(|(_, value)| value.trim().to_string());
            value.and_then(|value| value.parse::<usize>().ok())
        });
        length.and_then(|length| self.body.get(..length)).unwrap_or(&self.body)
    }
}

pub(crate) const VIA: [&str; 2] = ["via", "v"];
pub(crate) const MAX_FORWARDS: [&str; 1] = ["max-forwards"];
pub(crate) const RECORD_ROUTE: [&str; 1] = ["record-route"];
const LENGTH: [&str; 2] = ["content-length", "l"];

/// What an answer repeats (RFC 3261 8.2.6.2).
pub(crate) const REPEATED: [&str; 9] = ["via", "v", "from", "f", "to", "t", "call-id", "i", "cseq"];
pub(crate) const TO: [&str; 2] = ["to", "t"];

pub(crate) fn is_named(field: &[u8], names: &[&str]) -> bool {
    let name = field.split(|byte| *byte == b':').next().unwrap_or(&[]);
    let name = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
    names.contains(&name.as_str())
}

/// The topmost Via without what we write into it: `received`, and the value of `rport`.
pub(crate) fn plain_via(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    for (index, part) in field.split(|byte| *byte == b';').enumerate() {
        if part.starts_with(b"received=") {
            continue;
        }
        if index > 0 {
            plain.push(b';');
        }
        plain.extend_from_slice(if part.starts_with(b"rport=") { b"rport" } else { part });
    }
    plain
}

/// Where an answer goes (RFC 3261 18.2.2): to the sender, at the port of the topmost Via unless `rport` asks otherwise.
pub(crate) fn reply_address(message: &Message, from: SocketAddr) -> SocketAddr {
    let via = message.named(&VIA).next().map(|field| String::from_utf8_lossy(field).into_owned());
    let via = via.unwrap_or_default();
    if via.contains(";rport") {
        return from;
    }
    let sent_by = via.split(';').next().unwrap_or_default().trim_end();
    let digits = sent_by.rsplit_once(':').filter(|(host, _)| !host.contains('[') || host.ends_with(']'));
    let port = digits.and_then(|(_, digits)| digits.parse().ok()).unwrap_or(5060);
    SocketAddr::new(from.ip(), port)
}
