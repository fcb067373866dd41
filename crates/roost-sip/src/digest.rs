//! Digest credentials: Authorization and Proxy-Authorization (RFC 3261 22, RFC 2617 3.2.2, RFC 7616 3.4).

use crate::scan::{cut, is_lws, next_element, quoted_len, skip_lws, token_len, trim, unquote};

/// Why a value holds no digest credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Another scheme, such as Basic.
    #[error("not the Digest scheme")]
    Scheme,
    /// A parameter that does not parse.
    #[error("malformed parameter")]
    Param,
    /// A parameter that stands twice: two readers could take different ones.
    #[error("a parameter that stands twice")]
    Twice,
}

/// The credentials of a value, each as text: some peers join what belongs into several header fields by commas.
pub fn joined_credentials(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = trim(value);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = 0;
        loop {
            let (element, after) = next_element(cut(rest, end).1);
            end += element.len();
            match after {
                Some(after) if is_scheme_next(after) => {
                    let one = cut(rest, end).0;
                    rest = skip_lws(after);
                    return Some(trim(one));
                }
                Some(_) => end += 1,
                None => return Some(trim(std::mem::take(&mut rest))),
            }
        }
    })
}

/// Whether a scheme stands here, a name that is followed by another, and not a parameter.
fn is_scheme_next(text: &[u8]) -> bool {
    let text = skip_lws(text);
    let (name, rest) = cut(text, token_len(text));
    !name.is_empty() && rest.first().is_some_and(|byte| is_lws(*byte)) && token_len(skip_lws(rest)) > 0
}

/// Digest credentials as sent, quotes removed and escapes left in: this is what is hashed (RFC 2617 `unq`).
/// A missing parameter is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Credentials<'a> {
    pub username: Option<&'a [u8]>,
    pub realm: Option<&'a [u8]>,
    pub nonce: Option<&'a [u8]>,
    pub uri: Option<&'a [u8]>,
    pub response: Option<&'a [u8]>,
    pub algorithm: Option<&'a [u8]>,
    pub cnonce: Option<&'a [u8]>,
    pub nc: Option<&'a [u8]>,
    pub qop: Option<&'a [u8]>,
}

impl<'a> Credentials<'a> {
    /// Parses a header value; parameters in any order, quoted or not, names in any case.
    ///
    /// # Errors
    /// [`DigestError`].
    pub fn parse(value: &'a [u8]) -> Result<Credentials<'a>, DigestError> {
        let value = trim(value);
        let scheme_len = value.iter().position(|byte| is_lws(*byte)).ok_or(DigestError::Scheme)?;
        let (scheme, mut rest) = cut(value, scheme_len);
        if !scheme.eq_ignore_ascii_case(b"Digest") {
            return Err(DigestError::Scheme);
        }
        let mut credentials = Credentials::default();
        loop {
            // Empty elements of the list are passed over.
            let blank = rest.iter().position(|byte| *byte != b',' && !is_lws(*byte)).unwrap_or(rest.len());
            rest = cut(rest, blank).1;
            if rest.is_empty() {
                return Ok(credentials);
            }
            let (name, value, after) = next_param(rest)?;
            rest = after;
            let Some(place) = credentials.place(name) else { continue };
            if place.is_some() {
                return Err(DigestError::Twice);
            }
            *place = Some(unquote(value));
        }
    }

    fn place(&mut self, name: &[u8]) -> Option<&mut Option<&'a [u8]>> {
        let (known, place): (&[u8], _) = match (name.len(), name.first()?.to_ascii_lowercase()) {
            (8, b'u') => (b"username", &mut self.username),
            (8, b'r') => (b"response", &mut self.response),
            (5, b'r') => (b"realm", &mut self.realm),
            (5, b'n') => (b"nonce", &mut self.nonce),
            (3, b'u') => (b"uri", &mut self.uri),
            (9, b'a') => (b"algorithm", &mut self.algorithm),
            (6, b'c') => (b"cnonce", &mut self.cnonce),
            (2, b'n') => (b"nc", &mut self.nc),
            (3, b'q') => (b"qop", &mut self.qop),
            _ => return None,
        };
        name.eq_ignore_ascii_case(known).then_some(place)
    }
}

