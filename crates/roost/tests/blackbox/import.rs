//! `roost user import`: a file of extensions becomes subscribers, all of them or none.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::{Kind, PATIENCE, Ran, Server, report, run, wait_for, wait_for_end};
use rusqlite::{Connection, ErrorCode};
use serde_json::Value;

#[test]
fn columns_stand_in_any_order_and_domain_may_be_left_out() {
    // Byte-order mark, line ends of Windows, a blank line, quotation marks, no end of the last line.
    let server = Server::prepared("", "");
    let file = "\u{feff}Password, username\r\n\"a,\"\"b\",9001\r\n\r\n 2,9002";
    assert!(import(&server, file, &[]).stdout.starts_with("imported 2 subscribers in "));
    assert_eq!(subscribers(&server), ["9001@ a,\"b", "9002@  2"]);

    let tenants = Server::prepared("use_domain = true", "");
    let file = "domain,username,password\na.example,9001,1\nb.example,9001,2\n";
    assert!(import(&tenants, file, &[]).stdout.starts_with("imported 2 subscribers in "));
    assert_eq!(subscribers(&tenants), ["9001@a.example 1", "9001@b.example 2"]);
    let without = import(&tenants, "username,password\n9002,x\n", &[]);
    assert!(without.stderr.contains("users.csv:2: the domain is missing"), "{}", without.stderr);
}

#[test]
fn a_hyphen_reads_standard_input() {
    let server = Server::prepared("", "");
    let import = |file: &str| -> (Option<i32>, String) {
        let mut importing = server.command(&["user", "import", "-"]);
        let piped = importing.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("roost");
        child.stdin.take().expect("a pipe").write_all(file.as_bytes()).expect("stdin");
        let ended = child.wait_with_output().expect("its end");
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    let (code, said) = import("username,password\n9001,x\n9002,\n");
    assert_eq!(code, Some(1));
    assert!(said.contains("standard input:3: the user and the password must not be empty"), "{said}");
    assert_eq!(import("username,password\n9001,x\n"), (Some(0), String::new()));
    assert_eq!(subscribers(&server), ["9001@ x"]);
}

#[test]
fn what_is_stored_is_what_user_add_stores() {
    for sections in
        ["", "[auth]\nrealm = \"tony.com\"", "[auth]\nrealm = \"x\"\n[auth_db]\ncalculate_ha1 = false"]
    {
        let (one, other) = (Server::prepared("", sections), Server::prepared("", sections));
        assert_eq!(import(&one, "username,password\n9001,secret\n9002,secret\n", &[]).code, Some(0));
        other.add_user("9001", "secret");
        other.add_user("9002", "secret");
        let all = "SELECT username, domain, password, ha1, ha1b, ha1_sha256, ha1_sha512t256 FROM subscriber \
            ORDER BY username";
        let rows = |server: &Server| server.sql(all);
        assert_eq!(rows(&one), rows(&other), "{sections}");
    }
}

#[test]
fn every_bad_line_is_named_and_nothing_is_written() {
    let server = Server::prepared("", "");
    let long = "9".repeat(65);
    let file = format!(
        "username,password,domain\n9001,a,\n,x,\n9002,,\n9003@tony.com,y,\n\n9001,b,\n{long},z,\n9004,a\n\
         9005,\"a\nb\",\n9006,c,d.example\n9006,c,D.example\n9007,c,\n"
    );
    let bad = import(&server, &file, &[]);
    assert_eq!(bad.code, Some(1));
    let empty = "the user and the password must not be empty";
    let expected = [
        "users.csv: 8 lines are wrong, nothing is imported".to_string(),
        format!("users.csv:3: {empty}"),
        format!("users.csv:4: {empty}"),
        "users.csv:5: '9003@tony.com': give the user alone, and its domain apart (--domain, or the column `domain`)"
            .to_string(),
        "users.csv:7: the same extension as in line 2".to_string(),
        "users.csv:8: the user is longer than 64 bytes".to_string(),
        "users.csv:9: 2 fields, the header has 3 (a field that holds a comma needs quotation marks)".to_string(),
        "users.csv:10: a field runs over several lines: is its closing quotation mark missing?".to_string(),
        "users.csv:13: the same extension as in line 12".to_string(),
    ];
    assert_eq!(bad.stderr, format!("roost: {}\n", expected.join("\n")));
    assert!(!server.path("roost.db").exists(), "no database is made for a bad file");

    // Beside what the table has: that too is said at once, and the table stays as it is.
    server.add_user("9007", "before");
    let bad = import(&server, &file, &[]);
    assert!(bad.stderr.contains("users.csv:14: the extension exists already (--replace"), "{}", bad.stderr);
    let existing = import(&server, "username,password\n9008,x\n9007,y\n", &[]);
    assert_eq!(existing.code, Some(1));
    assert!(existing.stderr.contains("users.csv: 1 line is wrong"), "{}", existing.stderr);
    assert!(existing.stderr.contains("users.csv:3: the extension exists already"), "{}", existing.stderr);
    assert_eq!(subscribers(&server), ["9007@ before"]);
}

#[test]
fn twenty_bad_lines_are_shown_and_the_others_counted() {
    let server = Server::prepared("", "");
    let bad = import(&server, &format!("username,password\n{}", ",x\n".repeat(50)), &[]);
    assert!(
        bad.stderr.contains("users.csv:21: ") && !bad.stderr.contains("users.csv:22: "),
        "{}",
        bad.stderr
    );
    assert!(bad.stderr.ends_with("… and 30 more\n"), "{}", bad.stderr);
}

#[test]
fn the_header_is_needed_and_never_repeated() {
    let server = Server::prepared("", "");
    for (file, expected) in [
        (
            "9001,secret\n9002,secret\n",
            "users.csv:1: the first line must name the columns: username,password,domain",
        ),
        ("username;password\n9001;secret\n", "separate them with commas"),
        ("username,password,pasword\n9001,a,b\n", "users.csv:1: the first line must name"),
        ("username,password,username\n9001,a,b\n", "users.csv:1: the first line must name"),
        ("", "users.csv is empty: the first line must name"),
        ("username,password\n", "users.csv holds no extension"),
    ] {
        let refused = import(&server, file, &[]);
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains(expected), "{file:?}: {}", refused.stderr);
        assert!(!refused.stderr.contains("secret"), "{}", refused.stderr);
    }
    fs::write(server.path("users.csv"), b"username,password\n9001,\xe9\n").expect("a file");
    let latin = server.roost(&["user", "import", "users.csv"]);
    assert!(latin.stderr.contains("users.csv:2: is not UTF-8"), "{}", latin.stderr);
    let missing = server.roost(&["user", "import", "none.csv"]);
    assert!(missing.stderr.contains("cannot read none.csv: No such file"), "{}", missing.stderr);
}

