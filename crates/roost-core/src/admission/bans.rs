//! Who has guessed too often (`auth.ban_*`).
//!
//! Failures are counted for three things: an extension from one address, extensions of an address, an extension from
//! anywhere. What reaches a threshold is banned, each time twice as long. A ban never hits a phone that is registered: one
//! phone with a wrong password bans itself and not its neighbours behind the same router, and a guesser does not lock the
//! owner out.

use std::hash::BuildHasher;
use std::net::IpAddr;

use crate::base::aor::UserKey;
use crate::base::flow::Now;
use crate::base::hash::KeyedState;
use crate::base::limits;
use crate::base::table::Table;
use crate::contract::ban::{Ban, Home};
use crate::contract::policy::AuthParams;
use crate::contract::reason::Reason;

/// What a ban is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Subject<'a> {
    source: Option<IpAddr>,
    user: &'a [u8],
}

#[derive(Debug, Clone)]
struct Suspect {
    source: Option<IpAddr>,
    user: Box<[u8]>,
    failures: u32,
    /// When the last failure was noted.
    noted_ms: u64,
    banned_until_ms: u64,
    /// Bans so far; the next one is twice as long.
    bans: u32,
    is_manual: bool,
}

impl Suspect {
    fn subject(&self) -> Subject<'_> {
        Subject { source: self.source, user: &self.user }
    }
}

/// Suspects of one kind: a flood of one kind pushes none of another out.
#[derive(Debug, Default)]
struct Suspects(Table<Suspect>);

impl Suspects {
    fn get(&self, subject: Subject<'_>, hasher: KeyedState) -> Option<&Suspect> {
        if self.0.slots() == 0 {
            return None;
        }
        let slot = self.0.find(hasher.hash_one(subject), |suspect| suspect.subject() == subject)?;
        self.0.get(slot)
    }

    fn entry(&mut self, subject: Subject<'_>, hasher: KeyedState, now_ms: u64) -> Option<&mut Suspect> {
        let hash = hasher.hash_one(subject);
        let slot = match self.0.find(hash, |suspect| suspect.subject() == subject) {
            Some(slot) => slot,
            None => {
                if self.0.len() >= limits::MAX_SUSPECTS {
                    // Rather one that is not banned.
                    let hash_of = |suspect: &Suspect| hasher.hash_one(suspect.subject());
                    self.0.evict(|suspect| suspect.banned_until_ms <= now_ms, hash_of);
                }
                self.0.insert(
                    hash,
                    Suspect {
                        source: subject.source,
                        user: subject.user.into(),
                        failures: 0,
                        noted_ms: now_ms,
                        banned_until_ms: 0,
                        bans: 0,
                        is_manual: false,
                    },
                )
            }
        };
        self.0.get_mut(slot)
    }

    /// Takes what another table knows of a subject.
    fn copy(&mut self, other: &Suspects, subject: Subject<'_>, hasher: KeyedState) {
        let suspect = other.get(subject, hasher).filter(|_| self.get(subject, hasher).is_none());
        if let Some(suspect) = suspect {
            self.0.insert(hasher.hash_one(subject), suspect.clone());
        }
    }

    /// Forgets those that are meant; how many.
    fn forget(&mut self, hasher: KeyedState, is_meant: impl Fn(&Suspect) -> bool) -> usize {
        self.0.remove_all(is_meant, |suspect| hasher.hash_one(suspect.subject()))
    }
}

/// What one shard knows of guessers.
#[derive(Debug)]
pub(crate) struct Bans {
    pairs: Suspects,
    sources: Suspects,
    users: Suspects,
    /// How many addresses an operator has banned: these are looked for before all else.
    pub(crate) manual: usize,
    hasher: KeyedState,
}

impl Bans {
    pub(crate) fn new(hash_seed: u64) -> Bans {
        Bans {
            pairs: Suspects::default(),
            sources: Suspects::default(),
            users: Suspects::default(),
            manual: 0,
            hasher: KeyedState::new(hash_seed),
        }
    }

    /// What is known of an address and of extensions.
    pub(crate) fn excerpt(&self, hash_seed: u64, source: IpAddr, keys: &[UserKey]) -> Bans {
        let mut excerpt = Bans::new(hash_seed);
        let source = Some(source);
        excerpt.sources.copy(&self.sources, Subject { source, user: &[] }, self.hasher);
        for user in keys.iter().map(UserKey::text) {
            excerpt.pairs.copy(&self.pairs, Subject { source, user }, self.hasher);
            excerpt.users.copy(&self.users, Subject { source: None, user }, self.hasher);
        }
        excerpt.count_manual();
        excerpt
    }

    /// How many suspects there are, for the statistics.
    pub(crate) fn len(&self) -> usize {
        self.pairs.0.slots() + self.sources.0.slots() + self.users.0.slots()
    }

