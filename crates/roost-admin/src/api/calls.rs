//! Calls in progress.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use roost_core::{Admin, AdminReply, CallNumber, CallRecord, CallState, CallText, ShardId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::Mi;
use crate::api::answer::{ApiError, Asked, json};
use crate::api::filter::{CALL, Wanted};
use crate::api::{List, limit_of, place_of};
use crate::ask::{self, ask};
use crate::hops::{self, ByAddress};

/// A call in progress.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Call {
    /// As in `dlg_list`.
    id: String,
    state: Progress,
    /// Seconds of unix time.
    begun_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    answered_s: Option<u64>,
    /// When it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    until_s: Option<u64>,
    call_id: String,
    caller: Side,
    callee: Side,
    /// The next hop that it goes to or comes from, as the configuration has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    hop: Option<String>,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = CallState)]
pub(crate) enum Progress {
    /// Nobody rings yet.
    Calling,
    Ringing,
    Answered,
}

/// One side of a call.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CallSide)]
struct Side {
    /// The extension; empty for others.
    aor: String,
    uri: String,
    tag: String,
    contact: String,
    /// The address that it was reached at last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    address: Option<String>,
}

impl Call {
    fn of(call: &CallRecord, hops: &ByAddress) -> Call {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let side = |is_caller| {
            let (side, texts) = call.side(is_caller);
            let aor = if is_caller { CallText::CallerAor } else { CallText::CalleeAor };
            Side {
                aor: text(call.text(aor)),
                uri: text(texts.uri),
                tag: text(texts.tag),
                contact: text(texts.contact),
                address: side.flow().map(|flow| flow.to_string()),
            }
        };
        Call {
            id: call.number.id(),
            state: match call.state {
                CallState::Unconfirmed => Progress::Calling,
                CallState::Early => Progress::Ringing,
                _ => Progress::Answered,
            },
            begun_s: call.begun_s,
            answered_s: call.answered_s,
            until_s: call.until_s,
            call_id: text(call.text(CallText::CallId)),
            caller: side(true),
            callee: side(false),
            hop: [&call.callee, &call.caller]
                .into_iter()
                .find_map(|side| hops.get(&side.flow()?.remote))
                .map(ToString::to_string),
        }
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
    /// Only those of this extension.
    #[param(nullable = false)]
    aor: Option<String>,
    /// Only those in this state.
    #[param(inline, nullable = false)]
    state: Option<Progress>,
    /// Only those of which this holds, such as `caller.aor == '9001'`: a part of the Common Expression Language.
    #[param(nullable = false)]
    filter: Option<String>,
}

/// Calls in progress, in no order but one that pages keep.
#[utoipa::path(
    get, path = "/api/v1/calls", tag = "calls", operation_id = "list_calls", params(ListQuery),
    responses(
        (status = 200, body = List<Call>),
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
    let wanted = Wanted::of(query.filter.as_deref(), &CALL)?;
    let (first, mut from) = place_of(query.after.as_deref())?;
    let is_of = |call: &CallRecord| {
        query.aor.as_ref().is_none_or(|aor| {
            [CallText::CallerAor, CallText::CalleeAor].iter().any(|text| call.text(*text) == aor.as_bytes())
        })
    };
    let hops = hops::by_address(&mi).await?;
    let mut items = Vec::new();
    for shard in first..mi.config().identity.shards {
        let mut place = Some(std::mem::take(&mut from));
        while let Some(at) = place {
            let (calls, next) = ask::calls(&mi, ShardId(shard), at).await?;
            for (at, call) in calls {
                let shown = Call::of(&call, &hops);
                if is_of(&call)
                    && query.state.is_none_or(|state| state == shown.state)
                    && wanted.takes(&shown)
                {
                    if items.len() == limit {
                        return json(&headers, &List { items, next: Some(format!("{shard}-{at}")) });
                    }
                    items.push(shown);
                }
            }
            place = next;
        }
    }
    json(&headers, &List { items, next: None })
}

fn number_of(mi: &Mi, id: &str) -> Result<(CallNumber, ShardId), ApiError> {
    let number = CallNumber::of_id(id).ok_or_else(not_found)?;
    Ok((number, number.home(mi.config().identity.shards)))
}

fn not_found() -> ApiError {
    ApiError::not_found("there is no such call in progress")
}

/// One call.
#[utoipa::path(
    get, path = "/api/v1/calls/{id}", tag = "calls", operation_id = "show_call", params(("id" = String, Path, description = "Its ID.")),
    responses(
        (status = 200, body = Call),
        (status = 304, description = "Nothing has changed."),
        (status = 400, body = ApiError),
        (status = 404, body = ApiError)
    )
)]
pub(crate) async fn show(
    State(mi): State<Arc<Mi>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let (number, shard) = number_of(&mi, &id)?;
    match ask(&mi, shard, Admin::Call(number)).await? {
        AdminReply::Call(call) => json(&headers, &Call::of(&call, &hops::by_address(&mi).await?)),
        _ => Err(not_found()),
    }
}

/// Ends a call that is answered: both sides get a BYE.
#[utoipa::path(
    delete, path = "/api/v1/calls/{id}", tag = "calls", operation_id = "end_call", params(("id" = String, Path, description = "Its ID.")),
    responses(
        (status = 204, description = "It is over."),
        (status = 400, body = ApiError),
        (status = 404, body = ApiError, description = "There is no such call, or it is not answered.")
    )
)]
pub(crate) async fn end(State(mi): State<Arc<Mi>>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let (number, shard) = number_of(&mi, &id)?;
    match ask(&mi, shard, Admin::EndCall(number)).await? {
        AdminReply::Done => {
            tracing::info!("an operator: ended call {id}");
            Ok(StatusCode::NO_CONTENT)
        }
        _ => Err(not_found()),
    }
}
