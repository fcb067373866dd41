//! Keep-alives of phones behind NAT that ask with STUN, on the port that they send SIP to, where they are seen (RFC 5389; RFC
//! 5626 4.4.2). What is asked needs no state, and an answer is hardly longer than a question.

use std::net::{IpAddr, SocketAddr};

const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_RESPONSE: [u8; 2] = [0x01, 0x01];
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const MAPPED_ADDRESS: [u8; 2] = [0x00, 0x01];
const XOR_MAPPED_ADDRESS: [u8; 2] = [0x00, 0x20];
/// Type, length, cookie and transaction.
const HEADER: usize = 20;

/// The answer to a binding request; `None` for anything else.
pub(crate) fn answer(request: &[u8], remote: SocketAddr) -> Option<Vec<u8>> {
    let (header, attributes) = request.split_first_chunk::<HEADER>()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[..2] != BINDING_REQUEST || length != attributes.len() || length % 4 != 0 {
        return None;
    }
    let transaction = &header[4..];
    // Without the cookie it is of RFC 3489: phones as old as that do not know the other attribute.
    let is_modern = transaction[..4] == COOKIE;
    let (ip, port) = (remote.ip().to_canonical(), remote.port().to_be_bytes());
    let (family, mut address) = match ip {
        IpAddr::V4(v4) => (1, [&port[..], &v4.octets()].concat()),
        IpAddr::V6(v6) => (2, [&port[..], &v6.octets()].concat()),
    };
    if is_modern {
        let (own, of_ip) = address.split_at_mut(2);
        own.iter_mut().zip(COOKIE).for_each(|(byte, mask)| *byte ^= mask);
        of_ip.iter_mut().zip(transaction).for_each(|(byte, mask)| *byte ^= mask);
    }
    let attribute = if is_modern { XOR_MAPPED_ADDRESS } else { MAPPED_ADDRESS };
    let value = [&[0, family][..], &address].concat();
    let value_length = (value.len() as u16).to_be_bytes();
    let body = [&attribute[..], &value_length, &value].concat();
    let body_length = (body.len() as u16).to_be_bytes();
    Some([&BINDING_RESPONSE[..], &body_length, transaction, &body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(cookie: [u8; 4]) -> Vec<u8> {
        [&[0, 1, 0, 0][..], &cookie, b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae"].concat()
    }

    /// The sample responses of RFC 5769 (2.2 and 2.3), without what needs a password.
    #[test]
    fn the_addresses_of_the_rfc_are_told() {
        let v4 = answer(&request(COOKIE), "192.0.2.1:32853".parse().unwrap()).unwrap();
        assert_eq!(v4[..8], [1, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42]);
        assert_eq!(v4[20..], [0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        let v6 = answer(&request(COOKIE), "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap());
        let expected = [
            0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79,
            0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        assert_eq!(v6.unwrap()[20..], expected);
        let old = answer(&request([1, 2, 3, 4]), "192.0.2.1:32853".parse().unwrap()).unwrap();
        assert_eq!(old[20..], [0x00, 0x01, 0x00, 0x08, 0x00, 0x01, 0x80, 0x55, 192, 0, 2, 1]);
    }

    #[test]
    fn anything_else_is_no_question() {
        let remote = "192.0.2.1:1".parse().unwrap();
        let whole = request(COOKIE);
        for end in 0..whole.len() {
            assert_eq!(answer(&whole[..end], remote), None);
        }
        let mut other = whole.clone();
        other[1] = 0x11;
        assert_eq!(answer(&other, remote), None, "an indication");
        assert_eq!(answer(&[&whole[..], b"more"].concat(), remote), None, "a wrong length");
        assert_eq!(answer(b"OPTIONS sip:a SIP/2.0\r\n\r\n", remote), None);
    }
}
