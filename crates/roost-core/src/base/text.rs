//! Numbers and addresses as text, appended without the machinery of `format!`.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// Appends a decimal number.
pub(crate) fn push_number(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    let mut rest = number;
    for (at, place) in digits.iter_mut().enumerate().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
        from = at;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(from..).unwrap_or(&[]));
}

/// Appends an address without brackets.
pub(crate) fn push_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(v4) => {
            for (index, byte) in v4.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                push_number(u64::from(byte), out);
            }
        }
        IpAddr::V6(v6) => {
            let _ = write!(out, "{v6}");
        }
    }
}

/// Appends `address:port`, an IPv6 address in brackets.
pub(crate) fn push_socket(address: SocketAddr, out: &mut Vec<u8>) {
    match address {
        SocketAddr::V4(v4) => {
            push_ip(IpAddr::V4(*v4.ip()), out);
            out.push(b':');
            push_number(u64::from(v4.port()), out);
        }
        SocketAddr::V6(_) => {
            let _ = write!(out, "{address}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_format_writes_them() {
        for number in [0, 1, 9, 10, 99, 100, 65_535, u64::MAX] {
            let mut out = Vec::new();
            push_number(number, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
        for text in ["10.0.0.255:5060", "[2001:db8::1]:1", "0.0.0.0:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            let (mut socket, mut ip) = (Vec::new(), Vec::new());
            push_socket(address, &mut socket);
            push_ip(address.ip(), &mut ip);
            assert_eq!(String::from_utf8(socket).unwrap(), text);
            assert_eq!(String::from_utf8(ip).unwrap(), address.ip().to_string());
        }
    }
}