#[test]
fn a_running_server_knows_them_at_once() {
    let server = Server::started("", "");
    server.add_user("9002", "9002");
    let (mut new, mut old) = (server.phone("9001"), server.phone("9002"));
    assert_eq!(new.register(60).line(), "404 Not Found");
    assert_eq!(old.register(60).line(), "200 OK");

    let file = "username,password\n9001,9001\n9002,changed\n";
    assert_eq!(import(&server, file, &[]).code, Some(1));
    let told = import(&server, file, &["--replace", "--json"]);
    let told: Value =
        serde_json::from_str(&told.stdout).unwrap_or_else(|error| panic!("{error}: {}", told.stderr));
    assert_eq!((&told["imported"], &told["added"], &told["replaced"]), (&2.into(), &1.into(), &1.into()));
    assert!(told["seconds"].is_f64(), "{told}");
    assert_eq!(new.register(60).line(), "200 OK");
    assert_eq!(old.register(60).line(), "403 Forbidden");
}

#[test]
fn phones_register_while_an_import_runs() {
    let server = Server::started("", "");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    fs::write(server.path("users.csv"), many(100_000)).expect("a file");
    let mut importing = server.command(&["user", "import", "users.csv"]);
    let mut child = importing.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("roost");
    let mut answers = 0;
    while child.try_wait().expect("its state").is_none() {
        assert_eq!(phone.register(60).line(), "200 OK");
        answers += 1;
    }
    assert_eq!(child.wait().expect("its end").code(), Some(0));
    assert!(answers > 0);
    assert_eq!(subscribers(&server).len(), 100_001);
}

