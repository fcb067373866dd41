//! Events as tools get them: MI subscribers, readers of the stream, webhooks; and that a slow one hurts nobody else.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{PATIENCE, Server, ack_of_failure, free_port, report, wait_for};

/// The next event of a subscriber: its name and parameters.
fn datagram(socket: &UdpSocket) -> (String, Value) {
    let mut buffer = [0; 65_536];
    let length = socket.recv(&mut buffer).expect("an event");
    let event: Value = serde_json::from_slice(&buffer[..length]).expect("JSON");
    assert_eq!(event["jsonrpc"], "2.0");
    (event["method"].as_str().expect("a name").to_owned(), event["params"].clone())
}

#[test]
fn subscribers_hear_of_bindings_and_calls_as_from_opensips() {
    let server = Server::for_calls("");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let at = format!("udp:{}", socket.local_addr().expect("an address"));
    let listed = server.mi("events_list", Value::Null).expect("a list");
    let names: Vec<_> =
        listed["Events"].as_array().into_iter().flatten().map(|event| &event["name"]).collect();
    for event in [
        "E_UL_AOR_INSERT",
        "E_UL_CONTACT_INSERT",
        "E_UL_CONTACT_DELETE",
        "E_UL_AOR_DELETE",
        "E_DLG_STATE_CHANGED",
    ] {
        assert!(names.contains(&&json!(event)), "{listed}");
        // As python-opensips asks.
        assert_eq!(server.mi("event_subscribe", json!([event, at, 3600])).expect("it"), "OK");
    }
    assert_eq!(server.mi("event_subscribe", json!(["E_NOTHING", at, 1])).expect_err("none").0, 404);
    assert_eq!(server.mi("event_subscribe", json!(["E_UL_AOR_INSERT", "udp:x", 1])).expect_err("bad").0, 400);
    let shown = server.mi("subscribers_list", json!({ "event": "E_UL_AOR_INSERT" })).expect("a list");
    assert_eq!(shown["Events"][0]["Subscribers"][0]["socket"], at);
    assert_eq!(shown["Events"][0]["Subscribers"][0]["expire"], 3600);

    let mut caller = server.registered("9001");
    let (name, params) = datagram(&socket);
    assert_eq!((name.as_str(), params), ("E_UL_AOR_INSERT", json!({ "domain": "location", "aor": "9001" })));
    let (name, params) = datagram(&socket);
    assert_eq!((name.as_str(), &params["uri"]), ("E_UL_CONTACT_INSERT", &json!(caller.contact)));
    assert_eq!((&params["aor"], &params["socket"]), (&json!("9001"), &json!(format!("udp:{}", server.sip))));
    assert!(params["expires"].as_u64().is_some_and(|at| at > 1_700_000_000), "{params}");
    let callee = server.registered("9002");
    assert_eq!(
        (datagram(&socket).0, datagram(&socket).0),
        ("E_UL_AOR_INSERT".into(), "E_UL_CONTACT_INSERT".into())
    );

    let invite = caller.invite("9002");
    let received = callee.await_request("INVITE");
    callee.answer(&received, "486 Busy Here");
    let busy = caller.await_final("INVITE");
    caller.send(ack_of_failure(&invite, &busy));
    let (name, params) = datagram(&socket);
    assert_eq!(
        (name.as_str(), &params["old_state"], &params["new_state"]),
        ("E_DLG_STATE_CHANGED", &json!(1), &json!(5))
    );
    assert_eq!(
        (&params["callid"], &params["end"], &params["code"]),
        (&json!(caller.call_id), &json!("failed"), &json!(486))
    );

    let (mut ours, _) = caller.establish(&callee);
    let states: Vec<_> = (0..3)
        .map(|_| datagram(&socket).1)
        .map(|params| (params["old_state"].clone(), params["new_state"].clone()))
        .collect();
    assert_eq!(states, [(json!(1), json!(2)), (json!(2), json!(3)), (json!(3), json!(4))]);
    caller.send(ours.request("BYE", &[]));
    let (_, params) = datagram(&socket);
    assert_eq!((&params["new_state"], &params["end"]), (&json!(5), &json!("caller")));
    assert_eq!((&params["caller_aor"], &params["callee_aor"]), (&json!("9001"), &json!("9002")));

    let bye = callee.await_request("BYE");
    callee.answer(&bye, "200 OK");
    let mut callee = callee;
    assert_eq!(callee.unregister().line(), "200 OK");
    assert_eq!(
        (datagram(&socket).0, datagram(&socket).0),
        ("E_UL_CONTACT_DELETE".into(), "E_UL_AOR_DELETE".into())
    );
    // An end that is asked for.
    for event in ["E_UL_AOR_INSERT", "E_UL_CONTACT_INSERT"] {
        assert_eq!(server.mi("event_subscribe", json!([event, at, 0])).expect("it"), "OK");
    }
    assert_eq!(callee.register(300).line(), "200 OK");
    assert_eq!(callee.unregister().line(), "200 OK");
    assert_eq!(datagram(&socket).0, "E_UL_CONTACT_DELETE");
    assert!(server.statistic("event:sent") >= 12 && server.statistic("event:lost") == 0);
}

