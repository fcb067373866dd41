//! The configuration as people see it: what is in force, the reference, completion of the command line.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Server, roost};
use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn the_reference_is_fresh() {
    let folder = TempDir::new().expect("a folder");
    let made = roost(folder.path(), &["config", "reference"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference.md");
    let kept = fs::read_to_string(path).expect("docs/reference.md");
    let differs = made.stdout.lines().zip(kept.lines()).find(|(made, kept)| made != kept);
    assert!(
        made.stdout == kept,
        "docs/reference.md is not what the key table and the command line say (first difference: {differs:?}): \
         refresh it with `cargo run -q -- config reference > docs/reference.md`"
    );
    // Made for documentation, not for the list of commands.
    let help = roost(folder.path(), &["config", "--help"]);
    assert!(help.stdout.contains("show") && !help.stdout.contains("reference"), "{}", help.stdout);
}

#[test]
fn show_says_what_is_in_force_and_where_it_comes_from() {
    let folder = TempDir::new().expect("a folder");
    let all = show(folder.path(), &[]);
    let keys = all.as_array().expect("a list");
    assert!(keys.len() > 40, "{} keys", keys.len());
    assert!(keys.iter().all(|key| key["from"] == "default" && key["value"] == key["default"]), "{all}");
    assert!(keys.iter().all(|key| key["meaning"].as_str().is_some_and(|text| !text.is_empty())), "{all}");
    assert_eq!(show(folder.path(), &["--changed"]), json!([]));

    let text = "workers = 4\nuse_domain = 1\nlog_level = 3\n[auth]\nalgorithms = [\"SHA-256\", \"MD5\"]\n\
        [auth_db]\ncalculate_ha1 = false\n";
    fs::write(folder.path().join("roost.toml"), text).expect("a file");
    let changed = show(folder.path(), &["--changed"]);
    let changed: Vec<_> = changed
        .as_array()
        .expect("a list")
        .iter()
        .map(|key| (&key["key"], &key["value"], &key["from"]))
        .collect();
    let (file, follows) = (json!("roost.toml"), json!("auth_db.calculate_ha1"));
    assert_eq!(
        changed,
        [
            (&json!("use_domain"), &json!(true), &file),
            (&json!("workers"), &json!(4), &file),
            (&json!("algorithms"), &json!(["SHA-256", "MD5"]), &file),
            (&json!("calculate_ha1"), &json!(false), &file),
            (&json!("password_column"), &json!("ha1"), &follows),
        ]
    );
    // What is set to its default is set all the same.
    let all = show(folder.path(), &[]);
    let log_level = all.as_array().expect("a list").iter().find(|key| key["key"] == "log_level");
    assert_eq!(log_level.map(|key| &key["from"]), Some(&file));

    let table = roost(folder.path(), &["config", "show", "--changed"]).stdout;
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["key", "value", "default", "from", "meaning"]);
    assert_eq!(words[2][..4], ["workers", "4", "0", "roost.toml"]);
}

#[test]
fn show_never_prints_a_secret() {
    let folder = TempDir::new().expect("a folder");
    let text =
        "database = \"mysql://root:passwd@192.168.1.202:3306/roost\"\n[auth]\nsecret = \"battery-staple\"\n";
    fs::write(folder.path().join("roost.toml"), text).expect("a file");
    for args in [&["config", "show"][..], &["config", "show", "--json"], &["config", "show", "--changed"]] {
        let shown = roost(folder.path(), args);
        assert_eq!(shown.code, Some(0), "{}", shown.stderr);
        assert!(shown.stdout.contains("mysql://root:***@192.168.1.202:3306/roost"), "{}", shown.stdout);
        assert!(shown.stdout.contains("\"***\""), "{}", shown.stdout);
        for secret in ["passwd", "staple"] {
            assert!(!shown.stdout.contains(secret), "{}", shown.stdout);
        }
    }
}

#[test]
fn show_explains_a_mistake_like_check() {
    let server = Server::prepared("use_domian = true", "");
    let (shown, checked) = (server.roost(&["config", "show"]), server.roost(&["config", "check"]));
    assert_eq!(shown.code, Some(1));
    assert!(shown.stderr.contains("did you mean `use_domain`?"), "{}", shown.stderr);
    assert_eq!(shown.stderr, checked.stderr);
}

#[test]
fn completion_knows_the_commands() {
    let folder = TempDir::new().expect("a folder");
    for shell in ["bash", "zsh", "fish"] {
        let script = roost(folder.path(), &["completion", shell]);
        assert_eq!(script.code, Some(0), "{}", script.stderr);
        for word in ["import", "replace", "passwd", "dump", "changed"] {
            assert!(script.stdout.contains(word), "{word} is not in the script for {shell}");
        }
    }
    // In bash it does complete.
    let mut script = roost(folder.path(), &["completion", "bash"]).stdout;
    script.push_str(
        "COMP_WORDS=(roost user im); COMP_CWORD=2; _roost roost im user; echo \"${COMPREPLY[@]}\"\n",
    );
    let mut bash = Command::new("bash");
    let mut bash = bash.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bash");
    bash.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("its stdin");
    let completed = bash.wait_with_output().expect("its end");
    assert_eq!(String::from_utf8_lossy(&completed.stdout).trim(), "import");
}

/// `roost config show --json` in a folder.
fn show(folder: &Path, options: &[&str]) -> Value {
    let shown = roost(folder, &[&["config", "show", "--json"], options].concat());
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    serde_json::from_str(&shown.stdout).unwrap_or_else(|error| panic!("{error}: {}", shown.stdout))
}
