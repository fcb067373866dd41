//! WebSockets by hand (RFC 6455, RFC 7118): what is let in, frames in any shape, and bindings that end with their connections.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::support::{AnyLine, PATIENCE, Phone, Server, ack_of_failure, free_port, phone, wait_for};

/// A server with `ws:` at this address, and the extensions 9001 and 9002.
fn started(top: &str, sections: &str) -> (Server, SocketAddr) {
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut server = Server::prepared(top, sections);
    server.also_listen(&format!("ws:{at}"));
    for user in ["9001", "9002"] {
        server.add_user(user, user);
    }
    server.start();
    (server, at)
}

fn browser(server: &Server, at: SocketAddr, user: &str) -> Phone<AnyLine> {
    phone(AnyLine::open("ws", at, &server.path("none")), user)
}

/// What comes back for these bytes, until the server ends the connection or is silent.
fn asked(at: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(at).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("a request sent");
    let mut answer = Vec::new();
    let mut bytes = [0; 4_096];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        answer.extend_from_slice(&bytes[..count]);
        if answer.starts_with(b"HTTP/1.1 101") && answer.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn upgrade(more: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

#[test]
fn who_asks_for_sip_is_let_in_and_everybody_else_is_told_why_not() {
    let (_server, at) = started("", "[websocket]\nallowed_origins = [\"https://phone.example.com\"]\n");
    let sip = "Sec-WebSocket-Protocol: chat, sip\r\n";
    let origin = "Origin: https://phone.example.com\r\n";
    for (request, status, text) in [
        (
            upgrade(&format!("{sip}{origin}")),
            "101 ",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        ),
        (upgrade(origin), "400 ", "subprotocol \"sip\""),
        (upgrade(&format!("{sip}Origin: https://evil.example.com\r\n")), "403 ", "allowed_origins"),
        (upgrade(sip), "403 ", "allowed_origins"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_string(), "200 OK", "port for WebSockets"),
        (upgrade(sip).replace("Version: 13", "Version: 8"), "400 ", "RFC 6455"),
    ] {
        let answer = asked(at, &request).to_ascii_lowercase();
        assert!(
            answer.starts_with(&format!("http/1.1 {status}").to_ascii_lowercase()),
            "{request}\n{answer}"
        );
        assert!(answer.contains(&text.to_ascii_lowercase()), "{request}\n{answer}");
    }
    // What is no HTTP at all, or a request without an end.
    assert_eq!(asked(at, "OPTIONS sip:a SIP/2.0\r\n\r\n"), "");
    assert_eq!(asked(at, &format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000))), "");
}

/// A client's frame: its first byte, its payload masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length @ ..65_536 => frame.extend([&[0x80 | 126][..], &(length as u16).to_be_bytes()].concat()),
        length => frame.extend([&[0x80 | 127][..], &(length as u64).to_be_bytes()].concat()),
    }
    let mask = [1, 2, 3, 4];
    frame.extend(mask);
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    frame
}

#[test]
fn frames_come_in_any_shape() {
    let (server, at) = started("", "");
    let mut browser = browser(&server, at, "9001");
    let uri = format!("sip:{at}");
    let ask = |browser: &mut Phone<AnyLine>| browser.message("OPTIONS", &uri, &[]).into_bytes();
    let heard = |browser: &Phone<AnyLine>, why: &str| {
        assert_eq!(browser.hear(PATIENCE).map(|answer| answer.status), Some(200), "{why}");
    };
    // Binary; without a length, as every frame has an end; in fragments with a ping between; a byte at a time.
    let message = ask(&mut browser);
    browser.line.send_raw(&frame(0x82, &message)).expect("sent");
    heard(&browser, "binary");
    let without = String::from_utf8(ask(&mut browser)).expect("text").replace("Content-Length: 0\r\n", "");
    browser.line.send_raw(&frame(0x81, without.as_bytes())).expect("sent");
    heard(&browser, "no Content-Length");
    let message = ask(&mut browser);
    let (one, rest) = message.split_at(10);
    let (two, three) = rest.split_at(10);
    let parts = [frame(0x01, one), frame(0x89, b"hello"), frame(0x00, two), frame(0x80, three)].concat();
    browser.line.send_raw(&parts).expect("sent");
    heard(&browser, "fragments");
    let message = ask(&mut browser);
    for byte in frame(0x81, &message) {
        browser.line.send_raw(&[byte]).expect("sent");
    }
    heard(&browser, "a byte at a time");
    browser.line.send_raw(&frame(0x81, b"\r\n\r\n")).expect("sent");
    let (pong, _) = browser.receive(PATIENCE).expect("an answer to a keep-alive");
    assert_eq!(pong, b"\r\n");
    // A message as large as there are.
    let padding = format!("X-Padding: {}", "x".repeat(60_000));
    let message = browser.message("OPTIONS", &uri, &[&padding]).into_bytes();
    browser.line.send_raw(&frame(0x81, &message)).expect("sent");
    assert!(browser.hear(PATIENCE).is_some_and(|answer| [200, 513].contains(&answer.status)));
}

