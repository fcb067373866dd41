//! Several nodes that share bindings in Redis: a phone of one calls a phone of another, and what one accepts the others know.

use std::net::SocketAddr;

use serde_json::json;

use crate::events::Reader;
use crate::support::{
    AnyLine, Challenge, Database, Dialog, Kind, PATIENCE, Phone, Redis, SERVERS, Server, TLS_SECTION,
    TRANSPORTS, ack_of_failure, cancel_of, free_port, phone, report, talk, wait_for,
};

const SECRET: &str = "nodes know one another by this";

/// What the nodes share their bindings in.
enum Shared {
    Redis(Redis),
    Database(Database),
}

impl Shared {
    fn redis() -> Shared {
        Shared::Redis(Redis::start())
    }

    fn all() -> Vec<Shared> {
        let databases = SERVERS.map(|kind| Shared::Database(Database::start(kind)));
        [Shared::redis()].into_iter().chain(databases).collect()
    }

    /// A node that is not started.
    fn prepared(&self, name: &str, sections: &str) -> Server {
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let location = match self {
            Shared::Redis(redis) => format!("location = \"{}\"", redis.url()),
            Shared::Database(_) => String::new(),
        };
        let cluster = format!(
            "[cluster]\nnode = \"{name}\"\nlisten = \"{listen}\"\nsecrets = [\"{SECRET}\"]\n{sections}"
        );
        let mut server = Server::prepared_on(Kind::Sqlite, &location, &cluster);
        if let Shared::Database(database) = self {
            server.use_database(&database.url());
        }
        for user in ["9001", "9002", "9003"] {
            // The second node finds them there.
            server.roost(&["user", "add", user, user]);
        }
        server
    }

    fn two(&self, sections: &str) -> [Server; 2] {
        ["a", "b"].map(|name| {
            let mut server = self.prepared(name, sections);
            server.start();
            server
        })
    }

    fn kill(&mut self) {
        match self {
            Shared::Redis(redis) => redis.kill(),
            Shared::Database(database) => database.kill(),
        }
    }

    fn restart(&mut self) {
        match self {
            Shared::Redis(redis) => redis.restart(),
            Shared::Database(database) => database.restart(),
        }
    }
}

#[test]
fn phones_of_two_nodes_call_one_another_and_hang_up_from_either_side() {
    Shared::all().iter().for_each(call_one_another);
}

fn call_one_another(shared: &Shared) {
    let [a, b] = shared.two("");
    let (mut one, mut other) = (a.registered("9001"), b.registered("9002"));
    for caller_hangs_up in [true, false] {
        let (mut of_caller, mut of_callee) = one.establish(&other);
        // Requests inside the call go through both nodes, each way.
        let info = of_callee.request("INFO", &[]);
        other.send(&info);
        let heard = one.await_request("INFO");
        one.answer(&heard, "200 OK");
        other.await_status(200, "INFO");
        match caller_hangs_up {
            true => {
                one.send(of_caller.request("BYE", &[]));
                let bye = other.await_request("BYE");
                other.answer(&bye, "200 OK");
                one.await_status(200, "BYE");
            }
            false => {
                other.send(of_callee.request("BYE", &[]));
                let bye = one.await_request("BYE");
                one.answer(&bye, "200 OK");
                other.await_status(200, "BYE");
            }
        }
        wait_for("the call's end", PATIENCE, || (a.statistic("dialog:active_dialogs") == 0).then_some(()));
    }
    // The node that took the call from its caller keeps it, and it alone.
    assert_eq!((a.statistic("dialog:processed_dialogs"), b.statistic("dialog:processed_dialogs")), (2, 0));
    // The other way round; and one that is cancelled, and one that is refused.
    let invite = other.invite("9001");
    let ringing = one.await_request("INVITE");
    one.answer(&ringing, "180 Ringing");
    other.await_status(180, "INVITE");
    other.send(cancel_of(&invite));
    let cancel = one.await_request("CANCEL");
    one.answer(&cancel, "200 OK");
    one.answer(&ringing, "487 Request Terminated");
    let ended = other.await_final("INVITE");
    assert_eq!(ended.status(), Some(487));
    other.send(ack_of_failure(&invite, &ended));
    one.await_request("ACK");
    refuses(&mut one, &other, "9002", "486 Busy Here");
    // Nobody is registered as 9003 anywhere.
    let invite = one.invite("9003");
    let nobody = one.await_final("INVITE");
    assert_eq!(nobody.status(), Some(404));
    one.send(ack_of_failure(&invite, &nobody));
}

