//! Since when extensions do what they are doing: noted from the events, for the wallboard.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::index::Doing;

/// Extensions that are noted at most.
const MOST: usize = 1_000_000;

/// What each extension was doing last and since when, in seconds of unix time; one that has changed nothing since the
/// events were listened to is not in it.
#[derive(Debug, Default)]
pub(crate) struct Since(Mutex<HashMap<Box<str>, (Doing, u64)>>);

impl Since {
    /// Takes an event of an extension's state.
    pub(crate) fn take(&self, event: &Value) {
        let (Some(aor), Some(state)) = (event["aor"].as_str(), event["state"].as_str()) else { return };
        self.note(aor, Doing::of(state), now_s());
    }

    /// Forgets all: events were lost, and who changed with them is not known.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn note(&self, aor: &str, doing: Doing, now_s: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = all.len() < MOST;
        match all.get_mut(aor) {
            Some(known) if known.0 == doing => {}
            Some(known) => *known = (doing, now_s),
            None if has_room => {
                all.insert(aor.into(), (doing, now_s));
            }
            None => {}
        }
    }

    /// Since when these are doing what they do, each; `None` where that is not known.
    pub(crate) fn of<'a>(&self, rows: impl Iterator<Item = (&'a str, Doing)>) -> Vec<Option<u64>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            |(aor, doing): (&str, Doing)| all.get(aor).filter(|known| known.0 == doing).map(|known| known.1);
        rows.map(known).collect()
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_call_is_no_other_state() {
        let since = Since::default();
        for (doing, at_s) in [(Doing::Free, 10), (Doing::Talking, 20), (Doing::Talking, 30)] {
            since.note("9001", doing, at_s);
        }
        let rows = [("9001", Doing::Talking), ("9001", Doing::Free), ("9002", Doing::Free)];
        assert_eq!(since.of(rows.into_iter()), [Some(20), None, None]);
        since.clear();
        assert_eq!(since.of(rows.into_iter()), [None, None, None]);
    }
}
