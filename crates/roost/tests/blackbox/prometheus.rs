//! Debian's Prometheus scrapes roost: the rules of contrib are right, and each expression of the dashboard is answered.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{HttpReply, PATIENCE, Phone, Server, ack_of_failure, free_port, http, need, wait_for};

fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib").join(name)
}

#[test]
fn the_rules_are_right_and_alert_when_they_should() {
    let promtool = need("promtool", "prometheus");
    let rules = std::fs::read_to_string(contrib("prometheus/roost.rules.yml")).expect("the rules");
    for limit in roost_admin::STATISTICS.iter().filter(|statistic| statistic.name.ends_with("_full")) {
        let (group, name) = limit.name.split_once(':').expect("a group");
        let metric =
            if group == "roost" { format!("roost_{name}") } else { format!("opensips_{group}_{name}") };
        assert!(rules.contains(&metric), "nobody is told when a limit is reached: {metric}");
    }
    for args in [
        ["check", "rules", "roost.rules.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "roost.rules.test.yml"],
    ] {
        let ran = Command::new(&promtool).args(args).current_dir(contrib("prometheus")).output();
        let ran = ran.expect("promtool starts");
        let said = [ran.stdout, ran.stderr].concat();
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&said));
    }
}

/// A Prometheus that scrapes a server every second.
struct Prometheus {
    process: Child,
    at: String,
}

impl Prometheus {
    fn start(server: &Server) -> Prometheus {
        let (folder, port) = (server.path("prometheus"), free_port());
        std::fs::create_dir_all(&folder).expect("a folder");
        let config = folder.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [\"{}\"]\n\
             scrape_configs: [{{job_name: roost, static_configs: [{{targets: [\"{}\"]}}]}}]\n",
            contrib("prometheus/roost.rules.yml").display(),
            server.mi
        );
        std::fs::write(&config, text).expect("a configuration");
        let process = Command::new(need("prometheus", "prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus starts");
        Prometheus { process, at: format!("127.0.0.1:{port}") }
    }

    /// The values that an expression has now.
    fn query(&self, expression: &str) -> Option<Vec<Value>> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let at = self.at.parse().expect("an address");
        std::net::TcpStream::connect(&self.at).ok()?;
        let host = format!("Host: {}", self.at);
        let HttpReply { status, body, .. } =
            http(at, &format!("GET /api/v1/query?query={encoded}"), &[&host], "");
        let answer: Value = serde_json::from_str(&body).ok()?;
        assert_eq!((status, &answer["status"]), (200, &Value::from("success")), "{expression}: {answer}");
        answer["data"]["result"].as_array().cloned()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// All expressions of a dashboard.
fn expressions(value: &Value, all: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_str().filter(|_| name == "expr") {
                    Some(text) => all.push(text.to_string()),
                    None => expressions(member, all),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|one| expressions(one, all)),
        _ => {}
    }
}

/// Names of metrics in an expression: those that begin as ours do.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':')));
    words.filter(|word| (word.starts_with("roost_") || word.starts_with("opensips_")) && !word.contains(':'))
}

#[test]
fn each_expression_of_the_dashboard_is_answered() {
    let hop = free_port();
    let mut server =
        Server::for_calls(&format!("[[route]]\nprefix = \"0\"\nhops = [\"sip:127.0.0.1:{hop}\"]"));
    let prometheus = Prometheus::start(&server);
    let ups = |prometheus: &Prometheus| {
        let counted = prometheus.query("count_over_time(up{job=\"roost\"}[1m])")?;
        counted.first()?["value"][1].as_str()?.parse::<u64>().ok()
    };
    wait_for("the first scrape", PATIENCE, || ups(&prometheus).filter(|count| *count >= 1));
    // Something of everything that a panel shows: a restart, refusals, calls.
    assert_eq!(server.stop(), Some(0));
    server.start();
    let seen = ups(&prometheus).unwrap_or(0);
    wait_for("a scrape after the restart", PATIENCE, || ups(&prometheus).filter(|count| *count > seen));
    let mut caller = server.registered("9001");
    let callee = server.registered("9002");
    assert_eq!(Phone::new(server.sip, "9001", "wrong").register(60).line(), "403 Forbidden");
    let invite = caller.invite("9002");
    let received = callee.await_request("INVITE");
    callee.answer(&received, "486 Busy Here");
    let busy = caller.await_final("INVITE");
    caller.send(ack_of_failure(&invite, &busy));
    let (mut dialog, _) = caller.establish(&callee);
    caller.send(dialog.request("BYE", &[]));
    let bye = callee.await_request("BYE");
    callee.answer(&bye, "200 OK");
    let seen = ups(&prometheus).unwrap_or(0);
    wait_for("two more scrapes", PATIENCE, || ups(&prometheus).filter(|count| *count >= seen + 3));

    let dashboard = std::fs::read_to_string(contrib("grafana/roost.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let mut all = Vec::new();
    expressions(&dashboard, &mut all);
    assert!(all.len() >= 30, "{}", all.len());
    let host = format!("Host: {}", server.mi);
    let metrics = http(server.mi, "GET /metrics", &[&host], "").body;
    let (mut empty, asked) = (Vec::new(), all.len());
    for expression in &all {
        for name in names(expression) {
            let begins =
                |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            // Without TLS there is no certificate.
            assert!(
                metrics.lines().any(begins) || name.contains("certificate"),
                "{name} is no metric: {expression}"
            );
        }
        let asked = expression
            .replace("$__rate_interval", "30s")
            .replace("$__interval", "30s")
            .replace("$__range", "30s")
            .replace("${instance:regex}", ".*")
            .replace("$instance", ".*");
        let answered = wait_for("an answer", Duration::from_secs(20), || prometheus.query(&asked));
        if answered.is_empty() {
            empty.push(asked);
        }
    }
    eprintln!("{asked} expressions of the dashboard, {} answered with data", asked - empty.len());
    // What has no certificate has no days left.
    empty.retain(|expression| !expression.contains("certificate"));
    assert!(empty.is_empty(), "no data: {empty:#?}");
}
