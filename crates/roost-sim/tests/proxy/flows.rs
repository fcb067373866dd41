//! Bindings that belong to their connections: WebSocket, behind NAT, and the flows of RFC 5626.

use std::time::Duration;

use roost_rig::call::Dialog;

use crate::support::{A_WHILE, Phone, Server, ack_of_failure};

const INSTANCE: &str = ";+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\"";

/// Registers a phone's Contact with these parameters; the answer.
fn register(phone: &mut Phone, params: &str) -> String {
    let contact = format!("Contact: <{}>{params};expires=300", phone.contact);
    phone.send_register(&[&contact, "Supported: outbound, path"]).text
}

fn is_ok(answer: &str) -> bool {
    answer.starts_with("SIP/2.0 200 OK")
}

/// Calls an extension; the final answer.
fn call(caller: &mut Phone, user: &str) -> u16 {
    let invite = caller.invite(user);
    let answer = caller.await_final("INVITE");
    caller.send(ack_of_failure(&invite, &answer));
    answer.status().expect("a response")
}

#[test]
fn a_browser_that_is_gone_is_unreachable_at_once_and_back_at_once() {
    for shards in [1, 4] {
        let server = Server::of_shards(shards, "[registrar]\nmax_contacts = 2\n");
        let mut caller = server.registered("9001");
        let mut browser = server.browser_at("127.0.0.2", "9002");
        assert!(is_ok(&register(&mut browser, INSTANCE)));
        let (mut ours, _) = caller.establish(&browser);
        caller.send(ours.request("BYE", &[]));
        browser.await_request("BYE");

        server.cut(&browser);
        let before = caller.now();
        assert_eq!(call(&mut caller, "9002"), 480);
        assert!(caller.now() - before < A_WHILE);
        // Another contact rings as if it were alone.
        let mut desk = server.phone_at("127.0.0.3", "9002", "9002");
        assert_eq!(desk.register(300).line(), "200 OK", "it does not occupy the extension");
        let _ = caller.establish(&desk);

        // The page is loaded again: another Contact, another connection, the same instance.
        assert_eq!(desk.unregister().line(), "200 OK");
        let mut again = server.browser_at("127.0.0.4", "9002");
        let answer = register(&mut again, INSTANCE);
        assert!(is_ok(&answer), "{answer}");
        assert_eq!(answer.matches("<sip:").count() - 2, 1, "From, To and one Contact: {answer}");
        let _ = caller.establish(&again);
    }
}

#[test]
fn a_live_browser_occupies_its_extension_and_a_lost_one_counts_nowhere() {
    let server =
        Server::for_calls("[registrar]\nexclusive = \"ip\"\nmax_contacts = 1\nforce_registration = false\n");
    let mut browser = server.browser_at("127.0.0.2", "9002");
    assert!(is_ok(&register(&mut browser, "")));
    let mut other = server.phone_at("127.0.0.3", "9002", "9002");
    assert_eq!(other.register(300).line(), "403 Occupied");
    let mut beside = server.browser_at("127.0.0.2", "9002");
    assert!(register(&mut beside, "").starts_with("SIP/2.0 503"), "max_contacts");
    server.cut(&browser);
    assert_eq!(other.register(300).line(), "200 OK");
}

#[test]
fn a_call_goes_on_over_the_new_connection_of_its_phone() {
    let server = Server::of_shards(4, "[registrar]\nmax_contacts = 1\n");
    let mut caller = server.registered("9001");
    let mut browser = server.browser_at("127.0.0.2", "9002");
    assert!(is_ok(&register(&mut browser, INSTANCE)));
    let (mut ours, _) = caller.establish(&browser);
    server.cut(&browser);
    let mut again = server.browser_at("127.0.0.9", "9002");
    assert!(is_ok(&register(&mut again, INSTANCE)));
    caller.send(ours.request("BYE", &[]));
    again.await_request("BYE");
}

#[test]
fn a_tcp_phone_that_can_be_connected_to_is_no_browser() {
    let server = Server::for_calls("[registrar]\nexclusive = \"ip\"\n");
    let mut phone = server.tcp_phone("9002");
    phone.contact = format!("sip:9002@{};transport=tcp", phone.local());
    assert_eq!(phone.register(300).line(), "200 OK");
    server.cut(&phone);
    let mut other = server.phone_at("127.0.0.3", "9002", "9002");
    assert_eq!(other.register(300).line(), "403 Occupied", "it is where its Contact says");
}

#[test]
fn flows_of_one_phone_are_one_contact_and_are_tried_in_turn() {
    let server = Server::for_calls(
        "[registrar]\nmax_contacts = 1\nforce_registration = false\n[tm]\nfr_timeout = 2\n",
    );
    let mut caller = server.registered("9001");
    let flow = |number: u32| {
        let mut phone = server.tcp_phone("9002");
        phone.contact = "sip:9002@192.168.1.5;transport=tcp;ob".to_owned();
        let answer = register(&mut phone, &format!("{INSTANCE};reg-id={number}"));
        assert!(is_ok(&answer) && answer.contains("Require: outbound\r\nFlow-Timer: 120\r\n"), "{answer}");
        phone
    };
    let first = flow(1);
    caller.hears_nothing("time passes");
    let second = flow(2);
    // The newer one rings, and it alone.
    let _ = caller.establish(&second);
    first.hears_nothing("it is the same phone");
    // Its connection is gone without a word: the other one rings.
    server.lose(&second);
    let invite = caller.invite("9002");
    let received = first.await_request("INVITE");
    first.answer(&received, "486 Busy Here");
    let refused = caller.await_final("INVITE");
    assert_eq!(refused.status(), Some(486));
    caller.send(ack_of_failure(&invite, &refused));
    // The second flow anew takes the place of the former.
    let again = flow(2);
    let _ = caller.establish(&again);
    server.cut(&again);
    let _ = caller.establish(&first);
    server.cut(&first);
    assert_eq!(call(&mut caller, "9002"), 480);
}

