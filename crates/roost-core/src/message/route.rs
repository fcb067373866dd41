//! Route sets: which Routes are ours, and where a request goes next (RFC 3261 16.4 and 16.12).

use std::net::SocketAddr;

use roost_sip::{HeaderName, NameAddr, Scheme, Uri, list};
use subtle::ConstantTimeEq;

use crate::base::hex::parse_hex;
use crate::base::mac::{Purpose, mac};
use crate::base::transport::Transport;
use crate::contract::context::Ctx;
use crate::contract::identity::Identity;
use crate::contract::listener::{Listener, is_local};
use crate::contract::policy::Policy;
use crate::message::dialog_token::DialogToken;
use crate::message::request::Request;

/// What the Routes of a request say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Routes<'a> {
    /// How many values at the front are ours.
    pub(crate) own: usize,
    /// Whether one of them carries the dialog's own mark: we wrote it into this very call.
    pub(crate) is_authentic: bool,
    /// The mark as it came, and what it says where it says something.
    pub(crate) mark: Option<&'a [u8]>,
    pub(crate) token: Option<DialogToken>,
    /// Whether one of them is a `sips` URI: the dialog began with one.
    pub(crate) is_sips: bool,
    /// The transport and, if it names one, the address in the last of those.
    pub(crate) own_last: Option<(Transport, Option<SocketAddr>)>,
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

/// What the Routes of a request are read with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RouteReader<'e, 'r, 'a> {
    pub(crate) identity: &'e Identity,
    pub(crate) policy: &'e Policy,
    pub(crate) request: &'r Request<'a>,
    /// A name that means us in this request, see [`crate::proxy::callee::own_host`].
    pub(crate) own_host: Option<&'a [u8]>,
}

impl<'e, 'r, 'a> RouteReader<'e, 'r, 'a> {
    /// With no name of ours but those that are configured.
    pub(crate) fn of(ctx: &Ctx<'e>, request: &'r Request<'a>) -> Self {
        RouteReader { identity: ctx.identity, policy: ctx.policy, request, own_host: None }
    }

