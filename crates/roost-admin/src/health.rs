//! Whether roost can do its work now, for load balancers and tools.

use roost_core::{Admin, AdminReply};
use roost_recorder::Language;
use serde_json::{Value, json};

use crate::Mi;
use crate::ask::{ask, shards};
use crate::rpc::RpcError;

/// Why roost cannot do its work now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotReady {
    DatabaseAway,
    Draining,
    /// A worker does not answer.
    Stuck,
    /// The table of bindings is being read.
    Loading,
}

impl NotReady {
    pub(crate) fn words(self, language: Language) -> &'static str {
        language.pick(match self {
            NotReady::DatabaseAway => ["the database is away", "数据库不可用"],
            NotReady::Draining => ["it is being taken out of service", "正在退出服务"],
            NotReady::Stuck => ["a worker does not answer", "有工作线程没有应答"],
            NotReady::Loading => ["the table `location` is being read", "正在读取 `location` 表"],
        })
    }
}

/// Why roost is not ready; `None`: it is.
pub(crate) async fn why_not_ready(mi: &Mi) -> Option<NotReady> {
    if (mi.process.is_database_away)() {
        return Some(NotReady::DatabaseAway);
    }
    if mi.config().policy.drain_s > 0 {
        return Some(NotReady::Draining);
    }
    match sum(mi, &["roost:loading"]).await {
        None => Some(NotReady::Stuck),
        Some(0) => None,
        Some(_) => Some(NotReady::Loading),
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
    let details = why.map_or("running", |why| why.words(Language::English));
    let code = if why.is_none() { 1 } else { -1 };
    Ok(json!({ "Readiness": why.is_none(), "Status": code, "Details": details }))
}
