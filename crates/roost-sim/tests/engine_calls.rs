//! What only an engine by itself shows of calls: rules that a mutant of the proxy has broken unseen once.

use roost_core::{
    Admin, Authorize, Config, Failure, Failures, HopUri, Listener, Numbers, Rule, Transport, limits,
};
use roost_sim::client::Challenge;
use roost_sim::harness::{
    Harness, PASSWORD, REALM, memory, of_invite, open, phone, request, response, ringing,
};
use roost_sip::Method;

/// An INVITE of a user to 9, with these lines more.
fn invite_of(from: &str, call_id: &str, lines: &str) -> String {
    let text = request("INVITE", "sip:9@roost.test", "caller", call_id, 1, lines, 0);
    text.replace(&format!("<sip:caller@{REALM}>"), &format!("<{from}>"))
}

/// The Proxy-Authorization of a user for the challenge of a 407.
fn credentials(text: &str, user: &str) -> String {
    let line =
        text.split("\r\n").find_map(|line| line.strip_prefix("Proxy-Authenticate: ")).expect("a challenge");
    let challenge = Challenge::parse(line.as_bytes()).expect("a challenge");
    let answer = challenge.answer(user, PASSWORD, "INVITE", "sip:9@roost.test", 1);
    format!("Proxy-{answer}\r\n")
}

/// An in-dialog request of the caller after the callee's 200.
fn in_dialog(invite: &str, method: &str, target: &str, lines: &str) -> String {
    let route =
        invite.split("\r\n").find_map(|line| line.strip_prefix("Record-Route: ")).expect("a Record-Route");
    let call_id = invite.split("\r\n").find_map(|line| line.strip_prefix("Call-ID: ")).expect("a Call-ID");
    let lines = format!("Route: {route}\r\n{lines}");
    let text = request(method, target, "caller", call_id, 2, &lines, 0);
    text.replace(&format!("To: <{target}>"), "To: <sip:9@roost.test>;tag=callee")
}

/// A call to 9 at phone 2, answered.
fn answered(harness: &mut Harness) -> String {
    let invite = ringing(harness, 1).remove(0);
    assert_eq!(harness.send(phone(2), &response(&invite, "200 OK")).codes, [200]);
    invite
}

#[test]
fn an_anonymous_caller_authorizes_as_whom_it_likes_and_others_as_themselves() {
    let anonymous = "sip:anonymous@anonymous.invalid";
    for (from, check_from, code) in [
        (anonymous, true, 100),
        ("sip:1@roost.test", true, 403),
        ("sip:1@roost.test", false, 100),
        ("sip:0@roost.test", true, 100),
    ] {
        let mut harness = Harness::with_users(2, |config| {
            memory(config);
            config.policy.proxy.authorize = Authorize::Challenge;
            config.policy.proxy.check_from = check_from;
            config.policy.auth.realm = String::new();
        });
        harness.bind("9", "sip:x@10.2.0.1");
        let said = harness.send(phone(1), &invite_of(from, "a", ""));
        assert_eq!(said.codes, [407]);
        // An anonymous caller has no realm of its own: the callee's is asked for.
        assert!(said.texts[0].contains(&format!("realm=\"{REALM}\"")), "{}", said.texts[0]);
        let credentials = credentials(&said.texts[0], "0");
        let said = harness.send(phone(1), &invite_of(from, "b", &credentials));
        assert_eq!(said.codes, [code], "{from}, check_from = {check_from}");
        for text in said.texts.iter().filter(|text| text.starts_with("INVITE")) {
            assert!(!text.contains("Proxy-Authorization"), "they were for us: {text}");
        }
    }
    // Where nobody is asked for credentials, they are somebody else's.
    let mut harness = Harness::new(open);
    harness.bind("9", "sip:x@10.2.0.1");
    let line = "Proxy-Authorization: Digest username=\"0\", realm=\"roost.test\", nonce=\"1\", uri=\"sip:x\", response=\"1\"\r\n";
    let said = harness.send(phone(1), &invite_of("sip:0@roost.test", "a", line));
    assert!(said.texts[1].contains(line), "{}", said.texts[1]);
}

#[test]
fn who_is_registered_is_called_and_not_routed_out() {
    let rule = || Rule {
        set: 1,
        on: Failures::NONE.and(Failure::Offline),
        ..Rule::new(Numbers::Any, vec![HopUri::parse("sip:10.0.0.5").expect("a hop")])
    };
    let mut harness = Harness::new(|config: &mut Config| {
        open(config);
        config.policy.routes = [rule()].into();
    });
    assert_eq!(harness.invite(1, "9", 0).requests, ["10.0.0.5:5060".parse().expect("an address")]);
    harness.bind("9", &format!("sip:x@{}", phone(2)));
    assert_eq!(harness.invite(1, "9", 0).requests, [phone(2)]);
    // Nor where its phone does not take the method.
    let (aor, contact) = (b"8".to_vec(), b"sip:x@10.2.0.1".to_vec());
    let methods = Some(Method::Invite.bit());
    harness.admin(Admin::Add { aor, contact, expires_s: 60, q: None, methods });
    let message = request("MESSAGE", "sip:8@roost.test", "caller", "m", 1, "", 0);
    let said = harness.send(phone(1), &message);
    assert_eq!((said.codes, said.requests), (vec![404], vec![]));
}