    /// How many made room for others.
    pub(crate) fn evicted(&self) -> u64 {
        self.pairs.0.evicted + self.sources.0.evicted + self.users.0.evicted
    }

    /// Why this extension may not try from this address now, if it may not.
    pub(crate) fn banned(&self, source: IpAddr, key: &UserKey, now: Now) -> Option<Banned> {
        let (source, user) = (Some(source), key.text());
        let is_banned = |suspects: &Suspects, subject| {
            let suspect = suspects.get(subject, self.hasher);
            suspect.is_some_and(|suspect| suspect.banned_until_ms > now.mono_ms)
        };
        if is_banned(&self.pairs, Subject { source, user }) {
            Some(Banned::Pair)
        } else if is_banned(&self.sources, Subject { source, user: &[] }) {
            Some(Banned::Source)
        } else {
            is_banned(&self.users, Subject { source: None, user }).then_some(Banned::User)
        }
    }

    /// Whether an operator has banned this address.
    pub(crate) fn is_shut_out(&self, source: IpAddr, now: Now) -> bool {
        let subject = Subject { source: Some(source), user: &[] };
        let suspect = self.sources.get(subject, self.hasher);
        suspect.is_some_and(|suspect| suspect.is_manual && suspect.banned_until_ms > now.mono_ms)
    }

    /// Notes a failure; the bans that follow from it.
    pub(crate) fn failed(
        &mut self,
        source: IpAddr,
        key: &UserKey,
        is_known: bool,
        (auth, shards): (&AuthParams, u16),
        now: Now,
    ) -> Vec<Ban> {
        // An address's failures meet the shards by chance: each counts its share.
        let share = |all: u32| if all == 0 { 0 } else { all.div_ceil(u32::from(shards.max(1))) };
        let source = Some(source);
        let hasher = self.hasher;
        let mut bans = Vec::new();
        let mut note = |suspects: &mut Suspects, subject: Subject<'_>, threshold: u32| {
            let suspect = suspects.entry(subject, hasher, now.mono_ms)?;
            if let Some(left_s) = fail(suspect, threshold, auth, now.mono_ms) {
                bans.push(Ban {
                    source: subject.source,
                    user: subject.user.into(),
                    left_s,
                    is_manual: false,
                });
            }
            Some(suspect.failures)
        };
        let failures = note(&mut self.pairs, Subject { source, user: key.text() }, auth.ban_failures);
        // Of one wrong phone an address is guilty once, however often it tries.
        if failures == Some(1) {
            note(&mut self.sources, Subject { source, user: &[] }, share(auth.ban_source_failures));
        }
        if is_known {
            note(&mut self.users, Subject { source: None, user: key.text() }, auth.ban_user_failures);
        }
        bans
    }

    /// Bans, as another shard or an operator says.
    pub(crate) fn ban(&mut self, ban: &Ban, now: Now) {
        let subject = Subject { source: ban.source, user: &ban.user };
        let suspects = match (ban.source, ban.user.is_empty()) {
            (Some(_), true) => &mut self.sources,
            (Some(_), false) => &mut self.pairs,
            (None, _) => &mut self.users,
        };
        let hasher = self.hasher;
        if let Some(suspect) = suspects.entry(subject, hasher, now.mono_ms) {
            let until_ms = now.mono_ms.saturating_add(ban.left_s.saturating_mul(1_000));
            suspect.banned_until_ms = suspect.banned_until_ms.max(until_ms);
            suspect.is_manual |= ban.is_manual;
        }
        if ban.is_manual {
            self.count_manual();
        }
    }

    fn count_manual(&mut self) {
        self.manual = self.sources.0.iter_from(0).filter(|(_, suspect)| suspect.is_manual).count();
    }

    /// Forgets all about an address, an extension, or an extension from an address; how many bans that were.
    pub(crate) fn unban(&mut self, source: Option<IpAddr>, user: &[u8]) -> usize {
        self.forget(|suspect| {
            (source.is_none() || suspect.source == source) && (user.is_empty() || *suspect.user == *user)
        })
    }

    /// The same of extensions whose passwords have changed: what was wrong may be right now. One look for all of them.
    pub(crate) fn unban_users(&mut self, users: &[UserKey]) {
        if !users.is_empty() && self.len() > 0 {
            let mut names: Vec<&[u8]> = users.iter().map(UserKey::text).collect();
            names.sort_unstable();
            self.forget(|suspect| names.binary_search(&&*suspect.user).is_ok());
        }
    }

    fn forget(&mut self, is_meant: impl Fn(&Suspect) -> bool) -> usize {
        let hasher = self.hasher;
        let all = [&mut self.pairs, &mut self.sources, &mut self.users];
        let forgotten = all.into_iter().map(|suspects| suspects.forget(hasher, &is_meant)).sum();
        self.count_manual();
        forgotten
    }

    /// The bans that last.
    pub(crate) fn bans(&self, now: Now) -> Vec<Ban> {
        let all = [&self.pairs, &self.sources, &self.users].into_iter();
        let lasting = all
            .flat_map(|suspects| suspects.0.iter_from(0))
            .filter(|(_, suspect)| suspect.banned_until_ms > now.mono_ms);
        let shown = lasting.map(|(_, suspect)| Ban {
            source: suspect.source,
            user: suspect.user.clone(),
            left_s: (suspect.banned_until_ms - now.mono_ms).div_ceil(1_000),
            is_manual: suspect.is_manual,
        });
        shown.collect()
    }
}

