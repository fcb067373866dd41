//! The console under load: what its pages take to show, what it costs the server, whether its figures are the interface's,
//! and whether a browser that looks for hours grows.

use std::fmt::Display;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use roost_rig::phone::Phone;
use roost_rig::{free_port, kill_children, raise_descriptors};
use serde_json::Value;
use tempfile::TempDir;

use super::browser::Browser;
use super::server::{Binaries, FIRST, Place, Server};

/// Extensions, all registered.
const EXTENSIONS: u32 = 100_000;
/// Calls in progress all the time.
const CALLS: u32 = 2_000;
/// The first of those that talk, of those that refresh, and of those that call: further extensions.
const TALKING: u32 = FIRST + EXTENSIONS;
const REFRESHING: u32 = TALKING + 2 * CALLS;
const CALLING: u32 = REFRESHING + BUSY;
const BUSY: u32 = 4_000;
/// Refreshes and whole calls a second, by other extensions: half a thousand events.
const REFRESHES: u32 = 300;
const NEW_CALLS: u32 = 50;
/// Pages that are watched at once.
const WATCHED: [&str; 10] =
    ["/", "/", "/", "/calls", "/calls", "/calls", "/wall", "/wall", "/routes", "/extensions/100001"];
/// How long CPU is measured.
const MEASURED: Duration = Duration::from_secs(30);
/// How often a browser's heap is looked at, and what it may grow by in parts of a hundred, from the second tenth of the time
/// to the last.
const LOOKED_AT: Duration = Duration::from_secs(60);
const GROWTH: f64 = 10.0;

pub(super) fn run(minutes: u64) -> Result<()> {
    raise_descriptors(2 * u64::from(CALLS) + 2_000).map_err(anyhow::Error::msg)?;
    let binaries = Binaries::build()?;
    let dir = TempDir::with_prefix("roost-soak-")?;
    let console = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let place = Place::make(dir.path(), None, "", &format!("[console]\nlisten = \"{console}\""))?;
    // Calls are kept of who is known.
    let config = fs::read_to_string(place.file())?;
    fs::write(place.file(), config.replace("authorize = \"off\"", "authorize = \"registered\""))?;
    place.import_users(&binaries, CALLING + BUSY - FIRST)?;
    let server = Server::start(&binaries, &place)?;
    binaries.register_all(&place, EXTENSIONS, free_port())?;
    let _talking = talk(&place)?;
    eprintln!("    {EXTENSIONS} extensions registered, {CALLS} calls in progress");
    let seconds = 60 * minutes + 180;
    std::thread::scope(|scope| -> Result<()> {
        let load = |scenario: &'static str, rate: u32, first: u32| {
            let (binaries, place) = (&binaries, &place);
            scope.spawn(move || {
                let count = u64::from(rate) * seconds;
                let args: [(&str, &dyn Display); 7] = [
                    ("--users", &BUSY),
                    ("--expires", &36_000),
                    ("--first", &first),
                    ("--rate", &rate),
                    ("--count", &count),
                    ("--max-time", &seconds),
                    ("--warm-up", &0),
                ];
                binaries.load(place, scenario, &args)
            })
        };
        let refreshes = load("refresh", REFRESHES, REFRESHING);
        let calls = load("call", NEW_CALLS, CALLING);
        sleep(Duration::from_secs(10));
        let looked = look(&server, &place, console).and_then(|()| watch(console, minutes));
        if looked.is_err() {
            // The load would go on for as long as was asked.
            kill_children();
        }
        looked?;
        for (what, load) in [("refreshes", refreshes), ("calls", calls)] {
            let said = load.join().map_err(|_| anyhow!("the load failed"))??;
            let failed = said["failed"].as_u64().unwrap_or(1) + said["timed_out"].as_u64().unwrap_or(0);
            eprintln!("    {what}: {} done, {failed} failed, us: {}", said["ok"], said["latency_us"]);
            ensure!(failed == 0, "{what} failed");
        }
        Ok(())
    })?;
    server.stop()
}

/// Calls that last; they end with what is given back.
fn talk(place: &Place) -> Result<Vec<Phone>> {
    let mut phones = Vec::new();
    for number in 0..CALLS {
        let [mut caller, callee] = [0, 1].map(|side| {
            let user = (TALKING + 2 * number + side).to_string();
            let mut phone = Phone::new(place.sip.into(), &user, &user);
            phone.register(36_000);
            phone
        });
        caller.establish(&callee);
        phones.extend([caller, callee]);
    }
    Ok(phones)
}

