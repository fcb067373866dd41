//! Bytes as lower-case hex digits, and back.

use subtle::ConstantTimeEq;

/// A hash in lower-case hex: 32 digits of MD5, 64 of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hex {
    digits: [u8; 64],
    len: usize,
}

impl Hex {
    /// Of at most 32 bytes.
    pub(crate) fn new(hash: &[u8]) -> Hex {
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(hash) {
            if let [high, low] = pair {
                *high = digit(byte >> 4);
                *low = digit(byte & 15);
            }
        }
        Hex { digits, len: (hash.len() * 2).min(64) }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.digits.get(..self.len).unwrap_or(&[])
    }
}

fn digit(nibble: u8) -> u8 {
    b"0123456789abcdef"[usize::from(nibble & 15)]
}

/// Appends bytes in lower-case hex.
pub(crate) fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.chunks(32) {
        out.extend_from_slice(Hex::new(chunk).as_bytes());
    }
}

/// Reads hex digits of any case.
pub(crate) fn parse_hex(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0u64, |value, byte| Some(value << 4 | u64::from(char::from(*byte).to_digit(16)?)))
}

/// Compares in constant time, hex digits of any case.
pub(crate) fn same_hex(expected: &Hex, given: &[u8]) -> bool {
    let mut digits = [0; 64];
    let Some(place) = digits.get_mut(..given.len()).filter(|_| given.len() == expected.len) else {
        return false;
    };
    place.copy_from_slice(given);
    place.make_ascii_lowercase();
    bool::from(expected.digits.ct_eq(&digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_both_ways() {
        let mut out = Vec::new();
        push_hex(&[0x00, 0xaf, 0x19], &mut out);
        assert_eq!(out, b"00af19");
        assert_eq!(parse_hex(b"00aF19"), Some(0xaf19));
        assert_eq!(parse_hex(b"0g"), None);
    }
}
