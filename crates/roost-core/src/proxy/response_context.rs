//! Forking: which of several answers the caller gets (RFC 3261 16.7 step 6).

use roost_sip::{Head, HeaderName};

use crate::base::flow::{Now, Ticket};
use crate::base::stats::Counter;
use crate::contract::listener::no_way;
use crate::contract::outbox::Outbox;
use crate::engine::Engine;
use crate::message::forward::write_response;
use crate::message::response::Answer;
use crate::proxy::proxy::unresolvable;
use crate::transaction::client::ELSEWHERE;
use crate::transaction::machines::ServerEvent;

/// The best failure so far.
#[derive(Debug)]
pub(crate) struct Best {
    code: u16,
    /// The response without our Via; none where it is our own.
    bytes: Option<Box<[u8]>>,
    /// The challenges of all other branches, as header lines.
    challenges: Vec<u8>,
}

impl Engine {
    /// Notes that a branch has failed (with a response, or by silence), and answers once all have.
    pub(crate) fn count_failure(
        &mut self,
        ticket: Ticket,
        index: u16,
        response: Option<(u16, &[u8], &Head)>,
        now: Now,
        out: &mut Outbox,
    ) {
        if !self.count_once(ticket, index) {
            return;
        }
        let Some(transaction) = self.transactions.get_mut(ticket) else { return };
        let silent = if transaction.is_cancelled { 487 } else { 408 };
        let code = response.map_or(silent, |(code, ..)| code);
        self.note_failure(ticket, code, response.map(|(_, bytes, head)| (bytes, head)));
        if response.is_none() {
            self.heard_of_branch(ticket, index, None, out);
        }
        let rest = self.left_to_try(ticket, index, response.map(|(code, ..)| code));
        if !rest.is_empty() {
            return self.try_rest(ticket, rest, None, now, out);
        }
        if code >= 600 {
            self.cancel_others(ticket, index, ELSEWHERE, now, out);
        }
        self.settle(ticket, now, out);
    }

    /// Answers the caller once nothing is open and nothing is left to try.
    pub(crate) fn settle(&mut self, ticket: Ticket, now: Now, out: &mut Outbox) {
        if !self.is_any_open(ticket) && !self.try_later(ticket, now, out) {
            self.answer_best(ticket, now, out);
        }
    }

    /// Keeps a failure if it is the best so far; one without a response is our own.
    pub(crate) fn note_failure(&mut self, ticket: Ticket, code: u16, response: Option<(&[u8], &Head)>) {
        let Some(transaction) = self.transactions.get_mut(ticket) else { return };
        let old = transaction.best.take();
        let is_better = old.as_ref().is_none_or(|old| rank(code) < rank(old.code));
        let best = match (is_better, old) {
            (false, Some(mut old)) => {
                if let (401 | 407, Some((bytes, head))) = (code, response) {
                    copy_challenges(head, bytes, &mut old.challenges);
                }
                old
            }
            _ => {
                let transport = self.transport_upstream(ticket);
                let bytes = response.map(|(bytes, head)| {
                    let mut text = Vec::with_capacity(bytes.len());
                    // A 503 speaks of one server only: the caller is told 500 (16.7 step 6).
                    let status = (code == 503).then_some(500);
                    write_response(head, bytes, status, transport, &mut text);
                    text.into_boxed_slice()
                });
                // The response itself has this branch's own challenges; what is better than another's has none.
                Best { code, bytes, challenges: Vec::new() }
            }
        };
        if let Some(transaction) = self.transactions.get_mut(ticket) {
            transaction.best = Some(best);
        }
    }

    fn answer_best(&mut self, ticket: Ticket, now: Now, out: &mut Outbox) {
        let Some(transaction) = self.transactions.get_mut(ticket) else { return };
        if !transaction.server.is_open() {
            return;
        }
        let is_cancelled = transaction.is_cancelled;
        match transaction.best.take() {
            Some(Best { code, bytes: Some(bytes), challenges }) => {
                let mut response = bytes.into_vec();
                if matches!(code, 401 | 407) && !challenges.is_empty() {
                    let end =
                        response.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 2);
                    response.splice(end..end, challenges);
                }
                self.stats.count(Counter::RelayedReplies);
                self.send_upstream(ticket, ServerEvent::Failure, &response, out, now);
            }
            Some(Best { code: 476, .. }) if !is_cancelled => self.respond(ticket, unresolvable(), now, out),
            Some(Best { code: 477, .. }) if !is_cancelled => {
                self.respond(ticket, no_way("no connection could be made"), now, out);
            }
            Some(Best { code: 480, .. }) if !is_cancelled => {
                let answer = Answer::new(480, "Temporarily Unavailable");
                self.respond(ticket, answer.why("the callee's connection is lost"), now, out);
            }
            None if !is_cancelled => {}
            None | Some(Best { code: 476 | 477 | 480 | 487, .. }) => {
                self.respond(
                    ticket,
                    Answer::new(487, "Request Terminated").why("cancelled, and no answer"),
                    now,
                    out,
                );
            }
            Some(_) => {
                self.respond(ticket, Answer::new(408, "Request Timeout").why("no answer"), now, out);
            }
        }
    }
}

fn copy_challenges(head: &Head, bytes: &[u8], out: &mut Vec<u8>) {
    for line in head.lines() {
        if matches!(line.name, HeaderName::WwwAuthenticate | HeaderName::ProxyAuthenticate) {
            out.extend_from_slice(line.whole.of(bytes));
        }
    }
}

/// Lower is better: 6xx, then the lowest class; in 4xx those that the caller can act on first, silence last.
fn rank(code: u16) -> (u16, u16) {
    match code {
        600.. => (0, 0),
        401 | 407 | 415 | 420 | 484 => (4, 0),
        408 | 480 => (4, 2),
        // A name that leads nowhere: whatever anybody answered says more.
        476 | 477 => (9, 0),
        _ => (code / 100, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_several() {
        let best = |codes: &[u16]| codes.iter().copied().min_by_key(|code| rank(*code)).unwrap();
        assert_eq!(best(&[486, 603, 302]), 603);
        assert_eq!(best(&[486, 302, 500]), 302);
        assert_eq!(best(&[486, 407, 404]), 407);
        assert_eq!(best(&[408, 486]), 486);
        assert_eq!(best(&[503, 408]), 408);
        assert_eq!(best(&[486, 404]), 486, "the first of equals");
    }
}
