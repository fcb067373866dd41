//! A roost under test: its binaries, its folder, its process.

use std::fmt::Display;
use std::fs;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use roost_rig::{Log, free_port};
use serde_json::{Value, json};

use crate::bench::target_dir;
use crate::command::{cargo, exit_code};

/// The first extension; the others follow it, each with its number as its password.
pub(super) const FIRST: u32 = 100_000;

/// What is run, in release builds.
#[derive(Debug)]
pub(crate) struct Binaries {
    roost: PathBuf,
    bench: PathBuf,
}

impl Binaries {
    pub(crate) fn build() -> Result<Binaries> {
        let mut build = cargo(["build", "--release", "-p", "roost", "-p", "roost-bench"]);
        ensure!(exit_code(&mut build)? == 0, "the build failed");
        let release = target_dir()?.join("release");
        Ok(Binaries { roost: release.join("roost"), bench: release.join("roost-bench") })
    }

    /// Plays a scenario of roost-bench to a server and gives what it printed.
    pub(crate) fn load(&self, place: &Place, scenario: &str, args: &[(&str, &dyn Display)]) -> Result<Value> {
        let mut load = Command::new(&self.bench);
        load.arg(scenario).args(["--json", "--no-echo", "--domain", "127.0.0.1"]);
        load.args(["--server", &place.sip.to_string()]);
        if !args.iter().any(|(name, _)| *name == "--first") {
            load.args(["--first", &FIRST.to_string()]);
        }
        for (name, value) in args {
            load.arg(name).arg(value.to_string());
        }
        let output = load.stderr(Stdio::null()).output().context("cannot run roost-bench")?;
        serde_json::from_slice(&output.stdout).context("roost-bench printed no JSON")
    }

    /// Registers so many phones for ten hours, all with Contacts at this port.
    pub(crate) fn register_all(&self, place: &Place, count: u32, port: u16) -> Result<()> {
        let args: [(&str, &dyn Display); 6] = [
            ("--users", &count),
            ("--expires", &36_000),
            ("--window", &256),
            ("--max-time", &600),
            ("--contact-ports", &1),
            ("--base-port", &port),
        ];
        let said = self.load(place, "register", &args)?;
        ensure!(said["ok"] == count, "{} of {count} phones registered", said["ok"]);
        Ok(())
    }
}

/// The binary of roost.
pub(super) fn roost(is_debug: bool) -> Result<PathBuf> {
    if !is_debug {
        return Ok(Binaries::build()?.roost);
    }
    // With the tests that use it, so that it is theirs and not built once more.
    let mut build = cargo(["test", "--workspace", "--test", "blackbox", "--no-run"]);
    ensure!(exit_code(&mut build)? == 0, "the build failed");
    Ok(target_dir()?.join("debug/roost"))
}

/// A folder with a configuration: one address for UDP and TCP, anybody may call, from anywhere.
#[derive(Debug)]
pub(crate) struct Place {
    dir: PathBuf,
    pub(crate) sip: SocketAddrV4,
    mi: SocketAddrV4,
}

impl Place {
    /// Writes the configuration; `top` are more top-level keys, `sections` more TOML tables.
    pub(crate) fn make(dir: &Path, database: Option<&str>, top: &str, sections: &str) -> Result<Place> {
        let address = || SocketAddrV4::new([127, 0, 0, 1].into(), free_port());
        let (sip, mi) = (address(), address());
        let database = database.unwrap_or("sqlite:roost.db");
        fs::write(
            dir.join("roost.toml"),
            format!(
                "listen = [\"udp:{sip}\", \"tcp:{sip}\"]\ndatabase = \"{database}\"\n{top}\n\
                 [proxy]\nauthorize = \"off\"\n[registrar]\nexclusive = \"off\"\nmax_expires = 36000\n\
                 [mi]\nlisten = \"{mi}\"\n{sections}\n"
            ),
        )?;
        Ok(Place { dir: dir.to_owned(), sip, mi })
    }

    /// The configuration's file.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.join("roost.toml")
    }

    /// What a method of the management interface answers, whole.
    pub(crate) fn mi(&self, method: &str) -> Result<Value> {
        self.mi_with(method, &json!([]))
    }

    /// The same with parameters.
    pub(crate) fn mi_with(&self, method: &str, params: &Value) -> Result<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let sent = ureq::post(format!("http://{}/mi", self.mi))
            .header("content-type", "application/json")
            .send(body);
        Ok(serde_json::from_str(&sent?.body_mut().read_to_string()?)?)
    }

    fn command(&self, binaries: &Binaries) -> Command {
        let mut roost = Command::new(&binaries.roost);
        roost.arg("--config").arg(self.dir.join("roost.toml")).stdin(Stdio::null());
        roost
    }

    /// Listens on another port, too.
    pub(crate) fn also_listen(&self, transport: &str) -> Result<SocketAddr> {
        let file = self.dir.join("roost.toml");
        let at = SocketAddrV4::new([127, 0, 0, 1].into(), free_port());
        let listen = format!("\"{transport}:{at}\", \"udp:{}\"", self.sip);
        let text = fs::read_to_string(&file)?.replacen(&format!("\"udp:{}\"", self.sip), &listen, 1);
        fs::write(file, text)?;
        Ok(at.into())
    }

    /// Runs a command of roost's, which must succeed.
    pub(crate) fn roost(&self, binaries: &Binaries, args: &[&str]) -> Result<()> {
        let output = self.command(binaries).args(args).current_dir(&self.dir).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "roost {}: {said}", args.join(" "));
        Ok(())
    }

    pub(crate) fn import_users(&self, binaries: &Binaries, count: u32) -> Result<()> {
        let csv = self.dir.join("users.csv");
        let users: String = (FIRST..FIRST + count).map(|user| format!("{user},{user}\n")).collect();
        fs::write(&csv, format!("username,password\n{users}"))?;
        let mut import = self.command(binaries);
        let status = import.args(["user", "import"]).arg(&csv).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "the users could not be imported");
        Ok(())
    }
}

/// A process; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) log: Log,
}

impl Server {
    /// Starts it; it may not be ready yet.
    pub(crate) fn spawn(binaries: &Binaries, place: &Place) -> Result<Server> {
        let mut child = place.command(binaries).arg("serve").stderr(Stdio::piped()).spawn()?;
        let log = Log::default();
        log.follow(child.stderr.take().context("a pipe")?);
        Ok(Server { child, log })
    }

    /// Starts it, and waits until it says that it is ready.
    pub(crate) fn start(binaries: &Binaries, place: &Place) -> Result<Server> {
        let mut server = Server::spawn(binaries, place)?;
        while server.log.times_ready() == 0 {
            let ended = server.child.try_wait()?;
            ensure!(ended.is_none(), "roost serve ended before it was ready:\n{}", server.log.text());
            sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    /// Ends it as an operator does, and waits for that.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        ensure!(self.child.wait()?.success(), "roost serve did not end well:\n{}", self.log.text());
        Ok(())
    }

    /// Proportional memory, in bytes.
    pub(crate) fn pss(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = text.lines().find(|line| line.starts_with("Pss:")).context("no Pss")?;
        let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
        Ok(kib * 1024)
    }

    /// CPU time so far, user and kernel, in microseconds.
    pub(crate) fn cpu_us(&self) -> Result<u64> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let ns = text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok());
            sum += ns.context("schedstat")?;
        }
        Ok(sum / 1_000)
    }

    pub(crate) fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
