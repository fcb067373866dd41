//! What only an engine by itself shows: rules that a mutant of the core has broken unseen once.

use roost_core::{Admin, CommitOutcome, Config, Flow, Listener, Receipt, ShardEvent, Transport};
use roost_sim::harness::{
    Harness, Words, known, memory, of_invite, open, phone, request, response, ringing, subscriber,
};
use roost_sim::scenario::SERVER;

const CONTACT: &str = "Contact: <sip:x@10.2.0.1>\r\n";

#[test]
fn a_secret_is_asked_for_again_after_its_time() {
    let mut harness = Harness::new(memory);
    let ticket = harness.register("0", CONTACT).loads[0];
    assert_eq!(harness.receipt(known(ticket)).codes, [200]);
    for ms in [0, 59_999] {
        harness.wait(ms);
        harness.challenge = None;
        assert_eq!(harness.register("0", CONTACT).codes, [200], "after {ms} ms");
    }
    harness.wait(1);
    harness.challenge = None;
    assert_eq!(harness.register("0", CONTACT).loads.len(), 1);
    // Somebody who is unknown may have been added a moment ago.
    let ticket = harness.register("new", CONTACT).loads[0];
    assert_eq!(harness.receipt(Receipt::Credentials(ticket, Ok(None))).codes, [404]);
    assert_eq!(harness.register("new", CONTACT).codes, [404]);
    harness.wait(1_000);
    let ticket = harness.register("new", CONTACT).loads[0];
    assert_eq!(harness.receipt(known(ticket)).codes, [200]);
}

#[test]
fn a_response_that_is_not_to_be_trusted_goes_nowhere() {
    let mut harness = Harness::new(open);
    harness.bind("9", &format!("sip:x@{}", phone(2)));
    let invite = harness.invite(1, "9", 0).texts.pop().expect("the INVITE");
    let honest = response(&invite, "180 Ringing");
    let forged = [
        honest.replace("CSeq: 1 INVITE", "CSeq: 1 OPTIONS"),
        honest.replace("\r\nContent-Length", "\r\nX: a\rb\r\nContent-Length"),
        honest.replace("Content-Length: 0", "Content-Length: 1"),
        honest.replace("Content-Length: 0", "Content-Length: x"),
        honest.replace("Content-Length: 0", "Content-Length: 0\r\nContent-Length: 0"),
        honest.replace("\r\nCall-ID", "\r\nCall-ID: other\r\nCall-ID"),
        honest.replace("\r\nFrom", "\r\nFrom: <sip:x@y>\r\nFrom"),
    ];
    for (count, text) in (1..).zip(&forged) {
        let said = harness.send(phone(2), text);
        assert!(said.texts.is_empty(), "{text} brought {:?}", said.texts);
        assert_eq!(harness.count("core:drop_replies"), count, "{text}");
    }
    assert_eq!(harness.send(phone(2), &honest).codes, [180]);
}

#[test]
fn a_password_opens_its_own_extension_only() {
    let mut harness = Harness::with_users(2, memory);
    let other = Words { user: "1", password: "wrong", headers: CONTACT, ..Words::default() };
    assert_eq!(harness.register_as(phone(1), &other).codes, [403]);
    assert_eq!(harness.register("1", CONTACT).codes, [200]);
}

#[test]
fn a_nonce_that_may_be_used_once_covers_all_that_is_asked_for() {
    let mut harness = Harness::with_users(1, |config| {
        memory(config);
        config.policy.auth.disable_nonce_check = false;
        config.policy.registrar.exclusive_ip = false;
    });
    let words = Words { headers: "Contact: <sip:x@10.2.0.1>\r\nExpires: 60\r\n", ..Words::default() };
    let text = harness.register_text(&words);
    assert_eq!(harness.send(phone(1), &text).codes, [200]);
    assert_eq!(harness.send(phone(1), &text).codes, [200], "the same again");
    for (from, to) in [
        ("sip:x@10.2.0.1", "sip:x@10.2.0.7"),
        ("Expires: 60", "Expires: 0"),
        ("To: <sip:0@", "To: \"x\" <sip:0@"),
        ("REGISTER sip:roost.test SIP", "REGISTER sip:other.test SIP"),
    ] {
        let said = harness.send(phone(1), &text.replace(from, to));
        assert_eq!(said.codes, [401], "{to}");
        assert!(said.texts[0].contains("stale=true"));
    }
}

