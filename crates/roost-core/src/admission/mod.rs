//! Whom an engine does not hear: floods, scanners, and those who have guessed too often.

mod bans;
mod pike;

use std::net::IpAddr;

use roost_sip::{Head, HeaderName};

use crate::admission::bans::{Banned, Bans};
use crate::admission::pike::{Pike, Sent};
use crate::base::aor::UserKey;
use crate::base::flow::responsible;
use crate::base::stats::Counter;
use crate::contract::ban::Ban;
use crate::contract::command::{Command, ShardEvent};
use crate::contract::context::Ctx;
use crate::contract::dropped::Dropped;
use crate::contract::event::{Event, EventKind};
use crate::contract::identity::Identity;
use crate::contract::policy::{PikeParams, Policy};

/// What one shard counts of its senders.
#[derive(Debug)]
pub(crate) struct Admission {
    bans: Bans,
    /// None without a limit.
    pike: Option<Pike>,
}

impl Admission {
    pub(crate) fn new(identity: &Identity, policy: &Policy) -> Admission {
        Admission { bans: Bans::new(identity.hash_seed), pike: Pike::new(&policy.pike, identity.hash_seed) }
    }

    /// What is known of an address and of extensions.
    pub(crate) fn excerpt(&self, identity: &Identity, source: IpAddr, keys: &[UserKey]) -> Admission {
        let source = responsible(source);
        Admission {
            bans: self.bans.excerpt(identity.hash_seed, source, keys),
            pike: self.pike.as_ref().map(|pike| pike.excerpt(source)),
        }
    }

    /// Other limits of what an address may send from here on; counting begins anew.
    pub(crate) fn set_pike(&mut self, identity: &Identity, pike: &PikeParams) {
        self.pike = Pike::new(pike, identity.hash_seed);
    }

    /// Whether a request is dropped before it is looked at: its address sends too much, an operator has banned it, or it
    /// is a scanner's. `is_trusted` tells of its address.
    pub(crate) fn is_unwelcome(
        &mut self,
        ctx: &mut Ctx<'_>,
        source: IpAddr,
        head: &Head,
        bytes: &[u8],
        is_trusted: impl FnOnce() -> bool,
    ) -> bool {
        if self.bans.manual > 0 && self.bans.is_shut_out(responsible(source), ctx.now) {
            ctx.count(Counter::Banned);
            ctx.drop_message(Dropped::BannedAddress);
            ctx.decide("", || format!("an operator has banned {source} (roost ban rm {source})"));
            return true;
        }
        let scanners = &ctx.policy.pike.drop_user_agents;
        if !scanners.is_empty()
            && let Some(agent) = head.value(bytes, HeaderName::UserAgent)
            && let Some(scanner) = scanners.iter().find(|scanner| begins_so(agent, scanner.as_bytes()))
        {
            ctx.count(Counter::ScannersDropped);
            ctx.drop_message(Dropped::Scanner);
            ctx.decide("pike.drop_user_agents", || {
                format!("its User-Agent begins with `{scanner}`, as a scanner's does")
            });
            return true;
        }
        if let Some(pike) = &mut self.pike
            && !is_trusted()
        {
            let sent = pike.takes(responsible(source), ctx.now.mono_ms);
            if sent == Sent::Blocks {
                ctx.out.tell(EventKind::Flood, || Event::Flooded { source });
            }
            let PikeParams { reqs_density_per_unit: most, sampling_time_unit_s: unit_s, .. } =
                ctx.policy.pike;
            if sent != Sent::Taken {
                ctx.count(Counter::PikeDropped);
                ctx.drop_message(Dropped::Flooded);
                ctx.decide("pike.reqs_density_per_unit", || {
                    format!("{source} has sent more than {most} requests in {unit_s} s")
                });
                return true;
            }
            ctx.decide("pike.reqs_density_per_unit", || {
                format!("{source} has sent no more than {most} requests in {unit_s} s")
            });
        }
        false
    }

    /// Why nothing is believed of an extension's credentials from this address, if it is so and nothing
    /// [spares](Banned::spares) it.
    pub(crate) fn banned(&self, ctx: &Ctx<'_>, source: IpAddr, key: &UserKey) -> Option<Banned> {
        self.bans.banned(responsible(source), key, ctx.now)
    }

    /// Counts a wrong name (`is_known`: a wrong password), and bans whom that is too much of.
    pub(crate) fn failed(
        &mut self,
        ctx: &mut Ctx<'_>,
        source: IpAddr,
        key: &UserKey,
        is_known: bool,
        is_trusted: bool,
    ) {
        ctx.count(Counter::AuthFailures);
        if is_trusted {
            return;
        }
        let (auth, shards) = (&ctx.policy.auth, ctx.identity.shards);
        for ban in self.bans.failed(responsible(source), key, is_known, (auth, shards), ctx.now) {
            ctx.count(Counter::Bans);
            ctx.out.tell(EventKind::Ban, || Event::Banned(ban.clone()));
            // Whatever shard the address's next name belongs to.
            if ban.source.is_some() && ban.user.is_empty() && shards > 1 {
                ctx.out.commands.push(Command::Tell { shard: None, event: ShardEvent::Banned(ban) });
            }
        }
    }

