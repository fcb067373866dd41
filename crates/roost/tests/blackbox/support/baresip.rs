//! A real phone without a sound card: a baresip process, steered and watched over its control connection.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Log, PATIENCE, Server, free_port, need, wait_for, wait_for_end};

/// What a phone does when it is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    AtOnce,
    WhenTold,
}

/// A baresip process; dropping it kills it.
pub struct Baresip {
    process: Child,
    control: TcpStream,
    /// What it says by itself, in order.
    events: Receiver<Value>,
    /// What it says to commands, in order.
    replies: Receiver<Value>,
    /// Its own log, with every SIP message.
    log: Log,
    pub user: String,
    /// Where it listens for SIP.
    pub port: u16,
}

impl Baresip {
    /// A phone that begins to register with `server`; its password is its number.
    pub fn start(server: &Server, user: &str, answers: Answers) -> Baresip {
        Baresip::start_at(server, server.sip, user, answers, "")
    }

    /// The same; it takes this address for the server's. `params` are more of its account's, such as the transport.
    pub fn start_at(server: &Server, at: SocketAddr, user: &str, answers: Answers, params: &str) -> Baresip {
        need("baresip", "baresip-core");
        let (port, control_port) = (free_port(), free_port());
        let folder = server.path(&format!("baresip-{user}"));
        configure(&folder, at, user, (answers, params), port, control_port);
        let mut process = Command::new("baresip")
            .current_dir(&folder)
            // With a trace of its messages; it ends by itself if the test program is killed.
            .args(["-s", "-f", ".", "-t", "180"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("baresip starts");
        let log = Log::default();
        log.follow(process.stdout.take().expect("a pipe"));
        log.follow(process.stderr.take().expect("a pipe"));
        let control = wait_for("baresip's control port", PATIENCE, || {
            TcpStream::connect(("127.0.0.1", control_port)).ok()
        });
        let (events, replies) = listen(&control);
        Baresip { process, control, events, replies, log, user: user.to_owned(), port }
    }

    /// A phone that can be called.
    pub fn registered(server: &Server, user: &str, answers: Answers) -> Baresip {
        Baresip::registered_at(server, server.sip, user, answers, "")
    }

    /// The same, as [`Baresip::start_at`] has it.
    pub fn registered_at(
        server: &Server,
        at: SocketAddr,
        user: &str,
        answers: Answers,
        params: &str,
    ) -> Baresip {
        let phone = Baresip::start_at(server, at, user, answers, params);
        wait_for("baresip's binding", PATIENCE, || phone.is_bound(server).then_some(()));
        phone
    }

    pub fn is_bound(&self, server: &Server) -> bool {
        let dump = server.mi("ul_dump", json!({})).expect("a dump").to_string();
        // Its Contact is sip:9001-0x55d0c0ffee00@127.0.0.1:PORT, of its next port over TLS.
        [(0, "\""), (0, ";transport=tcp\""), (1, ";transport=tls\"")]
            .iter()
            .any(|(more, end)| dump.contains(&format!("@127.0.0.1:{}{end}", self.port + more)))
    }

    /// `dial`, `accept`, `hangup`, `quit` and others; gives what baresip says to it.
    pub fn command(&mut self, command: &str, params: &str) -> String {
        self.send(command, params);
        let reply = self.replies.recv_timeout(PATIENCE);
        let reply = reply.unwrap_or_else(|error| panic!("baresip {}: {command}: {error}", self.user));
        assert_eq!(reply["ok"], true, "baresip {}: {command} {params}: {reply}", self.user);
        reply["data"].as_str().unwrap_or_default().to_owned()
    }

    /// A command in a netstring.
    fn send(&mut self, command: &str, params: &str) {
        let request = json!({"command": command, "params": params, "token": command}).to_string();
        write!(self.control, "{}:{request},", request.len()).expect("a command sent");
    }

    /// The next event that `wanted` takes; those before it are passed over.
    pub fn wait_event(&self, what: &str, patience: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + patience;
        let mut passed = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if wanted(&event) => return event,
                Ok(event) => passed.push(event["type"].to_string()),
                Err(_) => panic!("baresip {}: no {what} within {patience:?}, but {passed:?}", self.user),
            }
        }
    }

    /// The next event of a type such as `CALL_ESTABLISHED`; gives its parameter: the peer, or why a call ended.
    pub fn wait_call(&self, kind: &str) -> String {
        let event = self.wait_event(kind, PATIENCE, |event| event["type"] == kind);
        event["param"].as_str().unwrap_or_default().to_owned()
    }

    /// As [`Baresip::wait_call`], for several that may come in any order.
    pub fn wait_calls(&self, kinds: &[&str]) {
        let mut missing = kinds.to_vec();
        while !missing.is_empty() {
            let is_missing = |event: &Value| missing.iter().any(|kind| event["type"] == *kind);
            let event = self.wait_event(&missing.join(" or "), PATIENCE, is_missing);
            missing.retain(|kind| event["type"] != *kind);
        }
    }

