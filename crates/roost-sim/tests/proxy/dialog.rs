//! Inside a call: every request follows the route that the INVITE has recorded, and nobody else's.

use crate::support::{
    A_WHILE, Dialog, Message, Phone, Server, ack_of_failure, header, with_body, without_first_via,
};

#[test]
fn a_re_invite_is_answered_and_acknowledged_or_refused() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (mut ours, mut theirs) = caller.establish(&callee);

    // The callee holds the call.
    let contact = format!("Contact: <{}>", callee.contact);
    let hold = with_body(&theirs.request("INVITE", &[&contact]), "application/sdp", "a=sendonly\r\n");
    callee.send(&hold);
    assert_eq!(callee.await_message("an answer", |_| true).line(), "100 Giving a try");
    let received = caller.await_request("INVITE");
    assert_eq!((received.uri(), received.body()), (caller.contact.as_str(), "a=sendonly\r\n"));
    assert!(received.header("Route").is_none(), "{}", received.text);
    caller.answer(&received, "200 OK");
    assert_eq!(callee.await_final("INVITE").line(), "200 OK");
    callee.send(theirs.request("ACK", &[]));
    assert_eq!(caller.await_message("the ACK", |_| true).method(), Some("ACK"));

    // The caller's wish is refused; that ACK belongs to the transaction, and the call goes on.
    let contact = format!("Contact: <{}>", caller.contact);
    let wish = ours.request("INVITE", &[&contact]);
    caller.send(&wish);
    let received = callee.await_request("INVITE");
    callee.answer(&received, "488 Not Acceptable Here");
    callee.await_request("ACK");
    let refused = caller.await_final("INVITE");
    assert_eq!(refused.line(), "488 Not Acceptable Here");
    caller.send(ack_of_failure(&wish, &refused));
    callee.hears_nothing("its refusal has been acknowledged");
    pass(&server, &caller, &callee, &ours.request("BYE", &[]));
}

#[test]
fn a_request_without_route_is_not_here() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (mut ours, _) = caller.establish(&callee);
    let routes = std::mem::take(&mut ours.routes);
    for method in ["BYE", "INFO", "INVITE"] {
        let message = ours.request(method, &[]);
        let answer = answer_to(&caller, method, &message);
        assert_eq!(answer.line(), "404 Not here", "{method}");
    }
    caller.send(ours.request("ACK", &[]));
    caller.hears_nothing("an ACK is never answered");
    callee.hears_nothing("it is not roost's call");
    ours.routes = routes;
    pass(&server, &caller, &callee, &ours.request("BYE", &[]));
}

#[test]
fn a_moved_remote_target_is_followed_with_the_right_did() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (mut ours, _) = caller.establish(&callee);
    // The callee has told in the dialog, by its Contact, that it is elsewhere; no binding says so.
    let elsewhere = server.phone("9002");
    ours.target = elsewhere.contact.clone();
    pass(&server, &caller, &elsewhere, &ours.request("BYE", &[]));
}

#[test]
fn a_route_to_a_stranger_is_forbidden_without_the_right_did() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (ours, _) = caller.establish(&callee);
    let (other, _) = caller.establish(&callee);
    let stranger = server.phone("stranger");
    let right = ours.routes[0].clone();
    let (same, last) = right.split_at(right.len() - 2);
    let wrong = format!("{same}{}>", if last == "0>" { '1' } else { '0' });
    let bare = format!("<sip:{};lr>", server.sip);
    let beyond = format!("<sip:{};lr>", stranger.local());

    let cases = [
        (vec![wrong.clone()], stranger.contact.clone()),
        (vec![bare.clone()], stranger.contact.clone()),
        (vec![other.routes[0].clone()], stranger.contact.clone()),
        (vec![wrong, beyond.clone()], callee.contact.clone()),
        (vec![bare, beyond.clone()], callee.contact.clone()),
        (vec![beyond], callee.contact.clone()),
    ];
    for (routes, target) in cases {
        for method in ["INFO", "INVITE", "ACK"] {
            let mut forged = ours.clone();
            forged.cseq = 50;
            forged.routes.clone_from(&routes);
            forged.target.clone_from(&target);
            let message = forged.request(method, &[]);
            if method == "ACK" {
                caller.send(&message);
                caller.hears_nothing("an ACK is never answered");
            } else {
                let answer = answer_to(&caller, method, &message);
                assert_eq!(answer.status(), Some(403), "{routes:?} {target}: {}", answer.text);
            }
        }
    }
    stranger.hears_nothing("roost is not an open relay");
    callee.hears_nothing("nothing was for it");

    // The call that they were forged for is as it was.
    let mut ours = ours;
    pass(&server, &caller, &callee, &ours.request("BYE", &[]));
}

