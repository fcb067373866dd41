pub(crate) mod client;
pub(crate) mod machines;
pub(crate) mod pool;
pub(crate) mod server;
pub(crate) mod timers;
pub(crate) mod transactions;
