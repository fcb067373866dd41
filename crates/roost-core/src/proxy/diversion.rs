//! Calls that do not reach an extension and go another way (`[[route]]` with `on`): once each, and not again where they have
//! been diverted from that extension before.

use std::borrow::Cow;

use roost_sip::{Method, NameAddr, Uri, list};

use crate::contract::context::Ctx;
use crate::contract::next_hops::{NextHops, RuleId};
use crate::contract::reason::Reason;
use crate::contract::rule::{DiversionStyle, Failure};
use crate::dispatch::monitor::HopMonitor;
use crate::message::facts::MessageFacts;
use crate::message::request::Request;
use crate::proxy::by_rule::targets_of;
use crate::proxy::target::{RouteTaken, Targets};

/// Values of Diversion and History-Info that are looked at.
const MAX_VALUES: usize = 20;

/// The rule that takes a call that does not reach its extension.
pub(crate) fn rule_on(
    ctx: &mut Ctx<'_>,
    next_hops: &NextHops,
    request: &Request<'_>,
    failure: Failure,
) -> Option<RuleId> {
    let uri = request.target.ok()?;
    let user = uri.user_part().plain();
    let rule = next_hops.rule_on(failure, (&user, uri.host), &MessageFacts::of(request))?;
    if is_diverted_from(request, &user) {
        ctx.decide("route.on", || {
            format!("{} {}, but the call was diverted from there before", utf8(&user), failure.words())
        });
        return None;
    }
    Some(rule)
}

/// Where a call goes that does not reach its extension, if any rule takes it.
pub(crate) fn diverted<'t>(
    ctx: &mut Ctx<'_>,
    hops: &mut HopMonitor,
    request: &Request<'_>,
    failure: Failure,
) -> Option<Result<Targets<'t>, Reason>> {
    if request.method != Method::Invite {
        return None;
    }
    let next_hops = std::sync::Arc::clone(hops.next_hops());
    let rule = rule_on(ctx, &next_hops, request, failure)?;
    Some(targets_of(ctx, hops, request, (rule, Some(failure))))
}

/// How long an extension rings before its call goes another way, in seconds; 0: as long as any.
pub(crate) fn ring_s(ctx: &mut Ctx<'_>, next_hops: &NextHops, request: &Request<'_>) -> u32 {
    let rule = rule_on(ctx, next_hops, request, Failure::NoAnswer);
    let after_s = rule.and_then(|rule| next_hops.rule(rule)).map_or(0, |rule| rule.after_s);
    if after_s > 0 {
        ctx.decide("route.after", || format!("it rings for {after_s} s at most"));
    }
    after_s
}

/// Whether a request says that it was diverted from this user before (RFC 5806, RFC 7044).
fn is_diverted_from(request: &Request<'_>, user: &[u8]) -> bool {
    // A target's own entry says where it is, not where it was.
    let entries = history(request).count().saturating_sub(1);
    let former = history(request).take(entries);
    let names_user = |value: &[u8]| {
        let addr = NameAddr::parse(value).ok();
        let uri = addr.and_then(|addr| addr.uri().ok());
        uri.is_some_and(|uri| *uri.user_part().plain() == *user)
    };
    diversions(request).chain(former).any(names_user)
}

fn diversions<'a>(request: &Request<'a>) -> impl Iterator<Item = &'a [u8]> {
    request.head.others(request.bytes, b"diversion").flat_map(list).take(MAX_VALUES)
}

fn history<'a>(request: &Request<'a>) -> impl Iterator<Item = &'a [u8]> {
    request.head.others(request.bytes, b"history-info").flat_map(list).take(MAX_VALUES)
}

/// What a rule changes in the headers of a request that it sends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RouteHeaders<'a> {
    pub(crate) next_hops: &'a NextHops,
    pub(crate) taken: RouteTaken,
}

impl<'a> RouteHeaders<'a> {
    /// Names of header fields that it loses.
    pub(crate) fn removed(&self) -> &'a [Box<str>] {
        self.next_hops.rule(self.taken.rule).map_or(&[], |rule| &rule.headers.remove)
    }

    /// Appends what it gets: the rule's own lines, and whose call it was.
    pub(crate) fn write(&self, request: &Request<'_>, uri: &[u8], out: &mut Vec<u8>) {
        let Some(rule) = self.next_hops.rule(self.taken.rule) else { return };
        out.extend_from_slice(rule.headers.add.as_bytes());
        let (Some(failure), Ok(from)) = (self.taken.failure, &request.target) else { return };
        match rule.diversion {
            DiversionStyle::Off => {}
            DiversionStyle::Diversion => write_diversion(from, failure, out),
            DiversionStyle::HistoryInfo => write_history(request, from, uri, failure, out),
        }
    }
}

/// The newest Diversion stands first (RFC 5806 section 5.1): this is written before those that were received.
fn write_diversion(from: &Uri<'_>, failure: Failure, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Diversion: ");
    write_bare(from, out);
    out.extend_from_slice(b";reason=");
    out.extend_from_slice(failure.diversion_reason().as_bytes());
    out.extend_from_slice(b";counter=1\r\n");
}

/// The entry of who was called, where no proxy has made it, and the one of who is called now (RFC 7044 section 10).
fn write_history(request: &Request<'_>, from: &Uri<'_>, to: &[u8], failure: Failure, out: &mut Vec<u8>) {
    let last = history(request).last().and_then(|value| {
        let index = NameAddr::parse(value).ok()?.params.get(b"index")?;
        let is_index = index.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
        (is_index && !index.is_empty() && index.len() < 64).then(|| utf8(index).into_owned())
    });
    out.extend_from_slice(b"History-Info: ");
    let index = last.unwrap_or_else(|| {
        out.extend_from_slice(b"<sip:");
        out.extend_from_slice(from.user.unwrap_or(&[]));
        out.push(b'@');
        out.extend_from_slice(from.host);
        out.extend_from_slice(format!("?Reason=SIP%3Bcause%3D{}>;index=1, ", failure.cause()).as_bytes());
        "1".to_string()
    });
    out.push(b'<');
    out.extend_from_slice(to);
    out.extend_from_slice(format!(">;index={index}.1;mp={index}\r\n").as_bytes());
}

/// Whose URI it is, without what else it says.
fn write_bare(uri: &Uri<'_>, out: &mut Vec<u8>) {
    let user = uri.user_part();
    for part in [b"<sip:", user.text, b"@", uri.host, b">"] {
        out.extend_from_slice(part);
    }
}

fn utf8(text: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(text)
}
