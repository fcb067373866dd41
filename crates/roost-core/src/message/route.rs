//! Route sets: which Routes are ours, and where a request goes next (RFC 3261 16.4 and 16.12).

use std::net::SocketAddr;

use roost_sip::{HeaderName, Uri, list};
use subtle::ConstantTimeEq;

use crate::Config;
use crate::auth::digest::parse_hex;
use crate::base::flow::Flow;
use crate::base::mac::{Purpose, mac};
use crate::message::request::Request;
use crate::proxy::proxy::route_uri;

/// What the Routes of a request say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Routes<'a> {
    /// How many values at the front are ours.
    pub(crate) own: usize,
    /// Whether one of them carries the dialog's own mark: we wrote it into this very call.
    pub(crate) is_authentic: bool,
    /// The address in the last of those.
    pub(crate) own_last: Option<SocketAddr>,
    /// Whether a value is no Route: another element may read more in it than we do.
    pub(crate) is_malformed: bool,
    /// The first Route that is not ours.
    pub(crate) next: Option<&'a [u8]>,
    /// Whether it takes requests as loose routers do.
    pub(crate) next_is_loose: bool,
    /// A strict router has put us into the Request-URI; the target was its last Route.
    pub(crate) from_strict: bool,
    /// The target, where it is not the Request-URI.
    pub(crate) target: Option<&'a [u8]>,
}

impl<'a> Routes<'a> {
    /// Reads them. `did` is the mark that our Record-Route of this call carries.
    pub(crate) fn of(request: &Request<'a>, config: &Config, did: &[u8; 8]) -> Routes<'a> {
        let values = || request.head.values(request.bytes, HeaderName::Route).flat_map(list);
        let mut routes = Routes::default();
        let count = values().count();
        let mut usable = count;
        // Our Record-Route in the Request-URI: a strict router sent this (16.4).
        let own_uri =
            request.target.ok().filter(|uri| uri.user.is_none() && is_own(uri, request, config, did));
        if let (Some(uri), Some(last)) = (own_uri.filter(|uri| uri.param(b"lr").is_some()), values().last()) {
            routes.from_strict = true;
            routes.is_authentic = has_mark(&uri, did);
            routes.target = route_uri(last).map(|(uri, _)| uri.text);
            usable = count.saturating_sub(1);
        }
        for value in values().take(usable) {
            let Some((uri, is_loose)) = route_uri(value) else {
                routes.is_malformed = true;
                break;
            };
            if routes.next.is_none() && is_own(&uri, request, config, did) {
                routes.own += 1;
                routes.own_last = uri.host_ip().map(|ip| SocketAddr::new(ip, uri.port.unwrap_or(5060)));
                routes.is_authentic |= has_mark(&uri, did);
                continue;
            }
            routes.next = Some(uri.text);
            routes.next_is_loose = is_loose;
            break;
        }
        routes
    }
}

/// The mark of a call's Record-Route: a keyed MAC of its Call-ID (B22).
pub(crate) fn did(config: &Config, request: &Request<'_>) -> [u8; 8] {
    let [did @ .., _, _, _, _, _, _, _, _] =
        mac(&config.mac_key, Purpose::Dialog, &[request.call_id().unwrap_or(&[])]);
    did
}

fn has_mark(uri: &Uri<'_>, did: &[u8; 8]) -> bool {
    let given = uri.param(b"did").filter(|digits| digits.len() == 16).and_then(parse_hex);
    given.is_some_and(|given| bool::from(given.to_be_bytes().ct_eq(did)))
}

/// Whether a URI names us: our mark, the address that the request came to, a listener, or the advertised address.
fn is_own(uri: &Uri<'_>, request: &Request<'_>, config: &Config, did: &[u8; 8]) -> bool {
    if has_mark(uri, did) {
        return true;
    }
    let port = uri.port.unwrap_or(5060);
    let Flow { local, .. } = request.flow;
    if !config.advertised_address.is_empty() {
        let advertised = config.advertised_address.as_bytes();
        let host = uri.host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(uri.host);
        if (host.eq_ignore_ascii_case(advertised) || uri.host.eq_ignore_ascii_case(advertised))
            && port == local.port()
        {
            return true;
        }
    }
    let Some(ip) = uri.host_ip() else { return false };
    let address = SocketAddr::new(ip, port);
    address == local || config.listeners.iter().any(|listening| listening.address == address)
}
