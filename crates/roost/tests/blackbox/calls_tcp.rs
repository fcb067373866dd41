//! Real phones over TCP and UDP call one another, before and after the TCP phone's connection was cut.

use crate::support::{Answers, Baresip, PATIENCE, Server, TcpRelay, call_both_ways, wait_for};

#[test]
fn a_tcp_phone_and_a_udp_phone_call_one_another() {
    let server = server();
    let tcp = Baresip::registered_at(&server, server.sip, "9001", Answers::WhenTold, ";transport=tcp");
    let udp = Baresip::registered(&server, "9002", Answers::WhenTold);
    call_both_ways([(tcp, server.sip), (udp, server.sip)]);
}

#[test]
fn two_tcp_phones_call_one_another() {
    let server = server();
    let phone = |user| Baresip::registered_at(&server, server.sip, user, Answers::WhenTold, ";transport=tcp");
    let (one, other) = (phone("9001"), phone("9002"));
    call_both_ways([(one, server.sip), (other, server.sip)]);
}

#[test]
fn after_its_connection_was_cut_and_remade_a_phone_calls_and_is_called() {
    let server = server();
    let relay = TcpRelay::start(server.sip);
    let params = ";transport=tcp;regint=4";
    let tcp = Baresip::registered_at(&server, relay.address, "9001", Answers::WhenTold, params);
    let udp = Baresip::registered(&server, "9002", Answers::WhenTold);
    let before = relay.made();
    relay.cut();
    wait_for("the loss", PATIENCE, || (server.statistic("net:tcp_connections") == 0).then_some(()));
    // The phone comes back when its registration is due.
    wait_for("a new connection", PATIENCE, || (relay.made() > before).then_some(()));
    wait_for("the new registration", PATIENCE, || {
        (server.statistic("net:tcp_connections") == 1 && tcp.is_bound(&server)).then_some(())
    });
    call_both_ways([(tcp, server.sip), (udp, server.sip)]);
}

fn server() -> Server {
    let server = Server::started("", "[registrar]\nmin_expires = 4\n[tm]\nfr_timeout = 20\n");
    for user in ["9001", "9002"] {
        server.add_user(user, user);
    }
    server
}
