//! Messages on their way through: slices of the received bytes and a few edits. What the proxy does not understand
//! passes untouched.

use std::io::Write as _;
use std::net::SocketAddr;

use roost_sip::{Credentials, Head, HeaderName, Line, StartLine, Uri, joined_credentials, list, number};

use crate::base::flow::Flow;
use crate::base::text::{push_ip, push_number, push_socket};
use crate::base::transport::Transport;
use crate::contract::listener::advertised;
use crate::contract::policy::Policy;
use crate::message::branch_id::BranchId;
use crate::message::request::Request;
use crate::message::via::write_via;

/// What a forwarded request differs in from the received one (RFC 3261 16.6).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edits<'a> {
    /// The new Request-URI.
    pub(crate) uri: &'a [u8],
    /// The address that our Via names.
    pub(crate) via: Sender<'a>,
    pub(crate) branch: BranchId,
    pub(crate) record_route: Option<RecordRoute<'a>>,
    /// How many Route values are taken off the front.
    pub(crate) strip_routes: usize,
    /// Whether the last Route value is taken off (it became the Request-URI).
    pub(crate) drop_last_route: bool,
    /// A Route value put behind all others, for a strict router.
    pub(crate) append_route: Option<&'a [u8]>,
    /// Route values put before all others: the path to the contact (RFC 3327); mostly empty.
    pub(crate) path: &'a [u8],
    /// Proxy-Authorization for this realm was meant for us, and belongs to nobody further down.
    pub(crate) own_realm: Option<&'a [u8]>,
    pub(crate) identity: IdentityEdit<'a>,
    /// Names of other header fields that it loses.
    pub(crate) removed: &'a [Box<str>],
    /// Header lines that it gets, before those of the same names that it keeps.
    pub(crate) added: &'a [u8],
}

/// What becomes of P-Asserted-Identity, P-Preferred-Identity and Remote-Party-ID (RFC 3325).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum IdentityEdit<'a> {
    #[default]
    Keep,
    Strip,
    /// One P-Asserted-Identity in their place.
    Set {
        display: &'a [u8],
        user: &'a [u8],
        host: &'a [u8],
    },
}

fn is_identity(name: HeaderName) -> bool {
    matches!(name, HeaderName::AssertedIdentity | HeaderName::PreferredIdentity | HeaderName::RemotePartyId)
}

/// Whether a message has any of these headers.
pub(crate) fn has_identity(head: &Head) -> bool {
    [HeaderName::AssertedIdentity, HeaderName::PreferredIdentity, HeaderName::RemotePartyId]
        .into_iter()
        .any(|name| head.line(name).is_some())
}

/// Our address as peers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sender<'a> {
    pub(crate) transport: Transport,
    pub(crate) local: SocketAddr,
    /// `advertised_address`, where one is set.
    pub(crate) advertised: &'a str,
}

/// The Record-Route of a request that starts a dialog.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordRoute<'a> {
    /// Where it came in.
    pub(crate) inbound: Sender<'a>,
    /// Where it goes out.
    pub(crate) outbound: Sender<'a>,
    /// The dialog's mark as text; empty where nobody is authorized.
    pub(crate) mark: &'a [u8],
    /// Whether the dialog begins with a `sips` URI (RFC 3261 16.6 step 4).
    pub(crate) is_sips: bool,
    /// The From tag, with `rr.append_fromtag`.
    pub(crate) from_tag: Option<&'a [u8]>,
}

impl<'a> Sender<'a> {
    /// What the peers of a flow are told; a listener's own `as` goes before `advertised_address`.
    pub(crate) fn of(policy: &'a Policy, flow: &Flow) -> Sender<'a> {
        let (transport, local) = (flow.transport, flow.local);
        match advertised(&policy.listeners, transport, local) {
            Some(told) => Sender { transport, local: told, advertised: "" },
            None => Sender { transport, local, advertised: &policy.advertised_address },
        }
    }

    /// `host:port`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self.advertised {
            "" => {
                push_socket(self.local, out);
            }
            host => {
                out.extend_from_slice(host.as_bytes());
                out.push(b':');
                push_number(u64::from(self.local.port()), out);
            }
        }
    }

    /// `host`, and the port unless it is the transport's own: of a WebSocket the URI does not say which of both it is.
    fn write_short(&self, out: &mut Vec<u8>) {
        match (self.advertised, self.local) {
            ("", SocketAddr::V6(v6)) => {
                let _ = write!(out, "[{}]", v6.ip());
            }
            ("", SocketAddr::V4(v4)) => push_ip((*v4.ip()).into(), out),
            (host, _) => out.extend_from_slice(host.as_bytes()),
        }
        if self.local.port() != self.transport.default_port() || !self.transport.can_connect() {
            out.push(b':');
            push_number(u64::from(self.local.port()), out);
        }
    }
}

