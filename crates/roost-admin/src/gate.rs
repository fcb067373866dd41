//! Who may ask: what is checked of every request before anything else.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use ipnet::IpNet;
use subtle::ConstantTimeEq as _;

/// Whom the interface serves.
#[derive(Clone, Default)]
pub struct Gate {
    /// What requests must show; none: only this machine is served.
    pub token: Option<String>,
    /// Names of this machine that browsers may use beside its addresses.
    pub hosts: Vec<String>,
    /// Networks that metrics and health are told to, and datagrams taken from, beside this machine.
    pub allow: Vec<IpNet>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// Lets a request on, or says why not.
pub(crate) async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    match gate.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Lets a request on from an address that may ask, or with a token.
pub(crate) async fn pass_address(
    State(gate): State<Arc<Gate>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let has_no_page = !request.headers().contains_key(header::ORIGIN) && gate.is_named(host);
    if gate.admits_address(from.ip()) && has_no_page {
        return next.run(request).await;
    }
    match gate.check(request.headers()) {
        Ok(()) if gate.token.is_some() => next.run(request).await,
        Ok(()) => {
            let why = "your address is none of `allow` in [mi]\n";
            (StatusCode::FORBIDDEN, PLAIN, why).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

type Refusal = (StatusCode, [(header::HeaderName, &'static str); 1], &'static str);

const PLAIN: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];

impl Gate {
    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or(""));
        let host = text(header::HOST).unwrap_or("");
        if !self.is_own(host) {
            let why = match self.token {
                None => {
                    "the management interface serves this machine only: use a loopback Host, such as 127.0.0.1\n"
                }
                Some(_) => "the Host is no address, and none of `domains`: use one of these\n",
            };
            return Err((StatusCode::FORBIDDEN, PLAIN, why));
        }
        // A page of a stranger's that a browser has open sends its own.
        let is_own_page = |origin: &str| {
            let page = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            page.is_some_and(|page| page.eq_ignore_ascii_case(host))
        };
        if text(header::ORIGIN).is_some_and(|origin| !is_own_page(origin)) {
            return Err((
                StatusCode::FORBIDDEN,
                PLAIN,
                "the Origin is another site: its pages may not ask here\n",
            ));
        }
        let Some(token) = &self.token else { return Ok(()) };
        let shown = text(header::AUTHORIZATION).and_then(|value| value.split_once(' '));
        let is_right = shown.is_some_and(|(scheme, value)| {
            scheme.eq_ignore_ascii_case("Bearer")
                && bool::from(value.trim().as_bytes().ct_eq(token.as_bytes()))
        });
        match is_right {
            true => Ok(()),
            false => {
                let why = "show the token of [mi]: Authorization: Bearer TOKEN\n";
                Err((StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], why))
            }
        }
    }

    /// Whether an address is this machine's, or one of `allow`.
    pub(crate) fn admits_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.allow.iter().any(|network| network.contains(&address))
    }

    /// Whether a Host is an address or a name of ours, and not one that a stranger's page has led here.
    fn is_named(&self, host: &str) -> bool {
        is_own_host(host, Some(&self.hosts))
    }

    fn is_own(&self, host: &str) -> bool {
        is_own_host(host, self.token.is_some().then_some(&self.hosts))
    }
}

/// Whether a Host means this machine: a name of a stranger's may lead to any address, an address to nothing else. `names` count
/// beside addresses; `None`: this machine alone is served, under loopback addresses.
pub fn is_own_host(host: &str, names: Option<&Vec<String>>) -> bool {
    let name = name_of(host);
    match name.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || names.is_some(),
        Err(_) => {
            let is_name = |own: &String| own.eq_ignore_ascii_case(name);
            name.eq_ignore_ascii_case("localhost") || names.is_some_and(|names| names.iter().any(is_name))
        }
    }
}

/// A Host without its port.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(gate: &Gate, headers: &[(header::HeaderName, &'static str)]) -> u16 {
        let map = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        gate.check(&map).err().map_or(200, |(status, ..)| status.as_u16())
    }

    #[test]
    fn without_a_token_only_this_machine_is_served() {
        let gate = Gate { hosts: vec!["pbx.test".to_string()], ..Gate::default() };
        for (host, expected) in [
            ("127.0.0.1:8888", 200),
            ("localhost", 200),
            ("[::1]:8888", 200),
            ("10.0.0.1", 403),
            ("pbx.test", 403),
            ("localhost.evil.test", 403),
            ("", 403),
        ] {
            assert_eq!(status(&gate, &[(header::HOST, host)]), expected, "{host}");
        }
        assert_eq!(status(&gate, &[]), 403);
        for (origin, expected) in [
            ("http://127.0.0.1:8888", 200),
            ("https://127.0.0.1:8888", 200),
            ("http://evil.test", 403),
            ("http://127.0.0.1", 403),
            ("null", 403),
        ] {
            let headers = [(header::HOST, "127.0.0.1:8888"), (header::ORIGIN, origin)];
            assert_eq!(status(&gate, &headers), expected, "{origin}");
        }
    }

    #[test]
    fn with_a_token_everybody_who_shows_it_is() {
        let gate = Gate {
            token: Some("0123456789abcdef".to_string()),
            hosts: vec!["pbx.test".to_string()],
            ..Gate::default()
        };
        let right = (header::AUTHORIZATION, "bearer 0123456789abcdef");
        for host in ["127.0.0.1", "10.0.0.1:8888", "PBX.test"] {
            assert_eq!(status(&gate, &[(header::HOST, host), right.clone()]), 200, "{host}");
            assert_eq!(status(&gate, &[(header::HOST, host)]), 401, "{host}");
        }
        assert_eq!(status(&gate, &[(header::HOST, "evil.test"), right]), 403);
        for wrong in ["Bearer 0123456789abcdeF", "Basic 0123456789abcdef", "Bearer", ""] {
            let headers = [(header::HOST, "127.0.0.1"), (header::AUTHORIZATION, wrong)];
            assert_eq!(status(&gate, &headers), 401, "{wrong}");
        }
    }

    #[test]
    fn metrics_are_told_to_this_machine_and_to_allow() {
        let gate = Gate { allow: vec!["10.1.0.0/16".parse().unwrap()], ..Gate::default() };
        for (address, expected) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(gate.admits_address(address.parse().unwrap()), expected, "{address}");
        }
        let gate = Gate { hosts: vec!["pbx.test".to_string()], ..gate };
        for (host, expected) in [
            ("10.1.0.1:8888", true),
            ("[::1]:8888", true),
            ("localhost", true),
            ("PBX.test:1", true),
            ("evil.test", false),
        ] {
            assert_eq!(gate.is_named(host), expected, "{host}");
        }
    }
}
