//! Two real phones call one another through roost: answered, refused, given up, not there, not answered.
//!
//! Each call is made in two worlds: as the README starts roost, and with the values of an OpenSIPS script for tenants.

use std::time::{Duration, Instant};

use crate::support::{Answers, Baresip, PATIENCE, Server, report, wait_for};

/// A way to configure roost.
struct World {
    /// `use_domain`: extensions belong to 127.0.0.1, which is what the phones take for their domain.
    tenants: bool,
    sections: &'static str,
}

/// Of the defaults only two timers are not kept: baresip may take long on a busy machine, and nobody wants to watch a phone
/// ring for half a minute.
const DEFAULT: World = World { tenants: false, sections: "[tm]\nfr_timeout = 20\nfr_inv_timeout = 6\n" };
const TENANTS: World = World {
    tenants: true,
    sections: "[registrar]\nmin_expires = 30\nmax_expires = 300\ndefault_expires = 120\nmax_contacts = 1\n\
               [tm]\nfr_timeout = 20\nfr_inv_timeout = 6\n",
};

macro_rules! in_both_worlds {
    ($($call:ident)*) => {
        mod by_default {
            $(#[test] fn $call() { super::$call(&super::DEFAULT); })*
        }
        mod with_tenants {
            $(#[test] fn $call() { super::$call(&super::TENANTS); })*
        }
    };
}

in_both_worlds! {
    the_caller_hangs_up
    the_callee_hangs_up
    a_busy_callee_refuses
    the_caller_gives_up_while_it_rings
    an_unregistered_callee_is_not_found
    nobody_answers
    a_phone_that_answers_by_itself_is_called_back
}

fn the_caller_hangs_up(world: &World) {
    let server = world.server();
    let (mut caller, mut callee) = world.phones(&server);
    talk(&server, &mut caller, &mut callee);

    hang_up(&mut caller, &callee);
    assert_eq!((caller.calls(), callee.calls()), (0, 0));
}

fn the_callee_hangs_up(world: &World) {
    let server = world.server();
    let (mut caller, mut callee) = world.phones(&server);
    talk(&server, &mut caller, &mut callee);

    hang_up(&mut callee, &caller);
    assert_eq!((caller.calls(), callee.calls()), (0, 0));
}

fn a_busy_callee_refuses(world: &World) {
    let server = world.server();
    let (mut caller, mut callee) = world.phones(&server);
    ring(&server, &mut caller, &callee);

    callee.command("hangup", "");
    callee.wait_call("CALL_CLOSED");
    // baresip has a reason phrase of its own: what it says is what the caller hears.
    assert_eq!(caller.wait_call("CALL_CLOSED"), "486 Rejected");
    assert_eq!((caller.calls(), callee.calls()), (0, 0));
}

fn the_caller_gives_up_while_it_rings(world: &World) {
    let server = world.server();
    let (mut caller, mut callee) = world.phones(&server);
    ring(&server, &mut caller, &callee);

    hang_up(&mut caller, &callee);
    assert_eq!((caller.calls(), callee.calls()), (0, 0));

    // Nothing is left that would be in the way of the next call.
    talk(&server, &mut caller, &mut callee);
}

fn an_unregistered_callee_is_not_found(world: &World) {
    let server = world.server();
    let mut caller = Baresip::registered(&server, "9001", Answers::WhenTold);
    let mut callee = Baresip::registered(&server, "9002", Answers::WhenTold);
    callee.quit();
    wait_for("the end of its binding", PATIENCE, || (!callee.is_bound(&server)).then_some(()));

    caller.command("dial", &extension(&server, "9002"));
    assert_eq!(caller.wait_call("CALL_CLOSED"), "404 Not Found");
    caller.command("dial", &extension(&server, "9009"));
    assert_eq!(caller.wait_call("CALL_CLOSED"), "404 Not Found", "there is no such extension");
    assert_eq!(caller.calls(), 0);
}

fn nobody_answers(world: &World) {
    let server = world.server();
    let (mut caller, mut callee) = world.phones(&server);
    ring(&server, &mut caller, &callee);
    let since = Instant::now();

    assert_eq!(caller.wait_call("CALL_CLOSED"), "408 Request Timeout");
    let rung = since.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(16)).contains(&rung), "it rang for {rung:?}");
    assert_eq!(callee.wait_call("CALL_CLOSED"), "Connection reset by peer", "it rings no more");
    assert_eq!((caller.calls(), callee.calls()), (0, 0));
}

