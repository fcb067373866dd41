//! Bindings by their Contact: a request to a phone's own Contact (an attended transfer, a callback) finds the phone although
//! the Contact's user is no extension.
//!
//! A request goes to the shard of its Request-URI's user, and the binding is in that of its AOR. So the shard of a Contact's
//! user keeps where the binding is; other shards tell it. Contacts whose user is the AOR's are found as AORs and stand here
//! with `use_domain` only, where their host is no tenant's.

use std::hash::{BuildHasher, Hasher as _};

use roost_sip::Uri;
use smallvec::SmallVec;

use crate::base::aor::split_aor;
use crate::base::flow::ShardId;
use crate::base::hash::KeyedState;
use crate::base::limits;
use crate::contract::binding_ref::{ContactMoved, Place};
use crate::contract::identity::Identity;

/// What keys are made with.
#[derive(Debug, Clone)]
pub(crate) struct ContactKeys {
    hasher: KeyedState,
    identity: Identity,
}

/// The keys of one AOR's Contacts, and their home shards; mostly none.
pub(crate) type Keys = SmallVec<[(u64, ShardId); 1]>;

impl ContactKeys {
    pub(crate) fn new(identity: &Identity) -> ContactKeys {
        ContactKeys { hasher: KeyedState::new(identity.hash_seed), identity: identity.clone() }
    }

    /// The key of a Contact of an AOR; `None` for one that is found as an AOR.
    pub(crate) fn of_contact(&self, aor: &[u8], contact: &[u8]) -> Option<(u64, ShardId)> {
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
    pub(crate) fn of_uri(&self, uri: &Uri<'_>, domain: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(&uri.user_part().plain());
        let domain = if self.identity.use_domain { domain } else { &[] };
        for part in [uri.host, domain] {
            hasher.write_u8(0);
            part.iter().for_each(|byte| hasher.write_u8(byte.to_ascii_lowercase()));
        }
        hasher.write_u16(uri.port.unwrap_or(0));
        hasher.finish()
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

/// Places by their Contacts, of one home shard.
#[derive(Debug)]
pub(crate) struct ByContact {
    places: hashbrown::HashMap<u64, SmallVec<[Place; 1]>, KeyedState>,
    /// Contacts that found no room.
    pub(crate) full: u64,
}

impl ByContact {
    pub(crate) fn new(hash_seed: u64) -> ByContact {
        ByContact { places: hashbrown::HashMap::with_hasher(KeyedState::new(hash_seed)), full: 0 }
    }

    /// Takes what a shard tells.
    pub(crate) fn take(&mut self, moved: &ContactMoved) {
        let ContactMoved { key, place, is_there, .. } = *moved;
        if !is_there {
            if let Some(places) = self.places.get_mut(&key) {
                places.retain(|other| *other != place);
                if places.is_empty() {
                    self.places.remove(&key);
                }
            }
            return;
        }
        if self.places.len() >= limits::MAX_CONTACT_PLACES && !self.places.contains_key(&key) {
            self.full += 1;
            return;
        }
        let places = self.places.entry(key).or_default();
        if places.len() < limits::MAX_PLACES_PER_CONTACT && !places.contains(&place) {
            places.push(place);
        }
    }

    /// The places of a Contact.
    pub(crate) fn get(&self, key: u64) -> &[Place] {
        self.places.get(&key).map_or(&[], |places| &places[..])
    }
}