#[test]
fn an_import_that_is_killed_leaves_nothing() {
    let server = Server::prepared_on(Kind::Sqlite, "", "");
    server.add_user("9001", "9001");
    fs::write(server.path("users.csv"), many(300_000)).expect("a file");
    let mut importing = server.command(&["user", "import", "users.csv"]);
    let mut child = importing.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("roost");
    let database = Connection::open(server.path("roost.db")).expect("the database");
    database.busy_timeout(std::time::Duration::ZERO).expect("no waiting");
    wait_for("the import to write", PATIENCE, || match database.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Some(()),
        _ => None,
    });
    child.kill().expect("SIGKILL");
    let ended = wait_for_end(&mut child, PATIENCE).expect("its end");
    assert_eq!(ended.code(), None, "it ended before it was killed");
    drop(database);

    assert_eq!(subscribers(&server), ["9001@ 9001"]);
    let again = run(server.command(&["user", "import", "users.csv"]), 3 * PATIENCE);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_eq!(subscribers(&server).len(), 300_001);
}

#[test]
fn a_database_that_may_not_be_written_is_said_to_be_so() {
    let server = Server::prepared_on(Kind::Sqlite, "", "");
    server.add_user("9001", "9001");
    fs::write(server.path("users.csv"), "username,password\n9002,x\n").expect("a file");
    let database = server.path("roost.db");
    let folder = database.parent().expect("its folder");
    let allow = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the rights");
    };
    for name in ["roost.toml", "users.csv", "roost.db"] {
        allow(&server.path(name), 0o444);
    }
    // root may write everything: another user runs a copy of the program, which it must be able to reach.
    fs::copy(env!("CARGO_BIN_EXE_roost"), server.path("roost")).expect("a copy");
    allow(&server.path("roost"), 0o555);
    allow(folder, 0o555);
    let mut importing = Command::new(server.path("roost"));
    importing.current_dir(folder).args(["user", "import", "users.csv"]);
    if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        importing.uid(65_534).gid(65_534);
    }
    let refused = run(importing, PATIENCE);
    allow(folder, 0o755);
    assert_eq!(refused.code, Some(1));
    let said = &refused.stderr;
    assert!(
        said.contains("roost.db") && said.contains("readonly") && said.contains("may be written"),
        "{said}"
    );
    assert_eq!(subscribers(&server), ["9001@ 9001"]);
}

#[test]
fn a_million_extensions_take_seconds() {
    let server = Server::prepared("", "");
    fs::write(server.path("users.csv"), many(1_000_000)).expect("a file");
    let started = Instant::now();
    // Seconds it is on a free machine; the machine that runs all tests at once is not.
    let said = run(server.command(&["user", "import", "users.csv"]), 6 * PATIENCE);
    let took = started.elapsed();
    assert!(said.stdout.starts_with("imported 1000000 subscribers in "), "{}{}", said.stdout, said.stderr);
    report(&format!("import of a million: {took:.1?}"));
    assert_eq!(server.sql("SELECT count(*) FROM subscriber WHERE password = username"), "1000000");
}

/// Imports `file` as users.csv of the server's folder.
fn import(server: &Server, file: &str, options: &[&str]) -> Ran {
    fs::write(server.path("users.csv"), file).expect("a file");
    server.roost(&[&["user", "import", "users.csv"], options].concat())
}

/// So many extensions whose password is their number, in no order.
fn many(count: u32) -> String {
    let mut file = String::from("username,password\n");
    for index in 0..count {
        // 7919 is prime to every count used here, so each number comes once.
        let user = 100_000_000 + u64::from(index) * 7_919 % u64::from(count);
        let _ = writeln!(file, "{user},{user}");
    }
    file
}

/// `user@domain password` of every row.
fn subscribers(server: &Server) -> Vec<String> {
    let rows = server.sql("SELECT CONCAT(username, '@', domain, ' ', password) FROM subscriber ORDER BY 1");
    rows.lines().map(str::to_string).collect()
}
