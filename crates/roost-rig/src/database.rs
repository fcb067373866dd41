//! SQLite's file, or a MariaDB or PostgreSQL server of one's own, in a temporary folder, on a
//! port of its own.

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{Log, free_port, kill_all, need, wait_for};

/// How long a server may take to start, also after it was killed, beside other tests: that is not what they test.
const START: Duration = Duration::from_secs(60);

/// Where the bindings are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    MariaDb,
    Postgres,
}

pub const ALL_KINDS: [Kind; 3] = [Kind::Sqlite, Kind::MariaDb, Kind::Postgres];
pub const SERVERS: [Kind; 2] = [Kind::MariaDb, Kind::Postgres];

impl Kind {
    /// What `ROOST_TEST_DATABASE` names; SQLite if nothing.
    pub fn from_env() -> Kind {
        match env::var("ROOST_TEST_DATABASE").as_deref() {
            Ok("mariadb") => Kind::MariaDb,
            Ok("postgres") => Kind::Postgres,
            Ok("sqlite") | Err(_) => Kind::Sqlite,
            Ok(other) => panic!("ROOST_TEST_DATABASE={other}: sqlite, mariadb or postgres"),
        }
    }
}

/// A database server; it is killed when it is dropped.
#[derive(Debug)]
pub struct Database {
    pub kind: Kind,
    pub folder: TempDir,
    pub port: u16,
    process: Option<Child>,
    log: Log,
    /// The user that it runs as: it refuses to be root.
    user: Option<(u32, u32)>,
    /// More of its command line.
    options: Vec<String>,
}

impl Database {
    /// A server with an empty database `roost`.
    pub fn start(kind: Kind) -> Database {
        Database::start_with(kind, |_| Vec::new())
    }

    /// The same with more options, which may name files that are made in the folder.
    pub fn start_with(kind: Kind, options: impl FnOnce(&Database) -> Vec<String>) -> Database {
        let folder = TempDir::with_prefix("roost-database-").expect("a temporary folder");
        let owner = if kind == Kind::MariaDb { "mysql" } else { "postgres" };
        let user = is_root().then(|| ids(owner));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a folder to enter");
        let mut server = Database {
            kind,
            folder,
            port: free_port(),
            process: None,
            log: Log::default(),
            user,
            options: Vec::new(),
        };
        server.own(server.folder.path().to_path_buf());
        server.options = options(&server);
        let mut install = match kind {
            Kind::Sqlite => panic!("SQLite has no server"),
            Kind::MariaDb => {
                let mut install = server.command("mariadb-install-db", "mariadb-server");
                install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
                install.args(server.folders());
                install
            }
            Kind::Postgres => {
                let mut install = server.command("initdb", "postgresql");
                install.args([
                    "--auth=trust",
                    "--username=root",
                    "--encoding=UTF8",
                    "--no-locale",
                    "--no-sync",
                ]);
                install.arg("-D").arg(server.data());
                install
            }
        };
        let made = install.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it runs");
        assert!(made.success(), "{install:?}");
        server.restart();
        server.admin("CREATE DATABASE roost").expect("a database");
        server
    }

    /// Gives a file or folder to the user that the server runs as.
    pub fn own(&self, path: PathBuf) {
        if let Some((uid, gid)) = self.user {
            chown(path, Some(uid), Some(gid)).expect("its owner");
        }
    }

    /// Starts it again after [`Database::kill`].
    pub fn restart(&mut self) {
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = self.command("postgres", "postgresql");
                command.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path());
                let port = self.port;
                command.args([
                    "-p",
                    &port.to_string(),
                    "-c",
                    "listen_addresses=127.0.0.1",
                    "-c",
                    "shared_buffers=64MB",
                ]);
                command
            }
            _ => {
                let mut command = self.command("mariadbd", "mariadb-server");
                command.arg("--no-defaults").args(self.folders());
                command.arg(format!("--socket={}", self.socket().display()));
                command.arg(format!("--port={}", self.port)).arg("--bind-address=127.0.0.1");
                command.args(["--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=1"]);
                command
            }
        };
        command.args(&self.options);
        let mut process =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a database server");
        self.log.follow(process.stderr.take().expect("a pipe"));
        self.process = Some(process);
        wait_for("the database server", START, || self.admin("SELECT 1").map(drop));
    }

    /// SIGKILL, to its children too.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            kill_all(process);
        }
    }

    /// SIGSTOP or SIGCONT, to its children too.
    pub fn signal(&self, signal: &str) {
        crate::signal(self.pid(), signal);
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same over another port, where something passes it on.
    pub fn url_at(&self, port: u16) -> String {
        let scheme = if self.kind == Kind::Postgres { "postgres" } else { "mysql" };
        format!("{scheme}://root@127.0.0.1:{port}/roost")
    }

    /// What a statement says, as lines of columns that tabs divide; NULL is `NULL`.
    pub fn sql(&self, statement: &str) -> String {
        self.try_sql(statement).unwrap_or_else(|| panic!("{statement} fails"))
    }

    pub fn try_sql(&self, statement: &str) -> Option<String> {
        self.run("roost", statement)
    }

    fn admin(&self, statement: &str) -> Option<String> {
        self.run(if self.kind == Kind::Postgres { "postgres" } else { "" }, statement)
    }

    fn run(&self, database: &str, statement: &str) -> Option<String> {
        let mut client = match self.kind {
            Kind::Postgres => {
                let mut client = Command::new(need("psql", "postgresql-client"));
                client.arg("-h").arg(self.folder.path()).args(["-p", &self.port.to_string(), "-U", "root"]);
                client.args(["-X", "-q", "-A", "-t", "-F", "\t", "-P", "null=NULL", "-v", "ON_ERROR_STOP=1"]);
                client.args(["-c", statement, database]);
                client
            }
            _ => {
                let mut client = Command::new(need("mariadb", "mariadb-client"));
                client.arg("--no-defaults").arg(format!("--socket={}", self.socket().display()));
                client.args(["-u", "root", "-N", "-B", "-e", statement]);
                if !database.is_empty() {
                    client.arg(database);
                }
                client
            }
        };
        let ran = client.stderr(Stdio::null()).output().expect("the client runs");
        ran.status.success().then(|| String::from_utf8_lossy(&ran.stdout).trim_end().to_owned())
    }

    /// Servers that share a folder for temporary tables delete each other's.
    fn folders(&self) -> [String; 2] {
        [format!("--datadir={}", self.data().display()), format!("--tmpdir={}", self.folder.path().display())]
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn command(&self, program: &str, package: &str) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(need(program, package));
        command.current_dir(self.folder.path());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- the database server said:\n{}----", self.log.text());
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
