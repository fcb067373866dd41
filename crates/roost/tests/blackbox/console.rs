//! The console: what strangers meet, and what people see and do in a browser.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Driver, HttpReply, MediaServer, PATIENCE, Phone, Server, TLS_SECTION, USER_AGENT, axe, free_port, http,
    report, wait_for, with_body,
};

/// A server with a console, and where that is.
fn started(sections: &str) -> (Server, SocketAddr) {
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut server =
        Server::prepared("", &format!("[console]\nlisten = \"{at}\"\naudit = \"audit.log\"\n{sections}"));
    for (name, role) in [("ada", "administrator"), ("otto", "operator"), ("vera", "viewer")] {
        server.succeed(&["console", "user", "add", name, "--role", role, "--password", "a long password"]);
    }
    server.add_users(9001, 5);
    server.start();
    (server, at)
}

fn get(at: SocketAddr, path: &str, headers: &[&str]) -> HttpReply {
    let host = format!("Host: {at}");
    let has_host = headers.iter().any(|header| header.starts_with("Host:"));
    let all: Vec<&str> = headers.iter().copied().chain((!has_host).then_some(host.as_str())).collect();
    http(at, &format!("GET {path}"), &all, "")
}

fn post(at: SocketAddr, path: &str, headers: &[&str], form: &str) -> HttpReply {
    let host = format!("Host: {at}");
    let kind = "Content-Type: application/x-www-form-urlencoded";
    let all: Vec<&str> = headers.iter().copied().chain([host.as_str(), kind]).collect();
    http(at, &format!("POST {path}"), &all, form)
}

fn header<'r>(reply: &'r HttpReply, name: &str) -> &'r str {
    reply.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
}

/// The cookie of somebody who logs in, and what forms must show.
fn login(at: SocketAddr, name: &str) -> (String, String) {
    let reply = post(at, "/login", &[], &format!("name={name}&password=a+long+password"));
    assert_eq!((reply.status, header(&reply, "location")), (303, "/"), "{}", reply.body);
    let cookie = header(&reply, "set-cookie").split(';').next().expect("a cookie").to_string();
    let cookie = format!("Cookie: {cookie}");
    let page = get(at, "/", &[&cookie]);
    let csrf =
        page.body.split("name=\"csrf\" value=\"").nth(1).expect("a form").split('"').next().expect("a value");
    (cookie, csrf.to_string())
}

/// The same in a browser.
fn log_in(driver: &Driver, origin: &str, name: &str) {
    driver.go(&format!("{origin}/login"));
    driver.fill("#login-name", name);
    driver.fill("#login-password", "a long password");
    driver.click("button.main");
    driver.wait("location.pathname === '/'");
}

