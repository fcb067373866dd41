//! What passes through the proxy and how it is changed on its way, and what roost answers by itself.

use std::time::Duration;

use crate::support::{
    A_WHILE, Message, Phone, Server, ack_of_failure, header, token, with_body, without_first_via,
};

#[test]
fn an_unregistered_callee_is_not_found_until_the_ack() {
    let server = Server::for_calls("");
    let mut caller = server.registered("9001");
    let invite = caller.invite("9002");
    assert_eq!(caller.await_message("an answer", |_| true).line(), "100 Giving a try");
    let first = caller.await_final("INVITE");
    assert_eq!(first.line(), "404 Not Found");
    assert!(first.header("To").is_some_and(|to| to.contains(";tag=")), "{}", first.text);

    // Repeated by roost (timer G), and on a repeated INVITE.
    assert_eq!(caller.await_final("INVITE").text, first.text);
    caller.send(&invite);
    assert_eq!(caller.await_message("an answer", |_| true).text, first.text);

    caller.send(ack_of_failure(&invite, &first));
    let heard = caller.overhear(Duration::from_millis(2_500));
    assert!(heard.is_empty(), "after the ACK: {heard:#?}");
}

#[test]
fn what_is_wrong_is_said() {
    let server = Server::for_calls("");
    let mut caller = server.registered("9001");
    let mut stranger = server.phone("9003");
    let in_dialog = "To: <sip:9002@127.0.0.1>;tag=1";
    let (user, domain) = ("sip:9002@127.0.0.1", "sip:127.0.0.1");
    for (method, uri, headers, expected) in [
        ("MESSAGE", domain, vec![], "484 Address Incomplete"),
        ("INVITE", domain, vec![], "484 Address Incomplete"),
        ("MESSAGE", user, vec![], "404 Not Found"),
        ("INFO", user, vec![in_dialog], "404 Not here"),
        ("BYE", user, vec![in_dialog], "404 Not here"),
        ("INVITE", user, vec![in_dialog], "404 Not here"),
        ("INVITE", user, vec!["Max-Forwards: 0"], "483 Too Many Hops"),
        ("MESSAGE", user, vec!["Max-Forwards: 0"], "483 Too Many Hops"),
        ("SUBSCRIBE", user, vec!["Event: presence"], "405 Method Not Allowed"),
        ("OPTIONS", user, vec![in_dialog], "200 OK"),
    ] {
        let (message, answer) = ask(&mut caller, method, uri, &headers);
        assert_eq!(answer.line(), expected, "{method} {uri} {headers:?}");
        for name in ["From", "Call-ID", "CSeq"] {
            assert_eq!(answer.header(name), header(&message, name), "{method} {uri}");
        }
    }
    // Before anybody is asked who he is.
    for (method, headers, expected) in [
        ("INVITE", vec!["Max-Forwards: 0"], "483 Too Many Hops"),
        ("BYE", vec![in_dialog], "404 Not here"),
        ("PUBLISH", vec!["Event: presence"], "405 Method Not Allowed"),
        ("OPTIONS", vec![], "200 OK"),
    ] {
        let (_, answer) = ask(&mut stranger, method, user, &headers);
        assert_eq!(answer.line(), expected, "a stranger's {method} {headers:?}");
    }
}

#[test]
fn a_message_is_relayed_without_record_route() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let message = with_body(&caller.initial("MESSAGE", "9002", &[]), "text/plain", "hi");
    let message = message.replace("Max-Forwards: 70\r\n", "");
    caller.send(&message);

    let received = callee.await_request("MESSAGE");
    assert_eq!(received.uri(), callee.contact);
    assert_eq!(received.headers("Max-Forwards"), ["10"]);
    assert!(received.header("Record-Route").is_none(), "{}", received.text);
    assert_eq!(received.headers("Via").len(), 2);
    assert_eq!(received.body(), "hi");

    let answer = callee.answer_with(&received, "202 Accepted", &[]);
    // No 100 before it: that is for INVITE.
    let first = caller.await_message("an answer", |_| true);
    assert_eq!(first.text, without_first_via(&answer));
    // The 202 was lost, says the caller.
    caller.send(&message);
    assert_eq!(caller.await_message("the answer again", |_| true).text, first.text);
    callee.hears_nothing("the MESSAGE has been answered");
}

#[test]
fn a_message_that_is_under_way_is_not_sent_twice() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let message = caller.initial("MESSAGE", "9002", &[]);
    for _ in 0..5 {
        caller.send(&message);
    }
    let received = callee.await_request("MESSAGE");
    let repeated = callee.overhear(Duration::from_millis(300));
    assert!(repeated.is_empty(), "sooner than timer E: {repeated:#?}");
    callee.answer(&received, "200 OK");
    assert_eq!(caller.await_final("MESSAGE").line(), "200 OK");
}

#[test]
fn max_forwards_is_counted_down() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    for (sent, expected) in [("70", "69"), ("1", "0"), ("256", "255"), ("300", "256"), ("4294967297", "256")]
    {
        let header = format!("Max-Forwards: {sent}");
        let message = caller.initial("MESSAGE", "9002", &[&header]);
        caller.send(message);
        let received = callee.await_request("MESSAGE");
        assert_eq!(received.headers("Max-Forwards"), [expected], "after {sent}");
        callee.answer(&received, "200 OK");
        assert_eq!(caller.await_final("MESSAGE").line(), "200 OK");
    }
}

#[test]
fn a_phone_gets_only_the_methods_that_it_allows() {
    let server = Server::for_calls("");
    let mut caller = server.registered("9001");
    let mut callee = server.phone("9002");
    let contact = format!("Contact: <{}>", callee.contact);
    let registered = callee.send_register(&[&contact, "Expires: 300", "Allow: INVITE, ACK, CANCEL, BYE"]);
    assert_eq!(registered.line(), "200 OK");

    let (_, refused) = ask(&mut caller, "MESSAGE", "sip:9002@127.0.0.1", &[]);
    assert_eq!(refused.line(), "404 Not Found");
    callee.hears_nothing("it does not allow MESSAGE");
    caller.establish(&callee);

    // The Contact's own list counts before Allow.
    let contact = format!("Contact: <{}>;methods=\"MESSAGE\"", callee.contact);
    assert_eq!(callee.send_register(&[&contact, "Expires: 300", "Allow: INVITE"]).line(), "200 OK");
    let message = caller.initial("MESSAGE", "9002", &[]);
    caller.send(message);
    let received = callee.await_request("MESSAGE");
    callee.answer(&received, "200 OK");
    assert_eq!(caller.await_final("MESSAGE").line(), "200 OK");
    let (_, refused) = ask(&mut caller, "INVITE", "sip:9002@127.0.0.1", &[]);
    assert_eq!(refused.line(), "404 Not Found");
}

/// Sends a request and waits for its final answer; a failed INVITE is acknowledged.
fn ask(phone: &mut Phone, method: &str, uri: &str, headers: &[&str]) -> (String, Message) {
    phone.call_id = token();
    let message = phone.message(method, uri, headers);
    phone.send(&message);
    let call_id = phone.call_id.clone();
    let answer = phone.await_message("a final answer", |answer| {
        answer.status().is_some_and(|status| status >= 200)
            && answer.header("Call-ID") == Some(call_id.as_str())
    });
    if method == "INVITE" {
        phone.send(ack_of_failure(&message, &answer));
        phone.overhear(A_WHILE / 10);
    }
    (message, answer)
}
