//! Pings of many phones behind NAT: what they take, and how evenly they are spread.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use roost_rig::free_port;
use tempfile::TempDir;

use super::server::{Binaries, Place, Server};

/// How often each is pinged, in seconds, and for how long that is watched.
const INTERVAL_S: u64 = 30;
/// Bursts are counted in windows of this length, in milliseconds.
const WINDOW_MS: u128 = 10;

pub(super) fn run(count: u32) -> Result<()> {
    let binaries = Binaries::build()?;
    let dir = TempDir::with_prefix("roost-soak-")?;
    // These phones are where they say: all are pinged.
    let sections = format!("[nathelper]\nnatping_interval = {INTERVAL_S}\nping_nated_only = false\n");
    let place = Place::make(dir.path(), None, "", &sections)?;
    place.import_users(&binaries, count)?;
    let server = Server::start(&binaries, &place)?;
    let port = free_port();
    binaries.register_all(&place, count, port)?;
    let phones = UdpSocket::bind(("127.0.0.1", port))?;
    phones.set_read_timeout(Some(Duration::from_millis(100)))?;
    // A whole round first: until then their number has grown.
    answer_for(&phones, Duration::from_secs(INTERVAL_S))?;
    let before = server.cpu_us()?;
    let arrivals = answer_for(&phones, Duration::from_secs(INTERVAL_S))?;
    let cpu = server.cpu_us()? - before;
    let each = |window: u128| arrivals.iter().filter(|at| **at / WINDOW_MS == window).count();
    let largest = (0..=u128::from(INTERVAL_S) * 1_000 / WINDOW_MS).map(each).max().unwrap_or_default();
    eprintln!(
        "    {count} phones, one ping each in {INTERVAL_S} s: {} pings answered, at most {largest} within {WINDOW_MS} ms; {:.2} % of \
         a core, {:.1} us a ping with its answer",
        arrivals.len(),
        cpu as f64 / (INTERVAL_S as f64 * 10_000.0),
        cpu as f64 / arrivals.len() as f64
    );
    let wanted = count as usize;
    ensure!(arrivals.len().abs_diff(wanted) < wanted / 50, "{} pings instead of {wanted}", arrivals.len());
    ensure!(largest <= 40, "a burst of {largest}");
    server.stop()
}

/// Answers pings for so long; when each came, in milliseconds.
fn answer_for(phones: &UdpSocket, time: Duration) -> Result<Vec<u128>> {
    let (begun, mut bytes, mut arrivals) = (Instant::now(), [0; 2_048], Vec::new());
    while begun.elapsed() < time {
        let Ok((length, server)) = phones.recv_from(&mut bytes) else { continue };
        let text = String::from_utf8_lossy(&bytes[..length]);
        if let Some((_, rest)) = text.split_once("\r\n").filter(|(line, _)| line.starts_with("OPTIONS ")) {
            arrivals.push(begun.elapsed().as_millis());
            phones.send_to(format!("SIP/2.0 200 OK\r\n{rest}").as_bytes(), server)?;
        }
    }
    Ok(arrivals)
}
