//! Asks shards.

use std::time::Duration;

use roost_core::{Admin, AdminReply, ShardId};
use tokio::sync::oneshot;

use crate::Mi;
use crate::rpc::RpcError;

/// How long a shard may take to answer; a held database takes longest.
const PATIENCE: Duration = Duration::from_secs(30);

/// All of them.
pub(crate) fn shards(mi: &Mi) -> impl Iterator<Item = ShardId> + use<> {
    (0..mi.config.identity.shards).map(ShardId)
}

/// Asks one; its answer.
pub(crate) async fn ask(mi: &Mi, shard: ShardId, request: Admin) -> Result<AdminReply, RpcError> {
    answered((mi.ask)(shard, request)).await
}

/// Asks the shard that an AOR belongs to.
pub(crate) async fn ask_owner(mi: &Mi, aor: &[u8], request: Admin) -> Result<AdminReply, RpcError> {
    let user_len = match mi.config.identity.use_domain {
        true => aor.iter().rposition(|byte| *byte == b'@').unwrap_or(aor.len()),
        false => aor.len(),
    };
    ask(mi, mi.config.identity.shard_of(&aor[..user_len]), request).await
}

/// Awaits an answer.
pub(crate) async fn answered(answer: oneshot::Receiver<AdminReply>) -> Result<AdminReply, RpcError> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(reply)) => Ok(reply),
        _ => Err(RpcError::new(-32000, "Server error")),
    }
}
