//! What tests and benchmarks stand on: programs of the machine, free ports, what a process says, database servers of
//! their own, phones by hand. Development only; whatever is missing ends it with the remedy.

pub mod call;
mod database;
pub mod line;
pub mod md5;
pub mod phone;
pub mod random;
mod redis;

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub use database::{ALL_KINDS, Database, Kind, SERVERS};
pub use redis::{Redis, RedisCluster, Sentinels};

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

/// Sees to it that this process may have so many files and sockets open.
///
/// # Errors
/// When it may not; the text names the remedy.
pub fn raise_descriptors(wanted: u64) -> Result<(), String> {
    let told =
        |error| format!("{wanted} open files are needed: run it as root, or raise ulimit -n ({error})");
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(told)?;
    match soft >= wanted {
        true => Ok(()),
        false => setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).map_err(told),
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
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
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

/// Kills a process and its children by SIGKILL, and waits until the last of them has ended.
///
/// # Panics
/// When one does not end.
pub fn kill_all(mut process: Child) {
    let pids = family(process.id());
    signal_all(&pids, "KILL");
    let _ = process.wait();
    // What had it as its parent has another one now, and ends on its own.
    let is_there = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    wait_for("the end of its processes", PATIENCE, || (!pids.iter().any(is_there)).then_some(()));
}

/// Kills what this process has started and still runs.
pub fn kill_children() {
    let own = std::process::id();
    let children: Vec<u32> = family(own).into_iter().filter(|pid| *pid != own).collect();
    signal_all(&children, "KILL");
}

/// A process and its children.
fn family(pid: u32) -> Vec<u32> {
    // Each thread has its own.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let children: Vec<String> = children.collect();
    let children = children.iter().flat_map(|children| children.split_whitespace());
    children.filter_map(|child| child.parse().ok()).chain([pid]).collect()
}

/// Sends a process and its children a signal by its name, such as `STOP`.
pub fn signal(pid: u32, signal: &str) {
    signal_all(&family(pid), signal);
}

/// Sends all of them a signal by its name, such as `STOP`.
fn signal_all(pids: &[u32], signal: &str) {
    let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    // The shell's own kill: there may be no other in a small container.
    let line = format!("for p in {pids}; do kill -{signal} $p; done");
    let _ = Command::new("sh").args(["-c", &line]).stderr(Stdio::null()).status();
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