/// The first `name=value` of a list, and what follows it. The value keeps its quotes.
#[expect(clippy::type_complexity, reason = "name, value and rest, of one text")]
fn next_param(text: &[u8]) -> Result<(&[u8], &[u8], &[u8]), DigestError> {
    let (name, rest) = cut(text, token_len(text));
    let [b'=', rest @ ..] = skip_lws(rest) else { return Err(DigestError::Param) };
    let rest = skip_lws(rest);
    let value_len = match rest.first() {
        Some(b'"') => quoted_len(rest).ok_or(DigestError::Param)?,
        _ => rest.iter().position(|byte| matches!(byte, b',' | b'"') || is_lws(*byte)).unwrap_or(rest.len()),
    };
    let (value, rest) = cut(rest, value_len);
    let rest = skip_lws(rest);
    match rest.first() {
        None | Some(b',') if !name.is_empty() => Ok((name, value, rest)),
        _ => Err(DigestError::Param),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_real_phones() {
        let zoiper = b"Digest username=\"9001\",realm=\"10.2.32.112\",nonce=\"5f05\",uri=\"sip:10.2.32.112;transport=tcp\",response=\"d579\",cnonce=\"0668\",nc=00000001,qop=auth,algorithm=MD5";
        let parsed = Credentials::parse(zoiper).unwrap();
        assert_eq!(parsed.username, Some(&b"9001"[..]));
        assert_eq!(parsed.uri, Some(&b"sip:10.2.32.112;transport=tcp"[..]));
        assert_eq!(
            (parsed.nc, parsed.qop, parsed.algorithm),
            (Some(&b"00000001"[..]), Some(&b"auth"[..]), Some(&b"MD5"[..]))
        );
        let odd =
            b"dIgEsT  USERNAME = \"a\\\"b, c\" ,\r\n realm=r, nonce=\"\" , qop=\"auth\", opaque=\"x=y\",,";
        let parsed = Credentials::parse(odd).unwrap();
        assert_eq!(parsed.username, Some(&b"a\\\"b, c"[..]));
        assert_eq!(
            (parsed.realm, parsed.nonce, parsed.qop),
            (Some(&b"r"[..]), Some(&b""[..]), Some(&b"auth"[..]))
        );
        assert_eq!(parsed.response, None);
    }

    #[test]
    fn credentials_in_one_header_field_come_apart() {
        let split = |value: &'static str| {
            let one = |text: &'static [u8]| std::str::from_utf8(text).unwrap();
            joined_credentials(value.as_bytes()).map(one).collect::<Vec<_>>()
        };
        assert_eq!(
            split("Digest realm=\"a, Digest x=y\", nc = 1,Digest realm=b ,\r\n Basic abc, Digest realm=c"),
            ["Digest realm=\"a, Digest x=y\", nc = 1", "Digest realm=b", "Basic abc", "Digest realm=c"]
        );
        assert_eq!(split("Digest realm=a, nonce = b"), ["Digest realm=a, nonce = b"]);
        assert_eq!(split("Digest realm=\"a"), ["Digest realm=\"a"]);
        assert_eq!(split(" "), [""; 0]);
    }

    #[test]
    fn refusals() {
        assert_eq!(Credentials::parse(b"Basic abc"), Err(DigestError::Scheme));
        assert_eq!(Credentials::parse(b"Digest"), Err(DigestError::Scheme));
        assert_eq!(Credentials::parse(b""), Err(DigestError::Scheme));
        assert_eq!(Credentials::parse(b"Digest nonsense"), Err(DigestError::Param));
        assert_eq!(Credentials::parse(b"Digest realm=\"x"), Err(DigestError::Param));
        assert_eq!(Credentials::parse(b"Digest realm=a b"), Err(DigestError::Param));
        assert_eq!(Credentials::parse(b"Digest realm=\"a\" realm"), Err(DigestError::Param));
        assert_eq!(Credentials::parse(b"Digest username=a, username=b"), Err(DigestError::Twice));
        assert_eq!(Credentials::parse(b"Digest realm=\"a\" b"), Err(DigestError::Param));
        assert_eq!(Credentials::parse(b"Digest realm=\"a\"b\""), Err(DigestError::Param));
        assert_eq!(Credentials::parse(b"Digest realm=a\"b"), Err(DigestError::Param));
        assert_eq!(Credentials::parse(b"Digest =a"), Err(DigestError::Param));
        assert_eq!(Credentials::parse(b"Digest re alm=a"), Err(DigestError::Param));
    }
}
