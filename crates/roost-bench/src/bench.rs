//! One benchmark: the server's start, set-up, warm-up, then echo, measured phase, echo.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::call::Calls;
use crate::cli::Load;
use crate::context::Context;
use crate::echo::Echo;
use crate::kind::Kind;
use crate::load::{self, Pace};
use crate::ping::Ping;
use crate::process::{self, Cpu, Spawned};
use crate::register::Register;
use crate::report::{EchoRun, Memory, Report, Usage};
use crate::scenario::Scenario;
use crate::stop::Stop;
use crate::tally::Tally;
use crate::users::Users;
use crate::wire::{self, Receiver};

/// Slots of a fixed rate without `--window`.
const OPEN_WINDOW: u32 = 65_536;
/// What settles after a phase: write-behind, freed memory.
const SETTLE: Duration = Duration::from_millis(300);
/// An echo answers at once or never.
const ECHO_GIVE_UP: Duration = Duration::from_secs(1);

/// Runs a benchmark; `program` is roost-bench itself, for the echo.
///
/// # Errors
/// When the server is not there, not ours to load, or the system refuses something; and when it was interrupted.
pub fn run(kind: Kind, options: &Load, program: &Path, stop: &Stop) -> Result<Report> {
    check_address(options)?;
    let local = local_ip(options)?;
    let domain = options.domain.clone().unwrap_or_else(|| options.server.ip().to_string());
    let users = users(kind, options, &domain)?;
    if kind == Kind::Call {
        ensure!(users.len() >= 2, "a call needs two users: raise --users");
    }
    let count = options.count.unwrap_or_else(|| kind.default_count(users.len()));
    let echo = if options.no_echo { None } else { Some(EchoSide::start(options, program, stop)?) };

    let spawned =
        options.spawn.as_deref().map(|command| spawn(command, kind, options, local, stop)).transpose()?;
    let pid = match (&spawned, options.server_pid, &options.server_name) {
        (Some(server), ..) => Some(server.pid()),
        (None, Some(pid), _) => Some(process::must_exist(pid)?),
        (None, None, Some(name)) => Some(process::find(name)?),
        (None, None, None) => None,
    };
    options.db_pid.map(process::must_exist).transpose()?;
    let mut bench = Bench::open(kind, options, local, users, pid, stop)?;
    let mut report = bench.measure(count, echo)?;
    report.is_spawned = spawned.is_some();
    Ok(report)
}

/// Loading a stranger's server by a slip of the keyboard must not happen.
fn check_address(options: &Load) -> Result<()> {
    let ip = options.server.ip();
    ensure!(
        ip.is_loopback() || options.allow_remote,
        "{ip} is not in 127.0.0.0/8: load only servers of your own, and say so with --allow-remote"
    );
    Ok(())
}

/// The address that the system would send from.
fn local_ip(options: &Load) -> Result<Ipv4Addr> {
    if let Some(ip) = options.local_ip {
        return Ok(ip);
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(options.server).with_context(|| format!("no way to {}", options.server))?;
    match socket.local_addr()?.ip() {
        std::net::IpAddr::V4(ip) => Ok(ip),
        std::net::IpAddr::V6(ip) => bail!("{ip} is not an IPv4 address: give ours with --local-ip"),
    }
}

fn users(kind: Kind, options: &Load, domain: &str) -> Result<Users> {
    match &options.password_file {
        Some(path) => Users::from_csv(path, options.users, domain),
        None => {
            Ok(Users::numbered(options.first, options.users.unwrap_or_else(|| kind.default_users()), domain))
        }
    }
}

fn spawn(command: &str, kind: Kind, options: &Load, local: Ipv4Addr, stop: &Stop) -> Result<Spawned> {
    let mut probe = vec![b'.'; 100];
    if kind != Kind::Raw {
        let server = options.server;
        let text = format!(
            "OPTIONS sip:{server} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKready;rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:ready@{local}>;tag=1\r\nTo: <sip:{server}>\r\nCall-ID: ready@{local}\r\n\
             CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        probe = text.into_bytes();
    }
    Spawned::start(command, options.server, &probe, stop)
}

/// A number that no other run of the last hours had.
fn run_mark() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_micros() as u32).rotate_left(7) ^ std::process::id()
}

