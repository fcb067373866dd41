//! What extensions are doing, by Asterisk's names of device states.

use std::borrow::Cow;
use std::collections::BTreeMap;

use roost_core::{Admin, AdminReply, AgentCalls, AorRecord, ShownExpires};
use serde_json::{Value, json};

use crate::Mi;
use crate::ask::{self, ask_owner, shards};
use crate::rpc::{Params, RpcError};

/// An extension and what it is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    pub aor: String,
    /// By Asterisk's names of device states.
    pub state: Cow<'static, str>,
    /// Calls to it that are not answered.
    pub ringing: u32,
    /// Calls that it is in, or makes.
    pub in_use: u32,
}

/// `agent_list`: each extension that is registered or has calls, or the one of `aor`, which may have neither.
pub(crate) async fn list(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let wanted = params.optional_text("aor")?.map(String::into_bytes);
    let shown = |agent: Agent| {
        let Agent { aor, state, ringing, in_use } = agent;
        json!({ "AOR": aor, "state": state, "ringing": ringing, "in_use": in_use })
    };
    let agents = here(mi, wanted).await?;
    Ok(json!({ "Agents": agents.into_iter().map(shown).collect::<Vec<_>>() }))
}

impl Agent {
    /// As `agent_list` shows it.
    pub(crate) fn of_json(agent: &Value) -> Agent {
        let number = |name: &str| agent[name].as_u64().unwrap_or(0) as u32;
        let text = |name: &str| agent[name].as_str().unwrap_or_default().to_string();
        Agent {
            aor: text("AOR"),
            state: text("state").into(),
            ringing: number("ringing"),
            in_use: number("in_use"),
        }
    }
}

/// Those of this node.
pub(crate) async fn here(mi: &Mi, wanted: Option<Vec<u8>>) -> Result<Vec<Agent>, RpcError> {
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
    let agent = |(aor, (is_reached, calls)): (Vec<u8>, (bool, AgentCalls))| Agent {
        aor: String::from_utf8_lossy(&aor).into_owned(),
        state: calls.state(is_reached, most).into(),
        ringing: calls.ringing,
        in_use: calls.in_use,
    };
    Ok(agents.into_iter().map(agent).collect())
}

/// Whether a call to the extension would ring.
pub(crate) fn is_reached(record: &AorRecord) -> bool {
    record.contacts.iter().any(|contact| !contact.is_stranded && contact.expires != ShownExpires::Expired)
}
