//! TCP by hand: framing in any chunking, connections that live as long as their bindings, and peers that misbehave.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Server, TcpPhone, report, wait_for};

fn server(top: &str) -> Server {
    let server = Server::started(top, "");
    for user in ["9001", "9002"] {
        server.add_user(user, user);
    }
    server
}

#[test]
fn a_message_split_anywhere_gets_the_same_answer() {
    let server = server("");
    let mut phone = TcpPhone::connect(&server, "9001");
    let uri = format!("sip:{}", server.sip);
    let message = phone.message("OPTIONS", &uri, &["X-Odd: 1"], "body\r\n\r\nOPTIONS");
    phone.send(&message);
    let whole = phone.receive(PATIENCE).expect("an answer");
    assert!(whole.starts_with("SIP/2.0 200 OK\r\n"), "{whole}");
    for at in 1..message.len() {
        phone.send(&message[..at]);
        phone.send(&message[at..]);
        assert_eq!(phone.receive(PATIENCE).as_deref(), Some(&whole[..]), "split at {at}");
    }
    for byte in message.bytes() {
        phone.send([byte]);
    }
    assert_eq!(phone.receive(PATIENCE).as_deref(), Some(&whole[..]), "a byte at a time");
    // Three at once, a keep-alive between them.
    phone.send(format!("{message}\r\n\r\n{message}{message}\r\n\r\n"));
    let (ping, answer) = (b"\r\n".to_vec(), whole.into_bytes());
    // The pongs need no engine: they come first, perhaps.
    let all = phone.bytes(3 * answer.len() + 2 * ping.len());
    let text = String::from_utf8_lossy(&all).into_owned();
    assert_eq!(text.matches("SIP/2.0 200 OK").count(), 3, "{text}");
}

#[test]
fn a_binding_is_called_over_its_connection_and_keeps_it() {
    let server = server("tcp_connection_lifetime = 1");
    let mut callee = TcpPhone::registered(&server, "9002");
    let shown = server.succeed(&["ul", "show", "9002"]);
    assert!(shown.contains(&format!("Socket:: tcp:{}", server.sip)), "{shown}");
    let mut idle = TcpPhone::connect(&server, "9001");
    assert!(idle.is_ended(PATIENCE), "a silent connection without bindings ends");

    let mut caller = server.registered("9001");
    caller.invite("9002");
    let invite = callee.receive(PATIENCE).expect("an INVITE over the connection that outlived the other");
    assert!(
        invite.starts_with(&format!("INVITE sip:9002@{};transport=tcp SIP/2.0", callee.local())),
        "{invite}"
    );
    assert_eq!(invite.matches("Record-Route: ").count(), 2, "{invite}");
    assert!(invite.contains(";transport=tcp;r2=on;lr"), "{invite}");

    // A registration that ends takes the connection with it, soon.
    let contact = format!("sip:9002@{};transport=tcp", callee.local());
    callee.register(&contact, 0);
    wait_for("the end of the binding", PATIENCE, || (server.rows(Some("9002")) == 0).then_some(()));
}

#[test]
fn a_lost_connection_is_known_at_once_and_a_new_one_is_used() {
    let server = server("");
    let mut caller = server.registered("9001");
    // Behind NAT: nobody can connect to this Contact.
    let mut callee = TcpPhone::connect(&server, "9002");
    assert_eq!(callee.register("sip:9002@192.168.77.5:5060;transport=tcp", 300).line(), "200 OK");
    callee.close();
    wait_for("the loss", PATIENCE, || (server.statistic("net:tcp_connections") == 0).then_some(()));
    let invite = caller.invite("9002");
    let answer = caller.await_status(480, "INVITE");
    caller.send(crate::support::ack_of_failure(&invite, &answer));
    wait_for("the end of its row", PATIENCE, || (server.rows(Some("9002")) == 0).then_some(()));
    assert!(server.succeed(&["ul", "show", "9002"]).contains("Flow:: lost"), "the binding is marked");

    let mut callee = TcpPhone::connect(&server, "9002");
    assert_eq!(callee.register("sip:9002@192.168.77.5:5060;transport=tcp", 300).line(), "200 OK");
    caller.invite("9002");
    let invite = callee.receive(PATIENCE).expect("an INVITE over the new connection");
    assert!(invite.starts_with("INVITE sip:9002@192.168.77.5:5060;transport=tcp SIP/2.0"), "{invite}");
}

