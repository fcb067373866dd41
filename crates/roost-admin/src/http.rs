//! HTTP around the JSON-RPC: one path, POST, JSON, loopback.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::Mi;
use crate::commands::{Answer, run};
use crate::rpc::{Call, RpcError};

/// The largest request, in bytes.
const MAX_REQUEST: usize = 64 << 10;

/// Serves `/mi` until `stop` resolves.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    mi: Mi,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/mi", post(handle))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(Arc::new(mi));
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn handle(State(mi): State<Arc<Mi>>, headers: HeaderMap, body: Bytes) -> Response {
    if !is_loopback_host(&headers) {
        let text =
            "the management interface serves this machine only: use a loopback Host, such as 127.0.0.1\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
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
        Ok(Answer::Stream(parts)) => {
            let body = crate::rpc::stream(&id, parts);
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

/// A page of a stranger's that a browser on this machine has open sends its own Host.
fn is_loopback_host(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("");
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
