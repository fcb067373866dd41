//! Repeatable chance: xorshift64* (Vigna). The same seed gives the same test.

use std::hash::{BuildHasher, RandomState};

#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Random {
        // Zero is the one state that xorshift never leaves; neighbouring seeds must not start alike.
        let mut random = Random((seed ^ 0x9e37_79b9_7f4a_7c15).max(1));
        for _ in 0..8 {
            random.number();
        }
        random
    }

    /// A seed that differs from run to run, for tests that print theirs.
    pub fn fresh_seed() -> u64 {
        RandomState::new().hash_one(0u8)
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.number() >> 56) as u8).collect()
    }
}
