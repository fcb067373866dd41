//! What an operator trips over: signals, folders, names, errors, and what the log says by itself.

use std::fs;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{PATIENCE, Phone, Server, roost, run, wait_for};

#[test]
fn hangup_reads_the_routes_anew_and_user_signals_are_passed_over() {
    let mut server = Server::prepared("", "[[route]]\nprefix = \"0\"\nhops = [\"sip:127.0.0.1:5999\"]\n");
    server.start();
    let hops = |server: &Server| server.succeed(&["ds", "list"]);
    assert!(hops(&server).contains("127.0.0.1:5999"));
    let file = server.path("roost.toml");
    let text = fs::read_to_string(&file).expect("the configuration");
    fs::write(&file, text.replace("5999", "5998")).expect("another one");
    for name in ["USR1", "USR2", "HUP"] {
        server.signal(name);
    }
    wait_for("the new hop", PATIENCE, || hops(&server).contains("127.0.0.1:5998").then_some(()));
    wait_for("the log", PATIENCE, || {
        server.log.text().contains("the configuration was read anew").then_some(())
    });
    assert!(server.log.text().contains("SIGUSR1"));
    // What is wrong with the file is said, and nothing changes.
    fs::write(&file, "lissten = []\n").expect("a broken one");
    server.signal("HUP");
    wait_for("the error", PATIENCE, || server.log.text().contains("did you mean `listen`").then_some(()));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_refused_phone_a_new_one_and_a_lost_one_leave_a_line_each() {
    let server = Server::started("", "");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(60).line(), "200 OK");
    assert_eq!(phone.register(60).line(), "200 OK", "a renewal has no line");
    assert_eq!(phone.unregister().line(), "200 OK");
    assert_eq!(Phone::new(server.sip, "9001", "guess").register(60).line(), "403 Forbidden");
    let said = |text: &str| server.log.text().lines().filter(|line| line.contains(text)).count();
    wait_for("the refusal", PATIENCE, || (said("refused: 403 wrong password") == 1).then_some(()));
    assert_eq!((said(" registered "), said("registration ended")), (1, 1), "{}", server.log.text());
    let text = server.log.text();
    let line = text.lines().find(|line| line.contains("wrong password")).expect("a line");
    for part in ["INFO", "REGISTER", "extension=9001", "source=127.0.0.1:", "user_agent=eyeBeam"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    // What operators change leaves one, too.
    server.succeed(&["ban", "add", "192.0.2.1"]);
    assert_eq!(said("an operator: ban_add"), 1, "{}", server.log.text());
}

#[test]
fn many_refusals_write_fifty_lines_a_second_and_one_that_counts() {
    let server =
        Server::started("", "[auth]\nban_failures = 0\nban_source_failures = 0\nban_user_failures = 0\n");
    server.add_user("9001", "9001");
    let mut guesser = Phone::new(server.sip, "9001", "guess");
    let before = server.log.lines();
    for _ in 0..400 {
        guesser.register(60);
    }
    wait_for("the count", PATIENCE, || {
        server.log.text().contains("more that are not shown: wrong password").then_some(())
    });
    let grown = server.log.lines() - before;
    assert!((50..=400).contains(&grown), "{grown} lines");
    let shown = server.log.text().matches("refused: 403 wrong password").count();
    let counted: usize = server
        .log
        .text()
        .lines()
        .filter_map(|line| {
            line.split("wrong password ").nth(1)?.split(',').next()?.trim().parse::<usize>().ok()
        })
        .sum();
    assert_eq!(shown + counted, 400, "each is told or counted");
}

#[test]
fn a_command_in_the_wrong_folder_makes_no_database() {
    let folder = TempDir::new().expect("a folder");
    for args in [&["user", "add", "9001", "x"][..], &["user", "list"], &["user", "rm", "9001"]] {
        let ran = roost(folder.path(), args);
        assert_eq!(ran.code, Some(1), "{args:?}");
        for part in ["roost.toml", "/etc/roost/roost.toml", "roost.db", "--config"] {
            assert!(ran.stderr.contains(part), "{part} is not in {}", ran.stderr);
        }
    }
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);

    // A configuration names one, wherever it is.
    let etc = TempDir::new().expect("a folder");
    let config = etc.path().join("site.toml");
    fs::write(&config, "database = \"sqlite:site.db\"\n").expect("a configuration");
    let mut command = Command::new(env!("CARGO_BIN_EXE_roost"));
    command.current_dir(folder.path()).env("ROOST_CONFIG", &config).args(["user", "add", "9001", "x"]);
    let ran = run(command, PATIENCE);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "new user '9001' added\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("site.db"), "{}", ran.stderr);
    assert!(etc.path().join("site.db").is_file());
    // ./roost.toml goes before it.
    fs::write(folder.path().join("roost.toml"), "").expect("a configuration");
    let mut command = Command::new(env!("CARGO_BIN_EXE_roost"));
    command.current_dir(folder.path()).env("ROOST_CONFIG", &config).args(["user", "list"]);
    assert!(!run(command, PATIENCE).stdout.contains("9001"));
}