#[test]
fn a_live_binding_is_reached_without_a_did() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (mut ours, _) = caller.establish(&callee);
    // As after a change of the secret: what the did protects from is strangers.
    ours.routes = vec![format!("<sip:{};lr>", server.sip)];
    pass(&server, &caller, &callee, &ours.request("BYE", &[]));
}

#[test]
fn nothing_is_forbidden_when_nobody_is_authorized() {
    let server = Server::for_calls("[proxy]\nauthorize = \"off\"\n");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (mut ours, _) = caller.establish(&callee);
    assert_eq!(ours.routes, [format!("<sip:{};lr>", server.sip)]);
    let stranger = server.phone("stranger");
    ours.target = stranger.contact.clone();
    pass(&server, &caller, &stranger, &ours.request("INFO", &[]));
}

#[test]
fn further_routes_are_followed() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (mut ours, _) = caller.establish(&callee);
    let hop = server.phone("hop");
    let loose = format!("<sip:{};lr>", hop.local());
    ours.routes.push(loose.clone());
    let message = ours.request("INFO", &[]);
    caller.send(&message);
    let received = hop.await_request("INFO");
    assert_eq!(received.uri(), callee.contact);
    assert_eq!(received.headers("Route"), [loose.as_str()], "its own Route it takes off itself");
    hop.answer(&received, "200 OK");
    assert_eq!(caller.await_final("INFO").line(), "200 OK");

    // A strict router (RFC 3261 16.6 step 6) wants to be the Request-URI, and the target behind all routes.
    let strict = format!("sip:{}", hop.local());
    ours.routes[1] = format!("<{strict}>");
    caller.send(ours.request("INFO", &[]));
    let received = hop.await_request("INFO");
    assert_eq!(received.uri(), strict);
    assert_eq!(received.headers("Route"), [format!("<{}>", callee.contact)]);
    hop.answer(&received, "200 OK");
    assert_eq!(caller.await_final("INFO").line(), "200 OK");
}

#[test]
fn a_strict_router_before_us_is_understood() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (mut ours, _) = caller.establish(&callee);
    // RFC 3261 16.4: it has put our Record-Route into the Request-URI, and the target behind.
    let (route, target) = (ours.routes[0].clone(), ours.target.clone());
    ours.target = route.trim_start_matches('<').trim_end_matches('>').to_owned();
    ours.routes = vec![format!("<{target}>")];
    caller.send(ours.request("BYE", &[]));
    let received = callee.await_request("BYE");
    assert_eq!(received.uri(), target);
    assert!(received.header("Route").is_none(), "{}", received.text);
    callee.answer(&received, "200 OK");
    assert_eq!(caller.await_final("BYE").line(), "200 OK");
}

#[test]
fn a_preloaded_route_is_ours_or_forbidden() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let stranger = server.phone("stranger");
    let ours = format!("Route: <sip:{};lr>", server.sip);
    let message = caller.initial("MESSAGE", "9002", &[&ours]);
    caller.send(message);
    let received = callee.await_request("MESSAGE");
    assert!(received.header("Route").is_none(), "{}", received.text);
    callee.answer(&received, "200 OK");
    assert_eq!(caller.await_final("MESSAGE").line(), "200 OK");

    let beyond = format!("Route: <sip:{};lr>", stranger.local());
    for routes in [&[beyond.as_str()][..], &[ours.as_str(), beyond.as_str()]] {
        for method in ["MESSAGE", "INVITE"] {
            let message = caller.initial(method, "9002", routes);
            assert_eq!(answer_to(&caller, method, &message).status(), Some(403), "{method} {routes:?}");
        }
    }
    stranger.hears_nothing("roost is not an open relay");
    callee.hears_nothing("the Route led elsewhere");
}

