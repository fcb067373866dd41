//! Attacks that have a name: smuggling (what roost checks must be what the next hop sees), replay, slow and huge requests.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::{A_WHILE, Message, PATIENCE, Phone, Server, TcpPhone, report, wait_for};

/// A BYE that only its sender wants to be one.
const SMUGGLED: &str = "BYE sip:9002@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKsmuggled\r\n\
    From: <sip:9003@127.0.0.1>;tag=1\r\nTo: <sip:9002@127.0.0.1>;tag=2\r\nCall-ID: smuggled\r\nCSeq: 1 BYE\r\n\
    Content-Length: 0\r\n\r\n";

/// An INVITE with other lines in place of its Content-Length.
fn with_lines(caller: &mut Phone, lines: &str) -> String {
    caller.initial("INVITE", "9002", &[]).replace("Content-Length: 0\r\n", lines)
}

/// The header fields as a reader takes them apart who knows one line end, CRLF, and unfolds: by name, in its long form.
fn strictly_read(text: &str) -> BTreeMap<String, Vec<String>> {
    let (head, _) = text.split_once("\r\n\r\n").expect("a head that ends");
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last = String::new();
    for line in head.split("\r\n").skip(1) {
        if line.starts_with([' ', '\t']) {
            let values = fields.get_mut(&last).expect("a field before its continuation");
            values.last_mut().expect("its value").push_str(&format!(" {}", line.trim()));
            continue;
        }
        let (name, value) =
            line.split_once(':').unwrap_or_else(|| panic!("a line without a colon: {line:?} in {text}"));
        let name = name.trim_end().to_ascii_lowercase();
        last = match name.as_str() {
            "v" => "via",
            "f" => "from",
            "t" => "to",
            "i" => "call-id",
            "l" => "content-length",
            "m" => "contact",
            other => other,
        }
        .to_owned();
        fields.entry(last.clone()).or_default().push(value.trim().to_owned());
    }
    fields
}

/// What roost answers is what it took the message for; a next hop that reads strictly must take it for the same.
fn assert_read_alike(answer: &Message, forwarded: &Message) {
    let (seen, theirs) = (strictly_read(&answer.text), strictly_read(&forwarded.text));
    for name in ["from", "to", "call-id", "cseq"] {
        let [seen] = &seen[name][..] else { panic!("{name} twice in {}", answer.text) };
        let [theirs] = &theirs[name][..] else { panic!("{name} twice in {}", forwarded.text) };
        let without_tag = |value: &str| value.split(";tag=").next().unwrap_or_default().to_owned();
        assert_eq!(without_tag(seen), without_tag(theirs), "{name} of {}", forwarded.text);
    }
    // Without a Content-Length a datagram's body goes on to its end.
    let length = theirs.get("content-length").map(|all| all[0].parse::<usize>().expect("a length"));
    assert_eq!(length.unwrap_or(forwarded.body().len()), forwarded.body().len(), "{}", forwarded.text);
}

#[test]
fn what_stands_behind_the_body_goes_nowhere() {
    let server = Server::for_calls("");
    let mut caller = server.registered("9001");
    let callee = server.registered("9002");
    let mut invite = with_lines(&mut caller, "Content-Length: 2\r\n");
    invite.push_str("hi");
    caller.send(format!("{invite}{SMUGGLED}"));
    let forwarded = callee.await_request("INVITE");
    assert_eq!(forwarded.body(), "hi");
    assert!(!forwarded.text.contains("smuggled"), "{}", forwarded.text);

    // In a stream the next hop would read it as a request.
    let mut over_tcp = TcpPhone::registered(&server, "9003");
    for length in ["Content-Length: 2\r\n", "l: 2\r\n", "CONTENT-LENGTH: 2\r\n"] {
        let invite = with_lines(&mut caller, length).replace("sip:9002@", "sip:9003@");
        caller.send(format!("{invite}hi{SMUGGLED}"));
        let text = over_tcp.receive(PATIENCE).expect("an INVITE");
        assert!(text.starts_with("INVITE ") && text.ends_with("\r\n\r\nhi"), "{length:?}: {text}");
    }
    // A datagram needs no Content-Length; a stream does.
    let invite = with_lines(&mut caller, "").replace("sip:9002@", "sip:9003@");
    caller.send(format!("{invite}{SMUGGLED}"));
    let text = over_tcp.receive(PATIENCE).expect("an INVITE");
    let length = format!("\r\nContent-Length: {}\r\n", SMUGGLED.len());
    assert!(text.contains(&length) && text.ends_with(SMUGGLED), "{text}");
    assert_eq!(over_tcp.receive(A_WHILE), None, "nothing was taken for a request of its own");
}

