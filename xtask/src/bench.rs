//! `cargo xtask bench`: builds roost and its load generator, runs them against one another, and shows the medians.
//!
//! Starting, measuring and ending a server is roost-bench's work; here is what it is started with.

use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{available_parallelism, sleep, spawn};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use roost_rig::{Database, Kind, Redis, free_port};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use tempfile::TempDir;

use crate::command::{cargo, exit_code};
use crate::figures;

/// The first extension; roost-bench counts from here too.
const FIRST: u32 = 100_000;
/// Extensions in the database, as many as `register` takes by itself.
const USERS: u32 = 100_000;
const DOMAIN: &str = "127.0.0.1";

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// What to measure.
    #[arg(value_enum, default_value_t = Scenario::All)]
    scenario: Scenario,
    /// How many extensions [default: 100000 for register, 10000 for refresh, 2000 for call].
    #[arg(long, value_name = "N")]
    users: Option<u32>,
    /// How many operations [default: each user once for register, five times for refresh, 30000 for call, 200000 for
    /// options].
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Operations per second; without it as many as 64 phones at once can do.
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Bindings in memory only.
    #[arg(long)]
    memory: bool,
    /// Bindings in the database before the 200 leaves; this is the default.
    #[arg(long, conflicts_with = "memory")]
    write_through: bool,
    /// Where subscribers and bindings are kept; several are measured in turn. Servers are started and stopped.
    #[arg(long, value_enum, value_name = "KIND", default_value = "sqlite", conflicts_with = "against")]
    database: Vec<Store>,
    /// How many operations are under way at once; several are measured in turn [default: 64].
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    window: Vec<u32>,
    /// The server's workers and the echo's [default: one per core].
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// How often; the medians are shown.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Measure this roost instead of a fresh build; several are measured in turn.
    #[arg(long, value_name = "FILE")]
    binary: Vec<PathBuf>,
    /// Measure another registrar, which runs already and knows the users 100000, 100001, ... by equal passwords.
    #[arg(long, value_name = "IP:PORT", requires = "pid", conflicts_with_all = ["binary", "memory", "write_through"])]
    against: Option<SocketAddrV4>,
    /// That registrar's process.
    #[arg(long, requires = "against")]
    pid: Option<u32>,
    /// Where the database is made and removed again [default: the build's folder]. In RAM a commit costs nothing.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Print one JSON object with every run instead of the table.
    #[arg(long)]
    json: bool,
    /// Further arguments for roost-bench, such as --contact-ports 64.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    Sqlite,
    Mariadb,
    Postgres,
    /// Redis for bindings, as several nodes share them, safe on its disk (`cluster.durability = "fsync"`).
    Redis,
    /// The same, in its memory.
    RedisMemory,
}

impl Store {
    /// A server of one's own; none for SQLite.
    pub(crate) fn start(self) -> Option<Database> {
        match self {
            Store::Sqlite | Store::Redis | Store::RedisMemory => None,
            Store::Mariadb => Some(Database::start(Kind::MariaDb)),
            Store::Postgres => Some(Database::start(Kind::Postgres)),
        }
    }

