//! What `examples/` tells people to do, done.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Phone, Server, roost};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The database of every example; a test has one of its own in its place.
const DATABASE: &str = "sqlite:/var/lib/roost/roost.db";

#[test]
fn every_example_is_understood_and_its_extensions_fit() {
    let mut seen = 0;
    for folder in folders() {
        let here = TempDir::new().expect("a folder");
        let config = folder.join("roost.toml");
        let checked = roost(here.path(), &["--config", shown(&config), "config", "check"]);
        assert_eq!(checked.code, Some(0), "{}", checked.stderr);

        let text = fs::read_to_string(&config).expect("a configuration");
        assert!(text.contains(DATABASE), "{}: another database than {DATABASE}", config.display());
        fs::write(here.path().join("roost.toml"), text.replace(DATABASE, "sqlite:roost.db")).expect("a copy");
        let users = folder.join("users.csv");
        let imported = roost(here.path(), &["user", "import", shown(&users)]);
        assert_eq!(imported.code, Some(0), "{}", imported.stderr);
        let listed = roost(here.path(), &["--json", "user", "list"]);
        let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
        let lines = fs::read_to_string(&users).expect("extensions").lines().count();
        assert_eq!(listed.as_array().map(Vec::len), Some(lines - 1));
        seen += 1;
    }
    assert!(seen > 0, "there are no examples");
}

#[test]
fn the_call_centre_is_set_up_as_its_opensips_was() {
    let config = example("call-centre").join("roost.toml");
    let here = TempDir::new().expect("a folder");
    let all = roost(here.path(), &["--config", shown(&config), "config", "show", "--json"]);
    let all: Value =
        serde_json::from_str(&all.stdout).unwrap_or_else(|error| panic!("{error}: {}", all.stderr));
    for (section, key, expected) in [
        ("", "listen", json!(["udp:192.168.1.201:5060"])),
        ("", "workers", json!(4)),
        ("", "use_domain", json!(true)),
        ("", "log_level", json!(3)),
        ("", "log_stderror", json!(false)),
        ("", "log_facility", json!("LOG_LOCAL0")),
        ("auth", "realm", json!("")),
        ("auth", "qop", json!("off")),
        ("auth_db", "calculate_ha1", json!(true)),
        ("auth_db", "password_column", json!("password")),
        ("usrloc", "db_mode", json!("write-through")),
        ("registrar", "max_contacts", json!(1)),
        ("registrar", "min_expires", json!(30)),
        ("registrar", "max_expires", json!(300)),
        ("registrar", "default_expires", json!(120)),
        ("registrar", "force_registration", json!(true)),
        ("registrar", "exclusive", json!("ip")),
        ("tm", "fr_timeout", json!(5)),
        ("tm", "fr_inv_timeout", json!(30)),
        ("tm", "restart_fr_on_each_reply", json!(false)),
        ("rr", "append_fromtag", json!(false)),
    ] {
        let found =
            all.as_array().expect("a list").iter().find(|one| one["section"] == section && one["key"] == key);
        let found = found.unwrap_or_else(|| panic!("{section}.{key}"));
        assert_eq!(found["value"], expected, "{section}.{key}");
        assert_eq!(found["from"], shown(&config), "{section}.{key} is written out");
    }
}

#[test]
fn the_call_centre_registers_its_phones() {
    // On this machine's address and free ports, and with its log where the test reads it.
    let mut server = Server::prepared("", "");
    let mut text = fs::read_to_string(example("call-centre").join("roost.toml")).expect("a configuration");
    for (from, to) in [
        ("udp:192.168.1.201:5060", format!("udp:{}", server.sip)),
        (DATABASE, "sqlite:roost.db".to_string()),
        ("127.0.0.1:8888", server.mi.to_string()),
        ("log_stderror = false", "log_stderror = true".to_string()),
    ] {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, &to);
    }
    fs::write(server.path("roost.toml"), text).expect("the configuration");
    server.start();
    let users = example("call-centre").join("users.csv");
    server.succeed(&["user", "import", shown(&users)]);

    let phone = |address: &str, user: &str, domain: &str| -> Phone {
        let file = fs::read_to_string(&users).expect("extensions");
        let line = file.lines().find(|line| line.starts_with(&format!("{user},")) && line.ends_with(domain));
        let password = line.and_then(|line| line.split(',').nth(1)).expect("its password").to_string();
        let mut phone = Phone::at(address, server.sip, user, &password);
        phone.domain = domain.to_string();
        phone
    };
    let mut desk = phone("127.0.0.1", "9001", "192.168.1.201");
    let registered = desk.register(20);
    assert_eq!(registered.line(), "200 OK");
    let contact = registered.header("Contact").unwrap_or_default();
    assert!(contact.ends_with(";expires=30"), "{contact}");
    assert_eq!(phone("127.0.0.2", "9001", "192.168.1.201").register(60).line(), "403 Occupied");
    // The same number of the other tenant is somebody else.
    assert_eq!(phone("127.0.0.2", "9001", "tony.com").register(60).line(), "200 OK");
    assert_eq!(phone("127.0.0.2", "9999", "tony.com").register(60).line(), "200 OK");
    let dump = server.succeed(&["ul", "dump", "--brief"]);
    let aors: Vec<_> = dump.lines().skip(1).map(str::trim).collect();
    assert_eq!(aors, ["9001@192.168.1.201", "9001@tony.com", "9999@tony.com"]);
}

#[test]
fn the_unit_runs_the_example() {
    let unit = fs::read_to_string(example("call-centre").join("roost.service")).expect("a unit");
    let commands: Vec<_> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("ExecStart=").or_else(|| line.strip_prefix("ExecStartPre=")))
        .collect();
    assert_eq!(commands.len(), 2, "{unit}");
    let here = TempDir::new().expect("a folder");
    for command in commands {
        let mut args: Vec<_> = command.split_whitespace().skip(1).collect();
        assert_eq!(args[..2], ["--config", "/etc/roost/roost.toml"]);
        args.push("--help");
        let understood = roost(here.path(), &args);
        assert_eq!(understood.code, Some(0), "{command}: {}", understood.stderr);
    }
    // The one folder that it may write to is the database's.
    assert!(unit.contains("ProtectSystem=strict") && unit.contains("StateDirectory=roost\n"), "{unit}");
    assert!(DATABASE.starts_with("sqlite:/var/lib/roost/"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn example(name: &str) -> PathBuf {
    root().join(name)
}

fn folders() -> Vec<PathBuf> {
    let entries = fs::read_dir(root()).expect("examples");
    entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect()
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn the_configuration_of_the_compose_file_is_understood() {
    let folder = root().join("../contrib/compose");
    let here = TempDir::new().expect("a folder");
    let checked = roost(here.path(), &["--config", shown(&folder.join("roost.toml")), "config", "check"]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let compose = fs::read_to_string(folder.join("compose.yaml")).expect("the compose file");
    assert!(
        compose.contains("/run/database-password") && compose.contains("localhost/roost:latest"),
        "{compose}"
    );
}
