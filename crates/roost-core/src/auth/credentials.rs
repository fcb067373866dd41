//! The secrets of one shard's users: what the database said, and how long it is believed.
//!
//! Bounded: known users leave in the order they came when the table is full; unknown ones have a small table of
//! their own, so that guessed names push no user out.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::num::NonZeroU64;

use hashbrown::HashTable;

use crate::base::hash::KeyedState;
use crate::base::limits;
use crate::base::table::Table;
use crate::contract::subscriber::Secrets;

/// A user's entry: name and secrets in one allocation, because there are as many of them as phones.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// The key, then the secrets in the order of [`Secrets`].
    text: Box<[u8]>,
    /// Where each part ends but the last.
    ends: [u16; 4],
    /// Whether it stands in the last whole reading of the table, whose age then counts.
    is_read: bool,
    loaded_ms: u64,
    /// What the last HA1 computed from the plaintext is for (algorithm, username, realm), and the first 16 bytes of it.
    memo: Option<(NonZeroU64, [u8; 16])>,
}

impl Known {
    fn new(key: &[u8], secrets: &Secrets, loaded_ms: u64, is_read: bool) -> Known {
        let Secrets { password, password_2, sha256, sha512t256 } = secrets;
        let mut parts: [&[u8]; 5] = [key, password, password_2, sha256, sha512t256];
        if parts.iter().map(|part| part.len()).sum::<usize>() > usize::from(u16::MAX) {
            // No column of subscriber is that long: it is not a secret that anybody has.
            parts = [key, &[], &[], &[], &[]];
        }
        let mut ends = [0; 4];
        let mut end = 0;
        for (place, part) in ends.iter_mut().zip(parts) {
            end += part.len();
            *place = end as u16;
        }
        Known { text: parts.concat().into(), ends, is_read, loaded_ms, memo: None }
    }

    fn part(&self, index: usize) -> &[u8] {
        let end_of = |index: usize| self.ends.get(index).map_or(self.text.len(), |end| usize::from(*end));
        let start = index.checked_sub(1).map_or(0, end_of);
        self.text.get(start..end_of(index)).unwrap_or(&[])
    }

    fn key(&self) -> &[u8] {
        self.part(0)
    }

    /// `auth_db.password_column`
    pub(crate) fn password(&self) -> &[u8] {
        self.part(1)
    }

    /// `auth_db.password_column_2`
    pub(crate) fn password_2(&self) -> &[u8] {
        self.part(2)
    }

    /// Column `ha1_sha256`
    pub(crate) fn sha256(&self) -> &[u8] {
        self.part(3)
    }

    /// Column `ha1_sha512t256`
    pub(crate) fn sha512t256(&self) -> &[u8] {
        self.part(4)
    }

    /// MD5 of `username:realm:password`, if it was the last that was noted.
    pub(crate) fn memo(&self, purpose: NonZeroU64) -> Option<[u8; 16]> {
        self.memo.filter(|(noted, _)| *noted == purpose).map(|(_, ha1)| ha1)
    }

    /// Notes an HA1. Only who knows the password may leave anything here.
    pub(crate) fn note(&mut self, purpose: NonZeroU64, ha1: [u8; 16]) {
        self.memo = Some((purpose, ha1));
    }
}

/// What the cache holds of a user.
pub(crate) enum Cached<'a> {
    /// The entry, and when the database said so.
    Known(&'a mut Known, u64),
    /// The database had no such user at this time.
    Unknown {
        loaded_ms: u64,
    },
    Nothing,
}

pub(crate) struct CredentialCache {
    known: Table<Known>,
    limit: usize,
    unknown: HashTable<(Box<[u8]>, u64)>,
    unknown_order: VecDeque<(Box<[u8]>, u64)>,
    hasher: KeyedState,
    /// Unknown users that made room for others.
    pub(crate) unknown_evicted: u64,
    /// When the last whole reading of the table began.
    all_read_ms: u64,
    /// When everybody was forgotten last.
    cleared_ms: u64,
}

impl std::fmt::Debug for CredentialCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CredentialCache({} known, {} unknown)", self.known.len(), self.unknown.len())
    }
}

impl CredentialCache {
    pub(crate) fn new(limit: usize, hash_seed: u64) -> Self {
        CredentialCache {
            known: Table::default(),
            limit: limit.max(1),
            unknown: HashTable::new(),
            unknown_order: VecDeque::new(),
            hasher: KeyedState::new(hash_seed),
            unknown_evicted: 0,
            all_read_ms: 0,
            cleared_ms: 0,
        }
    }

