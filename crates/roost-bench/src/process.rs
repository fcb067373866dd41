//! What /proc tells of a server: CPU and memory of its whole process tree, and the kernel's drops at its port.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// How long a server may take to answer the first request.
const START: Duration = Duration::from_secs(60);
/// How long it may take to end.
const END: Duration = Duration::from_secs(20);

/// How long the kernel may take to end what was killed.
const KILLED: Duration = Duration::from_secs(2);

/// CPU time used, in µs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Cpu {
    /// Counted in ticks of 10 ms.
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    /// Both together as the scheduler knows it, exact but without what has ended.
    pub(crate) exact_us: f64,
}

impl Cpu {
    /// What was used since `earlier`: exact in sum, its parts in the proportion of the ticks.
    pub(crate) fn since(self, earlier: Cpu) -> Cpu {
        let (user_us, system_us) = (self.user_us - earlier.user_us, self.system_us - earlier.system_us);
        let (ticks_us, exact_us) = (user_us + system_us, self.exact_us - earlier.exact_us);
        // A thread or process that has ended took its exact time with it; the ticks are still there.
        let has_lost = ticks_us > exact_us * 1.05 + 4.0 * tick_us();
        let total_us = if has_lost { ticks_us } else { exact_us };
        let user_share = if ticks_us > 0.0 { user_us / ticks_us } else { 0.0 };
        Cpu { user_us: total_us * user_share, system_us: total_us * (1.0 - user_share), exact_us: total_us }
    }

    pub(crate) fn total_us(self) -> f64 {
        self.user_us + self.system_us
    }
}

/// The CPU of a process and all its descendants; what its children used that have ended counts in ticks.
pub(crate) fn cpu(root: u32) -> Cpu {
    let mut sum = Cpu::default();
    for pid in tree(root) {
        if let Some(stat) = stat(pid) {
            sum.user_us += stat.user_ticks as f64 * tick_us();
            sum.system_us += stat.system_ticks as f64 * tick_us();
            sum.exact_us += exact_us(pid);
        }
    }
    sum
}

/// The time that the threads of a process have run.
fn exact_us(pid: u32) -> f64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0.0 };
    let ran_ns = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    ran_ns.sum::<f64>() / 1000.0
}

fn tick_us() -> f64 {
    match sysconf(SysconfVar::CLK_TCK) {
        Ok(Some(per_s)) if per_s > 0 => 1e6 / per_s as f64,
        _ => 10_000.0,
    }
}

/// The proportional memory of a process and its descendants, in bytes; none where /proc does not tell.
pub(crate) fn pss(root: u32) -> Option<u64> {
    let mut sum = None;
    for pid in tree(root) {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { continue };
        let kib: Option<u64> = text
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .and_then(|value| value.split_whitespace().next()?.parse().ok());
        sum = kib.map(|kib| sum.unwrap_or(0) + kib * 1024).or(sum);
    }
    sum
}

/// Datagrams that the kernel dropped because a socket of this port was full.
pub(crate) fn udp_drops(port: u16) -> u64 {
    let mut text = fs::read_to_string("/proc/net/udp").unwrap_or_default();
    text += &fs::read_to_string("/proc/net/udp6").unwrap_or_default();
    drops_in(&text, port)
}

fn drops_in(table: &str, port: u16) -> u64 {
    let drops = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (_, hex) = fields.nth(1)?.split_once(':')?;
        (u16::from_str_radix(hex, 16) == Ok(port)).then(|| fields.last()?.parse::<u64>().ok()).flatten()
    });
    drops.sum()
}

/// The generator's own CPU, in µs.
pub(crate) fn own_cpu_us() -> f64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return 0.0 };
    let us = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 * 1e6 + time.tv_usec() as f64;
    us(usage.user_time()) + us(usage.system_time())
}

/// The process of this name that no other process of the name has started.
///
/// # Errors
/// When there is none, or several.
pub(crate) fn find(name: &str) -> Result<u32> {
    // The kernel keeps 15 bytes of a name.
    let kept: String = name.chars().take(15).collect();
    let named: HashMap<u32, Stat> = all_pids()
        .into_iter()
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .filter(|(_, s)| s.name == kept)
        .collect();
    let mut roots: Vec<u32> =
        named.iter().filter(|(_, stat)| !named.contains_key(&stat.parent)).map(|(pid, _)| *pid).collect();
    roots.sort_unstable();
    match roots[..] {
        [pid] => Ok(pid),
        [] => bail!("no process is named {name}: give its number with --server-pid"),
        _ => bail!("several processes are named {name} ({roots:?}): choose one with --server-pid"),
    }
}

/// Checks that a process is there.
///
/// # Errors
/// When it is not.
pub(crate) fn must_exist(pid: u32) -> Result<u32> {
    ensure!(stat(pid).is_some(), "there is no process {pid}");
    Ok(pid)
}

