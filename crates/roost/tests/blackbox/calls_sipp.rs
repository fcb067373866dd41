//! SIPp calls SIPp through roost: ten thousand calls without a failure, and two thousand over a bad network, of which
//! every one ends.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::support::{PATIENCE, Random, Relay, Server, free_port, need, report, run, wait_for};

const UAC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sipp/uac.xml");
const UAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sipp/uas.xml");
/// Longer than a transaction of SIPp or roost lives: what waits as long for a message waits in vain.
const IN_VAIN_MS: &str = "40000";

/// Both tests want the whole machine.
static MACHINE: Mutex<()> = Mutex::new(());

#[test]
fn ten_thousand_calls_without_a_failure() {
    const CALLS: u64 = 10_000;
    let machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::started("", "[proxy]\ntrusted = [\"127.0.0.1\"]\n");
    let callee = Callee::start(&server, None, UDP);
    let before_kb = server.resident_kb();
    let load = Load { calls: CALLS, rate: 500, at_once: 200, talk_ms: 50, transport: UDP };
    let caller = call(&Place::of(&server), server.sip, &load);
    let grown_kb = server.resident_kb().saturating_sub(before_kb);
    let callee = callee.ended();
    report(&format!("SIPp calls: caller {caller}; callee {callee}; roost grew by {grown_kb} kB"));

    // Where the machine loses a datagram, such as an ACK, each is sent again, and a BYE may come first.
    let lost = caller.retransmissions + callee.retransmissions;
    for side in [&caller, &callee] {
        assert_eq!((side.succeeded, side.failed, side.current), (CALLS, 0, 0), "{side}");
        assert!(side.unexpected <= lost, "{side}");
    }
    drop(machine);
    let took = server.wait_for_no_transactions();
    report(&format!("SIPp calls: no transaction left after {took:.1?}"));
}

#[test]
fn five_thousand_calls_over_tcp_without_a_failure() {
    const CALLS: u64 = 5_000;
    let machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::started("", "[proxy]\ntrusted = [\"127.0.0.1\"]\n");
    let callee = Callee::start(&server, None, TCP);
    let load = Load { calls: CALLS, rate: 400, at_once: 200, talk_ms: 50, transport: TCP };
    let caller = call(&Place::of(&server), server.sip, &load);
    let callee = callee.ended();
    report(&format!("SIPp calls over TCP: caller {caller}; callee {callee}"));
    for side in [&caller, &callee] {
        assert_eq!((side.succeeded, side.failed, side.unexpected, side.current), (CALLS, 0, 0, 0), "{side}");
    }
    assert!(server.statistic("net:tcp_connected") >= 1, "roost connects to the callee's Contact");
    drop(machine);
}