/// Sends a request of a call: it arrives without our Route and otherwise as it is, and its answer comes back.
fn pass(server: &Server, from: &Phone, to: &Phone, message: &str) {
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

/// Sends a request that is refused; a refused INVITE is acknowledged.
fn answer_to(phone: &Phone, method: &str, message: &str) -> Message {
    phone.send(message);
    let answer = phone.await_final(method);
    if method == "INVITE" {
        phone.send(ack_of_failure(message, &answer));
        phone.overhear(A_WHILE / 10);
    }
    assert_eq!(answer.header("Call-ID"), header(message, "Call-ID"));
    answer
}

/// A phone behind NAT whose Contact in a dialog is not the one that it has registered.
#[test]
fn a_phone_behind_nat_is_reached_whatever_it_calls_itself_in_its_dialogs() {
    for (settings, shards) in [("", 1), ("", 4), ("[proxy]\nauthorize = \"off\"\n", 1)] {
        for contact in ["sip:192.168.1.5:5060", "sip:9002@192.168.1.5", "sip:9002-1@192.168.1.5:5062;ob"] {
            let server = Server::of_shards(shards, settings);
            let mut caller = server.registered("9001");
            let mut callee = server.phone("9002");
            callee.contact = "sip:9002@192.168.1.5:5060".to_owned();
            assert_eq!(callee.register(300).line(), "200 OK");
            callee.contact = contact.to_owned();
            let (mut ours, mut theirs) = caller.establish(&callee);
            for method in ["INVITE", "BYE"] {
                reaches(&caller, &callee, &ours.request(method, &["Contact: <sip:9001@127.0.0.1>"]));
            }
            reaches(&callee, &caller, &theirs.request("INFO", &[]));
        }
    }
}

/// The To of a call need not be the extension that it reaches.
#[test]
fn the_binding_that_was_called_is_reached_although_to_names_another() {
    for shards in [1, 4] {
        let server = Server::of_shards(shards, "");
        let mut caller = server.registered("9001");
        let mut callee = server.phone("9002");
        callee.contact = "sip:9002@192.168.1.5:5060".to_owned();
        assert_eq!(callee.register(300).line(), "200 OK");
        callee.contact = "sip:192.168.1.5:5060".to_owned();
        let invite = caller.initial("INVITE", "9002", &[]).replace("To: <sip:9002@", "To: <sip:reception@");
        caller.send(&invite);
        let invite = callee.await_request("INVITE");
        callee.answer(&invite, "200 OK");
        let mut ours = Dialog::of_caller(&caller, &caller.await_final("INVITE"));
        caller.send(ours.request("ACK", &[]));
        callee.await_request("ACK");
        reaches(&caller, &callee, &ours.request("BYE", &[]));
    }
}

#[test]
fn a_phone_that_registers_anew_is_reached_as_before() {
    let server = Server::for_calls("[registrar]\nmax_contacts = 3\n");
    let mut caller = server.registered("9001");
    let mut callee = server.phone("9002");
    let instance = ";+sip.instance=\"<urn:uuid:1>\"";
    let bind = |phone: &mut Phone, port: u16, instance: &str, expires: u16| {
        let contact = format!("Contact: <sip:9002@192.168.1.5:{port}>{instance};expires={expires}");
        assert_eq!(phone.send_register(&[&contact]).line(), "200 OK");
    };
    bind(&mut callee, 5060, instance, 300);
    callee.contact = "sip:192.168.1.5:5060".to_owned();
    let (mut ours, _) = caller.establish(&callee);
    // Its address has changed: another binding of the same instance. Another phone of the extension is there, too.
    let mut beside = server.phone("9002");
    bind(&mut beside, 5070, "", 300);
    bind(&mut callee, 5061, instance, 300);
    bind(&mut callee, 5060, instance, 0);
    reaches(&caller, &callee, &ours.request("INFO", &[]));
    // The only one that is left.
    bind(&mut beside, 5070, "", 0);
    reaches(&caller, &callee, &ours.request("BYE", &[]));
}

/// No NAT is in between: the phone is at another address now, and its former Contact leads nowhere.
#[test]
fn a_phone_that_has_moved_is_reached_where_its_instance_is() {
    for shards in [1, 4] {
        let server = Server::of_shards(shards, "[registrar]\nmax_contacts = 3\n");
        let (mut caller, mut before, mut after) =
            (server.registered("9001"), server.phone("9002"), server.phone("9002"));
        let bind = |phone: &mut Phone, expires: u16| {
            let contact =
                format!("Contact: <{}>;+sip.instance=\"<urn:uuid:1>\";expires={expires}", phone.contact);
            assert_eq!(phone.send_register(&[&contact]).line(), "200 OK");
        };
        bind(&mut before, 300);
        let (mut ours, _) = caller.establish(&before);
        bind(&mut after, 300);
        reaches(&caller, &before, &ours.request("INFO", &[]));
        bind(&mut before, 0);
        reaches(&caller, &after, &ours.request("BYE", &[]));
    }
}

/// An AOR whose user is another than the dialog's: its bindings are in a shard of their own.
#[test]
fn an_aor_of_another_user_is_looked_up_in_its_shard() {
    for name in ["trunk1", "trunk2", "trunk3", "trunk4"] {
        let server = Server::of_shards(4, "[proxy]\ntrusted = \"127.0.0.1\"\n");
        let (callee, meant) = (server.registered("9002"), server.registered("9003"));
        let mut gateway = server.phone(name);
        gateway.contact = format!("sip:9003@{}", server.sip);
        let (_, mut theirs) = gateway.establish(&callee);
        reaches(&callee, &meant, &theirs.request("INFO", &[]));
    }
}

/// A gateway that is not registered and calls over a connection, whose port it names as its Contact.
#[test]
fn a_caller_without_a_binding_is_reached_over_its_connection() {
    for (settings, shards) in [
        ("[proxy]\ntrusted = \"127.0.0.1\"\n", 1),
        ("[proxy]\ntrusted = \"127.0.0.1\"\n", 4),
        ("[proxy]\nauthorize = \"off\"\n", 1),
    ] {
        let server = Server::of_shards(shards, settings);
        let callee = server.registered("9002");
        let mut gateway = server.tcp_phone("9001");
        gateway.contact = format!("sip:9001@{}", gateway.local());
        let (_, mut theirs) = gateway.establish(&callee);
        assert_eq!(theirs.routes.len(), 2, "it changes interfaces: {:?}", theirs.routes);
        reaches(&callee, &gateway, &theirs.request("INFO", &[]));
        // A host that means nothing here: nobody but the token knows where that is.
        if settings.contains("trusted") {
            theirs.target = "sip:9001@192.168.7.7:5060".to_owned();
            reaches(&callee, &gateway, &theirs.request("BYE", &[]));
        }
    }
}

#[test]
fn the_mark_opens_its_own_call_only_and_old_marks_stay_valid() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let stranger = server.phone("stranger");
    let (mut ours, _) = caller.establish(&callee);
    let (other, _) = caller.establish(&callee);
    let did = |route: &str| route.split("did=").nth(1).expect("a mark").trim_end_matches('>').to_owned();
    let own = did(&ours.routes[0]);
    assert!(own.len() <= 76 && own.len() != 16, "{own}");
    ours.target = stranger.contact.clone();
    for wrong in
        [did(&other.routes[0]), own.to_lowercase(), own[1..].to_owned(), "0000000000000000".to_owned()]
    {
        let mut forged = ours.clone();
        forged.routes = vec![ours.routes[0].replace(&own, &wrong)];
        caller.send(forged.request("BYE", &[]));
        assert_eq!(caller.await_final("BYE").status(), Some(403), "{wrong}");
    }
    stranger.hears_nothing("no mark of this call");
    reaches(&caller, &stranger, &ours.request("BYE", &[]));
}

