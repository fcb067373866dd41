//! Keyed MACs of short texts: SipHash-2-4 with 128 bits, a pseudo-random function under a key of the process's.

use siphasher::sip128::{Hasher128 as _, SipHasher24};
use std::hash::Hasher as _;

/// What a MAC is for; two purposes never give the same MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Purpose {
    Nonce = 1,
    Tag,
    /// The mark of a call's Record-Route as it was before there were tokens.
    Dialog,
    Branch,
    /// The token of a call's Record-Route, and what it is encrypted with.
    DialogToken,
    DialogCover,
    /// The token of a Route that leads to a binding at its node.
    Binding,
}

/// The MAC of `parts`; how a text is cut into parts counts.
pub(crate) fn mac(key: &[u8; 32], purpose: Purpose, parts: &[&[u8]]) -> [u8; 16] {
    let [low, high] = halves(key);
    let mut hasher = SipHasher24::new_with_keys(low, high);
    hasher.write_u8(purpose as u8);
    for part in parts {
        hasher.write(part);
        hasher.write_u32(part.len() as u32);
    }
    hasher.finish128().as_u128().to_be_bytes()
}

/// SipHash takes 128 of the key's 256 bits.
fn halves(key: &[u8; 32]) -> [u64; 2] {
    let word = |from: usize| {
        let bytes = key.get(from..from + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_le_bytes(bytes.unwrap_or_default())
    };
    [word(0), word(8)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_purpose_and_cuts_all_count() {
        let same = || mac(&[7; 32], Purpose::Tag, &[b"ab", b"c"]);
        assert_eq!(same(), same());
        assert_ne!(same(), mac(&[8; 32], Purpose::Tag, &[b"ab", b"c"]));
        assert_ne!(same(), mac(&[7; 32], Purpose::Nonce, &[b"ab", b"c"]));
        assert_ne!(same(), mac(&[7; 32], Purpose::Tag, &[b"a", b"bc"]));
        assert_ne!(same(), mac(&[7; 32], Purpose::Tag, &[b"abc"]));
    }
}
