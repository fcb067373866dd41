//! Where one branch of a request goes.

use std::borrow::Cow;
use std::net::SocketAddr;

use roost_sip::{Scheme, Uri};
use smallvec::SmallVec;

use serde::{Deserialize, Serialize};

use crate::base::flow::{Flow, Ticket};
use crate::base::transport::Transport;
use crate::contract::binding_ref::BindingRef;
use crate::contract::hop_uri::Name;
use crate::contract::listener::{Listener, flow_to};
use crate::contract::next_hops::{HopId, RuleId};
use crate::contract::reason::Reason;
use crate::contract::rule::Failure;
use crate::registrar::binding::{Binding, Origin};
use crate::transaction::Transactions;
use crate::transaction::arena::Stored;

/// Targets of one request, in the order in which they are tried; most have one.
pub(crate) type Targets<'a> = SmallVec<[Target<Cow<'a, [u8]>>; 1]>;

/// A target; its texts are a request's, a binding's, or kept with a transaction.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Target<T> {
    pub(crate) uri: T,
    /// Route values that lead there (RFC 3327); mostly empty.
    pub(crate) path: T,
    pub(crate) next_hop: NextHop,
    pub(crate) q: Option<u16>,
    /// The `[[route]]` that leads there, where one does.
    #[serde(skip)]
    pub(crate) route: Option<RouteTaken>,
    /// Whether it is another address of the target before it.
    pub(crate) is_same: bool,
    /// Whether it is another flow of the phone before it (RFC 5626), to be tried when that fails.
    pub(crate) is_other_flow: bool,
    /// The binding that it is, where it is one.
    #[serde(skip)]
    pub(crate) binding: Option<BindingRef>,
    /// Where its REGISTER came from: there it is, should its name lead to ourselves.
    pub(crate) source: Option<Flow>,
}

/// Why a request goes to a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RouteTaken {
    pub(crate) hop: HopId,
    pub(crate) rule: RuleId,
    /// Why it has not reached the extension that it was for, where it was for one.
    pub(crate) failure: Option<Failure>,
}

/// How a target is reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum NextHop {
    Flow(Flow),
    /// By name, from this address of ours unless another one leads there.
    Name(SocketAddr, Box<Name>),
}

impl NextHop {
    /// Whether requests are secret on the way there.
    pub(crate) fn is_secure(&self) -> bool {
        match self {
            NextHop::Flow(flow) => flow.transport.is_secure(),
            NextHop::Name(_, name) => name.transport.is_secure(),
        }
    }

    /// Where a URI leads; an address at once.
    pub(crate) fn of(listeners: &[Listener], uri: &Uri<'_>, local: SocketAddr) -> Result<NextHop, Reason> {
        NextHop::by(listeners, uri, local, None)
    }

    /// The same by this transport, if one is given, whatever the URI says.
    pub(crate) fn by(
        listeners: &[Listener],
        uri: &Uri<'_>,
        local: SocketAddr,
        transport: Option<Transport>,
    ) -> Result<NextHop, Reason> {
        let is_sips = uri.scheme == Scheme::Sips;
        if !is_sips && uri.scheme != Scheme::Sip {
            return Err(Reason::Unresolvable);
        }
        let transport = transport.filter(|transport| !is_sips || transport.is_secure());
        let transport = transport.or_else(|| Transport::of_uri(uri)).ok_or(Reason::NoTransport)?;
        match uri.host_ip() {
            Some(ip) => {
                let remote = SocketAddr::new(ip, transport.port_or_default(uri.port));
                flow_to(listeners, transport, local, remote).map(NextHop::Flow)
            }
            None if uri.host.is_empty() => Err(Reason::Unresolvable),
            None => Ok(NextHop::Name(local, Box::new(Name::new(uri.host, uri.port, transport)))),
        }
    }
}

impl<'a> Target<Cow<'a, [u8]>> {
    /// A URI that is reached so.
    pub(crate) fn new(uri: impl Into<Cow<'a, [u8]>>, next_hop: NextHop) -> Target<Cow<'a, [u8]>> {
        Target {
            uri: uri.into(),
            path: Cow::Borrowed(&[]),
            next_hop,
            q: None,
            route: None,
            is_same: false,
            is_other_flow: false,
            binding: None,
            source: None,
        }
    }

    /// A binding that is reached so.
    pub(crate) fn of_binding(
        binding: &'a Binding,
        reference: BindingRef,
        next_hop: NextHop,
    ) -> Target<Cow<'a, [u8]>> {
        let path = Cow::Borrowed(binding.path());
        let source = match binding.origin() {
            Origin::Live(flow) => Some(flow),
            Origin::Loaded { .. } => None,
        };
        let binding_ref = Some(reference);
        Target {
            path,
            q: binding.q,
            binding: binding_ref,
            source,
            ..Target::new(binding.contact(), next_hop)
        }
    }

    /// Kept with a transaction.
    pub(crate) fn store<O>(self, transactions: &mut Transactions<O>, ticket: Ticket) -> Target<Stored> {
        let uri = transactions.store(ticket, &self.uri);
        let path = transactions.store(ticket, &self.path);
        self.with(uri, path)
    }

    /// Kept without one.
    pub(crate) fn into_owned(self) -> Target<Box<[u8]>> {
        let (uri, path) = (Box::from(&*self.uri), Box::from(&*self.path));
        self.with(uri, path)
    }
}

impl Target<Stored> {
    /// Taken up again.
    pub(crate) fn load<O>(
        self,
        transactions: &Transactions<O>,
        ticket: Ticket,
    ) -> Target<Cow<'static, [u8]>> {
        let uri = transactions.text(ticket, self.uri).to_vec();
        let path = transactions.text(ticket, self.path).to_vec();
        self.with(Cow::Owned(uri), Cow::Owned(path))
    }
}

impl Target<Box<[u8]>> {
    /// Taken up again.
    pub(crate) fn borrowed(&self) -> Target<Cow<'_, [u8]>> {
        let Target { next_hop, q, route, is_same, is_other_flow, binding, source, .. } = self.clone();
        let (uri, path) = (Cow::Borrowed(&*self.uri), Cow::Borrowed(&*self.path));
        Target { uri, path, next_hop, q, route, is_same, is_other_flow, binding, source }
    }
}

impl<T> Target<T> {
    fn with<U>(self, uri: U, path: U) -> Target<U> {
        let Target { next_hop, q, route, is_same, is_other_flow, binding, source, .. } = self;
        Target { uri, path, next_hop, q, route, is_same, is_other_flow, binding, source }
    }
}
