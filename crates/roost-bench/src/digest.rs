//! The client's side of digest authentication (RFC 3261 22, RFC 7616, RFC 8760): reads a challenge, writes credentials.

use md5::{Digest, Md5};
use roost_sip::{Head, list, trim, unquote};
use sha2::{Sha256, Sha512_256};

use crate::template::hex8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Algorithm {
    #[default]
    Md5,
    Sha256,
    Sha512Trunc256,
}

impl Algorithm {
    /// The one that a challenge names; none if it is not one of ours.
    fn named(name: &[u8]) -> Option<Algorithm> {
        [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512Trunc256]
            .into_iter()
            .find(|algorithm| name.eq_ignore_ascii_case(algorithm.name().as_bytes()))
    }

    fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha512Trunc256 => "SHA-512-256",
        }
    }

    /// The hash of the parts joined by colons, in hex.
    fn hash(self, parts: &[&[u8]]) -> Hex {
        match self {
            Algorithm::Md5 => joined::<Md5>(parts),
            Algorithm::Sha256 => joined::<Sha256>(parts),
            Algorithm::Sha512Trunc256 => joined::<Sha512_256>(parts),
        }
    }
}

/// A hash in lower-case hex.
#[derive(Debug, Clone, Copy)]
struct Hex {
    digits: [u8; 64],
    len: usize,
}

impl Hex {
    fn as_bytes(&self) -> &[u8] {
        &self.digits[..self.len]
    }
}

fn joined<D: Digest>(parts: &[&[u8]]) -> Hex {
    let mut hash = D::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            hash.update(b":");
        }
        hash.update(part);
    }
    let hash = hash.finalize();
    let mut hex = Hex { digits: [0; 64], len: hash.len() * 2 };
    for (pair, byte) in hex.digits.chunks_exact_mut(2).zip(hash.iter()) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    hex
}

/// The last challenge that a user got. Its buffers are made once and used again.
#[derive(Debug, Default)]
pub(crate) struct Challenge {
    /// 407 instead of 401: decides the header's name.
    is_proxy: bool,
    algorithm: Algorithm,
    has_qop: bool,
    stale: bool,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    opaque: Vec<u8>,
    /// Times that the nonce was used.
    nonce_count: u32,
}

impl Challenge {
    /// With room for what common servers send.
    pub(crate) fn with_room() -> Challenge {
        let mut challenge = Challenge::default();
        challenge.realm.reserve_exact(24);
        challenge.nonce.reserve_exact(64);
        challenge
    }

    /// Whether there is a nonce to answer with.
    pub(crate) fn is_known(&self) -> bool {
        !self.nonce.is_empty()
    }

    /// Whether the server said that only the nonce was too old.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Takes the first challenge of a 401 or 407 whose algorithm is ours (RFC 8760 2.4); false if there is none.
    pub(crate) fn read(&mut self, head: &Head, message: &[u8], is_proxy: bool) -> bool {
        let name = if is_proxy { &b"Proxy-Authenticate"[..] } else { b"WWW-Authenticate" };
        for line in head.lines() {
            let whole = line.whole.of(message);
            let field = trim(whole.split(|byte| *byte == b':').next().unwrap_or(&[]));
            if field.eq_ignore_ascii_case(name) && self.read_value(line.value.of(message)) {
                self.is_proxy = is_proxy;
                return true;
            }
        }
        false
    }

    fn read_value(&mut self, value: &[u8]) -> bool {
        let Some((scheme, params)) = value.split_at_checked(7) else { return false };
        if !scheme.eq_ignore_ascii_case(b"Digest ") {
            return false;
        }
        let parsed = || {
            list(params).filter_map(|param| {
                let equals = memchr::memchr(b'=', param)?;
                Some((trim(&param[..equals]), unquote(trim(&param[equals + 1..]))))
            })
        };
        let find =
            |name: &[u8]| parsed().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let (Some(realm), Some(nonce)) = (find(b"realm"), find(b"nonce")) else { return false };
        let Some(algorithm) = Algorithm::named(find(b"algorithm").unwrap_or(b"MD5")) else { return false };
        let qop = find(b"qop");
        self.has_qop = qop.is_some_and(|offer| list(offer).any(|one| one.eq_ignore_ascii_case(b"auth")));
        if qop.is_some() && !self.has_qop {
            return false;
        }
        self.algorithm = algorithm;
        self.stale = find(b"stale").is_some_and(|stale| stale.eq_ignore_ascii_case(b"true"));
        self.nonce_count = 0;
        for (place, value) in [
            (&mut self.realm, realm),
            (&mut self.nonce, nonce),
            (&mut self.opaque, find(b"opaque").unwrap_or(&[])),
        ] {
            place.clear();
            place.extend_from_slice(value);
        }
        true
    }

    /// Appends the header line that answers this challenge, its CRLF included.
    pub(crate) fn answer(&mut self, asked: &Asked<'_>, out: &mut Vec<u8>) {
        self.nonce_count += 1;
        self.write(asked, &hex8(self.nonce_count), &hex8(asked.cnonce), out);
    }

    /// Makes the next answer the same as the last one, for a retransmission.
    pub(crate) fn take_back(&mut self) {
        self.nonce_count -= 1;
    }