/// The generator, and the server it is turned on.
struct Bench<'a> {
    kind: Kind,
    options: &'a Load,
    pid: Option<u32>,
    stop: &'a Stop,
    ip: String,
    context: Context,
    receiver: Receiver,
}

impl<'a> Bench<'a> {
    fn open(
        kind: Kind,
        options: &'a Load,
        local: Ipv4Addr,
        users: Users,
        pid: Option<u32>,
        stop: &'a Stop,
    ) -> Result<Bench<'a>> {
        let base = options.base_port.unwrap_or(0);
        let (sender, receiver) = wire::open(local, base, options.contact_ports, options.server)?;
        let give_up = Duration::from_secs_f64(options.give_up);
        let repeats = !options.no_retransmission && kind != Kind::Raw;
        let context = Context::new(sender, users, give_up, repeats, run_mark());
        Ok(Bench { kind, options, pid, stop, ip: local.to_string(), context, receiver })
    }

    fn measure(&mut self, count: u64, mut echo: Option<EchoSide<'_>>) -> Result<Report> {
        let users = self.context.users.len();
        let pss_before = self.pss();
        let (mut scenario, set_up) = self.set_up()?;
        self.warm_up(&mut scenario, count)?;

        let mut echoes = Vec::new();
        if let Some(echo) = &mut echo {
            echoes.push(echo.measure(self.kind, self.options)?);
        }
        let (server, db, drops) = (self.cpu(), self.options.db_pid.map(process::cpu), self.drops());
        let tally = self.phase(&mut scenario, self.pace(count), self.kind.name())?;
        let usage = self.cpu().zip(server).map(|(now, earlier)| Usage {
            cpu: now.since(earlier),
            udp_drops: self.drops().saturating_sub(drops),
        });
        let db_cpu = db.zip(self.options.db_pid).map(|(earlier, pid)| process::cpu(pid).since(earlier));
        std::thread::sleep(if usage.is_some() { SETTLE } else { Duration::ZERO });
        let memory = pss_before.zip(self.pss()).map(|(before, after)| Memory { before, after });
        if let Some(echo) = &mut echo {
            echoes.push(echo.measure(self.kind, self.options)?);
        }
        Ok(Report {
            kind: self.kind,
            server: self.options.server,
            is_spawned: false,
            pid: self.pid,
            users,
            count,
            window: self.window(),
            rate: self.options.rate,
            contact_ports: self.options.contact_ports,
            tally,
            set_up,
            usage,
            memory,
            db_cpu,
            echoes,
        })
    }

    /// Registers who must be registered first.
    fn set_up(&mut self) -> Result<(Scenario, Option<Tally>)> {
        let users = self.context.users.len();
        let register = Register::new(&self.ip, self.options.expires, users);
        let server = self.options.server.to_string();
        match self.kind {
            Kind::Register => Ok((Scenario::Register(register), None)),
            Kind::Options => Ok((Scenario::Ping(Ping::options(&self.ip, &server)), None)),
            Kind::Raw => Ok((Scenario::Ping(Ping::raw()), None)),
            Kind::Refresh | Kind::Call => {
                let mut scenario = Scenario::Register(register);
                let pace = Pace { count: users.into(), window: 64, rate: None, max_time: self.max_time() };
                let tally = self.phase(&mut scenario, pace, "set-up: register")?;
                ensure!(tally.ok > 0, "no user could be registered: {}", tally.describe_failures());
                if self.kind == Kind::Call {
                    scenario = Scenario::Calls(Calls::new(&self.ip, users / 2));
                }
                Ok((scenario, Some(tally)))
            }
        }
    }

    fn warm_up(&mut self, scenario: &mut Scenario, count: u64) -> Result<()> {
        let warm_up = self.options.warm_up.unwrap_or_else(|| self.kind.default_warm_up(count));
        if warm_up == 0 {
            return Ok(());
        }
        self.phase(scenario, self.pace(warm_up), "warm-up")?;
        let linger = Duration::from_secs_f64(self.options.linger);
        let bar = progress(None, "waiting until the server forgets the warm-up");
        let start = Instant::now();
        while start.elapsed() < linger {
            ensure!(!self.stop.is_wanted(), "interrupted");
            bar.tick();
            std::thread::sleep(Duration::from_millis(50).min(linger));
        }
        Ok(())
    }

    fn phase(&mut self, scenario: &mut Scenario, pace: Pace, title: &str) -> Result<Tally> {
        self.context.clear(pace.window);
        match scenario {
            Scenario::Register(register) => register.clear(pace.window, self.kind == Kind::Refresh),
            Scenario::Calls(calls) => calls.clear(pace.window),
            Scenario::Ping(_) => {}
        }
        let bar = progress(Some(pace.count), title);
        let tally = load::run(scenario, &mut self.context, &mut self.receiver, &pace, &bar, self.stop)?;
        bar.finish_and_clear();
        ensure!(!self.stop.is_wanted(), "interrupted");
        Ok(tally)
    }

    fn pace(&self, count: u64) -> Pace {
        Pace { count, window: self.window(), rate: self.options.rate, max_time: self.max_time() }
    }

    fn window(&self) -> u32 {
        let default = if self.options.rate.is_some() { OPEN_WINDOW } else { 64 };
        self.options.window.unwrap_or(default)
    }

    fn max_time(&self) -> Duration {
        Duration::from_secs_f64(self.options.max_time)
    }

    fn cpu(&self) -> Option<Cpu> {
        self.pid.map(process::cpu)
    }

    fn pss(&self) -> Option<u64> {
        self.pid.and_then(process::pss)
    }

    fn drops(&self) -> u64 {
        process::udp_drops(self.options.server.port())
    }
}

