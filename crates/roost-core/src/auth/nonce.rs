//! Nonces: stateless to make and check; what is remembered is only that a user's client used one.
//!
//! A nonce is 48 hex digits: its expiry in unix time (8), a part of its own (8), and a keyed MAC of both (32). The part
//! of its own comes from the request's MAC, so the challenge of a retransmitted request is the same within a second.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use subtle::ConstantTimeEq;

use crate::base::hash::KeyedState;
use crate::base::hex::{Hex, parse_hex, push_hex};
use crate::base::limits;
use crate::base::mac::{Purpose, mac};

const STAMP_DIGITS: usize = 8;
const PLAIN_DIGITS: usize = 16;
const NONCE_DIGITS: usize = 48;

/// Appends a new nonce.
pub(crate) fn write_nonce(key: &[u8; 32], expires_unix_s: u64, own: [u8; 4], out: &mut Vec<u8>) {
    let start = out.len();
    push_hex(&(expires_unix_s as u32).to_be_bytes(), out);
    push_hex(&own, out);
    let mac = nonce_mac(key, out.get(start..).unwrap_or(&[]));
    push_hex(&mac, out);
}

/// Whether we made this nonce and it has not expired: `None`, or its expiry in unix time.
pub(crate) fn check_nonce(key: &[u8; 32], nonce: &[u8], now_unix_s: u64) -> Option<u64> {
    if nonce.len() != NONCE_DIGITS {
        return None;
    }
    let (plain, given) = nonce.split_at_checked(PLAIN_DIGITS)?;
    let expires = parse_hex(plain.get(..STAMP_DIGITS)?)?;
    let expected = Hex::new(&nonce_mac(key, plain));
    let ours = bool::from(expected.as_bytes().ct_eq(given));
    (ours && expires >= now_unix_s & 0xffff_ffff).then_some(expires)
}

fn nonce_mac(key: &[u8; 32], plain: &[u8]) -> [u8; 16] {
    mac(key, Purpose::Nonce, &[plain])
}

/// What the use of a nonce means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// New, and noted.
    Fresh,
    /// The very request that was accepted before.
    Retransmission,
    /// Somebody says it again.
    Replay,
    /// No room to note it.
    Full,
}

#[derive(Debug, Clone)]
struct Seen {
    key: u64,
    expires_unix_s: u64,
    /// The highest nonce count, and which of the 64 up to it were used (bit 0 is the highest).
    highest: u32,
    window: u64,
    /// Fingerprints of the last two requests accepted.
    accepted: [u64; 2],
}

/// Which nonces of one shard's users were used: a window of 64 counts each.
#[derive(Debug)]
pub(crate) struct NonceUses {
    table: HashTable<Seen>,
    order: VecDeque<(u64, u64)>,
    hasher: KeyedState,
}

/// One authenticated request's use of a nonce.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NonceUse<'a> {
    pub(crate) user: &'a [u8],
    pub(crate) nonce: &'a [u8],
    pub(crate) expires_unix_s: u64,
    /// The count, or `None` where the nonce may be used once.
    pub(crate) count: Option<u32>,
    /// What a retransmission repeats: Call-ID, CSeq, response, and a hash of what is asked for.
    pub(crate) same: (&'a [u8], u32, &'a [u8], u64),
}

impl NonceUses {
    pub(crate) fn new(hash_seed: u64) -> Self {
        NonceUses { table: HashTable::new(), order: VecDeque::new(), hasher: KeyedState::new(hash_seed) }
    }

    /// What is known of one user's nonce.
    pub(crate) fn excerpt(&self, hash_seed: u64, user: &[u8], nonce: &[u8]) -> NonceUses {
        let mut excerpt = NonceUses::new(hash_seed);
        let key = self.hasher.hash_one((user, nonce));
        if let Some(seen) = self.table.find(key, |seen| seen.key == key) {
            excerpt.order.push_back((seen.expires_unix_s, key));
            excerpt.table.insert_unique(key, seen.clone(), |seen| seen.key);
        }
        excerpt
    }

    /// Notes a use. Call it only for requests whose response was right: strangers fill nothing.
    pub(crate) fn note(&mut self, use_: NonceUse<'_>, now_unix_s: u64) -> Use {
        self.drop_expired(now_unix_s);
        let key = self.hasher.hash_one((use_.user, use_.nonce));
        let fingerprint = self.hasher.hash_one((use_.same, use_.count));
        let count = use_.count.unwrap_or(1);
        let Some(seen) = self.table.find_mut(key, |seen| seen.key == key) else {
            if self.table.len() >= limits::MAX_NONCES {
                return Use::Full;
            }
            let seen = Seen {
                key,
                expires_unix_s: use_.expires_unix_s,
                highest: count,
                window: 1,
                accepted: [fingerprint, fingerprint],
            };
            self.table.insert_unique(key, seen, |seen| seen.key);
            self.order.push_back((use_.expires_unix_s, key));
            return Use::Fresh;
        };
        if seen.accepted.contains(&fingerprint) {
            return Use::Retransmission;
        }
        if use_.count.is_none() || !seen.advance(count) {
            return Use::Replay;
        }
        seen.accepted = [fingerprint, seen.accepted[0]];
        Use::Fresh
    }

