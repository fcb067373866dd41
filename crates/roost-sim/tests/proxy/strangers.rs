//! What strangers, liars and misconfigured phones do to calls: an answer of the RFC or silence, and never a storm.

use std::collections::HashSet;
use std::time::Duration;

use crate::support::{Random, Server, ack_of_failure, header, with_body, without_first_via};

#[test]
fn a_forged_branch_is_no_answer() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    caller.invite("9002");
    let invite = callee.await_request("INVITE");
    let ringing = callee.answer(&invite, "180 Ringing");
    caller.await_status(180, "INVITE");

    let branch = invite.branch().to_owned();
    let answer = ringing.replacen("180 Ringing", "200 OK", 1);
    let dropped = server.statistic("core:drop_replies");
    let mut forged = vec![
        // Of a transaction that there is, but to a CANCEL that was never sent.
        answer.replacen("INVITE\r\n", "CANCEL\r\n", 1),
        answer.replacen(&branch, "z9hG4bK", 1),
        answer.replacen(&branch, &format!("{branch}0"), 1),
        answer.replacen(&branch, &branch[..branch.len() - 1], 1),
        answer.replacen(&format!(";branch={branch}"), "", 1),
    ];
    // Each digit by itself.
    for at in "z9hG4bK".len()..branch.len() {
        let other = if &branch[at..=at] == "1" { "2" } else { "1" };
        forged.push(answer.replacen(&branch, &format!("{}{other}{}", &branch[..at], &branch[at + 1..]), 1));
    }
    for message in &forged {
        callee.send(message);
    }
    caller.hears_nothing("no answer was the callee's");
    let counted = server.statistic("core:drop_replies") - dropped;
    assert!(counted > 0, "what is dropped is counted");

    callee.send(&answer);
    assert_eq!(caller.await_final("INVITE").text, without_first_via(&answer));
}

#[test]
fn an_answer_to_nothing_goes_nowhere() {
    let server = Server::for_calls("");
    let victim = server.phone("victim");
    let attacker = server.phone("attacker");
    for cseq in ["1 INVITE", "1 MESSAGE", "1 CANCEL"] {
        for branch in ["z9hG4bK1", "z9hG4bKa475.78e4cda.0", "1"] {
            attacker.send(format!(
                "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {};branch={branch}\r\n\
                 Via: SIP/2.0/UDP {};branch=z9hG4bK2\r\nFrom: <sip:a@127.0.0.1>;tag=1\r\n\
                 To: <sip:b@127.0.0.1>;tag=2\r\nCall-ID: 1\r\nCSeq: {cseq}\r\nContent-Length: 0\r\n\r\n",
                server.sip,
                victim.local()
            ));
        }
    }
    victim.hears_nothing("RFC 6026 8.9: an answer without a transaction is dropped");
    attacker.hears_nothing("an answer is not answered");
    assert!(server.statistic("core:drop_replies") >= 9, "counted");
}

#[test]
fn one_request_causes_no_more_than_its_forks() {
    let server = Server::for_calls("[registrar]\nmax_contacts = 100\n");
    let mut caller = server.registered("9001");
    // A hundred contacts at one socket, twenty in each REGISTER.
    let mut crowd = server.phone("9002");
    let base = crowd.contact.clone();
    for block in 0..5 {
        let contacts: Vec<String> =
            (0..20).map(|number| format!("<{base};n={}>", block * 20 + number)).collect();
        let registered = crowd.send_register(&[&format!("Contact: {}", contacts.join(", ")), "Expires: 300"]);
        assert_eq!(registered.line(), "200 OK");
    }

    let sent = caller.invite("9002");
    let (mut uris, mut branches) = (HashSet::new(), HashSet::new());
    loop {
        let heard = crowd.overhear(Duration::from_millis(300));
        if heard.is_empty() {
            break;
        }
        for invite in heard.iter().filter(|message| message.method() == Some("INVITE")) {
            uris.insert(invite.uri().to_owned());
            branches.insert(invite.branch().to_owned());
            crowd.answer(invite, "486 Busy Here");
        }
    }
    assert!(uris.len() > 1 && uris.len() <= 100, "{} contacts were called", uris.len());
    assert_eq!(branches.len(), uris.len(), "each once");
    let refused = caller.await_final("INVITE");
    assert_eq!(refused.line(), "486 Busy Here");
    caller.send(ack_of_failure(&sent, &refused));
    // What was repeated before the ACK came is the same answer.
    let again = caller.overhear(Duration::from_millis(300));
    assert!(again.iter().all(|message| message.text == refused.text), "{again:#?}");
    caller.hears_nothing("one call has one end");
}

