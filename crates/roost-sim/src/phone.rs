//! One phone: it registers, answers challenges, retransmits, refreshes, and gives up, as real ones do.
//!
//! It knows what the server told it and nothing else. What it wants to send and when it wants to wake up comes back
//! as a [`Step`]; the world carries it out.

use std::net::SocketAddr;

use crate::client::{Ask, Client, Reply};
use crate::dice::Dice;
use crate::scenario::{Habit, PhonePlan};

/// Timer E of a non-INVITE transaction starts here (RFC 3261 17.1.2.2).
const T1_MS: u64 = 500;
/// … and grows to this.
const T2_MS: u64 = 4_000;
/// Timer F: without an answer the request has failed.
const GIVE_UP_MS: u64 = 64 * T1_MS;
/// Challenges in a row after which a phone takes a breath.
const MAX_CHALLENGES: u32 = 6;
/// Failed tries to unregister after which a phone is just switched off.
const MAX_UNBINDS: u32 = 3;

/// A phone and what it is doing.
#[derive(Debug)]
pub struct Phone {
    pub plan: PhonePlan,
    pub client: Client,
    /// Where its packets come from.
    pub source: SocketAddr,
    /// The binding that a 200 promised.
    pub held: Option<Held>,
    state: State,
    number: u64,
    requests: u64,
    /// Wake-ups of an older generation are void.
    generation: u64,
    challenges: u32,
    unbinds: u32,
    refresh_at_ms: u64,
    dice: Dice,
}

/// What a phone was promised: its contact is bound from then to then at least.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// When the request that was granted was first sent.
    pub since_ms: u64,
    pub until_ms: u64,
}

#[derive(Debug)]
enum State {
    Off,
    Dead,
    /// It will ask when it wakes up.
    Waiting(Ask),
    Asking(Request),
    Registered,
}

/// A request under way.
#[derive(Debug)]
struct Request {
    ask: Ask,
    branch: u64,
    bytes: Vec<u8>,
    first_sent_ms: u64,
    interval_ms: u64,
}

/// What a phone wants.
#[derive(Debug, Default)]
pub struct Step {
    pub message: Option<Message>,
    /// When to call [`Phone::wake`], and with which generation.
    pub wake: Option<(u64, u64)>,
}

/// A datagram to the server.
#[derive(Debug)]
pub struct Message {
    pub branch: u64,
    pub bytes: Vec<u8>,
    /// What it asks, the first time it is sent; `None` for a retransmission.
    pub new: Option<Ask>,
}

impl Phone {
    /// A phone that is switched off. `number` tells its requests from all others.
    pub fn new(number: u64, plan: PhonePlan, dice: Dice) -> Phone {
        let via = plan.private.unwrap_or(plan.source);
        let mut client = Client::new(&plan.user, &plan.domain, &plan.password, via, plan.has_rport);
        client.q = plan.q;
        let mut phone = Phone {
            client,
            source: plan.source,
            held: None,
            state: State::Off,
            number,
            requests: 0,
            generation: 0,
            challenges: 0,
            unbinds: 0,
            refresh_at_ms: 0,
            dice,
            plan,
        };
        phone.power_up(false);
        phone
    }

    /// What a phone makes anew when it gets power: its Contact, its tag and, unless it keeps it, its Call-ID.
    fn power_up(&mut self, keeps_call_id: bool) {
        let via = self.plan.private.unwrap_or(self.source);
        let instance = self.dice.next_u64();
        self.client.via = via;
        self.client.contact = format!("sip:{}@{via};rinstance={instance:016x}", self.client.user);
        self.client.tag = format!("{:08x}", self.dice.next_u64() as u32);
        if !keeps_call_id {
            self.client.call_id = format!("{:016x}@{}", self.dice.next_u64(), via.ip());
            self.client.cseq = self.dice.below(1_000) as u32;
        }
        self.client.forget_challenge();
        self.held = None;
    }

