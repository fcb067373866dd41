pub(crate) mod config;
pub mod contact_id;
pub(crate) mod listener;
pub(crate) mod next_hops;
pub(crate) mod outbox;
pub(crate) mod row;