#[test]
fn an_aor_as_the_target_of_a_dialog_is_looked_up() {
    let server = Server::for_calls("domains = \"pbx.example.com\"\n");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (mut ours, _) = caller.establish(&callee);
    for target in [format!("sip:9002@{}", server.sip), "sip:9002@pbx.example.com".to_owned()] {
        ours.target = target;
        caller.send(ours.request("INFO", &[]));
        assert_eq!(callee.await_request("INFO").uri(), callee.contact);
    }
}

/// What a dialog of ours may name loosely a stranger may not: he has our address as Route, and guesses the rest.
#[test]
fn without_the_mark_only_a_contact_itself_leads_to_its_binding() {
    let server = Server::for_calls("");
    let (mut callee, stranger) = (server.phone("9002"), server.phone("stranger"));
    let contact = "Contact: <sip:9002@192.168.1.5:5060>;expires=300";
    assert_eq!(callee.send_register(&[contact]).line(), "200 OK");
    let aor = format!("sip:9002@{}", server.sip);
    for target in [&*aor, "sip:x@localhost", "sip:10.9.9.9", "sip:9002@192.168.1.5:99"] {
        stranger.send(format!(
            "NOTIFY {target} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{}\r\nMax-Forwards: 70\r\n\
             Route: <sip:{};lr>\r\nFrom: <sip:a@127.0.0.1>;tag=1\r\nTo: <{aor}>;tag=2\r\nCall-ID: {}\r\n\
             CSeq: 1 NOTIFY\r\nEvent: check-sync\r\nContent-Length: 0\r\n\r\n",
            stranger.local(),
            target.len(),
            server.sip,
            target.len()
        ));
        let answer = stranger.await_final("NOTIFY");
        assert!(matches!(answer.status(), Some(403 | 404)), "{target}: {}", answer.line());
        callee.hears_nothing(target);
    }
}

