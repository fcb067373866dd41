//! What a benchmark found, as a table for people and as JSON for programs.

use std::net::SocketAddrV4;

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::process::Cpu;
use crate::tally::Tally;

/// What a benchmark found.
#[derive(Debug)]
pub struct Report {
    pub(crate) kind: Kind,
    pub(crate) server: SocketAddrV4,
    pub(crate) is_spawned: bool,
    pub(crate) pid: Option<u32>,
    pub(crate) users: u32,
    pub(crate) count: u64,
    pub(crate) window: u32,
    pub(crate) rate: Option<f64>,
    pub(crate) contact_ports: u16,
    /// The measured phase.
    pub(crate) tally: Tally,
    /// The registrations before it.
    pub(crate) set_up: Option<Tally>,
    pub(crate) usage: Option<Usage>,
    pub(crate) memory: Option<Memory>,
    pub(crate) db_cpu: Option<Cpu>,
    /// Before and after the measured phase; empty without an echo.
    pub(crate) echoes: Vec<EchoRun>,
}

/// What the measured phase took of the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) cpu: Cpu,
    pub(crate) udp_drops: u64,
}

/// The server's proportional memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Before the first request.
    pub(crate) before: u64,
    pub(crate) after: u64,
}

/// One measurement of the echo.
#[derive(Debug)]
pub(crate) struct EchoRun {
    pub(crate) cpu: Cpu,
    pub(crate) tally: Tally,
}

impl Report {
    /// Whether at least one operation succeeded.
    pub fn has_success(&self) -> bool {
        self.tally.ok > 0
    }

    /// In words, what went wrong with the operations that did not succeed.
    pub fn describe_failures(&self) -> String {
        self.tally.describe_failures()
    }

    /// The server's CPU per successful operation, in µs.
    pub fn cpu_us_per_op(&self) -> Option<f64> {
        self.tally.per_op(self.usage?.cpu.total_us())
    }

    /// The echo's CPU per pair of datagrams, in µs: all its measurements together.
    pub fn echo_us_per_pair(&self) -> Option<f64> {
        let pairs: u64 = self.echoes.iter().map(|echo| echo.tally.ok).sum();
        let cpu: f64 = self.echoes.iter().map(|echo| echo.cpu.total_us()).sum();
        (pairs > 0 && cpu > 0.0).then(|| cpu / pairs as f64)
    }

    /// How many times the CPU of the bare echoes of as many datagrams one operation costs.
    pub fn ratio(&self) -> Option<f64> {
        Some(ratio(self.cpu_us_per_op()?, self.kind.pairs_per_op(), self.echo_us_per_pair()?))
    }

    /// Growth of the server's memory for each registered user, in bytes.
    fn bytes_per_binding(&self) -> Option<f64> {
        let bindings = match self.kind {
            Kind::Register => self.tally.ok.min(self.users.into()),
            Kind::Refresh => self.set_up.as_ref()?.ok,
            Kind::Call | Kind::Options | Kind::Raw => return None,
        };
        let Memory { before, after } = self.memory?;
        (bindings > 0).then(|| (after as f64 - before as f64) / bindings as f64)
    }

    /// One JSON object; what was not measured is null.
    pub fn to_json(&self) -> Value {
        let tally = &self.tally;
        json!({
            "scenario": self.kind.name(),
            "server": self.server.to_string(),
            "users": self.users,
            "count": self.count,
            "window": self.window,
            "rate": self.rate,
            "contact_ports": self.contact_ports,
            "started": tally.started,
            "ok": tally.ok,
            "failed": tally.failed,
            "timed_out": tally.timed_out,
            "retransmissions": tally.retransmissions,
            "stale": tally.stale,
            "unlisted": tally.unlisted,
            "strays": tally.strays,
            "sent": tally.sent,
            "unsent": tally.unsent,
            "received": tally.received,
            "answers": answers(tally),
            "elapsed_s": round(tally.elapsed_s, 4),
            "ops_per_s": round(tally.ops_per_s(), 1),
            "behind_us": self.rate.map(|_| tally.behind_us),
            "latency_us": latency(tally),
            "generator_cpu_us_per_op": tally.per_op(tally.own_cpu_us).map(|us| round(us, 2)),
            "set_up": self.set_up.as_ref().map(|set_up| json!({
                "ok": set_up.ok,
                "failed": set_up.failed,
                "timed_out": set_up.timed_out,
                "ops_per_s": round(set_up.ops_per_s(), 1),
            })),
            "process": self.usage.map(|usage| json!({
                "pid": self.pid,
                "spawned": self.is_spawned,
                "cpu_us_per_op": self.cpu_us_per_op().map(|us| round(us, 2)),
                "user_us_per_op": tally.per_op(usage.cpu.user_us).map(|us| round(us, 2)),
                "system_us_per_op": tally.per_op(usage.cpu.system_us).map(|us| round(us, 2)),
                "cpu_s": round(usage.cpu.total_us() / 1e6, 3),
                "udp_drops": usage.udp_drops,
                "pss_before": self.memory.map(|memory| memory.before),
                "pss_after": self.memory.map(|memory| memory.after),
                "bytes_per_binding": self.bytes_per_binding().map(f64::round),
            })),
            "database": self.db_cpu.map(|cpu| json!({
                "cpu_us_per_op": tally.per_op(cpu.total_us()).map(|us| round(us, 2)),
            })),
            "echo": (!self.echoes.is_empty()).then(|| json!({
                "cpu_us_per_pair": self.echo_us_per_pair().map(|us| round(us, 3)),
                "pairs_per_op": self.kind.pairs_per_op(),
                "runs": self.echoes.iter().map(echo).collect::<Vec<_>>(),
            })),
            "ratio": self.ratio().map(|ratio| round(ratio, 2)),
        })
    }

