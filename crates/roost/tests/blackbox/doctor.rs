//! `roost doctor`: before the server starts, while it runs, and when something is wrong.

use std::net::UdpSocket;

use serde_json::Value;

use crate::support::{Kind, Ran, Server};

/// What one check says.
fn health<'v>(found: &'v Value, check: &str) -> &'v str {
    let all = found.as_array().into_iter().flatten();
    all.filter(|one| one["check"] == check).find_map(|one| one["health"].as_str()).unwrap_or("none")
}

fn doctor(server: &Server) -> (Option<i32>, Value) {
    let Ran { code, stdout, stderr } = server.roost(&["doctor", "--json"]);
    (code, serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}")))
}

#[test]
fn a_server_is_looked_at_before_it_starts_and_while_it_runs() {
    let mut server = Server::prepared("", "[auth_db]\ncalculate_ha1 = false\npassword_column = \"ha1\"");
    let (code, before) = doctor(&server);
    assert_eq!(code, Some(0), "{before}");
    for check in ["configuration", "server", "port", "database", "disk", "descriptors"] {
        assert_ne!(health(&before, check), "error", "{check}: {before}");
        assert_ne!(health(&before, check), "none", "{check}: {before}");
    }
    server.start();
    let (code, during) = doctor(&server);
    assert_eq!(code, Some(0), "{during}");
    assert!(
        during.to_string().contains("is the running server's") && health(&during, "running server") == "ok",
        "{during}"
    );
    let shown = server.succeed(&["doctor"]);
    assert!(shown.contains("ok") && shown.contains("it runs"), "{shown}");
}

#[test]
fn what_does_not_work_is_an_error_with_advice() {
    // Somebody else has the port; anybody may call; the database is away.
    let mut server = Server::prepared_on(Kind::MariaDb, "", "[proxy]\nauthorize = \"off\"");
    let _taken = UdpSocket::bind(server.sip).expect("the port");
    server.database.as_mut().expect("its own").kill();
    let (code, found) = doctor(&server);
    assert_eq!(code, Some(1), "{found}");
    assert_eq!((health(&found, "port"), health(&found, "database")), ("error", "error"), "{found}");
    assert_eq!(health(&found, "open relay"), "warning", "only this machine reaches it: {found}");
    let with_advice =
        |one: &Value| one["health"] == "ok" || one["do"].as_str().is_some_and(|text| !text.is_empty());
    assert!(found.as_array().is_some_and(|all| all.iter().all(with_advice)), "{found}");

    std::fs::write(server.path("roost.toml"), "use_domian = true\n").expect("a mistake");
    let (code, found) = doctor(&server);
    assert_eq!((code, health(&found, "configuration")), (Some(1), "error"), "{found}");
    assert!(found.to_string().contains("did you mean `use_domain`?"), "{found}");
}
