//! What strangers send: whatever it is, roost stays up, silent and small, and the phones register.

use std::time::Duration;

use crate::support::{Phone, Random, Server};
use serde_json::json;

#[test]
fn nothing_that_is_not_sip_stops_it() {
    let server = Server::started("", "");
    server.add_user("9001", "9001");
    let noise = server.phone("noise");
    let mut phone = server.phone("9001");
    let good = phone.register_message(&["Contact: <sip:9001@127.0.0.1:7000>", "Expires: 60"]);

    let junk: [&[u8]; 12] = [
        b"",
        b"\r\n",
        b"\r\n\r\n", // keep-alive of RFC 5626
        b"\0",       // keep-alive of some phones
        b"\0\0\0\0\0\0\0\0",
        b" SIP/2.0 200 OK\r\n\r\n",
        b"SIP/2.0 200 OK\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"REGISTER",
        b"REGISTER sip:127.0.0.1 SIP/2.0\r\n\r\n",
        b"REGISTER sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\n\r\n",
        &[0xff; 2_000],
    ];
    for bytes in junk {
        noise.send(bytes);
    }
    assert_alive(&mut phone);
    // A datagram may end anywhere.
    for (count, length) in (0..good.len()).enumerate() {
        noise.send(&good.as_bytes()[..length]);
        if count % 50 == 0 {
            assert_alive(&mut phone);
        }
    }
    noise.send(Random::seeded(1).bytes(65_000));
    noise.send("\r\n".repeat(32_500));
    noise.send(format!("REGISTER sip:127.0.0.1 SIP/2.0\r\n{}", "a:\r\n".repeat(16_000)));
    assert_alive(&mut phone);

    assert_eq!(phone.register(60).line(), "200 OK");
}

#[test]
fn a_contact_that_is_no_uri_is_refused_and_changes_nothing() {
    let server = Server::started("", "");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(60).line(), "200 OK");

    for contact in ["9001", "<9001>", "<>", "\"9001\" <>"] {
        let refused = phone.send_register(&[&format!("Contact: {contact}"), "Expires: 60"]);
        assert_eq!(refused.status, 400, "{contact}: {}", refused.text);
        assert_eq!(refused.header("P-Registrar-Error"), Some("Contact parse error"), "{contact}");
    }
    let kept = phone.query();
    assert!(kept.header("Contact").is_some_and(|contact| contact.contains(&phone.contact)), "{}", kept.text);
}

#[test]
fn ten_thousand_contacts_in_one_register_are_survived() {
    let server = Server::started("", "");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(60).line(), "200 OK");

    // Six bytes each, all different: they just fit into one datagram.
    let contacts: Vec<String> = (0..10_000).map(|number| format!("a:{}", base_36(number))).collect();
    let crowd = phone.send_register(&[&format!("Contact: {}", contacts.join(",")), "Expires: 60"]);
    // Taken or refused: answered, and max_contacts = 1 holds.
    assert!((200..600).contains(&crowd.status), "{}", crowd.line());
    let shown = server.mi("ul_show_contact", json!(["location", "9001"])).expect("the AOR");
    assert_eq!(shown["Contacts"].as_array().map(Vec::len), Some(1), "{shown}");
    assert_eq!(server.rows(Some("9001")), 1);

    assert_eq!(phone.register(60).line(), "200 OK");
}

