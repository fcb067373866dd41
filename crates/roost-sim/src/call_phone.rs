//! A phone that calls and is called: both sides of RFC 3261 as far as this world needs them, with their timers.
//!
//! A phone does nothing by itself: the world hands it messages and alarms, and carries out what it wants.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::call_message::Message;
use crate::client::Client;
use crate::dice::Dice;

const T1_MS: u64 = 500;
const T2_MS: u64 = 4_000;
/// How long anything is sent again: 64 T1.
const GIVE_UP_MS: u64 = 64 * T1_MS;
/// How long until a caller hangs up on an answer that it does not want any more.
const UNWANTED_MS: u64 = 50;

/// One call as it was drawn.
#[derive(Debug, Clone)]
pub struct CallPlan {
    /// In its Call-ID, tags and branches.
    pub number: u64,
    /// The Request-URI, and the server's name for who is meant.
    pub uri: String,
    pub callee: Vec<u8>,
    /// After the first provisional response.
    pub cancel_after_ms: Option<u64>,
    /// How long it talks before it hangs up; for ever without.
    pub talk_ms: Option<u64>,
    /// Before that it sends the callee to somebody else: this is the callee's call then (RFC 3515).
    pub transfer: Option<Box<CallPlan>>,
}

impl CallPlan {
    /// As the body of a REFER.
    fn to_body(&self) -> String {
        let ms = |ms: Option<u64>| ms.map_or("-".to_string(), |ms| ms.to_string());
        let callee = String::from_utf8_lossy(&self.callee);
        format!("{} {} {callee} {} {}", self.number, self.uri, ms(self.cancel_after_ms), ms(self.talk_ms))
    }

    fn of_body(body: &[u8]) -> Option<CallPlan> {
        let mut words = std::str::from_utf8(body).ok()?.split(' ');
        Some(CallPlan {
            number: words.next()?.parse().ok()?,
            uri: words.next()?.to_string(),
            callee: words.next()?.as_bytes().to_vec(),
            cancel_after_ms: words.next()?.parse().ok(),
            talk_ms: words.next()?.parse().ok(),
            transfer: None,
        })
    }
}

/// What a phone does about an INVITE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It rings, then somebody answers.
    Answer {
        ring_ms: u64,
    },
    /// It answers at once, without ringing.
    AnswerAtOnce,
    /// Somebody answers in the moment when the CANCEL comes.
    AnswerCancel,
    /// It rings, then somebody declines.
    Decline {
        ring_ms: u64,
    },
    Busy,
    Unavailable,
    NeverAnswer,
}

/// What a phone wants.
#[derive(Debug, Default)]
pub struct Acts {
    /// Datagrams to the server.
    pub messages: Vec<Vec<u8>>,
    /// When it wants to be woken, and for what.
    pub alarms: Vec<(u64, Alarm)>,
    /// Whom it wants to call at once.
    pub calls: Vec<CallPlan>,
}

/// Why a phone is woken.
#[derive(Debug, Clone)]
pub enum Alarm {
    /// Something may have to be sent again.
    Resend(usize),
    /// Somebody picks up, or declines: the INVITE's branch.
    PickUp(String),
    Decline(String),
    /// A caller's call, and for hanging up its dialog.
    Cancel(usize),
    HangUp(usize, usize),
    Transfer(usize, usize),
    /// A callee hangs up: the INVITE's branch.
    CalleeHangsUp(String),
}

