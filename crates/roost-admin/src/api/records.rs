//! Calls that have ended, from the tables of call records.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::Mi;
use crate::api::answer::{ApiError, Asked, json, read};
use crate::api::filter::{RECORD, Wanted};
use crate::api::{List, limit_of};

/// A call that has ended. What the table has no column for is empty.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Record {
    pub kind: Kind,
    /// When it was answered, or that it was not, in seconds of unix time.
    pub time_s: i64,
    /// When its INVITE came.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub created_s: Option<i64>,
    pub call_id: String,
    pub from_tag: String,
    pub to_tag: String,
    pub sip_code: String,
    pub sip_reason: String,
    pub duration_s: i64,
    pub ms_duration: i64,
    pub setup_s: i64,
    pub caller: String,
    pub callee: String,
    pub caller_aor: String,
    pub callee_aor: String,
    pub ended_by: String,
    /// What `after` says for those behind it.
    #[serde(skip)]
    #[schema(ignore)]
    pub place: String,
}

/// Which table a record is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = RecordKind)]
pub enum Kind {
    #[default]
    Answered,
    Missed,
}

/// Which records.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RecordQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 1000, default = 100, nullable = false)]
    pub limit: Option<usize>,
    /// The `next` of the page before.
    #[param(nullable = false, pattern = "^-?[0-9]{1,15}-[01]-[0-9]{1,15}$")]
    pub after: Option<String>,
    /// Only those of this extension.
    #[param(nullable = false)]
    pub aor: Option<String>,
    /// Only those of this Call-ID.
    #[param(nullable = false)]
    pub call_id: Option<String>,
    /// Only answered calls, or only the others.
    #[param(inline, nullable = false)]
    pub kind: Option<Kind>,
    /// Only those of which this condition holds; of so many records as are looked at, a page may be short and have a `next`.
    #[param(nullable = false)]
    pub filter: Option<String>,
    /// From this second of unix time on.
    #[param(minimum = 0, maximum = 253402300799u64, nullable = false)]
    pub from: Option<u64>,
    /// Before this second of unix time.
    #[param(minimum = 0, maximum = 253402300799u64, nullable = false)]
    pub to: Option<u64>,
}

/// So many pages are looked through for one of those that a condition holds of.
const MOST_PAGES: usize = 20;
/// The last second that databases know.
const LAST_S: u64 = 253_402_300_799;

impl RecordQuery {
    /// The time, whether answered, and the id that `after` stands for.
    pub fn place(&self) -> Option<(i64, bool, i64)> {
        let (rest, id) = self.after.as_deref()?.rsplit_once('-')?;
        let (time_s, kind) = rest.rsplit_once('-')?;
        Some((time_s.parse().ok()?, kind == "1", id.parse().ok()?))
    }
}

/// Records, the newest first.
#[utoipa::path(
    get, path = "/api/v1/records", tag = "records", operation_id = "list_records", params(RecordQuery),
    responses(
        (status = 200, body = List<Record>),
        (status = 304, description = "Nothing has changed."),
        (status = 400, body = ApiError),
        (status = 404, body = ApiError, description = "None are kept in the database (`acc.db`)."),
        (status = 503, body = ApiError, description = "The database does not answer.")
    )
)]
pub(crate) async fn list(
    State(mi): State<Arc<Mi>>,
    headers: HeaderMap,
    Asked(query): Asked<RecordQuery>,
) -> Result<Response, ApiError> {
    let limit = limit_of(query.limit)?;
    if query.after.is_some() && query.place().is_none() {
        return Err(ApiError::bad("`after` is not the `next` of another page".to_string()));
    }
    if query.from.max(query.to).is_some_and(|time| time > LAST_S) {
        return Err(ApiError::bad(format!("`from` and `to` are seconds of unix time, at most {LAST_S}")));
    }
    let records = mi.tables.records.as_ref();
    let records = records
        .ok_or_else(|| ApiError::not_found("no records are kept in the database: set `db` in [acc]"))?;
    let wanted = Wanted::of(query.filter.as_deref(), &RECORD)?;
    let mut query = RecordQuery { limit: Some(limit), ..query };
    let (mut items, mut next) = (Vec::new(), None);
    for _ in 0..MOST_PAGES {
        let page = read(records, query.clone()).await?;
        let is_last = page.len() < limit;
        for record in page {
            next = Some(record.place.clone());
            if wanted.takes(&record) {
                items.push(record);
                if items.len() == limit {
                    return json(&headers, &List { items, next });
                }
            }
        }
        if is_last {
            return json(&headers, &List { items, next: None });
        }
        query.after.clone_from(&next);
    }
    json(&headers, &List { items, next })
}
