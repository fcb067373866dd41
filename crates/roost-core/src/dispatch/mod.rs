//! The next hops of one shard: which are up, and who watches them.

pub(crate) mod monitor;