#[test]
fn a_phone_may_ring_for_fr_inv_timeout() {
    let mut harness = Harness::new(open);
    ringing(&mut harness, 1);
    let mut heard = Vec::new();
    for _ in 0..59 {
        let said = harness.wait(500);
        heard.extend(said.codes);
        assert!(said.requests.is_empty());
    }
    assert_eq!(heard, [], "half a second before");
    let said = harness.wait(500);
    assert_eq!((said.codes, said.requests.len()), (vec![408], 1), "the caller hears, the phone is cancelled");
}

#[test]
fn each_180_gives_a_phone_more_time_where_that_is_wanted() {
    let mut harness = Harness::new(|config| {
        open(config);
        config.policy.tm.restart_fr_on_each_reply = true;
    });
    let invite = ringing(&mut harness, 1).remove(0);
    for _ in 0..40 {
        harness.wait(500);
    }
    assert_eq!(harness.send(phone(2), &response(&invite, "180 Ringing")).codes, [180]);
    let silent_ms = (0..200).find(|_| !harness.wait(500).codes.is_empty()).expect("an end") * 500;
    assert!((29_000..=32_000).contains(&silent_ms), "{silent_ms} ms after the second 180");
}

#[test]
fn the_caller_hears_of_a_failure_when_the_last_phone_has_failed() {
    let mut harness = Harness::new(open);
    let invites = ringing(&mut harness, 3);
    for (invite, number) in invites.iter().zip(2..).take(2) {
        let said = harness.send(phone(number), &response(invite, "486 Busy Here"));
        assert_eq!((said.codes, said.requests), (vec![], vec![phone(number)]), "its ACK and nothing else");
    }
    let said = harness.send(phone(4), &response(&invites[2], "486 Busy Here"));
    assert_eq!(said.codes, [486]);
}

#[test]
fn a_branch_is_cancelled_once_and_gives_back_what_it_held() {
    let mut harness = Harness::new(open);
    let invites = ringing(&mut harness, 2);
    let cancel = of_invite(&invites[0], "CANCEL");
    let said = harness.send(phone(1), &cancel);
    assert_eq!((said.codes, said.requests), (vec![200], vec![phone(2), phone(3)]));
    // One declines, which ends all others: the other one has its CANCEL already.
    let said = harness.send(phone(2), &response(&invites[0], "603 Decline"));
    assert_eq!(said.requests, [phone(2)], "the ACK");
    for (invite, number) in invites.iter().zip(2..) {
        harness.send(phone(number), &response(&invite.replace("CSeq: 1 INVITE", "CSeq: 1 CANCEL"), "200 OK"));
    }
    harness.send(phone(3), &response(&invites[1], "487 Request Terminated"));
    for _ in 0..300 {
        harness.wait(500);
    }
    assert_eq!((harness.count("tm:inuse_transactions"), harness.count("roost:transaction_bytes")), (0, 0));
}

/// A phone at TCP is called; the INVITE that it is sent.
fn called_over_tcp() -> (Harness, String) {
    let mut harness = Harness::new(|config| {
        open(config);
        let tcp = Listener { transport: Transport::Tcp, ..config.policy.listeners[0] };
        config.policy.listeners.push(tcp);
    });
    harness.bind("9", &format!("sip:x@{};transport=tcp", phone(2)));
    let invite = harness.invite(1, "9", 0).texts.pop().expect("the INVITE");
    (harness, invite)
}

/// What the connections' threads have no room for now is not sent; their connections live.
#[test]
fn no_room_for_a_message_takes_no_phone_its_way() {
    let (mut harness, invite) = called_over_tcp();
    let flow = Flow { transport: Transport::Tcp, connection: 7, ..Flow::udp(SERVER, phone(2)) };
    let said = harness.hear(ShardEvent::NoRoom(flow, invite.into_bytes().into()));
    assert_eq!(said.codes, [477], "the caller hears at once");
    let response = b"SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP 10.0.0.9;branch=z9hG4bK1\r\n\r\n";
    let said = harness.hear(ShardEvent::NoRoom(flow, (*response).into()));
    assert!(said.texts.is_empty(), "no other way is better: {:?}", said.texts);
}

