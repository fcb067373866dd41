//! P-Asserted-Identity and its like (RFC 3325): phones claim in vain, trusted hops are believed, and told who calls.

use crate::support::{Dialog, Message, Phone, Server};

const CLAIMS: [&str; 3] = [
    "P-Asserted-Identity: <sip:boss@example.com>",
    "P-Preferred-Identity: <sip:boss@example.com>",
    "Remote-Party-ID: <sip:boss@example.com>;party=calling",
];
const TRUSTED: &str = "trusted = 127.0.0.7\n";

fn claims(message: &Message) -> Vec<&str> {
    ["P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID"]
        .into_iter()
        .flat_map(|name| message.headers(name))
        .collect()
}

/// Calls 9002 with these headers; the INVITE as it arrives.
fn called(caller: &mut Phone, callee: &Phone, headers: &[&str]) -> Message {
    let invite = caller.initial("INVITE", "9002", headers);
    caller.send(&invite);
    callee.await_request("INVITE")
}

#[test]
fn what_a_phone_claims_reaches_nobody() {
    for setting in ["", "asserted_identity = \"set\"\n"] {
        let server = Server::for_calls(setting);
        let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
        let received = called(&mut caller, &callee, &CLAIMS);
        assert!(claims(&received).is_empty(), "{setting}: {}", received.text);
        // Nor from the callee, in whatever it answers, nor inside the dialog.
        let contact = format!("Contact: <{}>", callee.contact);
        let answers = [&[contact.as_str()], &CLAIMS[..]].concat();
        callee.answer_with(&received, "180 Ringing", &answers);
        assert!(claims(&caller.await_status(180, "INVITE")).is_empty());
        callee.answer_with(&received, "200 OK", &answers);
        let ok = caller.await_status(200, "INVITE");
        assert!(claims(&ok).is_empty());
        let mut ours = Dialog::of_caller(&caller, &ok);
        caller.send(ours.request("ACK", &CLAIMS));
        assert!(claims(&callee.await_request("ACK")).is_empty());
        caller.send(ours.request("BYE", &CLAIMS));
        assert!(claims(&callee.await_request("BYE")).is_empty());
        let received = called(&mut caller, &callee, &CLAIMS);
        callee.answer_with(&received, "486 Busy Here", &answers);
        assert!(claims(&caller.await_final("INVITE")).is_empty());
    }
}

#[test]
fn a_trusted_hop_is_believed_unless_its_caller_wants_privacy() {
    let server = Server::for_calls(TRUSTED);
    let mut hop = server.phone_at("127.0.0.7", "0301", "");
    let callee = server.registered("9002");
    let received = called(&mut hop, &callee, &CLAIMS);
    assert_eq!(claims(&received).len(), 3, "{}", received.text);
    let received = called(&mut hop, &callee, &[CLAIMS[0], "Privacy: user; id"]);
    assert!(claims(&received).is_empty(), "{}", received.text);
    assert_eq!(received.header("Privacy"), Some("user; id"));
}

#[test]
fn a_trusted_hop_is_told_who_has_proved_to_call() {
    let server = Server::for_calls(&format!("{TRUSTED}asserted_identity = \"set\"\n"));
    let mut caller = server.registered("9001");
    let mut hop = server.phone_at("127.0.0.7", "9002", "9002");
    assert_eq!(hop.register(300).line(), "200 OK");
    let received = called(&mut caller, &hop, &CLAIMS);
    assert_eq!(claims(&received), ["\"9001\" <sip:9001@127.0.0.1>"]);
    // With strip, and from hop to hop, nothing is said in anybody's name.
    let mut other = server.phone_at("127.0.0.7", "0301", "");
    assert_eq!(claims(&called(&mut other, &hop, &[])), [""; 0]);
}

#[test]
fn it_can_be_left_alone() {
    for setting in ["asserted_identity = \"off\"\n", "authorize = \"off\"\n"] {
        let server = Server::for_calls(setting);
        let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
        assert_eq!(claims(&called(&mut caller, &callee, &CLAIMS)).len(), 3, "{setting}");
    }
}
