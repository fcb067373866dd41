//! What everything stands on: no SIP but its addresses, no policy.

pub(crate) mod aor;
pub(crate) mod buffers;
pub(crate) mod flow;
pub(crate) mod hash;
pub(crate) mod hex;
pub(crate) mod histogram;
pub(crate) mod host;
pub mod limits;
pub(crate) mod mac;
pub(crate) mod method_serde;
pub(crate) mod slab;
pub(crate) mod stats;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod tickets;
pub(crate) mod transport;
