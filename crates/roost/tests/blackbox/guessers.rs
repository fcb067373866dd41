//! Guessers, scanners and floods: they are stopped, everybody else is served.

use std::time::Duration;

use crate::support::{A_WHILE, PATIENCE, Phone, Server, wait_for};
use serde_json::{Value, json};

/// Extensions 9001 and 9002, calls by password.
fn started(sections: &str) -> Server {
    let mut server = Server::prepared("", sections);
    for user in ["9001", "9002"] {
        server.add_user(user, user);
    }
    server.start();
    server
}

fn statistics(server: &Server, name: &str) -> u64 {
    server.statistic(name)
}

/// Tries passwords until the extension is banned from this phone's address; gives how many there were.
fn guess(phone: &mut Phone, server: &Server) -> u32 {
    phone.password = "guessed".to_string();
    let before = statistics(server, "roost:bans");
    (1..=100)
        .find(|_| {
            assert_eq!(phone.register(300).line(), "403 Forbidden");
            statistics(server, "roost:bans") > before
        })
        .expect("a ban")
}

#[test]
fn a_guesser_is_banned_and_the_registered_phone_beside_it_is_not() {
    let server = started("");
    let mut owner = server.phone("9001");
    assert_eq!(owner.register(300).line(), "200 OK");
    let mut guesser = server.phone("9001");
    assert_eq!(guess(&mut guesser, &server), 5);
    let said = |text: &str| server.log.text().lines().filter(|line| line.contains(text)).count();
    wait_for("the line of the ban", PATIENCE, || {
        (said("banned: too many wrong passwords") > 0).then_some(())
    });
    // The right one among the next is not told from the others.
    guesser.password = "9001".to_string();
    assert_eq!(guesser.register(300).line(), "403 Forbidden");
    assert!(statistics(&server, "roost:banned_requests") > 0);
    assert_eq!(owner.register(300).line(), "200 OK", "registered from its own port");
    assert_eq!(server.phone("9002").register(300).line(), "200 OK", "another extension of the same address");

    assert_eq!(said(" WARN banned"), 1, "a ban is told once: {}", server.log.text());
    let table = server.succeed(&["ban", "list"]);
    let line =
        table.lines().find(|line| line.contains("9001")).unwrap_or_else(|| panic!("no 9001 in {table}"));
    assert!(line.contains("127.0.0.1") && line.contains("failures"), "{table}");
    let list: Value = serde_json::from_str(&server.succeed(&["ban", "list", "--json"])).expect("JSON");
    let ban = &list["Bans"][0];
    assert_eq!((&ban["source"], &ban["user"]), (&json!("127.0.0.1"), &json!("9001")));
    let left = ban["seconds"].as_u64().expect("a time");
    assert!((50..=60).contains(&left), "{left} s of a first ban");

    server.succeed(&["ban", "rm", "9001"]);
    assert_eq!(guesser.register(300).line(), "200 OK");
    let ran = server.roost(&["ban", "rm", "9001"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("9001 is not banned"), "{}", ran.stderr);
}

#[test]
fn a_new_password_lifts_the_ban_from_any_tool() {
    let server = started("[auth_db]\ncache_ttl = 2\n");
    let mut phone = server.phone("9001");
    guess(&mut phone, &server);
    server.succeed(&["user", "passwd", "9001", "guessed"]);
    assert_eq!(phone.register(300).line(), "200 OK");
    assert_eq!(phone.unregister().line(), "200 OK");
    phone.password = "later".to_string();
    for _ in 0..5 {
        assert_eq!(phone.register(300).line(), "403 Forbidden");
    }
    server.sql("UPDATE subscriber SET password = 'later' WHERE username = '9001'");
    wait_for("the next reading of the table", PATIENCE, || (phone.register(300).status == 200).then_some(()));
}

#[test]
fn who_tries_many_names_is_banned_as_an_address_but_for_its_registered_phones() {
    let server = started("[auth]\nban_source_failures = 20\n");
    let mut owner = server.phone("9002");
    assert_eq!(owner.register(300).line(), "200 OK");
    let names = (0..200).take_while(|number| {
        let status = server.phone(&format!("guess{number}")).register(300).status;
        assert!([403, 404].contains(&status), "{status}");
        status == 404
    });
    let tried = names.count();
    assert!((10..=60).contains(&tried), "{tried} names were answered for before the ban");
    // What another shard owns is banned as soon as that shard has heard of it.
    wait_for("the ban of 9001 too", PATIENCE, || {
        (server.phone("9001").register(300).status == 403).then_some(())
    });
    assert_eq!(owner.register(300).line(), "200 OK");
    let mut elsewhere = Phone::at("127.0.0.7", server.sip, "9001", "9001");
    assert_eq!(elsewhere.register(300).line(), "200 OK");
    server.succeed(&["ban", "rm", "127.0.0.1"]);
    assert_eq!(server.phone("guess0").register(300).status, 404);
}

#[test]
fn a_distributed_guesser_is_banned_by_the_extension() {
    let server = started("[auth]\nban_user_failures = 10\n");
    let guesser = |number: u32| Phone::at(&format!("127.0.1.{number}"), server.sip, "9001", "guessed");
    for number in 1..=10 {
        assert_eq!(guesser(number).register(300).line(), "403 Forbidden");
    }
    let mut right = Phone::at("127.0.1.99", server.sip, "9001", "9001");
    assert_eq!(right.register(300).line(), "403 Forbidden");
    assert!(server.succeed(&["ban", "list"]).contains("any"));
    server.succeed(&["ban", "rm", "9001"]);
    assert_eq!(right.register(300).line(), "200 OK");
}

#[test]
fn an_operators_ban_shuts_an_address_out() {
    let server = started("");
    let mut phone = Phone::at("127.0.0.9", server.sip, "9001", "9001");
    assert_eq!(phone.register(300).line(), "200 OK");
    server.succeed(&["ban", "add", "127.0.0.9", "--seconds", "600"]);
    let message = phone.register_message(&[]);
    phone.send(&message);
    assert!(phone.hear(A_WHILE).is_none(), "no answer at all");
    assert!(server.succeed(&["ban", "list"]).contains("operator"));
    assert_eq!(server.phone("9002").register(300).line(), "200 OK");
    server.succeed(&["ban", "rm", "127.0.0.9"]);
    assert_eq!(phone.register(300).line(), "200 OK");
    assert_eq!(server.mi("ban_add", json!({})).expect_err("nobody").0, -32602);
    assert_eq!(server.mi("ban_add", json!({ "source": "nonsense" })).expect_err("no address").0, -32602);
}

#[test]
fn scanners_get_no_answer_unless_that_is_wanted() {
    let options = |server: &Server| {
        let mut phone = server.phone("100");
        let agent = "User-Agent: Friendly-Scanner";
        let message = phone.message("OPTIONS", &format!("sip:100@{}", server.sip), &[agent]);
        let message = message.replace(crate::support::USER_AGENT, "Friendly-Scanner");
        phone.send(&message);
        phone.hear(A_WHILE).map(|response| response.status)
    };
    let server = started("");
    assert_eq!(options(&server), None);
    assert_eq!(statistics(&server, "roost:scanners_dropped"), 1);
    let server = started("[pike]\ndrop_user_agents = []\n");
    assert_eq!(options(&server), Some(200));
}

#[test]
fn who_sends_too_much_is_not_answered_and_others_are() {
    let mut server = Server::prepared("workers = 1\n", "[pike]\nreqs_density_per_unit = 20\n");
    server.add_user("9001", "9001");
    server.start();
    let mut flooder = Phone::at("127.0.0.5", server.sip, "100", "100");
    for _ in 0..200 {
        let message = flooder.message("OPTIONS", "sip:127.0.0.1", &[]);
        flooder.send(&message);
    }
    let answers = flooder.listen(Duration::from_millis(500)).len();
    // Twenty at once, and ten a second from then on.
    assert!((20..=40).contains(&answers), "{answers} of 200 were answered");
    assert_eq!(statistics(&server, "roost:pike_dropped"), 200 - answers as u64);
    assert_eq!(server.phone("9001").register(300).line(), "200 OK");
}

#[test]
fn names_that_nobody_has_do_not_become_a_flood_of_queries() {
    let server = started("[auth]\nban_source_failures = 0\n");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(300).line(), "200 OK");
    let before = statistics(&server, "roost:credential_loads");
    // One challenge serves all: its realm is the same.
    let challenge = phone.challenge.clone();
    for number in 0..2_000 {
        let mut stranger = server.phone(&format!("nobody{number}"));
        stranger.challenge.clone_from(&challenge);
        let message = stranger.register_message(&[]);
        stranger.send(&message);
    }
    let refused = wait_for("an end of the looking up", PATIENCE, || {
        let refused = statistics(&server, "roost:strangers_full");
        (refused > 100).then_some(refused)
    });
    let loads = statistics(&server, "roost:credential_loads") - before;
    assert!(loads < 2_000, "{loads} queries, {refused} refused");
    assert_eq!(phone.register(300).line(), "200 OK");
}

#[test]
fn what_begins_is_passed_over_while_datagrams_are_lost() {
    let server = started("");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(300).line(), "200 OK");
    let mut crowd = Phone::at("127.0.0.9", server.sip, "9002", "?");
    let first = crowd.register_message(&["Contact: <sip:9002@127.0.0.9>"]);
    roost_rig::signal(server.pid(), "STOP");
    // Far more than its sockets have room for.
    for _ in 0..60_000 {
        crowd.send(&first);
    }
    roost_rig::signal(server.pid(), "CONT");
    // What comes next tells of the loss, and half of it is passed over; who has credentials is not.
    wait_for("shedding", PATIENCE, || {
        (0..20).for_each(|_| crowd.send(&first));
        (statistics(&server, "roost:shed") > 0).then_some(())
    });
    let shed = statistics(&server, "roost:shed");
    assert_eq!(phone.register(300).line(), "200 OK");
    std::thread::sleep(Duration::from_millis(500));
    let late = Phone::at("127.0.0.10", server.sip, "9002", "?");
    for _ in 0..10 {
        late.send(&first);
        assert!(late.hear(PATIENCE).is_some(), "when none is lost any more, all are answered");
    }
    crate::support::report(&format!("{shed} passed over after a loss"));
}
