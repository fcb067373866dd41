//! `roost import`: a script of OpenSIPS, and phones on what it becomes.

use std::fs;

use crate::support::{Kind, MediaServer, PATIENCE, Phone, Server, wait_for};
use serde_json::Value;

/// A registrar of two tenants with the Occupied rule asked of memory, its voice mail, and a gateway.
fn script(server: &Server, gateway: &MediaServer, voicemail: &MediaServer) -> String {
    let (sip, port) = (server.sip, server.mi.port());
    format!(
        r#"log_level=3
log_stderror=yes
listen=udp:{sip}
listen=tcp:{sip}
loadmodule "tm.so"
modparam("tm", "fr_timeout", 2)
modparam("tm", "fr_inv_timeout", 20)
loadmodule "auth_db.so"
modparam("auth_db", "calculate_ha1", 1)
modparam("auth_db", "use_domain", 1)
modparam("auth_db", "password_column", "password")
loadmodule "usrloc.so"
modparam("usrloc", "db_mode", 1)
modparam("usrloc", "use_domain", 1)
modparam("usrloc", "db_url", "sqlite://{database}")
loadmodule "registrar.so"
modparam("registrar", "max_contacts", 1)
modparam("registrar", "min_expires", 30)
modparam("registrar", "max_expires", 300)
modparam("registrar", "default_expires", 120)
loadmodule "httpd.so"
modparam("httpd", "ip", "127.0.0.1")
modparam("httpd", "port", {port})
loadmodule "mi_http.so"

route {{
    if (has_totag()) {{ loose_route(); route(out); }}
    if (is_method("REGISTER")) route(in);
    if ($rU =~ "^0") {{ $du = "{gateway}"; route(out); }}
    if (!lookup("location")) {{
        $du = "{voicemail}";
        route(out);
    }}
    route(out);
}}
route[out] {{ t_relay(); exit; }}
route[in] {{
    $var(found) = www_authorize("$td", "subscriber");
    switch ($var(found)) {{
        case -1: send_reply("404", "Not Found"); exit;
        case -2: send_reply("403", "Forbidden"); exit;
        case -4: www_challenge("$td", "0"); exit;
    }}
    $var(here) = is_ip_registered("location", "$tu", "$si");
    if ($var(here) < 0) {{
        if (is_registered("location")) {{ send_reply("403", "Occupied"); exit; }}
    }}
    save("location", "f");
    exit;
}}
"#,
        database = server.path("roost.db").display(),
        gateway = gateway.uri(),
        voicemail = voicemail.uri(),
    )
}

#[test]
fn phones_register_and_call_on_what_a_script_became() {
    let (gateway, voicemail) = (MediaServer::new("127.0.0.2"), MediaServer::new("127.0.0.3"));
    let mut server = Server::prepared_on(Kind::Sqlite, "", "");
    let file = server.path("opensips.cfg");
    fs::write(&file, script(&server, &gateway, &voicemail)).expect("a script");
    let (file, output, report) =
        (file.display().to_string(), server.path("roost.toml"), server.path("report.txt"));
    let args = ["--output", output.to_str().expect("a path"), "--report", report.to_str().expect("a path")];
    // What is there is not written over unless that is said.
    let ran = server.roost(&[&["import", &file], &args[..]].concat());
    assert!(ran.code == Some(1) && ran.stderr.contains("--force"), "{}", ran.stderr);
    let said = server.succeed(&[&["import", &file, "--force"], &args[..]].concat());
    assert!(said.contains(" 0 not carried over"), "{said}");
    let told = fs::read_to_string(&report).expect("the report");
    assert!(told.contains("carried to: registrar.exclusive"), "{told}");

    server.start();
    for (user, domain) in [("9001", "a.example"), ("9002", "a.example"), ("9001", "b.example")] {
        server.succeed(&["user", "add", &format!("{user}@{domain}"), "secret"]);
    }
    let phone = |at: &str, user: &str, domain: &str| {
        let mut phone = Phone::at(at, server.sip, user, "secret");
        phone.domain = domain.to_string();
        phone
    };
    let mut desk = phone("127.0.0.1", "9001", "a.example");
    let answer = desk.register(3_000);
    assert_eq!(answer.line(), "200 OK");
    assert!(answer.header("Contact").unwrap_or_default().ends_with(";expires=300"));
    assert_eq!(phone("127.0.0.4", "9001", "a.example").register(60).line(), "403 Occupied");
    assert_eq!(phone("127.0.0.4", "9001", "b.example").register(60).line(), "200 OK");
    // To the gateway, to who is there, to voice mail for who is not.
    for (number, hop) in [("0301", Some(&gateway)), ("9002", Some(&voicemail))] {
        let before = hop.map_or(0, |hop| hop.heard("INVITE").len());
        desk.invite(number);
        if let Some(hop) = hop {
            wait_for("the call", PATIENCE, || (hop.heard("INVITE").len() > before).then_some(()));
        }
    }
    let mut other = phone("127.0.0.5", "9002", "a.example");
    assert_eq!(other.register(60).line(), "200 OK");
    desk.invite("9002");
    other.await_request("INVITE");
}

