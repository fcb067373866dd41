//! Messages as a ladder: those that come now, or those of what failed last.

use serde_json::{Value, json};

use crate::ladders::{Rung, Whose};
use crate::pages::{Asked, wants_messages};
use crate::shared::Shared;

/// `is_live`, and its rungs; null where nothing has failed. `kept` is what `trace_last` is asked.
///
/// # Errors
/// For people: too many are watched.
pub(super) async fn shown(
    shared: &Shared,
    asked: &Asked,
    whose: &Whose,
    kept: Value,
) -> Result<Value, String> {
    if wants_messages(asked) {
        let rungs = shared.ladders.of(whose)?;
        return Ok(json!({ "is_live": true, "rungs": rows(rungs.iter().map(AsRef::as_ref)) }));
    }
    let failure = shared.backend.mi("trace_last", kept).await;
    Ok(failure.map_or(
        Value::Null,
        |failure| json!({ "is_live": false, "rungs": of_failure(&failure["Messages"]) }),
    ))
}

fn of_failure(messages: &Value) -> Vec<Value> {
    let rung = |(number, one): (u64, &Value)| {
        let is_sent = one["Sent"] == true;
        let text = |name: &str| one[name].as_str().unwrap_or_default().to_string();
        Rung {
            number,
            at_ms: one["At"].as_i64().unwrap_or(0),
            is_sent,
            peer: text(if is_sent { "To" } else { "From" }),
            text: text("Message"),
            is_decision: false,
        }
    };
    let rungs: Vec<Rung> = (0..).zip(messages.as_array().into_iter().flatten()).map(rung).collect();
    rows(rungs.iter())
}

/// Rungs with the time since the first of them.
fn rows<'r>(rungs: impl Iterator<Item = &'r Rung>) -> Vec<Value> {
    let mut rungs = rungs.peekable();
    let first_ms = rungs.peek().map_or(0, |rung| rung.at_ms);
    rungs.map(|rung| row(rung, first_ms)).collect()
}

/// A rung with its first line.
fn row(rung: &Rung, first_ms: i64) -> Value {
    json!({
        "number": rung.number,
        "after_ms": rung.at_ms - first_ms,
        "line": rung.text.lines().next().unwrap_or_default(),
        "text": rung.text.replace("\r\n", "\n").replace('\r', " ").trim_end(),
        "is_sent": rung.is_sent,
        "peer": rung.peer,
        "is_decision": rung.is_decision,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_counts_from_its_first_message() {
        let shown = of_failure(&json!([
            { "At": 1000, "From": "a", "To": "b", "Sent": false, "Message": "REGISTER sip:x SIP/2.0\r\nVia: y\r\n\r\n" },
            { "At": 1040, "From": "b", "To": "a", "Sent": true, "Message": "SIP/2.0 403 Forbidden\r\n\r\n" },
        ]));
        assert_eq!(
            (&shown[1]["after_ms"], &shown[1]["line"], &shown[1]["peer"]),
            (&json!(40), &json!("SIP/2.0 403 Forbidden"), &json!("a"))
        );
    }
}