#[test]
fn strangers_pages_and_forged_forms_get_nothing() {
    let (server, at) = started("");
    let reply = get(at, "/", &[]);
    assert_eq!(reply.status, 200);
    let policy = header(&reply, "content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!((header(&reply, "x-frame-options"), header(&reply, "cache-control")), ("DENY", "no-store"));
    // A stranger's name that leads here, a stranger's page.
    assert_eq!(get(at, "/", &["Host: attacker.example"]).status, 403);
    assert_eq!(get(at, "/", &["Origin: http://attacker.example"]).status, 403);
    assert_eq!(post(at, "/do/unban", &["Origin: http://attacker.example"], "aor=9001").status, 403);
    assert_eq!(post(at, "/do/unban", &["Sec-Fetch-Site: cross-site"], "aor=9001").status, 403);
    assert_eq!(get(at, "/phone/ws", &["Origin: http://attacker.example", "Upgrade: websocket"]).status, 403);
    // A link from elsewhere may lead here; nothing else of another page may.
    let cross = "Sec-Fetch-Site: cross-site";
    assert_eq!(get(at, "/", &[cross, "Sec-Fetch-Mode: navigate"]).status, 200);
    assert_eq!(get(at, "/wall", &[cross, "Sec-Fetch-Mode: no-cors"]).status, 403);
    assert_eq!(get(at, "/live?page=/", &[cross, "Sec-Fetch-Mode: navigate"]).status, 403);
    assert_eq!(get(at, "/live?page=/people", &[]).status, 400);
    // Behind a proxy of this machine there may be anybody.
    assert_eq!(header(&get(at, "/", &["X-Forwarded-For: 10.0.0.1"]), "location"), "/login");
    let long = format!("name={}&password=x", "a".repeat(100_000));
    assert_eq!(post(at, "/login", &[], &long).status, 413);
    // Reading needs no login here, changing does.
    assert_eq!(header(&post(at, "/do/unban", &[], "aor=9001"), "location"), "/login");
    for path in [
        "/assets/..%2f..%2fetc%2fpasswd",
        "/assets/../Cargo.toml",
        "/..%2f..%2fetc/passwd",
        "/live?page=/etc/passwd",
    ] {
        let reply = get(at, path, &[]);
        assert!(!reply.body.contains("root:") && !reply.body.contains("[package]"), "{path}: {}", reply.body);
    }

    let (cookie, csrf) = login(at, "otto");
    assert!(get(at, "/", &[&cookie]).body.contains("otto"));
    let planted = format!("Cookie: roost_session_{}=planted", at.port());
    // Without the form's own mark, or with a cookie that somebody planted, nothing is done.
    assert_eq!(post(at, "/do/unban", &[&cookie], "aor=9001&csrf=guess").status, 403);
    assert_eq!(header(&post(at, "/do/unban", &[&planted], "aor=9001"), "location"), "/login");
    let fixed = post(at, "/login", &[&planted], "name=otto&password=a+long+password");
    assert!(header(&fixed, "set-cookie").contains("HttpOnly; SameSite=Strict"), "{:?}", fixed.headers);
    assert!(!header(&fixed, "set-cookie").contains("planted"));
    // An operator lifts bans, and changes no passwords.
    let form = format!("aor=9001&csrf={csrf}&back=/extensions/9001");
    let done = post(at, "/do/unban", &[&cookie], &form);
    assert_eq!(header(&done, "location"), "/extensions/9001");
    assert_eq!(post(at, "/do/password", &[&cookie], &format!("{form}&password=x")).status, 403);
    assert_eq!(get(at, "/people", &[&cookie]).status, 403);
    // Nor is anybody led elsewhere.
    let led = post(at, "/do/unban", &[&cookie], &format!("aor=9001&csrf={csrf}&back=//attacker.example"));
    assert_eq!(header(&led, "location"), "/");
    let led = post(at, "/do/unban", &[&cookie], &format!("aor=9001&csrf={csrf}&back=/%5Cattacker.example"));
    assert_eq!(header(&led, "location"), "/");
    assert_eq!(header(&post(at, "/logout", &[&cookie], &format!("csrf={csrf}")), "location"), "/");
    assert_eq!(header(&post(at, "/do/unban", &[&cookie], &form), "location"), "/login");
    let audit = std::fs::read_to_string(server.path("audit.log")).expect("an audit log");
    assert!(audit.contains("\"who\":\"otto\"") && audit.contains("\"what\":\"lift ban\""), "{audit}");
}

/// What the command line changes of people counts at once; what two people edit at a time is not lost.
#[test]
fn a_session_ends_with_its_person_and_no_edit_is_overwritten_unseen() {
    let (server, at) = started("");
    let (cookie, csrf) = login(at, "ada");
    let (other, _) = login(at, "vera");
    assert!(get(at, "/", &[&other]).body.contains("vera"));
    // Why something was not done stands on the next page, once, and in the audit log; not in an address that anybody may write.
    let form = format!("name=ada&csrf={csrf}&back=/people");
    assert_eq!(header(&post(at, "/do/person-remove", &[&cookie], &form), "location"), "/people");
    assert!(get(at, "/people", &[&cookie]).body.contains("the last administrator stays"));
    let again = get(at, "/people?failed=Call+0900&said=Call+0900", &[&cookie]).body;
    let (main, log) = again.split_once("<section aria-labelledby=\"changes\">").expect("the log");
    assert!(!main.contains("the last administrator stays") && !main.contains("role=\"alert\""), "{main}");
    assert!(!main.contains("role=\"status\">"), "{main}");
    assert!(log.contains("Not made:") && log.contains("the last administrator stays"), "{log}");
    server.succeed(&["console", "user", "rm", "vera"]);
    assert!(!get(at, "/", &[&other]).body.contains("vera"));
    let form = |page: &HttpReply, text: &str| {
        let mark = page.body.split("name=\"mark\" value=\"").nth(1).expect("a form").split('"').next();
        let text = text.replace('%', "%25").replace('&', "%26").replace('+', "%2B").replace('=', "%3D");
        format!("csrf={csrf}&do=save&mark={}&text={text}", mark.expect("a mark"))
    };
    let page = get(at, "/config", &[&cookie]);
    let file = server.path("roost.toml");
    let before = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, format!("{before}\n# by another\n")).expect("written");
    let text = format!("{before}\n# by ada\n");
    // Neither a mistake nor a check makes it seen.
    let wrong = post(at, "/config", &[&cookie], &form(&page, "broken = ["));
    assert!(wrong.body.contains("data-line=\"1\""), "{}", wrong.body);
    let checked = post(at, "/config", &[&cookie], &form(&wrong, &text).replace("do=save", "do=check"));
    assert!(checked.body.contains("has changed since"), "{}", checked.body);
    let refused = post(at, "/config", &[&cookie], &form(&wrong, &text));
    assert!(refused.status == 200 && refused.body.contains("has changed since"), "{}", refused.body);
    assert!(refused.body.contains("- # by another"), "{}", refused.body);
    assert!(std::fs::read_to_string(&file).expect("the configuration").contains("# by another"));
    let saved = post(at, "/config", &[&cookie], &form(&refused, &text));
    assert_eq!(header(&saved, "location"), "/config?said=config-saved", "{}", saved.body);
    assert!(std::fs::read_to_string(&file).expect("the configuration").contains("# by ada"));
    // What is saved and cannot be put in force is saved.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listens = format!("\", \"tcp:{}\"]", taken.local_addr().expect("its address"));
    let page = get(at, "/config", &[&cookie]);
    let saved = post(at, "/config", &[&cookie], &form(&page, &text.replacen("\"]", &listens, 1)));
    assert_eq!(header(&saved, "location"), "/config?said=config-kept", "{}", saved.body);
    let page = get(at, header(&saved, "location"), &[&cookie]).body;
    assert!(page.contains("saved, but not in force") && page.contains("cannot listen"), "{page}");
    let log = get(at, "/people", &[&cookie]).body;
    assert!(log.contains("Made, but:") && log.contains("cannot listen"), "{log}");
    let again = ["--role", "administrator", "--password", "another password"];
    server.succeed(&[&["console", "user", "add", "ada"][..], &again].concat());
    assert_eq!(header(&post(at, "/do/unban", &[&cookie], "aor=9001"), "location"), "/login");
}

