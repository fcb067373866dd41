//! Names (RFC 3263): next hops and contacts by SRV and address records, failing over between records.

use crate::support::{
    Dialog, MediaServer, NameServer, PATIENCE, Phone, Server, ack_of_failure, cancel_of, wait_for,
};
use serde_json::json;

fn settings(dns: &NameServer, more: &str) -> String {
    format!(
        "[tm]\nfr_timeout = 1\n[dns]\nservers = [\"{}\"]\n[dispatcher]\nds_ping_interval = 1\nds_probing_threshold = 2\n{more}",
        dns.address
    )
}

/// Calls a number; the port of the server that took it, or the status.
fn call(phone: &mut Phone, number: &str) -> Result<u16, u16> {
    let invite = phone.invite(number);
    let answer =
        phone.await_message("an answer", |message| message.status().is_some_and(|status| status >= 200));
    if answer.status() != Some(200) {
        phone.send(ack_of_failure(&invite, &answer));
        return Err(answer.status().unwrap_or(0));
    }
    let mut dialog = Dialog::of_caller(phone, &answer);
    phone.send(dialog.request("ACK", &[]));
    let port = dialog.target.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    phone.send(dialog.request("BYE", &[]));
    phone.await_status(200, "BYE");
    Ok(port)
}

#[test]
fn a_service_fails_over_between_its_servers_and_comes_back() {
    let dns = NameServer::new();
    let (first, second) = (MediaServer::new("127.0.0.2"), MediaServer::new("127.0.0.3"));
    dns.srv("_sip._udp.fs.example.com", 60, 20, 0, second.address.port(), "b.example.com");
    dns.srv("_sip._udp.fs.example.com", 60, 10, 0, first.address.port(), "a.example.com");
    dns.a("a.example.com", 60, [127, 0, 0, 2]);
    dns.a("b.example.com", 60, [127, 0, 0, 3]);
    let more = "[[route]]\nprefix = \"0\"\nhops = [\"sip:fs.example.com\"]\n";
    let server = Server::for_calls(&settings(&dns, more));
    let mut phone = server.registered("9001");
    let (first_port, second_port) = (first.address.port(), second.address.port());
    assert_eq!(call(&mut phone, "0301"), Ok(first_port), "the lower priority is the first choice");
    assert!(first.heard("INVITE")[0].starts_with("INVITE sip:0301@fs.example.com SIP/2.0\r\n"));

    let failures = |port: u16| {
        let list = server.mi("ds_list", json!({"full": 1})).expect("a list");
        let hop = list["PARTITIONS"][0]["SETS"][0]["Destinations"][0].clone();
        assert_eq!(hop["URI"], "sip:fs.example.com");
        let places = hop["Addresses"].as_array().cloned().unwrap_or_default();
        let found = places.iter().find(|place| {
            place["address"].as_str().is_some_and(|address| address.ends_with(&format!(":{port}")))
        });
        (
            hop["state"].as_str().unwrap_or_default().to_owned(),
            found.and_then(|place| place["failures"].as_u64()),
        )
    };
    // One of the two is gone: the hop as a whole is up, and calls go to the other one, soon without a second's wait.
    let address = first.kill();
    assert_eq!(call(&mut phone, "0301"), Ok(second_port));
    wait_for("the pings to tell", PATIENCE, || {
        (failures(first_port) == ("Active".into(), Some(2))).then_some(())
    });
    let before = std::time::Instant::now();
    assert_eq!(call(&mut phone, "0301"), Ok(second_port));
    assert!(before.elapsed().as_millis() < 700, "{:?}", before.elapsed());
    // It returns.
    let first = MediaServer::answering(address, "200 OK");
    wait_for("the first one's answer", PATIENCE, || (failures(first_port).1 == Some(0)).then_some(()));
    assert_eq!(call(&mut phone, "0301"), Ok(first_port));
    drop((first, second));
    wait_for("both down", PATIENCE, || (failures(first_port).0 == "Probing").then_some(()));
    assert_eq!(call(&mut phone, "0301"), Err(503));
}

