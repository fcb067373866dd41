//! The Occupied rule, decided by the database (S43, B5): for several nodes that share one.

use std::net::IpAddr;

use roost_sip::Uri;

use crate::base::flow::Now;
use crate::contract::row::Row;
use crate::registrar::binding::Binding;

/// Who wants to change an AOR's bindings. The store reads the AOR's live rows, under a lock, and asks [`Claim::allows`];
/// only then the writes of the same commit may happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub username: Box<[u8]>,
    /// `None` without `use_domain`.
    pub domain: Option<Box<[u8]>>,
    /// Rows that have expired by then do not count.
    pub now_unix_s: u64,
    /// Where the REGISTER came from.
    pub(crate) source: IpAddr,
    pub(crate) call_id: Box<[u8]>,
    /// The Contact URIs that it names.
    pub(crate) contacts: Vec<Box<[u8]>>,
}

impl Claim {
    /// Whether the AOR is free, or its rows came from the claimant's address (S40, B26).
    pub fn allows(&self, rows: &[Row]) -> bool {
        let now = Now { mono_ms: 0, unix_s: self.now_unix_s };
        let bindings = rows.iter().map(|row| Binding::from_row(row, now));
        is_free_or_own(bindings, self.source, |binding| {
            let uris = self.contacts.iter().filter_map(|contact| Uri::parse(contact).ok());
            *self.call_id == *binding.callid() || uris.into_iter().any(|uri| binding.is_contact(&uri))
        })
    }
}

/// The Occupied rule: an AOR with bindings belongs to the addresses they came from. A loaded binding whose address is not
/// known for sure is its holder's by equal Contact or Call-ID, which `is_same` tells (B26).
pub(crate) fn is_free_or_own<B: std::borrow::Borrow<Binding>>(
    live: impl Iterator<Item = B>,
    source: IpAddr,
    is_same: impl Fn(&Binding) -> bool,
) -> bool {
    let source = source.to_canonical();
    let mut is_taken = false;
    for binding in live {
        let binding = binding.borrow();
        let is_holder = match binding.source_ip() {
            Some(ip) if ip.to_canonical() == source => true,
            Some(_) if !binding.is_source_doubtful() => false,
            _ => is_same(binding),
        };
        if is_holder {
            return true;
        }
        is_taken = true;
    }
    !is_taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_known_by_address() {
        let claim = Claim {
            username: (*b"9001").into(),
            domain: None,
            now_unix_s: 1_800_000_000,
            source: "10.0.0.1".parse().unwrap(),
            call_id: (*b"call").into(),
            contacts: vec![(*b"sip:9001@phone.local").into()],
        };
        let row = |contact: &str, received: Option<&str>, callid: &str| Row {
            username: (*b"9001").into(),
            contact: contact.as_bytes().into(),
            received: received.map(|received| received.as_bytes().into()),
            callid: callid.as_bytes().into(),
            expires: 1_800_000_100,
            ..Row::default()
        };
        let own = row("sip:9001@10.0.0.1:5070", None, "x");
        let natted = row("sip:9001@192.168.1.9", Some("sip:10.0.0.1:4000"), "x");
        let other = row("sip:9001@10.0.0.2", None, "call");
        let named = row("sip:9001@phone.local", None, "x");
        for (rows, expected) in [
            (vec![], true),
            (vec![own.clone()], true),
            (vec![other.clone()], false),
            (vec![other.clone(), natted], true),
            (vec![named], true),
            (vec![row("sip:9001@desk.local", None, "call")], true),
            (vec![row("sip:9001@desk.local", None, "x")], false),
        ] {
            assert_eq!(claim.allows(&rows), expected, "{rows:?}");
        }
    }
}