    /// How many calls it has.
    pub fn calls(&mut self) -> usize {
        let said = self.command("listcalls", "");
        let count = said.split_once("Active calls (").and_then(|(_, rest)| rest.split_once(')'));
        count.and_then(|(count, _)| count.parse().ok()).unwrap_or_else(|| panic!("listcalls: {said:?}"))
    }

    /// Ends it as a user would: it unregisters first.
    pub fn quit(&mut self) {
        // It may be gone before its reply is.
        self.send("quit", "");
        let status = wait_for_end(&mut self.process, PATIENCE);
        assert_eq!(status.map(|status| status.code()), Some(Some(0)), "baresip's end");
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            eprintln!("---- baresip {} said:\n{}----", self.user, self.log.text());
        }
    }
}

/// Its folder: configuration, account, no contacts, and half a minute of silence to say.
/// Each calls the other at this address of the server; they hear one another; the caller hangs up, then the callee.
pub fn call_both_ways(phones: [(Baresip, SocketAddr); 2]) {
    let mut phones = phones;
    for (caller, callee) in [(0, 1), (1, 0)] {
        let target = format!("sip:{}@{}", phones[callee].0.user, phones[caller].1);
        phones[caller].0.command("dial", &target);
        phones[callee].0.wait_call("CALL_INCOMING");
        phones[caller].0.wait_call("CALL_RINGING");
        phones[callee].0.command("accept", "");
        for (phone, _) in &phones {
            phone.wait_calls(&["CALL_ESTABLISHED", "CALL_RTPESTAB"]);
        }
        phones[1].0.command("hangup", "");
        phones[1].0.wait_call("CALL_CLOSED");
        assert_eq!(phones[0].0.wait_call("CALL_CLOSED"), "Connection reset by peer");
    }
}

fn configure(
    folder: &Path,
    at: SocketAddr,
    user: &str,
    (answers, params): (Answers, &str),
    port: u16,
    control_port: u16,
) {
    fs::create_dir(folder).expect("a folder");
    let sound = folder.join("silence.wav");
    // Media too stay at the loopback interface: there may be no other, and a port out of all tests' way.
    let config = format!(
        "net_interface 127.0.0.1\n\
         sip_listen 127.0.0.1:{port}\n\
         rtp_ports 30300-32700\n\
         module_path /usr/lib/baresip/modules\n\
         module g711.so\n\
         module aufile.so\n\
         audio_source aufile,{}\n\
         module_app account.so\n\
         module_app menu.so\n\
         module_app ctrl_tcp.so\n\
         ctrl_tcp_listen 127.0.0.1:{control_port}\n",
        sound.display()
    );
    let transport = ["tcp", "tls"].into_iter().find(|name| params.contains(&format!("transport={name}")));
    let transport = transport.map_or(String::new(), |name| format!(";transport={name}"));
    let mode = if answers == Answers::AtOnce { "auto" } else { "manual" };
    let regint = if params.contains("regint=") { "" } else { ";regint=60" };
    let account = format!(
        "<sip:{user}@{at}{transport}>;auth_user={user};auth_pass={user};answermode={mode}{regint}{params}\n",
    );
    for (name, bytes) in
        [("config", config.into_bytes()), ("accounts", account.into_bytes()), ("contacts", Vec::new())]
    {
        fs::write(folder.join(name), bytes).expect(name);
    }
    fs::write(sound, silence(30)).expect("a sound file");
}

/// A WAV file: 16 bits, mono, 8,000 Hz, as G.711 wants it.
fn silence(seconds: u32) -> Vec<u8> {
    let length = seconds * 16_000;
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + length).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16_u32.to_le_bytes());
    for half in [1_u16, 1] {
        wav.extend(half.to_le_bytes()); // PCM, one channel
    }
    wav.extend(8_000_u32.to_le_bytes());
    wav.extend(16_000_u32.to_le_bytes());
    for half in [2_u16, 16] {
        wav.extend(half.to_le_bytes()); // bytes and bits of a sample
    }
    wav.extend(b"data");
    wav.extend(length.to_le_bytes());
    wav.resize(44 + length as usize, 0);
    wav
}

/// Events and replies, told apart by a thread that ends with the connection.
fn listen(control: &TcpStream) -> (Receiver<Value>, Receiver<Value>) {
    let mut stream = BufReader::new(control.try_clone().expect("a second handle"));
    let (to_events, events) = mpsc::channel();
    let (to_replies, replies) = mpsc::channel();
    thread::spawn(move || {
        while let Some(message) = read_netstring(&mut stream) {
            let message: Value = serde_json::from_slice(&message).expect("JSON from baresip");
            let channel = if message["event"] == true { &to_events } else { &to_replies };
            // Nobody may listen any more.
            let _ = channel.send(message);
        }
    });
    (events, replies)
}

/// `LENGTH:BYTES,`
fn read_netstring(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut length = Vec::new();
    stream.read_until(b':', &mut length).ok()?;
    let length: usize = std::str::from_utf8(length.strip_suffix(b":")?).ok()?.parse().ok()?;
    let mut message = vec![0; length + 1];
    stream.read_exact(&mut message).ok()?;
    message.pop();
    Some(message)
}
