//! The tests' own MD5 and digest, against the RFCs and against phones' captures: an error here would look
//! like roost's.

use crate::support::{digest, md5};

#[test]
fn md5_of_rfc_1321() {
    let vectors = [
        ("", "d41d8cd98f00b204e9800998ecf8427e"),
        ("a", "0cc175b9c0f1b6a831c399e269772661"),
        ("abc", "900150983cd24fb0d6963f7d28e17f72"),
        ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
        ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
        (
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            "d174ab98d277d9f5a5611c2c9f419d9f",
        ),
        (
            "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
            "57edf4a22be3c955ac49da2e2107b67a",
        ),
    ];
    for (message, expected) in vectors {
        assert_eq!(md5::hex(message.as_bytes()), expected, "{message:?}");
    }
}

#[test]
fn digests_that_phones_sent() {
    let eyebeam = ["401999", "10.2.84.19", "401999"];
    let nonce = "5eb6117930f436d5c6dfab18f8b2da91e65c1537";
    let response = digest(eyebeam, "REGISTER", "sip:10.2.84.19", nonce, None);
    assert_eq!(response, "9c46fa8d95df62b2d204c82bf4fcdccc");

    let zoiper = ["9001", "10.2.32.112", "9001"];
    let nonce = "5f05c370000000090661a6e56d5451e0ba81b4883dc37bca";
    let counted = Some((1, "06681fd4664cda35938959789ed84849"));
    let response = digest(zoiper, "REGISTER", "sip:10.2.32.112;transport=tcp", nonce, counted);
    assert_eq!(response, "d5792a2d89b0c158c1c9453f98385cb8");
}
