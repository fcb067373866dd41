//! How much one address may send (OpenSIPS's module `pike`): a token bucket for each, in a table of fixed size.

use std::hash::BuildHasher;
use std::net::IpAddr;

use crate::base::hash::KeyedState;
use crate::base::limits;
use crate::contract::policy::PikeParams;

/// Buckets that an address may take.
const WAYS: usize = 4;
/// A request, in the thousandths that a bucket counts.
const ONE: u64 = 1_000;

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// Of the address; 0 of none.
    tag: u64,
    tokens: u64,
    filled_ms: u64,
    /// Whether it has sent too much and not been quiet since.
    is_blocked: bool,
}

/// What becomes of one more request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Taken,
    /// The first one too many.
    Blocks,
    TooMuch,
}

/// The buckets of one shard.
#[derive(Debug)]
pub(crate) struct Pike {
    buckets: Box<[Bucket]>,
    /// What a bucket holds, and gets back in a millisecond, in thousandths of a request.
    full: u64,
    per_ms: u64,
    hasher: KeyedState,
    /// Addresses that made room for others.
    pub(crate) evicted: u64,
}

impl Pike {
    /// What the parameters say; `None` where there is no limit.
    pub(crate) fn new(params: &PikeParams, hash_seed: u64) -> Option<Pike> {
        let (density, unit_s) = (params.reqs_density_per_unit, params.sampling_time_unit_s);
        if density == 0 {
            return None;
        }
        let full = u64::from(density) * ONE;
        let unit_ms = u64::from(unit_s.max(1)) * 1_000;
        Some(Pike {
            buckets: vec![Bucket::default(); limits::MAX_BUCKETS].into(),
            full,
            per_ms: (full / unit_ms).max(1),
            hasher: KeyedState::new(hash_seed),
            evicted: 0,
        })
    }

    /// What is known of one address.
    pub(crate) fn excerpt(&self, source: IpAddr) -> Pike {
        let mut buckets: Box<[Bucket]> = vec![Bucket::default(); self.buckets.len()].into();
        let (_, start) = self.place_of(source);
        let own = self.buckets.get(start..start + WAYS);
        if let (Some(own), Some(copy)) = (own, buckets.get_mut(start..start + WAYS)) {
            copy.copy_from_slice(own);
        }
        Pike { buckets, ..*self }
    }

    /// The tag of an address, and where the first of its buckets may be.
    fn place_of(&self, source: IpAddr) -> (u64, usize) {
        let tag = self.hasher.hash_one(source) | 1;
        (tag, (tag >> 8) as usize % (self.buckets.len() / WAYS) * WAYS)
    }

    /// Whether an address may send one more request now. An address that is new replaces the one that could send
    /// most: the table never grows.
    pub(crate) fn takes(&mut self, source: IpAddr, now_ms: u64) -> Sent {
        let (tag, start) = self.place_of(source);
        let (full, per_ms) = (self.full, self.per_ms);
        let Some(set) = self.buckets.get_mut(start..start + WAYS) else { return Sent::Taken };
        let tokens = |bucket: &Bucket| {
            let since = now_ms.saturating_sub(bucket.filled_ms);
            bucket.tokens.saturating_add(since.saturating_mul(per_ms)).min(full)
        };
        let own = set.iter().position(|bucket| bucket.tag == tag);
        let way = own.or_else(|| {
            (0..WAYS).max_by_key(|way| {
                set.get(*way).map_or(0, |bucket| match bucket.tag {
                    0 => u64::MAX,
                    _ => tokens(bucket),
                })
            })
        });
        let Some(bucket) = way.and_then(|way| set.get_mut(way)) else { return Sent::Taken };
        let held = if own.is_some() { tokens(bucket) } else { full };
        self.evicted += u64::from(own.is_none() && bucket.tag != 0);
        // One that floods is let through now and then: it is quiet once half of its bucket is full.
        let was_blocked = own.is_some() && bucket.is_blocked && held < full / 2;
        let is_blocked = held < ONE || was_blocked;
        *bucket = Bucket { tag, tokens: held.saturating_sub(ONE), filled_ms: now_ms, is_blocked };
        match (held >= ONE, was_blocked) {
            (true, _) => Sent::Taken,
            (false, false) => Sent::Blocks,
            (false, true) => Sent::TooMuch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pike(reqs_density_per_unit: u32, sampling_time_unit_s: u32) -> Option<Pike> {
        let drop_user_agents = Vec::new();
        Pike::new(&PikeParams { sampling_time_unit_s, reqs_density_per_unit, drop_user_agents }, 1)
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn a_burst_then_a_rate() {
        assert!(pike(0, 2).is_none(), "no limit");
        let mut pike = pike(30, 2).unwrap();
        let mut passed =
            |ms: u64, tries: u32| (0..tries).filter(|_| pike.takes(address(1), ms) == Sent::Taken).count();
        assert_eq!(passed(5_000, 100), 30, "the burst");
        assert_eq!(passed(5_000, 100), 0);
        assert_eq!(passed(6_000, 100), 15, "half a unit later");
        assert_eq!(passed(60_000, 100), 30, "never more than the burst");
        assert!(pike.takes(address(2), 60_000) == Sent::Taken, "another address has a bucket of its own");
    }

    #[test]
    fn however_many_addresses_send_the_table_stays_and_the_busiest_are_kept() {
        let mut pike = pike(10, 1).unwrap();
        while pike.takes(address(0), 0) == Sent::Taken {}
        for number in 1..=1_000_000 {
            pike.takes(address(number), 0);
        }
        assert_eq!(pike.buckets.len(), limits::MAX_BUCKETS);
        assert!(pike.evicted > 900_000, "{}", pike.evicted);
        assert!(
            pike.takes(address(0), 0) != Sent::Taken,
            "those that send once push nobody out who sends much"
        );
    }
}
