//! Phones at a running roost: they register, stay, leave, and are told why they may not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{ALLOW, Kind, Phone, Response, Server, USER_AGENT, wait_for};

#[test]
fn a_phone_registers_refreshes_and_leaves() {
    let server = Server::started("", "");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");

    let challenged = phone.send_register_once(&[]);
    assert_eq!(challenged.line(), "401 Unauthorized");
    assert_eq!(phone.challenge.as_ref().map(|challenge| challenge.realm.as_str()), Some("127.0.0.1"));

    let registered = phone.register(60);
    assert_eq!(registered.line(), "200 OK");
    assert_eq!(registered.header("Contact"), Some(binding(&phone, 60).as_str()));
    assert!(registered.header("Date").is_some_and(|date| date.ends_with(" GMT")), "{}", registered.text);

    // The same nonce again, while it is fresh: no second 401.
    let refreshed = phone.register(90);
    assert_eq!(refreshed.line(), "200 OK");
    assert_eq!(refreshed.header("Contact"), Some(binding(&phone, 90).as_str()));
    assert_eq!(phone.challenges, 1);

    let asked = phone.query();
    assert_eq!(asked.line(), "200 OK");
    assert!(
        asked.header("Contact").is_some_and(|contact| contact.contains(&phone.contact)),
        "{}",
        asked.text
    );

    let gone = phone.unregister();
    assert_eq!(gone.line(), "200 OK");
    assert_eq!(gone.header("Contact"), None);
    assert_eq!(phone.query().header("Contact"), None);
}

#[test]
fn any_number_of_workers_serves_all_extensions() {
    for workers in [1, 4] {
        let server = Server::started(&format!("workers = {workers}"), "");
        server.add_users(9_000, 40);
        // Each phone's socket lands at a worker of the kernel's choice, which need not be its extension's.
        let mut phones: Vec<Phone> =
            (9_000..9_040).map(|user: u32| server.phone(&user.to_string())).collect();
        for phone in &mut phones {
            assert_eq!(phone.register(60).line(), "200 OK", "{workers} workers");
        }
        let shown = server.succeed(&["ul", "show"]);
        for phone in &mut phones {
            assert!(
                shown.contains(&format!("Contact:: {} Q=", phone.contact)),
                "{workers} workers:\n{shown}"
            );
            assert_eq!(phone.unregister().line(), "200 OK");
        }
        assert_eq!(server.rows(None), 0);
    }
}

#[test]
fn expires_is_clamped_and_a_binding_ends_with_it() {
    let server =
        Server::started("", "[registrar]\nmin_expires = 1\nmax_expires = 300\ndefault_expires = 120\n");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(9_999).header("Contact"), Some(binding(&phone, 300).as_str()));
    let contact = format!("Contact: <{}>", phone.contact);
    assert_eq!(phone.send_register(&[&contact]).header("Contact"), Some(binding(&phone, 120).as_str()));

    assert_eq!(phone.register(1).header("Contact"), Some(binding(&phone, 1).as_str()));
    wait_for("the end of a binding of one second", Duration::from_secs(5), || {
        phone.query().header("Contact").is_none().then_some(())
    });
}

#[test]
fn a_wrong_password_is_forbidden_and_an_unknown_user_not_found() {
    let server = Server::started("", "");
    server.add_user("9001", "9001");
    let mut guesser = Phone::new(server.sip, "9001", "guess");
    assert_eq!(guesser.register(60).line(), "403 Forbidden");
    let mut stranger = server.phone("9002");
    assert_eq!(stranger.register(60).line(), "404 Not Found");
    // Whose password is right may not register somebody else.
    let mut thief = Phone::new(server.sip, "9002", "9001");
    thief.digest_user = "9001".to_owned();
    assert_eq!(thief.register(60).line(), "403 Forbidden");
    assert_eq!(server.rows(None), 0);
}

#[test]
fn unknown_users_can_be_hidden() {
    let server = Server::started("", "[auth]\nhide_unknown_users = true\n");
    assert_eq!(server.phone("9002").register(60).line(), "403 Forbidden");
}