    /// What is known of some users.
    pub(crate) fn excerpt<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) -> CredentialCache {
        let mut known = Table::default();
        known.evicted = self.known.evicted;
        let mut excerpt = CredentialCache {
            known,
            limit: self.limit,
            unknown: HashTable::new(),
            unknown_order: VecDeque::new(),
            unknown_evicted: 0,
            ..*self
        };
        for key in keys {
            let hash = self.hasher.hash_one(key);
            if let Some(known) = self.find(key).and_then(|slot| self.known.get(slot)) {
                excerpt.put_known(known.clone());
            } else if let Some((_, loaded_ms)) = self.unknown.find(hash, |(user, _)| **user == *key) {
                excerpt.put_unknown(key, *loaded_ms);
            }
        }
        excerpt
    }

    fn find(&self, key: &[u8]) -> Option<u32> {
        self.known.find(self.hasher.hash_one(key), |entry| entry.key() == key)
    }

    /// Secrets that made room for others.
    pub(crate) fn evicted(&self) -> u64 {
        self.known.evicted
    }

    pub(crate) fn get(&mut self, key: &[u8]) -> Cached<'_> {
        if let Some(index) = self.find(key) {
            return match self.known.get_mut(index) {
                Some(entry) => {
                    let read_ms = if entry.is_read { self.all_read_ms } else { 0 };
                    let loaded_ms = entry.loaded_ms.max(read_ms);
                    Cached::Known(entry, loaded_ms)
                }
                _ => Cached::Nothing,
            };
        }
        match self.unknown.find(self.hasher.hash_one(key), |(user, _)| **user == *key) {
            Some((_, loaded_ms)) => Cached::Unknown { loaded_ms: *loaded_ms },
            None => Cached::Nothing,
        }
    }

    /// Whether nothing is known of a user though the whole table was read and had room: probably there is none.
    pub(crate) fn is_stranger(&self, key: &[u8]) -> bool {
        self.all_read_ms != 0 && self.known.evicted == 0 && self.find(key).is_none()
    }

    /// Notes what the database said; whether that is another secret than before.
    pub(crate) fn put(&mut self, key: &[u8], secrets: Option<Secrets>, now_ms: u64) -> bool {
        match secrets {
            Some(secrets) => {
                self.forget_unknown(key);
                self.put_known(Known::new(key, &secrets, now_ms, false))
            }
            None => {
                self.forget_known(key);
                self.put_unknown(key, now_ms);
                false
            }
        }
    }

    /// Notes a row that a whole reading of the table found new or changed; whether the secret is another than before.
    pub(crate) fn put_read(&mut self, key: &[u8], secrets: &Secrets, since_ms: u64) -> bool {
        self.forget_unknown(key);
        let loaded_ms = if since_ms > self.cleared_ms { since_ms } else { 0 };
        self.put_known(Known::new(key, secrets, loaded_ms, true))
    }

    /// A whole reading that began at this time found all other rows as they were.
    pub(crate) fn all_read(&mut self, since_ms: u64) {
        if since_ms > self.cleared_ms {
            self.all_read_ms = since_ms;
        }
    }

    /// Rows have gone, which ones is not known: each entry is as old as it is.
    pub(crate) fn some_gone(&mut self) {
        for entry in self.known.iter_mut() {
            entry.is_read = false;
        }
    }

    /// Forgets a user, known or unknown.
    pub(crate) fn forget(&mut self, key: &[u8]) {
        self.forget_known(key);
        self.forget_unknown(key);
    }

    /// Forgets everybody: what is known counts again once a whole reading that began later has found it.
    pub(crate) fn clear(&mut self, now_ms: u64) {
        for entry in self.known.iter_mut() {
            entry.loaded_ms = 0;
        }
        self.all_read_ms = 0;
        self.cleared_ms = now_ms;
        self.unknown.clear();
        self.unknown_order.clear();
    }

    fn put_known(&mut self, entry: Known) -> bool {
        if let Some(index) = self.find(entry.key()) {
            let mut is_changed = false;
            if let Some(old) = self.known.get_mut(index) {
                is_changed = old.text != entry.text || old.ends != entry.ends;
                let memo = old.memo.filter(|_| !is_changed);
                // A row that stands in the whole reading goes on standing there.
                let is_read = entry.is_read || old.is_read;
                *old = Known { memo, is_read, ..entry };
            }
            return is_changed;
        }
        let hasher = self.hasher;
        if self.known.len() >= self.limit {
            self.known.evict(|_| true, |entry| hasher.hash_one(entry.key()));
        }
        self.known.insert(hasher.hash_one(entry.key()), entry);
        false
    }

    fn forget_known(&mut self, key: &[u8]) {
        let hasher = self.hasher;
        if let Some(index) = self.find(key) {
            self.known.remove(index, |entry| hasher.hash_one(entry.key()));
        }
    }

    fn put_unknown(&mut self, key: &[u8], now_ms: u64) {
        self.forget_unknown(key);
        let is_full = |cache: &Self| cache.unknown.len() >= limits::MAX_UNKNOWN_USERS;
        while is_full(self) || self.unknown_order.len() >= 2 * limits::MAX_UNKNOWN_USERS {
            let Some((user, stamp)) = self.unknown_order.pop_front() else { break };
            let hash = self.hasher.hash_one(&*user);
            if let Ok(place) = self.unknown.find_entry(hash, |(other, at)| *other == user && *at == stamp) {
                place.remove();
                self.unknown_evicted += 1;
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
        assert!(matches!(cache.get(b"9001"), Cached::Known(entry, 6) if entry.password() == b"x"));
        cache.forget(b"9001");
        assert!(matches!(cache.get(b"9001"), Cached::Nothing));
        cache.put_read(b"9001", &secrets("x").unwrap(), 6);
        cache.put(b"9002", None, 6);
        cache.clear(7);
        let age = |cache: &mut CredentialCache| match cache.get(b"9001") {
            Cached::Known(_, loaded_ms) => loaded_ms,
            _ => u64::MAX,
        };
        assert_eq!(age(&mut cache), 0);
        assert!(matches!(cache.get(b"9002"), Cached::Nothing));
        cache.all_read(7);
        assert_eq!(age(&mut cache), 0);
        cache.all_read(8);
        assert_eq!(age(&mut cache), 8);
    }

    #[test]
    fn both_tables_are_bounded() {
        let mut cache = CredentialCache::new(10, 1);
        for n in 0..100u32 {
            cache.put(&n.to_be_bytes(), secrets("x"), 1);
        }
        assert_eq!((cache.known.len(), cache.known.slots(), cache.evicted()), (10, 10, 90));
        for n in 0..3 * limits::MAX_UNKNOWN_USERS as u64 {
            cache.put(&n.to_be_bytes(), None, n);
        }
        assert_eq!(cache.unknown.len(), limits::MAX_UNKNOWN_USERS);
        for n in 0..5 * limits::MAX_UNKNOWN_USERS as u64 {
            cache.put(b"same", None, n);
        }
        assert!(cache.unknown_order.len() <= 2 * limits::MAX_UNKNOWN_USERS);
        assert!(matches!(cache.get(&99u32.to_be_bytes()), Cached::Known(..)));
    }
    #[test]
    fn a_whole_reading_renews_what_it_saw_and_nothing_else() {
        let mut cache = CredentialCache::new(10, 1);
        let age = |cache: &mut CredentialCache, key: &[u8]| match cache.get(key) {
            Cached::Known(_, loaded_ms) => loaded_ms,
            _ => 0,
        };
        cache.put_read(b"9001", &secrets("x").unwrap(), 5);
        cache.put(b"9002", secrets("y"), 6);
        cache.all_read(100);
        assert_eq!((age(&mut cache, b"9001"), age(&mut cache, b"9002")), (100, 6));
        cache.put(b"9001", secrets("z"), 110);
        assert_eq!(age(&mut cache, b"9001"), 110);
        cache.all_read(200);
        assert_eq!(age(&mut cache, b"9001"), 200);
        cache.some_gone();
        assert_eq!(age(&mut cache, b"9001"), 110);
        assert!(matches!(cache.get(b"9001"), Cached::Known(entry, _) if entry.password() == b"z"));
    }

    #[test]
    fn parts_stand_apart_and_a_memo_lives_as_long_as_its_password() {
        let all = Secrets {
            password: (*b"p").into(),
            password_2: (*b"ha1b").into(),
            sha256: (*b"s").into(),
            sha512t256: (*b"tt").into(),
        };
        let mut cache = CredentialCache::new(10, 1);
        let purpose = NonZeroU64::new(7).unwrap();
        cache.put(b"9001", Some(all.clone()), 1);
        let Cached::Known(entry, _) = cache.get(b"9001") else { panic!("known") };
        assert_eq!((entry.password(), entry.password_2()), (&b"p"[..], &b"ha1b"[..]));
        assert_eq!((entry.sha256(), entry.sha512t256()), (&b"s"[..], &b"tt"[..]));
        entry.note(purpose, [1; 16]);
        cache.put(b"9001", Some(all), 2);
        let memo = |cache: &mut CredentialCache, purpose| match cache.get(b"9001") {
            Cached::Known(entry, _) => entry.memo(purpose),
            _ => None,
        };
        assert_eq!(memo(&mut cache, purpose), Some([1; 16]));
        assert_eq!(memo(&mut cache, NonZeroU64::new(8).unwrap()), None);
        cache.put(b"9001", secrets("new"), 3);
        assert_eq!(memo(&mut cache, purpose), None);
        let long = Secrets { password: vec![b'x'; 70_000].into(), ..Secrets::default() };
        cache.put(b"9001", Some(long), 4);
        assert!(matches!(cache.get(b"9001"), Cached::Known(entry, _) if entry.password().is_empty()));
    }
}
