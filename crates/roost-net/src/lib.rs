//! The sockets of roost: UDP batches, inboxes, and the worker threads that run the engines.
//!
//! All unsafe code of the project is in `batch.rs`.

mod batch;
mod inbox;
mod listen;
mod worker;

pub use inbox::{Inbox, MAX_INBOX_BYTES, MAX_INBOX_MESSAGES, Mail};
pub use listen::{ListenError, Listener, parse_listen};
pub use worker::{Clock, Worker};
