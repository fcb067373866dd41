//! The command line.

use std::path::PathBuf;

use crate::commands::drain::Drain;
use crate::commands::opensips::Import;
use crate::commands::setup::Setup;
use clap::{Parser, Subcommand};

/// A SIP registrar for the extensions of a call centre.
///
/// `roost serve` needs no configuration: it makes ./roost.db and listens on port 5060, by UDP and TCP.
#[derive(Debug, Parser)]
#[command(name = "roost", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// The configuration file [default: ./roost.toml, $ROOST_CONFIG, /etc/roost/roost.toml, built-in defaults]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a first configuration: asks for address, transports, database and extensions, and tries each answer
    ///
    /// What is given on the command line is not asked for; --yes asks nothing.
    Setup(Setup),
    /// Run the server until SIGTERM or Ctrl-C; SIGHUP reads the [[route]]s anew
    Serve {
        /// With the console at 127.0.0.1:8080, or where `console.listen` says, and a link to change things there
        #[arg(long)]
        console: bool,
    },
    /// Add, list and remove those who may log in to the console
    Console {
        #[command(subcommand)]
        command: ConsoleCommand,
    },
    /// Add, change, remove and list extensions (subscribers)
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Show, add and remove bindings of the running server
    Ul {
        #[command(subcommand)]
        command: UlCommand,
    },
    /// Show and change the next hops of the running server's [[route]]s
    Ds {
        #[command(subcommand)]
        command: DsCommand,
    },
    /// Show, add and remove bans: addresses and extensions that guessed too often
    Ban {
        #[command(subcommand)]
        command: BanCommand,
    },
    /// Show the nodes that share bindings, and how each is
    Nodes,
    /// Show what each extension is doing
    Agents {
        /// This one only
        extension: Option<String>,
        /// Its domain, with use_domain
        #[arg(long)]
        domain: Option<String>,
    },
    /// Show the calls in progress, and end them
    Calls {
        /// Again each second, until it is interrupted
        #[arg(long)]
        follow: bool,
        #[command(subcommand)]
        command: Option<CallsCommand>,
    },
    /// Say why an extension is offline, why a call failed, or (without arguments) what is wrong now
    Why {
        /// The extension: 9001, or 9001@domain with use_domain
        extension: Option<String>,
        /// The other side of a call: why the last one between the two ended as it did
        other: Option<String>,
        /// The call of this Call-ID
        #[arg(long, value_name = "CALL-ID", conflicts_with = "extension")]
        call: Option<String>,
        /// Only what has happened since: 10m, 2h, 14:30, "2026-11-27 14:30"
        #[arg(long, value_name = "WHEN", value_parser = since)]
        since: Option<u64>,
        /// Go on, and print what is new, until it is interrupted
        #[arg(long, conflicts_with_all = ["call", "other"])]
        follow: bool,
    },
    /// Say what the running server would do with a request, each decision with its configuration key; nothing is sent
    ///
    /// No failure is counted, no nonce used, no ban touched. Where a password is needed and none is given, the right one is
    /// presumed.
    Try(Attempt),
    /// Show the live messages of an extension, an address or a call as a ladder, until it is interrupted
    ///
    /// Passwords are masked. Those of TLS and WebSocket connections are shown in clear text.
    Trace(TraceArgs),
    /// Look at the machine, the configuration and the running server, and say what is wrong; the exit code is 1 if anything is
    Doctor,
    /// Say whether the running server can do its work; the exit code is 1 if it cannot (for containers)
    Health,
    /// Serve the commands that only read as tools for an assistant (Model Context Protocol, over standard input and output)
    Mcp,
    /// Explain a reason by its code or word; without one, list all
    Explain {
        /// R204, or wrong-password
        reason: Option<String>,
    },
    /// Show the running server's statistics
    Stats {
        /// Groups (tm:) or names; without any, all
        names: Vec<String>,
        /// Again each second, with what has changed, until it is interrupted
        #[arg(long)]
        watch: bool,
    },
    /// Show or set what the running server logs
    LogLevel {
        /// error, warning, info or debug, or OpenSIPS's number
        #[arg(value_parser = crate::commands::log_level::parse, allow_negative_numbers = true)]
        level: Option<i64>,
        /// Only for lines about this extension or IP address
        #[arg(long, value_name = "WHO", requires = "level")]
        only: Option<String>,
        /// How long, with --only
        #[arg(long, value_name = "S", default_value_t = 600)]
        seconds: u64,
    },
    /// Make certificates, and show and reload those of the running server
    Tls {
        #[command(subcommand)]
        command: TlsCommand,
    },
    /// Make or check the tables of the database
    Db {
        #[command(subcommand)]
        command: DbCommand,
    },
    /// Make a configuration from a script of OpenSIPS, and a report of what became of each of its lines
    Import(Import),
    /// Take the running server out of service: it takes no registrations and no new calls, and ends
    ///
    /// Calls in progress go on until they end or the time is over; connections are closed evenly over that time. /readyz says
    /// so, for balancers.
    Drain(Drain),
    /// Have the running server become another binary: its sockets, calls and what is under way go on
    ///
    /// The new one must take the configuration first. Connections (TCP, TLS, WebSocket) are closed, and phones connect again.
    Upgrade {
        /// The binary [default: the file that the server was started from]
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
    },
    /// Have the running server read its configuration file anew
    ///
    /// The whole file is read and checked first; if anything is wrong with it nothing changes. SIGHUP does the same.
    Reload {
        /// Only say what would change, and what needs a restart
        #[arg(long)]
        dry_run: bool,
    },
    /// Check and show the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print what completes roost's commands in a shell
    ///
    /// For bash: `roost completion bash > /etc/bash_completion.d/roost`. For zsh a file `_roost` in a folder of $fpath,
    /// for fish ~/.config/fish/completions/roost.fish.
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Whose messages, and how they are shown.
#[derive(Debug, clap::Args)]
pub(crate) struct TraceArgs {
    /// An extension, or an IP address; without it (and --call) everything is shown
    pub(crate) whom: Option<String>,
    /// The call of this Call-ID
    #[arg(long, value_name = "CALL-ID")]
    pub(crate) call: Option<String>,
    /// Not live: the messages of what failed last, which roost has kept
    #[arg(long)]
    pub(crate) last: bool,
    /// Whole messages below each line
    #[arg(long)]
    pub(crate) full: bool,
    /// Write them to a file for Wireshark, too
    #[arg(long, value_name = "FILE.pcapng")]
    pub(crate) write: Option<PathBuf>,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Show credentials as they came; on the server's own machine only
    #[arg(long)]
    pub(crate) show_secrets: bool,
    /// Lines, where a terminal would get a screen to move about in
    #[arg(long)]
    pub(crate) plain: bool,
}

