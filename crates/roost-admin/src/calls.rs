//! Calls in progress as operators' tools see them (fields and order of OpenSIPS's `dlg_list`).

use chrono::{DateTime, Local};
use roost_core::{Admin, AdminReply, CallNumber, CallRecord, CallSide, CallText};
use serde_json::{Value, json};

use crate::Mi;
use crate::ask::{self, shards};
use crate::rpc::{Params, RpcError};
use crate::shapes::text;

/// `dlg_list`: all calls, one of a Call-ID, or `counter` of them from the one of place `index` on.
pub(crate) async fn list(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let bad = |name: &str| RpcError::invalid_params(format!("'{name}' must be 0 or more"));
    let whole = |name: &'static str| match params.number(name)? {
        Some(number) => usize::try_from(number).map(Some).map_err(|_| bad(name)),
        None => Ok(None),
    };
    let (from, most) = (whole("index")?.unwrap_or(0), whole("counter")?.unwrap_or(usize::MAX));
    let (call_id, tag) = (params.optional_text("callid")?, params.optional_text("from_tag")?);
    let is_wanted = |call: &CallRecord| {
        call_id.as_ref().is_none_or(|wanted| wanted.as_bytes() == call.text(CallText::CallId))
            && tag.as_ref().is_none_or(|wanted| wanted.as_bytes() == call.text(CallText::CallerTag))
    };
    let (mut count, mut shown) = (0, Vec::new());
    for shard in shards(mi) {
        let mut place = Some(0);
        while let Some(at) = place {
            let (calls, next) = ask::calls(mi, shard, at).await?;
            for (_, call) in calls.iter().filter(|(_, call)| is_wanted(call)) {
                if (from..from.saturating_add(most)).contains(&count) {
                    shown.push(dialog(call));
                }
                count += 1;
            }
            place = next;
        }
    }
    if call_id.is_some() && shown.is_empty() {
        return Err(RpcError::new(404, "Dialog not found"));
    }
    Ok(json!({ "count": count, "Dialogs": shown }))
}

/// `dlg_end_dlg`: a BYE to both sides.
pub(crate) async fn end(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let not_found = || RpcError::new(404, "Dialog not found");
    let number = CallNumber::of_id(&params.text("dialog_id")?).ok_or_else(not_found)?;
    match ask::ask(mi, number.home(mi.config().identity.shards), Admin::EndCall(number)).await? {
        AdminReply::Done => Ok(json!("OK")),
        _ => Err(not_found()),
    }
}

fn dialog(call: &CallRecord) -> Value {
    let ((caller, caller_texts), (callee, callee_texts)) = (call.side(true), call.side(false));
    json!({
        "ID": call.number.id(),
        "state": call.state as u8,
        "user_flags": 0,
        "timestart": call.answered_s.unwrap_or(call.begun_s),
        "datestart": date(call.answered_s.unwrap_or(call.begun_s)),
        "timeout": call.until_s.unwrap_or(0),
        "dateout": call.until_s.map_or(String::new(), date),
        "callid": text(call.text(CallText::CallId)),
        "from_uri": text(caller_texts.uri),
        "to_uri": text(callee_texts.uri),
        "caller_tag": text(caller_texts.tag),
        "caller_contact": text(caller_texts.contact),
        "callee_cseq": callee.cseq.to_string(),
        "caller_route_set": text(caller_texts.routes),
        "caller_bind_addr": bound(caller),
        "caller_sdp": "",
        "CALLEES": [{
            "callee_tag": text(callee_texts.tag),
            "callee_contact": text(callee_texts.contact),
            "caller_cseq": caller.cseq.to_string(),
            "callee_route_set": text(callee_texts.routes),
            "callee_bind_addr": bound(callee),
            "callee_sdp": "",
        }],
        "caller_aor": text(call.text(CallText::CallerAor)),
        "callee_aor": text(call.text(CallText::CalleeAor)),
        "begun": call.begun_s,
        "answered": call.answered_s,
    })
}

fn bound(side: &CallSide) -> String {
    side.flow().map_or(String::new(), |flow| format!("{}:{}", flow.transport.as_str(), flow.local))
}

fn date(unix_s: u64) -> String {
    let at = DateTime::from_timestamp(unix_s as i64, 0).unwrap_or_default();
    at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}
