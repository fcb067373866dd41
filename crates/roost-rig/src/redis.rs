//! A Redis server of one's own, in a temporary folder, on a port of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{find, free_port, need, wait_for};

/// Names the file of Valkey's server, which Debian 12 does not have.
const VALKEY: &str = "ROOST_TEST_VALKEY";

/// How long it may take to start.
const START: Duration = Duration::from_secs(20);

/// The server; it is killed when it is dropped.
#[derive(Debug)]
pub struct Redis {
    pub address: SocketAddr,
    folder: TempDir,
    options: Vec<String>,
    program: PathBuf,
    process: Option<Child>,
}

/// What a server writes to its disk before it answers: everything.
const FSYNC: [&str; 6] =
    ["--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0"];

impl Redis {
    /// A server that writes everything to its disk before it answers.
    pub fn start() -> Redis {
        Redis::start_with(&FSYNC)
    }

    /// The same of Valkey.
    ///
    /// # Panics
    /// Where there is none.
    pub fn valkey() -> Redis {
        let named = std::env::var_os(VALKEY).map(PathBuf::from).or_else(|| find("valkey-server"));
        let fetched = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/valkey-server"));
        let program = named.or_else(|| Some(fetched).filter(|file| file.is_file()));
        let missing =
            "valkey-server is missing: `cargo xtask test` fetches it, or name its file in ROOST_TEST_VALKEY";
        Redis::of(program.expect(missing), &FSYNC)
    }

    /// The same with these options alone.
    pub fn start_with(options: &[&str]) -> Redis {
        Redis::of(need("redis-server", "redis-server"), options)
    }

    fn of(program: PathBuf, options: &[&str]) -> Redis {
        let folder = TempDir::with_prefix("roost-redis-").expect("a temporary folder");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let options = options.iter().map(|option| (*option).to_string()).collect();
        let mut redis = Redis { address, folder, options, program, process: None };
        redis.restart();
        redis
    }

    /// Replicas of it that write everything to their disks, too, and are connected.
    ///
    /// # Panics
    /// When they are not in time.
    pub fn with_replicas(count: usize) -> (Redis, Vec<Redis>) {
        let redis = Redis::start();
        let port = redis.address.port().to_string();
        let options = ["--appendonly", "yes", "--appendfsync", "always", "--replicaof", "127.0.0.1", &port];
        let replicas = (0..count).map(|_| Redis::start_with(&options)).collect();
        redis.await_replicas(count);
        (redis, replicas)
    }

    /// Waits until so many replicas are connected to it.
    ///
    /// # Panics
    /// When they are not in time.
    pub fn await_replicas(&self, count: usize) {
        wait_for("the replicas", START, || {
            let said = self.ask("INFO replication")?;
            (said.matches("state=online").count() == count).then_some(())
        });
    }

