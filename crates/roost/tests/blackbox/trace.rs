//! `roost trace`: a call between two phones as a ladder, and as a file that is one of Wireshark's.

use std::process::Stdio;

use crate::support::{PATIENCE, Phone, Server, ack_of_failure, wait_for, wait_for_end};

#[test]
fn a_call_is_shown_as_a_ladder_and_written_to_a_file() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let file = server.path("call.pcapng");
    let mut command = server.command(&["trace", "9001", "--count", "14", "--full", "--write"]);
    let mut child =
        command.arg(&file).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    wait_for("the trace", PATIENCE, || (server.statistic("hep:collectors") == 1).then_some(()));
    // Somebody else's registration is not shown.
    server.registered("9003");
    let (mut dialog, _) = caller.establish(&callee);
    caller.send(dialog.request("BYE", &[]));
    let bye = callee.await_request("BYE");
    callee.answer(&bye, "200 OK");
    // Its password is masked.
    caller.register(300);
    wait_for_end(&mut child, PATIENCE).expect("it ends by itself");
    let output = child.wait_with_output().expect("what it said");
    let said = String::from_utf8_lossy(&output.stdout);
    for part in
        ["9001 127.0.0.1:", "roost", " INVITE 9002@", "─▶│", "│◀─", " 100 Giving a try ", " 200 OK ", " BYE "]
    {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    assert!(!said.contains("9003") && !said.contains("response=\"0"), "{said}");
    // Beside them what roost decided.
    for decision in ["· 9002 is registered and takes it at its contact", "· sent to sip:9002@"] {
        assert!(said.contains(decision), "{decision} is missing in\n{said}");
    }
    let bytes = std::fs::read(&file).expect("the file");
    assert_eq!(bytes[..4], [0x0a, 0x0d, 0x0d, 0x0a], "a section header of pcapng");
    assert!(bytes.windows(6).any(|part| part == b"INVITE"));
    wait_for("its end", PATIENCE, || (server.statistic("hep:collectors") == 0).then_some(()));
    assert!(
        server
            .roost(&["trace", "--call", "x", "--write", "/nowhere/x"])
            .stderr
            .contains("cannot write /nowhere/x")
    );
}

#[test]
fn the_ladder_of_the_last_failure_is_there_without_having_been_asked_for() {
    let server = Server::for_calls("[tm]\nfr_timeout = 1");
    let last = |args: &[&str], wanted: &[&str]| {
        wait_for("the messages of a failure", PATIENCE, || {
            let ran = server.roost(&[&["trace", "--last"], args].concat());
            wanted.iter().all(|part| ran.stdout.contains(part)).then_some(ran.stdout)
        })
    };
    // A registration that is refused.
    let mut guesser = Phone::new(server.sip, "9003", "wrong");
    guesser.register(60);
    let said = last(&["9003", "--full"], &[" REGISTER 127.0.0.1", " 403 Forbidden "]);
    assert!(said.contains("username=\"9003\"") && said.contains("response=\"****"), "{said}");
    let credentials = said.lines().find(|line| line.contains("Authorization: ")).unwrap_or_default();
    assert!(credentials.contains(" nonce=\"****"), "{credentials}");
    assert!(server.succeed(&["why", "9003"]).contains("roost trace --last 9003"));

    // A call to one that is busy: both sides of it, from the caller's name and from the callee's.
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let invite = caller.invite("9002");
    let received = callee.await_request("INVITE");
    callee.answer(&received, "180 Ringing");
    callee.answer(&received, "486 Busy Here");
    let failure = caller.await_final("INVITE");
    caller.send(ack_of_failure(&invite, &failure));
    for extension in ["9001", "9002"] {
        // What went on is told by another worker than what came, each in its time.
        let said = wait_for("all of its messages", PATIENCE, || {
            let said = last(&[extension], &[" 486 Busy Here "]);
            let count = |part: &str| said.matches(part).count();
            // As each came and as it went on.
            (count(" INVITE 9002@") == 2 && count(" 486 Busy Here ") == 2).then_some(said)
        });
        let order = [" INVITE 9002@", "─▶│", " 486 Busy Here ", "◀─"];
        assert!(order.iter().all(|part| said.contains(part)), "{said}");
        assert!(said.contains(" 180 Ringing "), "{said}");
    }
    // A phone that says nothing.
    callee.answer(&received, "486 Busy Here");
    let invite = caller.invite("9002");
    let failure = caller.await_final("INVITE");
    assert_eq!(failure.line(), "408 Request Timeout");
    caller.send(ack_of_failure(&invite, &failure));
    let said = last(&["9002"], &[" 408 Request Timeout "]);
    assert!(said.matches(" INVITE 9002@").count() == 2 && !said.contains(" 486 Busy"), "{said}");
    let nothing = server.roost(&["trace", "--last", "9009"]);
    assert!(nothing.stderr.contains("nothing of it has failed"), "{}", nothing.stderr);
}

#[test]
fn credentials_are_shown_where_they_are_asked_for_and_to_nobody_else() {
    let server = Server::for_calls("");
    let start = |args: &[&str]| {
        let mut command = server.command(&[&["trace", "9001", "--full", "--count", "4"], args].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts")
    };
    let (open, masked) = (start(&["--show-secrets"]), start(&[]));
    wait_for("both traces", PATIENCE, || (server.statistic("hep:collectors") == 2).then_some(()));
    server.registered("9001");
    let said = |mut child: std::process::Child| {
        wait_for_end(&mut child, PATIENCE).expect("it ends by itself");
        String::from_utf8_lossy(&child.wait_with_output().expect("what it said").stdout).into_owned()
    };
    let (open, masked) = (said(open), said(masked));
    assert!(open.contains("response=\"") && !open.contains("response=\"****"), "{open}");
    assert!(masked.contains("response=\"****"), "{masked}");
    // Never to another machine.
    let elsewhere = serde_json::json!({ "id": "x", "uri": "hep:192.0.2.1:9060", "secrets": 1 });
    assert_eq!(server.mi("trace_start", elsewhere).expect_err("a refusal").0, 400);
}
