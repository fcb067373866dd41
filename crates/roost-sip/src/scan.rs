//! Byte classes and the small scanners that every value parser shares.

/// What a byte may be, one bit each; a table, because every byte of a message is asked about.
const CLASSES: [u8; 256] = classes();
const LWS: u8 = 1;
const TOKEN: u8 = 2;
const HOST: u8 = 4;
const URI_MARK: u8 = 8;

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let byte = index as u8;
        let is_mark = matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            table[index] |= LWS;
        }
        if byte.is_ascii_alphanumeric() || is_mark {
            table[index] |= TOKEN;
        }
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
            table[index] |= HOST;
        }
        if byte <= b' ' || matches!(byte, b'<' | b'>' | b'"' | 0x7f | b'@' | b'%') {
            table[index] |= URI_MARK;
        }
        index += 1;
    }
    table
}

fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// LWS inside a value: blanks, tabs and the line ends of folded lines (RFC 3261 7.3.1).
pub(crate) fn is_lws(byte: u8) -> bool {
    is(byte, LWS)
}

/// `token` of RFC 3261 25.1.
pub(crate) fn is_token(byte: u8) -> bool {
    is(byte, TOKEN)
}

/// A byte of a host name or IPv4 address; `_` is not a letter of a host's, but phones use it.
pub(crate) fn is_host_byte(byte: u8) -> bool {
    is(byte, HOST)
}

/// A byte that a URI's reader stops at: `@`, `%`, and those that stand in no URI: blanks, controls, angle brackets and
/// quotes.
pub(crate) fn is_uri_mark(byte: u8) -> bool {
    is(byte, URI_MARK)
}

/// How many bytes at the start are of a token.
pub(crate) fn token_len(text: &[u8]) -> usize {
    text.iter().position(|byte| !is_token(*byte)).unwrap_or(text.len())
}

/// The value without LWS on either side.
pub fn trim(mut value: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = value
        && is_lws(*first)
    {
        value = rest;
    }
    while let [rest @ .., last] = value
        && is_lws(*last)
    {
        value = rest;
    }
    value
}

/// The value from its first byte that is not LWS.
pub(crate) fn skip_lws(text: &[u8]) -> &[u8] {
    cut(text, text.iter().position(|byte| !is_lws(*byte)).unwrap_or(text.len())).1
}

/// Splits at the first `at`, which is dropped.
pub(crate) fn split_at_byte(value: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = memchr::memchr(at, value)?;
    Some((value.get(..position)?, value.get(position + 1..)?))
}

/// Splits at `position`; past the end the second half is empty.
pub(crate) fn cut(value: &[u8], position: usize) -> (&[u8], &[u8]) {
    value.split_at_checked(position).unwrap_or((value, &[]))
}

/// The length of the quoted string at the start of `value`, quotes included; `None` when it does not end.
pub(crate) fn quoted_len(value: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', value.get(at..)?)?;
        match value.get(at) {
            Some(b'"') => return Some(at + 1),
            // What follows the backslash is text.
            _ => at += 2,
        }
    }
}

/// A quoted string that does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unended;

/// Where one of two bytes first stands from an offset on, outside quoted strings: inside quotes any byte is text (RFC 3261
/// 25.1). The one way to look for a delimiter in a header's value.
///
/// # Errors
/// [`Unended`]: what follows is text or not, nobody can tell.
fn find_unquoted_of(value: &[u8], mut from: usize, wanted: [u8; 2]) -> Result<Option<usize>, Unended> {
    loop {
        let rest = cut(value, from).1;
        let Some(at) = memchr::memchr3(wanted[0], wanted[1], b'"', rest) else { return Ok(None) };
        match rest.get(at) {
            Some(b'"') => from += at + quoted_len(cut(rest, at).1).ok_or(Unended)?,
            _ => return Ok(Some(from + at)),
        }
    }
}

/// Where `wanted` first stands outside quoted strings.
///
/// # Errors
/// [`Unended`].
pub(crate) fn find_unquoted(value: &[u8], wanted: u8) -> Result<Option<usize>, Unended> {
    find_unquoted_of(value, 0, [wanted; 2])
}

/// A quoted string without its quotes, escapes left in; anything else as it stands.
pub fn unquote(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        other => other,
    }
}

