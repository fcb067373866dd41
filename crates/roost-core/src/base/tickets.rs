//! A slab whose keys carry a generation: a late receipt never meets the slot's next tenant.

use crate::base::flow::Ticket;
use crate::base::slab::Slab;

/// Slots that another process's tickets may name.
const MOST_RESTORED: usize = 1 << 24;

/// Entries by ticket.
#[derive(Debug)]
pub(crate) struct Tickets<T> {
    entries: Slab<T>,
    /// Of each slot, how many tenants it has had.
    generations: Vec<u32>,
    len: usize,
}

impl<T> Default for Tickets<T> {
    fn default() -> Self {
        Tickets { entries: Slab::default(), generations: Vec::new(), len: 0 }
    }
}

impl<T> Tickets<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, entry: T) -> Ticket {
        let slot = self.entries.put(entry);
        if self.generations.len() <= slot as usize {
            self.generations.push(0);
        }
        self.len += 1;
        self.ticket(slot)
    }

    /// Entries with the tickets that they had in another process. There must be none yet.
    pub(crate) fn restore(&mut self, entries: impl IntoIterator<Item = (Ticket, T)>) {
        let mut slots: Vec<Option<T>> = Vec::new();
        for (ticket, entry) in entries {
            let slot = ticket.0 as u32 as usize;
            if slot >= MOST_RESTORED {
                continue;
            }
            if slots.len() <= slot {
                slots.resize_with(slot + 1, || None);
                self.generations.resize(slot + 1, 0);
            }
            if let (Some(place), Some(generation)) = (slots.get_mut(slot), self.generations.get_mut(slot)) {
                self.len += usize::from(place.is_none());
                (*place, *generation) = (Some(entry), (ticket.0 >> 32) as u32);
            }
        }
        self.entries = Slab::of_slots(slots.into_iter());
    }

    pub(crate) fn get(&self, ticket: Ticket) -> Option<&T> {
        self.entries.get(self.slot(ticket)?)
    }

    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        self.entries.get_mut(self.slot(ticket)?)
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let slot = self.slot(ticket)?;
        let entry = self.entries.take(slot)?;
        if let Some(generation) = self.generations.get_mut(slot as usize) {
            *generation = generation.wrapping_add(1);
        }
        self.len -= 1;
        Some(entry)
    }

    /// The tickets of all entries for which `choose` holds.
    pub(crate) fn tickets(&self, choose: impl Fn(&T) -> bool) -> Vec<Ticket> {
        let chosen = self.entries.iter_from(0).filter(|(_, entry)| choose(entry));
        chosen.map(|(slot, _)| self.ticket(slot as u32)).collect()
    }

    fn ticket(&self, slot: u32) -> Ticket {
        let generation = self.generations.get(slot as usize).copied().unwrap_or(0);
        Ticket(u64::from(generation) << 32 | u64::from(slot))
    }

    /// The slot of a ticket that is not out of date.
    fn slot(&self, ticket: Ticket) -> Option<u32> {
        let slot = ticket.0 as u32;
        let generation = self.generations.get(slot as usize)?;
        (u64::from(*generation) == ticket.0 >> 32).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_one_tenant() {
        let mut tickets = Tickets::default();
        let first = tickets.insert('a');
        assert_eq!(tickets.get_mut(first), Some(&mut 'a'));
        assert_eq!(tickets.remove(first), Some('a'));
        let second = tickets.insert('b');
        assert_eq!(tickets.get_mut(first), None);
        assert_eq!(tickets.remove(first), None);
        assert_eq!(tickets.tickets(|_| true), [second]);
        assert_eq!(tickets.len(), 1);
        assert_eq!(tickets.remove(Ticket(u64::MAX)), None);
    }

    #[test]
    fn entries_keep_their_tickets_in_another_process() {
        let mut tickets = Tickets::default();
        let (first, second) = (Ticket(7 << 32 | 2), Ticket(1 << 32 | 5));
        tickets.restore([(first, 'a'), (second, 'b')]);
        assert_eq!((tickets.get(first), tickets.get(second), tickets.len()), (Some(&'a'), Some(&'b'), 2));
        assert_eq!(tickets.get(Ticket(2)), None, "another tenant's");
        let new: Vec<Ticket> = ['c', 'd', 'e', 'f', 'g'].map(|entry| tickets.insert(entry)).to_vec();
        assert!(new.iter().all(|ticket| ![first, second].contains(ticket)));
        assert_eq!((tickets.get(first), tickets.get(second), tickets.len()), (Some(&'a'), Some(&'b'), 7));
    }
}
