//! On a MariaDB server: what a phone is answered for is in the table, whoever is killed; a server that is away or frozen
//! fails registrations and harms no call.

mod support;

use std::time::{Duration, Instant};

use support::{A_WHILE, MariaDb, Phone, Server, report, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

fn server(database: &MariaDb, sections: &str) -> Server {
    let mut server = Server::prepared("", sections);
    server.use_database(&database.url());
    for user in ["9001", "9002"] {
        server.add_user(user, user);
    }
    server.start();
    server
}

#[test]
fn a_200_means_that_the_row_is_there_whoever_is_killed() {
    let mut database = MariaDb::start();
    let mut server = server(&database, "");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(300).line(), "200 OK");
    let row = database.sql("SELECT username, domain, contact, socket, cseq, callid, methods FROM location");
    let expected =
        format!("9001\tNULL\t{}\tudp:{}\t{}\t{}\t5951", phone.contact, server.sip, phone.cseq, phone.call_id);
    assert_eq!(row, expected);
    let age = database.sql("SELECT ABS(TIMESTAMPDIFF(SECOND, last_modified, NOW())) < 5 FROM location");
    assert_eq!(age, "1", "last_modified is local time, as OpenSIPS writes it");

    server.kill9();
    database.kill();
    database.restart();
    server.start();
    assert!(server.succeed(&["ul", "show", "9001"]).contains(&phone.contact));
    assert_eq!(phone.register(300).line(), "200 OK");
    assert_eq!(database.sql("SELECT COUNT(*) FROM location"), "1", "refreshed, not doubled");
    assert_eq!(phone.unregister().line(), "200 OK");
    assert_eq!(database.sql("SELECT COUNT(*) FROM location"), "0");
}

#[test]
fn a_database_that_is_away_fails_registrations_and_no_call() {
    let mut database = MariaDb::start();
    let server = server(&database, "");
    let mut caller = server.registered("9001");
    let callee = server.registered("9002");
    database.kill();
    assert_eq!(caller.register(300).status, 500);
    assert_eq!(caller.register(300).status, 500, "at once: nobody waits for a server that is away");
    caller.establish(&callee);
    database.restart();
    wait_for("registrations again", PATIENCE, || (caller.register(300).status == 200).then_some(()));
    assert_eq!(database.sql("SELECT COUNT(*) FROM location"), "2");
}

#[test]
fn a_frozen_database_delays_no_call() {
    let database = MariaDb::start();
    let server = server(&database, "");
    let mut caller = server.registered("9001");
    let callee = server.registered("9002");
    database.signal("STOP");
    let mut waiting = server.phone("9001");
    waiting.challenge = caller.challenge.clone();
    waiting.contact.clone_from(&caller.contact);
    let register = waiting.register_message(&[&format!("Contact: <{}>", waiting.contact)]);
    waiting.send(&register);
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let before = Instant::now();
        caller.establish(&callee);
        slowest = slowest.max(before.elapsed());
    }
    report(&format!("MariaDB frozen: the slowest of 5 calls took {slowest:?}"));
    assert!(slowest < A_WHILE, "{slowest:?}");
    database.signal("CONT");
    wait_for("registrations again", PATIENCE, || (caller.register(300).status == 200).then_some(()));
}

#[test]
fn an_opensips_database_is_used_as_it_stands() {
    let database = MariaDb::start();
    // As opensipsdbctl 2.4 makes them, with a row of OpenSIPS's.
    for statement in OPENSIPS {
        database.sql(statement);
    }
    let mut server = Server::prepared("use_domain = 1", "");
    server.use_database(&database.url());
    server.start();
    let shown = server.succeed(&["ul", "show"]);
    assert!(
        shown.contains("AOR:: 9002@127.0.0.1") && shown.contains("ContactID:: 3615817613231128576"),
        "{shown}"
    );
    let mut phone = Phone::new(server.sip, "9001", "secret");
    assert_eq!(phone.register(300).line(), "200 OK");
    let row =
        "SELECT username, domain, q, flags, cflags, attr, kv_store FROM location WHERE username = '9001'";
    assert_eq!(database.sql(row), "9001\t127.0.0.1\t-1.00\t0\t\tNULL\tNULL");
    assert_eq!(server.roost(&["user", "add", "9001", "x", "--domain", "127.0.0.1"]).code, Some(1));
    server.succeed(&["user", "passwd", "9001", "other", "--domain", "127.0.0.1"]);
    assert_eq!(database.sql("SELECT password, email_address FROM subscriber"), "other\tkept@example.com");
    assert_eq!(phone.register(300).status, 403, "the old password");
}

const OPENSIPS: [&str; 6] = [
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
