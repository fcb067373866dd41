//! A worker's inbox: batches from other workers, the store and operators, and the event that wakes it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use roost_core::{Admin, Flow, Outcome, Ticket};

use crate::batch::Event;

/// Messages from other workers that wait at most; more are dropped and counted. Receipts always find room: each
/// answers a command, and commands are limited in the core.
pub const MAX_INBOX_MESSAGES: usize = 65_536;

/// One thing for a worker to handle.
#[derive(Debug)]
pub enum Mail {
    /// The answer to a command.
    Receipt(Ticket, Outcome),
    /// A message that arrived at the wrong worker.
    Message { flow: Flow, message: Box<[u8]> },
    /// An operator's request.
    Admin(Ticket, Admin),
    /// Finish what is under way and end.
    Stop,
}

/// Where mail waits for a worker.
#[derive(Debug)]
pub struct Inbox {
    mail: Mutex<Vec<Mail>>,
    /// Whether the event is set already.
    is_woken: AtomicBool,
    event: Event,
}

impl Inbox {
    /// An empty inbox.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Inbox> {
        Ok(Inbox { mail: Mutex::new(Vec::new()), is_woken: AtomicBool::new(false), event: Event::new()? })
    }

    /// Puts mail in and wakes the worker; how many messages found no room.
    pub fn post(&self, batch: impl IntoIterator<Item = Mail>) -> usize {
        let mut refused = 0;
        {
            let mut mail = self.lock();
            for item in batch {
                if matches!(item, Mail::Message { .. }) && mail.len() >= MAX_INBOX_MESSAGES {
                    refused += 1;
                } else {
                    mail.push(item);
                }
            }
        }
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.event.set();
        }
        refused
    }

    /// Takes everything out, into `taken`, which should be empty.
    pub(crate) fn take(&self, taken: &mut Vec<Mail>) {
        if self.is_woken.swap(false, Ordering::AcqRel) {
            self.event.clear();
            std::mem::swap(&mut *self.lock(), taken);
        }
    }

    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.event.0.as_fd()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Mail>> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_bounded_receipts_are_not() {
        let inbox = Inbox::new().unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        let message = || Mail::Message { flow: Flow::udp(address, address), message: Box::default() };
        assert_eq!(inbox.post((0..MAX_INBOX_MESSAGES + 5).map(|_| message())), 5);
        assert_eq!(inbox.post([Mail::Receipt(Ticket(1), Outcome::Committed)]), 0);
        let mut taken = Vec::new();
        inbox.take(&mut taken);
        assert_eq!(taken.len(), MAX_INBOX_MESSAGES + 1);
        taken.clear();
        inbox.take(&mut taken);
        assert!(taken.is_empty());
    }
}
