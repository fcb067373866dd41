//! What must not be carried wrongly: a script that is understood in part trusts nobody and sends nothing anywhere.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use roost_import::{Fate, Imported, import};

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn imported(name: &str, script: &str) -> Imported {
    let folder = Folder(std::env::temp_dir().join(format!("roost-import-{}-{name}", std::process::id())));
    fs::create_dir_all(&folder.0).expect("a folder");
    let path = folder.0.join("opensips.cfg");
    fs::write(&path, script).expect("a script");
    import(&path, &|_| Vec::new()).unwrap_or_else(|error| panic!("{name}: {error}\n{script}"))
}

/// A main route with this in it, behind the usual beginning.
fn routed(name: &str, body: &str) -> Imported {
    imported(
        name,
        &format!(
            "listen=udp:10.0.0.1:5060\nloadmodule \"tm.so\"\nroute {{\n\tif (has_totag()) {{ loose_route(); t_relay(); exit; }}\n{body}\n}}\n"
        ),
    )
}

const AUTH: &str = "if (!proxy_authorize(\"\", \"subscriber\")) { proxy_challenge(\"\", 0); exit; }\n";
const RELAY: &str = "if (!lookup(\"location\")) { send_reply(404, \"No\"); exit; } t_relay(); exit;\n";

#[test]
fn who_is_kept_out_is_not_trusted() {
    for (name, body) in [
        ("blocked", format!("if (check_source_address(5)) {{ drop; }}\n{AUTH}{RELAY}")),
        (
            "both",
            format!("if (!check_source_address(2)) {{ send_reply(403, \"No\"); exit; }}\n{AUTH}{RELAY}"),
        ),
        ("callee", format!("if (!check_address(1, \"$rd\")) {{ {AUTH} }}\n{RELAY}")),
        ("own", format!("if ($socket_in(ip) == \"10.9.9.9\") {{ {RELAY} }}\n{AUTH}{RELAY}")),
        (
            "fixed",
            format!("if ($si == \"10.6.6.6\") {{ t_relay(\"udp:10.9.9.9:5060\"); exit; }}\n{AUTH}{RELAY}"),
        ),
        ("and", format!("if ($si == \"10.6.6.6\" && $avp(x) == 1) {{ {RELAY} }}\n{AUTH}{RELAY}")),
    ] {
        let toml = routed(name, &body).toml;
        assert!(!toml.contains("groups") && !toml.contains("trusted"), "{name}:\n{toml}");
        assert!(toml.contains("authorize = \"challenge\""), "{name}:\n{toml}");
    }
    for (name, body, expected) in [
        ("group", format!("if (!check_source_address(2)) {{ {AUTH} }}\n{RELAY}"), "groups = [\"2\"]"),
        (
            "sources",
            format!("if ($si == \"10.1.1.1\" || src_ip == 10.8.0.0/16) {{ {RELAY} }}\n{AUTH}{RELAY}"),
            "trusted = [\"10.1.1.1\", \"10.8.0.0/16\"]",
        ),
    ] {
        let toml = routed(name, &body).toml;
        assert!(toml.contains(expected), "{name}:\n{toml}");
    }
}