    /// Whether it has left for good.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, State::Dead)
    }

    /// Whether it may call: it holds a binding, as far as it knows, and has power.
    pub fn is_registered(&self, now_ms: u64) -> bool {
        self.is_live() && self.held.is_some_and(|held| held.until_ms > now_ms)
    }

    /// Whether it wants to be registered.
    pub fn is_live(&self) -> bool {
        let is_leaving = |ask: Ask| matches!(ask, Ask::Unbind | Ask::UnbindAll);
        match &self.state {
            State::Off | State::Dead => false,
            State::Waiting(ask) => !is_leaving(*ask),
            State::Asking(request) => !is_leaving(request.ask),
            State::Registered => true,
        }
    }

    /// What it is doing, for messages.
    pub fn doing(&self) -> String {
        match &self.state {
            State::Off => "off".to_string(),
            State::Dead => "dead".to_string(),
            State::Waiting(ask) => format!("waiting to ask: {ask:?}"),
            State::Asking(request) => format!("asking since {} ms: {:?}", request.first_sent_ms, request.ask),
            State::Registered => format!("registered, refreshes at {} ms", self.refresh_at_ms),
        }
    }

    /// Registers if it is off or about to be.
    pub fn switch_on(&mut self, now_ms: u64) -> Step {
        match self.state {
            State::Dead => Step::default(),
            _ if self.is_live() => Step::default(),
            _ => self.bind(now_ms),
        }
    }

    /// Loses power, or its network, and comes back at another address; `private` is the one that it knows itself by then.
    pub fn move_to(
        &mut self,
        source: SocketAddr,
        private: Option<SocketAddr>,
        keeps_call_id: bool,
        now_ms: u64,
    ) -> Step {
        if self.is_dead() {
            return Step::default();
        }
        self.source = source;
        self.plan.private = private;
        self.client.has_rport |= private.is_some();
        self.power_up(keeps_call_id);
        let after_ms = self.dice.between((200, 10_000));
        self.wait(self.binding(), after_ms, now_ms)
    }

    /// Says that it is not there any more.
    pub fn unregister(&mut self, now_ms: u64) -> Step {
        if !matches!(self.state, State::Registered) {
            return Step::default();
        }
        self.held = None;
        self.unbinds = 0;
        self.challenges = 0;
        self.ask(if self.plan.uses_star { Ask::UnbindAll } else { Ask::Unbind }, now_ms)
    }

    /// Says nothing any more; for good when it `dies`.
    pub fn fall_silent(&mut self, dies: bool) -> Step {
        if !matches!(self.state, State::Dead) {
            self.state = if dies { State::Dead } else { State::Off };
        }
        self.step(None, None)
    }

    /// Asks for the bindings.
    pub fn query(&mut self, now_ms: u64) -> Step {
        match self.state {
            State::Registered => self.ask(Ask::Query, now_ms),
            _ => Step::default(),
        }
    }

    /// Does what was due, unless something else came in between.
    pub fn wake(&mut self, generation: u64, now_ms: u64) -> Step {
        if generation != self.generation {
            return Step::default();
        }
        match &mut self.state {
            State::Off | State::Dead => Step::default(),
            State::Waiting(ask) => {
                let ask = *ask;
                self.ask(ask, now_ms)
            }
            State::Registered => self.bind(now_ms),
            State::Asking(request) if now_ms >= request.first_sent_ms + GIVE_UP_MS => {
                let ask = request.ask;
                let after_ms = self.dice.between((1_000, 5_000));
                self.retry(ask, after_ms, now_ms)
            }
            State::Asking(request) => {
                request.interval_ms = (request.interval_ms * 2).min(T2_MS);
                let message = Message { branch: request.branch, bytes: request.bytes.clone(), new: None };
                let wake_ms = now_ms + request.interval_ms;
                self.step(Some(message), Some(wake_ms))
            }
        }
    }

    /// Takes an answer; one to anything but the request under way is passed over.
    pub fn receive(&mut self, reply: &Reply, now_ms: u64) -> Step {
        let State::Asking(request) = &self.state else { return Step::default() };
        if request.branch != reply.branch {
            return Step::default();
        }
        let (ask, first_sent_ms) = (request.ask, request.first_sent_ms);
        match reply.status {
            100..200 => Step::default(),
            200..300 => self.accepted(ask, reply, first_sent_ms, now_ms),
            401 => self.challenged(ask, reply, now_ms),
            _ => {
                let after_ms = self.patience_ms(reply);
                self.retry(ask, after_ms, now_ms)
            }
        }
    }

    fn accepted(&mut self, ask: Ask, reply: &Reply, first_sent_ms: u64, now_ms: u64) -> Step {
        self.challenges = 0;
        match ask {
            Ask::Unbind | Ask::UnbindAll => {
                self.state = State::Off;
                self.step(None, None)
            }
            Ask::Query => {
                self.state = State::Registered;
                self.step(None, Some(self.refresh_at_ms.max(now_ms + 1)))
            }
            Ask::Bind { .. } => {
                let granted_ms = u64::from(reply.expires_of(&self.client.contact).unwrap_or(0)) * 1_000;
                self.held = Some(Held { since_ms: first_sent_ms, until_ms: first_sent_ms + granted_ms });
                let refresh_ms = match self.plan.habit {
                    Habit::FiveBefore if granted_ms > 10_000 => granted_ms - 5_000,
                    _ => granted_ms / 2,
                };
                self.refresh_at_ms = now_ms + refresh_ms.max(500);
                self.state = State::Registered;
                self.step(None, Some(self.refresh_at_ms))
            }
        }
    }

    fn challenged(&mut self, ask: Ask, reply: &Reply, now_ms: u64) -> Step {
        if let Some(challenge) = &reply.challenge {
            self.client.take_challenge(challenge.clone());
        }
        self.challenges += 1;
        if self.challenges > MAX_CHALLENGES {
            self.challenges = 0;
            return self.wait(ask, 2_000, now_ms);
        }
        self.ask(ask, now_ms)
    }

    /// How long to wait after a refusal.
    fn patience_ms(&mut self, reply: &Reply) -> u64 {
        match (reply.status, reply.retry_after_s) {
            (_, Some(seconds)) => u64::from(seconds) * 1_000 + self.dice.below(1_000),
            (400, None) => self.dice.between((300, 1_000)),
            (403 | 404, None) => self.dice.between((4_000, 8_000)),
            _ => self.dice.between((1_000, 4_000)),
        }
    }

    /// After a failure: once more later, but nobody leaves or asks for ever.
    fn retry(&mut self, ask: Ask, after_ms: u64, now_ms: u64) -> Step {
        self.challenges = 0;
        match ask {
            Ask::Bind { .. } => self.wait(self.binding(), after_ms, now_ms),
            Ask::Query => {
                self.state = State::Registered;
                self.step(None, Some(self.refresh_at_ms.max(now_ms + 1)))
            }
            Ask::Unbind | Ask::UnbindAll => {
                self.unbinds += 1;
                if self.unbinds >= MAX_UNBINDS {
                    self.state = State::Off;
                    return self.step(None, None);
                }
                self.wait(ask, after_ms, now_ms)
            }
        }
    }

    fn wait(&mut self, ask: Ask, after_ms: u64, now_ms: u64) -> Step {
        self.state = State::Waiting(ask);
        self.step(None, Some(now_ms + after_ms))
    }

    fn binding(&self) -> Ask {
        Ask::Bind { expires_s: self.plan.expires_s, in_contact: self.plan.in_contact }
    }

    fn bind(&mut self, now_ms: u64) -> Step {
        self.challenges = 0;
        self.ask(self.binding(), now_ms)
    }

    fn ask(&mut self, ask: Ask, now_ms: u64) -> Step {
        self.requests += 1;
        let branch = (self.number + 1) << 32 | self.requests;
        let bytes = self.client.register(ask, branch);
        let request =
            Request { ask, branch, bytes: bytes.clone(), first_sent_ms: now_ms, interval_ms: T1_MS };
        self.state = State::Asking(request);
        self.step(Some(Message { branch, bytes, new: Some(ask) }), Some(now_ms + T1_MS))
    }

    fn step(&mut self, message: Option<Message>, wake_ms: Option<u64>) -> Step {
        self.generation += 1;
        Step { message, wake: wake_ms.map(|at_ms| (at_ms, self.generation)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn phone() -> Phone {
        let plan = Scenario::draw(&mut Dice::new(1)).phones.remove(0);
        Phone::new(0, PhonePlan { habit: Habit::FiveBefore, ..plan }, Dice::new(2))
    }

    fn reply(phone: &Phone, branch: u64, status: u16, expires_s: u32) -> Reply {
        let contact = phone.client.contact.clone().into_bytes();
        Reply {
            status,
            reason: String::new(),
            branch,
            call_id: phone.client.call_id.clone(),
            cseq: phone.client.cseq,
            contacts: vec![crate::client::Listed { contact, expires_s }],
            challenge: crate::client::Challenge::parse(b"Digest realm=\"r\", nonce=\"n\""),
            retry_after_s: None,
            error: None,
        }
    }

    #[test]
    fn it_retransmits_by_timer_e_and_gives_up_after_32_s() {
        let mut phone = phone();
        let mut step = phone.switch_on(0);
        let mut sent = Vec::new();
        loop {
            let (at_ms, generation) = step.wake.unwrap();
            step = phone.wake(generation, at_ms);
            match &step.message {
                Some(message) => sent.push((at_ms, message.new)),
                None => break,
            }
        }
        let times: Vec<u64> = sent.iter().map(|(at_ms, _)| *at_ms).collect();
        assert_eq!(times[..5], [500, 1_500, 3_500, 7_500, 11_500]);
        assert!(*times.last().unwrap() < GIVE_UP_MS && sent.iter().all(|(_, new)| new.is_none()));
        assert!(step.wake.unwrap().0 > GIVE_UP_MS);
    }

    #[test]
    fn it_answers_a_challenge_and_refreshes_five_seconds_before_the_end() {
        let mut phone = phone();
        let first = phone.switch_on(0).message.unwrap();
        let second = phone.receive(&reply(&phone, first.branch, 401, 0), 100).message.unwrap();
        assert_ne!(first.branch, second.branch);
        assert!(second.bytes.windows(15).any(|text| text == b"Authorization: "));
        assert!(phone.receive(&reply(&phone, first.branch, 200, 60), 150).wake.is_none());
        let step = phone.receive(&reply(&phone, second.branch, 200, 60), 200);
        assert_eq!(step.wake.unwrap().0, 200 + 55_000);
        assert_eq!(phone.held.unwrap().until_ms, 100 + 60_000);
    }

    #[test]
    fn it_leaves_when_it_may_and_returns_when_it_must() {
        let mut phone = phone();
        let first = phone.switch_on(0).message.unwrap();
        phone.receive(&reply(&phone, first.branch, 200, 60), 10);
        let leaving = phone.unregister(20).message.unwrap();
        assert!(!phone.is_live() && phone.held.is_none());
        phone.receive(&reply(&phone, leaving.branch, 200, 60), 30);
        assert!(phone.query(40).message.is_none());
        assert!(phone.switch_on(50).message.is_some() && phone.is_live());
        phone.fall_silent(true);
        assert!(
            phone.switch_on(60).message.is_none()
                && phone.move_to(phone.source, None, true, 60).wake.is_none()
        );
    }
}
