//! Names that servers must prove (RFC 5922): a flow knows its peer by an address, so a name goes with it as a number.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use roost_core::Flow;

/// Names that are known at once. Who sets hops and Contacts decides how many there are.
const MAX_NAMES: usize = 1 << 16;

/// Names and their numbers, which stay while the process lives.
#[derive(Debug, Default)]
pub(crate) struct ProvenNames(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<Box<str>, u64>,
    names: Vec<Box<str>>,
}

impl ProvenNames {
    /// The number for [`roost_core::Address::connection`]; 0 where there is no room: then the peer must prove its address.
    pub(crate) fn number_of(&self, name: &str) -> u64 {
        let names = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = names.numbers.get(name) {
            return *number;
        }
        if names.names.len() >= MAX_NAMES {
            return 0;
        }
        let number = Flow::ANY_PROVEN | names.names.len() as u64;
        names.numbers.insert(name.into(), number);
        names.names.push(name.into());
        number
    }

    /// The name of a number.
    pub(crate) fn name_of(&self, number: u64) -> Option<String> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(names.names.get((number & !Flow::ANY_PROVEN) as usize).filter(|_| is_named(number))?.to_string())
    }
}

/// Whether a flow's number stands for any connection to its peer that has proven a name.
pub(crate) fn is_named(connection: u64) -> bool {
    connection & Flow::ANY_PROVEN != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_numbers_and_numbers_names() {
        let names = ProvenNames::default();
        let (a, b) = (names.number_of("a.example.com"), names.number_of("b.example.com"));
        assert!(a != b && is_named(a) && is_named(b) && !is_named(1));
        assert_eq!(names.number_of("a.example.com"), a);
        assert_eq!(names.name_of(b).as_deref(), Some("b.example.com"));
        assert_eq!((names.name_of(Flow::ANY_PROVEN | 7), names.name_of(0)), (None, None));
    }
}