#[test]
fn what_has_no_sure_end_is_answered_and_ends_the_connection() {
    let server = server("");
    for (length, answer) in [
        ("Content-Length: 99999999999", "400 Content-Length larger than message"),
        ("Content-Length: x", "400 Malformed Content-Length header"),
        ("Content-Length: 0\r\nl: 7", "400 Multiple Content-Length headers"),
        ("X: 0", "400 Missing Content-Length header"),
    ] {
        let mut phone = TcpPhone::connect(&server, "9001");
        let message = phone.message("OPTIONS", &format!("sip:{}", server.sip), &[], "");
        // What follows could be a body or a request: it is neither answered nor forwarded.
        let smuggled = message.replace("Content-Length: 0", length) + &message;
        phone.send(smuggled);
        assert_eq!(phone.response().line(), answer, "{length}");
        assert!(phone.is_ended(PATIENCE), "{length}");
    }
    // The first bytes of TLS, too: its end is no line's, and nobody waits for it.
    let tls = [0x16, 3, 1, 1, 0, 1, 0];
    for garbage in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[b'x'; 70_000], &tls] {
        let mut phone = TcpPhone::connect(&server, "9001");
        // It may end while we write.
        let _ = phone.stream.write_all(garbage);
        assert!(phone.is_ended(PATIENCE), "garbage");
    }
    assert_eq!(server.statistic("net:tcp_closed_garbage"), 3);
    let wrong = server.mi("why", serde_json::Value::Null).expect("what is wrong");
    assert!(wrong.to_string().contains("such as TLS or WebSocket at a tcp: port"), "{wrong}");
    assert_eq!(server.phone("9001").register(60).line(), "200 OK");
}

#[test]
fn slow_and_idle_peers_end_and_hurt_nobody() {
    let server =
        server("tcp_max_msg_time = 1\ntcp_max_connections_per_source = 40\ntcp_max_connections = 50");
    let mut slow = TcpPhone::connect(&server, "9001");
    slow.send("REGISTER sip:x SIP/2.0\r\nVia: SIP/2.0/TCP ");
    assert!(slow.is_ended(PATIENCE), "half a message");
    assert_eq!(server.statistic("net:tcp_closed_unfinished"), 1);

    let mut registered = TcpPhone::registered(&server, "9002");
    let idle: Vec<_> = (0..60).map(|_| TcpPhone::connect(&server, "9001")).collect();
    wait_for("refusals", PATIENCE, || (server.statistic("net:tcp_refused_per_source") >= 21).then_some(()));
    assert!(server.statistic("net:tcp_connections") <= 40);
    // From another address there is room, at the cost of who is silent and not registered.
    let elsewhere: Vec<_> = (0..30)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 7], 0)).into()).unwrap();
            socket.connect(&server.sip.into()).unwrap();
            socket
        })
        .collect();
    wait_for("evictions", PATIENCE, || (server.statistic("net:tcp_evicted") >= 20).then_some(()));
    assert!(server.statistic("net:tcp_connections") <= 50);
    let options = registered.message("OPTIONS", &format!("sip:{}", server.sip), &[], "");
    registered.send(options);
    assert_eq!(registered.response().line(), "200 OK", "who is registered stays");
    assert_eq!(server.phone("9001").register(60).line(), "200 OK");
    drop((idle, elsewhere));
}

#[test]
fn a_peer_that_never_reads_is_let_go() {
    let server = server("");
    let mut deaf = TcpPhone::connect(&server, "9001");
    let message = deaf.message("OPTIONS", &format!("sip:{}", server.sip), &[], "");
    let burst = message.repeat(200);
    deaf.stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let before_kb = server.resident_kb();
    wait_for("its end", PATIENCE, || {
        let sent = deaf.stream.write_all(burst.as_bytes());
        // The kernel holds some; when that is full, roost does for a while.
        (sent.is_err() && server.statistic("net:tcp_closed_stuck") == 1).then_some(())
    });
    let grown_kb = server.resident_kb().saturating_sub(before_kb);
    assert!(grown_kb < 32 << 10, "{grown_kb} kB for one deaf peer");
    assert_eq!(server.phone("9001").register(60).line(), "200 OK");
}

#[test]
fn a_reset_in_the_middle_of_a_call_ends_nothing_else() {
    let server = server("");
    let mut caller = server.registered("9001");
    let mut callee = TcpPhone::registered(&server, "9002");
    caller.invite("9002");
    callee.receive(PATIENCE).expect("an INVITE");
    let socket = socket2::SockRef::from(&callee.stream);
    socket.set_linger(Some(Duration::ZERO)).expect("a reset instead of an end");
    drop(callee);
    wait_for("the loss", PATIENCE, || (server.statistic("net:tcp_connections") == 0).then_some(()));
    let mut back = TcpPhone::registered(&server, "9002");
    let mut other = server.phone("9001");
    assert_eq!(other.register(60).status, 200);
    other.invite("9002");
    assert!(back.receive(PATIENCE).expect("an INVITE").starts_with("INVITE "));
}

