//! Every limit of the core is reached: what it refuses is refused, and counted.

use roost_core::limits as at;
use roost_core::{
    Address, Admin, AdminReply, CommitOutcome, Identity, Reading, Receipt, Row, ShardId, SubscriberRow,
};
use roost_sim::client::Challenge;
use roost_sim::harness::{
    Harness, PASSWORD, REALM, Words, known, memory, of_invite, open, phone, request, response, ringing,
    subscriber,
};

/// Every limit by its name, with the test that reaches it.
const REACHED: [(&str, fn()); 47] = [
    ("MAX_PARKED", parked),
    ("MAX_PARKED_BYTES", parked_bytes),
    ("PARKED_MS", parked_ms),
    ("UNREAD_MS", unread_ms),
    ("MAX_WAITING_ADMIN", waiting_admin),
    ("MAX_WAITING_PER_AOR", waiting_per_aor),
    ("MAX_COMMITS", commits),
    ("MAX_REPAIRS", repairs),
    ("MAX_DOUBTS_PER_AOR", doubts_per_aor),
    ("MAX_LOADING", loading),
    ("MAX_BINDINGS_PER_AOR", bindings_per_aor),
    ("MAX_HELD_PER_AOR", held_per_aor),
    ("MAX_CONTACTS_PER_REGISTER", contacts_per_register),
    ("MAX_SECRETS", secrets),
    ("MAX_UNKNOWN_USERS", unknown_users),
    ("MAX_FORGOTTEN", forgotten),
    ("RECHECK_MS", recheck_ms),
    ("MAX_SUSPECTS", suspects),
    ("MAX_BUCKETS", buckets),
    ("MAX_UNKNOWN_NAMES_PER_S", strangers_per_s),
    ("MAX_NONCES", nonces),
    ("MAX_TRANSACTIONS", transactions),
    ("MAX_TRANSACTION_BYTES", transaction_bytes),
    ("MAX_ADMITTED_CALLS", recent_calls),
    ("MAX_RESOLVING", resolving),
    ("RESOLVING_MS", resolving),
    ("MAX_ADDRESSES", addresses),
    ("MAX_REQUEST", large_request),
    ("MAX_BRANCHES", branches),
    ("BUSY_RETRY_AFTER_S", waiting_per_aor),
    ("MAX_USER", long_words),
    ("MAX_DOMAIN", long_words),
    ("MAX_REALM", long_realm),
    ("MAX_CONTACT", long_words),
    ("MAX_PATH", long_words),
    ("MAX_CALL_ID", long_words),
    ("MAX_USER_AGENT", what_is_too_long_to_keep),
    ("MAX_INSTANCE", what_is_too_long_to_keep),
    ("MAX_FEATURES", long_features),
    ("MAX_REASON", long_reason),
    ("MAX_CONTACT_PLACES", contact_places),
    ("MAX_PLACES_PER_CONTACT", places_per_contact),
    ("MAX_STRANDED_PER_AOR", lost_connections),
    ("MAX_FLOWS_PER_PHONE", flows_of_a_phone),
    ("MAX_DUMP_SLICE", dump_slice),
    ("MAX_CALLS", calls),
    ("MAX_ROUTES", long_route_set),
];

#[test]
fn every_limit_has_a_test() {
    let source = include_str!("../../roost-core/src/base/limits.rs");
    let names = source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    let missing: Vec<&str> =
        names.filter(|name| !REACHED.iter().any(|(reached, _)| reached == name)).collect();
    assert!(missing.is_empty(), "nothing reaches {missing:?}");
}

fn contact(number: u32) -> String {
    format!("Contact: <sip:x@10.2.0.1:{number}>\r\n")
}

fn contacts(from: u32, count: u32) -> String {
    (from..from + count).map(contact).collect()
}

#[test]
fn parked() {
    let mut harness = Harness::new(|_| {});
    for user in 0..at::MAX_PARKED as u32 / 2 {
        for _ in 0..2 {
            assert_eq!(harness.register(&user.to_string(), &contact(1)).codes, []);
        }
    }
    assert_eq!(harness.register("0", &contact(1)).codes, [503]);
    assert_eq!(
        (harness.count("roost:parked_full"), harness.count("roost:parked")),
        (1, at::MAX_PARKED as u64)
    );
}

