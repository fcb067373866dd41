//! HAProxy before roost: it ends TLS or not, and says in a PROXY header whose connection it is.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::support::{AnyLine, PATIENCE, Server, free_port, need, phone, wait_for};

/// A process; dropping it kills it.
struct HaProxy(Child);

impl HaProxy {
    /// One that takes connections at these addresses, the second by TLS, and passes them on.
    fn start(server: &Server, plain: SocketAddr, tls: SocketAddr) -> HaProxy {
        let bundle = ["tls/localhost.pem", "tls/localhost.key"]
            .map(|name| fs::read(server.path(name)).expect("a file"));
        fs::write(server.path("bundle.pem"), bundle.concat()).expect("a file");
        let config = format!(
            "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n\
             listen plain\n    bind {plain}\n    server roost {sip} send-proxy source 127.0.0.3\n\
             listen secured\n    bind {tls} ssl crt {bundle}\n    server roost {sip} send-proxy-v2 source 127.0.0.3\n",
            sip = server.sip,
            bundle = server.path("bundle.pem").display()
        );
        let file = server.path("haproxy.cfg");
        fs::write(&file, config).expect("a file");
        let mut haproxy = Command::new(need("haproxy", "haproxy"));
        let child =
            haproxy.arg("-db").arg("-f").arg(file).stdin(Stdio::null()).spawn().expect("haproxy starts");
        let haproxy = HaProxy(child);
        for address in [plain, tls] {
            wait_for("haproxy", PATIENCE, || TcpStream::connect(address).ok().map(drop));
        }
        haproxy
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn phones_behind_haproxy_have_their_own_addresses() {
    let mut server = Server::prepared("", "[nathelper]\nproxy_protocol_from = [\"127.0.0.3\"]\n");
    server.succeed(&["tls", "new", "localhost", "127.0.0.1"]);
    server.add_users(9001, 2);
    server.start();
    let [plain, tls] = [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let _haproxy = HaProxy::start(&server, plain, tls);
    let open = |transport, at, ip: [u8; 4]| {
        AnyLine::open_from(transport, IpAddr::from(ip), at, &server.path("tls/ca.pem"))
    };
    let mut one = phone(open("tcp", plain, [127, 0, 0, 7]), "9001");
    let mut other = phone(open("tls", tls, [127, 0, 0, 8]), "9002");
    // Both know themselves behind a router: roost reaches them over the balancer's connections.
    one.contact = "sip:9001@192.168.0.9:5060;transport=tcp".to_owned();
    other.contact = "sip:9002@192.168.0.9:5060;transport=tcp".to_owned();
    assert_eq!(
        (one.register(300).line(), other.register(300).line()),
        ("200 OK".to_owned(), "200 OK".to_owned())
    );
    for (user, ip) in [("9001", "127.0.0.7"), ("9002", "127.0.0.8")] {
        let contact = server.contact(user);
        let received = contact["Received"].as_str().unwrap_or_default();
        assert!(received.starts_with(&format!("sip:{ip}:")), "{received}");
    }
    for _ in 0..2 {
        let (mut ours, _) = one.establish(&other);
        one.send(ours.request("BYE", &[]));
        let bye = other.await_request("BYE");
        other.answer(&bye, "200 OK");
        one.await_status(200, "BYE");
        std::mem::swap(&mut one, &mut other);
    }
    // Another address is another source: the extension is occupied.
    let mut third = phone(open("tcp", plain, [127, 0, 0, 9]), "9001");
    assert_eq!(third.register(300).line(), "403 Occupied");
}
