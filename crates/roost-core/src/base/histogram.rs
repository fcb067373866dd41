//! How long things took: counts by upper bound.

/// Upper bounds in milliseconds; what takes longer is counted beyond the last.
pub(crate) const BOUNDS_MS: [u64; 15] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000];

/// Times in milliseconds, or sizes: how many were not above each of the bounds and above the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Histogram {
    counts: [u64; BOUNDS_MS.len() + 1],
    sum: u64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&mut self, value: u64) {
        let place = BOUNDS_MS.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.sum += value;
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(other.counts).for_each(|(own, other)| *own += other);
        self.sum += other.sum;
    }

    /// How many there are of each bound, from the smallest on; the last has none.
    pub fn counts(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        BOUNDS_MS.iter().copied().map(Some).chain([None]).zip(self.counts)
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all.
    pub fn sum(&self) -> u64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_part_of_what_it_bounds() {
        let mut histogram = Histogram::default();
        [0, 1, 2, 3, 60_000, 60_001].into_iter().for_each(|value| histogram.observe(value));
        let mut twice = histogram;
        twice.add(&histogram);
        let counts: Vec<_> = twice.counts().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [(Some(1), 4), (Some(2), 2), (Some(5), 2), (Some(60_000), 2), (None, 2)]);
        assert_eq!((twice.count(), twice.sum()), (12, 2 * 120_007));
    }
}
