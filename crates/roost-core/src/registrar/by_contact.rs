//! Bindings by their Contact: a request to a phone's own Contact (an attended transfer, a callback) finds the phone although
//! the Contact's user is no extension.
//!
//! A request goes to the shard of its Request-URI's user, and the binding is in that of its AOR. So the shard of a Contact's
//! user keeps where the binding is; other shards tell it. Contacts whose user is the AOR's are found as AORs and stand here
//! with `use_domain` only, where their host is no tenant's.

use std::hash::{BuildHasher, Hasher as _};

use roost_sip::{Param, Uri};
use smallvec::SmallVec;

use crate::base::aor::split_aor;
use crate::base::flow::ShardId;
use crate::base::hash::KeyedState;
use crate::base::limits;
use crate::contract::binding_ref::{ContactKey, ContactMoved, Place};
use crate::contract::identity::Identity;

/// What keys are made with.
#[derive(Debug, Clone)]
pub(crate) struct ContactKeys {
    hasher: KeyedState,
    identity: Identity,
}

/// The keys of one AOR's Contacts, and their home shards; mostly none.
pub(crate) type Keys = SmallVec<[(ContactKey, ShardId); 1]>;

impl ContactKeys {
    pub(crate) fn new(identity: &Identity) -> ContactKeys {
        ContactKeys { hasher: KeyedState::new(identity.hash_seed), identity: identity.clone() }
    }

    /// The key of a Contact of an AOR; `None` for one that is found as an AOR.
    pub(crate) fn of_contact(&self, aor: &[u8], contact: &[u8]) -> Option<(ContactKey, ShardId)> {
        let (user, domain) = split_aor(aor, self.identity.use_domain);
        // Nearly all phones name their extension.
        let rest = contact.strip_prefix(b"sip:").and_then(|rest| rest.strip_prefix(user));
        if domain.is_none() && rest.is_some_and(|rest| rest.first() == Some(&b'@')) {
            return None;
        }
        let uri = Uri::parse(contact).ok()?;
        let named = uri.user_part().plain();
        if named.is_empty() || (domain.is_none() && *named == *user) {
            return None;
        }
        Some((self.of_uri(&uri, domain.unwrap_or(&[])), self.identity.shard_of(&named)))
    }

    /// The key of a URI that a caller of a domain has called; the domain counts with `use_domain` only.
    pub(crate) fn of_uri(&self, uri: &Uri<'_>, domain: &[u8]) -> ContactKey {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(&uri.user_part().plain());
        let domain = if self.identity.use_domain { domain } else { &[] };
        for part in [uri.host, domain] {
            hasher.write_u8(0);
            part.iter().for_each(|byte| hasher.write_u8(byte.to_ascii_lowercase()));
        }
        hasher.write_u16(uri.port.unwrap_or(0));
        let params = uri.params().flatten().map(|param| self.of_param(&param)).fold(0, u32::wrapping_add);
        ContactKey { key: hasher.finish(), params }
    }

    fn of_param(&self, param: &Param<'_>) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        for part in [param.name, param.value.unwrap_or(b"")] {
            part.iter().for_each(|byte| hasher.write_u8(byte.to_ascii_lowercase()));
            hasher.write_u8(0);
        }
        hasher.finish() as u32
    }
}

/// What has changed between two lists of keys.
pub(crate) fn moved(before: &Keys, after: &Keys, place: Place, told: &mut Vec<ContactMoved>) {
    if before == after {
        return;
    }
    let mut tell = |keys: &Keys, others: &Keys, is_there| {
        for &(key, home) in keys.iter().filter(|key| !others.contains(key)) {
            told.push(ContactMoved { key, home, place, is_there });
        }
    };
    tell(before, after, false);
    tell(after, before, true);
}

/// Where the Contacts of one key are.
#[derive(Debug, Default)]
struct Places {
    /// With the hash of each Contact's parameters.
    known: SmallVec<[(u32, Place); 1]>,
    /// How many more there are.
    others: u32,
}

