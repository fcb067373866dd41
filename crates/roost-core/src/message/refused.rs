//! Word of a request that roost refuses, for those who listen.

use roost_sip::Method;

use crate::base::aor::UserHost;
use crate::contract::call::AorText;
use crate::contract::context::Ctx;
use crate::contract::event::{Event, EventKind};
use crate::message::request::Request;
use crate::message::response::Response;

/// Counts a refusal by its reason, and tells of it; a response without a reason is none.
pub(crate) fn tell_refused(ctx: &mut Ctx<'_>, request: &Request<'_>, response: &Response) {
    let Some(reason) = response.reason else { return };
    ctx.stats.count_refusal(reason);
    let code = response.code;
    match response.is_challenge() {
        true => ctx.out.tell(EventKind::Challenge, || {
            let UserHost { user, host } = request.asker();
            let (user, host) = (AorText::from_slice(user.text), AorText::from_slice(host));
            let is_register = request.method == Method::Register;
            Event::Challenged { user, host, source: request.flow.remote, reason, is_register }
        }),
        false => ctx.out.tell(EventKind::Refusal(reason), || Event::Refused {
            asked: request.asked(),
            code,
            reason,
        }),
    }
}
