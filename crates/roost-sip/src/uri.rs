//! URIs: sip, sips and tel in parts, any other scheme as a whole; comparison by RFC 3261 19.1.4.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::params::Params;
use crate::scan::{cut, eq_unescaped, is_host_byte, is_uri_mark, split_at_byte, unescape_into, unescaped};
use crate::values::number;

/// A URI's scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:` (RFC 3966)
    Tel,
    /// Anything else; only its text is known.
    Other,
}

/// Why a text is not a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// No scheme and colon.
    #[error("no scheme")]
    Scheme,
    /// A byte that no URI may hold.
    #[error("a byte that no URI may hold")]
    Byte,
    /// An empty user before the `@`, a second `@`, or a broken escape.
    #[error("malformed user")]
    User,
    /// No host, or one that is neither a name nor an address.
    #[error("malformed host")]
    Host,
    /// A port that is not a number from 1 to 65535.
    #[error("malformed port")]
    Port,
}

/// A URI in parts, borrowed from the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uri<'a> {
    /// The whole text.
    pub text: &'a [u8],
    /// The scheme's kind.
    pub scheme: Scheme,
    /// The user, escapes left in; for `tel` the number.
    pub user: Option<&'a [u8]>,
    /// The password behind the user (RFC 3261 19.1.1 advises against it).
    pub password: Option<&'a [u8]>,
    /// The host: a name, an IPv4 address, or an IPv6 address in brackets. Empty for `tel` and others.
    pub host: &'a [u8],
    /// The port, if one is written.
    pub port: Option<u16>,
    params: &'a [u8],
    headers: &'a [u8],
}

/// The user of a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User<'a> {
    /// As it was sent, with its escapes.
    pub text: &'a [u8],
    /// Whether it is a telephone number, whose visual separators say nothing (RFC 3966 section 3).
    pub is_number: bool,
}

impl<'a> User<'a> {
    /// No user.
    pub const NONE: User<'static> = User { text: b"", is_number: false };

    /// Whom it means: without escapes, and a telephone number without visual separators.
    pub fn plain(&self) -> Cow<'a, [u8]> {
        let has_separator = || self.text.iter().any(|byte| is_separator(*byte));
        if !(self.text.contains(&b'%') || self.is_number && has_separator()) {
            return Cow::Borrowed(self.text);
        }
        let mut plain = Vec::with_capacity(self.text.len());
        unescape_into(self.text, &mut plain);
        if self.is_number {
            plain.retain(|byte| !is_separator(*byte));
        }
        Cow::Owned(plain)
    }

    /// As it was sent, a telephone number without visual separators.
    pub fn without_separators(&self) -> Cow<'a, [u8]> {
        if !self.is_number || !self.text.iter().any(|byte| is_separator(*byte)) {
            return Cow::Borrowed(self.text);
        }
        Cow::Owned(self.text.iter().copied().filter(|byte| !is_separator(*byte)).collect())
    }
}

/// A visual separator of a telephone number (RFC 3966 section 3).
fn is_separator(byte: u8) -> bool {
    matches!(byte, b'-' | b'.' | b'(' | b')')
}

