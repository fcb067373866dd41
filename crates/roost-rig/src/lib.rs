//! What tests and benchmarks stand on: programs of the machine, free ports, what a process says, database servers of
//! their own. Development only; whatever is missing ends it with the remedy.

mod database;

use std::env;
use std::io::{BufRead as _, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub use database::{ALL_KINDS, Database, Kind, SERVERS};

/// How long anything may take that does not fail.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until there is an answer. The only place where a test idles.
///
/// # Panics
/// When there was none in time.
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
///
/// # Panics
/// When it is nowhere.
pub fn need(command: &str, package: &str) -> PathBuf {
    find(command).unwrap_or_else(|| panic!("{command} is missing: install Debian package {package}"))
}

/// Where a program is, on PATH or where Debian puts servers.
pub fn find(command: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Servers stand where only root's PATH leads.
    let folders = env::split_paths(&path).chain(["/usr/sbin".into()]).chain(postgres_folders());
    folders.map(|folder| folder.join(command)).find(|file| file.is_file())
}

/// Debian's PostgreSQL has a folder for each version, which no PATH names.
fn postgres_folders() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    versions.map(|version| version.path().join("bin")).collect()
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

/// The lines of one or more streams, collected by threads while they come.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Takes a stream's lines, in a thread, until it ends.
    pub fn follow(&self, stream: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n') {
                let Ok(line) = line else { return };
                log.0.lock().expect("the log").push(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }

    /// All lines so far.
    pub fn text(&self) -> String {
        self.0.lock().expect("the log").iter().map(|line| format!("{line}\n")).collect()
    }

    /// How many there are.
    pub fn lines(&self) -> usize {
        self.0.lock().expect("the log").len()
    }

    /// How often it has said `ready` as a word: "address already in use" is something else.
    pub fn times_ready(&self) -> usize {
        let is_ready =
            |line: &&String| line.split(|c: char| !c.is_alphanumeric()).any(|word| word == "ready");
        self.0.lock().expect("the log").iter().filter(is_ready).count()
    }
}
