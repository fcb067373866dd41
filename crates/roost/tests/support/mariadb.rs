//! A MariaDB server of the test's own, in a temporary folder, on a port of its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{Log, PATIENCE, free_port, need, wait_for};

/// Kills it when it is dropped.
pub struct MariaDb {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
    log: Log,
    /// The user that it runs as: it refuses to be root.
    user: Option<(u32, u32)>,
}

impl MariaDb {
    /// A server with an empty database `roost`.
    pub fn start() -> MariaDb {
        let folder = TempDir::with_prefix("roost-mariadb-").expect("a temporary folder");
        let user = is_root().then(|| ids("mysql"));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a folder to enter");
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).expect("its owner");
        }
        let mut server = MariaDb { folder, port: free_port(), process: None, log: Log::default(), user };
        let mut install = server.command("mariadb-install-db");
        install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.args(server.folders());
        let made = install.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it runs");
        assert!(made.success(), "mariadb-install-db");
        server.restart();
        server.sql("CREATE DATABASE roost");
        server
    }

    /// Starts it again after [`MariaDb::kill`].
    pub fn restart(&mut self) {
        let mut command = self.command("mariadbd");
        command.arg("--no-defaults").args(self.folders());
        command.arg(format!("--socket={}", self.socket().display()));
        command.arg(format!("--port={}", self.port)).arg("--bind-address=127.0.0.1");
        command.args(["--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=1"]);
        let mut process = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("mariadbd");
        self.log.follow(process.stderr.take().expect("a pipe"));
        self.process = Some(process);
        wait_for("mariadbd", PATIENCE, || self.try_sql("SELECT 1").is_some().then_some(()));
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// SIGSTOP or SIGCONT.
    pub fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status();
        assert!(sent.expect("sh").success(), "SIG{signal}");
    }

    pub fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/roost", self.port)
    }

    /// What a statement says, as lines of columns that tabs divide.
    pub fn sql(&self, statement: &str) -> String {
        self.try_sql(statement).unwrap_or_else(|| panic!("{statement} fails"))
    }

    fn try_sql(&self, statement: &str) -> Option<String> {
        let mut client = Command::new("mariadb");
        client.arg("--no-defaults").arg(format!("--socket={}", self.socket().display()));
        client.args(["-u", "root", "-N", "-B", "-e", statement]);
        if !statement.starts_with("CREATE DATABASE") && statement != "SELECT 1" {
            client.arg("roost");
        }
        let ran = client.stderr(Stdio::null()).output().expect("the client runs");
        ran.status.success().then(|| String::from_utf8_lossy(&ran.stdout).trim_end().to_owned())
    }

    /// Servers that share a folder for temporary tables delete each other's.
    fn folders(&self) -> [String; 2] {
        let folder = self.folder.path().display();
        [format!("--datadir={folder}/data"), format!("--tmpdir={folder}")]
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn command(&self, program: &str) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(need(program, "mariadb-server"));
        command.current_dir(self.folder.path());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- mariadbd said:\n{}----", self.log.text());
        }
    }
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

/// User and group of a system user, which the Debian package has made.
fn ids(user: &str) -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let line = passwd.lines().find(|line| line.starts_with(&format!("{user}:")));
    let mut parts = line.unwrap_or_else(|| panic!("no user {user}")).split(':').skip(2);
    let mut next = || parts.next().and_then(|id| id.parse().ok()).expect("an id");
    (next(), next())
}