/// Appends the request as the next hop gets it.
pub(crate) fn write_request(request: &Request<'_>, edits: &Edits<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(request.method_name);
    out.push(b' ');
    write_request_uri(edits.uri, out);
    out.extend_from_slice(b" SIP/2.0\r\n");
    if request.head.line(HeaderName::MaxForwards).is_none() {
        out.extend_from_slice(b"Max-Forwards: 10\r\n");
    }
    if let Some(record_route) = &edits.record_route {
        write_record_route(record_route, out);
    }
    out.extend_from_slice(edits.added);
    if !edits.path.is_empty() {
        out.extend_from_slice(b"Route: ");
        out.extend_from_slice(edits.path);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"Via: SIP/2.0/");
    out.extend_from_slice(edits.via.transport.via_name().as_bytes());
    out.push(b' ');
    edits.via.write(out);
    out.extend_from_slice(b";branch=");
    edits.branch.write(out);
    out.extend_from_slice(b"\r\n");
    let mut routes = Routes::new(request, edits);
    let mut is_first_via = true;
    for line in request.head.lines() {
        match line.name {
            HeaderName::Via if is_first_via => {
                is_first_via = false;
                write_via(request, out);
            }
            HeaderName::MaxForwards => {
                // As OpenSIPS does: more than 256 become 256.
                let hops = number(line.value.of(request.bytes)).unwrap_or(0);
                let left = if hops > 256 { 256 } else { hops.saturating_sub(1) };
                out.extend_from_slice(b"Max-Forwards: ");
                push_number(u64::from(left), out);
                out.extend_from_slice(b"\r\n");
            }
            HeaderName::Route => routes.write(line, out),
            name if is_identity(name) && !matches!(edits.identity, IdentityEdit::Keep) => {}
            HeaderName::ProxyAuthorization if edits.own_realm.is_some() => {
                write_others_credentials(request.bytes, line, edits.own_realm, out);
            }
            _ if is_removed(edits.removed, line.whole.of(request.bytes)) => {}
            _ => write_line(request.bytes, line, out),
        }
    }
    write_identity(edits.identity, out);
    if let Some(route) = edits.append_route {
        out.extend_from_slice(b"Route: <");
        out.extend_from_slice(route);
        out.extend_from_slice(b">\r\n");
    }
    write_body(request.head, request.bytes, edits.via.transport, out);
}

fn is_removed(removed: &[Box<str>], line: &[u8]) -> bool {
    !removed.is_empty() && {
        let name = line.split(|byte| *byte == b':').next().unwrap_or(&[]).trim_ascii_end();
        removed.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name))
    }
}

