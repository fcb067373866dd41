//! One request under way through the engine: the received bytes, their index, and what every handler asks of them.

use std::borrow::Cow;
use std::cell::OnceCell;

use roost_sip::{
    CSeq, Head, HeaderName, Line, Method, NameAddr, Scheme, StartLine, Uri, UriError, User, Via, cseq, list,
    number,
};

use crate::base::aor::UserHost;
use crate::base::flow::{Flow, ShardId};
use crate::base::limits;
use crate::base::mac::{Purpose, mac};
use crate::base::stats::Counter;
use crate::contract::context::Ctx;
use crate::contract::event::{Asked, AskedMore};
use crate::contract::mark::Mark;
use crate::contract::policy::Policy;
use crate::contract::reason::Reason;
use crate::contract::shared::BINDING;

/// A request whose topmost Via is usable.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    pub(crate) flow: Flow,
    /// When it came, in monotonic milliseconds; 0 where nobody needs to know.
    pub(crate) since_ms: u64,
    pub(crate) bytes: &'a [u8],
    pub(crate) head: &'a Head,
    pub(crate) method: Method,
    pub(crate) method_name: &'a [u8],
    /// The Request-URI's text.
    pub(crate) uri: &'a [u8],
    /// The Request-URI in parts.
    pub(crate) target: Result<Uri<'a>, UriError>,
    pub(crate) via: Via<'a>,
    /// The topmost Via is malformed and good for an answer only.
    pub(crate) has_bad_via: bool,
    pub(crate) via_line: Line,
    /// Whether there are other nodes, which may have sent it.
    has_nodes: bool,
    /// From and To, where they parse.
    pub(crate) from_addr: Option<NameAddr<'a>>,
    pub(crate) to_addr: Option<NameAddr<'a>>,
    /// Their URIs and whom they name, parsed at most once.
    from_uri: OnceCell<Option<(Uri<'a>, UserHost<'a>)>>,
    to_uri: OnceCell<Option<(Uri<'a>, UserHost<'a>)>>,
    /// Their tags, the same.
    from_tag: OnceCell<Option<&'a [u8]>>,
    to_tag: OnceCell<Option<&'a [u8]>>,
    mac: OnceCell<[u8; 16]>,
}