#[test]
fn parked_bytes() {
    let mut harness = Harness::new(|_| {});
    let mut fit = 0;
    let words = Words { body: 60_000, ..Words::default() };
    while harness.register_as(phone(1), &Words { user: &fit.to_string(), ..words }).codes.is_empty() {
        assert!(fit < at::MAX_PARKED_BYTES / 30_000, "no limit");
        fit += 1;
    }
    assert_eq!(fit, at::MAX_PARKED_BYTES / 60_500);
    assert_eq!(harness.count("roost:parked_full"), 1);
}

#[test]
fn parked_ms() {
    let mut harness = Harness::new(|_| {});
    harness.register("0", &contact(1));
    assert_eq!(harness.wait(at::PARKED_MS - 1).codes, []);
    assert_eq!(harness.wait(2_000).codes, [500]);
    assert_eq!(harness.count("roost:credentials_late"), 1);
}

#[test]
fn unread_ms() {
    let mut harness = Harness::with_users(1, |_| {});
    harness.engine.begin_loading();
    assert_eq!(harness.register("0", &contact(1)).codes, []);
    assert_eq!(harness.wait(at::UNREAD_MS - 1).codes, []);
    assert_eq!(harness.wait(2_000).codes, [503]);
    assert_eq!(harness.count("roost:unread_late"), 1);
}

#[test]
fn waiting_admin() {
    let mut harness = Harness::new(|_| {});
    harness.engine.begin_loading();
    let show = || Admin::Show { aor: b"0".to_vec() };
    for _ in 0..at::MAX_WAITING_ADMIN {
        assert!(harness.ask(show()).replies.is_empty());
    }
    assert!(matches!(harness.admin(show()), AdminReply::Failed));
    assert_eq!(harness.count("roost:admin_full"), 1);
}

#[test]
fn waiting_per_aor() {
    let mut harness = Harness::with_users(1, |_| {});
    for _ in 0..=at::MAX_WAITING_PER_AOR {
        assert_eq!(harness.register("0", &contact(1)).codes, []);
    }
    let said = harness.register("0", &contact(1));
    assert_eq!(said.codes, [503]);
    assert!(said.texts[0].contains(&format!("\r\nRetry-After: {}\r\n", at::BUSY_RETRY_AFTER_S)));
    assert_eq!(harness.count("roost:waiting_full"), 1);
}

#[test]
fn commits() {
    let users = at::MAX_COMMITS as u32;
    let mut harness = Harness::with_users(users + 1, |_| {});
    for user in 0..users {
        assert_eq!(harness.register(&user.to_string(), &contact(1)).commits.len(), 1);
    }
    assert_eq!(harness.register(&users.to_string(), &contact(1)).codes, [503]);
    assert_eq!(harness.count("roost:commits_full"), 1);
    assert_eq!(harness.count("roost:commits_in_flight"), at::MAX_COMMITS as u64);
}

#[test]
fn repairs() {
    let users = 2 * at::MAX_REPAIRS as u32;
    let mut harness = Harness::with_users(users, |_| {});
    for user in 0..users {
        let ticket = harness.register(&user.to_string(), &contact(1)).commits[0];
        assert_eq!(
            harness.receipt(Receipt::Commit(ticket, CommitOutcome::Failed("full".to_string()))).codes,
            [500]
        );
    }
    assert_eq!(harness.wait(1_000).commits.len(), at::MAX_REPAIRS);
    assert_eq!(harness.wait(1_000).commits.len(), at::MAX_REPAIRS);
}

#[test]
fn doubts_per_aor() {
    let mut harness = Harness::with_users(1, |config| config.policy.registrar.max_contacts = 0);
    let (many, rounds) = (at::MAX_CONTACTS_PER_REGISTER as u32, 4);
    for round in 0..rounds {
        let ticket = harness.register("0", &contacts(1 + round * many, many)).commits[0];
        harness.receipt(Receipt::Commit(ticket, CommitOutcome::Failed("full".to_string())));
    }
    let doubts = u64::from(rounds * many);
    assert_eq!(harness.count("roost:doubts_full"), doubts - at::MAX_DOUBTS_PER_AOR as u64);
}

