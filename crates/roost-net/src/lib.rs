//! The sockets of roost: UDP batches, connections, inboxes, the worker threads that run the engines, and names.
//!
//! All unsafe code of the project is in `batch.rs`.

mod batch;
mod inbox;
mod listen;
mod pressure;
mod resolve;
mod stream;
mod team;
mod worker;

pub use inbox::{Batch, Inbox, MAX_INBOX_BYTES, MAX_INBOX_MESSAGES, Mail};
pub use listen::{ListenError, overlap, parse_listen, probe, sockets, stream_socket};
pub use resolve::Resolver;
pub use stream::{Pass, StreamSettings, Streams};
pub use team::Team;
pub use worker::{Clock, Worker};
