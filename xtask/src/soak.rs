//! `cargo xtask soak`: what takes longer than a test may, run by hand and reported.

mod browser;
mod console;
mod flood;
mod fuzz;
mod image;
mod mutants;
mod nodes;
mod package;
mod pings;
mod reload;
mod rows;
mod server;
mod tls;

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use tempfile::TempDir;

use crate::bench::Store;
use nodes::Loss;
use server::{Binaries, Place, Server};

#[derive(Debug, Subcommand)]
pub(crate) enum Soak {
    /// Open thousands of idle TCP connections: what each costs, and what registrations and calls take meanwhile.
    Connections {
        /// How many.
        #[arg(long, value_name = "N", default_value_t = 20_000)]
        count: usize,
    },
    /// The console with 100,000 extensions and 2,000 calls in progress: what its pages take and cost, and whether a browser that
    /// looks at them grows.
    Console {
        /// For how long the browsers look.
        #[arg(long, value_name = "N", default_value_t = 60)]
        minutes: u64,
    },
    /// Flood a server on one core from many addresses, at twice what it can answer, while a thousand phones refresh.
    Flood {
        /// How many addresses, all of 127/8.
        #[arg(long, value_name = "N", default_value_t = 50_000)]
        sources: u32,
        /// For how long.
        #[arg(long, value_name = "S", default_value_t = 60)]
        seconds: u32,
    },
    /// Run the fuzzers of `fuzz/`, for so long each.
    Fuzz {
        /// This one only.
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        /// How long each runs.
        #[arg(long, value_name = "S", default_value_t = 600)]
        seconds: u32,
    },
    /// Run the container image (`cargo xtask dist`) by podman, read-only and without rights: a phone registers. It takes root.
    Image,
    /// Break the core on purpose, a change at a time, and see whether its tests and the simulation notice.
    Mutants {
        /// Which part of all mutants, from 0.
        #[arg(long, value_name = "K", default_value_t = 0)]
        part: u32,
        /// Into how many parts they are divided: all of them take hours.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        parts: u32,
    },
    /// Three nodes with a floating address in a network of their own (it takes root): what their phones notice when something is lost.
    Nodes {
        /// How many phones.
        #[arg(long, value_name = "N", default_value_t = 20_000)]
        count: u32,
        /// Calls a second.
        #[arg(long, value_name = "N", default_value_t = 200)]
        calls: u32,
        /// How long each lasts, in seconds.
        #[arg(long, value_name = "S", default_value_t = 20)]
        hold: u64,
        /// What is lost; several in turn.
        #[arg(long, value_enum, value_name = "WHAT", default_values_t = [Loss::Node, Loss::Time, Loss::Way, Loss::Primary])]
        lose: Vec<Loss>,
        /// With the build that tests use.
        #[arg(long)]
        debug: bool,
        /// Where the machine gives no network namespaces: say so, and end well.
        #[arg(long)]
        if_possible: bool,
    },
    /// Install the Debian package (`cargo xtask dist`) in a fresh Debian that boots, use it, upgrade it and remove it. It takes root.
    Package,
    /// Ping many phones: what it takes, and the largest burst.
    Pings {
        /// How many.
        #[arg(long, value_name = "N", default_value_t = 50_000)]
        count: u32,
    },
    /// Phones over TLS and WebSocket: memory and CPU beside UDP, all of them after a restart, certificates that change under
    /// their calls.
    Tls {
        /// How many.
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        count: usize,
    },
    /// Reload the configuration many times under load, every second time from a broken file: nothing fails, memory stays.
    Reload {
        /// How often.
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        count: u32,
    },
    /// Upgrade many times under load, to the same binary: no call and no registration is lost; the longest gap.
    Upgrade {
        /// How often.
        #[arg(long, value_name = "N", default_value_t = 10)]
        count: u32,
    },
    /// Start with a table of many bindings: how long it takes to read, what a binding takes in memory, when the first call
    /// is delivered, and that nobody gets a wrong 404 meanwhile.
    Rows {
        /// How many.
        #[arg(long, value_name = "N", default_value_t = 1_000_000)]
        count: u32,
        /// Where they are kept; several are measured in turn.
        #[arg(long, value_enum, value_name = "KIND", default_values_t = [Store::Sqlite, Store::Mariadb, Store::Postgres])]
        database: Vec<Store>,
    },
}

/// Runs it; the exit code is 0 when everything was as it should be.
pub(crate) fn run(soak: &Soak) -> ExitCode {
    let done = match soak {
        Soak::Connections { count } => connections(*count),
        Soak::Console { minutes } => console::run(*minutes),
        Soak::Flood { sources, seconds } => flood::run(*sources, *seconds),
        Soak::Fuzz { target, seconds } => fuzz::run(target.as_deref(), *seconds),
        Soak::Mutants { part, parts } => mutants::run(*part, *parts),
        Soak::Nodes { count, calls, hold, lose, debug, if_possible } => {
            let size = nodes::Size { phones: *count, calls: *calls, hold_s: *hold };
            server::roost(*debug).and_then(|roost| nodes::run(&roost, size, lose, *if_possible))
        }
        Soak::Image => image::run(),
        Soak::Package => package::run(),
        Soak::Pings { count } => pings::run(*count),
        Soak::Reload { count } => reload::run(*count),
        Soak::Upgrade { count } => reload::upgrades(*count),
        Soak::Tls { count } => tls::run(*count),
        Soak::Rows { count, database } => rows::run(*count, database),
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
    roost_rig::raise_descriptors(count as u64 + 1_000).map_err(anyhow::Error::msg)?;
    let binaries = Binaries::build()?;
    let dir = TempDir::with_prefix("roost-soak-")?;
    let most = count + 100;
    let place = Place::make(
        dir.path(),
        None,
        &format!(
            "tcp_max_connections = {most}\ntcp_max_connections_per_source = {most}\ntcp_connection_lifetime = 3600"
        ),
        "",
    )?;
    place.import_users(&binaries, USERS)?;
    let server = Server::start(&binaries, &place)?;
    let load = |scenario: &str, number: &str| -> Result<String> {
        let args: [(&str, &dyn Display); 3] = [("--users", &number), ("--count", &1_000), ("--rate", &200)];
        let said = binaries.load(&place, scenario, &args)?;
        let failed = &said["failed"];
        ensure!(failed == 0, "{scenario}: {failed} of {} failed", said["count"]);
        Ok(format!("p50 {} us, p99 {} us", said["latency_us"]["p50"], said["latency_us"]["p99"]))
    };
    let before = (load("register", "1000")?, load("call", "1000")?);
    let pss_before = server.pss()?;
    let mut open: Vec<OwnedFd> = Vec::with_capacity(count);
    for index in 0..count {
        let source = Ipv4Addr::new(127, 0, 1, (index / PER_ADDRESS) as u8 + 1);
        open.push(connected(source, place.sip).with_context(|| format!("connection {index}"))?);
        if (index + 1) % 5_000 == 0 {
            eprintln!("    {} connections", index + 1);
        }
    }
    // The server has accepted all once it has answered on the last.
    let last = TcpStream::connect(place.sip)?;
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
fn connected(source: Ipv4Addr, server: SocketAddrV4) -> Result<OwnedFd> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let [a, b, c, d] = source.octets();
    bind(socket.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0))?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(server))?;
    Ok(socket)
}
