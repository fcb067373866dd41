//! How a request is refused without a transaction: a handler's `Err` is the reply.

use roost_sip::Method;

use crate::auth::challenge::Challenger;
use crate::base::stats::{Counter, Timed};
use crate::contract::context::Ctx;
use crate::contract::event::Passed;
use crate::contract::policy::Policy;
use crate::contract::reason::Reason;
use crate::message::refused::tell_refused;
use crate::message::request::Request;
use crate::message::response::Response;
use crate::message::response_writer::ResponseWriter;
use crate::message::trace;
use crate::registrar::Registrar;
use crate::registrar::location::RecordId;
use crate::transaction::server::tell_failure;

/// A response, and what is written into it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) response: Response,
    /// The realm of a challenge; else the REGISTER's.
    pub(crate) realm: Option<Vec<u8>>,
    /// The AOR whose bindings it may list.
    pub(crate) record: Option<RecordId>,
}

impl From<Response> for Refusal {
    fn from(response: Response) -> Refusal {
        Refusal { response, realm: None, record: None }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Refusal {
        Response::from(reason).into()
    }
}

/// Answers with anything but a REGISTER's 200, without a transaction.
pub(crate) fn refuse(ctx: &mut Ctx<'_>, registrar: &Registrar, request: &Request<'_>, refusal: &Refusal) {
    let Refusal { response, realm, record } = refusal;
    trace::response(request, response);
    response.decide(ctx);
    ctx.stats.count_reply(response.code);
    if request.method == Method::Register {
        let what = if response.is_challenge() { Timed::RegisterChallenged } else { Timed::RegisterRefused };
        ctx.time(what, request.since_ms);
    }
    if response.is_challenge() {
        ctx.count(Counter::Challenges);
    }
    tell_refused(ctx, request, response);
    if !response.is_challenge() {
        tell_failure(ctx, request.method, request.call_id(), response.code);
    }
    let policy = ctx.policy;
    let (writer, challenger) = (ResponseWriter::of(ctx), Challenger::of(ctx));
    let realm = realm.as_deref().unwrap_or_else(|| registrar_realm(policy, request).unwrap_or(&[]));
    let only_named = ctx.policy.registrar.only_request_contacts;
    ctx.out.send(request.reply_flow(), |bytes| {
        writer.write_head(request, response.code, response.phrase.as_str(), bytes);
        if response.has_contacts() {
            registrar.write_contacts(writer.now, only_named, request, *record, bytes);
        }
        if response.is_challenge() {
            challenger.write(request, response, realm, bytes);
        }
        writer.write_refusal(request, response, bytes);
        writer.write_tail(bytes);
    });
    if !response.is_challenge() {
        let ago_ms = ctx.now.mono_ms.saturating_sub(request.since_ms);
        ctx.out.tell_answered(|| vec![Passed::received(request.flow, ago_ms, request.bytes)]);
    }
}

/// The realm of a REGISTER: the configured one, else To's host; `None` when To names none.
pub(crate) fn registrar_realm<'t, 'r: 't>(policy: &'t Policy, request: &Request<'r>) -> Option<&'t [u8]> {
    match policy.auth.realm.is_empty() {
        true => request.registrant().map(|to| to.host),
        false => Some(policy.auth.realm.as_bytes()),
    }
}
