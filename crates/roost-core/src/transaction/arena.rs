//! The texts that a transaction keeps: one buffer for each, with ranges into it, recycled when the transaction closes. So
//! forwarding allocates nothing once the shard has seen its load.

use serde::{Deserialize, Serialize};

/// Capacities: 128 bytes, doubling.
const SMALLEST: usize = 128;
const CLASSES: usize = 8;
/// Buffers of one capacity that wait for their next use at most.
const KEPT: usize = 1_024;

/// A text in an [`Arena`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    start: u32,
    len: u32,
    /// So many bytes are its own; what replaces it may be as long.
    room: u32,
}

impl Stored {
    pub(crate) fn is_empty(self) -> bool {
        self.len == 0
    }

    pub(crate) fn len(self) -> usize {
        self.len as usize
    }
}

/// The texts of one transaction.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Arena(Vec<u8>);

/// Where arenas get their buffers, and how much all of them hold.
#[derive(Debug, Default)]
pub(crate) struct Arenas {
    buffers: [Vec<Vec<u8>>; CLASSES],
    held: usize,
}

impl Arenas {
    /// An arena with room for so many bytes.
    pub(crate) fn open(&mut self, len: usize) -> Arena {
        Arena(self.take(len))
    }

    /// Takes an arena's buffer back.
    pub(crate) fn close(&mut self, arena: Arena) {
        self.give(arena.0);
    }

    /// Bytes of the buffers that are out.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let class = class_of(len);
        let kept = self.buffers.get_mut(class).and_then(Vec::pop);
        let buffer = kept.unwrap_or_else(|| Vec::with_capacity(len.max(SMALLEST << class.min(CLASSES - 1))));
        self.held += buffer.capacity();
        buffer
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.held = self.held.saturating_sub(buffer.capacity());
        let class = class_of(buffer.capacity());
        if let Some(kept) = self.buffers.get_mut(class)
            && buffer.capacity() == SMALLEST << class
            && kept.len() < KEPT
        {
            kept.push(buffer);
        }
    }
}

impl Arena {
    pub(crate) fn text(&self, stored: Stored) -> &[u8] {
        let start = stored.start as usize;
        self.0.get(start..start + stored.len()).unwrap_or(&[])
    }

    /// Adds a text.
    pub(crate) fn add(&mut self, arenas: &mut Arenas, text: &[u8]) -> Stored {
        let mut stored = Stored::default();
        self.set(arenas, &mut stored, text);
        stored
    }

    /// Replaces a text. One that is longer than the old one's room gets twice as much, so that texts that follow one
    /// another do not add up.
    pub(crate) fn set(&mut self, arenas: &mut Arenas, stored: &mut Stored, text: &[u8]) {
        let start = stored.start as usize;
        if text.len() <= stored.room as usize
            && let Some(own) = self.0.get_mut(start..start + text.len())
        {
            own.copy_from_slice(text);
            stored.len = text.len() as u32;
            return;
        }
        let room = text.len().max(2 * stored.room as usize);
        let needed = self.0.len() + room;
        if needed > self.0.capacity() {
            let mut larger = arenas.take(needed.max(2 * self.0.capacity()));
            larger.extend_from_slice(&self.0);
            arenas.give(std::mem::replace(&mut self.0, larger));
        }
        *stored = Stored { start: self.0.len() as u32, len: text.len() as u32, room: room as u32 };
        self.0.extend_from_slice(text);
        self.0.resize(needed, 0);
    }

    /// Moves a text into another arena that has room for it.
    pub(crate) fn move_to(&self, other: &mut Arena, stored: &mut Stored) {
        let text = self.text(*stored);
        let (start, len) = (other.0.len() as u32, text.len() as u32);
        other.0.extend_from_slice(text);
        *stored = Stored { start, len, room: len };
    }
}

/// The smallest class that holds `len` bytes; one past the last for more than any does.
fn class_of(len: usize) -> usize {
    let units = len.div_ceil(SMALLEST).max(1);
    (units.next_power_of_two().trailing_zeros() as usize).min(CLASSES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_replaced_in_place_or_moved_and_their_buffer_comes_back() {
        let mut arenas = Arenas::default();
        let mut arena = arenas.open(100);
        let first = arena.add(&mut arenas, b"first");
        let mut second = arena.add(&mut arenas, b"second");
        arena.set(&mut arenas, &mut second, b"2nd");
        assert_eq!((arena.text(first), arena.text(second), arena.0.len()), (&b"first"[..], &b"2nd"[..], 11));
        for len in [10, 12, 11, 3] {
            arena.set(&mut arenas, &mut second, &vec![b'x'; len]);
            assert_eq!(arena.text(second), vec![b'x'; len]);
        }
        assert_eq!((arena.text(first), arena.0.len()), (&b"first"[..], 11 + 12), "moved once");
        let large = arena.add(&mut arenas, &[7; 300]);
        assert_eq!((arena.text(large), arena.text(first)), (&[7; 300][..], &b"first"[..]));
        assert_eq!(arenas.held(), 512);
        let mut few = arenas.open(10);
        let mut kept = first;
        arena.move_to(&mut few, &mut kept);
        arenas.close(arena);
        assert_eq!((few.text(kept), arenas.held()), (&b"first"[..], 128));
        let again = arenas.open(400);
        assert_eq!((again.0.len(), arenas.held()), (0, 640));
        arenas.close(again);
        arenas.close(few);
        assert_eq!((arenas.held(), arenas.buffers.iter().map(Vec::len).sum::<usize>()), (0, 2));
        let huge = arenas.open(60_000);
        arenas.close(huge);
        assert_eq!((arenas.held(), arenas.buffers.iter().map(Vec::len).sum::<usize>()), (0, 2));
    }
}