/// What is sent again until somebody says otherwise.
#[derive(Debug)]
struct Sending {
    branch: String,
    /// The method; `response` for a callee's final response.
    kind: &'static str,
    bytes: Vec<u8>,
    wait_ms: u64,
    longest_ms: u64,
    until_ms: u64,
    is_done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallState {
    Calling,
    Proceeding,
    Answered,
    Failed,
}

/// A call that this phone makes.
#[derive(Debug)]
struct Call {
    plan: CallPlan,
    branch: String,
    state: CallState,
    is_cancelled: bool,
    dialogs: Vec<Dialog>,
}

/// One phone that answered a call.
#[derive(Debug)]
struct Dialog {
    tag: String,
    ack: Vec<u8>,
    to: String,
    target: String,
    routes: Vec<String>,
    /// The number of its last request.
    cseq: u32,
    has_hung_up: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RingState {
    Ringing,
    /// It has sent a final response.
    Final,
    /// Its final response was acknowledged.
    Over,
}

/// An INVITE that this phone got.
#[derive(Debug)]
struct Ring {
    invite: Message,
    tag: String,
    fate: Fate,
    state: RingState,
    last: Vec<u8>,
    /// The status of its final response.
    status: u16,
    has_hung_up: bool,
}

impl Ring {
    /// The number of its call.
    fn number(&self) -> u64 {
        self.invite.call_id.strip_prefix("call-").and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

/// A request's words.
struct Words<'a> {
    method: &'a str,
    uri: &'a str,
    branch: &'a str,
    /// With its tag; the phone's own and the call's without.
    from: Option<&'a str>,
    to: &'a str,
    routes: &'a [String],
    cseq: u32,
    body: &'a str,
}

/// One phone.
#[derive(Debug)]
pub struct CallPhone {
    user: String,
    domain: String,
    /// The address that it knows itself by.
    via: SocketAddr,
    /// The URI of its Contact.
    contact: String,
    /// It registers, but takes no part in calls.
    pub is_deaf: bool,
    /// Whether it has power.
    is_on: bool,
    /// Each time that it loses power another one begins; alarms of an older one are void.
    pub life: u64,
    /// For tests of the checks.
    ignores_cancel: bool,
    dice: Dice,
    calls: Vec<Call>,
    rings: BTreeMap<String, Ring>,
    sendings: Vec<Sending>,
    /// Calls that it was sent to.
    referred: BTreeSet<u64>,
}

impl CallPhone {
    pub fn new(client: &Client, ignores_cancel: bool, mut dice: Dice) -> Self {
        CallPhone {
            user: client.user.clone(),
            domain: client.domain.clone(),
            via: client.via,
            contact: client.contact.clone(),
            is_deaf: dice.chance(150),
            is_on: true,
            life: 0,
            ignores_cancel,
            dice,
            calls: Vec::new(),
            rings: BTreeMap::new(),
            sendings: Vec::new(),
            referred: BTreeSet::new(),
        }
    }

    /// It loses power: its calls are over, and nobody is told.
    pub fn power_down(&mut self) {
        self.is_on = false;
        self.life += 1;
        self.calls.clear();
        self.rings.clear();
        self.sendings.clear();
    }

    /// It has power again, and names itself like that.
    pub fn power_up(&mut self, client: &Client) {
        self.is_on = true;
        self.via = client.via;
        self.contact.clone_from(&client.contact);
    }

    /// The branches of the INVITEs that it rings for.
    pub fn ringing(&self) -> impl Iterator<Item = &str> {
        self.rings
            .iter()
            .filter(|(_, ring)| ring.state == RingState::Ringing)
            .map(|(branch, _)| branch.as_str())
    }

    /// The branches of its own INVITEs that it has heard no final response of.
    pub fn waiting(&self) -> impl Iterator<Item = &str> {
        let is_open = |call: &&Call| matches!(call.state, CallState::Calling | CallState::Proceeding);
        self.calls.iter().filter(is_open).map(|call| call.branch.as_str())
    }