    /// Another shard, or an operator, bans somebody.
    pub(crate) fn ban(&mut self, ctx: &Ctx<'_>, ban: &Ban) {
        let source = ban.source.map(responsible);
        self.bans.ban(&Ban { source, ..ban.clone() }, ctx.now);
    }

    /// Forgets all about an address, an extension, or an extension at an address; how many bans and counts that were.
    pub(crate) fn unban(&mut self, source: Option<IpAddr>, user: &[u8]) -> usize {
        self.bans.unban(source.map(responsible), user)
    }

    /// Forgets failures of extensions whose passwords have changed: what was wrong may be right now.
    pub(crate) fn unban_users(&mut self, users: &[UserKey]) {
        self.bans.unban_users(users);
    }

    /// The bans that last.
    pub(crate) fn bans(&self, ctx: &Ctx<'_>) -> Vec<Ban> {
        self.bans.bans(ctx.now)
    }

    /// What operators may know of it: names and values.
    pub(crate) fn gauges(&self) -> [(&'static str, u64); 3] {
        [
            ("roost:suspects", self.bans.len() as u64),
            ("roost:suspects_evicted", self.bans.evicted()),
            ("roost:buckets_evicted", self.pike.as_ref().map_or(0, |pike| pike.evicted)),
        ]
    }
}

/// Whether a text begins with a word in lower case, whatever the text's case. Most do not by their first letter.
fn begins_so(text: &[u8], word: &[u8]) -> bool {
    let has_letter =
        matches!((text.first(), word.first()), (Some(one), Some(other)) if one | 0x20 == other | 0x20);
    has_letter && text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::ban::Home;
    use crate::contract::context::TestShard;
    use crate::contract::event::Listening;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn admission(shard: &TestShard) -> Admission {
        Admission::new(&shard.identity, &shard.policy)
    }

    fn is_unwelcome(admission: &mut Admission, shard: &mut TestShard, agent: &str, is_trusted: bool) -> bool {
        let text = format!("OPTIONS sip:a SIP/2.0\r\nUser-Agent: {agent}\r\n\r\n");
        let mut head = Head::new();
        head.parse(text.as_bytes()).unwrap();
        admission.is_unwelcome(&mut shard.ctx(), SOURCE, &head, text.as_bytes(), || is_trusted)
    }

    #[test]
    fn scanners_floods_and_banned_addresses_are_not_heard() {
        let mut shard = TestShard::new();
        shard.policy.pike.reqs_density_per_unit = 2;
        let mut admission = admission(&shard);
        assert!(is_unwelcome(&mut admission, &mut shard, "Friendly-Scanner/1.8", false));
        assert!(!is_unwelcome(&mut admission, &mut shard, "Yealink", false));
        assert!(!is_unwelcome(&mut admission, &mut shard, "Yealink", false));
        assert!(is_unwelcome(&mut admission, &mut shard, "Yealink", false), "the third of two");
        assert!(!is_unwelcome(&mut admission, &mut shard, "Yealink", true), "trusted addresses may");
        let ban = Ban { source: Some(SOURCE), user: Box::default(), left_s: 10, is_manual: true };
        admission.ban(&shard.ctx(), &ban);
        assert!(
            is_unwelcome(&mut admission, &mut shard, "Yealink", true),
            "an operator's ban hits everybody"
        );
        assert_eq!(admission.unban(Some(SOURCE), b""), 1);
        shard.policy.pike.reqs_density_per_unit = 0;
        admission.set_pike(&shard.identity, &shard.policy.pike);
        assert!(!is_unwelcome(&mut admission, &mut shard, "Yealink", false), "no limit any more");
    }

    #[test]
    fn failures_ban_until_the_password_changes() {
        let mut shard = TestShard::new();
        shard.out.listening = Listening::to_all();
        let mut admission = admission(&shard);
        let key = UserKey::new(b"9001", b"", false).unwrap();
        for _ in 0..5 {
            admission.failed(&mut shard.ctx(), SOURCE, &key, true, false);
        }
        assert!(matches!(&shard.out.events[..], [Event::Banned(ban)] if *ban.user == *b"9001"));
        assert_eq!(admission.banned(&shard.ctx(), SOURCE, &key), Some(Banned::Pair));
        admission.unban_users(&[key]);
        assert_eq!(admission.banned(&shard.ctx(), SOURCE, &key), None);
    }

    #[test]
    fn a_ban_spares_a_registered_phone() {
        let neighbour = Home { is_its_port: false, is_its_address: true };
        let own = Home { is_its_port: true, is_its_address: true };
        for (banned, spares_neighbour) in
            [(Banned::Pair, false), (Banned::Source, true), (Banned::User, true)]
        {
            assert!(banned.spares(own) && !banned.spares(Home::default()), "{banned:?}");
            assert_eq!(banned.spares(neighbour), spares_neighbour, "{banned:?}");
        }
    }

    #[test]
    fn guesses_of_trusted_addresses_are_counted_and_nobody_is_banned() {
        let mut shard = TestShard::new();
        let mut admission = admission(&shard);
        let key = UserKey::new(b"9001", b"", false).unwrap();
        (0..100).for_each(|_| admission.failed(&mut shard.ctx(), SOURCE, &key, true, true));
        assert_eq!((shard.stats.get(Counter::AuthFailures), admission.bans(&shard.ctx()).len()), (100, 0));
    }
}
