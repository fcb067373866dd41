//! A Redis server of one's own, in a temporary folder, on a port of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{free_port, need, wait_for};

/// How long it may take to start.
const START: Duration = Duration::from_secs(20);

/// The server; it is killed when it is dropped.
#[derive(Debug)]
pub struct Redis {
    pub address: SocketAddr,
    folder: TempDir,
    options: Vec<String>,
    process: Option<Child>,
}

impl Redis {
    /// A server that writes everything to its disk before it answers.
    pub fn start() -> Redis {
        Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// The same with these options alone.
    pub fn start_with(options: &[&str]) -> Redis {
        let folder = TempDir::with_prefix("roost-redis-").expect("a temporary folder");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let options = options.iter().map(|option| (*option).to_string()).collect();
        let mut redis = Redis { address, folder, options, process: None };
        redis.restart();
        redis
    }

    /// As `location` names it.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// Starts it again after [`Redis::kill`].
    pub fn restart(&mut self) {
        let mut serve = Command::new(need("redis-server", "redis-server"));
        serve.args(["--bind", "127.0.0.1", "--save", "", "--port", &self.address.port().to_string()]);
        serve.arg("--dir").arg(self.folder.path()).args(&self.options);
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
