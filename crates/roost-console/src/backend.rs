//! What the pages know comes from the management interface and the API, asked within the process: a page shows nothing that they do not say.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use roost_admin::Mi;
use serde_json::Value;
use tower::ServiceExt as _;

/// The largest answer of the API, in bytes.
const MAX_ANSWER: usize = 16 << 20;

#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) mi: Mi,
    api: Router,
}

impl Backend {
    pub(crate) fn new(mi: Mi) -> Backend {
        Backend { api: roost_admin::api(mi.clone()), mi }
    }

    /// A command's answer.
    ///
    /// # Errors
    /// For people.
    pub(crate) async fn mi(&self, method: &str, params: Value) -> Result<Value, String> {
        roost_admin::run(&self.mi, method, params).await
    }

    /// What stands at a path below `/api/v1/`.
    ///
    /// # Errors
    /// For people.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, String> {
        let request = Request::get(format!("/api/v1/{path}")).body(Body::empty());
        let request = request.map_err(|error| error.to_string())?;
        let response = self.api.clone().oneshot(request).await.map_err(|error| error.to_string())?;
        let is_good = response.status().is_success();
        let bytes = to_bytes(response.into_body(), MAX_ANSWER).await.map_err(|error| error.to_string())?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        match is_good {
            true => Ok(value),
            false => Err(value["error"].as_str().unwrap_or("no answer").to_string()),
        }
    }

    /// Events of these types as they happen, as server-sent events; `None`: there are too many readers.
    pub(crate) async fn events(&self, types: &str) -> Option<Body> {
        let request = Request::get(format!("/api/v1/events?type={types}")).body(Body::empty()).ok()?;
        let response = self.api.clone().oneshot(request).await.ok()?;
        response.status().is_success().then(|| response.into_body())
    }

    /// Values of statistics by name.
    pub(crate) async fn statistics(&self, names: &[&str]) -> Value {
        self.mi("get_statistics", serde_json::json!([names])).await.unwrap_or(Value::Null)
    }
}

/// A text as part of a path or query.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The text behind an encoding; `None`: it is none.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// The parameters of a query or a form.
pub(crate) fn form(text: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Some((decoded(name)?, decoded(value)?))
    };
    text.split('&').filter(|part| !part.is_empty()).filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive_their_encoding() {
        for text in ["9001", "a b&c=d%", "分机 +1", "sip:9001@10.0.0.1;x=\"y\""] {
            assert_eq!(decoded(&encoded(text)).as_deref(), Some(text));
        }
        assert_eq!(decoded("%zz"), None);
        assert_eq!(decoded("%f"), None);
        assert_eq!(
            form("q=a+b&x=%26&y"),
            [("q".into(), "a b".into()), ("x".into(), "&".into()), ("y".into(), String::new())]
        );
    }
}
