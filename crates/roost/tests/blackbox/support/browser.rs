//! A phone in a real browser: Chromium without a screen, a page with JsSIP or SIP.js, and what the page says of its calls.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{need, wait_for_end};

/// Long enough for a browser to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The browser; dropping it kills it as `kill -9` does.
pub struct Browser {
    process: Child,
    said: Receiver<String>,
    user: String,
    _profile: TempDir,
}

/// What the page is opened with.
#[derive(Clone, Copy, Default)]
pub struct Page<'a> {
    /// `jssip` or `sipjs`.
    pub library: &'a str,
    pub user: &'a str,
    /// The extension that it calls.
    pub call: &'a str,
    pub hangs_up: bool,
    /// Its `+sip.instance`, a UUID; empty: a new one.
    pub instance: &'a str,
}

impl Browser {
    /// Opens the page; its phone connects to this WebSocket.
    pub fn open(url: &str, page: Page<'_>) -> Browser {
        let (address, said) = serve();
        let mut query = format!("user={}&url={url}&library={}", page.user, page.library);
        if !page.call.is_empty() {
            query.push_str(&format!("&call={}", page.call));
        }
        if !page.instance.is_empty() {
            query.push_str(&format!("&instance={}", page.instance));
        }
        if page.hangs_up {
            query.push_str("&hangs_up=yes");
        }
        let profile = TempDir::with_prefix("roost-browser-").expect("a folder");
        let process = Command::new(need("chromium", "chromium"))
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--mute-audio"])
            .args(["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"])
            // The authority is the test's own, which no browser knows.
            .args(["--ignore-certificate-errors", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("http://{address}/?{query}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("chromium starts");
        Browser { process, said, user: page.user.to_owned(), _profile: profile }
    }

    /// Waits until the page says this; what it says before is passed over.
    pub fn wait(&self, wanted: &str) {
        let end = Instant::now() + PATIENCE;
        let mut passed = Vec::new();
        loop {
            match self.said.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(text) if text == wanted => return,
                Ok(text) => passed.push(text),
                Err(_) => {
                    panic!("browser {}: no \"{wanted}\" within {PATIENCE:?}, but {passed:?}", self.user)
                }
            }
        }
    }

    /// Kills it and all its processes.
    pub fn kill9(&mut self) {
        let group = self.process.id();
        let kill = format!("kill -KILL -{group} 2>/dev/null");
        let _ = Command::new("sh").args(["-c", &kill]).status();
        let _ = wait_for_end(&mut self.process, PATIENCE);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// The script that looks for what keeps people out of a page.
pub fn axe() -> String {
    let folder = script().parent().expect("its folder");
    fs::read_to_string(folder.join("node_modules/axe-core/axe.min.js")).expect("axe-core")
}

/// The page's script: the libraries are fetched once, and bundled.
fn script() -> &'static Path {
    static SCRIPT: OnceLock<PathBuf> = OnceLock::new();
    SCRIPT.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("browser");
        fs::create_dir_all(&folder).expect("a folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
        for name in ["package.json", "package-lock.json", "phone.js"] {
            fs::copy(source.join(name), folder.join(name)).expect(name);
        }
        let run = |program: PathBuf, args: &[&str]| {
            let ran = Command::new(program).args(args).current_dir(&folder).output().expect("it starts");
            assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
        };
        run(need("npm", "npm"), &["ci", "--no-audit", "--no-fund"]);
        let bundle = ["phone.js", "--bundle", "--format=iife", "--outfile=bundle.js"];
        run(folder.join("node_modules/.bin/esbuild"), &bundle);
        folder.join("bundle.js")
    })
}

/// Serves the page, and hears what it says.
fn serve() -> (SocketAddr, Receiver<String>) {
    let script = script();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let (says, said) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let says = says.clone();
            thread::spawn(move || answer(&stream, script, &says));
        }
    });
    (address, said)
}

fn answer(mut stream: &TcpStream, script: &Path, says: &mpsc::Sender<String>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let request = lines.next().unwrap_or_default();
    lines.for_each(drop);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (kind, body) = match path.split_once("/say?text=") {
        Some((_, text)) => {
            let _ = says.send(text.replace('+', " "));
            ("text/plain", Vec::new())
        }
        None if path == "/phone.js" => ("text/javascript", fs::read(script).expect("the script")),
        None => ("text/html", b"<!doctype html><script src=\"/phone.js\"></script>".to_vec()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let _ = stream.write_all(&[head.as_bytes(), &body].concat());
}