/// Why a request is not even looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Banned {
    Pair,
    Source,
    User,
}

impl Banned {
    /// Whether it does not hit a phone that is registered so: a registered phone is heard from its own port always, and by its
    /// neighbours' fault from its address.
    pub(crate) fn spares(self, home: Home) -> bool {
        match self {
            Banned::Pair => home.is_its_port,
            Banned::Source | Banned::User => home.is_its_address,
        }
    }

    pub(crate) fn reason(self) -> Reason {
        match self {
            Banned::Pair => Reason::BannedPair,
            Banned::Source => Reason::BannedSource,
            Banned::User => Reason::BannedUser,
        }
    }
}

/// Counts a failure; for how many seconds it bans, if it does.
fn fail(suspect: &mut Suspect, threshold: u32, auth: &AuthParams, now_ms: u64) -> Option<u64> {
    let unit_ms = u64::from(auth.ban_time_s.max(1)) * 1_000;
    let longest_s = u64::from(auth.ban_max_time_s.max(auth.ban_time_s));
    // Time forgives: a failure each ban_time, and what was after ban_max_time of quiet.
    let quiet_ms = now_ms.saturating_sub(suspect.noted_ms.max(suspect.banned_until_ms));
    suspect.failures = suspect.failures.saturating_sub(u32::try_from(quiet_ms / unit_ms).unwrap_or(u32::MAX));
    if quiet_ms > longest_s * 1_000 {
        suspect.bans = 0;
    }
    suspect.noted_ms = now_ms;
    suspect.failures += 1;
    if suspect.failures < threshold || threshold == 0 {
        return None;
    }
    let left_s = (u64::from(auth.ban_time_s) << suspect.bans.min(24)).min(longest_s);
    suspect.bans += 1;
    suspect.banned_until_ms = suspect.banned_until_ms.max(now_ms + left_s * 1_000);
    // Fewer tries from now on.
    suspect.failures = (threshold / 2).max(1);
    Some(left_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::policy::Policy;

    fn key(name: &str) -> UserKey {
        UserKey::new(name.as_bytes(), b"", false).unwrap()
    }

    fn at(seconds: u64) -> Now {
        Now { mono_ms: 1_000_000 + seconds * 1_000, unix_s: 0 }
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + number).to_be_bytes())
    }

    struct Stage {
        bans: Bans,
        auth: AuthParams,
    }

    impl Stage {
        fn new() -> Stage {
            Stage { bans: Bans::new(1), auth: Policy::default().auth }
        }

        fn fail(&mut self, source: u32, user: &str, is_known: bool, second: u64) -> Vec<Ban> {
            self.bans.failed(address(source), &key(user), is_known, (&self.auth, 1), at(second))
        }

        fn banned(&self, source: u32, user: &str, second: u64) -> Option<Banned> {
            self.bans.banned(address(source), &key(user), at(second))
        }
    }

    #[test]
    fn a_guesser_is_banned_ever_longer_and_nobody_beside_it() {
        let mut stage = Stage::new();
        let (mut second, mut tries, mut lengths) = (0, 0, Vec::new());
        while second < 86_400 {
            if stage.banned(1, "9001", second).is_none() {
                tries += 1;
                lengths.extend(stage.fail(1, "9001", true, second).iter().map(|ban| ban.left_s));
            }
            second += 1;
        }
        assert_eq!(lengths[..4], [60, 120, 240, 480]);
        assert_eq!(lengths.last(), Some(&3_600));
        assert!(tries < 120, "{tries} tries in a day");
        let mut stage = Stage::new();
        for _ in 0..5 {
            stage.fail(1, "9001", true, 0);
        }
        assert_eq!(stage.banned(1, "9001", 1), Some(Banned::Pair));
        assert_eq!((stage.banned(1, "9002", 1), stage.banned(2, "9001", 1)), (None, None));
        assert_eq!(stage.banned(1, "9001", 61), None, "over");
    }

    #[test]
    fn who_tries_many_names_is_banned_as_an_address_and_a_distributed_guesser_by_the_extension() {
        let mut stage = Stage::new();
        for number in 0..50 {
            stage.fail(1, &format!("guess{number}"), false, 0);
        }
        assert_eq!(stage.banned(1, "9002", 1), Some(Banned::Source));
        assert_eq!(stage.banned(2, "9002", 1), None);
        for source in 10..110 {
            stage.fail(source, "9001", true, 0);
        }
        assert_eq!(stage.banned(500, "9001", 1), Some(Banned::User));
        assert_eq!(stage.banned(500, "9002", 1), None);
    }

    #[test]
    fn a_gateway_is_not_banned_for_one_phone_that_never_gives_up() {
        let mut stage = Stage::new();
        for second in (0..86_400).step_by(10) {
            let is_known = second % 20 == 0;
            let user = if is_known { "9001" } else { "mistyped" };
            if stage.banned(1, user, second).is_none() {
                stage.fail(1, user, is_known, second);
            }
            assert_eq!(stage.banned(1, "9002", second), None, "after {second} s");
        }
    }

    #[test]
    fn time_forgives_and_bans_may_be_off() {
        let mut stage = Stage::new();
        for second in 0..100 {
            assert!(stage.fail(1, "9001", true, second * 61).is_empty(), "one a minute is not a guesser");
        }
        stage.auth.ban_failures = 0;
        stage.auth.ban_source_failures = 0;
        stage.auth.ban_user_failures = 0;
        assert!((0..1_000).all(|_| stage.fail(3, "9001", true, 0).is_empty()), "switched off");
    }

    #[test]
    fn an_address_answers_for_extensions_not_for_tries_and_each_shard_counts_its_share() {
        let mut stage = Stage::new();
        stage.auth.ban_failures = 0;
        for _ in 0..90 {
            stage.fail(1, "9001", true, 0);
        }
        assert_eq!(stage.banned(1, "9002", 1), None, "one extension, however often");
        let tried = (0..).find(|number| {
            let key = key(&format!("guess{number}"));
            !stage.bans.failed(address(2), &key, false, (&stage.auth, 4), at(0)).is_empty()
        });
        assert_eq!(tried, Some(12), "the thirteenth of a quarter of fifty");
        for source in 1_000..1_200 {
            stage.fail(source, "nobody", false, 0);
        }
        assert_eq!(stage.banned(5_000, "nobody", 1), None, "a name that no one has cannot be guessed");
    }

    #[test]
    fn after_a_long_quiet_a_ban_is_short_again() {
        let mut stage = Stage::new();
        let mut ban = |second: u64| {
            let bans = (0..5).map(|_| stage.fail(1, "9001", true, second));
            bans.flatten().map(|ban| ban.left_s).next()
        };
        assert_eq!((ban(0), ban(100)), (Some(60), Some(120)));
        assert_eq!(ban(100 + 120 + 3_000), Some(240));
        assert_eq!(ban(100_000), Some(60));
    }

    #[test]
    fn operators_ban_and_unban() {
        let mut stage = Stage::new();
        let ban = Ban { source: Some(address(1)), user: Box::default(), left_s: 100, is_manual: true };
        stage.bans.ban(&ban, at(0));
        assert!(stage.bans.is_shut_out(address(1), at(99)) && !stage.bans.is_shut_out(address(1), at(100)));
        assert_eq!(stage.bans.bans(at(1)), [Ban { left_s: 99, ..ban }]);
        assert_eq!((stage.bans.unban(Some(address(1)), b""), stage.bans.manual), (1, 0));
        for _ in 0..5 {
            stage.fail(1, "9001", true, 0);
        }
        assert_eq!(stage.bans.unban(None, b"9001"), 2, "from this address, and the extension's own count");
        assert_eq!(stage.banned(1, "9001", 1), None);
    }

    #[test]
    fn the_tables_are_bounded_and_bans_stay_longest() {
        let mut stage = Stage::new();
        for _ in 0..5 {
            stage.fail(1, "9001", true, 0);
        }
        for number in 0..3 * limits::MAX_SUSPECTS as u32 {
            stage.fail(100 + number, &format!("{number}"), true, 0);
        }
        assert!(stage.bans.len() <= 3 * limits::MAX_SUSPECTS);
        assert_eq!(stage.banned(1, "9001", 1), Some(Banned::Pair));
    }

    #[test]
    fn after_a_ban_half_as_many_tries_are_left() {
        let mut stage = Stage::new();
        let tries =
            |stage: &mut Stage, second| (1..=9).find(|_| !stage.fail(1, "9001", true, second).is_empty());
        assert_eq!(tries(&mut stage, 0), Some(5));
        assert_eq!(tries(&mut stage, 61), Some(3));
        assert_eq!(tries(&mut stage, 182), Some(3));
        // An hour later all is forgotten.
        assert_eq!(tries(&mut stage, 5_000), Some(5));
    }
}
