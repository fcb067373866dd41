//! Real phones over TLS: they register, call one another and a UDP phone, and hang up from either side.

use std::net::SocketAddr;

use crate::support::{Answers, Baresip, Server, free_port};

fn server() -> (Server, SocketAddr) {
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let keys = "[tls]\ncertificate = \"tls/localhost.pem\"\nprivate_key = \"tls/localhost.key\"\n";
    let mut server = Server::prepared("", keys);
    server.succeed(&["tls", "new", "localhost", "127.0.0.1"]);
    let tcp = format!("\"tcp:{}\"", server.sip);
    server.replace_in_config(&tcp, &format!("{tcp}, \"tls:{at}\""));
    for user in ["9001", "9002"] {
        server.add_user(user, user);
    }
    server.start();
    (server, at)
}

#[test]
fn tls_phones_call_one_another_and_a_udp_phone() {
    for other_is_tls in [true, false] {
        let (server, at) = server();
        let tls = |user| Baresip::registered_at(&server, at, user, Answers::WhenTold, ";transport=tls");
        let one = tls("9001");
        let other = match other_is_tls {
            true => tls("9002"),
            false => Baresip::registered(&server, "9002", Answers::WhenTold),
        };
        let mut phones = [one, other];
        for (caller, callee) in [(0, 1), (1, 0)] {
            let host = if caller == 0 || other_is_tls { at } else { server.sip };
            let target = format!("sip:{}@{host}", phones[callee].user);
            phones[caller].command("dial", &target);
            phones[callee].wait_call("CALL_INCOMING");
            phones[caller].wait_call("CALL_RINGING");
            phones[callee].command("accept", "");
            for phone in &phones {
                phone.wait_calls(&["CALL_ESTABLISHED", "CALL_RTPESTAB"]);
            }
            phones[1].command("hangup", "");
            phones[1].wait_call("CALL_CLOSED");
            phones[0].wait_call("CALL_CLOSED");
        }
    }
}
