//! What the pages know comes from the management interface and the API, asked within the process: a page shows nothing that they do not say.

use std::borrow::Cow;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
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
        roost_admin::run(&self.mi, method, params).await.map_err(|error| error.why)
    }

    /// The same; nothing where there is nothing to do it to.
    ///
    /// # Errors
    /// For people.
    pub(crate) async fn mi_if_there(&self, method: &str, params: Value) -> Result<(), String> {
        match roost_admin::run(&self.mi, method, params).await {
            Err(error) if error.code != 404 => Err(error.why),
            _ => Ok(()),
        }
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

/// What stands for itself in a path or query (RFC 3986 section 2.3).
const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text as part of a path or query.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, &PLAIN).to_string()
}

/// The text of a part of a path; `None`: it is not UTF-8.
pub(crate) fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned)
}

/// The parameters of a query or a form.
pub(crate) fn form(text: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive_their_encoding() {
        for text in ["9001", "a b&c=d%", "分机 +1", "sip:9001@10.0.0.1;x=\"y\""] {
            assert_eq!(decoded(&encoded(text)).as_deref(), Some(text));
        }
        assert_eq!((decoded("%ff"), decoded("%zz").as_deref()), (None, Some("%zz")));
        assert_eq!(
            form("q=a+b&x=%26&y"),
            [("q".into(), "a b".into()), ("x".into(), "&".into()), ("y".into(), String::new())]
        );
    }
}
