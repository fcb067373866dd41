//! Callers who give up, and a network that loses and repeats: CANCEL and retransmissions of every kind.

use std::time::Duration;

use crate::support::{
    A_WHILE, Dialog, Message, Phone, Server, ack_of_failure, cancel_of, header, without_first_via,
};

#[test]
fn a_cancel_waits_for_the_callee_s_first_answer() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let sent = caller.invite("9002");
    let invite = callee.await_request("INVITE");
    caller.send(cancel_of(&sent));
    assert_eq!(caller.await_final("CANCEL").line(), "200 canceling", "at once");
    // RFC 3261 9.1: it might overtake the INVITE.
    let heard = callee.overhear(A_WHILE);
    assert!(heard.iter().all(|message| message.text == invite.text), "only retransmissions: {heard:#?}");

    callee.answer(&invite, "180 Ringing");
    let cancel = callee.await_request("CANCEL");
    callee.answer_with(&cancel, "200 OK", &[]);
    callee.answer(&invite, "487 Request Terminated");
    callee.await_request("ACK");
    assert_eq!(caller.await_final("INVITE").line(), "487 Request Terminated");
}

#[test]
fn who_answers_before_the_cancel_has_answered() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (sent, invite) = ring(&mut caller, &callee);
    caller.send(cancel_of(&sent));
    let cancel = callee.await_request("CANCEL");
    callee.answer(&invite, "200 OK");
    callee.answer_with(&cancel, "200 OK", &[]);

    let ok = caller.await_final("INVITE");
    assert_eq!(ok.line(), "200 OK");
    // So the caller has a call, and ends it.
    let mut dialog = Dialog::of_caller(&caller, &ok);
    caller.send(dialog.request("ACK", &[]));
    callee.await_request("ACK");
    caller.send(dialog.request("BYE", &[]));
    let bye = callee.await_request("BYE");
    callee.answer(&bye, "200 OK");
    assert_eq!(caller.await_final("BYE").line(), "200 OK");
}

#[test]
fn nobody_else_can_cancel() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let stranger = server.phone_at("127.0.0.2", "9003", "9003");
    let (sent, invite) = ring(&mut caller, &callee);

    // To the byte what the caller would send.
    stranger.send(cancel_of(&sent));
    callee.hears_nothing("its caller has not given up");
    let heard = stranger.overhear(A_WHILE / 10);
    assert!(heard.is_empty(), "{heard:#?}");
    callee.answer(&invite, "200 OK");
    assert_eq!(caller.await_final("INVITE").line(), "200 OK");
}

#[test]
fn a_cancel_or_ack_of_nothing_meets_silence() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let never_sent = caller.initial("INVITE", "9002", &[]);
    caller.send(cancel_of(&never_sent));
    caller.send(never_sent.replace("INVITE", "ACK"));
    caller.send(never_sent.replace("INVITE", "ACK").replace("\r\nMax-Forwards:", ";tag=1\r\nMax-Forwards:"));
    caller.hears_nothing("there is no such call");
    callee.hears_nothing("there is no such call");
}

#[test]
fn a_repeated_invite_gets_the_last_provisional_again_and_rings_nobody_twice() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let sent = caller.invite("9002");
    let trying = caller.await_message("an answer", |_| true);
    caller.send(&sent);
    assert_eq!(caller.await_message("an answer again", |_| true).text, trying.text);

    let invite = callee.await_request("INVITE");
    callee.answer(&invite, "180 Ringing");
    let ringing = caller.await_message("an answer", |_| true);
    assert_eq!(ringing.line(), "180 Ringing");
    for _ in 0..3 {
        caller.send(&sent);
        assert_eq!(caller.await_message("an answer again", |_| true).text, ringing.text);
    }
    let heard = callee.overhear(A_WHILE);
    // Before its 180 roost may have repeated the INVITE, in the same transaction.
    assert!(heard.iter().all(|message| message.text == invite.text), "a second branch: {heard:#?}");
}

