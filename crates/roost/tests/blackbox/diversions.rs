//! Calls that do not reach an extension: `[[route]]` with `on`, what the hop is told of them, and answers of an operator's words.

use crate::support::{MediaServer, Phone, Server, cancel_of, header};

fn diverts(media: &MediaServer, keys: &str) -> String {
    format!("[[route]]\nuser = \"^900\"\nhops = [\"{}\"]\n{keys}\n", media.uri())
}

/// A server whose routes these are, its caller 9001 and its callee 9002.
fn calling(sections: &str) -> (Server, Phone, Phone) {
    let server = Server::for_calls(sections);
    let (caller, callee) = (server.registered("9001"), server.registered("9002"));
    (server, caller, callee)
}

/// The callee answers a call with a failure.
fn refuse(callee: &Phone, line: &str) {
    let invite = callee.await_request("INVITE");
    callee.send(callee.answer(&invite, line));
    callee.await_request("ACK");
}

#[test]
fn calls_that_fail_go_where_the_route_says_and_the_hop_is_told_whose_they_were() {
    let media = MediaServer::new("127.0.0.2");
    let keys = "on = [\"busy\", \"refused\"]\ndiversion = \"diversion\"\nset_headers = [\"X-Why: away\"]\nremove_headers = [\"X-In\"]";
    let (_server, mut caller, callee) = calling(&diverts(&media, keys));
    for (line, reason) in [
        ("486 Busy Here", Some("user-busy")),
        ("600 Busy Everywhere", Some("user-busy")),
        ("603 Decline", Some("deflection")),
        ("403 Forbidden", Some("deflection")),
        ("480 Temporarily Unavailable", None),
        ("404 Not Found", None),
    ] {
        let before = media.heard("INVITE").len();
        let invite = caller.initial("INVITE", "9002", &["X-In: secret"]);
        caller.send(&invite);
        refuse(&callee, line);
        let answer = caller.await_outcome(&invite);
        let heard = media.heard("INVITE");
        match reason {
            Some(reason) => {
                assert_eq!(answer.status(), Some(200), "{line}");
                let told = &heard[before];
                assert_eq!(
                    header(told, "Diversion"),
                    Some(&*format!("<sip:9002@127.0.0.1>;reason={reason};counter=1"))
                );
                assert!(header(told, "X-Why") == Some("away") && header(told, "X-In").is_none(), "{told}");
            }
            None => {
                assert_eq!(answer.line(), line);
                assert_eq!(heard.len(), before, "{line} is nothing that the route is for");
            }
        }
    }
}

#[test]
fn a_phone_that_rings_too_long_is_silenced_and_the_call_goes_to_voicemail() {
    let media = MediaServer::new("127.0.0.2");
    let keys = "on = [\"no-answer\"]\nafter = 1\ndiversion = \"history-info\"";
    let (_server, mut caller, callee) = calling(&diverts(&media, keys));
    let invite = caller.invite("9002");
    let rings = callee.await_request("INVITE");
    callee.send(callee.answer(&rings, "180 Ringing"));
    let cancel = callee.await_request("CANCEL");
    callee.send(callee.answer(&cancel, "200 OK"));
    callee.send(callee.answer(&rings, "487 Request Terminated"));
    assert_eq!(caller.await_outcome(&invite).status(), Some(200));
    let told = media.heard("INVITE").remove(0);
    let expected = format!(
        "<sip:9002@127.0.0.1?Reason=SIP%3Bcause%3D408>;index=1, <sip:9002@{}>;index=1.1;mp=1",
        media.address
    );
    assert_eq!(header(&told, "History-Info"), Some(&*expected));
}

#[test]
fn a_call_that_comes_back_from_voicemail_is_not_sent_there_again() {
    let media = MediaServer::new("127.0.0.2");
    let (_server, mut caller, callee) = calling(&diverts(&media, "on = [\"offline\", \"busy\"]"));
    for told in [
        "Diversion: <sip:9002@roost.test>;reason=user-busy;counter=1",
        "History-Info: <sip:9002@a>;index=1, <sip:9002@b>;index=1.1",
    ] {
        let invite = caller.initial("INVITE", "9002", &[told]);
        caller.send(&invite);
        refuse(&callee, "486 Busy Here");
        assert_eq!(caller.await_outcome(&invite).status(), Some(486), "{told}");
    }
    let other = caller.initial("INVITE", "9002", &["Diversion: <sip:9003@roost.test>;reason=user-busy"]);
    caller.send(&other);
    refuse(&callee, "486 Busy Here");
    assert_eq!(caller.await_outcome(&other).status(), Some(200), "it was diverted from another extension");
    // One that is not registered at all.
    let invite = caller.initial("INVITE", "9003", &["Diversion: <sip:9003@roost.test>;reason=unavailable"]);
    caller.send(&invite);
    assert_eq!(caller.await_outcome(&invite).status(), Some(404));
    assert_eq!(media.heard("INVITE").len(), 1);
}

