//! What all scenarios work with: the clock of the round, the sender, the users, the timers, the slots, the counts.

use std::time::Duration;

use crate::tally::{Outcome, Tally};
use crate::template::Id;
use crate::timers::{Side, Timer, Timers};
use crate::users::Users;
use crate::wire::Sender;

/// One place for an operation under way.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Changes with every transaction, so that late answers and timers are known as such.
    generation: u32,
    busy: bool,
    started_ns: u64,
}

pub(crate) struct Context {
    /// Since the generator's start.
    pub(crate) now_ns: u64,
    pub(crate) sender: Sender,
    pub(crate) users: Users,
    pub(crate) timers: Timers,
    pub(crate) tally: Tally,
    /// The run's mark in every [`Id`].
    pub(crate) run: u32,
    /// UDP port of each socket.
    ports: Vec<u16>,
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Context {
    pub(crate) fn new(
        sender: Sender,
        users: Users,
        give_up: Duration,
        retransmit: bool,
        run: u32,
    ) -> Context {
        let ports = (0..sender.ports()).map(|socket| sender.port(socket)).collect();
        Context {
            now_ns: 0,
            sender,
            users,
            timers: Timers::new(give_up, retransmit),
            tally: Tally::default(),
            run,
            ports,
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Makes `count` free slots and forgets what was counted.
    pub(crate) fn clear(&mut self, count: u32) {
        // Generations go on: the answers of one phase are strays in the next.
        self.slots.resize(count as usize, Slot::default());
        self.slots.iter_mut().for_each(|slot| slot.busy = false);
        self.free.clear();
        self.free.extend((0..count).rev());
        self.timers.clear();
        self.tally = Tally::default();
        (self.sender.sent, self.sender.unsent) = (0, 0);
    }

    /// The socket that a user or a slot sends from.
    pub(crate) fn socket(&self, index: u32) -> u32 {
        index % self.ports.len() as u32
    }

    /// A socket's UDP port.
    pub(crate) fn port(&self, socket: u32) -> u16 {
        self.ports[socket as usize]
    }

    /// Takes a free slot.
    pub(crate) fn take_slot(&mut self) -> Option<u32> {
        let slot = self.free.pop()?;
        self.slots[slot as usize].busy = true;
        self.slots[slot as usize].started_ns = self.now_ns;
        self.tally.started += 1;
        Some(slot)
    }

    /// Whether another operation can begin.
    pub(crate) fn has_free_slot(&self) -> bool {
        !self.free.is_empty()
    }

    /// Gives a slot back that started nothing.
    pub(crate) fn return_slot(&mut self, slot: u32) {
        self.slots[slot as usize].busy = false;
        self.free.push(slot);
        self.tally.started -= 1;
    }

    /// Begins a transaction in a slot; its id goes into the branch.
    pub(crate) fn transaction(&mut self, kind: u8, slot: u32) -> Id {
        let place = &mut self.slots[slot as usize];
        place.generation = place.generation.wrapping_add(1);
        Id { kind, slot, generation: place.generation, run: self.run }
    }

    /// The id of the transaction under way.
    pub(crate) fn current(&self, kind: u8, slot: u32) -> Id {
        Id { kind, slot, generation: self.slots[slot as usize].generation, run: self.run }
    }

    /// Whether an id is that of a transaction under way.
    pub(crate) fn is_current(&self, id: Id) -> bool {
        self.is_busy(id) && self.slots[id.slot as usize].generation == id.generation
    }

    /// Whether an id is of this run and its slot has an operation under way.
    pub(crate) fn is_busy(&self, id: Id) -> bool {
        id.run == self.run && self.slots.get(id.slot as usize).is_some_and(|slot| slot.busy)
    }

    /// Starts the first wait of a transaction.
    pub(crate) fn start_timer(&mut self, id: Id, side: Side) {
        self.timers.start(self.now_ns, 0, Timer { slot: id.slot, generation: id.generation, side });
    }

    /// Counts the end of a slot's operation and frees the slot.
    pub(crate) fn end(&mut self, slot: u32, outcome: Outcome) {
        let place = &mut self.slots[slot as usize];
        place.busy = false;
        self.tally.end(outcome, self.now_ns - place.started_ns);
        self.free.push(slot);
    }

    /// Operations under way.
    pub(crate) fn outstanding(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
