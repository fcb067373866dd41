//! Answers of roost's own, and how they are written: slices of the request, a few headers, nothing re-serialised.

use std::cell::Cell;

use roost_sip::{HeaderName, HttpDate, Via, http_date};

use crate::auth::digest::push_hex;
use crate::auth::nonce::write_nonce;
use crate::base::flow::Now;
use crate::base::limits;
use crate::base::text::{push_ip, push_number};
use crate::contract::config::{Algorithm, PathMode};
use crate::message::path::write_path;
use crate::message::request::Request;
use crate::registrar::binding::Binding;

/// A refusal (or another final answer) and the reason that operators are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    /// P-Registrar-Error
    pub(crate) error: Option<&'static str>,
    /// WWW-Authenticate, and whether it says `stale=true`.
    pub(crate) challenge: Option<Challenge>,
    /// Unsupported, and what it names.
    pub(crate) unsupported: Option<Unsupported>,
    /// Contact: the AOR's bindings.
    pub(crate) with_contacts: bool,
    /// Retry-After, in seconds; 0 sends none.
    pub(crate) retry_after_s: u32,
    /// For the log: what was wrong, in words.
    pub(crate) why: &'static str,
}

/// What an Unsupported header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsupported {
    /// What Require or Proxy-Require asks for and is not there.
    Required,
    /// `path`: the phone does not know the Path that its REGISTER came with; the Path goes along (RFC 3327 5.3).
    Path,
}

/// A challenge's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) stale: bool,
    /// 407 with Proxy-Authenticate instead of 401 with WWW-Authenticate.
    pub(crate) by_proxy: bool,
}

impl Answer {
    pub(crate) fn new(code: u16, reason: &'static str) -> Answer {
        Answer {
            code,
            reason,
            error: None,
            challenge: None,
            unsupported: None,
            with_contacts: false,
            retry_after_s: 0,
            why: reason,
        }
    }

    pub(crate) fn why(self, why: &'static str) -> Answer {
        Answer { why, ..self }
    }

    pub(crate) fn challenge(stale: bool, why: &'static str) -> Answer {
        Answer {
            challenge: Some(Challenge { stale, by_proxy: false }),
            why,
            ..Answer::new(401, "Unauthorized")
        }
    }

    /// A challenge as a proxy sends it (407); any other answer stays as it is.
    pub(crate) fn by_proxy(self) -> Answer {
        match self.challenge {
            Some(challenge) => Answer {
                code: 407,
                reason: "Proxy Authentication Required",
                challenge: Some(Challenge { by_proxy: true, ..challenge }),
                ..self
            },
            None => self,
        }
    }

    /// A registrar's error with its `P-Registrar-Error` text (S53).
    pub(crate) fn registrar(code: u16, error: &'static str) -> Answer {
        let reason = match code {
            400 => "Bad Request",
            420 => "Bad Extension",
            503 => "Service Unavailable",
            _ => "Server Internal Error",
        };
        Answer { error: Some(error), why: error, ..Answer::new(code, reason) }
    }

    /// 420: Require or Proxy-Require asks for what is not there.
    pub(crate) fn bad_extension() -> Answer {
        Answer { unsupported: Some(Unsupported::Required), ..Answer::new(420, "Bad Extension") }
    }

    /// A limit was hit; the phone should come back.
    pub(crate) fn busy(why: &'static str) -> Answer {
        Answer { retry_after_s: limits::BUSY_RETRY_AFTER_S, why, ..Answer::new(503, "Service Unavailable") }
    }

    pub(crate) fn with_contacts(self) -> Answer {
        Answer { with_contacts: true, ..self }
    }
}

/// What the process gives every answer.
#[derive(Debug, Clone)]
pub(crate) struct Stationery {
    pub(crate) mac_key: [u8; 32],
    /// `Server: …`, `Content-Length: 0` and the empty line.
    tail: Box<[u8]>,
    nonce_expire_s: u32,
    qop_auth: bool,
    algorithms: Vec<Algorithm>,
    /// The second that Date was last written for, and its text.
    date: Cell<(u64, HttpDate)>,
    /// Whether Path is an extension that is there.
    pub(crate) knows_path: bool,
}

