//! The pinger by itself: whom it pings and when, and who has not answered.

use super::*;
use crate::base::flow::ShardId;
use crate::contract::context::TestShard;
use crate::contract::event::Listening;
use crate::contract::listener::Listener;
use crate::contract::row::Row;

struct Lab {
    shard: TestShard,
    registrar: Registrar,
    pinger: NatPinger,
}

impl Lab {
    /// Phones 0, 1, 2, … behind NAT at 10.0.x.y:1024.
    fn new(phones: u32) -> Lab {
        let mut shard = TestShard::new();
        shard.identity.write_through = false;
        shard.policy.listeners = vec![Listener::udp("192.0.2.1:5060".parse().unwrap())];
        shard.policy.nathelper.natping_interval_s = 30;
        shard.out.listening = Listening::to_all();
        let mut registrar = Registrar::new(&shard.identity, ShardId(0), 1);
        for phone in 0..phones {
            let row = row(phone, true);
            registrar.load(&shard.identity, &row, shard.now).unwrap();
        }
        Lab { pinger: NatPinger::new(7), shard, registrar }
    }

    /// Time passes, and the pinger does what is due; where pings went, by millisecond.
    fn run(&mut self, ms: u64) -> Vec<(u64, String)> {
        let begun_ms = self.shard.now.mono_ms;
        let mut sent = Vec::new();
        for _ in 0..ms {
            self.shard.wait(1);
            if self.shard.now.mono_ms < self.pinger.next_ms() {
                continue;
            }
            for (id, contact_id) in self.pinger.step(&mut self.shard.ctx(), &self.registrar) {
                self.registrar.remove_unanswering(&mut self.shard.ctx(), id, contact_id);
            }
            let at_ms = self.shard.now.mono_ms - begun_ms;
            sent.extend(self.shard.sent().into_iter().map(|(_, text)| (at_ms, text)));
        }
        sent
    }

    /// The phone answers a ping.
    fn answer(&mut self, ping: &str) {
        let flow = Flow::udp("192.0.2.1:5060".parse().unwrap(), "10.0.0.0:1024".parse().unwrap());
        self.pinger.answered(&mut self.shard.ctx(), branch(ping), &flow);
    }

    fn pings(&self, contact_id: u64) -> Option<PingsRecord> {
        self.pinger.pings(contact_id)
    }
}

fn row(phone: u32, is_behind_nat: bool) -> Row {
    let received = format!("sip:10.0.{}.{}:1024", phone >> 8, phone & 255).into_bytes();
    Row {
        contact_id: u64::from(phone) + 1,
        username: phone.to_string().into_bytes().into(),
        contact: format!("sip:{phone}@192.168.0.9;line=7").into_bytes().into(),
        received: is_behind_nat.then(|| received.into()),
        callid: (*b"c").into(),
        user_agent: (*b"n/a").into(),
        socket: Some((*b"udp:192.0.2.1:5060").into()),
        ..Row::default()
    }
}

fn branch(ping: &str) -> BranchId {
    let (_, rest) = ping.split_once(";branch=").unwrap();
    BranchId::parse(rest.split_once(';').unwrap().0.as_bytes()).unwrap()
}

#[test]
fn nobody_is_pinged_unless_it_is_wanted() {
    let mut lab = Lab::new(3);
    lab.shard.policy.nathelper.natping_interval_s = 0;
    assert_eq!(lab.run(60_000), []);
    lab.shard.policy.nathelper.natping_interval_s = 30;
    assert_eq!(lab.run(30_000).len(), 3);
    lab.registrar.load(&lab.shard.identity, &row(9, false), lab.shard.now).unwrap();
    assert_eq!(lab.run(30_000).len(), 3, "a phone that is where it says");
    lab.shard.policy.nathelper.ping_nated_only = false;
    assert_eq!(lab.run(30_000).len(), 4);
}

#[test]
fn pings_are_spread_evenly() {
    let mut lab = Lab::new(12_500);
    let sent = lab.run(60_000);
    assert!((24_900..=25_100).contains(&sent.len()), "{}", sent.len());
    for from in (0..60_000).step_by(10) {
        let burst = sent.iter().filter(|(at_ms, _)| (from..from + 10).contains(at_ms)).count();
        assert!(burst <= 10, "{burst} within 10 ms at {from}");
    }
    // Each is pinged once in an interval.
    let first: std::collections::BTreeSet<_> =
        sent[..12_500].iter().map(|(_, text)| branch(text).transaction.0).collect();
    assert_eq!(first.len(), 12_500);
    // A pause is not made up for.
    lab.shard.wait(10_000);
    assert!(lab.run(1).len() <= 10);
}

#[test]
fn a_ping_is_a_request_of_ours_to_the_contact() {
    let mut lab = Lab::new(1);
    let (_, text) = lab.run(30_000).remove(0);
    let expected =
        "OPTIONS sip:0@192.168.0.9;line=7 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK";
    assert!(text.starts_with(expected), "{text}");
    for part in [
        ";rport\r\nMax-Forwards: 70\r\nFrom: <sip:roost@localhost>;tag=",
        "\r\nTo: <sip:0@192.168.0.9;line=7>\r\nCall-ID: ",
        "@192.0.2.1:5060\r\nCSeq: 1 OPTIONS\r\nUser-Agent: roost/",
        "\r\nContent-Length: 0\r\n\r\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    lab.shard.policy.nathelper.sipping_method = String::new();
    assert_eq!(lab.run(30_000).remove(0).1, "\r\n\r\n");
    assert_eq!(lab.pings(1), None, "nobody answers these");
}

#[test]
fn who_does_not_answer_is_told_once_and_removed_where_that_is_wanted() {
    let mut lab = Lab::new(1);
    let mut pings = lab.run(120_000);
    assert_eq!(pings.len(), 4);
    assert_eq!(lab.pings(1), Some(PingsRecord { latency_ms: None, lost: 3 }));
    let told = |lab: &mut Lab| std::mem::take(&mut lab.shard.out.events);
    assert!(matches!(&told(&mut lab)[..], [Event::PingsLost { contact_id: 1, lost: 3, .. }]));
    lab.run(30_000);
    assert!(told(&mut lab).is_empty());
    // Only an answer counts that knows the ping.
    let (_, last) = pings.pop().unwrap();
    let mut forged = branch(&last);
    forged.secret ^= 1;
    let flow = Flow::udp("192.0.2.1:5060".parse().unwrap(), "10.0.0.0:1024".parse().unwrap());
    lab.pinger.answered(&mut lab.shard.ctx(), forged, &flow);
    assert_eq!(lab.pings(1).map(|pings| pings.lost), Some(4));
    let (_, ping) = lab.run(30_000).remove(0);
    lab.shard.wait(25);
    lab.answer(&ping);
    let pings = lab.pings(1).unwrap();
    assert_eq!(pings.lost, 0);
    assert!(pings.latency_ms.is_some_and(|ms| (25..30_025).contains(&ms)), "{pings:?}");
    lab.shard.policy.nathelper.remove_on_timeout = true;
    assert_eq!(lab.registrar.contacts(), 1);
    lab.run(90_000);
    assert_eq!(lab.registrar.contacts(), 1);
    lab.run(60_000);
    assert_eq!(lab.registrar.contacts(), 0);
    assert!(matches!(&told(&mut lab)[..], [Event::PingsLost { .. }, Event::Unregistered { .. }]));
    lab.run(60_000);
    assert_eq!(lab.pings(1), None, "nothing is kept of it");
}