#[test]
fn broken_requests_of_a_call_stop_nothing() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n";
    let good = with_body(&caller.initial("INVITE", "9002", &[]), "application/sdp", sdp);
    let noise = server.phone("9001");
    let mut random = Random::seeded(7);
    for length in 0..good.len() {
        noise.send(&good.as_bytes()[..length]);
        let mut bytes = good.clone().into_bytes();
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] = (random.number() >> 56) as u8;
        noise.send(&bytes);
        if length % 50 == 0 {
            assert_eq!(caller.ask("OPTIONS", "sip:127.0.0.1", &[]).line(), "200 OK");
        }
    }
    // The noise had no password.
    callee.hears_nothing("nobody has called");
    caller.establish(&callee);
}

/// The route of a call can be read by anybody who sees a packet of it, but it opens no other way.
#[test]
fn a_victim_gets_nothing_through_a_stolen_route() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (ours, _) = caller.establish(&callee);
    let victim = server.phone("victim");
    let mut thief = server.phone("thief");
    let route = format!("Route: {}", ours.routes[0]);
    for method in ["BYE", "INVITE", "MESSAGE"] {
        let headers = [route.as_str(), "To: <sip:victim@127.0.0.1>;tag=1"];
        thief.call_id = format!("stolen-{method}");
        let message = thief.message(method, &victim.contact, &headers);
        thief.send(&message);
        let refused = thief.await_final(method);
        assert_eq!(refused.status(), Some(403), "{method}: {}", refused.text);
        assert_eq!(refused.header("Call-ID"), header(&message, "Call-ID"));
        if method == "INVITE" {
            thief.send(ack_of_failure(&message, &refused));
        }
    }
    victim.hears_nothing("that did is of another Call-ID");
}

/// A phone whose outbound proxy is set to the server's own name.
#[test]
fn a_route_by_our_name_is_taken_off_and_never_followed() {
    let server = Server::for_calls("");
    let stranger = server.phone("stranger");
    server.names("pbx.example.com", stranger.local());
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    for route in ["<sip:pbx.example.com;lr>", "<sip:PBX.example.com:5070;lr>", "<sip:pbx.example.com>"] {
        let headers = [format!("Contact: <{}>", caller.contact), format!("Route: {route}")];
        let invite = caller.message("INVITE", "sip:9002@pbx.example.com", &[&headers[0], &headers[1]]);
        caller.send(&invite);
        let received = callee.await_request("INVITE");
        assert_eq!(received.header("Route"), None);
        callee.answer(&received, "486 Busy Here");
        callee.await_request("ACK");
        caller.send(ack_of_failure(&invite, &caller.await_final("INVITE")));
        // Whoever is not here is not called elsewhere.
        let invite = caller.message("INVITE", "sip:9009@pbx.example.com", &[&headers[0], &headers[1]]);
        caller.send(&invite);
        let refused = caller.await_final("INVITE");
        assert_eq!(refused.status(), Some(404), "{route}");
        caller.send(ack_of_failure(&invite, &refused));
    }
    // Another port, or another name than the one that is called, is somebody else.
    for (route, uri) in [
        ("<sip:pbx.example.com:5099;lr>", "sip:9002@pbx.example.com"),
        ("<sip:pbx.example.com;lr>", "sip:9002@127.0.0.1"),
        ("<sip:pbx.example.com;lr>", "sip:9002@example.com"),
    ] {
        let route = format!("Route: {route}");
        let invite = caller.message("INVITE", uri, &["Contact: <sip:127.0.0.1>", &route]);
        caller.send(&invite);
        let refused = caller.await_final("INVITE");
        assert_eq!(refused.status(), Some(403), "{route} {uri}");
        caller.send(ack_of_failure(&invite, &refused));
    }
    stranger.hears_nothing("nothing leaves");
    callee.hears_nothing("it was not called");
}

#[test]
fn names_that_are_configured_are_ours_everywhere() {
    for (domains, route, is_ours) in [
        ("pbx.example.com", "<sip:pbx.example.com;lr>", true),
        ("pbx.example.com", "<sip:pbx.example.com:5070;lr>", true),
        ("pbx.example.com", "<sip:pbx.example.com:5080;lr>", false),
        ("pbx.example.com:5080", "<sip:pbx.example.com:5080;lr>", true),
        ("pbx.example.com:5080", "<sip:pbx.example.com;lr>", false),
    ] {
        for settings in ["", "[proxy]\nauthorize = \"off\"\n"] {
            let server = Server::for_calls(&format!("domains = \"{domains}\"\n{settings}"));
            let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
            let route = format!("Route: {route}");
            let invite = caller.initial("INVITE", "9002", &[&route]);
            caller.send(&invite);
            match is_ours {
                true => drop(callee.await_request("INVITE")),
                false => callee.hears_nothing("it leads elsewhere"),
            }
        }
    }
}
