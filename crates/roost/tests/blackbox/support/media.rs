//! A media server by hand, such as a queue or a gateway: it answers OPTIONS and calls until it is killed.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{PATIENCE, header, wait_for};

/// What it answers an INVITE with; OPTIONS, BYE and MESSAGE get 200.
pub struct MediaServer {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    must_end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl MediaServer {
    /// One that takes calls, on a free port of one of this machine's addresses, such as 127.0.0.2.
    pub fn new(address: &str) -> MediaServer {
        let socket = UdpSocket::bind((address, 0)).expect("a UDP socket");
        MediaServer::on(socket, "200 OK")
    }

    /// One that answers calls otherwise, at an address that is free.
    pub fn answering(address: SocketAddr, line: &'static str) -> MediaServer {
        let bind = || UdpSocket::bind(address).ok();
        MediaServer::on(wait_for("the port", PATIENCE, bind), line)
    }

    fn on(socket: UdpSocket, line: &'static str) -> MediaServer {
        let address = socket.local_addr().expect("its address");
        let (heard, must_end) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (notes, end) = (Arc::clone(&heard), Arc::clone(&must_end));
        let thread = thread::spawn(move || serve(&socket, line, &notes, &end));
        MediaServer { address, heard, must_end, thread: Some(thread) }
    }

    /// As a next hop in the configuration.
    pub fn uri(&self) -> String {
        format!("sip:{}", self.address)
    }

    /// It is gone, and its port is free; gives its address.
    pub fn kill(mut self) -> SocketAddr {
        self.end();
        self.address
    }

    /// The requests of a method that it has heard, retransmissions not counted.
    pub fn heard(&self, method: &str) -> Vec<String> {
        let mut branches = Vec::new();
        let all = self.heard.lock().expect("its notes").clone();
        let is_new = |request: &String| {
            let via = header(request, "Via").unwrap_or_default().to_owned();
            let is_new = !branches.contains(&via);
            branches.push(via);
            is_new
        };
        all.into_iter().filter(|request| request.starts_with(&format!("{method} "))).filter(is_new).collect()
    }

    fn end(&mut self) {
        self.must_end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for MediaServer {
    fn drop(&mut self) {
        self.end();
    }
}

fn serve(socket: &UdpSocket, line: &str, heard: &Mutex<Vec<String>>, must_end: &AtomicBool) {
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    let local = socket.local_addr().expect("its address");
    let mut bytes = vec![0; 65_536];
    while !must_end.load(Ordering::Relaxed) {
        let Ok((length, source)) = socket.recv_from(&mut bytes) else { continue };
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        let method = text.split(' ').next().unwrap_or_default().to_owned();
        if method == "ACK" || method == "SIP/2.0" {
            continue;
        }
        heard.lock().expect("its notes").push(text.clone());
        let line = if method == "INVITE" { line } else { "200 OK" };
        let _ = socket.send_to(answer(&text, line, local).as_bytes(), source);
    }
}

fn answer(request: &str, line: &str, local: SocketAddr) -> String {
    let mut answer = format!("SIP/2.0 {line}\r\n");
    for header in request.split("\r\n").skip(1).take_while(|header| !header.is_empty()) {
        let name = header.split(':').next().unwrap_or_default();
        if ["Via", "Record-Route", "From", "Call-ID", "CSeq"].contains(&name) {
            answer.push_str(&format!("{header}\r\n"));
        } else if name == "To" {
            let tag = if header.contains(";tag=") { "" } else { ";tag=media" };
            answer.push_str(&format!("{header}{tag}\r\n"));
        }
    }
    answer + &format!("Contact: <sip:media@{local}>\r\nContent-Length: 0\r\n\r\n")
}