#[test]
fn long_headers_and_many_headers_are_read() {
    let server = Server::started("", "");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    let contact = format!("Contact: <{}>", phone.contact);
    let long = "x".repeat(8_000);

    let with_long = phone.send_register(&[&contact, "Expires: 60", &format!("X-Long: {long}")]);
    assert_eq!(with_long.line(), "200 OK", "a header of 8,000 bytes");

    let many: Vec<String> = (0..300).map(|number| format!("X-{number}: {number}")).collect();
    let mut headers: Vec<&str> = many.iter().map(String::as_str).collect();
    headers.extend([contact.as_str(), "Expires: 60"]);
    assert_eq!(phone.send_register(&headers).line(), "200 OK", "300 more header lines");

    let filler = format!("X-Filler: {}", "x".repeat(64_000));
    let nearly_full = phone.send_register(&[&contact, "Expires: 60", &filler]);
    assert_eq!(nearly_full.line(), "200 OK", "a datagram of 65,000 bytes");

    // What would not fit into its column is refused, not cut.
    let refused = phone.send_register(&[&format!("Contact: <sip:{long}@127.0.0.1>"), "Expires: 60"]);
    assert_eq!(refused.status, 400, "{}", refused.line());
    assert_eq!(refused.header("P-Registrar-Error"), Some("Contact/received too long"));

    let mut stranger = server.phone("9001");
    stranger.call_id = long.clone();
    let refused = stranger.register(60);
    assert!((400..500).contains(&refused.status), "a Call-ID of 8,000 bytes: {}", refused.line());

    let mut stranger = server.phone("9001");
    let credentials = format!(
        "Authorization: Digest username=\"{long}\", realm=\"127.0.0.1\", nonce=\"{long}\", \
         uri=\"sip:127.0.0.1\", response=\"{long}\""
    );
    let refused = stranger.send_register_once(&[&contact, &credentials]);
    assert!((400..500).contains(&refused.status), "credentials of 24,000 bytes: {}", refused.line());

    assert_eq!(phone.register(60).line(), "200 OK");
}

#[test]
fn bad_packets_write_few_lines() {
    let server = Server::started("", "");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(60).line(), "200 OK");

    let before = server.log.lines();
    flood(&server, &mut phone, 1_000);
    let grown = server.log.lines() - before;
    assert!(grown < 20, "1,000 bad packets wrote {grown} lines");
    assert_eq!(phone.register(60).line(), "200 OK");
}

#[test]
fn bad_packets_grow_no_memory() {
    let server = Server::started("", "");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");

    // Queues and caches reach their size first.
    flood(&server, &mut phone, 2_000);
    let before = server.resident_kb();
    flood(&server, &mut phone, 20_000);
    let grown = server.resident_kb().saturating_sub(before);
    assert!(grown < 20_000, "20,000 bad packets: {before} kB grew by {grown} kB");
    assert_eq!(phone.register(60).line(), "200 OK");
}

/// Sends bad packets from a socket of their own, at a pace that roost's socket can hold: `phone` is answered
/// in between.
fn flood(server: &Server, phone: &mut Phone, count: u32) {
    let mut random = Random::seeded(u64::from(count));
    let mut noise = server.phone("9001");
    for number in 1..=count {
        let good = noise.register_message(&["Contact: <sip:9001@127.0.0.1:7000>", "Expires: 60"]);
        noise.send(damaged(good.into_bytes(), &mut random));
        if number % 50 == 0 {
            assert_alive(phone);
        }
    }
    // Nothing is under way any more when the caller measures.
    noise.listen(Duration::from_millis(50));
    assert_alive(phone);
}

/// What noise, a broken phone or an attacker makes of a REGISTER.
fn damaged(mut message: Vec<u8>, random: &mut Random) -> Vec<u8> {
    let length = message.len() as u64;
    let at = random.below(length) as usize;
    match random.below(6) {
        0 => {
            let size = random.below(1_000) as usize;
            return random.bytes(size);
        }
        1 => message.truncate(at),
        2 => {
            for _ in 0..20 {
                let at = random.below(length) as usize;
                message[at] = (random.number() >> 56) as u8;
            }
        }
        3 => {
            let copy = message[at..].to_vec();
            message.extend(copy);
        }
        4 => {
            message.splice(at..at, "\r\nVia: ".bytes());
        }
        _ => {
            let end = (at + 40).min(message.len());
            message.drain(at..end);
        }
    }
    message
}

fn assert_alive(phone: &mut Phone) {
    assert_eq!(phone.ask("OPTIONS", "sip:127.0.0.1", &[]).line(), "200 OK");
}

/// Three digits.
fn base_36(number: u32) -> String {
    [number / 1_296, number / 36 % 36, number % 36]
        .iter()
        .filter_map(|digit| char::from_digit(*digit, 36))
        .collect()
}