#[test]
fn a_connection_that_breaks_after_the_answer_changes_nothing() {
    let (mut harness, invite) = called_over_tcp();
    let flow = Flow { transport: Transport::Tcp, ..Flow::udp(SERVER, phone(2)) };
    let unsent = || ShardEvent::Unsent(flow, invite.clone().into_bytes().into());
    harness.send(phone(2), &response(&invite, "200 OK"));
    let said = harness.hear(unsent());
    assert!(said.texts.is_empty(), "{:?}", said.texts);
    // Before it, the call has failed.
    let invite = harness.invite(1, "9", 0).texts.pop().expect("the INVITE");
    let said = harness.hear(ShardEvent::Unsent(flow, invite.clone().into_bytes().into()));
    assert_eq!(said.codes.len(), 1);
    assert!(harness.hear(ShardEvent::Unsent(flow, invite.into_bytes().into())).codes.is_empty(), "once");
    // After it, too; and a phone that rings after all, over another connection, is silenced as ever.
    let invite = harness.invite(1, "9", 0).texts.pop().expect("the INVITE");
    assert_eq!(harness.wait(6_000).codes.last(), Some(&408));
    assert!(harness.hear(ShardEvent::Unsent(flow, invite.clone().into_bytes().into())).texts.is_empty());
    assert_eq!(harness.send(phone(2), &response(&invite, "180 Ringing")).requests, [phone(2)]);
}

#[test]
fn all_challenges_of_a_fork_reach_the_caller_and_none_goes_with_another_answer() {
    let challenge = |name: &str, realm: &str| {
        format!("\r\n{name}: Digest realm=\"{realm}\", nonce=\"1\"\r\nContent-Length")
    };
    let with = |invite: &str, line: &str, challenge: &str| {
        response(invite, line).replace("\r\nContent-Length", challenge)
    };
    let proxy = |realm: &str| challenge("Proxy-Authenticate", realm);
    let mut harness = Harness::new(open);
    let invites = ringing(&mut harness, 3);
    harness.send(phone(2), &with(&invites[0], "407 Proxy Authentication Required", &proxy("one")));
    harness.send(phone(3), &with(&invites[1], "401 Unauthorized", &challenge("WWW-Authenticate", "two")));
    let said =
        harness.send(phone(4), &with(&invites[2], "407 Proxy Authentication Required", &proxy("three")));
    let text = &said.texts[1];
    for realm in ["one", "two", "three"] {
        assert_eq!(text.matches(&format!("realm=\"{realm}\"")).count(), 1, "{text}");
    }
    let mut harness = Harness::new(open);
    let invites = ringing(&mut harness, 2);
    harness.send(phone(2), &with(&invites[0], "407 Proxy Authentication Required", &proxy("one")));
    let said = harness.send(phone(3), &response(&invites[1], "603 Decline"));
    assert_eq!(said.codes, [603]);
    assert!(said.texts.iter().all(|text| !text.contains("realm=")), "{:?}", said.texts);
}

#[test]
fn a_changed_password_lifts_the_ban_and_the_same_one_does_not() {
    let mut harness = Harness::with_users(2, memory);
    let wrong = Words { password: "wrong", headers: CONTACT, ..Words::default() };
    let right = Words { headers: CONTACT, ..Words::default() };
    let new = Words { password: "new", headers: CONTACT, ..Words::default() };
    for _ in 0..5 {
        assert_eq!(harness.register_as(phone(1), &wrong).codes, [403]);
    }
    assert_eq!((harness.count("roost:bans"), harness.count("roost:banned_requests")), (1, 0));
    assert_eq!(harness.register_as(phone(1), &right).codes, [403]);
    assert_eq!(harness.count("roost:banned_requests"), 1);
    harness.read(vec![subscriber(0)]);
    assert_eq!(harness.register_as(phone(1), &right).codes, [403], "nothing has changed");
    let mut changed = subscriber(0);
    changed.secrets.password = b"new".as_slice().into();
    harness.read(vec![changed, subscriber(1)]);
    assert_eq!(harness.register_as(phone(1), &new).codes, [200]);
    assert_eq!(harness.count("roost:banned_requests"), 2);
}

