//! Events as they happen, for what is counted while nobody looks.

use std::time::Duration;

use serde_json::Value;
use tokio_stream::StreamExt as _;

use crate::backend::Backend;
use crate::refusals::Refusals;
use crate::since::Since;

const REFUSED: &str = "E_ROOST_REFUSED";
const AGENT: &str = "E_ROOST_AGENT_STATE";
/// Says that some were too many.
const LOST: &str = "lost";
/// How long after the stream has ended it is asked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// Listens for ever.
pub(crate) async fn listen(backend: &Backend, refusals: &Refusals, since: &Since) {
    loop {
        if let Some(body) = backend.events(&format!("{REFUSED},{AGENT}")).await {
            let mut parts = body.into_data_stream();
            let mut rest = String::new();
            while let Some(Ok(part)) = parts.next().await {
                rest.push_str(&String::from_utf8_lossy(&part));
                let whole = rest.rfind("\n\n").map_or(0, |end| end + 2);
                let frames = rest.drain(..whole);
                let events = frames.as_str().split("\n\n").filter_map(parsed);
                events.for_each(|(name, event)| take(name, &event, refusals, since));
            }
            // What happens until it is heard again is not known.
            since.clear();
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn take(name: &str, event: &Value, refusals: &Refusals, since: &Since) {
    match name {
        REFUSED => refusals.count(event),
        AGENT => since.take(event),
        LOST => since.clear(),
        _ => {}
    }
}

/// The name of an event and what it says.
fn parsed(frame: &str) -> Option<(&str, Value)> {
    let line = |front: &str| frame.lines().find_map(|line| line.strip_prefix(front));
    let (name, data) = (line("event: ")?, line("data: ")?);
    Some((name, serde_json::from_str(data).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Doing;

    #[test]
    fn a_frame_has_a_name_and_data() {
        let (name, event) = parsed("id: 1\nevent: E_ROOST_REFUSED\ndata: {\"code\":403}").unwrap();
        assert_eq!((name, event["code"].as_u64()), ("E_ROOST_REFUSED", Some(403)));
        assert!(parsed(": still here").is_none());
    }

    #[test]
    fn what_was_lost_may_have_changed_anybody() {
        let (refusals, since) = (Refusals::default(), Since::default());
        let is_known = |since: &Since| since.of([("9001", Doing::Talking)].into_iter())[0].is_some();
        take(AGENT, &serde_json::json!({ "aor": "9001", "state": "INUSE" }), &refusals, &since);
        assert!(is_known(&since));
        let (name, event) = parsed("event: lost\ndata: {\"lost\":3}").unwrap();
        take(name, &event, &refusals, &since);
        assert!(!is_known(&since));
    }
}
