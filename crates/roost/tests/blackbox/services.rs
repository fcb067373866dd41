//! Services of a media server through roost: message waiting and lamps (SUBSCRIBE, NOTIFY), published states (PUBLISH).

use std::net::SocketAddr;

use crate::support::{
    A_WHILE, AnyLine, Dialog, Kamailio, Message, Phone, Server, free_port, phone, with_body,
};

/// A server whose services are at a hop, which is a phone by hand; and that hop.
fn started(ws: SocketAddr) -> (Server, Phone) {
    let mut server = Server::prepared("", "[dispatcher]\nds_ping_interval = 0\n");
    server.also_listen(&format!("ws:{ws}"));
    let media = Phone::at("127.0.0.5", server.sip, "media", "media");
    let routes = format!(
        "[[route]]\nevents = [\"message-summary\", \"dialog\"]\nhops = [\"sip:{0}\"]\n\
         [[route]]\nmethods = [\"PUBLISH\"]\ndomain = \"127.0.0.1\"\nhops = [\"sip:{0}\"]\n[mi]",
        media.local()
    );
    server.replace_in_config("[mi]", &routes);
    for user in ["9001", "9002"] {
        server.add_user(user, user);
    }
    server.start();
    (server, media)
}

#[test]
fn message_waiting_and_lamps_of_a_media_server_work_over_any_transport() {
    let ws = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (server, media) = started(ws);
    for (transport, at) in [("udp", server.sip), ("tcp", server.sip), ("ws", ws)] {
        let mut phone = phone(AnyLine::open(transport, at, &server.path("none")), "9001");
        assert_eq!(phone.register(300).line(), "200 OK");
        for event in ["message-summary", "dialog;sla"] {
            // The extension exists and is registered: its own mailbox is asked for all the same.
            let (contact, header) = (format!("Contact: <{}>", phone.contact), format!("Event: {event}"));
            let subscribe = phone.initial("SUBSCRIBE", "9001", &[&contact, &header, "Expires: 600"]);
            phone.send(&subscribe);
            let received = media.await_request("SUBSCRIBE");
            assert_eq!(received.uri(), "sip:9001@127.0.0.1", "unchanged");
            media.answer_with(
                &received,
                "200 OK",
                &[&format!("Contact: <{}>", media.contact), "Expires: 600"],
            );
            let ok = phone.await_status(200, "SUBSCRIBE");
            // NOTIFY inside the dialog, and a refresh.
            let (mut theirs, mut ours) =
                (Dialog::of_callee(&media, &received), Dialog::of_caller(&phone, &ok));
            media.send(theirs.request("NOTIFY", &[&header, "Subscription-State: active"]));
            let notify = phone.await_request("NOTIFY");
            assert_eq!(notify.uri(), phone.contact);
            phone.answer(&notify, "200 OK");
            assert_eq!(media.await_final("NOTIFY").line(), "200 OK");
            phone.send(ours.request("SUBSCRIBE", &[&contact, &header, "Expires: 0"]));
            let refresh = media.await_request("SUBSCRIBE");
            media.answer(&refresh, "200 OK");
            phone.await_status(200, "SUBSCRIBE");
        }
        // A NOTIFY that nobody asked for: old phones show it.
        let mut media_again = Phone::at("127.0.0.5", server.sip, "media", "media");
        let notify =
            media_again.initial("NOTIFY", "9001", &["Event: message-summary", "Subscription-State: active"]);
        media_again.send(&notify);
        let received = phone.await_request("NOTIFY");
        phone.answer(&received, "200 OK");
        assert_eq!(media_again.await_final("NOTIFY").line(), "200 OK");
        // PUBLISH goes by its domain; other packages are refused as before.
        let publish = phone.initial("PUBLISH", "9001", &["Event: presence", "Expires: 60"]);
        phone.send(&publish);
        let received = media.await_request("PUBLISH");
        media.answer(&received, "412 Conditional Request Failed");
        assert_eq!(phone.await_final("PUBLISH").status(), Some(412));
        let subscribe = phone.initial("SUBSCRIBE", "9002", &["Event: presence", "Expires: 60"]);
        phone.send(&subscribe);
        assert_eq!(phone.await_final("SUBSCRIBE").status(), Some(405));
        assert!(media.overhear(A_WHILE).is_empty());
        assert_eq!(phone.unregister().line(), "200 OK");
    }
}

