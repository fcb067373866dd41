//! The Occupied rule: an AOR with bindings belongs to the address that they came from (`registrar.exclusive = "ip"`).

use std::borrow::Borrow;
use std::net::IpAddr;

use roost_sip::{ContactValue, HeaderName, Uri, contacts};

use crate::base::flow::Now;
use crate::base::limits;
use crate::contract::exclusive::Exclusive;
use crate::contract::row::Row;
use crate::message::request::Request;
use crate::registrar::binding::Binding;

impl Exclusive {
    /// What the commit of a REGISTER must find.
    pub(crate) fn of(
        request: &Request<'_>,
        (user, domain): (&[u8], Option<&[u8]>),
        stranded: impl Iterator<Item = u64>,
        now: Now,
    ) -> Exclusive {
        let named = contacts(request.head.values(request.bytes, HeaderName::Contact));
        let uri = |contact| match contact {
            Ok(ContactValue::Contact(_, uri)) => Some(Box::from(uri.text)),
            _ => None,
        };
        Exclusive {
            username: user.into(),
            domain: domain.map(Into::into),
            now_unix_s: now.unix_s,
            source: request.flow.remote.ip(),
            call_id: request.call_id().unwrap_or(&[]).into(),
            stranded: stranded.collect(),
            contacts: named.take(limits::MAX_CONTACTS_PER_REGISTER).filter_map(uri).collect(),
        }
    }

    /// Whether the AOR is free, or its rows came from the address of the REGISTER.
    pub fn allows(&self, rows: &[Row]) -> bool {
        let now = Now { mono_ms: 0, unix_s: self.now_unix_s };
        let counted = rows.iter().filter(|row| !self.stranded.contains(&row.contact_id));
        let bindings = counted.map(|row| Binding::from_row(row, now));
        is_free_or_own(bindings, self.source, |binding| {
            let uris = self.contacts.iter().filter_map(|contact| Uri::parse(contact).ok());
            *self.call_id == *binding.callid() || uris.into_iter().any(|uri| binding.is_contact(&uri))
        })
    }
}

/// Whether none of these bindings came from another address, or one came from this one. A loaded binding whose address is
/// not known for sure is its holder's by equal Contact or Call-ID, which `is_same` tells.
pub(crate) fn is_free_or_own<B: Borrow<Binding>>(
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
        let claim = Exclusive {
            username: (*b"9001").into(),
            domain: None,
            now_unix_s: 1_800_000_000,
            source: "10.0.0.1".parse().unwrap(),
            call_id: (*b"call").into(),
            contacts: vec![(*b"sip:9001@phone.local").into()],
            stranded: vec![77],
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
            (vec![Row { contact_id: 77, ..other.clone() }], true),
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