#[test]
fn every_2xx_of_the_callee_is_forwarded() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (sent, invite) = ring(&mut caller, &callee);
    let answer = callee.answer(&invite, "200 OK");
    let ok = caller.await_message("an answer", |_| true);
    assert_eq!(ok.text, without_first_via(&answer));

    // The ACK is lost on its way, twice; each 200 is acknowledged anew, end to end.
    for _ in 0..2 {
        callee.send(&answer);
        assert_eq!(caller.await_message("the answer again", |_| true).text, ok.text);
    }
    let ack = Dialog::of_caller(&caller, &ok).request("ACK", &[]);
    for _ in 0..2 {
        caller.send(&ack);
        let received = callee.await_message("the ACK", |_| true);
        assert_eq!(received.method(), Some("ACK"), "{}", received.text);
        callee.send(&answer);
        assert_eq!(caller.await_message("the answer again", |_| true).text, ok.text);
    }

    // RFC 6026: a repeated INVITE that has been answered is absorbed; the callee repeats its 200 by itself.
    caller.send(&sent);
    caller.hears_nothing("the callee repeats its 200");
    callee.hears_nothing("it has answered");
}

#[test]
fn a_repeated_refusal_is_acknowledged_again() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (sent, invite) = ring(&mut caller, &callee);
    let busy = callee.answer(&invite, "486 Busy Here");
    let ack = callee.await_request("ACK");
    callee.send(&busy);
    assert_eq!(callee.await_message("the ACK again", |_| true).text, ack.text);

    let refused = caller.await_final("INVITE");
    assert_eq!(refused.text, without_first_via(&busy));
    // Timer G, until the caller acknowledges; the callee hears nothing of that ACK.
    assert_eq!(caller.await_final("INVITE").text, refused.text);
    caller.send(ack_of_failure(&sent, &refused));
    caller.hears_nothing("it has acknowledged");
    callee.hears_nothing("its refusal has been acknowledged");
}

#[test]
fn a_refusal_is_repeated_at_the_pace_of_timer_g() {
    let server = Server::for_calls("");
    let mut caller = server.registered("9001");
    caller.invite("9002");
    let first = caller.await_final("INVITE");
    // 0.5, 1.5, 3.5 and 7.5 seconds after the first.
    let heard = caller.overhear(Duration::from_secs(10));
    assert!((3..=5).contains(&heard.len()), "{} retransmissions", heard.len());
    assert!(heard.iter().all(|message| message.text == first.text), "{heard:#?}");
}

/// RFC 3261 17.2.3: without the magic cookie, From tag, Call-ID, CSeq, Request-URI and top Via identify a request.
#[test]
fn a_phone_of_rfc_2543_calls_and_gives_up() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    for branch in ["", ";branch=1"] {
        let modern = caller.initial("INVITE", "9002", &[]);
        let (before, after) = modern.split_once(";branch=z9hG4bK").expect("a branch");
        let (_, after) = after.split_once(';').expect("rport");
        let sent = format!("{before}{branch};{after}");

        caller.send(&sent);
        let invite = callee.await_request("INVITE");
        callee.answer(&invite, "180 Ringing");
        let ringing = caller.await_status(180, "INVITE");
        caller.send(&sent);
        assert_eq!(caller.await_message("the 180 again", |_| true).text, ringing.text, "{branch:?}");
        callee.hears_nothing("it rings");

        caller.send(cancel_of(&sent));
        assert_eq!(caller.await_final("CANCEL").line(), "200 canceling", "{branch:?}");
        let cancel = callee.await_request("CANCEL");
        callee.answer_with(&cancel, "200 OK", &[]);
        callee.answer(&invite, "487 Request Terminated");
        callee.await_request("ACK");
        let refused = caller.await_final("INVITE");
        assert_eq!(refused.line(), "487 Request Terminated", "{branch:?}");
        assert_eq!(refused.header("Call-ID"), header(&sent, "Call-ID"));
        caller.send(ack_of_failure(&sent, &refused));
        caller.hears_nothing("it has acknowledged");
    }
}

/// 9001 calls 9002, which rings: the INVITE as sent and as received.
fn ring(caller: &mut Phone, callee: &Phone) -> (String, Message) {
    let sent = caller.invite("9002");
    let invite = callee.await_request("INVITE");
    callee.answer(&invite, "180 Ringing");
    caller.await_status(180, "INVITE");
    (sent, invite)
}
