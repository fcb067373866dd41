//! Identity and policy together, as shells hold them.

use crate::contract::identity::Identity;
use crate::contract::policy::Policy;

/// Everything an engine needs to know.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Fixed while the process lives.
    pub identity: Identity,
    /// What an operator may change.
    pub policy: Policy,
}
