//! Buffers for messages that transactions keep: a returned one is used again, so that forwarding allocates nothing once
//! the shard has seen its load.

use crate::transaction::client::Branch;
use crate::transaction::transactions::Target;

/// Capacities: 128 bytes, doubling.
const SMALLEST: usize = 128;
const CLASSES: usize = 7;
/// Buffers of one capacity that wait for their next use at most.
const KEPT: usize = 1_024;

#[derive(Debug, Default)]
pub(crate) struct Pool {
    buffers: [Vec<Vec<u8>>; CLASSES],
    branches: Vec<Vec<Branch>>,
    /// The target list of the request under way.
    targets: Vec<Target>,
    /// Bytes of the buffers that are out.
    held: usize,
}

impl Pool {
    /// An empty buffer with room for at least `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Vec<u8> {
        let class = class_of(len);
        let kept = self.buffers.get_mut(class).and_then(Vec::pop);
        let buffer = kept.unwrap_or_else(|| Vec::with_capacity(len.max(SMALLEST << class.min(CLASSES - 1))));
        self.held += buffer.capacity();
        buffer
    }

    /// A copy of `bytes`.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.take(bytes.len());
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// A copy of `bytes`; of nothing one that holds no memory.
    pub(crate) fn copy_some(&mut self, bytes: &[u8]) -> Vec<u8> {
        if bytes.is_empty() { Vec::new() } else { self.copy(bytes) }
    }

    /// Takes a buffer back.
    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
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

    /// Bytes of the buffers that are out.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// A list for the branches of a request.
    pub(crate) fn take_branches(&mut self) -> Vec<Branch> {
        self.branches.pop().unwrap_or_else(|| Vec::with_capacity(1))
    }

    /// Takes the branches of a request back, with their buffers.
    pub(crate) fn give_branches(&mut self, mut branches: Vec<Branch>) {
        for branch in branches.drain(..) {
            branch.give_buffers(self);
        }
        if branches.capacity() <= 2 && self.branches.len() < KEPT {
            self.branches.push(branches);
        }
    }

    /// The list of targets, empty; give it back.
    pub(crate) fn take_targets(&mut self) -> Vec<Target> {
        std::mem::take(&mut self.targets)
    }

    /// Takes the list back, with the buffers of what it holds.
    pub(crate) fn give_targets(&mut self, mut targets: Vec<Target>) {
        for target in targets.drain(..) {
            self.give_target(target);
        }
        self.targets = targets;
    }

    /// Takes the buffers of targets back that nobody was sent to.
    pub(crate) fn give_all(&mut self, targets: Vec<Target>) {
        targets.into_iter().for_each(|target| self.give_target(target));
    }

    /// Takes a target's buffers back.
    pub(crate) fn give_target(&mut self, target: Target) {
        self.give(target.uri);
        if target.path.capacity() > 0 {
            self.give(target.path);
        }
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
    fn buffers_come_back() {
        let mut pool = Pool::default();
        let buffer = pool.copy(&[7; 300]);
        assert_eq!((buffer.len(), buffer.capacity()), (300, 512));
        let address = buffer.as_ptr();
        pool.give(buffer);
        let again = pool.take(257);
        assert!(again.is_empty() && again.as_ptr() == address);
        let small = pool.take(0);
        assert_eq!(small.capacity(), 128);
        let huge = pool.copy(&[1; 60_000]);
        pool.give(huge);
        pool.give(Vec::new());
        assert_eq!(pool.buffers.iter().map(Vec::len).sum::<usize>(), 0);
        pool.give(again);
        assert_eq!(pool.held(), 128, "one of 128 bytes is out");
    }
}
