//! The proxy as a program: its sockets, and rules that show on a real network. The others are tried on an engine in virtual
//! time (`roost-sim`).

use serde_json::json;

use crate::support::{
    Challenge, Message, Phone, Server, ack_of_failure, cancel_of, header, token, with_body,
    without_first_via, without_our_lines, without_source,
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

#[test]
fn a_caller_from_elsewhere_needs_the_password() {
    for auth in ["", "[auth]\nqop = \"auth\"\n"] {
        let server = Server::for_calls(auth);
        let (home, callee) = (server.registered("9001"), server.registered("9002"));
        // The same extension at the same address, but another port.
        let mut caller = server.phone("9001");
        let challenged = refused(&mut caller, "INVITE");
        assert_eq!(challenged.line(), "407 Proxy Authentication Required");
        let challenge = Challenge::parse(challenged.header("Proxy-Authenticate").expect("a challenge"));
        assert_eq!((challenge.realm.as_str(), challenge.stale), ("127.0.0.1", false));
        assert_eq!(challenge.qop, !auth.is_empty());
        assert_eq!(challenged.header("WWW-Authenticate"), None);
        callee.hears_nothing("the caller is a stranger");

        let others = [
            "Proxy-Authorization: Digest username=\"9001\", realm=\"elsewhere\", nonce=\"1\", uri=\"sip:x\", \
             response=\"0123456789abcdef0123456789abcdef\"",
            "Authorization: Digest username=\"9001\", realm=\"127.0.0.1\", nonce=\"1\", uri=\"sip:x\", \
             response=\"0123456789abcdef0123456789abcdef\"",
        ];
        let credentials = credentials(&caller, "INVITE", &challenge);
        let contact = format!("Contact: <{}>", caller.contact);
        let headers = [others[0], &credentials, others[1], &contact, "X-Last: one"];
        let uri = caller.uri_of("9002");
        let invite = with_body(&caller.message("INVITE", &uri, &headers), "text/plain", "hi");
        caller.send(&invite);

        let received = callee.await_request("INVITE");
        let head = without_our_lines(&received, server.sip);
        let sent = invite.split("\r\n\r\n").next().unwrap_or_default();
        let kept = sent.split("\r\n").filter(|line| *line != credentials).enumerate();
        let expected: Vec<String> = kept
            .map(|(number, line)| match line {
                _ if number == 0 => format!("INVITE {} SIP/2.0", callee.contact),
                "Max-Forwards: 70" => "Max-Forwards: 69".to_owned(),
                line => line.to_owned(),
            })
            .collect();
        let head: Vec<String> = head
            .into_iter()
            .map(|line| match line.starts_with("Via:") {
                true => without_source(line, &caller),
                false => line.to_owned(),
            })
            .collect();
        assert_eq!(head, expected);
        assert_eq!(received.body(), "hi");

        // Who was let in may stay: nobody is challenged inside a dialog.
        callee.answer(&received, "200 OK");
        let ok = caller.await_status(200, "INVITE");
        let mut dialog = crate::support::Dialog::of_caller(&caller, &ok);
        caller.send(dialog.request("ACK", &[]));
        assert!(callee.await_request("ACK").header("Proxy-Authorization").is_none());
        caller.send(dialog.request("BYE", &[]));
        let bye = callee.await_request("BYE");
        callee.answer(&bye, "200 OK");
        assert_eq!(caller.await_final("BYE").line(), "200 OK");
        home.hears_nothing("it has not called");
    }
}

#[test]
fn a_trusted_address_needs_no_password() {
    let server = Server::for_calls("[proxy]\ntrusted = [\"127.0.0.2\"]\n");
    let callee = server.registered("9002");
    let mut gateway = Phone::at("127.0.0.2", server.sip, "0085212345678", "");
    gateway.invite("9002");
    let received = callee.await_request("INVITE");
    callee.answer(&received, "486 Busy Here");
    assert_eq!(gateway.await_final("INVITE").line(), "486 Busy Here");

    let mut caller = server.phone("9001");
    assert_eq!(refused(&mut caller, "INVITE").status(), Some(407), "127.0.0.1 is not trusted");
}

/// Calls 9002 without credentials; the answer is final, and acknowledged.
fn refused(caller: &mut Phone, method: &str) -> Message {
    let message = caller.initial(method, "9002", &[]);
    conclude(caller, method, &message)
}

fn conclude(caller: &Phone, method: &str, message: &str) -> Message {
    caller.send(message);
    let answer = caller.await_final(method);
    if method == "INVITE" {
        caller.send(ack_of_failure(message, &answer));
    }
    answer
}

/// The header line for a call to 9002.
fn credentials(caller: &Phone, method: &str, challenge: &Challenge) -> String {
    let uri = caller.uri_of("9002");
    format!("Proxy-{}", challenge.answer(&caller.digest_user, &caller.password, method, &uri, 1))
}

#[test]
fn the_caller_gives_up() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (sent, invite) = ring(&mut caller, &callee);

    caller.send(cancel_of(&sent));
    let canceling = caller.await_final("CANCEL");
    assert_eq!(canceling.line(), "200 canceling");
    assert!(canceling.header("To").is_some_and(|to| to.contains(";tag=")), "{}", canceling.text);

    let cancel = callee.await_request("CANCEL");
    assert_eq!(cancel.uri(), callee.contact);
    assert_eq!(cancel.headers("Via"), [invite.headers("Via")[0]], "roost's own, with the INVITE's branch");
    for name in ["From", "To", "Call-ID"] {
        assert_eq!(cancel.header(name), invite.header(name), "{}", cancel.text);
    }
    assert_eq!(cancel.header("Reason"), Some("SIP;cause=487;text=\"ORIGINATOR_CANCEL\""));
    callee.answer_with(&cancel, "200 OK", &[]);
    let terminated = callee.answer(&invite, "487 Request Terminated");
    callee.await_request("ACK");

    let refused = caller.await_final("INVITE");
    assert_eq!(refused.text, without_first_via(&terminated));
    caller.send(ack_of_failure(&sent, &refused));
    caller.hears_nothing("it has acknowledged the 487");
    callee.hears_nothing("it has been acknowledged");

    // A CANCEL that comes twice, or too late, changes nothing any more.
    caller.send(cancel_of(&sent));
    callee.hears_nothing("the call has ended");
}

