//! Cuts a stream of bytes into SIP messages (RFC 3261 18.3) and keep-alives (RFC 5626 4.4.1).

use std::num::NonZeroU64;

use roost_sip::{Frame, Head, Progress};

/// The beginning of a message whose rest has not arrived.
#[derive(Debug, Default)]
pub(super) struct Framer {
    bytes: Vec<u8>,
    progress: Progress,
    /// When the message began, in monotonic milliseconds.
    since_ms: Option<NonZeroU64>,
    /// More may be whole than was looked at.
    is_held_back: bool,
}

/// The stream holds what is not SIP.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbage;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Keep-alives that want an answer.
    pub(super) pings: usize,
    /// A message whose end only the stream's end would tell: nothing can follow it.
    pub(super) is_last: bool,
    /// The peer has said that it ends, or was told so: once that is written the connection is closed.
    pub(super) is_over: bool,
}

impl Framer {
    /// Bytes that it holds.
    pub(super) fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Them.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes
    }

    /// Since when a message is unfinished, in monotonic milliseconds.
    pub(super) fn unfinished_since_ms(&self) -> Option<u64> {
        self.since_ms.map(NonZeroU64::get)
    }

    /// Whether it was told to wait, and may have whole messages.
    pub(super) fn is_held_back(&self) -> bool {
        self.is_held_back
    }

    /// Cuts what is held and what has `arrived` into messages, as long as `may_go_on`.
    ///
    /// # Errors
    /// [`Garbage`]; the messages before it were delivered.
    pub(super) fn take(
        &mut self,
        arrived: &[u8],
        head: &mut Head,
        now_ms: u64,
        may_go_on: impl Fn() -> bool,
        mut deliver: impl FnMut(&[u8]),
    ) -> Result<Found, Garbage> {
        let mut joined = std::mem::take(&mut self.bytes);
        if !joined.is_empty() {
            joined.extend_from_slice(arrived);
        }
        let all = if joined.is_empty() { arrived } else { &joined };
        let mut found = Found::default();
        let mut at = 0;
        self.is_held_back = false;
        while !found.is_last {
            if !may_go_on() {
                // The peer is faster than the workers: it waits, and so does the time for its next message.
                self.is_held_back = at < all.len();
                self.since_ms = None;
                break;
            }
            let length = match Frame::at(&all[at..], &mut self.progress, head) {
                Frame::Part { is_message } => {
                    self.wait_for_rest(is_message, now_ms);
                    break;
                }
                Frame::Garbage => return Err(Garbage),
                Frame::Blank(length) => length,
                Frame::Ping(length) => {
                    found.pings += 1;
                    length
                }
                Frame::Message(length) => {
                    deliver(&all[at..at + length]);
                    length
                }
                Frame::LastMessage(length) => {
                    deliver(&all[at..at + length]);
                    found.is_last = true;
                    length
                }
            };
            at += length;
            (self.progress, self.since_ms) = (Progress::default(), None);
        }
        if !found.is_last {
            self.bytes = rest(joined, arrived, at);
        }
        Ok(found)
    }

    fn wait_for_rest(&mut self, is_message: bool, now_ms: u64) {
        if !is_message {
            self.since_ms = None;
        } else if self.since_ms.is_none() {
            self.since_ms = NonZeroU64::new(now_ms);
        }
    }
}

/// What stays, in the allocation that holds it already.
fn rest(mut joined: Vec<u8>, arrived: &[u8], at: usize) -> Vec<u8> {
    if joined.is_empty() {
        return arrived[at..].to_vec();
    }
    joined.drain(..at);
    if joined.is_empty() { Vec::new() } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[u8] = b"OPTIONS sip:a SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 3\r\n\r\nabc";
    const LAST: &[u8] = b"OPTIONS sip:a SIP/2.0\r\nCall-ID: 1\r\n\r\n";

    fn take(
        framer: &mut Framer,
        arrived: &[u8],
        ms: u64,
        most: usize,
    ) -> (Result<Found, Garbage>, Vec<Vec<u8>>) {
        let messages = std::cell::RefCell::new(Vec::new());
        let found = framer.take(
            arrived,
            &mut Head::new(),
            ms,
            || messages.borrow().len() < most,
            |message| messages.borrow_mut().push(message.to_vec()),
        );
        (found, messages.into_inner())
    }

    #[test]
    fn messages_are_whole_wherever_the_stream_is_cut() {
        let stream = [b"\r\n\r\n", ONE, ONE, b"\r\n", ONE].concat();
        for cut in 1..stream.len() {
            let mut framer = Framer::default();
            let mut messages = Vec::new();
            for part in stream.chunks(cut) {
                let (found, more) = take(&mut framer, part, 7, usize::MAX);
                assert!(!found.unwrap().is_last);
                messages.extend(more);
            }
            assert_eq!(messages, vec![ONE; 3], "in pieces of {cut}");
            assert_eq!((framer.held(), framer.unfinished_since_ms()), (0, None));
        }
    }

    #[test]
    fn the_clock_of_a_message_runs_from_its_first_byte() {
        let mut framer = Framer::default();
        take(&mut framer, b"\r\n", 5, usize::MAX).0.unwrap();
        assert_eq!(framer.unfinished_since_ms(), None, "a blank line is not a message");
        take(&mut framer, &ONE[..10], 6, usize::MAX).0.unwrap();
        take(&mut framer, &ONE[10..20], 9, usize::MAX).0.unwrap();
        assert_eq!(framer.unfinished_since_ms(), Some(6));
    }

    #[test]
    fn what_may_not_go_on_is_held_back_and_loses_nothing() {
        let mut framer = Framer::default();
        let (_, messages) = take(&mut framer, &[ONE, ONE, ONE].concat(), 5, 1);
        assert_eq!((messages.len(), framer.is_held_back()), (1, true));
        assert_eq!(framer.unfinished_since_ms(), None);
        let (_, messages) = take(&mut framer, b"", 5, usize::MAX);
        assert_eq!((messages.len(), framer.is_held_back(), framer.held()), (2, false, 0));
    }

    #[test]
    fn pings_are_counted_and_garbage_is_told() {
        let mut framer = Framer::default();
        assert_eq!(take(&mut framer, b"\r\n\r\n\r\n\r\n", 1, 9).0.unwrap().pings, 2);
        assert_eq!(take(&mut framer, b"GET / HTTP/1.1\r\n\r\n", 1, 9).0, Err(Garbage));
    }

    #[test]
    fn a_message_without_length_is_the_last() {
        let mut framer = Framer::default();
        let (found, messages) = take(&mut framer, &[LAST, ONE].concat(), 1, 9);
        assert!(found.unwrap().is_last);
        assert_eq!((messages.len(), framer.held()), (1, 0));
    }
}
