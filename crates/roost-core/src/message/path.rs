//! Path (RFC 3327): the proxies that a phone's REGISTER came through, and that requests to its contact go through.
//!
//! A path is one text, the values of all Path header fields joined by commas, in memory and in the column `path` as
//! OpenSIPS writes it. As it stands it is the Route of what goes to the contact.

use roost_sip::{ContactValue, HeaderName, Scheme, Uri, contacts, list};

use crate::base::limits;
use crate::message::request::{Request, joined};
use crate::message::route::route_uri;

/// `Path: …` as the request has it, in one header field.
pub(crate) fn write_path(request: &Request<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Path: ");
    out.extend_from_slice(&joined(request, HeaderName::Path));
    out.extend_from_slice(b"\r\n");
}

/// Whether a text can be kept and sent as Route: SIP URIs in brackets, the first of a loose router (RFC 3327 section 4
/// wants `;lr` of all, OpenSIPS of the first), on one line, as long as its column at most.
pub(crate) fn is_path(text: &[u8]) -> bool {
    let is_hop = |hop: &[u8]| hop.contains(&b'<') && hop.contains(&b'>');
    let is_sip = |uri: &Uri<'_>| matches!(uri.scheme, Scheme::Sip | Scheme::Sips);
    text.len() <= limits::MAX_PATH
        && !text.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t')
        && contacts(std::iter::once(text))
            .all(|hop| matches!(hop, Ok(ContactValue::Contact(_, uri)) if is_sip(&uri)))
        && list(text).all(is_hop)
        && first_hop(text).is_some()
}

/// The next hop of what follows a path; `None` when it names no loose router.
pub(crate) fn first_hop(path: &[u8]) -> Option<Uri<'_>> {
    list(path).next().and_then(route_uri).filter(|(_, is_loose)| *is_loose).map(|(uri, _)| uri)
}

/// `Supported: path`
pub(crate) fn knows_path(request: &Request<'_>) -> bool {
    supports(request, b"path")
}

/// Whether the sender has an extension.
pub(crate) fn supports(request: &Request<'_>, extension: &[u8]) -> bool {
    let mut tags = request.head.values(request.bytes, HeaderName::Supported).flat_map(list);
    tags.any(|tag| tag.eq_ignore_ascii_case(extension))
}

/// Whether flows of RFC 5626 work: the phone knows them, and so does the first proxy on its way, if there is one.
pub(crate) fn is_outbound(request: &Request<'_>) -> bool {
    let path = joined(request, HeaderName::Path);
    let edge_knows = list(&path).last().is_none_or(|edge| {
        path.is_empty() || route_uri(edge).is_some_and(|(uri, _)| uri.param(b"ob").is_some())
    });
    supports(request, b"outbound") && edge_knows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_path() {
        let long = |len: usize| format!("<sip:10.0.0.1;lr;x={}>", "x".repeat(len - 20));
        for (text, is_one) in [
            ("<sip:10.0.0.1;lr>", true),
            ("<sip:10.0.0.1:5070;lr;ob>,<sip:10.0.0.2;lr>", true),
            ("\"a, <b>\" <sip:edge@10.0.0.1;lr=on>;x=y , <sip:10.0.0.2>", true),
            ("<sips:[2001:db8::1];lr>", true),
            ("<sip:edge.example.com;lr>", true),
            (long(limits::MAX_PATH).as_str(), true),
            (long(limits::MAX_PATH + 1).as_str(), false),
            ("", false),
            ("*", false),
            ("<sip:10.0.0.1>", false),
            ("<sip:10.0.0.1>;lr", false),
            ("sip:10.0.0.1;lr", false),
            ("<sip:10.0.0.1;lr>,sip:10.0.0.2", false),
            ("<sip:10.0.0.1;lr>,", false),
            (",<sip:10.0.0.1;lr>", false),
            ("<sip:10.0.0.1;lr>,,<sip:10.0.0.2;lr>", false),
            ("<tel:+123;lr>", false),
            ("<sip:10.0.0.1;lr", false),
            ("<sip:10.0.0.1;lr>,<junk>", false),
            ("<sip:10.0.0.1;lr>\r\nVia: x", false),
        ] {
            assert_eq!(is_path(text.as_bytes()), is_one, "{text}");
        }
    }
}
