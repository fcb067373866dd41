//! The last hour: a few figures, each some seconds.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::backend::Backend;
use crate::chart;

/// How often figures are taken, and how many are kept: an hour of them.
const EVERY: Duration = Duration::from_secs(10);
const KEPT: usize = 360;

/// What is measured: a name, the statistics that are summed, and whether their growth a second counts.
const MEASURED: &[(&str, &[&str], bool)] = &[
    ("registered", &["usrloc:registered_users"], false),
    ("calls", &["dialog:active_dialogs", "dialog:early_dialogs"], false),
    ("requests", &["core:rcv_requests"], true),
    ("refused", &["sl:4xx_replies", "sl:5xx_replies", "sl:6xx_replies"], true),
    ("load", &["load:load"], false),
];

/// Challenges are answers with 401 and 407: no refusals.
const CHALLENGES: &str = "roost:challenges";

#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Samples>);

#[derive(Debug, Default)]
struct Samples {
    /// By what is measured; what is missing was not measured.
    points: Vec<VecDeque<Option<f64>>>,
    /// The sums before, of what counts by its growth.
    before: Vec<Option<f64>>,
}

impl History {
    /// Takes figures for ever.
    pub(crate) async fn sample(&self, backend: &Backend) {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            ticks.tick().await;
            self.take(backend).await;
        }
    }

    async fn take(&self, backend: &Backend) {
        let names: Vec<&str> =
            MEASURED.iter().flat_map(|(_, names, _)| names.iter().copied()).chain([CHALLENGES]).collect();
        let values = backend.statistics(&names).await;
        let mut samples = self.samples();
        samples.points.resize_with(MEASURED.len(), || VecDeque::from(vec![None; KEPT]));
        samples.before.resize(MEASURED.len(), None);
        for (index, (name, names, is_growth)) in MEASURED.iter().enumerate() {
            let known: Option<Vec<f64>> = names.iter().map(|name| values[*name].as_f64()).collect();
            let mut sum = known.map(|known| known.iter().sum::<f64>());
            if *name == "refused" {
                sum = sum.map(|sum| (sum - values[CHALLENGES].as_f64().unwrap_or(0.0)).max(0.0));
            }
            let Samples { points, before } = &mut *samples;
            let (Some(points), Some(before)) = (points.get_mut(index), before.get_mut(index)) else {
                continue;
            };
            let point = match (is_growth, sum, *before) {
                (false, sum, _) => sum,
                (true, Some(sum), Some(before)) => Some((sum - before).max(0.0) / EVERY.as_secs_f64()),
                (true, ..) => None,
            };
            *before = sum;
            points.pop_front();
            points.push_back(point);
        }
    }

    /// A chart of each, by name: `svg`, `last`.
    pub(crate) fn charts(&self, label: impl Fn(&str) -> String) -> Value {
        let samples = self.samples();
        let chart = |(index, (name, ..)): (usize, &(&str, &[&str], bool))| {
            let values: Vec<Option<f64>> = samples
                .points
                .get(index)
                .map_or_else(|| vec![None; KEPT], |points| points.iter().copied().collect());
            let last = values.last().copied().flatten();
            let most = values.iter().flatten().copied().reduce(f64::max);
            let label = label(name);
            let [last, most] = [last, most].map(|value| value.map_or("–".to_string(), chart::number));
            json!({ "name": name, "label": label, "svg": chart::line(&values, &label), "last": last, "most": most })
        };
        MEASURED.iter().enumerate().map(chart).collect()
    }

    fn samples(&self) -> MutexGuard<'_, Samples> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