#[test]
fn another_address_finds_the_account_occupied() {
    let mut server = Server::started("", "");
    server.add_user("9001", "9001");
    let mut first = server.phone("9001");
    let mut second = Phone::at("127.0.0.2", server.sip, "9001", "9001");
    assert_eq!(first.register(60).line(), "200 OK");

    assert_eq!(second.register(60).line(), "403 Occupied");
    assert_eq!(second.query().line(), "403 Occupied", "the check is before the look at Contact");
    assert_eq!(first.register(60).line(), "200 OK");

    // A phone that restarted is at the same address with another port.
    let mut rebooted = server.phone("9001");
    let registered = rebooted.register(60);
    assert_eq!(registered.line(), "200 OK");
    assert_eq!(registered.header("Contact"), Some(binding(&rebooted, 60).as_str()), "max_contacts = 1");

    // A restart of the server forgets nobody.
    assert_eq!(server.stop(), Some(0));
    server.start();
    assert_eq!(second.register(60).line(), "403 Occupied");

    assert_eq!(rebooted.unregister().line(), "200 OK");
    assert_eq!(second.register(60).line(), "200 OK");
    assert_eq!(first.register(60).line(), "403 Occupied");
}

#[test]
fn the_occupied_rule_can_be_off() {
    let server = Server::started("", "[registrar]\nexclusive = \"off\"\nmax_contacts = 2\n");
    server.add_user("9001", "9001");
    let mut first = server.phone("9001");
    let mut second = Phone::at("127.0.0.2", server.sip, "9001", "9001");
    assert_eq!(first.register(60).line(), "200 OK");
    let both = second.register(60);
    assert_eq!(both.line(), "200 OK");
    let contacts = both.header("Contact").unwrap_or_default();
    assert!(contacts.contains(&first.contact) && contacts.contains(&second.contact), "{contacts}");
}

#[test]
fn a_changed_password_counts_at_once() {
    let server = Server::started("", "");
    server.add_user("9001", "old");
    let mut old = Phone::new(server.sip, "9001", "old");
    let mut new = Phone::new(server.sip, "9001", "new");
    assert_eq!(old.register(60).line(), "200 OK");
    assert_eq!(new.register(60).line(), "403 Forbidden");

    server.succeed(&["user", "passwd", "9001", "new"]);
    assert_eq!(old.register(60).line(), "403 Forbidden");
    assert_eq!(new.register(60).line(), "200 OK");
}

#[test]
fn a_password_changed_by_another_program_counts_within_a_second() {
    // The new password is tried before it is one, again and again.
    let server = Server::started("", "[auth]\nban_failures = 0\n");
    server.add_user("9001", "old");
    let mut old = Phone::new(server.sip, "9001", "old");
    let mut new = Phone::new(server.sip, "9001", "new");
    assert_eq!(old.register(60).line(), "200 OK");

    // As opensips-cli and opensips-cp do it: nobody tells the server.
    server.sql("UPDATE subscriber SET password = 'new' WHERE username = '9001'");
    wait_for("the new password", Duration::from_millis(1_200), || {
        (new.register(60).status == 200).then_some(())
    });
    assert_eq!(old.register(60).line(), "403 Forbidden");
}

#[test]
fn a_new_user_may_register_at_once() {
    let server = Server::started("", "");
    server.add_user("9001", "9001");
    // The server has just learnt that there is no 9002.
    let mut phone = server.phone("9002");
    assert_eq!(phone.register(60).line(), "404 Not Found");
    server.add_user("9002", "9002");
    wait_for("the new user", Duration::from_millis(1_200), || {
        (phone.register(60).status == 200).then_some(())
    });
    server.add_user("9003", "9003");
    assert_eq!(server.phone("9003").register(60).line(), "200 OK");
}

#[test]
fn a_removed_user_is_gone_with_its_bindings() {
    let server = Server::started("", "");
    server.add_user("9001", "9001");
    server.add_user("9002", "9002");
    let (mut phone, mut other) = (server.phone("9001"), server.phone("9002"));
    assert_eq!(phone.register(60).line(), "200 OK");
    assert_eq!(other.register(60).line(), "200 OK");

    server.succeed(&["user", "rm", "9001"]);
    let shown = server.roost(&["ul", "show", "9001"]);
    assert!(shown.stderr.contains("404 AOR not found"), "{}{}", shown.stdout, shown.stderr);
    assert_eq!(server.rows(Some("9001")), 0);
    assert_eq!(phone.register(60).line(), "404 Not Found");
    assert_eq!(server.rows(Some("9002")), 1);
    assert_eq!(other.query().line(), "200 OK");
}

