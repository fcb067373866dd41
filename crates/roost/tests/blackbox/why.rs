//! `roost why`: phones misbehave in each way, and an operator who asks is told.

use serde_json::{Value, json};

use crate::support::{Kind, PATIENCE, Phone, Server, TcpPhone, ack_of_failure, wait_for};

/// What an operator is told of an extension, once the word of the verdict is this.
fn told(server: &Server, extension: &str, word: &str) -> Value {
    let ask = || server.mi("why", json!([extension])).expect("a verdict");
    let mut last = Value::Null;
    let told = wait_for(word, PATIENCE, || {
        last = ask();
        // What has happened is remembered a moment later.
        let is_known = word == "never-seen" || last["Timeline"] != json!([]);
        (last["Reason"] == word && is_known).then(|| last.clone())
    });
    let printed = server.succeed(&["why", extension]);
    assert!(printed.starts_with(extension), "{printed}");
    println_sentence(&told);
    told
}

fn println_sentence(told: &Value) {
    eprintln!("{} {}", told["Code"].as_str().unwrap_or("-"), told["Verdict"].as_str().unwrap_or_default());
}

fn sentence(told: &Value) -> &str {
    told["Verdict"].as_str().unwrap_or_default()
}

#[test]
fn refusals_are_explained() {
    let mut server = Server::prepared("", "[registrar]\nexclusive = \"ip\"");
    server.add_users(9001, 4);
    server.start();
    assert!(sentence(&told(&server, "9001", "never-seen")).contains("No REGISTER of it has come since"));
    // Wrong passwords, and the ban that follows.
    let mut guesser = Phone::new(server.sip, "9001", "wrong");
    for _ in 0..6 {
        guesser.register(60);
    }
    let verdict = told(&server, "9001", "banned-pair");
    assert!(
        sentence(&verdict).contains("; 6 tries since ")
            && sentence(&verdict).contains("is banned at this address until"),
        "{verdict}"
    );
    assert_eq!(verdict["Do"].as_array().map(Vec::len), Some(3), "{verdict}");
    let timeline = verdict["Timeline"].to_string();
    assert!(timeline.contains("wrong password") && timeline.contains("4 times"), "{timeline}");
    assert!(!timeline.contains("wrong\""), "no password");
    server.succeed(&["ban", "rm", "9001"]);
    guesser.register(60);
    let verdict = told(&server, "9001", "wrong-password");
    assert!(sentence(&verdict).contains("was refused: wrong password"), "{verdict}");
    assert!(
        verdict["Do"][0].as_str().is_some_and(|text| text.contains("roost user passwd 9001")),
        "{verdict}"
    );

    // A name that is one letter from an extension, and one that is like none.
    Phone::new(server.sip, "9011", "x").register(60);
    let verdict = told(&server, "9011", "similar-name");
    assert!(
        sentence(&verdict).contains("unknown user") && sentence(&verdict).contains("There is 9001."),
        "{verdict}"
    );
    Phone::new(server.sip, "alice", "x").register(60);
    told(&server, "alice", "unknown-user");

    // Two phones of one extension: the second is refused again and again.
    assert_eq!(server.registered("9002").query().line(), "200 OK");
    let mut second = Phone::at("127.0.0.2", server.sip, "9002", "9002");
    for _ in 0..3 {
        assert_eq!(second.register(60).line(), "403 Occupied");
    }
    let verdict = told(&server, "9002", "two-phones");
    assert!(verdict["State"] == "online" && sentence(&verdict).contains("127.0.0.2"), "{verdict}");
    let now = server.mi("why", Value::Null).expect("what is wrong");
    assert!(now.to_string().contains("refused (wrong-password): 9001"), "{now}");
    assert!(now.to_string().contains("1 extension is used by two phones (two-phones): 9002"), "{now}");
    assert!(server.succeed(&["why"]).contains("Do: roost why 9001"));
    // Who is refused and dials is refused still.
    let call = guesser.invite("9002");
    assert!(call.contains("INVITE"), "{call}");
    assert!(guesser.await_final("INVITE").line().starts_with("407"));
    told(&server, "9001", "wrong-password");
    let now = server.mi("why", Value::Null).expect("what is wrong");
    assert!(now.to_string().contains("refused (wrong-password): 9001"), "{now}");
}