#[test]
fn loading() {
    let mut harness = Harness::new(|_| {});
    for user in 0..at::MAX_LOADING {
        assert_eq!(harness.register(&user.to_string(), &contact(1)).loads.len(), 1);
    }
    assert_eq!(harness.register("new", &contact(1)).codes, [503]);
    assert_eq!(harness.count("roost:loading_full"), 1);
}

#[test]
fn bindings_per_aor() {
    let mut harness = Harness::with_users(1, |config| {
        memory(config);
        config.policy.registrar.max_contacts = 0;
    });
    let many = at::MAX_CONTACTS_PER_REGISTER as u32;
    for round in 0..at::MAX_BINDINGS_PER_AOR as u32 / many + 1 {
        assert_eq!(harness.register("0", &contacts(1 + round * many, many)).codes, [200]);
    }
    assert_eq!(harness.engine.lookup(b"0", harness.now).len(), at::MAX_BINDINGS_PER_AOR);
}

#[test]
fn held_per_aor() {
    let mut harness = Harness::with_users(1, |config| {
        memory(config);
        config.policy.registrar.exclusive_ip = false;
    });
    for number in 0..at::MAX_HELD_PER_AOR {
        assert!(matches!(harness.bind("0", &format!("sip:x@10.2.0.1:{}", 1 + number)), AdminReply::Done));
    }
    assert!(matches!(harness.bind("0", "sip:x@10.2.0.2"), AdminReply::Failed));
    assert_eq!(harness.register("0", "Contact: <sip:x@10.2.0.2>\r\n").codes, [503]);
    assert_eq!(harness.count("roost:held_full"), 2);
}

#[test]
fn contacts_per_register() {
    let mut harness = Harness::with_users(1, |config| {
        memory(config);
        config.policy.registrar.max_contacts = 0;
    });
    let most = at::MAX_CONTACTS_PER_REGISTER as u32;
    assert_eq!(harness.register("0", &contacts(1, most + 1)).codes, [400]);
    assert_eq!(harness.register("0", &contacts(1, most)).codes, [200]);
    assert_eq!(harness.count("roost:too_many_contacts"), 1);
}

#[test]
fn secrets() {
    // All shards together hold so many: of a thousand shards each has a thousandth.
    let shards = 1_024;
    let each = at::MAX_SECRETS / usize::from(shards);
    let mut harness = Harness::new(|config| config.identity.shards = shards);
    let identity = Identity { shards, hash_seed: 7, ..Identity::default() };
    let own = |number: &u32| identity.shard_of(number.to_string().as_bytes()) == ShardId(0);
    let users: Vec<SubscriberRow> = (0..).filter(own).take(each + 3).map(subscriber).collect();
    harness.read(users);
    assert_eq!(harness.count("roost:secrets_evicted"), 3);
    // Who is not there may have made room: no one is a stranger.
    let absent = (0..).map(|number| format!("x{number}"));
    let absent = absent.filter(|user| identity.shard_of(user.as_bytes()) == ShardId(0));
    for user in absent.take(2 * at::MAX_UNKNOWN_NAMES_PER_S as usize) {
        let words = Words { user: &user, ..Words::default() };
        assert_eq!(harness.register_as(phone(2), &words).loads.len(), 1);
    }
}

#[test]
fn unknown_users() {
    let mut harness = Harness::new(|_| {});
    for number in 0..at::MAX_UNKNOWN_USERS as u32 + 7 {
        let user = number.to_string();
        let ticket = harness.register_as(phone(number), &Words { user: &user, ..Words::default() }).loads[0];
        assert_eq!(harness.receipt(Receipt::Credentials(ticket, Ok(None))).codes, [404]);
    }
    assert_eq!(harness.count("roost:unknown_evicted"), 7);
}

