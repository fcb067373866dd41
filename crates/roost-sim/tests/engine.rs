//! What only an engine by itself shows: rules that a mutant of the core has broken unseen once.

use roost_core::{Authorize, Config, Flow, Listening, News, Outcome, Transport};
use roost_sim::desk::{Desk, Words, phone, subscriber};

fn memory(config: &mut Config) {
    config.usrloc.write_through = false;
}

fn open(config: &mut Config) {
    memory(config);
    config.proxy.authorize = Authorize::Off;
}

fn known() -> Outcome {
    Outcome::Credentials(Some(subscriber(0).secrets))
}

const CONTACT: &str = "Contact: <sip:x@10.2.0.1>\r\n";

/// A response of the callee to a forwarded request.
fn response(request: &str, line: &str) -> String {
    let is_copied = |text: &&str| {
        ["Via:", "Record-Route:", "From:", "To:", "Call-ID:", "CSeq:"]
            .iter()
            .any(|name| text.starts_with(name))
    };
    let lines: Vec<String> = request
        .split("\r\n")
        .filter(is_copied)
        .map(|text| if text.starts_with("To:") { format!("{text};tag=callee") } else { text.to_string() })
        .collect();
    format!("SIP/2.0 {line}\r\n{}\r\nContent-Length: 0\r\n\r\n", lines.join("\r\n"))
}

#[test]
fn a_secret_is_asked_for_again_after_its_time() {
    let mut desk = Desk::new(memory);
    let ticket = desk.register("0", CONTACT).loads[0];
    assert_eq!(desk.receipt(ticket, known()).codes, [200]);
    for ms in [0, 59_999] {
        desk.wait(ms);
        desk.challenge = None;
        assert_eq!(desk.register("0", CONTACT).codes, [200], "after {ms} ms");
    }
    desk.wait(1);
    desk.challenge = None;
    assert_eq!(desk.register("0", CONTACT).loads.len(), 1);
    // Somebody who is unknown may have been added a moment ago.
    let ticket = desk.register("new", CONTACT).loads[0];
    assert_eq!(desk.receipt(ticket, Outcome::Credentials(None)).codes, [404]);
    assert_eq!(desk.register("new", CONTACT).codes, [404]);
    desk.wait(1_000);
    let ticket = desk.register("new", CONTACT).loads[0];
    assert_eq!(desk.receipt(ticket, known()).codes, [200]);
}

#[test]
fn a_response_that_is_not_to_be_trusted_goes_nowhere() {
    let mut desk = Desk::new(open);
    desk.bind("9", &format!("sip:x@{}", phone(2)));
    let invite = desk.invite(1, "9", 0).texts.pop().expect("the INVITE");
    let honest = response(&invite, "180 Ringing");
    let forged = [
        honest.replace("CSeq: 1 INVITE", "CSeq: 1 OPTIONS"),
        honest.replace("\r\nContent-Length", "\r\nX: a\rb\r\nContent-Length"),
        honest.replace("Content-Length: 0", "Content-Length: 1"),
        honest.replace("Content-Length: 0", "Content-Length: x"),
        honest.replace("Content-Length: 0", "Content-Length: 0\r\nContent-Length: 0"),
        honest.replace("\r\nCall-ID", "\r\nCall-ID: other\r\nCall-ID"),
        honest.replace("\r\nFrom", "\r\nFrom: <sip:x@y>\r\nFrom"),
    ];
    for (count, text) in (1..).zip(&forged) {
        let said = desk.send(phone(2), text);
        assert!(said.texts.is_empty(), "{text} brought {:?}", said.texts);
        assert_eq!(desk.count("core:drop_replies"), count, "{text}");
    }
    assert_eq!(desk.send(phone(2), &honest).codes, [180]);
}

#[test]
fn a_password_opens_its_own_extension_only() {
    let mut desk = Desk::with_users(2, memory);
    let other = Words { user: "1", password: "wrong", headers: CONTACT, ..Words::default() };
    assert_eq!(desk.register_as(phone(1), &other).codes, [403]);
    assert_eq!(desk.register("1", CONTACT).codes, [200]);
}

/// A call to the phones 2 and so on, all of which ring; gives their INVITEs.
fn ringing(desk: &mut Desk, phones: u32) -> Vec<String> {
    for number in 2..2 + phones {
        desk.bind("9", &format!("sip:x@{}", phone(number)));
    }
    let mut invites = desk.invite(1, "9", 0).texts;
    assert_eq!(invites.len() as u32, 1 + phones);
    invites.remove(0);
    for (invite, number) in invites.iter().zip(2..) {
        assert_eq!(desk.send(phone(number), &response(invite, "180 Ringing")).codes, [180]);
    }
    invites
}

