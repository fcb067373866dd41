//! What monitors see: metrics, health, collectors of messages, the log.

use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Kind, PATIENCE, Server, ack_of_failure, free_port, http, need, wait_for, wait_for_end};

fn get(server: &Server, path: &str, headers: &[&str]) -> (u16, String) {
    let host = format!("Host: {}", server.mi);
    let headers = if headers.is_empty() { vec![host.as_str()] } else { headers.to_vec() };
    let reply = http(server.mi, &format!("GET {path}"), &headers, "");
    (reply.status, reply.body)
}

/// The value of a metric with its labels.
fn metric(server: &Server, name: &str) -> f64 {
    let (status, text) = get(server, "/metrics", &[]);
    assert_eq!(status, 200, "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().expect("a number")
}

#[test]
fn metrics_say_what_happened() {
    let server = Server::for_calls("");
    let mut caller = server.registered("9001");
    let callee = server.registered("9002");
    let mut stranger = crate::support::Phone::new(server.sip, "9001", "wrong");
    assert_eq!(stranger.register(60).line(), "403 Forbidden");
    let invite = caller.invite("9002");
    let received = callee.await_request("INVITE");
    callee.answer(&received, "486 Busy Here");
    let busy = caller.await_final("INVITE");
    caller.send(ack_of_failure(&invite, &busy));
    let (mut dialog, _) = caller.establish(&callee);
    caller.send(dialog.request("BYE", &[]));
    let bye = callee.await_request("BYE");
    callee.answer(&bye, "200 OK");
    wait_for("the end of the calls", PATIENCE, || {
        (metric(&server, "roost_calls_ended_total{outcome=\"caller\"}") == 1.0).then_some(())
    });
    for (name, expected) in [
        ("roost_calls_ended_total{outcome=\"busy\"}", 1.0),
        ("roost_bindings{transport=\"udp\"}", 2.0),
        ("roost_refusals_total{reason=\"wrong-password\"}", 1.0),
        ("roost_register_seconds_count{outcome=\"accepted\"}", 2.0),
        ("roost_register_seconds_count{outcome=\"challenged\"}", 3.0),
        ("roost_register_seconds_count{outcome=\"refused\"}", 1.0),
        ("roost_invite_seconds_count{until=\"100\"}", 2.0),
        ("roost_invite_seconds_count{until=\"18x\"}", 1.0),
        ("roost_invite_seconds_count{until=\"2xx\"}", 1.0),
        ("opensips_usrloc_location_contacts", 2.0),
        ("opensips_registrar_accepted_regs", 2.0),
        ("opensips_dialog_processed_dialogs", 2.0),
        ("opensips_up", 1.0),
    ] {
        assert_eq!(metric(&server, name), expected, "{name}");
    }
    if Kind::from_env() == Kind::Sqlite {
        assert!(metric(&server, "roost_commit_seconds_count") >= 1.0);
    }
    assert!(metric(&server, "opensips_shmem_real_used_size") > 1e6);
    // A page that a stranger's name has led here learns nothing; no other site does.
    assert_eq!(get(&server, "/metrics", &["Host: evil.test"]).0, 403);
    let host = format!("Host: {}", server.mi);
    assert_eq!(get(&server, "/metrics", &[&host, "Origin: http://evil.test"]).0, 403);
    assert_eq!(get(&server, "/healthz", &[]), (200, "ok\n".to_string()));
    assert_eq!(get(&server, "/readyz", &[]), (200, "ready\n".to_string()));
}

#[test]
fn without_its_database_roost_is_not_ready_and_says_why() {
    let mut server = Server::prepared_on(Kind::MariaDb, "", "");
    server.start();
    server.add_user("9001", "9001");
    assert_eq!(server.registered("9001").query().line(), "200 OK");
    assert_eq!(get(&server, "/readyz", &[]).0, 200);
    server.database.as_mut().expect("its own").kill();
    let mut phone = server.phone("9001");
    wait_for("what balancers are told", PATIENCE, || {
        phone.register(60);
        (get(&server, "/readyz", &[]) == (503, "the database is away\n".to_string())).then_some(())
    });
    let status = server.mi("sr_get_status", Value::Null).expect("a status");
    assert_eq!((&status["Readiness"], &status["Details"]), (&json!(false), &json!("the database is away")));
    assert_eq!(get(&server, "/healthz", &[]).0, 200, "it runs");
}

#[test]
fn homer_gets_masked_messages_of_every_transport() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let uri = format!("hep:{}", socket.local_addr().expect("an address"));
    let server =
        Server::for_calls(&format!("[[hep]]\nuri = \"{uri}\"\ncapture_id = 2001\npassword = \"key\""));
    let mut phone = server.registered("9001");
    let mut room = [0; 65_536];
    let mut wanted =
        vec!["REGISTER sip:", "401 Unauthorized", "response=\"********************************\"", "200 OK"];
    // On a busy machine some come twice.
    while !wanted.is_empty() {
        let len = socket.recv(&mut room).expect("a packet");
        let text = String::from_utf8_lossy(&room[..len]).into_owned();
        assert!(text.starts_with("HEP3") && text.contains("key") && text.contains(&phone.call_id), "{text}");
        wanted.retain(|part| !text.contains(part));
    }
    assert_eq!(server.statistic("hep:lost"), 0);
    let listed = server.mi("trace", Value::Null).expect("a list");
    assert_eq!((&listed["Traces"][0]["name"], &listed["Traces"][0]["state"]), (&json!("hep1"), &json!("on")));
    assert!(listed["Traces"][0]["sent"].as_u64().is_some_and(|sent| sent >= 4), "{listed}");
    server.mi("trace", json!(["hep1", "off"])).expect("switched");
    let sent = server.statistic("hep:sent");
    assert_eq!(phone.register(60).line(), "200 OK");
    assert_eq!(server.statistic("hep:sent"), sent);
    assert_eq!(server.mi("trace_start", json!(["x", "hep:nowhere"])).expect_err("no port").0, 400);
    assert_eq!(server.mi("trace_start", json!(["x", &uri, ["what=1"]])).expect_err("no filter").0, 400);
    assert_eq!(server.mi("trace_stop", json!(["x"])).expect_err("none").0, 404);
}

