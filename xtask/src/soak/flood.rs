//! A flood from many addresses while honest phones refresh their bindings.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrIn, bind, sendmsg, socket,
};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::server::{Binaries, Place, Server};

const PHONES: u32 = 1_000;
/// Refreshes of all phones in a second.
const REFRESHES: u32 = 100;

/// Floods from `sources` addresses for `seconds` at twice what the server, on one core of its own, answers.
pub(super) fn run(sources: u32, seconds: u32) -> Result<()> {
    let binaries = Binaries::build()?;
    let dir = TempDir::with_prefix("roost-soak-")?;
    let place = Place::make(dir.path(), None, "workers = 1", "")?;
    place.import_users(&binaries, PHONES)?;
    // The server has a third of the first core, everything else the second: so that can send twice what it can answer.
    on_core(0)?;
    let _neighbours = (Neighbour::start()?, Neighbour::start()?);
    let server = Server::start(&binaries, &place)?;
    on_core(1)?;
    refresh(&binaries, &place, 1)?;

    let capacity = {
        let flood = Flood::new(sources, place.sip)?;
        let before = server.cpu_us()?;
        let five = Duration::from_secs(5);
        let rate = flood
            .during(None, five, || {
                thread::sleep(five);
                Ok(())
            })?
            .0;
        let us = (server.cpu_us()? - before) as f64 / 5e6;
        eprintln!(
            "    as fast as one core sends: {rate:.0} a second; the server takes {:.0} % of its core",
            us * 100.0
        );
        ensure!(us > 0.25, "the flood does not fill the server");
        flood.answered(Duration::from_secs(5))?
    };
    eprintln!("    the server answers {capacity:.0} strangers a second");
    let (pss_before, cpu_before) = (server.pss()?, server.cpu_us()?);
    let flood = Flood::new(sources, place.sip)?;
    let (sent, (phones, pss_during)) =
        flood.during(Some(2.0 * capacity), Duration::from_secs(300), || {
            Ok((refresh(&binaries, &place, seconds)?, server.pss()?))
        })?;
    let cpu = (server.cpu_us()? - cpu_before) as f64 / 1e6;
    thread::sleep(Duration::from_secs(2));
    let after = server.cpu_us()?;
    thread::sleep(Duration::from_secs(5));
    let idle = (server.cpu_us()? - after) as f64 / 5e4;
    eprintln!(
        "    flooded with {sent:.0} a second from {sources} addresses for {seconds} s: the server took {cpu:.1} s of CPU, \
         {idle:.1} % of a core after it; memory {} kB before, {} kB during, {} kB after",
        pss_before / 1024,
        pss_during / 1024,
        server.pss()? / 1024
    );
    let (ok, all) = (&phones["ok"], &phones["count"]);
    eprintln!(
        "    honest phones: {ok} of {all} refreshes, {} retransmissions, p50 {} us, p99 {} us",
        phones["retransmissions"], phones["latency_us"]["p50"], phones["latency_us"]["p99"]
    );
    ensure!(ok == all, "refreshes were lost: {}", phones);
    server.stop()
}

/// Phones that have registered refresh for so long; each request is given 32 s (RFC 3261's timer F).
fn refresh(binaries: &Binaries, place: &Place, seconds: u32) -> Result<Value> {
    let args: [(&str, &dyn Display); 5] = [
        ("--users", &PHONES),
        ("--give-up", &32),
        ("--expires", &3_600),
        ("--rate", &REFRESHES),
        ("--count", &(REFRESHES * seconds)),
    ];
    binaries.load(place, "refresh", &args)
}

/// A process that takes whatever time it gets, until it is dropped.
struct Neighbour(Child);

impl Neighbour {
    fn start() -> Result<Neighbour> {
        let busy = Command::new("sh").args(["-c", "while :; do :; done"]).spawn();
        busy.map(Neighbour).context("cannot run sh")
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn on_core(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &cores).context("this needs two cores")
}

/// REGISTERs from addresses of 127/8, all by one socket.
struct Flood {
    socket: OwnedFd,
    sources: u32,
    server: SocketAddrV4,
    port: u16,
}

impl Flood {
    fn new(sources: u32, server: SocketAddrV4) -> Result<Flood> {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_NONBLOCK, None)?;
        bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, 0))?;
        let bound: SockaddrIn = nix::sys::socket::getsockname(socket.as_raw_fd())?;
        Ok(Flood { socket, sources, server, port: bound.port() })
    }

    /// Sends at a rate, or as fast as it goes, until something else is done, and for so long at most; how many in a second,
    /// and what was done.
    fn during<T: Send>(
        &self,
        rate: Option<f64>,
        longest: Duration,
        act: impl FnOnce() -> Result<T> + Send,
    ) -> Result<(f64, T)> {
        let begun = Instant::now();
        let (sent, acted) = thread::scope(|scope| {
            let acting = scope.spawn(act);
            let mut number = 0;
            while begun.elapsed() < longest && !acting.is_finished() {
                let due = rate.map_or(u64::MAX, |rate| (begun.elapsed().as_secs_f64() * rate) as u64);
                if number >= due {
                    thread::sleep(Duration::from_micros(200));
                    continue;
                }
                for _ in 0..64 {
                    self.send(number);
                    number += 1;
                }
            }
            (number as f64 / begun.elapsed().as_secs_f64(), acting.join())
        });
        let acted = acted.map_err(|_| anyhow::anyhow!("what was done meanwhile failed"))??;
        Ok((sent, acted))
    }

    /// How many answers a second the server gives when it gets as much as it can be sent.
    fn answered(&self, time: Duration) -> Result<f64> {
        let (mut bytes, mut answers) = ([0; 2_048], 0_u64);
        let begun = Instant::now();
        let mut number = 0;
        while begun.elapsed() < time {
            for _ in 0..64 {
                self.send(number);
                number += 1;
            }
            while nix::sys::socket::recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::empty()).is_ok() {
                answers += 1;
            }
        }
        ensure!(answers > 0, "no answer at all");
        Ok(answers as f64 / begun.elapsed().as_secs_f64())
    }

    fn send(&self, number: u64) {
        let index = (number % u64::from(self.sources)) as u32;
        let source = Ipv4Addr::from(0x7f01_0000 + index);
        let user = 900_000 + number % 100_000;
        let port = self.port;
        let message = format!(
            "REGISTER sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {source}:{port};branch=z9hG4bK{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@127.0.0.1>;tag=f\r\nTo: <sip:{user}@127.0.0.1>\r\n\
             Call-ID: {number}@{source}\r\nCSeq: 1 REGISTER\r\nContact: <sip:{user}@{source}:{port}>\r\n\
             Expires: 60\r\nContent-Length: 0\r\n\r\n"
        );
        let info = libc_pktinfo(source);
        let to = SockaddrIn::from(self.server);
        let parts = [std::io::IoSlice::new(message.as_bytes())];
        let control = [ControlMessage::Ipv4PacketInfo(&info)];
        // A full buffer loses a datagram, as a network does.
        let _ = sendmsg(self.socket.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&to));
    }
}

fn libc_pktinfo(source: Ipv4Addr) -> nix::libc::in_pktinfo {
    nix::libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: nix::libc::in_addr { s_addr: u32::from(source).to_be() },
        ipi_addr: nix::libc::in_addr { s_addr: 0 },
    }
}
