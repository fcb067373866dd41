//! Calls through a proxy, both phones here: INVITE, 180, 200, ACK, BYE, 200, thirteen messages at the proxy.

use roost_sip::{Head, HeaderName, Method, StartLine, list};

use crate::context::Context;
use crate::digest::{Asked, Challenge};
use crate::tally::Outcome;
use crate::template::{Id, Template, Values, push_decimal};
use crate::timers::Side;

/// The letter of an INVITE's ids.
pub(crate) const INVITE: u8 = b'i';
/// The letter of a BYE's ids.
pub(crate) const BYE: u8 = b'b';
/// The letter of an ACK's ids; nothing answers them.
const ACK: u8 = b'a';
/// The letter of the dialogs' ids: Call-ID and From tag.
const DIALOG: u8 = b'd';

const INVITE_TEXT: &str = "\
INVITE sip:{peer}@{peer_domain} SIP/2.0
Via: SIP/2.0/UDP {ip}:{port};branch=z9hG4bK{branch};rport
Max-Forwards: 70
From: \"{user}\" <sip:{user}@{domain}>;tag={dialog}
To: <sip:{peer}@{peer_domain}>
Call-ID: {dialog}@{ip}
CSeq: {cseq} INVITE
Contact: <sip:{user}@{ip}:{port}>
{credentials}Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, REFER, NOTIFY, UPDATE, MESSAGE
User-Agent: roost-bench/{version} (as long as a phone's)
Content-Type: application/sdp
Content-Length: {sdp_length}

{sdp}";

/// The ACK of a final response that is no 2xx: in the INVITE's transaction (RFC 3261 17.1.1.3).
const ACK_OF_FAILURE: &str = "\
ACK sip:{peer}@{peer_domain} SIP/2.0
Via: SIP/2.0/UDP {ip}:{port};branch=z9hG4bK{branch};rport
Max-Forwards: 70
From: \"{user}\" <sip:{user}@{domain}>;tag={dialog}
Call-ID: {dialog}@{ip}
CSeq: {cseq} ACK
Content-Length: 0
";

const SDP: &str = "v=0\r\no=- 20518 20518 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                   m=audio 40000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";

/// One call; buffers are kept from call to call.
#[derive(Debug, Default)]
struct Call {
    caller: u32,
    callee: u32,
    state: State,
    /// The generation of its dialog: that of its first INVITE.
    dialog: u32,
    /// The generation of its last INVITE.
    invite: u32,
    cseq: u32,
    challenge: Challenge,
    /// Challenges answered in this call.
    answered: u8,
    /// The credentials of the last INVITE, which its ACK repeats (RFC 3261 22.3); empty without a challenge.
    credentials: Vec<u8>,
    /// The caller's request under way as it was sent.
    request: Vec<u8>,
    /// The caller's ACK as it was sent.
    ack: Vec<u8>,
    /// The 200 that the caller got.
    accepted: Vec<u8>,
    /// The callee's 200 as it was sent; empty before.
    ok: Vec<u8>,
    /// The socket that the callee answered from.
    callee_socket: u32,
    /// Whether the callee has got the ACK.
    acknowledged: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Calling,
    /// A provisional answer came: the INVITE is not repeated (RFC 3261 17.1.1.2).
    Proceeding,
    /// BYE is under way.
    Leaving,
}

pub(crate) struct Calls {
    ip: String,
    invite: Template,
    ack_of_failure: Template,
    pairs: u32,
    calls: Vec<Call>,
    head: Box<Head>,
    uri: Vec<u8>,
}

impl Calls {
    /// Calls among the first `pairs * 2` users: the even ones call their neighbours.
    pub(crate) fn new(ip: &str, pairs: u32) -> Calls {
        let length = SDP.len().to_string();
        let version = env!("CARGO_PKG_VERSION");
        let constants = [("ip", ip), ("sdp", SDP), ("sdp_length", length.as_str()), ("version", version)];
        Calls {
            ip: ip.to_owned(),
            invite: Template::new(INVITE_TEXT, &constants),
            ack_of_failure: Template::new(ACK_OF_FAILURE, &constants),
            pairs,
            calls: Vec::new(),
            head: Head::new(),
            uri: Vec::with_capacity(64),
        }
    }

    pub(crate) fn clear(&mut self, slots: u32) {
        self.calls.resize_with(slots as usize, Call::default);
    }

    pub(crate) fn start(&mut self, context: &mut Context, slot: u32, nth: u64) {
        let pair = (nth % u64::from(self.pairs)) as u32;
        let call = &mut self.calls[slot as usize];
        (call.caller, call.callee) = (pair * 2, pair * 2 + 1);
        (call.cseq, call.answered, call.acknowledged) = (0, 0, false);
        call.ok.clear();
        call.credentials.clear();
        // The transaction that comes next is the dialog's first.
        call.dialog = context.current(INVITE, slot).generation.wrapping_add(1);
        self.send_invite(context, slot);
    }

    /// A new INVITE transaction, with credentials once the call was challenged.
    fn send_invite(&mut self, context: &mut Context, slot: u32) {
        let call = &mut self.calls[slot as usize];
        call.cseq += 1;
        call.state = State::Calling;
        let id = context.transaction(INVITE, slot);
        call.invite = id.generation;
        if call.answered > 0 {
            let peer = context.users.get(call.callee);
            self.uri.clear();
            for part in [b"sip:", peer.name, b"@", peer.domain] {
                self.uri.extend_from_slice(part);
            }
            credentials(call, context, id, b"INVITE", &self.uri);
        }
        let mut request = std::mem::take(&mut call.request);
        request.clear();
        fill(&self.invite, call, context, id, &mut request);
        call.request = request;
        send_request(call, context);
        context.start_timer(id, Side::Client);
    }

    /// A timer fired that is still valid and not the last.
    pub(crate) fn retransmit(&mut self, context: &mut Context, slot: u32, side: Side) {
        let call = &self.calls[slot as usize];
        match (side, call.state) {
            (Side::Callee, _) => context.sender.message(call.callee_socket).extend_from_slice(&call.ok),
            (Side::Client, State::Proceeding) => return,
            (Side::Client, State::Calling | State::Leaving) => send_request(call, context),
        }
        context.tally.retransmissions += 1;
    }

    /// Whether the callee's timer of this dialog is still valid.
    pub(crate) fn awaits_ack(&self, slot: u32, dialog: u32) -> bool {
        let call = &self.calls[slot as usize];
        call.dialog == dialog && !call.acknowledged && !call.ok.is_empty()
    }

    /// Takes an answer to one of our INVITEs and BYEs; false if it belongs to none under way.
    pub(crate) fn handle_answer(&mut self, context: &mut Context, id: Id, code: u16, message: &[u8]) -> bool {
        let Some(call) = self.calls.get_mut(id.slot as usize) else { return false };
        if !context.is_current(id) {
            // A 200 that is repeated because its ACK was lost (RFC 3261 13.2.2.4).
            let repeated = context.is_busy(id) && id.kind == INVITE && id.generation == call.invite;
            if repeated && call.state == State::Leaving && (200..300).contains(&code) {
                context.sender.message(context.socket(call.caller)).extend_from_slice(&call.ack);
            }
            return repeated;
        }
        match (id.kind, code) {
            (INVITE, 100..=199) => call.state = State::Proceeding,
            (INVITE, 200..=299) => self.accept(context, id, message),
            (INVITE, 300..) => self.handle_failure(context, id, code, message),
            (BYE, 200..=299) => context.end(id.slot, Outcome::Ok),
            (BYE, 401 | 407) if self.may_answer(context, id.slot, code, message) => {
                self.send_bye(context, id.slot)
            }
            (BYE, 300..) => context.end(id.slot, Outcome::Failed),
            _ => {}
        }
        true
    }

    /// 200 to the INVITE: ACK, and BYE at once.
    fn accept(&mut self, context: &mut Context, id: Id, message: &[u8]) {
        let call = &mut self.calls[id.slot as usize];
        call.accepted.clear();
        call.accepted.extend_from_slice(message);
        let branch = Id { kind: ACK, ..id };
        call.ack.clear();
        let mut ack = std::mem::take(&mut call.ack);
        let is_dialog =
            self.head.parse(message).is_ok() && self.push_inside(context, b"ACK", branch, id.slot, &mut ack);
        let call = &mut self.calls[id.slot as usize];
        call.ack = ack;
        if !is_dialog {
            context.end(id.slot, Outcome::Failed);
            return;
        }
        context.sender.message(context.socket(call.caller)).extend_from_slice(&call.ack);
        call.state = State::Leaving;
        self.send_bye(context, id.slot);
    }

    /// A new BYE transaction.
    fn send_bye(&mut self, context: &mut Context, slot: u32) {
        let id = context.transaction(BYE, slot);
        let call = &mut self.calls[slot as usize];
        call.cseq += 1;
        let accepted = std::mem::take(&mut call.accepted);
        let mut request = std::mem::take(&mut call.request);
        request.clear();
        let is_parsed = self.head.parse(&accepted).is_ok();
        self.calls[slot as usize].accepted = accepted;
        if is_parsed && self.calls[slot as usize].answered > 0 {
            let call = &mut self.calls[slot as usize];
            self.uri.clear();
            self.uri.extend_from_slice(target(&self.head, &call.accepted).unwrap_or(&[]));
            credentials(call, context, id, b"BYE", &self.uri);
        }
        self.push_inside(context, b"BYE", id, slot, &mut request);
        let call = &mut self.calls[slot as usize];
        call.request = request;
        send_request(call, context);
        context.start_timer(id, Side::Client);
    }

    /// Appends a request inside the dialog that the 200 made, whose index is in `head`, along the route of its
    /// Record-Route (RFC 3261 12.2.1.1); false if the 200 makes no dialog.
    fn push_inside(
        &self,
        context: &Context,
        method: &[u8],
        branch: Id,
        slot: u32,
        out: &mut Vec<u8>,
    ) -> bool {
        let call = &self.calls[slot as usize];
        let (head, message) = (&self.head, &call.accepted[..]);
        let Some(target) = target(head, message) else { return false };
        for part in [method, b" ", target, b" SIP/2.0\r\nVia: SIP/2.0/UDP ", self.ip.as_bytes(), b":"] {
            out.extend_from_slice(part);
        }
        push_decimal(context.port(context.socket(call.caller)).into(), out);
        out.extend_from_slice(b";branch=z9hG4bK");
        branch.push(out);
        out.extend_from_slice(b";rport\r\nMax-Forwards: 70\r\n");
        let routes = || head.values(message, HeaderName::RecordRoute).flat_map(list);
        for index in (0..routes().count()).rev() {
            for part in [b"Route: ", routes().nth(index).unwrap_or(&[]), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        for name in [HeaderName::From, HeaderName::To, HeaderName::CallId] {
            let Some(line) = head.line(name) else { return false };
            out.extend_from_slice(line.whole.of(message));
        }
        out.extend_from_slice(b"CSeq: ");
        push_decimal(call.cseq, out);
        for part in [b" ", method, b"\r\n", &call.credentials, b"Content-Length: 0\r\n\r\n"] {
            out.extend_from_slice(part);
        }
        true
    }

    /// A final answer that is no 2xx gets its ACK; a challenge is answered once.
    fn handle_failure(&mut self, context: &mut Context, id: Id, code: u16, message: &[u8]) {
        if self.head.parse(message).is_err() {
            context.end(id.slot, Outcome::Failed);
            return;
        }
        let call = &mut self.calls[id.slot as usize];
        call.ack.clear();
        let mut ack = std::mem::take(&mut call.ack);
        fill(&self.ack_of_failure, call, context, id, &mut ack);
        if let Some(to) = self.head.line(HeaderName::To) {
            ack.extend_from_slice(to.whole.of(message));
        }
        ack.extend_from_slice(b"\r\n");
        context.sender.message(context.socket(call.caller)).extend_from_slice(&ack);
        self.calls[id.slot as usize].ack = ack;
        if matches!(code, 401 | 407) && self.may_answer(context, id.slot, code, message) {
            self.send_invite(context, id.slot);
        } else {
            context.end(id.slot, Outcome::Failed);
        }
    }

    /// Reads a challenge; true if it deserves an answer: the first, or one that says `stale`.
    fn may_answer(&mut self, context: &mut Context, slot: u32, code: u16, message: &[u8]) -> bool {
        let call = &mut self.calls[slot as usize];
        if self.head.parse(message).is_err() || !call.challenge.read(&self.head, message, code == 407) {
            return false;
        }
        if call.answered > 0 {
            context.tally.stale += 1;
        }
        call.answered += 1;
        call.answered == 1 || (call.answered < 4 && call.challenge.is_stale())
    }

    /// A request that reaches one of our phones: the callee's side. False if it belongs to no call under way.
    pub(crate) fn handle_request(&mut self, context: &mut Context, socket: u32, message: &[u8]) -> bool {
        if self.head.parse(message).is_err() {
            return false;
        }
        let StartLine::Request { method, .. } = self.head.start_line() else { return false };
        let call_id = self.head.value(message, HeaderName::CallId).unwrap_or(&[]);
        let Some(id) = Id::parse(call_id).filter(|id| id.kind == DIALOG && context.is_busy(*id)) else {
            return false;
        };
        let Some(call) = self.calls.get_mut(id.slot as usize).filter(|call| call.dialog == id.generation)
        else {
            return false;
        };
        match method {
            Method::Invite if call.ok.is_empty() => {
                let user = context.users.get(call.callee).name;
                let phone = Phone { user, ip: &self.ip, port: context.port(socket), tag: id };
                let ringing = context.sender.message(socket);
                respond(b"180 Ringing", &self.head, message, Some((phone, "")), ringing);
                respond(b"200 OK", &self.head, message, Some((phone, SDP)), &mut call.ok);
                call.callee_socket = socket;
                context.sender.message(socket).extend_from_slice(&call.ok);
                context.start_timer(id, Side::Callee);
            }
            // Repeated before our answer came through.
            Method::Invite => context.sender.message(socket).extend_from_slice(&call.ok),
            Method::Ack => call.acknowledged = true,
            Method::Bye => respond(b"200 OK", &self.head, message, None, context.sender.message(socket)),
            _ => return false,
        }
        true
    }
}

/// The callee's phone, for the answers that make a dialog.
#[derive(Clone, Copy)]
struct Phone<'a> {
    user: &'a [u8],
    ip: &'a str,
    port: u16,
    tag: Id,
}

/// Appends an answer: what RFC 3261 8.2.6.2 copies from the request, and with a phone its tag, contact and body.
fn respond(status: &[u8], head: &Head, request: &[u8], phone: Option<(Phone<'_>, &str)>, out: &mut Vec<u8>) {
    for part in [b"SIP/2.0 ", status, b"\r\n"] {
        out.extend_from_slice(part);
    }
    for line in head.lines() {
        let copied = match line.name {
            HeaderName::Via | HeaderName::From | HeaderName::To | HeaderName::CallId | HeaderName::CSeq => {
                true
            }
            HeaderName::RecordRoute => phone.is_some(),
            _ => false,
        };
        if !copied {
            continue;
        }
        out.extend_from_slice(line.whole.of(request));
        if let Some((phone, _)) = phone
            && line.name == HeaderName::To
        {
            out.truncate(out.trim_ascii_end().len());
            out.extend_from_slice(b";tag=");
            phone.tag.push(out);
            out.extend_from_slice(b"\r\n");
        }
    }
    let body = match phone {
        Some((phone, body)) => {
            for part in [b"Contact: <sip:", phone.user, b"@", phone.ip.as_bytes(), b":"] {
                out.extend_from_slice(part);
            }
            push_decimal(phone.port.into(), out);
            out.extend_from_slice(b">\r\n");
            body
        }
        None => "",
    };
    if !body.is_empty() {
        out.extend_from_slice(b"Content-Type: application/sdp\r\n");
    }
    out.extend_from_slice(b"Content-Length: ");
    push_decimal(body.len() as u32, out);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body.as_bytes());
}

/// The remote target that a 200 names.
fn target<'a>(head: &Head, message: &'a [u8]) -> Option<&'a [u8]> {
    let contact = head.value(message, HeaderName::Contact)?;
    let Some(start) = memchr::memchr(b'<', contact) else {
        return contact.split(|byte| *byte == b';').next();
    };
    let uri = contact.get(start + 1..)?;
    uri.get(..memchr::memchr(b'>', uri)?)
}

/// Writes the caller's credentials for a request into the call.
fn credentials(call: &mut Call, context: &Context, id: Id, method: &[u8], uri: &[u8]) {
    let user = context.users.get(call.caller);
    let asked =
        Asked { method, uri, user: user.name, password: user.password, cnonce: id.generation ^ context.run };
    call.credentials.clear();
    call.challenge.answer(&asked, &mut call.credentials);
}

fn fill(template: &Template, call: &Call, context: &Context, transaction: Id, out: &mut Vec<u8>) {
    let (user, peer) = (context.users.get(call.caller), context.users.get(call.callee));
    let values = Values {
        user: user.name,
        domain: user.domain,
        peer: peer.name,
        peer_domain: peer.domain,
        port: context.port(context.socket(call.caller)),
        transaction,
        dialog: Id { kind: DIALOG, slot: transaction.slot, generation: call.dialog, run: context.run },
        cseq: call.cseq,
        credentials: &call.credentials,
    };
    template.fill(&values, out);
}

fn send_request(call: &Call, context: &mut Context) {
    let socket = context.socket(call.caller);
    context.sender.message(socket).extend_from_slice(&call.request);
}
