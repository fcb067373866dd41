//! The branch parameter of our Via: shard, transaction, branch, 64 bits that nobody can guess, and a hash of what
//! routing depended on (loop detection, RFC 3261 16.6 step 8 and RFC 5393).

use serde::{Deserialize, Serialize};

use crate::base::flow::{ShardId, Ticket};
use crate::base::hex::{parse_hex, push_hex};

/// RFC 3261's magic cookie.
pub(crate) const COOKIE: &[u8] = b"z9hG4bK";
/// Hex digits: shard 4, ticket 16, index 4, secret 16, routing 8.
const DIGITS: usize = 48;

/// What our branch parameter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BranchId {
    pub(crate) shard: ShardId,
    pub(crate) transaction: Ticket,
    /// The branch's place in its transaction.
    pub(crate) index: u16,
    pub(crate) secret: u64,
    pub(crate) routing: u32,
}

/// The place of a ping's branch, which has no transaction (`nathelper`): no transaction has so many branches.
const PING: u16 = u16::MAX;

impl BranchId {
    /// The branch of a ping of a binding.
    pub(crate) fn of_ping(shard: ShardId, contact_id: u64, secret: u64, sent_ms: u32) -> BranchId {
        BranchId { shard, transaction: Ticket(contact_id), index: PING, secret, routing: sent_ms }
    }

    /// Whether it is a ping's, which has no transaction.
    pub(crate) fn is_ping(&self) -> bool {
        self.index == PING
    }

    /// Appends the parameter's value.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(COOKIE);
        push_hex(&self.shard.0.to_be_bytes(), out);
        push_hex(&self.transaction.0.to_be_bytes(), out);
        push_hex(&self.index.to_be_bytes(), out);
        push_hex(&self.secret.to_be_bytes(), out);
        push_hex(&self.routing.to_be_bytes(), out);
    }

    /// Reads one that has our shape.
    pub(crate) fn parse(branch: &[u8]) -> Option<BranchId> {
        let digits = branch.strip_prefix(COOKIE).filter(|digits| digits.len() == DIGITS)?;
        let (shard, rest) = digits.split_at_checked(4)?;
        let (transaction, rest) = rest.split_at_checked(16)?;
        let (index, rest) = rest.split_at_checked(4)?;
        let (secret, routing) = rest.split_at_checked(16)?;
        Some(BranchId {
            shard: ShardId(parse_hex(shard)? as u16),
            transaction: Ticket(parse_hex(transaction)?),
            index: parse_hex(index)? as u16,
            secret: parse_hex(secret)?,
            routing: parse_hex(routing)? as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let id = BranchId {
            shard: ShardId(3),
            transaction: Ticket(0x0123_4567_89ab_cdef),
            index: 7,
            secret: u64::MAX,
            routing: 9,
        };
        let mut text = Vec::new();
        id.write(&mut text);
        assert_eq!(BranchId::parse(&text), Some(id));
        assert_eq!(BranchId::parse(b"z9hG4bK-d87543"), None);
        assert_eq!(BranchId::parse(&text[..54]), None);
        text[20] = b'x';
        assert_eq!(BranchId::parse(&text), None);
    }
}
