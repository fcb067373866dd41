//! Several phones of one extension ring at once: one answer wins, the others are told; and nobody rings for ever.

use std::time::Duration;

use crate::support::{A_WHILE, Message, Phone, Server, ack_of_failure};

const TWO_PHONES: &str = "[registrar]\nmax_contacts = 2\nexclusive = \"off\"\n";

#[test]
fn two_answers_at_once_both_reach_the_caller() {
    let server = Server::for_calls(TWO_PHONES);
    let (mut caller, phones) = caller_and_two_phones(&server);
    caller.invite("9002");
    let invites = both_ring(&caller, &phones);
    for (phone, invite) in phones.iter().zip(&invites) {
        phone.answer(invite, "200 OK");
    }
    // RFC 3261 16.7: every 2xx is forwarded; the caller ends one of the two calls.
    let tags: Vec<String> = (0..2).map(|_| to_of(&caller.await_status(200, "INVITE"))).collect();
    assert_ne!(tags[0], tags[1]);
}

#[test]
fn the_best_refusal_reaches_the_caller_alone() {
    for (lines, expected) in [
        (["486 Busy Here", "486 Busy Here"], "486 Busy Here"),
        (["500 Server Internal Error", "486 Busy Here"], "486 Busy Here"),
        (["404 Not Found", "302 Moved Temporarily"], "302 Moved Temporarily"),
        // A 503 says nothing about the callee (RFC 3261 16.7 step 6).
        (["503 Service Unavailable", "480 Temporarily Unavailable"], "480 Temporarily Unavailable"),
        (["503 Service Unavailable", "503 Service Unavailable"], "500 Service Unavailable"),
    ] {
        let server = Server::for_calls(TWO_PHONES);
        let (mut caller, phones) = caller_and_two_phones(&server);
        let sent = caller.invite("9002");
        let invites = both_ring(&caller, &phones);
        phones[0].answer(&invites[0], lines[0]);
        assert_acknowledged(&phones[0], &invites[0]);
        caller.hears_nothing("the other phone still rings");
        phones[1].answer(&invites[1], lines[1]);
        assert_acknowledged(&phones[1], &invites[1]);

        let refused = caller.await_final("INVITE");
        assert_eq!(refused.line(), expected, "of {lines:?}");
        caller.send(ack_of_failure(&sent, &refused));
        caller.hears_nothing("it has its answer");
    }
}

#[test]
fn a_decline_ends_the_call_everywhere() {
    let server = Server::for_calls(TWO_PHONES);
    let (mut caller, phones) = caller_and_two_phones(&server);
    let sent = caller.invite("9002");
    let invites = both_ring(&caller, &phones);
    phones[0].answer(&invites[0], "603 Decline");
    assert_acknowledged(&phones[0], &invites[0]);

    let cancel = phones[1].await_request("CANCEL");
    assert_cancels(&cancel, &invites[1], &server);
    stop_ringing(&phones[1], &invites[1], &cancel);
    let refused = caller.await_final("INVITE");
    assert_eq!(refused.line(), "603 Decline");
    caller.send(ack_of_failure(&sent, &refused));
}

#[test]
fn the_challenges_of_all_phones_reach_the_caller() {
    let server = Server::for_calls(TWO_PHONES);
    let (mut caller, phones) = caller_and_two_phones(&server);
    caller.invite("9002");
    let invites = both_ring(&caller, &phones);
    let challenge = |realm: &str| format!("Proxy-Authenticate: Digest realm=\"{realm}\", nonce=\"1\"");
    for ((phone, invite), realm) in phones.iter().zip(&invites).zip(["a.example", "b.example"]) {
        phone.answer_with(invite, "407 Proxy Authentication Required", &[&challenge(realm)]);
    }
    let merged = caller.await_final("INVITE");
    assert_eq!(merged.status(), Some(407));
    let mut challenges = merged.headers("Proxy-Authenticate");
    challenges.sort_unstable();
    assert_eq!(
        challenges,
        ["Digest realm=\"a.example\", nonce=\"1\"", "Digest realm=\"b.example\", nonce=\"1\""],
        "RFC 3261 16.7 step 7: {}",
        merged.text
    );
}

