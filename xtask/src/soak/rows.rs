//! Starts with a large table.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use roost_rig::{Database, free_port};
use tempfile::TempDir;

use super::server::{Binaries, FIRST, Place, Server};
use crate::bench::Store;
use crate::tools;

/// How long a start may take at worst.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn run(count: u32, stores: &[Store]) -> Result<()> {
    let binaries = Binaries::build()?;
    if stores.iter().any(|store| *store != Store::Sqlite) {
        tools::have_debian_packages()?;
    }
    for store in stores {
        measure(&binaries, count, *store)?;
    }
    Ok(())
}

fn measure(binaries: &Binaries, count: u32, store: Store) -> Result<()> {
    let dir = TempDir::with_prefix("roost-soak-")?;
    let database = store.start();
    let url = database.as_ref().map(Database::url);
    let place = Place::make(dir.path(), url.as_deref(), "", "[auth_db]\npreload = 2000000\n")?;
    place.import_users(binaries, count)?;

    // The rows are those of phones that have registered.
    let phones = free_port();
    let server = Server::start(binaries, &place)?;
    let pss_empty = server.pss()?;
    binaries.register_all(&place, count, phones)?;
    let pss_registered = server.pss()?;
    server.stop()?;

    // An early one in the order of reading cannot be named from outside: any one, and the time until it rings.
    let phone = UdpSocket::bind(("127.0.0.1", phones))?;
    phone.set_read_timeout(Some(Duration::from_millis(5)))?;
    let begun = Instant::now();
    let server = Server::spawn(binaries, &place)?;
    let callees = [FIRST, FIRST + count / 2, FIRST + count - 1];
    let mut rang = Vec::new();
    for callee in callees {
        rang.push(call(&phone, &place, callee, begun)?);
    }
    let loaded = loop {
        let text = server.log.text();
        if let Some(line) = text.lines().find(|line| line.contains("location loaded")) {
            break line.split("location loaded").nth(1).unwrap_or_default().trim().to_owned();
        }
        ensure!(begun.elapsed() < PATIENCE, "location was not read within {PATIENCE:?}:\n{text}");
        std::thread::sleep(Duration::from_millis(20));
    };
    ensure!(loaded.contains(&format!("rows={count}")), "{loaded}: {count} rows were expected");
    let each = |pss: u64| pss.saturating_sub(pss_empty) / u64::from(count);
    eprintln!(
        "    {store:?}: location loaded {loaded}; calls delivered {rang:.3?} s after the start, no 404; \
         {} bytes a binding after registering, {} after loading",
        each(pss_registered),
        each(server.pss()?),
    );
    server.stop()
}

/// Calls an extension until its phone rings; seconds since `begun`. A 404 meanwhile is an error.
fn call(phone: &UdpSocket, place: &Place, callee: u32, begun: Instant) -> Result<f64> {
    let caller = UdpSocket::bind("127.0.0.1:0")?;
    caller.set_nonblocking(true)?;
    let from = caller.local_addr()?;
    let invite = format!(
        "INVITE sip:{callee}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{callee};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:caller@127.0.0.1>;tag=1\r\nTo: <sip:{callee}@127.0.0.1>\r\n\
         Call-ID: first-{callee}\r\nCSeq: 1 INVITE\r\nContact: <sip:caller@{from}>\r\nContent-Length: 0\r\n\r\n"
    );
    let mut bytes = [0; 4_096];
    while begun.elapsed() < PATIENCE {
        // Nobody listens yet: the system may say so.
        let _ = caller.send_to(invite.as_bytes(), place.sip);
        if let Ok((length, _)) = phone.recv_from(&mut bytes)
            && bytes[..length].starts_with(format!("INVITE sip:{callee}@").as_bytes())
        {
            return Ok(begun.elapsed().as_secs_f64());
        }
        while let Ok((length, _)) = caller.recv_from(&mut bytes) {
            let line = String::from_utf8_lossy(&bytes[..length.min(60)]);
            let line = line.lines().next().unwrap_or_default();
            ensure!(!line.contains(" 404 "), "a wrong 404: {callee} is registered");
            // Too long in waiting: a new call.
            ensure!(line.starts_with("SIP/2.0 1") || line.contains(" 503 "), "{callee}: {line}");
        }
    }
    bail!("{callee} did not ring within {PATIENCE:?}")
}
