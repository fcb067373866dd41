//! Who may call: registered phones as they are, others by password; and what becomes of their credentials.

use crate::support::{Challenge, Message, Phone, Server, ack_of_failure, header};

#[test]
fn a_message_too_needs_the_password() {
    let server = Server::for_calls("");
    let callee = server.registered("9002");
    let mut caller = server.phone("9001");
    let challenged = refused(&mut caller, "MESSAGE");
    assert_eq!(challenged.line(), "407 Proxy Authentication Required");
    pass(&mut caller, &callee, "MESSAGE", &challenged);
}

#[test]
fn only_a_live_binding_of_the_caller_himself_counts() {
    let server = Server::for_calls("");
    let _callee = server.registered("9002");
    let mut gone = server.registered("9001");
    assert_eq!(gone.unregister().line(), "200 OK");
    assert_eq!(refused(&mut gone, "INVITE").status(), Some(407), "it has left");

    let mut thief = server.registered("9003");
    thief.user = "9001".to_owned();
    assert_eq!(refused(&mut thief, "INVITE").status(), Some(407), "9003 says that it is 9001");
}

#[test]
fn a_wrong_password_opens_nothing() {
    let server = Server::for_calls("");
    let callee = server.registered("9002");
    for (user, password) in [("9001", "guess"), ("9009", "9009")] {
        let mut caller = server.phone_at("127.0.0.1", user, password);
        let challenged = refused(&mut caller, "INVITE");
        let refused = again(&mut caller, "INVITE", &challenged);
        assert!(matches!(refused.status(), Some(403 | 404 | 407)), "{user}: {}", refused.text);
    }
    callee.hears_nothing("nobody knew a password");
}

#[test]
fn the_password_of_another_extension_is_not_enough() {
    let server = Server::for_calls("");
    let callee = server.registered("9002");
    let mut thief = server.phone_at("127.0.0.1", "9001", "9003");
    thief.digest_user = "9003".to_owned();
    let challenged = refused(&mut thief, "INVITE");
    let refused_again = again(&mut thief, "INVITE", &challenged);
    assert_eq!(refused_again.status(), Some(403), "{}", refused_again.text);
    callee.hears_nothing("9003 says that it is 9001");

    let server = Server::for_calls("[proxy]\ncheck_from = false\n");
    let callee = server.registered("9002");
    let mut caller = server.phone_at("127.0.0.1", "9001", "9003");
    caller.digest_user = "9003".to_owned();
    let challenged = refused(&mut caller, "INVITE");
    pass(&mut caller, &callee, "INVITE", &challenged);
}

#[test]
fn an_anonymous_caller_is_asked_in_the_name_of_the_callee() {
    let server = Server::for_calls("");
    let callee = server.registered("9002");
    let mut caller = server.phone_at("127.0.0.1", "anonymous", "9001");
    caller.digest_user = "9001".to_owned();
    caller.domain = "anonymous.invalid".to_owned();
    let invite = caller.message("INVITE", "sip:9002@127.0.0.1", &["Contact: <sip:127.0.0.1>"]);
    caller.send(&invite);
    let challenged = caller.await_final("INVITE");
    caller.send(ack_of_failure(&invite, &challenged));
    let challenge = Challenge::parse(challenged.header("Proxy-Authenticate").expect("a challenge"));
    assert_eq!(challenge.realm, "127.0.0.1", "the domain of To");

    caller.domain = "127.0.0.1".to_owned();
    let credentials = credentials(&caller, "INVITE", &challenge);
    caller.domain = "anonymous.invalid".to_owned();
    let headers = ["Contact: <sip:127.0.0.1>", &credentials];
    let invite = caller.message("INVITE", "sip:9002@127.0.0.1", &headers);
    caller.send(&invite);
    let received = callee.await_request("INVITE");
    assert_eq!(received.header("From"), header(&invite, "From"));
    assert_eq!(received.header("Proxy-Authorization"), None);
}

#[test]
fn everybody_can_be_challenged() {
    let server = Server::for_calls("[proxy]\nauthorize = \"challenge\"\n");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let challenged = refused(&mut caller, "INVITE");
    assert_eq!(challenged.line(), "407 Proxy Authentication Required");
    callee.hears_nothing("a registered phone is challenged too");
    pass(&mut caller, &callee, "INVITE", &challenged);
}

#[test]
fn nobody_is_challenged_when_it_is_off() {
    let server = Server::for_calls("[proxy]\nauthorize = \"off\"\n");
    let callee = server.registered("9002");
    let mut stranger = server.phone("stranger");
    let credentials = "Proxy-Authorization: Digest username=\"stranger\", realm=\"127.0.0.1\", nonce=\"1\", \
                       uri=\"sip:x\", response=\"0123456789abcdef0123456789abcdef\"";
    let invite = stranger.initial("INVITE", "9002", &[credentials]);
    stranger.send(&invite);
    let received = callee.await_request("INVITE");
    // To the letter of the original script: not even a did in the Record-Route.
    assert_eq!(received.headers("Record-Route"), [format!("<sip:{};lr>", server.sip)]);
    assert_eq!(received.header("Proxy-Authorization"), header(&invite, "Proxy-Authorization"));
}

/// Calls 9002 without credentials; the answer is final, and acknowledged.
fn refused(caller: &mut Phone, method: &str) -> Message {
    let message = caller.initial(method, "9002", &[]);
    conclude(caller, method, &message)
}

/// Once more with credentials, which are not enough.
fn again(caller: &mut Phone, method: &str, challenged: &Message) -> Message {
    let message = with_credentials(caller, method, challenged);
    conclude(caller, method, &message)
}

/// Once more with credentials, which open the way to the callee.
fn pass(caller: &mut Phone, callee: &Phone, method: &str, challenged: &Message) {
    let message = with_credentials(caller, method, challenged);
    caller.send(&message);
    let received = callee.await_request(method);
    assert_eq!(received.header("Proxy-Authorization"), None, "{}", received.text);
    callee.answer(&received, "480 Temporarily Unavailable");
    assert_eq!(caller.await_final(method).line(), "480 Temporarily Unavailable");
}

fn conclude(caller: &Phone, method: &str, message: &str) -> Message {
    caller.send(message);
    let answer = caller.await_final(method);
    if method == "INVITE" {
        caller.send(ack_of_failure(message, &answer));
    }
    answer
}

fn with_credentials(caller: &mut Phone, method: &str, challenged: &Message) -> String {
    let value = challenged.header("Proxy-Authenticate");
    let value = value.unwrap_or_else(|| panic!("not challenged: {}", challenged.text));
    let credentials = credentials(caller, method, &Challenge::parse(value));
    let contact = format!("Contact: <{}>", caller.contact);
    let uri = caller.uri_of("9002");
    caller.message(method, &uri, &[&contact, &credentials])
}

/// The header line for a call to 9002.
fn credentials(caller: &Phone, method: &str, challenge: &Challenge) -> String {
    let uri = caller.uri_of("9002");
    format!("Proxy-{}", challenge.answer(&caller.digest_user, &caller.password, method, &uri, 1))
}
