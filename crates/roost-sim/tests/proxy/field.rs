//! What phones in the field send, that others' servers refused, lost or took for something else.

use crate::support::{Challenge, Phone, Server, ack_of_failure, cancel_of, header};

#[test]
fn a_parameter_in_quotes_may_hold_any_delimiter() {
    let server = Server::for_calls("");
    let mut caller = server.registered("9001");
    let mut callee = server.phone("9002");
    let contact = format!("Contact: {};+sip.instance=\"<urn:uuid:0,1;2?3@4>\";expires=300", callee.contact);
    assert_eq!(callee.send_register(&[&contact]).line(), "200 OK");
    caller.establish(&callee);
}

#[test]
fn methods_that_cannot_be_read_say_nothing() {
    for headers in [
        &["Allow: invite, ack, bye"][..],
        &["Allow:"],
        &["Allow: <INVITE>"],
        &["Allow: ACK, \"BYE"],
        &["Allow: BYE", "Allow: INVITE ACK"],
    ] {
        let server = Server::for_calls("");
        let mut caller = server.registered("9001");
        let mut callee = server.phone("9002");
        let contact = format!("Contact: <{}>", callee.contact);
        let headers: Vec<&str> = headers.iter().copied().chain([&*contact]).collect();
        assert_eq!(callee.send_register(&headers).line(), "200 OK");
        caller.establish(&callee);
    }
    // As a parameter, which goes before the header; and what is read counts.
    for (methods, is_taken) in [("\"invite,bye\"", true), ("\"\"", true), ("\"BYE, MESSAGE\"", false)] {
        let server = Server::for_calls("");
        let (mut caller, mut callee) = (server.registered("9001"), server.phone("9002"));
        let contact = format!("Contact: <{}>;methods={methods}", callee.contact);
        assert_eq!(callee.send_register(&[&contact, "Allow: INVITE"]).line(), "200 OK");
        let invite = caller.invite("9002");
        if is_taken {
            callee.await_request("INVITE");
        } else {
            let refused = caller.await_final("INVITE");
            assert_eq!(refused.status(), Some(404), "{methods}");
            caller.send(ack_of_failure(&invite, &refused));
        }
    }
}

#[test]
fn visual_separators_of_a_number_do_not_count() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    for uri in ["tel:90-02", "tel:(90)0.2;phone-context=example.com", "sip:9-002@127.0.0.1;user=phone"] {
        let invite = caller.message("INVITE", uri, &[&format!("Contact: <{}>", caller.contact)]);
        caller.send(&invite);
        let received = callee.await_request("INVITE");
        callee.answer(&received, "486 Busy Here");
        callee.await_request("ACK");
        caller.send(ack_of_failure(&invite, &caller.await_final("INVITE")));
        // Without the parameter the hyphen is a part of a name.
    }
    let invite = caller.message("INVITE", "sip:9-002@127.0.0.1", &["Contact: <sip:127.0.0.1>"]);
    caller.send(&invite);
    assert_eq!(caller.await_final("INVITE").status(), Some(404));
}

#[test]
fn a_caller_without_a_host_is_asked_in_the_name_of_the_callee() {
    let server = Server::for_calls("");
    let callee = server.registered("9002");
    let mut caller = server.phone("9001");
    let text = caller.message("INVITE", "sip:9002@127.0.0.1", &["Contact: <sip:127.0.0.1>"]);
    let from = header(&text, "From").expect("a From").to_owned();
    let tel = |text: &str| text.replace(&from, &from.replace("sip:9001@127.0.0.1", "tel:9001"));
    caller.send(tel(&text));
    let challenged = caller.await_final("INVITE");
    assert_eq!(challenged.line(), "407 Proxy Authentication Required");
    caller.send(ack_of_failure(&tel(&text), &challenged));
    let challenge = Challenge::parse(challenged.header("Proxy-Authenticate").expect("a challenge"));
    assert_eq!(challenge.realm, "127.0.0.1");
    let credentials = credentials(&caller, &challenge);
    let text = caller.message("INVITE", "sip:9002@127.0.0.1", &["Contact: <sip:127.0.0.1>", &credentials]);
    caller.send(tel(&text));
    callee.await_request("INVITE");
}