#[test]
fn another_database_than_the_servers_is_said_so() {
    let server = Server::started("", "");
    let folder = TempDir::new().expect("a folder");
    let config = format!("database = \"sqlite:other.db\"\n[mi]\nlisten = \"{}\"\n", server.mi);
    fs::write(folder.path().join("roost.toml"), config).expect("a configuration");
    let ran = roost(folder.path(), &["user", "add", "9001", "x"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("the running server has another database"), "{}", ran.stderr);
    let own = server.roost(&["user", "add", "9001", "x"]);
    assert!(!own.stderr.contains("another database"), "{}", own.stderr);
}

#[test]
fn several_rows_of_a_name_are_never_taken_for_one() {
    let server = Server::prepared("use_domain = true", "");
    for domain in ["a.com", "b.com"] {
        server.succeed(&["user", "add", &format!("9001@{domain}"), "x"]);
    }
    let file = server.path("roost.toml");
    let text = fs::read_to_string(&file).expect("the configuration");
    fs::write(&file, text.replace("use_domain = true", "use_domain = false")).expect("another one");
    for args in [&["user", "rm", "9001"][..], &["user", "passwd", "9001", "y"]] {
        let ran = server.roost(args);
        assert_eq!(ran.code, Some(1), "{args:?}");
        for part in ["9001@a.com", "9001@b.com", "--domain", "--all"] {
            assert!(ran.stderr.contains(part), "{part} is not in {}", ran.stderr);
        }
    }
    let twin = server.roost(&["user", "add", "9001", "x", "--domain", "c.com"]);
    assert!(twin.code == Some(1) && twin.stderr.contains("already exists"), "{}", twin.stderr);
    let removed = server.roost(&["user", "rm", "9001", "--domain", "b.com"]);
    assert_eq!(removed.code, Some(0), "{}", removed.stderr);
    assert!(removed.stderr.contains("not looked at while use_domain is off"), "{}", removed.stderr);
    let left = server.succeed(&["user", "list"]);
    assert!(left.contains("a.com") && !left.contains("b.com"), "{left}");
    server.succeed(&["user", "passwd", "9001", "y"]);
    server.succeed(&["user", "rm", "9001", "--all"]);
    assert!(!server.succeed(&["user", "list"]).contains("9001"));
}

#[test]
fn names_that_no_phone_can_have_are_refused() {
    let server = Server::prepared("", "");
    for name in ["9 1", "9\t1", "<9001>", "\"9001\"", "90:01", "90\\01", "90%31", ""] {
        let ran = server.roost(&["user", "add", name, "x"]);
        assert!(ran.code == Some(1) && !ran.stderr.contains("panicked"), "{name:?}: {}", ran.stderr);
    }
    for name in ["9001", "alice.b", "+49-30", "*99#", "r\u{e9}ception"] {
        assert_eq!(server.roost(&["user", "add", name, "x"]).code, Some(0), "{name:?}");
    }
    let nothing = server.roost(&["--json", "user", "rm", "nobody"]);
    let error: Value = serde_json::from_str(&nothing.stderr).expect("an error in JSON");
    assert!(error["error"].as_str().is_some_and(|text| text.contains("'nobody' does not exist")), "{error}");
}

#[test]
fn removing_nothing_is_no_success() {
    let server = Server::started("", "");
    let ran = server.roost(&["ul", "rm", "9001"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("nothing is registered as '9001'"), "{}", ran.stderr);
}

#[test]
fn an_error_says_its_cause_once() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("x.db"), "this is no database at all, and it is long enough")
        .expect("a file");
    for (database, cause) in [
        ("sqlite:x.db", "file is not a database"),
        ("mysql://a:b@127.0.0.1:1/x", "Connection refused"),
        ("postgres://a:b@127.0.0.1:1/x", "Connection refused"),
        ("sqlite:nowhere/x.db", "No such file or directory"),
    ] {
        fs::write(folder.path().join("roost.toml"), format!("database = \"{database}\"\n")).expect("a file");
        let ran = roost(folder.path(), &["user", "list"]);
        assert_eq!(ran.code, Some(1), "{database}");
        assert_eq!(ran.stderr.matches(cause).count(), 1, "{}", ran.stderr);
        assert!(!ran.stderr.contains('{'), "{}", ran.stderr);
    }
}

#[test]
fn the_first_screen_says_what_a_newcomer_needs() {
    let server = Server::started("", "");
    let text = server.log.text();
    let command = format!(
        "{} --config {} user add 9001 PASSWORD",
        env!("CARGO_BIN_EXE_roost"),
        server.path("roost.toml").display()
    );
    assert!(text.contains(&command), "{command} is not in {text}");
    assert!(!text.contains("INFO"), "{text}");
}

#[test]
fn who_listens_on_all_of_ipv6_is_told_that_ipv4_is_not_heard() {
    let folder = TempDir::new().expect("a folder");
    let port = crate::support::free_port();
    let config = format!("listen = [\"udp:[::]:{port}\"]\n[mi]\nlisten = \"\"\n");
    fs::write(folder.path().join("roost.toml"), config).expect("a configuration");
    let mut command = Command::new("timeout");
    command.args(["-s", "INT", "2", env!("CARGO_BIN_EXE_roost"), "serve"]).current_dir(folder.path());
    let ran = run(command, PATIENCE);
    let expected = format!("add \"udp:0.0.0.0:{port}\" to `listen`");
    assert!(ran.stderr.contains(&expected), "{expected} is not in {}", ran.stderr);
}