    /// A Redis of one's own, where bindings are to be there.
    fn start_redis(self) -> Option<Redis> {
        match self {
            Store::Redis => Some(Redis::start()),
            Store::RedisMemory => Some(Redis::start_with(&["--appendonly", "no"])),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    Register,
    Refresh,
    Call,
    Options,
    All,
}

/// Runs it; the exit code is 0 when every run had a result.
pub(crate) fn run(bench: &Bench) -> ExitCode {
    match Runs::prepare(bench).and_then(Runs::measure) {
        Ok(runs) => show(bench, &runs),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show(bench: &Bench, runs: &[Value]) -> ExitCode {
    let medians = figures::medians(runs);
    let text = match bench.json {
        true => json!({ "medians": medians, "runs": runs }).to_string(),
        false => figures::table(&medians),
    };
    match writeln!(std::io::stdout().lock(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Everything that the runs need.
struct Runs<'a> {
    bench: &'a Bench,
    generator: PathBuf,
    subjects: Vec<Subject>,
    /// Removed at the end, whatever the end is.
    dir: TempDir,
    stop: Arc<AtomicBool>,
}

/// What is measured.
#[derive(Debug)]
enum Subject {
    Roost {
        name: String,
        binary: PathBuf,
        /// SQLite's file with all users and no binding.
        file: PathBuf,
        /// Or a server that has them.
        database: Option<Database>,
        /// And a store that nodes share.
        redis: Option<Box<(Redis, Store)>>,
    },
    Other {
        address: SocketAddrV4,
        pid: u32,
    },
}

impl<'a> Runs<'a> {
    fn prepare(bench: &'a Bench) -> Result<Runs<'a>> {
        let target = target_dir()?;
        let mut build = cargo(["build", "--release", "-p", "roost-bench"]);
        let builds_roost = bench.binary.is_empty() && bench.against.is_none();
        if builds_roost {
            build.args(["-p", "roost"]);
        }
        ensure!(exit_code(&mut build)? == 0, "the build failed");

        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, stop.clone())?;
        }
        let place = bench.dir.clone().unwrap_or(target.clone());
        let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(&place);
        let dir = dir.with_context(|| format!("cannot make a folder in {}", place.display()))?;
        let binaries = if builds_roost { vec![target.join("release/roost")] } else { bench.binary.clone() };
        let generator = target.join("release/roost-bench");
        let mut runs = Runs { bench, generator, subjects: Vec::new(), dir, stop };
        if let (Some(address), Some(pid)) = (bench.against, bench.pid) {
            runs.subjects.push(Subject::Other { address, pid });
        }
        for binary in binaries {
            for store in &bench.database {
                let subject = runs.import_users(&binary, *store)?;
                runs.subjects.push(subject);
            }
        }
        Ok(runs)
    }

    /// A database of this binary's own making.
    fn import_users(&self, binary: &Path, store: Store) -> Result<Subject> {
        let binary = binary.canonicalize().with_context(|| format!("no roost at {}", binary.display()))?;
        let dir = self.dir.path().join(format!("users-{}", self.subjects.len()));
        fs::create_dir(&dir)?;
        let csv = dir.join("users.csv");
        let users = FIRST..FIRST + self.bench.users.unwrap_or(USERS);
        let lines: String = users.map(|user| format!("{user},{user},{DOMAIN}\n")).collect();
        fs::write(&csv, format!("username,password,domain\n{lines}"))?;
        let (database, redis) = (store.start(), store.start_redis());
        let config = self.write_config(&dir, 0, 0, (database.as_ref(), None))?;
        let mut import = Command::new(&binary);
        import.arg("--config").arg(config).args(["user", "import"]).arg(csv).stdout(Stdio::null());
        ensure!(exit_code(&mut import)? == 0, "{} could not import the users", binary.display());
        let name = match self.bench.binary.len() {
            0 => format!("roost, {}", self.db_mode()),
            _ => binary.display().to_string(),
        };
        let name = match (self.bench.memory, store) {
            (true, _) | (_, Store::Sqlite) => name,
            (_, Store::Mariadb) => format!("{name}, MariaDB"),
            (_, Store::Postgres) => format!("{name}, PostgreSQL"),
            (_, Store::Redis) => format!("{name}, Redis"),
            (_, Store::RedisMemory) => format!("{name}, Redis in memory"),
        };
        let redis = redis.map(|redis| Box::new((redis, store)));
        Ok(Subject::Roost { name, binary, file: dir.join("roost.db"), database, redis })
    }

    /// Every subject in turn, `repeat` times, for one scenario after the other.
    fn measure(self) -> Result<Vec<Value>> {
        let scenarios = match self.bench.scenario {
            Scenario::All => &[Scenario::Register, Scenario::Refresh, Scenario::Options, Scenario::Call][..],
            ref one => std::slice::from_ref(one),
        };
        let windows: Vec<Option<u32>> = match &self.bench.window[..] {
            [] => vec![None],
            several => several.iter().copied().map(Some).collect(),
        };
        let mut results = Vec::new();
        for scenario in scenarios {
            for (window, round) in
                windows.iter().flat_map(|window| (0..self.bench.repeat).map(move |round| (window, round)))
            {
                for subject in &self.subjects {
                    let subject_name = match window {
                        Some(window) => format!("{}, {window} at once", subject.name()),
                        None => subject.name(),
                    };
                    let repeat = self.bench.repeat;
                    eprintln!("    {} {} of {repeat}: {subject_name}", name(*scenario), round + 1);
                    let mut result = self.measure_once(*scenario, subject, *window)?;
                    result["subject"] = subject_name.into();
                    results.push(result);
                }
            }
        }
        Ok(results)
    }

    fn measure_once(&self, scenario: Scenario, subject: &Subject, window: Option<u32>) -> Result<Value> {
        let mut load = Command::new(&self.generator);
        load.arg(name(scenario)).arg("--json");
        load.args(["--echo-workers", &self.workers().to_string()]);
        for (flag, value) in [
            ("--users", self.bench.users.map(|users| users.to_string())),
            ("--count", self.bench.count.map(|count| count.to_string())),
            ("--rate", self.bench.rate.map(|rate| rate.to_string())),
            ("--window", window.map(|window| window.to_string())),
        ] {
            if let Some(value) = value {
                load.args([flag, &value]);
            }
        }
        // Removed with its database after the run.
        let dir = tempfile::tempdir_in(self.dir.path())?;
        let log = dir.path().join("log");
        match subject {
            Subject::Other { address, pid } => {
                load.args(["--server", &address.to_string(), "--server-pid", &pid.to_string()]);
            }
            Subject::Roost { binary, file, database, redis, .. } => {
                if let Some((redis, _)) = redis.as_deref() {
                    ensure!(redis.ask("FLUSHALL").is_some(), "Redis does not answer");
                    load.args(["--db-pid", &redis.pid().to_string()]);
                }
                match database {
                    None => drop(fs::copy(file, dir.path().join("roost.db"))?),
                    Some(server) => {
                        server.sql("TRUNCATE TABLE location");
                        load.args(["--db-pid", &server.pid().to_string()]);
                    }
                }
                let (port, mi) = (free_port(), free_port());
                let stores = (database.as_ref(), redis.as_deref());
                let config = self.write_config(dir.path(), port, mi, stores)?;
                let serve =
                    format!("{} --config {} serve 2>{}", quoted(binary), quoted(&config), quoted(&log));
                load.args(["--server", &format!("127.0.0.1:{port}"), "--domain", DOMAIN, "--spawn", &serve]);
            }
        }
        load.args(&self.bench.args);
        let output = match self.output_of(&mut load) {
            Ok(output) => output,
            Err(error) => {
                return Err(
                    error.context(format!("roost said:\n{}", fs::read_to_string(&log).unwrap_or_default()))
                );
            }
        };
        let mut result: Value = serde_json::from_str(&output)
            .context("roost-bench printed no JSON: keep --json out of its arguments")?;
        result["batches"] = batches(&fs::read_to_string(&log).unwrap_or_default());
        Ok(result)
    }

    /// Runs roost-bench, which ends its server before itself; passes a wish to end on to it.
    fn output_of(&self, load: &mut Command) -> Result<String> {
        let mut child =
            load.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run roost-bench")?;
        let mut stdout = child.stdout.take().context("roost-bench has no output")?;
        let reader = spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let mut is_told = false;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if self.stop.load(Ordering::Relaxed) && !is_told {
                is_told = true;
                kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM)?;
            }
            sleep(Duration::from_millis(20));
        };
        ensure!(!self.stop.load(Ordering::Relaxed), "interrupted");
        ensure!(status.success(), "roost-bench ended with {status}");
        reader
            .join()
            .map_err(|_| anyhow::anyhow!("roost-bench's output could not be read"))?
            .context("reading")
    }

    fn write_config(
        &self,
        dir: &Path,
        port: u16,
        mi: u16,
        (database, redis): (Option<&Database>, Option<&(Redis, Store)>),
    ) -> Result<PathBuf> {
        let (workers, db_mode) = (self.workers(), self.db_mode());
        let (location, cluster) = redis.map_or((String::new(), String::new()), |(redis, store)| {
            let durability = if *store == Store::Redis { "fsync" } else { "memory" };
            let cluster = format!(
                "[cluster]\nnode = \"bench\"\nlisten = \"127.0.0.1:{}\"\nsecrets = [\"nodes of a benchmark\"]\n\
                 durability = \"{durability}\"\n",
                free_port()
            );
            (format!("location = \"{}\"", redis.url()), cluster)
        });
        // Nodes have secrets of their own.
        let secret = if redis.is_some() { "" } else { "secret = \"nonces outlive a restart\"" };
        let database = database.map_or("sqlite:roost.db".to_string(), Database::url);
        let config = dir.join("roost.toml");
        let text = format!(
            r#"listen = ["udp:127.0.0.1:{port}"]
database = "{database}"
{location}
use_domain = true
workers = {workers}
{cluster}
[auth]
{secret}
[usrloc]
db_mode = "{db_mode}"
[registrar]
min_expires = 30
max_expires = 300
max_contacts = 1
exclusive = "off"
[proxy]
authorize = "off"
[mi]
listen = "127.0.0.1:{mi}"
"#
        );
        fs::write(&config, text)?;
        Ok(config)
    }

    fn workers(&self) -> usize {
        self.bench.workers.unwrap_or_else(|| available_parallelism().map_or(2, usize::from))
    }

    fn db_mode(&self) -> &'static str {
        if self.bench.memory { "memory" } else { "write-through" }
    }
}

impl Subject {
    fn name(&self) -> String {
        match self {
            Subject::Roost { name, .. } => name.clone(),
            Subject::Other { address, .. } => address.to_string(),
        }
    }
}

/// What roost says at its end of what it wrote: registrations of a transaction on the average, and of the largest one.
fn batches(log: &str) -> Value {
    let line = log.lines().find(|line| line.contains("written to the database")).unwrap_or_default();
    let number = |name: &str| {
        let word = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        word.and_then(|word| word.parse::<f64>().ok())
    };
    match (number("transactions"), number("registrations"), number("largest")) {
        (Some(transactions), Some(registrations), largest) if transactions > 0.0 => {
            json!({ "mean": registrations / transactions, "largest": largest })
        }
        _ => Value::Null,
    }
}

fn name(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Register => "register",
        Scenario::Refresh => "refresh",
        Scenario::Call => "call",
        Scenario::Options => "options",
        Scenario::All => "all",
    }
}

/// Where cargo builds: this program is two folders below.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let own = env::current_exe()?;
    Ok(own.ancestors().nth(2).context("xtask is not in a target folder")?.to_owned())
}

/// For the shell that roost-bench runs.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
