//! SIPp registers ten thousand extensions with digest, twice over, in write-through: not one may fail.

use std::fs;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::support::{Server, free_port, need, report, run};
use serde_json::json;

const EXTENSIONS: u32 = 10_000;
const FIRST: u32 = 100_000;
/// Both tests want the whole machine.
static MACHINE: Mutex<()> = Mutex::new(());
const SCENARIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sipp/register.xml");

#[test]
fn sipp_registers_ten_thousand_extensions_twice() {
    twice("u1");
}

#[test]
fn sipp_registers_ten_thousand_extensions_twice_over_tcp() {
    twice("t1");
}

/// `transport` is SIPp's: one socket, or one connection.
fn twice(transport: &str) {
    need("sipp", "sip-tester");
    let machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut server = Server::prepared("", "");
    server.add_users(FIRST, EXTENSIONS);
    write_extensions(&server);
    server.start();
    // One port for both rounds: the second finds its bindings and refreshes them.
    let port = free_port();
    for round in ["first", "second"] {
        let figures = sipp(&server, transport, port, round);
        report(&format!(
            "SIPp, {transport}, {round} round: {} registered, {} failed, {} retransmissions, {}",
            figures.registered, figures.failed, figures.retransmissions, figures.elapsed
        ));
        assert_eq!((figures.registered, figures.failed), (u64::from(EXTENSIONS), 0));
        assert_eq!(server.rows(None), i64::from(EXTENSIONS), "rows after the {round} round");
    }
    let dump = server.mi("ul_dump", json!({"brief": 1})).expect("a dump");
    let listed = dump["Domains"][0]["AORs"].as_array().map(Vec::len);
    assert_eq!(listed, Some(EXTENSIONS as usize), "AORs in the dump");
    drop(machine);
}

struct Figures {
    registered: u64,
    failed: u64,
    retransmissions: u64,
    elapsed: String,
}

/// SIPp's file of values: one line for each call, taken in order.
fn write_extensions(server: &Server) {
    let mut lines = vec!["SEQUENTIAL\n".to_owned()];
    for user in FIRST..FIRST + EXTENSIONS {
        lines.push(format!("{user};[authentication username={user} password={user}]\n"));
    }
    fs::write(server.path("extensions.csv"), lines.concat()).expect("extensions.csv");
}

/// One round of all extensions, 2,000 new ones a second at most.
fn sipp(server: &Server, transport: &str, port: u16, round: &str) -> Figures {
    let (statistics, errors) =
        (server.path(&format!("{round}.csv")), server.path(&format!("{round}.errors")));
    let mut sipp = Command::new("sipp");
    sipp.current_dir(server.path("."));
    sipp.arg(server.sip.to_string()).args(["-sf", SCENARIO, "-inf", "extensions.csv"]);
    sipp.args(["-t", transport, "-i", "127.0.0.1", "-p", &port.to_string()]);
    sipp.args(["-m", &EXTENSIONS.to_string(), "-r", "2000", "-l", "500"]);
    sipp.args(["-timeout", "120s", "-timeout_error", "-nostdin"]);
    sipp.args(["-trace_stat", "-fd", "1", "-stf"]).arg(&statistics);
    sipp.args(["-trace_err", "-error_file"]).arg(&errors);
    let ran = run(sipp, Duration::from_secs(150));
    if ran.code != Some(0) {
        let errors = fs::read_to_string(&errors).unwrap_or_default();
        let screen: Vec<&str> = ran.stdout.lines().rev().take(30).collect();
        eprintln!("SIPp's errors: {:.4000}\nits screen, last line first: {screen:#?}", errors);
    }
    parse(&fs::read_to_string(&statistics).unwrap_or_else(|error| panic!("{error}: {}", ran.stderr)))
}

/// The last line of the statistics has the totals in the columns with (C), for cumulative.
fn parse(statistics: &str) -> Figures {
    let names: Vec<&str> = statistics.lines().next().unwrap_or_default().split(';').collect();
    let totals: Vec<&str> = statistics.lines().last().unwrap_or_default().split(';').collect();
    let total = |name: &str| {
        let column = names.iter().position(|column| *column == name);
        let value = column.and_then(|column| totals.get(column));
        (*value.unwrap_or_else(|| panic!("SIPp counts no {name}: {statistics}"))).to_owned()
    };
    let number = |name: &str| total(name).parse::<u64>().unwrap_or_else(|error| panic!("{name}: {error}"));
    Figures {
        registered: number("SuccessfulCall(C)"),
        failed: number("FailedCall(C)"),
        retransmissions: number("Retransmissions(C)"),
        elapsed: total("ElapsedTime(C)"),
    }
}
