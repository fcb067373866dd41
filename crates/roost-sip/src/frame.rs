//! Messages in a stream (RFC 3261 18.3): where one ends and the next begins. What the framing reads of a message is
//! what its index has, so both always mean the same bytes.

use crate::head::{Head, MAX_MESSAGE};
use crate::header::HeaderName;
use crate::values::number;

/// What stands at the beginning of the bytes that a stream has brought so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// Nothing whole; `is_message`: a message has begun.
    Part { is_message: bool },
    /// A line end or NULs between messages, or the answer to a keep-alive: so many bytes to pass over.
    Blank(usize),
    /// A keep-alive of so many bytes, to be answered with one line end (RFC 5626 4.4.1).
    Ping(usize),
    /// A message of so many bytes.
    Message(usize),
    /// A message of so many bytes whose end nobody can tell for sure: it may be answered, then the stream ends.
    LastMessage(usize),
    /// No SIP, or more than a message may have: the stream ends.
    Garbage,
}

/// How far the search for the end of a message has come, between calls with more of the same bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    searched: usize,
    /// The whole length, once the head has been read.
    length: usize,
}

impl Frame {
    /// Looks at the bytes from the beginning of a frame on. `progress` starts anew with each frame; `head` is overwritten.
    pub fn at(bytes: &[u8], progress: &mut Progress, head: &mut Head) -> Frame {
        match bytes {
            [b'\r', b'\n', b'\r', b'\n', ..] => return Frame::Ping(4),
            [] | [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => {
                return Frame::Part { is_message: false };
            }
            [b'\r', b'\n', ..] => return Frame::Blank(2),
            [b'\n', ..] => return Frame::Blank(1),
            [0, ..] => return Frame::Blank(bytes.iter().take_while(|byte| **byte == 0).count()),
            // Such as TLS: no line begins so, and whoever waits for its end would wait in vain.
            [first, ..] if !matches!(first, b'\t' | b' '..=b'~') => return Frame::Garbage,
            _ => {}
        }
        if progress.length == 0 {
            let Some(end) = head_end(bytes, progress.searched) else {
                progress.searched = bytes.len().saturating_sub(2);
                return match bytes.len() > MAX_MESSAGE {
                    true => Frame::Garbage,
                    false => Frame::Part { is_message: true },
                };
            };
            let text = bytes.get(..end).unwrap_or(bytes);
            if head.parse(text).is_err() {
                return Frame::Garbage;
            }
            let length = head.value(text, HeaderName::ContentLength).and_then(|value| number(value).ok());
            let is_sure = head.defect().is_none() && !head.is_repeated(HeaderName::ContentLength);
            match length.map(|length| end + length as usize) {
                Some(whole) if is_sure && whole <= MAX_MESSAGE => progress.length = whole,
                _ => return Frame::LastMessage(end),
            }
        }
        match bytes.len() >= progress.length {
            true => Frame::Message(progress.length),
            false => Frame::Part { is_message: true },
        }
    }
}

/// Where the body begins: behind the first empty line. Nothing before `from` is looked at again.
fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    let tail = bytes.get(from..)?;
    memchr::memchr_iter(b'\n', tail).find_map(|at| match tail.get(at + 1..) {
        Some([b'\n', ..]) => Some(from + at + 2),
        Some([b'\r', b'\n', ..]) => Some(from + at + 3),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[u8] = b"INVITE sip:1@a SIP/2.0\r\nVia: SIP/2.0/TCP h\r\nContent-Length: 5\r\n\r\nhello";
    const TWO: &[u8] = b"SIP/2.0 200 OK\r\nl :\r\n 0\r\n\r\n";

    /// What stands in the bytes when they come in pieces of this length.
    fn frames(bytes: &[u8], piece: usize) -> Vec<String> {
        let (mut head, mut progress, mut found) = (Head::new(), Progress::default(), Vec::new());
        let mut waiting: Vec<u8> = Vec::new();
        for piece in bytes.chunks(piece) {
            waiting.extend_from_slice(piece);
            loop {
                let frame = Frame::at(&waiting, &mut progress, &mut head);
                let length = match frame {
                    Frame::Part { .. } => break,
                    Frame::Garbage => return [found, vec!["garbage".into()]].concat(),
                    Frame::Blank(length) => length,
                    Frame::Ping(length) => {
                        found.push("ping".into());
                        length
                    }
                    Frame::Message(length) | Frame::LastMessage(length) => {
                        found.push(String::from_utf8_lossy(&waiting[..length]).into_owned());
                        if matches!(frame, Frame::LastMessage(_)) {
                            found.push("the end".into());
                            return found;
                        }
                        length
                    }
                };
                waiting.drain(..length);
                progress = Progress::default();
            }
        }
        found
    }

    #[test]
    fn any_chunking_gives_the_same_messages() {
        let all = [ONE, b"\r\n\r\n", TWO, b"\r\n\0\0\0\0", ONE, b"\n", TWO, b"\0"].concat();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let expected = [text(ONE), "ping".into(), text(TWO), text(ONE), text(TWO)];
        for piece in 1..=all.len() {
            assert_eq!(frames(&all, piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_has_no_sure_end_is_the_last() {
        let last = |headers: &str| {
            let message = format!("INFO sip:1@a SIP/2.0\r\n{headers}\r\n");
            let frames = frames(format!("{message}INFO sip:2@a SIP/2.0\r\n\r\n").as_bytes(), 7);
            assert_eq!(frames, [message, "the end".into()], "{headers:?}");
        };
        last("");
        last("Content-Length: x\r\n");
        last("Content-Length: 0\r\nl: 4\r\n");
        last("Content-Length: 70000\r\n");
        last("Content-Length: 4294967295\r\n");
        last("Content-Length: 99999999999999999999\r\n");
        last("Content-Length: 0\r\nbad\rline: 1\r\n");
        last("Content-Length: 0\r\nContent-Length 4\r\n");
    }

    #[test]
    fn what_is_no_sip_ends_the_stream() {
        assert_eq!(frames(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 100), ["garbage"]);
        assert_eq!(frames(&[b'x'; MAX_MESSAGE + 2], 1_000), ["garbage"]);
        // TLS, and what is no ASCII: nobody waits for the end of its line.
        assert_eq!(frames(&[0x16; 10], 1), ["garbage"]);
        assert_eq!(frames(&[0xc3; 10], 1), ["garbage"]);
    }
}