#[test]
fn credentials_joined_by_commas_are_found_and_only_ours_are_taken_off() {
    let server = Server::for_calls("");
    let callee = server.registered("9002");
    let mut caller = server.phone("9001");
    let invite = caller.initial("INVITE", "9002", &[]);
    caller.send(&invite);
    let challenged = caller.await_final("INVITE");
    caller.send(ack_of_failure(&invite, &challenged));
    let challenge = Challenge::parse(challenged.header("Proxy-Authenticate").expect("a challenge"));
    let own = credentials(&caller, &challenge);
    let other = "Digest username=\"a,b\", realm=\"elsewhere\", nonce=\"1\", uri=\"sip:x\", response=\"2\"";
    let joined = own.replace("Proxy-Authorization: ", &format!("Proxy-Authorization: {other}, "));
    let invite = caller.initial("INVITE", "9002", &[&joined]);
    caller.send(invite);
    let received = callee.await_request("INVITE");
    assert_eq!(received.header("Proxy-Authorization"), Some(other));

    // What cannot be read would be sent again after each new challenge.
    let broken = own.replace("nonce=", "nonce ");
    let invite = caller.initial("INVITE", "9002", &[&broken]);
    caller.send(invite);
    assert_eq!(caller.await_final("INVITE").line(), "400 Bad Request");
}

#[test]
fn a_cancel_whose_via_names_another_host_ends_the_ringing() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let invite = caller.invite("9002");
    let received = callee.await_request("INVITE");
    callee.answer(&received, "180 Ringing");
    caller.await_status(180, "INVITE");
    let elsewhere = |text: &str| text.replace(&format!("UDP {}", caller.local()), "UDP 192.168.7.7:5062");

    // Another call's, another number, another place: nothing.
    let cancel = elsewhere(&cancel_of(&invite));
    let tag = header(&invite, "From").and_then(|from| from.split_once("tag=")).expect("a tag").1;
    for wrong in [
        cancel.replace(&caller.call_id, "other@call"),
        cancel.replace(tag, "other"),
        cancel.replace(" CANCEL\r\n", "9 CANCEL\r\n"),
        cancel.replace("branch=z9hG4bK", "branch=z9hG4bKx"),
    ] {
        caller.send(wrong);
    }
    server.phone("9003").send(&cancel);
    callee.hears_nothing("its caller has not given up");

    caller.send(&cancel);
    assert_eq!(caller.await_final("CANCEL").line(), "200 canceling");
    callee.await_request("CANCEL");
}

#[test]
fn the_callers_reason_goes_along_with_the_cancel() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    for has_rung in [true, false] {
        let invite = caller.invite("9002");
        let received = callee.await_request("INVITE");
        if has_rung {
            callee.answer(&received, "180 Ringing");
            caller.await_status(180, "INVITE");
        }
        let reasons =
            "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\nReason: Q.850\r\n ;cause=16\r\n";
        caller.send(cancel_of(&invite).replace("Max-Forwards", &format!("{reasons}Max-Forwards")));
        assert_eq!(caller.await_final("CANCEL").line(), "200 canceling");
        callee.answer(&received, "180 Ringing");
        let cancel = callee.await_request("CANCEL");
        let reason = "SIP;cause=200;text=\"Call completed elsewhere\",Q.850   ;cause=16";
        assert_eq!(cancel.header("Reason"), Some(reason));
        callee.answer(&received, "487 Request Terminated");
        callee.await_request("ACK");
        caller.send(ack_of_failure(&invite, &caller.await_final("INVITE")));
    }
}

#[test]
fn a_decline_of_one_phone_tells_the_others_so() {
    let server = Server::for_calls("[registrar]\nmax_contacts = 2\n");
    let (mut caller, one, other) =
        (server.registered("9001"), server.registered("9002"), server.registered("9002"));
    let _ = caller.invite("9002");
    let (to_one, to_other) = (one.await_request("INVITE"), other.await_request("INVITE"));
    other.answer(&to_other, "180 Ringing");
    one.answer(&to_one, "603 Decline");
    let cancel = other.await_request("CANCEL");
    assert_eq!(cancel.header("Reason"), Some("SIP;cause=603;text=\"Decline\""));
}