    /// A table of two columns.
    pub fn to_table(&self) -> String {
        let tally = &self.tally;
        let mut rows = vec![
            ("scenario", format!("{} at {}", self.kind.name(), self.server)),
            (
                "load",
                match self.rate {
                    Some(rate) => format!("{rate} operations per second"),
                    None => format!("closed loop, {} under way", self.window),
                },
            ),
            ("ok", format!("{} of {}", tally.ok, tally.started)),
        ];
        if tally.ok < tally.started {
            rows.push(("not ok", self.describe_failures()));
        }
        rows.push(("retransmissions", tally.retransmissions.to_string()));
        let codes: Vec<_> = tally.answers().map(|(code, count)| format!("{code}: {count}")).collect();
        rows.push(("answers", codes.join(", ")));
        for (name, count) in [
            ("stale nonces", tally.stale),
            ("200s without our contact", tally.unlisted),
            ("not sent", tally.unsent),
        ] {
            if count > 0 {
                rows.push((name, count.to_string()));
            }
        }
        rows.push(("operations/s", format!("{:.0}", tally.ops_per_s())));
        if self.rate.is_some() {
            rows.push(("behind the plan, at most", format!("{} µs", tally.behind_us)));
        }
        let shares = [0.5, 0.9, 0.99, 1.0].map(|share| tally.latency_us(share));
        rows.push((
            "latency p50/p90/p99/max",
            format!("{} / {} / {} / {} µs", shares[0], shares[1], shares[2], shares[3]),
        ));
        if let Some(us) = tally.per_op(tally.own_cpu_us) {
            rows.push(("generator's CPU/operation", format!("{us:.2} µs")));
        }
        rows.extend(self.server_rows());
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        for (name, value) in rows {
            table.add_row([Cell::new(name), Cell::new(value).set_alignment(CellAlignment::Left)]);
        }
        table.trim_fmt()
    }

    fn server_rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        if let (Some(usage), Some(us)) = (self.usage, self.cpu_us_per_op()) {
            let user = self.tally.per_op(usage.cpu.user_us).unwrap_or_default();
            rows.push((
                "server's CPU/operation",
                format!("{us:.2} µs ({user:.2} user, {:.2} kernel)", us - user),
            ));
            rows.push(("UDP drops", usage.udp_drops.to_string()));
        }
        if let Some(us) = self.db_cpu.and_then(|cpu| self.tally.per_op(cpu.total_us())) {
            rows.push(("database's CPU/operation", format!("{us:.2} µs")));
        }
        if let Some(Memory { before, after }) = self.memory {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let growth = self.bytes_per_binding().map(|bytes| format!(": {bytes:.0} bytes per binding"));
            let growth = growth.unwrap_or_default();
            rows.push((
                "server's memory (PSS)",
                format!("{:.1} -> {:.1} MiB{growth}", mib(before), mib(after)),
            ));
        }
        if let Some(us) = self.echo_us_per_pair() {
            let runs: Vec<_> =
                self.echoes.iter().filter_map(|echo| echo.tally.per_op(echo.cpu.total_us())).collect();
            let runs: Vec<_> = runs.iter().map(|us| format!("{us:.2}")).collect();
            rows.push(("echo's CPU/pair", format!("{us:.2} µs ({})", runs.join(" before, ") + " after")));
        }
        if let Some(ratio) = self.ratio() {
            let pairs = self.kind.pairs_per_op();
            rows.push(("CPU/operation over echoes", format!("{ratio:.2} (of {pairs} pairs)")));
        }
        rows
    }
}