#[test]
fn suspects() {
    let more = 7;
    let guessers = at::MAX_SUSPECTS as u32 + more;
    let mut harness = Harness::with_users(guessers, memory);
    for number in 0..guessers {
        let words = Words { user: &number.to_string(), password: "wrong", ..Words::default() };
        assert_eq!(harness.register_as(phone(number), &words).codes, [403]);
    }
    // Of the pairs, the addresses and the extensions.
    assert_eq!(harness.count("roost:suspects_evicted"), 3 * u64::from(more));
    assert_eq!(harness.count("roost:suspects"), 3 * at::MAX_SUSPECTS as u64);
}

#[test]
fn forgotten() {
    let mut harness = Harness::new(|_| {});
    let began_ms = harness.now.mono_ms;
    harness.wait(1_000);
    for number in 0..=at::MAX_FORGOTTEN {
        let user = number.to_string().into_bytes();
        harness.admin(Admin::ForgetCredentials { user, domain: vec![] });
    }
    assert_eq!(harness.count("roost:forgotten_evicted"), 1);
    // A reading that began before knows the old password of both; only of the newer one that is remembered.
    harness.engine.handle_reading(Reading::Rows(vec![subscriber(0), subscriber(1)]), began_ms);
    assert_eq!(harness.register("1", &contact(1)).loads.len(), 1);
    assert_eq!(harness.register("0", &contact(1)).loads.len(), 0);
}

#[test]
fn recheck_ms() {
    let mut harness = Harness::with_users(1, memory);
    let wrong = Words { password: "wrong", ..Words::default() };
    harness.wait(at::RECHECK_MS);
    let ticket = harness.register_as(phone(1), &wrong).loads[0];
    assert_eq!(harness.receipt(known(ticket)).codes, [403]);
    assert_eq!(harness.register_as(phone(1), &wrong).codes, [403]);
    harness.wait(at::RECHECK_MS);
    assert_eq!(harness.register_as(phone(1), &wrong).loads.len(), 1);
    assert_eq!(harness.count("roost:credential_loads"), 2);
}

#[test]
fn buckets() {
    let mut harness = Harness::new(|config| config.policy.pike.reqs_density_per_unit = 10);
    let text = request("OPTIONS", "sip:roost.test", "x", "o", 1, "", 0);
    for number in 0..2 * at::MAX_BUCKETS as u32 {
        assert_eq!(harness.send(phone(number), &text).codes, [200]);
    }
    assert!(harness.count("roost:buckets_evicted") >= at::MAX_BUCKETS as u64);
    assert_eq!(harness.count("roost:pike_dropped"), 0);
}

#[test]
fn strangers_per_s() {
    let mut harness = Harness::with_users(1, |_| {});
    for number in 0..at::MAX_UNKNOWN_NAMES_PER_S {
        let words = Words { user: &format!("x{number}"), ..Words::default() };
        assert_eq!(harness.register_as(phone(number), &words).loads.len(), 1);
    }
    let one_more = Words { user: "one-more", ..Words::default() };
    assert_eq!(harness.register_as(phone(7), &one_more).codes, [503]);
    assert_eq!(harness.count("roost:strangers_full"), 1);
    harness.wait(1_000);
    assert_eq!(harness.register_as(phone(7), &one_more).loads.len(), 1);
}

#[test]
fn nonces() {
    let users = at::MAX_NONCES as u32 / 2;
    let mut harness = Harness::with_users(users + 1, |config| {
        memory(config);
        config.policy.auth.disable_nonce_check = false;
    });
    for _ in 0..2 {
        harness.wait(1_000);
        harness.challenge = None;
        for user in 0..users {
            assert_eq!(harness.register(&user.to_string(), "").codes, [200]);
        }
    }
    assert_eq!(harness.count("roost:nonces_full"), 0);
    assert_eq!(harness.register(&users.to_string(), "").codes, [503]);
    assert_eq!(harness.count("roost:nonces_full"), 1);
}

/// A callee of shard 0, whatever the number of shards.
fn callee(shards: u16) -> String {
    let identity = Identity { shards, hash_seed: 7, ..Identity::default() };
    let own = |user: &String| identity.shard_of(user.as_bytes()) == ShardId(0);
    (0..).map(|number: u32| format!("callee{number}")).find(own).expect("a callee of shard 0")
}