impl<'a> Uri<'a> {
    /// Takes a URI apart.
    ///
    /// # Errors
    /// [`UriError`] names the part that is wrong.
    pub fn parse(text: &'a [u8]) -> Result<Uri<'a>, UriError> {
        let (scheme, rest) = split_scheme(text)?;
        let marks = Marks::find(rest)?;
        let whole = Uri {
            text,
            scheme,
            user: None,
            password: None,
            host: b"",
            port: None,
            params: b"",
            headers: b"",
        };
        match scheme {
            Scheme::Sip | Scheme::Sips => whole.parse_sip(rest, marks),
            Scheme::Tel => {
                let digits = memchr::memchr(b';', rest).unwrap_or(rest.len());
                let (digits, params) = cut(rest, digits);
                Ok(Uri { user: Some(digits), params, ..whole })
            }
            Scheme::Other => Ok(whole),
        }
    }

    fn parse_sip(mut self, rest: &'a [u8], marks: Marks) -> Result<Uri<'a>, UriError> {
        let hostport = match marks.at {
            Some(at) => {
                let (userinfo, hostport) = cut(rest, at);
                if marks.has_second_at || (marks.has_escape && !escapes_hold(userinfo)) {
                    return Err(UriError::User);
                }
                let user_len = userinfo.iter().position(|byte| *byte == b':');
                let (user, password) = cut(userinfo, user_len.unwrap_or(at));
                if user.is_empty() {
                    return Err(UriError::User);
                }
                self.user = Some(user);
                self.password = user_len.map(|_| cut(password, 1).1);
                cut(hostport, 1).1
            }
            None => rest,
        };
        let host_len = match hostport {
            [b'[', ..] => memchr::memchr(b']', hostport).ok_or(UriError::Host)? + 1,
            _ => hostport.iter().position(|byte| !is_host_byte(*byte)).unwrap_or(hostport.len()),
        };
        let (host, rest) = cut(hostport, host_len);
        if host.is_empty() || (host.first() == Some(&b'[') && host_ip(host).is_none()) {
            return Err(UriError::Host);
        }
        self.host = host;
        let rest = match rest {
            [b':', rest @ ..] => {
                let digits = rest.iter().position(|byte| matches!(byte, b';' | b'?')).unwrap_or(rest.len());
                let (digits, rest) = cut(rest, digits);
                self.port = Some(port(digits)?);
                rest
            }
            rest => rest,
        };
        let params_len = rest.iter().position(|byte| *byte == b'?').unwrap_or(rest.len());
        let (params, headers) = cut(rest, params_len);
        if !matches!(params, [] | [b';', ..]) {
            return Err(UriError::Host);
        }
        self.params = params;
        self.headers = cut(headers, 1).1;
        Ok(self)
    }

    /// Its user; empty where there is none. The user of a SIP URI with `user=phone` is a telephone number where it looks like
    /// one: phones say so of names, too.
    pub fn user_part(&self) -> User<'a> {
        let text = self.user.unwrap_or(&[]);
        let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'*' | b'#');
        let is_number = || {
            !self.params.is_empty()
                && text.iter().any(|byte| is_separator(*byte) || *byte == b'%')
                && unescaped(text).all(|byte| is_digit(byte) || is_separator(byte))
                && self.param(b"user").is_some_and(|kind| eq_unescaped(kind, b"phone", true))
        };
        User { text, is_number: self.scheme == Scheme::Tel || is_number() }
    }

    /// The URI's parameters.
    pub fn params(&self) -> Params<'a> {
        Params::new(self.params)
    }

    /// The value of a parameter, empty where there is no `=`; escapes in the name count as what they stand for
    /// (RFC 3261 19.1.4), those in the value are left in.
    pub fn param(&self, name: &[u8]) -> Option<&'a [u8]> {
        uri_params(self.params).find(|(other, _)| eq_unescaped(other, name, true)).map(|(_, value)| value)
    }

    /// The headers behind the `?`, as sent and without it; empty when there are none. They are a wish of the URI's
    /// author, never headers of the message that the URI stands in.
    pub fn headers(&self) -> &'a [u8] {
        self.headers
    }

    /// The host as an address, where it is one.
    pub fn host_ip(&self) -> Option<IpAddr> {
        host_ip(self.host)
    }
}

/// The scheme, and what follows its colon.
fn split_scheme(text: &[u8]) -> Result<(Scheme, &[u8]), UriError> {
    match text {
        [b's' | b'S', b'i' | b'I', b'p' | b'P', b':', rest @ ..] => return Ok((Scheme::Sip, rest)),
        [b's' | b'S', b'i' | b'I', b'p' | b'P', b's' | b'S', b':', rest @ ..] => {
            return Ok((Scheme::Sips, rest));
        }
        [b't' | b'T', b'e' | b'E', b'l' | b'L', b':', rest @ ..] => return Ok((Scheme::Tel, rest)),
        _ => {}
    }
    match split_at_byte(text, b':') {
        Some(([first, name @ ..], rest))
            if first.is_ascii_alphabetic() && name.iter().all(is_scheme_byte) =>
        {
            Ok((Scheme::Other, rest))
        }
        _ => Err(UriError::Scheme),
    }
}

/// What one pass over a URI finds.
#[derive(Debug, Clone, Copy, Default)]
struct Marks {
    /// The first `@`.
    at: Option<usize>,
    has_second_at: bool,
    has_escape: bool,
}

impl Marks {
    fn find(rest: &[u8]) -> Result<Marks, UriError> {
        let mut marks = Marks::default();
        for (index, byte) in rest.iter().enumerate() {
            match byte {
                byte if !is_uri_mark(*byte) => {}
                b'@' if marks.at.is_none() => marks.at = Some(index),
                b'@' => marks.has_second_at = true,
                b'%' => marks.has_escape = true,
                _ => return Err(UriError::Byte),
            }
        }
        match rest.is_empty() {
            true => Err(UriError::Byte),
            false => Ok(marks),
        }
    }
}

