//! A table of entries that are found by a key inside them: an index by hash, a slab, and a hand that goes round it, for
//! its owner, which sweeps it a part at a time or takes an entry out to make room.
//!
//! The table keeps no hasher: its owner gives each key's hash, and says of an entry what its key hashes to.

use crate::base::slab::{Index, Slab};

/// How many entries an eviction looks at before it takes one that should stay.
const GLANCES: usize = 32;

/// The entries.
#[derive(Debug)]
pub(crate) struct Table<T> {
    index: Index,
    entries: Slab<T>,
    /// The slot that comes next in turn.
    hand: usize,
    /// Entries that made room for others.
    pub(crate) evicted: u64,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { index: Index::default(), entries: Slab::default(), hand: 0, evicted: 0 }
    }
}

impl<T> Table<T> {
    /// The slot of the entry with this hash that `is_it` knows.
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<u32> {
        self.index.find(hash, |slot| self.entries.get(slot).is_some_and(&is_it))
    }

    /// Puts an entry in whose key is not there; its slot.
    pub(crate) fn insert(&mut self, hash: u64, entry: T) -> u32 {
        let slot = self.entries.put(entry);
        self.index.insert(hash, slot);
        slot
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, slot: u32, hash_of: impl Fn(&T) -> u64) -> Option<T> {
        let entry = self.entries.take(slot)?;
        self.index.remove(hash_of(&entry), slot);
        Some(entry)
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        self.entries.get(slot)
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.entries.get_mut(slot)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// How many slots there are, empty ones included.
    pub(crate) fn slots(&self) -> usize {
        self.entries.len()
    }

    /// The entries from a slot on, with their slots.
    pub(crate) fn iter_from(&self, slot: usize) -> impl Iterator<Item = (usize, &T)> {
        self.entries.iter_from(slot)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut()
    }

    /// The next slot in turn, empty or not; `None` when there is none at all.
    pub(crate) fn next_in_turn(&mut self) -> Option<u32> {
        let slots = self.slots();
        if self.hand >= slots {
            self.hand = 0;
        }
        self.hand += 1;
        (slots > 0).then(|| self.hand as u32 - 1)
    }

    /// Takes the next entry in turn out, rather one that `may_go`; an entry that should stay goes when none of the next
    /// few may.
    pub(crate) fn evict(&mut self, may_go: impl Fn(&T) -> bool, hash_of: impl Fn(&T) -> u64) {
        let slots = self.slots().max(1);
        let turn = |step: usize| (self.hand + step) % slots;
        let any = (0..slots).map(turn).find(|slot| self.get(*slot as u32).is_some());
        let fitting = (0..GLANCES).map(turn).find(|slot| self.get(*slot as u32).is_some_and(&may_go));
        let Some(slot) = fitting.or(any) else { return };
        self.hand = slot + 1;
        self.evicted += 1;
        self.remove(slot as u32, hash_of);
    }

    /// Takes all entries out that are meant; how many.
    pub(crate) fn remove_all(&mut self, is_meant: impl Fn(&T) -> bool, hash_of: impl Fn(&T) -> u64) -> usize {
        let meant: Vec<usize> =
            self.iter_from(0).filter(|(_, entry)| is_meant(entry)).map(|(slot, _)| slot).collect();
        for slot in &meant {
            self.remove(*slot as u32, &hash_of);
        }
        meant.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: &u64) -> u64 {
        key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn table(keys: std::ops::Range<u64>) -> Table<u64> {
        let mut table = Table::default();
        for key in keys {
            table.insert(hash(&key), key);
        }
        table
    }

    #[test]
    fn found_by_key_until_removed() {
        let mut table = table(0..10);
        let slot = table.find(hash(&7), |key| *key == 7).unwrap();
        assert_eq!((table.get(slot), table.len()), (Some(&7), 10));
        assert_eq!(table.remove(slot, hash), Some(7));
        assert_eq!((table.find(hash(&7), |key| *key == 7), table.len(), table.slots()), (None, 9, 10));
        assert_eq!(table.remove_all(|key| key % 2 == 0, hash), 5);
        assert_eq!(table.iter_from(0).map(|(_, key)| *key).collect::<Vec<_>>(), [1, 3, 5, 9]);
    }

    #[test]
    fn an_eviction_takes_turns_and_spares_what_should_stay() {
        let mut table = table(0..4);
        table.evict(|key| *key != 0, hash);
        table.evict(|_| true, hash);
        assert_eq!(table.iter_from(0).map(|(_, key)| *key).collect::<Vec<_>>(), [0, 3]);
        table.evict(|_| false, hash);
        assert_eq!((table.len(), table.evicted), (1, 3), "one must go");
    }

    #[test]
    fn the_hand_goes_round() {
        let mut table = table(0..3);
        assert_eq!((0..4).map(|_| table.next_in_turn()).collect::<Vec<_>>(), [0, 1, 2, 0].map(Some));
        assert_eq!(Table::<u64>::default().next_in_turn(), None);
    }
}
