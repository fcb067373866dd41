//! What the fuzzer does with its bytes: one function for each target. None may panic, and each checks what must hold
//! whatever the bytes are. `cargo xtask soak fuzz` drives them; the corpora in `fuzz/corpus` are replayed by this crate's
//! tests.
#![forbid(unsafe_code)]

mod engine;

use roost_sip::{
    Credentials, Frame, Head, HeaderName, MAX_MESSAGE, NameAddr, Progress, Uri, Via, contacts, cseq,
    delta_seconds, http_date, parse_allow, q_value, same_uri, unescape_into, unquote,
};

/// What is done with a fuzzer's bytes.
pub type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("head", head),
    ("framing", framing),
    ("uri", uri),
    ("digest", digest),
    ("contact", contact),
    ("engine", engine::run),
    ("config", config),
    ("mi", mi),
    ("hep", hep),
    ("mi_text", mi_text),
];

/// Runs a target.
///
/// # Panics
/// When there is no such target, and when something does not hold.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of this name");
    target(data);
}

/// What a collector is sent: secrets are masked whatever they look like, lengths stay, and a packet's chunks fill it.
fn hep(data: &[u8]) {
    let mut head = Head::new();
    if head.parse(data).is_err() {
        return;
    }
    let (by_head, by_lines) = (roost_hep::Found::by_head(&head), roost_hep::Found::by_lines(data));
    let Some(ranges) = by_head.credentials() else { return };
    let mut message = data.to_vec();
    roost_hep::mask(ranges, &mut message);
    // What begins with the start line looks alike both ways, and a look at lines overwrites no less.
    let begins = data.first().is_some_and(u8::is_ascii_alphabetic);
    if let Some(ranges) =
        by_lines.credentials().filter(|_| begins && head.defect().is_none() && head.left_out() == 0)
    {
        let mut other = data.to_vec();
        roost_hep::mask(ranges, &mut other);
        assert_eq!(other, message);
    }
    assert_eq!(message.len(), data.len());
    let credentials: Vec<_> = head
        .lines()
        .iter()
        .filter(|line| matches!(line.name, HeaderName::Authorization | HeaderName::ProxyAuthorization))
        .collect();
    let is_masked =
        |at: usize| credentials.iter().any(|line| (line.value.start()..line.value.end()).contains(&at));
    for (at, (masked, given)) in message.iter().zip(data).enumerate() {
        assert!(masked == given || (*masked == b'*' && is_masked(at)), "only credentials change");
    }
    for line in &credentials {
        if let Some(response) =
            Credentials::parse(line.value.of(&message)).ok().and_then(|parsed| parsed.response)
        {
            assert!(
                response.iter().all(|byte| matches!(byte, b'*' | b'"' | b'\\') || byte.is_ascii_whitespace())
            );
        }
    }
    hep_packet(head.value(&message, HeaderName::CallId).unwrap_or(&[]), &message);
}

/// A packet is whole chunks, or nothing.
fn hep_packet(correlation: &[u8], payload: &[u8]) {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 5060));
    let packet = roost_hep::Packet {
        at: std::time::Duration::from_secs(1),
        source: address,
        destination: address,
        is_stream: false,
        capture_id: 1,
        key: "",
        correlation,
        is_log: false,
        is_sent: None,
        payload,
    };
    let mut out = Vec::new();
    if roost_hep::encode(&packet, &mut out).is_none() {
        return assert!(out.is_empty());
    }
    let mut rest = out.get(6..).unwrap_or(&[]);
    while !rest.is_empty() {
        let len = usize::from(u16::from_be_bytes([rest[4], rest[5]]));
        assert!(len >= 6 && len <= rest.len(), "chunks fill the packet");
        rest = &rest[len..];
    }
}

/// What comes through the FIFO and by datagrams: each step takes some bytes, or asks for more.
fn mi_text(data: &[u8]) {
    let taken = roost_admin::check_text(data);
    assert!(taken <= data.len());
}

