//! Messages as a ladder: those that come now, or those of what failed last.

use serde_json::{Value, json};

use crate::ladders::{MOST, NoLadder, Rung, Whose};
use crate::pages::{Asked, wants_messages};
use crate::people::Role;
use crate::shared::Shared;

/// `is_live`, `is_failure`, `may_watch`, its `rungs`, and a `note` where there is something to say: the name of its words and
/// what stands in them. `kept` is what `trace_last` is asked. Messages as they come are for operators, and so are bodies: in
/// them stand keys of calls, texts, and digits that callers have typed.
pub(super) async fn shown(shared: &Shared, asked: &Asked, whose: &Whose, kept: Value) -> Value {
    let may_watch = asked.visitor.may(Role::Operator);
    let note = |name: &str, of: &str| json!({ "name": name, "of": of });
    if wants_messages(asked) {
        // By a person, not by itself.
        let is_opened = !asked.is_stream && asked.query("again") != "yes";
        let (note, rungs) = match shared.ladders.of(whose, is_opened) {
            Ok(shown) => (
                if shown.is_ended { note("ended", "") } else { Value::Null },
                rows(shown.rungs.iter().map(AsRef::as_ref), shown.first_ms, true),
            ),
            Err(NoLadder::TooMany) => (note("full", &MOST.to_string()), Vec::new()),
            Err(NoLadder::Why(why)) => (note("failed", &why), Vec::new()),
        };
        return json!({ "is_live": true, "may_watch": true, "note": note, "rungs": rungs });
    }
    let failure = shared.backend.mi("trace_last", kept).await.ok();
    json!({
        "is_live": false,
        "is_failure": failure.is_some(),
        "may_watch": may_watch,
        "rungs": failure.map(|failure| of_failure(&failure["Messages"], may_watch)).unwrap_or_default(),
    })
}

fn of_failure(messages: &Value, has_bodies: bool) -> Vec<Value> {
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
    rows(rungs.iter(), rungs.first().map_or(0, |rung| rung.at_ms), has_bodies)
}

/// Rungs with the time since the first of all.
fn rows<'r>(rungs: impl Iterator<Item = &'r Rung>, first_ms: i64, has_bodies: bool) -> Vec<Value> {
    rungs.map(|rung| row(rung, first_ms, has_bodies)).collect()
}

/// A rung with its first line; `hidden` is how many bytes of a body are not shown.
fn row(rung: &Rung, first_ms: i64, has_bodies: bool) -> Value {
    let text = rung.text.replace("\r\n", "\n").replace('\r', " ");
    let head = text.split_once("\n\n").map_or(&*text, |(head, _)| head);
    let body = rung.text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let hidden = if has_bodies || rung.is_decision { 0 } else { body.len() };
    json!({
        "number": rung.number,
        "after_ms": rung.at_ms - first_ms,
        "line": text.lines().next().unwrap_or_default(),
        "text": if hidden == 0 { text.trim_end() } else { head },
        "hidden": hidden,
        "is_sent": rung.is_sent,
        "peer": rung.peer,
        "is_decision": rung.is_decision,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_counts_from_its_first_message_and_hides_bodies_from_who_may_only_look() {
        let failure = json!([
            { "At": 1000, "From": "a", "To": "b", "Sent": false, "Message": "INVITE sip:x SIP/2.0\r\nVia: y\r\n\r\na=crypto:1 key\r\n" },
            { "At": 1040, "From": "b", "To": "a", "Sent": true, "Message": "SIP/2.0 403 Forbidden\r\n\r\n" },
        ]);
        let shown = of_failure(&failure, true);
        assert_eq!(
            (&shown[1]["after_ms"], &shown[1]["line"], &shown[1]["peer"]),
            (&json!(40), &json!("SIP/2.0 403 Forbidden"), &json!("a"))
        );
        assert_eq!(shown[0]["text"], "INVITE sip:x SIP/2.0\nVia: y\n\na=crypto:1 key");
        let shown = of_failure(&failure, false);
        assert_eq!(
            (&shown[0]["text"], &shown[0]["hidden"], &shown[1]["hidden"]),
            (&json!("INVITE sip:x SIP/2.0\nVia: y"), &json!(16), &json!(0))
        );
    }
}
