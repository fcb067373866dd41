//! The head: which header stands where in one received message. Built in one pass; owns no text.

use crate::header::HeaderName;
use crate::method::Method;
use crate::scan::{cut, is_lws, is_token, token_len, trim};

/// The largest message, in bytes (a UDP datagram's limit).
pub const MAX_MESSAGE: usize = 65_535;
/// The most header lines that are indexed; a message with more is answered 400.
pub const MAX_LINES: usize = 512;

/// A range of bytes in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    start: u16,
    end: u16,
}

impl Span {
    fn new(start: usize, end: usize) -> Span {
        Span { start: start as u16, end: end as u16 }
    }

    /// The bytes of this range; empty when `message` is not the one that was indexed.
    pub fn of(self, message: &[u8]) -> &[u8] {
        message.get(usize::from(self.start)..usize::from(self.end)).unwrap_or(&[])
    }

    /// The offset of the first byte.
    pub fn start(self) -> usize {
        usize::from(self.start)
    }

    /// The offset behind the last byte.
    pub fn end(self) -> usize {
        usize::from(self.end)
    }
}

/// One header field, its folded lines included.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Which header it is.
    pub name: HeaderName,
    /// The whole field, from the first letter of its name to behind its line end.
    pub whole: Span,
    /// The value without LWS on either side.
    pub value: Span,
}

/// The first line of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartLine {
    /// `METHOD uri SIP/2.0`.
    Request {
        /// The method's kind.
        method: Method,
        /// The method's text.
        name: Span,
        /// The Request-URI's text.
        uri: Span,
    },
    /// `SIP/2.0 code reason`.
    Response {
        /// 100 to 699.
        code: u16,
    },
}

/// Why bytes are not a SIP message at all: nothing can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Nothing but line ends: a keep-alive (RFC 5626 3.5.1).
    #[error("keep-alive")]
    KeepAlive,
    /// More than [`MAX_MESSAGE`] bytes.
    #[error("message too large")]
    TooLarge,
    /// The first line is neither a request nor a response line.
    #[error("not SIP")]
    NotSip,
}

/// What is wrong with a message that still has a usable shape; it deserves an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Another version than SIP/2.0 (505).
    Version,
    /// Blanks where none belong in the request line.
    RequestLine,
    /// A line with a bare CR or NUL, or one without a colon or with a bad name that could be taken for a header field which is
    /// read here.
    HeaderLine,
    /// More than [`MAX_LINES`] header lines.
    TooManyLines,
    /// No empty line behind the headers.
    NoBlankLine,
}

impl Defect {
    /// The reason phrase of the answer.
    pub fn reason(self) -> &'static str {
        match self {
            Defect::Version => "Version Not Supported",
            Defect::RequestLine => "Malformed request line",
            Defect::HeaderLine => "Malformed header line",
            Defect::TooManyLines => "Too many header lines",
            Defect::NoBlankLine => "Header section does not end",
        }
    }
}

/// The index of one message. Large (about 5 KB): keep one and parse into it again and again.
#[derive(Clone)]
pub struct Head {
    start_line: StartLine,
    first: [u16; HeaderName::COUNT],
    /// One bit for each name that stands more than once.
    repeated: u64,
    count: u16,
    /// Lines that are no header field and left out.
    left_out: u16,
    /// The first line with its line end.
    start: Span,
    body: u16,
    defect: Option<Defect>,
    lines: [Line; MAX_LINES],
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head")
            .field("start_line", &self.start_line)
            .field("lines", &self.lines())
            .field("defect", &self.defect)
            .finish_non_exhaustive()
    }
}

impl Default for Head {
    fn default() -> Self {
        let empty = Line { name: HeaderName::Other, whole: Span::default(), value: Span::default() };
        Head {
            start_line: StartLine::Response { code: 0 },
            first: [0; HeaderName::COUNT],
            repeated: 0,
            count: 0,
            left_out: 0,
            start: Span::default(),
            body: 0,
            defect: None,
            lines: [empty; MAX_LINES],
        }
    }
}

impl Head {
    /// An empty index.
    pub fn new() -> Box<Head> {
        Box::default()
    }