fn sets_are_read(kind: Kind) {
    let server = Server::prepared_on(kind, "", "");
    server.succeed(&["db", "migrate"]);
    server.sql(
        "CREATE TABLE dispatcher (id INTEGER, setid INTEGER, destination VARCHAR(192), priority INTEGER)",
    );
    server.sql(
        "INSERT INTO dispatcher (id, setid, destination, priority) VALUES (1, 4, 'sip:10.0.0.7:5060', 0), \
         (2, 4, 'sip:10.0.0.8:5080;transport=tcp', 9), (3, 5, 'sip:10.0.0.9', 0)",
    );
    let config = fs::read_to_string(server.path("roost.toml")).expect("the configuration");
    let url = config
        .lines()
        .find_map(|line| line.strip_prefix("database = "))
        .expect("a database")
        .trim_matches('"');
    let url = match kind {
        Kind::Sqlite => format!("sqlite://{}", server.path("roost.db").display()),
        _ => url.to_string(),
    };
    let script = format!(
        "listen=udp:127.0.0.1:5060\nmodparam(\"dispatcher\", \"db_url\", \"{url}\")\nroute {{\n\tif ($rU =~ \"^0\") {{\n\t\tds_select_dst(4, 0);\n\t\tt_relay();\n\t}}\n}}\n"
    );
    fs::write(server.path("opensips.cfg"), script).expect("a script");
    let file = server.path("opensips.cfg");
    let said = server.succeed(&["import", file.to_str().expect("a path"), "--output", "-"]);
    assert!(
        said.contains("hops = [\"sip:10.0.0.8:5080;transport=tcp\", \"sip:10.0.0.7:5060\"]\nset = 4"),
        "{said}"
    );
}

#[test]
fn sets_of_dispatcher_are_read_from_sqlite() {
    sets_are_read(Kind::Sqlite);
}

#[test]
fn sets_of_dispatcher_are_read_from_mariadb() {
    sets_are_read(Kind::MariaDb);
}

#[test]
fn sets_of_dispatcher_are_read_from_postgres() {
    sets_are_read(Kind::Postgres);
}

#[test]
fn a_script_that_is_not_understood_writes_nothing() {
    let server = Server::prepared("", "");
    let file = server.path("opensips.cfg");
    fs::write(&file, "log_level=3\nroute {\n  if (is_method(\"INVITE\") {\n  }\n}\n").expect("a script");
    let output = server.path("new.toml");
    let (file, target) = (file.display().to_string(), output.display().to_string());
    let ran = server.roost(&["import", &file, "--output", &target]);
    assert!(ran.code == Some(1) && ran.stderr.contains("opensips.cfg:3: "), "{}", ran.stderr);
    assert!(!output.exists());
    // For programs everything is one object.
    fs::write(server.path("opensips.cfg"), "log_level=2\nroute { save(\"location\"); }\n").expect("a script");
    let said = server.succeed(&["--json", "import", &file, "--output", "-"]);
    let json: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&json["lines"], &json["each"][0]["what"]), (&2.into(), &"log_level".into()));
}
