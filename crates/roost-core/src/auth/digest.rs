//! The arithmetic of digest authentication (RFC 2617 3.2.2, RFC 7616 3.4, RFC 8760), in hex throughout.

use md5::{Digest, Md5};
use sha2::{Sha256, Sha512_256};

use crate::base::hex::Hex;
use crate::contract::policy::Algorithm;

/// The hash of the parts joined by colons.
fn joined(algorithm: Algorithm, parts: &[&[u8]]) -> Hex {
    match algorithm {
        Algorithm::Md5 => joined_by::<Md5>(parts),
        Algorithm::Sha256 => joined_by::<Sha256>(parts),
        Algorithm::Sha512Trunc256 => joined_by::<Sha512_256>(parts),
    }
}

fn joined_by<D: Digest>(parts: &[&[u8]]) -> Hex {
    Hex::new(&hashed::<D>(parts))
}

fn hashed<D: Digest>(parts: &[&[u8]]) -> md5::digest::Output<D> {
    let mut hash = D::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            hash.update(b":");
        }
        hash.update(part);
    }
    hash.finalize()
}

/// `H(username:realm:password)`; the username as sent, with its domain if it has one.
pub(crate) fn ha1(algorithm: Algorithm, username: &[u8], realm: &[u8], password: &[u8]) -> Hex {
    joined(algorithm, &[username, realm, password])
}

/// The same for MD5, as bytes.
pub(crate) fn md5_ha1(username: &[u8], realm: &[u8], password: &[u8]) -> [u8; 16] {
    hashed::<Md5>(&[username, realm, password]).into()
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
pub(crate) fn response(
    algorithm: Algorithm,
    ha1: &[u8],
    nonce: &[u8],
    qop: Option<QopAuth<'_>>,
    method: &[u8],
    uri: &[u8],
) -> Hex {
    let ha2 = joined(algorithm, &[method, uri]);
    let ha2 = ha2.as_bytes();
    match qop {
        Some(QopAuth { nc, cnonce, qop }) => joined(algorithm, &[ha1, nonce, nc, cnonce, qop, ha2]),
        None => joined(algorithm, &[ha1, nonce, ha2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex::same_hex;

    const MD5: Algorithm = Algorithm::Md5;

    fn text(hex: Hex) -> String {
        String::from_utf8(hex.as_bytes().to_vec()).unwrap()
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
            let ha1 = ha1(MD5, user.as_bytes(), b"10.2.84.19", user.as_bytes());
            let response = response(MD5, ha1.as_bytes(), nonce.as_bytes(), None, b"REGISTER", uri.as_bytes());
            assert!(same_hex(&response, expected.to_uppercase().as_bytes()), "{user}: {}", text(response));
        }
        let qop = QopAuth { nc: b"00000001", cnonce: b"06681fd4664cda35938959789ed84849", qop: b"auth" };
        let nonce = b"5f05c370000000090661a6e56d5451e0ba81b4883dc37bca";
        let ha1 = ha1(MD5, b"9001", b"10.2.32.112", b"9001");
        let with_qop =
            response(MD5, ha1.as_bytes(), nonce, Some(qop), b"REGISTER", b"sip:10.2.32.112;transport=tcp");
        assert_eq!(text(with_qop), "d5792a2d89b0c158c1c9453f98385cb8");
    }

    /// The example of RFC 7616 3.9.1, with both its algorithms.
    #[test]
    fn responses_of_rfc_7616() {
        let nonce = b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let qop = QopAuth {
            nc: b"00000001",
            cnonce: b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            qop: b"auth",
        };
        for (algorithm, expected) in [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let ha1 = ha1(algorithm, b"Mufasa", b"http-auth@example.org", b"Circle of Life");
            let response = response(algorithm, ha1.as_bytes(), nonce, Some(qop), b"GET", b"/dir/index.html");
            assert_eq!(text(response), expected);
        }
        // FIPS 180-4's value of the empty string, for the one that the RFC's examples use with hashed usernames only.
        let empty = text(Hex::new(&Sha512_256::digest(b"")));
        assert_eq!(empty, "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a");
    }

    #[test]
    fn ha1_and_ha1b() {
        assert_eq!(text(ha1(MD5, b"9001", b"10.2.32.112", b"9001")), "36554bda61fbcb964a5866662b54bf4e");
        assert_eq!(
            text(ha1(MD5, b"9001@10.2.32.112", b"10.2.32.112", b"9001")),
            "96d458911b82f4e1da0bd718b33c0e16"
        );
        assert_eq!(text(ha1(MD5, b"401999", b"10.2.84.19", b"401999")), "a6b2c5d4e5c8a079123621fce374bbce");
    }

    #[test]
    fn a_wrong_length_is_a_wrong_response() {
        let expected = ha1(MD5, b"a", b"b", b"c");
        assert!(same_hex(&expected, expected.as_bytes()));
        assert!(!same_hex(&expected, &expected.as_bytes()[..31]));
        assert!(!same_hex(&expected, b""));
        assert!(!same_hex(&expected, &[b'0'; 64]));
    }
}
