//! Real phones over TLS: they register, call one another and a UDP phone, and hang up from either side.

use std::net::SocketAddr;

use crate::support::{Answers, Baresip, Linphone, Server, TLS_SECTION, call_both_ways, free_port};

fn server() -> (Server, SocketAddr) {
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    // Linphone names its outbound proxy so, as the certificate does.
    let mut server = Server::prepared("domains = [\"localhost\"]", TLS_SECTION);
    server.succeed(&["tls", "new", "localhost", "127.0.0.1"]);
    server.also_listen(&format!("tls:{at}"));
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
        let one = (tls("9001"), at);
        let other = match other_is_tls {
            true => (tls("9002"), at),
            false => (Baresip::registered(&server, "9002", Answers::WhenTold), server.sip),
        };
        call_both_ways([one, other]);
    }
}

#[test]
fn linphone_over_tls_and_baresip_over_udp_call_one_another() {
    let (server, at) = server();
    let mut linphone = Linphone::registered(&server, at, "9001");
    let mut baresip = Baresip::registered(&server, "9002", Answers::WhenTold);
    linphone.command("call sip:9002@127.0.0.1");
    baresip.wait_call("CALL_INCOMING");
    baresip.command("accept", "");
    baresip.wait_call("CALL_ESTABLISHED");
    linphone.wait_for("connected.", 1);
    linphone.command("terminate");
    baresip.wait_call("CALL_CLOSED");
    baresip.command("dial", &format!("sip:9001@{}", server.sip));
    linphone.wait_for("Receiving new incoming call", 1);
    linphone.command("answer");
    baresip.wait_call("CALL_ESTABLISHED");
    baresip.command("hangup", "");
    baresip.wait_call("CALL_CLOSED");
    linphone.wait_for("ended", 2);
}