/// From nothing to a phone that is registered, without a command line; and back.
#[test]
fn extensions_are_added_and_removed() {
    let (server, at) = started("[auth]\nrealm = \"before\"\n[auth_db]\ncalculate_ha1 = false\n");
    let (operator, csrf) = login(at, "otto");
    let form = |csrf: &str, rest: &str| format!("csrf={csrf}&back=/extensions&aor=9100&{rest}");
    for path in ["/do/extension", "/do/extension-remove"] {
        assert_eq!(post(at, path, &[&operator], &form(&csrf, "password=9100")).status, 403);
    }
    let (cookie, csrf) = login(at, "ada");
    // Hashed for the realm that is in force.
    let config = std::fs::read_to_string(server.path("roost.toml")).expect("the configuration");
    std::fs::write(server.path("roost.toml"), config.replace("\"before\"", "\"after\"")).expect("written");
    server.succeed(&["reload"]);
    let added = post(at, "/do/extension", &[&cookie], &form(&csrf, "password=9100"));
    assert_eq!(header(&added, "location"), "/extensions?said=extension-added", "{}", added.body);
    let again = post(at, "/do/extension", &[&cookie], &form(&csrf, "password=9100"));
    assert_eq!(header(&again, "location"), "/extensions");
    let page = get(at, "/extensions", &[&cookie]).body;
    assert!(page.contains("role=\"alert\"") && page.contains("href=\"/extensions/9100\""), "{page}");
    for (path, form) in [
        ("/do/password", form(&csrf, "password=hunter-two")),
        ("/do/extension", form(&csrf, "password=hunter-two")),
        ("/do/extension", form(&csrf, "password=hunter-two").replace("aor=9100", "aor=9101%20")),
        ("/do/extension", form(&csrf, "password=hunter-two").replace("aor=9100", "aor=9102@a%20b")),
        ("/do/person", format!("csrf={csrf}&back=/people&name=paula&role=viewer&password=hunter-two")),
        ("/do/password", form(&csrf, "password=9100")),
    ] {
        assert_eq!(post(at, path, &[&cookie], &form).status, 303);
    }
    let pages = ["/extensions", "/people", "/extensions/9100"].map(|path| get(at, path, &[&cookie]).body);
    assert!(pages[0].contains("/extensions/9101\"") && !pages[0].contains("9102"), "{}", pages[0]);
    let mut phone = server.registered("9100");
    let removed = post(at, "/do/extension-remove", &[&cookie], &form(&csrf, ""));
    assert_eq!(header(&removed, "location"), "/extensions?said=extension-removed", "{}", removed.body);
    assert!(server.mi("ul_show_contact", json!({ "table_name": "location", "aor": "9100" })).is_err());
    assert_eq!(phone.register(60).status, 404);
    assert!(!get(at, "/extensions", &[&cookie]).body.contains("9100"), "it is still listed");
    let audit = std::fs::read_to_string(server.path("audit.log")).expect("an audit log");
    assert!(audit.matches("add extension").count() == 5 && audit.contains("exists"), "{audit}");
    let log = server.log.text();
    for text in pages.iter().chain([&audit, &log]) {
        assert!(!text.contains("hunter-two"), "a password: {text}");
    }
}