/// The index of a message: every value is a part of it, in order, and reading it twice finds the same.
fn head(data: &[u8]) {
    let mut head = Head::new();
    if head.parse(data).is_err() {
        return;
    }
    let mut end = 0;
    for line in head.lines() {
        let value = line.value.of(data);
        let start = value.as_ptr() as usize - data.as_ptr() as usize;
        assert!(value.is_empty() || start >= end, "values come in order");
        end = if value.is_empty() { end } else { start + value.len() };
        assert!(end <= data.len(), "and from the message");
    }
    for line in head.lines() {
        let all: Vec<&[u8]> = head.values(data, line.name).collect();
        assert_eq!(all.len(), head.count(line.name));
        assert_eq!(head.is_repeated(line.name), all.len() > 1, "{:?}", line.name);
    }
    assert!(head.body(data).len() <= data.len());
    let mut again = Head::new();
    assert!(again.parse(data).is_ok());
    assert_eq!(format!("{:?}", head.lines()), format!("{:?}", again.lines()));
}

/// A stream in pieces means the same as the stream at once. The first byte says how large the pieces are.
fn framing(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    assert_eq!(frames(stream, usize::from(*size).max(1)), frames(stream, usize::MAX));
}

/// Where the frames of a stream begin and what they are, when it arrives in pieces of this size.
fn frames(stream: &[u8], size: usize) -> Vec<(usize, Frame)> {
    let mut head = Head::new();
    let mut progress = Progress::default();
    let (mut start, mut arrived, mut found) = (0, 0, Vec::new());
    loop {
        let frame = Frame::at(&stream[start..arrived], &mut progress, &mut head);
        let length = match frame {
            Frame::Part { .. } if arrived == stream.len() => return found,
            Frame::Part { .. } => {
                arrived = arrived.saturating_add(size).min(stream.len());
                continue;
            }
            Frame::Blank(length) | Frame::Ping(length) | Frame::Message(length) => length,
            Frame::LastMessage(_) | Frame::Garbage => {
                found.push((start, frame));
                return found;
            }
        };
        assert!(length > 0 && start + length <= arrived && length <= MAX_MESSAGE + 4);
        // How blanks and keep-alives are cut depends on what has arrived; what they surround does not.
        if matches!(frame, Frame::Message(_)) {
            found.push((start, frame));
        }
        start += length;
        progress = Progress::default();
    }
}

/// Two URIs, divided by a zero byte: comparing them is symmetric, and each is like itself.
fn uri(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let mut next = || parts.next().and_then(|text| Uri::parse(text).ok());
    let (first, second) = (next(), next());
    for uri in [&first, &second].into_iter().flatten() {
        assert!(same_uri(uri, uri), "{uri:?} is not like itself");
    }
    if let (Some(first), Some(second)) = (&first, &second) {
        assert_eq!(same_uri(first, second), same_uri(second, first), "{first:?} {second:?}");
    }
}

fn digest(data: &[u8]) {
    if let Ok(credentials) = Credentials::parse(data) {
        let parts = [credentials.username, credentials.realm, credentials.nonce, credentials.uri];
        for part in parts.into_iter().flatten() {
            assert!(part.len() <= data.len());
        }
    }
}

/// Values that stand in headers: Contact, Via, CSeq, Expires, q, Allow.
fn contact(data: &[u8]) {
    if let Ok(address) = NameAddr::parse(data) {
        assert!(format!("{address:?}").len() > 1);
    }
    let _ = contacts([data].into_iter()).map(|list| format!("{list:?}"));
    let _ = (Via::parse(data), Via::parse_for_answer(data), cseq(data), delta_seconds(data), q_value(data));
    let _ = (parse_allow(data), HeaderName::parse(data));
    let mut plain = Vec::new();
    unescape_into(data, &mut plain);
    assert!(plain.len() <= data.len());
    let _ = (unquote(data), http_date(data.len() as u64));
}

/// A configuration file: it is taken, or refused with an error that names a line.
fn config(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Err(error) = roost::check_text(text)
    {
        assert!(error.starts_with("fuzz.toml"), "{error}");
    }
}

/// A request of the management interface.
fn mi(data: &[u8]) {
    roost_admin::check_call(data);
}
