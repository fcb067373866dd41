//! The secrets of one shard's users: what the database said, and how long it is believed.
//!
//! Bounded: known users leave in the order they came when the table is full; unknown ones have a small table of
//! their own, so that whoever guesses names pushes nobody out.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use crate::hash::KeyedState;
use hashbrown::HashTable;

use crate::config::Algorithm;
use crate::digest::Hex;
use crate::limits;
use crate::outbox::Secrets;

/// A user's entry.
#[derive(Debug)]
pub(crate) struct Known {
    key: Box<[u8]>,
    pub(crate) secrets: Secrets,
    pub(crate) loaded_ms: u64,
    pub(crate) memo: Option<Memo>,
}

/// The last HA1 computed from a plaintext, and what for.
#[derive(Debug)]
pub(crate) struct Memo {
    pub(crate) algorithm: Algorithm,
    pub(crate) username: Box<[u8]>,
    pub(crate) realm: Box<[u8]>,
    pub(crate) ha1: Hex,
}

/// What the cache holds of a user.
pub(crate) enum Cached<'a> {
    Known(&'a mut Known),
    /// The database had no such user at this time.
    Unknown {
        loaded_ms: u64,
    },
    Nothing,
}

pub(crate) struct CredentialCache {
    known: HashTable<u32>,
    entries: Vec<Option<Known>>,
    free: Vec<u32>,
    /// Where the next eviction looks first.
    hand: usize,
    limit: usize,
    unknown: HashTable<(Box<[u8]>, u64)>,
    unknown_order: VecDeque<(Box<[u8]>, u64)>,
    hasher: KeyedState,
    pub(crate) evicted: u64,
}

impl std::fmt::Debug for CredentialCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CredentialCache({} known, {} unknown)", self.known.len(), self.unknown.len())
    }
}

impl CredentialCache {
    pub(crate) fn new(limit: usize, hash_seed: u64) -> Self {
        CredentialCache {
            known: HashTable::new(),
            entries: Vec::new(),
            free: Vec::new(),
            hand: 0,
            limit: limit.max(1),
            unknown: HashTable::new(),
            unknown_order: VecDeque::new(),
            hasher: KeyedState::new(hash_seed),
            evicted: 0,
        }
    }

    fn find(&self, key: &[u8]) -> Option<u32> {
        let is_it = |index: &u32| matches!(self.entries.get(*index as usize), Some(Some(entry)) if *entry.key == *key);
        self.known.find(self.hasher.hash_one(key), is_it).copied()
    }

