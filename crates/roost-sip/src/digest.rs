//! Digest credentials: Authorization and Proxy-Authorization (RFC 3261 22, RFC 2617 3.2.2, RFC 7616 3.4).

use crate::params::Param;
use crate::scan::{cut, is_lws, list, trim, unquote};

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
        let (scheme, params) = cut(value, scheme_len);
        if !scheme.eq_ignore_ascii_case(b"Digest") {
            return Err(DigestError::Scheme);
        }
        let mut credentials = Credentials::default();
        for element in list(params) {
            let param = one_param(element)?;
            let place = match param.name {
                name if name.eq_ignore_ascii_case(b"username") => &mut credentials.username,
                name if name.eq_ignore_ascii_case(b"realm") => &mut credentials.realm,
                name if name.eq_ignore_ascii_case(b"nonce") => &mut credentials.nonce,
                name if name.eq_ignore_ascii_case(b"uri") => &mut credentials.uri,
                name if name.eq_ignore_ascii_case(b"response") => &mut credentials.response,
                name if name.eq_ignore_ascii_case(b"algorithm") => &mut credentials.algorithm,
                name if name.eq_ignore_ascii_case(b"cnonce") => &mut credentials.cnonce,
                name if name.eq_ignore_ascii_case(b"nc") => &mut credentials.nc,
                name if name.eq_ignore_ascii_case(b"qop") => &mut credentials.qop,
                _ => continue,
            };
            if place.is_some() {
                return Err(DigestError::Twice);
            }
            *place = Some(unquote(param.value.unwrap_or(&[])));
        }
        Ok(credentials)
    }
}

/// A single `name=value`.
fn one_param(element: &[u8]) -> Result<Param<'_>, DigestError> {
    let equals = memchr::memchr(b'=', element).ok_or(DigestError::Param)?;
    let (name, value) = cut(element, equals);
    let (name, value) = (trim(name), trim(cut(value, 1).1));
    let well_formed = match value {
        [b'"', inner @ .., b'"'] => !has_bare_quote(inner),
        [b'"', ..] => false,
        other => !other.iter().any(|byte| is_lws(*byte) || *byte == b'"'),
    };
    if name.is_empty() || !name.iter().all(|byte| crate::scan::is_token(*byte)) || !well_formed {
        return Err(DigestError::Param);
    }
    Ok(Param { name, value: Some(value) })
}

fn has_bare_quote(inner: &[u8]) -> bool {
    let mut escaped = false;
    for byte in inner {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return true,
            _ => {}
        }
    }
    escaped
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
    fn refusals() {
        assert_eq!(Credentials::parse(b"Basic abc"), Err(DigestError::Scheme));
        assert_eq!(Credentials::parse(b"Digest"), Err(DigestError::Scheme));
        assert_eq!(Credentials::parse(b""), Err(DigestError::Scheme));
        assert_eq!(Credentials::parse(b"Digest nonsense"), Err(DigestError::Param));
        assert_eq!(Credentials::parse(b"Digest realm=\"x"), Err(DigestError::Param));
        assert_eq!(Credentials::parse(b"Digest realm=a b"), Err(DigestError::Param));
        assert_eq!(Credentials::parse(b"Digest realm=\"a\" realm"), Err(DigestError::Param));
        assert_eq!(Credentials::parse(b"Digest username=a, username=b"), Err(DigestError::Twice));
    }
}
