//! `roost try`: requests that are only thought of are decided as real ones are, and leave nothing behind.

use serde_json::{Value, json};

use crate::support::{MediaServer, Phone, Server};

/// The texts of what was decided.
fn decisions(course: &Value) -> String {
    course["Decisions"].as_array().into_iter().flatten().map(|one| format!("{one}\n")).collect()
}

#[test]
fn a_register_is_decided_as_the_real_one_and_changes_nothing() {
    let mut server = Server::prepared("", "[registrar]\nexclusive = \"ip\"\n[auth]\nban_failures = 3");
    server.add_users(9001, 2);
    server.start();
    let attempt = |args: &[&str]| -> Value {
        let printed = server.succeed(&[&["--json", "try", "REGISTER"], args].concat());
        serde_json::from_str(&printed).expect("JSON")
    };
    let course = attempt(&["9001", "--from", "10.0.0.9:5060", "--expires", "60"]);
    assert_eq!(course["Answer"], "200 OK", "{course}");
    assert!(decisions(&course).contains("sip:9001@10.0.0.9:5060 is registered for 60 s"), "{course}");
    assert!(decisions(&course).contains("registrar.min_expires"), "each with its key: {course}");
    assert_eq!(server.rows(None), 0, "nothing is written");

    // A password that is wrong more often than is allowed: nobody is banned for thinking of it.
    for _ in 0..6 {
        let course = attempt(&["9001", "--password", "wrong"]);
        assert_eq!(course["Answer"], "403 Forbidden", "{course}");
        assert!(decisions(&course).contains("wrong-password"), "{course}");
    }
    assert_eq!(attempt(&["9001", "--password", "9001"])["Answer"], "200 OK");
    assert_eq!(attempt(&["9009"])["Answer"], "404 Not Found");
    assert_eq!(server.mi("ban_list", Value::Null).expect("bans")["Bans"], json!([]));
    for name in ["registrar:accepted_regs", "registrar:rejected_regs", "core:rcv_requests"] {
        assert_eq!(server.statistic(name), 0, "{name}");
    }
    let why = server.mi("why", json!(["9001"])).expect("a verdict");
    assert_eq!(why["Reason"], "never-seen", "{why}");

    // It says what the real one meets.
    let mut phone = server.registered("9001");
    assert_eq!(attempt(&["9001"])["Answer"], "200 OK", "from where it is registered");
    let course = attempt(&["9001", "--from", "127.0.0.2:5060"]);
    assert_eq!(course["Answer"], "403 Occupied", "{course}");
    assert_eq!(Phone::at("127.0.0.2", server.sip, "9001", "9001").register(60).line(), "403 Occupied");
    assert_eq!(phone.register(60).line(), "200 OK", "its nonce is as good as before");
    // A ban that is there is told, and stays.
    server.succeed(&["ban", "add", "10.0.0.9"]);
    let course = attempt(&["9002", "--from", "10.0.0.9"]);
    assert_eq!(
        (course["Answer"].clone(), decisions(&course).contains("banned")),
        (Value::Null, true),
        "{course}"
    );
}

#[test]
fn a_call_is_decided_as_the_real_one_and_nothing_is_sent() {
    let gateway = MediaServer::new("127.0.0.3");
    let sections = format!("[[route]]\nprefix = \"0\"\nstrip = 1\nhops = [\"{}\"]", gateway.uri());
    let server = Server::for_calls(&sections);
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let printed = server.succeed(&["try", "INVITE", "9001", "00493012345"]);
    assert!(printed.contains("the [[route]] of set 1 takes it (prefix = \"0\")"), "{printed}");
    assert!(printed.contains("INVITE sip:0493012345@"), "the digits as they go out: {printed}");
    assert!(printed.contains("+Record-Route: ") && printed.contains("-Max-Forwards: 70"), "{printed}");
    assert!(printed.contains("No answer yet"), "{printed}");
    let printed = server.succeed(&["try", "INVITE", "9001", "9002"]);
    assert!(printed.contains("9002 is registered and takes it at its contact"), "{printed}");
    assert!(printed.contains(&format!("Sent to {} by udp", callee.local())), "{printed}");
    let printed = server.succeed(&["try", "INVITE", "9001", "9003"]);
    assert!(printed.contains("Answer: 404 Not Found"), "{printed}");
    assert_eq!(server.statistic("tm:UAS_transactions"), 0);
    assert_eq!((gateway.heard("INVITE").len(), server.statistic("dialog:early_dialogs")), (0, 0));

    // The real ones go as they were said to go.
    caller.invite("9003");
    assert_eq!(caller.await_final("INVITE").line(), "404 Not Found");
    caller.invite("9002");
    callee.await_request("INVITE");
}

#[test]
fn what_cannot_be_tried_is_said() {
    let server = Server::for_calls("");
    for (args, words) in [
        (&["ACK", "9001", "9002"][..], "ACK begins nothing"),
        (&["INVITE", "9001"], "who is called by this INVITE?"),
        (&["REGISTER", "9001", "--transport", "sctp"], "`sctp` is no transport"),
        (&["REGISTER", "9001", "--transport", "wss"], "nothing listens for wss"),
        (&["REGISTER", "9001", "--from", "phone"], "`phone` is no ADDRESS"),
        (&["REGISTER", "9001", "--header", "X"], "`X` is no header"),
        (&["REGISTER", "90 01"], "an extension has no blanks"),
        (&["REGISTER", "9001", "--user-agent", "a\r\nb"], "no control characters"),
    ] {
        let ran = server.roost(&[&["try"], args].concat());
        assert!(ran.code == Some(1) && ran.stderr.contains(words), "{args:?}: {}", ran.stderr);
    }
}
