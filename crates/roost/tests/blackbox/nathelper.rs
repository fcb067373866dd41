//! Phones behind NAT: pings that keep their ways open, and answers to the port that they ask from.

use std::time::Duration;

use serde_json::Value;

use crate::support::{PATIENCE, Server, hidden_contact, wait_for};

#[test]
fn phones_behind_nat_are_pinged_and_who_does_not_answer_is_gone() {
    let section = "[nathelper]\nnatping_interval = 1\nping_threshold = 1\nmax_pings_lost = 3\nremove_on_timeout = true\n";
    let server = Server::for_calls(section);
    let open = server.registered("9002");
    let mut phone = server.phone("9001");
    phone.contact = hidden_contact("9001");
    assert_eq!(phone.register(300).line(), "200 OK");
    for _ in 0..3 {
        let ping = phone.await_request("OPTIONS");
        assert_eq!(ping.uri(), phone.contact, "the phone knows itself by its own Contact");
        // Whatever it says, it is there.
        phone.answer(&ping, "486 Busy Here");
    }
    wait_for("a latency", PATIENCE, || (server.contact("9001")["Ping-Latency"].is_u64()).then_some(()));
    assert_eq!(server.contact("9001")["Pings-Lost"], 0);
    let text = server.succeed(&["ul", "show", "9001"]);
    assert!(text.contains("Ping-Latency:: "), "{text}");
    // The ways of others need not be kept open.
    assert!(open.overhear(Duration::from_millis(100)).is_empty());
    assert_eq!(server.contact("9002").get("Ping-Latency"), None);
    // It answers no more. After kill -9 it is pinged again as before, from the same socket.
    let mut server = server;
    server.kill9();
    server.start();
    let ping = phone.await_request("OPTIONS");
    phone.answer(&ping, "200 OK");
    wait_for("an answer", PATIENCE, || (server.contact("9001")["Pings-Lost"] == 0).then_some(()));
    wait_for("the end of its registration", PATIENCE, || (server.rows(Some("9001")) == 0).then_some(()));
    assert_eq!(server.contact("9001"), Value::Null);
    assert_eq!(server.rows(Some("9002")), 1);
    assert!(server.statistic("nathelper:pings_lost") >= 3);
    for line in ["a phone does not answer pings", "registration ended"] {
        wait_for(line, PATIENCE, || (server.log.text().contains(line)).then_some(()));
    }
}

#[test]
fn crlf_pings_are_sent_to_all_where_that_is_wanted() {
    let section = "[nathelper]\nnatping_interval = 1\nping_nated_only = false\nsipping_method = \"\"\n";
    let server = Server::for_calls(section);
    let phone = server.registered("9001");
    let (bytes, from) = phone.receive(PATIENCE).expect("a ping");
    assert_eq!((&bytes[..], from), (&b"\r\n\r\n"[..], server.sip));
}

#[test]
fn with_force_rport_answers_go_to_where_requests_come_from() {
    let server = Server::for_calls("[nathelper]\nforce_rport = true\n");
    let mut phone = server.phone("9001");
    let asked = phone.message("OPTIONS", "sip:127.0.0.1", &[]);
    // Its router has changed the port, which it does not know and does not ask for.
    let local = phone.local();
    let asked = asked.replace(&format!("{local};"), "192.168.0.9:5060;").replace(";rport\r\n", ";x=1\r\n");
    let answer = phone.exchange(&asked);
    let via = answer.header("Via").expect("a Via");
    assert!(via.starts_with("SIP/2.0/UDP 192.168.0.9:5060;received=127.0.0.1;rport="), "{via}");
    assert!(via.contains(&format!(";rport={};branch=", local.port())) && via.ends_with(";x=1"), "{via}");
}
