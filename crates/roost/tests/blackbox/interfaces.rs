//! The ways to MI beside HTTP: the FIFO as OpenSIPS 2.4 and 3 write it, datagrams, and OpenSIPS's own clients over each.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    HttpReply, Log, PATIENCE, Phone, Server, free_port, http, need, opensips_cli, opensips_library, run,
    wait_for,
};

/// What a trace shows of a digest.
const MASKED: &str = "response=\"********************************\"";

const FIFO: &str = "[mi_fifo]\nfifo_name = \"fifo\"\nreply_dir = \".\"";

/// Writes a request into the FIFO as a shell does, and reads what comes back.
fn ask(server: &Server, request: &str, reply: &str) -> String {
    let path = server.path(reply);
    let made = Command::new(need("mkfifo", "coreutils")).arg(&path).status().expect("mkfifo runs");
    assert!(made.success());
    fs::OpenOptions::new()
        .write(true)
        .open(server.path("fifo"))
        .and_then(|mut fifo| fifo.write_all(request.as_bytes()))
        .expect("a request");
    let answer = fs::read_to_string(&path).expect("an answer");
    fs::remove_file(&path).expect("it goes");
    answer
}

#[test]
fn the_fifo_speaks_as_2_4_and_as_3() {
    let mut server = Server::started("", FIFO);
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(60).line(), "200 OK");
    // What opensipsctl sends, and what it gets.
    let shown = ask(&server, ":ul_show_contact:osips_rply_1\nlocation\n9001\n\n", "osips_rply_1");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[..3], ["200 OK", "AOR:: 9001", &format!("\tContact:: {} Q=", phone.contact)], "{shown}");
    assert!(lines[3].starts_with("\t\tContactID:: "), "{shown}");
    let sends = |name: &str| lines.iter().any(|line| line.starts_with(&format!("\t\t{name}:: ")));
    for name in ["Expires", "Callid", "Cseq", "User-agent", "State", "Flags", "Cflags", "Socket", "Methods"] {
        assert!(sends(name), "{name}: {shown}");
    }
    assert!(shown.ends_with("\n\n"));
    let dumped = ask(&server, ":ul_dump:r\n\n", "r");
    assert!(
        dumped.starts_with("200 OK\nDomain:: location hash_size=65536\n\tAOR:: 9001\n\t\tContact:: "),
        "{dumped}"
    );
    let brief = ask(&server, ":ul_dump:r\nbrief\n\n", "r");
    assert_eq!(brief, "200 OK\nDomain:: location hash_size=65536\n\tAOR:: 9001\n\n");
    assert_eq!(ask(&server, ":ul_show_contact:r\nlocation\n9009\n\n", "r"), "404 AOR not found\n\n");
    assert_eq!(ask(&server, ":nothing:r\n\n", "r"), "404 Method not found\n\n");
    let statistics = ask(&server, ":get_statistics:r\nusrloc:\n\n", "r");
    assert!(statistics.contains("usrloc:location-contacts:: 1\n"), "{statistics}");
    // JSON, in one line, without a line end behind the request.
    let request = r#":r:{"jsonrpc": "2.0", "id": "18515", "method": "ul_dump", "params": {}}"#;
    let answer = ask(&server, request, "r");
    assert_eq!(answer.lines().count(), 1);
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(
        (&answer["id"], &answer["result"]["Domains"][0]["AORs"][0]["AOR"]),
        (&json!("18515"), &json!("9001"))
    );

    // A client that only looks whether it is there, garbage, an answer that nobody reads, a path for a name.
    drop(fs::OpenOptions::new().write(true).open(server.path("fifo")).expect("it is there"));
    for garbage in [
        "garbage\n",
        "\n\n\n",
        ":ul_dump:nobody\n\n",
        ":ul_dump:../../etc/passwd\n\n",
        ":unread:{\"jsonrpc\"]\n",
    ] {
        fs::write(server.path("fifo"), garbage).expect("garbage");
    }
    assert!(ask(&server, ":uptime:r\n\n", "r").starts_with("200 OK\nNow:: "));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(server.path("fifo")).expect("it").permissions(),
    );
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(server.stop(), Some(0));
    assert!(!server.path("fifo").exists(), "it goes with the server");
    fs::write(server.path("fifo"), "a file").expect("a file");
    let ran = server.roost(&["serve"]);
    assert!(ran.stderr.contains("no FIFO") && ran.stderr.contains("fifo_name"), "{}", ran.stderr);
}

