//! Transactions by themselves: their timers, their retransmissions, and what their owner hears.

use std::net::SocketAddr;

use roost_sip::Head;

use super::*;
use crate::base::stats::Counter;
use crate::contract::context::TestShard;
use crate::message::branch_id::BranchId;
use crate::message::response::Response;
use crate::transaction::client::{Going, NO_ANSWER, ORIGINATOR_CANCEL, What};
use crate::transaction::timers::{LINGER_MS, T1_MS};

const CALLER: &str = "10.0.0.9:5062";
const CALLEE: &str = "10.0.0.7:5062";

fn flow(remote: &str) -> Flow {
    let remote: SocketAddr = remote.parse().unwrap();
    Flow::udp("10.0.0.1:5060".parse().unwrap(), remote)
}

fn invite() -> String {
    format!(
        "INVITE sip:9002@a.test SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bKa;rport\r\n\
         From: <sip:9001@a.test>;tag=f\r\nTo: <sip:9002@a.test>\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

struct Lab {
    shard: TestShard,
    transactions: Transactions<&'static str>,
    ticket: Ticket,
    /// The branch of the INVITE that was sent on.
    id: Option<BranchId>,
}

impl Lab {
    /// An INVITE that was sent on to one callee.
    fn calling() -> Lab {
        let mut lab = Lab {
            shard: TestShard::new(),
            transactions: Transactions::new(1, 0),
            ticket: Ticket(0),
            id: None,
        };
        lab.with_invite(|lab, request| {
            let ctx = &mut lab.shard.ctx();
            lab.ticket = lab.transactions.open(ctx, request, "the caller's").unwrap();
            let id = &mut lab.id;
            lab.transactions.open_client(
                ctx,
                lab.ticket,
                Going { flow: flow(CALLEE), routing: 7, ring_s: 0 },
                |branch, out| {
                    *id = Some(branch);
                    out.extend_from_slice(invite().as_bytes());
                },
            );
        });
        assert_eq!(lab.shard.lines(), ["SIP/2.0 100 Giving a try", "INVITE sip:9002@a.test SIP/2.0"]);
        lab
    }

    fn with_invite<T>(&mut self, then: impl FnOnce(&mut Lab, &Request<'_>) -> T) -> T {
        let text = invite();
        let mut head = Head::new();
        head.parse(text.as_bytes()).unwrap();
        let request =
            Request::new(&crate::contract::policy::Policy::default(), flow(CALLER), text.as_bytes(), &head)
                .unwrap();
        then(self, &request)
    }

    /// A response of the callee to a method.
    fn hear(&mut self, code: u16, method: &str) -> Option<What> {
        let id = self.id.unwrap();
        self.hear_at(id, code, method)
    }

    fn hear_at(&mut self, id: BranchId, code: u16, method: &str) -> Option<What> {
        let text = format!(
            "SIP/2.0 {code} Said\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKx\r\nFrom: <sip:9001@a.test>;tag=f\r\n\
             To: <sip:9002@a.test>;tag=t\r\nCall-ID: a\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
        );
        let mut head = Head::new();
        head.parse(text.as_bytes()).unwrap();
        let ctx = &mut self.shard.ctx();
        let message = (text.as_bytes(), &*head);
        let outcome = self.transactions.handle_response(ctx, id, &flow(CALLEE), code, message)?;
        assert_eq!((outcome.transaction, outcome.index), (self.ticket, 0));
        Some(outcome.what)
    }

    /// Time passes; what the owner hears.
    fn wait(&mut self, ms: u64) -> Vec<What> {
        let end_ms = self.shard.now.mono_ms + ms;
        let mut heard = Vec::new();
        while let Some(due_ms) = self.transactions.next_due().filter(|due_ms| *due_ms <= end_ms) {
            self.shard.now.mono_ms = self.shard.now.mono_ms.max(due_ms);
            while let Some(alarm) = self.transactions.pop_alarm(due_ms) {
                let outcome = self.transactions.handle_alarm(&mut self.shard.ctx(), alarm);
                heard.extend(outcome.map(|outcome| outcome.what));
                self.transactions.close_if_done(alarm.transaction);
            }
        }
        self.shard.now.mono_ms = end_ms;
        heard
    }

    fn respond(&mut self, code: u16) {
        let response = Response { code, ..Response::ok("Said") };
        self.transactions.respond(&mut self.shard.ctx(), self.ticket, &response);
    }
}

#[test]
fn an_invite_is_sent_again_until_it_is_heard() {
    let mut lab = Lab::calling();
    lab.wait(T1_MS - 1);
    assert!(lab.shard.lines().is_empty());
    lab.wait(1);
    assert_eq!(lab.shard.lines(), ["INVITE sip:9002@a.test SIP/2.0"]);
    assert_eq!(lab.hear(180, "INVITE"), Some(What::Provisional(180)));
    lab.wait(10_000);
    assert!(lab.shard.lines().is_empty(), "it rings");
}

#[test]
fn a_failure_is_acknowledged_once_for_each_time_that_it_comes() {
    let mut lab = Lab::calling();
    assert_eq!(lab.hear(486, "INVITE"), Some(What::Failure(486)));
    assert_eq!(lab.shard.lines(), ["ACK sip:9002@a.test SIP/2.0"]);
    assert_eq!(lab.hear(486, "INVITE"), None, "the owner has heard it");
    assert_eq!(lab.shard.lines(), ["ACK sip:9002@a.test SIP/2.0"]);
}

#[test]
fn a_refusal_is_repeated_until_its_ack_and_then_forgotten() {
    let mut lab = Lab::calling();
    lab.hear(486, "INVITE");
    lab.shard.sent();
    lab.respond(486);
    assert_eq!(lab.shard.lines(), ["SIP/2.0 486 Said"]);
    lab.wait(3 * T1_MS);
    assert_eq!(lab.shard.lines().len(), 2, "timer G doubles");
    let found = lab.with_invite(|lab, request| lab.transactions.find(&mut lab.shard.ctx(), request));
    assert_eq!(found, Some(lab.ticket));
    lab.transactions.absorb(&mut lab.shard.ctx(), lab.ticket);
    assert_eq!(lab.shard.lines(), ["SIP/2.0 486 Said"], "the INVITE came again");
    assert!(!lab.transactions.acknowledge(&lab.shard.ctx(), lab.ticket));
    lab.wait(LINGER_MS + 10_000);
    assert_eq!((lab.transactions.len(), lab.transactions.held()), (0, 0));
    assert!(lab.shard.lines().is_empty(), "it was acknowledged");
}

#[test]
fn only_who_was_asked_can_answer() {
    let mut lab = Lab::calling();
    let id = lab.id.unwrap();
    let others = [
        BranchId { secret: id.secret ^ 1, ..id },
        BranchId { index: 1, ..id },
        BranchId { transaction: Ticket(id.transaction.0 + 1), ..id },
    ];
    for other in others {
        assert_eq!(lab.hear_at(other, 200, "INVITE"), None);
    }
    assert_eq!(lab.hear(200, "MESSAGE"), None, "another method");
    assert_eq!(lab.hear(200, "CANCEL"), None, "nothing was cancelled");
    assert_eq!(lab.shard.stats.get(Counter::DropReplies), 5);
    assert_eq!(lab.hear(200, "INVITE"), Some(What::Success { is_first: true }));
    assert_eq!(lab.hear(200, "INVITE"), Some(What::Success { is_first: false }));
}

#[test]
fn a_cancel_waits_until_the_callee_was_heard() {
    let mut lab = Lab::calling();
    let is_cancelled = lab.transactions.cancel(&mut lab.shard.ctx(), lab.ticket, 0, ORIGINATOR_CANCEL);
    assert!(is_cancelled && lab.shard.lines().is_empty());
    lab.hear(180, "INVITE");
    assert_eq!(lab.shard.lines(), ["CANCEL sip:9002@a.test SIP/2.0"]);
    lab.wait(T1_MS);
    assert_eq!(lab.shard.lines(), ["CANCEL sip:9002@a.test SIP/2.0"], "until it is answered");
    assert_eq!(lab.hear(200, "CANCEL"), None);
    lab.wait(5_000);
    assert!(lab.shard.lines().is_empty());
    assert_eq!(lab.hear(487, "INVITE"), Some(What::Failure(487)));
    assert!(!lab.transactions.cancel(&mut lab.shard.ctx(), lab.ticket, 0, NO_ANSWER), "it is over");
}

#[test]
fn a_callee_that_is_silent_is_given_up_and_silenced_later() {
    let mut lab = Lab::calling();
    let fr_ms = u64::from(lab.shard.policy.tm.fr_timeout_s) * 1_000;
    assert_eq!(lab.wait(fr_ms - 1), []);
    assert_eq!(lab.wait(1), [What::Silence]);
    lab.shard.sent();
    assert_eq!(lab.hear(180, "INVITE"), Some(What::Provisional(180)));
    let sent = lab.shard.sent();
    assert!(
        matches!(&sent[..], [(_, text)] if text.starts_with("CANCEL") && text.contains("cause=480;text=\"NO_ANSWER\"")),
        "{sent:?}"
    );
}

#[test]
fn a_failure_after_silence_is_told_as_late() {
    let mut lab = Lab::calling();
    let fr_ms = u64::from(lab.shard.policy.tm.fr_timeout_s) * 1_000;
    assert_eq!(lab.wait(fr_ms), [What::Silence]);
    assert_eq!(lab.hear(404, "INVITE"), Some(What::Late(404)));
}

#[test]
fn a_ringing_that_was_prolonged_ends_although_replies_restart_nothing_any_more() {
    let mut lab = Lab::calling();
    let inv_ms = u64::from(lab.shard.policy.tm.fr_inv_timeout_s) * 1_000;
    lab.shard.policy.tm.restart_fr_on_each_reply = true;
    lab.hear(180, "INVITE");
    lab.wait(10_000);
    lab.hear(180, "INVITE");
    lab.shard.policy.tm.restart_fr_on_each_reply = false;
    assert_eq!(lab.wait(inv_ms - 1), []);
    assert!(lab.wait(LINGER_MS).contains(&What::Silence));
}

#[test]
fn a_request_of_roost_s_own_ends_by_itself() {
    let mut lab = Lab::calling();
    let mut id = None;
    let own = lab.transactions.open_own(
        &mut lab.shard.ctx(),
        "roost's own",
        (Method::Options, flow(CALLEE)),
        1_000,
        |branch, out| {
            id = Some(branch);
            out.extend_from_slice(b"OPTIONS sip:10.0.0.7 SIP/2.0\r\n\r\n");
        },
    );
    assert_eq!(lab.transactions.owner(own), Some(&"roost's own"));
    lab.shard.sent();
    let unsent = lab.transactions.client_unsent(id.unwrap(), 503).unwrap();
    assert_eq!((unsent.transaction, unsent.what), (own, What::Unsent(503)));
    assert_eq!(lab.transactions.client_unsent(id.unwrap(), 503), None, "it is told once");
    lab.transactions.close_if_done(own);
    assert!(lab.transactions.owner(own).is_none());
    assert_eq!(lab.transactions.len(), 1);
}