#[test]
fn strangers_are_asked_who_they_are() {
    let (server, media) = started(SocketAddr::from(([127, 0, 0, 1], free_port())));
    let mut stranger = server.phone("9001");
    let subscribe = stranger.initial("SUBSCRIBE", "9001", &["Event: dialog", "Expires: 600"]);
    stranger.send(&subscribe);
    assert_eq!(stranger.await_final("SUBSCRIBE").status(), Some(407));
    assert!(media.overhear(A_WHILE).is_empty());
}

#[test]
fn kamailio_tells_phones_of_waiting_messages_and_of_lamps() {
    let (mut server, at) = Server::prepared_with_tls();
    let kamailio = Kamailio::presence(&server, [127, 0, 0, 5]);
    let routes = format!(
        "[[route]]\nevents = [\"message-summary\", \"dialog\"]\nhops = [\"{0}\"]\n\
         [[route]]\nmethods = [\"PUBLISH\"]\nhops = [\"{0}\"]\n[mi]",
        kamailio.uri()
    );
    server.replace_in_config("[mi]", &routes);
    server.add_users(9001, 2);
    server.start();
    for (transport, to) in [("udp", server.sip), ("tls", at)] {
        let mut lamp = phone(AnyLine::open(transport, to, &server.path("tls/ca.pem")), "9001");
        assert_eq!(lamp.register(300).line(), "200 OK");
        let mut watched = server.registered("9002");
        for (event, content_type, body) in [
            (
                "message-summary",
                "application/simple-message-summary",
                "Messages-Waiting: yes\r\nVoice-Message: 2/8\r\n",
            ),
            ("dialog", "application/dialog-info+xml", LAMP),
        ] {
            let contact = format!("Contact: <{}>", lamp.contact);
            let event = format!("Event: {event}");
            let accept = format!("Accept: {content_type}");
            let subscribe = lamp.initial("SUBSCRIBE", "9002", &[&contact, &event, &accept, "Expires: 600"]);
            lamp.send(&subscribe);
            let (ok, first) = answer_and_notify(&lamp);
            assert!(matches!(ok.status(), Some(200 | 202)), "{}", ok.line());
            lamp.answer(&first, "200 OK");
            let publish = watched.initial("PUBLISH", "9002", &[&event, "Expires: 600"]);
            watched.send(with_body(&publish, content_type, body));
            assert_eq!(watched.await_final("PUBLISH").line(), "200 OK");
            let told = lamp.await_request("NOTIFY");
            assert!(told.body().contains(body.lines().next().unwrap_or_default()), "{}", told.body());
            lamp.answer(&told, "200 OK");
            // A refresh inside the dialog ends it.
            let mut dialog = Dialog::of_caller(&lamp, &ok);
            lamp.send(dialog.request("SUBSCRIBE", &[&contact, &event, "Expires: 0"]));
            let (ok, last) = answer_and_notify(&lamp);
            assert!(matches!(ok.status(), Some(200 | 202)), "{}", ok.line());
            lamp.answer(&last, "200 OK");
        }
        assert_eq!(lamp.unregister().line(), "200 OK");
    }
}

/// The final answer to a SUBSCRIBE and the NOTIFY that goes with it: either may come first.
fn answer_and_notify(phone: &Phone<AnyLine>) -> (Message, Message) {
    let is_one = |message: &Message| {
        message.method() == Some("NOTIFY") || message.status().is_some_and(|status| status >= 200)
    };
    let first = phone.await_message("an answer or a NOTIFY", is_one);
    if first.status().is_some() {
        (first, phone.await_request("NOTIFY"))
    } else {
        (phone.await_final("SUBSCRIBE"), first)
    }
}

/// 9002 is in a call.
const LAMP: &str = "<?xml version=\"1.0\"?>\r\n\
    <dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"1\" state=\"full\" entity=\"sip:9002@127.0.0.1\">\r\n\
    <dialog id=\"1\" direction=\"recipient\"><state>confirmed</state></dialog></dialog-info>\r\n";
