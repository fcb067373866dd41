//! What is fixed while the process lives: how many shards there are, their keys, and what an AOR is.

use std::hash::{BuildHasher, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use roost_sip::User;

use crate::base::aor::split_aor;
use crate::base::flow::ShardId;
use crate::base::hash::KeyedState;
use crate::base::limits;
use crate::contract::policy::AuthParams;
use crate::contract::shared::Node;

/// The same in every shard of a process.
#[derive(Debug, Clone)]
pub struct Identity {
    /// How many engines the process has.
    pub shards: u16,
    /// AORs and subscribers are `user@domain` (multi-tenant) instead of bare users.
    pub use_domain: bool,
    /// Whether the user part of an AOR distinguishes case (`registrar.case_sensitive`).
    pub case_sensitive: bool,
    /// A 200 waits for its row to be committed (`usrloc.db_mode = "write-through"`).
    pub write_through: bool,
    /// What the columns of `location` hold.
    pub widths: Widths,
    /// Keys of the process's MACs: nonces, To tags, branches.
    pub mac_key: [u8; 32],
    /// Seeds every hash table and the choice of shards.
    pub hash_seed: u64,
    /// Tells this process's shards and calls from those of others, for what outlives it.
    pub epoch: u8,
    /// The calls of all shards.
    pub calls: CallCount,
    /// Where bindings are shared with other nodes: this one.
    pub node: Option<Arc<Node>>,
}

/// How many calls are in progress in all shards: the one number that they share, as `proxy.max_calls` is for all of them.
#[derive(Debug, Clone, Default)]
pub struct CallCount(Arc<AtomicU64>);

impl CallCount {
    /// A counter of its own that stands where this one does now.
    pub(crate) fn apart(&self) -> CallCount {
        CallCount(Arc::new(AtomicU64::new(self.now())))
    }

    pub(crate) fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the columns of `location` hold, in bytes. SQLite's hold anything: there [`crate::limits`] alone count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Widths {
    pub contact: usize,
    pub path: usize,
    pub callid: usize,
    pub user_agent: usize,
}

impl Default for Widths {
    fn default() -> Self {
        Widths {
            contact: limits::MAX_CONTACT,
            path: limits::MAX_PATH,
            callid: limits::MAX_CALL_ID,
            user_agent: limits::MAX_USER_AGENT,
        }
    }
}

impl Default for Identity {
    fn default() -> Self {
        Identity {
            shards: 1,
            use_domain: false,
            case_sensitive: true,
            write_through: true,
            widths: Widths::default(),
            mac_key: [0; 32],
            hash_seed: 0,
            epoch: 0,
            calls: CallCount::default(),
            node: None,
        }
    }
}

impl Identity {
    /// The keys of what the Route of a dialog over a floating address says: the first one signs, all are taken.
    pub(crate) fn floating_keys(&self) -> &[[u8; 32]] {
        self.node.as_ref().map_or(&[], |node| &node.dialog_keys)
    }

    /// The shard that a user's bindings live in: a pure function of the user as rows have it (no escapes), never of its
    /// domain, so that tenants of one user meet in one shard.
    pub fn shard_of(&self, user: &[u8]) -> ShardId {
        if self.shards <= 1 {
            return ShardId(0);
        }
        let mut hasher = KeyedState::new(self.hash_seed).build_hasher();
        for byte in user {
            hasher.write_u8(if self.case_sensitive { *byte } else { byte.to_ascii_lowercase() });
        }
        ShardId((hasher.finish() % u64::from(self.shards)) as u16)
    }

    /// The shard that an AOR belongs to.
    pub fn shard_of_aor(&self, aor: &[u8]) -> ShardId {
        self.shard_of(split_aor(aor, self.use_domain).0)
    }

    /// The shard of a URI's user.
    pub(crate) fn shard_of_user(&self, user: User<'_>) -> ShardId {
        if self.shards <= 1 {
            return ShardId(0);
        }
        self.shard_of(&user.plain())
    }

    /// The keys of nonces: the first one signs, all are taken. Nonces that may be used again hold at all nodes; of the others the node
    /// that made them knows which were used.
    pub(crate) fn nonce_keys(&self, auth: &AuthParams) -> &[[u8; 32]] {
        match &self.node {
            Some(node) if !auth.qop_auth && auth.disable_nonce_check => &node.nonce_keys,
            _ => std::slice::from_ref(&self.mac_key),
        }
    }

    /// A limit that all shards share, as one shard's part of it.
    pub(crate) fn share_of(&self, all: usize) -> usize {
        all / usize::from(self.shards.max(1))
    }
}
