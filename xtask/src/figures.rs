//! Medians of roost-bench's results, and the table of them.

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde_json::{Map, Value};

/// A column: its title, where its figure is in a result, and how many decimals it is shown with.
struct Column {
    title: &'static str,
    pointer: &'static str,
    decimals: usize,
    /// Whether the smallest and the largest value are shown, too.
    has_range: bool,
}

const fn column(title: &'static str, pointer: &'static str, decimals: usize, has_range: bool) -> Column {
    Column { title, pointer, decimals, has_range }
}

impl Column {
    /// Its name in JSON, such as `process.cpu_us_per_op`.
    fn key(&self) -> String {
        self.pointer[1..].replace('/', ".")
    }
}

const COLUMNS: [Column; 14] = [
    column("ok", "/ok", 0, false),
    column("refused", "/failed", 0, false),
    column("timed out", "/timed_out", 0, false),
    column("ops/s", "/ops_per_s", 0, false),
    column("CPU µs/op", "/process/cpu_us_per_op", 1, true),
    column("of it user", "/process/user_us_per_op", 1, false),
    column("database CPU µs/op", "/database/cpu_us_per_op", 1, true),
    column("batch", "/batches/mean", 1, false),
    column("largest", "/batches/largest", 0, false),
    column("p50 µs", "/latency_us/p50", 0, false),
    column("p99 µs", "/latency_us/p99", 0, false),
    column("bytes/binding", "/process/bytes_per_binding", 0, false),
    column("echo µs/pair", "/echo/cpu_us_per_pair", 2, false),
    column("CPU/op over echoes", "/ratio", 2, true),
];

/// One object for each scenario and subject, in the order in which they come first: the median, the smallest and the
/// largest value of each figure over all its runs.
pub(crate) fn medians(runs: &[Value]) -> Vec<Value> {
    let key = |run: &Value| (run["scenario"].clone(), run["subject"].clone());
    let mut keys: Vec<(Value, Value)> = Vec::new();
    for run in runs {
        if !keys.contains(&key(run)) {
            keys.push(key(run));
        }
    }
    let rows = keys.into_iter().map(|wanted| {
        let of_key: Vec<&Value> = runs.iter().filter(|run| key(run) == wanted).collect();
        let mut row = Map::new();
        row.insert("scenario".into(), wanted.0);
        row.insert("subject".into(), wanted.1);
        row.insert("runs".into(), of_key.len().into());
        for column in &COLUMNS {
            let mut values: Vec<f64> =
                of_key.iter().filter_map(|run| run.pointer(column.pointer)?.as_f64()).collect();
            values.sort_by(f64::total_cmp);
            row.insert(column.key(), spread(&values));
        }
        Value::Object(row)
    });
    rows.collect()
}

/// Median, smallest and largest of sorted values; null of none.
fn spread(values: &[f64]) -> Value {
    let (Some(min), Some(max)) = (values.first(), values.last()) else { return Value::Null };
    let median = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
    serde_json::json!({ "median": median, "min": min, "max": max })
}

/// The medians as a table.
pub(crate) fn table(medians: &[Value]) -> String {
    let mut table = Table::new();
    let titles = ["scenario", "server"].into_iter().chain(COLUMNS.iter().map(|column| column.title));
    table.load_style(presets::NOTHING).set_header(titles);
    for row in medians {
        let name = |key: &str| Cell::new(row[key].as_str().unwrap_or_default());
        let figures = COLUMNS
            .iter()
            .map(|column| Cell::new(figure(&row[column.key()], column)).set_alignment(CellAlignment::Right));
        table.add_row([name("scenario"), name("subject")].into_iter().chain(figures));
    }
    table.trim_fmt()
}

fn figure(spread: &Value, column: &Column) -> String {
    let part = |name: &str| spread[name].as_f64().map(|value| format!("{value:.*}", column.decimals));
    match (part("median"), part("min"), part("max")) {
        (Some(median), Some(min), Some(max)) if column.has_range && min != max => {
            format!("{median} ({min}-{max})")
        }
        (Some(median), ..) => median,
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn medians_of_each_scenario_and_subject() {
        let run =
            |subject: &str, ratio: f64| json!({ "scenario": "register", "subject": subject, "ratio": ratio });
        let runs = [run("a", 3.0), run("b", 9.0), run("a", 1.0), run("a", 2.5)];
        let medians = medians(&runs);
        assert_eq!(medians.len(), 2);
        assert_eq!((&medians[0]["subject"], &medians[0]["runs"]), (&json!("a"), &json!(3)));
        assert_eq!(medians[0]["ratio"], json!({ "median": 2.5, "min": 1.0, "max": 3.0 }));
        assert_eq!(medians[0]["latency_us.p50"], Value::Null);
        let table = table(&medians);
        assert!(table.contains("2.50 (1.00-3.00)"), "{table}");
        assert!(table.contains("9.00") && !table.contains("9.00 ("), "{table}");
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_ones() {
        assert_eq!(spread(&[1.0, 2.0, 4.0, 9.0])["median"], 3.0);
        assert_eq!(spread(&[]), Value::Null);
    }
}