/// The elements of a comma list, trimmed; commas in quotes and angle brackets do not separate (RFC 3261 7.3.1).
/// Empty elements are passed over.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        loop {
            let value = rest?;
            let (element, tail) = next_element(value);
            rest = tail;
            let element = trim(element);
            if !element.is_empty() {
                return Some(element);
            }
        }
    })
}

/// The first element of a comma list, untrimmed, and what follows its comma.
pub(crate) fn next_element(value: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut from = 0;
    while let Ok(Some(at)) = find_unquoted_of(value, from, [b',', b'<']) {
        if value.get(at) == Some(&b',') {
            let (element, rest) = cut(value, at);
            return (element, Some(cut(rest, 1).1));
        }
        match find_unquoted_of(value, at, [b'>'; 2]) {
            Ok(Some(close)) => from = close,
            Ok(None) | Err(Unended) => break,
        }
    }
    (value, None)
}

pub(crate) fn hex_value(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// One character of an escaped text: the byte, whether it was written `%XX`, and the rest.
pub(crate) fn next_unescaped(text: &[u8]) -> Option<(u8, bool, &[u8])> {
    match text {
        [b'%', high, low, rest @ ..] => match (hex_value(*high), hex_value(*low)) {
            (Some(high), Some(low)) => Some((high << 4 | low, true, rest)),
            _ => Some((b'%', false, cut(text, 1).1)),
        },
        [byte, rest @ ..] => Some((*byte, false, rest)),
        [] => None,
    }
}

/// Whether two texts are equal once `%XX` is undone; a reserved character is not equal to its escape
/// (RFC 3261 19.1.4). `fold` ignores the case of letters.
pub fn eq_unescaped(mut a: &[u8], mut b: &[u8], fold: bool) -> bool {
    if a == b {
        return true;
    }
    loop {
        match (next_unescaped(a), next_unescaped(b)) {
            (None, None) => return true,
            (Some((x, x_escaped, rest_a)), Some((y, y_escaped, rest_b))) => {
                let same = if fold { x.eq_ignore_ascii_case(&y) } else { x == y };
                let reserved =
                    matches!(x, b';' | b'/' | b'?' | b':' | b'@' | b'&' | b'=' | b'+' | b'$' | b',');
                if !same || (reserved && x_escaped != y_escaped) {
                    return false;
                }
                (a, b) = (rest_a, rest_b);
            }
            _ => return false,
        }
    }
}

/// The bytes of `text` with every `%XX` undone.
pub(crate) fn unescaped(mut text: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let (byte, _, rest) = next_unescaped(text)?;
        text = rest;
        Some(byte)
    })
}

/// Appends `text` with every `%XX` undone.
pub fn unescape_into(text: &[u8], out: &mut Vec<u8>) {
    out.extend(unescaped(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_split_outside_quotes_and_brackets() {
        let split = |value: &'static [u8]| list(value).collect::<Vec<_>>();
        assert_eq!(split(b"a, b ,c"), [b"a", b"b", b"c"]);
        assert_eq!(split(b"\"x, y\" <sip:a@b;c=d,e>, <sip:z>").len(), 2);
        assert_eq!(split(b" , ,a,, "), [b"a"]);
        assert_eq!(split(b"\"open, <sip:a>").len(), 1);
        assert_eq!(split(b"\"a\\\",b\", c").len(), 2);
        assert_eq!(split(b"<sip:a>;x=\"<,>\", sip:b;y=\"<\",<sip:c>").len(), 3);
        assert_eq!(split(b""), Vec::<&[u8]>::new());
    }

    #[test]
    fn escapes_compare_but_reserved_characters_stay_apart() {
        assert!(eq_unescaped(b"%61lice", b"alice", false));
        assert!(!eq_unescaped(b"a%3bb", b"a;b", false));
        assert!(eq_unescaped(b"a%3bb", b"a%3Bb", false));
        assert!(!eq_unescaped(b"Alice", b"alice", false));
        assert!(eq_unescaped(b"Alice", b"alice", true));
        assert!(eq_unescaped(b"100%", b"100%", false));
        assert!(!eq_unescaped(b"a", b"ab", false));
    }

    #[test]
    fn unescape_leaves_broken_escapes() {
        let mut out = Vec::new();
        unescape_into(b"9%300%zz%4", &mut out);
        assert_eq!(out, b"900%zz%4");
    }
}
