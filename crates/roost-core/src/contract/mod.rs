//! What an engine and its shells, and its parts and their composer, say to one another.

pub(crate) mod admin;
pub(crate) mod ban;
pub(crate) mod binding_ref;
pub(crate) mod call;
pub(crate) mod command;
pub(crate) mod config;
pub mod contact_id;
pub(crate) mod context;
pub(crate) mod domain;
pub(crate) mod dropped;
pub(crate) mod event;
pub(crate) mod exclusive;
pub(crate) mod hop_uri;
pub(crate) mod identity;
pub(crate) mod listener;
pub(crate) mod mark;
pub(crate) mod next_hops;
pub(crate) mod outbox;
pub(crate) mod policy;
pub(crate) mod preview;
pub(crate) mod reason;
pub(crate) mod row;
pub(crate) mod rule;
pub(crate) mod rule_index;
pub(crate) mod shared;
pub(crate) mod subscriber;
