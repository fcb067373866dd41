//! What a world's engines sent, as two numbers: equal numbers, equal messages at equal times.

use std::net::SocketAddr;

/// A run of so many hex digits is an identifier: a branch, a tag, a nonce; and so is the mark of a dialog.
const IDENTIFIER: usize = 8;

/// Hashes (FNV-1a) over time, destination and bytes of every message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace {
    pub(crate) exact: u64,
    /// Identifiers count as one whatever they are.
    pub(crate) masked: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Trace { exact: START, masked: START }
    }
}

impl Trace {
    /// Adds one message.
    pub(crate) fn add(&mut self, at_ms: u64, to: SocketAddr, message: &[u8]) {
        let to = to.to_string();
        for hash in [&mut self.exact, &mut self.masked] {
            at_ms.to_le_bytes().iter().chain(to.as_bytes()).for_each(|byte| step(hash, *byte));
        }
        message.iter().for_each(|byte| step(&mut self.exact, *byte));
        let mut rest = message;
        while let Some((first, others)) = rest.split_first() {
            let is_mark =
                message.get(..message.len() - rest.len()).is_some_and(|before| before.ends_with(b";did="));
            let is_of_it = |byte: &&u8| match is_mark {
                true => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
                false => byte.is_ascii_hexdigit(),
            };
            let digits = rest.iter().take_while(is_of_it).count();
            let masked = digits >= IDENTIFIER;
            step(&mut self.masked, if masked { b'#' } else { *first });
            rest = if masked { &rest[digits..] } else { others };
        }
    }
}

const START: u64 = 0xcbf2_9ce4_8422_2325;

fn step(hash: &mut u64, byte: u8) {
    *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_masked_and_nothing_else() {
        let trace = |at_ms, to: &str, message: &str| {
            let mut trace = Trace::default();
            trace.add(at_ms, to.parse().unwrap(), message.as_bytes());
            trace
        };
        let one = trace(1, "10.0.0.1:5060", "tag=0123456789abcdef;x=1234567 q");
        for (other, is_same) in [
            (trace(1, "10.0.0.1:5060", "tag=fedcba9876543210;x=1234567 q"), true),
            (trace(1, "10.0.0.1:5060", "tag=0123456789abcdef;x=7654321 q"), false),
            (trace(2, "10.0.0.1:5060", "tag=0123456789abcdef;x=1234567 q"), false),
            (trace(1, "10.0.0.2:5060", "tag=0123456789abcdef;x=1234567 q"), false),
        ] {
            assert_ne!(one.exact, other.exact);
            assert_eq!(one.masked == other.masked, is_same);
        }
    }
}