impl Stationery {
    pub(crate) fn new(config: &crate::Config) -> Stationery {
        let server = match config.server_header.as_str() {
            "" => String::new(),
            server => format!("Server: {server}\r\n"),
        };
        Stationery {
            mac_key: config.mac_key,
            tail: format!("{server}Content-Length: 0\r\n\r\n").into_bytes().into(),
            nonce_expire_s: config.auth.nonce_expire_s,
            qop_auth: config.auth.qop_auth,
            algorithms: config.auth.algorithms.clone(),
            date: Cell::new((0, http_date(0))),
            knows_path: config.registrar.path != PathMode::Ignore,
        }
    }

    /// Status line, Via, From, To with our tag, Call-ID and CSeq in the request's order.
    pub(crate) fn write_head(&self, request: &Request<'_>, code: u16, reason: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"SIP/2.0 ");
        push_number(u64::from(code), out);
        out.push(b' ');
        out.extend_from_slice(reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        self.write_copied_headers(request, true, out);
    }

    fn write_copied_headers(&self, request: &Request<'_>, with_tag: bool, out: &mut Vec<u8>) {
        let mut is_first_via = true;
        for line in request.head.lines() {
            match line.name {
                HeaderName::Via if is_first_via => {
                    is_first_via = false;
                    write_via(request, out);
                }
                HeaderName::To => {
                    let to = request.bytes.get(line.whole.start()..line.value.end()).unwrap_or(&[]);
                    out.extend_from_slice(to);
                    if with_tag && request.to_tag().is_none() {
                        out.extend_from_slice(b";tag=");
                        push_hex(request.mac(&self.mac_key).get(..8).unwrap_or(&[]), out);
                    }
                    out.extend_from_slice(b"\r\n");
                }
                HeaderName::Via | HeaderName::From | HeaderName::CallId | HeaderName::CSeq => {
                    let text = request.bytes.get(line.whole.start()..line.value.end()).unwrap_or(&[]);
                    out.extend_from_slice(text);
                    out.extend_from_slice(b"\r\n");
                }
                _ => {}
            }
        }
    }

    /// The 100 of an INVITE; it has no To tag of ours (RFC 3261 8.2.6.2).
    pub(crate) fn write_trying(&self, request: &Request<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"SIP/2.0 100 Giving a try\r\n");
        self.write_copied_headers(request, false, out);
        self.write_tail(out);
    }

