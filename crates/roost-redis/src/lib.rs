//! Bindings that nodes share in Valkey or Redis.
//!
//! An AOR's record is a hash: the field `v` is its version, each other field a binding's packed row under its `contact_id`. It is
//! changed by one script (`commit.lua`) that compares the version first, so whoever planned against an older record changes
//! nothing and is given the newer one. The server forgets records whose bindings have expired. Who has changed what is published.
#![forbid(unsafe_code)]

mod connection;
mod error;
mod lease;
mod listener;
mod place;
mod reader;
mod record;
mod scan;
mod speaker;
mod writer;

use std::sync::Arc;

use roost_cluster::{Health, Member, News, Nodes, Receipts, Running, keep_lease, queues};

pub use connection::Durability;
pub use error::RedisError;

/// Connects and starts the threads. `authorities`: certificates in PEM that the store's is checked by, with TLS; `None`: the system's.
///
/// # Errors
/// [`RedisError`]: the store cannot be reached, or does not keep what `durability` promises; or another node has this one's name.
pub fn start(
    (url, authorities): (&str, Option<Vec<u8>>),
    durability: Durability,
    member: Member,
    receipts: &Receipts,
    news: &News,
    health: Health,
) -> Result<Running, RedisError> {
    let source = connection::Source::new(url, authorities, durability)?;
    let nodes = Nodes::default();
    let scan = scan::start(source.clone(), &member, Arc::clone(news))?;
    let leases = lease::Table::new(source.clone());
    let lease = keep_lease(leases, member, nodes.clone(), Arc::clone(news)).map_err(RedisError::Lease)?;
    let (handle, speaker, queues) = queues();
    let writer = writer::start(source.clone(), queues.commits, Arc::clone(receipts), health)?;
    let reader = reader::start(source.clone(), queues.questions, Arc::clone(receipts))?;
    let speaks = speaker::start(source.clone(), queues.said)?;
    let watched = source.place.watch().map_err(RedisError::Thread)?;
    let listener = listener::start(source, Arc::clone(news))?;
    Ok(Running::new((handle, speaker), vec![writer, reader], vec![scan, speaks, listener, lease], nodes)
        .with(watched))
}
