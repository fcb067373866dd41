//! Messages of what failed last: a few for each registration or call, those that were heard of longest ago are forgotten first.
//! What proves a password is overwritten before they are kept.

use std::net::SocketAddr;

use roost_core::{Passed, Transport};
use roost_sip::{Head, HeaderName, Method, NameAddr, StartLine, Uri, Via};

use crate::shelf::{Shelf, Weigh};

/// Messages that are kept of one Call-ID; a fork to ten phones has some forty.
const MOST: usize = 40;
/// Bytes that are kept of a message.
const MOST_BYTES: usize = 8_192;
/// Parameters of credentials and challenges that tell nothing; all others are overwritten.
const SHOWN: [&[u8]; 6] = [b"username", b"realm", b"uri", b"algorithm", b"qop", b"stale"];

/// What failed under one Call-ID.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// Whose REGISTER or other request it was, as tables have it.
    pub aor: Box<[u8]>,
    pub call_id: Box<[u8]>,
    /// In the order in which they came and went.
    pub messages: Vec<Message>,
}

/// A message of it, credentials overwritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// In milliseconds of unix time.
    pub at_ms: u64,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub transport: Transport,
    pub is_sent: bool,
    pub bytes: Box<[u8]>,
}

/// Of extensions and of names that nobody knows.
#[derive(Debug)]
pub(crate) struct Failures {
    extensions: Shelf<Failure>,
    strangers: Shelf<Failure>,
    head: Box<Head>,
}

/// Who asked, as the first message says it.
pub(crate) struct Asker {
    pub(crate) user: Box<[u8]>,
    pub(crate) host: Box<[u8]>,
    pub(crate) call_id: Box<[u8]>,
}

impl Failures {
    pub(crate) fn new(bytes: usize) -> Failures {
        let (extensions, strangers) = Shelf::pair(bytes);
        Failures { extensions, strangers, head: Head::new() }
    }

    /// Who has sent the request that failed.
    pub(crate) fn asker(&mut self, passed: &[Passed]) -> Option<Asker> {
        let bytes = &passed.first()?.bytes;
        self.head.parse(bytes).ok()?;
        let StartLine::Request { method, .. } = self.head.start_line() else { return None };
        let name = if method == Method::Register { HeaderName::To } else { HeaderName::From };
        let value = self.head.value(bytes, name)?;
        let uri = NameAddr::parse(value).ok().and_then(|address| Uri::parse(address.uri_text).ok())?;
        Some(Asker {
            user: uri.user.unwrap_or(&[]).into(),
            host: uri.host.to_ascii_lowercase().into(),
            call_id: self.head.value(bytes, HeaderName::CallId)?.into(),
        })
    }

    /// Keeps messages that came and went before `now_ms`.
    pub(crate) fn take(
        &mut self,
        (aor, call_id): (&[u8], &[u8]),
        is_known: bool,
        passed: &[Passed],
        now_ms: u64,
    ) {
        let head = &mut self.head;
        let mut messages: Vec<_> = passed.iter().map(|one| message(one, now_ms, head)).collect();
        let shelf = if is_known { &mut self.extensions } else { &mut self.strangers };
        let fresh = || Failure { aor: aor.into(), call_id: call_id.into(), messages: Vec::new() };
        shelf.change_or_put(call_id, fresh, |failure| failure.add(&mut messages));
    }

    /// The failure of this kind that was heard of last.
    pub(crate) fn find(&self, mut wants: impl FnMut(&Failure) -> bool) -> Option<Failure> {
        let all = self.extensions.iter().chain(self.strangers.iter());
        all.map(|(_, failure)| failure).find(|failure| wants(failure)).cloned()
    }

    pub(crate) fn count(&self) -> usize {
        self.extensions.len() + self.strangers.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.extensions.bytes() + self.strangers.bytes()
    }
}

/// One of those that a call was sent on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// When it was sent, in milliseconds of unix time.
    pub at_ms: u64,
    pub remote: SocketAddr,
    pub transport: Transport,
    /// The Request-URI.
    pub uri: String,
    /// What came back, such as "486 Busy Here", and after how many milliseconds; `None`: nothing.
    pub answer: Option<(String, u64)>,
}

