//! Asks shards.

use std::time::Duration;

use roost_core::{Admin, AdminReply, AgentCalls, AorRecord, CallRecord, ShardId};
use tokio::sync::oneshot;

use crate::Mi;
use crate::rpc::RpcError;

/// How long a shard may take to answer; a held database takes longest.
const PATIENCE: Duration = Duration::from_secs(30);

/// All of them.
pub(crate) fn shards(mi: &Mi) -> impl Iterator<Item = ShardId> + use<> {
    (0..mi.config().identity.shards).map(ShardId)
}

/// Asks one; its answer.
pub(crate) async fn ask(mi: &Mi, shard: ShardId, request: Admin) -> Result<AdminReply, RpcError> {
    answered((mi.ask)(shard, request)).await
}

/// Asks the shard that an AOR belongs to.
pub(crate) async fn ask_owner(mi: &Mi, aor: &[u8], request: Admin) -> Result<AdminReply, RpcError> {
    ask(mi, owner(mi, aor), request).await
}

/// Some of a shard's entries and where each stands, from a place on; and where the next begin.
pub(crate) type Slice<T> = (Vec<(usize, T)>, Option<usize>);

/// A slice of a shard's AORs.
pub(crate) async fn aors(mi: &Mi, shard: ShardId, from: usize) -> Result<Slice<AorRecord>, RpcError> {
    match ask(mi, shard, Admin::Dump { from }).await? {
        AdminReply::Slice { records, places, next } => Ok((places.into_iter().zip(records).collect(), next)),
        _ => Err(RpcError::new(500, "Failed to list bindings")),
    }
}

/// A slice of a shard's calls.
pub(crate) async fn calls(mi: &Mi, shard: ShardId, from: usize) -> Result<Slice<CallRecord>, RpcError> {
    match ask(mi, shard, Admin::Calls { from }).await? {
        AdminReply::Calls { calls, places, next } => Ok((places.into_iter().zip(calls).collect(), next)),
        _ => Err(RpcError::new(500, "Failed to list calls")),
    }
}

/// The extensions of a shard that have calls.
pub(crate) async fn agents(mi: &Mi, shard: ShardId) -> Result<Vec<(Box<[u8]>, AgentCalls)>, RpcError> {
    match ask(mi, shard, Admin::Agents).await? {
        AdminReply::Agents(agents) => Ok(agents),
        _ => Err(RpcError::new(500, "Failed to list agents")),
    }
}

/// The shard that an AOR belongs to.
pub(crate) fn owner(mi: &Mi, aor: &[u8]) -> ShardId {
    mi.config().identity.shard_of_aor(aor)
}

/// An AOR as the table has it: without its domain where AORs have none. `None`: it needs one, and has none.
pub(crate) fn stored_aor<'a>(mi: &Mi, aor: &'a str) -> Option<&'a str> {
    match (mi.config().identity.use_domain, aor.rsplit_once('@')) {
        (true, None) => None,
        (false, Some((user, _))) => Some(user),
        _ => Some(aor),
    }
}

/// Awaits an answer.
pub(crate) async fn answered(answer: oneshot::Receiver<AdminReply>) -> Result<AdminReply, RpcError> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(reply)) => Ok(reply),
        _ => Err(RpcError::new(-32000, "Server error")),
    }
}
