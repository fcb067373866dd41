//! Bans, as shards tell one another of them and operators see them.

use std::net::IpAddr;

/// A ban of an address, of an extension, or of an extension at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// The address, of IPv6 its /64; `None`: from anywhere.
    pub source: Option<IpAddr>,
    /// The extension; empty: all.
    pub user: Box<[u8]>,
    /// How long it lasts still, in seconds.
    pub left_s: u64,
    /// An operator's, which hits everybody.
    pub is_manual: bool,
}

/// From where a user's live bindings were made, seen from a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Home {
    /// One was made from the request's very address and port.
    pub(crate) is_its_port: bool,
    /// One was made from its address.
    pub(crate) is_its_address: bool,
}
