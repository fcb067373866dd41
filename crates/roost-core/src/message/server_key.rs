//! What a server transaction is found by (RFC 3261 17.2.3).

use crate::message::branch_id::COOKIE;
use crate::message::request::Request;

/// Writes what a retransmission of a request repeats: its branch and sent-by, or what RFC 2543 peers repeat. `method` is
/// INVITE for an ACK or a CANCEL of one.
pub(crate) fn server_key(request: &Request<'_>, method: &[u8], key: &mut Vec<u8>) {
    key.clear();
    let mut put = |part: &[u8]| {
        key.extend_from_slice(part);
        key.push(0);
    };
    put(method);
    match request.via.branch.filter(|branch| branch.len() > COOKIE.len() && branch.starts_with(COOKIE)) {
        Some(branch) => {
            put(branch);
            put(&request.flow.transport.port_or_default(request.via.port).to_be_bytes());
            key.extend(request.via.host.iter().map(u8::to_ascii_lowercase));
        }
        None => {
            put(request.uri);
            put(request.sender_tag().unwrap_or(&[]));
            put(request.call_id().unwrap_or(&[]));
            put(&request.cseq().map_or(0, |cseq| cseq.number).to_be_bytes());
            put(request.via_line.value.of(request.bytes));
        }
    }
}