/// Places by their Contacts, of one home shard.
#[derive(Debug)]
pub(crate) struct ByContact {
    places: hashbrown::HashMap<u64, Places, KeyedState>,
    /// Contacts that found no room.
    pub(crate) full: u64,
}

impl ByContact {
    pub(crate) fn new(hash_seed: u64) -> ByContact {
        ByContact { places: hashbrown::HashMap::with_hasher(KeyedState::new(hash_seed)), full: 0 }
    }

    /// Takes what a shard tells.
    pub(crate) fn take(&mut self, moved: &ContactMoved) {
        let ContactMoved { key: ContactKey { key, params }, place, is_there, .. } = *moved;
        let entry = (params, place);
        if !is_there {
            let Some(places) = self.places.get_mut(&key) else { return };
            match places.known.iter().position(|known| *known == entry) {
                Some(at) => drop(places.known.swap_remove(at)),
                None => places.others = places.others.saturating_sub(1),
            }
            if places.known.is_empty() && places.others == 0 {
                self.places.remove(&key);
            }
            return;
        }
        if self.places.len() >= limits::MAX_CONTACT_PLACES && !self.places.contains_key(&key) {
            self.full += 1;
            return;
        }
        let places = self.places.entry(key).or_default();
        if places.known.contains(&entry) {
            return;
        }
        match places.known.len() < limits::MAX_PLACES_PER_CONTACT {
            true => places.known.push(entry),
            false => places.others = places.others.saturating_add(1),
        }
    }

    /// The place of a Contact: the only one that there is, or the only one whose parameters are the same.
    pub(crate) fn get(&self, ContactKey { key, params }: ContactKey) -> Option<Place> {
        let places = self.places.get(&key).filter(|places| places.others == 0)?;
        let only = |is_meant: &dyn Fn(u32) -> bool| {
            let mut found = places.known.iter().filter(|(own, _)| is_meant(*own)).map(|(_, place)| *place);
            let first = found.next()?;
            found.all(|other| other == first).then_some(first)
        };
        only(&|_| true).or_else(|| only(&|own| own == params))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(params: u32, record: u32, is_there: bool) -> ContactMoved {
        let place = Place { shard: ShardId(0), record };
        ContactMoved { key: ContactKey { key: 1, params }, home: ShardId(0), place, is_there }
    }

    fn found(contacts: &ByContact, params: u32) -> Option<u32> {
        contacts.get(ContactKey { key: 1, params }).map(|place| place.record)
    }

    #[test]
    fn parameters_tell_contacts_apart_where_there_are_several() {
        let mut contacts = ByContact::new(1);
        contacts.take(&told(10, 1, true));
        assert_eq!(found(&contacts, 99), Some(1), "the only one");
        contacts.take(&told(20, 2, true));
        assert_eq!((found(&contacts, 10), found(&contacts, 20)), (Some(1), Some(2)));
        assert_eq!(found(&contacts, 99), None);
        contacts.take(&told(10, 3, true));
        assert_eq!((found(&contacts, 10), found(&contacts, 20)), (None, Some(2)));
        for gone in [told(20, 2, false), told(10, 3, false)] {
            contacts.take(&gone);
        }
        assert_eq!(found(&contacts, 99), Some(1));
    }

    #[test]
    fn a_place_that_found_no_room_keeps_the_contact_ambiguous() {
        let mut contacts = ByContact::new(1);
        let last = limits::MAX_PLACES_PER_CONTACT as u32;
        (0..=last).for_each(|record| contacts.take(&told(10, record, true)));
        (1..last).for_each(|record| contacts.take(&told(10, record, false)));
        assert_eq!(found(&contacts, 10), None, "two are left");
        contacts.take(&told(10, last, false));
        assert_eq!(found(&contacts, 10), Some(0));
        contacts.take(&told(10, 0, false));
        assert!(contacts.places.is_empty());
    }
}
