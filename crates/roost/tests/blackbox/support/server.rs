//! One `roost serve` with a folder, ports and a configuration of its own, and the command line beside it.

use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Database, Kind, Log, PATIENCE, Phone, TLS_SECTION, free_port, mi, wait_for};

/// A server process; kill it, stop it, start it again on the same folder. Dropping it kills it.
pub struct Server {
    /// Holds the configuration and the database.
    folder: TempDir,
    /// None: it runs without one, on the default ports.
    config: Option<PathBuf>,
    pub sip: SocketAddr,
    pub mi: SocketAddr,
    /// Everything the process has said on standard error, over all its starts.
    pub log: Log,
    child: Option<Child>,
    /// Its database server, if it has one of its own.
    pub database: Option<Database>,
    /// Held while the default ports are taken.
    _ports: Option<File>,
}

impl Server {
    /// A server at 127.0.0.1 on free ports; `top` are more top-level keys, `sections` more TOML tables.
    /// It is not started.
    pub fn prepared(top: &str, sections: &str) -> Server {
        Server::prepared_on(Kind::from_env(), top, sections)
    }

    /// The same with a database of this kind.
    pub fn prepared_on(kind: Kind, top: &str, sections: &str) -> Server {
        let mut server = Server::at(free_port(), free_port());
        server.write_config(top, sections);
        if kind != Kind::Sqlite {
            let database = Database::start(kind);
            server.use_database(&database.url());
            server.database = Some(database);
        }
        server
    }

    fn write_config(&mut self, top: &str, sections: &str) {
        self.config = Some(self.path("roost.toml"));
        let text = format!(
            "listen = [\"udp:{0}\", \"tcp:{0}\"]\ndatabase = \"sqlite:roost.db\"\n{top}\n[mi]\nlisten = \"{1}\"\n{sections}\n",
            self.sip, self.mi
        );
        fs::write(self.path("roost.toml"), text).expect("a configuration file");
    }

    /// The same, listening for TLS, too, with a certificate for localhost and 127.0.0.1; and where.
    pub fn prepared_with_tls() -> (Server, SocketAddr) {
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let server = Server::prepared("", TLS_SECTION);
        server.succeed(&["tls", "new", "localhost", "127.0.0.1"]);
        server.also_listen(&format!("tls:{at}"));
        (server, at)
    }

    /// As [`Server::prepared`], and serving.
    pub fn started(top: &str, sections: &str) -> Server {
        let mut server = Server::prepared(top, sections);
        server.start();
        server
    }

    /// A server as the README starts it: no configuration, in an empty folder. It is not started.
    ///
    /// All such servers of this machine's test programs wait for each other: they need the same ports.
    pub fn on_default_ports() -> Server {
        let lock = File::create(env::temp_dir().join("roost-tests-default-ports.lock")).expect("a lock file");
        lock.lock().expect("the lock on the default ports");
        let mut server = Server::at(5060, 8888);
        server._ports = Some(lock);
        server
    }

    fn at(sip: u16, mi: u16) -> Server {
        Server {
            folder: TempDir::with_prefix("roost-test-").expect("a temporary folder"),
            config: None,
            sip: SocketAddr::from(([127, 0, 0, 1], sip)),
            mi: SocketAddr::from(([127, 0, 0, 1], mi)),
            log: Log::default(),
            child: None,
            database: None,
            _ports: None,
        }
    }

    /// Takes another database than its own file; before it is started.
    pub fn use_database(&mut self, url: &str) {
        self.replace_in_config("sqlite:roost.db", url);
    }

    /// Changes its configuration; it is read at the next start.
    pub fn replace_in_config(&self, from: &str, to: &str) {
        let config = fs::read_to_string(self.path("roost.toml")).expect("its configuration");
        assert!(config.contains(from), "no {from} in {config}");
        fs::write(self.path("roost.toml"), config.replace(from, to)).expect("a configuration");
    }

    /// Listens there, too; before it is started.
    pub fn also_listen(&self, entry: &str) {
        let tcp = format!("\"tcp:{}\"", self.sip);
        self.replace_in_config(&tcp, &format!("{tcp}, \"{entry}\""));
    }