#[test]
fn a_via_with_port_0_is_answered_at_its_source() {
    let server = Server::for_calls("");
    let mut phone = server.phone("9001");
    let options = phone.message("OPTIONS", "sip:127.0.0.1", &[]);
    let port = format!(":{}", phone.local().port());
    let zero = options.replacen(&port, ":0", 1);
    phone.send(&zero);
    let answer = phone.await_final("OPTIONS");
    assert_eq!(answer.line(), "200 OK");
    phone.send(zero.replace(";rport", ""));
    phone.hears_nothing("without rport nobody knows where to");
}

#[test]
fn an_nc_of_fewer_digits_is_computed_as_it_was_sent() {
    let server = Server::for_calls("[auth]\nqop = \"auth\"\n");
    let mut phone = server.phone("9001");
    let contact = format!("Contact: <{}>", phone.contact);
    assert_eq!(phone.send_register_once(&[&contact]).status, 401);
    let challenge = phone.challenge.clone().expect("a challenge");
    let (ha1, ha2) = (
        roost_rig::md5::hex(format!("9001:{}:9001", challenge.realm).as_bytes()),
        roost_rig::md5::hex(b"REGISTER:sip:127.0.0.1"),
    );
    for (nc, status) in [("1", 200), ("00000002", 200), ("", 400), ("000000003", 400), ("x", 400)] {
        let response = roost_rig::md5::hex(format!("{ha1}:{}:{nc}:c:auth:{ha2}", challenge.nonce).as_bytes());
        let credentials = format!(
            "Authorization: Digest username=\"9001\", realm=\"{}\", nonce=\"{}\", uri=\"sip:127.0.0.1\", \
             response=\"{response}\", qop=auth, cnonce=\"c\", nc={nc}",
            challenge.realm, challenge.nonce
        );
        phone.challenge = None;
        assert_eq!(phone.send_register_once(&[&contact, &credentials]).status, status, "nc={nc}");
    }
}

#[test]
fn lines_that_are_no_header_fields_stay_behind() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let invite = caller.initial("INVITE", "9002", &["nonsense", "X Y: 1\r\n  more", "X-Kept: 2"]);
    caller.send(&invite);
    let received = callee.await_request("INVITE");
    assert!(!received.text.contains("nonsense") && !received.text.contains("more"), "{}", received.text);
    assert_eq!(received.header("X-Kept"), Some("2"));
    callee.answer_with(
        &received,
        "200 OK\r\nresponses too\r\n have them",
        &["Contact: <sip:9002@127.0.0.1>"],
    );
    let ok = caller.await_final("INVITE");
    assert!(!ok.text.contains("responses") && !ok.text.contains("have"), "{}", ok.text);
    assert_eq!(server.statistic("roost:header_lines_left_out"), 3);

    // What could be taken for a field that is read: the request is refused, the response dropped.
    let invite = caller.initial("INVITE", "9002", &["Route <sip:10.0.0.1>"]);
    caller.send(&invite);
    assert_eq!(caller.await_final("INVITE").line(), "400 Malformed header line");
    let _ = caller.invite("9002");
    let received = callee.await_request("INVITE");
    callee.answer_with(&received, "200 OK\r\nTo me", &["Contact: <sip:9002@127.0.0.1>"]);
    caller.await_status(100, "INVITE");
    caller.hears_nothing("nobody knows what the answer says");
}

#[test]
fn an_options_of_a_dialog_reaches_the_other_side() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (mut ours, mut theirs) = caller.establish(&callee);
    for (asks, answers, dialog) in [(&caller, &callee, &mut ours), (&callee, &caller, &mut theirs)] {
        asks.send(dialog.request("OPTIONS", &["Require: 100rel"]));
        let received = answers.await_request("OPTIONS");
        answers.answer_with(&received, "481 Call Leg/Transaction Does Not Exist", &[]);
        assert_eq!(asks.await_final("OPTIONS").status(), Some(481), "a dead call looks dead");
    }
    // To roost itself, and of no call of ours: it answers.
    let routes = ours.routes.clone();
    let target = std::mem::replace(&mut ours.target, format!("sip:{}", server.sip));
    caller.send(ours.request("OPTIONS", &[]));
    assert_eq!(caller.await_final("OPTIONS").line(), "200 OK");
    ours.target = target;
    ours.routes = vec![format!("<sip:{};lr>", server.sip)];
    caller.send(ours.request("OPTIONS", &[]));
    assert_eq!(caller.await_final("OPTIONS").line(), "200 OK");
    ours.routes = routes;
    callee.hears_nothing("it was not asked");

    let server = Server::for_calls("[proxy]\nauthorize = \"off\"\n");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (mut ours, _) = caller.establish(&callee);
    caller.send(ours.request("OPTIONS", &[]));
    assert_eq!(caller.await_final("OPTIONS").line(), "200 OK");
    callee.hears_nothing("as in the original script");
}