    pub(crate) fn write_tail(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tail);
    }

    pub(crate) fn write_challenge(
        &self,
        request: &Request<'_>,
        realm: &[u8],
        challenge: Challenge,
        now: Now,
        out: &mut Vec<u8>,
    ) {
        let name: &[u8] = if challenge.by_proxy { b"Proxy-Authenticate" } else { b"WWW-Authenticate" };
        let [_, _, _, _, _, _, _, _, own @ .., _, _, _, _] = request.mac(&self.mac_key);
        for algorithm in &self.algorithms {
            out.extend_from_slice(name);
            out.extend_from_slice(b": Digest realm=\"");
            out.extend_from_slice(realm);
            out.extend_from_slice(b"\", nonce=\"");
            write_nonce(&self.mac_key, now.unix_s + u64::from(self.nonce_expire_s), own, out);
            out.push(b'"');
            if self.qop_auth {
                out.extend_from_slice(b", qop=\"auth\"");
            }
            if challenge.stale {
                out.extend_from_slice(b", stale=true");
            }
            // Old phones know the MD5 challenge of OpenSIPS, which names no algorithm.
            if self.algorithms.len() > 1 || *algorithm != Algorithm::Md5 {
                out.extend_from_slice(b", algorithm=");
                out.extend_from_slice(algorithm.as_str().as_bytes());
            }
            out.extend_from_slice(b"\r\n");
        }
    }

    /// `Date: …`
    pub(crate) fn write_date(&self, now: Now, out: &mut Vec<u8>) {
        if self.date.get().0 != now.unix_s {
            self.date.set((now.unix_s, http_date(now.unix_s)));
        }
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(&self.date.get().1);
        out.extend_from_slice(b"\r\n");
    }

    /// Unsupported, Path, P-Registrar-Error and Retry-After, as far as the answer has them.
    pub(crate) fn write_refusal(&self, request: &Request<'_>, answer: &Answer, out: &mut Vec<u8>) {
        match answer.unsupported {
            Some(Unsupported::Required) => {
                for (index, tag) in request.unsupported(self.knows_path).enumerate() {
                    out.extend_from_slice(if index == 0 { b"Unsupported: " } else { b", " });
                    out.extend_from_slice(tag);
                }
                out.extend_from_slice(b"\r\n");
            }
            Some(Unsupported::Path) => {
                out.extend_from_slice(b"Unsupported: path\r\n");
                write_path(request, out);
            }
            None => {}
        }
        if let Some(error) = answer.error {
            out.extend_from_slice(b"P-Registrar-Error: ");
            out.extend_from_slice(error.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if answer.retry_after_s > 0 {
            out.extend_from_slice(b"Retry-After: ");
            push_number(u64::from(answer.retry_after_s), out);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// All bindings in one Contact header (S4, S54); nothing when there is none.
pub(crate) fn write_contacts<'b>(bindings: impl Iterator<Item = &'b Binding>, now: Now, out: &mut Vec<u8>) {
    let mut is_first = true;
    for binding in bindings {
        out.extend_from_slice(if is_first { b"Contact: <" } else { b", <" });
        is_first = false;
        out.extend_from_slice(binding.contact());
        out.push(b'>');
        if let Some(q) = binding.q {
            out.extend_from_slice(b";q=");
            write_q(q, out);
        }
        let remaining = binding.remaining_s(now).unwrap_or(u64::from(u32::MAX));
        out.extend_from_slice(b";expires=");
        push_number(remaining, out);
        if let Some(received) = binding.received() {
            out.extend_from_slice(b";received=\"");
            out.extend_from_slice(received.as_bytes());
            out.push(b'"');
        }
    }
    if !is_first {
        out.extend_from_slice(b"\r\n");
    }
}

/// A q as OpenSIPS prints it: 1, 0, 0.5, 0.25, 0.123.
pub(crate) fn write_q(q: u16, out: &mut Vec<u8>) {
    match q {
        1000.. => out.push(b'1'),
        0 => out.push(b'0'),
        _ => {
            let digits = [q / 100, q / 10 % 10, q % 10].map(|digit| b'0' + digit as u8);
            out.extend_from_slice(b"0.");
            out.extend_from_slice(&digits);
            while out.last() == Some(&b'0') {
                out.pop();
            }
        }
    }
}

/// The topmost Via with `received` and `rport` filled in (RFC 3261 18.2.1, RFC 3581 section 4).
pub(crate) fn write_via(request: &Request<'_>, out: &mut Vec<u8>) {
    let (line, via) = (&request.via_line, &request.via);
    let value = line.value.of(request.bytes);
    out.extend_from_slice(request.bytes.get(line.whole.start()..line.value.start()).unwrap_or(&[]));
    let source = request.flow.remote;
    let copy = |from: usize, to: usize, out: &mut Vec<u8>| {
        out.extend_from_slice(value.get(from..to).unwrap_or(&[]));
    };
    copy(0, via.sent_by_end, out);
    if needs_received(via, source.ip()) {
        out.extend_from_slice(b";received=");
        push_ip(source.ip(), out);
    }
    let mut at = via.sent_by_end;
    let mut edits =
        [via.received.clone().map(|range| (range, false)), via.rport.clone().map(|range| (range, true))];
    edits.sort_by_key(|edit| edit.as_ref().map_or(usize::MAX, |(range, _)| range.start));
    for (range, is_rport) in edits.into_iter().flatten() {
        copy(at, range.start, out);
        if is_rport {
            out.extend_from_slice(b";rport=");
            push_number(u64::from(source.port()), out);
        }
        at = range.end;
    }
    copy(at, value.len(), out);
    out.extend_from_slice(b"\r\n");
}

fn needs_received(via: &Via<'_>, source: std::net::IpAddr) -> bool {
    via.has_rport || via.host_ip() != Some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_is_printed_short() {
        for (q, text) in [(1000, "1"), (0, "0"), (500, "0.5"), (250, "0.25"), (123, "0.123"), (7, "0.007")] {
            let mut out = Vec::new();
            write_q(q, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