    /// Starts it and returns when it says that it is ready.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let earlier = self.log.times_ready();
        let mut serve = self.command(&["serve"]);
        let mut child = serve
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        self.log.follow(child.stderr.take().expect("a pipe"));
        self.child = Some(child);
        let end = Instant::now() + PATIENCE;
        while self.log.times_ready() == earlier {
            let ended = self.process().try_wait().expect("its state");
            assert!(ended.is_none(), "roost serve ended with {ended:?} before it was ready");
            assert!(Instant::now() < end, "roost serve was not ready within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM; gives the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.end_by("TERM")
    }

    /// SIGINT, which is Ctrl-C; gives the exit code.
    pub fn interrupt(&mut self) -> Option<i32> {
        self.end_by("INT")
    }

    /// SIGKILL: nothing of the process can act any more.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let ended = child.try_wait().expect("its state");
        assert!(ended.is_none(), "it had ended by itself: {ended:?}");
        child.kill().expect("SIGKILL");
        child.wait().expect("its end");
    }

    fn end_by(&mut self, signal: &str) -> Option<i32> {
        let pid = self.pid().to_string();
        // The shell's own kill: there may be no other in a small container.
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status();
        assert!(sent.expect("sh").success(), "SIG{signal} to {pid}");
        let status = wait_for_end(self.process(), PATIENCE);
        let status = status.unwrap_or_else(|| panic!("SIG{signal} did not end it within {PATIENCE:?}"));
        self.child = None;
        status.code()
    }

    /// Waits until it ends by itself; its exit code.
    pub fn wait_for_end(&mut self) -> Option<i32> {
        let status = wait_for_end(self.process(), PATIENCE);
        self.child = None;
        status.expect("it ends in time").code()
    }

    fn process(&mut self) -> &mut Child {
        self.child.as_mut().expect("it runs")
    }

    /// Sends it a signal by its name, such as HUP.
    pub fn signal(&self, name: &str) {
        roost_rig::signal(self.pid(), name);
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Resident memory in kB.
    pub fn resident_kb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("/proc");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number of kB")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command line with this server's configuration, in its folder.
    pub fn roost(&self, args: &[&str]) -> Ran {
        run(self.command(args), PATIENCE)
    }

    /// As [`Server::roost`], for a command that must succeed; gives its standard output.
    pub fn succeed(&self, args: &[&str]) -> String {
        let ran = self.roost(args);
        assert_eq!(ran.code, Some(0), "roost {args:?}: {}", ran.stderr);
        ran.stdout
    }

    /// As [`Server::roost`], not started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roost"));
        command.current_dir(self.folder.path());
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command.args(args);
        command
    }

    pub fn add_user(&self, user: &str, password: &str) {
        self.succeed(&["user", "add", user, password]);
    }

    /// Extensions `first`, `first + 1`, … with their number as password, straight into the database:
    /// ten thousand processes of `roost user add` would take minutes.
    pub fn add_users(&self, first: u32, count: u32) {
        self.add_user(&first.to_string(), &first.to_string()); // makes the tables, if there are none
        let users: Vec<u32> = (first + 1..first + count).collect();
        for some in users.chunks(1_000) {
            let rows: Vec<_> = some.iter().map(|user| format!("('{user}', '', '{user}')")).collect();
            self.sql(&format!(
                "INSERT INTO subscriber (username, domain, password) VALUES {}",
                rows.join(", ")
            ));
        }
    }

