//! Three nodes, their store, and the network between them.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use roost_rig::{Log, need};
use serde_json::Value;
use tempfile::TempDir;

use super::net::{FLOATING, Net};

/// Where each machine is.
pub(super) const STORE: &str = "10.77.0.2";
pub(super) const PHONES: &str = "10.77.0.20";
pub(super) const RIVALS: &str = "10.77.0.21";
const NODES: [(&str, &str); 3] = [("a", "10.77.0.11"), ("b", "10.77.0.12"), ("c", "10.77.0.13")];
/// How long anything may take to start.
const STARTS: Duration = Duration::from_secs(30);

/// All of it; dropping it ends it.
pub(super) struct World {
    // Processes end before their network.
    nodes: HashMap<&'static str, Node>,
    store: Vec<Process>,
    pub(super) net: Net,
    _folder: TempDir,
}

/// Killed when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Node {
    process: Process,
    config: PathBuf,
    roost: PathBuf,
    log: Log,
}

impl World {
    /// Starts it; the floating address is at node a.
    pub(super) fn make(roost: &std::path::Path, count: u32, first: u32) -> Result<World> {
        let net = Net::make(&[("s", STORE), NODES[0], NODES[1], NODES[2], ("p", PHONES)])?;
        net.add_address("p", RIVALS)?;
        net.add_address("a", FLOATING)?;
        let folder = TempDir::with_prefix("roost-soak-")?;
        let store = store(&net, &folder)?;
        let mut world = World { nodes: HashMap::new(), store, net, _folder: folder };
        for (name, address) in NODES {
            let node = world.node(roost, (name, address), count, first)?;
            world.nodes.insert(name, node);
        }
        Ok(world)
    }

    fn node(
        &self,
        roost: &std::path::Path,
        (name, address): (&'static str, &str),
        count: u32,
        first: u32,
    ) -> Result<Node> {
        let dir = self._folder.path().join(name);
        fs::create_dir(&dir)?;
        let config = dir.join("roost.toml");
        let sentinels: Vec<_> = SENTINELS.iter().map(|port| format!("{STORE}:{port}")).collect();
        let text = format!(
            "listen = [\"udp:{FLOATING}:5060 floating\", \"udp:{address}:5060\"]\n\
             location = \"redis+sentinel://{}/roost/0\"\n\
             [cluster]\nnode = \"{name}\"\nlisten = \"{address}:5070\"\nsecrets = [\"nodes know one another by this\"]\n\
             durability = \"replicated\"\n[proxy]\nauthorize = \"off\"\n[registrar]\nexclusive = \"ip\"\n\
             [mi]\nlisten = \"127.0.0.1:8888\"\n[pike]\nreqs_density_per_unit = 0\n",
            sentinels.join(",")
        );
        fs::write(&config, text)?;
        let users: String = (first..first + count).map(|user| format!("{user},{user}\n")).collect();
        fs::write(dir.join("users.csv"), format!("username,password\n{users}"))?;
        let mut import = Command::new(roost);
        import.arg("--config").arg(&config).args(["user", "import"]).arg(dir.join("users.csv"));
        ensure!(import.stdout(Stdio::null()).status()?.success(), "the users could not be imported");
        let mut serve = self.net.command(name, roost);
        serve.arg("--config").arg(&config).arg("serve").stderr(Stdio::piped());
        let mut child = serve.spawn()?;
        let log = Log::default();
        log.follow(child.stderr.take().context("a pipe")?);
        let mut process = Process(child);
        let end = Instant::now() + STARTS;
        while log.times_ready() == 0 {
            let ended = process.0.try_wait()?;
            ensure!(ended.is_none() && Instant::now() < end, "node {name} does not start:\n{}", log.text());
            sleep(Duration::from_millis(10));
        }
        Ok(Node { process, config, roost: roost.to_path_buf(), log })
    }

    pub(super) fn signal(&self, node: &str, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.nodes[node].process.0.id() as i32), signal)?)
    }

    /// The primary of the store is killed.
    pub(super) fn kill_primary(&mut self) -> Result<()> {
        let primary = self.store.first_mut().context("a store")?;
        Ok(primary.0.kill()?)
    }

    /// What a command of roost's says at a node, as JSON.
    pub(super) fn ask(&self, name: &str, args: &[&str]) -> Result<Value> {
        let node = &self.nodes[name];
        let mut asked = self.net.command(name, &node.roost);
        let output = asked.arg("--config").arg(&node.config).args(args).arg("--json").output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "roost {} at {name}: {said}", args.join(" "));
        serde_json::from_slice(&output.stdout).context("no JSON")
    }

    /// The bindings that a node knows: by extension how many, and the number of the last REGISTER.
    pub(super) fn bindings(&self, node: &str) -> Result<HashMap<String, (usize, u64)>> {
        let dump = self.ask(node, &["ul", "dump"])?;
        let aors = dump["Domains"][0]["AORs"].as_array().context("a list of AORs")?;
        let one = |aor: &Value| {
            let contacts = aor["Contacts"].as_array()?;
            let cseq = contacts.iter().filter_map(|contact| contact["Cseq"].as_u64()).max()?;
            Some((aor["AOR"].as_str()?.to_string(), (contacts.len(), cseq)))
        };
        Ok(aors.iter().filter_map(one).collect())
    }

    /// CPU time of both nodes and their store so far, in microseconds.
    pub(super) fn cpu_us(&self) -> Result<u64> {
        let processes = self.nodes.values().map(|node| &node.process).chain(&self.store);
        let mut sum = 0;
        for process in processes {
            for task in fs::read_dir(format!("/proc/{}/task", process.0.id()))? {
                let spent = fs::read_to_string(task?.path().join("schedstat"))?;
                sum += spent.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0) / 1_000;
            }
        }
        Ok(sum)
    }

    /// What a node has logged.
    pub(super) fn log(&self, node: &str) -> String {
        self.nodes[node].log.text()
    }
}