    /// Calls somebody.
    pub fn call(&mut self, plan: CallPlan, now_ms: u64, acts: &mut Acts) {
        let branch = format!("z9hG4bKcall{}", plan.number);
        let body = format!("v=0\r\no=- {} 1 IN IP4 {}\r\ns=-\r\n", plan.number, self.via.ip());
        let (to, number) = (format!("<{}>", plan.uri), plan.number);
        let words = Words {
            method: "INVITE",
            uri: &plan.uri,
            branch: &branch,
            from: None,
            to: &to,
            routes: &[],
            cseq: 1,
            body: &body,
        };
        let bytes = self.request(number, &words);
        self.send("INVITE", &branch, bytes, u64::MAX, now_ms, acts);
        let state = CallState::Calling;
        self.calls.push(Call { plan, branch, state, is_cancelled: false, dialogs: Vec::new() });
    }

    fn request(&self, number: u64, words: &Words<'_>) -> Vec<u8> {
        let Words { method, uri, branch, from, to, routes, cseq, body } = words;
        let routes: String = routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
        let CallPhone { user, domain, via, contact, .. } = self;
        let own = format!("\"{user}\" <sip:{user}@{domain}>;tag=f{number}");
        let from = from.unwrap_or(&own);
        let type_line = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {via};branch={branch};rport\r\n\
             Max-Forwards: 70\r\n\
             {routes}\
             From: {from}\r\n\
             To: {to}\r\n\
             Call-ID: call-{number}\r\n\
             CSeq: {cseq} {method}\r\n\
             Contact: <{contact}>\r\n\
             X-Odd:   kept  as it is {number}\r\n\
             {type_line}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// Sends something until it is stopped.
    fn send(
        &mut self,
        kind: &'static str,
        branch: &str,
        bytes: Vec<u8>,
        longest_ms: u64,
        now_ms: u64,
        acts: &mut Acts,
    ) {
        acts.alarms.push((now_ms + T1_MS, Alarm::Resend(self.sendings.len())));
        acts.messages.push(bytes.clone());
        self.sendings.push(Sending {
            branch: branch.to_string(),
            kind,
            bytes,
            wait_ms: T1_MS,
            longest_ms,
            until_ms: now_ms + GIVE_UP_MS,
            is_done: false,
        });
    }

    fn stop(&mut self, kind: &str, branch: &str) {
        let is_it = |sending: &&mut Sending| sending.kind == kind && sending.branch == branch;
        self.sendings.iter_mut().filter(is_it).for_each(|sending| sending.is_done = true);
    }

    /// An alarm of its own rings.
    pub fn wake(&mut self, alarm: Alarm, now_ms: u64, acts: &mut Acts) {
        match alarm {
            Alarm::Resend(index) => {
                let sending = &mut self.sendings[index];
                if sending.is_done || now_ms >= sending.until_ms {
                    return;
                }
                sending.wait_ms = (sending.wait_ms * 2).min(sending.longest_ms);
                acts.messages.push(sending.bytes.clone());
                acts.alarms.push((now_ms + sending.wait_ms, Alarm::Resend(index)));
            }
            Alarm::PickUp(branch) => self.finish(&branch, 200, "OK", now_ms, acts),
            Alarm::Decline(branch) => self.finish(&branch, 603, "Decline", now_ms, acts),
            Alarm::Cancel(index) => self.cancel(index, now_ms, acts),
            Alarm::HangUp(index, dialog) => self.hang_up(index, dialog, now_ms, acts),
            Alarm::Transfer(index, dialog) => self.transfer(index, dialog, now_ms, acts),
            Alarm::CalleeHangsUp(branch) => self.callee_hangs_up(&branch, now_ms, acts),
        }
    }

    /// A datagram reaches it.
    pub fn receive(&mut self, message: &Message, now_ms: u64, acts: &mut Acts) {
        if !self.is_on || self.is_deaf {
            return;
        }
        match (message.status, message.method.as_str()) {
            (0, "INVITE") => self.invited(message, now_ms, acts),
            (0, "CANCEL") => self.cancelled(message, now_ms, acts),
            (0, "ACK") => {
                if let Some(branch) = self.acknowledged(message) {
                    let is_impatient = self.dice.chance(250);
                    let after_ms = self.dice.between((10, 15_000));
                    if is_impatient {
                        acts.alarms.push((now_ms + after_ms, Alarm::CalleeHangsUp(branch)));
                    }
                }
            }
            (0, "BYE") => {
                self.acknowledged(message);
                self.is_hung_up(message);
                acts.messages.push(message.response(200, "OK", "", &self.contact));
            }
            (0, "REFER") => self.referred(message, acts),
            (1.., "INVITE") => self.answered(message, now_ms, acts),
            (200.., "CANCEL") => self.stop("CANCEL", &message.branch),
            (200.., "BYE") => self.stop("BYE", &message.branch),
            (200.., "REFER") => self.stop("REFER", &message.branch),
            _ => {}
        }
    }

    /// A response to an INVITE of its own.
    fn answered(&mut self, message: &Message, now_ms: u64, acts: &mut Acts) {
        let Some(index) = self.calls.iter().position(|call| call.branch == message.branch) else { return };
        self.stop("INVITE", &message.branch);
        let call = &mut self.calls[index];
        match message.status {
            ..200 => {
                if call.state == CallState::Calling {
                    call.state = CallState::Proceeding;
                    if let Some(after_ms) = call.plan.cancel_after_ms {
                        acts.alarms.push((now_ms + after_ms, Alarm::Cancel(index)));
                    }
                }
            }
            200..300 => self.connected(index, message, now_ms, acts),
            _ => {
                if call.state != CallState::Answered {
                    call.state = CallState::Failed;
                }
                // The ACK of a failure goes hop by hop: it is the INVITE's transaction (17.1.1.3).
                let call = &self.calls[index];
                let words = Words {
                    method: "ACK",
                    uri: &call.plan.uri,
                    branch: &call.branch,
                    from: None,
                    to: &message.to,
                    routes: &[],
                    cseq: 1,
                    body: "",
                };
                acts.messages.push(self.request(call.plan.number, &words));
            }
        }
    }

    /// A 2xx: each phone that answers makes a dialog, and each copy is acknowledged.
    fn connected(&mut self, index: usize, message: &Message, now_ms: u64, acts: &mut Acts) {
        let call = &self.calls[index];
        if let Some(dialog) = call.dialogs.iter().find(|dialog| dialog.tag == message.to_tag) {
            acts.messages.push(dialog.ack.clone());
            return;
        }
        let routes: Vec<String> = message.record_routes.iter().rev().cloned().collect();
        let place = call.dialogs.len();
        let branch = format!("z9hG4bKack{}.{place}", call.plan.number);
        let words = Words {
            method: "ACK",
            uri: &message.contact,
            branch: &branch,
            from: None,
            to: &message.to,
            routes: &routes,
            cseq: 1,
            body: "",
        };
        let ack = self.request(call.plan.number, &words);
        acts.messages.push(ack.clone());
        let call = &mut self.calls[index];
        let is_wanted =
            !call.is_cancelled && matches!(call.state, CallState::Calling | CallState::Proceeding);
        let hang_up_ms = if is_wanted { call.plan.talk_ms } else { Some(UNWANTED_MS) };
        if let Some(after_ms) = hang_up_ms {
            acts.alarms.push((now_ms + after_ms, Alarm::HangUp(index, place)));
            if is_wanted && call.plan.transfer.is_some() {
                acts.alarms.push((now_ms + after_ms / 2, Alarm::Transfer(index, place)));
            }
        }
        call.state = CallState::Answered;
        call.dialogs.push(Dialog {
            tag: message.to_tag.clone(),
            ack,
            to: message.to.clone(),
            target: message.contact.clone(),
            routes,
            cseq: 1,
            has_hung_up: false,
        });
    }

    /// Sends the callee to somebody else.
    fn transfer(&mut self, index: usize, place: usize, now_ms: u64, acts: &mut Acts) {
        let call = &self.calls[index];
        if call.dialogs[place].has_hung_up {
            return;
        }
        if let Some(body) = call.plan.transfer.as_ref().map(|plan| plan.to_body()) {
            self.send_within((index, place), "REFER", &body, now_ms, acts);
        }
    }

    /// Sends a request within a dialog, given by its call and its place there.
    fn send_within(
        &mut self,
        (index, place): (usize, usize),
        method: &'static str,
        body: &str,
        now_ms: u64,
        acts: &mut Acts,
    ) {
        let call = &mut self.calls[index];
        let number = call.plan.number;
        call.dialogs[place].cseq += 1;
        let branch = format!("z9hG4bK{}{number}.{place}", method.to_ascii_lowercase());
        let dialog = &self.calls[index].dialogs[place];
        let words = Words {
            method,
            uri: &dialog.target,
            branch: &branch,
            from: None,
            to: &dialog.to,
            routes: &dialog.routes,
            cseq: dialog.cseq,
            body,
        };
        let bytes = self.request(number, &words);
        self.send(method, &branch, bytes, T2_MS, now_ms, acts);
    }

    /// It is sent to somebody else, and calls him, once.
    fn referred(&mut self, message: &Message, acts: &mut Acts) {
        acts.messages.push(message.response(202, "Accepted", "", &self.contact));
        let plan = CallPlan::of_body(&message.body);
        let is_new = |plan: &CallPlan| self.referred.insert(plan.number);
        acts.calls.extend(plan.filter(is_new));
    }

    /// The callee of an answered call hangs up.
    fn callee_hangs_up(&mut self, branch: &str, now_ms: u64, acts: &mut Acts) {
        let Some(ring) = self.rings.get_mut(branch) else { return };
        if std::mem::replace(&mut ring.has_hung_up, true) {
            return;
        }
        let ring = &self.rings[branch];
        let (number, from) = (ring.number(), format!("{};tag={}", ring.invite.to, ring.tag));
        let bye = format!("z9hG4bKcalleebye{number}.{}", ring.tag);
        let words = Words {
            method: "BYE",
            uri: &ring.invite.contact,
            branch: &bye,
            from: Some(&from),
            to: &ring.invite.from,
            routes: &ring.invite.record_routes,
            cseq: 1,
            body: "",
        };
        let bytes = self.request(number, &words);
        self.send("BYE", &bye, bytes, T2_MS, now_ms, acts);
    }

    /// The other side has hung up.
    fn is_hung_up(&mut self, bye: &Message) {
        for ring in self.rings.values_mut().filter(|ring| ring.invite.call_id == bye.call_id) {
            ring.has_hung_up = true;
        }
        for call in self.calls.iter_mut().filter(|call| format!("call-{}", call.plan.number) == bye.call_id) {
            let of_it = |dialog: &&mut Dialog| bye.from.ends_with(&format!("tag={}", dialog.tag));
            call.dialogs.iter_mut().filter(of_it).for_each(|dialog| dialog.has_hung_up = true);
        }
    }

    fn cancel(&mut self, index: usize, now_ms: u64, acts: &mut Acts) {
        let call = &mut self.calls[index];
        if call.state != CallState::Proceeding {
            return;
        }
        call.is_cancelled = true;
        let (branch, to, number) = (call.branch.clone(), format!("<{}>", call.plan.uri), call.plan.number);
        let uri = call.plan.uri.clone();
        let words = Words {
            method: "CANCEL",
            uri: &uri,
            branch: &branch,
            from: None,
            to: &to,
            routes: &[],
            cseq: 1,
            body: "",
        };
        let bytes = self.request(number, &words);
        self.send("CANCEL", &branch, bytes, T2_MS, now_ms, acts);
    }

    fn hang_up(&mut self, index: usize, place: usize, now_ms: u64, acts: &mut Acts) {
        if !std::mem::replace(&mut self.calls[index].dialogs[place].has_hung_up, true) {
            self.send_within((index, place), "BYE", "", now_ms, acts);
        }
    }

    /// An INVITE: a new one rings or not, one that comes again gets the last response again.
    fn invited(&mut self, message: &Message, now_ms: u64, acts: &mut Acts) {
        if let Some(ring) = self.rings.get(&message.branch) {
            if ring.state != RingState::Over {
                acts.messages.push(ring.last.clone());
            }
            return;
        }
        let branch = message.branch.clone();
        let ring_ms = self.dice.between((100, 12_000));
        let fate = match self.dice.below(12) {
            0..4 => Fate::Answer { ring_ms },
            4 => Fate::AnswerAtOnce,
            5 => Fate::AnswerCancel,
            6 => Fate::Decline { ring_ms },
            7..9 => Fate::Busy,
            9 => Fate::Unavailable,
            _ => Fate::NeverAnswer,
        };
        let tag = format!("{:016x}", self.dice.next_u64());
        let last = message.response(180, "Ringing", &tag, &self.contact);
        let ring = Ring {
            invite: message.clone(),
            tag,
            fate,
            state: RingState::Ringing,
            last: last.clone(),
            status: 0,
            has_hung_up: false,
        };
        self.rings.insert(branch.clone(), ring);
        match fate {
            Fate::AnswerAtOnce => return self.finish(&branch, 200, "OK", now_ms, acts),
            Fate::Busy => return self.finish(&branch, 486, "Busy Here", now_ms, acts),
            Fate::Unavailable => return self.finish(&branch, 503, "Service Unavailable", now_ms, acts),
            Fate::Answer { ring_ms } => acts.alarms.push((now_ms + ring_ms, Alarm::PickUp(branch))),
            Fate::Decline { ring_ms } => acts.alarms.push((now_ms + ring_ms, Alarm::Decline(branch))),
            Fate::AnswerCancel | Fate::NeverAnswer => {}
        }
        acts.messages.push(last);
    }

    /// The ringing ends with a final response, sent again until it is acknowledged.
    fn finish(&mut self, branch: &str, status: u16, reason: &str, now_ms: u64, acts: &mut Acts) {
        let contact = self.contact.clone();
        let Some(ring) = self.rings.get_mut(branch) else { return };
        if ring.state != RingState::Ringing {
            return;
        }
        ring.state = RingState::Final;
        ring.status = status;
        ring.last = ring.invite.response(status, reason, &ring.tag, &contact);
        let bytes = ring.last.clone();
        self.send("response", branch, bytes, T2_MS, now_ms, acts);
    }

    fn cancelled(&mut self, message: &Message, now_ms: u64, acts: &mut Acts) {
        if self.ignores_cancel {
            return;
        }
        let contact = self.contact.clone();
        let Some(ring) = self.rings.get(&message.branch) else {
            return acts.messages.push(message.response(481, "Call Does Not Exist", "none", &contact));
        };
        acts.messages.push(message.response(200, "OK", &ring.tag, &contact));
        match ring.fate {
            Fate::AnswerCancel => self.finish(&message.branch, 200, "OK", now_ms, acts),
            _ => self.finish(&message.branch, 487, "Request Terminated", now_ms, acts),
        }
    }

    /// An ACK, of a failure by its branch, of a 2xx by its dialog; or a BYE, which means the same. The branch of the INVITE, if
    /// that makes it a call.
    fn acknowledged(&mut self, message: &Message) -> Option<String> {
        let is_dialog = |ring: &Ring| ring.invite.call_id == message.call_id && ring.tag == message.to_tag;
        let found =
            self.rings.iter_mut().find(|(branch, ring)| **branch == message.branch || is_dialog(ring));
        let (branch, ring) = found.filter(|(_, ring)| ring.state == RingState::Final)?;
        ring.state = RingState::Over;
        let (branch, is_call) = (branch.clone(), ring.status < 300);
        self.stop("response", &branch);
        is_call.then_some(branch)
    }
}
