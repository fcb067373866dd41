//! The monitor of next hops by itself: whom it asks for, whom it pings, and what it tells.

use super::*;
use crate::contract::context::TestShard;
use crate::contract::event::Listening;
use crate::contract::hop_uri::HopUri;
use crate::contract::rule::Numbers;

const HOP: &str = "10.0.0.5:5060";

struct Lab {
    shard: TestShard,
    monitor: HopMonitor,
}

fn rules() -> Arc<[Rule]> {
    let hops = vec![HopUri::parse("sip:fs.example.com").unwrap()];
    let numbers = Numbers::Prefix("0".into());
    let rule = Rule { set: 1, ..Rule::new(numbers, hops) };
    Arc::new([rule])
}

impl Lab {
    /// A monitor that knows where its hop is.
    fn new() -> Lab {
        let mut shard = TestShard::new();
        shard.identity.shards = 2;
        shard.policy.listeners = vec![Listener::udp("10.0.0.1:5060".parse().unwrap())];
        shard.policy.dispatcher.ping_interval_s = 10;
        shard.policy.dispatcher.probing_threshold = 2;
        shard.out.listening = Listening::to_all();
        let mut lab = Lab { shard, monitor: HopMonitor::new(&rules()) };
        let due = lab.due();
        let [(id, name)] = &due.names[..] else { panic!("{due:?}") };
        assert_eq!(&*name.host, "fs.example.com");
        let address = Address { remote: HOP.parse().unwrap(), local: None, connection: 0 };
        lab.monitor.resolved(&mut lab.shard.ctx(), *id, &[address]);
        lab.shard.out.clear();
        lab
    }

    fn due(&mut self) -> Due {
        self.monitor.due(&mut self.shard.ctx())
    }

    fn ping(&mut self) -> Ping {
        self.shard.wait(10_000);
        let mut due = self.due();
        assert_eq!(due.pings.len(), 1);
        due.pings.remove(0)
    }

    fn ended(&mut self, ping: &Ping, is_failure: bool) -> HopState {
        self.monitor.ping_ended(&mut self.shard.ctx(), ping.hop, ping.flow.remote, is_failure);
        self.monitor.next_hops().hops()[0].state
    }
}

#[test]
fn a_hop_is_down_after_so_many_pings_and_up_after_one() {
    let mut lab = Lab::new();
    let ping = lab.ping();
    assert_eq!((ping.flow.remote, &*ping.uri), (HOP.parse().unwrap(), "sip:fs.example.com"));
    assert_eq!(lab.ended(&ping, true), HopState::Active);
    let ping = lab.ping();
    lab.shard.out.clear();
    assert_eq!(lab.ended(&ping, true), HopState::Probing);
    let told = lab
        .shard
        .out
        .commands
        .iter()
        .any(|command| matches!(command, Command::Tell { shard: None, event: ShardEvent::Hops(_) }));
    assert!(told, "all shards hear: {:?}", lab.shard.out.commands);
    assert!(matches!(&lab.shard.out.events[..], [Event::Hop { state: HopState::Probing, set: 1, .. }]));
    let ping = lab.ping();
    assert_eq!(lab.ended(&ping, false), HopState::Active);
}

#[test]
fn a_ping_that_is_under_way_is_not_sent_twice() {
    let mut lab = Lab::new();
    lab.ping();
    lab.shard.wait(10_000);
    assert!(lab.due().pings.is_empty());
}

#[test]
fn a_name_that_leads_nowhere_takes_nothing_away() {
    let mut lab = Lab::new();
    lab.shard.wait(LOOK_UP_MS);
    let (id, _) = lab.due().names[0].clone();
    lab.monitor.resolved(&mut lab.shard.ctx(), id, &[]);
    assert_eq!(lab.monitor.next_hops().hops()[0].addresses.len(), 1);
    assert!(lab.monitor.is_trusted(&lab.shard.policy, "10.0.0.5".parse().unwrap()));
    assert!(!lab.monitor.is_trusted(&lab.shard.policy, "10.0.0.6".parse().unwrap()));
}

#[test]
fn what_an_operator_takes_out_is_not_pinged() {
    let mut lab = Lab::new();
    let set =
        |lab: &mut Lab, state| lab.monitor.set_state(&mut lab.shard.ctx(), 1, "sip:fs.example.com", state);
    assert!(set(&mut lab, HopState::Inactive));
    lab.shard.wait(10_000);
    assert!(lab.due().pings.is_empty());
    assert!(set(&mut lab, HopState::Active));
    lab.ping();
    assert!(!lab.monitor.set_state(&mut lab.shard.ctx(), 2, "sip:fs.example.com", HopState::Active));
}

#[test]
fn other_shards_tell_shard_0_of_calls() {
    let mut lab = Lab::new();
    let ping = lab.ping();
    let ctx = &mut lab.shard.ctx();
    ctx.shard = ShardId(1);
    lab.monitor.call_ended(ctx, ping.hop, ping.flow.remote, true);
    let told = matches!(
        &lab.shard.out.commands[..],
        [Command::Tell { shard: Some(ShardId(0)), event: ShardEvent::HopHeard { is_failure: true, .. } }]
    );
    assert!(told, "{:?}", lab.shard.out.commands);
}

#[test]
fn another_threshold_and_interval_count_at_once() {
    let mut lab = Lab::new();
    let ping = lab.ping();
    assert_eq!(lab.ended(&ping, true), HopState::Active, "one of two");
    lab.shard.policy.dispatcher.probing_threshold = 1;
    lab.monitor.reconsider(&mut lab.shard.ctx());
    assert_eq!(lab.monitor.next_hops().hops()[0].state, HopState::Probing);
    lab.shard.policy.dispatcher.ping_interval_s = 3_600;
    lab.shard.wait(10_000);
    assert!(lab.due().pings.len() == 1, "it was due already");
    lab.shard.policy.dispatcher.ping_interval_s = 20;
    lab.shard.wait(19_000);
    assert!(lab.due().pings.is_empty());
    lab.monitor.watch.pinged.clear();
    lab.shard.wait(1_000);
    assert!(lab.due().pings.len() == 1, "an hour has become shorter");
    lab.shard.policy.dispatcher.ping_interval_s = 0;
    lab.monitor.reconsider(&mut lab.shard.ctx());
    assert_eq!(lab.monitor.next_hops().hops()[0].state, HopState::Active, "nothing is known of it");
}
