//! The API for programs: `/api/v1`, JSON, described by itself (`/api/v1/openapi.json`).
//!
//! Lists come in pages: `limit` entries at most, and `next` is what `after` must say for the following ones. Each answer has an
//! ETag; one that has not changed since is 304.

mod agents;
mod answer;
mod calls;
mod events;
mod extensions;
mod filter;
mod records;

use std::sync::Arc;

use axum::Router;
use axum::response::IntoResponse as _;
use axum::routing::get;
use serde::Serialize;
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Mi;
pub(crate) use crate::api::filter::{EXTENSION, Wanted};
pub use crate::api::records::{Kind, Record, RecordQuery};

/// Entries of a page that does not say how many.
const USUAL: usize = 100;
/// Entries of a page at most.
const MOST: usize = 1_000;

#[derive(OpenApi)]
#[openapi(
    security((), ("token" = [])),
    info(title = "roost", description = "Extensions, calls, agents, call records and events of a running roost."),
    tags(
        (name = "extensions", description = "Who has an account, and where they are registered."),
        (name = "calls", description = "Calls in progress."),
        (name = "agents", description = "What extensions are doing."),
        (name = "records", description = "Calls that have ended."),
        (name = "events", description = "What happens, as it happens.")
    )
)]
struct Described;

/// One page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct List<T> {
    pub(crate) items: Vec<T>,
    /// What `after` must say for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) next: Option<String>,
}

/// All routes, with the document that describes them.
pub(crate) fn router() -> Router<Arc<Mi>> {
    let (router, document) = described().split_for_parts();
    let text = document.to_json().unwrap_or_default();
    router.route(
        "/api/v1/openapi.json",
        get(move |headers| async move { answer::tagged(&headers, text.clone()).into_response() }),
    )
}

fn described() -> OpenApiRouter<Arc<Mi>> {
    let mut document = Described::openapi();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document.components.get_or_insert_default().add_security_scheme("token", bearer);
    OpenApiRouter::with_openapi(document)
        .routes(routes!(extensions::list))
        .routes(routes!(extensions::show))
        .routes(routes!(calls::list))
        .routes(routes!(calls::show, calls::end))
        .routes(routes!(agents::list))
        .routes(routes!(agents::show))
        .routes(routes!(records::list))
        .routes(routes!(events::stream))
}

/// The number of entries that a page asks for.
pub(crate) fn limit_of(limit: Option<usize>) -> Result<usize, answer::ApiError> {
    match limit {
        None => Ok(USUAL),
        Some(limit @ 1..=MOST) => Ok(limit),
        Some(_) => Err(answer::ApiError::bad(format!("`limit` must be from 1 to {MOST}"))),
    }
}

/// The shard and the place in it that a page begins after.
pub(crate) fn place_of(after: Option<&str>) -> Result<(u16, usize), answer::ApiError> {
    let Some(after) = after else { return Ok((0, 0)) };
    let place =
        after.split_once('-').and_then(|(shard, place)| Some((shard.parse().ok()?, place.parse().ok()?)));
    place.ok_or_else(|| answer::ApiError::bad("`after` is not the `next` of another page".to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_described() {
        let (_, document) = described().split_for_parts();
        let paths: Vec<_> = document.paths.paths.keys().cloned().collect();
        assert_eq!(
            paths,
            [
                "/api/v1/agents",
                "/api/v1/agents/{aor}",
                "/api/v1/calls",
                "/api/v1/calls/{id}",
                "/api/v1/events",
                "/api/v1/extensions",
                "/api/v1/extensions/{aor}",
                "/api/v1/records",
            ]
        );
    }

    #[test]
    fn pages_begin_where_the_last_one_ended() {
        assert_eq!(place_of(None).unwrap(), (0, 0));
        assert_eq!(place_of(Some("3-256")).unwrap(), (3, 256));
        for bad in ["", "3", "a-1", "1-b", "70000-1"] {
            assert!(place_of(Some(bad)).is_err(), "{bad}");
        }
        assert!(limit_of(Some(0)).is_err() && limit_of(Some(1_001)).is_err());
        assert_eq!((limit_of(None).unwrap(), limit_of(Some(1_000)).unwrap()), (100, 1_000));
    }
}
