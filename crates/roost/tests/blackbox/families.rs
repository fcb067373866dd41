//! Wildcards of both families side by side: calls between IPv4 and IPv6, over UDP and TCP, in either direction.

use std::net::SocketAddr;

use crate::support::{AnyLine, PATIENCE, Server, free_port, phone, reaches, wait_for};

#[test]
fn phones_of_both_families_call_one_another_through_wildcards() {
    all_ways("", true);
}

#[test]
fn callers_without_a_binding_call_the_other_family() {
    all_ways("[proxy]\ntrusted = [\"127.0.0.1\", \"::1\"]\n", false);
}

#[test]
fn where_nobody_is_authorized_families_call_one_another() {
    all_ways("[proxy]\nauthorize = \"off\"\n", true);
}

/// Calls of all transports and families to all, with a registered caller or one without a binding.
fn all_ways(sections: &str, is_registered: bool) {
    let port = free_port();
    let mut server = Server::prepared("", sections);
    let listen = format!("listen = [\"udp:{0}\", \"tcp:{0}\"]", server.sip);
    let all =
        ["udp:0.0.0.0", "tcp:0.0.0.0", "udp:[::]", "tcp:[::]"].map(|entry| format!("\"{entry}:{port}\""));
    server.replace_in_config(&listen, &format!("listen = [{}]", all.join(", ")));
    for user in ["9001", "9002"] {
        server.add_user(user, user);
    }
    server.start();
    let at = |ip: &str| SocketAddr::new(ip.parse().expect("an address"), port);
    let ways = [("udp", "127.0.0.1"), ("udp", "::1"), ("tcp", "127.0.0.1"), ("tcp", "::1")];
    for (from, from_ip) in ways {
        for (to, to_ip) in ways {
            let open = |transport: &'static str, ip: &str, user: &str| {
                let mut phone = phone(AnyLine::open(transport, at(ip), &server.path("none")), user);
                phone.domain = if ip.contains(':') { format!("[{ip}]") } else { ip.to_string() };
                if is_registered || user == "9002" {
                    assert_eq!(phone.register(300).line(), "200 OK");
                }
                phone
            };
            let mut caller = open(from, from_ip, "9001");
            let mut callee = open(to, to_ip, "9002");
            let (mut ours, mut theirs) = caller.establish(&callee);
            reaches(&callee, &caller, &mut theirs, "INFO");
            reaches(&caller, &callee, &mut ours, "BYE");
            assert_eq!(callee.unregister().line(), "200 OK");
            if is_registered {
                assert_eq!(caller.unregister().line(), "200 OK");
            }
        }
    }
    wait_for("no rows", PATIENCE, || (server.rows(None) == 0).then_some(()));
}

#[test]
fn a_phone_that_asks_with_stun_is_told_its_address() {
    let server = Server::started("", "");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let question = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], b"twelve bytes"].concat();
    socket.send_to(&question, server.sip).expect("sent");
    let mut answer = [0; 100];
    let length = socket.recv(&mut answer).expect("an answer");
    let port = u16::from_be_bytes([answer[26], answer[27]]) ^ 0x2112;
    assert_eq!((length, port), (32, socket.local_addr().expect("its address").port()));
    assert_eq!(answer[8..20], *b"twelve bytes");
}

/// Behind a cloud's NAT: others know another address, and what names that is ours.
#[test]
fn what_others_know_a_listener_by_is_ours() {
    for wildcard in [false, true] {
        let port = free_port();
        let mut server = Server::prepared("", "");
        let listen = format!("listen = [\"udp:{0}\", \"tcp:{0}\"]", server.sip);
        let ip = if wildcard { "0.0.0.0" } else { "127.0.0.1" };
        let all = ["udp", "tcp"].map(|transport| format!("\"{transport}:{ip}:{port} as 203.0.113.7:15060\""));
        server.replace_in_config(&listen, &format!("listen = [{}]", all.join(", ")));
        for user in ["9001", "9002"] {
            server.add_user(user, user);
        }
        server.start();
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        for (from, to) in [("udp", "tcp"), ("tcp", "udp"), ("udp", "udp")] {
            let registered = |transport: &'static str, user: &str| {
                let mut phone = phone(AnyLine::open(transport, at, &server.path("none")), user);
                assert_eq!(phone.register(300).line(), "200 OK");
                phone
            };
            let (mut caller, callee) = (registered(from, "9001"), registered(to, "9002"));
            let (mut ours, mut theirs) = caller.establish(&callee);
            assert!(
                ours.routes.iter().all(|route| route.starts_with("<sip:203.0.113.7:15060")),
                "{:?}",
                ours.routes
            );
            reaches(&callee, &caller, &mut theirs, "INFO");
            reaches(&caller, &callee, &mut ours, "BYE");
        }
    }
}
