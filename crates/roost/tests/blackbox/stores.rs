//! On database servers: what a phone is answered for is in the table, whichever process is killed; a server that is away, frozen,
//! slow or locked fails registrations and harms no call; tables that others made are used as they stand.
//!
//! The rest of the behaviour is the same on all databases: `register`, `mi`, `user` and `import` run against each
//! (`ROOST_TEST_DATABASE`).

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{
    A_WHILE, Database, Kind, PATIENCE, Phone, Random, Server, TcpRelay, need, report, wait_for,
};
use roost_core::contact_id::compose;

/// Runs each test on each kind of server.
macro_rules! on_servers {
    ($($test:ident),* $(,)?) => {
        mod mariadb { $( #[test] fn $test() { super::$test(super::Kind::MariaDb); } )* }
        mod postgres { $( #[test] fn $test() { super::$test(super::Kind::Postgres); } )* }
    };
}

on_servers!(
    a_200_means_that_the_row_is_there_whichever_process_is_killed,
    a_database_that_is_away_fails_registrations_and_no_call,
    a_frozen_database_delays_no_call,
    an_opensips_database_is_used_as_it_stands,
    rows_come_in_during_the_load_and_nobody_gets_a_wrong_404,
    a_slow_network_and_cut_connections_lose_and_double_nothing,
    a_lock_and_a_read_only_database_fail_registrations_until_they_are_gone,
    two_nodes_never_both_accept,
    a_lock_that_another_node_holds_fails_its_own_registration_only,
    one_bad_row_harms_no_other,
    expired_rows_go,
    tls_and_passwords_that_stand_elsewhere,
    tables_are_checked_and_made_but_never_changed,
    columns_may_have_other_names,
);

/// Not started yet, with the extensions 9001 and 9002.
fn prepared(kind: Kind, sections: &str) -> Server {
    let server = Server::prepared_on(kind, "", sections);
    for user in ["9001", "9002"] {
        server.add_user(user, user);
    }
    server
}

fn started(kind: Kind, sections: &str) -> Server {
    let mut server = prepared(kind, sections);
    server.start();
    server
}

fn database(server: &mut Server) -> &mut Database {
    server.database.as_mut().expect("a database server")
}

/// A REGISTER for five minutes with the challenge that the phone has.
fn refresh(phone: &mut Phone) -> String {
    let contact = format!("Contact: <{}>", phone.contact);
    phone.register_message(&[&contact, "Expires: 300"])
}

fn a_200_means_that_the_row_is_there_whichever_process_is_killed(kind: Kind) {
    let mut server = started(kind, "");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(300).line(), "200 OK");
    let expected =
        format!("9001\tNULL\t{}\tudp:{}\t{}\t{}\t5951", phone.contact, server.sip, phone.cseq, phone.call_id);
    let row = "SELECT username, domain, contact, socket, cseq, callid, methods FROM location";
    assert_eq!(database(&mut server).sql(row), expected);
    assert_eq!(server.statistic("database:commits"), 1);
    let age = match kind {
        Kind::Postgres => {
            "SELECT EXTRACT(EPOCH FROM now() - CAST(last_modified AS timestamptz)) < 5 FROM location"
        }
        _ => "SELECT ABS(TIMESTAMPDIFF(SECOND, last_modified, NOW())) < 5 FROM location",
    };
    let age = database(&mut server).sql(age);
    assert!(age == "1" || age == "t", "last_modified is local time, as OpenSIPS writes it");

    server.kill9();
    database(&mut server).kill();
    database(&mut server).restart();
    server.start();
    assert!(server.succeed(&["ul", "show", "9001"]).contains(&phone.contact));
    assert_eq!(phone.register(300).line(), "200 OK");
    assert_eq!(server.rows(None), 1, "refreshed, not doubled");
    assert_eq!(phone.unregister().line(), "200 OK");
    assert_eq!(server.rows(None), 0);
}

fn a_database_that_is_away_fails_registrations_and_no_call(kind: Kind) {
    let mut server = started(kind, "");
    let mut caller = server.registered("9001");
    let callee = server.registered("9002");
    database(&mut server).kill();
    let refused = caller.register(300);
    assert_eq!((refused.status, refused.header("Retry-After")), (500, Some("2")));
    assert_eq!(caller.register(300).status, 500, "at once: nobody waits for a server that is away");
    caller.establish(&callee);
    database(&mut server).restart();
    wait_for("registrations again", PATIENCE, || (caller.register(300).status == 200).then_some(()));
    assert_eq!(server.rows(None), 2);
}

/// `ROOST_FREEZE_S` says for how long; phones register and call meanwhile.
fn a_frozen_database_delays_no_call(kind: Kind) {
    let seconds = std::env::var("ROOST_FREEZE_S").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(10);
    let mut server = prepared(kind, "[registrar]\nexclusive = \"off\"\n");
    server.add_users(100, 50);
    server.start();
    let mut caller = server.registered("9001");
    let callee = server.registered("9002");
    let mut phones: Vec<Phone> = (100..150).map(|user| server.registered(&user.to_string())).collect();
    let done = AtomicBool::new(false);
    let begun = Instant::now();
    server.database.as_ref().expect("a server").signal("STOP");
    let (calls, slowest, answers) = std::thread::scope(|scope| {
        let done = &done;
        let registering = scope.spawn(move || {
            let mut answers: BTreeMap<u16, u32> = BTreeMap::new();
            let mut next = 0;
            while !done.load(Ordering::Relaxed) {
                next = (next + 1) % phones.len();
                let message = refresh(&mut phones[next]);
                phones[next].send(&message);
                if let Some(answer) = phones[next].hear(Duration::from_millis(20)) {
                    *answers.entry(answer.status).or_default() += 1;
                }
            }
            answers
        });
        let (mut calls, mut slowest) = (0, Duration::ZERO);
        while begun.elapsed() < Duration::from_secs(seconds) {
            let before = Instant::now();
            caller.establish(&callee);
            slowest = slowest.max(before.elapsed());
            calls += 1;
        }
        server.database.as_ref().expect("a server").signal("CONT");
        done.store(true, Ordering::Relaxed);
        (calls, slowest, registering.join().expect("the phones"))
    });
    report(&format!(
        "{kind:?} frozen for {seconds} s: {calls} calls set up, the slowest in {slowest:?}; REGISTERs answered: {answers:?}"
    ));
    assert!(calls > 20 && slowest < A_WHILE, "{calls} calls, {slowest:?}");
    wait_for("registrations again", PATIENCE, || (caller.register(300).status == 200).then_some(()));
    wait_for("every row once", PATIENCE, || (server.rows(None) == 52).then_some(()));
}

fn an_opensips_database_is_used_as_it_stands(kind: Kind) {
    let mut server = Server::prepared_on(kind, "use_domain = 1", "");
    // As opensipsdbctl 2.4 makes them, with a row of OpenSIPS's.
    for statement in if kind == Kind::Postgres { OPENSIPS_POSTGRES } else { OPENSIPS_MYSQL } {
        database(&mut server).sql(statement);
    }
    server.start();
    let shown = server.succeed(&["ul", "show"]);
    assert!(
        shown.contains("AOR:: 9002@127.0.0.1") && shown.contains("ContactID:: 3615817613231128576"),
        "{shown}"
    );
    let mut phone = Phone::new(server.sip, "9001", "secret");
    assert_eq!(phone.register(300).line(), "200 OK");
    let row = server
        .sql("SELECT username, domain, flags, cflags, attr, kv_store FROM location WHERE username = '9001'");
    assert_eq!(row, "9001\t127.0.0.1\t0\t\tNULL\tNULL");
    // What OpenSIPS checks when it loads the row.
    let id =
        server.sql("SELECT contact_id FROM location WHERE username = '9001'").parse::<u64>().expect("an id");
    assert_eq!(id >> 46, compose(b"9001@127.0.0.1", 0, 0) >> 46);
    assert_eq!(server.roost(&["user", "add", "9001", "x", "--domain", "127.0.0.1"]).code, Some(1));
    server.succeed(&["user", "passwd", "9001", "other", "--domain", "127.0.0.1"]);
    assert_eq!(server.sql("SELECT password, email_address FROM subscriber"), "other\tkept@example.com");
    assert_eq!(phone.register(300).status, 403, "the old password");
}

/// 50,000 rows over a slow network: what is read already rings, what is not read yet waits, who is not there gets 404.
fn rows_come_in_during_the_load_and_nobody_gets_a_wrong_404(kind: Kind) {
    const ROWS: u32 = 50_000;
    let mut server = prepared(kind, "[proxy]\nauthorize = \"off\"\n");
    let first = server.phone("9001");
    // By the hash that ids begin with, which is the order of the load.
    let hash = |user: &u32| compose(user.to_string().as_bytes(), 0, 0);
    let mut users: Vec<u32> = (100_000..100_000 + ROWS).collect();
    users.sort_by_key(hash);
    let (early, late) = (users[10], users[users.len() - 10]);
    server.add_user(&late.to_string(), &late.to_string());
    for some in users.chunks(500) {
        let row = |user: &u32| {
            let id = compose(user.to_string().as_bytes(), *user, 1);
            format!("({id}, '{user}', '{}', 2000000000, 'c', 1, 'udp:{}', -1)", first.contact, server.sip)
        };
        let rows = some.iter().map(row).collect::<Vec<_>>().join(", ");
        let columns = "contact_id, username, contact, expires, callid, cseq, socket, q";
        database(&mut server).sql(&format!("INSERT INTO location ({columns}) VALUES {rows}"));
    }
    let own = database(&mut server);
    let relay = TcpRelay::start(SocketAddr::from(([127, 0, 0, 1], own.port)));
    let (direct, relayed) = (own.url(), own.url_at(relay.address.port()));
    server.replace_in_config(&direct, &relayed);
    relay.delay(Duration::from_millis(40));
    let begun = Instant::now();
    server.start();
    let mut caller = server.phone("9002");
    let mut ask = |user: u32| {
        let message = caller.message("MESSAGE", &format!("sip:{user}@127.0.0.1"), &[]);
        caller.send(&message);
        message
    };
    let to_late = ask(late);
    let to_early = ask(early);
    let mut registering = server.phone(&late.to_string());
    let status = std::thread::scope(|scope| {
        let registered = scope.spawn(|| registering.register(300).status);
        let mut heard = Vec::new();
        for _ in 0..2 {
            let request = first.await_request("MESSAGE");
            heard.push((request.uri().to_string(), begun.elapsed()));
            first.send(first.answer(&request, "200 OK"));
        }
        report(&format!("{kind:?}: {ROWS} rows over a slow network, delivered after the start: {heard:?}"));
        registered.join().expect("its answer")
    });
    assert_eq!(status, 200, "the rows that it waited for came from its own address");
    for message in [to_late, to_early] {
        let answer = caller.hear(PATIENCE).expect("an answer");
        assert_eq!(answer.status, 200, "{message}\n{}", answer.text);
    }
    wait_for("the end of the load", PATIENCE, || (server.statistic("roost:loading") == 0).then_some(()));
    let gone = caller.ask("MESSAGE", "sip:99@127.0.0.1", &[]);
    assert_eq!(gone.status, 404);
    assert_eq!(
        server.statistic("usrloc:location-contacts"),
        u64::from(ROWS),
        "its new contact stands for the old one"
    );
}

fn a_slow_network_and_cut_connections_lose_and_double_nothing(kind: Kind) {
    let mut server = prepared(kind, "");
    server.add_users(100, 100);
    let own = database(&mut server);
    let relay = TcpRelay::start(SocketAddr::from(([127, 0, 0, 1], own.port)));
    let (direct, relayed) = (own.url(), own.url_at(relay.address.port()));
    server.replace_in_config(&direct, &relayed);
    server.start();
    let mut caller = server.registered("9001");
    let callee = server.registered("9002");
    relay.delay(Duration::from_millis(50));
    let before = Instant::now();
    assert_eq!(caller.register(300).line(), "200 OK");
    let slow = before.elapsed();
    assert!(slow > Duration::from_millis(50), "{slow:?}: the commit took the long way");
    let before = Instant::now();
    caller.establish(&callee);
    assert!(before.elapsed() < slow, "a call does not");
    relay.delay(Duration::from_millis(3));
    let mut phones: Vec<Phone> = (100..200).map(|user| server.phone(&user.to_string())).collect();
    let mut answers: BTreeMap<u16, u32> = BTreeMap::new();
    for (index, phone) in phones.iter_mut().enumerate() {
        if index % 10 == 5 {
            relay.cut();
        }
        *answers.entry(phone.register(300).status).or_default() += 1;
    }
    report(&format!("{kind:?}: connections cut ten times while 100 phones registered: {answers:?}"));
    for phone in &mut phones {
        wait_for("registrations again", PATIENCE, || (phone.register(300).status == 200).then_some(()));
    }
    let by_user = "SELECT count(*), count(DISTINCT username) FROM location";
    assert_eq!(server.sql(by_user), "102\t102");
    server.kill9();
    server.start();
    for phone in &phones {
        assert!(server.succeed(&["ul", "show", &phone.user]).contains(&phone.contact));
    }
}

fn a_lock_and_a_read_only_database_fail_registrations_until_they_are_gone(kind: Kind) {
    let mut server = started(kind, "");
    let mut phone = server.registered("9001");
    let mut other = server.registered("9002");
    let lock = match kind {
        Kind::Postgres => "BEGIN; LOCK TABLE location; SELECT pg_sleep(7); COMMIT",
        _ => "LOCK TABLES location WRITE; SELECT SLEEP(7); UNLOCK TABLES",
    };
    std::thread::scope(|scope| {
        let own = server.database.as_ref().expect("a server");
        let locked = scope.spawn(|| own.sql(lock));
        let is_locked = || {
            match kind {
            Kind::Postgres => own.sql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'location'::regclass") != "0",
            _ => own.sql("SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'") != "0",
        }
        };
        wait_for("the lock", PATIENCE, || is_locked().then_some(()));
        let message = refresh(&mut phone);
        phone.send(&message);
        phone.establish(&other);
        locked.join().expect("the lock's end");
    });
    wait_for("registrations again", PATIENCE, || (phone.register(300).status == 200).then_some(()));

    let own = database(&mut server);
    // The administrator may write all the same; roost is none here.
    match kind {
        Kind::Postgres => {
            own.sql("ALTER DATABASE roost SET default_transaction_read_only = on");
            own.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'roost'",
            );
        }
        _ => {
            own.sql("CREATE USER plain@'%'; GRANT ALL ON roost.* TO plain@'%'; FLUSH PRIVILEGES");
            own.sql("SET GLOBAL read_only = 1");
            let (before, after) = (own.url(), own.url().replace("root@", "plain@"));
            server.replace_in_config(&before, &after);
            assert_eq!(server.stop(), Some(0));
            server.start();
        }
    }
    wait_for("a refusal", PATIENCE, || (other.register(300).status == 500).then_some(()));
    phone.establish(&other);
    match kind {
        Kind::Postgres => {
            let own = database(&mut server);
            own.sql("BEGIN READ WRITE; ALTER DATABASE roost RESET default_transaction_read_only; COMMIT");
            own.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'roost'",
            );
        }
        _ => drop(database(&mut server).sql("SET GLOBAL read_only = 0")),
    }
    wait_for("registrations again", PATIENCE, || (other.register(300).status == 200).then_some(()));
    assert_eq!(server.rows(None), 2);
}

/// Plan B: phones at two addresses register the same extension at two nodes, at once; one of them gets it.
fn two_nodes_never_both_accept(kind: Kind) {
    let sections = "[registrar]\nexclusive_check = \"database\"\n";
    let mut one = prepared(kind, sections);
    one.add_users(100, 40);
    let mut other = Server::prepared_on(Kind::Sqlite, "", sections);
    let url = database(&mut one).url();
    other.use_database(&url);
    one.succeed(&["db", "migrate"]);
    one.start();
    other.start();
    let seed = Random::fresh_seed();
    report(&format!("{kind:?}, two nodes: seed {seed}"));
    for user in 100..140 {
        let user = user.to_string();
        let mut first = Phone::at("127.0.0.1", one.sip, &user, &user);
        let mut second = Phone::at("127.0.0.2", other.sip, &user, &user);
        let register = |phone: &mut Phone| phone.register(300).line();
        let answers = std::thread::scope(|scope| {
            let (first, second) = (&mut first, &mut second);
            let running = scope.spawn(move || register(second));
            [register(first), running.join().expect("an answer")]
        });
        let accepted = answers.iter().filter(|line| *line == "200 OK").count();
        assert_eq!(accepted, 1, "{user}: {answers:?}");
        assert!(answers.iter().any(|line| line == "403 Occupied"), "{user}: {answers:?}");
        let winner = if answers[0] == "200 OK" { &mut first } else { &mut second };
        assert_eq!(winner.register(300).line(), "200 OK", "its holder refreshes");
        assert_eq!(winner.unregister().line(), "200 OK", "its holder gives it up");
        let loser = if answers[0] == "200 OK" { &mut second } else { &mut first };
        assert_eq!(loser.register(300).line(), "200 OK", "then another may have it");
    }
}

/// The name of an AOR's lock is what makes nodes of one database exclude one another: it must not change.
fn a_lock_that_another_node_holds_fails_its_own_registration_only(kind: Kind) {
    const USERS: u32 = 20;
    let mut server = prepared(kind, "[registrar]\nexclusive_check = \"database\"\n");
    server.add_users(100, USERS);
    server.start();
    let mut phones: Vec<Phone> = (100..100 + USERS).map(|user| server.phone(&user.to_string())).collect();
    for phone in &mut phones {
        assert_eq!(phone.register(300).line(), "200 OK");
        assert_eq!(phone.unregister().line(), "200 OK");
    }
    let own = server.database.as_ref().expect("a server");
    let lock = match kind {
        Kind::Postgres => "SELECT pg_advisory_lock(5060, hashtext('105')); SELECT pg_sleep(6)",
        _ => {
            "SELECT GET_LOCK(CONCAT('roost ', MD5(CONCAT(DATABASE(), '/', '105', '@', ''))), 0); SELECT SLEEP(6)"
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| own.sql(lock));
        let sleeping = match kind {
            Kind::Postgres => "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
            _ => "SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'",
        };
        wait_for("the lock", PATIENCE, || (own.sql(sleeping) != "0").then_some(()));
        for phone in &mut phones {
            let message = refresh(phone);
            phone.send(&message);
        }
        for phone in &mut phones {
            let status = phone.hear(PATIENCE).expect("an answer").status;
            assert_eq!(status, if phone.user == "105" { 500 } else { 200 }, "{}", phone.user);
        }
    });
    // Nothing is left behind of what failed.
    assert_eq!(phones[5].register(300).line(), "200 OK");
    // A row that fails leaves no lock either: another connection could take them all.
    server.sql("UPDATE location SET username = '9009' WHERE username = '106'");
    let left = match kind {
        Kind::Postgres => "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
        _ => "SELECT count(IS_USED_LOCK(CONCAT('roost ', MD5(CONCAT(DATABASE(), '/106@')))))",
    };
    assert_eq!(phones[6].register(300).status, 500, "its row is another's");
    assert_eq!(server.sql(left), "0");
}

