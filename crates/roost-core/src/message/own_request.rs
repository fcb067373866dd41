//! Requests of roost's own.

use crate::base::flow::Flow;
use crate::base::hex::push_hex;
use crate::contract::policy::Policy;
use crate::message::branch_id::BranchId;
use crate::message::forward::Sender;

/// A request outside dialogs without a body: a ping.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnRequest<'a> {
    pub(crate) method: &'a str,
    pub(crate) flow: &'a Flow,
    /// Request-URI and To.
    pub(crate) uri: &'a [u8],
    /// The URI of From.
    pub(crate) from: &'a str,
}

impl OwnRequest<'_> {
    /// Writes it. `call` is 64 bits, another one for each.
    pub(crate) fn write(&self, policy: &Policy, branch: BranchId, call: u64, out: &mut Vec<u8>) {
        let OwnRequest { method, flow, uri, from } = *self;
        write_beginning(policy, method, uri, flow, branch, out);
        push(out, &[b"From: <", from.as_bytes(), b">;tag="]);
        push_hex(&call.to_be_bytes()[..4], out);
        push(out, &[b"\r\nTo: <", uri, b">\r\nCall-ID: "]);
        push_hex(&call.to_be_bytes(), out);
        out.extend_from_slice(b"@");
        Sender::of(policy, flow).write(out);
        push(out, &[b"\r\nCSeq: 1 ", method.as_bytes(), b"\r\n"]);
        if !policy.server_header.is_empty() {
            push(out, &[b"User-Agent: ", policy.server_header.as_bytes(), b"\r\n"]);
        }
        push(out, &[b"Content-Length: 0\r\n\r\n"]);
    }
}

/// The first line of a request of ours, its Via and Max-Forwards.
pub(crate) fn write_beginning(
    policy: &Policy,
    method: &str,
    uri: &[u8],
    flow: &Flow,
    branch: BranchId,
    out: &mut Vec<u8>,
) {
    push(out, &[method.as_bytes(), b" ", uri, b" SIP/2.0\r\nVia: SIP/2.0/"]);
    push(out, &[flow.transport.via_name().as_bytes(), b" "]);
    Sender::of(policy, flow).write(out);
    out.extend_from_slice(b";branch=");
    branch.write(out);
    push(out, &[b";rport\r\nMax-Forwards: 70\r\n"]);
}

/// Appends texts.
pub(crate) fn push(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}
