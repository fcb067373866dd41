//! Records of calls: in OpenSIPS's tables and in files, whatever is away or killed meanwhile.

use serde_json::{Value, json};

use crate::support::{Kind, PATIENCE, Phone, Server, ack_of_failure, http, wait_for};

const ACC: &str = "[acc]\ndb = true\nfile = \"records-%Y.csv\"\n";

/// A call of 9001 to 9002 that 9002 hangs up; its Call-ID.
fn talk(caller: &mut Phone, callee: &Phone) -> String {
    let (_, mut theirs) = caller.establish(callee);
    callee.send(theirs.request("BYE", &[]));
    let bye = caller.await_request("BYE");
    caller.answer(&bye, "200 OK");
    assert_eq!(callee.await_final("BYE").line(), "200 OK");
    caller.call_id.clone()
}

/// A call that is refused.
fn miss(caller: &mut Phone, callee: &Phone) -> String {
    let invite = caller.invite("9002");
    let received = callee.await_request("INVITE");
    callee.answer(&received, "486 Busy Here");
    let busy = caller.await_final("INVITE");
    caller.send(ack_of_failure(&invite, &busy));
    caller.call_id.clone()
}

fn count(server: &Server, sql: &str) -> i64 {
    server.sql(sql).trim().parse().unwrap_or_else(|_| panic!("a number from {sql}"))
}

fn records(server: &Server, query: &str) -> Vec<Value> {
    let reply =
        http(server.mi, &format!("GET /api/v1/records{query}"), &[&format!("Host: {}", server.mi)], "");
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()["items"].as_array().cloned().expect("items")
}

fn written_on(kind: Kind) {
    let mut server = Server::prepared_on(kind, "", ACC);
    server.add_users(9001, 2);
    server.start();
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let talked = talk(&mut caller, &callee);
    let missed = miss(&mut caller, &callee);
    wait_for("both records", PATIENCE, || (server.statistic("acc:records") == 4).then_some(()));
    let of = |call_id: &str| format!("callid = '{call_id}' AND method = 'INVITE'");
    assert_eq!(
        count(
            &server,
            &format!(
                "SELECT count(*) FROM acc WHERE {} AND sip_code = '200' AND sip_reason = 'OK' AND ended_by = 'callee'",
                of(&talked)
            )
        ),
        1
    );
    assert_eq!(
        count(
            &server,
            &format!(
                "SELECT count(*) FROM missed_calls WHERE {} AND sip_code = '486' AND sip_reason = 'Busy Here'",
                of(&missed)
            )
        ),
        1
    );
    assert_eq!(
        count(&server, "SELECT count(*) FROM acc") + count(&server, "SELECT count(*) FROM missed_calls"),
        2
    );
    let all = records(&server, "?aor=9002");
    assert_eq!(all.len(), 2, "{all:?}");
    let answered = &records(&server, "?kind=answered&limit=1")[0];
    assert_eq!(
        (&answered["call_id"], &answered["caller_aor"], &answered["kind"]),
        (&json!(talked), &json!("9001"), &json!("answered"))
    );
    let now_s =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs() as i64;
    let age_s = now_s - answered["time_s"].as_i64().expect("a time");
    assert!((0..60).contains(&age_s), "{answered}");
    assert_eq!(records(&server, &format!("?call_id={missed}"))[0]["sip_code"], "486");
    assert!(records(&server, "?to=1000").is_empty() && records(&server, "?aor=9009").is_empty());
    assert_eq!(records(&server, "?limit=1&filter=sip_code%20%3D%3D%20%22486%22")[0]["call_id"], missed);
    assert!(records(&server, "?filter=ms_duration%20%3E%203600000").is_empty());
    // In the file, too.
    let year = chrono::Local::now().format("%Y");
    let text = std::fs::read_to_string(server.path(&format!("records-{year}.csv"))).expect("a file");
    assert!(text.lines().count() == 3 && text.contains(&talked) && text.contains(&missed), "{text}");
    // The API pages through them, the newest first.
    let first = http(server.mi, "GET /api/v1/records?limit=1", &[&format!("Host: {}", server.mi)], "").json();
    let next = first["next"].as_str().expect("another page");
    let second = records(&server, &format!("?limit=1&after={next}"));
    assert_ne!(first["items"][0]["call_id"], second[0]["call_id"]);
}

#[test]
fn sqlite_calls_are_written_down() {
    written_on(Kind::Sqlite);
}

#[test]
fn mariadb_calls_are_written_down() {
    written_on(Kind::MariaDb);
}

#[test]
fn postgres_calls_are_written_down() {
    written_on(Kind::Postgres);
}

/// While the database server is away, and roost is killed meanwhile.
fn kept_while_away(kind: Kind) {
    let mut server = Server::prepared_on(kind, "", "[acc]\ndb = true\n[registrar]\nmax_expires = 3600\n");
    server.add_users(9001, 2);
    server.start();
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    talk(&mut caller, &callee);
    wait_for("the first record", PATIENCE, || (server.statistic("acc:records") == 1).then_some(()));
    server.database.as_mut().expect("a database").kill();
    for _ in 0..20 {
        talk(&mut caller, &callee);
    }
    wait_for("waiting records", PATIENCE, || (server.statistic("acc:waiting") == 20).then_some(()));
    // They are in the journal: a moment later the process may go.
    std::thread::sleep(std::time::Duration::from_secs(1));
    server.kill9();
    server.database.as_mut().expect("a database").restart();
    server.start();
    wait_for("all records", PATIENCE, || (server.statistic("acc:waiting") == 0).then_some(()));
    assert_eq!(count(&server, "SELECT count(*) FROM acc"), 21);
    assert_eq!(count(&server, "SELECT count(DISTINCT callid) FROM acc"), 21);
    assert_eq!((server.statistic("acc:lost"), server.statistic("acc:refused")), (0, 0));
}

#[test]
fn mariadb_that_is_away_delays_records_and_loses_none() {
    kept_while_away(Kind::MariaDb);
}

#[test]
fn postgres_that_is_away_delays_records_and_loses_none() {
    kept_while_away(Kind::Postgres);
}

#[test]
fn records_that_cannot_be_written_anywhere_are_refused_at_the_start() {
    let server = Server::prepared("", "[acc]\nfile = \"no/such/folder/records.csv\"\n");
    let ran = server.roost(&["serve"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("`file` in [acc]"), "{}", ran.stderr);
}
