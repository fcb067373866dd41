//! `roost upgrade`: the process becomes another binary, and nobody who calls or is called notices.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::json;

use crate::support::{
    AnyLine, Dialog, PATIENCE, Phone, Server, TcpPhone, ack_of_failure, cancel_of, phone, wait_for,
};

/// A caller and a callee of a server whose binary can be changed.
fn calling() -> (Server, Phone, Phone) {
    let server = Server::for_calls("[tm]\nfr_inv_timeout = 20\n");
    let (caller, callee) = (server.registered("9001"), server.registered("9002"));
    (server, caller, callee)
}

#[test]
fn a_call_that_rings_is_answered_through_the_next_binary() {
    let (server, mut caller, callee) = calling();
    let pid = server.pid();
    let invite = caller.invite("9002");
    let asked = callee.await_request("INVITE");
    callee.send(callee.answer(&asked, "180 Ringing"));
    caller.await_status(180, "INVITE");
    let said = server.succeed(&["upgrade"]);
    assert!(said.contains("the server runs"), "{said}");
    assert!(fs::metadata(format!("/proc/{pid}")).is_ok(), "it is the same process");
    // What comes again is known: nobody rings twice.
    caller.send(&invite);
    callee.hears_nothing("the INVITE is a retransmission");
    callee.send(callee.answer(&asked, "200 OK"));
    let answer = caller.await_status(200, "INVITE");
    let mut dialog = Dialog::of_caller(&caller, &answer);
    caller.send(dialog.request("ACK", &[]));
    callee.await_request("ACK");
    assert_eq!(server.statistic("dialog:active_dialogs"), 1);
    caller.send(dialog.request("BYE", &[]));
    let bye = callee.await_request("BYE");
    callee.send(callee.answer(&bye, "200 OK"));
    caller.await_status(200, "BYE");
    assert_eq!(server.statistic("dialog:active_dialogs"), 0);
}

#[test]
fn calls_in_progress_and_bindings_go_on_and_who_gives_up_is_heard() {
    let (server, mut caller, callee) = calling();
    let (mut one, _) = caller.establish(&callee);
    let mut third = server.registered("9003");
    let invite = third.invite("9002");
    let asked = callee.await_request("INVITE");
    callee.send(callee.answer(&asked, "180 Ringing"));
    third.await_status(180, "INVITE");
    for _ in 0..2 {
        server.succeed(&["upgrade"]);
    }
    assert_eq!((server.statistic("dialog:active_dialogs"), server.statistic("dialog:early_dialogs")), (1, 1));
    third.send(cancel_of(&invite));
    third.await_status(200, "CANCEL");
    let cancel = callee.await_request("CANCEL");
    callee.send(callee.answer(&cancel, "200 OK"));
    callee.send(callee.answer(&asked, "487 Request Terminated"));
    let failed = third.await_status(487, "INVITE");
    third.send(ack_of_failure(&invite, &failed));
    caller.send(one.request("BYE", &[]));
    let bye = callee.await_request("BYE");
    callee.send(callee.answer(&bye, "200 OK"));
    caller.await_status(200, "BYE");
    assert_eq!((server.statistic("dialog:active_dialogs"), server.statistic("dialog:early_dialogs")), (0, 0));
    assert!(caller.query().header("Contact").is_some(), "its binding is there");
}

#[test]
fn a_phone_that_nobody_answers_is_given_up_in_time_by_the_next_binary() {
    let server = Server::for_calls("[tm]\nfr_inv_timeout = 3\n");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let invite = caller.invite("9002");
    let asked = callee.await_request("INVITE");
    callee.send(callee.answer(&asked, "180 Ringing"));
    caller.await_status(180, "INVITE");
    server.succeed(&["upgrade"]);
    let cancel = callee.await_request("CANCEL");
    callee.send(callee.answer(&cancel, "200 OK"));
    let failed = caller.await_status(408, "INVITE");
    caller.send(ack_of_failure(&invite, &failed));
}

#[test]
fn what_comes_meanwhile_waits() {
    let (server, mut caller, _callee) = calling();
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| server.succeed(&["upgrade"]));
        // Sent at every moment of it: each is answered. Each is a request of its own: one that comes again while the first waits for
        // the disk has no answer of its own.
        for _ in 0..20 {
            let register = caller.register_message(&[]);
            caller.send(&register);
            std::thread::sleep(Duration::from_millis(50));
        }
        upgrade.join().expect("an upgrade");
    });
    let mut answered = 0;
    wait_for("20 answers", PATIENCE, || {
        answered += caller.listen(Duration::from_millis(100)).len();
        (answered >= 20).then_some(())
    });
}