#[test]
fn the_database_decides_where_it_is_told_to() {
    for (exclusive_ip, in_database, conditions) in [(true, false, 0), (true, true, 1), (false, true, 0)] {
        let mut harness = Harness::with_users(1, |config| {
            config.policy.registrar.exclusive_ip = exclusive_ip;
            config.policy.registrar.exclusive_in_database = in_database;
        });
        let said = harness.register("0", CONTACT);
        assert_eq!((said.commits.len(), said.exclusive), (1, conditions), "{exclusive_ip}, {in_database}");
    }
}

#[test]
fn a_failed_commit_says_what_failed() {
    let mut harness = Harness::with_users(1, |_| {});
    let failed = |harness: &mut Harness, headers: &str| {
        let ticket = harness.register("0", headers).commits[0];
        let said = harness.receipt(Receipt::Commit(ticket, CommitOutcome::Failed("full".to_string())));
        assert_eq!(said.codes, [500]);
        let line = said.texts[0].split("\r\n").find_map(|line| line.strip_prefix("P-Registrar-Error: "));
        line.expect("an error").to_string()
    };
    assert_eq!(failed(&mut harness, CONTACT), "usrloc_contact_insert failed");
    let ticket = harness.register("0", CONTACT).commits[0];
    assert_eq!(harness.receipt(Receipt::Commit(ticket, CommitOutcome::Committed)).codes, [200]);
    assert_eq!(failed(&mut harness, CONTACT), "usrloc_contact_update failed");
    let unbind = format!("{CONTACT}Expires: 0\r\n");
    assert_eq!(failed(&mut harness, &unbind), "usrloc_contact_delete failed");
}

#[test]
fn what_an_operator_binds_lasts_as_long_as_said() {
    let mut harness = Harness::new(memory);
    for (aor, expires_s) in [(b"1", 60), (b"2", 0)] {
        let contact = b"sip:x@10.2.0.1".to_vec();
        harness.admin(Admin::Add { aor: aor.to_vec(), contact, expires_s, q: None, methods: None });
    }
    let mut shown = |ms: u64| {
        harness.wait(ms);
        [b"1", b"2"].map(|aor| harness.engine.lookup(aor, harness.now).len())
    };
    assert_eq!((shown(59_000), shown(1_000), shown(1_000_000_000)), ([1, 1], [0, 1], [0, 1]));
}

/// What an operator changes counts from the next message on; what is under way and what is bound stays.
#[test]
fn a_new_policy_counts_from_the_next_message_on() {
    let mut harness = Harness::with_users(3, memory);
    assert_eq!(harness.register("0", CONTACT).codes, [200]);
    let mut policy = Config::default().policy;
    policy.listeners = vec![Listener::udp(SERVER)];
    policy.auth.realm = "other.test".to_string();
    policy.server_header = "changed".to_string();
    policy.registrar.min_expires_s = 600;
    policy.registrar.max_expires_s = 900;
    policy.pike.sampling_time_unit_s = 1;
    policy.pike.reqs_density_per_unit = 3;
    harness.engine.handle_policy(&policy, harness.now, &mut harness.out);
    assert_eq!(harness.engine.lookup(b"0", harness.now).len(), 1, "what is bound stays");
    // The realm has changed: the credentials are for another one.
    let said = harness.register("0", CONTACT);
    assert_eq!(said.codes, [401]);
    assert!(said.texts[0].contains("realm=\"other.test\"") && said.texts[0].contains("Server: changed\r\n"));
    // Floods are counted now.
    let options = request("OPTIONS", "sip:roost.test", "1", "o", 1, "", 0);
    let answers: Vec<_> = (0..10).map(|_| harness.send(phone(7), &options).codes.len()).collect();
    assert_eq!(answers.iter().sum::<usize>(), 3, "{answers:?}");
}
