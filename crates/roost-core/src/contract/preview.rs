//! What an engine would do with a request, for an operator who asks before it comes.

use crate::base::flow::{Flow, ShardId};
use crate::contract::hop_uri::Name;
use crate::contract::mark::Mark;
use crate::contract::subscriber::Secrets;

/// One decision about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The configuration key that it hangs on, as `section.key`; empty where there is none.
    pub key: &'static str,
    /// A sentence without its full stop.
    pub text: String,
    /// How many messages the outbox held before: it is about the next one, where one follows.
    pub before: usize,
}

/// A request that is only thought of.
#[derive(Debug, Clone)]
pub struct Supposed {
    pub flow: Flow,
    /// The whole request, Via included.
    pub message: Vec<u8>,
    /// What another shard has found out already; `None`: it would come from a socket.
    pub mark: Option<Mark>,
    /// What the database says of subscribers, or would say.
    pub subscribers: Vec<SupposedSubscriber>,
    /// Who answers a challenge.
    pub signs: Option<Signer>,
}

/// Somebody who answers a challenge.
#[derive(Clone)]
pub struct Signer {
    pub username: Vec<u8>,
    /// `None`: the right one, whatever it is.
    pub password: Option<Vec<u8>>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(…)")
    }
}

/// A subscriber's user, and its domain with `use_domain`.
pub type SubscriberName = (Box<[u8]>, Option<Box<[u8]>>);

/// A subscriber, or that there is none of this name.
#[derive(Debug, Clone)]
pub struct SupposedSubscriber {
    pub user: Box<[u8]>,
    /// Counts with `use_domain` only.
    pub domain: Box<[u8]>,
    pub secrets: Option<Secrets>,
}

/// What would become of a request in one shard. Nothing of it has happened.
#[derive(Debug, Default)]
pub struct Preview {
    /// In the order in which they were made.
    pub decisions: Vec<Decision>,
    /// What would be sent, and where to.
    pub sends: Vec<(Flow, Vec<u8>)>,
    /// The rest is decided by this shard, which is told this much.
    pub goes_on: Option<(ShardId, Mark)>,
    /// The database would be asked about this user first, in this domain with `use_domain`.
    pub asks: Option<SubscriberName>,
    /// Names that would be looked up before it is sent on.
    pub names: Vec<Name>,
    /// Whether bindings would be written to the database before it is answered.
    pub commits: bool,
    /// The request as it was in the end, with credentials where a challenge was answered; without them empty.
    pub signed: Vec<u8>,
}
