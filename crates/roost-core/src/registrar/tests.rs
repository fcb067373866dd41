//! The registrar by itself: what a REGISTER changes, when, and what its phone hears.

use std::net::SocketAddr;

use roost_sip::Head;

use super::*;
use crate::base::flow::Ticket;
use crate::base::transport::Transport;
use crate::contract::command::CommitOutcome;
use crate::contract::context::TestShard;
use crate::contract::event::Listening;
use crate::contract::identity::Widths;
use crate::contract::row::Write;
use crate::contract::shared::{Floating, Holder, Node, StoredRecord};

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
        self.registrar.save(&mut self.shard.ctx(), &request, false)
    }

    /// The commit that was asked for.
    fn commit(&mut self) -> (Ticket, Vec<Write>) {
        match self.shard.out.commands.pop() {
            Some(Command::Commit { ticket, writes, .. }) => (ticket, writes),
            other => panic!("{other:?}"),
        }
    }

    /// The reading that was asked for.
    fn reading(&mut self) -> (Ticket, Vec<u8>) {
        match self.shard.out.commands.pop() {
            Some(Command::LoadRecord { ticket, aor }) => (ticket, aor.into()),
            other => panic!("{other:?}"),
        }
    }

    fn settle(&mut self, ticket: Ticket, outcome: CommitOutcome) {
        self.registrar.settle(&mut self.shard.ctx(), ticket, outcome, false);
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

/// Where bindings are shared: this node is the one at port 5070.
fn shared() -> Lab {
    let mut lab = Lab::new(|shard| {
        let node = Node {
            address: "10.0.0.1:5070".parse().unwrap(),
            is_secure: false,
            keys: vec![[7; 32]],
            nonce_keys: vec![[8; 32]],
            dialog_keys: vec![[9; 32]],
            staleness_ms: None,
        };
        shard.identity.node = Some(std::sync::Arc::new(node));
        shard.policy.registrar.exclusive_ip = true;
    });
    lab.registrar.leased(u64::MAX);
    lab
}

/// The record of 9001 with the row of such a commit, as another node that is at this port would have written it.
fn stored(writes: &[Write], version: u64, port: &str) -> StoredRecord {
    let rows = writes.iter().filter_map(|write| match write {
        Write::Put(row) => {
            let mut row = row.unpack();
            let path = String::from_utf8(row.path.unwrap().into()).unwrap().replace(":5070", port);
            row.path = Some(path.into_bytes().into());
            Some(row.pack())
        }
        _ => None,
    });
    StoredRecord { version, rows: rows.collect() }
}

#[test]
fn a_change_counts_if_the_record_is_still_the_one_that_it_was_planned_against() {
    let mut lab = shared();
    let saved = lab.register(PHONE, "a", 1, "<sip:9001@10.0.0.9>");
    assert!(matches!(saved, Saved::Committing { .. }), "{saved:?}");
    let planned = |lab: &Lab| match lab.shard.out.commands.last() {
        Some(Command::Commit { planned: Some(planned), .. }) => (planned.aor.to_vec(), planned.version),
        other => panic!("{other:?}"),
    };
    assert_eq!(planned(&lab), (b"9001".to_vec(), 0));
    let (ticket, writes) = lab.commit();
    let Write::Put(row) = &writes[0] else { panic!("{writes:?}") };
    let path = String::from_utf8(row.unpack().path.unwrap().into()).unwrap();
    assert!(
        path.starts_with("<sip:9001@10.0.0.1:5070;transport=tcp;lr;binding="),
        "others find it here: {path}"
    );
    lab.settle(ticket, CommitOutcome::Stored(5));
    assert_eq!(
        (lab.shard.lines(), lab.contacts()),
        (vec!["SIP/2.0 200 OK".to_string()], vec!["sip:9001@10.0.0.9".to_string()])
    );
    // Another node was faster: nothing is answered, what stands there counts, and the plan is made again against it.
    lab.register(PHONE, "a", 2, "<sip:9001@10.0.0.9>");
    assert_eq!(planned(&lab).1, 5);
    let (ticket, _) = lab.commit();
    let theirs = Box::new(stored(&writes, 6, ":5071"));
    lab.registrar.settle(&mut lab.shard.ctx(), ticket, CommitOutcome::Changed(theirs), true);
    assert!(lab.shard.lines().is_empty(), "the REGISTER is planned again");
    lab.register(PHONE, "a", 3, "<sip:9001@10.0.0.9>");
    assert_eq!(planned(&lab).1, 6);
    let (ticket, _) = lab.commit();
    // What nobody knows is read before it counts, and no guess is written.
    lab.settle(ticket, CommitOutcome::Failed("away".to_string()));
    assert_eq!(lab.shard.lines(), ["SIP/2.0 500 Server Internal Error"]);
    lab.registrar.repair(&mut lab.shard.ctx());
    assert!(lab.shard.out.commands.is_empty());
    assert!(lab.registrar.unread(&mut lab.shard.ctx(), b"9001").is_some());
}

#[test]
fn a_record_is_read_when_it_is_not_known_or_another_by_now() {
    let mut lab = shared();
    lab.register(PHONE, "a", 1, "<sip:9001@10.0.0.9>");
    let (_, writes) = lab.commit();
    // Somebody calls an AOR that nobody here has heard of: all wait for one reading.
    let mut lab = shared();
    let ticket = lab.registrar.unread(&mut lab.shard.ctx(), b"9001");
    assert_eq!(lab.registrar.unread(&mut lab.shard.ctx(), b"9001"), ticket);
    let (asked, aor) = lab.reading();
    assert_eq!((Some(asked), aor, lab.shard.out.commands.len()), (ticket, b"9001".to_vec(), 0));
    lab.registrar.take_read(&mut lab.shard.ctx(), asked, Ok(stored(&writes, 5, ":5071")));
    assert_eq!(lab.contacts(), ["sip:9001@10.0.0.9"]);
    let id = lab.registrar.location.find(b"9001").unwrap();
    assert!(lab.registrar.location.get(id).unwrap().bindings[0].is_elsewhere());
    assert_eq!(lab.registrar.unread(&mut lab.shard.ctx(), b"9001"), None, "it is known");
    // What another node has changed is read again; news of what is known is none.
    lab.registrar.record_changed(b"9001", 5);
    assert_eq!(lab.registrar.unread(&mut lab.shard.ctx(), b"9001"), None);
    lab.registrar.record_changed(b"9001", 6);
    assert!(lab.registrar.unread(&mut lab.shard.ctx(), b"9001").is_some());
    let (asked, _) = lab.reading();
    // A row of this very node is its own, by the address that it came from.
    lab.registrar.take_read(&mut lab.shard.ctx(), asked, Ok(stored(&writes, 7, ":5070")));
    assert!(!lab.registrar.location.get(id).unwrap().bindings[0].is_elsewhere());
    assert!(lab.registrar.location.get(id).unwrap().bindings[0].path().is_empty());
    // A refusal by what is known is looked into first.
    match lab.register("10.0.0.7:5062", "b", 1, "<sip:9001@10.0.0.7>") {
        Saved::Unread { reading, .. } => assert_eq!(lab.reading().0, reading),
        other => panic!("{other:?}"),
    }
    // Where nobody was told for a while nothing counts unread; a store that is away leaves what is known.
    lab.registrar.records_doubtful();
    let reading = lab.registrar.unread(&mut lab.shard.ctx(), b"9001").unwrap();
    lab.registrar.take_read(&mut lab.shard.ctx(), reading, Err("away".to_string()));
    assert_eq!((lab.registrar.unread(&mut lab.shard.ctx(), b"9001"), lab.contacts().len()), (None, 1));
    // Nobody has this one: it is not asked for again at once.
    let reading = lab.registrar.unread(&mut lab.shard.ctx(), b"9009").unwrap();
    lab.registrar.take_read(&mut lab.shard.ctx(), reading, Ok(StoredRecord::default()));
    assert_eq!(lab.registrar.unread(&mut lab.shard.ctx(), b"9009"), None);
    assert!(lab.registrar.location.find(b"9009").is_none());
    lab.shard.now.mono_ms += 1_001;
    assert!(lab.registrar.unread(&mut lab.shard.ctx(), b"9009").is_some());
}

#[test]
fn where_the_store_tells_nobody_what_is_old_is_read_again() {
    let mut lab = shared();
    let mut shard = TestShard::new();
    std::mem::swap(&mut shard, &mut lab.shard);
    let node =
        shard.identity.node.take().map(|node| Node { staleness_ms: Some(1_000), ..Node::clone(&node) });
    shard.identity.node = node.map(std::sync::Arc::new);
    let mut lab = Lab { registrar: Registrar::new(&shard.identity, ShardId(0), 0), shard };
    lab.registrar.leased(u64::MAX);
    lab.register(PHONE, "a", 1, "<sip:9001@10.0.0.9>");
    let (ticket, _) = lab.commit();
    lab.settle(ticket, CommitOutcome::Stored(5));
    assert_eq!(lab.registrar.unread(&mut lab.shard.ctx(), b"9001"), None);
    lab.shard.now.mono_ms += 1_000;
    let reading = lab.registrar.unread(&mut lab.shard.ctx(), b"9001").expect("it is old");
    // A store that is away leaves what is known.
    lab.registrar.take_read(&mut lab.shard.ctx(), reading, Err("away".to_string()));
    assert_eq!((lab.registrar.unread(&mut lab.shard.ctx(), b"9001"), lab.contacts().len()), (None, 1));
    lab.shard.now.mono_ms += 1_000;
    assert!(lab.registrar.unread(&mut lab.shard.ctx(), b"9001").is_some());
}

#[test]
fn a_node_whose_lease_has_ended_takes_no_register() {
    let mut lab = shared();
    let now_ms = lab.shard.now.mono_ms;
    lab.registrar.leased(now_ms + 5_000);
    assert!(matches!(lab.register(PHONE, "a", 1, "<sip:9001@10.0.0.9>"), Saved::Committing { .. }));
    lab.shard.now.mono_ms += 5_000;
    match lab.register("10.0.0.9:5062", "b", 1, "<sip:9001@10.0.0.9:5062>") {
        Saved::Refused(response, None) => {
            assert_eq!(response.reason, Some(Reason::NodeCutOff));
            assert!(response.retry_after_s > 0);
        }
        other => panic!("{other:?}"),
    }
    assert!(lab.registrar.is_cut_off(lab.shard.now));
    lab.registrar.leased(now_ms + 10_000);
    assert!(!lab.registrar.is_cut_off(lab.shard.now));
}

#[test]
fn a_key_that_another_aor_has_is_minted_again() {
    let mut lab = shared();
    lab.register(PHONE, "a", 1, "<sip:9001@10.0.0.9>");
    let (ticket, taken) = lab.commit();
    lab.registrar.settle(&mut lab.shard.ctx(), ticket, CommitOutcome::KeyTaken, true);
    assert!(lab.shard.lines().is_empty(), "the REGISTER is planned again");
    lab.register(PHONE, "a", 1, "<sip:9001@10.0.0.9>");
    let (ticket, writes) = lab.commit();
    let id = |writes: &[Write]| match &writes[0] {
        Write::Put(row) => row.contact_id(),
        other => panic!("{other:?}"),
    };
    assert_ne!(contact_id::aor_label(id(&writes)), contact_id::aor_label(id(&taken)));
    lab.settle(ticket, CommitOutcome::Stored(1));
    assert_eq!(lab.shard.lines(), ["SIP/2.0 200 OK"]);
}

#[test]
fn what_was_registered_over_a_floating_address_is_where_that_is() {
    let mut lab = shared();
    lab.register(PHONE, "a", 1, "<sip:9001@10.0.0.9>");
    let (_, writes) = lab.commit();
    let float = |lab: &mut Lab, holder| {
        let floating =
            Floating { transport: Transport::Udp, address: "10.0.0.1:5060".parse().unwrap(), holder };
        lab.shard.policy.floating = vec![floating].into();
        lab.registrar.addresses_moved(&mut lab.shard.ctx());
    };
    let path = |lab: &Lab| {
        let id = lab.registrar.location.find(b"9001").unwrap();
        String::from_utf8_lossy(lab.registrar.location.get(id).unwrap().bindings[0].path()).into_owned()
    };
    // Another node had it when the phone registered; this one has it now.
    let mut lab = shared();
    float(&mut lab, Holder::Here);
    lab.registrar.record_found(&mut lab.shard.ctx(), b"9001", &stored(&writes, 5, ":5071"));
    assert_eq!(path(&lab), "");
    // It goes to a third one, to nobody, and comes back: nothing is read meanwhile.
    float(&mut lab, Holder::Node("10.0.0.3:5070".parse().unwrap()));
    assert!(path(&lab).starts_with("<sip:9001@10.0.0.3:5070;transport=tcp;lr;binding="), "{}", path(&lab));
    float(&mut lab, Holder::Nobody);
    assert!(path(&lab).starts_with("<sip:9001@10.0.0.3:5070;"), "{}", path(&lab));
    float(&mut lab, Holder::Here);
    assert_eq!(path(&lab), "");
    assert_eq!(lab.contacts(), ["sip:9001@10.0.0.9"]);
}

#[test]
fn an_extension_of_another_node_belongs_to_the_address_of_its_phone_whatever_call_id_is_named() {
    let mut lab = shared();
    lab.register(PHONE, "a", 1, "<sip:9001@10.0.0.9>");
    let (_, writes) = lab.commit();
    let mut lab = shared();
    lab.registrar.record_found(&mut lab.shard.ctx(), b"9001", &stored(&writes, 5, ":5071"));
    match lab.register("10.0.0.7:5062", "a", 2, "<sip:9001@10.0.0.7>") {
        Saved::Unread { .. } => drop(lab.reading()),
        other => panic!("{other:?}"),
    }
    let saved = lab.register(PHONE, "a", 2, "<sip:9001@10.0.0.9>");
    assert!(matches!(saved, Saved::Committing { .. }), "{saved:?}");
}
