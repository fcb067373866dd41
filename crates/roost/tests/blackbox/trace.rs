//! `roost trace`: a call between two phones as a ladder, and as a file that is one of Wireshark's.

use std::process::Stdio;

use crate::support::{PATIENCE, Server, wait_for, wait_for_end};

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
