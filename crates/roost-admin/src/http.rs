//! HTTP: the JSON-RPC at one path, the API, metrics and health beside it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use roost_recorder::Language;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::Mi;
use crate::commands::{Answer, run};
use crate::dump::json_parts;
use crate::gate::{pass, pass_address};
use crate::health;
use crate::rpc::{Call, RpcError};
use crate::statistics;

/// The largest request, in bytes.
const MAX_REQUEST: usize = 64 << 10;

/// Serves `/mi` and `/api/v1` until `stop` resolves.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    mi: Mi,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let gate = Arc::new(mi.gate.clone());
    let router = Router::new()
        .route("/mi", post(handle))
        .route("/mi/", post(handle))
        .merge(crate::api::router())
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .layer(from_fn_with_state(Arc::clone(&gate), pass));
    // For these the address suffices: a Prometheus or a balancer shows no token.
    let open = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .layer(from_fn_with_state(gate, pass_address));
    let router = router.merge(open).with_state(Arc::new(mi));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}

async fn metrics(State(mi): State<Arc<Mi>>) -> Response {
    match statistics::metrics(&mi).await {
        Ok(text) => ([(header::CONTENT_TYPE, statistics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", error.message)).into_response(),
    }
}

async fn ready(State(mi): State<Arc<Mi>>) -> Response {
    match health::why_not_ready(&mi).await {
        None => "ready\n".into_response(),
        Some(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", why.words(Language::English))).into_response()
        }
    }
}

async fn handle(State(mi): State<Arc<Mi>>, headers: HeaderMap, body: Bytes) -> Response {
    if !is_json(&headers) {
        let text = "send Content-Type: application/json\n";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
    }
    if body.is_empty() {
        return (StatusCode::BAD_REQUEST, "empty request\n").into_response();
    }
    let call = match Call::parse(&body) {
        Ok(call) => call,
        Err(refusal) => {
            let (id, error) = *refusal;
            return reply(id, Err(error));
        }
    };
    let answer = run(&mi, &call).await;
    let Some(id) = call.id else { return StatusCode::ACCEPTED.into_response() };
    match answer {
        Ok(Answer::Value(value)) => reply(id, Ok(value)),
        Ok(Answer::Aors(aors)) => {
            let parts = ReceiverStream::new(json_parts(&id, aors));
            let body = parts.map(Ok::<_, std::convert::Infallible>);
            ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response()
        }
        Err(error) => reply(id, Err(error)),
    }
}

fn reply(id: Value, result: Result<Value, RpcError>) -> Response {
    let body = match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "result": result, "id": id }),
        Err(error) => json!({ "jsonrpc": "2.0", "error": error.to_json(), "id": id }),
    };
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