impl<'a> Request<'a> {
    /// `None` for a response, or a request that nobody could be answered on.
    pub(crate) fn new(policy: &Policy, flow: Flow, bytes: &'a [u8], head: &'a Head) -> Option<Request<'a>> {
        let StartLine::Request { method, name, uri } = head.start_line() else { return None };
        let via_line = *head.line(HeaderName::Via)?;
        let value = via_line.value.of(bytes);
        let (mut via, has_bad_via) = match Via::parse(value) {
            Ok(via) => (via, false),
            Err(_) => (Via::parse_for_answer(value).ok()?, true),
        };
        via.has_rport |= policy.nathelper.force_rport;
        // Port 0 is nobody's; it does no harm where the answer goes to where the request came from.
        if via.port == Some(0) && !via.has_rport && !flow.transport.is_reliable() {
            return None;
        }
        let name_addr = |name| NameAddr::parse(head.value(bytes, name)?).ok();
        Some(Request {
            flow,
            since_ms: 0,
            bytes,
            head,
            method,
            method_name: name.of(bytes),
            uri: uri.of(bytes),
            target: Uri::parse(uri.of(bytes)),
            via,
            has_bad_via,
            via_line,
            has_nodes: policy.node.is_some(),
            from_addr: name_addr(HeaderName::From),
            to_addr: name_addr(HeaderName::To),
            from_uri: OnceCell::new(),
            to_uri: OnceCell::new(),
            from_tag: OnceCell::new(),
            to_tag: OnceCell::new(),
            mac: OnceCell::new(),
        })
    }

    /// The same, which came at that time.
    pub(crate) fn since(self, since_ms: u64) -> Request<'a> {
        Request { since_ms, ..self }
    }

    /// Whether it takes the place of a call that there is (RFC 3891).
    pub(crate) fn has_replaces(&self) -> bool {
        self.head.others(self.bytes, b"replaces").next().is_some()
    }

    /// Whether it must go over TLS all the way (RFC 5630).
    pub(crate) fn is_sips(&self) -> bool {
        self.target.is_ok_and(|uri| uri.scheme == Scheme::Sips)
    }

    pub(crate) fn value(&self, name: HeaderName) -> Option<&'a [u8]> {
        self.head.line(name).map(|line| line.value.of(self.bytes))
    }

    pub(crate) fn call_id(&self) -> Option<&'a [u8]> {
        self.value(HeaderName::CallId).filter(|value| !value.is_empty())
    }

    pub(crate) fn cseq(&self) -> Option<CSeq<'a>> {
        cseq(self.value(HeaderName::CSeq)?).ok()
    }

    fn named_in_from(&self) -> Option<&(Uri<'a>, UserHost<'a>)> {
        self.from_uri.get_or_init(|| named(self.from_addr?)).as_ref()
    }

    fn named_in_to(&self) -> Option<&(Uri<'a>, UserHost<'a>)> {
        self.to_uri.get_or_init(|| named(self.to_addr?)).as_ref()
    }

    /// From's URI, where it parses.
    pub(crate) fn uri_of_from(&self) -> Option<&Uri<'a>> {
        self.named_in_from().map(|(uri, _)| uri)
    }

    /// To's URI, where it parses.
    pub(crate) fn uri_of_to(&self) -> Option<&Uri<'a>> {
        self.named_in_to().map(|(uri, _)| uri)
    }

    /// The To URI's user and host.
    pub(crate) fn to(&self) -> Option<UserHost<'a>> {
        self.named_in_to().map(|(_, who)| *who)
    }

    /// The To URI's user and host, where it can be registered: it is a SIP URI.
    pub(crate) fn registrant(&self) -> Option<UserHost<'a>> {
        self.to().filter(|to| !to.host.is_empty())
    }

    /// The From URI's user and host.
    pub(crate) fn from(&self) -> Option<UserHost<'a>> {
        self.named_in_from().map(|(_, who)| *who)
    }

    /// The host that a caller means who names none (`From: <tel:9003>`): To's, else the Request-URI's; empty when no one
    /// names any.
    pub(crate) fn called_host(&self) -> &'a [u8] {
        let hosts = [self.uri_of_to().map(|uri| uri.host), self.target.ok().map(|uri| uri.host)];
        hosts.into_iter().flatten().find(|host| !host.is_empty()).unwrap_or(&[])
    }

    /// The From URI's user, in the domain that it means.
    pub(crate) fn caller(&self) -> Option<UserHost<'a>> {
        Some(self.from()?.or_host(self.called_host()))
    }

    /// The Request-URI's user, in the caller's domain where it names none.
    pub(crate) fn callee(&self) -> Option<UserHost<'a>> {
        let callee = UserHost::of(self.target.as_ref().ok().filter(|uri| uri.user.is_some())?);
        Some(callee.or_host(self.caller().map_or(&[][..], |caller| caller.host)))
    }

    pub(crate) fn to_tag(&self) -> Option<&'a [u8]> {
        *self.to_tag.get_or_init(|| self.to_addr?.tag())
    }

    pub(crate) fn sender_tag(&self) -> Option<&'a [u8]> {
        *self.from_tag.get_or_init(|| self.from_addr?.tag())
    }

    /// Hands it over to another shard.
    pub(crate) fn hand_over(&self, ctx: &mut Ctx<'_>, shard: ShardId, mark: Mark) {
        ctx.count(Counter::HandedOver);
        ctx.out.hand_over(shard, self.flow, self.bytes, mark);
    }

    /// Whom it claims to come from, for the record.
    pub(crate) fn asked(&self) -> Asked {
        let begins_call = self.method == Method::Invite && self.to_tag().is_none();
        let callee = self.callee().filter(|_| begins_call);
        let callee = callee.unwrap_or(UserHost { user: User::NONE, host: &[] });
        let UserHost { user, host } = self.asker();
        Asked {
            method: self.method_name.into(),
            user: user.text.into(),
            host: host.into(),
            flow: self.flow,
            user_agent: self.value(HeaderName::UserAgent).unwrap_or(&[]).into(),
            more: Box::new(AskedMore {
                call_id: self.call_id().unwrap_or(&[]).into(),
                callee_user: callee.user.text.into(),
                callee_host: callee.host.into(),
            }),
        }
    }

    /// Whom To names in a REGISTER, else From; nobody where it names none.
    pub(crate) fn asker(&self) -> UserHost<'a> {
        let who = if self.method == Method::Register { self.to() } else { self.from() };
        who.unwrap_or(UserHost { user: User::NONE, host: &[] })
    }

    /// What the choice of a shard goes by: the user of To (REGISTER) or of the Request-URI, else the Call-ID.
    pub(crate) fn shard_key(&self) -> User<'a> {
        let user = match self.method {
            Method::Register => self.registrant().map(|to| to.user),
            _ => match self.route_to_binding() {
                Some(route) => Some(route.user_part()),
                None => self.target.as_ref().ok().map(Uri::user_part),
            },
        };
        let call_id = || User { text: self.call_id().unwrap_or(&[]), is_number: false };
        user.filter(|user| !user.text.is_empty()).unwrap_or_else(call_id)
    }

    /// The first Route, where it is one by which another node sends something to a binding of this one.
    pub(crate) fn route_to_binding(&self) -> Option<Uri<'a>> {
        self.head.line(HeaderName::Route).filter(|_| self.has_nodes)?;
        let first = self.head.values(self.bytes, HeaderName::Route).flat_map(list).next()?;
        memchr::memmem::find(first, BINDING)?;
        let uri = NameAddr::parse(first).ok()?.uri().ok()?;
        uri.param(BINDING).is_some().then_some(uri)
    }

    /// Where an answer goes (RFC 3261 18.2.2, RFC 3581): to the packet's source, its port only when `rport` asks.
    pub(crate) fn reply_flow(&self) -> Flow {
        let mut flow = self.flow;
        if !flow.transport.is_reliable() && !self.via.has_rport {
            flow.remote.set_port(flow.transport.port_or_default(self.via.port));
        }
        flow
    }

    /// The option tags that are required of us and are not there: of Require in a REGISTER, else of Proxy-Require
    /// (RFC 3261 8.2.2.3, 16.3 step 5). A registrar may know `path`. OPTIONS outside a dialog is answered here, so both are
    /// ours.
    pub(crate) fn unsupported(&self, knows_path: bool) -> impl Iterator<Item = &'a [u8]> {
        let (asked_by, knows_path) = match self.method {
            Method::Register => (HeaderName::Require, knows_path),
            Method::Options if self.head.line(HeaderName::ProxyRequire).is_none() => {
                (HeaderName::Require, false)
            }
            _ => (HeaderName::ProxyRequire, false),
        };
        let tags = self.head.values(self.bytes, asked_by).flat_map(list);
        tags.filter(move |tag| !(knows_path && tag.eq_ignore_ascii_case(b"path")))
    }

    /// The option tags that are required of a proxy, which knows none.
    pub(crate) fn required_of_proxy(&self) -> impl Iterator<Item = &'a [u8]> {
        self.head.values(self.bytes, HeaderName::ProxyRequire).flat_map(list)
    }

    /// What no handler should have to look at: a message that does not keep the grammar's rules.
    pub(crate) fn check(&self) -> Result<(), Reason> {
        if let Some(defect) = self.head.defect() {
            return Err(defect.into());
        }
        if self.has_bad_via {
            return Err(Reason::MalformedVia);
        }
        if self.method != Method::Register && self.bytes.len() > limits::MAX_REQUEST {
            return Err(Reason::MessageTooLarge);
        }
        if self.target.is_err() {
            return Err(Reason::BadRequestUri);
        }
        for (name, reason) in SINGLES {
            if self.head.is_repeated(name) {
                return Err(reason);
            }
        }
        self.check_cseq()?;
        // A From that only its reader understands names nobody here, and so would be anonymous.
        if self.uri_of_from().is_none() {
            return Err(Reason::MalformedFrom);
        }
        let has_to = self.head.line(HeaderName::To).is_some();
        if has_to && self.uri_of_to().is_none() {
            return Err(Reason::MalformedTo);
        }
        // A REGISTER without them is answered with the registrar's own texts.
        if self.method != Method::Register {
            if !has_to {
                return Err(Reason::MissingTo);
            }
            if self.call_id().is_none() {
                return Err(Reason::MissingCallId);
            }
        }
        match self.value(HeaderName::ContentLength).map(number) {
            Some(Err(_)) => Err(Reason::MalformedContentLength),
            Some(Ok(length)) if length as usize > self.head.body(self.bytes).len() => {
                Err(Reason::ContentLengthTooLarge)
            }
            // RFC 3261 18.3: nothing else tells where the next message begins.
            None if !self.flow.transport.is_framed() => Err(Reason::MissingContentLength),
            _ => Ok(()),
        }
    }

    fn check_cseq(&self) -> Result<(), Reason> {
        match self.value(HeaderName::CSeq) {
            // A REGISTER without one is answered with the registrar's own text.
            None if self.method == Method::Register => Ok(()),
            None => Err(Reason::MissingCseq),
            Some(value) => match cseq(value) {
                Ok(cseq) if cseq.method == self.method_name => Ok(()),
                Ok(_) => Err(Reason::CseqMethod),
                Err(_) => Err(Reason::MalformedCseq),
            },
        }
    }

    /// Max-Forwards is used up, or is not a number.
    pub(crate) fn is_too_many_hops(&self) -> bool {
        self.value(HeaderName::MaxForwards).is_some_and(|value| number(value).unwrap_or(0) == 0)
    }

    /// A keyed MAC of what a retransmission repeats and a new request does not: To tags and nonces come from it.
    pub(crate) fn mac(&self, key: &[u8; 32]) -> [u8; 16] {
        *self.mac.get_or_init(|| {
            let parts = [self.call_id(), self.sender_tag(), self.via.branch, self.value(HeaderName::CSeq)];
            mac(key, Purpose::Tag, &parts.map(|part| part.unwrap_or(&[])))
        })
    }
}

