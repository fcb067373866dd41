//! Whether roost can do its work now, for load balancers and tools.

use roost_core::{Admin, AdminReply};
use serde_json::{Value, json};

use crate::Mi;
use crate::ask::{ask, shards};
use crate::rpc::RpcError;

/// Why roost is not ready; `None`: it is.
pub(crate) async fn why_not_ready(mi: &Mi) -> Option<String> {
    if let Some(why) = (mi.process.why_not_ready)() {
        return Some(why);
    }
    if mi.config().policy.drain_s > 0 {
        return Some("it is being taken out of service".to_string());
    }
    match sum(mi, &["roost:loading"]).await {
        None => Some("a worker does not answer".to_string()),
        Some(0) => None,
        Some(_) => Some("the table `location` is being read".to_string()),
    }
}

/// Calls that are in progress; `None`: a worker does not answer.
pub(crate) async fn calls(mi: &Mi) -> Option<u64> {
    sum(mi, &["dialog:early_dialogs", "dialog:active_dialogs"]).await
}

/// What all shards say to these figures, together; `None`: one does not answer.
async fn sum(mi: &Mi, names: &[&str]) -> Option<u64> {
    let mut sum = 0;
    for shard in shards(mi) {
        let Ok(AdminReply::Statistics(figures)) = ask(mi, shard, Admin::Statistics).await else {
            return None;
        };
        let asked = figures.values.iter().filter(|(name, _)| names.contains(name));
        sum += asked.map(|(_, value)| *value).sum::<u64>();
    }
    Some(sum)
}

/// `sr_get_status`: as OpenSIPS's status reports say it.
pub(crate) async fn status(mi: &Mi) -> Result<Value, RpcError> {
    let why = why_not_ready(mi).await;
    let details = why.as_deref().unwrap_or("running");
    let code = if why.is_none() { 1 } else { -1 };
    Ok(json!({ "Readiness": why.is_none(), "Status": code, "Details": details }))
}