#[test]
fn contacts_are_called_by_falling_q_where_that_is_wanted() {
    let server = Server::for_calls(&format!("{TWO_PHONES}[proxy]\nserial_fork = true\n"));
    let mut caller = server.registered("9001");
    let phones = ["0.3", "0.9"].map(|q| {
        let mut phone = server.phone("9002");
        let contact = format!("Contact: <{}>;q={q}", phone.contact);
        assert_eq!(phone.send_register(&[&contact, "Expires: 300"]).line(), "200 OK");
        phone
    });
    caller.invite("9002");
    let invite = phones[1].await_request("INVITE");
    phones[1].answer(&invite, "180 Ringing");
    phones[0].hears_nothing("its q is lower");
    phones[1].answer(&invite, "486 Busy Here");
    assert_acknowledged(&phones[1], &invite);
    let invite = phones[0].await_request("INVITE");
    phones[0].answer(&invite, "200 OK");
    assert_eq!(caller.await_final("INVITE").line(), "200 OK");
}

#[test]
fn a_callee_that_is_overloaded_is_an_error_of_ours() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    caller.invite("9002");
    let invite = callee.await_request("INVITE");
    callee.answer_with(&invite, "503 Service Unavailable", &["Retry-After: 3600"]);
    // A 503 would tell the caller to leave roost alone (RFC 3261 16.7 step 6).
    assert_eq!(caller.await_final("INVITE").line(), "500 Service Unavailable");
}

#[test]
fn a_silent_callee_is_given_up_after_fr_timeout() {
    let server = Server::for_calls("[tm]\nfr_timeout = 1\n");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let since = caller.now();
    let sent = caller.invite("9002");
    let refused = caller.await_final("INVITE");
    assert_took(&caller, since, 1);
    assert_eq!(refused.line(), "408 Request Timeout");
    caller.send(ack_of_failure(&sent, &refused));

    // Timer A: after 500 ms the same bytes once more. Nothing was rung, so there is nothing to cancel.
    let heard = callee.overhear(A_WHILE);
    assert!(heard.len() >= 2, "no retransmission: {heard:#?}");
    assert!(heard.iter().all(|message| message.text == heard[0].text), "{heard:#?}");

    let since = caller.now();
    let message = caller.initial("MESSAGE", "9002", &[]);
    caller.send(message);
    assert_eq!(caller.await_final("MESSAGE").line(), "408 Request Timeout");
    assert_took(&caller, since, 1);
}

#[test]
fn a_phone_that_rings_in_vain_is_silenced_after_fr_inv_timeout() {
    let server = Server::for_calls("[tm]\nfr_timeout = 1\nfr_inv_timeout = 2\n");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let since = caller.now();
    let sent = caller.invite("9002");
    let invite = callee.await_request("INVITE");
    callee.answer(&invite, "180 Ringing");

    let refused = caller.await_final("INVITE");
    assert_took(&caller, since, 2);
    assert_eq!(refused.line(), "408 Request Timeout");
    caller.send(ack_of_failure(&sent, &refused));
    let cancel = callee.await_request("CANCEL");
    assert_cancels(&cancel, &invite, &server);
    assert_eq!(cancel.header("Reason"), Some("SIP;cause=480;text=\"NO_ANSWER\""));
    stop_ringing(&callee, &invite, &cancel);
    caller.hears_nothing("the 487 comes too late for it");
}

#[test]
fn an_answer_after_the_timeout_is_still_an_answer() {
    let server = Server::for_calls("[tm]\nfr_inv_timeout = 1\n");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let sent = caller.invite("9002");
    let invite = callee.await_request("INVITE");
    callee.answer(&invite, "180 Ringing");
    let refused = caller.await_final("INVITE");
    assert_eq!(refused.line(), "408 Request Timeout");
    caller.send(ack_of_failure(&sent, &refused));

    // The callee has picked up while the CANCEL was on its way: somebody must end this call.
    callee.await_request("CANCEL");
    callee.answer(&invite, "200 OK");
    assert_eq!(caller.await_status(200, "INVITE").line(), "200 OK");
}

