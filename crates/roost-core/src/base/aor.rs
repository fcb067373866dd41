//! AORs and subscribers as keys: `user`, or `user@domain` with `use_domain`.

use roost_sip::{Uri, User};

use crate::base::limits;

/// A user and a host, as To, From or a Request-URI name them; escapes stand as they were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserHost<'a> {
    pub(crate) user: User<'a>,
    /// Empty where a `tel` URI has none.
    pub(crate) host: &'a [u8],
}

impl<'a> UserHost<'a> {
    pub(crate) fn of(uri: &Uri<'a>) -> UserHost<'a> {
        UserHost { user: uri.user_part(), host: uri.host }
    }

    /// The same user, at another host where it names none.
    pub(crate) fn or_host(self, host: &'a [u8]) -> UserHost<'a> {
        if self.host.is_empty() { UserHost { host, ..self } } else { self }
    }
}

/// Why there is no AOR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AorError {
    NoUser,
    TooLong,
}

/// Writes the AOR as tables have it into `aor`: whom the user means, with `use_domain` an `@` and the host in lower case.
pub(crate) fn write_aor(
    of: UserHost<'_>,
    use_domain: bool,
    case_sensitive: bool,
    aor: &mut Vec<u8>,
) -> Result<(), AorError> {
    aor.clear();
    if of.user.text.is_empty() {
        return Err(AorError::NoUser);
    }
    aor.extend_from_slice(&of.user.plain());
    let user_len = aor.len();
    if !case_sensitive {
        aor.make_ascii_lowercase();
    }
    if use_domain {
        aor.push(b'@');
        aor.extend(of.host.iter().map(u8::to_ascii_lowercase));
    }
    if user_len > limits::MAX_USER || of.host.len() > limits::MAX_DOMAIN {
        return Err(AorError::TooLong);
    }
    Ok(())
}

/// The AOR of a row's user and domain; `None` where `use_domain` misses a domain.
pub(crate) fn compose_aor(
    (user, domain): (&[u8], Option<&[u8]>),
    use_domain: bool,
    case_sensitive: bool,
) -> Option<Vec<u8>> {
    let mut aor = user.to_vec();
    if !case_sensitive {
        aor.make_ascii_lowercase();
    }
    if use_domain {
        let domain = domain.filter(|domain| !domain.is_empty())?;
        aor.push(b'@');
        aor.extend(domain.iter().map(u8::to_ascii_lowercase));
    }
    Some(aor)
}

/// Splits an AOR into user and domain; that is `None` without `use_domain`.
pub fn split_aor(aor: &[u8], use_domain: bool) -> (&[u8], Option<&[u8]>) {
    match memchr::memrchr(b'@', aor).filter(|_| use_domain) {
        Some(at) => (aor.get(..at).unwrap_or(&[]), aor.get(at + 1..)),
        None => (aor, None),
    }
}

/// A digest username, and its domain where it names one.
pub(crate) fn split_username(username: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'@', username) {
        Some(at) => (username.get(..at).unwrap_or(&[]), username.get(at + 1..)),
        None => (username, None),
    }
}

/// The longest [`UserKey`].
pub(crate) const LONGEST_KEY: usize = limits::MAX_USER + 1 + limits::MAX_DOMAIN;

/// A subscriber as the database is asked for: `user`, or `user@domain` with `use_domain`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserKey {
    bytes: [u8; LONGEST_KEY],
    len: u8,
    user_len: u8,
    has_domain: bool,
}

impl UserKey {
    /// The key of no user.
    pub(crate) const NOBODY: UserKey =
        UserKey { bytes: [0; LONGEST_KEY], len: 0, user_len: 0, has_domain: false };

    /// The key of a digest username; its own domain, or else the realm, counts with `use_domain`. `None` where the
    /// table's columns could not hold it: then there is no such subscriber.
    pub(crate) fn new(username: &[u8], realm: &[u8], use_domain: bool) -> Option<UserKey> {
        let (user, domain) = split_username(username);
        let domain = if use_domain { domain.unwrap_or(realm) } else { &[] };
        if user.is_empty() || user.len() > limits::MAX_USER || domain.len() > limits::MAX_DOMAIN {
            return None;
        }
        let mut key = UserKey {
            bytes: [0; LONGEST_KEY],
            len: user.len() as u8,
            user_len: user.len() as u8,
            has_domain: use_domain,
        };
        key.bytes.get_mut(..user.len())?.copy_from_slice(user);
        if use_domain {
            key.len += 1 + domain.len() as u8;
            let (at, rest) = key.bytes.get_mut(user.len()..usize::from(key.len))?.split_first_mut()?;
            *at = b'@';
            rest.copy_from_slice(domain);
            rest.make_ascii_lowercase();
        }
        Some(key)
    }

    pub(crate) fn text(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    pub(crate) fn user(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.user_len)).unwrap_or(&[])
    }

    pub(crate) fn domain(&self) -> Option<&[u8]> {
        self.has_domain.then(|| self.text().get(usize::from(self.user_len) + 1..).unwrap_or(&[]))
    }
}

impl std::fmt::Debug for UserKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserKey({})", self.text().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aor_is_what_the_table_has() {
        let built = |user: &str, host: &str, use_domain, case_sensitive| {
            let mut aor = Vec::new();
            let user = User { text: user.as_bytes(), is_number: user.starts_with('+') };
            let of = UserHost { user, host: host.as_bytes() };
            write_aor(of, use_domain, case_sensitive, &mut aor).map(|()| String::from_utf8(aor).unwrap())
        };
        assert_eq!(built("%41lice", "A.com", false, true).as_deref(), Ok("Alice"));
        assert_eq!(built("Alice", "A.com", true, true).as_deref(), Ok("Alice@a.com"));
        assert_eq!(built("Alice", "A.com", false, false).as_deref(), Ok("alice"));
        assert_eq!(built("+49-30.1%2D2(3)", "", false, true).as_deref(), Ok("+4930123"));
        assert_eq!(built("a-b.c", "", false, true).as_deref(), Ok("a-b.c"));
        assert_eq!(built("", "a", false, true), Err(AorError::NoUser));
        assert_eq!(built(&"x".repeat(65), "a", false, true), Err(AorError::TooLong));
        assert_eq!(built("x", &"a".repeat(65), false, true), Err(AorError::TooLong));
        assert_eq!(split_aor(b"a@b@c", true), (&b"a@b"[..], Some(&b"c"[..])));
        assert_eq!(split_aor(b"a@b", false), (&b"a@b"[..], None));
    }

    #[test]
    fn a_key_names_its_tenant() {
        let key = |username: &str, realm: &str, use_domain| {
            UserKey::new(username.as_bytes(), realm.as_bytes(), use_domain)
        };
        assert_eq!(key("9001@A.com", "b.com", true).unwrap().text(), b"9001@a.com");
        assert_eq!(key("9001", "B.com", true).unwrap().domain(), Some(&b"b.com"[..]));
        assert_eq!(key("9001@a.com", "b.com", false).unwrap().text(), b"9001");
        assert_eq!(key("", "b.com", false), None);
    }
}
