//! Pages that change while one looks: their content as server-sent events, at most once a second, and only when it is another.

use std::collections::hash_map::DefaultHasher;
use std::convert::Infallible;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::backend::form;
use crate::guard::Visitor;
use crate::pages::{Asked, content, is_live};
use crate::places::Place;
use crate::shared::Shared;

/// How often a page is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How long a browser may not read.
const PATIENCE: Duration = Duration::from_secs(30);

/// `/live?page=PATH`: the content of a page whenever it changes. It ends with the session that may read it.
pub(crate) async fn stream(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = form(&query.unwrap_or_default());
    let page = query.iter().find(|(name, _)| name == "page").map_or("", |(_, value)| value.as_str());
    let from = visitor.from;
    let asked = Asked::of(page, &headers, visitor).into_stream();
    if !page.starts_with('/') || !is_live(&asked) {
        return (StatusCode::BAD_REQUEST, "page=PATH of a page that changes\n").into_response();
    }
    let is_known = asked.visitor.session.is_some();
    let places = if is_known { &shared.watching } else { &shared.strangers_watching };
    let Some(place) = places.take(from) else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are watched\n").into_response();
    };
    let (sender, receiver) = mpsc::channel::<Result<Event, Infallible>>(1);
    tokio::spawn(watch(shared, asked, sender, place));
    Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default()).into_response()
}

async fn watch(
    shared: Arc<Shared>,
    asked: Asked,
    sender: mpsc::Sender<Result<Event, Infallible>>,
    _place: Place,
) {
    let mut shown = 0;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = sender.closed() => return,
            _ = ticks.tick() => {}
        }
        // Who was logged in when it began is seen as that no longer than the session lasts.
        let is_over = |token: &str| !shared.lasts(token);
        if asked.visitor.token.as_deref().is_some_and(is_over) {
            return;
        }
        let Ok(page) = content(&shared, &asked).await else { return };
        let mut hasher = DefaultHasher::new();
        page.html.hash(&mut hasher);
        if std::mem::replace(&mut shown, hasher.finish()) != shown
            && sender.send_timeout(Ok(Event::default().data(page.html)), PATIENCE).await.is_err()
        {
            return;
        }
    }
}