#[test]
fn another_phone_of_the_extension_is_another_contact() {
    let server = Server::for_calls("[registrar]\nmax_contacts = 3\n");
    let mut caller = server.registered("9001");
    let (mut one, mut other) =
        (server.browser_at("127.0.0.2", "9002"), server.browser_at("127.0.0.2", "9002"));
    assert!(is_ok(&register(&mut one, ";+sip.instance=\"<urn:uuid:1>\"")));
    assert!(is_ok(&register(&mut other, ";+sip.instance=\"<urn:uuid:2>\"")));
    caller.invite("9002");
    one.await_request("INVITE");
    other.await_request("INVITE");
}

/// How far a call has come when a connection is lost.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reached {
    Sent,
    Ringing,
    /// The caller has the 200, and the callee not the ACK.
    Answered,
    Confirmed,
}

/// A call of a browser to a browser loses the connection of one of them, which the server notices or does not. The one
/// who stays is told how it ends or can end it, nothing is left of it, and whoever was lost is back at once.
fn lose_in_a_call(shards: u16, reached: Reached, is_caller_lost: bool, is_noticed: bool) {
    let what = format!("{shards} shards, {reached:?}, the caller: {is_caller_lost}, noticed: {is_noticed}");
    let server = Server::of_shards(
        shards,
        "[registrar]\nmax_contacts = 1\n[tm]\nfr_timeout = 5\nfr_inv_timeout = 20\n",
    );
    let browser = |address: &str, user: &str| {
        let mut browser = server.browser_at(address, user);
        assert!(is_ok(&register(&mut browser, &INSTANCE.replace("e128", user))), "{what}");
        browser
    };
    let mut caller = browser("127.0.0.2", "9001");
    let callee = browser("127.0.0.3", "9002");
    let invite = caller.invite("9002");
    let received = callee.await_request("INVITE");
    let mut dialogs = None;
    if reached != Reached::Sent {
        callee.answer(&received, "180 Ringing");
        caller.await_status(180, "INVITE");
    }
    if matches!(reached, Reached::Answered | Reached::Confirmed) {
        callee.answer(&received, "200 OK");
        let ok = caller.await_status(200, "INVITE");
        dialogs = Some((Dialog::of_caller(&caller, &ok), Dialog::of_callee(&callee, &received)));
    }
    if let Some((ours, _)) = dialogs.as_mut().filter(|_| reached == Reached::Confirmed) {
        caller.send(ours.request("ACK", &[]));
        callee.await_request("ACK");
    }
    let lost = if is_caller_lost { &caller } else { &callee };
    if is_noticed {
        server.cut(lost);
    } else {
        server.lose(lost);
    }
    match (&mut dialogs, is_caller_lost) {
        // Nobody hears the callee's answer; its own retransmissions end, and so does what is held of the call.
        (None, true) => {
            callee.answer(&received, "200 OK");
        }
        (None, false) => {
            let refused = caller.await_final("INVITE");
            assert!(matches!(refused.status(), Some(408 | 480)), "{what}: {}", refused.line());
            caller.send(ack_of_failure(&invite, &refused));
        }
        // The one who stays hangs up, and is told.
        (Some((_, theirs)), true) => {
            callee.send(theirs.request("BYE", &[]));
            let ended = callee.await_final("BYE");
            assert!(matches!(ended.status(), Some(408 | 477 | 480)), "{what}: {}", ended.line());
        }
        (Some((ours, _)), false) => {
            caller.send(ours.request("BYE", &[]));
            let ended = caller.await_final("BYE");
            assert!(matches!(ended.status(), Some(408 | 477 | 480)), "{what}: {}", ended.line());
        }
    }
    // Whoever was lost comes back, from elsewhere once the server knows that the old flow is dead, and is called.
    let (user, ip) = (lost.user.clone(), lost.local().ip().to_string());
    let again = browser(if is_noticed { "127.0.0.9" } else { &ip }, &user);
    let mut stayed = if is_caller_lost { callee } else { caller };
    let _ = stayed.establish(&again);
    again.listen(Duration::from_secs(70));
    for held in ["tm:inuse_transactions", "roost:transaction_bytes", "roost:parked"] {
        assert_eq!(server.statistic(held), 0, "{what}: {held}");
    }
    assert_eq!(server.statistic("usrloc:location-contacts"), 2, "{what}");
}

#[test]
fn a_connection_may_be_lost_at_any_time_of_a_call() {
    for shards in [1, 4] {
        for reached in [Reached::Sent, Reached::Ringing, Reached::Answered, Reached::Confirmed] {
            for is_caller_lost in [false, true] {
                for is_noticed in [false, true] {
                    lose_in_a_call(shards, reached, is_caller_lost, is_noticed);
                }
            }
        }
    }
}