/// A request inside a dialog arrives and is answered.
fn reaches(from: &Phone, to: &Phone, message: &str) {
    from.send(message);
    let method = message.split(' ').next().unwrap_or_default();
    let received = to.await_request(method);
    to.answer(&received, "200 OK");
    assert_eq!(from.await_final(method).line(), "200 OK");
}

#[test]
fn a_call_that_a_phone_does_not_know_any_more_is_ended() {
    let server = Server::for_calls("[dialog]\noptions_ping_interval = 10\n");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    caller.establish(&callee);
    // Both know of it: it goes on.
    for _ in 0..3 {
        for phone in [&callee, &caller] {
            let asked = phone.await_request("OPTIONS");
            assert_eq!((asked.uri(), asked.header("Call-ID")), (&*phone.contact, Some(&*caller.call_id)));
            assert_eq!(asked.header("CSeq").map(|cseq| cseq.ends_with(" OPTIONS")), Some(true));
            phone.answer_with(&asked, "200 OK", &[]);
        }
    }
    // Once is chance, and other failures mean nothing.
    for line in [
        "481 Call/Transaction Does Not Exist",
        "500 Server Internal Error",
        "481 Call/Transaction Does Not Exist",
    ] {
        let asked = callee.await_request("OPTIONS");
        callee.answer_with(&asked, line, &[]);
        let asked = caller.await_request("OPTIONS");
        caller.answer_with(&asked, "200 OK", &[]);
    }
    assert_eq!(server.statistic("dialog:active_dialogs"), 1);
    let asked = callee.await_request("OPTIONS");
    callee.answer_with(&asked, "481 Call/Transaction Does Not Exist", &[]);
    for phone in [&callee, &caller] {
        let bye = phone.await_request("BYE");
        assert_eq!(bye.header("Reason"), Some("SIP;cause=200;text=\"the other side is gone\""));
        phone.answer_with(&bye, "200 OK", &[]);
    }
    assert_eq!(server.statistic("dialog:active_dialogs"), 0);
}

#[test]
fn a_phone_that_does_not_answer_for_its_call_loses_it() {
    let server = Server::for_calls("[dialog]\noptions_ping_interval = 40\n");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    caller.establish(&callee);
    let mut is_over = false;
    for _ in 0..150 {
        for heard in caller.overhear(std::time::Duration::from_secs(1)) {
            is_over |= heard.method() == Some("BYE");
            caller.answer_with(&heard, "200 OK", &[]);
        }
    }
    assert!(is_over);
    assert_eq!(server.statistic("dialog:active_dialogs"), 0);
    drop(callee);
}

#[test]
fn there_are_no_more_calls_at_once_than_there_may_be() {
    let server = Server::for_calls("proxy.max_calls = 1\n");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (mut ours, _) = caller.establish(&callee);
    let mut other = server.registered("9003");
    let invite = other.invite("9002");
    let refusal = other.await_final("INVITE");
    assert_eq!(refusal.line(), "503 Service Unavailable");
    other.send(ack_of_failure(&invite, &refusal));
    callee.hears_nothing("there is no room for another call");
    caller.send(ours.request("INVITE", &[&format!("Contact: <{}>", caller.contact)]));
    let received = callee.await_request("INVITE");
    callee.answer(&received, "200 OK");
    assert_eq!(caller.await_final("INVITE").line(), "200 OK", "a re-INVITE is no new call");
    caller.send(ours.request("ACK", &[]));
    callee.await_request("ACK");
    caller.send(ours.request("BYE", &[]));
    let bye = callee.await_request("BYE");
    callee.answer(&bye, "200 OK");
    assert_eq!(caller.await_final("BYE").line(), "200 OK");
    other.invite("9002");
    callee.await_request("INVITE");
}
