//! A slab whose keys carry a generation: a late receipt never meets the slot's next tenant.

use crate::base::flow::Ticket;

#[derive(Debug)]
pub(crate) struct Slots<T> {
    entries: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, value: T) -> Ticket {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push((0, None));
            self.entries.len() as u32 - 1
        });
        match self.entries.get_mut(index as usize) {
            Some(entry) => {
                entry.1 = Some(value);
                Ticket(u64::from(entry.0) << 32 | u64::from(index))
            }
            None => Ticket(u64::MAX),
        }
    }

    pub(crate) fn get(&self, ticket: Ticket) -> Option<&T> {
        let entry = self.entries.get(ticket.0 as u32 as usize)?;
        (u64::from(entry.0) == ticket.0 >> 32).then_some(entry.1.as_ref()).flatten()
    }

    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        let entry = self.entries.get_mut(ticket.0 as u32 as usize)?;
        (u64::from(entry.0) == ticket.0 >> 32).then_some(entry.1.as_mut()).flatten()
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let index = ticket.0 as u32;
        let entry = self.entries.get_mut(index as usize)?;
        if u64::from(entry.0) != ticket.0 >> 32 {
            return None;
        }
        let value = entry.1.take()?;
        entry.0 = entry.0.wrapping_add(1);
        self.free.push(index);
        Some(value)
    }

    /// The tickets of all entries for which `choose` holds.
    pub(crate) fn tickets(&self, choose: impl Fn(&T) -> bool) -> Vec<Ticket> {
        let chosen = |(index, entry): (usize, &(u32, Option<T>))| {
            let value = entry.1.as_ref()?;
            choose(value).then_some(Ticket(u64::from(entry.0) << 32 | index as u64))
        };
        self.entries.iter().enumerate().filter_map(chosen).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_one_tenant() {
        let mut slots = Slots::default();
        let first = slots.insert('a');
        assert_eq!(slots.get_mut(first), Some(&mut 'a'));
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert('b');
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.tickets(|_| true), [second]);
        assert_eq!(slots.len(), 1);
        assert_eq!(slots.remove(Ticket(u64::MAX)), None);
    }
}