#[test]
fn what_a_route_depends_on_is_said_or_there_is_none() {
    for (name, body, expected) in [
        (
            "or",
            "if ($rU == \"911\" || $rU == \"112\") { $rd = \"10.1.1.2\"; t_relay(); exit; }",
            Some(
                "when = \"(uri.user == \\\"911\\\" || uri.user == \\\"112\\\")\"\nhops = [\"sip:10.1.1.2\"]",
            ),
        ),
        (
            "source",
            "if ($si == \"10.6.6.6\") { $du = \"sip:10.1.1.2:5061;transport=tls\"; t_relay(); exit; }",
            Some("when = \"source == \\\"10.6.6.6\\\"\"\nhops = [\"sip:10.1.1.2:5061;transport=tls\"]"),
        ),
        (
            "refused",
            "if ($rU =~ \"^9\") { send_reply(403, \"No\"); exit; }\nif ($rU =~ \"^[0-9]+$\") { $rd = \"10.1.1.2\"; $rp = 5070; t_relay(); exit; }",
            Some("when = \"!(uri.user.matches(\\\"^9\\\"))\"\nhops = [\"sip:10.1.1.2:5070\"]"),
        ),
        ("variable", "if ($avp(rich) == 1) { $rd = \"10.1.1.2\"; t_relay(); exit; }", None),
        ("gateway", "if (is_from_gw()) { $rd = \"10.1.1.2\"; t_relay(); exit; }", None),
        (
            "no credit",
            "if ($avp(poor) == 1) { send_reply(403, \"No\"); exit; }\n$rd = \"10.1.1.2\"; t_relay();",
            None,
        ),
        (
            "either",
            "if ($avp(x) == 1) { $avp(y) = 2; }\nif ($rU =~ \"^0\") { $rd = \"10.1.1.2\"; t_relay(); exit; }",
            Some("prefix = \"0\"\nhops = [\"sip:10.1.1.2\"]"),
        ),
        ("voicemail", "$ru = \"sip:vmcheck@10.1.1.5\"; t_relay();", None),
        ("user", "$rU = \"vm\"; $rd = \"10.1.1.5\"; t_relay();", None),
        ("tail", "strip_tail(2); $rd = \"10.1.1.5\"; t_relay();", None),
        ("substring", "$rU = $(rU{s.substr,-4,0}); $rd = \"10.1.1.5\"; t_relay();", None),
        ("prefix", "prefix(\"$avp(p)\"); $rd = \"10.1.1.5\"; t_relay();", None),
        (
            "whole",
            "if (uri =~ \"sip:[0-9]{4}@.*\") { $rd = \"10.1.1.5\"; t_relay(); exit; }",
            Some("user = \"^[0-9]{4}$\""),
        ),
        (
            "relayed",
            "if ($rU =~ \"^0\") { t_relay(\"tcp:10.1.1.5:5062\"); exit; }",
            Some("prefix = \"0\"\nhops = [\"sip:10.1.1.5:5062;transport=tcp\"]"),
        ),
        (
            "found",
            "$rd = \"sip.example.com\"; if (!lookup(\"location\")) { send_reply(404, \"No\"); exit; } t_relay();",
            None,
        ),
        (
            "switch",
            "switch ($rm) { case \"INVITE\": lookup(\"location\"); t_relay(); break; default: $rd = \"10.9.9.9\"; t_relay(); }",
            None,
        ),
        (
            "words",
            "if ($rU =~ \"^0\" and not is_method(\"ACK\")) { $rd = \"10.1.1.5\"; t_relay(); exit; }",
            Some("prefix = \"0\""),
        ),
    ] {
        let imported = routed(name, body);
        let toml = &imported.toml;
        match expected {
            Some(expected) => assert!(toml.contains(expected), "{name}:\n{toml}"),
            None => assert!(!toml.contains("[[route]]"), "{name}:\n{toml}"),
        }
    }
}