#[test]
fn a_length_that_is_no_length_is_refused() {
    let server = Server::for_calls("");
    let mut caller = server.registered("9001");
    let callee = server.registered("9002");
    let lengths = [
        "Content-Length: 5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: +2\r\n",
        "Content-Length: 0x2\r\n",
        "Content-Length: 2, 2\r\n",
        "Content-Length: 2;x=1\r\n",
        "Content-Length: 2 3\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 18446744073709551618\r\n",
        "Content-Length: 4294967298\r\n",
        "Content-Length: \u{662}\r\n",
        "Content-Length: 2\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\nl: 0\r\n",
        "l: 2\r\nL: 2\r\n",
    ];
    for length in lengths {
        let invite = with_lines(&mut caller, length);
        caller.send(format!("{invite}hi"));
        let refused = caller.await_final("INVITE");
        assert_eq!(refused.status(), Some(400), "{length:?}: {}", refused.line());
    }
    callee.hears_nothing("none of these may go on");

    // A callee that lies about its length: what follows in the caller's stream would be taken for its body.
    let mut over_tcp = TcpPhone::registered(&server, "9003");
    let uri = format!("sip:9002@{}", server.sip.ip());
    let invite =
        over_tcp.message("INVITE", &uri, &[&format!("Contact: <sip:9003@{}>", over_tcp.local())], "");
    over_tcp.send(&invite);
    let rings = callee.await_request("INVITE");
    let honest = callee.answer(&rings, "180 Ringing");
    let lie = honest.replace("180 Ringing", "183 Session Progress");
    callee.send(lie.replace("Content-Length: 0", "Content-Length: 500"));
    callee.send(lie.replace("Content-Length: 0", "Content-Length: 0\r\nl: 500"));
    callee.send(lie.replace("Content-Length: 0", "Content-Length: 500x"));
    callee.answer(&rings, "486 Busy Here");
    let (mut heard, mut text) = (Vec::new(), String::new());
    while !text.starts_with("SIP/2.0 486") {
        text = over_tcp.receive(PATIENCE).expect("the 486");
        heard.push(text.lines().next().unwrap_or_default().to_owned());
    }
    assert_eq!(heard, ["SIP/2.0 100 Giving a try", "SIP/2.0 180 Ringing", "SIP/2.0 486 Busy Here"]);
}

#[test]
fn what_may_stand_once_stands_once() {
    let server = Server::for_calls("");
    let mut caller = server.registered("9001");
    let callee = server.registered("9002");
    let twice = [
        "From: <sip:9003@127.0.0.1>;tag=2",
        "f: <sip:9003@127.0.0.1>;tag=2",
        "FROM : <sip:9003@127.0.0.1>;tag=2",
        "To: <sip:9003@127.0.0.1>",
        "t: <sip:9003@127.0.0.1>",
        "Call-ID: another",
        "i: another",
        "CSeq: 7 INVITE",
        "cseq:\t7 BYE",
        "Max-Forwards: 255",
        "max-forwards\t: 255",
        "Expires: 9\r\nExpires: 99999",
        "Content-Type: a/b\r\nc: c/d",
    ];
    for line in twice {
        // Before and behind the honest ones: whichever of the two a reader takes.
        for first in [true, false] {
            let invite = caller.initial("INVITE", "9002", &[]);
            let forged = match first {
                true => invite.replacen("\r\nVia:", &format!("\r\n{line}\r\nVia:"), 1),
                false => invite.replacen("\r\nContent-Length", &format!("\r\n{line}\r\nContent-Length"), 1),
            };
            caller.send(&forged);
            let refused =
                caller.await_message("a 400", |message| message.status().is_some_and(|code| code >= 200));
            assert_eq!(refused.status(), Some(400), "{line:?}: {}", refused.line());
            assert!(refused.line().contains("Multiple"), "{line:?}: {}", refused.line());
        }
    }
    callee.hears_nothing("none of these may go on");
    assert_eq!(caller.register(300).line(), "200 OK");
}

