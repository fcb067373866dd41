//! The arithmetic of digest authentication (RFC 2617 3.2.2) with MD5, in hex throughout.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

/// An MD5 in lower-case hex.
pub(crate) type Hex = [u8; 32];

/// Appends bytes in lower-case hex.
pub(crate) fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    out.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
}

/// Reads hex digits of any case.
pub(crate) fn parse_hex(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0u64, |value, byte| Some(value << 4 | u64::from(char::from(*byte).to_digit(16)?)))
}

/// MD5 of the parts joined by colons.
pub(crate) fn md5_joined(parts: &[&[u8]]) -> Hex {
    let mut hash = Md5::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            hash.update(b":");
        }
        hash.update(part);
    }
    let mut hex = [0; 32];
    let digest = hash.finalize();
    for (pair, byte) in hex.chunks_exact_mut(2).zip(digest.iter()) {
        if let [high, low] = pair {
            *high = char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0') as u8;
            *low = char::from_digit(u32::from(byte & 15), 16).unwrap_or('0') as u8;
        }
    }
    hex
}

/// `MD5(username:realm:password)`; the username as sent, with its domain if it has one (S31).
pub(crate) fn ha1(username: &[u8], realm: &[u8], password: &[u8]) -> Hex {
    md5_joined(&[username, realm, password])
}

/// What the qop parameters of a response add to its hash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QopAuth<'a> {
    pub(crate) nc: &'a [u8],
    pub(crate) cnonce: &'a [u8],
    /// `auth` as the client spelled it.
    pub(crate) qop: &'a [u8],
}

/// The response that a client which knows `ha1` would send.
pub(crate) fn response(ha1: &[u8], nonce: &[u8], qop: Option<QopAuth<'_>>, method: &[u8], uri: &[u8]) -> Hex {
    let ha2 = md5_joined(&[method, uri]);
    match qop {
        Some(QopAuth { nc, cnonce, qop }) => md5_joined(&[ha1, nonce, nc, cnonce, qop, &ha2]),
        None => md5_joined(&[ha1, nonce, &ha2]),
    }
}

/// Compares in constant time, hex digits of any case.
pub(crate) fn same_hex(expected: &Hex, given: &[u8]) -> bool {
    let Ok(mut given) = <Hex>::try_from(given) else { return false };
    given.make_ascii_lowercase();
    bool::from(expected.ct_eq(&given))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(hex: Hex) -> String {
        String::from_utf8(hex.to_vec()).unwrap()
    }

    /// The captures of the original description; in each the password equals the extension number.
    #[test]
    fn responses_of_real_phones() {
        let plain = [
            (
                "401999",
                "sip:10.2.84.19",
                "5eb6117930f436d5c6dfab18f8b2da91e65c1537",
                "9c46fa8d95df62b2d204c82bf4fcdccc",
            ),
            (
                "401999",
                "sip:10.2.84.19",
                "5eb611acb7d0e927969146dcaf0ce1777070df6e",
                "1f1a4b29257e292a5efc686ea846245d",
            ),
            (
                "401998",
                "sip:10.2.84.19:5060",
                "5eb503f9b40c6d1f396eef36c55a6713b8421c74",
                "c5e2ee46cba287df8f434fe631a2f3fd",
            ),
        ];
        for (user, uri, nonce, expected) in plain {
            let ha1 = ha1(user.as_bytes(), b"10.2.84.19", user.as_bytes());
            let response = response(&ha1, nonce.as_bytes(), None, b"REGISTER", uri.as_bytes());
            assert!(same_hex(&response, expected.to_uppercase().as_bytes()), "{user}: {}", text(response));
        }
        let qop = QopAuth { nc: b"00000001", cnonce: b"06681fd4664cda35938959789ed84849", qop: b"auth" };
        let nonce = b"5f05c370000000090661a6e56d5451e0ba81b4883dc37bca";
        let ha1 = ha1(b"9001", b"10.2.32.112", b"9001");
        let with_qop = response(&ha1, nonce, Some(qop), b"REGISTER", b"sip:10.2.32.112;transport=tcp");
        assert_eq!(text(with_qop), "d5792a2d89b0c158c1c9453f98385cb8");
    }

    #[test]
    fn ha1_and_ha1b() {
        assert_eq!(text(ha1(b"9001", b"10.2.32.112", b"9001")), "36554bda61fbcb964a5866662b54bf4e");
        assert_eq!(
            text(ha1(b"9001@10.2.32.112", b"10.2.32.112", b"9001")),
            "96d458911b82f4e1da0bd718b33c0e16"
        );
        assert_eq!(text(ha1(b"401999", b"10.2.84.19", b"401999")), "a6b2c5d4e5c8a079123621fce374bbce");
    }

    #[test]
    fn a_wrong_length_is_a_wrong_response() {
        let expected = ha1(b"a", b"b", b"c");
        assert!(same_hex(&expected, &expected));
        assert!(!same_hex(&expected, &expected[..31]));
        assert!(!same_hex(&expected, b""));
        assert!(!same_hex(&expected, &[b'0'; 64]));
    }

    #[test]
    fn hex_both_ways() {
        let mut out = Vec::new();
        push_hex(&[0x00, 0xaf, 0x19], &mut out);
        assert_eq!(out, b"00af19");
        assert_eq!(parse_hex(b"00aF19"), Some(0xaf19));
        assert_eq!(parse_hex(b"0g"), None);
    }
}