    /// Indexes `message`, forgetting the one before. Line ends are CRLF or LF; empty lines and
    /// NULs before the first are passed over (RFC 3261 7.5). A line that is no header field is left out with its folded
    /// lines, unless it could be taken for one that is read here. A message that is only malformed in places is indexed as far as it goes, see
    /// [`defect`](Head::defect).
    ///
    /// # Errors
    /// [`HeadError`] when it is not a SIP message at all; the index is then empty.
    pub fn parse(&mut self, message: &[u8]) -> Result<(), HeadError> {
        self.first = [0; HeaderName::COUNT];
        self.repeated = 0;
        self.count = 0;
        self.left_out = 0;
        self.defect = None;
        self.body = 0;
        if message.len() > MAX_MESSAGE {
            return Err(HeadError::TooLarge);
        }
        let blank = message.iter().take_while(|byte| matches!(byte, b'\r' | b'\n' | 0)).count();
        if blank == message.len() {
            return Err(HeadError::KeepAlive);
        }
        let (line_end, next) = line_end(message, blank);
        self.start = Span::new(blank, next);
        self.parse_start_line(message, blank, line_end)?;
        self.parse_lines(message, next);
        Ok(())
    }

    fn parse_start_line(&mut self, message: &[u8], start: usize, end: usize) -> Result<(), HeadError> {
        let line = message.get(start..end).unwrap_or(&[]);
        if line.len() > 8 && line.get(..4).is_some_and(|text| text.eq_ignore_ascii_case(b"SIP/")) {
            return self.parse_status_line(line);
        }
        let trimmed = trim(line);
        if trimmed.len() != line.len() {
            self.defect = Some(Defect::RequestLine);
        }
        let offset = trimmed.as_ptr() as usize - message.as_ptr() as usize;
        let method_end = memchr::memchr(b' ', trimmed).ok_or(HeadError::NotSip)?;
        let version_start = memchr::memrchr(b' ', trimmed).ok_or(HeadError::NotSip)? + 1;
        let (name, version) = (cut(trimmed, method_end).0, cut(trimmed, version_start).1);
        if !name.iter().all(|byte| is_token(*byte)) || name.is_empty() {
            return Err(HeadError::NotSip);
        }
        if !version.get(..4).is_some_and(|text| text.eq_ignore_ascii_case(b"SIP/")) {
            return Err(HeadError::NotSip);
        }
        if !version.eq_ignore_ascii_case(b"SIP/2.0") {
            self.defect = Some(Defect::Version);
        }
        let uri = trimmed.get(method_end + 1..version_start.saturating_sub(1)).unwrap_or(&[]);
        if uri.is_empty() || uri.iter().any(|byte| byte.is_ascii_whitespace() || *byte == 0) {
            self.defect = self.defect.or(Some(Defect::RequestLine));
        }
        self.start_line = StartLine::Request {
            method: Method::parse(name),
            name: Span::new(offset, offset + method_end),
            uri: Span::new(offset + method_end + 1, offset + method_end + 1 + uri.len()),
        };
        Ok(())
    }

    fn parse_status_line(&mut self, line: &[u8]) -> Result<(), HeadError> {
        let (version, rest) = cut(line, 8);
        let (digits, reason) = cut(rest, 3);
        if !version.eq_ignore_ascii_case(b"SIP/2.0 ") || reason.first().is_some_and(|byte| *byte != b' ') {
            return Err(HeadError::NotSip);
        }
        let code = crate::values::number(digits).ok().filter(|code| (100..700).contains(code));
        self.start_line = StartLine::Response { code: code.ok_or(HeadError::NotSip)? as u16 };
        Ok(())
    }

    fn parse_lines(&mut self, message: &[u8], mut start: usize) {
        loop {
            match message.get(start..).unwrap_or(&[]) {
                [] => {
                    self.defect = self.defect.or(Some(Defect::NoBlankLine));
                    self.body = message.len() as u16;
                    return;
                }
                [b'\n', ..] => {
                    self.body = start as u16 + 1;
                    return;
                }
                [b'\r', b'\n', ..] => {
                    self.body = start as u16 + 2;
                    return;
                }
                rest => start = self.parse_line(message, start, rest),
            }
        }
    }

