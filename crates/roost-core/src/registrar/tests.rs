//! The registrar by itself: what a REGISTER changes, when, and what its phone hears.

use std::net::SocketAddr;

use roost_sip::Head;

use super::*;
use crate::base::flow::Ticket;
use crate::contract::command::CommitOutcome;
use crate::contract::context::TestShard;
use crate::contract::event::Listening;
use crate::contract::identity::Widths;
use crate::contract::row::Write;

const PHONE: &str = "10.0.0.9:5062";

struct Lab {
    shard: TestShard,
    registrar: Registrar,
}

impl Lab {
    fn new(change: impl FnOnce(&mut TestShard)) -> Lab {
        let mut shard = TestShard::new();
        shard.policy.registrar.add_date = false;
        change(&mut shard);
        let registrar = Registrar::new(&shard.identity, ShardId(0), 0);
        Lab { shard, registrar }
    }

    fn register(&mut self, from: &str, call_id: &str, cseq: u32, contact: &str) -> Saved {
        let text = format!(
            "REGISTER sip:a.test SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{call_id}{cseq};rport\r\n\
             From: <sip:9001@a.test>;tag=f\r\nTo: <sip:9001@a.test>\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} REGISTER\r\nContact: {contact}\r\nContent-Length: 0\r\n\r\n"
        );
        let mut head = Head::new();
        head.parse(text.as_bytes()).unwrap();
        let from: SocketAddr = from.parse().unwrap();
        let flow = Flow::udp("10.0.0.1:5060".parse().unwrap(), from);
        let request = Request::new(&self.shard.policy, flow, text.as_bytes(), &head).unwrap();
        self.registrar.save(&mut self.shard.ctx(), &request)
    }

    /// The commit that was asked for.
    fn commit(&mut self) -> (Ticket, Vec<Write>) {
        match self.shard.out.commands.pop() {
            Some(Command::Commit { ticket, writes, .. }) => (ticket, writes),
            other => panic!("{other:?}"),
        }
    }

    fn settle(&mut self, ticket: Ticket, outcome: CommitOutcome) {
        self.registrar.settle(&mut self.shard.ctx(), ticket, outcome);
    }

    fn contacts(&self) -> Vec<String> {
        let found = self.registrar.lookup(b"9001", self.shard.now);
        found.into_iter().map(|contact| String::from_utf8(contact).unwrap()).collect()
    }
}

#[test]
fn a_200_waits_for_its_commit() {
    let mut lab = Lab::new(|_| {});
    assert!(matches!(lab.register(PHONE, "a", 1, "<sip:9001@10.0.0.9>"), Saved::Done));
    let (ticket, writes) = lab.commit();
    assert_eq!((lab.shard.lines(), lab.contacts(), writes.len()), (vec![], vec![], 1));
    lab.settle(ticket, CommitOutcome::Committed);
    assert_eq!(lab.shard.lines(), ["SIP/2.0 200 OK"]);
    assert_eq!(lab.contacts(), ["sip:9001@10.0.0.9"]);
    assert!(lab.registrar.is_idle());
    // A receipt that comes twice changes nothing.
    lab.settle(ticket, CommitOutcome::Failed("again".to_string()));
    assert_eq!((lab.shard.lines().len(), lab.contacts().len()), (0, 1));
}

#[test]
fn a_commit_that_fails_changes_nothing_and_is_told_again() {
    let mut lab = Lab::new(|shard| shard.out.listening = Listening::to_all());
    lab.register(PHONE, "a", 1, "<sip:9001@10.0.0.9>");
    let (ticket, _) = lab.commit();
    lab.settle(ticket, CommitOutcome::Failed("the disk is full".to_string()));
    assert_eq!(lab.shard.lines(), ["SIP/2.0 500 Server Internal Error"]);
    assert!(lab.contacts().is_empty());
    assert!(matches!(&lab.shard.out.events[..], [Event::CommitFailed { aor }] if &**aor == b"9001"));
    // The database may have it after all: it is told to forget it.
    lab.registrar.repair(&mut lab.shard.ctx());
    let (_, writes) = lab.commit();
    assert!(matches!(&writes[..], [Write::Remove { .. }]), "{writes:?}");
}