#[test]
fn what_refreshes_the_target_records_the_route_again() {
    for (settings, is_recorded) in [("", true), ("[proxy]\nauthorize = \"off\"\n", false)] {
        let server = Server::for_calls(settings);
        let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
        let (mut ours, _) = caller.establish(&callee);
        for (method, has_it) in [("INVITE", is_recorded), ("UPDATE", is_recorded), ("INFO", false)] {
            caller.send(ours.request(method, &["Contact: <sip:9001@127.0.0.1>"]));
            let received = callee.await_request(method);
            assert_eq!(!received.headers("Record-Route").is_empty(), has_it, "{method}, {settings}");
            callee.answer(&received, "200 OK");
            caller.await_final(method);
        }
    }
}

/// The Proxy-Authorization of an INVITE to 9002.
fn credentials(caller: &Phone, challenge: &Challenge) -> String {
    let uri = caller.uri_of("9002");
    let answer = challenge.answer(&caller.digest_user, &caller.password, "INVITE", &uri, 1);
    format!("Proxy-{answer}")
}

/// A Contact's host that means nothing here, or that is ourselves: the phone is where its REGISTER came from.
#[test]
fn a_contact_without_a_global_host_is_reached_where_it_registers_from() {
    let server = Server::for_calls("domains = \"own.example.com\"\n");
    server.names("pbx.example.com", server.sip);
    server.names("phone.example.com", "127.0.0.1:5999".parse().expect("an address"));
    let mut caller = server.registered("9001");
    for (host, is_nat) in [
        ("localhost:5060", true),
        ("phone5", true),
        ("phone.local", true),
        ("x9f2.invalid", true),
        ("phone.lan:5062", true),
        ("10.9.8.7", true),
        ("own.example.com", true),
        ("pbx.example.com:5070", false),
    ] {
        let mut callee = server.phone("9002");
        callee.contact = format!("sip:9002@{host}");
        let ok = callee.register(300);
        let contact = ok.header("Contact").expect("a Contact");
        let received = format!(";received=\"sip:{}\"", callee.local());
        assert_eq!(contact.contains(&received), is_nat, "{host}: {contact}");
        let invite = caller.invite("9002");
        let received = callee.await_request("INVITE");
        assert_eq!(received.uri(), callee.contact, "{host}");
        callee.answer(&received, "486 Busy Here");
        callee.await_request("ACK");
        caller.send(ack_of_failure(&invite, &caller.await_final("INVITE")));
    }
    // The registrar's own name, and a name that leads elsewhere.
    let mut callee = server.phone("9002");
    callee.contact = "sip:9002@registrar.example.com".to_owned();
    callee.domain = "registrar.example.com".to_owned();
    assert!(callee.register(300).header("Contact").expect("a Contact").contains("received"));
    callee.contact = "sip:9002@phone.example.com:5999".to_owned();
    assert!(!callee.register(300).header("Contact").expect("a Contact").contains("received"));
    let _ = caller.invite("9002");
    callee.hears_nothing("its name leads elsewhere");
}