#[test]
fn sngrep_listens_to_roost() {
    let port = free_port();
    let server = Server::for_calls(&format!("[[hep]]\nuri = \"hep:127.0.0.1:{port}\""));
    let dump = server.path("sngrep.pcap");
    let mut sngrep = Command::new(need("sngrep", "sngrep"))
        .args(["-N", "-q", "-F", "-L", &format!("udp:127.0.0.1:{port}"), "-O"])
        .arg(&dump)
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sngrep starts");
    let found = |text: &str| {
        let bytes = std::fs::read(&dump).unwrap_or_default();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    };
    // It takes a moment until it listens, and it writes when it ends.
    std::thread::sleep(Duration::from_millis(1_500));
    let phone = server.registered("9001");
    wait_for("what was sent", PATIENCE, || (server.statistic("hep:sent") >= 4).then_some(()));
    std::thread::sleep(Duration::from_millis(500));
    let _ = Command::new("kill").args(["-INT", &sngrep.id().to_string()]).status();
    wait_for_end(&mut sngrep, PATIENCE);
    assert!(found("REGISTER sip:") && found(&phone.call_id) && found("200 OK"), "{}", dump.display());
}

#[test]
fn the_log_is_json_and_its_level_changes_for_one_extension() {
    let server = Server::started("log_format = \"json\"", "");
    server.add_user("9001", "9001");
    server.add_user("9002", "9002");
    let lines = || -> Vec<Value> {
        let text = server.log.text();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let about = |who: &str| {
        let is_debug = |line: &&Value| line["level"] == "DEBUG" && line["fU"] == who;
        lines().iter().filter(is_debug).count()
    };
    let shown = server.succeed(&["log-level", "debug", "--only", "9001", "--seconds", "300"]);
    assert!(
        shown.contains("log level info (3)") && shown.contains("log level debug (4) for 9001 only"),
        "{shown}"
    );
    server.registered("9002");
    server.registered("9001");
    wait_for("lines about 9001", PATIENCE, || (about("9001") >= 2).then_some(()));
    assert_eq!(about("9002"), 0, "{}", server.log.text());
    wait_for("a line about 9002", PATIENCE, || {
        lines()
            .iter()
            .any(|line| line["message"] == "registered" && line["extension"] == "9002")
            .then_some(())
    });
    server.succeed(&["log-level", "debug"]);
    server.registered("9002");
    wait_for("lines about 9002", PATIENCE, || (about("9002") >= 2).then_some(()));
    server.succeed(&["log-level", "warning"]);
    let before = about("9001");
    server.registered("9001");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(about("9001"), before);
    assert!(!server.roost(&["log-level", "loud"]).stderr.is_empty());
    let text = server.log.text();
    assert!(!text.contains("response="), "no secrets: {text}");
}
