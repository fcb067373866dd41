//! The topmost Via as it goes back and on.

use roost_sip::Via;

use crate::base::text::{push_ip, push_number};
use crate::message::request::Request;

/// The topmost Via with `received` and `rport` filled in (RFC 3261 18.2.1, RFC 3581 section 4).
pub(crate) fn write_via(request: &Request<'_>, out: &mut Vec<u8>) {
    let (line, via) = (&request.via_line, &request.via);
    let value = line.value.of(request.bytes);
    out.extend_from_slice(request.bytes.get(line.whole.start()..line.value.start()).unwrap_or(&[]));
    let source = request.flow.remote;
    let copy = |from: usize, to: usize, out: &mut Vec<u8>| {
        out.extend_from_slice(value.get(from..to).unwrap_or(&[]));
    };
    copy(0, via.sent_by_end, out);
    if needs_received(via, source.ip()) {
        out.extend_from_slice(b";received=");
        push_ip(source.ip(), out);
    }
    if via.has_rport && via.rport.is_none() {
        push_rport(source.port(), out);
    }
    let mut at = via.sent_by_end;
    let mut edits =
        [via.received.clone().map(|range| (range, false)), via.rport.clone().map(|range| (range, true))];
    edits.sort_by_key(|edit| edit.as_ref().map_or(usize::MAX, |(range, _)| range.start));
    for (range, is_rport) in edits.into_iter().flatten() {
        copy(at, range.start, out);
        if is_rport {
            push_rport(source.port(), out);
        }
        at = range.end;
    }
    copy(at, value.len(), out);
    out.extend_from_slice(b"\r\n");
}

fn push_rport(port: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(b";rport=");
    push_number(u64::from(port), out);
}

fn needs_received(via: &Via<'_>, source: std::net::IpAddr) -> bool {
    via.has_rport || via.host_ip() != Some(source)
}
