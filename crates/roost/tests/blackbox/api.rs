//! The API: pages, tags, and who may ask.

use serde_json::{Value, json};

use crate::support::{HttpReply, Server, http, post};

fn get(server: &Server, path: &str, headers: &[&str]) -> HttpReply {
    let host = format!("Host: {}", server.mi);
    let headers: Vec<&str> = [host.as_str()].into_iter().chain(headers.iter().copied()).collect();
    http(server.mi, &format!("GET /api/v1{path}"), &headers, "")
}

fn json_of(server: &Server, path: &str) -> Value {
    let reply = get(server, path, &[]);
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    reply.json()
}

/// All entries, page by page.
fn all(server: &Server, path: &str) -> Vec<Value> {
    let (mut items, mut after) = (Vec::new(), String::new());
    loop {
        let page = json_of(server, &format!("{path}{after}"));
        items.extend(page["items"].as_array().cloned().expect("items"));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return items,
        }
    }
}

#[test]
fn extensions_agents_and_calls_come_in_pages() {
    for workers in [1, 4] {
        let mut server = Server::prepared(&format!("workers = {workers}"), "");
        server.add_users(9001, 30);
        server.start();
        let mut phones: Vec<_> = (9001..9021).map(|user| server.registered(&user.to_string())).collect();
        let (last, first) = phones.split_last_mut().expect("phones");
        last.establish(&first[0]);
        let names = |items: Vec<Value>| -> Vec<String> {
            items.iter().map(|item| item["aor"].as_str().expect("a name").to_owned()).collect()
        };
        let expected: Vec<String> = (9001..9031).map(|user| user.to_string()).collect();
        assert_eq!(names(all(&server, "/extensions?limit=7")), expected);
        assert_eq!(names(all(&server, "/extensions?limit=7&search=902")), expected[19..29]);
        assert_eq!(names(all(&server, "/extensions?limit=7&state=UNAVAILABLE")), expected[20..]);
        let mut agents = names(all(&server, "/agents?limit=3"));
        agents.sort();
        assert_eq!(agents, expected[..20]);
        let mut busy = names(all(&server, "/agents?limit=1&state=INUSE"));
        busy.sort();
        assert_eq!(busy, ["9001", "9020"]);
        let one = json_of(&server, "/extensions/9001");
        assert_eq!((&one["state"], &one["contacts"][0]["uri"]), (&json!("INUSE"), &json!(first[0].contact)));
        assert_eq!(json_of(&server, "/agents/9030")["state"], "UNAVAILABLE");
        assert_eq!(get(&server, "/extensions/9999", &[]).status, 404);

        let calls = all(&server, "/calls?limit=1");
        assert_eq!((calls.len(), &calls[0]["state"]), (1, &json!("answered")));
        assert_eq!(
            (&calls[0]["caller"]["aor"], &calls[0]["callee"]["aor"]),
            (&json!("9020"), &json!("9001"))
        );
        assert!(
            all(&server, "/calls?aor=9002").is_empty() && all(&server, "/calls?state=ringing").is_empty()
        );
        let id = calls[0]["id"].as_str().expect("an id");
        assert_eq!(json_of(&server, &format!("/calls/{id}"))["call_id"], last.call_id);
        let host = format!("Host: {}", server.mi);
        let end = || http(server.mi, &format!("DELETE /api/v1/calls/{id}"), &[&host], "").status;
        assert_eq!((end(), end()), (204, 404));
        let bye = last.await_request("BYE");
        last.answer(&bye, "200 OK");
        assert!(all(&server, "/calls?limit=1").is_empty());
    }
}

#[test]
fn answers_are_tagged_and_mistakes_explained() {
    let server = Server::for_calls("");
    let path = "/extensions?limit=2";
    assert_eq!(get(&server, path, &["If-None-Match: *"]).status, 304);
    assert_eq!(get(&server, path, &["If-None-Match: \"0000000000000000\""]).status, 200);
    for (path, status, words) in [
        ("/extensions?limit=0", 400, "`limit` must be from 1 to 1000"),
        ("/extensions?limit=x", 400, "limit"),
        ("/extensions?limits=1", 400, "unknown field `limits`"),
        ("/calls?after=x", 400, "`after` is not the `next` of another page"),
        ("/calls?state=dead", 400, "unknown variant `dead`"),
        ("/records", 404, "set `db` in [acc]"),
    ] {
        let reply = get(&server, path, &[]);
        assert_eq!(reply.status, status, "{path}");
        assert!(
            reply.json()["error"].as_str().is_some_and(|error| error.contains(words)),
            "{path}: {}",
            reply.body
        );
    }
    assert_eq!(get(&server, "/nothing", &[]).status, 404);
    let document = json_of(&server, "/openapi.json");
    assert!(document["paths"]["/api/v1/calls/{id}"]["delete"].is_object(), "{document}");
}

#[test]
fn strangers_pages_and_those_without_the_token_get_nothing() {
    let server = Server::for_calls("");
    for (headers, status) in [
        (vec!["Host: evil.example"], 403),
        (vec!["Host: 127.0.0.1", "Origin: http://evil.example"], 403),
        (vec!["Host: 127.0.0.1"], 200),
    ] {
        assert_eq!(http(server.mi, "GET /api/v1/calls", &headers, "").status, status, "{headers:?}");
    }
    let mut server = Server::prepared("", "");
    server.replace_in_config("[mi]", "[mi]\ntoken_file = \"token\"");
    std::fs::write(server.path("token"), "a-token-that-nobody-guesses\n").expect("a token");
    server.add_users(9001, 1);
    server.start();
    assert_eq!(get(&server, "/calls", &[]).status, 401);
    assert_eq!(get(&server, "/calls", &["Authorization: Bearer a-token-that-nobody-guesses"]).status, 200);
    assert_eq!(get(&server, "/calls", &["Authorization: Bearer another"]).status, 401);
    assert_eq!(post(server.mi, r#"{"jsonrpc":"2.0","id":1,"method":"version"}"#).status, 401);
    // The command line reads it from the configuration.
    server.succeed(&["calls"]);
}

#[test]
fn lists_take_a_condition() {
    let server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    caller.establish(&callee);
    let names = |path: &str| -> Vec<String> {
        let items = json_of(&server, path)["items"].as_array().expect("items").clone();
        items
            .iter()
            .map(|one| one["aor"].as_str().or(one["caller"]["aor"].as_str()).expect("a name").to_string())
            .collect()
    };
    assert_eq!(names("/extensions?filter=state%20==%20%27UNAVAILABLE%27"), ["9003"]);
    assert_eq!(names("/agents?filter=in_use%20%3E%200%20%26%26%20aor.endsWith(%221%22)"), ["9001"]);
    assert_eq!(names("/calls?filter=caller.aor%20==%20%229001%22"), ["9001"]);
    assert!(names("/calls?filter=caller.aor%20==%20%229002%22").is_empty());
    let refused = get(&server, "/calls?filter=caler%20==%201", &[]);
    assert!(
        refused.status == 400 && refused.body.contains("line 1, column 1: there is no `caler`"),
        "{}",
        refused.body
    );
}