/// The ports of the store: its primary, its replicas (of two one is left to a new primary), those that watch them.
const SERVERS: [u16; 3] = [6_379, 6_380, 6_381];
const SENTINELS: [u16; 3] = [26_379, 26_380, 26_381];

fn store(net: &Net, folder: &TempDir) -> Result<Vec<Process>> {
    let server = need("redis-server", "redis-server");
    let mut all = Vec::new();
    let mut start = |port: u16, args: &[&str], file: Option<String>| -> Result<()> {
        let dir = folder.path().join(port.to_string());
        fs::create_dir(&dir)?;
        let mut serve = net.command("s", &server);
        if let Some(text) = &file {
            fs::write(dir.join("sentinel.conf"), text)?;
            serve.arg(dir.join("sentinel.conf")).arg("--sentinel");
        } else {
            serve.args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
        }
        serve
            .args(["--bind", STORE, "--protected-mode", "no", "--port", &port.to_string(), "--dir"])
            .arg(&dir);
        serve.args(args).stdout(Stdio::null()).stderr(Stdio::null());
        all.push(Process(serve.spawn()?));
        Ok(())
    };
    let [primary, replica, other] = SERVERS.map(|port| port.to_string());
    start(SERVERS[0], &["--repl-diskless-sync-delay", "0"], None)?;
    for port in [SERVERS[1], SERVERS[2]] {
        start(port, &["--replicaof", STORE, &primary, "--repl-diskless-sync-delay", "0"], None)?;
    }
    for port in [&replica, &other] {
        says(net, port, "INFO replication", "master_link_status:up")?;
    }
    let watch = format!(
        "sentinel monitor roost {STORE} {primary} 2\nsentinel down-after-milliseconds roost 2000\n\
         sentinel failover-timeout roost 10000\n"
    );
    for port in SENTINELS {
        start(port, &[], Some(watch.clone()))?;
    }
    for port in SENTINELS {
        says(net, &port.to_string(), "SENTINEL REPLICAS roost", &replica)?;
        says(net, &port.to_string(), "SENTINEL REPLICAS roost", &other)?;
        says(net, &port.to_string(), "SENTINEL SENTINELS roost", "ip")?;
    }
    Ok(all)
}

/// Waits until a server says something.
fn says(net: &Net, port: &str, question: &str, wanted: &str) -> Result<()> {
    let end = Instant::now() + STARTS;
    loop {
        let mut ask = net.command("s", need("redis-cli", "redis-tools"));
        ask.args(["-h", STORE, "-p", port]).args(question.split(' '));
        let said = ask.output()?;
        if String::from_utf8_lossy(&said.stdout).contains(wanted) {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("{question} at port {port} does not say {wanted}");
        }
        sleep(Duration::from_millis(100));
    }
}
