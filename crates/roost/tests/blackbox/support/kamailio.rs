//! A real second SIP server: Kamailio, which takes every call, or is a presence server.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};

use super::{Log, PATIENCE, Server, free_port, kill_all, need, wait_for};

const MEDIA: &str = include_str!("../../kamailio/media.cfg");
const PRESENCE: &str = include_str!("../../kamailio/presence.cfg");
/// What it needs to take calls over TLS: a certificate that `roost tls new` has made.
const TLS: &str = "enable_tls=yes\nloadmodule \"tls.so\"\nmodparam(\"tls\", \"tls_method\", \"TLSv1.2+\")\nmodparam(\"tls\", \"certificate\", \"CERTIFICATE\")\n\
    modparam(\"tls\", \"private_key\", \"KEY\")\nlisten=LISTEN";

/// A Kamailio process; dropping it kills it.
pub struct Kamailio {
    pub transport: &'static str,
    pub address: SocketAddr,
    config: &'static str,
    process: Option<Child>,
    log: Log,
}

impl Kamailio {
    /// One that takes calls over this transport at one of this machine's addresses.
    pub fn start(server: &Server, transport: &'static str, ip: [u8; 4]) -> Kamailio {
        Kamailio::with(server, MEDIA, transport, ip)
    }

    /// A presence server over UDP.
    pub fn presence(server: &Server, ip: [u8; 4]) -> Kamailio {
        Kamailio::with(server, PRESENCE, "udp", ip)
    }

    fn with(server: &Server, config: &'static str, transport: &'static str, ip: [u8; 4]) -> Kamailio {
        let address = SocketAddr::new(Ipv4Addr::from(ip).into(), free_port());
        let mut kamailio = Kamailio { transport, address, config, process: None, log: Log::default() };
        kamailio.restart(server);
        kamailio
    }

    /// Starts it again, at the same address.
    pub fn restart(&mut self, server: &Server) {
        let file = |name: &str| server.path(name).display().to_string();
        let config = match self.transport {
            "tls" => self.config.replace("listen=LISTEN", TLS),
            _ => self.config.to_owned(),
        };
        let config = config
            .replace("CERTIFICATE", &file("tls/localhost.pem"))
            .replace("KEY", &file("tls/localhost.key"))
            .replace("listen=LISTEN", &format!("listen={}:{}", self.transport, self.address))
            .replace("CONTACT", &self.contact());
        let file = server.path(&format!("kamailio-{}.cfg", self.address.port()));
        fs::write(&file, config).expect("a configuration file");
        let mut kamailio = Command::new(need("kamailio", "kamailio"));
        // In the foreground, one process for each job, little memory.
        kamailio.args(["-DD", "-E", "-m", "32", "-M", "8", "-n", "1", "-N", "1", "-f"]).arg(&file);
        kamailio.args(["-Y"]).arg(server.path("."));
        kamailio.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = kamailio.spawn().expect("kamailio starts");
        self.log.follow(process.stderr.take().expect("a pipe"));
        self.process = Some(process);
        let address = self.address;
        wait_for("kamailio", PATIENCE, || match self.transport {
            "tcp" | "tls" => TcpStream::connect(address).ok().map(drop),
            _ => UdpSocket::bind(address).is_err().then_some(()),
        });
    }

    /// As a next hop in the configuration.
    pub fn uri(&self) -> String {
        let param = match self.transport {
            "tcp" => ";transport=tcp",
            "tls" => ";transport=tls",
            _ => "",
        };
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
