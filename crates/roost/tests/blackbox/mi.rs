//! MI: the OpenSIPS commands over JSON-RPC, as opensips-cli and opensips-cp speak it.

use crate::support::{HttpReply, Phone, Server, http, post, wait_for};
use serde_json::{Value, json};

#[test]
fn bindings_are_dumped_and_shown() {
    let server = Server::started("", "");
    let phone = registered(&server, "9001");
    registered(&server, "9002");

    let dump = server.mi("ul_dump", Value::Null).expect("a dump");
    let table = &dump["Domains"][0];
    assert_eq!(table["name"], "location");
    assert!(table["hash_size"].is_u64(), "{table}");
    let mut aors: Vec<&str> = members(&table["AORs"]).iter().filter_map(|aor| aor["AOR"].as_str()).collect();
    aors.sort_unstable();
    assert_eq!(aors, ["9001", "9002"]);

    let brief = server.mi("ul_dump", json!({"brief": 1})).expect("a dump");
    for aor in members(&brief["Domains"][0]["AORs"]) {
        assert!(aor["AOR"].is_string() && aor.get("Contacts").is_none(), "{aor}");
    }

    // By position and by name; what a phone has not sent is not there.
    let shown = server.mi("ul_show_contact", json!(["location", "9001"])).expect("the AOR");
    let named = json!({"table_name": "location", "aor": "9001"});
    assert_eq!(server.mi("ul_show_contact", named).expect("the AOR")["AOR"], "9001");
    assert_eq!(shown["AOR"], "9001");
    let contacts = members(&shown["Contacts"]);
    assert_eq!(contacts.len(), 1);
    let contact = &contacts[0];
    assert!(contact["ContactID"].as_str().is_some_and(|id| id.parse::<u64>().is_ok()), "{contact}");
    assert!(contact["Expires"].as_u64().is_some_and(|left| (57..=60).contains(&left)), "{contact}");
    for (field, expected) in [
        ("Contact", json!(phone.contact)),
        ("Q", json!("")),
        ("Callid", json!(phone.call_id)),
        ("Cseq", json!(phone.cseq)),
        ("User-agent", json!(crate::support::USER_AGENT)),
        ("State", json!("CS_SYNC")),
        ("Flags", json!(0)),
        ("Cflags", json!("")),
        ("Socket", json!(format!("udp:{}", server.sip))),
        ("Methods", json!(5951)),
    ] {
        assert_eq!(contact[field], expected, "{field}");
    }
    for absent in ["Received", "Path", "SIP_instance"] {
        assert!(contact.get(absent).is_none(), "{absent}: {contact}");
    }
}

#[test]
fn what_is_not_there_is_said_as_opensips_says_it() {
    let server = Server::started("", "");
    let phone = registered(&server, "9001");
    for (method, params, expected) in [
        ("ul_show_contact", json!(["location", "9009"]), (404, "AOR not found")),
        ("ul_show_contact", json!(["elsewhere", "9001"]), (404, "Table not found")),
        ("ul_rm", json!(["elsewhere", "9001"]), (404, "Table not found")),
        ("ul_rm_contact", json!(["location", "9009", phone.contact]), (404, "AOR not found")),
        ("ul_rm_contact", json!(["location", "9001", "sip:9001@127.0.0.9"]), (404, "Contact not found")),
        ("get_statistics", json!([["nonsense:"]]), (404, "Statistics Not Found")),
        ("ul_show_contact", json!({}), (-32602, "Invalid params")),
        ("ul_show_contact", json!({"table_name": "location", "oar": "9001"}), (-32602, "Invalid params")),
        ("no_such_method", json!({}), (-32601, "Method not found")),
    ] {
        let error = server.mi(method, params.clone()).expect_err(method);
        assert_eq!((error.0, error.1.as_str()), expected, "{method} {params}");
    }

    let tenants = Server::started("use_domain = true", "");
    let error = tenants.mi("ul_show_contact", json!(["location", "9001"]));
    assert_eq!(error, Err((400, "Domain missing in AOR".to_owned())));
}