/// The echo and the generator turned on it.
struct EchoSide<'a> {
    echo: Echo,
    context: Context,
    receiver: Receiver,
    scenario: Scenario,
    stop: &'a Stop,
}

impl<'a> EchoSide<'a> {
    fn start(options: &Load, program: &Path, stop: &'a Stop) -> Result<EchoSide<'a>> {
        let echo = Echo::start(program, options.echo_workers)?;
        let (sender, receiver) = wire::open(Ipv4Addr::LOCALHOST, 0, options.contact_ports, echo.address())?;
        let context = Context::new(sender, Users::default(), ECHO_GIVE_UP, false, run_mark());
        let mut side = EchoSide { echo, context, receiver, scenario: Scenario::Ping(Ping::raw()), stop };
        side.wait_until_ready()?;
        Ok(side)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        for _ in 0..50 {
            let pace = Pace { count: 1000, window: 64, rate: None, max_time: Duration::from_millis(100) };
            if self.phase(pace)?.timed_out == 0 {
                return Ok(());
            }
        }
        bail!("the echo does not answer at {}: try --no-echo", self.echo.address())
    }

    /// As many pairs per second as the scenario has, or as many as possible.
    fn measure(&mut self, kind: Kind, options: &Load) -> Result<EchoRun> {
        let pace = Pace {
            count: u64::MAX,
            window: match options.rate {
                Some(_) => OPEN_WINDOW,
                None => options.window.unwrap_or(64),
            },
            rate: options.rate.map(|rate| rate * kind.pairs_per_op()),
            max_time: Duration::from_secs_f64(options.echo_time),
        };
        let before = process::cpu(self.echo.pid());
        let tally = self.phase(pace)?;
        let cpu = process::cpu(self.echo.pid()).since(before);
        ensure!(!self.stop.is_wanted(), "interrupted");
        Ok(EchoRun { cpu, tally })
    }

    fn phase(&mut self, pace: Pace) -> Result<Tally> {
        self.context.clear(pace.window);
        load::run(
            &mut self.scenario,
            &mut self.context,
            &mut self.receiver,
            &pace,
            &progress(None, "echo"),
            self.stop,
        )
    }
}

/// A line on standard error while it is a terminal, else nothing.
fn progress(count: Option<u64>, title: &str) -> ProgressBar {
    let template = match count {
        Some(_) => "{msg} {wide_bar} {pos}/{len} {per_sec} {eta}",
        None => "{msg} {spinner}",
    };
    let bar = ProgressBar::with_draw_target(count, ProgressDrawTarget::stderr_with_hz(10));
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_message(title.to_owned())
}