fn write_identity(identity: IdentityEdit<'_>, out: &mut Vec<u8>) {
    let IdentityEdit::Set { display, user, host } = identity else { return };
    out.extend_from_slice(b"P-Asserted-Identity: ");
    out.extend_from_slice(display);
    let parts: [&[u8]; 5] =
        [if display.is_empty() { b"<sip:" } else { b" <sip:" }, user, b"@", host, b">\r\n"];
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// A target as Request-URI, where its headers and its parameter `method` have no place (RFC 3261 19.1.1, 16.6 step 2).
fn write_request_uri(uri: &[u8], out: &mut Vec<u8>) {
    let is_method = |param: &[u8]| param.get(..6).is_some_and(|name| name.eq_ignore_ascii_case(b"method"));
    let mut params = memchr::memchr_iter(b';', uri).filter_map(|at| uri.get(at + 1..));
    if memchr::memchr(b'?', uri).is_none() && !params.any(is_method) {
        return out.extend_from_slice(uri);
    }
    let Ok(parsed) = Uri::parse(uri) else { return out.extend_from_slice(uri) };
    // Both characters may stand in a user.
    let plain = uri.strip_suffix(parsed.headers()).unwrap_or(uri);
    let plain = plain.strip_suffix(b"?").unwrap_or(plain);
    let params = parsed.params().text();
    out.extend_from_slice(plain.strip_suffix(params).unwrap_or(plain));
    for param in params.split(|byte| *byte == b';').skip(1) {
        if !(is_method(param) && matches!(param.get(6), None | Some(b'='))) {
            out.push(b';');
            out.extend_from_slice(param);
        }
    }
}

/// Credentials that are for others.
fn write_others_credentials(bytes: &[u8], line: &Line, own_realm: Option<&[u8]>, out: &mut Vec<u8>) {
    let value = line.value.of(bytes);
    let is_others = |one: &&[u8]| !is_own_credentials(one, own_realm);
    if joined_credentials(value).all(|one| is_others(&one)) {
        return write_line(bytes, line, out);
    }
    let mut others = joined_credentials(value).filter(is_others).peekable();
    if others.peek().is_some() {
        out.extend_from_slice(b"Proxy-Authorization: ");
        write_joined(others, out);
    }
}

fn is_own_credentials(value: &[u8], realm: Option<&[u8]>) -> bool {
    let given = Credentials::parse(value).ok().and_then(|credentials| credentials.realm);
    matches!((given, realm), (Some(given), Some(realm)) if given.eq_ignore_ascii_case(realm))
}

/// Appends a response without its topmost Via (RFC 3261 16.7 step 3), to go out by this transport. `status` replaces the
/// status code; `strips` says that its sender's identity goes no further.
pub(crate) fn write_response(
    head: &Head,
    bytes: &[u8],
    status: Option<u16>,
    (transport, strips): (Transport, bool),
    out: &mut Vec<u8>,
) {
    let status_line = head.start_line_text(bytes);
    match status {
        Some(code) => {
            let _ = write!(out, "SIP/2.0 {code}");
            out.extend_from_slice(status_line.get(11..).unwrap_or(b"\r\n"));
        }
        None => out.extend_from_slice(status_line),
    }
    let mut is_first_via = true;
    for line in head.lines() {
        if line.name == HeaderName::Via && is_first_via {
            is_first_via = false;
            let mut rest = list(line.value.of(bytes)).skip(1).peekable();
            if rest.peek().is_some() {
                out.extend_from_slice(b"Via: ");
                write_joined(rest, out);
            }
            continue;
        }
        if strips && is_identity(line.name) {
            continue;
        }
        write_line(bytes, line, out);
    }
    write_body(head, bytes, transport, out);
}

/// Appends the end of the head, and the body. In a stream its length must be said (RFC 3261 16.6 item 9, 18.3): a datagram
/// may have left it out.
fn write_body(head: &Head, bytes: &[u8], transport: Transport, out: &mut Vec<u8>) {
    let body = body(head, bytes);
    if transport.is_reliable() && head.line(HeaderName::ContentLength).is_none() {
        out.extend_from_slice(b"Content-Length: ");
        push_number(body.len() as u64, out);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}

/// Appends the ACK of a failure (RFC 3261 17.1.1.3): hop by hop, from the request that was sent and the response's To.
pub(crate) fn write_ack(sent: &[u8], head: &Head, to: &[u8], agent: &str, out: &mut Vec<u8>) {
    write_of_invite(sent, head, "ACK", Some(to), b"", agent, out);
}

/// Appends the CANCEL of a request that was sent (RFC 3261 9.1).
pub(crate) fn write_cancel(sent: &[u8], head: &Head, reason: &[u8], agent: &str, out: &mut Vec<u8>) {
    write_of_invite(sent, head, "CANCEL", None, reason, agent, out);
}

/// A request with the Request-URI, topmost Via, Route, From, Call-ID, To and CSeq number of an INVITE.
fn write_of_invite(
    sent: &[u8],
    head: &Head,
    method: &str,
    to: Option<&[u8]>,
    reason: &[u8],
    agent: &str,
    out: &mut Vec<u8>,
) {
    let StartLine::Request { uri, .. } = head.start_line() else { return };
    let _ = write!(out, "{method} ");
    out.extend_from_slice(uri.of(sent));
    out.extend_from_slice(b" SIP/2.0\r\n");
    for name in [HeaderName::Via, HeaderName::From, HeaderName::CallId] {
        if let Some(line) = head.line(name) {
            write_line(sent, line, out);
        }
    }
    match (to, head.line(HeaderName::To)) {
        (Some(to), _) => {
            out.extend_from_slice(b"To: ");
            out.extend_from_slice(to);
            out.extend_from_slice(b"\r\n");
        }
        (None, Some(line)) => write_line(sent, line, out),
        (None, None) => {}
    }
    let cseq = head.value(sent, HeaderName::CSeq).and_then(|value| roost_sip::cseq(value).ok());
    let _ = write!(out, "CSeq: {} {method}\r\n", cseq.map_or(0, |cseq| cseq.number));
    for line in head.lines().iter().filter(|line| line.name == HeaderName::Route) {
        write_line(sent, line, out);
    }
    out.extend_from_slice(b"Max-Forwards: 70\r\n");
    if !reason.is_empty() {
        out.extend_from_slice(b"Reason: ");
        out.extend_from_slice(reason);
        out.extend_from_slice(b"\r\n");
    }
    if !agent.is_empty() {
        let _ = write!(out, "User-Agent: {agent}\r\n");
    }
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

/// Two values where the request changes interfaces (`r2=on`), so that each side reaches us on its own.
fn write_record_route(record_route: &RecordRoute<'_>, out: &mut Vec<u8>) {
    let is_double = record_route.inbound != record_route.outbound;
    let senders = [record_route.outbound, record_route.inbound];
    for sender in senders.iter().take(if is_double { 2 } else { 1 }) {
        out.extend_from_slice(if record_route.is_sips {
            b"Record-Route: <sips:"
        } else {
            b"Record-Route: <sip:"
        });
        sender.write_short(out);
        out.extend_from_slice(sender.transport.uri_param().as_bytes());
        if is_double {
            out.extend_from_slice(b";r2=on");
        }
        out.extend_from_slice(b";lr");
        if let Some(tag) = record_route.from_tag {
            out.extend_from_slice(b";ftag=");
            out.extend_from_slice(tag);
        }
        if !record_route.mark.is_empty() {
            out.extend_from_slice(b";did=");
            out.extend_from_slice(record_route.mark);
        }
        out.extend_from_slice(b">\r\n");
    }
}

/// The Route lines as they go on.
struct Routes<'a> {
    bytes: &'a [u8],
    seen: usize,
    keep: std::ops::Range<usize>,
}

impl<'a> Routes<'a> {
    fn new(request: &Request<'a>, edits: &Edits<'_>) -> Self {
        let all: usize =
            request.head.values(request.bytes, HeaderName::Route).map(|value| list(value).count()).sum();
        let end = all.saturating_sub(usize::from(edits.drop_last_route));
        Routes { bytes: request.bytes, seen: 0, keep: edits.strip_routes..end }
    }

    fn write(&mut self, line: &Line, out: &mut Vec<u8>) {
        let value = line.value.of(self.bytes);
        let count = list(value).count();
        let from = self.seen;
        self.seen += count;
        let is_kept = |index: usize| self.keep.contains(&(from + index));
        let mut kept =
            list(value).enumerate().filter(|(index, _)| is_kept(*index)).map(|(_, value)| value).peekable();
        if (0..count).all(is_kept) {
            write_line(self.bytes, line, out);
        } else if kept.peek().is_some() {
            out.extend_from_slice(b"Route: ");
            write_joined(kept, out);
        }
    }
}

fn write_joined<'a>(values: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(value);
    }
    out.extend_from_slice(b"\r\n");
}

