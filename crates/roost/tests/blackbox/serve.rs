//! Starting and stopping: what `roost serve` makes, says and keeps, and what it refuses to start with.

use std::fs;
use std::net::TcpListener;

use crate::support::{Ran, Server, free_port, roost};
use tempfile::TempDir;

#[test]
fn the_first_start_needs_no_configuration() {
    let mut server = Server::on_default_ports();
    server.start();
    assert!(server.path("roost.db").is_file(), "./roost.db");
    // A newcomer learns from this where to point a phone, and what to type next.
    let said = server.log.text();
    for part in ["0.0.0.0:5060", "127.0.0.1:8888", "user add"] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }

    assert_eq!(server.succeed(&["user", "add", "9001", "9001"]).trim_end(), "new user '9001' added");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(60).line(), "200 OK");
    let shown = server.succeed(&["ul", "show"]);
    assert!(shown.contains(&phone.contact), "{shown}");
    // Not 0.0.0.0: the address that the phone has sent to, and that answers must leave from.
    assert!(shown.contains("Socket:: udp:127.0.0.1:5060"), "{shown}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn sigterm_and_sigint_end_it_cleanly_and_lose_nothing() {
    let mut server = Server::started("", "");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(300).line(), "200 OK");
    let binding = format!("Contact:: {} Q=", phone.contact);

    assert_eq!(server.stop(), Some(0), "SIGTERM");
    server.start();
    assert!(server.succeed(&["ul", "show", "9001"]).contains(&binding), "after SIGTERM");

    assert_eq!(server.interrupt(), Some(0), "SIGINT");
    server.start();
    assert!(server.succeed(&["ul", "show", "9001"]).contains(&binding), "after SIGINT");

    // Loaded bindings are served, not only listed.
    let query = phone.query();
    assert_eq!(query.line(), "200 OK");
    assert!(
        query.header("Contact").is_some_and(|contact| contact.contains(&phone.contact)),
        "{}",
        query.text
    );
}

#[test]
fn a_second_serve_on_the_same_udp_port_is_refused() {
    let first = Server::started("", "");
    first.add_user("9001", "9001");

    // Workers share their port by SO_REUSEPORT: without a check of its own the second would take half the phones.
    let config = format!("listen = [\"udp:{}\"]\n[mi]\nlisten = \"127.0.0.1:{}\"\n", first.sip, free_port());
    let refused = refused(&config);
    assert_says(&refused, &[&first.sip.port().to_string(), "listen"]);

    for _ in 0..10 {
        assert_eq!(first.phone("9001").register(60).line(), "200 OK");
    }
}

#[test]
fn a_busy_mi_port_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a TCP port");
    let mi = taken.local_addr().expect("its address");
    let config = format!("listen = [\"udp:127.0.0.1:{}\"]\n[mi]\nlisten = \"{mi}\"\n", free_port());
    assert_says(&refused(&config), &[&mi.port().to_string(), "mi"]);
}

#[test]
fn a_database_that_cannot_be_made_is_refused() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    // Tests may run as root, whom no permissions stop: so a folder that cannot exist, and a file for a folder.
    for path in ["/proc/nope/roost.db".to_owned(), format!("{}/roost.db", file.display())] {
        let config = format!(
            "listen = [\"udp:127.0.0.1:{}\"]\ndatabase = \"sqlite:{path}\"\n[mi]\nlisten = \"127.0.0.1:{}\"\n",
            free_port(),
            free_port()
        );
        assert_says(&refused(&config), &[&path, "database"]);
    }
}

#[test]
fn a_broken_configuration_names_the_line_and_the_remedy() {
    let cases = [
        ("[registrar]\nmax_expire = 300\n", 2, "max_expires"),
        ("workers = 2\n[registar]\nmax_expires = 300\n", 2, "registrar"),
        ("use_domian = true\n", 1, "use_domain"),
        ("workers = \"many\"\n", 1, "workers"),
        ("workers = 2\n\n[auth]\nnonce_expire = \"30\"\n", 4, "nonce_expire"),
        ("[registrar]\nmax_expires = -5\n", 2, "max_expires"),
        ("[usrloc]\ndb_mode = \"write-trough\"\n", 2, "write-through"),
        ("listen = [\"udp:127.0.0.1:notaport\"]\n", 1, "notaport"),
        ("[mi]\nlisten = 8888\n", 2, "listen"),
        ("workers = 2\nworkers = = 2\n", 2, ""),
    ];
    for (config, line, part) in cases {
        let folder = TempDir::new().expect("a temporary folder");
        fs::write(folder.path().join("broken.toml"), config).expect("a configuration file");
        for command in [&["serve"][..], &["config", "check"]] {
            let args = [&["--config", "broken.toml"][..], command].concat();
            let ran = roost(folder.path(), &args);
            assert_refuses(&ran);
            assert_says(&ran, &["broken.toml", part]);
            let numbered = [format!("line {line}"), format!("broken.toml:{line}")];
            assert!(numbered.iter().any(|text| ran.stderr.contains(text)), "line {line}: {}", ran.stderr);
        }
        assert!(!folder.path().join("roost.db").exists(), "a refused start leaves nothing behind");
    }
}

