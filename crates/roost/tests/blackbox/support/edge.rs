//! An edge proxy by hand: phones talk to it, it talks to roost. It writes Path into their REGISTERs (RFC 3327 5.2), and
//! is the only one who knows where a Contact is.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Message;
use roost_rig::phone::token;

/// A stateless proxy at 127.0.0.2. Dropping it ends it.
pub struct Edge {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Hop {
    socket: UdpSocket,
    own: SocketAddr,
    server: SocketAddr,
    records_route: bool,
    /// By Contact URI.
    phones: HashMap<String, SocketAddr>,
}

impl Edge {
    /// Before `server`; with `records_route` it stays in the way of dialogs.
    pub fn start(server: SocketAddr, records_route: bool) -> Edge {
        let socket = UdpSocket::bind("127.0.0.2:0").expect("a UDP socket");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let own = socket.local_addr().expect("its address");
        let stop = Arc::new(AtomicBool::new(false));
        let mut hop = Hop { socket, own, server, records_route, phones: HashMap::new() };
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                hop.pass();
            }
        });
        Edge { address: own, stop, thread: Some(thread) }
    }

    /// What it writes into Path and Record-Route.
    pub fn route(&self) -> String {
        format!("<sip:{};lr>", self.address)
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(ended.is_some_and(|ended| ended.is_ok()), "the edge proxy gave up");
        }
    }
}

impl Hop {
    fn pass(&mut self) {
        let mut bytes = vec![0; 65_536];
        let Ok((length, source)) = self.socket.recv_from(&mut bytes) else { return };
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        let message = Message { text, source };
        let (text, to) = match message.method() {
            Some(method) => self.request(&message, method),
            None => response(&message),
        };
        self.socket.send_to(text.as_bytes(), to).expect("a datagram sent");
    }

    /// The request with our Via, and where it goes.
    fn request(&mut self, message: &Message, method: &str) -> (String, SocketAddr) {
        let own = format!("<sip:{};lr>", self.own);
        let mut routes: Vec<&str> =
            message.headers("Route").iter().flat_map(|value| value.split(',')).collect();
        routes.iter_mut().for_each(|route| *route = route.trim());
        let is_ours = routes.first() == Some(&own.as_str());
        let next = routes.get(usize::from(is_ours)).copied();
        // An ACK of a failure and a CANCEL belong to the INVITE's transaction: the same branch again.
        let branch = message.branch().trim_start_matches("z9hG4bK");
        let mut lines = vec![
            message.head()[0].to_owned(),
            format!("Via: SIP/2.0/UDP {};branch=z9hG4bKedge{branch};rport", self.own),
        ];
        if method == "REGISTER" {
            lines.push(format!("Path: {own}"));
            let contact = message.header("Contact").unwrap_or_default();
            let uri = contact.trim_start_matches('<').split('>').next().unwrap_or_default();
            self.phones.insert(uri.to_owned(), message.source);
        }
        if method == "INVITE" && self.records_route {
            lines.push(format!("Record-Route: {own}"));
        }
        lines.extend(routes.iter().skip(usize::from(is_ours)).map(|route| format!("Route: {route}")));
        let is_kept = |line: &&str| !line.starts_with("Route:");
        lines.extend(message.head().into_iter().skip(1).filter(is_kept).map(str::to_owned));
        let to = match (next, self.phones.get(message.uri())) {
            (Some(route), _) => address(route),
            (None, Some(phone)) => *phone,
            // Another server's registration, or something for roost.
            (None, None) => {
                message.uri().rsplit('@').next().and_then(|at| at.parse().ok()).unwrap_or(self.server)
            }
        };
        (format!("{}\r\n\r\n{}", lines.join("\r\n"), message.body()), to)
    }
}

/// The response without our Via, and where it goes: to the address of the next.
fn response(message: &Message) -> (String, SocketAddr) {
    let vias = message.headers("Via");
    let next = vias.get(1).expect("the Via of who asked us");
    let sent_by = next.split_once(' ').expect("a protocol").1.split(';').next().unwrap_or_default();
    (super::without_first_via(&message.text), sent_by.parse().expect("an address in Via"))
}

/// The address in `<sip:ADDRESS:PORT;…>`.
fn address(route: &str) -> SocketAddr {
    let inner = route.trim_start_matches("<sip:").split([';', '>']).next().unwrap_or_default();
    inner.parse().unwrap_or_else(|_| panic!("no address in {route}"))
}

/// A Contact that leads nowhere but by an edge proxy.
pub fn hidden_contact(user: &str) -> String {
    format!("sip:{user}-{}@192.0.2.9:5060", token())
}
