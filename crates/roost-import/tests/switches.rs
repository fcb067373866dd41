//! Each switch of a residential script by itself, in the spelling of 2.4 and in that of 3.x and 4.0: what it becomes, and that both
//! become the same.

use std::path::{Path, PathBuf};

use roost_import::{Fate, Imported, import};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Old,
    New,
}

/// What a switch puts where, old and new; and what must come of it.
struct Switch {
    name: &'static str,
    /// Before the routes.
    head: [&'static str; 2],
    /// At the start of requests that begin something.
    first: [&'static str; 2],
    /// Before the extension is looked up.
    target: [&'static str; 2],
    /// Before a call goes to a phone.
    armed: [&'static str; 2],
    /// After the main route.
    routes: [&'static str; 2],
    /// Lines of the configuration.
    carried: &'static [&'static str],
    /// What is said where it is not carried.
    missing: &'static [&'static str],
}

const NONE: Switch = Switch {
    name: "",
    head: ["", ""],
    first: ["", ""],
    target: ["", ""],
    armed: ["", ""],
    routes: ["", ""],
    carried: &[],
    missing: &[],
};

const SWITCHES: [Switch; 16] = [
    Switch {
        name: "TCP",
        head: [
            "listen=tcp:10.0.0.1:5060\nloadmodule \"proto_tcp.so\"\n",
            "socket=tcp:10.0.0.1:5060\nloadmodule \"proto_tcp.so\"\n",
        ],
        carried: &["listen = [\"udp:10.0.0.1:5060\", \"tcp:10.0.0.1:5060\"]"],
        ..NONE
    },
    Switch {
        name: "TLS",
        head: [
            "listen=tls:10.0.0.1:5061\nloadmodule \"proto_tls.so\"\nmodparam(\"proto_tls\", \"certificate\", \"/etc/c.pem\")\nmodparam(\"proto_tls\", \"private_key\", \"/etc/k.pem\")\n",
            "socket=tls:10.0.0.1:5061\nloadmodule \"tls_openssl.so\"\nloadmodule \"tls_mgm.so\"\nloadmodule \"proto_tls.so\"\nmodparam(\"tls_mgm\", \"certificate\", \"[default]/etc/c.pem\")\nmodparam(\"tls_mgm\", \"private_key\", \"[default]/etc/k.pem\")\n",
        ],
        carried: &["\"tls:10.0.0.1:5061\"", "certificate = \"/etc/c.pem\"", "private_key = \"/etc/k.pem\""],
        ..NONE
    },
    Switch {
        name: "aliases",
        head: ["loadmodule \"alias_db.so\"\n"; 2],
        target: ["\talias_db_lookup(\"dbaliases\");\n"; 2],
        carried: &["table = \"dbaliases\""],
        ..NONE
    },
    Switch {
        name: "authentication",
        head: [
            "loadmodule \"auth.so\"\nloadmodule \"auth_db.so\"\nmodparam(\"auth_db\", \"calculate_ha1\", yes)\nmodparam(\"auth_db\", \"password_column\", \"password\")\n",
            "loadmodule \"auth.so\"\nloadmodule \"auth_db.so\"\nmodparam(\"auth_db\", \"calculate_ha1\", 1)\nmodparam(\"auth_db\", \"password_column\", \"password\")\n",
        ],
        first: [
            "\tif (is_method(\"REGISTER\")) {\n\t\tif (!www_authorize(\"\", \"subscriber\")) { www_challenge(\"\", \"0\"); exit; }\n\t} else if (!proxy_authorize(\"\", \"subscriber\")) { proxy_challenge(\"\", \"0\"); exit; }\n",
            "\tif (is_method(\"REGISTER\")) {\n\t\tif (!www_authorize(\"\", \"subscriber\")) { www_challenge(\"\", \"\"); exit; }\n\t} else if (!proxy_authorize(\"\", \"subscriber\")) { proxy_challenge(\"\", \"\"); exit; }\n",
        ],
        carried: &[
            "authorize = \"challenge\"",
            "calculate_ha1 = true",
            "password_column = \"password\"",
            "qop = \"off\"",
        ],
        ..NONE
    },
    Switch {
        name: "accounting",
        head: [
            "loadmodule \"acc.so\"\nmodparam(\"acc\", \"early_media\", 0)\nmodparam(\"acc\", \"db_url\", \"mysql://o:o@10.0.0.2/o\")\n",
            "loadmodule \"acc.so\"\nmodparam(\"acc\", \"early_media\", 0)\nmodparam(\"acc\", \"db_url\", \"mysql://o:o@10.0.0.2/o\")\n",
        ],
        first: ["\tif (is_method(\"INVITE\")) do_accounting(\"db\", \"cdr|missed\");\n"; 2],
        carried: &["[acc]", "db = true"],
        ..NONE
    },
    Switch {
        name: "database location",
        head: [
            "modparam(\"usrloc\", \"db_mode\", 2)\nmodparam(\"usrloc\", \"db_url\", \"mysql://o:o@10.0.0.2/o\")\n",
            "modparam(\"usrloc\", \"working_mode_preset\", \"single-instance-sql-write-back\")\nmodparam(\"usrloc\", \"db_url\", \"mysql://o:o@10.0.0.2/o\")\n",
        ],
        carried: &["db_mode = \"write-through\"", "database = \"mysql://o:o@10.0.0.2/o\""],
        ..NONE
    },
    Switch {
        name: "dialog",
        head: [
            "loadmodule \"dialog.so\"\nmodparam(\"dialog\", \"dlg_match_mode\", 1)\nmodparam(\"dialog\", \"default_timeout\", 21600)\n",
            "loadmodule \"dialog.so\"\nmodparam(\"dialog\", \"dlg_match_mode\", 1)\nmodparam(\"dialog\", \"default_timeout\", 21600)\n",
        ],
        first: [
            "\tif (is_method(\"INVITE\")) create_dialog(\"B\");\n",
            "\tif (is_method(\"INVITE\")) create_dialog(\"bye-on-timeout\");\n",
        ],
        carried: &["default_timeout = 21600"],
        ..NONE
    },
    Switch {
        name: "multi-domain",
        head: [
            "loadmodule \"domain.so\"\nmodparam(\"usrloc\", \"use_domain\", 1)\n",
            "loadmodule \"domain.so\"\nmodparam(\"usrloc\", \"use_domain\", 1)\n",
        ],
        first: [
            "\tif (!is_from_local() && !is_uri_host_local()) { send_reply(\"403\", \"Relay Forbidden\"); exit; }\n",
            "\tif (!is_domain_local(\"$fd\") && !is_domain_local(\"$rd\")) { send_reply(403, \"Relay Forbidden\"); exit; }\n",
        ],
        carried: &["use_domain = true"],
        ..NONE
    },
    Switch {
        name: "NAT",
        head: [
            "loadmodule \"nathelper.so\"\nmodparam(\"nathelper\", \"natping_interval\", 10)\nmodparam(\"nathelper\", \"ping_nated_only\", 1)\n",
            "loadmodule \"nathelper.so\"\nmodparam(\"nathelper\", \"natping_interval\", 10)\nmodparam(\"nathelper\", \"ping_nated_only\", 1)\n",
        ],
        first: [
            "\tforce_rport();\n\tif (nat_uac_test(\"23\")) { if (is_method(\"REGISTER\")) fix_nated_register(); else fix_nated_contact(); }\n",
            "\tforce_rport();\n\tif (nat_uac_test(\"private-contact,diff-ip-src-via\")) { if (is_method(\"REGISTER\")) fix_nated_register(); else fix_nated_contact(); }\n",
        ],
        carried: &["natping_interval = 10", "ping_nated_only = true"],
        ..NONE
    },
    Switch {
        name: "presence",
        head: ["loadmodule \"presence.so\"\nloadmodule \"presence_xml.so\"\n"; 2],
        first: ["\tif (is_method(\"SUBSCRIBE\")) { handle_subscribe(); exit; }\n\tif (is_method(\"PUBLISH\")) { handle_publish(); exit; }\n";
            2],
        missing: &["[[route]]"],
        ..NONE
    },
    Switch {
        name: "dial plan",
        head: ["loadmodule \"dialplan.so\"\nmodparam(\"dialplan\", \"db_url\", \"mysql://o:o@10.0.0.2/o\")\n";
            2],
        target: ["\tdp_translate(\"0\", \"$rU/$rU\");\n", "\tdp_translate(0, \"$rU\", $rU);\n"],
        missing: &["`strip`"],
        ..NONE
    },
    Switch {
        name: "voicemail diversion",
        armed: ["\tt_on_failure(\"missed_call\");\n"; 2],
        routes: [
            "failure_route[missed_call] {\n\tif (t_was_cancelled()) { exit; }\n\tif (t_check_status(\"486|408\")) { $du = \"sip:10.0.0.9:5070\"; t_relay(); }\n}\n",
            "failure_route[missed_call] {\n\tif (t_was_cancelled()) exit;\n\tif (t_check_status(\"486|408\")) { $du = \"sip:10.0.0.9:5070\"; t_relay(); }\n}\n",
        ],
        carried: &["hops = [\"sip:10.0.0.9:5070\"]", "on = [\"busy\", \"no-answer\"]"],
        ..NONE
    },
    Switch {
        name: "inbound PSTN",
        head: ["loadmodule \"permissions.so\"\n"; 2],
        first: [
            "\tif (!check_source_address(\"1\") && !is_method(\"REGISTER\")) { send_reply(\"403\", \"Forbidden\"); exit; }\n",
            "\tif (!check_source_address(1) && !is_method(\"REGISTER\")) { send_reply(403, \"Forbidden\"); exit; }\n",
        ],
        carried: &["address_table = \"address\"", "groups = [\"1\"]"],
        ..NONE
    },
    Switch {
        name: "outbound PSTN",
        target: [
            "\tif ($rU =~ \"^00[1-9]\") { strip(2); rewritehostport(\"10.0.0.8:5060\"); t_relay(); exit; }\n",
            "\tif ($rU =~ \"^00[1-9]\") { strip(2); $rd = \"10.0.0.8:5060\"; t_relay(); exit; }\n",
        ],
        carried: &["user = \"^00[1-9]\"", "hops = [\"sip:10.0.0.8:5060\"]", "strip = 2"],
        ..NONE
    },
    Switch {
        name: "dynamic routing",
        head: ["loadmodule \"drouting.so\"\nmodparam(\"drouting\", \"db_url\", \"mysql://o:o@10.0.0.2/o\")\n";
            2],
        target: [
            "\tif ($rU =~ \"^\\+\") { if (!do_routing(\"0\")) { send_reply(\"500\", \"No Route\"); exit; } t_relay(); exit; }\n",
            "\tif ($rU =~ \"^\\+\") { if (!do_routing(0)) { send_reply(500, \"No Route\"); exit; } t_relay(); exit; }\n",
        ],
        missing: &["[[route]] for each prefix"],
        ..NONE
    },
    Switch {
        name: "HTTP management",
        head: [
            "loadmodule \"httpd.so\"\nmodparam(\"httpd\", \"port\", 8888)\nloadmodule \"mi_json.so\"\n",
            "loadmodule \"httpd.so\"\nmodparam(\"httpd\", \"port\", 8888)\nloadmodule \"mi_http.so\"\n",
        ],
        carried: &["[mi]", ":8888\""],
        ..NONE
    },
];

/// The script with some of the switches.
fn script(spelling: Spelling, on: &[&Switch]) -> String {
    let at = usize::from(spelling == Spelling::New);
    let of =
        |part: fn(&Switch) -> [&'static str; 2]| -> String { on.iter().map(|one| part(one)[at]).collect() };
    let (sockets, not_found, method_filter) = match spelling {
        Spelling::Old => ("children=4\nlisten=udp:10.0.0.1:5060", "\"404\", \"Not Found\"", "m"),
        Spelling::New => {
            ("udp_workers=4\nsocket=udp:10.0.0.1:5060", "404, \"Not Found\"", "method-filtering")
        }
    };
    let (head, first, target) = (of(|one| one.head), of(|one| one.first), of(|one| one.target));
    let (armed, routes) = (of(|one| one.armed), of(|one| one.routes));
    format!(
        "log_level=3\n{sockets}\nloadmodule \"proto_udp.so\"\nloadmodule \"signaling.so\"\nloadmodule \"sl.so\"\nloadmodule \"tm.so\"\n\
         modparam(\"tm\", \"fr_timeout\", 5)\nmodparam(\"tm\", \"fr_inv_timeout\", 30)\nloadmodule \"rr.so\"\nloadmodule \"maxfwd.so\"\n\
         loadmodule \"sipmsgops.so\"\nloadmodule \"usrloc.so\"\nloadmodule \"registrar.so\"\n{head}\nroute {{\n\
         \tif (!mf_process_maxfwd_header(\"10\")) {{ send_reply({too_many}); exit; }}\n\
         \tif (has_totag()) {{ if (loose_route()) t_relay(); exit; }}\n\
         \tif (is_method(\"CANCEL\")) {{ if (t_check_trans()) t_relay(); exit; }}\n{first}\
         \tif (is_method(\"REGISTER\")) {{ if (!save(\"location\")) sl_reply_error(); exit; }}\n\
         \tif (!is_method(\"REGISTER|MESSAGE\")) record_route();\n{target}\
         \tif (!lookup(\"location\", \"{method_filter}\")) {{ send_reply({not_found}); exit; }}\n{armed}\
         \tif (!t_relay()) sl_reply_error();\n}}\n{routes}",
        too_many =
            if spelling == Spelling::Old { "\"483\", \"Too Many Hops\"" } else { "483, \"Too Many Hops\"" },
    )
}

fn imported(folder: &Path, spelling: Spelling, on: &[&Switch]) -> Imported {
    let file: PathBuf = folder.join("opensips.cfg");
    std::fs::write(&file, script(spelling, on)).unwrap();
    import(&file, &|_| Vec::new()).unwrap_or_else(|error| panic!("{error}\n{}", script(spelling, on)))
}

/// The configuration without where each line comes from.
fn plain(toml: &str) -> String {
    let lines = toml
        .lines()
        .skip(1)
        .map(|line| line.split(" # ").next().unwrap_or(line).trim_end().to_string() + "\n");
    lines.collect()
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn folder(name: &str) -> Folder {
    let path = std::env::temp_dir().join(format!("roost-import-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    Folder(path)
}

#[test]
fn each_switch_becomes_the_same_in_both_spellings() {
    let folder = folder("switches");
    let (mut lines, mut lost) = (0, 0);
    for switch in &SWITCHES {
        let both = [Spelling::Old, Spelling::New].map(|spelling| imported(&folder.0, spelling, &[switch]));
        for one in &both {
            let toml = plain(&one.toml);
            for carried in switch.carried {
                assert!(toml.contains(carried), "{}: no {carried} in\n{toml}", switch.name);
            }
            let missing: Vec<&str> = one
                .lines
                .iter()
                .filter_map(|line| match &line.fate {
                    Fate::Missing(remedy) => Some(remedy.as_str()),
                    _ => None,
                })
                .collect();
            assert_eq!(missing.is_empty(), switch.missing.is_empty(), "{}: {missing:?}", switch.name);
            for expected in switch.missing {
                assert!(
                    missing.iter().any(|remedy| remedy.contains(expected)),
                    "{}: {missing:?}",
                    switch.name
                );
            }
            lines += one.lines.len();
            lost += missing.len();
        }
        assert_eq!(plain(&both[0].toml), plain(&both[1].toml), "{}", switch.name);
    }
    eprintln!("{lines} lines of 32 scripts, {lost} not carried over");
}

#[test]
fn all_switches_together_become_what_each_becomes() {
    let folder = folder("together");
    let all: Vec<&Switch> = SWITCHES.iter().collect();
    for spelling in [Spelling::Old, Spelling::New] {
        let toml = plain(&imported(&folder.0, spelling, &all).toml);
        // Where passwords are asked for as well, those of the list need one, too: they are not trusted.
        // And a dial plan that is not carried over translates the numbers that go out.
        let alone = ["TCP", "inbound PSTN", "outbound PSTN"];
        for carried in
            SWITCHES.iter().filter(|switch| !alone.contains(&switch.name)).flat_map(|switch| switch.carried)
        {
            assert!(toml.contains(carried), "{spelling:?}: no {carried} in\n{toml}");
        }
    }
}
