//! Hashing of keys that strangers choose: SipHash-1-3 with a key of the process's, so that nobody can make them collide.

use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// Makes the hashers of one engine's tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyedState {
    keys: (u64, u64),
}

impl KeyedState {
    /// From the process's seed (`Config::hash_seed`).
    pub(crate) fn new(seed: u64) -> Self {
        KeyedState { keys: (seed, seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15) }
    }
}

impl BuildHasher for KeyedState {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.keys.0, self.keys.1)
    }
}

/// FNV-1a, folded: the same in every process.
pub(crate) fn lasting_hash(bytes: &[u8]) -> u16 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let hash = bytes.iter().fold(0x811c_9dc5, step);
    (hash ^ hash >> 16) as u16
}