    pub(crate) fn get(&mut self, key: &[u8]) -> Cached<'_> {
        if let Some(index) = self.find(key) {
            return match self.entries.get_mut(index as usize) {
                Some(Some(entry)) => Cached::Known(entry),
                _ => Cached::Nothing,
            };
        }
        match self.unknown.find(self.hasher.hash_one(key), |(user, _)| **user == *key) {
            Some((_, loaded_ms)) => Cached::Unknown { loaded_ms: *loaded_ms },
            None => Cached::Nothing,
        }
    }

    /// Notes what the database said.
    pub(crate) fn put(&mut self, key: &[u8], secrets: Option<Secrets>, now_ms: u64) {
        match secrets {
            Some(secrets) => {
                self.forget_unknown(key);
                self.put_known(key, secrets, now_ms);
            }
            None => {
                self.forget_known(key);
                self.put_unknown(key, now_ms);
            }
        }
    }

    /// Forgets a user, known or unknown.
    pub(crate) fn forget(&mut self, key: &[u8]) {
        self.forget_known(key);
        self.forget_unknown(key);
    }

    /// Forgets everybody.
    pub(crate) fn clear(&mut self) {
        self.known.clear();
        self.entries.clear();
        self.free.clear();
        self.hand = 0;
        self.unknown.clear();
        self.unknown_order.clear();
    }

    fn put_known(&mut self, key: &[u8], secrets: Secrets, now_ms: u64) {
        if let Some(index) = self.find(key) {
            if let Some(Some(entry)) = self.entries.get_mut(index as usize) {
                entry.loaded_ms = now_ms;
                if entry.secrets != secrets {
                    entry.secrets = secrets;
                    entry.memo = None;
                }
            }
            return;
        }
        if self.known.len() >= self.limit {
            self.evict();
        }
        let entry = Known { key: key.into(), secrets, loaded_ms: now_ms, memo: None };
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() as u32 - 1
        });
        if let Some(slot) = self.entries.get_mut(index as usize) {
            *slot = Some(entry);
        }
        let (entries, hasher) = (&self.entries, &self.hasher);
        let rehash = |index: &u32| match entries.get(*index as usize) {
            Some(Some(entry)) => hasher.hash_one(&*entry.key),
            _ => 0,
        };
        self.known.insert_unique(hasher.hash_one(key), index, rehash);
    }

    fn evict(&mut self) {
        let places = self.entries.len();
        let taken = (0..places)
            .map(|step| (self.hand + step) % places.max(1))
            .find(|at| matches!(self.entries.get(*at), Some(Some(_))));
        if let Some(at) = taken {
            self.hand = at + 1;
            self.evicted += 1;
            self.drop_entry(at as u32);
        }
    }

    fn forget_known(&mut self, key: &[u8]) {
        if let Some(index) = self.find(key) {
            self.drop_entry(index);
        }
    }

    fn drop_entry(&mut self, index: u32) {
        let Some(entry) = self.entries.get_mut(index as usize).and_then(Option::take) else { return };
        if let Ok(place) = self.known.find_entry(self.hasher.hash_one(&*entry.key), |at| *at == index) {
            place.remove();
        }
        self.free.push(index);
    }

    fn put_unknown(&mut self, key: &[u8], now_ms: u64) {
        self.forget_unknown(key);
        let is_full = |cache: &Self| cache.unknown.len() >= limits::MAX_UNKNOWN_USERS;
        while is_full(self) || self.unknown_order.len() >= 2 * limits::MAX_UNKNOWN_USERS {
            let Some((user, stamp)) = self.unknown_order.pop_front() else { break };
            let hash = self.hasher.hash_one(&*user);
            if let Ok(place) = self.unknown.find_entry(hash, |(other, at)| *other == user && *at == stamp) {
                place.remove();
            }
        }
        let hasher = &self.hasher;
        self.unknown
            .insert_unique(hasher.hash_one(key), (key.into(), now_ms), |(user, _)| hasher.hash_one(&**user));
        self.unknown_order.push_back((key.into(), now_ms));
    }

    fn forget_unknown(&mut self, key: &[u8]) {
        if let Ok(place) = self.unknown.find_entry(self.hasher.hash_one(key), |(user, _)| **user == *key) {
            place.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(password: &str) -> Option<Secrets> {
        Some(Secrets { password: password.as_bytes().into(), ..Secrets::default() })
    }

    #[test]
    fn known_unknown_forgotten() {
        let mut cache = CredentialCache::new(10, 1);
        assert!(matches!(cache.get(b"9001"), Cached::Nothing));
        cache.put(b"9001", None, 5);
        assert!(matches!(cache.get(b"9001"), Cached::Unknown { loaded_ms: 5 }));
        cache.put(b"9001", secrets("x"), 6);
        assert!(matches!(cache.get(b"9001"), Cached::Known(entry) if *entry.secrets.password == *b"x"));
        cache.forget(b"9001");
        assert!(matches!(cache.get(b"9001"), Cached::Nothing));
        cache.put(b"9001", secrets("x"), 6);
        cache.put(b"9002", None, 6);
        cache.clear();
        assert!(matches!(cache.get(b"9001"), Cached::Nothing));
        assert!(matches!(cache.get(b"9002"), Cached::Nothing));
        cache.put(b"9002", secrets("y"), 7);
        assert!(matches!(cache.get(b"9002"), Cached::Known(entry) if *entry.secrets.password == *b"y"));
    }

    #[test]
    fn both_tables_are_bounded() {
        let mut cache = CredentialCache::new(10, 1);
        for n in 0..100u32 {
            cache.put(&n.to_be_bytes(), secrets("x"), 1);
        }
        assert_eq!((cache.known.len(), cache.entries.len(), cache.evicted), (10, 10, 90));
        for n in 0..3 * limits::MAX_UNKNOWN_USERS as u64 {
            cache.put(&n.to_be_bytes(), None, n);
        }
        assert_eq!(cache.unknown.len(), limits::MAX_UNKNOWN_USERS);
        for n in 0..5 * limits::MAX_UNKNOWN_USERS as u64 {
            cache.put(b"same", None, n);
        }
        assert!(cache.unknown_order.len() <= 2 * limits::MAX_UNKNOWN_USERS);
        assert!(matches!(cache.get(&99u32.to_be_bytes()), Cached::Known(_)));
    }
}