/// 9001 calls 9002, which rings: the INVITE as sent and as received.
fn ring(caller: &mut Phone, callee: &Phone) -> (String, Message) {
    let sent = caller.invite("9002");
    let invite = callee.await_request("INVITE");
    callee.answer(&invite, "180 Ringing");
    caller.await_status(180, "INVITE");
    (sent, invite)
}

#[test]
fn a_call_from_end_to_end() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (mut ours, mut theirs) = caller.establish(&callee);
    assert_eq!((ours.routes.len(), theirs.routes.len()), (1, 1));
    assert!(ours.routes[0].starts_with(&format!("<sip:{};lr;did=", server.sip)), "{}", ours.routes[0]);

    for method in ["INFO", "UPDATE", "REFER", "NOTIFY", "PRACK", "MESSAGE", "X-OWN"] {
        pass_in_dialog(&server, &caller, &callee, &ours.request(method, &["X-Odd :  kept "]));
        pass_in_dialog(&server, &callee, &caller, &theirs.request(method, &["X-Odd :  kept "]));
    }
    pass_in_dialog(&server, &callee, &caller, &theirs.request("BYE", &[]));
}

#[test]
fn phones_behind_nat_are_reached_inside_a_call() {
    let server = Server::for_calls("");
    let behind_nat = |user: &str, contact: &str| {
        let mut phone = server.phone(user);
        phone.contact = contact.to_owned();
        assert_eq!(phone.register(300).line(), "200 OK");
        phone
    };
    let mut caller = behind_nat("9001", "sip:9001@10.1.2.4:5060");
    // As some phones do: their Contact's user is not the extension.
    let callee = behind_nat("9002", "sip:line-1-0x55d0c0ffee00@10.1.2.3:5062;ob");
    let (mut ours, mut theirs) = caller.establish(&callee);
    assert_eq!(ours.target, "sip:line-1-0x55d0c0ffee00@10.1.2.3:5062;ob");
    pass_in_dialog(&server, &caller, &callee, &ours.request("INFO", &[]));
    pass_in_dialog(&server, &callee, &caller, &theirs.request("INFO", &[]));
    pass_in_dialog(&server, &callee, &caller, &theirs.request("BYE", &[]));
}

/// Sends a request of a call: it arrives without our Route and otherwise as it is, and its answer comes back.
fn pass_in_dialog(server: &Server, from: &Phone, to: &Phone, message: &str) {
    from.send(message);
    let method = message.split(' ').next().unwrap_or_default();
    let received = to.await_request(method);
    assert_eq!(received.source, server.sip);
    assert!(received.header("Route").is_none(), "{}", received.text);
    let vias = received.headers("Via");
    assert_eq!(vias.len(), 2, "{}", received.text);
    assert!(vias[0].starts_with(&format!("SIP/2.0/UDP {};branch=z9hG4bK", server.sip)), "{}", vias[0]);

    // Line by line, but for Via, and Record-Route, which does no harm here.
    let is_same =
        |line: &&str| !["Via:", "Record-Route:", "Route:"].iter().any(|name| line.starts_with(name));
    let sent = message.replace("Max-Forwards: 70", "Max-Forwards: 69");
    let sent = sent.split_once("\r\n\r\n").map_or("", |(head, _)| head);
    let received_lines: Vec<&str> = received.head().into_iter().filter(is_same).collect();
    let sent_lines: Vec<&str> = sent.split("\r\n").filter(is_same).collect();
    assert_eq!(received_lines, sent_lines);

    let answer = to.answer(&received, "200 OK");
    let back = from.await_final(method);
    assert_eq!(back.text, without_first_via(&answer));
}

