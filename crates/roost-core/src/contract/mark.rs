//! What one shard tells another of a message.

use crate::contract::binding_ref::{BindingRef, Place};

/// What a shard already knows of a message that it hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mark {
    /// Nothing.
    #[default]
    None,
    /// The caller may call; the binding that it calls from, where it has one.
    Authorized(Option<BindingRef>),
    /// It belongs to a dialog, and to this shard.
    InDialog,
    /// The caller may call, and has called the Contact of a binding of this shard.
    ToContact(Option<BindingRef>, Place),
}
