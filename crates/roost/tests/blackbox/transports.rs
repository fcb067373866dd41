//! Every transport beside every other, over IPv4 and IPv6: phones register, call one another and hang up from either side.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::support::{
    AnyLine, PATIENCE, Server, TLS_SECTION, TRANSPORTS, ack_of_failure, free_port, phone, report, talk,
    wait_for,
};

/// Where a server listens for each transport over both families.
struct Addresses(Vec<(&'static str, SocketAddr)>);

impl Addresses {
    fn free() -> Addresses {
        let both = |transport| {
            let port = free_port();
            let at = |ip: &str| (transport, SocketAddr::new(ip.parse().expect("an address"), port));
            [at("127.0.0.1"), at("::1")]
        };
        Addresses(TRANSPORTS.into_iter().flat_map(both).collect())
    }

    fn entries(&self) -> String {
        let entry = |(transport, address): &(&str, SocketAddr)| format!("\"{transport}:{address}\"");
        self.0.iter().map(entry).collect::<Vec<_>>().join(", ")
    }
}

fn started(addresses: &Addresses) -> Server {
    started_with(addresses, "")
}

/// The same with more TOML tables.
fn started_with(addresses: &Addresses, sections: &str) -> Server {
    let mut server = Server::prepared("", &format!("{TLS_SECTION}{sections}"));
    let listen = format!("listen = [\"udp:{0}\", \"tcp:{0}\"]", server.sip);
    server.succeed(&["tls", "new", "localhost"]);
    server.replace_in_config(
        &listen,
        &format!("listen = [\"udp:{0}\", \"tcp:{0}\", {1}]", server.sip, addresses.entries()),
    );
    for user in ["9001", "9002"] {
        server.add_user(user, user);
    }
    server.start();
    server
}

#[test]
fn phones_call_one_another_over_every_transport_and_family() {
    let addresses = Addresses::free();
    let server = started(&addresses);
    let authority = server.path("tls/ca.pem");
    let mut calls = 0;
    for (from, caller_at) in &addresses.0 {
        for (to, callee_at) in &addresses.0 {
            let registered = |transport: &'static str, at: &SocketAddr, user: &str| {
                let mut phone = phone(AnyLine::open(transport, *at, &authority), user);
                assert_eq!(phone.register(300).line(), "200 OK", "{transport} {at}");
                phone
            };
            let mut caller = registered(from, caller_at, "9001");
            let mut callee = registered(to, callee_at, "9002");
            for callee_hangs_up in [false, true] {
                talk(&mut caller, &callee, callee_hangs_up);
                calls += 1;
            }
            for phone in [&mut caller, &mut callee] {
                assert_eq!(phone.unregister().line(), "200 OK");
            }
        }
    }
    report(&format!(
        "{calls} calls between UDP, TCP, TLS, WS, WSS over IPv4 and IPv6, hung up by either side"
    ));
    wait_for("the end of all bindings", PATIENCE, || (server.rows(None) == 0).then_some(()));
}

#[test]
fn who_is_cut_off_without_a_word_is_gone_in_time() {
    let addresses = Addresses::free();
    let server = started_with(&addresses, "[websocket]\nping_interval = 2\n");
    let authority = server.path("tls/ca.pem");
    let mut caller = server.registered("9002");
    let streams = addresses.0.iter().filter(|(transport, at)| *transport != "udp" && at.is_ipv4());
    let silent: Vec<_> = streams
        .enumerate()
        .map(|(number, (transport, at))| {
            let user = (9101 + number).to_string();
            server.add_user(&user, &user);
            let mut silent = phone(AnyLine::open(transport, *at, &authority), &user);
            silent.contact = silent.contact.replace(&silent.local().to_string(), "192.168.0.9:5060");
            assert_eq!(silent.register(300).line(), "200 OK");
            silent.line.deafen();
            (silent, *at, Instant::now())
        })
        .collect();
    for (silent, at, begun) in &silent {
        let (user, transport) = (&silent.user, silent.line.transport);
        wait_for("the end of its flow", Duration::from_secs(20), || {
            server.contact(user)["Flow"].as_str().map(str::to_owned)
        });
        report(&format!(
            "    {transport}: a phone behind a dead network was noticed after {:.1?}",
            begun.elapsed()
        ));
        // The ping interval and 10 s; what a busy machine adds is no fault.
        assert!(begun.elapsed() < Duration::from_secs(2 + 10 + 4), "{transport}: {:?}", begun.elapsed());
        let (begun, invite) = (Instant::now(), caller.invite(user));
        let refused = caller.await_final("INVITE");
        caller.send(ack_of_failure(&invite, &refused));
        assert_eq!(refused.status(), Some(480), "{transport}");
        report(&format!("    {transport}: its caller was told after {:.0?}", begun.elapsed()));
        // It is back from another address, in spite of the Occupied rule.
        let elsewhere = IpAddr::from([127, 0, 0, 9]);
        let mut back = phone(AnyLine::open_from(transport, elsewhere, *at, &authority), user);
        assert_eq!(back.register(300).line(), "200 OK", "{transport}");
        assert_eq!(server.rows(Some(user)), 1, "{transport}");
        assert_eq!(back.unregister().line(), "200 OK");
    }
}
