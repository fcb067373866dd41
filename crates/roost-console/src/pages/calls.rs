//! Calls: in progress, and those that have ended.

use serde_json::{Value, json};

use crate::backend::encoded;
use crate::ladders::Whose;
use crate::pages::{Asked, Failed, Made, ladder};
use crate::shared::Shared;

/// Calls of one page.
const MOST: usize = 500;
const PAGE: usize = 50;

/// What a search asks of the interface: an expression is a filter; all else is turned into a parameter.
fn narrowed(q: &str, plain: impl FnOnce(&str) -> String) -> String {
    match q {
        "" => String::new(),
        q if q.contains(['=', '<', '>', '(', '!']) => format!("&filter={}", encoded(q)),
        q => plain(q),
    }
}

/// Calls whose sides have a text in what the page shows of them.
fn of_either_side(text: &str) -> String {
    // A text of JSON is one of the filter's language, too.
    let text = Value::from(text).to_string();
    let names = ["caller.aor", "caller.uri", "callee.aor", "callee.uri"];
    let parts: Vec<String> = names.iter().map(|name| format!("{name}.contains({text})")).collect();
    format!("&filter={}", encoded(&parts.join(" || ")))
}

pub(crate) async fn now(shared: &Shared, asked: &Asked) -> Result<Made, Failed> {
    let q = asked.query("q").trim();
    let mut path = format!("calls?limit={MOST}");
    path.push_str(&narrowed(q, of_either_side));
    let (calls, error) = match shared.backend.get(&path).await {
        Ok(calls) => (calls, None),
        Err(error) if !q.is_empty() => (Value::Null, Some(error)),
        Err(error) => return Err(error.into()),
    };
    let counts = shared.backend.statistics(&["dialog:active_dialogs", "dialog:early_dialogs"]).await;
    let data = json!({
        "q": q,
        "error": error,
        "calls": calls["items"],
        "is_cut": !calls["next"].is_null(),
        "talking": counts["dialog:active_dialogs"],
        "ringing": counts["dialog:early_dialogs"],
    });
    Ok(Made { template: "calls.html", title: "calls", data })
}

/// The messages of a call: those that come, or those of its failure.
pub(crate) async fn ladder(shared: &Shared, asked: &Asked) -> Result<Made, Failed> {
    let callid = asked.query("callid");
    let whose = Whose::Call(callid.to_string());
    let ladder = ladder::shown(shared, asked, &whose, json!({ "callid": callid })).await;
    let path = format!("/calls/ladder?callid={}", encoded(callid));
    let data = json!({ "callid": callid, "path": path, "ladder": ladder });
    Ok(Made { template: "ladder.html", title: "history", data })
}

pub(crate) async fn history(shared: &Shared, asked: &Asked) -> Result<Made, Failed> {
    let q = asked.query("q").trim();
    let mut path = format!("records?limit={PAGE}");
    for name in ["after", "kind"] {
        if !asked.query(name).is_empty() {
            path.push_str(&format!("&{name}={}", encoded(asked.query(name))));
        }
    }
    path.push_str(&narrowed(q, |aor| format!("&aor={}", encoded(aor))));
    let (records, error) = match shared.backend.get(&path).await {
        Ok(records) => (records, None),
        Err(error) => (Value::Null, Some(error)),
    };
    let data = json!({
        "q": q,
        "kind": asked.query("kind"),
        "error": error,
        "records": records["items"],
        "next": records["next"],
    });
    Ok(Made { template: "history.html", title: "history", data })
}
