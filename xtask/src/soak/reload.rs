//! Reloads and upgrades under load: every second file is broken, every upgrade takes a moment, and no call and no registration fails.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::server::{Binaries, Place, Server};

const USERS: u32 = 4_000;
/// Operations a second.
const REGISTERS: u32 = 2_000;
const CALLS: u32 = 200;

/// What memory may grow by from when the first transactions are forgotten to the end, in parts of a hundred.
const GROWTH: u64 = 5;

/// Reloads, so many.
pub(super) fn run(count: u32) -> Result<()> {
    // As long as the reloads may take, and a little longer.
    let seconds = u64::from(count) / 20 + 15;
    let ((first_pss, reloads), server, _dir) =
        under_load(seconds, |place, server| reload(place, server, count))?;
    let pss = server.pss()?;
    eprintln!(
        "    {reloads} reloads; memory {:.1} MiB after seven tenths of them, {:.1} MiB afterwards",
        mib(first_pss),
        mib(pss)
    );
    ensure!(pss <= first_pss + first_pss * GROWTH / 100, "memory has grown");
    server.stop()
}

/// Upgrades to the same binary, so many, five seconds apart.
pub(super) fn upgrades(count: u32) -> Result<()> {
    let seconds = u64::from(count) * 5 + 20;
    let (longest, server, _dir) = under_load(seconds, |place, _| {
        let mut longest = Duration::ZERO;
        for number in 0..count {
            let begun = Instant::now();
            let outcome = place.mi("upgrade").context("the management interface")?;
            ensure!(outcome["error"].is_null(), "upgrade {number}: {outcome}");
            sleep(Duration::from_millis(50));
            while place.mi("uptime").is_err() {
                sleep(Duration::from_millis(5));
                ensure!(begun.elapsed() < Duration::from_secs(30), "it does not come back");
            }
            longest = longest.max(begun.elapsed());
            sleep(Duration::from_secs(5).saturating_sub(begun.elapsed()));
        }
        Ok(longest)
    })?;
    eprintln!(
        "    {count} upgrades; the longest took {} ms until the interface answered again",
        longest.as_millis()
    );
    server.stop()
}

/// Does something while phones refresh and call; none of them may fail. The server goes on.
fn under_load<T: Send>(
    seconds: u64,
    work: impl FnOnce(&Place, &Server) -> Result<T> + Send,
) -> Result<(T, Server, TempDir)> {
    let binaries = Binaries::build()?;
    let dir = TempDir::with_prefix("roost-soak-")?;
    let place = Place::make(dir.path(), None, "", "")?;
    place.import_users(&binaries, 2 * USERS)?;
    let server = Server::start(&binaries, &place)?;
    let done = std::thread::scope(|scope| -> Result<_> {
        let load = |scenario: &'static str, rate: u32, first: u32| {
            let (binaries, place) = (&binaries, &place);
            scope.spawn(move || {
                binaries.load(
                    place,
                    scenario,
                    &[
                        ("--users", &USERS),
                        ("--first", &(super::server::FIRST + first)),
                        ("--rate", &rate),
                        ("--count", &(u64::from(rate) * seconds)),
                        ("--max-time", &seconds),
                        ("--warm-up", &0),
                    ],
                )
            })
        };
        let registers = load("refresh", REGISTERS, 0);
        let calls = load("call", CALLS, USERS);
        // Both begin by registering their phones.
        sleep(Duration::from_secs(6));
        let done = work(&place, &server)?;
        for (what, load) in [("registrations", registers), ("calls", calls)] {
            let said = load.join().map_err(|_| anyhow!("the load failed"))??;
            check(what, &said)?;
        }
        Ok(done)
    })?;
    Ok((done, server, dir))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn check(what: &str, said: &Value) -> Result<()> {
    let number = |name: &str| said[name].as_u64().unwrap_or(0);
    let failed = number("failed") + number("timed_out");
    eprintln!("    {what}: {} done, {failed} failed; microseconds: {}", number("ok"), said["latency_us"]);
    ensure!(failed == 0 && number("ok") > 0, "{what} failed: {said}");
    Ok(())
}

/// Reloads so often, each second time from a broken file; memory after seven tenths of them, and how many there were.
fn reload(place: &Place, server: &Server, count: u32) -> Result<(u64, u32)> {
    let file = place.file();
    let good = fs::read_to_string(&file)?;
    let (begun, mut pss) = (Instant::now(), 0);
    for number in 0..count {
        let is_broken = number % 2 == 1;
        let text = match is_broken {
            true => format!("{good}\n[registrar]\nmax_expires = 1\n"),
            false => good.replace("max_expires = 36000", &format!("max_expires = {}", 36_000 - number)),
        };
        fs::write(&file, text)?;
        // The server reads it whether or not the command line could.
        let outcome = place.mi("reload").context("the management interface")?;
        ensure!(outcome["error"].is_object() == is_broken, "reload {number}: {outcome}");
        if number == count * 7 / 10 {
            pss = server.pss()?;
        }
        let due = Duration::from_millis(50) * (number + 1);
        sleep(due.saturating_sub(begun.elapsed()));
    }
    fs::write(&file, good)?;
    Ok((pss, count))
}