/// A header field as it was received; its line end is CRLF whatever it was.
fn write_line(bytes: &[u8], line: &Line, out: &mut Vec<u8>) {
    let whole = line.whole.of(bytes);
    match whole.strip_suffix(b"\r\n") {
        Some(_) => out.extend_from_slice(whole),
        None => {
            out.extend_from_slice(whole.strip_suffix(b"\n").unwrap_or(whole));
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// The body as far as Content-Length says; what is behind it does not belong to the message (RFC 3261 18.3).
fn body<'a>(head: &Head, bytes: &'a [u8]) -> &'a [u8] {
    let body = head.body(bytes);
    let length = head.value(bytes, HeaderName::ContentLength).and_then(|value| number(value).ok());
    length.and_then(|length| body.get(..length as usize)).unwrap_or(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::flow::{Flow, ShardId, Ticket};

    const ACK: &[u8] = b"ACK sip:9002@10.0.0.2 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKx\r\n\
        mAx-fOrwards:70\r\nFrom: <sip:9001@a.com>;tag=1\r\nTo: <sip:9002@a.com>;tag=2\r\nCall-ID: c\r\nCSeq: 1 ACK\r\n\
        Proxy-Authorization: Digest username=\"9001\", realm=\"A.com\", response=\"1\"\r\n\
        Proxy-Authorization: Digest username=\"9001\", realm=\"b.com\", response=\"2\"\r\n\
        Proxy-Authorization: Digest username=\"9001\", realm=\"a.com\", response=\"3\"\r\n\
        Route: <sip:10.0.0.9;lr>,<sip:10.0.0.8;lr>\r\nX-Odd :  as it  is \r\nContent-Length: 2\r\n\r\nhi, and more";

    fn forwarded(removed: &[Box<str>], edits: impl FnOnce(&mut Edits<'_>)) -> String {
        let mut head = Head::new();
        head.parse(ACK).unwrap();
        let local = "10.0.0.9:5060".parse().unwrap();
        let request =
            Request::new(&Policy::default(), Flow::udp(local, "10.0.0.1:5060".parse().unwrap()), ACK, &head)
                .unwrap();
        let mut all = Edits {
            uri: b"sip:9002@10.0.0.2",
            via: Sender { transport: Transport::Udp, local, advertised: "" },
            branch: BranchId { shard: ShardId(0), transaction: Ticket(1), index: 0, secret: 2, routing: 3 },
            record_route: None,
            strip_routes: 1,
            drop_last_route: false,
            append_route: None,
            path: b"",
            own_realm: None,
            identity: IdentityEdit::Keep,
            removed,
            added: b"",
        };
        edits(&mut all);
        let mut out = Vec::new();
        write_request(&request, &all, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn header_fields_come_and_go() {
        let removed = ["x-odd".into(), "X-Gone".into()];
        let text = forwarded(&removed, |edits| edits.added = b"X-Tenant: acme\r\n");
        assert!(!text.contains("X-Odd") && text.contains("\r\nX-Tenant: acme\r\nVia: "), "{text}");
    }

    #[test]
    fn what_is_not_understood_passes_untouched() {
        let text = forwarded(&[], |_| ());
        assert!(text.contains("\r\nX-Odd :  as it  is \r\n") && text.ends_with("\r\n\r\nhi"), "{text}");
        assert!(
            text.contains("\r\nMax-Forwards: 69\r\n") && text.contains("\r\nRoute: <sip:10.0.0.8;lr>\r\n"),
            "{text}"
        );
        assert_eq!(text.matches("Proxy-Authorization").count(), 3);
    }

    #[test]
    fn credentials_that_were_meant_for_us_go_no_further_not_even_in_an_ack() {
        let text = forwarded(&[], |edits| edits.own_realm = Some(b"a.com"));
        assert_eq!(text.matches("Proxy-Authorization").count(), 1);
        assert!(text.contains("realm=\"b.com\", response=\"2\""), "{text}");
    }

    #[test]
    fn credentials_that_are_joined_come_apart() {
        let value = "Digest realm=\"a.com\", nc=1, Digest realm=\"b.com\", nc=2, Digest realm=c.com";
        let message = format!("ACK sip:a@b SIP/2.0\r\nProxy-Authorization: {value}\r\n\r\n");
        let mut head = Head::new();
        head.parse(message.as_bytes()).unwrap();
        let line = head.line(HeaderName::ProxyAuthorization).unwrap();
        for (realm, expected) in [
            ("a.com", "Digest realm=\"b.com\", nc=2, Digest realm=c.com"),
            ("c.com", "Digest realm=\"a.com\", nc=1, Digest realm=\"b.com\", nc=2"),
            ("d.com", value),
        ] {
            let mut out = Vec::new();
            write_others_credentials(message.as_bytes(), line, Some(realm.as_bytes()), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("Proxy-Authorization: {expected}\r\n"));
        }
    }

    #[test]
    fn a_request_uri_has_neither_headers_nor_a_method() {
        for (target, expected) in [
            ("sip:user@example.com?Route=%3Csip:sip.example.com%3E", "sip:user@example.com"),
            ("sip:u@h:5070;ob;METHOD=INVITE;lr?a=b&c=d", "sip:u@h:5070;ob;lr"),
            ("sip:u@h;methods=x;method", "sip:u@h;methods=x"),
            ("sip:u;method=x@h;line=1", "sip:u;method=x@h;line=1"),
            ("sip:$/crazy?,/;;*:&it+has=1@h;x", "sip:$/crazy?,/;;*:&it+has=1@h;x"),
            ("sip:u@h?", "sip:u@h"),
            ("tel:+1;method=x", "tel:+1"),
        ] {
            let mut out = Vec::new();
            write_request_uri(target.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{target}");
        }
        let text = forwarded(&[], |edits| edits.uri = b"sip:9002@10.0.0.2;line=1?Subject=x");
        assert!(text.starts_with("ACK sip:9002@10.0.0.2;line=1 SIP/2.0\r\n"), "{text}");
    }

    #[test]
    fn a_request_that_changes_interfaces_records_both() {
        let inbound =
            Sender { transport: Transport::Udp, local: "10.0.0.9:5060".parse().unwrap(), advertised: "" };
        let outbound = Sender {
            transport: Transport::Udp,
            local: "[2001:db8::9]:5070".parse().unwrap(),
            advertised: "",
        };
        let record_route = RecordRoute {
            inbound,
            outbound,
            mark: b"abababababababab",
            is_sips: false,
            from_tag: Some(b"1"),
        };
        let text = forwarded(&[], |edits| edits.record_route = Some(record_route));
        let did = "did=abababababababab";
        let expected = format!(
            "Record-Route: <sip:[2001:db8::9]:5070;r2=on;lr;ftag=1;{did}>\r\nRecord-Route: <sip:10.0.0.9;r2=on;lr;ftag=1;{did}>\r\n"
        );
        assert!(text.contains(&expected), "{text}");
        let same = RecordRoute { outbound: inbound, mark: b"", from_tag: None, ..record_route };
        let text = forwarded(&[], |edits| edits.record_route = Some(same));
        assert!(text.contains("\r\nRecord-Route: <sip:10.0.0.9;lr>\r\n"), "{text}");
    }

    #[test]
    fn a_stream_is_told_the_length_that_a_datagram_left_out() {
        let datagram =
            b"SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP h\r\nCSeq: 1 INVITE\r\n\r\nSIP/2.0 200 OK\r\n\r\n";
        let mut head = Head::new();
        head.parse(datagram).unwrap();
        for (transport, length) in [(Transport::Tcp, "Content-Length: 18\r\n"), (Transport::Udp, "")] {
            let mut out = Vec::new();
            write_response(&head, datagram, None, (transport, false), &mut out);
            let expected = format!("SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n{length}\r\nSIP/2.0 200 OK\r\n\r\n");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn routes_at_either_end_are_taken_off_and_put_on() {
        let text = forwarded(&[], |edits| {
            edits.strip_routes = 0;
            edits.drop_last_route = true;
            edits.append_route = Some(b"sip:9002@10.0.0.2");
        });
        assert!(text.contains("\r\nRoute: <sip:10.0.0.9;lr>\r\n"), "{text}");
        assert!(text.contains("\r\nRoute: <sip:9002@10.0.0.2>\r\n"), "{text}");
    }
}
