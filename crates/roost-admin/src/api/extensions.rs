//! Extensions: the accounts of the subscriber table, and where each is registered.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use roost_core::{Admin, AdminReply, AgentCalls, AorRecord, ContactRecord, ShownExpires};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::agents::is_reached;
use crate::api::answer::{ApiError, Asked, json, read};
use crate::api::filter::{EXTENSION, Wanted};
use crate::api::{List, limit_of};
use crate::ask::{answered, ask_owner, owner};
use crate::{ExtensionQuery, Mi};

/// One extension.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Extension {
    /// Its name; with `use_domain` NAME@DOMAIN.
    aor: String,
    state: State_,
    /// Calls to it that are not answered.
    ringing: u32,
    /// Calls that it is in, or makes.
    in_use: u32,
    contacts: Vec<Contact>,
}

/// What an extension is doing, by Asterisk's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schema(as = AgentState)]
pub(crate) enum State_ {
    NotInuse,
    Ringing,
    Inuse,
    Busy,
    Unavailable,
}

impl State_ {
    pub(crate) fn of(calls: AgentCalls, is_reached: bool, most: u32) -> State_ {
        match calls.state(is_reached, most) {
            "BUSY" => State_::Busy,
            "INUSE" => State_::Inuse,
            "RINGING" => State_::Ringing,
            "NOT_INUSE" => State_::NotInuse,
            _ => State_::Unavailable,
        }
    }
}

/// A binding.
#[derive(Debug, Serialize, ToSchema)]
struct Contact {
    uri: String,
    /// A text: numbers of this size are not JSON's.
    contact_id: String,
    /// Seconds from now; absent when it never expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_s: Option<u64>,
    /// From 0 to 1; absent when it says none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    q: Option<f32>,
    user_agent: String,
    callid: String,
    cseq: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    received: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    socket: Option<String>,
    path: String,
    /// Whether nothing leads to it until its phone connects again.
    is_stranded: bool,
    /// How long its last answer to a ping took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    latency_ms: Option<u64>,
}

impl Contact {
    fn of(contact: &ContactRecord) -> Contact {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Contact {
            uri: text(&contact.contact),
            contact_id: contact.contact_id.to_string(),
            expires_s: match contact.expires {
                ShownExpires::Seconds(seconds) => Some(seconds),
                ShownExpires::Expired => Some(0),
                ShownExpires::Permanent => None,
            },
            q: contact.q.map(|q| f32::from(q) / 1000.0),
            user_agent: text(&contact.user_agent),
            callid: text(&contact.callid),
            cseq: contact.cseq,
            received: contact.received.clone(),
            socket: contact.socket.clone(),
            path: text(&contact.path),
            is_stranded: contact.is_stranded,
            latency_ms: contact.pings.and_then(|pings| pings.latency_ms),
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
    #[param(nullable = false)]
    after: Option<String>,
    /// Only those with this text in their names.
    #[param(nullable = false)]
    search: Option<String>,
    /// Only those in this state.
    #[param(inline, nullable = false)]
    state: Option<State_>,
    /// Only those of which this holds, such as `state == 'UNAVAILABLE' && aor.startsWith('90')`: a part of the Common Expression Language.
    #[param(nullable = false)]
    filter: Option<String>,
}

/// Extensions by name.
#[utoipa::path(
    get, path = "/api/v1/extensions", tag = "extensions", operation_id = "list_extensions", params(ListQuery),
    responses(
        (status = 200, body = List<Extension>),
        (status = 304, description = "Nothing has changed."),
        (status = 400, body = ApiError),
        (status = 503, body = ApiError, description = "The database does not answer.")
    )
)]
pub(crate) async fn list(
    State(mi): State<Arc<Mi>>,
    headers: HeaderMap,
    Asked(query): Asked<ListQuery>,
) -> Result<Response, ApiError> {
    let limit = limit_of(query.limit)?;
    let wanted = Wanted::of(query.filter.as_deref(), &EXTENSION)?;
    let (mut items, mut after) = (Vec::new(), query.after);
    let next = loop {
        let asked =
            ExtensionQuery { after: after.clone(), search: query.search.clone(), limit: limit - items.len() };
        let names = read(&mi.tables.extensions, asked).await?;
        let Some(last) = names.last().cloned() else { break None };
        let is_wanted =
            |one: &Extension| query.state.is_none_or(|state| state == one.state) && wanted.takes(one);
        items.extend(extensions(&mi, names).await?.into_iter().filter(is_wanted));
        if items.len() == limit {
            break Some(last);
        }
        after = Some(last);
    };
    json(&headers, &List { items, next })
}

/// One extension.
#[utoipa::path(
    get, path = "/api/v1/extensions/{aor}", tag = "extensions", operation_id = "show_extension", params(("aor" = String, Path, description = "Its name.")),
    responses(
        (status = 200, body = Extension),
        (status = 304, description = "Nothing has changed."),
        (status = 400, body = ApiError),
        (status = 404, body = ApiError, description = "It is neither registered nor in a call, and no such account exists."),
        (status = 503, body = ApiError, description = "The database does not answer.")
    )
)]
pub(crate) async fn show(
    State(mi): State<Arc<Mi>>,
    headers: HeaderMap,
    Path(aor): Path<String>,
) -> Result<Response, ApiError> {
    let found = extensions(&mi, vec![aor.clone()]).await?.pop();
    let found = found.ok_or_else(|| ApiError::not_found("there is no such extension"))?;
    let is_idle = found.contacts.is_empty() && found.ringing + found.in_use == 0;
    if is_idle && !read(&mi.tables.is_extension, aor).await? {
        return Err(ApiError::not_found("there is no such extension"));
    }
    json(&headers, &found)
}

/// What the shards know of extensions: all are asked before the first answer is awaited.
async fn extensions(mi: &Mi, names: Vec<String>) -> Result<Vec<Extension>, ApiError> {
    let ask = |name: String| {
        let (shard, aor) = (owner(mi, name.as_bytes()), name.clone().into_bytes());
        (name, (mi.ask)(shard, Admin::Show { aor: aor.clone() }), (mi.ask)(shard, Admin::Agent { aor }))
    };
    let asked: Vec<_> = names.into_iter().map(ask).collect();
    let most = mi.config().policy.dialog.max_calls;
    let mut found = Vec::with_capacity(asked.len());
    for (aor, bindings, calls) in asked {
        let record = match answered(bindings).await? {
            AdminReply::Record(record) => record,
            _ => AorRecord { aor: Vec::new(), contacts: Vec::new() },
        };
        let calls = match answered(calls).await? {
            AdminReply::Agent(calls) => calls,
            _ => AgentCalls::default(),
        };
        found.push(Extension {
            aor,
            state: State_::of(calls, is_reached(&record), most),
            ringing: calls.ringing,
            in_use: calls.in_use,
            contacts: record.contacts.iter().map(Contact::of).collect(),
        });
    }
    Ok(found)
}

/// Whether an extension is registered so that a call would ring.
pub(crate) async fn is_reached_now(mi: &Mi, aor: &str) -> Result<bool, ApiError> {
    let asked = ask_owner(mi, aor.as_bytes(), Admin::Show { aor: aor.as_bytes().to_vec() }).await?;
    Ok(matches!(asked, AdminReply::Record(record) if is_reached(&record)))
}