#[test]
fn phones_of_two_nodes_call_one_another_over_every_transport() {
    let redis = Redis::start();
    let shared = Shared::Redis(redis);
    let Shared::Redis(redis) = &shared else { return };
    let listens: Vec<Vec<(&'static str, SocketAddr)>> = (0..2)
        .map(|_| TRANSPORTS.map(|one| (one, SocketAddr::from(([127, 0, 0, 1], free_port())))).to_vec())
        .collect();
    let nodes: Vec<Server> = ["a", "b"]
        .into_iter()
        .zip(&listens)
        .map(|(name, listens)| {
            let mut server = shared.prepared(name, TLS_SECTION);
            server.succeed(&["tls", "new", "localhost"]);
            for (transport, at) in listens {
                server.also_listen(&format!("{transport}:{at}"));
            }
            server.start();
            server
        })
        .collect();
    let mut calls = 0;
    for (from, caller_at) in &listens[0] {
        for (to, callee_at) in &listens[1] {
            let registered = |node: &Server, transport: &'static str, at: &SocketAddr, user: &str| {
                let line = AnyLine::open(transport, *at, &node.path("tls/ca.pem"));
                let mut phone = phone(line, user);
                assert_eq!(phone.register(300).line(), "200 OK", "{transport} {at}");
                phone
            };
            let mut caller = registered(&nodes[0], from, caller_at, "9001");
            let mut callee = registered(&nodes[1], to, callee_at, "9002");
            for callee_hangs_up in [false, true] {
                talk(&mut caller, &callee, callee_hangs_up);
                calls += 1;
            }
            for phone in [&mut caller, &mut callee] {
                assert_eq!(phone.unregister().line(), "200 OK");
            }
        }
    }
    report(&format!("{calls} calls between two nodes by UDP, TCP, TLS, WS, WSS, hung up by either side"));
    assert!(!redis.ask("KEYS roost:location:*").expect("its keys").contains("900"), "no binding is left");
}

#[test]
fn nodes_know_one_another() {
    let shared = Shared::redis();
    let [a, mut b] = shared.two("");
    let _phones = (a.registered("9001"), b.registered("9002"));
    // Each knows of the other's binding, and counts its own.
    b.succeed(&["ul", "show", "9001"]);
    let shown = |server: &Server| {
        let told = server.mi("nodes", json!({})).expect("the nodes");
        let state = |node: &serde_json::Value| {
            (
                node["Node"].as_str().map(str::to_owned),
                node["State"].as_str().map(str::to_owned),
                node["Bindings"].as_u64(),
            )
        };
        told["Nodes"].as_array().expect("a list").iter().map(state).collect::<Vec<_>>()
    };
    let is =
        |name: &str, state: &str, bindings| (Some(name.to_owned()), Some(state.to_owned()), Some(bindings));
    let both = [is("a", "up", 1), is("b", "up", 1)];
    for server in [&a, &b] {
        wait_for("both nodes", PATIENCE, || (shown(server) == both).then_some(()));
    }
    let printed = a.succeed(&["nodes"]);
    assert!(printed.contains("a (this one)") && printed.contains("The store answers in "), "{printed}");
    // A name is one node's.
    let twin = shared.prepared("a", "");
    let said = ended(&twin);
    assert!(said.contains("another node is \"a\" already"), "{said}");
    // One that is killed is down when its lease has ended; one that is stopped is gone.
    b.kill9();
    wait_for("its end", PATIENCE, || (shown(&a) == [is("a", "up", 1), is("b", "down", 1)]).then_some(()));
    b.start();
    wait_for("its return", PATIENCE, || (shown(&a) == both).then_some(()));
    assert_eq!(b.stop(), Some(0));
    wait_for("its leaving", PATIENCE, || (shown(&a) == [is("a", "up", 1)]).then_some(()));
    let alone = Server::started("", "");
    assert_eq!(alone.mi("nodes", json!({})).expect_err("no nodes").0, 404);
}

