//! Bans of addresses and extensions that guessed too often. Each shard counts for its own extensions.

use std::collections::BTreeMap;
use std::net::IpAddr;

use roost_core::{Admin, AdminReply, Ban};
use serde_json::{Value, json};

use crate::Mi;
use crate::ask::{ask, shards};
use crate::rpc::{Params, RpcError};

/// How long an operator's ban lasts if nothing is said: a day.
const A_DAY_S: u64 = 86_400;

/// `ban_list`: each ban once, with the longest time that a shard has for it.
pub(crate) async fn list(mi: &Mi) -> Result<Value, RpcError> {
    let mut bans: BTreeMap<(Option<IpAddr>, Box<[u8]>), Ban> = BTreeMap::new();
    for shard in shards(mi) {
        let AdminReply::Bans(own) = ask(mi, shard, Admin::Bans).await? else { continue };
        for ban in own {
            let known = bans.entry((ban.source, ban.user.clone())).or_insert_with(|| ban.clone());
            known.left_s = known.left_s.max(ban.left_s);
            known.is_manual |= ban.is_manual;
        }
    }
    let shown = bans.into_values().map(|ban| {
        json!({
            "source": ban.source.map(|source| match source {
                IpAddr::V6(_) => format!("{source}/64"),
                IpAddr::V4(_) => source.to_string(),
            }),
            "user": (!ban.user.is_empty()).then(|| String::from_utf8_lossy(&ban.user)),
            "seconds": ban.left_s,
            "manual": ban.is_manual,
        })
    });
    Ok(json!({ "Bans": Value::Array(shown.collect()) }))
}

/// `ban_add`: an address, an extension, or an extension at an address.
pub(crate) async fn add(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let (source, user) = subject(params)?;
    let seconds = params.number("seconds")?.map_or(Ok(A_DAY_S), u64::try_from);
    let left_s = seconds.map_err(|_| RpcError::invalid_params("'seconds' must be 0 or more"))?;
    for shard in shards(mi) {
        let ban = Ban { source, user: user.clone().into(), left_s, is_manual: true };
        ask(mi, shard, Admin::Ban(ban)).await?;
    }
    Ok(json!("OK"))
}

/// `ban_rm`: everything that is held against an address, or an extension.
pub(crate) async fn rm(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let (source, user) = subject(params)?;
    let mut forgotten = 0;
    for shard in shards(mi) {
        if let AdminReply::Unbanned(count) =
            ask(mi, shard, Admin::Unban { source, user: user.clone() }).await?
        {
            forgotten += count;
        }
    }
    match forgotten {
        0 => Err(RpcError::new(404, "Nothing is held against it")),
        _ => Ok(json!("OK")),
    }
}

fn subject(params: &Params<'_>) -> Result<(Option<IpAddr>, Vec<u8>), RpcError> {
    let given = |name: &str| match params.get(name) {
        Some(Value::Null) | None => Ok(None),
        Some(_) => params.text(name).map(Some),
    };
    let source = given("source")?.filter(|text| !text.is_empty());
    let source = source.map(|text| text.trim_end_matches("/64").parse()).transpose();
    let source = source.map_err(|_| RpcError::invalid_params("'source' must be an IP address"))?;
    let user = given("user")?.unwrap_or_default().into_bytes();
    match source.is_none() && user.is_empty() {
        true => Err(RpcError::invalid_params("'source' or 'user' must be given")),
        false => Ok((source, user)),
    }
}
