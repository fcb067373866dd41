//! The commands about traces: `trace_start`, `trace_stop`, `trace`.

use roost_hep::{Collector, Filter};
use serde_json::{Value, json};

use crate::Mi;
use crate::rpc::{Params, RpcError};
use crate::why::normal;

/// `trace_start ID URI [FILTER…]`: a collector is sent what fits the filter until it is stopped, or its connection ends.
pub(crate) fn start(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let (id, uri) = (params.text("id")?, params.text("uri")?);
    let parts: Vec<String> = match params.get("filter") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_string).collect(),
        Some(_) => vec![params.text("filter")?],
    };
    let filter = Filter::parse(parts.iter().map(String::as_str))
        .map_err(|error| RpcError::bad_value(error.to_string()))?;
    let collector = Collector::parse(&id, &uri).map_err(|error| RpcError::bad_value(error.to_string()))?;
    let is_wanted = |name: &str| Ok::<_, RpcError>(params.number(name)?.is_some_and(|number| number != 0));
    let (wants_decisions, shows_secrets) = (is_wanted("decisions")?, is_wanted("secrets")?);
    if shows_secrets && !collector.is_here() {
        return Err(RpcError::bad_value("credentials are shown on this machine only: to a loopback address"));
    }
    let collector = Collector { is_temporary: true, wants_decisions, shows_secrets, ..collector };
    mi.tracer.add(collector, filter).map_err(|error| RpcError::bad_value(error.to_string()))?;
    Ok(json!("OK"))
}

/// `trace_stop ID`.
pub(crate) fn stop(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    match mi.tracer.remove(&params.text("id")?) {
        true => Ok(json!("OK")),
        false => Err(RpcError::new(404, "Trace not found")),
    }
}

/// `trace_last [AOR] [callid]`: the messages of what failed last.
pub(crate) fn last(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let not_found = |why: &str| RpcError::new(404, "Trace not found").because(why);
    let recorder = mi.recorder.as_ref();
    let recorder = recorder.ok_or_else(|| not_found("nothing is recorded: `memory` in [recorder] is 0"))?;
    let aor = params.filled_text("aor")?.map(|aor| normal(mi, &aor)).transpose()?;
    let call_id = params.filled_text("callid")?;
    let bytes = |text: &Option<String>| text.as_ref().map(|text| text.as_bytes().to_vec());
    let (aor, call_id) = (bytes(&aor), bytes(&call_id));
    let failure = recorder.failure(aor.as_deref(), call_id.as_deref());
    let failure =
        failure.ok_or_else(|| not_found("nothing of it has failed since the start, or it is long ago"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let messages: Vec<_> = failure
        .messages
        .iter()
        .map(|message| {
            json!({
                "At": message.at_ms, "From": message.source.to_string(), "To": message.destination.to_string(),
                "Transport": message.transport.as_str(), "Sent": message.is_sent, "Message": text(&message.bytes),
            })
        })
        .collect();
    Ok(json!({ "AOR": text(&failure.aor), "Call-ID": text(&failure.call_id), "Messages": messages }))
}

/// `trace [ID [on|off]]`: all collectors, one of them, or whether one is sent anything.
pub(crate) fn list(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let (id, mode) = (params.optional_text("id")?, params.optional_text("mode")?);
    if let (Some(id), Some(mode)) = (&id, &mode) {
        let is_on = match mode.as_str() {
            "on" => true,
            "off" => false,
            _ => return Err(RpcError::new(400, "the mode is on or off")),
        };
        return match mi.tracer.switch(id, is_on) {
            true => Ok(json!("OK")),
            false => Err(RpcError::new(404, "Trace not found")),
        };
    }
    let all = mi.tracer.list().into_iter().filter(|shown| id.as_ref().is_none_or(|id| *id == shown.id));
    let shown: Vec<_> = all
        .map(|one| {
            let state = if one.is_on { "on" } else { "off" };
            json!({
                "name": one.id, "uri": one.uri, "state": state, "filter": one.filter, "sent": one.sent, "lost": one.lost
            })
        })
        .collect();
    match shown.is_empty() && id.is_some() {
        true => Err(RpcError::new(404, "Trace not found")),
        false => Ok(json!({ "Traces": shown })),
    }
}