#[test]
fn a_challenge_of_one_node_is_answered_at_another() {
    // A nonce that may be used again holds everywhere; of one that counts its uses its own node knows them.
    for (qop, answer) in [("off", "200 OK"), ("auth", "401 Unauthorized")] {
        let shared = Shared::redis();
        let [a, b] = shared.two(&format!("[auth]\nqop = \"{qop}\"\n"));
        let mut phone = a.phone("9001");
        let register = phone.register_message(&[]);
        let challenged = phone.exchange(&register);
        assert_eq!(challenged.line(), "401 Unauthorized");
        let challenge = Challenge::parse(challenged.header("WWW-Authenticate").expect("a challenge"));
        let uri = format!("sip:{}", b.sip);
        let mut other = b.phone("9001");
        let line = challenge.answer("9001", "9001", "REGISTER", &uri, 1);
        let message = other.register_message(&[&line]);
        assert_eq!(other.exchange(&message).line(), answer, "{qop}");
        assert_eq!(other.unregister().line(), "200 OK");
    }
}

#[test]
fn what_one_node_accepts_all_know() {
    Shared::all().iter().for_each(know_what_one_accepts);
}

fn know_what_one_accepts(shared: &Shared) {
    let [a, b] = shared.two("[registrar]\nexclusive = \"ip\"\n");
    let phone = a.registered("9001");
    // The other node shows it, and lets no other address have its place.
    let shown = b.succeed(&["ul", "show", "9001"]);
    assert!(shown.contains(&format!("sip:9001@{}", phone.local())), "{shown}");
    let mut rival = Phone::at("127.0.0.2", b.sip, "9001", "9001");
    assert_eq!(rival.register(60).line(), "403 Occupied");
    // Once it is free it is the other's, and the first node knows that, too.
    let mut phone = phone;
    assert_eq!(phone.unregister().line(), "200 OK");
    assert_eq!(rival.register(60).line(), "200 OK");
    assert_eq!(phone.register(60).line(), "403 Occupied");
    assert!(b.statistic("roost:commit_conflicts") + a.statistic("roost:commit_conflicts") >= 1);
    // A node that comes later knows it, too; one that is gone takes nothing along.
    let mut c = shared.prepared("c", "");
    c.start();
    let mut caller = c.registered("9002");
    refuses(&mut caller, &rival, "9001", "603 Decline");
}

#[test]
fn a_store_that_is_away_takes_no_registration_and_loses_none() {
    Shared::all().into_iter().for_each(comes_back);
}

fn comes_back(mut shared: Shared) {
    let [a, b] = shared.two("");
    let (mut one, other) = (a.registered("9001"), b.registered("9002"));
    // Both know both.
    one.establish(&other);
    shared.kill();
    let refused = one.register(60);
    assert_eq!(
        refused.line(),
        "500 Server Internal Error, insert into the database failed"
            .replace(", insert into the database failed", ""),
        "{}",
        refused.text
    );
    assert!(refused.header("Retry-After").is_some(), "{}", refused.text);
    // What is known counts: the call rings.
    refuses(&mut one, &other, "9002", "486 Busy Here");
    shared.restart();
    wait_for("a registration", PATIENCE, || (one.register(60).line() == "200 OK").then_some(()));
    let shown = wait_for("both", PATIENCE, || b.mi("ul_show_contact", json!(["location", "9001"])).ok());
    assert!(shown.to_string().contains(&one.local().to_string()), "{shown}");
    assert!(b.succeed(&["ul", "show", "9002"]).contains("sip:9002@"), "what was accepted is there");
}