/// Names and values of a URI's parameters. Their alphabet is not that of a header field's: no quotes, no LWS, and a name
/// is not a token.
fn uri_params(params: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    params.split(|byte| *byte == b';').skip(1).map(|param| split_at_byte(param, b'=').unwrap_or((param, &[])))
}

/// The address that a host part writes out: IPv4, or IPv6 in brackets.
pub(crate) fn host_ip(host: &[u8]) -> Option<IpAddr> {
    match host {
        [b'[', inner @ .., b']'] => {
            let ip = std::str::from_utf8(inner).ok()?.parse::<Ipv6Addr>().ok();
            ip.or_else(|| three_colons(inner)).map(IpAddr::V6)
        }
        [first, ..] if first.is_ascii_digit() => {
            std::str::from_utf8(host).ok()?.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
        }
        _ => None,
    }
}

/// An address with a third colon before its IPv4 part, `2001:db8:::192.0.2.1`: RFC 3261's grammar has it by mistake and
/// RFC 5118 4.10 asks to take it for what it is without that colon.
fn three_colons(text: &[u8]) -> Option<Ipv6Addr> {
    let at = text.windows(3).position(|three| three == b":::")?;
    let (before, after) = (text.get(..at)?, text.get(at + 1..)?);
    std::str::from_utf8(after.get(2..)?).ok()?.parse::<Ipv4Addr>().ok()?;
    let mut plain = [0; "0000:0000:0000:0000:0000:0000:255.255.255.255".len()];
    let plain = plain.get_mut(..before.len() + after.len())?;
    let (first, rest) = plain.split_at_mut_checked(before.len())?;
    first.copy_from_slice(before);
    rest.copy_from_slice(after);
    std::str::from_utf8(plain).ok()?.parse().ok()
}

pub(crate) fn is_host(host: &[u8]) -> bool {
    match host {
        [b'[', .., b']'] => host_ip(host).is_some(),
        [] => false,
        _ => host.iter().all(|byte| is_host_byte(*byte)),
    }
}

fn port(digits: &[u8]) -> Result<u16, UriError> {
    port_or_zero(digits).and_then(|port| if port > 0 { Ok(port) } else { Err(UriError::Port) })
}

pub(crate) fn port_or_zero(digits: &[u8]) -> Result<u16, UriError> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(UriError::Port);
    }
    let port = number(digits).map_err(|_| UriError::Port)?;
    u16::try_from(port).map_err(|_| UriError::Port)
}

fn is_scheme_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

fn escapes_hold(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text)
        .all(|at| text.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
}

/// Whether two URIs are equal by RFC 3261 19.1.4; `tel` numbers by RFC 3966 section 4; other schemes byte by byte.
pub fn same_uri<'a>(a: &Uri<'a>, b: &Uri<'a>) -> bool {
    if a.text == b.text {
        return true;
    }
    if a.scheme != b.scheme {
        return false;
    }
    match a.scheme {
        Scheme::Sip | Scheme::Sips => {
            same_user(a, b)
                && same_option(a.password, b.password, false)
                && same_host(a.host, b.host)
                && a.port == b.port
                && same_params(a.params, b.params)
                && same_headers(a.headers, b.headers)
        }
        Scheme::Tel => {
            let visual = |byte: &&u8| !is_separator(**byte);
            let digits =
                |uri: &Uri<'a>| uri.user.unwrap_or(&[]).iter().filter(visual).map(u8::to_ascii_lowercase);
            digits(a).eq(digits(b)) && same_tel_params(a.params(), b.params())
        }
        Scheme::Other => false,
    }
}

fn same_user(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    let are_numbers = || {
        let (a, b) = (a.user_part(), b.user_part());
        a.plain() == b.plain() && (a.is_number || b.is_number)
    };
    same_option(a.user, b.user, false) || are_numbers()
}

fn same_option(a: Option<&[u8]>, b: Option<&[u8]>, fold: bool) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => eq_unescaped(a, b, fold),
        (None, None) => true,
        _ => false,
    }
}

fn same_host(a: &[u8], b: &[u8]) -> bool {
    a.eq_ignore_ascii_case(b) || matches!((host_ip(a), host_ip(b)), (Some(a), Some(b)) if a == b)
}

/// A URI with this many parameters is equal to its own spelling only: comparing is quadratic.
const MAX_COMPARED: usize = 24;

