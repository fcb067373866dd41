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