    /// Indexes the header field at `start`, where `rest` begins; the start of the next one.
    fn parse_line(&mut self, message: &[u8], start: usize, rest: &[u8]) -> usize {
        // Blanks may stand before the colon, nothing else: no line end, and none before the name.
        let (name, behind) = cut(rest, token_len(rest));
        let blanks = behind.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let has_name = !name.is_empty() && behind.get(blanks) == Some(&b':');
        let value_start = start + name.len() + blanks + 1;
        let end = find_end(message, if has_name { value_start } else { start });
        if usize::from(self.count) == MAX_LINES {
            self.defect = self.defect.or(Some(Defect::TooManyLines));
            return end.next;
        }
        if end.has_stray_control || (!has_name && !is_left_out(message.get(start..end.end).unwrap_or(&[]))) {
            self.defect = self.defect.or(Some(Defect::HeaderLine));
        }
        if !has_name {
            self.left_out = self.left_out.saturating_add(1);
        } else {
            let value = trim(message.get(value_start..end.end).unwrap_or(&[]));
            let value_start = value.as_ptr() as usize - message.as_ptr() as usize;
            self.push_line(Line {
                name: HeaderName::parse(name),
                whole: Span::new(start, end.next),
                value: Span::new(value_start, value_start + value.len()),
            });
        }
        end.next
    }

    fn push_line(&mut self, line: Line) {
        let index = self.count;
        let Some(slot) = self.lines.get_mut(usize::from(index)) else { return };
        *slot = line;
        self.count += 1;
        match self.first.get_mut(line.name as usize) {
            Some(first) if *first == 0 => *first = index + 1,
            _ => self.repeated |= 1 << line.name as u64,
        }
    }

    /// The first line.
    pub fn start_line(&self) -> StartLine {
        self.start_line
    }

    /// All header fields in the order of the message.
    pub fn lines(&self) -> &[Line] {
        self.lines.get(..usize::from(self.count)).unwrap_or(&[])
    }

    /// The first field of this name.
    pub fn line(&self, name: HeaderName) -> Option<&Line> {
        let index = self.first.get(name as usize)?.checked_sub(1)?;
        self.lines.get(usize::from(index))
    }

    /// The value of the first field of this name.
    pub fn value<'a>(&self, message: &'a [u8], name: HeaderName) -> Option<&'a [u8]> {
        self.line(name).map(|line| line.value.of(message))
    }

    /// The values of a header that [`HeaderName`] does not have, by its name in any case.
    pub fn others<'a>(&'a self, bytes: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let is_it = move |line: &&Line| {
            let whole = line.whole.of(bytes);
            line.name == HeaderName::Other
                && whole.get(..name.len()).is_some_and(|own| own.eq_ignore_ascii_case(name))
                && whole.get(name.len()..).is_some_and(|rest| rest.trim_ascii_start().first() == Some(&b':'))
        };
        self.lines().iter().filter(is_it).map(|line| line.value.of(bytes))
    }

    /// The values of all fields of this name, in order.
    pub fn values<'a>(
        &'a self,
        message: &'a [u8],
        name: HeaderName,
    ) -> impl Iterator<Item = &'a [u8]> + Clone {
        let from =
            self.first.get(name as usize).map_or(usize::MAX, |first| usize::from(*first).wrapping_sub(1));
        let lines = self.lines().get(from..).unwrap_or(&[]);
        lines.iter().filter(move |line| line.name == name).map(|line| line.value.of(message))
    }

    /// How many fields of this name there are.
    pub fn count(&self, name: HeaderName) -> usize {
        self.lines().iter().filter(|line| line.name == name).count()
    }

    /// Whether a field of this name stands more than once.
    pub fn is_repeated(&self, name: HeaderName) -> bool {
        self.repeated & 1 << name as u64 != 0
    }

    /// What is wrong with the message's shape, the first finding.
    pub fn defect(&self) -> Option<Defect> {
        self.defect
    }

    /// How many lines are left out: they are no header fields.
    pub fn left_out(&self) -> u16 {
        self.left_out
    }

    /// The first line with its line end.
    pub fn start_line_text<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        self.start.of(message)
    }

    /// The reason phrase of a response (RFC 3261 7.2).
    pub fn reason_phrase<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        trim(self.start_line_text(message).get("SIP/2.0 200 ".len()..).unwrap_or(&[]))
    }

    /// Everything behind the empty line.
    pub fn body<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        message.get(usize::from(self.body)..).unwrap_or(&[])
    }

    /// The offset of the body.
    pub fn body_start(&self) -> usize {
        usize::from(self.body)
    }
}

