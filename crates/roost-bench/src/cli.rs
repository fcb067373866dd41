//! The command line.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A load generator for SIP registrars and proxies over UDP.
///
/// It says what one operation costs the server in CPU, and how many bare UDP echoes that is on the same machine in the
/// same minute. The second figure can be compared between machines, the first cannot.
#[derive(Debug, Parser)]
#[command(name = "roost-bench", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register users: REGISTER, 401, REGISTER with credentials, 200 (4 messages)
    Register(Load),
    /// Register users, then measure registering again with the nonce that is known: REGISTER, 200 (2 messages)
    Refresh(Load),
    /// Register pairs of users, then measure calls: INVITE, 100, 180, 200, ACK, BYE, 200 (13 messages at the proxy)
    Call(Load),
    /// Ping the server: OPTIONS, 200 (2 messages)
    Options(Load),
    /// 600-byte datagrams, each answered by one: for an echo
    Raw(Load),
    /// Be the echo: answer every datagram on 127.0.0.1 with 400 bytes
    Echo(EchoOptions),
}

/// What is sent, how fast, and what is measured.
#[derive(Debug, Clone, Args)]
pub struct Load {
    /// The server
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5060")]
    pub server: SocketAddrV4,
    /// The users' domain [default: the server's address]
    #[arg(long)]
    pub domain: Option<String>,
    /// How many users [default: 100000 for register, 10000 for refresh, 2000 for call]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub users: Option<u32>,
    /// The first user's number; the others follow it. Each one's password is its number
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000)]
    pub first: u64,
    /// The users instead: CSV with the columns username,password,domain, as for `roost user import`
    #[arg(long, value_name = "CSV")]
    pub password_file: Option<PathBuf>,
    /// How many operations [default: each user once for register, 5 times for refresh, 30000 for call, 200000 for
    /// options, 1000000 for raw]
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Operations under way at once [default: 64, with --rate 65536]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub window: Option<u32>,
    /// Operations per second, evenly spaced; without it the next one starts when one ends
    #[arg(long, value_name = "N", value_parser = positive)]
    pub rate: Option<f64>,
    /// No operation is started after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0, value_parser = positive)]
    pub max_time: f64,
    /// Operations before the measured ones [default: as many as measured for call and options, else 0]
    #[arg(long, value_name = "N")]
    pub warm_up: Option<u64>,
    /// Pause behind the warm-up, in which the server forgets its transactions
    #[arg(long, value_name = "SECONDS", default_value_t = 7.0, value_parser = not_negative)]
    pub linger: f64,
    /// Expires of a registration
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub expires: u32,
    /// How many ports the users' phones share, so that a server of several sockets sees several flows
    #[arg(long, alias = "contacts-ports", value_name = "N", default_value_t = 16,
          value_parser = clap::value_parser!(u16).range(1..=60))]
    pub contact_ports: u16,
    /// The first of these ports [default: any free ones]
    #[arg(long, value_name = "PORT")]
    pub base_port: Option<u16>,
    /// Our own address [default: the one that leads to the server]
    #[arg(long, value_name = "IP")]
    pub local_ip: Option<Ipv4Addr>,
    /// Give a request up after this many seconds; it is repeated after 0.5, 1.5, 3.5, 7.5, ... s
    #[arg(long, value_name = "SECONDS", default_value_t = 7.5, value_parser = positive)]
    pub give_up: f64,
    /// Never repeat a request
    #[arg(long)]
    pub no_retransmission: bool,
    /// Allow a server outside 127.0.0.0/8. It will be loaded: only use your own
    #[arg(long)]
    pub allow_remote: bool,
    /// The server's process, whose CPU and memory are measured with those of its descendants
    #[arg(long, value_name = "PID", group = "process")]
    pub server_pid: Option<u32>,
    /// The same by its name
    #[arg(long, value_name = "NAME", group = "process")]
    pub server_name: Option<String>,
    /// Start the server with this shell command, measure it, and end it afterwards
    #[arg(long, value_name = "COMMAND", group = "process")]
    pub spawn: Option<String>,
    /// The database's process, whose CPU is measured too
    #[arg(long, value_name = "PID")]
    pub db_pid: Option<u32>,
    /// Do not measure the bare echo before and after
    #[arg(long)]
    pub no_echo: bool,
    /// How long the echo is measured each time
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = positive)]
    pub echo_time: f64,
    /// The echo's processes; give it as many as the server has workers
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub echo_workers: u16,
    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,
}

/// How the echo runs.
#[derive(Debug, Clone, Copy, Args)]
pub struct EchoOptions {
    /// UDP port
    #[arg(long, default_value_t = 5060)]
    pub port: u16,
    /// Processes that share the port
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// End together with this process, which started it
    #[arg(long, hide = true)]
    pub parent: Option<u32>,
}

fn positive(text: &str) -> Result<f64, String> {
    not_negative(text)
        .and_then(|number| if number > 0.0 { Ok(number) } else { Err("must be above 0".into()) })
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1e9).contains(&number) => Ok(number),
        _ => Err("must be a number from 0 on".into()),
    }
}
