//! TLS and WebSocket: what a connection, a handshake, a registration and a call take, beside UDP; a restart with all
//! phones; certificates that change while calls are up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use roost_rig::line::{AnyLine, TLS_SECTION, phone, shown_certificate};
use roost_rig::phone::Phone;
use tempfile::TempDir;

use super::server::{Binaries, FIRST, Place, Server};

/// Registered before it is measured: the first connections pay for what all share.
const WARM: usize = 200;
/// Connections of one address of 127/8.
const PER_ADDRESS: usize = 500;
/// Threads of phones that come back after a restart.
const THREADS: usize = 8;
/// Refreshes, and calls, whose cost is measured.
const OPERATIONS: u32 = 1_000;

type Phones = Vec<Phone<AnyLine>>;

struct World {
    binaries: Binaries,
    place: Place,
    authority: PathBuf,
    dir: TempDir,
    listeners: [(&'static str, SocketAddr); 4],
}

pub(super) fn run(count: usize) -> Result<()> {
    roost_rig::raise_descriptors(count as u64 + 1_000).map_err(anyhow::Error::msg)?;
    let world = World::make(count)?;
    let mut udp = None;
    for (transport, at) in world.listeners {
        let costs = world.costs(transport, at)?;
        let (register, call) = *udp.get_or_insert(costs);
        eprintln!(
            "    {transport}: {:.1} us of CPU a refresh ({:.2} times UDP's), {:.1} us a call ({:.2} times)",
            costs.0,
            costs.0 / register,
            costs.1,
            costs.1 / call
        );
    }
    for (transport, at) in world.listeners.into_iter().skip(2) {
        world.idle(transport, at, count)?;
        world.restart(transport, at, count)?;
    }
    let [_, _, (_, tls), _] = world.listeners;
    world.handshakes(tls)?;
    world.certificates(tls, count.min(1_000))
}

impl World {
    fn make(count: usize) -> Result<World> {
        let binaries = Binaries::build()?;
        let dir = TempDir::with_prefix("roost-soak-")?;
        let most = 2 * count + 1_000;
        let top =
            format!("workers = 1\ntcp_max_connections = {most}\ntcp_max_connections_per_source = {most}");
        let sections = format!("{TLS_SECTION}[websocket]\nping_interval = 600\n");
        let place = Place::make(dir.path(), None, &top, &sections)?;
        place.import_users(&binaries, count as u32 + WARM as u32)?;
        place.roost(&binaries, &["tls", "new", "localhost"])?;
        let (tls, wss) = (place.also_listen("tls")?, place.also_listen("wss")?);
        let sip = place.sip.into();
        let listeners = [("udp", sip), ("tcp", sip), ("tls", tls), ("wss", wss)];
        Ok(World { authority: dir.path().join("tls/ca.pem"), binaries, place, dir, listeners })
    }

    fn start(&self) -> Result<Server> {
        Server::start(&self.binaries, &self.place)
    }

    fn phone(&self, transport: &'static str, at: SocketAddr, index: usize) -> Phone<AnyLine> {
        let source = Ipv4Addr::new(127, 0, 1, (index / PER_ADDRESS) as u8 + 1);
        let line = AnyLine::open_from(transport, IpAddr::V4(source), at, &self.authority);
        phone(line, &(FIRST as usize + index).to_string())
    }

    fn registered(&self, transport: &'static str, at: SocketAddr, index: usize) -> Result<Phone<AnyLine>> {
        let mut phone = self.phone(transport, at, index);
        let answer = phone.register(36_000);
        ensure!(answer.status == 200, "{transport} phone {index}: {}", answer.line());
        Ok(phone)
    }

    /// CPU of a refresh and of a call over connections that stand, in microseconds.
    fn costs(&self, transport: &'static str, at: SocketAddr) -> Result<(f64, f64)> {
        let server = self.start()?;
        let mut phones =
            (0..20).map(|index| self.registered(transport, at, index)).collect::<Result<Phones>>()?;
        let each = |before: u64| {
            Ok::<f64, anyhow::Error>((server.cpu_us()? - before) as f64 / f64::from(OPERATIONS))
        };
        let before = server.cpu_us()?;
        for index in 0..OPERATIONS as usize {
            let phone = &mut phones[index % 20];
            ensure!(phone.register(36_000).status == 200, "a refresh over {transport}");
        }
        let refresh = each(before)?;
        let before = server.cpu_us()?;
        for index in 0..OPERATIONS as usize {
            let (callers, callees) = phones.split_at_mut(10);
            call(&mut callers[index % 10], &callees[index % 10]);
        }
        let call = each(before)?;
        drop(phones);
        server.stop()?;
        Ok((refresh, call))
    }

    /// What idle registered connections take in memory.
    fn idle(&self, transport: &'static str, at: SocketAddr, count: usize) -> Result<()> {
        let server = self.start()?;
        let mut phones: Phones = Vec::with_capacity(count);
        for index in 0..WARM {
            phones.push(self.registered(transport, at, index)?);
        }
        thread::sleep(Duration::from_secs(3));
        let (pss, cpu) = (server.pss()?, server.cpu_us()?);
        for index in WARM..WARM + count {
            phones.push(self.registered(transport, at, index)?);
        }
        let cpu = server.cpu_us()? - cpu;
        thread::sleep(Duration::from_secs(5));
        let grown = server.pss()?.saturating_sub(pss);
        eprintln!(
            "    {transport}: {count} idle registered connections: {} bytes of memory each, {} us of CPU to connect and register",
            grown / count as u64,
            cpu / count as u64
        );
        drop(phones);
        server.stop()
    }

    /// All phones register, the server is killed, and all come back as fast as they can.
    fn restart(&self, transport: &'static str, at: SocketAddr, count: usize) -> Result<()> {
        let server = self.start()?;
        let phones = self.all(transport, at, count)?;
        drop(server);
        drop(phones);
        let server = self.start()?;
        let begun = Instant::now();
        let mut phones = self.all(transport, at, count)?;
        let took = begun.elapsed();
        let cpu = server.cpu_us()?;
        let mut caller = self.registered("udp", self.place.sip.into(), count)?;
        for callee in phones.iter_mut().step_by((count / 100).max(1)) {
            let invite = caller.invite(&callee.user);
            caller.send(&invite);
            let received = callee.await_request("INVITE");
            callee.answer(&received, "486 Busy Here");
            let busy = caller.await_final("INVITE");
            ensure!(busy.status() == Some(486), "{}", busy.line());
            caller.send(roost_rig::call::ack_of_failure(&invite, &busy));
        }
        eprintln!(
            "    {transport}: {count} phones are back and can be called {:.1} s after a restart; the server took {:.1} s of CPU, \
             their side had the other core",
            took.as_secs_f64(),
            cpu as f64 / 1e6
        );
        drop(phones);
        server.stop()
    }

    fn all(&self, transport: &'static str, at: SocketAddr, count: usize) -> Result<Phones> {
        thread::scope(|scope| {
            let part = |thread: usize| {
                let own = (thread..count).step_by(THREADS);
                scope.spawn(move || {
                    own.map(|index| self.registered(transport, at, index)).collect::<Result<Phones>>()
                })
            };
            let threads: Vec<_> = (0..THREADS).map(part).collect();
            let mut phones = Vec::with_capacity(count);
            for thread in threads {
                phones.extend(thread.join().map_err(|_| anyhow::anyhow!("a thread of phones failed"))??);
            }
            Ok(phones)
        })
    }

    /// Whole handshakes, and nothing else.
    fn handshakes(&self, at: SocketAddr) -> Result<()> {
        const COUNT: usize = 2_000;
        let server = self.start()?;
        let connect = |index: usize| {
            let phone = self.phone("tls", at, index % 1_000);
            phone.send(b"\r\n\r\n");
            // Its answer says that the handshake is done on both sides.
            phone.line.cut();
        };
        (0..WARM).for_each(connect);
        thread::sleep(Duration::from_millis(500));
        let before = server.cpu_us()?;
        (0..COUNT).for_each(connect);
        thread::sleep(Duration::from_millis(500));
        let each = (server.cpu_us()? - before) as f64 / COUNT as f64;
        eprintln!(
            "    tls: {each:.0} us of CPU a connection with its handshake: {:.0} a second and core (ECDSA P-256, whole)",
            1e6 / each
        );
        server.stop()
    }

    /// Another certificate under connections with calls: none is lost. A broken one changes nothing.
    fn certificates(&self, at: SocketAddr, count: usize) -> Result<()> {
        let server = self.start()?;
        let mut phones = self.all("tls", at, count)?;
        let half = count / 2;
        let (callers, callees) = phones.split_at_mut(half);
        let mut calls: Vec<_> =
            callers.iter_mut().zip(&*callees).map(|(caller, callee)| caller.establish(callee)).collect();
        let shown = || shown_certificate(at, &self.authority);
        let old = shown();
        self.place.roost(&self.binaries, &["tls", "new", "localhost", "--replace"])?;
        self.place.roost(&self.binaries, &["tls", "reload"])?;
        let new = shown();
        ensure!(old != new, "the new certificate is not shown");
        std::fs::write(self.dir.path().join("tls/localhost.pem"), "no certificate")?;
        let refused = self.place.roost(&self.binaries, &["tls", "reload"]);
        ensure!(refused.is_err() && shown() == new, "a broken file has changed something");
        let (callers, callees) = phones.split_at_mut(half);
        for ((caller, callee), (dialog, _)) in callers.iter_mut().zip(callees).zip(&mut calls) {
            hang_up(caller, callee, dialog);
            for phone in [caller, callee] {
                ensure!(
                    phone.register(36_000).status == 200,
                    "a refresh over a connection of the old certificate"
                );
            }
        }
        eprintln!(
            "    tls: certificate replaced under {count} connections with {half} calls: all hung up and refreshed over them; \
             a broken pair changed nothing"
        );
        drop(phones);
        server.stop()
    }
}

fn call(caller: &mut Phone<AnyLine>, callee: &Phone<AnyLine>) {
    let (mut dialog, _) = caller.establish(callee);
    hang_up(caller, callee, &mut dialog);
}

fn hang_up(caller: &Phone<AnyLine>, callee: &Phone<AnyLine>, dialog: &mut roost_rig::call::Dialog) {
    caller.send(dialog.request("BYE", &[]));
    let bye = callee.await_request("BYE");
    callee.answer(&bye, "200 OK");
    caller.await_status(200, "BYE");
}
