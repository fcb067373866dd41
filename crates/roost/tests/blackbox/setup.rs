//! `roost setup`: what it asks and refuses, and that a phone registers with what it says.

use std::fs;
use std::io::Write as _;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::{PATIENCE, Phone, free_port, need, roost, wait_for};

/// A server that ends with the test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_phone_registers_with_what_it_has_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port().to_string();
    let args = [
        "setup",
        "--yes",
        "--address",
        "127.0.0.1",
        "--port",
        &port,
        "--transports",
        "udp",
        "--extension",
        "9001-9002",
    ];
    let ran = roost(folder.path(), &args);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let password = ran.stdout.split("extension 9002, password ").nth(1).expect("a password");
    let password = password.split_whitespace().next().expect("it").to_string();
    assert!(ran.stdout.contains("roost serve"), "{}", ran.stdout);
    // The management interface of other tests stands at the usual port.
    let file = folder.path().join("roost.toml");
    let text = fs::read_to_string(&file).expect("the file");
    let mi = free_port();
    fs::write(&file, format!("{text}\n[mi]\nlisten = \"127.0.0.1:{mi}\"\n")).expect("to write");
    let serve = Command::new(env!("CARGO_BIN_EXE_roost"))
        .arg("serve")
        .current_dir(folder.path())
        .stderr(Stdio::null())
        .spawn();
    let _serving = Serving(serve.expect("a server"));
    wait_for("the server", PATIENCE, || (roost(folder.path(), &["health"]).code == Some(0)).then_some(()));
    let server = format!("127.0.0.1:{port}").parse().expect("an address");
    assert_eq!(Phone::new(server, "9002", &password).register(60).line(), "200 OK");
    assert_eq!(Phone::new(server, "9002", "guessed").register(60).status, 403);
    // What is there is not written over unasked.
    let again = roost(folder.path(), &args);
    assert!(again.code == Some(1) && again.stderr.contains("--force writes over it"), "{}", again.stderr);
}

#[test]
fn each_answer_is_tried_at_once_and_nothing_is_written_when_one_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let port = taken.local_addr().expect("its address").port().to_string();
    for (args, expected) in [
        (vec!["--address", "example.com"], "is no IP address"),
        (vec!["--address", "192.0.2.77"], "does not have the address"),
        (vec!["--address", "127.0.0.1", "--port", &port, "--transports", "udp"], "the port is in use"),
        (vec!["--transports", "sctp"], "there are udp, tcp, tls, wss"),
        (vec!["--database", "postgres://u:p@127.0.0.1:1/x", "--port", "0"], "127.0.0.1"),
        (
            vec![
                "--certificate",
                "none.pem",
                "--private-key",
                "none.key",
                "--transports",
                "tls",
                "--port",
                "0",
            ],
            "none.pem",
        ),
        (vec!["--extension", "a b:x", "--port", "0"], "no phone can have a name"),
    ] {
        let args: Vec<&str> = ["setup", "--yes"].into_iter().chain(args).collect();
        let ran = roost(folder.path(), &args);
        assert!(ran.code == Some(1) && ran.stderr.contains(expected), "{args:?}: {}", ran.stderr);
        assert!(!folder.path().join("roost.toml").exists(), "{args:?}");
    }
}

#[test]
fn it_asks_on_a_terminal_and_asks_again_where_an_answer_cannot_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = need("script", "bsdutils");
    let command = format!("{} setup", env!("CARGO_BIN_EXE_roost"));
    let mut terminal = Command::new(script)
        .args(["-qec", &command, "/dev/null"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("a terminal");
    let mut keys = terminal.stdin.take().expect("its keys");
    let port = free_port();
    let answers = ["nowhere", "127.0.0.1", "", &port.to_string(), "", "", "y", "9001:secret"];
    for answer in answers {
        thread::sleep(Duration::from_millis(400));
        write!(keys, "{answer}\r").expect("to type");
    }
    wait_for("the file", PATIENCE, || folder.path().join("roost.db").exists().then_some(()));
    drop(keys);
    terminal.wait().expect("its end");
    let text = fs::read_to_string(folder.path().join("roost.toml")).expect("the file");
    assert!(
        text.contains(&format!("\"udp:127.0.0.1:{port}\"")) && text.contains("natping_interval = 30"),
        "{text}"
    );
    let users = roost(folder.path(), &["user", "list"]);
    assert!(users.stdout.contains("9001"), "{}", users.stdout);
}