#[test]
fn a_nonce_grows_stale() {
    let server = Server::started("", "[auth]\nnonce_expire = 1\n");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(60).line(), "200 OK");
    let first = phone.challenge.clone().expect("a challenge");
    assert!(!first.stale);
    let second = wait_for("a new challenge", Duration::from_secs(6), || {
        assert_eq!(
            phone.register(60).line(),
            "200 OK",
            "a stale nonce costs the phone one round, not its place"
        );
        phone.challenge.clone().filter(|challenge| challenge.nonce != first.nonce)
    });
    assert!(second.stale, "stale=true: the phone need not ask its user");
}

#[test]
fn with_qop_auth_a_replay_is_refused() {
    let server = Server::started("", "[auth]\nqop = \"auth\"\n");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(60).line(), "200 OK");
    assert!(phone.challenge.as_ref().is_some_and(|challenge| challenge.qop));
    assert_eq!(phone.register(60).line(), "200 OK");
    assert_eq!((phone.nc, phone.challenges), (2, 1), "one nonce, counted");

    // The same count in another request, from another source: somebody has listened.
    let mut listener = server.phone("9001");
    listener.challenge = phone.challenge.clone();
    listener.nc = phone.nc - 1;
    let refused = listener.send_register_once(&["Contact: <sip:thief@127.0.0.1>"]);
    assert_eq!(refused.line(), "401 Unauthorized");
    assert!(listener.challenge.is_some_and(|challenge| challenge.stale));
    assert_eq!(phone.register(60).line(), "200 OK");
}

#[test]
fn phones_without_qop_are_served_where_it_is_offered() {
    let server = Server::started("", "[auth]\nqop = \"auth\"\n");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    assert_eq!(phone.send_register_once(&[]).status, 401);
    if let Some(challenge) = &mut phone.challenge {
        challenge.qop = false;
    }
    assert_eq!(phone.register(60).line(), "200 OK");
}

#[test]
fn hashes_serve_as_passwords() {
    let sections =
        "[auth]\nrealm = \"pbx.example\"\n[auth_db]\ncalculate_ha1 = false\npassword_column = \"ha1\"\n";
    let server = Server::started("", sections);
    server.add_user("9001", "secret");
    let ha1 = server.sql("SELECT ha1 FROM subscriber WHERE username = '9001'");
    assert_eq!(ha1, crate::support::md5::hex(b"9001:pbx.example:secret"));
    let password = server.sql("SELECT password FROM subscriber WHERE username = '9001'");
    assert_ne!(password, "secret", "a hash is stored so that the password is not");

    assert_eq!(Phone::new(server.sip, "9001", "secret").register(60).line(), "200 OK");
    assert_eq!(Phone::new(server.sip, "9001", "guess").register(60).line(), "403 Forbidden");
}

#[test]
fn tenants_have_the_same_numbers() {
    let server = Server::started("use_domain = true", "");
    let missing = server.roost(&["user", "add", "9001", "a"]);
    assert_ne!(missing.code, Some(0), "with tenants an extension has a domain");
    assert!(missing.stderr.contains("--domain"), "{}", missing.stderr);
    for (password, domain) in [("a", "a.example"), ("b", "b.example")] {
        server.succeed(&["user", "add", "9001", password, "--domain", domain]);
    }
    let tenant = |password: &str, domain: &str| {
        let mut phone = Phone::new(server.sip, "9001", password);
        phone.domain = domain.to_owned();
        phone
    };
    let (mut at_a, mut at_b) = (tenant("a", "a.example"), tenant("b", "b.example"));
    assert_eq!(at_a.register(60).line(), "200 OK");
    assert_eq!(at_b.register(60).line(), "200 OK");
    assert_eq!(tenant("a", "b.example").register(60).line(), "403 Forbidden");
    assert_eq!(tenant("a", "c.example").register(60).line(), "404 Not Found");

    // The long form of the username opens its own tenant only.
    at_a.digest_user = "9001@a.example".to_owned();
    assert_eq!(at_a.register(60).line(), "200 OK");
    let mut thief = tenant("a", "b.example");
    thief.digest_user = "9001@a.example".to_owned();
    assert_eq!(thief.register(60).line(), "403 Forbidden");

    let shown = server.succeed(&["ul", "show", "9001@a.example"]);
    assert!(shown.contains(&at_a.contact) && !shown.contains(&at_b.contact), "{shown}");
    let unclear = server.roost(&["ul", "show", "9001"]);
    assert!(unclear.stderr.contains("400 Domain missing in AOR"), "{}", unclear.stderr);

    server.succeed(&["user", "rm", "9001", "--domain", "a.example"]);
    assert_eq!(at_a.register(60).line(), "404 Not Found");
    assert_eq!(at_b.query().header("Contact").map(|contact| contact.contains(&at_b.contact)), Some(true));
}