/// An engine that shares what all shards may hold with 63 others, and whom to call there.
fn one_of_many() -> (Harness, String, usize) {
    let (shards, callee) = (64, callee(64));
    let mut harness = Harness::new(|config| {
        open(config);
        config.identity.shards = shards;
    });
    harness.bind(&callee, "sip:x@10.2.0.1");
    (harness, callee, usize::from(shards))
}

#[test]
fn transactions() {
    let (mut harness, callee, shards) = one_of_many();
    let each = at::MAX_TRANSACTIONS / shards;
    for _ in 0..each {
        assert_eq!(harness.invite(1, &callee, 0).codes, [100]);
    }
    assert_eq!(harness.invite(1, &callee, 0).codes, [503]);
    assert_eq!(harness.count("roost:transactions_full"), 1);
    assert_eq!(harness.count("tm:inuse_transactions"), each as u64);
}

#[test]
fn transaction_bytes() {
    let (mut harness, callee, shards) = one_of_many();
    let mut fit = 0;
    while harness.invite(1, &callee, 60_000).codes == [100] {
        assert!(fit < at::MAX_TRANSACTION_BYTES / shards / 60_000, "no limit");
        fit += 1;
    }
    // Each holds the request as it came, and as it went.
    let each = at::MAX_TRANSACTION_BYTES / shards / 2 / 60_000;
    assert!((each - 10..=each).contains(&fit), "{fit}");
    assert_eq!(harness.count("roost:transactions_full"), 1);
    assert!(harness.count("roost:transaction_bytes") <= (at::MAX_TRANSACTION_BYTES / shards) as u64);
}

#[test]
fn recent_calls() {
    let mut harness = Harness::new(|config| {
        memory(config);
        config.policy.registrar.exclusive_ip = false;
    });
    harness.bind("caller", &format!("sip:caller@{}", phone(1)));
    for _ in 0..at::MAX_ADMITTED_CALLS {
        harness.invite(1, "nobody", 0);
    }
    assert_eq!(harness.count("roost:recent_evicted"), 0);
    assert_eq!(harness.invite(1, "nobody", 0).codes, [100, 404]);
    assert_eq!(harness.count("roost:recent_evicted"), 1);
}

#[test]
fn resolving() {
    let mut harness = Harness::new(open);
    harness.bind("9", "sip:x@phone.example");
    for _ in 0..at::MAX_RESOLVING {
        assert_eq!(harness.invite(1, "9", 0).names.len(), 1);
    }
    let said = harness.invite(1, "9", 0);
    assert!(said.names.is_empty() && said.codes.last().is_some_and(|code| *code >= 400), "{:?}", said.codes);
    assert_eq!(harness.count("roost:resolving_full"), 1);
    let said = harness.wait(at::RESOLVING_MS);
    let refused = said.codes.iter().filter(|code| **code >= 400).count();
    // The one that was refused at once is refused again: its caller has not acknowledged it.
    assert_eq!(refused, at::MAX_RESOLVING + 1);
    assert_eq!(harness.count("roost:resolving_late"), at::MAX_RESOLVING as u64);
}

#[test]
fn addresses() {
    let mut harness = Harness::new(open);
    harness.bind("9", "sip:x@phone.example");
    let ticket = harness.invite(1, "9", 0).names[0];
    let address = |number: u32| Address { remote: phone(100 + number), local: None, connection: 0 };
    let addresses = (0..at::MAX_ADDRESSES as u32 + 4).map(address).collect();
    let mut tried = harness.receipt(Receipt::Resolved(ticket, addresses)).requests;
    assert_eq!(harness.count("roost:places_cut"), 1);
    while harness.count("tm:inuse_transactions") > 0 && tried.len() < 10_000 {
        tried.extend(harness.wait(500).requests);
    }
    tried.sort_unstable();
    tried.dedup();
    assert_eq!(tried.len(), at::MAX_ADDRESSES);
}

#[test]
fn large_request() {
    let mut harness = Harness::new(open);
    harness.bind("9", "sip:x@10.2.0.1");
    let head = harness.invite(1, "9", 0).texts[1].len();
    assert_eq!(harness.invite(1, "9", at::MAX_REQUEST - head - 400).codes, [100]);
    assert_eq!(harness.invite(1, "9", at::MAX_REQUEST).codes, [513]);
    assert_eq!(harness.count("core:err_requests"), 1);
}

