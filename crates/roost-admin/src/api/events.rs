//! Events as they happen: server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use roost_core::Topics;
use roost_filter::Filter;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;

use crate::Mi;
use crate::api::answer::{ApiError, Asked};
use crate::events::{Next, Reads, Stream, TYPES, type_named};
use crate::facts::EVENT;

/// Parts on their way to one reader, beside the events of the hub.
const ON_THE_WAY: usize = 4;
/// How long the first event of a part waits for others.
const GATHERING: Duration = Duration::from_millis(10);
/// Bytes of a part, and the last event.
const MOST_AT_ONCE: usize = 64 << 10;
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
    /// Only those of which this condition holds.
    #[param(nullable = false)]
    filter: Option<String>,
    /// Only those of this node, where several share bindings.
    #[param(nullable = false)]
    local: Option<bool>,
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
    let compile = |text: &String| Filter::compile(text, &EVENT);
    let when = query.filter.as_ref().map(compile).transpose();
    let when = when.map_err(|error| ApiError::bad(format!("filter: {error}")))?;
    let topics = wanted.iter().fold(Topics::NONE, |all, (_, topics)| all.and(*topics));
    let reads = if query.local.unwrap_or(false) { Reads::Own } else { Reads::All };
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse().ok());
    let too_many = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too many readers of events");
    let stream = mi.events.stream(topics, reads, after).ok_or_else(too_many)?;
    let (sender, receiver) = mpsc::channel(ON_THE_WAY);
    let names = wanted.into_iter().map(|(name, _)| name).collect();
    tokio::spawn(Feed { stream, names, aor: query.aor, when, sender }.run());
    let kind = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((kind, Body::from_stream(ReceiverStream::new(receiver))).into_response())
}

/// What goes to one reader.
struct Feed {
    stream: Stream,
    names: Vec<&'static str>,
    aor: Option<String>,
    when: Option<Filter>,
    sender: mpsc::Sender<Result<Vec<u8>, Infallible>>,
}

impl Feed {
    /// Sends what comes, many events at once, until the reader goes or does not read.
    async fn run(mut self) {
        let mut part = b": roost\n\n".to_vec();
        loop {
            if !part.is_empty() {
                // The next may well be as long.
                let next = Vec::with_capacity(part.len());
                let sent = self.sender.send_timeout(Ok(std::mem::replace(&mut part, next)), PATIENCE);
                // One that does not read comes back when it does, and says what it had last.
                if sent.await.is_err() {
                    return;
                }
            }
            let next = tokio::select! {
                () = self.sender.closed() => return,
                next = tokio::time::timeout(KEEP_ALIVE, self.stream.next()) => next,
            };
            match next {
                Err(_) => part.extend_from_slice(b":\n\n"),
                Ok(None) => return,
                Ok(Some(first)) => {
                    self.push(&first, &mut part);
                    tokio::time::sleep(GATHERING).await;
                    while part.len() < MOST_AT_ONCE
                        && let Some(more) = self.stream.try_next()
                    {
                        self.push(&more, &mut part);
                    }
                }
            }
        }
    }

    fn push(&self, next: &Next, part: &mut Vec<u8>) {
        match next {
            Next::Lost(lost) => {
                part.extend_from_slice(format!("event: lost\ndata: {{\"lost\":{lost}}}\n\n").as_bytes())
            }
            Next::Told(batch, from) => {
                for told in batch.from(*from).filter(|told| self.names.contains(&told.name)) {
                    let is_about = self.aor.as_ref().is_none_or(|aor| told.is_about(aor));
                    if is_about && self.when.as_ref().is_none_or(|when| told.is_so(when)) {
                        part.extend_from_slice(told.frame);
                    }
                }
            }
        }
    }
}
