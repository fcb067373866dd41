//! Whether roost can do its work now, for load balancers and tools.

use roost_core::{Admin, AdminReply};
use serde_json::{Value, json};

use crate::Mi;
use crate::ask::{ask, shards};
use crate::rpc::RpcError;

const CALLS: [&str; 2] = ["dialog:early_dialogs", "dialog:active_dialogs"];

/// Why roost is not ready; `None`: it is.
pub(crate) async fn why_not_ready(mi: &Mi) -> Option<String> {
    if let Some(why) = (mi.process.why_not_ready)() {
        return Some(why);
    }
    if mi.config().policy.drain_s > 0 {
        return Some("it is being taken out of service".to_string());
    }
    let mut loading = 0;
    for shard in shards(mi) {
        match ask(mi, shard, Admin::Statistics).await {
            Ok(AdminReply::Statistics(figures)) => {
                let is_it = |(name, value): &&(&str, u64)| *name == "roost:loading" && *value > 0;
                loading += figures.values.iter().filter(is_it).count();
            }
            _ => return Some("a worker does not answer".to_string()),
        }
    }
    (loading > 0).then(|| "the table `location` is being read".to_string())
}

/// Calls that are in progress; `None`: a worker does not answer.
pub(crate) async fn calls(mi: &Mi) -> Option<u64> {
    let mut calls = 0;
    for shard in shards(mi) {
        let Ok(AdminReply::Statistics(figures)) = ask(mi, shard, Admin::Statistics).await else {
            return None;
        };
        let of_calls = figures.values.iter().filter(|(name, _)| CALLS.contains(name));
        calls += of_calls.map(|(_, value)| *value).sum::<u64>();
    }
    Some(calls)
}

/// `sr_get_status`: as OpenSIPS's status reports say it.
pub(crate) async fn status(mi: &Mi) -> Result<Value, RpcError> {
    let why = why_not_ready(mi).await;
    let details = why.as_deref().unwrap_or("running");
    let code = if why.is_none() { 1 } else { -1 };
    Ok(json!({ "Readiness": why.is_none(), "Status": code, "Details": details }))
}
