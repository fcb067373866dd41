//! What must hold of calls, whatever the network loses. Each finding is a sentence that says which promise was broken.
//!
//! The checks see what the phones send, what reaches an engine and a phone, and what the engines send; they know
//! nothing of the engines' insides but a timeout of the configuration. Who is registered where says the model of the
//! registrar.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use roost_core::{Authorize, Config};

use crate::call_message::Message;
use crate::model::Model;
use crate::scenario::CALL_MS;

/// How long a branch waits for more after its end, or for its end after a CANCEL: 64 T1.
const LINGER_MS: u64 = 32_000;
/// How long after its time a call may still be in the table.
const SWEEP_MS: u64 = 15_000;
/// By how much the end of a call may move where it outlives its process.
const STEP_MS: u64 = 25_000;
/// How often something must have been sent before it counts as the network's fault that it never arrived.
const OFTEN: u32 = 10;

/// A caller's INVITE.
#[derive(Debug)]
struct Asked {
    /// The caller's AOR, and where the INVITE came from.
    caller: Vec<u8>,
    sources: BTreeSet<SocketAddr>,
    call_id: String,
    callee: Vec<u8>,
    /// When it first reached the process that is running.
    arrived_ms: Option<u64>,
    /// Nothing is left that would say its answer again.
    is_excused: bool,
    /// Its answers may not have found the caller any more.
    is_forgotten: bool,
    /// Phones that it was forwarded to.
    hops: u32,
    has_success: bool,
    /// The failure that the caller was told.
    failure: Option<(u16, Vec<u8>)>,
    finals: u32,
    last_final_ms: u64,
}

impl Asked {
    fn new(call_id: String) -> Asked {
        Asked {
            caller: Vec::new(),
            sources: BTreeSet::new(),
            call_id,
            callee: Vec::new(),
            arrived_ms: None,
            is_excused: false,
            is_forgotten: false,
            hops: 0,
            has_success: false,
            failure: None,
            finals: 0,
            last_final_ms: 0,
        }
    }
}

/// An INVITE on its way from the server to one phone.
#[derive(Debug)]
struct Hop {
    /// The branch of the caller's INVITE.
    asked: String,
    to: SocketAddr,
    uri: String,
    sent_ms: u64,
    /// It reached its phone.
    has_arrived: bool,
    /// When the first provisional response reached the server, in time.
    heard_ms: Option<u64>,
    /// When the first 2xx did.
    answered_ms: Option<u64>,
    cancelled_ms: Option<u64>,
    cancels: u32,
    has_cancel_arrived: bool,
}

impl Hop {
    /// Whether a request goes where its INVITE went.
    fn is_for(&self, to: SocketAddr, message: &Message) -> bool {
        (to, message.uri.as_str()) == (self.to, self.uri.as_str())
    }
}

/// A call that was forwarded and has not ended.
#[derive(Debug, Default)]
struct InProgress {
    /// Its first answer.
    answer: Option<Answer>,
}

/// The first answer of a call.
#[derive(Debug, Clone)]
struct Answer {
    tag: String,
    /// When the call ends by itself, at the earliest and at the latest.
    ends_ms: (u64, u64),
}

/// Calls by their end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// INVITEs that reached the server.
    pub set_up: u64,
    pub answered: u64,
    pub cancelled: u64,
    pub busy: u64,
    pub unanswered: u64,
    /// INVITEs that went to more than one phone.
    pub forked: u64,
    /// REFERs that went on.
    pub transferred: u64,
    /// Calls whose end was told.
    pub recorded: u64,
}

impl Ends {
    /// Adds the calls of another world.
    pub fn add(&mut self, other: &Ends) {
        self.set_up += other.set_up;
        self.answered += other.answered;
        self.cancelled += other.cancelled;
        self.busy += other.busy;
        self.unanswered += other.unanswered;
        self.forked += other.forked;
        self.transferred += other.transferred;
        self.recorded += other.recorded;
    }
}

/// Everything the checks remember.
#[derive(Debug)]
pub struct CallChecks {
    fr_ms: u64,
    authorize: Authorize,
    serial_fork: bool,
    /// Where anybody has ever been.
    places: BTreeSet<SocketAddr>,
    asked: BTreeMap<String, Asked>,
    /// Requests that are to be forwarded, as they were sent.
    originals: BTreeMap<String, Message>,
    hops: BTreeMap<String, Hop>,
    /// Calls in progress of the process that is running, by Call-ID.
    in_progress: BTreeMap<String, InProgress>,
    /// Calls that were entered into a table, and those that a process took with it.
    entered: u64,
    lost: u64,
    /// Branches of processes that have died.
    dead: BTreeSet<String>,
    /// Calls by their end.
    pub ends: Ends,
}