#[test]
fn one_commit_of_an_aor_is_under_way() {
    let mut lab = Lab::new(|_| {});
    lab.register(PHONE, "a", 1, "<sip:9001@10.0.0.9>");
    let (ticket, _) = lab.commit();
    assert!(matches!(lab.register(PHONE, "a", 1, "<sip:9001@10.0.0.9>"), Saved::Done), "a retransmission");
    assert!(lab.shard.out.commands.is_empty());
    match lab.register(PHONE, "a", 2, "<sip:9001@10.0.0.9>") {
        Saved::Behind { commit, .. } => assert_eq!(commit, ticket),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_registers_from_another_address_finds_it_occupied() {
    let mut lab = Lab::new(|shard| {
        shard.identity.write_through = false;
        shard.policy.registrar.exclusive_ip = true;
    });
    lab.register(PHONE, "a", 1, "<sip:9001@desk.local>");
    match lab.register("10.0.0.7:5062", "b", 1, "<sip:9001@10.0.0.7>") {
        Saved::Refused(response, _) => assert_eq!(response.reason, Some(Reason::Occupied)),
        other => panic!("{other:?}"),
    }
    // Another phone at the same address, such as a reboot's.
    let saved = lab.register("10.0.0.9:6000", "c", 1, "<sip:9001@10.0.0.9:6000>");
    assert!(matches!(saved, Saved::Done), "{saved:?}");
    assert_eq!(lab.contacts(), ["sip:9001@10.0.0.9:6000"], "one contact is kept");
}

#[test]
fn what_expires_is_purged_and_told() {
    let mut lab = Lab::new(|shard| {
        shard.out.listening = Listening::to_all();
        shard.policy.usrloc.timer_interval_s = 1;
        shard.policy.registrar.min_expires_s = 0;
    });
    lab.register(PHONE, "a", 1, "<sip:9001@10.0.0.9>;expires=60");
    let (ticket, _) = lab.commit();
    lab.settle(ticket, CommitOutcome::Committed);
    assert!(matches!(
        &lab.shard.out.events[..],
        [Event::Refreshed { left_ms: None, .. }, Event::Registered { is_new: true, is_first: true, contact, .. }]
            if contact.expires_s == Some(60)
    ));
    lab.shard.out.clear();
    lab.shard.wait(59_000);
    lab.registrar.sweep(&mut lab.shard.ctx());
    assert_eq!((lab.contacts().len(), lab.shard.out.events.len()), (1, 0));
    lab.shard.wait(2_000);
    lab.registrar.sweep(&mut lab.shard.ctx());
    assert!(matches!(
        &lab.shard.out.events[..],
        [Event::Unregistered { why: Gone::Expired, is_last: true, .. }]
    ));
    assert!(matches!(&lab.shard.out.commands[..], [Command::Purge { writes }] if writes.len() == 1));
    assert_eq!((lab.registrar.users(), lab.registrar.contacts()), (0, 0));
}

#[test]
fn what_does_not_fit_into_its_column_is_refused_but_may_always_go() {
    let mut lab = Lab::new(|shard| {
        shard.identity.write_through = false;
        shard.identity.widths = Widths { contact: 40, callid: 10, ..Widths::default() };
    });
    let long = format!("<sip:9001@10.0.0.9:5062;x={}>", "x".repeat(20));
    let refused = |saved: Saved| match saved {
        Saved::Refused(response, _) => response.reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(lab.register(PHONE, "c", 1, &long)), Some(Reason::ContactTooLong));
    assert_eq!(
        refused(lab.register(PHONE, "c1234567890", 1, "<sip:9001@10.0.0.9>")),
        Some(Reason::CallIdTooLong)
    );
    // It is there all the same: the column was wider once.
    lab.shard.identity.widths = Widths::default();
    assert!(matches!(lab.register(PHONE, "c1234567890", 2, &long), Saved::Done));
    assert_eq!(lab.contacts().len(), 1);
    lab.shard.identity.widths = Widths { contact: 40, callid: 10, ..Widths::default() };
    assert!(matches!(lab.register(PHONE, "c1234567890", 3, &format!("{long};expires=0")), Saved::Done));
    assert_eq!(lab.contacts().len(), 0);
}
