//! The generator against a small registrar and proxy of the test's own, and against the echo.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::thread::JoinHandle;

use clap::Parser as _;
use roost_bench::bench::run;
use roost_bench::cli::{Cli, Command, Load};
use roost_bench::kind::Kind;
use roost_bench::stop::Stop;
use serde_json::Value;

#[test]
fn every_user_is_registered_with_a_challenge() {
    let registrar = Registrar::start(Faults::default());
    let report = load(&["register", "--users", "300"], Some(registrar.address));
    assert_eq!(report["ok"], 300, "{report}");
    assert_eq!(report["answers"]["401"], 300);
    assert_eq!(report["answers"]["200"], 300);
    for zero in ["failed", "timed_out", "retransmissions", "stale", "strays", "unlisted"] {
        assert_eq!(report[zero], 0, "{zero} in {report}");
    }
    assert!(report["latency_us"]["p50"].as_u64() > Some(0), "{report}");
    assert_eq!(report["ratio"], Value::Null, "without the server's process there is nothing to compare");
}

#[test]
fn lost_messages_are_repeated_and_counted() {
    let registrar = Registrar::start(Faults { loses_first_answers: 10, ..Faults::default() });
    let report = load(&["register", "--users", "100"], Some(registrar.address));
    assert_eq!(report["ok"], 100, "{report}");
    assert_eq!(report["retransmissions"], 10, "{report}");
    assert!(report["latency_us"]["max"].as_u64() > Some(490_000), "the repeated ones took T1: {report}");
}

#[test]
fn what_is_never_answered_is_given_up() {
    let registrar = Registrar::start(Faults { loses_first_answers: usize::MAX, ..Faults::default() });
    let report = load(&["register", "--users", "5", "--give-up", "0.2"], Some(registrar.address));
    assert_eq!((&report["ok"], &report["timed_out"]), (&Value::from(0), &Value::from(5)), "{report}");
}

#[test]
fn a_refresh_uses_the_nonce_again_and_follows_a_stale_one() {
    let registrar = Registrar::start(Faults { nonce_uses: 3, ..Faults::default() });
    let report = load(&["refresh", "--users", "20", "--count", "100"], Some(registrar.address));
    assert_eq!(report["set_up"]["ok"], 20, "{report}");
    assert_eq!(report["ok"], 100, "{report}");
    // Three uses: the registration and two refreshes; the third refresh is told a new nonce and uses it three times.
    assert_eq!(report["stale"], 20, "{report}");
    assert_eq!(report["answers"]["401"], 20, "{report}");
}

#[test]
fn a_refused_password_is_a_failure_and_no_loop() {
    let registrar = Registrar::start(Faults { nonce_uses: 0, ..Faults::default() });
    let report = load(&["register", "--users", "4"], Some(registrar.address));
    assert_eq!((&report["ok"], &report["failed"]), (&Value::from(0), &Value::from(4)), "{report}");
    assert_eq!(report["answers"]["401"], 12, "one without credentials, two that say stale: {report}");
}

#[test]
fn a_fixed_rate_is_kept() {
    let registrar = Registrar::start(Faults::default());
    let report =
        load(&["options", "--rate", "1000", "--count", "200", "--warm-up", "0"], Some(registrar.address));
    assert_eq!(report["ok"], 200, "{report}");
    let elapsed_s = report["elapsed_s"].as_f64().unwrap();
    assert!((0.199..2.0).contains(&elapsed_s), "200 at 1000 per second: {report}");
}

#[test]
fn calls_go_through_a_proxy_that_challenges() {
    for is_challenging in [false, true] {
        let registrar = Registrar::start(Faults { challenges_calls: is_challenging, ..Faults::default() });
        let report = load(
            &["call", "--users", "20", "--count", "50", "--warm-up", "0", "--contact-ports", "3"],
            Some(registrar.address),
        );
        assert_eq!(report["ok"], 50, "{report}");
        assert_eq!(report["retransmissions"], 0, "{report}");
        assert_eq!(report["answers"]["180"], 50, "{report}");
        assert_eq!(report["answers"]["200"], 100, "of INVITE and BYE: {report}");
        let challenges = if is_challenging { Value::from(50) } else { Value::Null };
        assert_eq!(report["answers"]["407"], challenges, "{report}");
    }
}

