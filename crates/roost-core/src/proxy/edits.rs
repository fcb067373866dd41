//! How a request is edited on its way (RFC 3261 16.6 and 16.12), and how it is written then.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::base::flow::Flow;
use crate::contract::binding_ref::BindingRef;
use crate::contract::call::CallNumber;
use crate::contract::identity::Identity;
use crate::contract::policy::{Authorize, Policy};
use crate::message::branch_id::BranchId;
use crate::message::dialog_token::{DialogToken, Side, TokenText};
use crate::message::forward::{Edits, IdentityEdit, RecordRoute, Sender, write_request};
use crate::message::request::Request;
use crate::message::route::Routes;
use crate::proxy::authorize::call_realm;
use crate::proxy::diversion::RouteHeaders;
use crate::proxy::target::Target;

use roost_sip::{HeaderName, Method};

/// What becomes of a request's Routes, and whether it gets our Record-Route.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RouteEdits<'a> {
    strip_routes: usize,
    drop_last_route: bool,
    append_route: Option<&'a [u8]>,
    record_route: Recorded<'a>,
    is_sips: bool,
}

/// Whether a request gets our Record-Route, and its mark.
#[derive(Debug, Clone, Copy, Default)]
enum Recorded<'a> {
    #[default]
    No,
    /// It begins a dialog: the mark says who calls from where.
    New(Begun),
    /// It refreshes one: the mark is the one that it came with.
    Again(&'a [u8]),
}

/// Who begins a dialog, and which call it is.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Begun {
    /// The binding that the caller has.
    #[serde(skip)]
    pub(crate) caller: Option<BindingRef>,
    pub(crate) call: Option<CallNumber>,
}

impl<'a> RouteEdits<'a> {
    /// What its Routes ask for.
    pub(crate) fn of(
        policy: &Policy,
        request: &Request<'a>,
        routes: &Routes<'a>,
        begun: Begun,
    ) -> RouteEdits<'a> {
        let is_initial = request.to_tag().is_none();
        // A peer may take the route set of a dialog from what refreshes its target (16.6 step 4).
        let is_refresh = matches!(request.method, Method::Invite | Method::Update)
            && policy.proxy.authorize != Authorize::Off;
        let edits = RouteEdits {
            strip_routes: routes.own,
            drop_last_route: routes.from_strict && !is_initial,
            record_route: match is_initial {
                true if request.method != Method::Message => Recorded::New(begun),
                // Without the mark the call is not known to be ours.
                false if is_refresh => routes.mark.map_or(Recorded::No, Recorded::Again),
                _ => Recorded::No,
            },
            append_route: None,
            is_sips: if is_initial { request.is_sips() } else { routes.is_sips },
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
}

/// What a forwarded request is written from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForwardWriter<'a, 'r> {
    pub(crate) identity: &'a Identity,
    pub(crate) policy: &'a Policy,
    pub(crate) request: &'a Request<'r>,
    pub(crate) edits: &'a RouteEdits<'a>,
    /// What the `[[route]]` changes that leads there.
    pub(crate) route: Option<RouteHeaders<'a>>,
    /// What becomes of the headers that say who the sender is.
    pub(crate) asserted: IdentityEdit<'a>,
}

impl ForwardWriter<'_, '_> {
    /// Appends the request as it goes over `flow` to a target.
    pub(crate) fn write(
        &self,
        target: &Target<Cow<'_, [u8]>>,
        flow: &Flow,
        branch: BranchId,
        bytes: &mut Vec<u8>,
    ) {
        let ForwardWriter { policy, request, edits, asserted, route, .. } = *self;
        let sender = |flow: &Flow| Sender::of(policy, flow);
        let is_open = policy.proxy.authorize == Authorize::Off;
        let mut mark = TokenText::new();
        match edits.record_route {
            Recorded::New(begun) if !is_open => self.write_mark(begun, target.binding, flow, &mut mark),
            Recorded::Again(text) => mark.extend_from_slice(text),
            Recorded::New(_) | Recorded::No => {}
        }
        let record_route = RecordRoute {
            inbound: sender(&request.flow),
            outbound: sender(flow),
            mark: &mark,
            is_sips: edits.is_sips,
            from_tag: request.sender_tag().filter(|_| policy.rr.append_fromtag),
        };
        // An ACK repeats the INVITE's credentials, and a registered caller may send some that no one asked for: who
        // reads them could call in the caller's name while the nonce lives.
        let has_credentials = request.head.line(HeaderName::ProxyAuthorization).is_some();
        let own_realm = (has_credentials && !is_open).then(|| call_realm(policy, request));
        let mut added = Vec::new();
        if let Some(route) = &route {
            route.write(request, &target.uri, &mut added);
        }
        let edits = Edits {
            uri: &target.uri,
            via: sender(flow),
            branch,
            record_route: (!matches!(edits.record_route, Recorded::No)).then_some(record_route),
            strip_routes: edits.strip_routes,
            drop_last_route: edits.drop_last_route,
            append_route: edits.append_route,
            path: &target.path,
            own_realm: own_realm.as_deref(),
            identity: asserted,
            removed: route.map_or(&[], |route| route.removed()),
            added: &added,
        };
        write_request(request, &edits, bytes);
    }

    /// Where both sides of a new dialog are: by their bindings, else where the request came from and goes to.
    fn write_mark(
        &self,
        Begun { caller, call }: Begun,
        callee: Option<BindingRef>,
        flow: &Flow,
        mark: &mut TokenText,
    ) {
        let ForwardWriter { identity, policy, request, .. } = *self;
        let side = |binding: Option<BindingRef>, flow: &Flow| match binding {
            Some(binding) => Side::of_binding(identity, binding),
            None => Side::of_flow(&policy.listeners, flow),
        };
        let token = DialogToken::new(request, call, side(caller, &request.flow), side(callee, flow));
        // What goes over a floating address goes on at the node that takes it over.
        let floats = |flow: &Flow| {
            let mut all = policy.listeners.iter();
            all.any(|one| one.is_floating && one.transport == flow.transport && one.covers(flow.local))
        };
        let shared = identity.floating_keys().first().filter(|_| floats(&request.flow) || floats(flow));
        token.write(shared.unwrap_or(&identity.mac_key), request.call_id().unwrap_or(&[]), mark);
    }
}