#[test]
fn a_node_that_is_killed_loses_no_binding() {
    Shared::all().iter().for_each(outlive_a_node);
}

fn outlive_a_node(shared: &Shared) {
    let [mut a, b] = shared.two("");
    let phone = a.registered("9001");
    a.kill9();
    // Its phones are not reached until it is back: nobody else has their ways.
    let mut caller = b.registered("9002");
    let invite = caller.invite("9001");
    let failed = caller.await_final("INVITE");
    assert!(matches!(failed.status(), Some(408 | 477 | 480)), "{}", failed.text);
    caller.send(ack_of_failure(&invite, &failed));
    // Once its lease has ended that is known, and said.
    wait_for("the end of its lease", PATIENCE, || {
        b.succeed(&["nodes"])
            .lines()
            .any(|line| line.starts_with(" a ") && line.contains("down"))
            .then_some(())
    });
    let failed = wait_for("the reason", PATIENCE, || {
        let invite = caller.invite("9001");
        let failed = caller.await_final("INVITE");
        caller.send(ack_of_failure(&invite, &failed));
        (failed.status() == Some(480)).then_some(failed)
    });
    let told = b.mi("why", json!(["9002", "9001"])).expect("a verdict");
    assert_eq!(told["Reason"], "node-down", "{told} {}", failed.text);
    assert_eq!(b.mi("why", json!(["9001"])).expect("a verdict")["Reason"], "node-down");
    a.start();
    let shown = a.succeed(&["ul", "show", "9001"]);
    assert!(shown.contains(&format!("sip:9001@{}", phone.local())), "{shown}");
    wait_for("its return", PATIENCE, || {
        (b.mi("why", json!(["9001"])).ok()?["Reason"] != "node-down").then_some(())
    });
    refuses(&mut caller, &phone, "9001", "486 Busy Here");
}

#[test]
fn a_store_that_promises_less_stops_the_start() {
    let shared = Shared::Redis(Redis::start_with(&["--appendonly", "no"]));
    let Shared::Redis(redis) = &shared else { return };
    let server = shared.prepared("a", "");
    let said = ended(&server);
    assert!(said.contains("needs `appendonly yes` there"), "{said}");
    let mut server = shared.prepared("a", "durability = \"memory\"\n");
    server.start();
    assert_eq!(server.phone("9001").register(60).line(), "200 OK");
    let away = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let server = shared.prepared("a", "");
    server.replace_in_config(&redis.url(), &format!("redis://{away}/0"));
    let said = ended(&server);
    assert!(said.contains(&away.to_string()) && said.contains("refused"), "{said}");
}

/// A call that rings at a phone and is refused there, as its caller hears.
fn refuses(caller: &mut Phone, callee: &Phone, user: &str, answer: &str) {
    let invite = caller.invite(user);
    let received = callee.await_request("INVITE");
    callee.answer(&received, answer);
    let refused = caller.await_final("INVITE");
    assert_eq!(refused.line(), answer, "{}", refused.text);
    caller.send(ack_of_failure(&invite, &refused));
}

/// What it says when it does not start.
fn ended(server: &Server) -> String {
    let ran = server.roost(&["serve"]);
    assert_ne!(ran.code, Some(0), "it serves");
    ran.stderr
}

