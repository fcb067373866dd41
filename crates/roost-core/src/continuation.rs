//! How what waits goes on.

use crate::auth::authenticator::CacheAge;
use crate::base::flow::Ticket;
use crate::contract::admin::Admin;
use crate::contract::mark::Mark;
use crate::contract::next_hops::HopId;
use crate::proxy::target::Target;
use crate::transaction::arena::Stored;

/// Where something that waited is taken up again; what was checked before is not checked again.
#[derive(Debug)]
pub(crate) enum Continuation {
    /// A REGISTER is authenticated.
    Register(CacheAge),
    /// A REGISTER that is authorized is carried out. `hash`: of the AOR whose rows it waits for; `is_read`: its AOR's shared record
    /// has been read for it.
    Save { hash: u16, is_read: bool },
    /// A request that starts something is authorized, unless its mark says that it is, and finds its callee.
    Initial { mark: Mark, age: CacheAge, hash: u16 },
    /// A request inside a dialog follows its Route.
    InDialog { mark: Mark, hash: u16 },
    /// An operator's request.
    Admin(Ticket, Admin),
    /// A transaction's request goes to a target whose name is known; `rest` is tried when that fails, its last one first.
    Forward { transaction: Ticket, target: Target<Stored>, rest: Vec<Target<Stored>> },
    /// The ACK of a 2xx goes to a target whose name is known.
    ForwardAck(Box<Target<Box<[u8]>>>),
    /// A next hop's name is known.
    Hop(HopId),
}

impl Continuation {
    /// The same once credentials came, or did not.
    pub(crate) fn with_age(self, age: CacheAge) -> Continuation {
        match self {
            Continuation::Register(_) => Continuation::Register(age),
            Continuation::Initial { mark, hash, .. } => Continuation::Initial { mark, age, hash },
            other => other,
        }
    }

    /// The hash of the AOR whose rows are waited for.
    pub(crate) fn hash(&self) -> u16 {
        match self {
            Continuation::Save { hash, .. }
            | Continuation::Initial { hash, .. }
            | Continuation::InDialog { hash, .. } => *hash,
            _ => 0,
        }
    }
}