/// Reads the stream of events.
pub(crate) struct Reader(BufReader<TcpStream>);

impl Reader {
    pub(crate) fn open(server: &Server, query: &str, last_id: Option<&str>) -> Reader {
        let mut stream = TcpStream::connect(server.mi).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let last = last_id.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!("GET /api/v1/events{query} HTTP/1.1\r\nHost: {}\r\n{last}\r\n", server.mi);
        stream.write_all(request.as_bytes()).expect("a request");
        let mut reader = Reader(BufReader::new(stream));
        assert_eq!(reader.line(), "HTTP/1.1 200 OK");
        while !reader.line().is_empty() {}
        reader
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// Number, name and data of the next event.
    pub(crate) fn event(&mut self) -> (String, String, Value) {
        let (mut id, mut name) = (String::new(), String::new());
        loop {
            let line = self.line();
            if let Some(value) = line.strip_prefix("id: ") {
                id = value.to_owned();
            } else if let Some(value) = line.strip_prefix("event: ") {
                name = value.to_owned();
            } else if let Some(value) = line.strip_prefix("data: ") {
                return (id, name, serde_json::from_str(value).expect("JSON"));
            }
        }
    }
}

#[test]
fn a_reader_of_the_stream_hears_what_it_wants_and_what_it_missed() {
    let server = Server::for_calls("");
    let mut all = Reader::open(&server, "?type=E_ROOST_REFUSED,E_ROOST_AGENT_STATE", None);
    let mut one = Reader::open(&server, "?type=E_ROOST_AGENT_STATE&aor=9002", None);
    assert_eq!(server.phone("9009").register(60).status, 404);
    let (_, name, refused) = all.event();
    assert_eq!(
        (name.as_str(), &refused["code"], &refused["reason"]),
        ("E_ROOST_REFUSED", &json!(404), &json!("unknown user"))
    );
    let mut caller = server.registered("9001");
    let (_, _, agent) = all.event();
    assert_eq!(agent, json!({ "aor": "9001", "state": "NOT_INUSE", "ringing": 0, "in_use": 0 }));
    let callee = server.registered("9002");
    let (id, _, agent) = one.event();
    assert_eq!((&agent["aor"], &agent["state"]), (&json!("9002"), &json!("NOT_INUSE")));
    drop(one);
    caller.invite("9002");
    callee.await_request("INVITE");
    // It comes back.
    let mut one = Reader::open(&server, "?type=E_ROOST_AGENT_STATE&aor=9002", Some(&id));
    assert_eq!(one.event().2["state"], "RINGING");
    let wrong = crate::support::http(
        server.mi,
        "GET /api/v1/events?type=E_NOTHING",
        &[&format!("Host: {}", server.mi)],
        "",
    );
    assert!(wrong.status == 400 && wrong.body.contains("E_UL_AOR_INSERT"), "{}", wrong.body);
}

/// A server that takes webhooks: what it answers first, and then 204; the requests that it took.
fn webhook_server(first: Vec<u16>) -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let (sender, taken) = channel();
    thread::spawn(move || {
        let mut answers = first.into_iter();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
            loop {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if reader.read_line(&mut head).unwrap_or(0) == 0 {
                        break;
                    }
                }
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
                let Some(length) = length else { break };
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                let status = answers.next().unwrap_or(204);
                stream
                    .write_all(format!("HTTP/1.1 {status} Yes\r\nContent-Length: 0\r\n\r\n").as_bytes())
                    .expect("an answer");
                if status == 204 && sender.send((head, serde_json::from_slice(&body).expect("JSON"))).is_err()
                {
                    return;
                }
            }
        }
    });
    (url, taken)
}