#[test]
fn branches() {
    let mut harness = Harness::new(open);
    for number in 0..=at::MAX_BRANCHES {
        harness.bind("9", &format!("sip:x@10.2.0.1:{}", 1 + number));
    }
    assert_eq!(harness.invite(1, "9", 0).requests.len(), at::MAX_BRANCHES);
    assert_eq!(harness.count("roost:branches_cut"), 1);
}

#[test]
fn long_words() {
    let long = |length: usize| "a".repeat(length);
    let answer = |words: &Words<'_>| {
        let mut harness = Harness::new(|config| {
            memory(config);
            config.identity.use_domain = true;
            config.policy.auth.check_to = false;
            config.policy.registrar.path = roost_core::PathMode::Off;
        });
        let said = harness.register_as(phone(1), words);
        let said = match said.loads.first() {
            Some(ticket) => harness.receipt(known(*ticket)),
            None => said,
        };
        (said.codes[0], harness.count("registrar:rejected_regs"))
    };
    let user = |length| answer(&Words { user: &long(length), headers: &contact(1), ..Words::default() });
    assert_eq!(user(at::MAX_USER).0, 200);
    assert!(user(at::MAX_USER + 1).0 >= 400);
    let domain = |length| answer(&Words { domain: &long(length), headers: &contact(1), ..Words::default() });
    assert_eq!((domain(at::MAX_DOMAIN), domain(at::MAX_DOMAIN + 1)), ((200, 0), (500, 1)));
    let call_id =
        |length| answer(&Words { call_id: &long(length), headers: &contact(1), ..Words::default() });
    assert_eq!((call_id(at::MAX_CALL_ID), call_id(at::MAX_CALL_ID + 1)), ((200, 0), (400, 1)));
    let headers = |headers: String| answer(&Words { headers: &headers, ..Words::default() });
    let named = |length: usize| headers(format!("Contact: <sip:{}@10.2.0.1>\r\n", long(length - 13)));
    assert_eq!((named(at::MAX_CONTACT), named(at::MAX_CONTACT + 1)), ((200, 0), (400, 1)));
    let path = |length: usize| {
        let name = long(length - "<sip:@10.2.0.9;lr>".len());
        headers(format!("{}Supported: path\r\nPath: <sip:{name}@10.2.0.9;lr>\r\n", contact(1)))
    };
    let (fits, does_not) = (path(at::MAX_PATH), path(at::MAX_PATH + 1));
    assert_eq!(fits, (200, 0));
    assert!(does_not.0 >= 400 && does_not.1 == 1, "{does_not:?}");
}

/// A row of an extension whose Contact has another user.
fn odd_row(number: u32, contact: &str) -> Row {
    let username = number.to_string().into_bytes().into();
    Row { contact_id: number.into(), username, contact: contact.as_bytes().into(), ..Row::default() }
}

#[test]
fn contact_places() {
    let mut harness = Harness::new(open);
    for number in 0..at::MAX_CONTACT_PLACES as u32 + 1 {
        let row = odd_row(number, &format!("sip:x{number}@10.2.0.1"));
        assert_eq!(harness.engine.load(&row, harness.now), Ok(None));
    }
    harness.wait(1_000);
    assert_eq!(harness.count("roost:contact_places_full"), 1);
    assert_eq!(harness.invite(1, "x0", 0).codes.last(), Some(&404), "another host");
}

#[test]
fn places_per_contact() {
    let mut harness = Harness::new(open);
    for number in 0..at::MAX_PLACES_PER_CONTACT as u32 + 1 {
        assert_eq!(harness.engine.load(&odd_row(number, &format!("sip:x@{REALM}")), harness.now), Ok(None));
    }
    harness.wait(1_000);
    assert_eq!(harness.invite(1, "x", 0).codes.last(), Some(&404), "nobody knows who is meant");
}

