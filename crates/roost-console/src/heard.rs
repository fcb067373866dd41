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
            // What has happened meanwhile is not known.
            since.clear();
            let mut parts = body.into_data_stream();
            let mut rest = String::new();
            while let Some(Ok(part)) = parts.next().await {
                rest.push_str(&String::from_utf8_lossy(&part));
                let whole = rest.rfind("\n\n").map_or(0, |end| end + 2);
                rest.drain(..whole).as_str().split("\n\n").filter_map(parsed).for_each(|(name, event)| {
                    match name {
                        REFUSED => refusals.count(&event),
                        AGENT => since.take(&event),
                        LOST => since.clear(),
                        _ => {}
                    }
                });
            }
        }
        tokio::time::sleep(AGAIN).await;
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

    #[test]
    fn a_frame_has_a_name_and_data() {
        let (name, event) = parsed("id: 1\nevent: E_ROOST_REFUSED\ndata: {\"code\":403}").unwrap();
        assert_eq!((name, event["code"].as_u64()), ("E_ROOST_REFUSED", Some(403)));
        assert!(parsed(": still here").is_none());
    }
}