/// What the caller of an INVITE sends to end it: CANCEL, or the ACK of a failure.
fn of_invite(invite: &str, method: &str) -> String {
    let lines = invite
        .split("\r\n")
        .filter(|line| !line.starts_with("Record-Route:") && !line.contains("10.0.0.1:5060"));
    let text =
        lines.collect::<Vec<_>>().join("\r\n").replace("INVITE", method).replace("9@roost.test;x", "9");
    let uri = text.split(' ').nth(1).unwrap_or_default().to_string();
    text.replacen(&uri, "sip:9@roost.test", 1)
}

#[test]
fn a_nonce_that_may_be_used_once_covers_all_that_is_asked_for() {
    let mut desk = Desk::with_users(1, |config| {
        memory(config);
        config.auth.disable_nonce_check = false;
        config.registrar.exclusive_ip = false;
    });
    let words = Words { headers: "Contact: <sip:x@10.2.0.1>\r\nExpires: 60\r\n", ..Words::default() };
    let text = desk.register_text(&words);
    assert_eq!(desk.send(phone(1), &text).codes, [200]);
    assert_eq!(desk.send(phone(1), &text).codes, [200], "the same again");
    for (from, to) in [
        ("sip:x@10.2.0.1", "sip:x@10.2.0.7"),
        ("Expires: 60", "Expires: 0"),
        ("To: <sip:0@", "To: \"x\" <sip:0@"),
        ("REGISTER sip:roost.test SIP", "REGISTER sip:other.test SIP"),
    ] {
        let said = desk.send(phone(1), &text.replace(from, to));
        assert_eq!(said.codes, [401], "{to}");
        assert!(said.texts[0].contains("stale=true"));
    }
}

#[test]
fn a_phone_may_ring_for_fr_inv_timeout() {
    let mut desk = Desk::new(open);
    ringing(&mut desk, 1);
    let mut heard = Vec::new();
    for _ in 0..59 {
        let said = desk.wait(500);
        heard.extend(said.codes);
        assert!(said.requests.is_empty());
    }
    assert_eq!(heard, [], "half a second before");
    let said = desk.wait(500);
    assert_eq!((said.codes, said.requests.len()), (vec![408], 1), "the caller hears, the phone is cancelled");
}

#[test]
fn each_180_gives_a_phone_more_time_where_that_is_wanted() {
    let mut desk = Desk::new(|config| {
        open(config);
        config.tm.restart_fr_on_each_reply = true;
    });
    let invite = ringing(&mut desk, 1).remove(0);
    for _ in 0..40 {
        desk.wait(500);
    }
    assert_eq!(desk.send(phone(2), &response(&invite, "180 Ringing")).codes, [180]);
    let silent_ms = (0..200).find(|_| !desk.wait(500).codes.is_empty()).expect("an end") * 500;
    assert!((29_000..=32_000).contains(&silent_ms), "{silent_ms} ms after the second 180");
}

#[test]
fn the_caller_hears_of_a_failure_when_the_last_phone_has_failed() {
    let mut desk = Desk::new(open);
    let invites = ringing(&mut desk, 3);
    for (invite, number) in invites.iter().zip(2..).take(2) {
        let said = desk.send(phone(number), &response(invite, "486 Busy Here"));
        assert_eq!((said.codes, said.requests), (vec![], vec![phone(number)]), "its ACK and nothing else");
    }
    let said = desk.send(phone(4), &response(&invites[2], "486 Busy Here"));
    assert_eq!(said.codes, [486]);
}

#[test]
fn a_branch_is_cancelled_once_and_gives_back_what_it_held() {
    let mut desk = Desk::new(open);
    let invites = ringing(&mut desk, 2);
    let cancel = of_invite(&invites[0], "CANCEL");
    let said = desk.send(phone(1), &cancel);
    assert_eq!((said.codes, said.requests), (vec![200], vec![phone(2), phone(3)]));
    // One declines, which ends all others: the other one has its CANCEL already.
    let said = desk.send(phone(2), &response(&invites[0], "603 Decline"));
    assert_eq!(said.requests, [phone(2)], "the ACK");
    for (invite, number) in invites.iter().zip(2..) {
        desk.send(phone(number), &response(&of_invite_at(invite), "200 OK"));
    }
    desk.send(phone(3), &response(&invites[1], "487 Request Terminated"));
    for _ in 0..300 {
        desk.wait(500);
    }
    assert_eq!((desk.count("tm:inuse_transactions"), desk.count("roost:transaction_bytes")), (0, 0));
}

