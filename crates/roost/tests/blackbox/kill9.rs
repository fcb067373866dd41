//! kill -9 at random moments under load, of roost, of its database server, of both: whatever a phone holds a 200 for is
//! there after the restart, once.

use std::collections::HashMap;
use std::env;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Challenge, Kind, PATIENCE, Random, Response, Server, report, wait_for};
use serde_json::json;

const FLEETS: u32 = 4;
/// Extensions of each fleet. Many, so that inserts of new rows go on for long, beside the updates of old ones.
const EXTENSIONS: u32 = 1_000;
/// REGISTERs that a fleet has under way at once: they share commits, and a kill finds some half-way.
const WINDOW: usize = 32;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Roost,
    Database,
    Both,
}

const ALL_VICTIMS: [Victim; 3] = [Victim::Roost, Victim::Database, Victim::Both];

#[test]
fn sqlite_what_was_acknowledged_is_there_after_kill_9() {
    let server = what_was_acknowledged_is_there(Kind::Sqlite, &[Victim::Roost], 50);
    let sql = "PRAGMA integrity_check";
    let intact: String = server.sqlite().query_row(sql, [], |row| row.get(0)).expect(sql);
    assert_eq!(intact, "ok");
}

#[test]
fn mariadb_what_was_acknowledged_is_there_after_kill_9() {
    what_was_acknowledged_is_there(Kind::MariaDb, &ALL_VICTIMS, 12);
}

#[test]
fn postgres_what_was_acknowledged_is_there_after_kill_9() {
    what_was_acknowledged_is_there(Kind::Postgres, &ALL_VICTIMS, 12);
}