#[test]
fn an_ack_is_never_answered() {
    let mut harness = Harness::new(|config| {
        memory(config);
        config.policy.registrar.exclusive_ip = false;
    });
    harness.bind("caller", &format!("sip:caller@{}", phone(1)));
    let invite = answered(&mut harness);
    let target = format!("sip:x@{}", phone(2));
    let ack = |lines: &str| in_dialog(&invite, "ACK", &target, lines);
    assert_eq!(harness.send(phone(1), &ack("")).requests, [phone(2)]);
    for broken in [
        ack("").replace("Max-Forwards: 70", "Max-Forwards: 0"),
        ack("Content-Length: 0\r\n"),
        ack("").replace("Route: ", "X-Route: "),
        ack("").replace(";tag=callee", ""),
    ] {
        let said = harness.send(phone(1), &broken);
        assert!(said.texts.is_empty(), "{broken} brought {:?}", said.texts);
    }
    // While rows are read, and so much waits that no more may.
    harness.engine.begin_loading();
    let waiting = |number: usize| {
        in_dialog(&invite, "INFO", &target, "").replace("z9hG4bK", &format!("z9hG4bK{number}"))
    };
    for number in 0..limits::MAX_PARKED {
        assert!(harness.send(phone(1), &waiting(number)).texts.is_empty());
    }
    assert_eq!(harness.send(phone(1), &waiting(limits::MAX_PARKED)).codes, [503]);
    let said = harness.send(phone(1), &ack(""));
    assert!(said.texts.is_empty(), "{:?}", said.texts);
}

#[test]
fn a_cancel_ends_what_rings_and_nothing_else() {
    let mut harness = Harness::new(open);
    harness.bind("9", &format!("sip:x@{}", phone(2)));
    let message = request("MESSAGE", "sip:9@roost.test", "caller", "m", 1, "", 0);
    assert_eq!(harness.send(phone(1), &message).requests, [phone(2)]);
    let said = harness.send(phone(1), &message.replace("MESSAGE", "CANCEL"));
    assert!(said.texts.is_empty(), "of an INVITE alone: {:?}", said.texts);
    let end = (0..80).find_map(|_| harness.wait(500).codes.first().copied());
    assert_eq!(end, Some(408), "it was not cancelled: it was not answered");
    // Nor a call that was answered.
    let invite = ringing(&mut harness, 1).remove(0);
    harness.send(phone(2), &response(&invite, "200 OK"));
    let said = harness.send(phone(1), &of_invite(&invite, "CANCEL"));
    assert_eq!((said.codes, said.requests), (vec![200], vec![]));
}

#[test]
fn a_dialog_of_a_phone_at_another_port_goes_to_that_port() {
    let mut harness = Harness::new(open);
    let invite = answered(&mut harness);
    let mut elsewhere = phone(2);
    elsewhere.set_port(7_777);
    let said = harness.send(phone(1), &in_dialog(&invite, "BYE", &format!("sip:x@{elsewhere}"), ""));
    assert_eq!(said.requests, [elsewhere]);
    let said = harness.send(phone(1), &in_dialog(&invite, "INFO", &format!("sip:x@{}", phone(2)), ""));
    assert_eq!(said.requests, [phone(2)]);
}

#[test]
fn a_request_that_comes_round_is_a_loop() {
    let mut harness = Harness::new(open);
    harness.bind("9", &format!("sip:9@{}", phone(2)));
    let text = request("INVITE", "sip:9@roost.test", "caller", "loop", 1, "", 0);
    let forwarded = harness.send(phone(1), &text).texts.pop().expect("the INVITE");
    // The same to the same again: the hop that sent it here changed nothing but the Via.
    let again = forwarded.replacen(&format!("sip:9@{}", phone(2)), "sip:9@roost.test", 1);
    let again = again.replacen("\r\nVia", "\r\nVia: SIP/2.0/UDP 10.9.9.8;branch=z9hG4bKx\r\nVia", 1);
    assert_eq!(harness.send(phone(2), &again).codes, [482]);
    // To somebody else it is a spiral, and passes.
    harness.bind("8", &format!("sip:8@{}", phone(3)));
    let spiral = again.replacen("sip:9@roost.test", "sip:8@roost.test", 1).replace("z9hG4bKx", "z9hG4bKy");
    assert_eq!(harness.send(phone(2), &spiral).requests, [phone(3)]);
}

#[test]
fn a_contact_with_a_transport_that_is_not_there_is_not_reached() {
    let mut harness = Harness::new(|config| {
        open(config);
        config.policy.listeners.push(Listener { transport: Transport::Tcp, ..config.policy.listeners[0] });
    });
    for transport in ["sctp", "ws", "tls", "tcp2"] {
        harness.bind(transport, &format!("sip:x@{};transport={transport}", phone(2)));
        let said = harness.invite(1, transport, 0);
        assert!(said.requests.is_empty(), "{transport}");
        assert!(said.codes.last().is_some_and(|code| *code >= 400), "{transport}: {:?}", said.codes);
    }
    harness.bind("9", &format!("sip:x@{};transport=UDP", phone(2)));
    assert_eq!(harness.invite(1, "9", 0).requests, [phone(2)]);
}