#[test]
fn answers_are_kept_as_long_as_they_say() {
    let dns = NameServer::new();
    let media = MediaServer::new("127.0.0.2");
    dns.a("fs.example.com", 2, [127, 0, 0, 2]);
    let hop = format!("sip:fs.example.com:{}", media.address.port());
    let more = format!("[[route]]\nprefix = \"0\"\nhops = [\"{hop}\"]\n");
    let server = Server::for_calls(&settings(&dns, &more));
    let mut phone = server.registered("9001");
    for _ in 0..10 {
        assert_eq!(call(&mut phone, "0301"), Ok(media.address.port()));
    }
    assert!(dns.asked() <= 2, "{} questions about ten calls", dns.asked());
    // The name moves: once the answer is too old, calls follow it.
    let moved = MediaServer::answering(
        (std::net::Ipv4Addr::new(127, 0, 0, 3), media.address.port()).into(),
        "200 OK",
    );
    dns.forget("fs.example.com");
    dns.a("fs.example.com", 2, [127, 0, 0, 3]);
    wait_for("calls to the new address", PATIENCE, || {
        call(&mut phone, "0301").ok();
        (!moved.heard("INVITE").is_empty()).then_some(())
    });
}

#[test]
fn a_name_that_leads_nowhere_is_passed_over() {
    let dns = NameServer::new();
    let media = MediaServer::new("127.0.0.2");
    let more = format!(
        "[[route]]\nprefix = \"0\"\nhops = [\"sip:nowhere.example.com\", \"{}\"]\n\
         [[route]]\nprefix = \"1\"\nhops = [\"sip:nowhere.example.com\"]\n",
        media.uri()
    );
    let server = Server::for_calls(&settings(&dns, &more));
    let mut phone = server.registered("9001");
    assert_eq!(call(&mut phone, "0301"), Ok(media.address.port()));
    assert_eq!(call(&mut phone, "1301"), Err(476), "nobody can be asked");
}

#[test]
fn a_name_server_that_is_gone_delays_a_call_and_no_other() {
    let dns = NameServer::new();
    let media = MediaServer::new("127.0.0.2");
    let more = format!("[[route]]\nprefix = \"0\"\nhops = [\"sip:fs.example.com\", \"{}\"]\n", media.uri());
    let text = settings(&dns, &more);
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
    let text = text.replace(&dns.address.to_string(), &silent.local_addr().expect("its address").to_string());
    let server = Server::for_calls(&text);
    server.add_user("9004", "9004");
    let mut phone = server.registered("9001");
    let mut waiting = server.registered("9002");
    waiting.invite("0301");
    let callee = server.registered("9003");
    let mut impatient = server.registered("9004");
    let given_up = impatient.invite("0301");
    impatient.send(cancel_of(&given_up));
    impatient.await_status(200, "CANCEL");
    let before = std::time::Instant::now();
    phone.establish(&callee);
    assert!(before.elapsed().as_millis() < 700, "no other call waits: {:?}", before.elapsed());
    // Who gave up before the name did is told so then, and nobody is called.
    let ended = impatient.await_status(487, "INVITE");
    impatient.send(ack_of_failure(&given_up, &ended));
    let answer = waiting.await_status(200, "INVITE");
    assert_eq!(media.heard("INVITE").len(), 1);
    assert!(answer.header("Contact").is_some_and(|contact| contact.contains("127.0.0.2")), "{}", answer.text);
}

#[test]
fn a_contact_by_name_is_called_where_the_name_leads() {
    let dns = NameServer::new();
    let media = MediaServer::new("127.0.0.2");
    dns.srv("_sip._udp.phone.example.com", 60, 10, 0, media.address.port(), "a.example.com");
    dns.a("a.example.com", 60, [127, 0, 0, 2]);
    let server = Server::for_calls(&settings(&dns, ""));
    let mut phone = server.registered("9001");
    server.succeed(&["ul", "add", "9002", "sip:9002@phone.example.com"]);
    server.succeed(&["ul", "add", "9003", "sip:9003@nowhere.example.com"]);
    assert_eq!(call(&mut phone, "9002"), Ok(media.address.port()));
    assert_eq!(call(&mut phone, "9003"), Err(476));
}
