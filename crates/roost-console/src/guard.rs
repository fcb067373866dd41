//! What is checked of every request before anything else: whose page it comes from, who asks, and what every answer says to browsers.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};

use crate::From;
use crate::people::Role;
use crate::sessions::Session;
use crate::shared::Shared;

/// What a page may load and who may show it: nothing but our own, and nobody else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      media-src 'self' blob:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub(crate) session: Option<Session>,
    pub(crate) token: Option<String>,
    pub(crate) from: IpAddr,
}

impl Visitor {
    pub(crate) fn may(&self, role: Role) -> bool {
        self.session.as_ref().is_some_and(|session| session.who.role >= role)
    }

    /// The name, and the address.
    pub(crate) fn who(&self) -> (&str, IpAddr) {
        (self.session.as_ref().map_or("", |session| session.who.name.as_str()), self.from)
    }

    /// To a page that says what was done, and what of it is not as it should be.
    pub(crate) fn led_to(&self, shared: &Shared, (page, said): (&str, &str), but: Option<&str>) -> Response {
        let sign = if page.contains('?') { '&' } else { '?' };
        let to = format!("{page}{sign}said={said}");
        for (token, but) in self.token.iter().zip(but) {
            shared.sessions.fail(token, &to, but);
        }
        Redirect::to(&to).into_response()
    }
}

/// Lets a request on, or says why not.
pub(crate) async fn pass(
    State(shared): State<Arc<Shared>>,
    axum::extract::ConnectInfo(peer): From,
    mut request: Request,
    next: Next,
) -> Response {
    let mut response = match checked(&shared, peer.remote.ip().to_canonical(), &request) {
        Ok(visitor) => {
            request.extensions_mut().insert(visitor);
            next.run(request).await
        }
        Err(refusal) => *refusal,
    };
    dress(response.headers_mut());
    response
}

fn checked(shared: &Shared, from: IpAddr, request: &Request) -> Result<Visitor, Box<Response>> {
    let refuse = |why: &'static str| Box::new((StatusCode::FORBIDDEN, why).into_response());
    let headers = request.headers();
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let host = text(header::HOST).unwrap_or("");
    if !roost_admin::is_own_host(host, (!shared.is_local()).then_some(&shared.settings.hosts)) {
        return Err(refuse("the Host is no address of this server and no name that `domains` has\n"));
    }
    let scheme = if shared.settings.certificates.is_some() { "https" } else { "http" };
    let is_own_page = |origin: &str| origin.eq_ignore_ascii_case(&format!("{scheme}://{host}"));
    let is_foreign = text(header::ORIGIN).is_some_and(|origin| !is_own_page(origin));
    let is_cross =
        headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site");
    let changes = request.method() != Method::GET && request.method() != Method::HEAD;
    let (is_socket, path) = (headers.contains_key(header::UPGRADE), request.uri().path());
    // A link from elsewhere may lead here; nothing else of another site's may.
    let is_visit = headers.get("sec-fetch-mode").is_none_or(|mode| mode == "navigate") && path != "/live";
    if is_foreign || (is_cross && (changes || is_socket || !is_visit)) {
        return Err(refuse("another site's page may not ask here\n"));
    }
    let token = cookie(headers, &shared.cookie).map(str::to_string);
    let session = token.as_deref().and_then(|token| shared.session(token));
    let visitor = Visitor { token: token.filter(|_| session.is_some()), session, from };
    let is_open = path == "/login" || path == "/settings" || path.starts_with("/assets/");
    // Behind a proxy on this machine there may be anybody.
    let is_passed_on =
        ["forwarded", "x-forwarded-for", "x-real-ip", "via"].iter().any(|name| headers.contains_key(*name));
    let may_read = (shared.is_local() && !is_passed_on) || visitor.session.is_some();
    if is_open || may_read {
        return Ok(visitor);
    }
    Err(Box::new(match request.method() == Method::GET && !is_socket && path != "/live" {
        true => Redirect::to("/login").into_response(),
        false => (StatusCode::UNAUTHORIZED, "log in first\n").into_response(),
    }))
}

/// What every answer says to browsers.
fn dress(headers: &mut HeaderMap) {
    // A browser that may name no referrer names no Origin with a form either.
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(self)"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// A cookie's value.
pub(crate) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(own, _)| *own == name).map(|(_, value)| value)
}
