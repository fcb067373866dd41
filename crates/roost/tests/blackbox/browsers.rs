//! Browsers over WSS: JsSIP and SIP.js register, call one another and a desk phone, are killed, lose their network and come back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::{
    Answers, Baresip, Browser, PATIENCE, Page, Server, TLS_SECTION, TcpRelay, ack_of_failure, free_port,
    report, wait_for,
};

const INSTANCE: &str = "0b0a4c57-1c24-4c1f-9e2a-6f4d0f5f7a01";

fn started(sections: &str) -> (Server, SocketAddr) {
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut server = Server::prepared("", &format!("{TLS_SECTION}{sections}"));
    server.succeed(&["tls", "new", "localhost", "127.0.0.1"]);
    server.also_listen(&format!("wss:{at}"));
    for user in ["9001", "9002"] {
        server.add_user(user, user);
    }
    server.start();
    (server, at)
}

fn page<'a>(library: &'a str, user: &'a str) -> Page<'a> {
    Page { library, user, ..Page::default() }
}

#[test]
fn browsers_call_one_another_and_hang_up_from_either_side() {
    let (_server, at) = started("");
    let url = format!("wss://{at}");
    for (one, other, caller_hangs_up) in [("jssip", "sipjs", true), ("sipjs", "jssip", false)] {
        let callee = Browser::open(&url, Page { hangs_up: !caller_hangs_up, ..page(other, "9002") });
        callee.wait("registered");
        let call = Page { call: "9002", hangs_up: caller_hangs_up, ..page(one, "9001") };
        let caller = Browser::open(&url, call);
        for browser in [&caller, &callee] {
            browser.wait("talking");
        }
        let (first, second) = if caller_hangs_up { (&caller, &callee) } else { (&callee, &caller) };
        first.wait("ended by us");
        second.wait("ended by them");
    }
}

#[test]
fn a_desk_phone_without_the_browsers_media_says_so() {
    let (server, at) = started("");
    let _desk = Baresip::registered(&server, "9002", Answers::AtOnce);
    let caller = Browser::open(&format!("wss://{at}"), Page { call: "9002", ..page("jssip", "9001") });
    caller.wait("failed 488");
}

#[test]
fn a_killed_browser_is_unreachable_at_once_and_the_page_loaded_again_rings() {
    let (server, at) = started("[registrar]\nexclusive = \"ip\"\n");
    let url = format!("wss://{at}");
    let mut caller = server.phone("9001");
    assert_eq!(caller.register(300).line(), "200 OK");
    let with_instance = Page { instance: INSTANCE, ..page("jssip", "9002") };
    let mut killed = Browser::open(&url, with_instance);
    killed.wait("registered");
    killed.kill9();
    wait_for("the loss", PATIENCE, || (server.statistic("net:websocket_connections") == 0).then_some(()));
    let before = Instant::now();
    let invite = caller.invite("9002");
    let answer = caller.await_final("INVITE");
    assert_eq!(answer.status(), Some(480));
    report(&format!("a killed browser's caller hears 480 after {:?}", before.elapsed()));
    // Far below any timer; 200 ms is promised, on a machine that has time.
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    caller.send(ack_of_failure(&invite, &answer));

    let again = Browser::open(&url, with_instance);
    again.wait("registered");
    let shown = server.succeed(&["ul", "show", "9002"]);
    assert_eq!(
        (shown.matches("Contact:: ").count(), shown.matches("Flow:: lost").count()),
        (1, 0),
        "{shown}"
    );
    assert_eq!(server.rows(Some("9002")), 1);
}

#[test]
fn a_browser_that_loses_its_network_comes_back() {
    let (server, at) = started("");
    let relay = TcpRelay::start(at);
    let browser = Browser::open(&format!("wss://{}", relay.address), page("jssip", "9002"));
    browser.wait("registered");
    relay.cut();
    wait_for("the loss", PATIENCE, || (server.statistic("net:websocket_connections") == 0).then_some(()));
    browser.wait("registered");
    let call = Page { call: "9002", hangs_up: true, ..page("jssip", "9001") };
    let caller = Browser::open(&format!("wss://{at}"), call);
    caller.wait("ended by us");
    browser.wait("ended by them");
}