/// Whether a line that is no header field is left out: it has no colon, or a blank inside its name, and no reader could take
/// it for a field that is read here, by its first word, or by its name without the blanks or with hyphens in their place.
fn is_left_out(field: &[u8]) -> bool {
    let line = cut(field, memchr::memchr(b'\n', field).unwrap_or(field.len())).0;
    let is_known = |name: &[u8]| HeaderName::parse(name) != HeaderName::Other;
    let first = cut(line, token_len(line)).0;
    let Some(colon) = memchr::memchr(b':', line) else {
        return !line.first().is_some_and(|byte| is_lws(*byte)) && !is_known(first);
    };
    let name = cut(line, colon).0;
    let words: Vec<&[u8]> = name.split(|byte| matches!(byte, b' ' | b'\t')).collect();
    let is_name = |word: &[u8]| token_len(word) == word.len();
    !first.is_empty()
        && words.len() > 1
        && words.iter().all(|word| is_name(word))
        && !is_known(first)
        && !is_known(&words.concat())
        && !is_known(&words.join(&b'-'))
}

/// The end of the line that begins at `start`, without its line end, and the start of the next one.
fn line_end(message: &[u8], start: usize) -> (usize, usize) {
    let rest = message.get(start..).unwrap_or(&[]);
    match memchr::memchr(b'\n', rest) {
        Some(lf) => {
            let end = start + lf;
            let has_cr = lf > 0 && rest.get(lf - 1) == Some(&b'\r');
            (end - usize::from(has_cr), end + 1)
        }
        None => (message.len(), message.len()),
    }
}

/// Where a header field ends.
struct End {
    /// Behind its last byte, without the line end.
    end: usize,
    /// The start of the next field.
    next: usize,
    /// A NUL or a CR that ends no line; either is read differently by different elements. Both are allowed behind a
    /// backslash in a quoted string (RFC 3261 25.1, `quoted-pair` has them but for CR and LF).
    has_stray_control: bool,
}

