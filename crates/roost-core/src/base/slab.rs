//! Entries by index, and indices by hash: how tables that hold as many entries as there are phones grow without a halt.
//!
//! Entries stand in chunks that never move. The index keeps a part of each hash, so that it grows by copying itself
//! alone: no entry is visited and no key is hashed again.

use hashbrown::HashTable;

/// Entries of one chunk.
const CHUNK: usize = 1_024;

/// A slab: an entry keeps its index until it is taken out.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
}

/// Where the entries of some hash are.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// A part of the hash, and the index.
    table: HashTable<(u32, u32)>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { chunks: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Puts an entry in; its index.
    pub(crate) fn put(&mut self, entry: T) -> u32 {
        if let Some(index) = self.free.pop() {
            if let Some(slot) = self.slot_mut(index) {
                *slot = Some(entry);
            }
            return index;
        }
        let index = self.len() as u32;
        match self.chunks.last_mut().filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => chunk.push(Some(entry)),
            None => {
                // The first chunk grows as it is filled: most hosts have few phones.
                let room = if self.chunks.is_empty() { 0 } else { CHUNK };
                let mut chunk = Vec::with_capacity(room);
                chunk.push(Some(entry));
                self.chunks.push(chunk);
            }
        }
        index
    }

    /// A slab with these entries at their indices.
    pub(crate) fn of_slots(slots: impl Iterator<Item = Option<T>>) -> Slab<T> {
        let mut slab = Slab::default();
        for (index, slot) in slots.enumerate() {
            if slab.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
                slab.chunks.push(Vec::with_capacity(CHUNK));
            }
            if slot.is_none() {
                slab.free.push(index as u32);
            }
            if let Some(chunk) = slab.chunks.last_mut() {
                chunk.push(slot);
            }
        }
        slab
    }

    /// Takes the entry of an index out.
    pub(crate) fn take(&mut self, index: u32) -> Option<T> {
        let entry = self.slot_mut(index)?.take()?;
        self.free.push(index);
        Some(entry)
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.chunks.get(index as usize / CHUNK)?.get(index as usize % CHUNK)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slot_mut(index)?.as_mut()
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Option<T>> {
        self.chunks.get_mut(index as usize / CHUNK)?.get_mut(index as usize % CHUNK)
    }

    /// How many slots there are, empty ones included.
    pub(crate) fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// The entries from an index on, with their indices.
    pub(crate) fn iter_from(&self, from: usize) -> impl Iterator<Item = (usize, &T)> {
        let (first, within) = (from / CHUNK, from % CHUNK);
        let chunks = self.chunks.iter().enumerate().skip(first);
        chunks.flat_map(move |(at, chunk)| {
            let skipped = if at == first { within } else { 0 };
            let slots = chunk.iter().enumerate().skip(skipped);
            slots.filter_map(move |(index, slot)| Some((at * CHUNK + index, slot.as_ref()?)))
        })
    }

    /// All entries.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten().flatten()
    }
}

impl Index {
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The index of the entry of this hash that `is_it` knows.
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let part = part(hash);
        let found = self.table.find(spread(part), |(other, index)| *other == part && is_it(*index));
        found.map(|(_, index)| *index)
    }

    pub(crate) fn insert(&mut self, hash: u64, index: u32) {
        let part = part(hash);
        self.table.insert_unique(spread(part), (part, index), |(part, _)| spread(*part));
    }

    pub(crate) fn remove(&mut self, hash: u64, index: u32) {
        let part = part(hash);
        if let Ok(entry) = self.table.find_entry(spread(part), |(_, other)| *other == index) {
            entry.remove();
        }
    }
}

fn part(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The table chooses a bucket by the lower bits and tells its entries apart by the upper ones.
fn spread(part: u32) -> u64 {
    u64::from(part) << 32 | u64::from(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_indices() {
        let mut slab = Slab::default();
        for n in 0..3 * CHUNK as u32 {
            assert_eq!(slab.put(n), n);
        }
        assert_eq!((slab.take(5), slab.take(5), slab.take(2_000)), (Some(5), None, Some(2_000)));
        assert_eq!((slab.get(5), slab.get(6), slab.len()), (None, Some(&6), 3 * CHUNK));
        assert_eq!(slab.iter_from(1_999).map(|(index, _)| index).take(2).collect::<Vec<_>>(), [1_999, 2_001]);
        assert_eq!(slab.put(77), 2_000, "a free index is used first");
        assert_eq!(slab.iter_from(0).count(), 3 * CHUNK - 1);
        slab.iter_mut().for_each(|entry| *entry += 1);
        assert_eq!((slab.get(2_000), slab.get(3 * CHUNK as u32)), (Some(&78), None));
    }

    #[test]
    fn an_index_finds_what_it_was_told() {
        let mut index = Index::default();
        let hash = |n: u32| u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for n in 0..10_000 {
            index.insert(hash(n), n);
        }
        assert!((0..10_000).all(|n| index.find(hash(n), |index| index == n) == Some(n)));
        assert_eq!(index.find(hash(7), |_| false), None);
        index.remove(hash(7), 7);
        assert_eq!((index.find(hash(7), |index| index == 7), index.len()), (None, 9_999));
    }
}