fn named<'a>(addr: NameAddr<'a>) -> Option<(Uri<'a>, UserHost<'a>)> {
    let uri = addr.uri().ok()?;
    Some((uri, UserHost::of(&uri)))
}

/// All values of a header field as one list; without a second field or a folded line a slice of the message.
pub(crate) fn joined<'a>(request: &Request<'a>, name: HeaderName) -> Cow<'a, [u8]> {
    let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let mut values = request.head.values(request.bytes, name);
    let first = values.next().unwrap_or(&[]);
    let mut rest = values.peekable();
    if rest.peek().is_none() && !first.iter().any(is_line_end) {
        return Cow::Borrowed(first);
    }
    let mut list = Vec::with_capacity(256);
    for value in std::iter::once(first).chain(rest) {
        if !list.is_empty() {
            list.push(b',');
        }
        list.extend(value.iter().map(|byte| if is_line_end(byte) { b' ' } else { *byte }));
    }
    Cow::Owned(list)
}

/// Headers that two readers could read differently when they stand twice.
const SINGLES: [(HeaderName, Reason); 8] = [
    (HeaderName::From, Reason::MultipleFrom),
    (HeaderName::To, Reason::MultipleTo),
    (HeaderName::CallId, Reason::MultipleCallId),
    (HeaderName::CSeq, Reason::MultipleCseq),
    (HeaderName::MaxForwards, Reason::MultipleMaxForwards),
    (HeaderName::ContentLength, Reason::MultipleContentLength),
    (HeaderName::Expires, Reason::MultipleExpires),
    (HeaderName::ContentType, Reason::MultipleContentType),
];
