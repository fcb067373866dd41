//! What of a shard goes on in the process after this one, and is in no file: calls that nobody has answered yet, the transactions
//! under way, and the connections of bindings.

use serde::{Deserialize, Serialize};

use crate::base::flow::Flow;
use crate::contract::context::Ctx;
use crate::dialog::moved::MovedCall;
use crate::proxy::forwarder::{Forwarder, Owner};
use crate::proxy::response_context::ResponseContext;
use crate::registrar::Registrar;
use crate::transaction::moved::MovedTransaction;

/// It, as bytes that another version may not understand.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Moved {
    transactions: Vec<MovedTransaction<ResponseContext>>,
    calls: Vec<MovedCall>,
    /// Connections that bindings were made over, by contact id.
    flows: Vec<(u64, Flow)>,
}

impl Moved {
    /// How many calls and transactions there are.
    pub fn len(&self) -> (usize, usize) {
        (self.calls.len(), self.transactions.len())
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0) && self.flows.is_empty()
    }

    /// Forgets the connections of bindings but those that go on.
    pub fn keep_flows(&mut self, goes_on: impl Fn(u64) -> bool) {
        self.flows.retain(|(_, flow)| goes_on(flow.connection));
    }
}

/// Takes it out of a shard in which nothing else happens any more.
pub(crate) fn take_out(ctx: &Ctx<'_>, forwarder: &mut Forwarder<'_>, registrar: &Registrar) -> Moved {
    let transactions = forwarder.transactions.moved(|owner| match owner {
        Owner::Forward(context) => Some(context),
        Owner::HopPing(_) | Owner::Bye | Owner::CallPing { .. } => None,
    });
    Moved { transactions, calls: forwarder.dialogs.moved(ctx), flows: registrar.flows() }
}

/// Takes it up in a shard in which nothing has happened yet.
pub(crate) fn take_in(
    ctx: &mut Ctx<'_>,
    forwarder: &mut Forwarder<'_>,
    registrar: &mut Registrar,
    moved: Moved,
) {
    registrar.take_flows(moved.flows);
    moved.calls.into_iter().for_each(|call| forwarder.dialogs.take_moved(ctx, call));
    let left = forwarder.transactions.take_moved(ctx, moved.transactions, Owner::Forward);
    // What waited for a name, or was about to be answered.
    left.into_iter().for_each(|ticket| forwarder.resume(ctx, ticket));
}