#[test]
fn folding_bare_line_ends_and_nuls_are_read_as_the_next_hop_reads_them() {
    let server = Server::for_calls("");
    let mut caller = server.registered("9001");
    let mut callee = server.registered("9002");
    let hidden = [
        "X-A: 1\nFrom: <sip:9003@127.0.0.1>;tag=9",
        "X-A: 1\rFrom: <sip:9003@127.0.0.1>;tag=9",
        "X-A: 1\0\r\nX-B: 2",
        "X-A: 1\0From: <sip:9003@127.0.0.1>;tag=9",
        "X-A: 1\r\n From: <sip:9003@127.0.0.1>;tag=9",
        "X-A: 1\r\n\tCSeq: 9 BYE\r\n Call-ID: another",
        "X-A: 1\n CSeq: 9 BYE",
        "X-A: 1\r\n \r\n To: <sip:9003@127.0.0.1>",
        "X-A: 1\n\nBYE sip:9002@127.0.0.1 SIP/2.0",
        "X-A: 1\r\r\nX-B: 2",
        "X-A: 1\n\r\nX-B: 2",
        "X-A: \"\\\0\r\n From: <sip:9003@127.0.0.1>\"",
        "X-A\r\n: 1",
        "X-A\n : 1",
        " X-A: folded onto the line before",
        "X A: 1",
        ": 1",
        "X-A",
        "From\0: <sip:9003@127.0.0.1>;tag=9",
        "From\u{b}: <sip:9003@127.0.0.1>;tag=9",
        "\u{feff}From: <sip:9003@127.0.0.1>;tag=9",
        "X-A: 1\u{85}From: <sip:9003@127.0.0.1>;tag=9",
        "X-A: 1\u{2028}From: <sip:9003@127.0.0.1>;tag=9",
    ];
    let (mut passed, mut refused, mut dropped) = (0, 0, 0);
    for lines in hidden {
        for place in ["\r\nVia:", "\r\nContent-Length"] {
            let invite = caller.initial("INVITE", "9002", &[]);
            caller.send(invite.replacen(place, &format!("\r\n{lines}{place}"), 1));
            // What is asked behind it is answered in any case; two shards answer in any order.
            let call_id = caller.call_id.clone();
            let behind = caller.message("OPTIONS", "sip:127.0.0.1", &[]);
            caller.send(&behind);
            let is_of = |message: &Message, method: &str| {
                let is_method = message.header("CSeq").is_some_and(|cseq| cseq.ends_with(method));
                message.header("Call-ID") == Some(&call_id) && message.status().is_some() && is_method
            };
            let first = caller
                .await_message("an answer", |message| is_of(message, "OPTIONS") || is_of(message, "INVITE"));
            let answer = match is_of(&first, "INVITE") {
                true => Some(first),
                false => caller.overhear(A_WHILE).into_iter().find(|message| is_of(message, "INVITE")),
            };
            let Some(answer) = answer else {
                // A head that ends before its Via cannot be answered.
                assert_eq!(place, "\r\nVia:", "{lines:?}");
                callee.hears_nothing(lines);
                dropped += 1;
                continue;
            };
            if answer.status() != Some(100) {
                assert_eq!(answer.status(), Some(400), "{lines:?}: {}", answer.text);
                refused += 1;
                continue;
            }
            let forwarded = callee.await_request("INVITE");
            assert_read_alike(&answer, &forwarded);
            passed += 1;
            callee.answer(&forwarded, "486 Busy Here");
            let busy = caller.await_final("INVITE");
            caller.send(crate::support::ack_of_failure(&invite, &busy));
            callee.await_request("ACK");
        }
    }
    report(&format!("hidden lines: {passed} read alike, {refused} refused, {dropped} dropped"));
    assert_eq!((passed, refused, dropped), (23, 21, 2));
    assert_eq!(callee.register(300).line(), "200 OK");
}

/// Sends the same bytes from another phone's socket.
fn replayed(from: &Phone, message: &str) -> String {
    from.exchange(message).line()
}

#[test]
fn a_replayed_register_wins_nothing() {
    let server = Server::for_calls("");
    let mut phone = server.registered("9001");
    let captured = phone.register_message(&[&format!("Contact: <{}>", phone.contact), "Expires: 300"]);
    assert_eq!(phone.exchange(&captured).line(), "200 OK");
    let thief = Phone::at("127.0.0.77", server.sip, "9001", "?");
    assert_eq!(replayed(&thief, &captured), "403 Occupied", "from elsewhere");
    let other_contact = captured.replace(&phone.contact, &thief.contact);
    assert_eq!(replayed(&thief, &other_contact), "403 Occupied", "with another Contact");
    // The digest covers the method: what registers does not call.
    let mut neighbour = Phone::new(server.sip, "9001", "?");
    let credentials = captured.lines().find(|line| line.starts_with("Authorization: ")).expect("credentials");
    let invite = neighbour.initial("INVITE", "9001", &[&format!("Proxy-{credentials}")]);
    let line = replayed(&neighbour, &invite);
    assert!(line.starts_with("403 ") || line.starts_with("407 "), "{line}");
    // From its own address it is the retransmission that it is.
    assert_eq!(replayed(&phone, &captured), "200 OK");
    let shown = server.succeed(&["ul", "show", "9001"]);
    assert!(shown.contains(&phone.contact) && !shown.contains(&thief.contact), "{shown}");
}

#[test]
fn a_nonce_runs_out() {
    let server = Server::for_calls("[auth]\nnonce_expire = 1\n");
    let mut phone = server.registered("9001");
    let captured = phone.register_message(&[&format!("Contact: <{}>", phone.contact), "Expires: 300"]);
    wait_for("the end of a nonce", PATIENCE, || {
        (replayed(&phone, &captured) == "401 Unauthorized").then_some(())
    });
}

