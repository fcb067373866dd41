//! Numbers that stand for extensions, and networks that are trusted: of the configuration, and of OpenSIPS's tables.

use serde_json::{Value, json};

use crate::support::{Phone, Server, ack_of_failure, cancel_of};

/// A call that the callee refuses, or ends unasked.
fn rings(caller: &mut Phone, number: &str, callee: &Phone) {
    let invite = caller.invite(number);
    let asked = callee.await_request("INVITE");
    callee.send(callee.answer(&asked, "486 Busy Here"));
    assert_eq!(caller.await_outcome(&invite).status(), Some(486), "{number}");
    callee.await_request("ACK");
}

#[test]
fn a_number_stands_for_an_extension() {
    let server = Server::for_calls(
        "[[alias]]\nnumber = \"4001\"\nextension = \"9002\"\n[[alias]]\nnumber = \"sales\"\nextension = \"9003\"\n",
    );
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    rings(&mut caller, "4001", &callee);
    rings(&mut caller, "9002", &callee);
    // A call with its whole course, a CANCEL and a retransmission; with two workers some of these cross them.
    let invite = caller.invite("4001");
    let asked = callee.await_request("INVITE");
    caller.send(&invite);
    callee.send(callee.answer(&asked, "180 Ringing"));
    caller.await_status(180, "INVITE");
    caller.send(cancel_of(&invite));
    let cancel = callee.await_request("CANCEL");
    callee.send(callee.answer(&cancel, "200 OK"));
    callee.send(callee.answer(&asked, "487 Request Terminated"));
    assert_eq!(caller.await_outcome(&invite).status(), Some(487));
    assert_eq!(
        server.mi("dlg_list", Value::Null).expect("calls")["Dialogs"].as_array().map(Vec::len),
        Some(0)
    );
    let invite = caller.invite("sales");
    assert_eq!(caller.await_outcome(&invite).status(), Some(404), "9003 is not registered");
    let tried = server.succeed(&["try", "invite", "9001", "4001"]);
    assert!(tried.contains("4001 is an alias of 9002") && tried.contains("9002 is registered"), "{tried}");
}

#[test]
fn aliases_of_the_database_are_read_again_when_asked() {
    let server = Server::for_calls("[alias_db]\ntable = \"dbaliases\"\n");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let invite = caller.invite("4001");
    assert_eq!(caller.await_outcome(&invite).status(), Some(404));
    server.sql("INSERT INTO dbaliases (alias_username, username) VALUES ('4001', '9002'), ('4002', '4001')");
    let changed = server.mi("address_reload", Value::Null).expect("a list");
    assert_eq!(changed[0]["Old"], "0 aliases", "{changed}");
    assert_eq!(changed[0]["New"], "1 aliases", "one stands for another alias, and is left out: {changed}");
    rings(&mut caller, "4001", &callee);
    assert_eq!(server.mi("address_reload", Value::Null).expect("a list"), json!([]));
}

#[test]
fn networks_of_the_database_need_no_password() {
    let server = Server::for_calls(
        "[proxy]\ntrusted = [\"127.0.1.0/24\"]\n[permissions]\naddress_table = \"address\"\ngroups = [\"1\"]\n",
    );
    let callee = server.registered("9001");
    let of = |address: &str| {
        let mut phone = Phone::at(address, server.sip, "0301", "");
        let invite = phone.invite("9001");
        let answer = phone.await_message("an answer", |message| {
            message.status().is_some_and(|status| status >= 180) || message.status() == Some(407)
        });
        let status = answer.status().expect("a status");
        if status == 486 || status == 407 {
            phone.send(ack_of_failure(&invite, &answer));
        }
        status
    };
    let busy = std::thread::scope(|scope| {
        let answers = scope.spawn(|| {
            for _ in 0..2 {
                let asked = callee.await_request("INVITE");
                callee.send(callee.answer(&asked, "486 Busy Here"));
                callee.await_request("ACK");
            }
        });
        let first = (of("127.0.1.9"), of("127.0.2.9"));
        server.sql("INSERT INTO address (grp, ip, mask) VALUES (1, '127.0.2.0', 24), (2, '127.0.3.0', 24)");
        server.mi("address_reload", Value::Null).expect("a list");
        let then = (of("127.0.2.9"), of("127.0.3.9"));
        answers.join().expect("the callee");
        (first, then)
    });
    assert_eq!(busy, ((486, 407), (486, 407)));
    let shown = server.mi("address_dump", Value::Null).expect("networks");
    assert_eq!(shown["Networks"], json!(["127.0.1.0/24", "127.0.2.0/24"]));
}

#[test]
fn a_table_that_is_not_there_is_named_with_its_key() {
    let server = Server::for_calls("[permissions]\naddress_table = \"address\"\n");
    server.sql("DROP TABLE address");
    server.sql("CREATE TABLE address (ip TEXT)");
    let (_, message) = server.mi("address_reload", Value::Null).expect_err("it cannot be read");
    assert!(message.contains("the table address ([permissions] address_table) cannot be read"), "{message}");
}
