//! Which binding is meant, from one shard to another and in the tokens of dialogs.

use crate::base::flow::ShardId;

/// A binding of some shard. It may be gone when somebody asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingRef {
    pub shard: ShardId,
    /// The slot of its AOR's record in that shard.
    pub(crate) record: u32,
    pub contact_id: u64,
    /// A hash of its `+sip.instance`; 0 where it has none.
    pub(crate) instance: u16,
}

/// Where a binding is: a shard and the slot of a record there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub(crate) shard: ShardId,
    pub(crate) record: u32,
}

/// What a Contact is found by, beside its AOR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContactKey {
    /// A hash of its user, host and port, and of its AOR's domain.
    pub(crate) key: u64,
    /// A hash of its parameters, in whatever order: it tells Contacts apart that differ in nothing else.
    pub(crate) params: u32,
}

/// A Contact has come to a place, or gone from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContactMoved {
    pub(crate) key: ContactKey,
    /// The shard of its user.
    pub(crate) home: ShardId,
    pub(crate) place: Place,
    pub(crate) is_there: bool,
}
