//! What operators ask of one shard, and what they are answered.

use std::net::IpAddr;
use std::sync::Arc;

use roost_sip::MethodSet;

use crate::base::histogram::Histogram;
use crate::base::stats::Timed;
use crate::contract::ban::Ban;
use crate::contract::call::{AgentCalls, CallNumber, CallRecord};
use crate::contract::next_hops::{HopState, NextHops};
use crate::contract::policy::Policy;
use crate::contract::preview::{Preview, Supposed};
use crate::contract::reason::Reason;
use crate::contract::shared::split_route;

/// A request of an operator to one shard.
#[derive(Debug)]
pub enum Admin {
    /// A slice of all AORs, from a place on; start at 0.
    Dump { from: usize },
    /// One AOR.
    Show { aor: Vec<u8> },
    /// Adds or replaces a contact; `expires_s` 0 never expires.
    Add { aor: Vec<u8>, contact: Vec<u8>, expires_s: u32, q: Option<u16>, methods: Option<MethodSet> },
    /// Removes an AOR with all its contacts.
    Remove { aor: Vec<u8> },
    /// Removes one contact.
    RemoveContact { aor: Vec<u8>, contact: Vec<u8> },
    /// Writes all of an AOR's bindings to the database again, as memory has them.
    Sync { aor: Vec<u8> },
    /// Done once everything that was asked of the database before is durable.
    Flush,
    /// The shard's counters.
    Statistics,
    /// Forgets what the database said of a subscriber; `domain` only with `use_domain`.
    ForgetCredentials { user: Vec<u8>, domain: Vec<u8> },
    /// Forgets what the database said of any subscriber: many have changed.
    ForgetAllCredentials,
    /// A slice of the calls in progress, from a place on; start at 0.
    Calls { from: usize },
    /// One of them.
    Call(CallNumber),
    /// The extensions of this shard that have calls.
    Agents,
    /// The calls of one of its extensions.
    Agent { aor: Vec<u8> },
    /// Ends a call that is answered: both sides get a BYE.
    EndCall(CallNumber),
    /// The bans that last.
    Bans,
    /// Bans an address, an extension, or an extension at an address.
    Ban(Ban),
    /// Forgets bans and failures: of an address, of an extension (`user`, or `user@domain`), or of an extension at an address.
    Unban { source: Option<IpAddr>, user: Vec<u8> },
    /// The next hops, as this shard knows them.
    Hops,
    /// Puts a next hop into a state; for shard 0.
    SetHop { set: u32, uri: String, state: HopState },
    /// Other settings from here on; for every shard. The other nodes are as they were.
    SetPolicy(Arc<Policy>),
    /// What would become of a request. Nothing happens.
    Preview(Box<Supposed>),
}

/// An answer to [`Admin`].
#[derive(Debug)]
pub enum AdminReply {
    /// A slice of a dump, and the place where the next one starts, if there is more.
    Slice {
        records: Vec<AorRecord>,
        /// Where each stands.
        places: Vec<usize>,
        next: Option<usize>,
    },
    /// One AOR.
    Record(AorRecord),
    /// It is done (and durable).
    Done,
    /// There is no such AOR.
    AorNotFound,
    /// There is no such contact.
    ContactNotFound,
    /// The database refused, or too much is under way.
    Failed,
    /// The next hops, and how often each was the first choice here.
    Hops(Arc<NextHops>, Vec<u64>),
    /// Bans.
    Bans(Vec<Ban>),
    /// So many bans and counts of failures were forgotten.
    Unbanned(usize),
    /// There is no such next hop.
    HopNotFound,
    CallNotFound,
    Call(Box<CallRecord>),
    /// The calls of an extension.
    Agent(AgentCalls),
    /// Extensions and their calls.
    Agents(Vec<(Box<[u8]>, AgentCalls)>),
    /// Some calls; `next` is where the next slice begins.
    Calls {
        calls: Vec<CallRecord>,
        /// Where each stands.
        places: Vec<usize>,
        next: Option<usize>,
    },
    Statistics(Box<ShardFigures>),
    Preview(Box<Preview>),
}

/// What a shard has counted and measured.
#[derive(Debug, Clone, Default)]
pub struct ShardFigures {
    /// Names (`group:name`) and values.
    pub values: Vec<(&'static str, u64)>,
    /// Refusals by reason.
    pub refusals: Vec<(Reason, u64)>,
    /// Messages that were dropped, by reason.
    pub drops: Vec<(&'static str, u64)>,
    /// Calls by how they ended.
    pub call_ends: Vec<(&'static str, u64)>,
    /// Bindings by the transport that their phones registered over, as OpenSIPS writes it.
    pub bindings: Vec<(&'static str, u64)>,
    /// How long answers took, in milliseconds.
    pub times: Vec<(Timed, Histogram)>,
}

/// One AOR as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AorRecord {
    pub aor: Vec<u8>,
    pub contacts: Vec<ContactRecord>,
}

/// One contact as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactRecord {
    pub contact: Vec<u8>,
    pub contact_id: u64,
    pub expires: ShownExpires,
    /// In thousandths.
    pub q: Option<u16>,
    pub callid: Vec<u8>,
    pub cseq: u32,
    pub user_agent: Vec<u8>,
    pub received: Option<String>,
    /// Route values that lead to the contact (RFC 3327); empty when there are none.
    pub path: Vec<u8>,
    /// Whether its connection is gone and nothing else leads to it.
    pub is_stranded: bool,
    /// Whether the database has this very state.
    pub is_synced: bool,
    pub socket: Option<String>,
    pub methods: MethodSet,
    pub sip_instance: Vec<u8>,
    /// How its phone answers pings, where it is pinged.
    pub pings: Option<PingsRecord>,
}

impl ContactRecord {
    /// Whether another node has its phone: its path leads there first.
    pub fn is_elsewhere(&self) -> bool {
        split_route(&self.path).0.is_some()
    }
}

/// How a phone answers pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PingsRecord {
    /// How long the last answer took, in milliseconds.
    pub latency_ms: Option<u64>,
    /// How many were not answered since.
    pub lost: u32,
}

/// What is left of a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownExpires {
    Seconds(u64),
    Permanent,
    /// Over, and not swept yet.
    Expired,
}
