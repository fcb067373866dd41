//! Calls in the simulated world: who calls, what reaches whom, and what the engines make of it.

use std::net::SocketAddr;

use roost_core::{Flow, Mark, ShardId};

use crate::call_message::Message;
use crate::call_phone::{Acts, Alarm, CallPhone, CallPlan};
use crate::harness::statistic;
use crate::scenario::{HEAL_MS, SERVER};
use crate::world::{Event, World};

/// The longest way through the network: no message of a transaction is older than RFC 3261's T4.
const LONGEST_MS: u64 = 3_000;

impl World {
    /// Somebody calls, if its phone is registered.
    pub(crate) fn call(&mut self, place: usize, plan: CallPlan) -> Result<(), String> {
        let phone = &self.phones[place];
        if self.is_over || self.callers[place].is_deaf || !phone.is_registered(self.now_ms) {
            return Ok(());
        }
        self.note(|| format!("phone {place}: {plan:?}"));
        let callee = plan.callee.clone();
        self.move_caller(place, Some(&callee), |phone, now_ms, acts| phone.call(plan, now_ms, acts))
    }

    pub(crate) fn alarm(&mut self, place: usize, life: u64, alarm: Alarm) -> Result<(), String> {
        if self.callers[place].life != life {
            return Ok(());
        }
        self.move_caller(place, None, |phone, now_ms, acts| phone.wake(alarm, now_ms, acts))
    }

    /// Lets a phone do something and carries out what it wants; `callee` is whom its new INVITE is for.
    fn move_caller(
        &mut self,
        place: usize,
        callee: Option<&[u8]>,
        action: impl FnOnce(&mut CallPhone, u64, &mut Acts),
    ) -> Result<(), String> {
        let mut acts = Acts::default();
        let caller = &mut self.callers[place];
        action(caller, self.now_ms, &mut acts);
        let life = caller.life;
        for (at_ms, alarm) in acts.alarms {
            self.queue.push(at_ms, Event::Alarm { phone: place, life, alarm });
        }
        for plan in acts.calls {
            self.queue.push(self.now_ms, Event::Call { phone: place, plan });
        }
        let from = self.phones[place].source;
        for bytes in acts.messages {
            let Some(message) = Message::parse(&mut self.head, &bytes) else {
                return Err(format!("a phone wrote: {}", String::from_utf8_lossy(&bytes)));
            };
            if let Some(callee) = callee {
                self.call_checks.calls(&self.phones[place].plan.aor, callee, &message);
            }
            self.call_checks.sent(&message);
            for delay_ms in self.network.copies() {
                let event = Event::Arrive { from, branch: None, bytes: bytes.clone() };
                self.queue.push(self.now_ms + delay_ms.min(LONGEST_MS), event);
            }
        }
        Ok(())
    }

    /// A datagram of a call reaches a phone.
    pub(crate) fn deliver_call(&mut self, place: usize, bytes: &[u8]) -> Result<(), String> {
        let Some(message) = Message::parse(&mut self.head, bytes) else { return Ok(()) };
        self.call_checks.delivered(&message);
        self.note(|| format!("phone {place} gets {message}"));
        self.move_caller(place, None, |phone, now_ms, acts| phone.receive(&message, now_ms, acts))
    }

    /// Gives a message of a call to a shard, from the network or (with a mark) from another shard; the shards before have
    /// sent so many because of it.
    pub(crate) fn feed_call(
        &mut self,
        shard: ShardId,
        from: SocketAddr,
        bytes: &[u8],
        mark: Option<Mark>,
        caused: usize,
    ) -> Result<(), String> {
        let Some(message) = Message::parse(&mut self.head, bytes) else {
            return Err("a message that its sender could read, and the server cannot".to_string());
        };
        self.note(|| format!("{from} -> shard {} ({mark:?}): {message}", shard.0));
        if mark.is_none() {
            self.call_checks.arrived(from, &message, self.now_ms);
        }
        self.caused = caused;
        let handed_over = self.handed_over;
        let flow = Flow::udp(SERVER, from);
        self.give(shard, flow, bytes, mark)?;
        self.caused = 0;
        if self.handed_over > handed_over {
            return Ok(());
        }
        self.call_checks.caused(self.now_ms, &message, caused + self.sent.len(), &self.model)?;
        self.call_checks.handled(self.now_ms, &message, &self.sent)?;
        self.calls_agree()
    }

    /// An engine sends a message of a call.
    pub(crate) fn transmit_call(&mut self, to: SocketAddr, bytes: &[u8]) -> Result<(), String> {
        let Some(message) = Message::parse(&mut self.head, bytes) else {
            return Err(format!("sent what is not a message: {}", String::from_utf8_lossy(bytes)));
        };
        if self.options.swallows_answers && !message.is_request() && message.is_answer() {
            return Ok(());
        }
        self.trace.add(self.now_ms, to, bytes);
        self.note(|| format!("{to} <- {message}"));
        self.call_checks.transmitted(self.now_ms, to, &message, bytes, &self.model)?;
        for delay_ms in self.network.copies() {
            self.queue
                .push(self.now_ms + delay_ms.min(LONGEST_MS), Event::Deliver { to, bytes: bytes.to_vec() });
        }
        self.sent.push((to, message));
        Ok(())
    }

    /// The engines' tables of calls have the calls that there are, once all shards know what each knows.
    pub(crate) fn calls_agree(&self) -> Result<(), String> {
        // Where the checks are deceived about who may call, there are other calls than they know.
        let is_known = self.news_under_way == 0 && !self.options.lets_anybody_call;
        let Some(server) = self.server.as_ref().filter(|_| is_known) else { return Ok(()) };
        let calls = server.engines.iter().map(roost_core::Engine::calls);
        let (early, active) = calls.fold((0, 0), |sum, calls| (sum.0 + calls.0, sum.1 + calls.1));
        self.call_checks.in_progress(early, active, self.now_ms)
    }

    /// Long after the last call: nobody rings, and no caller waits for an answer that it is owed.
    pub(crate) fn calls_are_over(&self) -> Result<(), String> {
        self.call_checks.each_is_final()?;
        for (phone, caller) in self.phones.iter().zip(&self.callers) {
            caller.ringing().try_for_each(|branch| self.call_checks.rings(phone.source, branch))?;
            caller.waiting().try_for_each(|branch| self.call_checks.waits(branch, HEAL_MS))?;
        }
        Ok(())
    }

    /// A statistic that counts what there is has come to 0 in all shards.
    pub(crate) fn is_gone(&mut self, name: &str) -> Result<(), String> {
        let now = self.now();
        let Some(server) = &mut self.server else { return Ok(()) };
        let mut engines = server.engines.iter_mut().enumerate();
        match engines.find_map(|(shard, engine)| {
            Some((shard, statistic(engine, name, now))).filter(|(_, left)| *left != 0)
        }) {
            Some((shard, left)) => Err(format!("{name} of shard {shard} is {left} at the end")),
            None => Ok(()),
        }
    }
}