#[test]
fn a_caller_who_gives_up_is_not_diverted_and_a_hop_that_fails_leaves_the_phones_answer() {
    let media = MediaServer::new("127.0.0.2");
    let keys = "on = [\"busy\", \"no-answer\"]\nafter = 30";
    let (_server, mut caller, callee) = calling(&diverts(&media, keys));
    let invite = caller.invite("9002");
    let rings = callee.await_request("INVITE");
    callee.send(callee.answer(&rings, "180 Ringing"));
    caller.await_status(180, "INVITE");
    caller.send(cancel_of(&invite));
    let cancel = callee.await_request("CANCEL");
    callee.send(callee.answer(&cancel, "200 OK"));
    callee.send(callee.answer(&rings, "487 Request Terminated"));
    assert_eq!(caller.await_outcome(&invite).status(), Some(487));
    assert_eq!(media.heard("INVITE").len(), 0);

    let full = MediaServer::answering(media.kill(), "503 Service Unavailable");
    let invite = caller.invite("9002");
    refuse(&callee, "486 Busy Here");
    assert_eq!(caller.await_outcome(&invite).line(), "486 Busy Here");
    assert_eq!(full.heard("INVITE").len(), 1, "once");
}

#[test]
fn an_extension_with_as_many_calls_as_it_may_have_is_busy() {
    let media = MediaServer::new("127.0.0.2");
    let sections = format!("[dialog]\nmax_calls = 1\n{}", diverts(&media, "on = [\"busy\"]"));
    let (server, mut caller, callee) = calling(&sections);
    caller.establish(&callee);
    let mut other = server.registered("9003");
    let invite = other.invite("9002");
    assert_eq!(other.await_outcome(&invite).status(), Some(200));
    assert_eq!(media.heard("INVITE").len(), 1);
}

#[test]
fn the_first_rule_that_is_for_a_failure_takes_it_whichever_stands_before() {
    let (queue, mailbox) = (MediaServer::new("127.0.0.2"), MediaServer::new("127.0.0.3"));
    let rule = |media: &MediaServer, on: &str| diverts(media, &format!("on = [\"{on}\"]"));
    let (_server, mut caller, callee) = calling(&(rule(&queue, "busy") + &rule(&mailbox, "offline")));
    let invite = caller.invite("9003");
    assert_eq!(caller.await_outcome(&invite).status(), Some(200));
    let invite = caller.invite("9002");
    refuse(&callee, "486 Busy Here");
    assert_eq!(caller.await_outcome(&invite).status(), Some(200));
    assert_eq!((queue.heard("INVITE").len(), mailbox.heard("INVITE").len()), (1, 1));
}

#[test]
fn an_operators_words_answer_calls_while_registrations_go_on() {
    let (server, mut caller, callee) =
        calling("[[route]]\nreply = \"503 Closed until 14:00\"\nmethods = [\"INVITE\"]\n");
    let invite = caller.invite("9002");
    assert_eq!(caller.await_outcome(&invite).line(), "503 Closed until 14:00");
    callee.hears_nothing("the call is answered by the route");
    assert_eq!(caller.register(300).line(), "200 OK");
    let tried = server.succeed(&["try", "invite", "9001", "9002"]);
    assert!(tried.contains("503 Closed until 14:00") && tried.contains("route.reply"), "{tried}");
    let why = server.succeed(&["why", "9001", "9002"]);
    assert!(why.contains("a route of the configuration answers it"), "{why}");
}

#[test]
fn try_shows_where_a_call_would_go() {
    let media = MediaServer::new("127.0.0.2");
    let keys = "on = [\"offline\", \"no-answer\"]\nafter = 7\ndiversion = \"diversion\"";
    let (server, _caller, _callee) = calling(&diverts(&media, keys));
    let tried = server.succeed(&["try", "invite", "9001", "9002"]);
    assert!(tried.contains("it rings for 7 s at most"), "{tried}");
    let tried = server.succeed(&["try", "invite", "9001", "9003"]);
    assert!(tried.contains("who is called is offline: the [[route]] of set 1 takes it"), "{tried}");
}

#[test]
fn a_condition_decides_which_route_takes_a_call() {
    let (night, day) = (MediaServer::new("127.0.0.2"), MediaServer::new("127.0.0.3"));
    let rule = |media: &MediaServer, when: &str| {
        format!("[[route]]\nprefix = \"7\"\nhops = [\"{}\"]\nwhen = '{when}'\n", media.uri())
    };
    let first = rule(
        &night,
        "from.user == \"9001\" && inNetwork(source, \"127.0.0.0/8\") && header(\"X-Night\") == \"1\"",
    );
    let (server, mut caller, _callee) = calling(&(first + &rule(&day, "method in [\"INVITE\"]")));
    let invite = caller.initial("INVITE", "700", &["X-Night: 1"]);
    caller.send(&invite);
    assert_eq!(caller.await_outcome(&invite).status(), Some(200));
    let invite = caller.invite("700");
    assert_eq!(caller.await_outcome(&invite).status(), Some(200));
    assert_eq!((night.heard("INVITE").len(), day.heard("INVITE").len()), (1, 1));
    let tried = server.succeed(&["try", "invite", "9001", "700"]);
    assert!(tried.contains("the [[route]] of set 1 does not take it: its condition"), "{tried}");
}