impl CallChecks {
    pub fn new(config: &Config) -> CallChecks {
        CallChecks {
            fr_ms: u64::from(config.policy.tm.fr_timeout_s) * 1_000,
            authorize: config.policy.proxy.authorize,
            serial_fork: config.policy.proxy.serial_fork,
            places: BTreeSet::new(),
            asked: BTreeMap::new(),
            originals: BTreeMap::new(),
            hops: BTreeMap::new(),
            in_progress: BTreeMap::new(),
            entered: 0,
            lost: 0,
            dead: BTreeSet::new(),
            ends: Ends::default(),
        }
    }

    /// A phone calls somebody.
    pub fn calls(&mut self, caller: &[u8], callee: &[u8], invite: &Message) {
        let (caller, callee) = (caller.to_vec(), callee.to_vec());
        let asked = Asked { caller, callee, ..Asked::new(invite.call_id.clone()) };
        self.asked.insert(invite.branch.clone(), asked);
    }

    /// A phone sends something.
    pub fn sent(&mut self, message: &Message) {
        if !message.is_request() || message.method == "CANCEL" {
            return;
        }
        self.originals.entry(message.branch.clone()).or_insert_with(|| message.clone());
    }

    /// A request reaches a shard for the first time.
    pub fn arrived(&mut self, from: SocketAddr, message: &Message, now_ms: u64) {
        if message.is_request()
            && message.method == "INVITE"
            && let Some(asked) = self.asked.get_mut(&message.branch)
        {
            asked.sources.insert(from);
            asked.arrived_ms.get_or_insert(now_ms);
        }
    }

    /// A datagram reaches a phone.
    pub fn delivered(&mut self, message: &Message) {
        let Some(hop) = self.hops.get_mut(&message.branch) else { return };
        match message.method.as_str() {
            "INVITE" => hop.has_arrived = true,
            "CANCEL" => hop.has_cancel_arrived = true,
            _ => {}
        }
    }

    /// An engine sends something.
    pub fn transmitted(
        &mut self,
        now_ms: u64,
        to: SocketAddr,
        message: &Message,
        bytes: &[u8],
        model: &Model,
    ) -> Result<(), String> {
        if !self.places.contains(&to) {
            return Err(format!("a datagram to {to}, where nobody has ever been: {message}"));
        }
        match (message.is_request(), message.method.as_str()) {
            (false, "INVITE") => self.response(now_ms, to, message, bytes, model),
            (false, _) => Ok(()),
            (true, _) => self.request(now_ms, to, message, model),
        }
    }

    /// To the caller: one final failure, or 2xx as they come; and nothing provisional after that.
    fn response(
        &mut self,
        now_ms: u64,
        to: SocketAddr,
        message: &Message,
        bytes: &[u8],
        model: &Model,
    ) -> Result<(), String> {
        let Some(asked) = self.asked.get_mut(&message.branch) else {
            return Err(format!("a response to an INVITE that nobody sent: {message}"));
        };
        if !asked.sources.contains(&to) || message.vias.len() != 1 {
            return Err(format!("a response for {:?} to {to}, Vias {:?}", asked.sources, message.vias));
        }
        let is_over = asked.has_success || asked.failure.is_some();
        match message.status {
            ..200 if is_over => return Err(format!("a provisional response after the final one: {message}")),
            ..200 => return Ok(()),
            200..300 => {
                asked.has_success = true;
                if let Some(call) =
                    self.in_progress.get_mut(&message.call_id).filter(|call| call.answer.is_none())
                {
                    let ends_ms = (now_ms + CALL_MS, now_ms + CALL_MS + SWEEP_MS);
                    call.answer = Some(Answer { tag: message.to_tag.clone(), ends_ms });
                }
            }
            401 | 407
                if self.authorize == Authorize::Off || model.is_bound_from(&asked.caller, to, now_ms) =>
            {
                return Err(format!("a caller who may call is challenged: {message}"));
            }
            // Each copy is challenged anew, and none of them leaves anything behind that would say so again. The same with a
            // refusal because rows are still being read, or because there is no room: the next copy may pass.
            401 | 407 => asked.is_excused = true,
            503 if asked.hops == 0 => asked.is_excused = true,
            status => match &asked.failure {
                Some((_, first)) if first == bytes => {}
                Some((first, _)) => {
                    return Err(format!("a second final failure, the first was {first}: {message}"));
                }
                None if asked.has_success => {
                    return Err(format!("a failure after a 2xx: {message}"));
                }
                None => {
                    asked.failure = Some((status, bytes.to_vec()));
                    self.in_progress.remove(&message.call_id);
                }
            },
        }
        asked.finals += 1;
        asked.last_final_ms = now_ms;
        Ok(())
    }