#[test]
fn a_named_configuration_must_exist() {
    let folder = TempDir::new().expect("a temporary folder");
    let ran = roost(folder.path(), &["--config", "nowhere.toml", "serve"]);
    assert_refuses(&ran);
    assert_says(&ran, &["nowhere.toml"]);
}

#[test]
fn every_key_that_is_shown_may_be_written_with_the_value_that_is_shown() {
    let folder = TempDir::new().expect("a temporary folder");
    let shown = roost(folder.path(), &["config", "show", "--json"]);
    let keys: Vec<serde_json::Value> = serde_json::from_str(&shown.stdout).expect("JSON");
    assert!(keys.len() > 80, "{}", keys.len());
    let (mut file, mut section) = (String::new(), String::new());
    for key in &keys {
        let own = key["section"].as_str().expect("a section");
        if own != section {
            own.clone_into(&mut section);
            file.push_str(&format!("\n[{section}]\n"));
        }
        // What JSON shows of a number, switch, text or list is TOML, too.
        file.push_str(&format!("{} = {}\n", key["key"].as_str().expect("a key"), key["value"]));
    }
    fs::write(folder.path().join("roost.toml"), file).expect("a configuration file");
    let checked = roost(folder.path(), &["config", "check"]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let changed = roost(folder.path(), &["config", "show", "--changed", "--json"]);
    assert_eq!(changed.stdout.trim(), "[]");
}

#[test]
fn config_check_takes_values_as_opensips_users_write_them() {
    let folder = TempDir::new().expect("a temporary folder");
    fs::write(folder.path().join("every.toml"), AS_IN_OPENSIPS).expect("a configuration file");
    for args in [["--config", "every.toml", "config", "check"], ["config", "check", "--config", "every.toml"]]
    {
        let ran = roost(folder.path(), &args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.stderr);
    }
    // A file named roost.toml needs no --config.
    fs::write(folder.path().join("roost.toml"), "lissten = []\n").expect("a configuration file");
    let ran = roost(folder.path(), &["config", "check"]);
    assert_refuses(&ran);
    assert_says(&ran, &["roost.toml", "lissten", "listen"]);
}

#[test]
fn a_relative_database_is_beside_its_configuration() {
    let folder = TempDir::new().expect("a temporary folder");
    let (etc, elsewhere) = (folder.path().join("etc"), folder.path().join("elsewhere"));
    fs::create_dir(&etc).expect("a folder");
    fs::create_dir(&elsewhere).expect("a folder");
    fs::write(etc.join("roost.toml"), "database = \"sqlite:own.db\"\n").expect("a configuration file");

    let ran = roost(&elsewhere, &["--config", "../etc/roost.toml", "user", "add", "9001", "9001"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(etc.join("own.db").is_file(), "etc/own.db");
    assert_eq!(fs::read_dir(&elsewhere).expect("a folder").count(), 0, "nothing in the current folder");
}

/// Runs `serve` with this configuration, which must end it.
fn refused(config: &str) -> Ran {
    let folder = TempDir::new().expect("a temporary folder");
    fs::write(folder.path().join("roost.toml"), config).expect("a configuration file");
    let ran = roost(folder.path(), &["--config", "roost.toml", "serve"]);
    assert_refuses(&ran);
    ran
}

/// An exit code of its own, and a message for people.
fn assert_refuses(ran: &Ran) {
    assert!(ran.code.is_some_and(|code| code != 0), "exit code {:?}: {}", ran.code, ran.stderr);
    assert!(!ran.stderr.trim().is_empty(), "it says nothing");
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

fn assert_says(ran: &Ran, parts: &[&str]) {
    for part in parts {
        assert!(ran.stderr.contains(part), "{part:?} is not in\n{}", ran.stderr);
    }
}

/// Values other than the defaults, with switches as OpenSIPS users write them.
const AS_IN_OPENSIPS: &str = r#"
listen = ["udp:127.0.0.1:5060"]
database = "sqlite:roost.db"
use_domain = 0
workers = 0
advertised_address = ""
server_header = "roost/0"
log_level = 3
log_stderror = 1
log_facility = "LOG_LOCAL0"

[auth]
realm = ""
nonce_expire = 30
qop = "auth"
algorithms = ["MD5"]
disable_nonce_check = 1
secret = ""
check_to = 1
hide_unknown_users = false

[auth_db]
calculate_ha1 = 1
user_column = "username"
domain_column = "domain"
password_column = "password"
password_column_2 = "ha1b"
cache_ttl = 60

[usrloc]
db_mode = "memory"
timer_interval = 60
cseq_delay = 20

[registrar]
min_expires = 30
max_expires = 300
default_expires = 120
max_contacts = 1
force_registration = true
exclusive = "off"
exclusive_check = "memory"
retry_after = 0
add_date = true
case_sensitive = 1

[tm]
fr_timeout = 5
fr_inv_timeout = 30
restart_fr_on_each_reply = 0

[rr]
append_fromtag = 0

[proxy]
authorize = "challenge"
check_from = true
trusted = ["127.0.0.1"]
serial_fork = false

[mi]
listen = "127.0.0.1:8888"
"#;
