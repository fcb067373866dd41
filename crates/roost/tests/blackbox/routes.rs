//! Calls to media servers (`[[route]]`): routed, failed over when one is killed, back when it returns; and their calls
//! to extensions.

use std::fs;

use crate::support::{
    A_WHILE, Dialog, MediaServer, Message, PATIENCE, Phone, Server, ack_of_failure, wait_for,
};
use serde_json::{Value, json};

/// Quick to see that nobody answers.
const QUICK: &str = "[tm]\nfr_timeout = 1\n[dispatcher]\nds_ping_interval = 1\nds_probing_threshold = 2\n";

fn route(keys: &str, hops: &[&MediaServer]) -> String {
    let hops: Vec<_> = hops.iter().map(|hop| format!("{:?}", hop.uri())).collect();
    format!("[[route]]\n{keys}\nhops = [{}]\n", hops.join(", "))
}

/// Calls a number, and hangs up when it is answered; which server took the call, or the refusal.
fn call(phone: &mut Phone, number: &str) -> Result<String, Message> {
    let invite = phone.invite(number);
    let answer =
        phone.await_message("an answer", |message| message.status().is_some_and(|status| status >= 200));
    if answer.status() != Some(200) {
        phone.send(ack_of_failure(&invite, &answer));
        return Err(answer);
    }
    let mut dialog = Dialog::of_caller(phone, &answer);
    phone.send(dialog.request("ACK", &[]));
    phone.send(dialog.request("BYE", &[]));
    phone.await_status(200, "BYE");
    Ok(dialog.target.clone())
}

fn taken_by(hop: &MediaServer) -> String {
    format!("sip:media@{}", hop.address)
}

/// State and first hits of a hop in `ds_list`.
fn listed(server: &Server, uri: &str) -> (String, u64) {
    let list = server.mi("ds_list", Value::Null).expect("a list");
    assert_eq!(list["PARTITIONS"][0]["name"], "default", "{list}");
    let sets = list["PARTITIONS"][0]["SETS"].as_array().expect("sets");
    let all = sets.iter().flat_map(|set| set["Destinations"].as_array().expect("destinations"));
    let found = all.into_iter().find(|hop| hop["URI"] == uri).unwrap_or_else(|| panic!("no {uri} in {list}"));
    let hits = found["first_hit_counter"].as_u64().expect("a number");
    (found["state"].as_str().expect("a state").to_owned(), hits)
}

fn await_state(server: &Server, uri: &str, state: &str) {
    wait_for(&format!("{uri} {state}"), PATIENCE, || (listed(server, uri).0 == state).then_some(()));
}

#[test]
fn a_number_that_is_no_extension_goes_to_the_first_media_server_that_is_up() {
    let (first, second) = (MediaServer::new("127.0.0.2"), MediaServer::new("127.0.0.3"));
    let server = Server::for_calls(&format!(
        "{QUICK}{}",
        route("prefix = \"0\"\nstrip = 1\nprepend = \"00\"", &[&first, &second])
    ));
    let mut phone = server.registered("9001");
    assert_eq!(call(&mut phone, "0301").unwrap(), taken_by(&first));
    let invite = first.heard("INVITE").remove(0);
    assert!(invite.starts_with(&format!("INVITE sip:00301@{} SIP/2.0\r\n", first.address)), "{invite}");
    assert_eq!(first.heard("BYE").len(), 1, "the dialog's requests reach it too");
    assert_eq!(listed(&server, &first.uri()), ("Active".into(), 1));

    // Killed: the call goes to the other one, after fr_timeout at first, at once when the pings have told.
    let uri = first.uri();
    let address = first.kill();
    assert_eq!(call(&mut phone, "0301").unwrap(), taken_by(&second));
    await_state(&server, &uri, "Probing");
    let before = std::time::Instant::now();
    assert_eq!(call(&mut phone, "0301").unwrap(), taken_by(&second));
    assert!(before.elapsed() < A_WHILE, "it is passed over: {:?}", before.elapsed());
    assert_eq!(listed(&server, &second.uri()), ("Active".into(), 1));

    // It returns.
    let first = MediaServer::answering(address, "200 OK");
    await_state(&server, &uri, "Active");
    assert_eq!(call(&mut phone, "0301").unwrap(), taken_by(&first));

    // Both are gone: nobody is asked.
    let second_uri = second.uri();
    drop((first, second));
    await_state(&server, &uri, "Probing");
    await_state(&server, &second_uri, "Probing");
    assert_eq!(call(&mut phone, "0301").unwrap_err().line(), "503 Service Unavailable");
}

