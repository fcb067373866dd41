//! A real second SIP server as media server, over TCP and UDP: calls are routed to it, fail over when it is killed, and
//! go there again when it returns; `ds_list` says so meanwhile.

use std::net::SocketAddr;
use std::time::Instant;

use crate::support::{
    A_WHILE, AnyLine, Dialog, Kamailio, PATIENCE, Phone, Server, TLS_SECTION, free_port, phone, wait_for,
};
use serde_json::Value;

#[test]
fn kamailio_takes_calls_is_killed_and_comes_back() {
    let places = Server::prepared("", "");
    let mut tcp = Kamailio::start(&places, "tcp", [127, 0, 0, 2]);
    let mut udp = Kamailio::start(&places, "udp", [127, 0, 0, 3]);
    let server = Server::for_calls(&format!(
        "[tm]\nfr_timeout = 1\n[dispatcher]\nds_ping_interval = 1\nds_probing_threshold = 2\n\
         [[route]]\nprefix = \"0\"\nhops = [\"{}\", \"{}\"]\n",
        tcp.uri(),
        udp.uri()
    ));
    let mut phone = server.registered("9001");
    let await_states = |wanted: [&str; 2]| {
        wait_for(&format!("{wanted:?}"), PATIENCE, || (states(&server) == wanted).then_some(()));
    };
    await_states(["Active", "Active"]);
    assert_eq!(call(&mut phone), tcp.contact());

    tcp.kill();
    // Refused connections need no timeout: the call goes on at once, whether the pings have told or not.
    let before = Instant::now();
    assert_eq!(call(&mut phone), udp.contact());
    assert!(before.elapsed() < A_WHILE, "{:?}", before.elapsed());
    await_states(["Probing", "Active"]);
    udp.kill();
    await_states(["Probing", "Probing"]);
    tcp.restart(&places);
    await_states(["Active", "Probing"]);
    assert_eq!(call(&mut phone), tcp.contact());
    udp.restart(&places);
    await_states(["Active", "Active"]);
    tcp.kill();
    assert_eq!(call(&mut phone), udp.contact());
}

/// Calls 0301 and hangs up; who took it.
fn call(phone: &mut Phone) -> String {
    phone.invite("0301");
    let answer = phone.await_status(200, "INVITE");
    let mut dialog = Dialog::of_caller(phone, &answer);
    phone.send(dialog.request("ACK", &[]));
    phone.send(dialog.request("BYE", &[]));
    phone.await_status(200, "BYE");
    dialog.target.clone()
}

/// The states of the hops in `ds_list`, in order.
fn states(server: &Server) -> Vec<String> {
    let list = server.mi("ds_list", Value::Null).expect("a list");
    let hops = list["PARTITIONS"][0]["SETS"][0]["Destinations"].as_array().cloned().unwrap_or_default();
    hops.iter().map(|hop| hop["state"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn kamailio_takes_calls_over_tls_where_it_proves_its_address() {
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut server = Server::prepared("", "[tm]\nfr_timeout = 1\n[dispatcher]\nds_ping_interval = 0\n");
    server.succeed(&["tls", "new", "localhost", "127.0.0.2"]);
    let good = Kamailio::start(&server, "tls", [127, 0, 0, 2]);
    // The certificate is not for this address.
    let wrong = Kamailio::start(&server, "tls", [127, 0, 0, 3]);
    let sections = format!(
        "{TLS_SECTION}ca_list = \"tls/ca.pem\"\n[[route]]\nprefix = \"0\"\nhops = [\"{}\", \"{}\"]\n[mi]",
        wrong.uri(),
        good.uri()
    );
    server.replace_in_config("[mi]", &sections);
    server.also_listen(&format!("tls:{at}"));
    server.add_users(9001, 1);
    server.start();
    assert_eq!(call(&mut server.registered("9001")), good.contact(), "the one that proves its address");
    assert_eq!(server.phone("9001").register(0).line(), "200 OK");
    // All the way over TLS.
    let mut phone = phone(AnyLine::open("tls", at, &server.path("tls/ca.pem")), "9001");
    assert_eq!(phone.register(300).line(), "200 OK");
    let invite = phone.initial("INVITE", "0301", &[]).replacen("sip:", "sips:", 1);
    phone.send(&invite);
    let answer = phone.await_status(200, "INVITE");
    let mut dialog = Dialog::of_caller(&phone, &answer);
    phone.send(dialog.request("ACK", &[]));
    phone.send(dialog.request("BYE", &[]));
    phone.await_status(200, "BYE");
}