    fn request(
        &mut self,
        now_ms: u64,
        to: SocketAddr,
        message: &Message,
        model: &Model,
    ) -> Result<(), String> {
        let digits = message.branch.strip_prefix("z9hG4bK").unwrap_or("");
        if digits.len() != 48 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("a request without roost's own Via on top: {message}"));
        }
        let is_own = message.vias.len() == 1 && matches!(message.method.as_str(), "ACK" | "CANCEL");
        if !is_own {
            return self.forwarded(now_ms, to, message, model);
        }
        let Some(hop) = self.hops.get_mut(&message.branch).filter(|hop| hop.has_arrived) else {
            return Err(format!("{to} gets a request of an INVITE that it never got: {message}"));
        };
        if !hop.is_for(to, message) {
            return Err(format!("for an INVITE to {} at {}, to {to}: {message}", hop.uri, hop.to));
        }
        if message.method == "CANCEL" {
            hop.cancelled_ms.get_or_insert(now_ms);
            hop.cancels += 1;
        }
        Ok(())
    }

    /// What the proxy does not understand passes untouched.
    fn forwarded(
        &mut self,
        now_ms: u64,
        to: SocketAddr,
        message: &Message,
        model: &Model,
    ) -> Result<(), String> {
        let below = message.branches.get(1).map_or("", String::as_str);
        let Some(original) = self.originals.get(below) else {
            return Err(format!("a request that nobody sent: {message}"));
        };
        if message.vias.len() != 2 || message.method != original.method {
            return Err(format!("{original} went on as {message}, Vias {:?}", message.vias));
        }
        if message.max_forwards != original.max_forwards.map(|hops| hops - 1) {
            return Err(format!("Max-Forwards {:?} of {message}", message.max_forwards));
        }
        if message.kept != original.kept || message.body != original.body {
            return Err(format!("headers or body were changed: {message}"));
        }
        self.ends.transferred += u64::from(message.method == "REFER");
        if message.method != "INVITE" {
            return Ok(());
        }
        if let Some(hop) = self.hops.get(&message.branch) {
            return match hop.is_for(to, message) {
                true => Ok(()),
                false => Err(format!("an INVITE to {} at {} goes again to {to}: {message}", hop.uri, hop.to)),
            };
        }
        let Some(asked) = self.asked.get_mut(below) else {
            return Err(format!("an INVITE that nobody sent: {message}"));
        };
        let arrived_ms = asked.arrived_ms.unwrap_or(now_ms);
        let mut sources = asked.sources.iter();
        if self.authorize == Authorize::Registered
            && !sources.any(|source| model.was_bound_from(&asked.caller, *source, arrived_ms))
        {
            return Err(format!("a call of somebody who is not registered where he calls from: {message}"));
        }
        // One after another: the contacts were looked up when it came.
        let since_ms = if self.serial_fork { arrived_ms } else { now_ms };
        if !model.was_bound(&asked.callee, &message.uri, to, since_ms) {
            return Err(format!("{to} is not a contact of {}: {message}", original.uri));
        }
        if asked.has_success || asked.failure.is_some() {
            return Err(format!("a new branch after the final response: {message}"));
        }
        asked.hops += 1;
        asked.is_excused = false;
        self.has_begun(&message.call_id);
        let hop = Hop {
            asked: below.to_string(),
            to,
            uri: message.uri.clone(),
            sent_ms: now_ms,
            has_arrived: false,
            heard_ms: None,
            answered_ms: None,
            cancelled_ms: None,
            cancels: 0,
            has_cancel_arrived: false,
        };
        self.hops.insert(message.branch.clone(), hop);
        Ok(())
    }

    /// A call has been forwarded for the first time. Where nobody is authorized there is no table.
    fn has_begun(&mut self, call_id: &str) {
        if self.authorize != Authorize::Off {
            let entered = &mut self.entered;
            self.in_progress.entry(call_id.to_owned()).or_insert_with(|| {
                *entered += 1;
                InProgress::default()
            });
        }
    }

    /// The engine that owns it has handled a message and sent this at once: every 2xx of a live branch goes on.
    pub fn handled(
        &mut self,
        now_ms: u64,
        message: &Message,
        sent: &[(SocketAddr, Message)],
    ) -> Result<(), String> {
        if message.is_request() && message.method == "BYE" {
            // Nothing goes on while rows of the phones are still being read: it waits.
            self.hung_up(message, sent.is_empty(), now_ms);
        }
        if message.is_request() || message.method != "INVITE" {
            return Ok(());
        }
        if self.dead.contains(&message.branch) {
            return Ok(());
        }
        let Some(hop) = self.hops.get_mut(&message.branch) else {
            return Err(format!("a phone answers a branch that nobody sent: {message}"));
        };
        // In the very millisecond of a deadline either may come first.
        let is_alive = match (hop.answered_ms.or(hop.cancelled_ms), hop.heard_ms) {
            (Some(at_ms), _) => now_ms < at_ms + LINGER_MS,
            (None, Some(_)) => true,
            (None, None) => now_ms < hop.sent_ms + self.fr_ms,
        };
        if !is_alive {
            return Ok(());
        }
        if message.status < 200 {
            hop.heard_ms.get_or_insert(now_ms);
        }
        if !message.is_answer() {
            return Ok(());
        }
        hop.answered_ms.get_or_insert(now_ms);
        let callers = self.asked.get(&hop.asked).map(|asked| &asked.sources);
        let is_it = |(to, response): &(SocketAddr, Message)| {
            callers.is_some_and(|callers| callers.contains(to))
                && response.is_answer()
                && (&response.branch, &response.to_tag) == (&hop.asked, &message.to_tag)
        };
        match sent.iter().any(is_it) {
            true => Ok(()),
            false => Err(format!("a 2xx of a live branch is not forwarded: {message}")),
        }
    }

    /// A BYE inside the dialog of the first answer ends its call, now or later; the other dialogs of a fork are no calls.
    fn hung_up(&mut self, bye: &Message, may_wait: bool, now_ms: u64) {
        let is_its = |call: &InProgress| {
            call.answer.as_ref().is_some_and(|Answer { tag, .. }| {
                bye.to_tag == *tag || bye.from.ends_with(&format!("tag={tag}"))
            })
        };
        let Some(call) = self.in_progress.get_mut(&bye.call_id).filter(|call| is_its(call)) else { return };
        match &mut call.answer {
            Some(answer) if may_wait => answer.ends_ms.0 = answer.ends_ms.0.min(now_ms),
            _ => drop(self.in_progress.remove(&bye.call_id)),
        }
    }

    /// So many early and active calls are in the tables: those that there are.
    pub fn in_progress(&self, early: usize, active: usize, now_ms: u64) -> Result<(), String> {
        let (mut own_early, mut least, mut most) = (0, 0, 0);
        for call in self.in_progress.values() {
            match &call.answer {
                None => own_early += 1,
                // The sweep takes its time.
                Some(Answer { ends_ms: (first_ms, last_ms), .. }) => {
                    least += usize::from(now_ms < *first_ms);
                    most += usize::from(now_ms < *last_ms);
                }
            }
        }
        match early == own_early && (least..=most).contains(&active) {
            true => Ok(()),
            false => Err(format!(
                "{early} early and {active} active calls are in the tables, and there are {own_early} and {least} to {most}"
            )),
        }
    }

    /// One datagram causes no more than its forks.
    pub fn caused(
        &self,
        now_ms: u64,
        message: &Message,
        transmits: usize,
        model: &Model,
    ) -> Result<(), String> {
        let asked = self.asked.values().find(|asked| asked.call_id == message.call_id);
        let forks = |asked: &Asked| model.bindings(&asked.callee, now_ms).max(asked.hops as usize);
        let most = asked.map_or(0, forks) + 2;
        match transmits > most {
            true => Err(format!("{transmits} datagrams, at most {most} were due, for {message}")),
            false => Ok(()),
        }
    }

    /// Long after the last fault a phone rings: nobody calls it any more.
    pub fn rings(&self, phone: SocketAddr, branch: &str) -> Result<(), String> {
        if self.dead.contains(branch) {
            return Ok(());
        }
        let Some(hop) = self.hops.get(branch) else {
            return Err(format!("{phone} rings for an INVITE that nobody sent"));
        };
        // Only who was heard can be cancelled (RFC 3261 9.1), and a network may lose all CANCELs.
        let is_excused = hop.heard_ms.is_none() || (hop.cancels >= OFTEN && !hop.has_cancel_arrived);
        match is_excused {
            true => Ok(()),
            false => Err(format!("{phone} still rings, after {} CANCELs, for branch {branch}", hop.cancels)),
        }
    }

    /// Every INVITE that reached the server was answered.
    pub fn each_is_final(&self) -> Result<(), String> {
        let open = |(_, asked): &(&String, &Asked)| asked.arrived_ms.is_some() && asked.finals == 0;
        match self.asked.iter().find(open) {
            Some((branch, asked)) => Err(format!("{} has no final response ({branch})", asked.call_id)),
            None => Ok(()),
        }
    }

    /// A caller still waits for its final response.
    pub fn waits(&self, branch: &str, healed_ms: u64) -> Result<(), String> {
        let is_open = |asked: &&Asked| asked.arrived_ms.is_some() && !asked.is_excused && !asked.is_forgotten;
        let Some(asked) = self.asked.get(branch).filter(is_open) else { return Ok(()) };
        let is_owed = asked.last_final_ms >= healed_ms || (!asked.has_success && asked.finals < OFTEN);
        match is_owed {
            true => Err(format!("{} still waits; {} final responses were sent", asked.call_id, asked.finals)),
            false => Ok(()),
        }
    }

    /// Somebody is there, or thinks so: a contact that is bound no more is reached where it says.
    pub fn stands(&mut self, place: SocketAddr, via: SocketAddr) {
        self.places.extend([place, via]);
    }

    /// A router forgets this address: what is sent there is lost.
    pub fn forgotten(&mut self, source: SocketAddr) {
        let of_it = |asked: &&mut Asked| asked.sources.contains(&source);
        self.asked.values_mut().filter(of_it).for_each(|asked| asked.is_forgotten = true);
    }

    /// The process dies, and with it its transactions; answered calls are kept (`kept`: Call-ID, and tag of the answer).
    ///
    /// # Errors
    /// They are not those that there are, although every shard knew what each knew (`is_exact`).
    pub fn crashed(
        &mut self,
        kept: &BTreeMap<String, String>,
        is_exact: bool,
        now_ms: u64,
    ) -> Result<(), String> {
        let before = std::mem::take(&mut self.in_progress);
        for (call_id, tag) in kept {
            let known = before.get(call_id).and_then(|call| call.answer.as_ref());
            let is_over = known.is_none_or(|answer| now_ms >= answer.ends_ms.0);
            if is_exact && is_over && known.is_none_or(|answer| now_ms >= answer.ends_ms.1) {
                return Err(format!("{call_id} is kept, and has ended"));
            }
            // Times are kept in seconds, and the clock may step.
            let (first_ms, last_ms) = known.map_or((now_ms, now_ms + CALL_MS), |answer| answer.ends_ms);
            let ends_ms = (first_ms.saturating_sub(STEP_MS), last_ms + STEP_MS + SWEEP_MS);
            self.in_progress
                .insert(call_id.clone(), InProgress { answer: Some(Answer { tag: tag.clone(), ends_ms }) });
        }
        for (call_id, call) in before {
            let is_kept = kept.contains_key(&call_id);
            let is_due = call.answer.as_ref().is_some_and(|answer| now_ms < answer.ends_ms.0);
            if is_exact && is_due && !is_kept {
                return Err(format!("{call_id} was answered and is not kept"));
            }
            self.lost += u64::from(!is_kept && call.answer.is_none());
        }
        self.count_ends();
        self.dead.extend(std::mem::take(&mut self.hops).into_keys());
        for asked in self.asked.values_mut() {
            let (caller, callee) = (std::mem::take(&mut asked.caller), std::mem::take(&mut asked.callee));
            let call_id = std::mem::take(&mut asked.call_id);
            *asked = Asked { caller, callee, ..Asked::new(call_id) };
        }
        Ok(())
    }

    /// So many calls were told to have ended: all that were entered, but for those that a process took with it (`forgotten`: with
    /// its keys).
    ///
    /// # Errors
    /// They are more or fewer.
    pub fn recorded(&mut self, records: u64, forgotten: u64) -> Result<(), String> {
        self.ends.recorded = records;
        match self.entered == records + self.lost + forgotten {
            true => Ok(()),
            false => Err(format!(
                "{} calls, {} lost in crashes, {forgotten} forgotten, and {records} records",
                self.entered, self.lost
            )),
        }
    }

    /// Adds up what became of the calls of the process that is running.
    pub fn count_ends(&mut self) {
        for asked in self.asked.values().filter(|asked| asked.arrived_ms.is_some()) {
            let ends = &mut self.ends;
            ends.set_up += 1;
            ends.forked += u64::from(asked.hops > 1);
            ends.answered += u64::from(asked.has_success);
            match &asked.failure {
                Some((487, _)) => ends.cancelled += 1,
                Some((486, _)) => ends.busy += 1,
                Some((408, _)) => ends.unanswered += 1,
                _ => {}
            }
        }
    }
}
