//! Messages of ours that could not be sent: a response looks for another way (RFC 3261 18.2.2), a request's client
//! transaction has failed.

use std::net::SocketAddr;

use roost_sip::{Head, HeaderName, StartLine, Via};

use crate::base::flow::Flow;
use crate::contract::context::Ctx;
use crate::contract::listener::flow_to;
use crate::message::branch_id::BranchId;

/// Sends a response another way, if its connection is gone and there is one; of a request the branch whose client
/// transaction has failed.
pub(crate) fn handle_unsent(
    ctx: &mut Ctx<'_>,
    flow: &Flow,
    message: &[u8],
    is_gone: bool,
) -> Option<BranchId> {
    ctx.with_head(message, |ctx, head| {
        let via = head.value(message, HeaderName::Via).and_then(|value| Via::parse(value).ok())?;
        match head.start_line() {
            StartLine::Response { .. } => {
                if is_gone {
                    send_elsewhere(ctx, flow, message, &via);
                }
                None
            }
            StartLine::Request { name, .. } => {
                // A CANCEL has its INVITE's branch, which nobody will answer now.
                let id = BranchId::parse(via.branch?)?;
                (name.of(message) != b"ACK").then_some(id)
            }
        }
    })?
}

/// To the address that the request came from, whatever the Via says beside its port.
fn send_elsewhere(ctx: &mut Ctx<'_>, flow: &Flow, message: &[u8], via: &Via<'_>) {
    if !flow.is_one_connection() {
        return;
    }
    let port = flow.transport.port_or_default(via.port);
    let remote = SocketAddr::new(flow.remote.ip(), port);
    if let Ok(other) = flow_to(&ctx.policy.listeners, flow.transport, flow.local, remote) {
        ctx.out.send(other, |bytes| bytes.extend_from_slice(message));
    }
}

/// The branch of a response, which leads to its client transaction.
pub(crate) fn branch_of(head: &Head, bytes: &[u8]) -> Option<BranchId> {
    let via = head.value(bytes, HeaderName::Via).and_then(|value| Via::parse(value).ok())?;
    BranchId::parse(via.branch?)
}