fn one_bad_row_harms_no_other(kind: Kind) {
    let mut server = prepared(kind, "");
    server.add_users(100, 20);
    server.start();
    let mut phone = server.registered("9001");
    // Somebody else's row gets the id of 9001's.
    server.sql("UPDATE location SET username = '9009' WHERE username = '9001'");
    let mut phones: Vec<Phone> = (100..120).map(|user| server.phone(&user.to_string())).collect();
    for other in &mut phones {
        assert_eq!(other.register(300).line(), "200 OK");
    }
    for other in &mut phones {
        let message = refresh(other);
        other.send(&message);
    }
    assert_eq!(phone.register(300).status, 500, "its row is another's");
    for other in &mut phones {
        assert_eq!(other.hear(PATIENCE).expect("an answer").status, 200);
    }
    assert_eq!(server.sql("SELECT username FROM location WHERE username LIKE '90%'"), "9009", "untouched");
    // A User-Agent in no encoding is shown as far as it can be; a CSeq that fits no column is refused before it.
    let mut agent = server.phone("9002");
    assert_eq!(agent.register(300).line(), "200 OK");
    let message = refresh(&mut agent);
    let mut bytes = message.into_bytes();
    let at = bytes.windows(12).position(|window| window == b"User-Agent: ").expect("a User-Agent") + 12;
    bytes.splice(at..at, *b"J\xf8rgen ");
    agent.send(&bytes);
    assert_eq!(agent.hear(PATIENCE).expect("an answer").status, 200);
    let shown = server.sql("SELECT user_agent FROM location WHERE username = '9002'");
    assert!(shown.starts_with('J') && shown.contains("rgen "), "{shown}");
    agent.cseq = 3_000_000_000;
    assert_eq!(agent.register(300).status, 400, "beyond a CSeq and its column");
}