impl Failure {
    /// Who was tried, and what each said.
    pub fn branches(&self) -> Vec<Branch> {
        let mut head = Head::new();
        let mut branches: Vec<(Box<[u8]>, Branch)> = Vec::new();
        for message in &self.messages {
            let bytes = &message.bytes;
            if head.parse(bytes).is_err() {
                continue;
            }
            let via = head.value(bytes, HeaderName::Via).and_then(|value| Via::parse(value).ok());
            let Some(id) = via.and_then(|via| via.branch) else { continue };
            match head.start_line() {
                StartLine::Request { .. } if message.is_sent => {
                    let line = String::from_utf8_lossy(head.start_line_text(bytes)).into_owned();
                    let uri = line.split(' ').nth(1).unwrap_or_default().to_string();
                    let Message { at_ms, destination: remote, transport, .. } = *message;
                    branches.push((id.into(), Branch { at_ms, remote, transport, uri, answer: None }));
                }
                StartLine::Response { .. } if !message.is_sent => {
                    if let Some((_, branch)) = branches.iter_mut().find(|(own, _)| **own == *id) {
                        let after_ms = message.at_ms.saturating_sub(branch.at_ms);
                        branch.answer = Some((status(&head, bytes), after_ms));
                    }
                }
                _ => {}
            }
        }
        branches.into_iter().map(|(_, branch)| branch).collect()
    }

    /// What the one who asked was told in the end, such as "486 Busy Here".
    pub fn answer(&self) -> Option<String> {
        let mut head = Head::new();
        let last = self
            .messages
            .iter()
            .rev()
            .find(|message| message.is_sent && message.bytes.starts_with(b"SIP/2.0 "))?;
        head.parse(&last.bytes).ok()?;
        Some(status(&head, &last.bytes))
    }

    /// A phone that tries for ever under one Call-ID keeps its last tries.
    fn add(&mut self, messages: &mut Vec<Message>) {
        self.messages.append(messages);
        let too_many = self.messages.len().saturating_sub(MOST);
        self.messages.drain(..too_many);
        self.messages.sort_by_key(|message| message.at_ms);
    }
}

impl Weigh for Failure {
    fn weight(&self) -> usize {
        let bytes = |message: &Message| size_of::<Message>() + message.bytes.len();
        let messages: usize = self.messages.iter().map(bytes).sum();
        messages + self.call_id.len() + self.aor.len() + size_of::<Failure>()
    }
}

fn message(passed: &Passed, now_ms: u64, head: &mut Head) -> Message {
    let mut bytes = passed.bytes.to_vec();
    hide(&mut bytes, head);
    bytes.truncate(MOST_BYTES);
    let (source, destination) = match passed.is_sent {
        true => (passed.flow.local, passed.flow.remote),
        false => (passed.flow.remote, passed.flow.local),
    };
    Message {
        at_ms: now_ms.saturating_sub(passed.ago_ms),
        source,
        destination,
        transport: passed.flow.transport,
        is_sent: passed.is_sent,
        bytes: bytes.into(),
    }
}

/// Overwrites all of credentials and challenges but what tells nothing. A message that cannot be read is cut to its first line.
fn hide(bytes: &mut Vec<u8>, head: &mut Head) {
    if head.parse(bytes).is_err() {
        let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
        return bytes.truncate(end);
    }
    let is_secret = |name| {
        matches!(
            name,
            HeaderName::Authorization
                | HeaderName::ProxyAuthorization
                | HeaderName::WwwAuthenticate
                | HeaderName::ProxyAuthenticate
        )
    };
    for line in head.lines().iter().filter(|line| is_secret(line.name)) {
        if let Some(value) = bytes.get_mut(line.value.start()..line.value.end()) {
            hide_parameters(value);
        }
    }
    // Lines that found no room in the index may be any.
    if head.left_out() > 0 {
        bytes.truncate(head.lines().last().map_or(0, |line| line.whole.end()));
    }
}

/// Status code and phrase.
fn status(head: &Head, bytes: &[u8]) -> String {
    let line = String::from_utf8_lossy(head.start_line_text(bytes)).into_owned();
    line.trim_start_matches("SIP/2.0 ").trim_end().to_string()
}

