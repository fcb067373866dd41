//! Route sets: which Routes are ours, and where a request goes next (RFC 3261 16.4 and 16.12).

use std::net::SocketAddr;

use roost_sip::{HeaderName, NameAddr, Uri, list};
use subtle::ConstantTimeEq;

use crate::base::flow::Flow;
use crate::base::hex::parse_hex;
use crate::base::mac::{Purpose, mac};
use crate::base::transport::Transport;
use crate::contract::policy::Policy;
use crate::message::request::Request;

/// What the Routes of a request say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Routes<'a> {
    /// How many values at the front are ours.
    pub(crate) own: usize,
    /// Whether one of them carries the dialog's own mark: we wrote it into this very call.
    pub(crate) is_authentic: bool,
    /// The address in the last of those.
    pub(crate) own_last: Option<SocketAddr>,
    /// Whether a value is not a Route: another element may read more in it than we do.
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
    /// Reads them. `mark` is what our Record-Route of this call carries, see [`dialog_mark`].
    pub(crate) fn of(request: &Request<'a>, policy: &Policy, mark: &[u8; 8]) -> Routes<'a> {
        let values = || request.head.values(request.bytes, HeaderName::Route).flat_map(list);
        let mut routes = Routes::default();
        let count = values().count();
        let mut usable = count;
        // Our Record-Route in the Request-URI: a strict router sent this (16.4).
        let own_uri =
            request.target.ok().filter(|uri| uri.user.is_none() && is_own(uri, request, policy, mark));
        if let (Some(uri), Some(last)) = (own_uri.filter(|uri| uri.param(b"lr").is_some()), values().last()) {
            routes.from_strict = true;
            routes.is_authentic = has_mark(&uri, mark);
            routes.target = route_uri(last).map(|(uri, _)| uri.text);
            usable = count.saturating_sub(1);
        }
        for value in values().take(usable) {
            let Some((uri, is_loose)) = route_uri(value) else {
                routes.is_malformed = true;
                break;
            };
            if routes.next.is_none() && is_own(&uri, request, policy, mark) {
                routes.own += 1;
                routes.own_last = uri.host_ip().map(|ip| SocketAddr::new(ip, port_of(&uri)));
                routes.is_authentic |= has_mark(&uri, mark);
                continue;
            }
            routes.next = Some(uri.text);
            routes.next_is_loose = is_loose;
            break;
        }
        routes
    }

    /// Whether they end here: there is no other Route, and the target is ourselves.
    pub(crate) fn is_at_end(&self, request: &Request<'_>, policy: &Policy) -> bool {
        let target = Uri::parse(self.target.unwrap_or(request.uri));
        let is_ours = |uri: &Uri<'_>| uri.user.is_none() && is_own(uri, request, policy, &[0; 8]);
        self.next.is_none() && target.as_ref().is_ok_and(is_ours)
    }
}

/// A Route value's URI and whether it is a loose router.
pub(crate) fn route_uri(value: &[u8]) -> Option<(Uri<'_>, bool)> {
    let uri = NameAddr::parse(value).ok()?.uri().ok()?;
    let is_loose = uri.param(b"lr").is_some();
    Some((uri, is_loose))
}

/// The mark of a call's Record-Route: a keyed MAC of its Call-ID. Who shows it was in the call.
pub(crate) fn dialog_mark(mac_key: &[u8; 32], request: &Request<'_>) -> [u8; 8] {
    let [mark @ .., _, _, _, _, _, _, _, _] =
        mac(mac_key, Purpose::Dialog, &[request.call_id().unwrap_or(&[])]);
    mark
}

fn has_mark(uri: &Uri<'_>, mark: &[u8; 8]) -> bool {
    let given = uri.param(b"did").filter(|digits| digits.len() == 16).and_then(parse_hex);
    given.is_some_and(|given| bool::from(given.to_be_bytes().ct_eq(mark)))
}

fn port_of(uri: &Uri<'_>) -> u16 {
    let default = || Transport::of_uri(uri).unwrap_or(Transport::Udp).default_port();
    uri.port.unwrap_or_else(default)
}

/// Whether a URI names us: by the mark, the address that the request came to, a listener, or the advertised address.
fn is_own(uri: &Uri<'_>, request: &Request<'_>, policy: &Policy, mark: &[u8; 8]) -> bool {
    if has_mark(uri, mark) {
        return true;
    }
    let Flow { local, .. } = request.flow;
    if !policy.advertised_address.is_empty() {
        let advertised = policy.advertised_address.as_bytes();
        let host = uri.host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(uri.host);
        if (host.eq_ignore_ascii_case(advertised) || uri.host.eq_ignore_ascii_case(advertised))
            && port_of(uri) == local.port()
        {
            return true;
        }
    }
    let Some(ip) = uri.host_ip() else { return false };
    let listeners = policy.listeners.iter().map(|listener| listener.address);
    let mut same_ip = listeners.chain([local]).filter(|address| address.ip() == ip).peekable();
    same_ip.peek().is_some() && {
        let port = port_of(uri);
        same_ip.any(|address| address.port() == port)
    }
}