fn what_was_acknowledged_is_there(kind: Kind, victims: &[Victim], kills: usize) -> Server {
    let seed = env::var("ROOST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(Random::fresh_seed);
    report(&format!("kill -9 on {kind:?}: ROOST_SEED={seed}"));
    let mut random = Random::seeded(seed);

    // Nothing may expire while the test runs.
    let mut server = Server::prepared_on(kind, "", "[registrar]\nmax_expires = 3600\n");
    server.add_users(0, FLEETS * EXTENSIONS);
    let mut fleets: Vec<Fleet> = (0..FLEETS).map(|number| Fleet::new(server.sip, number)).collect();
    let acknowledgements = AtomicU64::new(0);
    let (mut acknowledged, mut found, mut lost) = (0, 0, Vec::new());

    server.start();
    for (kill, victim) in (1..=kills).zip(victims.iter().cycle()) {
        let moment = Duration::from_micros(random.below(200_000));
        run_until_killed(&mut server, &mut fleets, &acknowledgements, moment, *victim);
        let rows = restart(&mut server, *victim);
        let bindings = dump(&server);
        for extension in fleets.iter_mut().flat_map(|fleet| &mut fleet.extensions) {
            let there = bindings.get(&extension.user);
            let row = rows.as_ref().map(|rows| rows.get(&extension.user));
            // Each restart is asked for everything acknowledged since the first start; counted is what is new.
            acknowledged += u64::from(extension.fresh);
            if extension.is_kept(there) && row.is_none_or(|row| extension.is_kept(row)) {
                found += u64::from(extension.fresh);
            } else {
                lost.push(format!("kill {kill} of {victim:?}: {extension:?}, found {there:?}, row {row:?}"));
            }
            extension.fresh = false;
        }
    }
    report(&format!(
        "{kind:?}: kills {kills} of {victims:?}, acknowledged {acknowledged}, found {found}, lost {} ({} times 200 OK)",
        lost.len(),
        acknowledgements.load(Ordering::Relaxed)
    ));
    assert!(lost.is_empty(), "{} lost, the first ones: {:#?}", lost.len(), &lost[..lost.len().min(10)]);
    assert_eq!(acknowledged, found);

    // A database that has been killed may be known to be away.
    let is_explained = |text: &str| victims.contains(&Victim::Database) && text.starts_with("SIP/2.0 500 ");
    let refused: Vec<&String> = fleets.iter().flat_map(|fleet| &fleet.refused).collect();
    let refused: Vec<_> = refused.into_iter().filter(|text| !is_explained(text)).collect();
    assert!(refused.is_empty(), "unexpected answers: {refused:#?}");
    assert_eq!(
        server.rows(None),
        i64::try_from(dump(&server).len()).expect("a few thousand"),
        "none doubled"
    );
    server
}

/// Starts the victims again. Gives what the table of a killed server holds: extension to Contact and CSeq.
fn restart(server: &mut Server, victim: Victim) -> Option<HashMap<String, (String, u64)>> {
    let mut rows = None;
    if victim != Victim::Roost {
        let database = server.database.as_mut().expect("a database server");
        database.restart();
        let text = database.sql("SELECT username, contact, cseq FROM location");
        let lines: Vec<_> = text.lines().map(row).collect();
        let table: HashMap<_, _> = lines.iter().cloned().collect();
        assert_eq!(table.len(), lines.len(), "an extension has two rows");
        rows = Some(table);
    }
    if victim != Victim::Database {
        server.start();
    }
    rows
}

fn row(line: &str) -> (String, (String, u64)) {
    let mut columns = line.split('\t');
    let mut next = || columns.next().unwrap_or_else(|| panic!("a row of three columns: {line}")).to_owned();
    let (user, contact, cseq) = (next(), next(), next());
    (user, (contact, cseq.parse().expect("a CSeq")))
}

/// One life of the server under load; it ends some time after the first 200 of this life.
fn run_until_killed(
    server: &mut Server,
    fleets: &mut [Fleet],
    acknowledgements: &AtomicU64,
    moment: Duration,
    victim: Victim,
) {
    let stop = AtomicBool::new(false);
    let before = acknowledgements.load(Ordering::Relaxed);
    thread::scope(|scope| {
        // Also when something fails here: else the scope waits for its threads for ever.
        let _stopper = Stopper(&stop);
        for fleet in fleets {
            let stop = &stop;
            scope.spawn(move || fleet.register_until(stop, acknowledgements));
        }
        wait_for("the first 200 after a start", PATIENCE, || {
            (acknowledgements.load(Ordering::Relaxed) > before).then_some(())
        });
        // Not a wait for anything: the moment of the kill is what is random here.
        thread::sleep(moment);
        if victim != Victim::Database {
            server.kill9();
        }
        if victim != Victim::Roost {
            server.database.as_mut().expect("a database server").kill();
        }
    });
}

struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// All bindings: extension to Contact and CSeq.
fn dump(server: &Server) -> HashMap<String, (String, u64)> {
    let dump = server.mi("ul_dump", json!({})).expect("a dump");
    let aors = dump["Domains"][0]["AORs"].as_array().cloned().unwrap_or_default();
    let binding = |aor: &serde_json::Value| {
        let contact = &aor["Contacts"][0];
        let uri = contact["Contact"].as_str().expect("a contact").to_owned();
        let cseq = contact["Cseq"].as_u64().expect("a CSeq");
        (aor["AOR"].as_str().expect("an AOR").to_owned(), (uri, cseq))
    };
    aors.iter().map(binding).collect()
}

/// Extensions that register from one socket, round and round.
struct Fleet {
    number: u32,
    socket: UdpSocket,
    server: SocketAddr,
    extensions: Vec<Extension>,
    /// The extension whose turn it is.
    next: usize,
    challenge: Option<Challenge>,
    /// Answers that nobody should get.
    refused: Vec<String>,
}

#[derive(Debug)]
struct Extension {
    user: String,
    contact: String,
    /// CSeq of the last REGISTER sent.
    sent: u64,
    /// CSeq of the last REGISTER that was answered with 200.
    acknowledged: Option<u64>,
    /// Acknowledged since the last kill.
    fresh: bool,
}

impl Extension {
    /// Whether a binding found after a restart keeps the promise: this contact, as new as acknowledged or newer
    /// (committed, but killed before the 200 left), never newer than sent.
    fn is_kept(&self, found: Option<&(String, u64)>) -> bool {
        match (self.acknowledged, found) {
            (None, None) => true,
            (Some(_), None) => false,
            (acknowledged, Some((contact, cseq))) => {
                *contact == self.contact && (acknowledged.unwrap_or(1)..=self.sent).contains(cseq)
            }
        }
    }
}

impl Fleet {
    fn new(server: SocketAddr, number: u32) -> Fleet {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
        let local = socket.local_addr().expect("its address");
        let first = number * EXTENSIONS;
        let extension = |user: u32| Extension {
            user: user.to_string(),
            contact: format!("sip:{user}@{local}"),
            sent: 0,
            acknowledged: None,
            fresh: false,
        };
        let extensions = (first..first + EXTENSIONS).map(extension).collect();
        Fleet { number, socket, server, extensions, next: 0, challenge: None, refused: Vec::new() }
    }

    fn register_until(&mut self, stop: &AtomicBool, acknowledgements: &AtomicU64) {
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..WINDOW {
                self.send_next();
            }
            let end = Instant::now() + Duration::from_millis(200);
            let mut answered = 0;
            while answered < WINDOW && Instant::now() < end && !stop.load(Ordering::Relaxed) {
                answered += usize::from(self.hear(acknowledgements));
            }
        }
        // What left before the kill still counts: it is in the socket's buffer now.
        while self.hear(acknowledgements) {}
    }

    fn send_next(&mut self) {
        let index = self.next;
        self.next = (index + 1) % self.extensions.len();
        let extension = &mut self.extensions[index];
        extension.sent += 1;
        let (user, cseq) = (&extension.user, extension.sent);
        let uri = "sip:127.0.0.1";
        let credentials = match &self.challenge {
            Some(challenge) => challenge.answer(user, user, "REGISTER", uri, 1) + "\r\n",
            None => String::new(),
        };
        let (number, contact) = (self.number, &extension.contact);
        let message = format!(
            "REGISTER {uri} SIP/2.0\r\n\
             Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK{number}-{index}-{cseq};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{user}@127.0.0.1>;tag={number}\r\n\
             To: <sip:{user}@127.0.0.1>\r\n\
             Call-ID: {index}@fleet-{number}\r\n\
             CSeq: {cseq} REGISTER\r\n\
             Contact: <{contact}>\r\n\
             Expires: 3600\r\n\
             {credentials}\
             Content-Length: 0\r\n\r\n"
        );
        // A full buffer loses a datagram, as a network does.
        let _ = self.socket.send_to(message.as_bytes(), self.server);
    }

    /// Takes one answer, if there is one within 20 ms.
    fn hear(&mut self, acknowledgements: &AtomicU64) -> bool {
        self.socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let mut bytes = [0; 2_048];
        let Ok((length, _)) = self.socket.recv_from(&mut bytes) else { return false };
        let response = Response::parse(&bytes[..length]).expect("a response");
        let number = |name: &str, end: char| {
            let value = response.header(name).and_then(|value| value.split_once(end));
            value.and_then(|(number, _)| number.parse::<u64>().ok()).expect("the header that was sent")
        };
        let (index, cseq) = (number("Call-ID", '@'), number("CSeq", ' '));
        match response.status {
            200 => {
                let extension = &mut self.extensions[index as usize];
                extension.acknowledged = extension.acknowledged.max(Some(cseq));
                extension.fresh = true;
                acknowledgements.fetch_add(1, Ordering::Relaxed);
            }
            401 => {
                let challenge = response.header("WWW-Authenticate").expect("a challenge");
                self.challenge = Some(Challenge::parse(challenge));
            }
            _ => self.refused.push(response.text),
        }
        true
    }
}
