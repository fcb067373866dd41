//! What waits until a peer reads on.

use std::collections::VecDeque;
use std::io;

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

    /// Adds a message, of which so many bytes are written already.
    pub(super) fn push(&mut self, message: &[u8], written: usize) {
        if self.left == 0 {
            self.written = written;
        }
        self.left += message.len() - written;
        self.messages.push_back(message.into());
    }

    /// Writes what the peer takes now; how many bytes.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn write(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize> {
        let before = self.left;
        while let Some(first) = self.messages.front() {
            match write(&first[self.written..]) {
                Ok(count) => {
                    self.left -= count;
                    self.written += count;
                    if self.written == first.len() {
                        self.messages.pop_front();
                        self.written = 0;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(before - self.left)
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
        queue.push(b"first", 2);
        queue.push(b"second", 0);
        assert_eq!(queue.left(), 9);
        let mut taken = Vec::new();
        for room in [4usize, 1, 100] {
            let mut room = room;
            let wrote = queue.write(|bytes| {
                let count = bytes.len().min(room);
                room -= count;
                taken.extend_from_slice(&bytes[..count]);
                if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
            });
            assert!(wrote.unwrap() > 0);
        }
        assert_eq!((&taken[..], queue.left()), (&b"rstsecond"[..], 0));
        queue.push(b"again", 0);
        assert!(queue.write(|_| Err(io::ErrorKind::BrokenPipe.into())).is_err());
        assert_eq!(queue.into_messages().count(), 1);
    }
}
