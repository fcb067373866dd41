//! The command line for people: extensions, and what is registered, as `opensipsctl` printed it.

use crate::support::{Server, USER_AGENT};
use serde_json::Value;

#[test]
fn extensions_are_added_listed_and_removed() {
    // Not started: an administrator may add extensions first.
    let server = Server::prepared("", "");
    assert_eq!(server.succeed(&["user", "add", "9001", "horse"]), "new user '9001' added\n");
    let again = server.roost(&["user", "add", "9001", "battery"]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("user '9001' already exists"), "{}", again.stderr);
    server.succeed(&["user", "add", "9002", "staple"]);

    let listed = server.succeed(&["user", "list"]);
    assert!(listed.contains("9001") && listed.contains("9002"), "{listed}");
    let listed_json = server.succeed(&["--json", "user", "list"]);
    let parsed: Value =
        serde_json::from_str(&listed_json).unwrap_or_else(|error| panic!("{error}: {listed_json}"));
    assert!(parsed.to_string().contains("\"9002\""), "{parsed}");
    for secret in ["horse", "battery", "staple"] {
        assert!(!listed.contains(secret) && !listed_json.contains(secret), "passwords are not listed");
    }

    server.succeed(&["user", "rm", "9001"]);
    assert!(!server.succeed(&["user", "list"]).contains("9001"));
    for unknown in [&["user", "rm", "9001"][..], &["user", "passwd", "9001", "new"]] {
        let ran = server.roost(unknown);
        assert!(ran.code.is_some_and(|code| code != 0), "{unknown:?}");
        assert!(ran.stderr.contains("9001"), "{}", ran.stderr);
    }
}

#[test]
fn ul_show_prints_what_opensipsctl_printed() {
    let server = Server::started("", "");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(60).line(), "200 OK");

    let shown = server.succeed(&["ul", "show", "9001"]);
    let expected = format!(
        "AOR:: 9001\n\
         \tContact:: {} Q=\n\
         \t\tContactID:: *\n\
         \t\tExpires:: *\n\
         \t\tCallid:: {}\n\
         \t\tCseq:: {}\n\
         \t\tUser-agent:: {USER_AGENT}\n\
         \t\tState:: CS_SYNC\n\
         \t\tFlags:: 0\n\
         \t\tCflags:: \n\
         \t\tSocket:: udp:{}\n\
         \t\tMethods:: 5951\n",
        phone.contact, phone.call_id, phone.cseq, server.sip
    );
    assert_eq!(without_figures(&shown), expected);

    // The dump of all stands one tab deeper, below its table.
    let all = server.succeed(&["ul", "show"]);
    let (domain, aors) = all.split_once('\n').expect("more than one line");
    assert!(domain.starts_with("Domain:: location hash_size="), "{domain}");
    let deeper: String = expected.lines().map(|line| format!("\t{line}\n")).collect();
    assert_eq!(without_figures(aors), deeper);
}

#[test]
fn ul_show_prints_json_for_scripts() {
    let server = Server::started("", "");
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(60).line(), "200 OK");

    let json = |args: &[&str]| -> Value {
        let printed = server.succeed(args);
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    };
    let one = json(&["--json", "ul", "show", "9001"]);
    assert_eq!(one["AOR"], "9001");
    assert_eq!(one["Contacts"][0]["Contact"], phone.contact);
    let all = json(&["ul", "show", "--json"]);
    assert_eq!(all["Domains"][0]["name"], "location");
    assert_eq!(all["Domains"][0]["AORs"][0]["Contacts"][0]["Callid"], phone.call_id);
}

