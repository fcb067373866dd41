//! `roost reload`: another configuration while phones register and talk; a broken one that changes nothing.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};

use crate::support::{AnyLine, PATIENCE, Phone, Server, free_port, phone, shown_certificate, wait_for};
use serde_json::{Value, json};

const BEFORE: &str = "[registrar]\nmax_expires = 200\n";

fn granted(server: &Server, user: &str) -> u64 {
    let contact = server.contact(user);
    contact["Expires"].as_u64().unwrap_or_else(|| panic!("{contact}"))
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|one| one["Key"].as_str().expect("a name")).collect()
}

#[test]
fn another_configuration_counts_at_once_and_calls_go_on() {
    let server = Server::for_calls(BEFORE);
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (mut ours, _) = caller.establish(&callee);
    server.replace_in_config("max_expires = 200", "max_expires = 100");
    let file = server.path("roost.toml");
    let text = fs::read_to_string(&file).expect("the configuration");
    fs::write(&file, format!("server_header = \"other\"\nworkers = 1\n{text}")).expect("written");

    // Said, and nothing done.
    let said: Value =
        serde_json::from_str(&server.succeed(&["--json", "reload", "--dry-run"])).expect("JSON");
    assert_eq!(names(&said["Changed"]), ["server_header", "registrar.max_expires"], "{said}");
    assert_eq!(names(&said["Restart"]), ["workers"], "{said}");
    assert_eq!(said["Changed"][1], json!({"Key": "registrar.max_expires", "Old": "200", "New": "100"}));
    assert_eq!(caller.register(3_000).line(), "200 OK");
    assert!(granted(&server, "9001") > 150);

    let said = server.succeed(&["reload"]);
    assert!(said.contains("registrar.max_expires  200") && said.contains("needs a restart:"), "{said}");
    let answer = caller.register(3_000);
    assert_eq!(answer.line(), "200 OK");
    assert_eq!(answer.header("Server"), Some("other"));
    assert!(granted(&server, "9001") <= 100);
    let shown: Value =
        serde_json::from_str(&server.succeed(&["--json", "config", "show", "--running"])).expect("JSON");
    let line = |name: &str| shown.as_array().unwrap().iter().find(|line| line["name"] == name).unwrap();
    assert_eq!(line("registrar.max_expires")["value"], 100);
    assert_ne!(line("workers")["value"], 1, "that takes a restart");
    assert_eq!(server.mi("reload", json!({})).expect("it is read")["Changed"], json!([]));
    // Who was talking is, and hangs up as ever.
    caller.send(ours.request("BYE", &[]));
    let bye = callee.await_request("BYE");
    callee.send(callee.answer(&bye, "200 OK"));
    caller.await_status(200, "BYE");
}

