//! Phones behind an edge proxy that writes Path: they register through it and are called through it.

use crate::support::{Challenge, Dialog, Edge, Phone, Server, ack_of_failure, cancel_of, hidden_contact};
use serde_json::json;

/// A phone of an extension, registered through `edge`: nothing but the edge knows where its Contact is.
fn registered_behind(edge: &Edge, user: &str) -> Phone {
    let mut phone = Phone::new(edge.address, user, user);
    phone.domain = "127.0.0.1".to_owned();
    phone.contact = hidden_contact(user);
    let contact = format!("Contact: <{}>", phone.contact);
    let response = phone.send_register(&["Supported: path", &contact, "Expires: 300"]);
    assert_eq!(response.line(), "200 OK");
    assert_eq!(response.header("Path"), Some(edge.route().as_str()));
    phone
}

#[test]
fn a_phone_behind_an_edge_proxy_is_called_and_calls() {
    for records_route in [true, false] {
        let server = Server::for_calls("");
        let edge = Edge::start(server.sip, records_route);
        let mut outside = server.registered("9001");
        let mut inside = registered_behind(&edge, "9002");

        let (mut ours, mut theirs) = outside.establish(&inside);
        assert_eq!(ours.routes.len(), if records_route { 2 } else { 1 });
        say(&outside, &inside, &ours.request("INFO", &[]));
        if records_route {
            say(&inside, &outside, &theirs.request("INFO", &[]));
        }
        say(&outside, &inside, &ours.request("BYE", &[]));

        // The CANCEL and the ACK of the 487 find the phone as the INVITE did.
        let invite = outside.invite("9002");
        let received = inside.await_request("INVITE");
        inside.answer(&received, "180 Ringing");
        outside.await_status(180, "INVITE");
        outside.send(cancel_of(&invite));
        let cancel = inside.await_request("CANCEL");
        inside.answer(&cancel, "200 OK");
        inside.answer(&received, "487 Request Terminated");
        inside.await_request("ACK");
        let ended = outside.await_status(487, "INVITE");
        outside.send(ack_of_failure(&invite, &ended));

        if records_route {
            // Everybody behind the edge proxy comes from its address: a password is asked for.
            let invite = inside.invite("9001");
            let challenged = inside.await_final("INVITE");
            assert_eq!(challenged.line(), "407 Proxy Authentication Required");
            inside.send(ack_of_failure(&invite, &challenged));
            outside.hears_nothing("the caller is not known yet");
            let challenge = Challenge::parse(challenged.header("Proxy-Authenticate").expect("a challenge"));
            let uri = inside.uri_of("9001");
            let credentials = format!("Proxy-{}", challenge.answer("9002", "9002", "INVITE", &uri, 1));
            let contact = format!("Contact: <{}>", inside.contact);
            let invite = inside.message("INVITE", &uri, &[&credentials, &contact]);
            inside.send(invite);
            let received = outside.await_request("INVITE");
            outside.answer(&received, "200 OK");
            let ok = inside.await_status(200, "INVITE");
            let mut dialog = Dialog::of_caller(&inside, &ok);
            inside.send(dialog.request("ACK", &[]));
            outside.await_request("ACK");
            let mut back = Dialog::of_callee(&outside, &received);
            say(&outside, &inside, &back.request("INFO", &[]));
            say(&inside, &outside, &dialog.request("BYE", &[]));
        }
    }
}

#[test]
fn the_path_is_shown_and_outlives_the_server() {
    let mut server = Server::for_calls("");
    let edge = Edge::start(server.sip, true);
    let inside = registered_behind(&edge, "9002");
    let shown = |server: &Server| {
        let record = server.mi("ul_show_contact", json!(["location", "9002"])).expect("the AOR");
        record["Contacts"][0].clone()
    };
    assert_eq!(shown(&server)["Path"], edge.route());
    let text = server.succeed(&["ul", "show", "9002"]);
    assert!(text.contains(&format!("\n\t\tPath:: {}\n\t\tState::", edge.route())), "{text}");
    let in_table = |server: &Server| -> Option<String> {
        let database = server.sqlite();
        database.query_row("SELECT path FROM location WHERE username = '9002'", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(in_table(&server), Some(edge.route()));

    server.kill9();
    server.start();
    assert_eq!(shown(&server)["Path"], edge.route());
    let mut outside = server.registered("9001");
    let message = outside.initial("MESSAGE", "9002", &[]);
    say(&outside, &inside, &message);
}

#[test]
fn a_row_of_opensips_leads_through_its_path() {
    let mut server = Server::prepared("", "");
    server.add_users(9001, 3);
    let edge = Edge::start(server.sip, true);
    let mut inside = Phone::new(edge.address, "9002", "9002");
    inside.domain = "127.0.0.1".to_owned();
    inside.contact = format!("sip:9002@{}", inside.local());
    let put = "INSERT INTO location (contact_id, username, contact, received, path, expires, callid) \
               VALUES (?1, ?2, ?3, ?4, ?5, strftime('%s', 'now') + 300, 'theirs')";
    let rows = [
        // With `path-received`, the phone's own address stands where a proxy's stood.
        (7, "9002", inside.contact.as_str(), Some("sip:192.0.2.77:5060"), edge.route()),
        (8, "9003", "sip:9003@192.0.2.9", None, "<sip:nobody".to_owned()),
    ];
    for row in &rows {
        let (id, user, contact, received, path) = row;
        server.sqlite().execute(put, (id, user, contact, received, path)).expect("a row");
    }
    server.start();
    let mut outside = server.registered("9001");
    let message = outside.initial("MESSAGE", "9002", &[]);
    say(&outside, &inside, &message);

    // Whose path is none is not taken: nobody could be reached by it.
    let answer = outside.ask("MESSAGE", "sip:9003@127.0.0.1", &[]);
    assert_eq!(answer.line(), "404 Not Found");

    // The phone may refresh, though the row does not say that it is behind the edge proxy.
    let contact = format!("Contact: <{}>", inside.contact);
    assert_eq!(inside.send_register(&[&contact]).line(), "200 OK");
}

/// Sends a request, which arrives without a Route, and is answered.
fn say(from: &Phone, to: &Phone, message: &str) {
    from.send(message);
    let method = message.split(' ').next().unwrap_or_default();
    let received = to.await_request(method);
    assert!(received.header("Route").is_none(), "{}", received.text);
    to.answer(&received, "200 OK");
    assert_eq!(from.await_final(method).line(), "200 OK");
}