    pub(crate) fn read(&self) -> Routes<'a> {
        let request = self.request;
        let values = || request.head.values(request.bytes, HeaderName::Route).flat_map(list);
        let mut routes = Routes::default();
        let mut usable = usize::MAX;
        // Our Record-Route in the Request-URI: a strict router sent this (16.4).
        let own_uri = request.target.ok().filter(|uri| uri.user.is_none() && uri.param(b"lr").is_some());
        if let (Some(uri), Some(last)) = (own_uri, values().last())
            && self.takes(&uri, &mut routes)
        {
            routes.from_strict = true;
            routes.target = route_uri(last).map(|(uri, _)| uri.text);
            usable = values().count().saturating_sub(1);
        }
        let mut is_second = false;
        for value in values().take(usable) {
            let Some((uri, is_loose)) = route_uri(value) else {
                routes.is_malformed = true;
                break;
            };
            // Where we listen on a wildcard we do not know all addresses that are ours, but we write such pairs.
            let is_pair = uri.param(b"r2").is_some();
            let is_taken = self.takes(&uri, &mut routes) || (is_pair && is_second && self.may_be_own(&uri));
            is_second = is_pair && !is_second;
            if is_taken {
                routes.own += 1;
                routes.is_sips |= uri.scheme == Scheme::Sips;
                let transport = Transport::of_uri(&uri).unwrap_or(Transport::Udp);
                let address = uri.host_ip().map(|ip| SocketAddr::new(ip, port_of(&uri)));
                routes.own_last = Some((transport, address));
                continue;
            }
            routes.next = Some(uri.text);
            routes.next_is_loose = is_loose;
            break;
        }
        routes
    }

    /// Whether the request ends here: there is no other Route, and the target is ourselves.
    pub(crate) fn is_at_end(&self, routes: &Routes<'a>) -> bool {
        let target = Uri::parse(routes.target.unwrap_or(self.request.uri));
        routes.next.is_none() && target.is_ok_and(|uri| uri.user.is_none() && self.is_own(&uri))
    }

    /// Takes a URI that is ours into account; false when it is not.
    fn takes(&self, uri: &Uri<'a>, routes: &mut Routes<'a>) -> bool {
        if let Some(mark) = uri.param(b"did") {
            let call_id = self.request.call_id().unwrap_or(&[]);
            let own = DialogToken::parse(&self.identity.mac_key, call_id, mark);
            let token = own.or_else(|| self.of_floating(uri, call_id, mark));
            if token.is_some() || self.is_old_mark(mark) {
                routes.is_authentic = true;
                routes.mark = Some(mark);
                routes.token = token;
                return true;
            }
        }
        self.is_own(uri)
    }

    /// What another node may have said of a dialog over a floating address, which is here now, or of one at a node that is down.
    fn of_floating(&self, uri: &Uri<'a>, call_id: &[u8], mark: &[u8]) -> Option<DialogToken> {
        let mut keys = self.identity.floating_keys().iter();
        let token = keys.find_map(|key| DialogToken::parse(key, call_id, mark))?;
        let is_of_dead = || {
            let address = uri.host_ip().map(|ip| SocketAddr::new(ip, port_of(uri)));
            address.is_some_and(|address| self.policy.nodes_down.contains(&address))
        };
        (self.is_own(uri) || is_of_dead()).then_some(token)
    }

    /// Sixteen hexadecimal digits, a keyed MAC of the Call-ID: what calls carry that began before there were tokens.
    fn is_old_mark(&self, given: &[u8]) -> bool {
        let Some(given) = Some(given).filter(|digits| digits.len() == 16).and_then(parse_hex) else {
            return false;
        };
        let call_id = self.request.call_id().unwrap_or(&[]);
        let [mark @ .., _, _, _, _, _, _, _, _] = mac(&self.identity.mac_key, Purpose::Dialog, &[call_id]);
        bool::from(given.to_be_bytes().ct_eq(&mark))
    }

    /// Whether we listen on a wildcard that may stand for a URI's address.
    fn may_be_own(&self, uri: &Uri<'_>) -> bool {
        let address = uri.host_ip().map(|ip| SocketAddr::new(ip, port_of(uri)));
        address.is_some_and(|address| is_local(&self.policy.listeners, address))
    }

    /// Whether a URI names us: the address that the request came to, a listener, the advertised address, a name that is
    /// ours.
    pub(crate) fn is_own(&self, uri: &Uri<'_>) -> bool {
        let RouteReader { policy, request, .. } = *self;
        let local = request.flow.local;
        let own = |listener: &Listener| [Some(listener.address), listener.advertised];
        let listeners = || policy.listeners.iter().flat_map(own).flatten().chain([local]);
        let Some(ip) = uri.host_ip() else {
            let listens_at = |port: u16| listeners().any(|address| address.port() == port);
            let is_own_host = self.own_host.is_some_and(|own| uri.host.eq_ignore_ascii_case(own));
            return is_advertised(policy, uri, local)
                || (is_own_host && uri.port.is_none_or(listens_at))
                || policy.domains.iter().any(|domain| domain.is_named_by(uri, listens_at));
        };
        is_advertised(policy, uri, local) || {
            let mut same_ip = listeners().filter(|address| address.ip() == ip).peekable();
            same_ip.peek().is_some() && {
                let port = port_of(uri);
                same_ip.any(|address| address.port() == port)
            }
        }
    }
}

fn is_advertised(policy: &Policy, uri: &Uri<'_>, local: SocketAddr) -> bool {
    if policy.advertised_address.is_empty() {
        return false;
    }
    let advertised = policy.advertised_address.as_bytes();
    let host = uri.host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(uri.host);
    (host.eq_ignore_ascii_case(advertised) || uri.host.eq_ignore_ascii_case(advertised))
        && port_of(uri) == local.port()
}

/// A Route value's URI and whether it is a loose router.
pub(crate) fn route_uri(value: &[u8]) -> Option<(Uri<'_>, bool)> {
    let uri = NameAddr::parse(value).ok()?.uri().ok()?;
    let is_loose = uri.param(b"lr").is_some();
    Some((uri, is_loose))
}

fn port_of(uri: &Uri<'_>) -> u16 {
    let default = || Transport::of_uri(uri).unwrap_or(Transport::Udp).default_port();
    uri.port.unwrap_or_else(default)
}