#[test]
fn two_thousand_calls_over_a_bad_network_all_end() {
    const CALLS: u64 = 2_000;
    const LOSS: u64 = 5;
    let seed = std::env::var("ROOST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| Random::fresh_seed() >> 8);
    report(&format!("SIPp calls, bad network: ROOST_SEED={seed}"));

    let machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::started("", "[proxy]\nauthorize = \"off\"\n");
    let before_caller = Relay::start(server.sip, LOSS, seed);
    let callee = Callee::start(&server, Some((LOSS, seed + 2)), UDP);
    // The talk is long enough for the callee to get its ACK by the third repetition of its 200.
    let load = Load { calls: CALLS, rate: 200, at_once: CALLS, talk_ms: 4_000, transport: UDP };
    let caller = call(&Place::of(&server), before_caller.address, &load);
    let (passed, lost) = before_caller.counts();
    let callee = callee.ended();
    report(&format!(
        "SIPp calls, {LOSS} % of datagrams lost each way: caller {caller}; callee {callee}; \
         before the caller {passed} datagrams passed, {lost} lost"
    ));
    drop(machine);

    assert!(lost > passed / 50, "the network was not bad: {lost} of {passed}");
    assert_eq!((caller.current, callee.current), (0, 0), "calls that have not ended");
    assert_eq!(caller.succeeded + caller.failed, CALLS, "{caller}");
    // What fails: four losses in a row before a BYE's Timer F, or all ACKs of a call before its BYE.
    assert!(caller.failed <= CALLS / 100 && callee.failed <= CALLS / 100, "{caller}\n{callee}");
    let took = server.wait_for_no_transactions();
    report(&format!("SIPp calls, bad network: no transaction left after {took:.1?}"));
}

/// `ROOST_SIPP_CALLS` says how many; 2,000 are enough for each day.
#[test]
fn calls_over_a_bad_network_leave_their_records_in_spite_of_kill_9() {
    const LOSS: u64 = 5;
    const RATE: u32 = 200;
    let calls = std::env::var("ROOST_SIPP_CALLS").ok().and_then(|calls| calls.parse().ok()).unwrap_or(2_000);
    let seed = std::env::var("ROOST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| Random::fresh_seed() >> 8);
    let machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let sections = "[proxy]\ntrusted = [\"127.0.0.1\"]\n[acc]\ndb = true\n";
    let mut server = Server::started("", sections);
    let before_caller = Relay::start(server.sip, LOSS, seed);
    let callee = Callee::start(&server, Some((LOSS, seed + 2)), UDP);
    let load = Load { calls, rate: RATE, at_once: calls, talk_ms: 4_000, transport: UDP };
    let (place, towards) = (Place::of(&server), before_caller.address);
    let caller = std::thread::spawn(move || call(&place, towards, &load));
    std::thread::sleep(Duration::from_secs(calls / u64::from(RATE) / 2 + 2));
    server.kill9();
    server.start();
    let restored = server.statistic("dialog:active_dialogs");
    let caller = caller.join().expect("SIPp ends");
    let callee = callee.ended();
    drop(machine);
    wait_for("all records", PATIENCE, || (server.statistic("acc:waiting") == 0).then_some(()));
    let number = |sql: &str| -> u64 { server.sql(sql).trim().parse().expect("a number") };
    let rows = number("SELECT count(*) FROM acc");
    let written = number("SELECT count(DISTINCT callid) FROM acc");
    // Their BYE was handled in the moment of the kill.
    let active = server.statistic("dialog:active_dialogs");
    let missing = caller.succeeded.saturating_sub(written + active);
    report(&format!(
        "{calls} calls at {RATE} a second, {LOSS} % of datagrams lost each way, kill -9 in the middle (ROOST_SEED={seed}): caller {caller}; \
         callee {callee}; {restored} calls taken up, records of {written} calls written, {active} still listed, {missing} missing"
    ));
    assert!(caller.succeeded >= calls * 9 / 10, "{caller}");
    assert_eq!(rows, written, "no call is written twice");
    assert!(restored >= u64::from(RATE), "calls in progress go on");
    // Those that were answered in the last second.
    assert!(missing <= u64::from(RATE), "{missing}");
}

struct Load {
    calls: u64,
    /// New calls a second.
    rate: u32,
    at_once: u64,
    talk_ms: u32,
    transport: &'static str,
}

/// SIPp's transports: one socket, one connection.
const UDP: &str = "u1";
const TCP: &str = "t1";

/// What SIPp must know of a server, while that may be killed.
struct Place {
    folder: PathBuf,
    sip: SocketAddr,
}

impl Place {
    fn of(server: &Server) -> Place {
        Place { folder: server.path("."), sip: server.sip }
    }
}

/// SIPp's side that calls 9002, sending to `towards`, which is roost or a relay before it.
fn call(server: &Place, towards: SocketAddr, load: &Load) -> Totals {
    let (statistics, errors) = (server.folder.join("uac.csv"), server.folder.join("uac.errors"));
    let mut sipp = Command::new("sipp");
    sipp.current_dir(&server.folder);
    sipp.arg(server.sip.to_string()).args(["-rsa", &towards.to_string(), "-t", load.transport]);
    sipp.args(["-sf", UAC, "-i", "127.0.0.1", "-p", &free_port().to_string(), "-key", "callee", "9002"]);
    sipp.args(["-m", &load.calls.to_string(), "-r", &load.rate.to_string(), "-l", &load.at_once.to_string()]);
    sipp.args(["-d", &load.talk_ms.to_string(), "-recv_timeout", IN_VAIN_MS]);
    sipp.args(["-timeout", "150s", "-timeout_error", "-nostdin"]);
    sipp.args(["-trace_stat", "-fd", "1", "-stf"]).arg(&statistics);
    sipp.args(["-trace_err", "-error_file"]).arg(&errors);
    let ran = run(sipp, Duration::from_secs(180));
    show_errors("caller", &errors);
    Totals::read(&statistics).unwrap_or_else(|| panic!("SIPp says nothing: {}", ran.stderr))
}

/// SIPp's side that is called as 9002. Dropping it kills it.
struct Callee {
    process: Child,
    statistics: PathBuf,
    errors: PathBuf,
    _relay: Option<Relay>,
}

impl Callee {
    /// Registered, at its own address or behind a relay with this loss and seed.
    fn start(server: &Server, network: Option<(u64, u64)>, transport: &str) -> Callee {
        need("sipp", "sip-tester");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let relay = network.map(|(loss, seed)| Relay::start(address, loss, seed));
        let param = if transport == TCP { ";transport=tcp" } else { "" };
        let contact = format!("9002@{}{param}", relay.as_ref().map_or(address, |relay| relay.address));

        let (statistics, errors) = (server.path("uas.csv"), server.path("uas.errors"));
        let mut sipp = Command::new("sipp");
        sipp.current_dir(server.path(".")).args(["-sf", UAS, "-key", "contact", &contact]);
        sipp.args(["-i", "127.0.0.1", "-p", &address.port().to_string(), "-recv_timeout", IN_VAIN_MS]);
        sipp.args(["-t", transport]);
        // It is killed; this is for the case that the test program is killed first.
        sipp.args(["-timeout", "300s", "-nostdin"]);
        sipp.args(["-trace_stat", "-fd", "1", "-stf"]).arg(&statistics);
        sipp.args(["-trace_err", "-error_file"]).arg(&errors);
        let process = sipp.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let callee = Callee { process: process.expect("sipp starts"), statistics, errors, _relay: relay };
        wait_for("SIPp's socket", PATIENCE, || is_bound(transport, address.port()).then_some(()));

        server.add_user("9002", "9002");
        let mut phone = server.phone("9002");
        phone.contact = format!("sip:{contact}");
        assert_eq!(phone.register(300).line(), "200 OK");
        callee
    }

    /// What became of all calls, once there is none left.
    fn ended(self) -> Totals {
        let totals = wait_for("the end of the callee's calls", Duration::from_secs(60), || {
            Totals::read(&self.statistics).filter(|totals| totals.current == 0)
        });
        show_errors("callee", &self.errors);
        totals
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether somebody has this port at 127.0.0.1; asking by a bind could take it from the one who wants it.
fn is_bound(transport: &str, port: u16) -> bool {
    let table = if transport == TCP { "/proc/net/tcp" } else { "/proc/net/udp" };
    let sockets = fs::read_to_string(table).expect("/proc");
    sockets.contains(&format!(" 0100007F:{port:04X} "))
}

fn show_errors(side: &str, file: &Path) {
    if let Ok(errors) = fs::read_to_string(file) {
        eprintln!("SIPp's errors as {side}: {errors:.4000}");
    }
}

/// What SIPp has counted since its start.
struct Totals {
    current: u64,
    succeeded: u64,
    failed: u64,
    /// Messages that its scenario did not foresee, in a call, after it and outside any.
    unexpected: u64,
    retransmissions: u64,
    elapsed: String,
}

impl Totals {
    /// From the last line of its statistics, once there is a whole one.
    fn read(statistics: &Path) -> Option<Totals> {
        let text = fs::read_to_string(statistics).ok()?;
        let mut rows = text.lines().map(|line| line.split(';').collect::<Vec<_>>());
        let names = rows.next()?;
        let values = rows.rfind(|row| row.len() == names.len())?;
        let totals: HashMap<&str, &str> = names.into_iter().zip(values).collect();
        let number = |name: &str| -> u64 {
            let value = totals.get(name).unwrap_or_else(|| panic!("SIPp counts no {name}: {text}"));
            value.parse().unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        Some(Totals {
            current: number("CurrentCall"),
            succeeded: number("SuccessfulCall(C)"),
            failed: number("FailedCall(C)"),
            unexpected: number("FailedUnexpectedMessage(C)")
                + number("OutOfCallMsgs(C)")
                + number("DeadCallMsgs(C)"),
            retransmissions: number("Retransmissions(C)"),
            elapsed: totals.get("ElapsedTime(C)").copied().unwrap_or_default().to_owned(),
        })
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} succeeded, {} failed, {} unexpected messages, {} retransmissions, {} under way, {}",
            self.succeeded, self.failed, self.unexpected, self.retransmissions, self.current, self.elapsed
        )
    }
}