#[test]
fn provisional_answers_can_prolong_the_ringing() {
    let server = Server::for_calls("[tm]\nfr_inv_timeout = 2\nrestart_fr_on_each_reply = true\n");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let since = caller.now();
    caller.invite("9002");
    let invite = callee.await_request("INVITE");
    for _ in 0..4 {
        callee.answer(&invite, "180 Ringing");
        callee.overhear(A_WHILE);
    }
    assert_eq!(caller.await_final("INVITE").line(), "408 Request Timeout");
    let took = caller.now() - since;
    assert!(took > Duration::from_millis(3_500), "{took:?}");
}

/// 9001, and two phones of 9002.
fn caller_and_two_phones(server: &Server) -> (Phone, [Phone; 2]) {
    (server.registered("9001"), [server.registered("9002"), server.registered("9002")])
}

/// Both phones get their INVITE and ring, and the caller hears it; gives the INVITEs.
fn both_ring(caller: &Phone, phones: &[Phone; 2]) -> [Message; 2] {
    let invites = [0, 1].map(|number: usize| phones[number].await_request("INVITE"));
    for (phone, invite) in phones.iter().zip(&invites) {
        phone.answer(invite, "180 Ringing");
    }
    let rung: Vec<String> = (0..2).map(|_| to_of(&caller.await_status(180, "INVITE"))).collect();
    assert_ne!(rung[0], rung[1], "each phone has a tag of its own");
    invites
}

fn to_of(message: &Message) -> String {
    message.header("To").expect("a To").to_owned()
}

/// RFC 3261 9.1: what must be as in the INVITE.
fn assert_cancels(cancel: &Message, invite: &Message, server: &Server) {
    assert_eq!(cancel.source, server.sip);
    assert_eq!(cancel.uri(), invite.uri());
    assert_eq!(cancel.headers("Via"), [invite.headers("Via")[0]], "one Via, with the INVITE's branch");
    for name in ["From", "To", "Call-ID"] {
        assert_eq!(cancel.header(name), invite.header(name), "{}", cancel.text);
    }
    let number = |message: &Message| message.header("CSeq").map(|cseq| cseq.replace(" INVITE", " CANCEL"));
    assert_eq!(number(cancel), number(invite));
    assert!(cancel.header("Record-Route").is_none() && cancel.body().is_empty(), "{}", cancel.text);
}

/// The phone answers the CANCEL and its INVITE, and roost acknowledges.
fn stop_ringing(phone: &Phone, invite: &Message, cancel: &Message) {
    phone.answer_with(cancel, "200 OK", &[]);
    phone.answer_with(invite, "487 Request Terminated", &[]);
    assert_acknowledged(phone, invite);
    phone.hears_nothing("it has been silenced");
}

/// RFC 3261 17.1.1.3: the ACK of a refusal is roost's own, in the INVITE's transaction.
fn assert_acknowledged(phone: &Phone, invite: &Message) {
    let ack = phone.await_request("ACK");
    assert_eq!(ack.uri(), invite.uri());
    assert_eq!(ack.headers("Via"), [invite.headers("Via")[0]], "one Via, with the INVITE's branch");
    assert!(to_of(&ack).contains(&phone.tag), "{}", ack.text);
    for name in ["From", "Call-ID"] {
        assert_eq!(ack.header(name), invite.header(name), "{}", ack.text);
    }
}

fn assert_took(phone: &Phone, since: Duration, seconds: u64) {
    let took = phone.now() - since;
    let soon = Duration::from_millis(seconds * 1_000 - 200);
    let late = Duration::from_millis(seconds * 1_000 + 200);
    assert!((soon..late).contains(&took), "after {took:?}, not {seconds} s");
}
