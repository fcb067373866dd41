//! A real second SIP server: Kamailio, which takes every call.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};

use super::{Log, PATIENCE, Server, free_port, kill_all, need, wait_for};

const CONFIG: &str = include_str!("../../kamailio/media.cfg");

/// A Kamailio process; dropping it kills it.
pub struct Kamailio {
    pub transport: &'static str,
    pub address: SocketAddr,
    process: Option<Child>,
    log: Log,
}

impl Kamailio {
    /// One that takes calls over this transport at one of this machine's addresses.
    pub fn start(server: &Server, transport: &'static str, ip: [u8; 4]) -> Kamailio {
        let address = SocketAddr::new(Ipv4Addr::from(ip).into(), free_port());
        let mut kamailio = Kamailio { transport, address, process: None, log: Log::default() };
        kamailio.restart(server);
        kamailio
    }

    /// Starts it again, at the same address.
    pub fn restart(&mut self, server: &Server) {
        let config = CONFIG
            .replace("listen=LISTEN", &format!("listen={}:{}", self.transport, self.address))
            .replace("CONTACT", &self.contact());
        let file = server.path(&format!("kamailio-{}.cfg", self.address.port()));
        fs::write(&file, config).expect("a configuration file");
        let mut kamailio = Command::new(need("kamailio", "kamailio"));
        // In the foreground, one process for each job, little memory.
        kamailio.args(["-DD", "-E", "-m", "16", "-M", "4", "-n", "1", "-N", "1", "-f"]).arg(&file);
        kamailio.args(["-Y"]).arg(server.path("."));
        kamailio.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = kamailio.spawn().expect("kamailio starts");
        self.log.follow(process.stderr.take().expect("a pipe"));
        self.process = Some(process);
        let address = self.address;
        wait_for("kamailio", PATIENCE, || match self.transport {
            "tcp" => TcpStream::connect(address).ok().map(drop),
            _ => UdpSocket::bind(address).is_err().then_some(()),
        });
    }

    /// As a next hop in the configuration.
    pub fn uri(&self) -> String {
        let param = if self.transport == "tcp" { ";transport=tcp" } else { "" };
        format!("sip:{}{param}", self.address)
    }

    /// The Contact of its answers.
    pub fn contact(&self) -> String {
        self.uri().replace("sip:", "sip:media@")
    }

    /// Its main process is killed, and the others end with it.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            // While one of its children lives its connections are open, and what is sent over them waits for nobody.
            kill_all(process);
        }
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- kamailio {} said:\n{}----", self.address, self.log.text());
        }
    }
}
