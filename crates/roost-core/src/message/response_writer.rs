//! How responses of roost's own are written: slices of the request and a few headers; nothing is re-serialised.

use roost_sip::HeaderName;

use crate::base::flow::Now;
use crate::base::hex::push_hex;
use crate::base::text::push_number;
use crate::contract::context::{Ctx, ResponseTexts};
use crate::contract::identity::Identity;
use crate::contract::policy::{PathMode, Policy};
use crate::contract::reason::Kind;
use crate::message::path::write_path;
use crate::message::request::Request;
use crate::message::response::Response;
use crate::message::via::write_via;

/// What all responses share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResponseWriter<'a> {
    identity: &'a Identity,
    pub(crate) policy: &'a Policy,
    texts: &'a ResponseTexts,
    pub(crate) now: Now,
}

impl<'a> ResponseWriter<'a> {
    pub(crate) fn of(ctx: &Ctx<'a>) -> ResponseWriter<'a> {
        ResponseWriter { identity: ctx.identity, policy: ctx.policy, texts: ctx.responses, now: ctx.now }
    }

    /// Status line, Via, From, To with our tag, Call-ID and CSeq in the request's order.
    pub(crate) fn write_head(&self, request: &Request<'_>, code: u16, phrase: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"SIP/2.0 ");
        push_number(u64::from(code), out);
        out.push(b' ');
        out.extend_from_slice(phrase.as_bytes());
        out.extend_from_slice(b"\r\n");
        self.write_copied_headers(request, true, out);
    }

    fn write_copied_headers(&self, request: &Request<'_>, with_tag: bool, out: &mut Vec<u8>) {
        let mut is_first_via = true;
        for line in request.head.lines() {
            match line.name {
                HeaderName::Via if is_first_via => {
                    is_first_via = false;
                    write_via(request, out);
                }
                HeaderName::To => {
                    let to = request.bytes.get(line.whole.start()..line.value.end()).unwrap_or(&[]);
                    out.extend_from_slice(to);
                    if with_tag && request.to_tag().is_none() {
                        out.extend_from_slice(b";tag=");
                        push_hex(request.mac(&self.identity.mac_key).get(..8).unwrap_or(&[]), out);
                    }
                    out.extend_from_slice(b"\r\n");
                }
                HeaderName::Via | HeaderName::From | HeaderName::CallId | HeaderName::CSeq => {
                    let text = request.bytes.get(line.whole.start()..line.value.end()).unwrap_or(&[]);
                    out.extend_from_slice(text);
                    out.extend_from_slice(b"\r\n");
                }
                _ => {}
            }
        }
    }

    /// Another status than that of a response that is ready, whose copied headers end at `head_end`.
    pub(crate) fn write_instead(
        &self,
        response: &Response,
        ready: &[u8],
        head_end: usize,
        out: &mut Vec<u8>,
    ) {
        let head = ready.get(..head_end).unwrap_or(&[]);
        let copied = memchr::memchr(b'\n', head).map_or(0, |at| at + 1);
        out.extend_from_slice(b"SIP/2.0 ");
        push_number(u64::from(response.code), out);
        out.push(b' ');
        out.extend_from_slice(response.phrase.as_str().as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(head.get(copied..).unwrap_or(&[]));
        write_error(response, out);
        self.write_tail(out);
    }

    /// The 100 of an INVITE; it has no To tag of ours (RFC 3261 8.2.6.2).
    pub(crate) fn write_trying(&self, request: &Request<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"SIP/2.0 100 Giving a try\r\n");
        self.write_copied_headers(request, false, out);
        self.write_tail(out);
    }

    /// Server, Content-Length and the empty line.
    pub(crate) fn write_tail(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.texts.tail);
    }

    /// `Date: …`
    pub(crate) fn write_date(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(&self.texts.date(self.now.unix_s));
        out.extend_from_slice(b"\r\n");
    }

    /// What a refusal says beside its status: Allow, Warning, Unsupported, Path, P-Registrar-Error and Retry-After.
    pub(crate) fn write_refusal(&self, request: &Request<'_>, response: &Response, out: &mut Vec<u8>) {
        match response.kind {
            Kind::Extension => {
                for (index, tag) in request.unsupported(self.knows_path()).enumerate() {
                    out.extend_from_slice(if index == 0 { b"Unsupported: " } else { b", " });
                    out.extend_from_slice(tag);
                }
                out.extend_from_slice(b"\r\n");
            }
            Kind::Methods => out.extend_from_slice(ALLOW),
            Kind::Sips => out.extend_from_slice(b"Warning: 380 roost \"SIPS Not Allowed\"\r\n"),
            Kind::PathExtension => {
                out.extend_from_slice(b"Unsupported: path\r\n");
                write_path(request, out);
            }
            _ => {}
        }
        write_error(response, out);
    }

    /// Whether Path is an extension that is there.
    pub(crate) fn knows_path(&self) -> bool {
        self.policy.registrar.path != PathMode::Ignore
    }
}

/// What may begin something here, or belongs to what has begun.
const ALLOW: &[u8] =
    b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, MESSAGE, INFO, UPDATE, PRACK, REFER, NOTIFY\r\n";

/// P-Registrar-Error and Retry-After, as far as the response has them.
fn write_error(response: &Response, out: &mut Vec<u8>) {
    if matches!(response.kind, Kind::Registrar | Kind::RegistrarWithContacts | Kind::PathExtension) {
        out.extend_from_slice(b"P-Registrar-Error: ");
        out.extend_from_slice(response.why().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if response.retry_after_s > 0 {
        out.extend_from_slice(b"Retry-After: ");
        push_number(u64::from(response.retry_after_s), out);
        out.extend_from_slice(b"\r\n");
    }
}