#[test]
fn a_binding_added_over_mi_is_on_disk() {
    let mut server = Server::started("", "");
    let params = json!({
        "table_name": "location", "aor": "9001", "contact": "sip:9001@127.0.0.1:7000",
        "expires": 3600, "q": "0.5", "flags": 0, "cflags": "", "methods": 5951,
    });
    assert_eq!(server.mi("ul_add", params), Ok(json!("OK")));
    let sql = "SELECT contact, q, callid, cseq, user_agent, methods FROM location WHERE username = '9001'";
    let row = server.sql(sql).replace("0.50\t", "0.5\t");
    let expected =
        "sip:9001@127.0.0.1:7000\t0.5\tdfjrewr12386fd6-343@opensips.mi\t1\tOpenSIPS MI Server\t5951";
    assert_eq!(row, expected);

    // opensips-cli sends every value as a string; 0 never expires.
    let params = json!(["location", "9002", "sip:9002@127.0.0.1:7000", "0", "", "0", "", "4294967295"]);
    assert_eq!(server.mi("ul_add", params), Ok(json!("OK")));

    server.kill9();
    server.start();
    let shown = server.mi("ul_show_contact", json!(["location", "9001"])).expect("the AOR");
    assert_eq!(shown["Contacts"][0]["Q"], "0.5");
    let shown = server.mi("ul_show_contact", json!(["location", "9002"])).expect("the AOR");
    assert_eq!(shown["Contacts"][0]["Expires"], "permanent");
}

#[test]
fn a_binding_removed_over_mi_is_off_the_disk() {
    let server = Server::started("", "[registrar]\nmax_contacts = 2\n");
    let mut first = registered(&server, "9001");
    let mut second = server.phone("9001");
    assert_eq!(second.register(60).line(), "200 OK");
    registered(&server, "9002");
    assert_eq!(server.rows(Some("9001")), 2);

    assert_eq!(server.mi("ul_rm_contact", json!(["location", "9001", first.contact])), Ok(json!("OK")));
    assert_eq!(server.rows(Some("9001")), 1);
    let left = first.query();
    let contact = left.header("Contact").unwrap_or_default();
    assert!(contact.contains(&second.contact) && !contact.contains(&first.contact), "{contact}");

    let all = json!({"table_name": "location", "aor": "9001"});
    assert_eq!(server.mi("ul_rm", all.clone()), Ok(json!("OK")));
    assert_eq!(server.rows(Some("9001")), 0);
    assert_eq!(second.query().header("Contact"), None);
    assert_eq!(server.mi("ul_rm", all), Ok(json!("OK")), "there is nothing left to do");
    assert_eq!(server.rows(Some("9002")), 1);

    // The next REGISTER is an ordinary one.
    assert_eq!(second.register(60).line(), "200 OK");
    assert_eq!(server.rows(Some("9001")), 1);
}

#[test]
fn rows_are_written_again_from_memory() {
    let mut server = Server::started("", "[registrar]\nmax_contacts = 2\n");
    let phone = registered(&server, "9001");
    let mut second = server.phone("9001");
    assert_eq!(second.register(60).line(), "200 OK");
    registered(&server, "9002");
    let sql =
        "SELECT contact_id, username, contact, q, callid, cseq, socket FROM location ORDER BY contact_id";
    let rows = |server: &Server| server.sql(sql);
    // Memory counts in milliseconds, a row in whole seconds of another clock: they may differ by one.
    let expires = |server: &Server| -> Vec<u64> {
        let text = server.sql("SELECT expires FROM location ORDER BY contact_id");
        text.lines().map(|line| line.parse().expect("a time")).collect()
    };
    let (before, expired_before) = (rows(&server), expires(&server));

    // Someone empties the table behind the server's back, and edits what is left.
    server.sql("DELETE FROM location");
    assert_eq!(server.mi("ul_sync", json!(["location", "9001"])), Ok(json!("OK")));
    assert_eq!((server.rows(Some("9001")), server.rows(None)), (2, 2));
    let by_call = format!("WHERE callid = '{}'", phone.call_id);
    server.sql(&format!("UPDATE location SET contact = 'sip:nobody@127.0.0.9' {by_call}"));
    assert_eq!(server.mi("ul_sync", json!({"table_name": "location"})), Ok(json!("OK")));
    assert_eq!(rows(&server), before);
    let apart = expires(&server).iter().zip(&expired_before).map(|(now, then)| now.abs_diff(*then)).max();
    assert!(apart.is_some_and(|most| most <= 1), "{expired_before:?} became {:?}", expires(&server));
    server.kill9();
    server.start();
    assert_eq!(server.mi("ul_sync", json!(["location"])), Ok(json!("OK")));
    assert_eq!(server.rows(None), 3);

    for (params, expected) in [
        (json!(["elsewhere"]), (404, "Table not found")),
        (json!(["elsewhere", "9001"]), (404, "Table not found")),
        (json!(["location", "9009"]), (404, "AOR not found")),
        (json!([]), (-32602, "Invalid params")),
    ] {
        let error = server.mi("ul_sync", params.clone()).expect_err("an error");
        assert_eq!((error.0, error.1.as_str()), expected, "{params}");
    }
}