#[test]
fn bad_frames_end_their_own_connection_only() {
    let (mut server, at) = started("tcp_max_msg_time = 1", "");
    let mut good = browser(&server, at, "9002");
    assert_eq!(good.register(300).line(), "200 OK");
    let before_kb = server.resident_kb();
    let mut megabyte = frame(0x81, b"");
    megabyte.truncate(1);
    megabyte.extend([0x80 | 127]);
    megabyte.extend(1_000_000_u64.to_be_bytes());
    megabyte.extend([0; 4]);
    for (bytes, why) in [
        (frame(0x81, &vec![b'x'; 100_000]), "100 kB"),
        (megabyte, "a megabyte is announced"),
        (vec![0x81, 0x03, b'a', b'b', b'c'], "no mask"),
        (frame(0xf1, b"x"), "reserved bits"),
        (frame(0x81, &[0xff, 0xfe]), "no UTF-8"),
        (frame(0x81, b"x")[..3].to_vec(), "half a frame"),
        (frame(0x01, b"OPTIONS")[..].to_vec(), "a fragment alone"),
    ] {
        let line = AnyLine::open("ws", at, &server.path("none"));
        let _ = line.send_raw(&bytes);
        wait_for(why, PATIENCE, || (server.statistic("net:websocket_connections") == 1).then_some(()));
    }
    assert_eq!(good.register(300).line(), "200 OK", "another phone is not hurt");
    assert!(server.resident_kb() < before_kb + 4_000, "memory");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_killed_browser_is_unreachable_at_once_and_free_to_come_from_elsewhere() {
    let (server, at) = started("", "[registrar]\nexclusive = \"ip\"\n");
    let mut caller = server.phone("9001");
    assert_eq!(caller.register(300).line(), "200 OK");
    let mut killed = browser(&server, at, "9002");
    assert_eq!(killed.register(300).line(), "200 OK");
    assert_eq!(server.rows(Some("9002")), 1);
    let elsewhere = || {
        let from = "127.0.0.2".parse().expect("an address");
        phone(AnyLine::open_from("ws", from, at, &server.path("none")), "9002")
    };
    assert_eq!(elsewhere().register(300).line(), "403 Occupied");
    killed.line.cut();
    wait_for("the loss", PATIENCE, || (server.statistic("net:websocket_connections") == 0).then_some(()));
    let before = Instant::now();
    let invite = caller.invite("9002");
    let answer = caller.await_final("INVITE");
    // Far below any timer; 200 ms is promised, on a machine that has time.
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    assert_eq!(answer.status(), Some(480));
    caller.send(ack_of_failure(&invite, &answer));
    assert!(server.succeed(&["ul", "show", "9002"]).contains("Flow:: lost"));
    let mut again = elsewhere();
    assert_eq!(again.register(300).line(), "200 OK");
    caller.invite("9002");
    again.await_request("INVITE");
    wait_for("one row", PATIENCE, || (server.rows(Some("9002")) == 1).then_some(()));
}

#[test]
fn who_does_not_answer_pings_is_gone() {
    let (server, at) = started("", "[websocket]\nping_interval = 1\n");
    let mut silent = browser(&server, at, "9002");
    assert_eq!(silent.register(300).line(), "200 OK");
    // It reads nothing, so it answers nothing; its socket stays open.
    wait_for("the end", Duration::from_secs(20), || {
        (server.statistic("net:tcp_closed_silent") == 1).then_some(())
    });
    // One that reads stays.
    let mut alive = browser(&server, at, "9001");
    assert_eq!(alive.register(300).line(), "200 OK");
    assert!(alive.listen(Duration::from_secs(14)).is_empty());
    assert_eq!(server.statistic("net:websocket_connections"), 1);
}

#[test]
fn who_pings_and_does_not_read_is_not_answered_for_ever() {
    let (server, at) = started("", "");
    let mut good = browser(&server, at, "9002");
    assert_eq!(good.register(300).line(), "200 OK");
    let before_kb = server.resident_kb();
    let greedy = AnyLine::open("ws", at, &server.path("none"));
    // Pings of 120 bytes, as long as the server takes them: it stops reading once it has nowhere to put its answers.
    let pings = frame(0x89, &[b'x'; 120]).repeat(500);
    greedy.set_write_timeout(Duration::from_millis(300));
    let mut sent = 0;
    while sent < 200 << 20 && greedy.send_raw(&pings).is_ok() {
        sent += pings.len();
    }
    assert!(sent < 100 << 20, "{sent} bytes of pings were taken");
    assert!(server.resident_kb() < before_kb + 4_000, "memory");
    wait_for("its end", Duration::from_secs(20), || {
        (server.statistic("net:websocket_connections") == 1).then_some(())
    });
    assert_eq!(good.register(300).line(), "200 OK", "another phone is not hurt");
}
