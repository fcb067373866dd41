//! A name server by hand (RFC 1035, RFC 2782): A and SRV records of a zone that a test writes.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const A: u16 = 1;
const SOA: u16 = 6;
const SRV: u16 = 33;

/// Serves until it is dropped.
pub struct NameServer {
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    asked: Arc<AtomicU32>,
    must_end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Records by name (lower case, no last dot) and type: their time to live in seconds and their data.
type Zone = HashMap<(String, u16), Vec<(u32, Vec<u8>)>>;

impl NameServer {
    pub fn new() -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
        let address = socket.local_addr().expect("its address");
        let (zone, asked) = (Arc::new(Mutex::new(Zone::new())), Arc::new(AtomicU32::new(0)));
        let must_end = Arc::new(AtomicBool::new(false));
        let (records, count, end) = (Arc::clone(&zone), Arc::clone(&asked), Arc::clone(&must_end));
        let thread = thread::spawn(move || serve(&socket, &records, &count, &end));
        NameServer { address, zone, asked, must_end, thread: Some(thread) }
    }

    /// Adds an address record.
    pub fn a(&self, name: &str, ttl_s: u32, address: [u8; 4]) {
        self.add(name, A, ttl_s, Ipv4Addr::from(address).octets().to_vec());
    }

    /// Adds an SRV record: priority, weight, port and target.
    pub fn srv(&self, name: &str, ttl_s: u32, priority: u16, weight: u16, port: u16, target: &str) {
        let mut data: Vec<u8> = [priority, weight, port].into_iter().flat_map(u16::to_be_bytes).collect();
        data.extend(encoded(target));
        self.add(name, SRV, ttl_s, data);
    }

    fn add(&self, name: &str, kind: u16, ttl_s: u32, data: Vec<u8>) {
        let mut zone = self.zone.lock().expect("the zone");
        zone.entry((name.to_owned(), kind)).or_default().push((ttl_s, data));
    }

    /// Takes all records of a name out.
    pub fn forget(&self, name: &str) {
        self.zone.lock().expect("the zone").retain(|(known, _), _| known != name);
    }

    /// How many questions there were.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.must_end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, zone: &Mutex<Zone>, asked: &AtomicU32, must_end: &AtomicBool) {
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    let mut bytes = [0; 4_096];
    while !must_end.load(Ordering::Relaxed) {
        let Ok((length, source)) = socket.recv_from(&mut bytes) else { continue };
        asked.fetch_add(1, Ordering::Relaxed);
        let answer = answer(&bytes[..length], &zone.lock().expect("the zone"));
        let _ = socket.send_to(&answer, source);
    }
}

/// The answer to a question: its records, or that there are none, which holds for a second.
fn answer(question: &[u8], zone: &Zone) -> Vec<u8> {
    let mut at = 12;
    let mut labels = Vec::new();
    while question[at] != 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..=at + length]).to_ascii_lowercase());
        at += length + 1;
    }
    let end = at + 5;
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let name = labels.join(".");
    let records = zone.get(&(name.clone(), kind)).cloned().unwrap_or_default();
    let exists = zone.keys().any(|(known, _)| *known == name);
    let code: u16 = if exists { 0 } else { 3 };
    let mut answer = question[..2].to_vec();
    let authority = u16::from(records.is_empty());
    for number in [0x8580 | code, 1, records.len() as u16, authority, 0] {
        answer.extend(number.to_be_bytes());
    }
    answer.extend(&question[12..end]);
    for (ttl_s, data) in &records {
        record(&mut answer, kind, *ttl_s, data);
    }
    if records.is_empty() {
        let mut data = [encoded("ns.example"), encoded("root.example")].concat();
        data.extend([1u32, 1, 1, 1, 1].into_iter().flat_map(u32::to_be_bytes));
        record(&mut answer, SOA, 1, &data);
    }
    answer
}

/// A record of the name that was asked for.
fn record(answer: &mut Vec<u8>, kind: u16, ttl_s: u32, data: &[u8]) {
    answer.extend([0xc0, 12]);
    answer.extend(kind.to_be_bytes());
    answer.extend(1u16.to_be_bytes());
    answer.extend(ttl_s.to_be_bytes());
    answer.extend((data.len() as u16).to_be_bytes());
    answer.extend(data);
}

fn encoded(name: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}