#[test]
fn what_has_become_of_a_registration_is_told() {
    let server = Server::for_calls("");
    let mut phone = server.registered("9001");
    assert!(sentence(&told(&server, "9001", "fine")).contains("Everything is right."));
    phone.unregister();
    told(&server, "9001", "unregistered");
    // A challenge that nobody answers.
    let mut silent = Phone::new(server.sip, "9003", "9003");
    let register = silent.register_message(&[]);
    silent.send(register);
    told(&server, "9003", "no-credentials");
    // A phone whose connection is lost.
    let mut tcp = TcpPhone::connect(&server, "9002");
    assert_eq!(tcp.register("sip:9002@phone.invalid;transport=tcp", 60).line(), "200 OK");
    drop(tcp);
    told(&server, "9002", "flow-lost");
    assert_eq!(server.mi("why", json!(["9001", "9002"])).expect_err("no call").0, 404);
}

#[test]
fn calls_are_explained() {
    let mut server = Server::for_calls("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    for (answer, words) in [("486 Busy Here", "busy (486)"), ("603 Decline", "declined (603)")] {
        let invite = caller.invite("9002");
        let received = callee.await_request("INVITE");
        // What is told while it goes is no older call.
        let going = wait_for("the call in progress", PATIENCE, || {
            let told = server.mi("why", json!(["9002", "9001"])).ok()?;
            (told["Reason"] == "in-progress").then_some(told)
        });
        assert!(sentence(&going).starts_with("9001 called 9002 at "), "{going}");
        assert!(sentence(&going).contains(": nothing has rung yet, for "), "{going}");
        callee.answer(&received, answer);
        let failure = caller.await_final("INVITE");
        caller.send(ack_of_failure(&invite, &failure));
        let began = std::time::Instant::now();
        let verdict = loop {
            let told = server.mi("why", json!(["9001", "9002"]));
            if let Ok(told) = &told
                && sentence(told).contains(words)
                // What the workers tell comes one after another.
                && told["Tried"] != json!([])
            {
                break told.clone();
            }
            let (own, other) = (server.mi("why", json!(["9001"])), server.mi("why", json!(["9002"])));
            assert!(began.elapsed() < PATIENCE, "no {words}: {told:?}\n{own:?}\n{other:?}\n{}", failure.text);
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        println_sentence(&verdict);
        let by_id = server.mi("why", json!({ "callid": caller.call_id })).expect("a verdict");
        assert_eq!(by_id["Verdict"], verdict["Verdict"]);
        assert!(sentence(&verdict).starts_with("9001 called 9002 at "), "{verdict}");
        // Which bindings were tried, what each said, why the caller got what he got.
        let tried = &verdict["Tried"][0];
        assert_eq!(
            (tried["Answer"].as_str(), verdict["Answer"].as_str()),
            (Some(answer), Some(answer)),
            "{verdict}"
        );
        assert_eq!(tried["To"], callee.local().to_string(), "{verdict}");
        let printed = server.succeed(&["why", "9001", "9002"]);
        assert!(printed.contains(&format!("The caller was told: {answer}")), "{printed}");
        assert!(verdict["Code"].as_str().is_some_and(|code| code.starts_with("R70")), "{verdict}");
    }
    // A call that roost refuses itself, and one that never rings.
    let invite = caller.invite("9003");
    let failure = caller.await_final("INVITE");
    caller.send(ack_of_failure(&invite, &failure));
    let told = || server.mi("why", json!(["9001", "9003"])).ok().filter(|told| told["Answer"].is_string());
    let refused = wait_for("a verdict", PATIENCE, told);
    println_sentence(&refused);
    assert!(
        sentence(&refused).contains(": roost refused it: the callee is not registered (404)."),
        "{refused}"
    );
    assert_eq!(
        (refused["Reason"].as_str(), refused["Code"].as_str()),
        (Some("not-registered"), Some("R508"))
    );
    assert_eq!((refused["Answer"].as_str(), refused["Tried"].clone()), (Some("404 Not Found"), json!([])));
    let hints = refused["Do"].to_string();
    assert!(hints.contains("roost ul show 9003") && !hints.contains("9002"), "no example's names: {hints}");
    let told = server.mi("why", json!(["9002"])).expect("a verdict");
    assert!(told["Timeline"].to_string().contains("called by 9001: declined (603)"), "{told}");
    // A restart forgets nothing.
    assert_eq!(server.stop(), Some(0));
    assert!(server.path("roost.db-recorder").exists() || Kind::from_env() != Kind::Sqlite);
    server.start();
    let again = server.mi("why", json!(["9002"])).expect("a verdict");
    assert_eq!(again["Timeline"], told["Timeline"]);
    assert!(!server.path("roost.db-recorder").exists());
}

#[test]
fn a_database_that_is_away_is_named() {
    let mut server = Server::prepared_on(Kind::MariaDb, "", "");
    server.start();
    server.add_user("9001", "9001");
    let mut phone = server.phone("9001");
    assert_eq!(phone.register(60).line(), "200 OK");
    assert_eq!(phone.unregister().line(), "200 OK");
    server.database.as_mut().expect("its own").kill();
    phone.register(60);
    let verdict = wait_for("the verdict", PATIENCE, || {
        phone.register(60);
        let told = server.mi("why", json!(["9001"])).ok()?;
        ["insert-failed", "not-stored"].contains(&told["Reason"].as_str()?).then_some(told)
    });
    println_sentence(&verdict);
    assert!(verdict["Do"].to_string().contains("database"), "{verdict}");
    let now = server.mi("why", Value::Null).expect("what is wrong");
    assert!(now["Problems"][0]["Problem"].to_string().contains("the database is away"), "{now}");
}

/// What a command says at a terminal of somebody who reads Chinese.
fn in_chinese(server: &Server, args: &[&str]) -> String {
    let mut command = server.command(args);
    command.env("LC_ALL", "zh_CN.UTF-8");
    let ran = crate::support::run(command, PATIENCE);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran.stdout
}

#[test]
fn verdicts_are_in_the_terminals_language_and_json_is_the_same_everywhere() {
    let server = Server::for_calls("");
    let mut wrong = Phone::new(server.sip, "9001", "wrong");
    assert_eq!(wrong.register(60).status, 403);
    told(&server, "9001", "wrong-password");
    let said = in_chinese(&server, &["why", "9001"]);
    for part in ["9001 离线。最近一次 REGISTER（", "被拒绝：", "处理：", "REGISTER 被拒绝：403"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let now = in_chinese(&server, &["why"]);
    assert!(
        now.contains("有一处问题。") && now.contains("1 个分机被拒绝（wrong-password）：9001。"),
        "{now}"
    );
    assert!(in_chinese(&server, &["why", "9001", "--json"]).contains("9001 is offline."));
}

#[test]
fn reasons_are_explained_and_their_pages_are_fresh() {
    let server = Server::prepared("", "");
    let said = server.succeed(&["explain", "wrong-password"]);
    assert!(
        said.contains("wrong-password, answered with 403 Forbidden") && said.contains("\nDo: "),
        "{said}"
    );
    let code = said.split(' ').next().unwrap_or_default().to_string();
    assert_eq!(server.succeed(&["explain", &code]), said);
    let wrong = server.roost(&["explain", "wrong-pasword"]);
    assert!(wrong.stderr.contains("did you mean `wrong-password`?"), "{}", wrong.stderr);
    assert!(in_chinese(&server, &["explain", "wrong-password"]).contains("密码"));
    for (language, file) in [("en", "reasons.md"), ("zh", "reasons.zh-CN.md")] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(file);
        let page = std::fs::read_to_string(path).unwrap_or_default();
        let made = server.succeed(&["config", "reasons", language]);
        assert!(
            page == made,
            "docs/{file} is not fresh: cargo run -q -- config reasons {language} > docs/{file}"
        );
    }
}

#[test]
fn what_is_new_is_followed_and_what_is_old_left_out() {
    let server = Server::for_calls("");
    let mut phone = server.registered("9001");
    told(&server, "9001", "fine");
    assert!(server.succeed(&["why", "9001", "--since", "1h"]).contains("registered"));
    let tomorrow = server.roost(&["why", "9001", "--since", "2999-01-01 00:00"]);
    assert!(tomorrow.code == Some(0) && !tomorrow.stdout.contains("registered ("), "{}", tomorrow.stdout);
    let wrong = server.roost(&["why", "9001", "--since", "yesterday"]);
    assert!(wrong.stderr.contains("write how long ago (10m"), "{}", wrong.stderr);

    let mut command = server.command(&["why", "9001", "--follow"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("it starts");
    let (sender, lines) = std::sync::mpsc::channel();
    let output = std::io::BufReader::new(child.stdout.take().expect("its output"));
    std::thread::spawn(move || {
        std::io::BufRead::lines(output).map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let await_line = |part: &str| {
        while !lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line with {part}")).contains(part) {
        }
    };
    await_line("9001 is registered");
    phone.unregister();
    await_line("9001 is offline");
    await_line("unregistered");
    phone.register(60);
    await_line("9001 is registered");
    child.kill().expect("it is killed");
    child.wait().expect("it ends");
}
