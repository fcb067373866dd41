//! What is done over and over, and which operation a datagram or a timer belongs to.

use memchr::memmem;

use crate::call::Calls;
use crate::context::Context;
use crate::ping::{Ping, RAW};
use crate::register::Register;
use crate::tally::Outcome;
use crate::template::Id;
use crate::timers::{Fired, Side};

pub(crate) enum Scenario {
    Register(Register),
    Calls(Calls),
    Ping(Ping),
}

impl Scenario {
    /// Starts the nth operation in a slot; false when it cannot begin yet.
    pub(crate) fn start(&mut self, context: &mut Context, slot: u32, nth: u64) -> bool {
        match self {
            Scenario::Register(register) => return register.start(context, slot, nth),
            Scenario::Calls(calls) => calls.start(context, slot, nth),
            Scenario::Ping(ping) => ping.start(context, slot),
        }
        true
    }

    /// Takes a datagram that came to one of our sockets.
    pub(crate) fn handle_datagram(&mut self, context: &mut Context, socket: u32, message: &[u8]) {
        context.tally.received += 1;
        let is_ours = match Answer::read(message) {
            Some(answer) => self.handle_answer(context, &answer, message),
            None => match self {
                Scenario::Calls(calls) => calls.handle_request(context, socket, message),
                _ => false,
            },
        };
        if !is_ours {
            context.tally.strays += 1;
        }
    }

    fn handle_answer(&mut self, context: &mut Context, answer: &Answer, message: &[u8]) -> bool {
        let Answer { id, code } = *answer;
        let is_ours = match self {
            Scenario::Calls(calls) => calls.handle_answer(context, id, code, message),
            _ if !context.is_current(id) => false,
            Scenario::Register(register) => {
                register.handle_answer(context, id, code, message);
                true
            }
            Scenario::Ping(ping) => {
                ping.handle_answer(context, id, code);
                true
            }
        };
        if is_ours {
            context.tally.answer(code);
        }
        is_ours
    }

    /// Takes a timer that fired: void, or time to repeat, or time to give up.
    pub(crate) fn handle_timer(&mut self, context: &mut Context, fired: Fired) {
        let timer = fired.timer;
        let id = Id { kind: 0, slot: timer.slot, generation: timer.generation, run: context.run };
        let is_void = match (&*self, timer.side) {
            (Scenario::Calls(calls), Side::Callee) => {
                !context.is_busy(id) || !calls.awaits_ack(timer.slot, timer.generation)
            }
            _ => !context.is_current(id),
        };
        if is_void {
            return;
        }
        let Some(step) = fired.next else {
            if timer.side == Side::Client {
                self.give_up(context, timer.slot);
            }
            return;
        };
        match self {
            Scenario::Register(register) => register.retransmit(context, id),
            Scenario::Calls(calls) => calls.retransmit(context, timer.slot, timer.side),
            Scenario::Ping(ping) => ping.retransmit(context, timer.slot),
        }
        context.timers.start(context.now_ns, step, timer);
    }

    fn give_up(&mut self, context: &mut Context, slot: u32) {
        match self {
            Scenario::Register(register) => register.give_up(context, slot),
            Scenario::Calls(_) | Scenario::Ping(_) => context.end(slot, Outcome::TimedOut),
        }
    }
}

/// An answer to a request of ours, as far as it is needed to find that request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer {
    id: Id,
    code: u16,
}

impl Answer {
    /// The topmost Via of an answer is our own, so the first branch in it is ours; the echo's datagrams begin with
    /// their id. None for anything else.
    fn read(message: &[u8]) -> Option<Answer> {
        let Some(rest) = message.strip_prefix(b"SIP/2.0 ") else {
            return Id::parse(message).filter(|id| id.kind == RAW).map(|id| Answer { id, code: 200 });
        };
        let code = std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()?;
        let cookie = b"branch=z9hG4bK";
        let at = memmem::find(rest, cookie)?;
        Some(Answer { id: Id::parse(&rest[at + cookie.len()..])?, code })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_found_by_their_branch() {
        let id = Id { kind: b'r', slot: 1, generation: 2, run: 3 };
        let mut message =
            b"SIP/2.0 401 Unauthorized\r\nv: SIP/2.0/UDP 1.1.1.1;rport=5;branch=z9hG4bK".to_vec();
        id.push(&mut message);
        message.extend(b"\r\n\r\n");
        assert_eq!(Answer::read(&message), Some(Answer { id, code: 401 }));
        assert_eq!(
            Answer::read(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 1.1.1.1;branch=z9hG4bKother\r\n\r\n"),
            None
        );
        assert_eq!(Answer::read(b"OPTIONS sip:1@1.1.1.1 SIP/2.0\r\n\r\n"), None);
    }
}