#[test]
fn nodes_reach_one_another_and_their_store_over_tls() {
    // One authority for all.
    let maker = Server::prepared("", "");
    maker.succeed(&["tls", "new", "localhost", "127.0.0.1"]);
    let file = |name: &str| maker.path(&format!("tls/{name}")).display().to_string();
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let secure = free_port();
    let (port, certificate, key, ca) =
        (secure.to_string(), file("localhost.pem"), file("localhost.key"), file("ca.pem"));
    let shared = Shared::Redis(Redis::start_with(&[
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--tls-port",
        &port,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
    ]));
    let Shared::Redis(redis) = &shared else { return };
    let sections = format!(
        "tls = true\n[tls]\ncertificate = \"{certificate}\"\nprivate_key = \"{key}\"\nca_list = \"{ca}\"\n"
    );
    let nodes = ["a", "b"].map(|name| {
        let mut server = shared.prepared(name, &sections);
        let url = format!("rediss://localhost:{secure}/0\"\nlocation_tls_ca = \"{ca}");
        server.replace_in_config(&redis.url(), &url);
        let tls = at(free_port());
        server.also_listen(&format!("tls:{tls}"));
        server.start();
        (server, tls)
    });
    let mut phones = nodes.iter().zip(["9001", "9002"]).map(|((_, tls), user)| {
        let mut phone = phone(AnyLine::open("tls", *tls, &maker.path("tls/ca.pem")), user);
        phone.contact = phone.contact.replace("sip:", "sips:").replace(";transport=tls", "");
        assert_eq!(phone.register(300).line(), "200 OK");
        phone
    });
    let (mut caller, callee) = (phones.next().expect("a phone"), phones.next().expect("a phone"));
    // A sips call: secure all the way, between the nodes, too.
    let invite = caller.initial("INVITE", "9002", &[]).replacen(" sip:", " sips:", 1);
    caller.send(&invite);
    let received = callee.await_request("INVITE");
    assert_eq!(received.headers("Via").len(), 3, "{}", received.text);
    assert!(
        received.headers("Via").iter().take(2).all(|via| via.starts_with("SIP/2.0/TLS ")),
        "{}",
        received.text
    );
    callee.answer(&received, "486 Busy Here");
    let refused = caller.await_final("INVITE");
    assert_eq!(refused.line(), "486 Busy Here", "{}", refused.text);
    caller.send(ack_of_failure(&invite, &refused));
    talk(&mut caller, &callee, false);
}

#[test]
fn what_an_operator_asks_one_node_all_answer() {
    Shared::all().iter().for_each(answer_together);
}

fn answer_together(shared: &Shared) {
    let [a, b] = shared.two("[auth]\nban_failures = 3\n");
    let (mut one, other) = (a.registered("9001"), b.registered("9002"));
    // Each hears of the other.
    let is_known = |server: &Server| server.succeed(&["nodes"]).matches(" up ").count() == 2;
    wait_for("both nodes", PATIENCE, || (is_known(&a) && is_known(&b)).then_some(()));
    // A call that node a keeps, seen and ended from node b.
    let mut events = Reader::open(&b, "?type=E_DLG_STATE_CHANGED", None);
    // The wish to hear of it goes from node to node.
    std::thread::sleep(std::time::Duration::from_millis(1_000));
    one.establish(&other);
    let listed = b.mi("dlg_list", json!({})).expect("the calls");
    assert_eq!((&listed["count"], &listed["Dialogs"][0]["node"]), (&json!(1), &json!("a")), "{listed}");
    let (_, name, told) = events.event();
    assert_eq!(
        (name.as_str(), &told["node"], &told["caller_aor"]),
        ("E_DLG_STATE_CHANGED", &json!("a"), &json!("9001"))
    );
    let shown = b.succeed(&["calls"]);
    assert!(shown.contains("NODE") && shown.contains("9001"), "{shown}");
    let agents = b.mi("agent_list", json!(["9001"])).expect("an extension");
    assert_eq!(agents["Agents"][0]["state"], "INUSE", "{agents}");
    // Why, too: the node that has the phone says it, and of a call the one that keeps it.
    let why = b.mi("why", json!(["9001"])).expect("a verdict");
    assert_eq!((&why["Node"], &why["State"]), (&json!("a"), &json!("online")), "{why}");
    let why = b.mi("why", json!(["9002", "9001"])).expect("a verdict");
    assert_eq!((&why["Node"], &why["Reason"]), (&json!("a"), &json!("in-progress")), "{why}");
    let id = listed["Dialogs"][0]["ID"].as_str().expect("its id").to_owned();
    b.succeed(&["calls", "end", &id]);

    for phone in [&one, &other] {
        let bye = phone.await_request("BYE");
        phone.answer(&bye, "200 OK");
    }
    // Who guesses at one node is banned at the other.
    let mut guesser = Phone::at("127.0.0.3", a.sip, "9003", "wrong");
    wait_for("a ban", PATIENCE, || {
        guesser.register(60);
        a.mi("ban_list", json!({})).expect("the bans").to_string().contains("9003").then_some(())
    });
    wait_for("the ban at the other node", PATIENCE, || {
        b.mi("ban_list", json!({})).expect("the bans").to_string().contains("9003").then_some(())
    });
    b.succeed(&["ban", "rm", "9003"]);
    assert!(!a.mi("ban_list", json!({})).expect("the bans").to_string().contains("9003"));
    // A node that is gone is told of as silent until its lease has ended.
    b.signal("STOP");
    let listed = a.mi("dlg_list", json!({})).expect("the calls");
    assert_eq!(listed["Silent"], json!(["b"]), "{listed}");
    b.signal("CONT");
}

