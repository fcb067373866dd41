//! What passes through the proxy and how it is changed on its way, and what roost answers by itself.

mod support;

use std::time::Duration;

use support::{
    A_WHILE, Message, Phone, Server, ack_of_failure, header, token, with_body, without_first_via,
    without_our_lines, without_source,
};

#[test]
fn an_invite_passes_as_it_is() {
    let server = Server::for_calls("");
    let (caller, callee) = (server.registered("9001"), server.registered("9002"));
    // What a proxy need not know, and what it knows in other clothes.
    let body = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns= \r\n\r\nX-Not: a header\r\n";
    let via = format!("Via: SIP/2.0/UDP {};branch=z9hG4bK{};rport", caller.local(), token());
    let lines: [&str; 21] = [
        &format!("INVITE sip:9002@127.0.0.1:{};x=y SIP/2.0", server.sip.port()),
        &via,
        "Via: SIP/2.0/UDP  pbx.example.com:5062 ;branch=z9hG4bKabove;received=192.0.2.9, SIP/2.0/TCP [2001:db8::9]",
        "X-First:   odd   spacing  ",
        "x-FIRST: second of its name",
        "Max-Forwards: 70",
        "FROM:   \"Nine \\\"Thousand\\\" One\"<sip:9001@127.0.0.1>;tag=x-1;other=\"a;b\"",
        "t: sip:9002@127.0.0.1",
        &format!("i: {}@[2001:db8::1]", token()),
        "CSeq:  7   INVITE",
        &format!("m: <{}>;+sip.instance=\"<urn:uuid:0>\";q=1.0", caller.contact),
        "Record-Route: <sip:192.0.2.9;lr;did=of.another>",
        "X-Empty:",
        "X-Folded: one",
        "\ttwo",
        "X-Letters: 九千零一 … \u{1f426}",
        "Subject : a space before the colon",
        "k: replaces, 100rel",
        "Authorization: Digest username=\"9001\", realm=\"elsewhere\", nonce=\"1\", uri=\"sip:x\", response=\"2\"",
        "Content-Type: application/sdp",
        &format!("l: {}", body.len()),
    ];
    caller.send(format!("{}\r\n\r\n{body}", lines.join("\r\n")));

    let received = callee.await_request("INVITE");
    assert_eq!(received.source, server.sip, "from the socket that the REGISTER came in on");
    let head = without_our_lines(&received, server.sip);
    let mut expected: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    expected[0] = format!("INVITE {} SIP/2.0", callee.contact);
    expected[5] = "Max-Forwards: 69".to_owned();
    // The caller's Via tells where the request has come from (RFC 3581 4); where in it is free.
    let at = head.iter().position(|line| line.starts_with("Via:")).expect("the caller's Via");
    assert_eq!(without_source(head[at], &caller), via);
    expected[1] = head[at].to_owned();
    assert_eq!(head, expected);
    assert_eq!(received.body(), body);
}

#[test]
fn answers_pass_as_they_are() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let sent = caller.invite("9002");

    // At once, whatever the callee does.
    let trying = caller.await_message("an answer", |_| true);
    assert_eq!(trying.line(), "100 Giving a try");
    assert_eq!(trying.header("To"), header(&sent, "To"), "no tag");
    let via = trying.header("Via").expect("a Via");
    assert_eq!(without_source(&format!("Via: {via}"), &caller), sent.lines().nth(1).expect("a Via"));

    let invite = callee.await_request("INVITE");
    callee.answer(&invite, "100 Trying");
    for line in ["180 Ringing", "183 Session Progress", "199 Early Dialog Terminated", "200 Fine By Me"] {
        let answer = callee.answer_with(
            &invite,
            line,
            &[
                "X-Odd :  as   it is ",
                "x-Empty:",
                "Server: no\tserver",
                "Contact: <sip:9002@192.0.2.7>;q=0.5",
            ],
        );
        // The callee's 100 is for roost alone.
        let received = caller.await_message(line, |_| true);
        assert_eq!(received.source, server.sip);
        assert_eq!(received.text, without_first_via(&answer), "{line}");
    }
}

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

#[test]
fn a_body_that_ends_too_early_is_refused() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let invite = with_body(&caller.initial("INVITE", "9002", &[]), "application/sdp", &"x".repeat(100));
    let cut = &invite[..invite.len() - 40];
    caller.send(cut);
    let refused = caller.await_final("INVITE");
    assert_eq!(refused.status(), Some(400), "{}", refused.text);
    caller.send(ack_of_failure(cut, &refused));
    callee.hears_nothing("the INVITE was cut");
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
