pub(crate) mod flow;
pub(crate) mod hash;
pub mod limits;
pub(crate) mod mac;
pub(crate) mod slab;
pub(crate) mod stats;
pub(crate) mod text;
pub(crate) mod tickets;