/// The end of the field of which `from` is a byte, its folded lines included.
fn find_end(message: &[u8], from: usize) -> End {
    let mut has_stray_control = false;
    for found in memchr::memchr3_iter(b'\n', b'\r', 0, message.get(from..).unwrap_or(&[])) {
        let at = from + found;
        let before = found.checked_sub(1).and_then(|_| message.get(at - 1));
        match message.get(at) {
            Some(b'\n') if matches!(message.get(at + 1), Some(b' ' | b'\t')) => {}
            Some(b'\n') => {
                let end = at - usize::from(before == Some(&b'\r'));
                return End { end, next: at + 1, has_stray_control };
            }
            Some(b'\r') => has_stray_control |= message.get(at + 1) != Some(&b'\n'),
            _ => has_stray_control |= before != Some(&b'\\'),
        }
    }
    End { end: message.len(), next: message.len(), has_stray_control }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::NAMES;

    fn head(message: &[u8]) -> Box<Head> {
        let mut head = Head::new();
        head.parse(message).unwrap();
        head
    }

    const REGISTER: &[u8] = b"REGISTER sip:10.2.84.19 SIP/2.0\r\n\
        v: SIP/2.0/UDP 10.32.26.19:56862;branch=z9hG4bK1;rport\r\n\
        CONTACT : <sip:a@b>\r\n\
        Subject: first\r\n  second\r\n\tthird\r\n\
        m: <sip:c@d>, <sip:e@f>\r\n\
        Expires:\t20 \r\n\r\nbody";

    #[test]
    fn finds_headers_in_any_form() {
        let head = head(REGISTER);
        assert_eq!(head.defect(), None);
        let StartLine::Request { method, uri, name } = head.start_line() else { panic!("a request") };
        assert_eq!(
            (method, uri.of(REGISTER), name.of(REGISTER)),
            (Method::Register, &b"sip:10.2.84.19"[..], &b"REGISTER"[..])
        );
        assert!(head.value(REGISTER, HeaderName::Via).unwrap().starts_with(b"SIP/2.0/UDP"));
        let contacts: Vec<_> = head.values(REGISTER, HeaderName::Contact).collect();
        assert_eq!(contacts, [&b"<sip:a@b>"[..], b"<sip:c@d>, <sip:e@f>"]);
        assert_eq!(head.value(REGISTER, HeaderName::Expires), Some(&b"20"[..]));
        assert_eq!(head.count(HeaderName::Contact), 2);
        assert!(head.is_repeated(HeaderName::Contact) && !head.is_repeated(HeaderName::Via));
        assert_eq!(head.body(REGISTER), b"body");
        assert_eq!(head.value(REGISTER, HeaderName::To), None);
        assert_eq!(head.values(REGISTER, HeaderName::To).count(), 0);
    }

    #[test]
    fn folded_lines_belong_to_their_header() {
        let head = head(REGISTER);
        let folded =
            head.lines().iter().find(|line| line.whole.of(REGISTER).starts_with(b"Subject")).unwrap();
        assert_eq!(folded.value.of(REGISTER), b"first\r\n  second\r\n\tthird");
        assert!(folded.whole.of(REGISTER).ends_with(b"third\r\n"));
    }

    #[test]
    fn status_lines() {
        let head = head(b"SIP/2.0 180 Ringing\r\n\r\n");
        assert_eq!(head.start_line(), StartLine::Response { code: 180 });
        assert_eq!(Head::new().parse(b"SIP/2.0 4000 X\r\n\r\n"), Err(HeadError::NotSip));
        assert_eq!(Head::new().parse(b"SIP/2.0 099 X\r\n\r\n"), Err(HeadError::NotSip));
        assert_eq!(Head::new().parse(b"SIP/2.0 200\r\n\r\n"), Ok(()));
    }

    #[test]
    fn what_is_no_sip() {
        let mut head = Head::new();
        assert_eq!(head.parse(b"\r\n\r\n"), Err(HeadError::KeepAlive));
        assert_eq!(head.parse(b""), Err(HeadError::KeepAlive));
        assert_eq!(head.parse(b"\0\0\0\0"), Err(HeadError::KeepAlive));
        assert_eq!(head.parse(b"GET / HTTP/1.1\r\n\r\n"), Err(HeadError::NotSip));
        assert_eq!(head.parse(b"\xff\xfe\x00\x01"), Err(HeadError::NotSip));
        assert_eq!(head.parse(&[b'a'; MAX_MESSAGE + 1]), Err(HeadError::TooLarge));
        assert_eq!(head.lines().len(), 0);
    }

    #[test]
    fn defects_are_told() {
        let defect = |message: &[u8]| head(message).defect();
        assert_eq!(defect(b"REGISTER sip:a SIP/3.0\r\n\r\n"), Some(Defect::Version));
        assert_eq!(defect(b"REGISTER  sip:a SIP/2.0\r\n\r\n"), Some(Defect::RequestLine));
        assert_eq!(defect(b"REGISTER sip:a; b SIP/2.0\r\n\r\n"), Some(Defect::RequestLine));
        assert_eq!(defect(b"REGISTER sip:a SIP/2.0 \r\n\r\n"), Some(Defect::RequestLine));
        assert_eq!(defect(b"REGISTER sip:a SIP/2.0\r\nTo: a\x00b\r\n\r\n"), Some(Defect::HeaderLine));
        assert_eq!(defect(b"REGISTER sip:a SIP/2.0\r\nTo: a\rb\r\n\r\n"), Some(Defect::HeaderLine));
        for hidden in [
            ": 1",
            "X@Y: 1",
            " X: 1",
            " X",
            "a\\: 1",
            "X Y@: 1",
            "\u{feff}From: 1",
            "X:\rFrom: <sip:b@d>",
            "X: a\r",
            " From: <sip:a>",
            "X\r: a",
            "X a\x00",
            "\x00",
        ] {
            let message = format!("REGISTER sip:a SIP/2.0\r\n{hidden}\r\nTo: <sip:a>\r\n\r\n");
            assert_eq!(defect(message.as_bytes()), Some(Defect::HeaderLine), "{hidden:?}");
        }
        assert_eq!(defect(b"REGISTER sip:a SIP/2.0\r\nTo: \"a\\\x00b\" <sip:x>\r\n\r\n"), None);
        assert_eq!(defect(b"REGISTER sip:a SIP/2.0\r\nTo: <sip:a>\r\n"), Some(Defect::NoBlankLine));
        assert_eq!(defect(b"\r\nREGISTER sip:a SIP/2.0\nTo: <sip:a>\n\n"), None);
        let mut many = b"REGISTER sip:a SIP/2.0\r\n".to_vec();
        many.extend(b"A: b\r\n".repeat(MAX_LINES));
        let end = many.len();
        many.extend(b"\r\n");
        assert_eq!(defect(&many), None);
        many.splice(end.., *b"A: b\r\n\r\n");
        assert_eq!(defect(&many), Some(Defect::TooManyLines));
    }

    #[test]
    fn lines_that_are_no_header_fields_are_left_out() {
        for odd in [
            "nonsense",
            "X Y: 1",
            "X Y\r\n : 1",
            "nonsense\r\n\tTo: <sip:b>",
            "no <header> at all",
            "X-A\n : 1",
            "X \tY : 1",
        ] {
            let message = format!("SIP/2.0 200 Fine then\r\n{odd}\r\nTo: <sip:a>\r\n\r\n");
            let head = head(message.as_bytes());
            assert_eq!((head.defect(), head.left_out(), head.lines().len()), (None, 1, 1), "{odd:?}");
            assert_eq!(head.start_line_text(message.as_bytes()), b"SIP/2.0 200 Fine then\r\n");
            assert_eq!(head.reason_phrase(message.as_bytes()), b"Fine then");
        }
    }

    #[test]
    fn what_could_be_taken_for_a_field_that_is_read_is_a_defect() {
        let compact = ["v", "f", "t", "i", "m", "l", "c", "k"];
        for name in NAMES.iter().map(|name| name.as_str()).chain(compact) {
            let (first, rest) = name.split_at(1);
            for odd in [
                name.to_string(),
                format!("{name} 1"),
                format!("{name} x: 1"),
                format!("{}\r\n 1", name.to_ascii_lowercase()),
                format!("{first} {rest}: 1"),
                format!("{name}=1"),
                format!("{name}<sip:a@b:1>"),
                format!("{}: 1", name.replacen('-', " ", 1)),
            ] {
                // A whole name with its colon is a header field.
                let name_of = odd.split_once(':').map(|(name, _)| name.trim());
                if name_of.is_some_and(|found| found == name) {
                    continue;
                }
                let message = format!("REGISTER sip:a SIP/2.0\r\n{odd}\r\nX: 1\r\n\r\n");
                assert_eq!(head(message.as_bytes()).defect(), Some(Defect::HeaderLine), "{odd:?}");
            }
        }
        let message = b"REGISTER sip:a SIP/2.0\r\nContent Length: 9\r\n\r\n";
        assert_eq!(head(message).defect(), Some(Defect::HeaderLine));
    }

    #[test]
    fn no_prefix_of_a_message_panics() {
        let mut head = Head::new();
        for end in 0..REGISTER.len() {
            let _ = head.parse(&REGISTER[..end]);
            for at in 0..end {
                let mut broken = REGISTER[..end].to_vec();
                broken[at] ^= 0xff;
                let _ = head.parse(&broken);
            }
        }
    }
}