fn hide_parameters(value: &mut [u8]) {
    let scheme = value.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    // A word alone is no scheme.
    let scheme = if scheme == value.len() { 0 } else { scheme };
    let (_, mut rest) = value.split_at_mut(scheme);
    while !rest.is_empty() {
        let mut is_quoted = false;
        let end = rest.iter().position(|byte| {
            is_quoted ^= *byte == b'"';
            *byte == b',' && !is_quoted
        });
        let (one, later) = rest.split_at_mut(end.map_or(rest.len(), |end| end + 1));
        let (name, text) = match one.iter().position(|byte| *byte == b'=') {
            Some(at) => one.split_at_mut(at + 1),
            None => one.split_at_mut(0),
        };
        let name = name.strip_suffix(b"=").unwrap_or(name).trim_ascii();
        if !SHOWN.iter().any(|shown| name.eq_ignore_ascii_case(shown)) {
            let is_kept = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b',');
            text.iter_mut().filter(|byte| !is_kept(byte)).for_each(|byte| *byte = b'*');
        }
        rest = later;
    }
}

#[cfg(test)]
mod tests {
    use roost_core::Flow;

    use super::*;

    fn exchange(call_id: &str, ago_ms: u64) -> Vec<Passed> {
        let flow = Flow::udp("10.0.0.1:5060".parse().unwrap(), "10.0.0.9:5062".parse().unwrap());
        let request = format!(
            "REGISTER sip:pbx SIP/2.0\r\nTo: <sip:9001@PBX>\r\nFrom: <sip:9001@pbx>;tag=1\r\nCall-ID: {call_id}\r\n\
             Authorization: Digest username=\"9001\", nonce=\"se,cret\",response=\"secret\", cnonce=secret,\r\n qop=auth\r\n\r\n"
        );
        let response = format!(
            "SIP/2.0 401 Unauthorized\r\nCall-ID: {call_id}\r\nWWW-Authenticate: Digest realm=\"pbx\", nonce=\"secret\"\r\n\r\n"
        );
        let passed = |is_sent, bytes: String, ago_ms| Passed {
            flow,
            is_sent,
            ago_ms,
            bytes: bytes.into_bytes().into(),
        };
        vec![passed(false, request, ago_ms), passed(true, response, 0)]
    }

    #[test]
    fn messages_of_a_failure_are_kept_in_order_without_what_proves_a_password() {
        let mut failures = Failures::new(100_000);
        let passed = exchange("one", 20);
        let asker = failures.asker(&passed).unwrap();
        assert_eq!((&*asker.user, &*asker.host, &*asker.call_id), (&b"9001"[..], &b"pbx"[..], &b"one"[..]));
        failures.take((b"9001", b"one"), true, &passed, 10_000);
        failures.take((b"9001", b"one"), true, &exchange("one", 10), 9_000);
        let failure = failures.find(|failure| *failure.aor == *b"9001").unwrap();
        let times: Vec<_> = failure.messages.iter().map(|message| (message.at_ms, message.is_sent)).collect();
        assert_eq!(times, [(8_990, false), (9_000, true), (9_980, false), (10_000, true)]);
        let texts: Vec<_> =
            failure.messages.iter().map(|message| String::from_utf8_lossy(&message.bytes)).collect();
        assert!(!texts.iter().any(|text| text.contains("cret")), "{texts:?}");
        assert!(
            texts[0].contains("username=\"9001\", nonce=\"**,****") && texts[0].contains("qop=auth"),
            "{texts:?}"
        );
        assert!(texts[1].contains("realm=\"pbx\""), "{texts:?}");
    }

    #[test]
    fn what_is_kept_is_bounded_and_strangers_push_no_extension_out() {
        let mut failures = Failures::new(64_000);
        failures.take((b"9001", b"own"), true, &exchange("own", 0), 1);
        for number in 0..1_000 {
            let call_id = format!("stranger-{number}");
            failures.take((b"x", call_id.as_bytes()), false, &exchange(&call_id, 0), 2);
        }
        assert!(
            failures.bytes() <= 64_000 && failures.count() > 5,
            "{} {}",
            failures.bytes(),
            failures.count()
        );
        assert!(failures.find(|failure| *failure.call_id == *b"own").is_some());
        assert!(failures.find(|failure| *failure.call_id == *b"stranger-999").is_some());
        for _ in 0..100 {
            failures.take((b"9001", b"own"), true, &exchange("own", 0), 1);
        }
        assert_eq!(failures.find(|failure| *failure.call_id == *b"own").unwrap().messages.len(), MOST);
        // What no parser reads shows its first line alone.
        let mut bytes = b"REGISTER sip:x SIP/2.0\r\n no header\r\nAuthorization: secret".to_vec();
        hide(&mut bytes, &mut Head::new());
        assert!(!String::from_utf8_lossy(&bytes).contains("secret"));
    }
}
