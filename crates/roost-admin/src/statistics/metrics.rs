//! Metrics for Prometheus: OpenSIPS's statistics as `opensips_GROUP_NAME`, as its own module prints them, and roost's own.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use roost_core::{Admin, AdminReply, Histogram, HopState, ShardId, Timed};

use crate::Mi;
use crate::ask::ask;
use crate::rpc::RpcError;
use crate::statistics::table::{self, StatisticKind};
use crate::statistics::{Figures, gather};

/// The type of the text: what OpenMetrics would call otherwise has Prometheus's older names.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics, as text.
///
/// # Errors
/// When a shard does not answer.
pub(crate) async fn metrics(mi: &Mi) -> Result<String, RpcError> {
    let figures = gather(mi, |_| true).await?;
    let hops = match ask(mi, ShardId(0), Admin::Hops).await? {
        AdminReply::Hops(hops, _) => hops
            .hops()
            .iter()
            .map(|hop| {
                (
                    [("set", hop.set.to_string()), ("uri", hop.uri.text.to_string())],
                    u64::from(hop.state == HopState::Active),
                )
            })
            .collect(),
        _ => Vec::new(),
    };
    let snapshot = Snapshot {
        figures,
        histograms: (mi.histograms)(),
        hops,
        certificates: certificates(mi),
        server: mi.server.clone(),
        started_s: mi.started.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs(),
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    text::encode(&mut text, &registry).map_err(|_| RpcError::new(500, "Failed to write metrics"))?;
    Ok(text)
}

/// The certificates' names and the days that they are good for.
fn certificates(mi: &Mi) -> Vec<(String, i64)> {
    let list = mi.certificates.as_ref().map(|certificates| (certificates.list)());
    let all = list.as_ref().and_then(serde_json::Value::as_array).into_iter().flatten();
    all.filter_map(|one| Some((one["name"].as_str()?.to_string(), one["days_left"].as_i64()?))).collect()
}

/// What is written.
#[derive(Debug)]
struct Snapshot {
    figures: Figures,
    /// Those of other threads, by their names.
    histograms: Vec<(&'static str, Histogram)>,
    hops: Vec<([(&'static str, String); 2], u64)>,
    certificates: Vec<(String, i64)>,
    server: String,
    started_s: u64,
}

/// A number of a type.
#[derive(Debug)]
struct Number<T>(T, MetricType);

impl EncodeMetric for Number<u64> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        // A counter's own encoding would add `_total` to the names that OpenSIPS has given.
        encoder.encode_gauge(&self.0)
    }

    fn metric_type(&self) -> MetricType {
        self.1
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let encoder = &mut encoder;
        self.values(encoder)?;
        let label = |name: &'static str, value: String| [(name, value)];
        let bindings = self.figures.bindings.iter();
        family(
            encoder,
            (
                "roost_bindings",
                "bindings by the transport that their phones registered over",
                MetricType::Gauge,
            ),
            bindings.map(|(transport, count)| (label("transport", (*transport).to_string()), *count)),
        )?;
        // With their zeros: what begins to be counted at one has no rate.
        let refusals = self.figures.refusals.iter();
        family(
            encoder,
            (
                "roost_refusals_total",
                "answers other than 2xx that roost gave itself, by reason",
                MetricType::Counter,
            ),
            refusals.map(|(reason, count)| (label("reason", reason.word()), *count)),
        )?;
        let drops = self.figures.drops.iter();
        family(
            encoder,
            (
                "roost_drops_total",
                "messages that were neither answered nor sent on, by reason",
                MetricType::Counter,
            ),
            drops.map(|(reason, count)| (label("reason", (*reason).to_string()), *count)),
        )?;
        let ends = self.figures.call_ends.iter();
        family(
            encoder,
            ("roost_calls_ended_total", "calls by how they ended", MetricType::Counter),
            ends.map(|(outcome, count)| (label("outcome", (*outcome).to_string()), *count)),
        )?;
        family(
            encoder,
            (
                "roost_hop_up",
                "1 where a next hop is used, 0 where it is down or taken out",
                MetricType::Gauge,
            ),
            self.hops.iter().cloned(),
        )?;
        let days = self.certificates.iter();
        let help = "days that a certificate is good for; 0 when it is not any more";
        family(
            encoder,
            ("roost_certificate_days_left", help, MetricType::Gauge),
            days.map(|(name, days)| (label("name", name.clone()), (*days).max(0) as u64)),
        )?;
        self.times(encoder)?;
        self.process(encoder)
    }
}

impl Snapshot {
    /// What is told of the process.
    fn process(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let label = |name: &'static str, value: String| [(name, value)];
        for (name, help, number) in [
            ("roost_start_time_seconds", "when roost was started, in seconds of unix time", self.started_s),
            // As OpenSIPS's exporters and their alerts name it.
            ("opensips_up", "1: roost answers", 1),
        ] {
            family(encoder, (name, help, MetricType::Gauge), [([] as [(&str, String); 0], number)])?;
        }
        family(
            encoder,
            ("roost_build_info", "1, with the version", MetricType::Gauge),
            [(label("version", self.server.clone()), 1)],
        )
    }

    /// All that have a line in the table of statistics.
    fn values(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        for (name, value) in &self.figures.values {
            let Some(statistic) = table::entry(name) else { continue };
            // Threads' own are many, and come and go.
            if statistic.name.contains("-N") || statistic.name.contains(":N-") {
                continue;
            }
            let kind = match statistic.kind {
                StatisticKind::Counter => MetricType::Counter,
                StatisticKind::Gauge => MetricType::Gauge,
            };
            let name = metric_name(name);
            let number = Number(*value, kind);
            number.encode(encoder.encode_descriptor(&name, statistic.help, None, kind)?)?;
        }
        Ok(())
    }

    fn times(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        const REGISTER: &str = "roost_register_seconds";
        let of = |what: Timed| match what {
            Timed::RegisterAccepted => (REGISTER, "accepted"),
            Timed::RegisterChallenged => (REGISTER, "challenged"),
            Timed::RegisterRefused => (REGISTER, "refused"),
            Timed::InviteTrying => ("roost_invite_seconds", "100"),
            Timed::InviteRinging => ("roost_invite_seconds", "18x"),
            Timed::InviteAnswered => ("roost_invite_seconds", "2xx"),
        };
        for (family, label, help) in [
            (REGISTER, "outcome", "from a REGISTER to its answer"),
            ("roost_invite_seconds", "until", "from the INVITE of a call to what its caller was told"),
        ] {
            let mut metric = encoder.encode_descriptor(family, help, None, MetricType::Histogram)?;
            for (what, histogram) in self.figures.times.iter().filter(|(what, _)| of(*what).0 == family) {
                let labels = [(label, of(*what).1)];
                write_histogram(&mut metric.encode_family(&labels)?, histogram, 1_000.0)?;
            }
        }
        for (name, histogram) in &self.histograms {
            let (help, unit) = match *name {
                "roost_commit_seconds" => ("how long a transaction of bindings took", 1_000.0),
                _ => ("how many changes of bindings a transaction had", 1.0),
            };
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            write_histogram(&mut metric, histogram, unit)?;
        }
        Ok(())
    }
}

/// Writes a metric with labels.
fn family<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, kind): (&str, &str, MetricType),
    values: impl IntoIterator<Item = ([(&'static str, String); N], u64)>,
) -> std::fmt::Result {
    let mut values = values.into_iter().peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in values {
        match N {
            0 => metric.encode_gauge(&value)?,
            _ => metric.encode_family(&labels)?.encode_gauge(&value)?,
        }
    }
    Ok(())
}

/// Writes a histogram; so many of its units are one of the metric's.
fn write_histogram(metric: &mut MetricEncoder<'_>, histogram: &Histogram, unit: f64) -> std::fmt::Result {
    let bound = |bound: Option<u64>| bound.map_or(f64::INFINITY, |bound| bound as f64 / unit);
    let buckets: Vec<(f64, u64)> = histogram.counts().map(|(upper, count)| (bound(upper), count)).collect();
    metric.encode_histogram::<NoLabelSet>(histogram.sum() as f64 / unit, histogram.count(), &buckets, None)
}

/// Groups that OpenSIPS does not have.
const OWN_GROUPS: [&str; 5] = ["database", "webhook", "hep", "event", "recorder"];

/// `core:rcv_requests` is `opensips_core_rcv_requests`, `roost:shed` is `roost_shed`.
fn metric_name(name: &str) -> String {
    let (group, bare) = name.split_once(':').unwrap_or(("", name));
    let whole = match group {
        "roost" => format!("roost_{bare}"),
        group if OWN_GROUPS.contains(&group) => format!("roost_{group}_{bare}"),
        group => format!("opensips_{group}_{bare}"),
    };
    whole.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_text_that_prometheus_reads() {
        let mut times = Histogram::default();
        [0, 3, 70_000].into_iter().for_each(|ms| times.observe(ms));
        let snapshot = Snapshot {
            figures: Figures {
                values: vec![
                    ("usrloc:location-users".to_string(), 7),
                    ("core:rcv_requests".to_string(), 8),
                    ("roost:shed".to_string(), 9),
                    ("load:load-proc-3".to_string(), 9),
                ],
                refusals: [(roost_core::Reason::WrongPassword, 3)].into(),
                times: vec![(Timed::RegisterAccepted, times)],
                ..Figures::default()
            },
            histograms: vec![("roost_commit_changes", times)],
            hops: vec![([("set", "1".to_string()), ("uri", "sip:\"a\"".to_string())], 1)],
            certificates: vec![("default".to_string(), -3)],
            server: "roost (1)".to_string(),
            started_s: 5,
        };
        let mut registry = Registry::default();
        registry.register_collector(Box::new(snapshot));
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        for line in [
            "# TYPE opensips_usrloc_location_users gauge",
            "opensips_usrloc_location_users 7",
            "# TYPE opensips_core_rcv_requests counter",
            "opensips_core_rcv_requests 8",
            "roost_shed 9",
            "roost_refusals_total{reason=\"wrong-password\"} 3",
            "roost_register_seconds_bucket{le=\"0.001\",outcome=\"accepted\"} 1",
            "roost_register_seconds_bucket{le=\"0.005\",outcome=\"accepted\"} 2",
            "roost_register_seconds_bucket{le=\"+Inf\",outcome=\"accepted\"} 3",
            "roost_register_seconds_sum{outcome=\"accepted\"} 70.003",
            "roost_commit_changes_count 3",
            "roost_hop_up{set=\"1\",uri=\"sip:\\\"a\\\"\"} 1",
            "roost_certificate_days_left{name=\"default\"} 0",
            "opensips_up 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("proc"));
    }
}