/// The CANCEL that a phone got for its INVITE.
fn of_invite_at(invite: &str) -> String {
    invite.replace("CSeq: 1 INVITE", "CSeq: 1 CANCEL")
}

#[test]
fn a_connection_that_breaks_after_the_answer_changes_nothing() {
    let mut desk = Desk::new(|config| {
        open(config);
        let tcp = Listening { transport: Transport::Tcp, ..config.listeners[0] };
        config.listeners.push(tcp);
    });
    desk.bind("9", &format!("sip:x@{};transport=tcp", phone(2)));
    let invite = desk.invite(1, "9", 0).texts.pop().expect("the INVITE");
    let local = Listening::udp("10.0.0.1:5060".parse().expect("an address")).address;
    let flow = Flow { transport: Transport::Tcp, ..Flow::udp(local, phone(2)) };
    let unsent = || News::Unsent(flow, invite.clone().into_bytes().into());
    desk.send(phone(2), &response(&invite, "200 OK"));
    let said = desk.hear(unsent());
    assert!(said.texts.is_empty(), "{:?}", said.texts);
    // Before it, the call has failed.
    let invite = desk.invite(1, "9", 0).texts.pop().expect("the INVITE");
    let said = desk.hear(News::Unsent(flow, invite.clone().into_bytes().into()));
    assert_eq!(said.codes.len(), 1);
    assert!(desk.hear(News::Unsent(flow, invite.into_bytes().into())).codes.is_empty(), "once");
    // After it, too; and a phone that rings after all, over another connection, is silenced as ever.
    let invite = desk.invite(1, "9", 0).texts.pop().expect("the INVITE");
    assert_eq!(desk.wait(6_000).codes.last(), Some(&408));
    assert!(desk.hear(News::Unsent(flow, invite.clone().into_bytes().into())).texts.is_empty());
    assert_eq!(desk.send(phone(2), &response(&invite, "180 Ringing")).requests, [phone(2)]);
}

#[test]
fn all_challenges_of_a_fork_reach_the_caller_and_none_goes_with_another_answer() {
    let challenge = |name: &str, realm: &str| {
        format!("\r\n{name}: Digest realm=\"{realm}\", nonce=\"1\"\r\nContent-Length")
    };
    let with = |invite: &str, line: &str, challenge: &str| {
        response(invite, line).replace("\r\nContent-Length", challenge)
    };
    let proxy = |realm: &str| challenge("Proxy-Authenticate", realm);
    let mut desk = Desk::new(open);
    let invites = ringing(&mut desk, 3);
    desk.send(phone(2), &with(&invites[0], "407 Proxy Authentication Required", &proxy("one")));
    desk.send(phone(3), &with(&invites[1], "401 Unauthorized", &challenge("WWW-Authenticate", "two")));
    let said = desk.send(phone(4), &with(&invites[2], "407 Proxy Authentication Required", &proxy("three")));
    let text = &said.texts[1];
    for realm in ["one", "two", "three"] {
        assert_eq!(text.matches(&format!("realm=\"{realm}\"")).count(), 1, "{text}");
    }
    let mut desk = Desk::new(open);
    let invites = ringing(&mut desk, 2);
    desk.send(phone(2), &with(&invites[0], "407 Proxy Authentication Required", &proxy("one")));
    let said = desk.send(phone(3), &response(&invites[1], "603 Decline"));
    assert_eq!(said.codes, [603]);
    assert!(said.texts.iter().all(|text| !text.contains("realm=")), "{:?}", said.texts);
}

#[test]
fn a_changed_password_lifts_the_ban_and_the_same_one_does_not() {
    let mut desk = Desk::with_users(2, memory);
    let wrong = Words { password: "wrong", headers: CONTACT, ..Words::default() };
    let right = Words { headers: CONTACT, ..Words::default() };
    let new = Words { password: "new", headers: CONTACT, ..Words::default() };
    for _ in 0..5 {
        assert_eq!(desk.register_as(phone(1), &wrong).codes, [403]);
    }
    assert_eq!((desk.count("roost:bans"), desk.count("roost:banned_requests")), (1, 0));
    assert_eq!(desk.register_as(phone(1), &right).codes, [403]);
    assert_eq!(desk.count("roost:banned_requests"), 1);
    desk.read(vec![subscriber(0)]);
    assert_eq!(desk.register_as(phone(1), &right).codes, [403], "nothing has changed");
    let mut changed = subscriber(0);
    changed.secrets.password = b"new".as_slice().into();
    desk.read(vec![changed, subscriber(1)]);
    assert_eq!(desk.register_as(phone(1), &new).codes, [200]);
    assert_eq!(desk.count("roost:banned_requests"), 2);
}
