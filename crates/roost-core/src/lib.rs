//! The engine of roost: registrar, location, authentication and timers, without I/O (sans-IO).
//!
//! [`Engine`] is one shard's whole state and the only code that decides anything. Time and chance are arguments,
//! effects are pushed into a caller-owned [`Outbox`]: one thread can simulate an hour of a thousand phones in a
//! second, and the same code serves the real sockets.
#![forbid(unsafe_code)]

mod access;
mod admission;
mod auth;
mod base;
mod continuation;
mod contract;
mod dialog;
mod dispatch;
mod engine;
mod message;
mod moved;
mod nathelper;
mod operator;
mod parking;
mod preview;
mod proxy;
mod refusal;
mod registrar;
mod stateless;
mod transaction;
mod waiting;

pub use base::aor::split_aor;
pub use base::flow::{Flow, Now, Rng, ShardId, Ticket};
pub use base::histogram::Histogram;
pub use base::limits;
pub use base::stats::{COUNTER_NAMES, Counter, Stats, Timed};
pub use base::transport::Transport;
pub use contract::admin::{
    Admin, AdminReply, AorRecord, ContactRecord, PingsRecord, ShardFigures, ShownExpires,
};
pub use contract::aliases::{Alias, Aliases};
pub use contract::ban::Ban;
pub use contract::binding_ref::{BindingRef, ContactMoved, Place};
pub use contract::call::{
    AgentCalls, AgentStep, AorText, CallEnd, CallNumber, CallRecord, CallSide, CallState, CallText,
    CallTexts, SideTexts,
};
pub use contract::command::{Command, CommitOutcome, HandOver, Receipt, ShardEvent};
pub use contract::config::Config;
pub use contract::contact_id;
pub use contract::domain::{Domain, DomainError};
pub use contract::dropped::Dropped;
pub use contract::event::{
    Asked, AskedMore, CallStep, ContactFacts, Event, EventKind, Gone, Listening, Passed, Topics,
};
pub use contract::exclusive::Exclusive;
pub use contract::hop_uri::{HopError, HopUri, Name};
pub use contract::identity::{CallCount, Identity, Widths};
pub use contract::listener::{Listener, number_apart};
pub use contract::mark::Mark;
pub use contract::next_hops::{Address, Hop, HopAddress, HopId, HopState, NextHops};
pub use contract::outbox::{Outbox, Transmit};
pub use contract::policy::{
    Algorithm, AssertedIdentity, AuthDbParams, AuthParams, Authorize, DialogParams, DispatcherParams,
    NathelperParams, PathMode, PikeParams, Policy, ProxyParams, RegistrarParams, RrParams, TmParams,
    UsrlocParams,
};
pub use contract::preview::{Decision, Preview, Signer, SubscriberName, Supposed, SupposedSubscriber};
pub use contract::reason::Reason;
pub use contract::row::{PackedRow, Row, RowError, Write};
pub use contract::rule::{DiversionStyle, Failure, Failures, HeaderEdits, Numbers, Reply, Rule, Service};
pub use contract::shared::{Floating, Holder, Node, Planned, StoredRecord, split_route};
pub use contract::subscriber::{Reading, Secrets, SubscriberRow};
pub use contract::trusted::Trusted;
pub use engine::Engine;
pub use message::facts::{MessageFacts, REQUEST};
pub use moved::Moved;