#[test]
fn the_echo_is_measured_beside() {
    let registrar = Registrar::start(Faults::default());
    let own = std::process::id().to_string();
    let arguments =
        ["options", "--count", "2000", "--warm-up", "0", "--echo-time", "0.1", "--server-pid", &own];
    let report = run_load(&arguments, Some(registrar.address));
    let runs = report["echo"]["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2, "before and after: {report}");
    for run in runs {
        assert!(run["pairs"].as_u64() > Some(100), "{report}");
        assert_eq!(run["timed_out"], 0, "{report}");
    }
    assert_eq!(report["echo"]["pairs_per_op"], 1.0, "{report}");
    assert!(report["process"]["pss_before"].as_u64() > Some(0), "{report}");
}

#[test]
fn a_server_is_spawned_measured_and_ended() {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let command = format!("{} echo --port {} --workers 2", env!("CARGO_BIN_EXE_roost-bench"), free.port());
    let report = load(&["raw", "--count", "1000", "--spawn", &command], Some(free));
    assert_eq!(report["ok"], 1000, "{report}");
    assert_eq!(report["process"]["spawned"], true, "{report}");
    assert_eq!(report["process"]["udp_drops"], 0, "{report}");
    UdpSocket::bind(free).expect("the server has ended, and its workers with it");
}

#[test]
fn strangers_are_not_loaded() {
    let error = try_load(&["options"], "192.0.2.1:5060".parse().unwrap()).unwrap_err();
    assert!(error.contains("--allow-remote"), "{error}");
}

// Helpers.

/// Runs without an echo.
fn load(arguments: &[&str], server: Option<SocketAddr>) -> Value {
    run_load(&[arguments, &["--no-echo"]].concat(), server)
}

fn run_load(arguments: &[&str], server: Option<SocketAddr>) -> Value {
    try_load(arguments, server.unwrap()).unwrap()
}

fn try_load(arguments: &[&str], server: SocketAddr) -> Result<Value, String> {
    let server = server.to_string();
    let words = [&["roost-bench"], arguments, &["--server", &server]].concat();
    let (kind, options) = match Cli::parse_from(words).command {
        Command::Register(load) => (Kind::Register, load),
        Command::Refresh(load) => (Kind::Refresh, load),
        Command::Call(load) => (Kind::Call, load),
        Command::Options(load) => (Kind::Options, load),
        Command::Raw(load) => (Kind::Raw, load),
        Command::Echo(_) => panic!("no load"),
    };
    let options: Load = options;
    let program = Path::new(env!("CARGO_BIN_EXE_roost-bench"));
    run(kind, &options, program, &Stop::default())
        .map(|report| report.to_json())
        .map_err(|error| format!("{error:#}"))
}

/// What the test's server does wrong.
#[derive(Debug, Clone, Copy)]
struct Faults {
    /// So many of the first answers get lost.
    loses_first_answers: usize,
    /// How often a nonce is good.
    nonce_uses: u32,
    challenges_calls: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Faults { loses_first_answers: 0, nonce_uses: u32::MAX, challenges_calls: false }
    }
}

