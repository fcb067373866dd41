//! What of a shard goes on in the process after this one, and is in no file: calls that nobody has answered yet, and the transactions
//! under way.

use serde::{Deserialize, Serialize};

use crate::contract::context::Ctx;
use crate::dialog::moved::MovedCall;
use crate::proxy::forwarder::{Forwarder, Owner};
use crate::proxy::response_context::ResponseContext;
use crate::transaction::moved::MovedTransaction;

/// It, as bytes that another version may not understand.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Moved {
    transactions: Vec<MovedTransaction<ResponseContext>>,
    calls: Vec<MovedCall>,
}

impl Moved {
    /// How many calls and transactions there are.
    pub fn len(&self) -> (usize, usize) {
        (self.calls.len(), self.transactions.len())
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }
}

/// Takes it out of a shard in which nothing else happens any more.
pub(crate) fn take_out(ctx: &Ctx<'_>, forwarder: &mut Forwarder<'_>) -> Moved {
    let transactions = forwarder.transactions.moved(|owner| match owner {
        Owner::Forward(context) => Some(context),
        Owner::HopPing(_) | Owner::Bye | Owner::CallPing { .. } => None,
    });
    Moved { transactions, calls: forwarder.dialogs.moved(ctx) }
}

/// Takes it up in a shard in which nothing has happened yet.
pub(crate) fn take_in(ctx: &mut Ctx<'_>, forwarder: &mut Forwarder<'_>, moved: Moved) {
    moved.calls.into_iter().for_each(|call| forwarder.dialogs.take_moved(ctx, call));
    let left = forwarder.transactions.take_moved(ctx, moved.transactions, Owner::Forward);
    // What waited for a name, or was about to be answered.
    left.into_iter().for_each(|ticket| forwarder.resume(ctx, ticket));
}