#[test]
fn the_row_is_there_when_the_200_is() {
    let server = Server::started("", "");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(60).line(), "200 OK");

    let row = server.sql(
        "SELECT domain, received, expires, q, cseq, flags, methods, username, contact, callid, user_agent, socket \
         FROM location",
    );
    let columns: Vec<&str> = row.split('\t').collect();
    let [domain, received, expires, q, cseq, flags, methods, texts @ ..] = columns.as_slice() else {
        panic!("{row}")
    };
    assert_eq!(*domain, "NULL", "use_domain = false");
    assert_eq!(*received, "NULL", "the Contact is where it came from");
    assert_eq!(q.parse(), Ok(-1.0), "none given");
    assert_eq!((*cseq, *flags), (phone.cseq.to_string().as_str(), "0"));
    assert_eq!(*methods, "5951", "{ALLOW}");
    let left = expires.parse::<i64>().expect("a time") - unix_s();
    assert!((57..=60).contains(&left), "{left} s left of 60");
    let socket = format!("udp:{}", server.sip);
    assert_eq!(texts, ["9001", &phone.contact, &phone.call_id, USER_AGENT, &socket]);

    assert_eq!(phone.register(60).line(), "200 OK");
    let rows = server.sql("SELECT count(*), max(cseq) FROM location");
    assert_eq!(rows, format!("1\t{}", phone.cseq), "a refresh writes its row again");

    assert_eq!(phone.unregister().line(), "200 OK");
    assert_eq!(server.rows(None), 0);
}

#[test]
fn memory_mode_writes_no_row() {
    let mut server = Server::started("", "[usrloc]\ndb_mode = \"memory\"\n");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(60).line(), "200 OK");
    assert!(server.succeed(&["ul", "show", "9001"]).contains(&phone.contact));
    assert_eq!(server.rows(None), 0);

    assert_eq!(server.stop(), Some(0));
    server.start();
    assert_eq!(server.roost(&["ul", "show", "9001"]).code, Some(1));
    assert_eq!(phone.register(60).line(), "200 OK");
}

#[test]
fn other_methods_are_answered() {
    // "off": these answers are the original script's, whatever calls will ask for.
    let server = Server::started("", "[proxy]\nauthorize = \"off\"\n");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    let (domain, user) = ("sip:127.0.0.1", "sip:9002@127.0.0.1");
    let in_dialog = format!("To: <{user}>;tag=1");
    for (method, uri, headers, expected) in [
        ("OPTIONS", domain, vec![], "200 OK"),
        ("OPTIONS", user, vec![], "200 OK"),
        ("OPTIONS", domain, vec!["Max-Forwards: 0"], "483 Too Many Hops"),
        ("INVITE", user, vec!["Max-Forwards: 0"], "483 Too Many Hops"),
        ("SUBSCRIBE", user, vec!["Event: presence"], "405 Method Not Allowed"),
        ("PUBLISH", user, vec!["Event: presence"], "405 Method Not Allowed"),
        ("BYE", user, vec![in_dialog.as_str()], "404 Not here"),
        ("INFO", user, vec![in_dialog.as_str()], "404 Not here"),
        ("INVITE", user, vec![], "404 Not Found"),
        ("MESSAGE", user, vec![], "404 Not Found"),
    ] {
        let answer = phone.ask(method, uri, &headers);
        assert_eq!(answer.line(), expected, "{method} {uri} {headers:?}");
        assert!(answer.header("To").is_some_and(|to| to.contains(";tag=")), "{}", answer.text);
    }
}

#[test]
fn ack_and_a_cancel_of_nothing_are_not_answered() {
    let server = Server::started("", "");
    let mut phone = server.phone("9001");
    let ack = phone.message("ACK", "sip:9002@127.0.0.1", &["To: <sip:9002@127.0.0.1>;tag=1"]);
    let cancel = phone.message("CANCEL", "sip:9002@127.0.0.1", &[]);
    let options = phone.message("OPTIONS", "sip:127.0.0.1", &[]);
    for message in [&ack, &cancel, &options] {
        phone.send(message);
    }
    let heard: Vec<Response> = phone.listen(Duration::from_millis(500));
    assert!(!heard.is_empty(), "OPTIONS is answered");
    assert!(heard.iter().all(|response| response.answers(&options)), "{}", heard[0].text);
}

