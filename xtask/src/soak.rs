//! `cargo xtask soak`: what takes longer than a test may, run by hand and reported.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use serde_json::Value;
use std::os::fd::{AsRawFd as _, OwnedFd};
use tempfile::TempDir;

use crate::bench::{free_port, target_dir};
use crate::steps::{cargo, exit_code};

#[derive(Debug, Subcommand)]
pub(crate) enum Soak {
    /// Open thousands of idle TCP connections: what each costs, and what registrations and calls take meanwhile.
    Connections {
        /// How many.
        #[arg(long, value_name = "N", default_value_t = 20_000)]
        count: usize,
    },
}

/// Runs it; the exit code is 0 when everything was as it should be.
pub(crate) fn run(soak: &Soak) -> ExitCode {
    let done = match soak {
        Soak::Connections { count } => connections(*count),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Connections of one address of 127/8.
const PER_ADDRESS: usize = 5_000;
const USERS: u32 = 2_000;

fn connections(count: usize) -> Result<()> {
    raise_descriptors(count as u64 + 1_000)?;
    ensure!(
        exit_code(&mut cargo(["build", "--release", "-p", "roost", "-p", "roost-bench"]))? == 0,
        "the build failed"
    );
    let release = target_dir()?.join("release");
    let dir = TempDir::with_prefix("roost-soak-")?;
    let server = Server::start(&release.join("roost"), dir.path(), count)?;
    let load = |scenario: &str, number: &str| -> Result<String> {
        let mut load = Command::new(release.join("roost-bench"));
        load.arg(scenario).args(["--json", "--no-echo", "--server", &server.sip.to_string()]);
        load.args(["--domain", "127.0.0.1", "--users", number, "--count", "1000", "--rate", "200"]);
        let output = load.stderr(Stdio::null()).output().context("cannot run roost-bench")?;
        let said: Value = serde_json::from_slice(&output.stdout).context("roost-bench printed no JSON")?;
        let failed = &said["failed"];
        ensure!(failed == 0, "{scenario}: {failed} of {} failed", said["operations"]);
        Ok(format!("p50 {} us, p99 {} us", said["latency_us"]["p50"], said["latency_us"]["p99"]))
    };
    let before = (load("register", "1000")?, load("call", "1000")?);
    let pss_before = server.pss()?;
    let mut open: Vec<OwnedFd> = Vec::with_capacity(count);
    for index in 0..count {
        let source = Ipv4Addr::new(127, 0, 1, (index / PER_ADDRESS) as u8 + 1);
        open.push(connected(source, server.sip).with_context(|| format!("connection {index}"))?);
        if (index + 1) % 5_000 == 0 {
            eprintln!("    {} connections", index + 1);
        }
    }
    // The server has accepted all once it has answered on the last.
    let last = TcpStream::connect(server.sip)?;
    std::io::Write::write_all(&mut &last, b"\r\n\r\n")?;
    std::io::Read::read_exact(&mut &last, &mut [0; 2])?;
    let pss = server.pss()?;
    let held = server.descriptors()?;
    ensure!(held >= count, "the server holds {held} descriptors for {count} connections");
    let each = pss.saturating_sub(pss_before) / count as u64;
    eprintln!("    {count} idle connections: {each} bytes of memory each ({pss_before} to {pss})");
    let meanwhile = (load("register", "1000")?, load("call", "1000")?);
    eprintln!("    register before:    {}\n    register meanwhile: {}", before.0, meanwhile.0);
    eprintln!("    call before:        {}\n    call meanwhile:     {}", before.1, meanwhile.1);
    drop(open);
    Ok(())
}

/// A connection from this address.
fn connected(source: Ipv4Addr, server: SocketAddr) -> Result<OwnedFd> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let SocketAddr::V4(server) = server else { unreachable!("the server is at 127.0.0.1") };
    let [a, b, c, d] = source.octets();
    bind(socket.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0))?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(server))?;
    Ok(socket)
}

fn raise_descriptors(wanted: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= wanted {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted))
        .with_context(|| format!("this needs {wanted} open files: run it as root, or raise ulimit -n"))
}

/// A roost process in a folder of its own; dropping it kills it.
struct Server {
    child: Child,
    sip: SocketAddr,
}

impl Server {
    fn start(binary: &Path, dir: &Path, connections: usize) -> Result<Server> {
        let sip = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let most = connections + 100;
        let config = dir.join("roost.toml");
        fs::write(
            &config,
            format!(
                "listen = [\"udp:{sip}\", \"tcp:{sip}\"]\ndatabase = \"sqlite:roost.db\"\n\
                 tcp_max_connections = {most}\ntcp_max_connections_per_source = {most}\n\
                 tcp_connection_lifetime = 3600\n[proxy]\nauthorize = \"off\"\n\
                 [registrar]\nexclusive = \"off\"\n[mi]\nlisten = \"127.0.0.1:{}\"\n",
                free_port()?
            ),
        )?;
        let csv = dir.join("users.csv");
        let users: String = (100_000..100_000 + USERS).map(|user| format!("{user},{user}\n")).collect();
        fs::write(&csv, format!("username,password\n{users}"))?;
        let roost = || {
            let mut roost = Command::new(binary);
            roost.arg("--config").arg(&config).stdin(Stdio::null());
            roost
        };
        let imported = roost().args(["user", "import"]).arg(&csv).stdout(Stdio::null()).status()?;
        ensure!(imported.success(), "the users could not be imported");
        let mut child = roost().arg("serve").stderr(Stdio::piped()).spawn()?;
        let mut said = BufReader::new(child.stderr.take().context("a pipe")?).lines();
        let is_ready = said.by_ref().map_while(Result::ok).any(|line| line.ends_with("ready"));
        ensure!(is_ready, "roost serve ended before it was ready");
        // Whatever it says later is not waited for.
        std::thread::spawn(move || said.for_each(drop));
        Ok(Server { child, sip })
    }

    /// Proportional memory, in bytes.
    fn pss(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = text.lines().find(|line| line.starts_with("Pss:")).context("no Pss")?;
        let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
        Ok(kib * 1024)
    }

    fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