#[test]
fn ul_show_says_what_is_missing() {
    let mut server = Server::started("", "");
    let unknown = server.roost(&["ul", "show", "9001"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("404 AOR not found"), "{}", unknown.stderr);

    // Without a server: where it was looked for, and how to start it.
    assert_eq!(server.stop(), Some(0));
    let alone = server.roost(&["ul", "show"]);
    assert!(alone.code.is_some_and(|code| code != 0));
    assert!(alone.stderr.contains(&server.mi.to_string()), "{}", alone.stderr);
    assert!(alone.stderr.contains("serve"), "{}", alone.stderr);
}

#[test]
fn bindings_are_dumped_added_and_removed() {
    let mut server = Server::started("", "");
    let (one, other) = ("sip:9001@127.0.0.1:7000", "sip:9001@127.0.0.1:7001");
    let added = server.succeed(&["ul", "add", "9001", one, "--expires", "600", "--q", "0.5"]);
    assert_eq!(added, format!("contact '{one}' added to '9001'\n"));
    server.succeed(&["ul", "add", "9001", other]);
    assert_eq!(server.succeed(&["--json", "ul", "add", "9002", "sip:9002@127.0.0.1:7002"]), "\"OK\"\n");
    assert_eq!(server.rows(None), 3);

    let dump = server.succeed(&["ul", "dump"]);
    let mut lines: Vec<Vec<&str>> = dump.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.remove(0), ["AOR", "Contact", "Expires", "Q", "Received", "Socket", "User-agent"]);
    lines.sort_unstable();
    assert!(lines[0][2].parse::<u64>().is_ok_and(|left| (590..=600).contains(&left)), "{dump}");
    lines[0][2] = "*";
    assert_eq!(lines[0], ["9001", one, "*", "0.5", "OpenSIPS", "MI", "Server"]);
    assert_eq!(lines[1], ["9001", other, "permanent", "OpenSIPS", "MI", "Server"]);
    let brief = server.succeed(&["ul", "dump", "--brief"]);
    assert_eq!(brief.lines().map(str::trim).collect::<Vec<_>>(), ["AOR", "9001", "9002"]);
    let json: Value = serde_json::from_str(&server.succeed(&["ul", "dump", "--json"])).expect("JSON");
    assert_eq!(json["Domains"][0]["AORs"].as_array().map(Vec::len), Some(2), "{json}");

    assert_eq!(server.succeed(&["ul", "rm", "9001", one]), format!("contact '{one}' removed from '9001'\n"));
    let again = server.roost(&["ul", "rm", "9001", one]);
    assert_eq!((again.code, again.stderr.as_str()), (Some(1), "roost: 404 Contact not found\n"));
    assert_eq!(server.succeed(&["ul", "rm", "9001"]), "bindings of '9001' removed\n");
    assert_eq!((server.rows(Some("9001")), server.rows(None)), (0, 1));

    let wrong = server.roost(&["ul", "add", "9001", "nonsense"]);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("'nonsense': is it a SIP URI"), "{}", wrong.stderr);
    let wrong = server.roost(&["ul", "add", "9001", one, "--q", "2"]);
    assert!(wrong.stderr.contains("must be a number from 0 to 1"), "{}", wrong.stderr);
    assert_eq!(server.stop(), Some(0));
    for alone in [&["ul", "dump"][..], &["ul", "rm", "9001"], &["ul", "add", "9001", one]] {
        let refused = server.roost(alone);
        assert!(refused.stderr.contains("is it running? Start it with `roost serve`"), "{}", refused.stderr);
    }
}

#[test]
fn help_and_mistakes() {
    let server = Server::prepared("", "");
    let help = server.succeed(&["--help"]);
    for command in ["serve", "user", "ul", "config", "--config", "--json"] {
        assert!(help.contains(command), "{command} is not in\n{help}");
    }
    assert!(server.succeed(&["user", "--help"]).contains("passwd"));
    let mistaken = server.roost(&["user", "ad", "9001"]);
    assert!(mistaken.code.is_some_and(|code| code != 0));
    assert!(mistaken.stderr.contains("add"), "{}", mistaken.stderr);
}

/// With `*` for the two values that differ from run to run, which must be numbers.
fn without_figures(shown: &str) -> String {
    let mut lines = Vec::new();
    for line in shown.lines() {
        let figure =
            line.split_once(":: ").filter(|(name, _)| matches!(name.trim(), "ContactID" | "Expires"));
        match figure {
            Some((name, value)) => {
                assert!(value.parse::<u64>().is_ok(), "{line}");
                lines.push(format!("{name}:: *\n"));
            }
            None => lines.push(format!("{line}\n")),
        }
    }
    lines.concat()
}