    /// What a statement says, as lines of columns that tabs divide, NULL as `NULL`, once all that was answered for is in
    /// the tables.
    pub fn sql(&self, statement: &str) -> String {
        if let Some(database) = &self.database {
            if self.child.is_some() {
                assert_eq!(self.mi("ul_flush", json!([])), Ok(json!("OK")));
            }
            return database.sql(statement);
        }
        let connection = self.sqlite();
        let mut prepared = connection.prepare(statement).expect(statement);
        let columns = prepared.column_count();
        let text = |value: ValueRef<'_>| match value {
            ValueRef::Null => "NULL".to_string(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Real(number) => number.to_string(),
            ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into_owned(),
        };
        let line = |row: &rusqlite::Row<'_>| {
            let columns = (0..columns).map(|at| row.get_ref(at).map(text));
            Ok(columns.collect::<Result<Vec<_>, _>>()?.join("\t"))
        };
        let lines = prepared.query_map([], line).expect(statement);
        lines.collect::<Result<Vec<_>, _>>().expect(statement).join("\n")
    }

    /// The SQLite database, beside the running server, once all that was answered for is in its tables.
    pub fn sqlite(&self) -> Connection {
        if self.child.is_some() {
            assert_eq!(self.mi("ul_flush", json!([])), Ok(json!("OK")));
        }
        let connection = Connection::open(self.path("roost.db")).expect("the database");
        connection.busy_timeout(PATIENCE).expect("a busy timeout");
        connection
    }

    /// How many rows there are in `location`, of one extension or of all.
    pub fn rows(&self, user: Option<&str>) -> i64 {
        let by_user = user.map_or(String::new(), |user| format!(" WHERE username = '{user}'"));
        let count = self.sql(&format!("SELECT count(*) FROM location{by_user}"));
        count.parse().expect("a number")
    }

    /// A phone at 127.0.0.1 whose password is its number.
    pub fn phone(&self, user: &str) -> Phone {
        Phone::new(self.sip, user, user)
    }

    /// One counter, by its whole name such as `tm:inuse_transactions`.
    pub fn statistic(&self, name: &str) -> u64 {
        let values =
            self.mi("get_statistics", json!([[name]])).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        values[name].as_u64().unwrap_or_else(|| panic!("no {name} in {values}"))
    }

    /// Until every transaction is forgotten: 32 seconds (64 T1) after the last has ended. Gives how long it took.
    pub fn wait_for_no_transactions(&self) -> Duration {
        let since = Instant::now();
        wait_for("the end of all transactions", Duration::from_secs(40), || {
            (self.statistic("tm:inuse_transactions") == 0).then_some(())
        });
        since.elapsed()
    }

    /// Calls a method of MI; the error is its code and message.
    pub fn mi(&self, method: &str, params: Value) -> Result<Value, (i64, String)> {
        mi::call(self.mi, method, params)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!("---- roost serve said on standard error:\n{}----", self.log.text());
        }
    }
}

/// What became of a command.
pub struct Ran {
    /// None: a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `roost` in `folder`, without a configuration unless `args` name one.
pub fn roost(folder: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roost"));
    command.current_dir(folder).args(args);
    run(command, PATIENCE)
}

/// Runs a command to its end.
pub fn run(mut command: Command, patience: Duration) -> Ran {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = collect(child.stdout.take().expect("a pipe"));
    let stderr = collect(child.stderr.take().expect("a pipe"));
    let status = wait_for_end(&mut child, patience);
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let (stdout, stderr) = (stdout.join().expect("stdout"), stderr.join().expect("stderr"));
    let Some(status) = status else {
        panic!("{command:?} did not end within {patience:?}\n{stdout}\n{stderr}")
    };
    Ran { code: status.code(), stdout, stderr }
}

pub fn wait_for_end(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + patience;
    loop {
        let status = child.try_wait().expect("its state");
        if status.is_some() || Instant::now() > end {
            return status;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Calls.
impl Server {
    /// A server with the extensions 9001, 9002 and 9003 and these TOML tables.
    pub fn for_calls(sections: &str) -> Server {
        let mut server = Server::prepared("", sections);
        server.add_users(9001, 3);
        server.start();
        server
    }

    /// The first contact of an extension as operators see it; null when it has none.
    pub fn contact(&self, user: &str) -> Value {
        let reply = self.mi("ul_show_contact", serde_json::json!({"table_name": "location", "aor": user}));
        reply.map_or(Value::Null, |reply| reply["Contacts"][0].clone())
    }

    /// A phone of an extension, registered for five minutes.
    pub fn registered(&self, user: &str) -> Phone {
        let mut phone = self.phone(user);
        assert_eq!(phone.register(300).line(), "200 OK");
        phone
    }
}