#[test]
fn a_webhook_that_fails_gets_its_events_later_and_signed() {
    let (url, taken) = webhook_server(vec![500, 503]);
    let sections = format!(
        "[[webhook]]\nurl = \"{url}\"\nevents = [\"E_UL_CONTACT_INSERT\", \"E_ROOST_REFUSED\"]\nsecret_file = \"hook.key\"\n"
    );
    let mut server = Server::prepared("", &sections);
    std::fs::write(server.path("hook.key"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").expect("a key");
    server.add_users(9001, 2);
    server.start();
    server.registered("9001");
    assert_eq!(server.phone("9009").register(60).status, 404);
    let (head, events) = taken.recv_timeout(PATIENCE).expect("events");
    assert!(head.starts_with("POST /hook HTTP/1.1"), "{head}");
    for header in [
        "webhook-id: msg_",
        "webhook-timestamp: ",
        "webhook-signature: v1,",
        "content-type: application/json",
    ] {
        assert!(head.contains(header), "{header} in {head}");
    }
    let mut all = events.as_array().cloned().expect("an array");
    while all.len() < 2 {
        let (_, more) = taken.recv_timeout(PATIENCE).expect("more events");
        all.extend(more.as_array().cloned().expect("an array"));
    }
    assert_eq!((&all[0]["type"], &all[0]["params"]["aor"]), (&json!("E_UL_CONTACT_INSERT"), &json!("9001")));
    assert_eq!((&all[1]["type"], &all[1]["params"]["code"]), (&json!("E_ROOST_REFUSED"), &json!(404)));
    assert!(all[0]["id"].as_u64() < all[1]["id"].as_u64() && all[0]["time_ms"].is_u64(), "{all:?}");
    assert_eq!((server.statistic("webhook:failed"), server.statistic("webhook:lost")), (2, 0));
    wait_for("delivered", PATIENCE, || (server.statistic("webhook:delivered") == 2).then_some(()));
}

#[test]
fn consumers_that_never_read_lose_their_own_events_and_slow_nobody() {
    // Nobody takes connections there.
    let silent = TcpListener::bind(("127.0.0.1", free_port())).expect("a listener");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let server = Server::for_calls(&format!("[registrar]\nmax_contacts = 1\n[[webhook]]\nurl = \"{url}\"\n"));
    let readers: Vec<_> = (0..64).map(|_| Reader::open(&server, "", None)).collect();
    let mut phone = server.registered("9001");
    let (mut slowest, begun) = (Duration::ZERO, Instant::now());
    for _ in 0..20_000 {
        let sent = Instant::now();
        assert_eq!(phone.register(300).line(), "200 OK");
        slowest = slowest.max(sent.elapsed());
    }
    report(&format!(
        "20,000 refreshes with 64 readers and a webhook that never read: {:?}, the slowest {slowest:?}; lost to the webhook {}",
        begun.elapsed(),
        server.statistic("webhook:lost"),
    ));
    assert!(slowest < Duration::from_secs(2));
    assert!(server.statistic("webhook:lost") > 0);
    assert_eq!(server.statistic("roost:events_lost"), 0);
    // One that reads has them all.
    let mut good = Reader::open(&server, "?type=E_UL_CONTACT_DELETE", None);
    assert_eq!(phone.unregister().line(), "200 OK");
    assert_eq!(good.event().1, "E_UL_CONTACT_DELETE");
    drop(readers);
    let lost = wait_for("what they lost", PATIENCE, || {
        Some(server.statistic("event:streams_lost")).filter(|lost| *lost > 0)
    });
    report(&format!("the readers lost {lost} events"));
}

#[test]
fn a_webhook_hears_what_its_condition_lets_through() {
    let (url, taken) = webhook_server(Vec::new());
    let server = Server::for_calls(&format!(
        "[[webhook]]\nurl = \"{url}\"\nwhen = 'type == \"E_ROOST_REFUSED\" && code == 404 || type == \"E_UL_CONTACT_INSERT\" && aor == \"9002\"'\n"
    ));
    server.registered("9001");
    server.registered("9002");
    assert_eq!(server.phone("9009").register(60).status, 404);
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let (_, events) = taken.recv_timeout(PATIENCE).expect("events");
        heard.extend(events.as_array().cloned().expect("an array"));
    }
    // Those of two workers come in either order.
    let told =
        |name: &str, aor: &str| heard.iter().any(|one| one["type"] == name && one["params"]["aor"] == aor);
    let is_all = heard.len() == 2 && told("E_UL_CONTACT_INSERT", "9002") && told("E_ROOST_REFUSED", "9009");
    assert!(is_all, "{heard:?}");
}

#[test]
fn webhooks_come_and_go_by_a_reload() {
    let (first, heard_first) = webhook_server(Vec::new());
    let (second, heard_second) = webhook_server(Vec::new());
    let server =
        Server::for_calls(&format!("[[webhook]]\nurl = \"{first}\"\nevents = [\"E_ROOST_REFUSED\"]\n"));
    assert_eq!(server.phone("9009").register(60).status, 404);
    heard_first.recv_timeout(PATIENCE).expect("events");
    server.replace_in_config(&first, &second);
    let said = server.succeed(&["reload"]);
    assert!(said.contains("webhook[1].url") && !said.contains("restart"), "{said}");
    assert_eq!(server.phone("9008").register(60).status, 404);
    let (_, events) = heard_second.recv_timeout(PATIENCE).expect("events");
    assert_eq!(events[0]["params"]["aor"], "9008");
    assert!(heard_first.try_recv().is_err(), "it is told no more");
    wait_for("both counted", PATIENCE, || (server.statistic("webhook:delivered") == 2).then_some(()));
    server.replace_in_config("events = [\"E_ROOST_REFUSED\"]", "events = [\"E_NOTHING\"]");
    assert_eq!(server.roost(&["reload"]).code, Some(1));
}

#[test]
fn a_reader_hears_what_its_condition_lets_through() {
    let server = Server::for_calls("");
    let mut one =
        Reader::open(&server, "?filter=code%20%3D%3D%20404%20%7C%7C%20aor%20%3D%3D%20%229002%22", None);
    server.registered("9001");
    assert_eq!(server.phone("9009").register(60).status, 404);
    let (_, name, refused) = one.event();
    assert_eq!((name.as_str(), &refused["aor"]), ("E_ROOST_REFUSED", &json!("9009")));
    let host = format!("Host: {}", server.mi);
    let reply = crate::support::http(server.mi, "GET /api/v1/events?filter=cod%20%3D%3D%201", &[&host], "");
    assert!(reply.status == 400 && reply.body.contains("there is no `cod`"), "{}", reply.body);
}