/// An attended transfer calls the Contact that the transferee has learnt, whose user is no extension.
#[test]
fn a_live_bindings_contact_can_be_called() {
    // The second as phones with an outbound proxy send them: what belongs to the INVITE repeats its Route.
    for (shards, has_route) in [(1, false), (4, false), (4, true)] {
        for number in 0..8 {
            let server = Server::of_shards(shards, "[registrar]\nmax_contacts = 2\n");
            let route = has_route.then(|| format!("Route: <sip:{};lr>", server.sip));
            let mut caller = server.registered("9001");
            let mut callee = server.phone("9002");
            callee.contact = format!("sip:9002-0x55ab{number}@192.168.1.5:5060");
            assert_eq!(callee.register(300).line(), "200 OK");
            let call = |caller: &mut Phone, uri: &str| {
                let contact = format!("Contact: <{}>", caller.contact);
                let headers: Vec<&str> = [&*contact].into_iter().chain(route.as_deref()).collect();
                let invite = caller.message("INVITE", uri, &headers);
                caller.send(&invite);
                invite
            };
            let uri = format!("{};ob", callee.contact);
            let routed = |message: String| match &route {
                Some(route) => message.replacen("\r\n", &format!("\r\n{route}\r\n"), 1),
                None => message,
            };
            // Refused, cancelled, answered: what belongs to it takes the same way.
            let invite = call(&mut caller, &uri);
            let received = callee.await_request("INVITE");
            assert_eq!(received.uri(), callee.contact);
            caller.send(&invite);
            callee.answer(&received, "486 Busy Here");
            callee.await_request("ACK");
            let refused = caller.await_final("INVITE");
            caller.send(routed(ack_of_failure(&invite, &refused)));
            caller.hears_nothing("the ACK has come");
            let invite = call(&mut caller, &uri);
            let received = callee.await_request("INVITE");
            callee.answer(&received, "180 Ringing");
            caller.await_status(180, "INVITE");
            caller.send(routed(cancel_of(&invite)));
            assert_eq!(caller.await_final("CANCEL").line(), "200 canceling");
            callee.await_request("CANCEL");

            // A stranger is asked who he is.
            let mut stranger = server.phone("9003");
            let invite = call(&mut stranger, &uri);
            let challenged = stranger.await_final("INVITE");
            assert_eq!(challenged.status(), Some(407));
            stranger.send(ack_of_failure(&invite, &challenged));

            // Another extension has an equal one: nobody knows who is meant. Then it has gone.
            let mut other = server.phone("9003");
            other.contact = callee.contact.clone();
            assert_eq!(other.register(300).line(), "200 OK");
            let invite = call(&mut caller, &uri);
            let refused = caller.await_final("INVITE");
            assert_eq!(refused.status(), Some(404), "{shards} {number}");
            caller.send(ack_of_failure(&invite, &refused));
            assert_eq!(other.unregister().line(), "200 OK");
            call(&mut caller, &uri);
            callee.await_request("INVITE");
            assert_eq!(callee.unregister().line(), "200 OK");
            let _ = call(&mut caller, &uri);
            assert_eq!(caller.await_final("INVITE").status(), Some(404));
        }
    }
}

#[test]
fn contacts_that_differ_in_parameters_only_are_told_apart() {
    for shards in [1, 4] {
        let server = Server::of_shards(shards, "");
        let mut caller = server.registered("9001");
        let phone = |user: &str, line: &str| {
            let mut phone = server.phone(user);
            phone.contact = format!("sip:trunk@192.168.1.5:5060;line={line}");
            assert_eq!(phone.register(300).line(), "200 OK");
            phone
        };
        let (one, two) = (phone("9002", "one"), phone("9003", "two"));
        for callee in [&one, &two] {
            let contact = format!("Contact: <{}>", caller.contact);
            let invite = caller.message("INVITE", &callee.contact, &[&contact]);
            caller.send(&invite);
            let received = callee.await_request("INVITE");
            assert_eq!(received.uri(), callee.contact);
            callee.answer(&received, "486 Busy Here");
            let refused = caller.await_final("INVITE");
            caller.send(ack_of_failure(&invite, &refused));
        }
    }
}

#[test]
fn contacts_are_called_in_the_callers_tenant() {
    let server = Server::for_calls("use_domain = true\n");
    let phone = |user: &str, domain: &str| {
        let mut phone = server.phone(user);
        phone.domain = domain.to_owned();
        phone.contact = "sip:9002@192.168.1.5:5060".to_owned();
        assert_eq!(phone.register(300).line(), "200 OK");
        phone
    };
    let (mut caller, callee, other) =
        (phone("9001", "a.com"), phone("9002", "a.com"), phone("9002", "b.com"));
    caller.contact = "sip:9001@192.168.1.6:5060".to_owned();
    assert_eq!(caller.register(300).line(), "200 OK");
    let invite = caller.message("INVITE", &callee.contact, &["Contact: <sip:9001@192.168.1.6:5060>"]);
    caller.send(&invite);
    callee.await_request("INVITE");
    other.hears_nothing("another tenant's");
}