    /// As `location` names it.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// Starts it again after [`Redis::kill`].
    pub fn restart(&mut self) {
        let mut serve = Command::new(&self.program);
        // A file, if there is one, stands first.
        let (files, options) =
            self.options.split_at(self.options.iter().take_while(|one| one.ends_with(".conf")).count());
        serve.args(files);
        serve.args(["--bind", "127.0.0.1", "--port", &self.address.port().to_string()]);
        if files.is_empty() {
            serve.args(["--save", ""]);
        }
        serve.arg("--dir").arg(self.folder.path()).args(options);
        let child = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.process = Some(child.expect("redis-server starts"));
        wait_for("redis-server", START, || self.ask("PING").filter(|said| said.starts_with("+PONG")));
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it can be killed");
            process.wait().expect("its end");
        }
    }

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// What it says to a command of one line.
    pub fn ask(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
        let mut room = vec![0; 64 << 10];
        let len = stream.read(&mut room).ok()?;
        Some(String::from_utf8_lossy(room.get(..len)?).into_owned())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Processes that watch a primary and name another one when it is gone.
#[derive(Debug)]
pub struct Sentinels(Vec<Redis>);

impl Sentinels {
    /// Three of them; the service is `roost`. A primary counts as gone after a second.
    ///
    /// # Panics
    /// When they do not start.
    pub fn start(primary: &Redis) -> Sentinels {
        let sentinels = (0..3).map(|_| Sentinels::one(primary)).collect();
        let sentinels = Sentinels(sentinels);
        wait_for("the sentinels", START, || {
            let knows = |one: &Redis| {
                let said = one.ask("SENTINEL MASTER roost").unwrap_or_default();
                let field = |name: &str| {
                    let (_, rest) = said.split_once(&format!("\r\n{name}\r\n"))?;
                    rest.split("\r\n").nth(1)?.parse::<u32>().ok()
                };
                field("num-other-sentinels") == Some(2) && field("num-slaves").is_some_and(|all| all > 0)
            };
            sentinels.0.iter().all(knows).then_some(())
        });
        sentinels
    }

    fn one(primary: &Redis) -> Redis {
        let folder = TempDir::with_prefix("roost-sentinel-").expect("a temporary folder");
        let text = format!(
            "sentinel monitor roost 127.0.0.1 {} 2\nsentinel down-after-milliseconds roost 1000\n\
             sentinel failover-timeout roost 5000\n",
            primary.address.port()
        );
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, text).expect("a configuration file");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let options = vec![file.display().to_string(), "--sentinel".to_string()];
        let program = need("redis-server", "redis-server");
        let mut sentinel = Redis { address, folder, options, program, process: None };
        sentinel.restart();
        sentinel
    }

    /// As `location` names the service.
    pub fn url(&self) -> String {
        let all: Vec<_> = self.0.iter().map(|one| one.address.to_string()).collect();
        format!("redis+sentinel://{}/roost/0", all.join(","))
    }

    /// The port of the primary.
    pub fn primary(&self) -> Option<u16> {
        let said = self.0.first()?.ask("SENTINEL GET-MASTER-ADDR-BY-NAME roost")?;
        said.trim_end().rsplit("\r\n").next()?.parse().ok()
    }
}

/// A Cluster: three primaries with a replica each.
#[derive(Debug)]
pub struct RedisCluster(pub Vec<Redis>);

impl RedisCluster {
    /// # Panics
    /// When it does not start.
    pub fn start() -> RedisCluster {
        let one = |_| {
            let bus = free_port().to_string();
            let options = [
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "1500",
                "--cluster-port",
                &bus,
                "--repl-diskless-sync-delay",
                "0",
                "--repl-diskless-sync-delay",
                "0",
            ];
            Redis::start_with(&options)
        };
        let all: Vec<Redis> = (0..6).map(one).collect();
        let mut create = Command::new(need("redis-cli", "redis-tools"));
        create.args(["--cluster", "create"]).args(all.iter().map(|one| one.address.to_string()));
        create.args(["--cluster-replicas", "1", "--cluster-yes"]);
        let said = create.stdin(Stdio::null()).output().expect("redis-cli");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
        let is_ok = |one: &Redis| {
            one.ask("CLUSTER INFO").is_some_and(|said| said.contains("cluster_state:ok"))
                && one.ask("CLUSTER NODES").is_some_and(|said| said.matches("slave").count() == 3)
                && one.ask("INFO replication").is_some_and(|said| {
                    said.contains("state=online") || said.contains("master_link_status:up")
                })
                && one.ask("INFO replication").is_some_and(|said| {
                    said.contains("state=online") || said.contains("master_link_status:up")
                })
        };
        wait_for("the Cluster", START, || all.iter().all(is_ok).then_some(()));
        RedisCluster(all)
    }

    /// As `location` names it: two of its servers are enough.
    pub fn url(&self) -> String {
        let some: Vec<_> = self.0.iter().take(2).map(|one| one.address.to_string()).collect();
        format!("redis+cluster://{}", some.join(","))
    }
}
