//! The engine of roost: registrar, location, authentication and timers, without I/O (sans-IO).
//!
//! [`Engine`] is one shard's whole state and the only code that decides anything. Time and chance are arguments,
//! effects are pushed into a caller-owned [`Outbox`]: one thread can simulate an hour of a thousand phones in a
//! second, and the same code serves the real sockets.
#![forbid(unsafe_code)]

mod admin;
mod answer;
mod auth;
mod binding;
mod branch;
mod branch_id;
mod claim;
mod config;
mod connections;
pub mod contact_id;
mod credentials;
mod digest;
mod dispatcher;
mod engine;
mod flow;
mod fork;
mod forward;
mod guard;
mod hash;
mod keeper;
pub mod limits;
mod listening;
mod location;
mod mac;
mod machines;
mod nonce;
mod outbox;
mod path;
mod pike;
mod places;
mod plan;
mod pool;
mod proxy;
mod reach;
mod recent;
mod registrar;
mod request;
mod route;
mod row;
mod server;
mod slots;
mod stats;
mod strangers;
mod text;
mod timers;
mod trace;
mod transaction;
mod unread;

pub use admin::{Admin, AdminReply, AorRecord, ContactRecord, ShownExpires};
pub use claim::Claim;
pub use config::{
    Algorithm, Auth, AuthDb, Authorize, Config, Dispatching, PathMode, Pike, Proxy, Registrar, Rr, Tm, Usrloc,
};
pub use dispatcher::{
    Dispatcher, Hop, HopError, HopId, HopPlace, HopState, HopUri, Name, Numbers, Place, Rule,
};
pub use engine::{Engine, RowError, shard_of};
pub use flow::{Flow, Now, Rng, ShardId, Ticket, Transport};
pub use guard::Ban;
pub use listening::Listening;
pub use outbox::{Command, HandOver, Mark, News, Outbox, Outcome, Reading, Secrets, SubscriberRow, Transmit};
pub use row::{PackedRow, Row, Write};
pub use stats::{COUNTER_NAMES, Counter, Stats};
