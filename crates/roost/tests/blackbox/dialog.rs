//! Calls in progress: who talks to whom, as operators see it, and calls that they end.

use serde_json::{Value, json};

use crate::support::{Dialog, PATIENCE, Server, ack_of_failure, wait_for};

fn calls(server: &Server) -> Vec<Value> {
    let list = server.mi("dlg_list", json!({})).expect("a list");
    list["Dialogs"].as_array().cloned().unwrap_or_default()
}

fn await_calls(server: &Server, count: usize) -> Vec<Value> {
    wait_for(&format!("{count} calls"), PATIENCE, || Some(calls(server)).filter(|calls| calls.len() == count))
}

#[test]
fn a_call_is_listed_from_its_invite_to_its_bye() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    assert!(calls(&server).is_empty());
    caller.invite("9002");
    let invite = callee.await_request("INVITE");
    let state = |state: u64| {
        wait_for(&format!("state {state}"), PATIENCE, || {
            Some(calls(&server)).filter(|calls| calls.len() == 1 && calls[0]["state"] == state)
        })
    };
    assert_eq!(state(1)[0]["caller_aor"], "9001");
    callee.answer(&invite, "180 Ringing");
    caller.await_status(180, "INVITE");
    let shown = server.succeed(&["calls"]);
    assert!(shown.contains("ringing") && shown.contains("9001") && shown.contains("9002"), "{shown}");
    assert_eq!((server.statistic("dialog:early_dialogs"), server.statistic("dialog:active_dialogs")), (1, 0));
    callee.answer(&invite, "200 OK");
    let ok = caller.await_status(200, "INVITE");
    let mut ours = Dialog::of_caller(&caller, &ok);
    state(3);
    caller.send(ours.request("ACK", &[]));
    callee.await_request("ACK");
    let call = state(4).remove(0);
    assert_eq!(
        (call["callee_aor"].as_str(), call["callid"].as_str()),
        (Some("9002"), Some(caller.call_id.as_str()))
    );
    assert_eq!(call["caller_contact"], caller.contact);
    assert_eq!(call["CALLEES"][0]["callee_contact"], callee.contact);
    assert_eq!(call["caller_bind_addr"], format!("udp:{}", server.sip));
    let of_call_id = |id: &str| server.mi("dlg_list", json!({"callid": id}));
    assert_eq!(of_call_id(&caller.call_id).expect("it")["count"], 1);
    assert_eq!(of_call_id("another").expect_err("none").0, 404);
    assert!(server.succeed(&["calls"]).contains("answered"));
    caller.send(ours.request("BYE", &[]));
    let bye = callee.await_request("BYE");
    callee.answer(&bye, "200 OK");
    caller.await_status(200, "BYE");
    await_calls(&server, 0);
    // One that is not answered.
    let invite = caller.invite("9002");
    let received = callee.await_request("INVITE");
    await_calls(&server, 1);
    callee.answer(&received, "486 Busy Here");
    let busy = caller.await_final("INVITE");
    caller.send(ack_of_failure(&invite, &busy));
    await_calls(&server, 0);
    assert_eq!(server.statistic("dialog:processed_dialogs"), 2);
    assert_eq!(server.statistic("dialog:failed_dialogs"), 1);
}

#[test]
fn an_operator_ends_a_call_and_both_phones_hear_a_bye() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    caller.establish(&callee);
    let id = await_calls(&server, 1)[0]["ID"].as_str().expect("an ID").to_owned();
    assert_eq!(server.roost(&["calls", "end", "nonsense"]).code, Some(1));
    let said = server.succeed(&["calls", "end", &id]);
    assert!(said.contains("is over"), "{said}");
    for phone in [&caller, &callee] {
        let bye = phone.await_request("BYE");
        assert_eq!(bye.uri(), phone.contact);
        assert_eq!(bye.header("Call-ID"), Some(caller.call_id.as_str()));
        phone.answer(&bye, "200 OK");
    }
    await_calls(&server, 0);
    assert_eq!(server.roost(&["calls", "end", &id]).code, Some(1), "it is over");
}

#[test]
fn a_call_says_when_it_ends_by_itself() {
    let server = Server::for_calls("[dialog]\ndefault_timeout = 60\n");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    caller.establish(&callee);
    let call = await_calls(&server, 1).remove(0);
    let (from, until) =
        (call["timestart"].as_u64().expect("a time"), call["timeout"].as_u64().expect("a time"));
    assert!((59..=61).contains(&(until - from)), "{call}");
}

