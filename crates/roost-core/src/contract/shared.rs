//! Bindings in a store that several nodes change: the truth is one record per AOR, changed only if it is still what it was.

use std::net::SocketAddr;

use subtle::ConstantTimeEq as _;

use crate::base::hex::{parse_hex, push_hex};
use crate::base::mac::{Purpose, mac};
use crate::base::transport::Transport;
use crate::contract::row::PackedRow;

/// An AOR's record as the store has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredRecord {
    /// Another one after each change, and never one that it had before; 0: there is no record.
    pub version: u64,
    pub rows: Vec<PackedRow>,
}

/// What a change was planned against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    pub aor: Box<[u8]>,
    /// The record's version; 0: none was known.
    pub version: u64,
}

/// This node, where bindings are shared with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where the other nodes reach it, over TCP (`cluster.listen`).
    pub address: SocketAddr,
    /// Over TLS (`cluster.tls`).
    pub is_secure: bool,
    /// Keys of `cluster.secrets`: the first one signs, all are taken.
    pub keys: Vec<[u8; 32]>,
    /// Those of nonces that hold at all nodes, in the same order.
    pub nonce_keys: Vec<[u8; 32]>,
    /// Those of what a dialog's Route says: the node that takes an address over takes its calls over.
    pub dialog_keys: Vec<[u8; 32]>,
    /// A record that was read longer ago is read again before a call uses it, in milliseconds; `None`: the store tells of changes.
    pub staleness_ms: Option<u64>,
}

/// An address that one node after the other has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floating {
    pub transport: Transport,
    pub address: SocketAddr,
    pub holder: Holder,
}

/// Where such an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Here,
    /// At the node that is reached there.
    Node(SocketAddr),
    Nobody,
}

/// The parameter of a Route that leads to a binding at its node.
pub(crate) const BINDING: &[u8] = b"binding";
/// The parameter with the AOR's domain, where AORs have one.
pub(crate) const DOMAIN: &[u8] = b"domain";

impl Node {
    /// The Route by which other nodes reach a binding of the node at an address: with the AOR's user, and a token that only nodes
    /// can make.
    pub(crate) fn route_to(
        &self,
        at: SocketAddr,
        (user, aor): (&[u8], &[u8]),
        contact_id: u64,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(b"<sip:");
        push_escaped(user, out);
        out.push(b'@');
        out.extend_from_slice(at.to_string().as_bytes());
        let transport = if self.is_secure { &b";transport=tls;lr;"[..] } else { b";transport=tcp;lr;" };
        out.extend_from_slice(transport);
        if let Some(domain) = aor.get(user.len() + 1..) {
            out.extend_from_slice(DOMAIN);
            out.push(b'=');
            push_escaped(domain, out);
            out.push(b';');
        }
        out.extend_from_slice(BINDING);
        out.push(b'=');
        push_hex(&contact_id.to_be_bytes(), out);
        out.push(b'-');
        let key = self.keys.first().unwrap_or(&[0; 32]);
        push_hex(&token(key, aor, contact_id).to_be_bytes(), out);
        out.push(b'>');
    }

    /// The contact id in such a token, if a node made it for this AOR.
    pub(crate) fn contact_of(&self, aor: &[u8], given: &[u8]) -> Option<u64> {
        let (id, signed) = (given.get(..16)?, given.get(17..)?);
        let (contact_id, signed) = (parse_hex(id)?, parse_hex(signed).filter(|_| signed.len() == 16)?);
        let is_it = |key: &[u8; 32]| {
            bool::from(token(key, aor, contact_id).to_be_bytes().ct_eq(&signed.to_be_bytes()))
        };
        self.keys.iter().any(is_it).then_some(contact_id)
    }
}

/// The Route to the node that a binding belongs to, and the rest of its path.
pub fn split_route(path: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let end = path.iter().position(|byte| *byte == b'>').map(|end| end + 1);
    let Some((first, rest)) = end.and_then(|end| path.split_at_checked(end)) else { return (None, path) };
    match memchr::memmem::find(first, b";binding=") {
        Some(_) => (Some(first), rest.strip_prefix(b",").unwrap_or(rest)),
        None => (None, path),
    }
}

/// What may stand in a user and in a parameter as it is; the rest is escaped.
fn push_escaped(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-_.!~*".contains(byte) => out.push(*byte),
            byte => {
                out.push(b'%');
                push_hex(&[*byte], out);
            }
        }
    }
}

fn token(key: &[u8; 32], aor: &[u8], contact_id: u64) -> u64 {
    let [token @ .., _, _, _, _, _, _, _, _] = mac(key, Purpose::Binding, &[aor, &contact_id.to_be_bytes()]);
    u64::from_be_bytes(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_to_a_binding_is_taken_from_nodes_alone() {
        let node = Node {
            address: "10.0.0.5:5070".parse().unwrap(),
            is_secure: false,
            keys: vec![[7; 32], [8; 32]],
            nonce_keys: Vec::new(),
            dialog_keys: Vec::new(),
            staleness_ms: None,
        };
        let mut route = Vec::new();
        node.route_to(node.address, (b"90;1", b"90;1@pbx"), 0x1234, &mut route);
        let text = String::from_utf8(route).unwrap();
        let given = text.trim_end_matches('>').rsplit('=').next().unwrap();
        assert!(
            text.starts_with(
                "<sip:90%3b1@10.0.0.5:5070;transport=tcp;lr;domain=pbx;binding=0000000000001234-"
            ),
            "{text}"
        );
        assert_eq!(node.contact_of(b"90;1@pbx", given.as_bytes()), Some(0x1234));
        assert_eq!(node.contact_of(b"9002@pbx", given.as_bytes()), None, "of another AOR");
        let older = Node { keys: vec![[8; 32], [7; 32]], ..node.clone() };
        assert_eq!(
            older.contact_of(b"90;1@pbx", given.as_bytes()),
            Some(0x1234),
            "keys are changed one after the other"
        );
        let stranger = Node { keys: vec![[9; 32]], ..node };
        assert_eq!(stranger.contact_of(b"90;1@pbx", given.as_bytes()), None);
        for bad in ["", "1", "0000000000001234", "0000000000001234-", "0000000000001234-00", "zz"] {
            assert_eq!(older.contact_of(b"90;1@pbx", bad.as_bytes()), None, "{bad}");
        }
    }

    const ROUTE: &[u8] = b"<sip:9001@10.0.0.5:5070;transport=tcp;lr;binding=01-02>";

    #[test]
    fn the_route_to_a_node_is_told_from_the_path() {
        assert_eq!(split_route(ROUTE), (Some(ROUTE), &b""[..]));
        let longer = [ROUTE, b",<sip:10.0.0.9;lr>"].concat();
        assert_eq!(split_route(&longer), (Some(ROUTE), &b"<sip:10.0.0.9;lr>"[..]));
        for path in [&b""[..], b"<sip:10.0.0.9;lr>", b"<sip:10.0.0.9;lr", b"x"] {
            assert_eq!(split_route(path), (None, path));
        }
    }
}