/// Parameters in both must match; these count as different when only one URI has them.
fn same_params(a: &[u8], b: &[u8]) -> bool {
    const NEVER_ALONE: [&[u8]; 5] = [b"user", b"ttl", b"method", b"maddr", b"transport"];
    let one_way = |from: &[u8], to: &[u8]| {
        uri_params(from).all(|(name, value)| {
            match uri_params(to).find(|(other, _)| eq_unescaped(name, other, true)) {
                Some((_, other)) => eq_unescaped(value, other, true),
                None => !NEVER_ALONE.iter().any(|never| eq_unescaped(name, never, true)),
            }
        })
    };
    let is_long = |params: &[u8]| uri_params(params).count() >= MAX_COMPARED;
    if is_long(a) || is_long(b) {
        return a == b;
    }
    one_way(a, b) && one_way(b, a)
}

fn same_tel_params(a: Params<'_>, b: Params<'_>) -> bool {
    let one_way = |from: Params<'_>, to: Params<'_>| {
        from.flatten().all(|param| {
            to.get(param.name).is_some_and(|value| value.eq_ignore_ascii_case(param.value.unwrap_or(&[])))
        })
    };
    one_way(a, b) && one_way(b, a)
}

/// Headers (`?name=value&…`) match in any order, all of them.
fn same_headers(a: &[u8], b: &[u8]) -> bool {
    let same = |x: &[u8], y: &[u8]| match (split_at_byte(x, b'='), split_at_byte(y, b'=')) {
        (Some((x_name, x_value)), Some((y_name, y_value))) => {
            eq_unescaped(x_name, y_name, true) && eq_unescaped(x_value, y_value, false)
        }
        _ => x == y,
    };
    let parts = |text: &'_ [u8]| text.split(|byte| *byte == b'&').count();
    let one_way = |a: &[u8], b: &[u8]| {
        a.split(|byte| *byte == b'&').all(|x| b.split(|byte| *byte == b'&').any(|y| same(x, y)))
    };
    if parts(a) > MAX_COMPARED {
        return a == b;
    }
    parts(a) == parts(b) && one_way(a, b) && one_way(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri<'_> {
        Uri::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn separators_of_a_number_say_nothing() {
        let plain = |text: &str| {
            let plain = Uri::parse(text.as_bytes()).unwrap().user_part().plain().into_owned();
            String::from_utf8(plain).unwrap()
        };
        assert_eq!(plain("tel:+49-30-123456;phone-context=x"), "+4930123456");
        assert_eq!(plain("sip:+49(30).12%2D3@h;transport=tcp;user=phone"), "+4930123");
        assert_eq!(plain("sip:+49-30@h"), "+49-30");
        assert_eq!(plain("sip:john.doe@h;user=phone"), "john.doe");
        assert_eq!(plain("sip:%41.b@h"), "A.b");
        assert_eq!(plain("sip:h"), "");
        let dialled = Uri::parse(b"tel:0-49%23-1").unwrap().user_part();
        assert_eq!((&*dialled.without_separators(), &*dialled.plain()), (&b"049%231"[..], &b"049#1"[..]));
    }

    #[test]
    fn parts() {
        let parsed = uri("sip:j%40s0n;x=1:pw@[2001:db8::1]:5070;transport=TCP;lr?subject=a&b=c");
        assert_eq!(parsed.user, Some(&b"j%40s0n;x=1"[..]));
        assert_eq!(parsed.password, Some(&b"pw"[..]));
        assert_eq!(parsed.host_ip(), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(parsed.port, Some(5070));
        assert_eq!(parsed.params().get(b"transport"), Some(&b"TCP"[..]));
        assert_eq!(parsed.headers(), b"subject=a&b=c");
        assert_eq!(uri("SIPS:atlanta.com").scheme, Scheme::Sips);
        assert_eq!(uri("sip:10.2.84.19").user, None);
        assert_eq!(uri("tel:+1-201-555-0123;phone-context=x").user, Some(&b"+1-201-555-0123"[..]));
        assert_eq!(uri("urn:service:sos").scheme, Scheme::Other);
        assert_eq!(uri("sip:9001@10.0.0.1?a=b").host, b"10.0.0.1");
    }

    /// RFC 4475 3.1.1.3: an escaped name is the name, a value is never unescaped twice.
    #[test]
    fn parameters_by_their_unescaped_names() {
        let contact =
            uri("sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31;x/y=[1]:2;Transport=UDP");
        assert_eq!(contact.param(b"lr"), Some(&b""[..]));
        assert_eq!(contact.param(b"name"), Some(&b"v%61lue%25%34%31"[..]));
        assert_eq!(contact.param(b"x/y"), Some(&b"[1]:2"[..]));
        assert_eq!(contact.param(b"transport"), Some(&b"UDP"[..]));
        assert_eq!(contact.param(b"maddr"), None);
    }

    /// RFC 5118 4.10, and what does not become an address by it.
    #[test]
    fn a_third_colon_before_an_ipv4_part_is_no_colon() {
        let ip = |text: &str| Uri::parse(text.as_bytes()).ok().and_then(|uri| uri.host_ip());
        assert_eq!(ip("sip:a@[2001:db8:::192.0.2.1]"), ip("sip:a@[2001:db8::192.0.2.1]"));
        assert_eq!(ip("sip:a@[:::192.0.2.1]:5060"), Some("::192.0.2.1".parse().unwrap()));
        for bad in [
            "2001:db8:::1",
            "2001:db8::::192.0.2.1",
            "1::2:::192.0.2.1",
            "1:::192.0.2",
            "1:::192.0.2.1:::192.0.2.1",
        ] {
            assert_eq!(Uri::parse(format!("sip:a@[{bad}]").as_bytes()), Err(UriError::Host), "{bad}");
        }
        let long = format!("sip:a@[{}:::192.0.2.1]", "0".repeat(200));
        assert_eq!(Uri::parse(long.as_bytes()), Err(UriError::Host));
    }

    #[test]
    fn refusals() {
        for (text, error) in [
            ("9001", UriError::Scheme),
            (":x", UriError::Scheme),
            ("sip:", UriError::Byte),
            ("sip:a b@c", UriError::Byte),
            ("sip:<a@b>", UriError::Byte),
            ("sip:@host", UriError::User),
            ("sip::pw@host", UriError::User),
            ("sip:a@b@c", UriError::User),
            ("sip:a%4@b", UriError::User),
            ("sip:a@", UriError::Host),
            ("sip:a@[::1", UriError::Host),
            ("sip:a@[zz]", UriError::Host),
            ("sip:a@[::1]x", UriError::Host),
            ("sip:a@b\u{e9}", UriError::Host),
            ("sip:a@b:0", UriError::Port),
            ("sip:a@b:", UriError::Port),
            ("sip:a@b:65536", UriError::Port),
            ("sip:a@b:5x", UriError::Port),
        ] {
            assert_eq!(Uri::parse(text.as_bytes()), Err(error), "{text}");
        }
    }

    /// The examples of RFC 3261 19.1.4 and its rules, one a line.
    #[test]
    fn comparison() {
        for (a, b, same) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp", true),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5", true),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5", true),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
                true,
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
                true,
            ),
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP", false),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060", false),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp", false),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp", false),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting", false),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off", false),
            ("sip:carol@chicago.com", "sips:carol@chicago.com", false),
            ("sip:a@b;maddr=1.2.3.4", "sip:a@b", false),
            ("sip:a@b;user=phone", "sip:a@b", false),
            ("sip:a@b;ttl=1", "sip:a@b", false),
            ("sip:a:pw@b", "sip:a@b", false),
            ("sip:a@b;%74ransport=%75dp", "sip:a@b;transport=udp", true),
            ("sip:a@b;%74ransport=tcp", "sip:a@b", false),
            ("sip:a@b;x/y=1;transport=tcp", "sip:a@b;x/y=1;transport=udp", false),
            ("sip:a@[::1]", "sip:a@[0:0:0:0:0:0:0:1]", true),
            ("sip:9001@10.0.0.1:5060;rinstance=1", "sip:9001@10.0.0.1:5060;rinstance=2", false),
            ("tel:+1-201-555", "tel:+1201555", true),
            ("tel:+1201555", "tel:+1201556", false),
            ("sip:+49-30-1@h;user=phone", "sip:+49(30)1@h;user=phone", true),
            ("sip:+49%2D30-1@h;user=phone", "sip:+49301@h;user=phone", true),
            ("sip:+49-30-1@h", "sip:+49301@h", false),
            ("sip:a.b@h;user=phone", "sip:ab@h;user=phone", false),
            ("urn:a", "urn:b", false),
            ("urn:a", "urn:a", true),
        ] {
            assert_eq!(same_uri(&uri(a), &uri(b)), same, "{a} and {b}");
            assert_eq!(same_uri(&uri(b), &uri(a)), same, "{b} and {a}");
        }
    }
}
