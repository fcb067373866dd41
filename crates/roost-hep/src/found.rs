//! What of a message must be known to send a copy of it on: where its Call-ID stands, and where credentials do.

use std::ops::Range;

use roost_sip::{Head, HeaderName};

/// Credentials that are looked at; a message with more is not copied.
const MAX_CREDENTIALS: usize = 8;

/// Ranges of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    pub call_id: Range<usize>,
    credentials: [Range<usize>; MAX_CREDENTIALS],
    count: usize,
    /// There are more credentials than are noted.
    is_too_much: bool,
}

impl Found {
    /// By an index that there is.
    pub fn by_head(head: &Head) -> Found {
        let mut found = Found::default();
        if let Some(line) = head.line(HeaderName::CallId) {
            found.call_id = line.value.start()..line.value.end();
        }
        for name in [HeaderName::Authorization, HeaderName::ProxyAuthorization] {
            if head.line(name).is_some() {
                let lines = head.lines().iter().filter(|line| line.name == name);
                lines.for_each(|line| found.note(line.value.start()..line.value.end()));
            }
        }
        found
    }

    /// By a look at the first letter of each line: much cheaper than an index.
    pub fn by_lines(message: &[u8]) -> Found {
        let mut found = Found::default();
        let mut ends = memchr::memchr_iter(b'\n', message);
        let Some(mut start) = ends.next().map(|end| end + 1) else { return found };
        // A header field goes on in lines that begin with a blank.
        let mut open: Option<Range<usize>> = None;
        for end in ends.chain([message.len()]) {
            let line = message.get(start..end).unwrap_or(&[]);
            match line.first() {
                Some(b' ' | b'\t') => {
                    if let Some(open) = &mut open {
                        open.end = end;
                    }
                }
                None | Some(b'\r') => break,
                Some(first) => {
                    if let Some(range) = open.take() {
                        found.note(range);
                    }
                    match first | 0x20 {
                        b'a' => open = value_of(line, b"authorization", start),
                        b'p' => open = value_of(line, b"proxy-authorization", start),
                        b'c' if found.call_id.is_empty() => {
                            found.call_id = value_of(line, b"call-id", start).unwrap_or_default();
                        }
                        b'i' if found.call_id.is_empty() => {
                            found.call_id = value_of(line, b"i", start).unwrap_or_default();
                        }
                        _ => {}
                    }
                }
            }
            start = end + 1;
        }
        if let Some(range) = open {
            found.note(range);
        }
        let text = message.get(found.call_id.clone()).unwrap_or(&[]);
        let blanks = text.len() - text.trim_ascii_start().len();
        let begin = found.call_id.start + blanks;
        found.call_id = begin..begin + text.trim_ascii().len();
        found
    }

    /// Where credentials stand; `None` when there are too many to know.
    pub fn credentials(&self) -> Option<&[Range<usize>]> {
        if self.is_too_much { None } else { self.credentials.get(..self.count) }
    }

    fn note(&mut self, range: Range<usize>) {
        match self.credentials.get_mut(self.count) {
            Some(place) => {
                *place = range;
                self.count += 1;
            }
            None => self.is_too_much = true,
        }
    }
}

/// The value of a line that has this name; blanks may stand before its colon.
fn value_of(line: &[u8], name: &[u8], start: usize) -> Option<Range<usize>> {
    let (own, rest) = line.split_at_checked(name.len())?;
    if !own.eq_ignore_ascii_case(name) {
        return None;
    }
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let begin = start + name.len() + blanks + 1;
    (rest.get(blanks) == Some(&b':')).then_some(begin..start + line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_what_the_index_tells() {
        let message = b"REGISTER sip:a SIP/2.0\r\nVia: x\r\nCall-ID : one@two \r\nAuthorization: Digest a=1,\r\n response=2\r\n\
            proxy-AUTHORIZATION\t: Basic xyz\nContent-Length: 0\r\n\r\nAuthorization: body";
        let mut head = Head::new();
        head.parse(message).unwrap();
        let (by_head, by_lines) = (Found::by_head(&head), Found::by_lines(message));
        assert_eq!(&message[by_lines.call_id.clone()], b"one@two");
        assert_eq!(by_lines.call_id, by_head.call_id);
        let texts = |found: &Found| -> Vec<Vec<u8>> {
            found
                .credentials()
                .unwrap()
                .iter()
                .map(|range| message[range.clone()].trim_ascii().to_vec())
                .collect()
        };
        assert_eq!(texts(&by_lines), texts(&by_head));
        assert_eq!(texts(&by_lines), [&b"Digest a=1,\r\n response=2"[..], b"Basic xyz"]);
        assert_eq!(Found::by_lines(b"OPTIONS sip:a SIP/2.0\r\ni: short\r\n\r\n").call_id, 26..31);
        let many = format!("X\r\n{}\r\n", "Authorization: a\r\n".repeat(9));
        assert!(Found::by_lines(many.as_bytes()).credentials().is_none());
    }
}