struct Stat {
    name: String,
    is_zombie: bool,
    parent: u32,
    group: u32,
    user_ticks: u64,
    system_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc_pid_stat(5); the name may hold blanks and brackets.
fn parse_stat(text: &str) -> Option<Stat> {
    let (name, rest) = (text.find('(')?, text.rfind(')')?);
    let fields: Vec<&str> = text.get(rest + 1..)?.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        name: text.get(name + 1..rest)?.to_owned(),
        is_zombie: *fields.first()? == "Z",
        parent: number(1)? as u32,
        group: number(2)? as u32,
        user_ticks: number(11)? + number(13)?,
        system_ticks: number(12)? + number(14)?,
    })
}

fn all_pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in all_pids() {
        if let Some(stat) = stat(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let (mut found, mut at) = (vec![root], 0);
    while let Some(pid) = found.get(at) {
        found.extend(children.get(pid).into_iter().flatten());
        at += 1;
    }
    found
}

/// A server of ours; it ends with this value.
#[derive(Debug)]
pub(crate) struct Spawned(Child);

impl Spawned {
    /// Starts a command line, in a process group of its own, and waits until `probe` is answered at `server`.
    ///
    /// # Errors
    /// When it ends, or does not answer in time.
    pub(crate) fn start(
        command: &str,
        server: SocketAddrV4,
        probe: &[u8],
        stop: &crate::stop::Stop,
    ) -> Result<Spawned> {
        let socket = UdpSocket::bind((*server.ip(), 0)).or_else(|_| UdpSocket::bind("0.0.0.0:0"))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        ensure!(!answers(&socket, server, probe), "something answers at {server} already: stop it first");
        let child = Command::new("sh")
            .args(["-c", &format!("exec {command}")])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run sh")?;
        let mut spawned = Spawned(child);
        let mut errors = spawned.0.stderr.take().context("no standard error")?;
        // What it says is read all the time, so that it never waits for us, and shown if it fails.
        let said = std::thread::spawn(move || {
            let mut text = Vec::new();
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = errors.read(&mut chunk) {
                if text.len() < 1 << 16 {
                    text.extend_from_slice(&chunk[..count]);
                }
            }
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let start = Instant::now();
        while !answers(&socket, server, probe) {
            if let Some(status) = spawned.0.try_wait()? {
                bail!("`{command}` ended with {status}: {}", said.join().unwrap_or_default());
            }
            ensure!(!stop.is_wanted(), "interrupted");
            ensure!(
                start.elapsed() < START,
                "`{command}` did not answer at {server} for {} s",
                START.as_secs()
            );
        }
        Ok(spawned)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0.id() as i32);
        let _ = kill(pid, Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < END && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // The group is ours alone; nothing of it stays behind.
        let _ = killpg(pid, Signal::SIGKILL);
        let _ = self.0.wait();
        let start = Instant::now();
        while start.elapsed() < KILLED && group_lives(self.0.id()) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether a process of this group still holds its sockets.
fn group_lives(group: u32) -> bool {
    all_pids().into_iter().filter_map(stat).any(|stat| stat.group == group && !stat.is_zombie)
}

/// Whether anything comes back for `probe`, within the socket's timeout.
fn answers(socket: &UdpSocket, server: SocketAddrV4, probe: &[u8]) -> bool {
    let start = Instant::now();
    if socket.send_to(probe, server).is_err() {
        return false;
    }
    let answered = socket.recv(&mut [0; 4096]).is_ok();
    // A refused port fails at once: go on asking at the same pace.
    std::thread::sleep(Duration::from_millis(if answered { 0 } else { 20 }).saturating_sub(start.elapsed()));
    answered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines() {
        let text = "42 (a (b) c) S 7 41 42 0 -1 4194560 100 200 0 0 11 12 13 14 20 0 1 0 100 1000 10 1";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent, stat.group), ("a (b) c", 7, 41));
        assert!(!stat.is_zombie);
        assert_eq!((stat.user_ticks, stat.system_ticks), (24, 26));
        assert!(parse_stat("nonsense").is_none());
    }

    #[test]
    fn exact_time_counts_unless_something_has_ended() {
        let cpu = |user_us, system_us, exact_us| Cpu { user_us, system_us, exact_us };
        let used = cpu(30_000.0, 20_000.0, 45_000.0).since(cpu(10_000.0, 10_000.0, 21_000.0));
        assert_eq!((used.total_us(), used.user_us), (24_000.0, 16_000.0));
        let ended = cpu(900_000.0, 100_000.0, 200_000.0).since(cpu(0.0, 0.0, 0.0));
        assert_eq!(ended.total_us(), 1_000_000.0);
        assert_eq!(cpu(0.0, 0.0, 3000.0).since(Cpu::default()).total_us(), 3000.0);
    }

    #[test]
    fn drops_of_a_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode ref pointer drops\n\
                     1: 0100007F:13C4 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 2 0 5\n\
                     2: 00000000:13C4 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 2 2 0 7\n\
                     3: 0100007F:13C5 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 3 2 0 9\n";
        assert_eq!(drops_in(table, 5060), 12);
        assert_eq!(drops_in(table, 5062), 0);
    }

    #[test]
    fn this_process_is_measured() {
        let own = std::process::id();
        assert!(pss(own).unwrap() > 100_000);
        assert!(must_exist(own).is_ok());
        let (exact, own) = (cpu(own).exact_us, own_cpu_us());
        assert!(exact > 0.0 && own > 0.0, "{exact} {own}");
    }
}