#[test]
fn datagrams_are_answered_to_this_machine() {
    let at: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let server = Server::started("", &format!("[mi_datagram]\nsocket_name = \"udp:{at}\""));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let ask = |request: &str| -> String {
        let mut room = vec![0; 65_536];
        socket.send_to(request.as_bytes(), at).expect("a request");
        let len = socket.recv(&mut room).expect("an answer");
        String::from_utf8(room[..len].to_vec()).expect("text")
    };
    let answer: Value =
        serde_json::from_str(&ask(r#"{"jsonrpc":"2.0","id":1,"method":"uptime"}"#)).expect("JSON");
    assert!(answer["result"]["Up time"].is_string(), "{answer}");
    assert!(ask(":uptime:\n\n").starts_with("200 OK\nNow:: "));
    socket.send_to(b"garbage", at).expect("garbage");
    // An answer that fits no datagram is an error that says what to do.
    for aor in 0..300 {
        let contact = format!("sip:{aor}@127.0.0.1:5090");
        server.mi("ul_add", json!(["location", aor.to_string(), contact, 0])).expect("added");
    }
    let answer: Value =
        serde_json::from_str(&ask(r#"{"jsonrpc":"2.0","id":2,"method":"ul_dump"}"#)).expect("JSON");
    assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(500), &json!(2)), "{answer}");
    drop(server);

    let server = Server::started("", "[mi_datagram]\nsocket_name = \"mi.sock\"\nunix_socket_mode = \"0600\"");
    let own = server.path("client.sock");
    let socket = UnixDatagram::bind(&own).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.send_to(br#"{"jsonrpc":"2.0","id":1,"method":"ps"}"#, server.path("mi.sock")).expect("a request");
    let mut room = vec![0; 65_536];
    let len = socket.recv(&mut room).expect("an answer");
    let answer: Value = serde_json::from_slice(&room[..len]).expect("JSON");
    assert_eq!(answer["result"]["Processes"][0]["Type"], "attendant", "{answer}");
}

#[test]
fn the_library_of_opensips_asks_over_each_transport() {
    let at: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let server = Server::started("", &format!("{FIFO}\n[mi_datagram]\nsocket_name = \"udp:{at}\""));
    let (fifo, folder) = (server.path("fifo"), server.path(""));
    let url = format!("http://{}/mi", server.mi);
    let text = |path: &Path| path.to_str().expect("text").to_string();
    for args in [
        vec!["http".to_string(), url],
        vec!["fifo".to_string(), text(&fifo), text(&folder)],
        vec!["datagram".to_string(), at.to_string()],
    ] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ran = run(opensips_library(&args), PATIENCE);
        assert_eq!(ran.code, Some(0), "{args:?}: {}\n{}", ran.stdout, ran.stderr);
        let answers: Vec<Value> =
            ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let [added, shown, dumped, statistics, listed, ps, removed, which] = &answers[..] else {
            panic!("{args:?}: {answers:?}")
        };
        assert_eq!((added, removed), (&json!("OK"), &json!("OK")));
        assert_eq!(shown["Contacts"][0]["Contact"], "sip:9010@127.0.0.1:5090");
        assert_eq!(dumped["Domains"][0]["AORs"][0]["AOR"], "9010");
        assert_eq!(statistics["usrloc:location-users"], 1);
        assert!(statistics["load:load"].is_u64() && statistics["load:load-proc-0"].is_u64());
        assert_eq!(listed["core:rcv_requests"], "incremental");
        assert_eq!(listed["tm:inuse_transactions"], "non-incremental");
        assert_eq!(ps["Processes"][0]["PID"], server.pid());
        assert!(which.as_array().is_some_and(|all| all.contains(&json!("trace_start"))));
    }
}

#[test]
fn opensips_cli_shows_adds_diagnoses_and_traces() {
    let server = Server::started("exec_dns_threshold = 1000", "[proxy]\ntrusted = [\"127.0.0.1\"]");
    let url = format!("url=http://{}/mi", server.mi);
    let options = ["communication_type=http", url.as_str()];
    let mi = |args: &[&str]| -> Value {
        let ran = run(opensips_cli(&options, &[&["mi"], args].concat()), PATIENCE);
        assert_eq!(ran.code, Some(0), "{args:?}: {}\n{}", ran.stdout, ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|_| json!(ran.stdout.trim()))
    };
    assert!(
        mi(&["ul_add", "location", "9001", "sip:9001@127.0.0.1:5090", "0", "", "0", "", "0"])
            .to_string()
            .contains("OK")
    );
    assert_eq!(mi(&["ul_show_contact", "location", "9001"])["Contacts"][0]["Expires"], "permanent");
    assert!(mi(&["ul_dump"])["Domains"].is_array());
    assert!(mi(&["get_statistics", "usrloc:"])["usrloc:location-users"].is_u64());
    assert!(mi(&["ps"])["Processes"].is_array());
    assert_eq!(mi(&["log_level"])["Log level"], 3);
    assert!(mi(&["version"])["Server"].as_str().is_some_and(|name| name.starts_with("OpenSIPS (3.")));
    assert_eq!(mi(&["ds_list", "0", "default"])["PARTITIONS"][0]["name"], "default");

    // Each diagnosis goes on until it is interrupted.
    for (what, expected) in [
        ("", "Worker Capacity:"),
        ("memory", "no issues detected"),
        ("load", "OpenSIPS Processing Status"),
        ("sip", "SIP Processing [OK]"),
        ("dns", "DNS"),
        ("sql", "SQL"),
    ] {
        let listen = format!("diagnose_listen_port={}", free_port());
        let options = [options[0], options[1], "diagnose_listen_ip=127.0.0.1", &listen];
        let args: &[&str] = if what.is_empty() { &["diagnose"] } else { &["diagnose", what] };
        interrupted(opensips_cli(&options, args), expected, || {});
    }

    let listen = format!("trace_listen_port={}", free_port());
    let options = [options[0], options[1], "trace_listen_ip=127.0.0.1", &listen];
    let traced = interrupted(opensips_cli(&options, &["trace", "caller=9001"]), MASKED, || {
        wait_for("the trace", PATIENCE, || (server.statistic("hep:collectors") == 1).then_some(()));
        let mut others = server.phone("9002");
        others.register(60);
        let mut phone = server.phone("9001");
        phone.register(60);
        wait_for("messages", PATIENCE, || (server.statistic("hep:sent") >= 4).then_some(()));
    });
    assert!(traced.contains("REGISTER sip:") && traced.contains("401 Unauthorized"), "{traced}");
    assert!(!traced.contains("sip:9002@"), "{traced}");
    // One that was killed takes its leave from nobody: the next messages find out.
    wait_for("its end", PATIENCE, || {
        server.phone("9001").register(60);
        (server.statistic("hep:collectors") == 0).then_some(())
    });
}

/// What a program says that runs until it is interrupted, once it has said this.
fn interrupted(mut command: Command, expected: &str, meanwhile: impl FnOnce()) -> String {
    command.env("PYTHONUNBUFFERED", "1").stdout(Stdio::piped()).stderr(Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().expect("it starts");
    let said = Log::default();
    said.follow(child.stdout.take().expect("a pipe"));
    meanwhile();
    wait_for(expected, PATIENCE, || said.text().contains(expected).then_some(()));
    // While it runs `clear` an interrupt is not for it; one that never hears any is killed.
    let begun = Instant::now();
    while child.try_wait().expect("a state").is_none() {
        // With its children, which have its connections.
        let args = match begun.elapsed() < Duration::from_secs(5) {
            true => ["-INT".to_string(), "--".to_string(), child.id().to_string()],
            false => ["-KILL".to_string(), "--".to_string(), format!("-{}", child.id())],
        };
        let _ = Command::new("kill").args(args).status();
        std::thread::sleep(Duration::from_millis(300));
    }
    said.text()
}

#[test]
fn opensips_cli_adds_a_user_whose_phone_registers() {
    let server = Server::started("", "");
    let database = format!("database_url=sqlite:///{}", server.path("roost.db").display());
    let database_path = format!("database_path={}", server.path("").display());
    let options =
        [database.as_str(), &database_path, "plain_text_passwords=true", "database_schema_path=/nowhere"];
    let ran = run(opensips_cli(&options, &["user", "add", "9001@127.0.0.1", "9001"]), PATIENCE);
    assert!(ran.stdout.contains("added") || ran.stderr.contains("added"), "{}\n{}", ran.stdout, ran.stderr);
    let mut phone: Phone = server.phone("9001");
    assert_eq!(phone.register(60).line(), "200 OK");
}

/// A row of what an exporter asks, by position, at the path with a slash.
#[test]
fn an_exporter_asks_by_position_at_the_path_with_a_slash() {
    let server = Server::started("", "");
    let body = r#"{"jsonrpc":"2.0","id":10,"method":"get_statistics","params":[["core:","shmem:","tm:","load:","net:"]]}"#;
    let host = format!("Host: {}", server.mi);
    let HttpReply { status, body, .. } =
        http(server.mi, "POST /mi/", &[&host, "Content-Type: application/json"], body);
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status, 200);
    for name in
        ["core:rcv_requests", "shmem:total_size", "tm:inuse_transactions", "load:load", "net:waiting_udp"]
    {
        assert!(answer["result"][name].is_u64(), "{name}: {answer}");
    }
    // What is reset counts from 0, and metrics go on.
    server.phone("9001").ask("OPTIONS", "sip:127.0.0.1", &[]);
    assert!(server.statistic("core:rcv_requests") > 0);
    server.mi("reset_statistics", json!([["core:"]])).expect("reset");
    assert_eq!(server.statistic("core:rcv_requests"), 0);
    let metrics = http(server.mi, "GET /metrics", &[&host], "").body;
    assert!(metrics.lines().any(|line| line == "opensips_core_rcv_requests 1"), "{metrics}");
    assert_eq!(server.mi("reset_statistics", json!([["nothing:"]])).expect_err("none").0, 404);
    assert!(
        server.mi("help", json!(["ul_dump"])).expect("help")["Help"]
            .as_str()
            .is_some_and(|help| help.contains("AORs"))
    );
    // 4.0's names, with their modules and without.
    assert!(
        server.mi("core:ps", Value::Null).is_ok()
            && server.mi("show_contact", json!(["location", "1"])).is_err()
    );
    assert_eq!(server.mi("list", Value::Null).expect_err("several").0, -32001);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let at = format!("tcp:{}", listener.local_addr().expect("an address"));
    server.mi("event_subscribe", json!(["E_UL_AOR_INSERT", at, 60])).expect("subscribed");
    server.mi("ul_add", json!(["location", "9001", "sip:9001@127.0.0.1", 0])).expect("added");
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut room = [0; 512];
    let len = stream.read(&mut room).expect("an event");
    let event: Value = serde_json::from_slice(&room[..len]).expect("JSON");
    assert_eq!((&event["method"], &event["params"]["aor"]), (&json!("E_UL_AOR_INSERT"), &json!("9001")));
}
