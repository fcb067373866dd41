//! `why`: why an extension is offline, why a call failed, what is wrong now.

mod call;
mod extension;
mod now;

use std::time::{Duration, SystemTime};

use roost_recorder::Language;
use serde_json::Value;

use crate::Mi;
use crate::ask::stored_aor;
use crate::rpc::{Params, RpcError};

pub(crate) use now::headline;

/// What it takes.
pub(crate) const PARAMS: &[&str] = &["aor", "other", "callid", "since", "lang"];
/// What is longer ago is not wrong now, in milliseconds.
const LATELY_MS: u64 = 600_000;
/// How long events are on their way from a worker to the recorder.
const ON_ITS_WAY: Duration = Duration::from_millis(60);

/// `why [AOR [OTHER]] [callid] [since] [lang]`; `since`, in milliseconds of unix time: what is older is not told; `lang`: `zh` for
/// verdicts in Chinese.
pub(crate) async fn why(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let recorder = mi.recorder.as_ref();
    let recorder =
        recorder.ok_or_else(|| RpcError::new(404, "nothing is recorded: `memory` in [recorder] is 0"))?;
    // What has just happened is on its way to the recorder.
    tokio::time::sleep(ON_ITS_WAY).await;
    let language = language(params)?;
    let now_ms = extension::unix_ms(SystemTime::now());
    if let Some(call_id) = params.filled_text("callid")? {
        return call::of_id(mi, recorder, &call_id, (now_ms, language)).await;
    }
    let since_ms = params.number("since")?.map(|since_ms| since_ms.max(0) as u64);
    let Some(aor) = params.filled_text("aor")? else {
        let lately_ms = since_ms.unwrap_or(now_ms.saturating_sub(LATELY_MS));
        return now::system(mi, recorder, (now_ms, language), lately_ms).await;
    };
    let aor = normal(mi, &aor)?;
    match params.filled_text("other")? {
        Some(other) => call::between(mi, recorder, &aor, &normal(mi, &other)?, (now_ms, language)).await,
        None => extension::extension(mi, recorder, &aor, (now_ms, language), since_ms.unwrap_or(0)).await,
    }
}

/// What the answer is wanted in.
pub(crate) fn language(params: &Params<'_>) -> Result<Language, RpcError> {
    Ok(Language::of(&params.filled_text("lang")?.unwrap_or_default()))
}

/// As tables have it.
pub(crate) fn normal(mi: &Mi, aor: &str) -> Result<String, RpcError> {
    let aor = aor.trim_start_matches("sip:");
    let missing = || {
        RpcError::new(400, "Domain missing in AOR").because(format!(
            "with use_domain an extension is {aor}@DOMAIN; `roost ul dump --brief` and `roost user list` show them"
        ))
    };
    stored_aor(mi, aor).map(str::to_string).ok_or_else(missing)
}