#[test]
fn long_reason() {
    for (length, is_copied) in [(at::MAX_REASON, true), (at::MAX_REASON + 1, false)] {
        let mut harness = Harness::new(open);
        let invites = ringing(&mut harness, 1);
        harness.send(phone(2), &response(&invites[0], "180 Ringing"));
        let reason = format!("SIP;text=\"{}\"", "x".repeat(length - "SIP;text=\"\"".len()));
        let cancel = of_invite(&invites[0], "CANCEL")
            .replace("Content-Length", &format!("Reason: {reason}\r\nContent-Length"));
        let said = harness.send(phone(1), &cancel);
        let sent = said.texts.iter().find(|text| text.starts_with("CANCEL")).expect("a CANCEL");
        assert_eq!(sent.contains(&reason), is_copied);
        assert_eq!(sent.contains("ORIGINATOR_CANCEL"), !is_copied);
    }
}

#[test]
fn long_realm() {
    let mut harness = Harness::new(|config| config.policy.auth.realm = String::new());
    let mut answered = |length: usize| {
        let domain = "a".repeat(length);
        let text = |line: &str| request("REGISTER", "sip:x", "1", "c", 1, line, 0).replace(REALM, &domain);
        let said = harness.send(phone(1), &text(""));
        harness.head.parse(said.texts[0].as_bytes()).expect("a 401");
        let challenge = Challenge::of(&harness.head, said.texts[0].as_bytes()).expect("a challenge");
        let line = challenge.answer("1", PASSWORD, "REGISTER", "sip:x", 1);
        let said = harness.send(phone(1), &text(&format!("{line}\r\n")));
        (said.loads.len(), said.codes)
    };
    assert_eq!(answered(at::MAX_REALM), (1, vec![]));
    assert_eq!(answered(at::MAX_REALM + 1), (0, vec![404]));
    assert_eq!(harness.count("roost:auth_failures"), 1);
}

#[test]
fn what_is_too_long_to_keep() {
    let mut harness = Harness::with_users(1, memory);
    let mut kept = |agent: usize, instance: usize| {
        let headers = format!(
            "Contact: <sip:x@10.2.0.1>;+sip.instance=\"<{}>\"\r\nUser-Agent: {}\r\n",
            "i".repeat(instance - 2),
            "u".repeat(agent)
        );
        assert_eq!(harness.register("0", &headers).codes, [200]);
        match harness.admin(Admin::Show { aor: b"0".to_vec() }) {
            AdminReply::Record(mut record) => {
                let contact = record.contacts.pop().expect("a contact");
                (contact.user_agent, contact.sip_instance.len())
            }
            other => panic!("{other:?}"),
        }
    };
    let agent = vec![b'u'; at::MAX_USER_AGENT];
    assert_eq!(kept(at::MAX_USER_AGENT, at::MAX_INSTANCE), (agent, at::MAX_INSTANCE));
    assert_eq!(kept(at::MAX_USER_AGENT + 1, at::MAX_INSTANCE + 1), (b"n/a".to_vec(), 0));
}

#[test]
fn long_features() {
    let mut harness = Harness::with_users(1, memory);
    let mut told = |len: usize| {
        let fits = format!(";+sip.a=\"{}\"", "x".repeat(len - 10));
        let headers = format!("Contact: <sip:x@10.2.0.1>{fits}\r\n");
        let answers = harness.register("0", &headers);
        assert_eq!(answers.codes, [200]);
        answers.texts[0].contains(&fits)
    };
    let room = at::MAX_FEATURES - ";methods".len();
    assert!(told(room));
    assert!(!told(room + 1));
}

#[test]
fn dump_slice() {
    let mut harness = Harness::new(memory);
    for number in 0..=at::MAX_DUMP_SLICE {
        harness.bind(&number.to_string(), "sip:x@10.2.0.1");
    }
    match harness.admin(Admin::Dump { from: 0 }) {
        AdminReply::Slice { records, next: Some(next), .. } => {
            assert_eq!((records.len(), next), (at::MAX_DUMP_SLICE, at::MAX_DUMP_SLICE));
        }
        other => panic!("{other:?}"),
    }
}