#[test]
fn a_nonce_that_may_be_used_once_is_used_once() {
    for sections in ["[auth]\ndisable_nonce_check = false\n", "[auth]\nqop = \"auth\"\n"] {
        let mut server = Server::prepared("", &format!("{sections}[registrar]\nexclusive = \"off\"\n"));
        server.add_users(9001, 1);
        server.start();
        let mut phone = server.phone("9001");
        let contact = format!("Contact: <{}>", phone.contact);
        assert_eq!(phone.send_register_once(&[]).status, 401);
        let captured = phone.register_message(&[&contact, "Expires: 300"]);
        assert_eq!(phone.exchange(&captured).line(), "200 OK");
        let thief = Phone::at("127.0.0.77", server.sip, "9001", "?");
        let mut forged = captured.replace(&phone.contact, &thief.contact);
        let refused = thief.exchange(&forged);
        assert_eq!(refused.status, 401, "{sections}: {}", refused.line());
        assert!(refused.text.contains("stale=true"), "{}", refused.text);
        // Nor as the next request of the same call.
        forged = forged.replace(&format!("CSeq: {} ", phone.cseq), &format!("CSeq: {} ", phone.cseq + 1));
        assert_eq!(thief.exchange(&forged).status, 401, "{sections}");
        let shown = server.succeed(&["ul", "show", "9001"]);
        assert!(!shown.contains(&thief.contact), "{shown}");
    }
}

#[test]
fn slow_requests_hold_nobody_up() {
    let server = Server::started("tcp_max_msg_time = 2\ntcp_max_connections_per_source = 300", "");
    server.add_user("9001", "9001");
    let mut slow: Vec<TcpPhone> = (0..250).map(|_| TcpPhone::connect(&server, "9001")).collect();
    let message = slow[0].message("OPTIONS", "sip:127.0.0.1", &[], "");
    for phone in &mut slow {
        phone.send(&message[..40]);
    }
    let begun = Instant::now();
    let mut phone = server.phone("9001");
    let mut longest = Duration::ZERO;
    for byte in message.as_bytes()[40..].iter().take(20) {
        for phone in &mut slow {
            // Some are let go meanwhile.
            let _ = std::io::Write::write(&mut phone.stream, &[*byte]);
        }
        let asked = Instant::now();
        assert_eq!(phone.register(60).line(), "200 OK");
        longest = longest.max(asked.elapsed());
        std::thread::sleep(Duration::from_millis(150));
    }
    report(&format!("a REGISTER beside 250 slow connections took {longest:?} at most"));
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    let ended =
        slow.iter_mut().filter_map(|phone| phone.is_ended(Duration::from_secs(4)).then_some(())).count();
    assert_eq!(
        ended,
        250,
        "a message that does not come to its end ends its connection ({:?})",
        begun.elapsed()
    );
    assert_eq!(server.statistic("net:tcp_closed_unfinished"), 250);
}

#[test]
fn huge_requests_are_answered_or_end_their_connection() {
    let server = Server::for_calls("");
    let mut phone = server.registered("9001");
    let callee = server.registered("9002");
    // As much as a datagram can have.
    let filled = |message: &str, length: usize| {
        let line = "X-Fill: ";
        let fill = "x".repeat(length - message.len() - line.len() - 2);
        message.replacen("\r\nContent-Length", &format!("\r\n{line}{fill}\r\nContent-Length"), 1)
    };
    let invite = filled(&phone.initial("INVITE", "9002", &[]), 65_000);
    phone.send(invite);
    assert_eq!(phone.await_final("INVITE").status(), Some(513));
    callee.hears_nothing("what cannot go on does not");
    let contact = format!("Contact: <{}>", phone.contact);
    let register = filled(&phone.register_message(&[&contact, "Expires: 60"]), 65_000);
    assert_eq!(phone.exchange(&register).line(), "200 OK");

    let mut over_tcp = TcpPhone::connect(&server, "9001");
    let head = over_tcp.message("OPTIONS", "sip:127.0.0.1", &[], "");
    over_tcp.send(head.replace("Content-Length: 0", "Content-Length: 2147483647"));
    let answer = over_tcp.response();
    assert_eq!(answer.status, 400, "{}", answer.text);
    assert!(over_tcp.is_ended(PATIENCE), "nobody waits for two gigabytes");
    let mut endless = TcpPhone::connect(&server, "9001");
    endless.stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    let line = format!("X: {}\r\n", "y".repeat(1_000));
    endless.send(&head[..head.len() - 2]);
    let sent =
        (0..1_000).take_while(|_| std::io::Write::write_all(&mut endless.stream, line.as_bytes()).is_ok());
    assert!(sent.count() < 1_000 || endless.is_ended(PATIENCE), "a head without an end");
    assert_eq!(phone.register(60).line(), "200 OK");
}
