//! The world around the binary under test: a folder, a server, the command line, phones, MI.

// Every test program compiles this module for itself and uses a part of it.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod baresip;
mod call;
mod database;
mod dns;
mod edge;
mod kamailio;
pub mod md5;
mod media;
mod mi;
mod phone;
mod random;
mod relay;
mod server;
mod stream;
mod tcp_relay;

use std::env;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use baresip::{Answers, Baresip};
pub use call::{
    A_WHILE, Dialog, Message, ack_of_failure, cancel_of, with_body, without_first_via, without_our_lines,
    without_source,
};
pub use database::{ALL_KINDS, Database, Kind, SERVERS};
pub use dns::NameServer;
pub use edge::{Edge, hidden_contact};
pub use kamailio::Kamailio;
pub use media::MediaServer;
pub use mi::{HttpReply, http, post};
pub use phone::{ALLOW, Challenge, Phone, Response, USER_AGENT, digest, header, token};
pub use random::Random;
pub use relay::Relay;
pub use server::{Log, Ran, Server, roost, run, wait_for_end};
pub use stream::TcpPhone;
pub use tcp_relay::TcpRelay;

/// How long anything may take that does not fail.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until there is an answer. The only place where a test idles.
pub fn wait_for<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {patience:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Where a program is. Never skips: a black-box test that did not run must not look like one that passed.
pub fn need(command: &str, package: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    // Servers stand where only root's PATH leads.
    let folders = env::split_paths(&path).chain(["/usr/sbin".into()]).chain(postgres_folders());
    let found = folders.map(|folder| folder.join(command)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{command} is missing: install Debian package {package}"))
}

/// Debian's PostgreSQL has a folder for each version, which no PATH names.
fn postgres_folders() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    versions.map(|version| version.path().join("bin")).collect()
}

/// A figure for whoever runs the tests: goes around the capturing of test output.
pub fn report(figure: &str) {
    let mut stderr = std::io::stderr();
    let _ = writeln!(stderr, "{figure}");
}

/// A port that is free for UDP and TCP at 127.0.0.1, and the next one too (baresip takes it for TLS).
///
/// Taken from below the kernel's ephemeral ports, so that no client's socket takes it before the server does.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 10_240;
    const PAIRS: u32 = 10_000;
    loop {
        let pair = std::process::id().wrapping_mul(61).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = (FIRST + pair % PAIRS * 2) as u16;
        let free = |port: u16| {
            UdpSocket::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok()
        };
        if free(port) && free(port + 1) {
            return port;
        }
    }
}
