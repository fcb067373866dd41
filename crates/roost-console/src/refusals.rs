//! Who was refused in the last hour, by reason: counted from the events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const KEPT: Duration = Duration::from_secs(3_600);
/// Extensions that are named of one reason.
const NAMED: usize = 20;
/// Reasons that are kept apart.
const REASONS: usize = 200;
/// Minutes that are counted.
const MINUTES: usize = 60;

#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<String, OfReason>>);

#[derive(Debug)]
struct OfReason {
    code: u64,
    reason: String,
    /// By minute, the newest last.
    minutes: VecDeque<u64>,
    current: Instant,
    /// The last extensions.
    aors: VecDeque<String>,
}

impl OfReason {
    fn turn(&mut self, now: Instant) {
        while now >= self.current + KEPT / MINUTES as u32 {
            self.current += KEPT / MINUTES as u32;
            self.minutes.push_back(0);
            if self.minutes.len() > MINUTES {
                self.minutes.pop_front();
            }
        }
    }

    fn all(&self) -> u64 {
        self.minutes.iter().sum()
    }
}

impl Refusals {
    /// Takes an event of a refusal.
    pub(crate) fn count(&self, event: &Value) {
        let Some(word) = event["word"].as_str() else { return };
        let now = Instant::now();
        let mut all = self.all();
        if !all.contains_key(word) && all.len() >= REASONS {
            return;
        }
        let of = all.entry(word.to_string()).or_insert_with(|| OfReason {
            code: event["code"].as_u64().unwrap_or(0),
            reason: event["reason"].as_str().unwrap_or_default().to_string(),
            minutes: VecDeque::from([0]),
            current: now,
            aors: VecDeque::new(),
        });
        of.turn(now);
        if let Some(last) = of.minutes.back_mut() {
            *last += 1;
        }
        if let Some(aor) = event["aor"].as_str().filter(|aor| !aor.is_empty()) {
            of.aors.retain(|known| known != aor);
            of.aors.push_front(aor.to_string());
            of.aors.truncate(NAMED);
        }
    }

    /// The reasons, the most frequent first: `word`, `reason`, `code`, `count`, `aors`.
    pub(crate) fn shown(&self) -> Vec<Value> {
        let now = Instant::now();
        let mut all = self.all();
        all.values_mut().for_each(|of| of.turn(now));
        all.retain(|_, of| of.all() > 0);
        let mut shown: Vec<(u64, Value)> = all
            .iter()
            .map(|(word, of)| {
                let (count, reason) = (of.all(), &of.reason);
                (
                    count,
                    json!({ "word": word, "reason": reason, "code": of.code, "count": count, "aors": of.aors }),
                )
            })
            .collect();
        shown.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        shown.into_iter().map(|(_, one)| one).collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, OfReason>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_reason() {
        let refusals = Refusals::default();
        for aor in ["9001", "9002", "9001"] {
            refusals.count(
                &json!({ "word": "wrong-password", "reason": "wrong password", "code": 403, "aor": aor }),
            );
        }
        refusals
            .count(&json!({ "word": "unknown-user", "reason": "unknown user", "code": 404, "aor": "9009" }));
        let shown = refusals.shown();
        assert_eq!(
            shown[0],
            json!({ "word": "wrong-password", "reason": "wrong password", "code": 403, "count": 3, "aors": ["9001", "9002"] })
        );
        assert_eq!(shown.len(), 2);
    }
}
