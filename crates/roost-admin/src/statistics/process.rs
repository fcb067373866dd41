//! What the kernel knows of the process: its threads and their load, its memory, what waits on its sockets.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use procfs::process::Process;
use procfs::{Current as _, ProcResult};
use roost_core::{Listener, Transport};

/// Samples that are kept: one a second, for ten minutes.
const KEPT: usize = 601;
/// The first thread of a worker has this name, and a number behind it.
const WORKER: &str = "roost-worker";

/// A thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thread {
    /// From 0: the one that started.
    pub(crate) id: usize,
    /// The kernel's number of it.
    pub(crate) tid: i32,
    pub(crate) name: String,
    /// CPU time in ticks.
    ticks: u64,
}

/// All threads, the first one first.
pub(crate) fn threads() -> ProcResult<Vec<Thread>> {
    let mut tasks: Vec<(i32, String, u64)> = Vec::new();
    for task in Process::myself()?.tasks()? {
        // One may end meanwhile.
        if let Ok(stat) = task.and_then(|task| task.stat()) {
            tasks.push((stat.pid, stat.comm, stat.utime + stat.stime));
        }
    }
    tasks.sort_unstable();
    let number = |(id, (tid, name, ticks))| Thread { id, tid, name, ticks };
    Ok(tasks.into_iter().enumerate().map(number).collect())
}

/// What the threads did, second by second.
#[derive(Debug, Default)]
pub(crate) struct Load(VecDeque<(Instant, Vec<Thread>)>);