#[test]
fn the_last_line_counts_and_other_databases_and_certificates_are_told() {
    let script = |params: &str| {
        format!("listen=udp:10.0.0.1:5060\nloadmodule \"usrloc.so\"\n{params}route {{ exit; }}\n")
    };
    let one = imported(
        "last",
        &script("modparam(\"usrloc\", \"db_mode\", 0)\nmodparam(\"usrloc\", \"db_mode\", 2)\n"),
    );
    assert!(one.toml.contains("db_mode = \"write-through\""), "{}", one.toml);
    assert!(matches!(&one.lines[2].fate, Fate::Unneeded(why) if why.contains("line 4 sets it again")));
    let one = imported(
        "database",
        &script(
            "modparam(\"acc\", \"db_url\", \"mysql://a:b@10.0.0.2/acc\")\nmodparam(\"usrloc\", \"db_url\", \"mysql://a:b@10.0.0.2/o\")\n",
        ),
    );
    assert!(one.toml.contains("database = \"mysql://a:b@10.0.0.2/o\""), "{}", one.toml);
    assert!(matches!(&one.lines[2].fate, Fate::Missing(_)), "{:?}", one.lines[2]);
    let one = imported("only", &script("modparam(\"acc\", \"db_url\", \"mysql://a:b@10.0.0.2/o\")\n"));
    assert!(one.toml.contains("database = \"mysql://a:b@10.0.0.2/o\""), "{}", one.toml);
    let one = imported(
        "tls",
        &script(
            "loadmodule \"tls_mgm.so\"\nmodparam(\"tls_mgm\", \"client_domain\", \"out\")\nmodparam(\"tls_mgm\", \"certificate\", \"[out]/o.pem\")\n\
             modparam(\"tls_mgm\", \"server_domain\", \"in=10.0.0.1:5061\")\nmodparam(\"tls_mgm\", \"certificate\", \"[in]/i.pem\")\n",
        ),
    );
    assert!(
        one.toml.contains("certificate = \"/i.pem\"") && one.toml.contains("require_cert = true"),
        "{}",
        one.toml
    );
    assert!(matches!(&one.lines[4].fate, Fate::Missing(_)), "{:?}", one.lines[4]);
    let one = imported("alias", "alias=c.example.com:5060\nalias=udp:d.example.com:5060\nroute { exit; }\n");
    assert!(one.toml.contains("domains = [\"c.example.com\", \"d.example.com\"]"), "{}", one.toml);
}

#[test]
fn what_opensips_reads_is_read() {
    for (name, script) in [
        ("adjacent", "route { xlog(\"a \"\n\t\"b\"); }"),
        (
            "scaling",
            "auto_scaling_profile = P\n scale up to 6 on 70% for 4 cycles within 5\n scale down to 2 on 20% for 5 cycles\nroute { exit; }",
        ),
        ("included", "route { include_file \"more.cfg\"\n exit; }"),
        ("optional", "import_file \"none.cfg\"\nroute { exit; }"),
        ("addresses", "route { if (src_ip == 2001:db8::1 || $si == [2001:db8::2]) { exit; } }"),
        ("bits", "route { $var(x) = $var(y) << 2 ^ 1; $var(x) <<= 1; if (!($var(x) & ~1)) { exit; } }"),
        ("comments", "/* a /* b */ c */ log_level=3 /* of\ntwo lines */\nroute { exit; }"),
        ("ticks", "route { $var(x) = 'a\\'; }"),
        ("group", "mem-group = \"x\": \"core\"\nroute { exit; }"),
    ] {
        imported(name, script);
    }
}

/// Conditions that double the ways, in routes that call one another, and a route that calls itself.
#[test]
fn scripts_with_more_ways_than_can_be_followed_end() {
    let many: String =
        (0..12).map(|one| format!("if ($hdr(X-{one}) == \"1\") {{ $avp({one}) = 1; }}\n")).collect();
    for (name, script) in [
        ("many", format!("route {{ {many} route(b); }}\nroute[b] {{ {many} route(c); }}\nroute[c] {{ {many} t_relay(); }}\n")),
        (
            "itself",
            "route { route(t); }\nroute[t] { if ($avp(i) == 3) exit; $avp(i) = $avp(i) + 1; if ($avp(d) == 1) { $avp(k) = 2; } if (!t_relay()) { route(t); exit; } exit; }\n".to_string(),
        ),
    ] {
        let begun = Instant::now();
        let one = imported(name, &script);
        assert!(begun.elapsed() < Duration::from_secs(20), "{name}: {:?}", begun.elapsed());
        assert!(one.differences.iter().any(|one| one.contains("too many to be followed")) || name == "itself");
    }
}