#[test]
fn connections_go_on_with_half_messages_and_calls_that_ring() {
    let (server, mut caller, _) = calling();
    let mut callee = phone(AnyLine::open("tcp", server.sip, &server.path("none")), "9003");
    assert_eq!(callee.register(300).line(), "200 OK");
    let mut slow = TcpPhone::registered(&server, "9002");
    caller.invite("9003");
    let asked = callee.await_request("INVITE");
    callee.send(callee.answer(&asked, "180 Ringing"));
    caller.await_status(180, "INVITE");
    let options = slow.message("OPTIONS", "sip:127.0.0.1", &[], "");
    let (first, second) = options.split_at(options.len() / 2);
    slow.send(first);
    std::thread::sleep(Duration::from_millis(200));

    for _ in 0..2 {
        server.succeed(&["upgrade"]);
    }
    // It rang over the connection, and is answered over it through the third process.
    callee.send(callee.answer(&asked, "200 OK"));
    let answer = caller.await_status(200, "INVITE");
    let mut dialog = Dialog::of_caller(&caller, &answer);
    caller.send(dialog.request("ACK", &[]));
    callee.await_request("ACK");
    slow.send(second);
    assert_eq!(slow.response().line(), "200 OK");
    // The binding leads over it yet, although nobody connects to a phone behind NAT.
    assert_eq!(
        server.mi("list_tcp_conns", json!({})).map(|all| all["Connections"].as_array().map(Vec::len)),
        Ok(Some(2))
    );
    caller.send(dialog.request("BYE", &[]));
    let bye = callee.await_request("BYE");
    callee.send(callee.answer(&bye, "200 OK"));
    caller.await_status(200, "BYE");
    caller.invite("9002");
    let asked = slow.receive(PATIENCE).expect("a call over its connection");
    assert!(asked.starts_with("INVITE "), "{asked}");
    // The phone ends it: it is known as the connection that the binding was made over.
    drop(slow);
    wait_for("the binding without a flow", PATIENCE, || {
        let all = server.mi("list_tcp_conns", json!({})).expect("a list");
        (all["Connections"].as_array()?.len() == 1).then_some(())
    });
}

#[test]
fn sessions_of_tls_cannot_move_and_their_phones_come_again() {
    let (mut server, at) = Server::prepared_with_tls();
    server.add_user("9001", "9001");
    server.start();
    let ca = server.path("tls/ca.pem");
    let mut before = phone(AnyLine::open("tls", at, &ca), "9001");
    assert_eq!(before.register(300).line(), "200 OK");
    server.succeed(&["upgrade"]);
    assert!(before.receive(Duration::from_secs(2)).is_none());
    let mut after = phone(AnyLine::open("tls", at, &ca), "9001");
    assert_eq!(after.register(300).line(), "200 OK");
    let all = server.mi("list_tcp_conns", json!({})).expect("a list");
    assert_eq!(all["Connections"].as_array().map(Vec::len), Some(1), "{all}");
}

#[test]
fn a_binary_that_is_none_or_refuses_the_configuration_changes_nothing() {
    let (server, mut caller, callee) = calling();
    let bad = server.path("bad");
    fs::write(&bad, "#!/bin/sh\necho 'bad: unknown key' >&2\nexit 1\n").expect("to write");
    fs::set_permissions(&bad, fs::Permissions::from_mode(0o755)).expect("to change");
    let bad = bad.to_str().expect("a path");
    for (binary, expected) in
        [("none", "there is no file none"), (bad, "does not take the configuration: bad: unknown key")]
    {
        let ran = server.roost(&["upgrade", "--binary", binary]);
        assert!(ran.code == Some(1) && ran.stderr.contains(expected), "{}", ran.stderr);
    }
    // A stranger's file is not run in the server's name.
    let open = server.path("open");
    fs::copy(env!("CARGO_BIN_EXE_roost"), &open).expect("to copy");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("to change");
    let ran = server.roost(&["upgrade", "--binary", open.to_str().expect("a path")]);
    assert!(ran.code == Some(1) && ran.stderr.contains("writable by nobody else"), "{}", ran.stderr);
    // One that takes the configuration and cannot be run: the one that ran goes on.
    let odd = server.path("odd");
    fs::write(&odd, "#!/bin/sh\n[ \"$LISTEN_FDS\" ] || exit 0\nrm -f \"$0\"; exec \"$0\"\n")
        .expect("to write");
    fs::set_permissions(&odd, fs::Permissions::from_mode(0o644)).expect("to change");
    let ran = server.roost(&["upgrade", "--binary", odd.to_str().expect("a path")]);
    assert!(ran.code == Some(1) && ran.stderr.contains("does not run"), "{}", ran.stderr);
    let (mut one, _) = caller.establish(&callee);
    caller.send(one.request("BYE", &[]));
    callee.await_request("BYE");
}
