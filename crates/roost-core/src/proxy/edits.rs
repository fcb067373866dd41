//! How a request is edited on its way (RFC 3261 16.6 and 16.12), and how it is written then.

use crate::base::flow::Flow;
use crate::contract::context::Ctx;
use crate::contract::identity::Identity;
use crate::contract::policy::{Authorize, Policy};
use crate::message::branch_id::BranchId;
use crate::message::forward::{Edits, RecordRoute, Sender, write_request};
use crate::message::request::Request;
use crate::message::route::{Routes, dialog_mark};
use crate::proxy::authorize::call_realm;

use roost_sip::{HeaderName, Method};

/// What becomes of a request's Routes, and whether it gets our Record-Route.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RouteEdits<'a> {
    strip_routes: usize,
    drop_last_route: bool,
    append_route: Option<&'a [u8]>,
    with_record_route: bool,
}

impl<'a> RouteEdits<'a> {
    /// What its Routes ask for.
    pub(crate) fn of(policy: &Policy, request: &Request<'a>, routes: &Routes<'a>) -> RouteEdits<'a> {
        let is_initial = request.to_tag().is_none();
        // A peer may take the route set of a dialog from what refreshes its target (16.6 step 4).
        let is_refresh = matches!(request.method, Method::Invite | Method::Update)
            && policy.proxy.authorize != Authorize::Off;
        let edits = RouteEdits {
            strip_routes: routes.own,
            drop_last_route: routes.from_strict && !is_initial,
            with_record_route: if is_initial { request.method != Method::Message } else { is_refresh },
            append_route: None,
        };
        match routes.next {
            // A strict router wants itself in the Request-URI, and the target as the last Route (16.6 step 6).
            Some(_) if !routes.next_is_loose => RouteEdits {
                strip_routes: edits.strip_routes + 1,
                append_route: Some(routes.target.filter(|_| !is_initial).unwrap_or(request.uri)),
                ..edits
            },
            _ => edits,
        }
    }

    /// The same from the request alone.
    pub(crate) fn read(ctx: &Ctx<'_>, request: &Request<'a>) -> RouteEdits<'a> {
        let mark = dialog_mark(&ctx.identity.mac_key, request);
        RouteEdits::of(ctx.policy, request, &Routes::of(request, ctx.policy, &mark))
    }
}

/// What a forwarded request is written from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForwardWriter<'a, 'r> {
    pub(crate) identity: &'a Identity,
    pub(crate) policy: &'a Policy,
    pub(crate) request: &'a Request<'r>,
    pub(crate) edits: &'a RouteEdits<'a>,
}

impl ForwardWriter<'_, '_> {
    /// Appends the request as it goes over `flow` to a target: its URI and its path.
    pub(crate) fn write(
        &self,
        (uri, path): (&[u8], &[u8]),
        flow: &Flow,
        branch: BranchId,
        bytes: &mut Vec<u8>,
    ) {
        let ForwardWriter { identity, policy, request, edits } = *self;
        let advertised = policy.advertised_address.as_str();
        let sender = |flow: &Flow| Sender { transport: flow.transport, local: flow.local, advertised };
        let is_open = policy.proxy.authorize == Authorize::Off;
        let record_route = RecordRoute {
            inbound: sender(&request.flow),
            outbound: sender(flow),
            dialog_mark: (!is_open).then(|| dialog_mark(&identity.mac_key, request)),
            from_tag: request.sender_tag().filter(|_| policy.rr.append_fromtag),
        };
        // An ACK repeats the INVITE's credentials, and a registered caller may send some that no one asked for: who
        // reads them could call in the caller's name while the nonce lives.
        let has_credentials = request.head.line(HeaderName::ProxyAuthorization).is_some();
        let own_realm = (has_credentials && !is_open).then(|| call_realm(policy, request));
        let edits = Edits {
            uri,
            via: sender(flow),
            branch,
            record_route: edits.with_record_route.then_some(record_route),
            strip_routes: edits.strip_routes,
            drop_last_route: edits.drop_last_route,
            append_route: edits.append_route,
            path,
            own_realm: own_realm.as_deref(),
        };
        write_request(request, &edits, bytes);
    }
}