#[test]
fn a_thousand_aors_are_written_again() {
    let server = Server::started("", "");
    let mut contacts = Vec::new();
    for index in 0..1_000 {
        let params =
            json!(["location", format!("{index}"), format!("sip:{index}@127.0.0.1:7000"), 0, "", 0, "", 0]);
        assert_eq!(server.mi("ul_add", params), Ok(json!("OK")));
        contacts.push(format!("sip:{index}@127.0.0.1:7000"));
    }
    server.sql("DELETE FROM location");
    assert_eq!(server.mi("ul_sync", json!(["location"])), Ok(json!("OK")));
    let rows = server.sql("SELECT contact FROM location");
    let mut rows: Vec<&str> = rows.lines().collect();
    rows.sort_unstable();
    contacts.sort_unstable();
    assert_eq!(rows, contacts);
}

#[test]
fn flush_waits_for_the_database() {
    let server = Server::started("", "");
    registered(&server, "9001");
    assert_eq!(server.mi("ul_flush", Value::Null), Ok(json!("OK")));
    assert_eq!(server.mi("usrloc:flush", json!({})), Ok(json!("OK")));

    if server.database.is_some() {
        return;
    }
    // While another program writes, bindings are durable in the journal; only the flush waits for the table.
    server.add_user("9002", "9002");
    let other = server.sqlite();
    other.execute_batch("BEGIN IMMEDIATE").expect("the turn to write");
    assert_eq!(server.phone("9002").register(60).line(), "200 OK");
    std::thread::scope(|scope| {
        let flushed = scope.spawn(|| server.mi("ul_flush", json!([])));
        assert_eq!(server.statistic("usrloc:location-contacts"), 2, "the server goes on meanwhile");
        wait_for("the flush to wait", crate::support::PATIENCE, || {
            assert!(!flushed.is_finished(), "it was answered while nothing could be written");
            (server.statistic("roost:commits_in_flight") > 0).then_some(())
        });
        other.execute_batch("COMMIT").expect("the end of the turn");
        assert_eq!(flushed.join().expect("its answer"), Ok(json!("OK")));
    });
    assert_eq!(server.rows(None), 2);

    let memory = Server::started("", "[usrloc]\ndb_mode = \"memory\"\n");
    assert_eq!(memory.mi("ul_flush", json!({})), Ok(json!("OK")));
    let synced = memory.mi("ul_sync", json!(["location"]));
    assert_eq!(synced, Err((200, "Contacts already synced".to_owned())));
}

#[test]
fn the_server_tells_about_itself() {
    let server = Server::started("", "");
    registered(&server, "9001");

    let uptime = server.mi("uptime", json!({})).expect("uptime");
    let up_time = uptime["Up time"].as_str().and_then(|text| text.strip_suffix(" [sec]"));
    assert!(up_time.is_some_and(|seconds| seconds.parse::<u64>().is_ok()), "{uptime}");
    assert!(uptime["Now"].is_string() && uptime["Up since"].is_string(), "{uptime}");

    let version = server.mi("version", json!({})).expect("version");
    let text = version["Server"].as_str().unwrap_or_default();
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{version}");

    for params in [Value::Null, json!({}), json!([])] {
        let which = server.mi("which", params).expect("which");
        for method in [
            "ul_dump",
            "ul_show_contact",
            "ul_add",
            "ul_rm",
            "ul_rm_contact",
            "ul_flush",
            "ul_sync",
            "uptime",
            "version",
            "which",
            "get_statistics",
        ] {
            assert!(members(&which).contains(&json!(method)), "{method}: {which}");
        }
    }
    // A list of alternatives, each a list of names: opensips-cli completes from it.
    let which = server.mi("which", json!({"command": "ul_show_contact"})).expect("which");
    assert!(members(&which).contains(&json!(["table_name", "aor"])), "{which}");
}