impl Load {
    /// Takes a sample; every second.
    pub(crate) fn sample(&mut self) {
        if let Ok(threads) = threads() {
            self.0.push_back((Instant::now(), threads));
        }
        while self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// Names and values of the group `load:`.
    pub(crate) fn figures(&self) -> Vec<(String, u64)> {
        let Some((_, now)) = self.0.back() else { return Vec::new() };
        let mut all = vec![("load:processes_number".to_string(), now.len() as u64)];
        for (word, samples) in [("load", 1), ("load1m", 60), ("load10m", 600)] {
            let loads = self.since(samples);
            let of = |threads: &mut dyn Iterator<Item = &Thread>| {
                let loads: Vec<f64> = threads.filter_map(|thread| loads.get(&thread.tid)).copied().collect();
                if loads.is_empty() {
                    0
                } else {
                    (loads.iter().sum::<f64>() / loads.len() as f64).round() as u64
                }
            };
            all.push((
                format!("load:{word}"),
                of(&mut now.iter().filter(|thread| thread.name.starts_with(WORKER))),
            ));
            all.push((format!("load:{word}-all"), of(&mut now.iter())));
            for thread in now {
                all.push((format!("load:{word}-proc-{}", thread.id), of(&mut std::iter::once(thread))));
            }
        }
        all
    }

    /// How busy each thread was since so many samples ago, in percent of the time.
    fn since(&self, samples: usize) -> HashMap<i32, f64> {
        let then = self.0.len().saturating_sub(samples + 1);
        let (Some((now_at, now)), Some((then_at, then))) = (self.0.back(), self.0.get(then)) else {
            return HashMap::new();
        };
        let seconds = now_at.duration_since(*then_at).as_secs_f64();
        let before: HashMap<i32, u64> = then.iter().map(|thread| (thread.tid, thread.ticks)).collect();
        let busy = |thread: &Thread| {
            let ticks = thread.ticks.saturating_sub(before.get(&thread.tid).copied().unwrap_or(0));
            let percent = 100.0 * ticks as f64 / procfs::ticks_per_second() as f64 / seconds.max(0.01);
            (thread.tid, percent.min(100.0))
        };
        if seconds == 0.0 { HashMap::new() } else { now.iter().map(busy).collect() }
    }
}

/// Names and values of the groups `shmem:` and `pkmem:`.
///
/// # Errors
/// When the kernel does not say.
pub(crate) fn memory() -> ProcResult<Vec<(String, u64)>> {
    let process = Process::myself()?;
    let status = process.status()?;
    let bytes = |kilobytes: Option<u64>| kilobytes.unwrap_or(0) * 1024;
    let (resident, peak) = (bytes(status.vmrss), bytes(status.vmhwm));
    let anonymous = bytes(status.rssanon);
    let machine = procfs::Meminfo::current()?.mem_total;
    let total = control_group_limit(&process).map_or(machine, |limit| limit.min(machine));
    let mappings = process.maps()?.len() as u64;
    let figures = [
        ("total_size", total),
        ("used_size", anonymous),
        ("real_used_size", resident),
        ("max_used_size", peak),
        ("free_size", total.saturating_sub(resident)),
        ("fragments", mappings),
    ];
    // All threads share one memory: it is process 0's.
    let shared = figures.iter().map(|(name, value)| (format!("shmem:{name}"), *value));
    let private = figures.iter().map(|(name, value)| (format!("pkmem:0-{name}"), *value));
    Ok(shared.chain(private).collect())
}

/// What the process's control group may have (version 2), in bytes.
fn control_group_limit(process: &Process) -> Option<u64> {
    let groups = process.cgroups().ok()?;
    let path = groups.into_iter().find(|group| group.controllers.iter().all(String::is_empty))?.pathname;
    let limit = std::fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.max")).ok()?;
    limit.trim().parse().ok()
}

/// Names and values of `net:waiting_*`: bytes that the kernel holds for sockets with the listeners' ports.
///
/// # Errors
/// When the kernel does not say.
pub(crate) fn waiting(listeners: &[Listener]) -> ProcResult<Vec<(String, u64)>> {
    let ports = |is_wanted: fn(Transport) -> bool| -> Vec<u16> {
        let wanted = listeners.iter().filter(|listener| is_wanted(listener.transport));
        wanted.map(|listener| listener.address.port()).collect()
    };
    let datagrams = ports(|transport| !transport.is_reliable());
    let mut sums = [("udp", 0), ("tcp", 0), ("tls", 0)];
    let [(_, udp), (_, tcp), (_, tls)] = &mut sums;
    for entry in procfs::net::udp()?.into_iter().chain(procfs::net::udp6()?) {
        if datagrams.contains(&entry.local_address.port()) {
            *udp += u64::from(entry.rx_queue);
        }
    }
    let clear = ports(|transport| matches!(transport, Transport::Tcp | Transport::Ws));
    let secure = ports(Transport::is_secure);
    if !(clear.is_empty() && secure.is_empty()) {
        for entry in procfs::net::tcp()?.into_iter().chain(procfs::net::tcp6()?) {
            let port = entry.local_address.port();
            // Of a listener it is how many connections wait.
            if entry.state != procfs::net::TcpState::Listen {
                let waits = u64::from(entry.rx_queue);
                *tcp += if clear.contains(&port) { waits } else { 0 };
                *tls += if secure.contains(&port) { waits } else { 0 };
            }
        }
    }
    Ok(sums.into_iter().map(|(name, value)| (format!("net:waiting_{name}"), value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(id: usize, name: &str, ticks: u64) -> Thread {
        Thread { id, tid: 100 + id as i32, name: name.to_string(), ticks }
    }

    #[test]
    fn load_is_cpu_time_of_the_workers() {
        let now = Instant::now();
        let second = procfs::ticks_per_second();
        let at = |seconds: u64, ticks: [u64; 3]| {
            let [main, one, two] = ticks;
            let threads = vec![
                thread(0, "roost", main),
                thread(1, "roost-worker-0", one),
                thread(2, "roost-worker-1", two),
            ];
            (now + std::time::Duration::from_secs(seconds), threads)
        };
        let load = Load(VecDeque::from([
            at(0, [0, 0, 0]),
            at(1, [0, second, 0]),
            at(2, [0, second + second / 2, second / 2]),
        ]));
        let figures: HashMap<_, _> = load.figures().into_iter().collect();
        assert_eq!((figures["load:load"], figures["load:load1m"]), (50, 50));
        assert_eq!((figures["load:load1m-proc-1"], figures["load:load1m-proc-2"]), (75, 25));
        assert_eq!((figures["load:load-all"], figures["load:processes_number"]), (33, 3));
    }

    #[test]
    fn the_kernel_says_what_there_is() {
        let threads = threads().unwrap();
        assert_eq!(threads[0].tid as u32, std::process::id());
        let memory: HashMap<_, _> = memory().unwrap().into_iter().collect();
        assert!(memory["shmem:real_used_size"] > 1 << 20);
        assert!(memory["shmem:max_used_size"] >= memory["shmem:real_used_size"]);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(&[0; 1000], socket.local_addr().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener::udp(address);
        let waiting: HashMap<_, _> = waiting(&[listener]).unwrap().into_iter().collect();
        assert!(waiting["net:waiting_udp"] >= 1000);
    }
}
