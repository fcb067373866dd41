//! `roost drain`: a server leaves without anybody losing a call.

use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Server, TcpPhone, ack_of_failure, wait_for};
use serde_json::json;

#[test]
fn a_server_that_is_drained_takes_nobody_and_ends_with_its_last_call() {
    let mut server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let mut connected = TcpPhone::registered(&server, "9003");
    let (mut ours, _) = caller.establish(&callee);
    let ready =
        |server: &Server| server.mi("sr_get_status", json!({})).expect("a status")["Readiness"] == true;
    assert!(ready(&server));

    server.succeed(&["drain", "--within", "60", "--retry-after", "20", "--no-wait"]);
    assert!(!ready(&server));
    let refused = server.phone("9001").register(60);
    assert_eq!(refused.line(), "503 Service Unavailable");
    let after: u64 = refused.header("Retry-After").and_then(|text| text.parse().ok()).expect("a number");
    assert!((20..40).contains(&after), "{after}");
    let invite = caller.invite("9002");
    let answer =
        caller.await_message("an answer", |message| message.status().is_some_and(|code| code >= 200));
    assert_eq!(answer.status(), Some(503));
    caller.send(ack_of_failure(&invite, &answer));
    wait_for("the log", PATIENCE, || {
        server
            .log
            .text()
            .contains("REGISTER refused: 503 this server is being taken out of service")
            .then_some(())
    });

    // Back, and out again.
    assert_eq!(server.succeed(&["drain", "--undo"]), "back in service\n");
    assert!(ready(&server));
    assert_eq!(server.phone("9001").register(60).line(), "200 OK");
    server.succeed(&["drain", "--within", "5", "--no-wait"]);
    // The call that was in progress ends as it should; connections are closed, and then the server ends by itself.
    caller.send(ours.request("BYE", &[]));
    let bye = callee.await_request("BYE");
    callee.send(callee.answer(&bye, "200 OK"));
    caller.await_status(200, "BYE");
    assert!(connected.is_ended(PATIENCE), "its connection is closed");
    let begun = Instant::now();
    assert_eq!(server.wait_for_end(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(7));
}

#[test]
fn the_time_is_over_though_a_call_is_left() {
    let mut server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let _dialogs = caller.establish(&callee);
    let begun = Instant::now();
    let said = server.succeed(&["drain", "--within", "3"]);
    assert!(
        said.contains("1 calls and 0 connections are left") && said.ends_with("it has ended\n"),
        "{said}"
    );
    assert!((2..10).contains(&begun.elapsed().as_secs()));
    assert_eq!(server.wait_for_end(), Some(0));
}