#[test]
fn a_server_killed_under_connections_takes_them_again() {
    let mut server = server("");
    let phone = TcpPhone::registered(&server, "9002");
    server.kill9();
    server.start();
    drop(phone);
    assert_eq!(server.rows(Some("9002")), 1);
    let mut caller = server.registered("9001");
    let mut callee = TcpPhone::registered(&server, "9002");
    caller.invite("9002");
    assert!(callee.receive(PATIENCE).expect("an INVITE").starts_with("INVITE "));
}

/// Keep-alives and requests as fast as they go, over many connections: phones go on over UDP and TCP as if there were none.
#[test]
fn a_flood_over_tcp_starves_nobody() {
    let server = server("");
    let mut phone = TcpPhone::registered(&server, "9002");
    let must_end = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..4)
        .map(|index| {
            let mut flood = TcpPhone::connect(&server, "9001");
            let options = flood.message("OPTIONS", &format!("sip:{}", server.sip), &[], "");
            let burst = if index % 2 == 0 { "\r\n\r\n".repeat(2_000) } else { options.repeat(20) };
            let must_end = Arc::clone(&must_end);
            let mut reader = flood.stream.try_clone().expect("a handle");
            thread::spawn(move || while reader.read(&mut [0; 65_536]).is_ok_and(|count| count > 0) {});
            thread::spawn(move || {
                while !must_end.load(Ordering::Relaxed) && flood.stream.write_all(burst.as_bytes()).is_ok() {}
            })
        })
        .collect();
    wait_for("the flood", PATIENCE, || (server.statistic("core:rcv_requests") > 2_000).then_some(()));
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let before = Instant::now();
        assert_eq!(server.phone("9001").register(60).status, 200);
        let options = phone.message("OPTIONS", &format!("sip:{}", server.sip), &[], "");
        phone.send(options);
        assert_eq!(phone.response().status, 200);
        slowest = slowest.max(before.elapsed());
    }
    must_end.store(true, Ordering::Relaxed);
    floods.into_iter().for_each(|flood| flood.join().expect("the flood's end"));
    report(&format!("flood over TCP: the slowest REGISTER and OPTIONS meanwhile took {slowest:?}"));
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
}

/// A port where connecting takes for ever: its backlog is full, and nobody accepts.
struct HangingPort {
    listener: socket2::Socket,
    _waiting: Vec<socket2::Socket>,
}

impl HangingPort {
    fn new() -> HangingPort {
        let new = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let listener = new();
        listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = (0..4).map(|_| {
            let socket = new();
            socket.set_nonblocking(true).unwrap();
            // In progress: the backlog takes one, no more.
            let _ = socket.connect(&address);
            socket
        });
        HangingPort { _waiting: waiting.collect(), listener }
    }

    fn contact(&self, user: &str) -> String {
        let address = self.listener.local_addr().unwrap().as_socket().unwrap();
        format!("<sip:{user}@{address};transport=tcp>")
    }
}

#[test]
fn peers_that_do_not_answer_hold_little() {
    let mut server = Server::prepared("", "[registrar]\nmax_contacts = 40\n");
    server.add_users(9001, 3);
    server.start();
    let ports: Vec<HangingPort> = (0..40).map(|_| HangingPort::new()).collect();
    let mut many = server.phone("9002");
    for part in ports.chunks(20) {
        let contacts: Vec<String> = part.iter().map(|port| port.contact("9002")).collect();
        let taken = many.send_register(&[&format!("Contact: {}", contacts.join(", ")), "Expires: 300"]);
        assert_eq!(taken.line(), "200 OK");
    }
    let mut caller = server.registered("9001");
    caller.invite("9002");
    // 32 of one address are connected to at once.
    wait_for("refusals", PATIENCE, || (server.statistic("net:tcp_refused") == 8).then_some(()));
    wait_for("the rest", PATIENCE, || (server.statistic("net:tcp_connect_failed") == 32).then_some(()));
    wait_for("what was for them", PATIENCE, || (server.statistic("net:tcp_unsent") == 40).then_some(()));
    let end = caller.await_final("INVITE");
    assert!(end.status().is_some_and(|code| code >= 400), "{}", end.line());

    // 64 messages wait for one of them.
    let mut one = server.phone("9003");
    assert_eq!(
        one.send_register(&[&format!("Contact: {}", ports[0].contact("9003")), "Expires: 300"]).status,
        200
    );
    for _ in 0..70 {
        let message = caller.initial("MESSAGE", "9003", &[]);
        caller.send(message);
    }
    wait_for("refusals", PATIENCE, || (server.statistic("net:tcp_refused") == 8 + 6).then_some(()));
    wait_for("the end", PATIENCE, || (server.statistic("net:tcp_unsent") == 40 + 70).then_some(()));
    assert_eq!(server.phone("9001").register(60).line(), "200 OK");
}

