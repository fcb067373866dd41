//! A real phone, against the server as the README starts it: baresip registers, stays through a kill -9, leaves.

use crate::support::{Answers, Baresip, PATIENCE, Server, wait_for};

#[test]
fn baresip_registers_survives_a_kill_and_leaves() {
    let mut server = Server::on_default_ports();
    server.start();
    server.succeed(&["user", "add", "9001", "9001"]);

    let mut phone = Baresip::start(&server, "9001", Answers::WhenTold);
    // Its Contact is sip:9001-0x55d0c0ffee00@127.0.0.1:PORT.
    let at = format!("@127.0.0.1:{} Q=", phone.port);
    wait_for("baresip in ul show", PATIENCE, || {
        let shown = server.roost(&["ul", "show", "9001"]);
        (shown.code == Some(0) && shown.stdout.contains(&at)).then_some(())
    });

    server.kill9();
    server.start();
    let shown = server.succeed(&["ul", "show", "9001"]);
    assert!(shown.contains(&at) && shown.contains("User-agent:: baresip"), "after kill -9:\n{shown}");

    // It unregisters before it ends, with a nonce that the killed server gave.
    phone.quit();
    wait_for("the end of the binding", PATIENCE, || {
        let shown = server.roost(&["ul", "show", "9001"]);
        (shown.code == Some(1) && shown.stderr.contains("404 AOR not found")).then_some(())
    });
    assert_eq!(server.stop(), Some(0));
}
