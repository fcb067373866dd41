//! Chance for the simulated world: everything is drawn from one seed.

use roost_core::Rng;

/// A source of draws; the same seed gives the same draws.
#[derive(Debug, Clone)]
pub struct Dice(Rng);

impl Dice {
    /// From any seed. Neighbouring seeds are mixed apart (SplitMix64), as the generator itself does not.
    pub fn new(seed: u64) -> Dice {
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Dice(Rng::new(mixed ^ (mixed >> 31)))
    }

    /// Dice of their own for one part of the world: what it draws disturbs no other part.
    pub fn fork(&mut self) -> Dice {
        Dice::new(self.next_u64())
    }

    /// A generator for an engine.
    pub fn rng(&mut self) -> Rng {
        Rng::new(self.next_u64())
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from 0 to `n - 1`; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, (low, high): (u64, u64)) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True in this many of a thousand draws.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1_000) < permille
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// A key.
    pub fn key(&mut self) -> [u8; 32] {
        let mut key = [0; 32];
        for part in key.chunks_exact_mut(8) {
            part.copy_from_slice(&self.next_u64().to_le_bytes());
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_row_of_draws() {
        let row = |seed| {
            let mut dice = Dice::new(seed);
            (0..20).map(|_| dice.between((5, 9))).collect::<Vec<_>>()
        };
        assert_eq!(row(7), row(7));
        assert_ne!(row(0), row(1));
        assert!(row(3).iter().all(|draw| (5..=9).contains(draw)));
        let mut dice = Dice::new(1);
        assert_eq!(dice.below(0), 0);
        assert!((0..100).all(|_| !dice.chance(0) && dice.chance(1_000)));
    }
}
