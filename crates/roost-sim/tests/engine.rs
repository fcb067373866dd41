//! What only an engine by itself shows: rules that a mutant of the core has broken unseen once.

use roost_core::{Authorize, Config, Outcome};
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
