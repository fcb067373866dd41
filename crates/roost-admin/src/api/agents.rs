//! What extensions are doing.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use roost_core::{Admin, AdminReply, AgentCalls, ShardId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::Mi;
use crate::agents::is_reached;
use crate::api::answer::{ApiError, Asked, json};
use crate::api::extensions::{State_, is_reached_now};
use crate::api::filter::{EXTENSION, Wanted};
use crate::api::{List, limit_of, place_of};
use crate::ask::{self, ask_owner};

/// An extension and what it is doing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Agent {
    aor: String,
    state: State_,
    /// Calls to it that are not answered.
    ringing: u32,
    /// Calls that it is in, or makes.
    in_use: u32,
}

impl Agent {
    fn of(mi: &Mi, aor: &[u8], calls: AgentCalls, is_reached: bool) -> Agent {
        let state = State_::of(calls, is_reached, mi.config().policy.dialog.max_calls);
        let aor = String::from_utf8_lossy(aor).into_owned();
        Agent { aor, state, ringing: calls.ringing, in_use: calls.in_use }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 1000, default = 100, nullable = false)]
    limit: Option<usize>,
    /// The `next` of the page before.
    #[param(nullable = false, pattern = "^[0-9]{1,4}-[0-9]{1,9}$")]
    after: Option<String>,
    /// Only those in this state.
    #[param(inline, nullable = false)]
    state: Option<State_>,
    /// Only those of which this holds, such as `in_use > 0 && aor.startsWith('90')`: a part of the Common Expression Language.
    #[param(nullable = false)]
    filter: Option<String>,
}

/// The extensions that are registered or have calls, in no order but one that pages keep.
#[utoipa::path(
    get, path = "/api/v1/agents", tag = "agents", operation_id = "list_agents", params(ListQuery),
    responses(
        (status = 200, body = List<Agent>),
        (status = 304, description = "Nothing has changed."),
        (status = 400, body = ApiError)
    )
)]
pub(crate) async fn list(
    State(mi): State<Arc<Mi>>,
    headers: HeaderMap,
    Asked(query): Asked<ListQuery>,
) -> Result<Response, ApiError> {
    let limit = limit_of(query.limit)?;
    let wanted = Wanted::of(query.filter.as_deref(), &EXTENSION)?;
    let (first, mut from) = place_of(query.after.as_deref())?;
    let is_wanted =
        |agent: &Agent| query.state.is_none_or(|state| state == agent.state) && wanted.takes(agent);
    let mut items = Vec::new();
    for shard in first..mi.config().identity.shards {
        let mut calls: HashMap<Box<[u8]>, AgentCalls> =
            ask::agents(&mi, ShardId(shard)).await?.into_iter().collect();
        let mut place = Some(std::mem::take(&mut from));
        let is_whole = place == Some(0);
        while let Some(at) = place {
            let (records, next) = ask::aors(&mi, ShardId(shard), at).await?;
            for (at, record) in records {
                let own = calls.remove(&record.aor[..]).unwrap_or_default();
                let agent = Agent::of(&mi, &record.aor, own, is_reached(&record));
                if is_wanted(&agent) {
                    if items.len() == limit {
                        return json(&headers, &List { items, next: Some(format!("{shard}-{at}")) });
                    }
                    items.push(agent);
                }
            }
            place = next;
        }
        // Those with calls that are not registered; who begins in the middle of a shard asks for each whether it is.
        for (aor, own) in calls {
            let is_listed = !is_whole && is_reached_now(&mi, &String::from_utf8_lossy(&aor)).await?;
            let agent = Agent::of(&mi, &aor, own, false);
            if !is_listed && is_wanted(&agent) {
                items.push(agent);
            }
        }
    }
    json(&headers, &List { items, next: None })
}

/// One extension; one that is unknown is UNAVAILABLE.
#[utoipa::path(
    get, path = "/api/v1/agents/{aor}", tag = "agents", operation_id = "show_agent", params(("aor" = String, Path, description = "Its name.")),
    responses(
        (status = 200, body = Agent),
        (status = 304, description = "Nothing has changed."),
        (status = 400, body = ApiError)
    )
)]
pub(crate) async fn show(
    State(mi): State<Arc<Mi>>,
    headers: HeaderMap,
    Path(aor): Path<String>,
) -> Result<Response, ApiError> {
    let bytes = aor.as_bytes();
    let calls = match ask_owner(&mi, bytes, Admin::Agent { aor: bytes.to_vec() }).await? {
        AdminReply::Agent(calls) => calls,
        _ => AgentCalls::default(),
    };
    json(&headers, &Agent::of(&mi, bytes, calls, is_reached_now(&mi, &aor).await?))
}