#[test]
fn a_server_that_is_full_is_followed_by_the_next_and_a_busy_number_is_not() {
    let address = MediaServer::new("127.0.0.2").kill();
    let full = MediaServer::answering(address, "503 Full");
    let second = MediaServer::new("127.0.0.3");
    let server = Server::for_calls(&format!("{QUICK}{}", route("user = \"^8[0-9]{3}$\"", &[&full, &second])));
    let mut phone = server.registered("9001");
    assert_eq!(call(&mut phone, "8001").unwrap(), taken_by(&second));
    assert_eq!(full.heard("INVITE").len(), 1);
    drop(full);
    let busy = MediaServer::answering(address, "486 Busy Here");
    assert_eq!(call(&mut phone, "8001").unwrap_err().line(), "486 Busy Here");
    assert_eq!((busy.heard("INVITE").len(), second.heard("INVITE").len()), (1, 1));
    assert_eq!(call(&mut phone, "80011").unwrap_err().line(), "404 Not Found", "no route is for it");
}

#[test]
fn extensions_win_over_routes() {
    let media = MediaServer::new("127.0.0.2");
    let server = Server::for_calls(&format!(
        "{QUICK}{}{}",
        route("user = \"^9003$\"\noffline = true", &[&media]),
        route("prefix = \"9\"", &[&media])
    ));
    let mut caller = server.registered("9001");
    let callee = server.registered("9002");
    caller.establish(&callee);
    assert_eq!(media.heard("INVITE").len(), 0);
    drop(callee);
    // An extension that exists and is not registered is not a number of another network's, unless the route says so.
    let mut other = server.registered("9002");
    assert_eq!(other.unregister().line(), "200 OK");
    assert_eq!(call(&mut caller, "9002").unwrap_err().line(), "404 Not Found");
    assert_eq!(call(&mut caller, "9003").unwrap(), taken_by(&media));
    assert_eq!(call(&mut caller, "9004").unwrap(), taken_by(&media));
    assert_eq!(server.statistic("roost:auth_failures"), 0);
}

#[test]
fn media_servers_call_extensions_without_a_password() {
    let media = MediaServer::new("127.0.0.2");
    let server = Server::for_calls(&format!("{QUICK}{}", route("prefix = \"0\"", &[&media])));
    let callee = server.registered("9001");
    let mut from_media = Phone::at("127.0.0.2", server.sip, "0301", "");
    let (mut caller_side, _) = from_media.establish(&callee);
    from_media.send(caller_side.request("BYE", &[]));
    callee.await_request("BYE");
    // Somebody at another address is asked for a password as ever.
    let mut stranger = Phone::at("127.0.0.4", server.sip, "0301", "");
    assert_eq!(call(&mut stranger, "9001").unwrap_err().status(), Some(407));
    // And so is who wants to call out.
    assert_eq!(call(&mut stranger, "0301").unwrap_err().status(), Some(407));
    assert_eq!(media.heard("INVITE").len(), 0);
}