#[test]
fn listeners_come_and_go_while_calls_go_on() {
    let server = Server::for_calls(BEFORE);
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (mut ours, _) = caller.establish(&callee);
    let (udp, tcp) = (free_port(), free_port());
    let usual = fs::read_to_string(server.path("roost.toml")).expect("the configuration");
    server.also_listen(&format!("udp:127.0.0.1:{udp}"));
    server.also_listen(&format!("tcp:127.0.0.1:{tcp}"));
    let said: Value =
        serde_json::from_str(&server.succeed(&["--json", "reload", "--dry-run"])).expect("JSON");
    assert_eq!((names(&said["Changed"]), names(&said["Restart"])), (vec!["listen"], vec![]), "{said}");
    assert!(TcpStream::connect(("127.0.0.1", tcp)).is_err(), "it was only asked");
    server.succeed(&["reload"]);

    // Phones of the new addresses register there and are called by those of the old one.
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    server.add_user("9004", "9004");
    let mut datagrams = Phone::new(at(udp), "9003", "9003");
    let mut idle = TcpStream::connect(at(tcp)).expect("a connection");
    let mut connected = phone(AnyLine::open("tcp", at(tcp), &server.path("none")), "9004");
    for phone in [datagrams.register(300), connected.register(300)] {
        assert_eq!(phone.line(), "200 OK");
    }
    assert_eq!(server.contact("9003")["Socket"], format!("udp:127.0.0.1:{udp}"));
    let (mut to_new, _) = caller.establish(&datagrams);
    caller.send(to_new.request("BYE", &[]));
    let bye = datagrams.await_request("BYE");
    datagrams.send(datagrams.answer(&bye, "200 OK"));
    caller.await_status(200, "BYE");

    // An address that somebody else has is refused as a whole.
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let good = fs::read_to_string(server.path("roost.toml")).expect("the configuration");
    server.also_listen(&format!("udp:{}", taken.local_addr().expect("bound")));
    let ran = server.roost(&["reload"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("the port is in use"), "{}", ran.stderr);
    fs::write(server.path("roost.toml"), good).expect("written");

    // They go again: nobody listens there, who is connected is cut off, and those of the old one go on.
    fs::write(server.path("roost.toml"), usual).expect("written");
    server.succeed(&["reload"]);
    wait_for("both to be free", PATIENCE, || {
        let is_free = UdpSocket::bind(at(udp)).is_ok() && TcpStream::connect(at(tcp)).is_err();
        is_free.then_some(())
    });
    idle.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    assert_eq!(idle.read(&mut [0]).expect("an end"), 0);
    caller.send(ours.request("BYE", &[]));
    let bye = callee.await_request("BYE");
    callee.send(callee.answer(&bye, "200 OK"));
    caller.await_status(200, "BYE");
}

#[test]
fn a_broken_file_changes_nothing_and_says_why_line_by_line() {
    let server = Server::for_calls(BEFORE);
    let mut phone = server.registered("9001");
    let good = fs::read_to_string(server.path("roost.toml")).expect("the configuration");
    let line = good.lines().count() + 1;
    for (broken, why) in [
        (
            "[registrat]\n",
            format!("roost.toml:{line}: unknown section [registrat]; did you mean `registrar`?"),
        ),
        ("[tm]\nfr_timeout = \"x\"\n", format!("roost.toml:{}: `tm.fr_timeout` must be", line + 1)),
        ("]", format!("roost.toml:{line}")),
    ] {
        let text = good.replace("max_expires = 200", "max_expires = 100") + broken;
        fs::write(server.path("roost.toml"), text).expect("it can be written");
        let ran = server.roost(&["reload"]);
        assert_eq!(ran.code, Some(1));
        assert!(ran.stderr.contains("nothing was changed") && ran.stderr.contains(&why), "{}", ran.stderr);
        let (code, message) = server.mi("reload", json!({})).expect_err("it is broken");
        assert!(code == 500 && message.contains(&why), "{code} {message}");
        server.signal("HUP");
        assert_eq!(phone.register(3_000).line(), "200 OK");
        assert!(granted(&server, "9001") > 150);
    }
    // Not for ever: the next good one counts.
    fs::write(server.path("roost.toml"), good.replace("max_expires = 200", "max_expires = 100"))
        .expect("written");
    server.signal("HUP");
    wait_for("the reload", PATIENCE, || {
        assert_eq!(phone.register(3_000).line(), "200 OK");
        (granted(&server, "9001") <= 100).then_some(())
    });
}

#[test]
fn another_certificate_file_counts_for_connections_that_begin_later() {
    let (mut server, at) = Server::prepared_with_tls();
    server.add_user("9001", "9001");
    server.start();
    let ca = server.path("tls/ca.pem");
    let mut connected = phone(AnyLine::open("tls", at, &ca), "9001");
    assert_eq!(connected.register(300).line(), "200 OK");
    let first = shown_certificate(at, &ca);
    for end in ["pem", "key"] {
        fs::copy(server.path(&format!("tls/localhost.{end}")), server.path(&format!("tls/old.{end}")))
            .expect("a copy");
    }
    server.succeed(&["tls", "new", "localhost", "--replace"]);
    server.replace_in_config("localhost.pem", "old.pem");
    // A certificate without its key is refused as a whole.
    let ran = server.roost(&["reload"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("nothing was changed"), "{}", ran.stderr);
    server.replace_in_config("localhost.key", "old.key");
    server.succeed(&["reload"]);
    assert_eq!(shown_certificate(at, &ca), first);
    assert_eq!(connected.register(300).line(), "200 OK", "who was connected is");
}
