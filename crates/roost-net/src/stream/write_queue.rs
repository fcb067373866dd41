//! What waits until a peer reads on.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// So many messages are written at once at most.
const AT_ONCE: usize = 32;

#[derive(Debug, Default)]
pub(super) struct WriteQueue {
    messages: VecDeque<Box<[u8]>>,
    /// Bytes of the first that are written.
    written: usize,
    /// Bytes of all that are not.
    left: usize,
}

impl WriteQueue {
    /// Bytes that wait.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// What waits.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let all: Vec<u8> = self.messages.iter().flatten().copied().collect();
        all.get(self.written..).unwrap_or_default().to_vec()
    }

    /// Adds a message, of which so many bytes are written already; nothing waits if there are any.
    pub(super) fn push(&mut self, message: Box<[u8]>, written: usize) {
        if self.left == 0 {
            self.written = written;
        }
        self.left += message.len() - written;
        self.messages.push_back(message);
    }

    /// Writes what the peer takes now, many messages with one call; how many bytes.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn write(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let before = self.left;
        while self.left > 0 {
            let mut slices = [IoSlice::new(&[]); AT_ONCE];
            let mut count = 0;
            for (slice, message) in slices.iter_mut().zip(&self.messages) {
                let from = if count == 0 { self.written } else { 0 };
                *slice = IoSlice::new(&message[from..]);
                count += 1;
            }
            match write(&slices[..count]) {
                Ok(taken) => self.advance(taken),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(before - self.left)
    }

    fn advance(&mut self, taken: usize) {
        self.left -= taken;
        self.written += taken;
        while let Some(first) = self.messages.front().filter(|first| first.len() <= self.written) {
            self.written -= first.len();
            self.messages.pop_front();
        }
    }

    /// The messages that are not written whole.
    pub(super) fn into_messages(self) -> impl Iterator<Item = Box<[u8]>> {
        self.messages.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_written_in_order_and_once() {
        let mut queue = WriteQueue::default();
        queue.push((*b"first").into(), 2);
        queue.push((*b"second").into(), 0);
        queue.push((*b"third").into(), 0);
        assert_eq!(queue.left(), 14);
        let (mut taken, mut calls) = (Vec::new(), 0);
        for room in [4usize, 1, 100] {
            let mut room = room;
            let wrote = queue.write(|slices| {
                calls += 1;
                let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
                let count = all.len().min(room);
                room -= count;
                taken.extend_from_slice(&all[..count]);
                if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
            });
            assert!(wrote.unwrap() > 0);
        }
        assert_eq!((&taken[..], queue.left()), (&b"rstsecondthird"[..], 0));
        // Twice there was no room for more; the rest went at once.
        assert_eq!(calls, 5);
        queue.push((*b"again").into(), 0);
        assert!(queue.write(|_| Err(io::ErrorKind::BrokenPipe.into())).is_err());
        assert_eq!(queue.into_messages().count(), 1);
    }
}