#[test]
fn operators_take_a_server_out_and_back_in() {
    let (first, second) = (MediaServer::new("127.0.0.2"), MediaServer::new("127.0.0.3"));
    let server =
        Server::for_calls(&format!("{QUICK}{}", route("prefix = \"0\"\nset = 7", &[&first, &second])));
    let mut phone = server.registered("9001");
    assert_eq!(
        server.mi("ds_set_state", json!({"state": "i", "group": "7", "address": first.uri()})),
        Ok(json!("OK"))
    );
    assert_eq!(listed(&server, &first.uri()).0, "Inactive");
    let pings = first.heard("OPTIONS").len();
    assert_eq!(call(&mut phone, "0301").unwrap(), taken_by(&second));
    let more = second.heard("OPTIONS").len() + 2;
    wait_for("pings of the other one", PATIENCE, || (second.heard("OPTIONS").len() >= more).then_some(()));
    assert!(first.heard("OPTIONS").len() <= pings + 1, "it is not pinged");
    assert_eq!(listed(&server, &first.uri()).0, "Inactive");

    let said = server.succeed(&["ds", "set-state", "active", "7", &first.uri()]);
    assert_eq!(said, format!("next hop {} of set 7 is active\n", first.uri()));
    assert_eq!(call(&mut phone, "0301").unwrap(), taken_by(&first));
    let table = server.succeed(&["ds", "list"]);
    let line = table.lines().find(|line| line.contains(&first.uri())).unwrap_or_else(|| panic!("{table}"));
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words, ["7", &first.uri(), "Active", "1", &first.address.to_string()]);
    let list: Value = serde_json::from_str(&server.succeed(&["--json", "ds", "list"])).expect("JSON");
    assert_eq!(list["PARTITIONS"][0]["SETS"][0]["id"], 7, "{list}");

    for (params, expected) in [
        (json!({"state": "x", "group": "7", "address": first.uri()}), (500, "bad state value")),
        (json!({"state": "a", "group": "8", "address": first.uri()}), (404, "destination not found")),
        (json!({"state": "a", "group": "seven", "address": first.uri()}), (400, "bad group value")),
        (json!({"state": "a", "group": "other:7", "address": first.uri()}), (404, "no such partition")),
    ] {
        let (code, message) = server.mi("ds_set_state", params).unwrap_err();
        assert_eq!((code, message.as_str()), expected);
    }
    let ran = server.roost(&["ds", "set-state", "active", "7", "sip:10.0.0.1"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("`roost ds list` shows them all"), "{}", ran.stderr);
}

#[test]
fn routes_are_read_anew_without_a_restart_and_a_broken_file_changes_nothing() {
    let (first, second) = (MediaServer::new("127.0.0.2"), MediaServer::new("127.0.0.3"));
    let server = Server::for_calls(&format!("{QUICK}{}", route("prefix = \"0\"", &[&first])));
    let mut phone = server.registered("9001");
    let file = server.path("roost.toml");
    let text = fs::read_to_string(&file).expect("the configuration");
    server.mi("ds_set_state", json!(["i", "1", first.uri()])).expect("OK");

    fs::write(&file, format!("{text}{}", route("prefix = \"8\"", &[&second]))).expect("written");
    assert_eq!(server.succeed(&["ds", "reload"]), "routes read anew\n");
    assert_eq!(call(&mut phone, "8001").unwrap(), taken_by(&second));
    assert_eq!(listed(&server, &first.uri()).0, "Inactive", "what was known of a hop stays known");
    let mut from_media = Phone::at("127.0.0.3", server.sip, "8001", "");
    from_media.invite("9001");
    phone.await_request("INVITE");

    fs::write(&file, format!("{text}[[route]]\nprefix = \"8\"\n")).expect("written");
    let (code, message) = server.mi("ds_reload", Value::Null).unwrap_err();
    let line = text.lines().count() + 1;
    assert!(
        code == 500 && message.contains(&format!("roost.toml:{line}: `route.hops` must name")),
        "{message}"
    );
    let ran = server.roost(&["--json", "ds", "reload"]);
    assert_eq!(ran.code, Some(1), "the command line reads the same file: {}", ran.stderr);
    assert_eq!(call(&mut phone, "8001").unwrap(), taken_by(&second));

    fs::write(&file, &text).expect("written");
    assert_eq!(server.mi("dispatcher:reload", json!({})), Ok(json!("OK")));
    assert_eq!(call(&mut phone, "8001").unwrap_err().line(), "404 Not Found");
}