#[test]
fn agents_have_states_and_no_more_calls_than_they_may() {
    for workers in [1, 4] {
        let mut server = Server::prepared(&format!("workers = {workers}"), "[dialog]\nmax_calls = 2\n");
        server.add_users(9001, 4);
        server.start();
        let state = |user: &str, expected: &str| {
            wait_for(&format!("{user} {expected}"), PATIENCE, || {
                let list = server.mi("agent_list", json!({"aor": user})).expect("a list");
                (list["Agents"][0]["state"] == expected).then_some(())
            });
        };
        let mut agent = server.phone("9001");
        state("9001", "UNAVAILABLE");
        assert_eq!(agent.register(300).line(), "200 OK");
        let mut others = ["9002", "9003", "9004"].map(|user| server.registered(user));
        state("9001", "NOT_INUSE");
        others[0].invite("9001");
        let first = agent.await_request("INVITE");
        state("9001", "RINGING");
        state("9002", "INUSE");
        agent.answer(&first, "200 OK");
        let ok = others[0].await_status(200, "INVITE");
        let mut dialog = Dialog::of_caller(&others[0], &ok);
        others[0].send(dialog.request("ACK", &[]));
        state("9001", "INUSE");
        // It calls somebody else: that is all it may.
        let mut second = agent.establish(&others[1]).0;
        state("9001", "BUSY");
        let invite = others[2].invite("9001");
        let busy = others[2].await_final("INVITE");
        others[2].send(ack_of_failure(&invite, &busy));
        assert_eq!(busy.line(), "486 Busy Here");
        let invite = agent.invite("9004");
        let refused = agent.await_final("INVITE");
        agent.send(ack_of_failure(&invite, &refused));
        assert_eq!(refused.line(), "403 Forbidden");
        let shown = server.succeed(&["agents"]);
        assert!(shown.contains("BUSY") && shown.contains("NOT_INUSE"), "{shown}");
        // One ends, and there is room for another.
        agent.send(second.request("BYE", &[]));
        let bye = others[1].await_request("BYE");
        others[1].answer(&bye, "200 OK");
        state("9003", "NOT_INUSE");
        state("9001", "INUSE");
        others[2].invite("9001");
        agent.await_message("the call", |message| {
            message.method() == Some("INVITE") && message.text.contains("<sip:9004@")
        });
        state("9001", "BUSY");
    }
}

#[test]
fn a_call_goes_on_after_kill_9_under_its_id() {
    for workers in [(1, 1), (4, 4), (4, 1), (1, 4)] {
        let mut server = Server::prepared(&format!("workers = {}", workers.0), "[acc]\ndb = true\n");
        server.add_users(9001, 4);
        server.start();
        let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
        let (mut third, fourth) = (server.registered("9003"), server.registered("9004"));
        let (_, mut theirs) = caller.establish(&callee);
        let (mut ours, _) = third.establish(&fourth);
        let before = await_calls(&server, 2);
        std::thread::sleep(std::time::Duration::from_secs(1));
        server.kill9();
        // Its end comes while roost is away; one side sends it again.
        let bye = theirs.request("BYE", &[]);
        callee.send(&bye);
        server.replace_in_config(&format!("workers = {}", workers.0), &format!("workers = {}", workers.1));
        server.start();
        let mut after = await_calls(&server, 2);
        let key = |call: &Value| call["ID"].as_str().map(str::to_owned);
        let mut before = before;
        before.sort_by_key(key);
        after.sort_by_key(key);
        for (before, after) in before.iter().zip(&after) {
            for field in ["ID", "callid", "caller_aor", "callee_aor", "timestart", "caller_tag", "CALLEES"] {
                // Whoever had its acknowledgement counted may have it again.
                assert_eq!(before[field], after[field], "{field} {workers:?}");
            }
        }
        let agent = server.mi("agent_list", json!({ "aor": "9001" })).expect("a list");
        assert_eq!(agent["Agents"][0]["state"], "INUSE");
        callee.send(&bye);
        let received = caller.await_request("BYE");
        caller.answer(&received, "200 OK");
        assert_eq!(callee.await_final("BYE").line(), "200 OK");
        await_calls(&server, 1);
        third.send(ours.request("BYE", &[]));
        let received = fourth.await_request("BYE");
        fourth.answer(&received, "200 OK");
        await_calls(&server, 0);
        wait_for("both records", PATIENCE, || (server.statistic("acc:records") == 2).then_some(()));
        // What has ended does not come back.
        std::thread::sleep(std::time::Duration::from_millis(500));
        server.kill9();
        server.start();
        assert!(calls(&server).is_empty());
        assert_eq!(server.sql("SELECT count(*) FROM acc WHERE ended_by IN ('caller', 'callee')").trim(), "2");
    }
}