/// A registrar and proxy of one thread: it checks no password, and forwards calls as a loose router does.
struct Registrar {
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Registrar {
    fn start(faults: Faults) -> Registrar {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (uses, contacts) = (HashMap::new(), HashMap::new());
        let state = State { socket, address, faults, answers: 0, uses, contacts };
        let thread = std::thread::spawn(move || state.serve());
        Registrar { address, thread: Some(thread) }
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"end", self.address).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

struct State {
    socket: UdpSocket,
    address: SocketAddr,
    faults: Faults,
    answers: usize,
    /// How often each nonce was used; its text ends with its number.
    uses: HashMap<String, u32>,
    /// Where each user is.
    contacts: HashMap<String, String>,
}

impl State {
    fn serve(mut self) {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = self.socket.recv_from(&mut buffer).unwrap();
            if &buffer[..length] == b"end" {
                return;
            }
            let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
            assert!(message.contains("\r\n\r\n") && !message.contains('{'), "{message}");
            match message.split(' ').next().unwrap() {
                "REGISTER" => self.register(&message, from),
                "OPTIONS" => self.answer(&message, "200 OK", "", from),
                "INVITE"
                    if self.faults.challenges_calls && header(&message, "Proxy-Authorization").is_none() =>
                {
                    let challenge = "Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"\r\n";
                    self.answer(&message, "407 Proxy Authentication Required", challenge, from);
                }
                "INVITE" => {
                    let callee = self.contacts[user(header(&message, "To").unwrap())].clone();
                    self.forward(&message, &callee);
                }
                "ACK" | "BYE" if header(&message, "Route").is_some() => {
                    let target = message.split(' ').nth(1).unwrap().to_owned();
                    self.forward(&message, &target);
                }
                "ACK" => {}
                "SIP/2.0" => self.forward_answer(&message),
                other => panic!("unexpected {other}"),
            }
        }
    }

    fn register(&mut self, message: &str, from: SocketAddr) {
        let name = user(header(message, "To").unwrap()).to_owned();
        let used = header(message, "Authorization").map(|line| line.split("nonce=\"").nth(1).unwrap());
        let used = used.map(|rest| rest.split('"').next().unwrap().to_owned());
        if let Some(nonce) = &used {
            let uses = self.uses.get_mut(nonce).expect("a nonce of ours");
            *uses += 1;
            if *uses <= self.faults.nonce_uses {
                let contact = header(message, "Contact").unwrap();
                self.contacts.insert(name, contact.trim_matches(['<', '>']).to_owned());
                return self.answer(message, "200 OK", &format!("Contact: {contact};expires=60\r\n"), from);
            }
        }
        let nonce = format!("nonce-of-{name}-{}", self.uses.len());
        let stale = if used.is_some() { ", stale=true" } else { "" };
        let challenge = format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"{nonce}\"{stale}\r\n");
        self.uses.insert(nonce, 0);
        self.answer(message, "401 Unauthorized", &challenge, from);
    }

    fn answer(&mut self, request: &str, status: &str, more: &str, to: SocketAddr) {
        self.answers += 1;
        if self.answers <= self.faults.loses_first_answers {
            return;
        }
        let copied = ["Via", "From", "To", "Call-ID", "CSeq"]
            .map(|name| format!("{name}: {}\r\n", header(request, name).unwrap()));
        let answer = format!("SIP/2.0 {status}\r\n{}{more}Content-Length: 0\r\n\r\n", copied.concat());
        self.socket.send_to(answer.as_bytes(), to).unwrap();
    }

    /// Sends a request on to a URI's host, through us on the way back.
    fn forward(&self, request: &str, target: &str) {
        let (start, rest) = request.split_once("\r\n").unwrap();
        let rest: String = rest.split_inclusive("\r\n").filter(|line| !line.starts_with("Route: ")).collect();
        let method = start.split(' ').next().unwrap();
        let our = self.address;
        let message = format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {our};branch=z9hG4bKproxy\r\n\
             Record-Route: <sip:{our};lr>\r\n{rest}"
        );
        self.socket.send_to(message.as_bytes(), host(target)).unwrap();
    }

    fn forward_answer(&self, answer: &str) {
        let (start, rest) = answer.split_once("\r\n").unwrap();
        let (our_via, rest) = rest.split_once("\r\n").unwrap();
        assert!(our_via.contains("branch=z9hG4bKproxy"), "{answer}");
        let via = header(answer, "Via").map(|_| rest.split("SIP/2.0/UDP ").nth(1).unwrap()).unwrap();
        let to = via.split(';').next().unwrap();
        self.socket.send_to(format!("{start}\r\n{rest}").as_bytes(), to).unwrap();
    }
}

/// The value of a message's first header of this name.
fn header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The user of an address such as `"9001" <sip:9001@host>`.
fn user(address: &str) -> &str {
    address.split("sip:").nth(1).unwrap().split('@').next().unwrap()
}

/// The host and port of a URI such as `sip:9001@host:port;line=1`.
fn host(uri: &str) -> &str {
    uri.split('@').nth(1).unwrap().split([';', '>']).next().unwrap()
}