fn a_phone_that_answers_by_itself_is_called_back(world: &World) {
    let server = world.server();
    let mut caller = Baresip::registered(&server, "9001", Answers::AtOnce);
    let mut callee = Baresip::registered(&server, "9002", Answers::AtOnce);
    caller.command("dial", &extension(&server, "9002"));
    caller.wait_call("CALL_ESTABLISHED");
    callee.wait_call("CALL_ESTABLISHED");
    hang_up(&mut caller, &callee);

    callee.command("dial", &extension(&server, "9001"));
    callee.wait_call("CALL_ESTABLISHED");
    caller.wait_call("CALL_ESTABLISHED");
    hang_up(&mut caller, &callee);
}

/// The one test that stays for it: a transaction is kept for 32 seconds after its end.
#[test]
fn ended_calls_leave_no_transaction_behind() {
    let server = TENANTS.server();
    let (mut caller, mut callee) = TENANTS.phones(&server);
    talk(&server, &mut caller, &mut callee);
    hang_up(&mut caller, &callee);
    ring(&server, &mut caller, &callee);
    callee.command("hangup", "");
    assert_eq!(caller.wait_call("CALL_CLOSED"), "486 Rejected");
    ring(&server, &mut caller, &callee);
    hang_up(&mut caller, &callee);
    caller.command("dial", &extension(&server, "9009"));
    assert_eq!(caller.wait_call("CALL_CLOSED"), "404 Not Found");
    ring(&server, &mut caller, &callee);
    assert_eq!(caller.wait_call("CALL_CLOSED"), "408 Request Timeout");

    let kept = server.statistic("tm:inuse_transactions");
    assert!(kept > 0, "an ended transaction is kept for retransmissions");
    let took = server.wait_for_no_transactions();
    report(&format!("calls: {kept} transactions of five calls gone after {took:.1?}"));
}

impl World {
    /// A server with the extensions 9001 and 9002.
    fn server(&self) -> Server {
        let server = Server::started(&format!("use_domain = {}", self.tenants), self.sections);
        for user in ["9001", "9002"] {
            let domain: &[&str] = if self.tenants { &["--domain", "127.0.0.1"] } else { &[] };
            server.succeed(&[&["user", "add", user, user][..], domain].concat());
        }
        server
    }

    /// Both, registered; they answer when they are told.
    fn phones(&self, server: &Server) -> (Baresip, Baresip) {
        let phone = |user| Baresip::registered(server, user, Answers::WhenTold);
        (phone("9001"), phone("9002"))
    }
}

/// 9001 calls 9002, which rings.
fn ring(server: &Server, caller: &mut Baresip, callee: &Baresip) {
    caller.command("dial", &extension(server, &callee.user));
    let from = callee.wait_call("CALL_INCOMING");
    assert!(from.starts_with(&format!("sip:{}@", caller.user)), "a call from {from}");
    caller.wait_call("CALL_RINGING");
}

/// 9001 calls 9002, which answers; they hear one another, so the SDP has come as it was sent.
fn talk(server: &Server, caller: &mut Baresip, callee: &mut Baresip) {
    ring(server, caller, callee);
    callee.command("accept", "");
    for phone in [&*caller, &*callee] {
        phone.wait_calls(&["CALL_ESTABLISHED", "CALL_RTPESTAB"]);
    }
}

/// One ends the call, or gives up calling; the other's phone is told.
fn hang_up(one: &mut Baresip, other: &Baresip) {
    one.command("hangup", "");
    one.wait_call("CALL_CLOSED");
    assert_eq!(other.wait_call("CALL_CLOSED"), "Connection reset by peer");
}

fn extension(server: &Server, user: &str) -> String {
    format!("sip:{user}@{}", server.sip)
}
