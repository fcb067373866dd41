//! What extensions are doing, by Asterisk's names of device states.

use std::collections::BTreeMap;

use roost_core::{Admin, AdminReply, AgentCalls, AorRecord, ShownExpires};
use serde_json::{Value, json};

use crate::Mi;
use crate::ask::{self, ask_owner, shards};
use crate::rpc::{Params, RpcError};
use crate::shapes::text;

/// `agent_list`: each extension that is registered or has calls, or the one of `aor`, which may have neither.
pub(crate) async fn list(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let wanted = params.optional_text("aor")?.map(String::into_bytes);
    let mut agents: BTreeMap<Vec<u8>, (bool, AgentCalls)> = BTreeMap::new();
    if let Some(aor) = &wanted {
        let is_reached = match ask_owner(mi, aor, Admin::Show { aor: aor.clone() }).await? {
            AdminReply::Record(record) => record.aor == *aor && is_reached(&record),
            AdminReply::AorNotFound => false,
            _ => return Err(RpcError::new(500, "Failed to list agents")),
        };
        agents.insert(aor.clone(), (is_reached, AgentCalls::default()));
    }
    let is_wanted = |aor: &[u8]| wanted.as_ref().is_none_or(|wanted| wanted == aor);
    for shard in shards(mi) {
        // One extension has been asked for already: all need not be read for it.
        let mut place = wanted.is_none().then_some(0);
        while let Some(from) = place {
            let (records, next) = ask::aors(mi, shard, from).await?;
            for (_, record) in records.into_iter().filter(|(_, record)| is_reached(record)) {
                agents.entry(record.aor).or_default().0 = true;
            }
            place = next;
        }
        for (aor, calls) in ask::agents(mi, shard).await?.into_iter().filter(|(aor, _)| is_wanted(aor)) {
            agents.entry(aor.into()).or_default().1 = calls;
        }
    }
    let most = mi.config().policy.dialog.max_calls;
    let shown = agents.into_iter().map(|(aor, (is_reached, calls))| {
        json!({
            "AOR": text(&aor),
            "state": calls.state(is_reached, most),
            "ringing": calls.ringing,
            "in_use": calls.in_use,
        })
    });
    Ok(json!({ "Agents": shown.collect::<Vec<_>>() }))
}

/// Whether a call to the extension would ring.
pub(crate) fn is_reached(record: &AorRecord) -> bool {
    record.contacts.iter().any(|contact| !contact.is_stranded && contact.expires != ShownExpires::Expired)
}