#[test]
fn a_retransmission_gets_its_200_again() {
    let server = Server::started("", "");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(60).line(), "200 OK");
    let contact = format!("Contact: <{}>", phone.contact);
    let message = phone.register_message(&[&contact, "Expires: 60"]);
    assert_eq!(phone.exchange(&message).line(), "200 OK");
    // The 200 was lost; cseq_delay allows the repetition.
    assert_eq!(phone.exchange(&message).line(), "200 OK");
    assert_eq!(server.rows(None), 1);
}

/// The Contact of a 200 with this one binding.
fn binding(phone: &Phone, expires: u32) -> String {
    format!("<{}>;expires={expires}", phone.contact)
}

fn unix_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(now.as_secs()).expect("a clock before the end of time")
}

/// SQLite takes what phones with push parameters send; on a database server the column is as wide as it is.
#[test]
fn a_long_contact_is_taken_as_far_as_its_column_goes() {
    let mut server = Server::started("", "");
    server.add_user("9001", "9001");
    let mut phone = Phone::new(server.sip, "9001", "9001");
    let plain = phone.contact.clone();
    phone.contact = format!("{plain};pn-prid={}", "x".repeat(1_500));
    assert_eq!(phone.register(60).line(), "200 OK");
    assert_eq!(server.sql("SELECT contact FROM location"), phone.contact);
    let narrow = match Kind::from_env() {
        Kind::Sqlite => None,
        Kind::MariaDb => Some("ALTER TABLE location MODIFY contact VARCHAR(255) NOT NULL"),
        Kind::Postgres => Some("ALTER TABLE location ALTER contact TYPE VARCHAR(255)"),
    };
    assert_eq!(phone.unregister().line(), "200 OK");
    if let Some(narrow) = narrow {
        // As OpenSIPS made it before 3.1.
        server.stop();
        server.sql(narrow);
        server.start();
        let refused = phone.register(60);
        assert_eq!(refused.status, 400);
        assert_eq!(refused.header("P-Registrar-Error"), Some("Contact/received too long"));
    }
    phone.contact = format!("{plain};pn-prid={}", "x".repeat(2_048));
    assert_eq!(phone.register(60).status, 400);
    assert_eq!(phone.unregister().line(), "200 OK", "what goes needs no room");
}

/// A 200 repeats them (RFC 3840 section 6), after a restart too; what others keep in `kv_store` stays.
#[test]
fn feature_parameters_are_kept() {
    let mut server = Server::started("", "");
    server.add_user("9001", "9001");
    let mut phone = Phone::new(server.sip, "9001", "9001");
    let contact = format!(
        "Contact: <{}>;+sip.instance=\"<urn:uuid:1>\";methods=\"INVITE, ACK\";reg-id=1;+sip.a=yes;audio",
        phone.contact
    );
    let features = ";+sip.instance=\"<urn:uuid:1>\";methods=\"INVITE,ACK\";reg-id=1;+sip.a=yes;audio";
    let registered = phone.send_register(&[&contact, "Expires: 60"]);
    assert_eq!(registered.header("Contact"), Some(&*format!("{}{features}", binding(&phone, 60))));
    let told = r#""feature_params":";methods;reg-id=1;+sip.a=yes;audio""#;
    assert_eq!(server.sql("SELECT kv_store FROM location"), format!("{{{told}}}"));

    // OpenSIPS's own keys, while the server is away.
    server.stop();
    server.sql(r#"UPDATE location SET kv_store = '{"a":"b"}'"#);
    server.start();
    let asked = phone.query();
    let contact_of = |response: &Response| response.header("Contact").map(str::to_owned).expect("a binding");
    assert!(contact_of(&asked).ends_with(";+sip.instance=\"<urn:uuid:1>\""), "{}", contact_of(&asked));
    assert!(contact_of(&phone.send_register(&[&contact, "Expires: 60"])).ends_with(features));
    assert_eq!(server.sql("SELECT kv_store FROM location"), format!(r#"{{"a":"b",{told}}}"#));

    server.kill9();
    server.start();
    assert!(contact_of(&phone.query()).ends_with(features));
    assert_eq!(phone.register(60).header("Contact"), Some(&*binding(&phone, 60)), "a refresh says it all");
    assert_eq!(server.sql("SELECT kv_store FROM location"), r#"{"a":"b"}"#);
}