#[test]
fn a_call_is_transferred_to_a_phone_of_another_node() {
    let shared = Shared::redis();
    let [a, b] = shared.two("");
    let (mut alice, mut bob, carol) = (a.registered("9001"), b.registered("9002"), a.registered("9003"));
    // Alice talks to Bob, and asks Carol beside it.
    let (mut with_bob, mut of_bob) = alice.establish(&bob);
    let (with_carol, mut of_carol) = alice.establish(&carol);
    // Bob is told to take her place in Carol's call; Carol's Contact leads to her, from Bob's node as well.
    let to = format!("Refer-To: <{}?Replaces={}>", carol.contact, with_carol.call_id);
    alice.send(with_bob.request("REFER", &[&to]));
    let refer = bob.await_request("REFER");
    bob.answer(&refer, "202 Accepted");
    alice.await_status(202, "REFER");
    let notify = of_bob.request("NOTIFY", &["Event: refer", "Subscription-State: active"]);
    bob.send(&notify);
    let notified = alice.await_request("NOTIFY");
    alice.answer(&notified, "200 OK");
    bob.await_status(200, "NOTIFY");
    let replaces = format!("Replaces: {}", with_carol.call_id);
    let invite = bob.initial("INVITE", "9003", &[&replaces]);
    let aor = invite.lines().next().and_then(|line| line.split(' ').nth(1)).expect("a URI").to_owned();
    let invite = invite.replacen(&format!("INVITE {aor} "), &format!("INVITE {} ", carol.contact), 1);
    bob.send(&invite);
    let received = carol.await_request("INVITE");
    assert_eq!(received.header("Replaces"), Some(&*with_carol.call_id));
    carol.answer(&received, "200 OK");
    let ok = bob.await_status(200, "INVITE");
    let (mut bob_to_carol, mut carol_to_bob) =
        (Dialog::of_caller(&bob, &ok), Dialog::of_callee(&carol, &received));
    bob.send(bob_to_carol.request("ACK", &[]));
    carol.await_request("ACK");
    // The replaced call ends, and the first one.
    carol.send(of_carol.request("BYE", &[]));
    let bye = alice.await_request("BYE");
    alice.answer(&bye, "200 OK");
    carol.await_status(200, "BYE");
    alice.send(with_bob.request("BYE", &[]));
    let bye = bob.await_request("BYE");
    bob.answer(&bye, "200 OK");
    alice.await_status(200, "BYE");
    carol.send(carol_to_bob.request("BYE", &[]));
    let bye = bob.await_request("BYE");
    bob.answer(&bye, "200 OK");
    carol.await_status(200, "BYE");
    for node in [&a, &b] {
        wait_for("the calls' ends", PATIENCE, || {
            (node.statistic("dialog:active_dialogs") == 0).then_some(())
        });
    }
    assert_eq!((a.statistic("dialog:processed_dialogs"), b.statistic("dialog:processed_dialogs")), (2, 1));
}
