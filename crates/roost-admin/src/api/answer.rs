//! How the API answers: JSON with an ETag, errors with words.

use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Read;
use crate::rpc::RpcError;

/// Why a request has no result.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ApiError {
    #[serde(skip)]
    #[schema(ignore)]
    status: u16,
    /// In words for people.
    error: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> ApiError {
        ApiError { status: status.as_u16(), error: error.into() }
    }

    pub(crate) fn bad(error: String) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, error)
    }

    /// In words for people.
    pub(crate) fn text(&self) -> &str {
        &self.error
    }

    pub(crate) fn not_found(error: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, error)
    }
}

impl From<RpcError> for ApiError {
    fn from(error: RpcError) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error.message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self)).into_response()
    }
}

/// Reads the database, where that may take its time.
pub(crate) async fn read<A, F>(read: &Read<A, F>, asked: A) -> Result<F, ApiError>
where
    A: Send + 'static,
    F: Send + 'static,
{
    let read = Arc::clone(read);
    let found = tokio::task::spawn_blocking(move || read(asked)).await;
    let found = found.unwrap_or_else(|_| Err("the database was not read".to_string()));
    found.map_err(|error| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error))
}

/// JSON, or 304 where the reader has the same.
pub(crate) fn json<T: Serialize>(headers: &HeaderMap, value: &T) -> Result<Response, ApiError> {
    let text = serde_json::to_string(value);
    let text = text.map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(tagged(headers, text))
}

/// The same for what is JSON already.
pub(crate) fn tagged(headers: &HeaderMap, text: String) -> Response {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    let tag = format!("\"{:016x}\"", hasher.finish());
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_it = |one: &str| one.trim() == "*" || one.trim().trim_start_matches("W/") == tag;
    let is_known = known.flat_map(|value| value.split(',')).any(is_it);
    let tags = [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, "no-cache")];
    match is_known {
        true => (StatusCode::NOT_MODIFIED, tags).into_response(),
        false => (tags, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
    }
}

/// The parameters of a URL; what is wrong with them is said in JSON.
#[derive(Debug)]
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let asked = Query::from_request_parts(parts, state).await;
        asked.map(|Query(asked)| Asked(asked)).map_err(|error| ApiError::bad(error.body_text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_reader_has_is_not_sent_again() {
        let first = tagged(&HeaderMap::new(), "{}".to_string());
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_string();
        let status = |value: &str, text: &str| {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, value.parse().unwrap())]);
            tagged(&headers, text.to_string()).status().as_u16()
        };
        assert_eq!(first.status(), 200);
        assert_eq!((status(&tag, "{}"), status(&tag, "[]"), status("\"x\"", "{}")), (304, 200, 200));
        assert_eq!((status(&format!("\"x\", W/{tag}"), "{}"), status("*", "{}")), (304, 304));
    }
}