/// A request that is only thought of.
#[derive(Debug, clap::Args)]
pub(crate) struct Attempt {
    /// REGISTER, INVITE, MESSAGE, SUBSCRIBE, OPTIONS …
    pub(crate) method: String,
    /// Who sends it: 9001, or 9001@domain
    pub(crate) who: String,
    /// Who is called: an extension, a number or a URI
    pub(crate) target: Option<String>,
    /// Where it comes from [default: where the extension is registered, else 192.0.2.1]
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub(crate) from: Option<String>,
    /// udp, tcp, tls, ws or wss
    #[arg(long, default_value = "udp")]
    pub(crate) transport: String,
    /// With this password; without a value it is asked for, or is the first line of what is piped in
    #[arg(long, num_args = 0..=1, default_missing_value = "")]
    pub(crate) password: Option<String>,
    /// Its Contact [default: sip:USER@ADDRESS]
    #[arg(long, value_name = "URI")]
    pub(crate) contact: Option<String>,
    /// The lifetime that it asks for; 0 unregisters
    #[arg(long, value_name = "S")]
    pub(crate) expires: Option<u32>,
    /// The phone's name
    #[arg(long, value_name = "TEXT")]
    pub(crate) user_agent: Option<String>,
    /// A further header; may be given more than once
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add an extension; the running server knows it at once
    Add(Account),
    /// Change a password; the running server knows it at once
    Passwd {
        #[command(flatten)]
        account: Account,
        /// All extensions of this name, whatever their domains
        #[arg(long, conflicts_with = "domain")]
        all: bool,
    },
    /// Remove an extension and its bindings
    Rm {
        /// The extension: 9001, or 9001@domain
        user: String,
        #[command(flatten)]
        whose: Whose,
    },
    /// List all extensions
    List,
    /// Add all extensions of a CSV file, or none if a line is wrong
    ///
    /// The first line names the columns: username,password,domain in any order; domain may be left out. The running
    /// server knows the extensions at once; its registrations wait while they are written.
    Import {
        /// The file; - reads standard input
        file: PathBuf,
        /// Give extensions that exist already the password of the file
        #[arg(long)]
        replace: bool,
    },
    /// Write all extensions with their passwords into a CSV file that `user import` takes
    Export {
        /// The file, for its owner alone; - prints it
        file: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Account {
    /// The extension: 9001, or 9001@domain
    pub(crate) user: String,
    /// Its password; without it, it is asked for twice, or is the first line of what is piped in
    pub(crate) password: Option<String>,
    /// Its domain; needed with use_domain
    #[arg(long)]
    pub(crate) domain: Option<String>,
}

/// Which of several rows of one name is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Whose {
    /// Its domain; needed with use_domain
    #[arg(long)]
    pub(crate) domain: Option<String>,
    /// All extensions of this name, whatever their domains
    #[arg(long, conflicts_with = "domain")]
    pub(crate) all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UlCommand {
    /// Show all AORs and their contacts, or one AOR
    Show {
        /// The AOR: 9001, or 9001@domain with use_domain
        aor: Option<String>,
        /// Its domain, where the AOR does not say it
        #[arg(long)]
        domain: Option<String>,
    },
    /// List all bindings, a line each
    Dump {
        /// The AORs alone
        #[arg(long)]
        brief: bool,
    },
    /// Add a binding, or replace the one with this contact
    Add {
        /// The AOR: 9001, or 9001@domain with use_domain
        aor: String,
        /// Its domain, where the AOR does not say it
        #[arg(long)]
        domain: Option<String>,
        /// Where it is reached, such as sip:9001@192.168.1.201:5060
        contact: String,
        /// Seconds until it expires; 0: never
        #[arg(long, value_name = "S", default_value_t = 0)]
        expires: u32,
        /// Its priority, from 0 to 1
        #[arg(long, value_name = "Q", value_parser = priority)]
        q: Option<f64>,
    },
    /// Remove an AOR's bindings, or one of them
    Rm {
        /// The AOR: 9001, or 9001@domain with use_domain
        aor: String,
        /// Its domain, where the AOR does not say it
        #[arg(long)]
        domain: Option<String>,
        /// The contact, as `ul show` prints it
        contact: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Make the tables in an empty database; tables that are there are checked and left as they are
    Init,
    /// Check the tables, without changing or making anything, and show what there is
    Check,
    /// Make the tables or the index that are missing; no column that is there is changed
    Migrate,
    /// Copy subscribers and bindings from one database into another
    ///
    /// Each is a URL as `database` has it. Rows of the same name are replaced, so a copy that was broken off is made again. What
    /// both hold afterwards is compared.
    Copy {
        /// Where from, such as mysql://opensips:opensipsrw@10.0.0.3/opensips
        from: String,
        /// Where to, such as sqlite:roost.db
        to: String,
    },
    /// Copy the SQLite database, which may be in use, into a new file
    Backup {
        /// The file, which must not be there
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DsCommand {
    /// Show all next hops and their states
    List,
    /// Take a next hop out, or back in
    ///
    /// active: it is used. inactive: it is neither used nor pinged until it is set active again. probing: it is not used
    /// until it answers a ping.
    SetState {
        /// The state
        state: HopState,
        /// The number of its set, as `ds list` prints it
        set: u32,
        /// Its URI, as `ds list` prints it
        uri: String,
    },
    /// Read the route tables of the configuration file anew; if the file is wrong, nothing changes
    Reload,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BanCommand {
    /// Show the bans that last, and for how long
    List,
    /// Ban an address or an extension
    ///
    /// An address: nothing that it sends is answered. An extension: nobody may log in as it but from where it is registered.
    Add {
        /// An IP address, or an extension
        whom: String,
        /// The extension's domain, with use_domain
        #[arg(long)]
        domain: Option<String>,
        /// The extension at this address only
        #[arg(long, value_name = "IP")]
        at: Option<std::net::IpAddr>,
        /// For how long
        #[arg(long, value_name = "S", default_value_t = 86_400)]
        seconds: u32,
    },
    /// Forget bans and failures of an address or an extension
    Rm {
        /// An IP address, or an extension
        whom: String,
        /// The extension's domain, with use_domain
        #[arg(long)]
        domain: Option<String>,
        /// The extension at this address only
        #[arg(long, value_name = "IP")]
        at: Option<std::net::IpAddr>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CallsCommand {
    /// End a call: both sides get a BYE
    End {
        /// Its ID, as `roost calls` shows it
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TlsCommand {
    /// Make a certificate, and an authority of your own that signs it
    ///
    /// Whoever trusts the authority (ca.pem) trusts the certificate. An authority that is there is used again.
    New {
        /// The names that phones and browsers call the server by, or its addresses
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// The folder for the files, beside the configuration file if relative
        #[arg(long, default_value = "tls")]
        folder: PathBuf,
        /// How long the certificate is good for
        #[arg(long, value_name = "DAYS", default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
        /// Write over a certificate of that name
        #[arg(long)]
        replace: bool,
    },
    /// Show the certificates in use: names, issuer, days left, listeners
    #[command(alias = "list")]
    Show,
    /// Read the certificates' files anew, now; the server does so by itself within 10 s
    Reload,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum HopState {
    Active,
    Inactive,
    Probing,
}

/// A time that has passed, in milliseconds of unix time: how long ago, or when by the clock of this machine.
fn since(text: &str) -> Result<u64, String> {
    let now = chrono::Local::now();
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok((now.timestamp_millis().max(0) as u64).saturating_sub(ago.as_millis() as u64));
    }
    let time =
        ["%H:%M", "%H:%M:%S"].iter().find_map(|format| chrono::NaiveTime::parse_from_str(text, format).ok());
    let at = match time {
        Some(time) if time <= now.time() => Some(now.date_naive().and_time(time)),
        Some(time) => now.date_naive().pred_opt().map(|yesterday| yesterday.and_time(time)),
        None => ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"]
            .iter()
            .find_map(|format| chrono::NaiveDateTime::parse_from_str(text, format).ok()),
    };
    let at = at.and_then(|at| at.and_local_timezone(chrono::Local).earliest());
    at.map(|at| at.timestamp_millis().max(0) as u64)
        .ok_or_else(|| "write how long ago (10m, 2h, 1day) or when (14:30, \"2026-11-27 14:30\")".to_string())
}

fn priority(text: &str) -> Result<f64, String> {
    let q = text.parse().ok().filter(|q| (0.0..=1.0).contains(q));
    q.ok_or_else(|| "must be a number from 0 to 1".to_string())
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read the configuration and say what is wrong with it
    Check,
    /// Show what is in force: every key with its value, its default, where it comes from and what it means
    Show {
        /// Only what differs from the defaults
        #[arg(long)]
        changed: bool,
        /// As the running server has it, not as the file has it now
        #[arg(long)]
        running: bool,
    },
    /// Print a configuration in which every key stands with its meaning and default
    Template,
    /// Write the manual pages into a folder
    #[command(hide = true)]
    Man {
        /// The folder
        folder: PathBuf,
    },
    /// Print docs/reference.md
    #[command(hide = true)]
    Reference,
    /// Print docs/reasons.md, or docs/reasons.zh-CN.md
    #[command(hide = true)]
    Reasons {
        /// en or zh
        language: String,
    },
}

/// `roost console …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConsoleCommand {
    /// Add, list and remove people
    User {
        #[command(subcommand)]
        command: ConsoleUserCommand,
    },
}

/// `roost console user …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConsoleUserCommand {
    /// Add somebody, or give somebody another role and password
    Add {
        name: String,
        /// viewer, operator or administrator
        #[arg(long, default_value = "viewer")]
        role: String,
        /// It is asked for where it is not given
        #[arg(long)]
        password: Option<String>,
    },
    /// Remove somebody
    Rm { name: String },
    /// Show who may log in
    List,
}
