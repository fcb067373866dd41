//! Events as they happen: server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use roost_core::Topics;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;

use crate::Mi;
use crate::api::answer::{ApiError, Asked};
use crate::events::{Next, TYPES, Told, type_named};

/// Events on their way to one reader, beside those of the hub.
const ON_THE_WAY: usize = 16;
/// How long a reader may not read.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a comment shows that the connection lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamQuery {
    /// Names of events, joined by commas, as `events_list` has them; absent: all.
    #[serde(rename = "type")]
    #[param(nullable = false)]
    types: Option<String>,
    /// Only those about this extension.
    #[param(nullable = false)]
    aor: Option<String>,
}

/// Events as they happen. A reader that comes back with the header Last-Event-ID first gets what it missed, as far as that is
/// kept; one that is too slow is told how many it lost (event `lost`).
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events", operation_id = "stream_events", params(StreamQuery),
    responses(
        (status = 200, content_type = "text/event-stream", description = "Each event's data is a JSON object.", body = String),
        (status = 400, body = ApiError),
        (status = 503, body = ApiError, description = "There are too many readers.")
    )
)]
pub(crate) async fn stream(
    State(mi): State<Arc<Mi>>,
    headers: HeaderMap,
    Asked(query): Asked<StreamQuery>,
) -> Result<Response, ApiError> {
    let names: Vec<&str> =
        query.types.as_deref().map_or(Vec::new(), |types| types.split(',').map(str::trim).collect());
    let unknown = names.iter().find(|name| type_named(name).is_none());
    if let Some(unknown) = unknown {
        let known: Vec<_> = TYPES.iter().map(|(name, _)| *name).collect();
        return Err(ApiError::bad(format!("there is no event \"{unknown}\", but: {}", known.join(", "))));
    }
    let wanted: Vec<_> = match names.is_empty() {
        true => TYPES.to_vec(),
        false => TYPES.into_iter().filter(|(name, _)| names.contains(name)).collect(),
    };
    let topics = wanted.iter().fold(Topics::NONE, |all, (_, topics)| all.and(*topics));
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse().ok());
    let too_many = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too many readers of events");
    let mut stream = mi.events.stream(topics, after).ok_or_else(too_many)?;
    let (sender, receiver) = mpsc::channel::<Result<Event, Infallible>>(ON_THE_WAY);
    tokio::spawn(async move {
        let is_wanted = |told: &Told| {
            let is_about = |aor: &String| told.aor.split(' ').any(|one| one == aor);
            wanted.iter().any(|(name, _)| *name == told.name) && query.aor.as_ref().is_none_or(is_about)
        };
        loop {
            let next = tokio::select! {
                () = sender.closed() => return,
                next = stream.next() => next,
            };
            let event = match next {
                None => return,
                Some(Next::Lost(lost)) => Event::default().event("lost").data(format!("{{\"lost\":{lost}}}")),
                Some(Next::Told(told)) if is_wanted(&told) => {
                    Event::default().id(told.id.to_string()).event(told.name).data(&*told.params)
                }
                Some(Next::Told(_)) => continue,
            };
            // One that does not read comes back when it does, and says what it had last.
            if sender.send_timeout(Ok(event), PATIENCE).await.is_err() {
                return;
            }
        }
    });
    let stream = Sse::new(ReceiverStream::new(receiver));
    Ok(stream.keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}