/// What pages take, what they cost, and whether they say what the interface says.
fn look(server: &Server, place: &Place, console: SocketAddr) -> Result<()> {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let cpu = || -> Result<f64> {
        let before = server.cpu_us()?;
        sleep(MEASURED);
        Ok((server.cpu_us()? - before) as f64 / MEASURED.as_micros() as f64 * 100.0)
    };
    eprintln!("    no page open: {:.1} % of a core, {:.1} MiB", cpu()?, mib(server.pss()?));
    let get = |path: &str| -> Result<(Duration, String)> {
        let begun = Instant::now();
        let text = ureq::get(format!("http://{console}{path}")).call()?.body_mut().read_to_string()?;
        Ok((begun.elapsed(), text))
    };
    for path in [
        "/",
        "/extensions",
        "/extensions",
        "/extensions/rows?from=50000&count=60",
        "/extensions/rows?q=1234",
        "/calls",
        "/wall",
    ] {
        let (took, text) = get(path)?;
        eprintln!("    GET {path}: {} ms, {} KiB", took.as_millis(), text.len() >> 10);
    }
    let open: Vec<TcpStream> = WATCHED.iter().map(|page| watched(console, page)).collect::<Result<_>>()?;
    eprintln!("    {} pages watched: {:.1} % of a core, {:.1} MiB", open.len(), cpu()?, mib(server.pss()?));
    for stream in &open {
        // Its reader has a share of it.
        stream.shutdown(Shutdown::Both)?;
    }
    // Figures change all the time: each must stand between the interface's before and after.
    let talking = place.mi_with("get_statistics", &serde_json::json!([["dialog:active_dialogs"]]))?;
    let talking = talking["result"]["dialog:active_dialogs"].as_u64().unwrap_or(0);
    ensure!(talking >= u64::from(CALLS), "{talking} calls in progress instead of {CALLS}");
    let registered = |answer: Value| answer["result"]["usrloc:registered_users"].as_u64();
    let asked = || place.mi_with("get_statistics", &serde_json::json!([["usrloc:registered_users"]]));
    let before = registered(asked()?).context("no figure")?;
    let (_, page) = get("/")?;
    let after = registered(asked()?).context("no figure")?;
    let shown = page.split("data-figure=\"registered\">").nth(1).and_then(|rest| rest.split('<').next());
    let shown: u64 = shown.context("no figure")?.parse()?;
    eprintln!("    registered: {before} and {after} say the interface, {shown} says the page");
    ensure!((before.min(after)..=before.max(after)).contains(&shown), "another figure");
    Ok(())
}

/// A page whose changes are read for as long as the connection is kept.
fn watched(console: SocketAddr, page: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(console)?;
    write!(stream, "GET /live?page={page} HTTP/1.1\r\nHost: {console}\r\n\r\n")?;
    let mut reader = BufReader::new(stream.try_clone()?);
    std::thread::spawn(move || {
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
            line.clear();
        }
    });
    Ok(stream)
}

/// First paint, search, and the heap of a browser for each page over so many minutes.
fn watch(console: SocketAddr, minutes: u64) -> Result<()> {
    let pages = ["/", "/extensions", "/calls", "/wall"];
    let mut browsers = Vec::new();
    for page in pages {
        let browser = Browser::start()?;
        browser.go(&format!("http://{console}{page}"))?;
        sleep(Duration::from_secs(2));
        let paint = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime";
        let paint = browser.eval(paint)?.as_f64().unwrap_or(f64::NAN);
        eprintln!("    {page}: first paint after {paint:.0} ms");
        browsers.push((page, browser, Vec::new()));
    }
    if let Some((_, browser, _)) = browsers.get(1) {
        let took = browser.eval(SEARCH)?.as_f64().context("no search")?;
        eprintln!("    search as one types (with its pause of 120 ms): {took:.0} ms");
    }
    let begun = Instant::now();
    for minute in 0..=minutes {
        sleep((LOOKED_AT * minute as u32).saturating_sub(begun.elapsed()));
        for (_, browser, heaps) in &mut browsers {
            heaps.push(browser.heap()?);
        }
        if minute % 10 == 0 {
            let last: Vec<String> = browsers
                .iter()
                .map(|(page, _, all)| format!("{page} {:.0}", all[all.len() - 1] / 1024.0))
                .collect();
            eprintln!("    heaps after {minute} minutes, in KiB: {}", last.join(", "));
        }
    }
    for (page, _, heaps) in &browsers {
        let tenth = (heaps.len() / 10).max(1);
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let first = mean(heaps.get(tenth..2 * tenth).unwrap_or(heaps));
        let last = mean(&heaps[heaps.len() - tenth..]);
        let growth = (last / first - 1.0) * 100.0;
        eprintln!(
            "    {page}: {:.0} KiB at first, {:.0} KiB at last, {growth:+.1} %",
            first / 1024.0,
            last / 1024.0
        );
        ensure!(growth < GROWTH, "the heap of {page} grows");
    }
    Ok(())
}

/// Types a number and waits until its row alone is there.
const SEARCH: &str = "
    return (async () => {
        const begun = performance.now();
        const field = document.querySelector('#search');
        field.value = '150000';
        field.dispatchEvent(new Event('input'));
        while (document.querySelectorAll('.row').length !== 1) await new Promise((next) => setTimeout(next, 5));
        const took = performance.now() - begun;
        field.value = '';
        field.dispatchEvent(new Event('input'));
        return took;
    })()";