#[test]
fn keep_alives_are_answered_in_moderation() {
    let server = server("");
    let mut phone = TcpPhone::connect(&server, "9001");
    phone.send("\r\n\r\n".repeat(1_000));
    let message = phone.message("OPTIONS", &format!("sip:{}", server.sip), &[], "");
    phone.send(&message);
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"Content-Length: 0\r\n\r\n") {
        bytes.extend(phone.bytes(1));
    }
    let answer = bytes.iter().position(|byte| *byte == b'S').expect("the answer");
    assert!(bytes[answer..].starts_with(b"SIP/2.0 200 OK"));
    // 8 for what is read at once, and a few reads.
    assert!((2..=2 * 8 * 6).contains(&answer), "{answer} bytes for 1,000 pings");
}

#[test]
fn unfinished_messages_have_a_limit_over_all_connections() {
    let mut server = Server::prepared("tcp_max_msg_time = 30", "");
    server.add_users(9001, 1);
    server.start();
    roost_rig::raise_descriptors(4_000).expect("room for 2,300 connections");
    let begin = format!("OPTIONS sip:x SIP/2.0\r\nX: {}", "x".repeat(63_000));
    let mut open = Vec::new();
    for number in 0..2_300_u32 {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 1, (number / 500) as u8 + 1], 0)).into()).unwrap();
        socket.connect(&server.sip.into()).unwrap();
        let mut stream = std::net::TcpStream::from(socket);
        stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let _ = stream.write_all(begin.as_bytes());
        open.push(stream);
    }
    wait_for("the limit", PATIENCE, || (server.statistic("net:tcp_memory_full") >= 100).then_some(()));
    let memory_kb = server.resident_kb();
    report(&format!("2,300 connections with 63 kB of a message each: {} MB resident", memory_kb >> 10));
    assert!(memory_kb < 260 << 10, "{memory_kb} kB");
    assert_eq!(server.phone("9001").register(60).line(), "200 OK");
    drop(open);
    assert_eq!(server.phone("9001").register(60).line(), "200 OK");
}

#[test]
fn a_balancer_says_whose_connection_it_is() {
    let mut server = Server::prepared("", "[nathelper]\nproxy_protocol_from = [\"127.0.0.3\"]\n");
    server.add_user("9001", "9001");
    server.start();
    let connect = |from: &str| {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let from: std::net::SocketAddr = from.parse().expect("an address");
        socket.bind(&from.into()).expect("an address");
        socket.connect(&server.sip.into()).expect("a connection");
        let stream = std::net::TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    };
    let ask = b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP 10.1.1.1;branch=z9hG4bKx;rport\r\nFrom: <sip:a@b>;tag=1\r\n\
                To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
    let v2 = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"[..],
        &[192, 0, 2, 8],
        &[127, 0, 0, 1],
        &[0x30, 0x39, 0x13, 0xc4],
    ];
    let local = [&b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"[..]];
    for (header, received) in [
        (b"PROXY TCP4 192.0.2.7 127.0.0.1 12345 5060\r\n".to_vec(), "received=192.0.2.7;"),
        (b"PROXY TCP6 2001:db8::7 ::1 12345 5060\r\n".to_vec(), "received=2001:db8::7;"),
        (v2.concat(), "received=192.0.2.8;"),
        (local.concat(), "received=127.0.0.3;"),
    ] {
        let mut stream = connect("127.0.0.3:0");
        // In pieces, as it may come.
        let (first, rest) = header.split_at(7);
        stream.write_all(first).expect("sent");
        thread::sleep(Duration::from_millis(30));
        stream.write_all(&[rest, ask].concat()).expect("sent");
        let mut answer = [0; 2_000];
        let count = stream.read(&mut answer).expect("an answer");
        let text = String::from_utf8_lossy(&answer[..count]);
        assert!(text.starts_with("SIP/2.0 200 OK") && text.contains(received), "{text}");
    }
    // Without a header nothing is read; others may not speak for anybody.
    let mut bare = connect("127.0.0.3:0");
    bare.write_all(ask).expect("sent");
    assert_eq!(bare.read(&mut [0; 9]).unwrap_or(0), 0);
    let mut stranger = connect("127.0.0.4:0");
    stranger.write_all(b"PROXY TCP4 192.0.2.7 127.0.0.1 12345 5060\r\n").expect("sent");
    stranger.write_all(ask).expect("sent");
    assert_eq!(stranger.read(&mut [0; 9]).unwrap_or(0), 0, "garbage");
    assert_eq!(server.statistic("net:tcp_without_proxy_header"), 1);
}