fn expired_rows_go(kind: Kind) {
    let mut server = prepared(kind, "");
    let columns = "contact_id, username, contact, expires, callid, cseq";
    let rows: Vec<_> =
        (1..=1_200).map(|id| format!("({id}, '{id}', 'sip:{id}@127.0.0.1', 1000000000, 'c', 1)")).collect();
    database(&mut server).sql(&format!("INSERT INTO location ({columns}) VALUES {}", rows.join(", ")));
    database(&mut server).sql(&format!(
        "INSERT INTO location ({columns}) VALUES (5000, '9001', 'sip:9001@127.0.0.1', 0, 'c', 1)"
    ));
    server.start();
    wait_for("the load", PATIENCE, || (server.statistic("usrloc:location-contacts") == 1).then_some(()));
    let mut phone = server.phone("9002");
    wait_for("the end of expired rows", PATIENCE, || {
        assert_eq!(phone.register(300).status, 200);
        (server.rows(None) == 2).then_some(())
    });
}

fn tls_and_passwords_that_stand_elsewhere(kind: Kind) {
    let own = Database::start_with(kind, |own| {
        let folder = own.folder.path();
        certificates(folder);
        for file in ["server.crt", "server.key"] {
            fs::set_permissions(folder.join(file), fs::Permissions::from_mode(0o600)).expect("its rights");
            own.own(folder.join(file));
        }
        let path = |name: &str| folder.join(name).display().to_string();
        match kind {
            Kind::Postgres => [
                "-c",
                "ssl=on",
                "-c",
                &format!("ssl_cert_file={}", path("server.crt")),
                "-c",
                &format!("ssl_key_file={}", path("server.key")),
            ]
            .map(str::to_string)
            .to_vec(),
            _ => vec![
                format!("--ssl-cert={}", path("server.crt")),
                format!("--ssl-key={}", path("server.key")),
            ],
        }
    });
    match kind {
        Kind::Postgres => {
            own.sql("CREATE USER guarded PASSWORD 'p@ss/w:rd'; GRANT ALL ON DATABASE roost TO guarded; GRANT ALL ON SCHEMA public TO guarded");
            let rules = "local all all trust\nhostssl roost guarded 127.0.0.1/32 scram-sha-256\n";
            fs::write(own.folder.path().join("data/pg_hba.conf"), rules).expect("its rules");
            own.sql("SELECT pg_reload_conf()");
        }
        _ => {
            own.sql("CREATE USER guarded@'%' IDENTIFIED BY 'p@ss/w:rd' REQUIRE SSL; GRANT ALL ON roost.* TO guarded@'%'");
        }
    }
    let url = own.url().replace("root@127.0.0.1", "guarded@localhost");
    let mut server = Server::prepared_on(Kind::Sqlite, "database_password_file = \"password\"\n", "");
    server.use_database(&url);
    let ran = server.roost(&["db", "init"]);
    assert!(
        ran.stderr.contains("password") && ran.stderr.contains("database_password_file"),
        "{}",
        ran.stderr
    );
    fs::write(server.path("password"), "p@ss/w:rd\n").expect("a password file");
    let ran = server.roost(&["db", "init"]);
    assert_eq!(ran.code, Some(1), "the server wants TLS");
    assert!(!ran.stderr.contains("p@ss"), "{}", ran.stderr);
    let ca = own.folder.path().join("ca.crt").display().to_string();
    server.replace_in_config("database_password_file", "database_tls = true\ndatabase_password_file");
    let ran = server.roost(&["db", "init"]);
    assert_eq!(ran.code, Some(1), "nobody knows who made this certificate");
    server.replace_in_config(
        "database_tls = true",
        &format!("database_tls = true\ndatabase_tls_ca = \"{ca}\""),
    );
    let ran = server.roost(&["db", "init"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    fs::write(server.path("password"), "wrong\n").expect("a password file");
    let ran = server.roost(&["db", "check"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("user, password and name"), "{}", ran.stderr);
    let mut command = server.command(&["db", "check"]);
    command.env("ROOST_DATABASE_PASSWORD", "p@ss/w:rd");
    assert_eq!(crate::support::run(command, PATIENCE).code, Some(0), "the environment goes before the file");
    fs::write(server.path("password"), "p@ss/w:rd\n").expect("a password file");
    server.add_user("9001", "9001");
    server.start();
    assert_eq!(server.phone("9001").register(300).line(), "200 OK");
    let is_tls = match kind {
        Kind::Postgres => own.sql("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'roost'"),
        _ => own.sql("SELECT 't' FROM information_schema.processlist WHERE user = 'guarded' LIMIT 1"),
    };
    assert_eq!(is_tls, "t");
    assert!(!server.log.text().contains("p@ss"), "{}", server.log.text());
}

/// An authority, and a certificate of it for localhost.
fn certificates(folder: &std::path::Path) {
    let openssl = |args: &str| {
        let ran = Command::new(need("openssl", "openssl"))
            .current_dir(folder)
            .args(args.split(' '))
            .stderr(Stdio::null())
            .status();
        assert!(ran.expect("openssl").success(), "openssl {args}");
    };
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
        .expect("a file");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -days 30 -subj /CN=ca"));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    openssl(
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 30 -extfile names",
    );
}

fn tables_are_checked_and_made_but_never_changed(kind: Kind) {
    let mut server = Server::prepared_on(kind, "", "");
    let ran = server.roost(&["db", "check"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("db init"), "{}", ran.stderr);
    database(&mut server).sql("CREATE TABLE calls (id INT PRIMARY KEY)");
    let ran = server.roost(&["db", "init"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("db migrate"), "{}", ran.stderr);
    let made = server.succeed(&["db", "migrate"]);
    assert!(made.contains("`subscriber` made") && made.contains("CREATE INDEX"), "{made}");
    assert!(server.succeed(&["db", "migrate"]).starts_with("nothing to do"));
    let checked = server.succeed(&["db", "check"]);
    assert!(checked.contains("location") && checked.contains("1013"), "{checked}");
    database(&mut server).sql("UPDATE version SET table_version = 1014 WHERE table_name = 'location'");
    let ran = server.roost(&["db", "check"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("1014"), "{}", ran.stderr);
    database(&mut server).sql("UPDATE version SET table_version = 1013 WHERE table_name = 'location'");
    database(&mut server).sql("ALTER TABLE location DROP COLUMN cflags");
    let ran = server.roost(&["serve"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("cflags_column"), "{}", ran.stderr);
}

fn columns_may_have_other_names(kind: Kind) {
    let sections = "[usrloc]\nuser_column = \"extension\"\nexpires_column = \"until\"\n[auth_db]\npassword_column = \"secret\"\n";
    let mut server = Server::prepared_on(kind, "", sections);
    let plain = server.path("plain.toml");
    let text = fs::read_to_string(server.path("roost.toml")).expect("its configuration");
    fs::write(&plain, text.replace(sections, "")).expect("a configuration");
    crate::support::run(
        {
            let mut command = Command::new(env!("CARGO_BIN_EXE_roost"));
            command.arg("--config").arg(&plain).args(["db", "init"]);
            command
        },
        PATIENCE,
    );
    for (table, old, new) in [
        ("location", "username", "extension"),
        ("location", "expires", "until"),
        ("subscriber", "password", "secret"),
    ] {
        database(&mut server).sql(&format!("ALTER TABLE {table} RENAME COLUMN {old} TO {new}"));
    }
    server.add_user("9001", "9001");
    server.start();
    let mut phone = server.registered("9001");
    assert_eq!(
        server.sql("SELECT extension, until > 1000000000 FROM location").split('\t').next(),
        Some("9001")
    );
    server.kill9();
    server.start();
    assert!(server.succeed(&["ul", "show", "9001"]).contains(&phone.contact));
    assert_eq!(phone.unregister().line(), "200 OK");
    assert_eq!(server.sql("SELECT count(*) FROM location"), "0");
}

const OPENSIPS_MYSQL: &[&str] = &[
    "CREATE TABLE version (table_name CHAR(32) NOT NULL, table_version INT UNSIGNED DEFAULT 0 NOT NULL, \
     CONSTRAINT t_name_idx UNIQUE (table_name)) ENGINE=InnoDB",
    "INSERT INTO version VALUES ('subscriber', 7), ('location', 1013)",
    "CREATE TABLE subscriber (id INT(10) UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL, username CHAR(64) DEFAULT '' \
     NOT NULL, domain CHAR(64) DEFAULT '' NOT NULL, password CHAR(25) DEFAULT '' NOT NULL, email_address CHAR(64) \
     DEFAULT '' NOT NULL, ha1 CHAR(64) DEFAULT '' NOT NULL, ha1b CHAR(64) DEFAULT '' NOT NULL, rpid CHAR(64) DEFAULT \
     NULL, CONSTRAINT account_idx UNIQUE (username, domain)) ENGINE=InnoDB",
    "INSERT INTO subscriber (username, domain, password, email_address) \
     VALUES ('9001', '127.0.0.1', 'secret', 'kept@example.com')",
    "CREATE TABLE location (contact_id BIGINT(10) UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL, username CHAR(64) \
     DEFAULT '' NOT NULL, domain CHAR(64) DEFAULT NULL, contact CHAR(255) DEFAULT '' NOT NULL, received CHAR(255) \
     DEFAULT NULL, path CHAR(255) DEFAULT NULL, expires INT(10) UNSIGNED NOT NULL, q FLOAT(10,2) DEFAULT 1.0 NOT NULL, \
     callid CHAR(255) DEFAULT 'Default-Call-ID' NOT NULL, cseq INT(11) DEFAULT 13 NOT NULL, last_modified DATETIME \
     DEFAULT '1900-01-01 00:00:01' NOT NULL, flags INT(11) DEFAULT 0 NOT NULL, cflags CHAR(255) DEFAULT NULL, \
     user_agent CHAR(255) DEFAULT '' NOT NULL, socket CHAR(64) DEFAULT NULL, methods INT(11) DEFAULT NULL, sip_instance \
     CHAR(255) DEFAULT NULL, kv_store TEXT(512) DEFAULT NULL, attr CHAR(255) DEFAULT NULL) ENGINE=InnoDB",
    "INSERT INTO location (contact_id, username, domain, contact, expires, q, callid, cseq, last_modified, user_agent, \
     socket, methods) VALUES (3615817613231128576, '9002', '127.0.0.1', 'sip:9002@127.0.0.1:5099', UNIX_TIMESTAMP() + \
     300, -1, 'abc', 7, NOW(), 'SIP-T21P_E2 52.80.0.147', 'udp:127.0.0.1:5060', 16383)",
];

const OPENSIPS_POSTGRES: &[&str] = &[
    "CREATE TABLE version (table_name VARCHAR(32) NOT NULL, table_version INTEGER DEFAULT 0 NOT NULL, \
     CONSTRAINT version_t_name_idx UNIQUE (table_name))",
    "INSERT INTO version VALUES ('subscriber', 7), ('location', 1013)",
    "CREATE TABLE subscriber (id SERIAL PRIMARY KEY NOT NULL, username VARCHAR(64) DEFAULT '' NOT NULL, domain \
     VARCHAR(64) DEFAULT '' NOT NULL, password VARCHAR(25) DEFAULT '' NOT NULL, email_address VARCHAR(64) DEFAULT '' \
     NOT NULL, ha1 VARCHAR(64) DEFAULT '' NOT NULL, ha1b VARCHAR(64) DEFAULT '' NOT NULL, rpid VARCHAR(64) DEFAULT \
     NULL, CONSTRAINT subscriber_account_idx UNIQUE (username, domain))",
    "INSERT INTO subscriber (username, domain, password, email_address) \
     VALUES ('9001', '127.0.0.1', 'secret', 'kept@example.com')",
    "CREATE TABLE location (contact_id BIGSERIAL PRIMARY KEY NOT NULL, username VARCHAR(64) DEFAULT '' NOT NULL, \
     domain VARCHAR(64) DEFAULT NULL, contact VARCHAR(255) DEFAULT '' NOT NULL, received VARCHAR(255) DEFAULT NULL, \
     path VARCHAR(255) DEFAULT NULL, expires INTEGER NOT NULL, q REAL DEFAULT 1.0 NOT NULL, callid VARCHAR(255) \
     DEFAULT 'Default-Call-ID' NOT NULL, cseq INTEGER DEFAULT 13 NOT NULL, last_modified TIMESTAMP WITHOUT TIME ZONE \
     DEFAULT '1900-01-01 00:00:01' NOT NULL, flags INTEGER DEFAULT 0 NOT NULL, cflags VARCHAR(255) DEFAULT NULL, \
     user_agent VARCHAR(255) DEFAULT '' NOT NULL, socket VARCHAR(64) DEFAULT NULL, methods INTEGER DEFAULT NULL, \
     sip_instance VARCHAR(255) DEFAULT NULL, kv_store TEXT DEFAULT NULL, attr VARCHAR(255) DEFAULT NULL)",
    "INSERT INTO location (contact_id, username, domain, contact, expires, q, callid, cseq, last_modified, user_agent, \
     socket, methods) VALUES (3615817613231128576, '9002', '127.0.0.1', 'sip:9002@127.0.0.1:5099', \
     EXTRACT(EPOCH FROM now()) + 300, -1, 'abc', 7, now(), 'SIP-T21P_E2 52.80.0.147', 'udp:127.0.0.1:5060', 16383)",
];
