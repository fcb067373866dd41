//! How many of something there are at once, in all and for each address: nobody takes what others need.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Those that are taken.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
    of_address: usize,
}

/// One of them; dropped it is free.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    ip: IpAddr,
}

impl Places {
    /// So many in all, and of one address.
    pub(crate) fn new((most, of_address): (usize, usize)) -> Places {
        Places { taken: Arc::default(), most, of_address }
    }

    /// Takes one; `None`: there is none left.
    pub(crate) fn take(&self, ip: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = taken.values().sum::<usize>() >= self.most;
        if is_full || taken.get(&ip).is_some_and(|own| *own >= self.of_address) {
            return None;
        }
        *taken.entry(ip).or_default() += 1;
        Some(Place { places: self.clone(), ip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.ip) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_places_for_others() {
        let places = Places::new((3, 2));
        let (one, other): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let held = [places.take(one), places.take(one)];
        assert!(held.iter().all(Option::is_some) && places.take(one).is_none());
        let last = places.take(other);
        assert!(last.is_some() && places.take(other).is_none());
        drop(held);
        assert!(places.take(one).is_some());
    }
}