    fn write(&self, asked: &Asked<'_>, nc: &[u8], cnonce: &[u8], out: &mut Vec<u8>) {
        let response = self.response(asked, nc, cnonce);
        out.extend_from_slice(if self.is_proxy { b"Proxy-Authorization" } else { b"Authorization" });
        out.extend_from_slice(b": Digest username=\"");
        for (value, next) in [
            (asked.user, &b"\", realm=\""[..]),
            (&self.realm[..], b"\", nonce=\""),
            (&self.nonce[..], b"\", uri=\""),
            (asked.uri, b"\", response=\""),
            (response.as_bytes(), b"\", algorithm="),
            (self.algorithm.name().as_bytes(), b""),
        ] {
            out.extend_from_slice(value);
            out.extend_from_slice(next);
        }
        if self.has_qop {
            for part in [b", qop=auth, nc=", nc, b", cnonce=\"", cnonce, b"\""] {
                out.extend_from_slice(part);
            }
        }
        if !self.opaque.is_empty() {
            for part in [b", opaque=\"", &self.opaque[..], b"\""] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// RFC 7616 3.4.1.
    fn response(&self, asked: &Asked<'_>, nc: &[u8], cnonce: &[u8]) -> Hex {
        let ha1 = self.algorithm.hash(&[asked.user, &self.realm, asked.password]);
        let ha2 = self.algorithm.hash(&[asked.method, asked.uri]);
        let (ha1, ha2) = (ha1.as_bytes(), ha2.as_bytes());
        match self.has_qop {
            true => self.algorithm.hash(&[ha1, &self.nonce, nc, cnonce, b"auth", ha2]),
            false => self.algorithm.hash(&[ha1, &self.nonce, ha2]),
        }
    }
}

/// The request that credentials are for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a [u8],
    /// The Request-URI.
    pub(crate) uri: &'a [u8],
    pub(crate) user: &'a [u8],
    pub(crate) password: &'a [u8],
    /// Used where the challenge offers qop.
    pub(crate) cnonce: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(lines: &str, code: u16) -> Option<Challenge> {
        let message = format!("SIP/2.0 {code} Unauthorized\r\n{lines}Content-Length: 0\r\n\r\n");
        let mut head = Head::new();
        head.parse(message.as_bytes()).unwrap();
        let mut challenge = Challenge::default();
        challenge.read(&head, message.as_bytes(), code == 407).then_some(challenge)
    }

    /// The example of RFC 7616 3.9.1, with both its algorithms, and that of RFC 2617 3.5.
    #[test]
    fn responses_of_the_rfcs() {
        let get = Asked {
            method: b"GET",
            uri: b"/dir/index.html",
            user: b"Mufasa",
            password: b"Circle of Life",
            cnonce: 0,
        };
        for (algorithm, expected) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let header = format!(
                "WWW-Authenticate: Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
                 algorithm={algorithm}, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"\r\n"
            );
            let challenge = challenge(&header, 401).unwrap();
            let mut out = Vec::new();
            challenge.write(&get, b"00000001", b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", &mut out);
            assert_eq!(
                String::from_utf8(out).unwrap(),
                format!(
                    "Authorization: Digest username=\"Mufasa\", realm=\"http-auth@example.org\", \
                     nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", uri=\"/dir/index.html\", \
                     response=\"{expected}\", algorithm={algorithm}, qop=auth, nc=00000001, \
                     cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", \
                     opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"\r\n"
                )
            );
        }
        let rfc_2617 = "WWW-Authenticate: Digest realm=\"testrealm@host.com\", qop=auth, \
                        nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"\r\n";
        let asked = Asked { password: b"Circle Of Life", ..get };
        let response = challenge(rfc_2617, 401).unwrap().response(&asked, b"00000001", b"0a4f113b");
        assert_eq!(response.as_bytes(), b"6629fae49393a05397450978507c4ef1");
    }

    /// A capture of a real phone: password and extension are equal, no qop.
    #[test]
    fn without_qop() {
        let header = "WWW-Authenticate: Digest realm=\"10.2.84.19\",\r\n nonce=\"5eb6117930f436d5c6dfab18f8b2da91e65c1537\"\r\n";
        let asked = Asked {
            method: b"REGISTER",
            uri: b"sip:10.2.84.19",
            user: b"401999",
            password: b"401999",
            cnonce: 7,
        };
        let mut out = Vec::new();
        challenge(header, 401).unwrap().answer(&asked, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("response=\"9c46fa8d95df62b2d204c82bf4fcdccc\", algorithm=MD5\r\n"), "{text}");
    }

    #[test]
    fn the_first_challenge_that_is_understood_counts() {
        let lines = "www-authenticate: Digest realm=\"r\", nonce=\"1\", algorithm=SHA-3\r\n\
                     WWW-Authenticate : Digest realm=\"r\", nonce=\"2\", qop=\"auth-int\"\r\n\
                     WWW-Authenticate: Digest Realm=\"r\", Nonce=\"3\", stale=TRUE, algorithm=sha-256\r\n\
                     WWW-Authenticate: Digest realm=\"r\", nonce=\"4\"\r\n";
        let found = challenge(lines, 401).unwrap();
        assert_eq!(
            (found.nonce.as_slice(), found.algorithm, found.stale),
            (&b"3"[..], Algorithm::Sha256, true)
        );
        assert!(challenge(lines, 407).is_none(), "a 407's header is Proxy-Authenticate");
        assert!(challenge("WWW-Authenticate: Basic realm=\"r\"\r\n", 401).is_none());
    }

    #[test]
    fn each_use_of_a_nonce_counts() {
        let header = "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"\r\n";
        let mut challenge = challenge(header, 407).unwrap();
        let asked = Asked { method: b"INVITE", uri: b"sip:b@r", user: b"a", password: b"a", cnonce: 1 };
        let mut out = Vec::new();
        challenge.answer(&asked, &mut out);
        challenge.answer(&asked, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("Proxy-Authorization: ") && text.contains("nc=00000002"), "{text}");
    }
}