const TWO_PHONES: &str = "[registrar]\nmax_contacts = 2\nexclusive = \"off\"\n";

#[test]
fn one_phone_answers_and_the_other_stops_ringing() {
    let server = Server::for_calls(TWO_PHONES);
    let (mut caller, phones) = caller_and_two_phones(&server);
    caller.invite("9002");
    let invites = both_ring(&caller, &phones);
    assert_ne!(invites[0].branch(), invites[1].branch());
    for (phone, invite) in phones.iter().zip(&invites) {
        assert_eq!(invite.uri(), phone.contact);
    }

    phones[0].answer(&invites[0], "200 OK");
    let ok = caller.await_final("INVITE");
    assert_eq!(ok.line(), "200 OK");
    assert_eq!(ok.header("Contact"), Some(format!("<{}>", phones[0].contact).as_str()));

    let cancel = phones[1].await_request("CANCEL");
    assert_cancels(&cancel, &invites[1], &server);
    assert_eq!(cancel.header("Reason"), Some("SIP ;cause=200 ;text=\"Call completed elsewhere\""));
    stop_ringing(&phones[1], &invites[1], &cancel);
    caller.hears_nothing("the loser's 487 is roost's business");
    phones[0].hears_nothing("it has won");
}

#[test]
fn a_dead_contact_spoils_no_call() {
    for dead in ["sip:9002@127.0.0.1:9", "sip:9002@no-such-host.invalid", "sip:9002@127.0.0.1;transport=tcp"]
    {
        let server = Server::for_calls(TWO_PHONES);
        let (mut caller, phone) = (server.registered("9001"), server.registered("9002"));
        let params = json!(["location", "9002", dead, "300", "", "0", "", "4294967295"]);
        assert_eq!(server.mi("ul_add", params), Ok(json!("OK")), "{dead}");

        caller.invite("9002");
        let invite = phone.await_request("INVITE");
        phone.answer(&invite, "180 Ringing");
        assert_eq!(caller.await_status(180, "INVITE").line(), "180 Ringing", "beside {dead}");
        phone.answer(&invite, "200 OK");
        assert_eq!(caller.await_final("INVITE").line(), "200 OK", "beside {dead}");
    }
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

#[test]
fn a_callee_that_is_roost_itself_is_a_loop() {
    for authorize in ["off", "registered"] {
        let server = Server::for_calls(&format!("[proxy]\nauthorize = \"{authorize}\"\n"));
        let (mut caller, mut callee) = (server.registered("9001"), server.phone("9002"));
        callee.contact = format!("sip:9002@{}", server.sip);
        assert_eq!(callee.register(300).line(), "200 OK");

        let before = packets(&server);
        let sent = caller.invite("9002");
        let refused = caller.await_final("INVITE");
        caller.send(ack_of_failure(&sent, &refused));
        match authorize {
            "off" => assert!(matches!(refused.status(), Some(482 | 483)), "{}", refused.text),
            // The second time it comes from roost's address, where 9001 is not registered.
            _ => assert!(matches!(refused.status(), Some(407 | 482 | 483)), "{}", refused.text),
        }
        caller.hears_nothing("it has acknowledged");
        assert_few(&server, before, 20);
    }
}

/// RFC 5393: two extensions whose phones point at one another, twice each, must not double at every hop.
#[test]
fn loops_that_fork_do_not_storm() {
    let server = Server::for_calls("[proxy]\nauthorize = \"off\"\n[registrar]\nmax_contacts = 2\n");
    let mut caller = server.registered("9001");
    for (user, other) in [("9002", "9003"), ("9003", "9002")] {
        let mut phone = server.phone(user);
        for number in [1, 2] {
            phone.contact = format!("sip:{other}@{};n={number}", server.sip);
            assert_eq!(phone.register(300).line(), "200 OK");
        }
    }
    let before = packets(&server);
    let sent = caller.invite("9002");
    let refused = caller.await_final("INVITE");
    assert!(matches!(refused.status(), Some(482 | 483)), "{}", refused.text);
    caller.send(ack_of_failure(&sent, &refused));
    caller.hears_nothing("it has acknowledged");
    assert_few(&server, before, 200);
}

/// How many requests and answers roost has received.
fn packets(server: &Server) -> u64 {
    server.statistic("core:rcv_requests") + server.statistic("core:rcv_replies")
}

fn assert_few(server: &Server, before: u64, limit: u64) {
    let caused = packets(server) - before;
    assert!(caused <= limit, "one INVITE caused {caused} packets");
}