/// A row at a start is taken for what it is: the limits above are those of what strangers send.
#[test]
fn rows_of_the_database_are_no_strangers() {
    let mut harness = Harness::new(|_| {});
    let row = |number: u64| Row {
        contact_id: roost_core::contact_id::compose(b"0", 1, number as u16),
        username: (*b"0").into(),
        contact: format!("sip:0@10.2.0.1:{number}").into_bytes().into(),
        expires: harness.now.unix_s + 60,
        ..Row::default()
    };
    let many = at::MAX_HELD_PER_AOR as u64 + 1;
    let rows: Vec<Row> = (1..=many).map(row).collect();
    for row in &rows {
        assert_eq!(harness.engine.load(row, harness.now), Ok(None));
    }
    assert_eq!(harness.engine.lookup(b"0", harness.now).len() as u64, many);
}

#[test]
fn lost_connections() {
    let mut harness = Harness::with_users(2, open);
    for number in 0..at::MAX_STRANDED_PER_AOR as u32 + 3 {
        let contact = format!("sip:1@{number}.invalid;transport=ws");
        let row = Row {
            contact_id: u64::from(number) + 1,
            socket: Some((*b"ws:10.0.0.1:80").into()),
            ..odd_row(1, &contact)
        };
        assert_eq!(harness.engine.load(&row, harness.now), Ok(None));
    }
    let said = harness.register("1", &contact(1));
    assert_eq!(said.texts[0].matches("transport=ws").count(), at::MAX_STRANDED_PER_AOR - 1);
}

#[test]
fn flows_of_a_phone() {
    let mut harness = Harness::with_users(2, |config| {
        open(config);
        config.identity.write_through = false;
        config.policy.registrar.max_contacts = 1;
        config.policy.registrar.force_registration = false;
    });
    for number in 1..=at::MAX_FLOWS_PER_PHONE + 1 {
        let contact = format!(
            "Contact: <sip:1@10.0.0.1:5060>;+sip.instance=\"<urn:uuid:1>\";reg-id={number}\r\nExpires: 60\r\n"
        );
        let said = harness.register("1", &contact);
        let expected = if number > at::MAX_FLOWS_PER_PHONE { 503 } else { 200 };
        assert_eq!(said.codes, [expected], "flow {number}");
    }
}

/// One shard of many, which trusts the caller.
fn trusting() -> (Harness, String, usize) {
    let (_, callee, shards) = one_of_many();
    let mut harness = Harness::new(|config| {
        memory(config);
        config.identity.shards = shards as u16;
        config.policy.proxy.trusted = roost_core::Trusted::of_addresses([phone(1).ip()]);
    });
    harness.bind(&callee, &format!("sip:x@{}", phone(2)));
    (harness, callee, shards)
}

#[test]
fn calls() {
    let (mut harness, callee, shards) = trusting();
    let each = at::MAX_CALLS / shards;
    for call in 0..each + 3 {
        let said = harness.invite(1, &callee, 0);
        assert_eq!(said.codes, [100], "it goes on with or without an entry");
        assert_eq!(harness.send(phone(2), &response(&said.texts[1], "200 OK")).codes, [200]);
        if call % 8 == 7 {
            // Their transactions end.
            harness.wait(40_000);
        }
    }
    assert_eq!(harness.count("roost:calls_full"), 3);
    assert_eq!(harness.count("dialog:active_dialogs"), each as u64);
    // Nobody ends them.
    harness.wait(43_200_000);
    for _ in 0..20 {
        harness.wait(1_000);
    }
    assert_eq!(
        (harness.count("dialog:active_dialogs"), harness.count("dialog:expired_dialogs")),
        (0, each as u64)
    );
}

#[test]
fn long_route_set() {
    let (mut harness, callee, _) = trusting();
    let text = harness.invite(1, &callee, 0);
    let ok = response(&text.texts[1], "200 OK");
    let beyond: String =
        (0..40).map(|hop| format!("Record-Route: <sip:proxy{hop}.example.com:5060;lr>\r\n")).collect();
    harness.send(phone(2), &ok.replacen("Record-Route:", &format!("{beyond}Record-Route:"), 1));
    let AdminReply::Calls { calls, .. } = harness.admin(Admin::Calls { from: 0 }) else { panic!("no calls") };
    let kept = calls[0].text(roost_core::CallText::CalleeRoutes).len();
    assert!(kept <= at::MAX_ROUTES && kept > at::MAX_ROUTES / 2, "{kept}");
}
