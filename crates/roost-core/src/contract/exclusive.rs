//! What a commit that must find its AOR free carries (`registrar.exclusive_check = "database"`).

use std::net::IpAddr;

/// Who wants to change an AOR's bindings. The store reads the AOR's live rows, under a lock, and asks
/// [`Exclusive::allows`]; only then the writes of the same commit may happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusive {
    pub username: Box<[u8]>,
    /// `None` without `use_domain`.
    pub domain: Option<Box<[u8]>>,
    /// Rows that have expired by then do not count.
    pub now_unix_s: u64,
    /// Where the REGISTER came from.
    pub(crate) source: IpAddr,
    /// Rows that do not count either: nothing leads to them now.
    pub(crate) stranded: Vec<u64>,
    pub(crate) call_id: Box<[u8]>,
    /// The Contact URIs that it names.
    pub(crate) contacts: Vec<Box<[u8]>>,
}