#[test]
fn statistics_count_what_is_registered() {
    let server = Server::started("", "");
    registered(&server, "9001");
    registered(&server, "9002");
    for params in [json!([["usrloc:"]]), json!({"statistics": ["usrloc:"]}), json!({"statistics": ["all"]})] {
        let statistics = server.mi("get_statistics", params).expect("statistics");
        for name in ["usrloc:registered_users", "usrloc:location-users", "usrloc:location-contacts"] {
            assert_eq!(statistics[name], 2, "{name}: {statistics}");
        }
    }
    // By its bare name; unknown ones are skipped.
    let one = json!({"statistics": ["registered_users", "no_such_statistic"]});
    assert_eq!(server.mi("get_statistics", one), Ok(json!({"usrloc:registered_users": 2})));
    let registrar = server.mi("get_statistics", json!([["registrar:"]])).expect("statistics");
    assert_eq!(registrar["registrar:accepted_regs"], 2, "{registrar}");
}

#[test]
fn json_rpc_is_kept_to() {
    let server = Server::started("", "");
    let ask = |body: &str| post(server.mi, body);

    // Ids come back as they are.
    for id in [json!(7), json!("18515")] {
        let reply = ask(&json!({"jsonrpc": "2.0", "id": id, "method": "version", "params": {}}).to_string());
        assert_eq!((reply.status, &reply.json()["id"]), (200, &id));
        let reply = ask(&json!({"jsonrpc": "2.0", "id": id, "method": "no_such_method"}).to_string());
        assert_eq!((reply.status, &reply.json()["id"]), (200, &id));
    }

    let broken = ask("{\"jsonrpc\": \"2.0\", \"id\": 1, ");
    assert_eq!((broken.status, error_code(&broken)), (200, -32700));
    assert_eq!(broken.json()["id"], Value::Null);
    for invalid in [
        json!({"jsonrpc": "1.0", "id": 1, "method": "version"}),
        json!({"id": 1, "method": "version"}),
        json!({"jsonrpc": "2.0", "id": 1}),
        json!("version"),
    ] {
        let reply = ask(&invalid.to_string());
        assert_eq!((reply.status, error_code(&reply)), (200, -32600), "{invalid}");
    }

    // A notification asks for no answer.
    assert_eq!(ask("{\"jsonrpc\": \"2.0\", \"method\": \"version\"}").status, 202);
    assert_eq!(ask("").status, 400);
}

#[test]
fn a_request_that_is_too_large_is_refused() {
    let server = Server::started("", "");
    let ask = |length: usize| {
        let body =
            json!({"jsonrpc": "2.0", "id": 1, "method": "uptime", "params": {"x": "x".repeat(length)}});
        post(server.mi, &body.to_string()).status
    };
    assert_eq!((ask(60_000), ask(70_000)), (200, 413));
    assert!(server.mi("uptime", Value::Null).is_ok());
}

#[test]
fn web_pages_cannot_reach_it() {
    let server = Server::started("", "");
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "version"}).to_string();
    let host = format!("Host: {}", server.mi);
    let localhost = format!("Host: localhost:{}", server.mi.port());
    let json_type = "Content-Type: application/json";
    let send = |start: &str, headers: &[&str]| http(server.mi, start, headers, &body).status;

    assert_eq!(send("POST /mi", &[&host, json_type]), 200);
    assert_eq!(send("POST /mi", &[&localhost, json_type]), 200);
    assert_eq!(send("POST /mi", &[&host, "Content-Type: application/json; charset=utf-8"]), 200);

    assert_eq!(send("GET /mi", &[&host, json_type]), 405);
    // A browser sends these three types for any page, without asking first.
    for other in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let status = send("POST /mi", &[&host, &format!("Content-Type: {other}")]);
        assert!((400..500).contains(&status), "{other}: {status}");
    }
    let status = send("POST /mi", &[&host]);
    assert!((400..500).contains(&status), "no content type: {status}");
    // A name of the page's own that resolves to 127.0.0.1.
    for other in ["Host: evil.example", "Host: 127.0.0.1.evil.example", "Host: localhost.evil.example:8888"] {
        let status = send("POST /mi", &[other, json_type]);
        assert!((400..500).contains(&status), "{other}: {status}");
    }
    assert_eq!(send("POST /other", &[&host, json_type]), 404);
}

/// A phone of a new extension, registered for a minute.
fn registered(server: &Server, user: &str) -> Phone {
    server.add_user(user, user);
    let mut phone = server.phone(user);
    assert_eq!(phone.register(60).line(), "200 OK");
    phone
}

fn members(array: &Value) -> &[Value] {
    array.as_array().unwrap_or_else(|| panic!("not an array: {array}"))
}

fn error_code(reply: &HttpReply) -> i64 {
    reply.json()["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error code: {}", reply.body))
}
