//! Log lines about requests: DEBUG, one for the request and one for its answer. Never a password or a response.

use roost_sip::{Head, HeaderName, NameAddr, Uri};
use tracing::{Level, debug, enabled};

use crate::base::flow::Flow;
use crate::message::request::Request;
use crate::message::response::Response;

/// One line per request with the fields of the original script.
pub(crate) fn request(request: &Request<'_>) {
    if !enabled!(Level::DEBUG) {
        return;
    }
    let (from, to, target) = (request.uri_of_from(), request.uri_of_to(), request.target.as_ref().ok());
    let user = |uri: Option<&Uri<'_>>| text(uri.and_then(|uri| uri.user));
    let host = |uri: Option<&Uri<'_>>| text(Some(uri.map_or(&[][..], |uri| uri.host)));
    debug!(
        rm = text(Some(request.method_name)),
        fU = user(from),
        tU = user(to),
        ci = text(request.call_id()),
        si = %request.flow.remote.ip(),
        sp = request.flow.remote.port(),
        rd = host(target),
        rU = user(target),
        tu = shown(to.copied()),
        fd = host(from),
        ct = contact(request),
        "receive message"
    );
}

/// One line per response of our own: what was wrong, in words.
pub(crate) fn response(request: &Request<'_>, response: &Response) {
    if !enabled!(Level::DEBUG) {
        return;
    }
    debug!(
        rm = text(Some(request.method_name)),
        ci = text(request.call_id()),
        tU = text(request.to().map(|to| to.user.text)),
        si = %request.flow.remote.ip(),
        sp = request.flow.remote.port(),
        code = response.code,
        reason = response.phrase.as_str(),
        why = response.why(),
        "answer"
    );
}

/// One line per branch that a request is sent to.
pub(crate) fn branch(request: &Request<'_>, uri: &[u8], flow: &Flow) {
    if enabled!(Level::DEBUG) {
        debug!(ci = text(request.call_id()), ru = shown(Uri::parse(uri).ok()), to = %flow, "new branch");
    }
}

/// One line per response that belongs to a call.
pub(crate) fn reply(flow: &Flow, code: u16, head: &Head, bytes: &[u8]) {
    if enabled!(Level::DEBUG) {
        let ci = text(head.value(bytes, HeaderName::CallId));
        debug!(ci, si = %flow.remote.ip(), sp = flow.remote.port(), rs = code, "incoming reply");
    }
}

/// A URI without its password.
fn shown(uri: Option<Uri<'_>>) -> String {
    match uri {
        Some(Uri { password: Some(_), .. }) => "<holds a password>".to_string(),
        other => text(other.map(|uri| uri.text)),
    }
}

fn contact(request: &Request<'_>) -> String {
    let contact = request.value(HeaderName::Contact).and_then(|value| NameAddr::parse(value).ok());
    let uri = contact.and_then(|contact| contact.uri().ok());
    match uri {
        Some(uri) => shown(Some(uri)),
        None => text(request.value(HeaderName::Contact).filter(|value| *value == b"*")),
    }
}

/// Text for a log line: what is not printable is escaped, what is long is cut.
fn text(bytes: Option<&[u8]>) -> String {
    const LONGEST: usize = 200;
    let bytes = bytes.unwrap_or(b"<null>");
    bytes.get(..LONGEST).unwrap_or(bytes).escape_ascii().to_string()
}
