//! Every transport beside every other, over IPv4 and IPv6: phones register, call one another and hang up from either side.

use std::net::SocketAddr;

use crate::support::{AnyLine, PATIENCE, Server, TRANSPORTS, free_port, phone, reaches, report, wait_for};

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
    let mut server = Server::prepared(
        "",
        "[tls]\ncertificate = \"tls/localhost.pem\"\nprivate_key = \"tls/localhost.key\"\n",
    );
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
                let (mut ours, mut theirs) = caller.establish(&callee);
                reaches(&caller, &callee, &mut ours, "INFO");
                reaches(&callee, &caller, &mut theirs, "INFO");
                match callee_hangs_up {
                    false => reaches(&caller, &callee, &mut ours, "BYE"),
                    true => reaches(&callee, &caller, &mut theirs, "BYE"),
                }
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