    /// How many nonces are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    fn drop_expired(&mut self, now_unix_s: u64) {
        while let Some((expires, key)) =
            self.order.front().copied().filter(|(expires, _)| *expires < now_unix_s)
        {
            self.order.pop_front();
            if let Ok(entry) =
                self.table.find_entry(key, |seen| seen.key == key && seen.expires_unix_s == expires)
            {
                entry.remove();
            }
        }
    }
}

impl Seen {
    /// Notes a count; false when it was used or is too old to know.
    fn advance(&mut self, count: u32) -> bool {
        if count > self.highest {
            let step = count - self.highest;
            self.window = if step < 64 { self.window << step | 1 } else { 1 };
            self.highest = count;
            return true;
        }
        let age = self.highest - count;
        let bit = 1u64.checked_shl(age).unwrap_or(0);
        if bit == 0 || self.window & bit != 0 {
            return false;
        }
        self.window |= bit;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    #[test]
    fn a_nonce_is_good_until_its_second_has_passed() {
        let mut nonce = Vec::new();
        write_nonce(&KEY, 0x5eb6_1179, [1, 2, 3, 4], &mut nonce);
        assert_eq!(&nonce[..16], b"5eb6117901020304");
        assert_eq!(nonce.len(), NONCE_DIGITS);
        assert_eq!(check_nonce(&KEY, &nonce, 0x5eb6_1179), Some(0x5eb6_1179));
        assert_eq!(check_nonce(&KEY, &nonce, 0x5eb6_117a), None);
        assert_eq!(check_nonce(&[8; 32], &nonce, 0), None);
        for at in 0..nonce.len() {
            let mut forged = nonce.clone();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(check_nonce(&KEY, &forged, 0), None, "digit {at}");
        }
        assert_eq!(check_nonce(&KEY, b"", 0), None);
        assert_eq!(check_nonce(&KEY, &[b'0'; 40], 0), None);
    }

    fn use_of<'a>(nonce: &'a [u8], count: Option<u32>, cseq: u32) -> NonceUse<'a> {
        NonceUse { user: b"9001", nonce, expires_unix_s: 100, count, same: (b"call", cseq, b"response", 7) }
    }

    #[test]
    fn counts_may_come_in_any_order_but_once() {
        let mut uses = NonceUses::new(1);
        for (count, cseq, expected) in [
            (1, 1, Use::Fresh),
            (1, 1, Use::Retransmission),
            (1, 9, Use::Replay),
            (5, 2, Use::Fresh),
            (3, 3, Use::Fresh),
            (3, 4, Use::Replay),
            (5, 2, Use::Retransmission),
            (100, 5, Use::Fresh),
            (37, 6, Use::Fresh),
            (36, 7, Use::Replay),
            (100, 8, Use::Replay),
        ] {
            assert_eq!(uses.note(use_of(b"n", Some(count), cseq), 50), expected, "nc {count}, CSeq {cseq}");
        }
        assert_eq!(uses.note(use_of(b"other", Some(1), 1), 50), Use::Fresh);
        let stolen = NonceUse { same: (b"call", 1, b"response", 8), ..use_of(b"other", Some(1), 1) };
        assert_eq!(uses.note(stolen, 50), Use::Replay, "the same credentials with another Contact");
    }

    #[test]
    fn a_single_use_nonce_is_used_once() {
        let mut uses = NonceUses::new(1);
        assert_eq!(uses.note(use_of(b"n", None, 1), 50), Use::Fresh);
        assert_eq!(uses.note(use_of(b"n", None, 1), 50), Use::Retransmission);
        assert_eq!(uses.note(use_of(b"n", None, 2), 50), Use::Replay);
    }

    #[test]
    fn expired_nonces_are_forgotten() {
        let mut uses = NonceUses::new(1);
        for n in 0..1000u32 {
            uses.note(use_of(&n.to_be_bytes(), None, 1), 50);
        }
        assert_eq!(uses.len(), 1000);
        uses.note(NonceUse { expires_unix_s: 200, ..use_of(b"late", None, 1) }, 101);
        assert_eq!((uses.len(), uses.order.len()), (1, 1));
    }
}