/// Who sends a form and hangs up leaves nothing half done.
#[test]
fn a_form_goes_on_when_its_sender_hangs_up() {
    let (server, at) = started("");
    let (cookie, csrf) = login(at, "ada");
    let form = format!("csrf={csrf}&name=paula&role=viewer&password=a+long+password");
    let head =
        format!("POST /do/person HTTP/1.1\r\nHost: {at}\r\n{cookie}\r\nContent-Length: {}", form.len());
    let kind = "Content-Type: application/x-www-form-urlencoded";
    let mut stream = std::net::TcpStream::connect(at).expect("connected");
    stream.write_all(format!("{head}\r\n{kind}\r\n\r\n{form}").as_bytes()).expect("sent");
    // It is being hashed when its sender goes.
    wait_for("the begin of the change", PATIENCE, || {
        let audit = std::fs::read_to_string(server.path("audit.log")).unwrap_or_default();
        audit.contains("paula").then_some(())
    });
    drop(stream);
    wait_for("what became of it", PATIENCE, || {
        let audit = std::fs::read_to_string(server.path("audit.log")).unwrap_or_default();
        audit.contains("\"outcome\":\"made\"").then_some(())
    });
    login(at, "paula");
}

/// Messages of an extension as they come, and what was decided; in Chinese, too.
#[test]
fn messages_are_seen_as_they_come_and_verdicts_in_the_pages_language() {
    let (server, at) = started("[[route]]\nprefix = \"0\"\nhops = [\"sip:127.0.0.1:9\"]\n");
    let driver = Driver::start(1_280, 900);
    // They are for operators.
    let page = get(at, "/extensions/9003?live=yes", &[]).body;
    assert!(!page.contains("live=yes#ladder") && page.contains("are shown to operators"), "{page}");
    assert_eq!(get(at, "/live?page=/calls/ladder%3Fcallid=x%26live=yes", &[]).status, 400);
    assert!(server.mi("trace", json!({})).expect("traces")["Traces"].as_array().is_some_and(Vec::is_empty));
    log_in(&driver, &format!("http://{at}"), "otto");
    driver.go(&format!("http://{at}/extensions/9003"));
    driver.click("a[href*='live=yes']");
    driver.wait_text("None has come yet.");
    let mut wrong = Phone::new(server.sip, "9003", "wrong");
    assert_eq!(wrong.register(60).status, 403);
    driver.wait_text("REGISTER sip:");
    driver.wait_text("SIP/2.0 403 Forbidden");
    driver.wait("document.querySelectorAll('.ladder .decision').length > 0");
    // What somebody has opened stays open when more comes.
    driver.click(".ladder details summary");
    let count =
        driver.eval("return document.querySelectorAll('.ladder li').length").as_u64().expect("a number");
    assert_eq!(wrong.register(60).status, 403);
    driver.wait(&format!("document.querySelectorAll('.ladder li').length > {count}"));
    assert_eq!(driver.eval("return document.querySelector('.ladder details').open"), json!(true));
    driver.picture("messages");
    // One that another operator has ended says so, and begins again when it is asked for.
    let traces = server.mi("trace", json!({})).expect("traces");
    server.mi("trace_stop", json!({ "id": traces["Traces"][0]["name"] })).expect("stopped");
    driver.wait_text("An operator has ended this trace");
    driver.click("a[href*='live=yes']");
    driver.wait_text("None has come yet.");
    let traces = server.mi("trace", json!({})).expect("traces");
    assert_eq!(traces["Traces"][0]["uri"], "within roost");
    driver.click(".verdict + section a, section[aria-labelledby=ladder] a");
    driver.wait("!location.search.includes('live')");
    // No page asks any more: no message is copied.
    wait_for("the end of the trace", 2 * PATIENCE, || {
        let traces = server.mi("trace", json!({})).expect("traces");
        traces["Traces"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
    let chinese = get(at, "/extensions/9003?lang=zh", &[]).body;
    assert!(chinese.contains("9003 离线。最近一次 REGISTER"), "{chinese}");
    let chinese = get(at, "/?lang=zh", &[]).body;
    assert!(
        chinese.contains("个分机被拒绝（wrong-password）：9003") && !chinese.contains("wrong password"),
        "{chinese}"
    );
    // Bodies are for operators, of messages that failed, too.
    let mut caller = server.registered("9004");
    let invite = caller.initial("INVITE", "9005", &[]);
    let invite = with_body(&invite, "application/sdp", "v=0\r\na=crypto:1 inline:key\r\n");
    caller.send(&invite);
    assert!(caller.await_outcome(&invite).status().is_some_and(|status| status >= 400));
    wait_for("its messages", PATIENCE, || {
        let [seen, all] =
            ["vera", "otto"].map(|name| get(at, "/extensions/9004", &[&login(at, name).0]).body);
        let is_told = all.contains("INVITE sip:9005");
        is_told.then(|| {
            assert!(seen.contains("INVITE sip:9005") && seen.contains("A body of "), "{seen}");
            assert!(all.contains("v=0") && !seen.contains("v=0"), "{seen}");
        })
    });
    // A reason leads to its explanation whatever words events say it in.
    assert!(chinese.contains("href=\"/reasons/wrong-password\""), "{chinese}");
    // An agent's time in its state.
    let _phone = server.registered("9001");
    wait_for("the time in a state", PATIENCE, || {
        let wall = get(at, "/wall?q=9001", &[]).body;
        wall.contains("data-since=").then_some(())
    });
    // Groups stand one below the other, and one that is wrong says so in its place.
    let wall = get(at, "/wall?q=Sales:+9001&q=aor.startsWith(%22900%22)&q=aor+%3d%3d&lang=en", &[]).body;
    let groups: Vec<&str> = wall.split("<section ").skip(1).collect();
    let tiles = |at: usize| groups[at].matches("<li ").count();
    assert!(
        groups.len() == 3 && groups[0].contains(">Sales ") && (tiles(0), tiles(1), tiles(2)) == (1, 5, 0),
        "{wall}"
    );
    assert!(groups[2].contains("role=\"alert\"") && !groups[1].contains("role=\"alert\""), "{wall}");
}

#[test]
fn calls_are_found_by_their_hop() {
    let media = MediaServer::new("127.0.0.2");
    let (server, at) = started(&format!("[[route]]\nprefix = \"0\"\nhops = [\"{}\"]\n", media.uri()));
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let _talk = caller.establish(&callee);
    let mut other = server.registered("9003");
    let invite = other.invite("0123");
    assert_eq!(other.await_outcome(&invite).status(), Some(200));
    // Times are there without JavaScript, too.
    let calls = get(at, "/calls", &[]).body;
    let times = || calls.split("data-since=").skip(1).filter_map(|rest| rest.split(['>', '<']).nth(1));
    assert!(times().count() > 0 && times().all(|time| time.contains(':')), "no time of a call: {calls}");
    let talking = get(at, "/extensions/rows?q=talking&count=10", &[]).body;
    assert_eq!(talking.matches("<tr class=\"row\"").count(), 3, "{talking}");
    let chinese = get(at, "/extensions/rows?q=%e9%80%9a%e8%af%9d%e4%b8%ad&lang=zh&count=10", &[]).body;
    assert_eq!(chinese.matches("<tr class=\"row\"").count(), 3, "{chinese}");
    let found = |condition: &str| -> (usize, String) {
        let body =
            get(at, &format!("/calls?q={}", condition.replace(' ', "%20").replace('=', "%3D")), &[]).body;
        (body.matches("data-key=").count(), body)
    };
    wait_for("both calls", PATIENCE, || (found("").0 == 2).then_some(()));
    let (count, body) = found(&format!("hop == '{}'", media.uri()));
    assert!(count == 1 && body.contains("sip:0123@"), "{body}");
    let (count, body) = found(&format!("!(hop == '{}')", media.uri()));
    assert_eq!(count, 1, "{body}");
    // A text finds what stands on the page, whatever is in it.
    assert_eq!((found("9003").0, found("012").0, found("\"").0), (1, 1, 0));
    assert!(!found("\"").1.contains("role=\"alert\""), "no text");
    assert!(get(at, "/routes", &[]).body.contains("/calls?q=hop%20%3D%3D%20"), "no link to its calls");
}

#[test]
fn guessing_a_password_is_slowed_down() {
    let (_server, at) = started("");
    let begun = Instant::now();
    let mut refused = 0;
    for guess in 0..50 {
        let reply = post(at, "/login", &[], &format!("name=ada&password=guess{guess}"));
        match header(&reply, "location") {
            "/login?failed=refused" => refused += 1,
            "/login?failed=wait" => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(refused, 5, "no more are looked at");
    assert!(begun.elapsed() < Duration::from_secs(20));
    // Nor does the right one help who guessed.
    let reply = post(at, "/login", &[], "name=ada&password=a+long+password");
    assert_eq!(header(&reply, "location"), "/login?failed=wait");
}

#[test]
fn what_phones_say_is_text_on_every_page() {
    let (server, at) = started("");
    let evil = "<script>alert(1)</script><img src=x onerror=alert(2)>";
    let mut phone = server.registered("9001");
    let contact = format!("Contact: \"{evil}\" <sip:9001@{}>", phone.local());
    let message = phone.register_message(&[&contact, "Expires: 60"]).replace(USER_AGENT, evil);
    assert_eq!(phone.exchange(&message).status, 200);
    let mut stranger = server.phone("9009");
    let message = stranger.register_message(&[&contact, "Expires: 60"]).replace(USER_AGENT, evil);
    assert!(stranger.exchange(&message).status >= 400);
    for path in [
        "/",
        "/extensions",
        "/extensions/rows?from=0",
        "/extensions/9001",
        "/extensions/9009",
        "/calls",
        "/wall",
    ] {
        let body = get(at, path, &[]).body;
        assert!(!body.contains("<script>alert") && !body.contains("<img src=x"), "{path}: {body}");
    }
    assert!(get(at, "/extensions/9001", &[]).body.contains("&lt;script&gt;alert(1)"));
    for path in [
        "/extensions?q=%3Cscript%3Ealert(1)%3C/script%3E",
        "/?said=%3Cscript%3Ealert(1)",
        "/?failed=%3Cscript%3Ealert(1)",
        "/login?once=%22%3E%3Cscript%3Ealert(1)",
    ] {
        assert!(!get(at, path, &[]).body.contains("<script>alert"), "{path}");
    }
}

#[test]
fn beyond_this_machine_a_certificate_and_a_login_are_wanted() {
    let at = SocketAddr::from(([0, 0, 0, 0], free_port()));
    let mut server = Server::prepared("", &format!("[console]\nlisten = \"{at}\"\n"));
    let ran = server.roost(&["config", "check"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("set `certificate`"), "{}", ran.stderr);
    let config = std::fs::read_to_string(server.path("roost.toml")).expect("the configuration");
    std::fs::write(server.path("roost.toml"), format!("{config}{TLS_SECTION}")).expect("written");
    server.succeed(&["tls", "new", "localhost"]);
    server.start();
    let driver = Driver::start(1_000, 800);
    driver.go(&format!("https://127.0.0.1:{}/extensions", at.port()));
    driver.wait("location.pathname === '/login'");
    assert_eq!(
        driver.eval("return fetch('/extensions/rows?from=0').then((answer) => answer.url)"),
        json!(format!("https://127.0.0.1:{}/login", at.port()))
    );
    assert_eq!(driver.eval("return fetch('/live?page=/').then((answer) => answer.status)"), json!(401));
    server.succeed(&[
        "console",
        "user",
        "add",
        "ada",
        "--role",
        "administrator",
        "--password",
        "a long password",
    ]);
    log_in(&driver, &format!("https://127.0.0.1:{}", at.port()), "ada");
    driver.wait_text("Everything is right.");
}

/// Figures of the pages and MI's at one moment, under load.
#[test]
fn every_figure_is_the_interfaces_own() {
    let (server, at) = started("");
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (_ours, _) = caller.establish(&callee);
    let other = server.registered("9003");
    let mut third = server.registered("9004");
    third.invite("9003");
    other.await_request("INVITE");
    let figure = |page: &str, name: &str| -> u64 {
        let body = get(at, page, &[]).body;
        let rest = body
            .split(&format!("data-figure=\"{name}\">"))
            .nth(1)
            .unwrap_or_else(|| panic!("{name}: {body}"));
        rest.split('<').next().and_then(|text| text.parse().ok()).expect("a number")
    };
    wait_for("the same figures", PATIENCE, || {
        let same = [
            (figure("/", "registered"), server.statistic("usrloc:registered_users")),
            (figure("/", "talking"), server.statistic("dialog:active_dialogs")),
            (figure("/calls", "ringing"), server.statistic("dialog:early_dialogs")),
        ];
        (same == [(4, 4), (1, 1), (1, 1)]).then_some(())
    });
    let listed = server.mi("agent_list", json!({})).expect("agents");
    let body = get(at, "/extensions/rows?from=0&count=10", &[]).body;
    for agent in listed["Agents"].as_array().expect("agents") {
        let known =
            [("NOT_INUSE", "free"), ("INUSE", "talking"), ("RINGING", "ringing"), ("UNAVAILABLE", "offline")];
        let aor = agent["AOR"].as_str().expect("a name");
        let state =
            known.iter().find(|(own, _)| agent["state"] == *own).unwrap_or_else(|| panic!("{agent}")).1;
        let row = body.split("<tr ").find(|row| row.contains(&format!(">{aor}</a>"))).expect("a row");
        assert!(row.contains(&format!("class=\"state {state}\"")), "{aor}: {row}");
    }
}

/// The first page as people meet it: with a link of the start, they search, watch a phone register, be refused and be called, end the call, and
/// change the routes.
#[test]
fn an_operator_finds_out_why_ends_a_call_and_changes_a_route() {
    let (server, at) = started("[[route]]\nprefix = \"0\"\nhops = [\"sip:127.0.0.1:9\"]\n");
    let url = |path: &str| format!("http://{at}{path}");
    let driver = Driver::start(1_280, 900);
    log_in(&driver, &format!("http://{at}"), "ada");
    driver.wait_text("Everything is right.");

    // A phone that registers is seen, and one that is refused, without loading the page again.
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    driver.wait("document.querySelector('[data-figure=registered]').textContent === '2'");
    let mut wrong = Phone::new(server.sip, "9003", "wrong");
    assert_eq!(wrong.register(60).status, 403);
    driver.wait_text("wrong password");
    driver.wait_text("1 extension is refused");
    driver.picture("now");
    // The search finds as one types; Enter opens.
    driver.go(&url("/extensions"));
    driver.wait_text("9005");
    driver.keys("/");
    driver.wait("document.activeElement.id === 'search'");
    driver.keys("9003");
    driver.wait("document.querySelectorAll('.row').length === 1");
    driver.picture("search");
    driver.fill("#search", "state == \"NOT_INUSE\"");
    driver.wait("document.querySelectorAll('.row').length === 2");
    driver.fill("#search", "stat == 1");
    driver.wait("document.querySelectorAll('.row').length === 0");
    driver.go(&url("/extensions/9003"));
    driver.wait_text("9003 is offline. Its last REGISTER");
    driver.wait_text("403 Forbidden");
    driver.picture("extension");

    // A call is seen, and ended.
    let (_ours, _) = caller.establish(&callee);
    driver.go(&url("/calls"));
    driver.wait("document.querySelectorAll('tbody tr form').length === 1");
    driver.picture("calls");
    driver.click("tbody form button");
    driver.accept();
    callee.await_request("BYE");
    caller.await_request("BYE");
    driver.wait_text("The call was ended.");

    // A hop is taken out, and in.
    driver.go(&url("/routes"));
    driver.click("#hops ~ table form button, section[aria-labelledby=hops] form button");
    driver.accept();
    driver.wait_text("The next hop was taken out");
    // The page goes on by itself, and says it once.
    driver.wait("document.querySelector('main').dataset.live && !location.search.includes('said')");
    driver.wait_text("taken out");
    assert_eq!(hop_state(&server), "Inactive");
    driver.go(&url("/routes?method=INVITE&who=9001&target=0123#try"));
    driver.wait("document.querySelector('.decisions')");
    driver.picture("routes");

    // The configuration: a mistake is shown at its line, a right one counts at once.
    driver.go(&url("/config"));
    let with = |text: &str| {
        driver.eval(&format!(
            "const field = document.querySelector('#config-text'); field.value = field.value.replace('prefix = \"0\"', '{text}');"
        ))
    };
    with("prefix = \"x\" y");
    driver.click("button[value=check]");
    driver.wait("document.querySelector('#config-error')");
    driver.picture("config-mistake");
    driver.go(&url("/config"));
    with("prefix = \"77\"");
    driver.click("button[value=check]");
    driver.wait("document.querySelector('.diff .come')?.textContent.includes('77')");
    driver.wait_text("route[1].prefix");
    driver.picture("config-changes");
    driver.click("button[value=save]");
    driver.wait_text("The configuration was saved");
    let routes = server.mi("config_show", json!({})).expect("keys");
    let is_prefix = |key: &&Value| key["name"] == "route[1].prefix";
    assert_eq!(routes.as_array().expect("keys").iter().find(is_prefix).expect("the route")["value"], "77");
    assert!(server.path("roost.toml.bak").exists());
    let audit = std::fs::read_to_string(server.path("audit.log")).expect("an audit log");
    for what in ["end call", "hop", "configuration"] {
        assert!(audit.contains(&format!("\"what\":\"{what}\"")), "{what}: {audit}");
    }
}

fn hop_state(server: &Server) -> String {
    let listed = server.mi("ds_list", json!({})).expect("hops");
    let hop = &listed["PARTITIONS"][0]["SETS"][0]["Destinations"][0];
    hop["state"].as_str().expect("a state").to_string()
}

#[test]
fn two_tabs_call_one_another() {
    let (_server, at) = started("");
    let driver = Driver::start(1_000, 900);
    let first = driver.tab();
    let register = |user: &str| {
        driver.go(&format!("http://{at}/phone"));
        driver.wait("document.querySelector('[data-phone=root]').dataset.phoneState");
        driver.fill("#phone-extension", user);
        driver.fill("#phone-password", user);
        driver.click("[data-phone=register]");
        driver.wait_text("is registered");
    };
    register("9001");
    let second = driver.new_tab();
    register("9002");
    driver.switch(&first);
    driver.fill("#phone-number", "9002");
    driver.click("[data-phone=call]");
    driver.switch(&second);
    driver.wait("!document.querySelector('[data-phone=incoming]').hidden");
    driver.picture("phone");
    driver.click("[data-phone=answer]");
    driver.wait_text("Talking with");
    driver.switch(&first);
    driver.wait_text("Talking with");
    driver.click("[data-phone=hangup]");
    driver.switch(&second);
    driver.wait("document.querySelector('[data-phone=talk]').hidden");
}

/// Every page in both languages and both colours, on a wide and a small screen: kept below target/console to be looked at. None is wider than its
/// screen, and none has an error in its console.
#[test]
fn every_page_is_there_in_both_languages_and_colours() {
    let (server, at) = started(
        "[[route]]\nprefix = \"8\"\nhops = [\"sip:127.0.0.1:9\", \"sip:127.0.0.2:9\"]\n[acc]\ndb = true\n",
    );
    let (mut caller, callee) = (server.registered("9001"), server.registered("9002"));
    let (_ours, _) = caller.establish(&callee);
    assert_eq!(Phone::new(server.sip, "9003", "wrong").register(60).status, 403);
    let driver = Driver::start(1_280, 1_000);
    log_in(&driver, &format!("http://{at}"), "ada");
    let pages = [
        ("now", "/"),
        ("extensions", "/extensions"),
        ("extension", "/extensions/9003"),
        ("messages", "/extensions/9003?live=yes"),
        ("ladder", "/calls/ladder?callid=none&live=yes"),
        ("calls", "/calls"),
        ("history", "/calls/history"),
        ("routes", "/routes?method=INVITE&who=9001&target=8123"),
        ("wall", "/wall"),
        ("groups", "/wall?q=Sales:+9001&q=aor.startsWith(%22900%22)"),
        ("config", "/config"),
        ("people", "/people"),
        ("phone", "/phone"),
        ("reason", "/reasons/wrong-password"),
        ("login", "/login"),
    ];
    let (mut pictures, mut wrong, axe) = (0, Vec::new(), axe());
    for (language, theme, width) in [
        ("en", "light", 1_280),
        ("zh", "light", 1_280),
        ("en", "dark", 1_280),
        ("zh", "dark", 1_280),
        ("en", "light", 400),
    ] {
        driver.resize(width, 1_000);
        driver.go(&format!("http://{at}/"));
        driver.eval(&format!(
            "document.cookie = 'lang={language}; Path=/'; document.cookie = 'theme={theme}; Path=/'"
        ));
        for (name, path) in pages {
            driver.go(&format!("http://{at}{path}"));
            driver.wait("document.readyState === 'complete'");
            let lang = driver.eval("return document.documentElement.lang");
            assert!(lang.as_str().is_some_and(|lang| lang.starts_with(language)), "{name}: {lang}");
            let over = driver
                .eval("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
            assert_eq!(over, json!(0), "{name} in {width} pixels is wider than its screen");
            driver.picture(&format!("{name}-{language}-{theme}-{width}"));
            driver.eval(&axe);
            let violations = driver.eval_async("axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => done(violations.map(({ id, nodes }) => id + ': ' + nodes.map((node) => node.html).join(' | ')))).catch((error) => done([String(error)]))");
            if violations != json!([]) {
                wrong.push(format!("{name} in {language}, {theme}, {width} pixels: {violations}"));
            }
            pictures += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    report(&format!(
        "axe has nothing against {pictures} pages; {pictures} pictures of the console's pages below target/console"
    ));
}