/// CPU of one operation over that of `pairs` echoes.
fn ratio(cpu_us_per_op: f64, pairs: f64, echo_us_per_pair: f64) -> f64 {
    cpu_us_per_op / (pairs * echo_us_per_pair)
}

impl Tally {
    /// In words, what went wrong with the operations that did not succeed.
    pub(crate) fn describe_failures(&self) -> String {
        let refusals: Vec<String> = self
            .answers()
            .filter(|(code, _)| *code >= 300)
            .map(|(code, count)| format!("{code}: {count}"))
            .collect();
        let mut text = format!("{} refused, {} without an answer in time", self.failed, self.timed_out);
        let lost = self.started - self.ended();
        if lost > 0 {
            text += &format!(", {lost} unfinished");
        }
        if !refusals.is_empty() {
            text += &format!(" (answers {})", refusals.join(", "));
        }
        text
    }
}

fn echo(run: &EchoRun) -> Value {
    json!({
        "pairs": run.tally.ok,
        "timed_out": run.tally.timed_out,
        "pairs_per_s": round(run.tally.ops_per_s(), 1),
        "cpu_us_per_pair": run.tally.per_op(run.cpu.total_us()).map(|us| round(us, 3)),
        "latency_us": latency(&run.tally),
    })
}

fn latency(tally: &Tally) -> Value {
    json!({
        "p50": tally.latency_us(0.5),
        "p90": tally.latency_us(0.9),
        "p99": tally.latency_us(0.99),
        "max": tally.latency_us(1.0),
    })
}

fn answers(tally: &Tally) -> Value {
    tally
        .answers()
        .map(|(code, count)| (code.to_string(), Value::from(count)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn round(number: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (number * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Outcome;

    fn tally(ok: u64) -> Tally {
        let mut tally = Tally::default();
        (tally.started, tally.elapsed_s) = (ok, 1.0);
        (0..ok).for_each(|_| tally.end(Outcome::Ok, 1000));
        tally
    }

    fn cpu(us: f64) -> Cpu {
        Cpu { user_us: us / 4.0, system_us: us * 3.0 / 4.0, exact_us: us }
    }

    fn report(kind: Kind, echoes: Vec<EchoRun>) -> Report {
        Report {
            kind,
            server: "127.0.0.1:5060".parse().unwrap(),
            is_spawned: false,
            pid: Some(1),
            users: 1000,
            count: 1000,
            window: 64,
            rate: None,
            contact_ports: 16,
            tally: tally(1000),
            set_up: None,
            usage: Some(Usage { cpu: cpu(12_000.0), udp_drops: 0 }),
            memory: Some(Memory { before: 1_000_000, after: 1_400_000 }),
            db_cpu: None,
            echoes,
        }
    }

    #[test]
    fn ratios_are_over_the_echoes_of_as_many_datagrams() {
        // 12 µs per operation; 2 µs and 4 µs per echo, as many of each.
        let echoes = || {
            vec![2000.0, 4000.0].into_iter().map(|us| EchoRun { cpu: cpu(us), tally: tally(1000) }).collect()
        };
        for (kind, expected) in
            [(Kind::Register, 2.0), (Kind::Refresh, 4.0), (Kind::Options, 4.0), (Kind::Call, 12.0 / 19.5)]
        {
            let ratio = report(kind, echoes()).ratio().unwrap();
            assert!((ratio - expected).abs() < 1e-9, "{kind:?}: {ratio}");
        }
        assert_eq!(report(Kind::Register, Vec::new()).ratio(), None);
    }

    #[test]
    fn json_and_table_say_the_same() {
        let report = report(Kind::Register, vec![EchoRun { cpu: cpu(2000.0), tally: tally(1000) }]);
        let json = report.to_json();
        assert_eq!(json["ratio"], 3.0);
        assert_eq!(json["process"]["cpu_us_per_op"], 12.0);
        assert_eq!(json["process"]["user_us_per_op"], 3.0);
        assert_eq!(json["process"]["bytes_per_binding"], 400.0);
        assert_eq!(json["echo"]["cpu_us_per_pair"], 2.0);
        let table = report.to_table();
        for part in ["12.00 µs (3.00 user, 9.00 kernel)", "400 bytes per binding", "3.00 (of 2 pairs)"] {
            assert!(table.contains(part), "{part} in\n{table}");
        }
    }
}
