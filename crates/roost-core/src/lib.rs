//! The engine of roost: registrar, location, authentication and timers, without I/O (sans-IO).
//!
//! [`Engine`] is one shard's whole state and the only code that decides anything. Time and chance are arguments,
//! effects are pushed into a caller-owned [`Outbox`]: one thread can simulate an hour of a thousand phones in a
//! second, and the same code serves the real sockets.
#![forbid(unsafe_code)]

mod admission;
mod auth;
mod base;
mod contract;
mod dispatch;
mod engine;
mod message;
mod operator;
mod proxy;
mod registrar;
mod transaction;

pub use admission::bans::Ban;
pub use base::flow::{Flow, Now, Rng, ShardId, Ticket, Transport};
pub use base::limits;
pub use base::stats::{COUNTER_NAMES, Counter, Stats};
pub use contract::config::{
    Algorithm, Auth, AuthDb, Authorize, Config, Dispatching, PathMode, Pike, Proxy, Registrar, Rr, Tm, Usrloc,
};
pub use contract::contact_id;
pub use contract::listener::Listening;
pub use contract::next_hops::{
    Dispatcher, Hop, HopError, HopId, HopPlace, HopState, HopUri, Name, Numbers, Place, Rule,
};
pub use contract::outbox::{
    Command, HandOver, Mark, News, Outbox, Outcome, Reading, Secrets, SubscriberRow, Transmit,
};
pub use contract::row::{PackedRow, Row, Write};
pub use engine::{Engine, RowError, shard_of};
pub use operator::{Admin, AdminReply, AorRecord, ContactRecord, ShownExpires};
pub use registrar::exclusive::Claim;
