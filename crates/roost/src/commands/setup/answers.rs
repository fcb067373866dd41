//! The answers, whether each can be, and the configuration that they make.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use roost_core::{Listener, Transport};
use roost_store::{Access, Columns, Store};

use crate::commands::setup::Setup;
use crate::settings::key::is_host;

/// The transports that can be chosen.
pub(super) const TRANSPORTS: [&str; 4] = ["udp", "tcp", "tls", "wss"];
/// Extensions that one range may have.
const MOST: usize = 1_000;
/// Letters of passwords that are made: none that looks like another.
const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const PASSWORD_LENGTH: usize = 16;

/// An extension, and its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) user: String,
    pub(super) password: String,
}

#[derive(Debug, Clone)]
pub(super) struct Answers {
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) transports: Vec<String>,
    pub(super) name: String,
    pub(super) database: String,
    pub(super) certificate: Option<(String, String)>,
    pub(super) nat: bool,
    pub(super) extensions: Vec<Extension>,
}

impl Answers {
    /// What the command line says, and the defaults.
    pub(super) fn of(args: &Setup) -> Result<Answers> {
        let transports = match args.transports.is_empty() {
            true => vec!["udp".to_string(), "tcp".to_string()],
            false => args.transports.iter().map(|one| one.trim().to_ascii_lowercase()).collect(),
        };
        let mut extensions = Vec::new();
        for text in &args.extensions {
            extensions.extend(extensions_of(text)?);
        }
        Ok(Answers {
            address: args.address.clone().unwrap_or_else(|| Ipv4Addr::UNSPECIFIED.to_string()),
            port: args.port.unwrap_or(5060),
            transports,
            name: args.name.clone().unwrap_or_default(),
            database: args.database.clone().unwrap_or_else(|| "sqlite:roost.db".to_string()),
            certificate: args.certificate.clone().zip(args.private_key.clone()),
            nat: args.nat,
            extensions,
        })
    }

    /// Whether all can be; the database stands in this folder where its name is relative.
    ///
    /// # Errors
    /// The first that cannot, and the remedy.
    pub(super) fn check(&self, folder: &Path) -> Result<()> {
        check_address(&self.address)?;
        check_transports(&self.transports)?;
        for transport in &self.transports {
            check_listener(&self.address, self.port_of(transport), transport)?;
        }
        check_name(&self.name)?;
        check_database(&self.database, folder)
    }

    pub(super) fn is_secure(&self) -> bool {
        self.transports.iter().any(|one| one == "tls" || one == "wss")
    }

    pub(super) fn needs_certificate(&self) -> bool {
        self.is_secure() && self.certificate.is_none()
    }

    /// The names in the certificate.
    pub(super) fn certificate_names(&self) -> Vec<String> {
        let is_any = self.address.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        match (self.name.as_str(), is_any) {
            ("", true) => vec!["localhost".to_string(), "127.0.0.1".to_string()],
            ("", false) => vec![self.address.clone()],
            (name, _) => vec![name.to_string()],
        }
    }

    pub(super) fn port_of(&self, transport: &str) -> u16 {
        match transport {
            "tls" => self.port.saturating_add(1),
            "wss" => 8443,
            _ => self.port,
        }
    }

    /// The domain of extensions that are added.
    pub(super) fn domain(&self) -> String {
        self.name.clone()
    }

    /// What is typed into a phone.
    pub(super) fn shown_server(&self) -> String {
        let is_any = self.address.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        let host = match (self.name.as_str(), is_any) {
            ("", true) => {
                own_address().map_or_else(|| "this machine's address".to_string(), |ip| ip.to_string())
            }
            ("", false) => self.address.clone(),
            (name, _) => name.to_string(),
        };
        if self.port == 5060 { host } else { format!("{host}:{}", self.port) }
    }

    /// As a file.
    pub(super) fn toml(&self) -> String {
        let listen: Vec<_> = self
            .transports
            .iter()
            .map(|transport| {
                let host = if self.address.contains(':') {
                    format!("[{}]", self.address)
                } else {
                    self.address.clone()
                };
                format!("\"{transport}:{host}:{}\"", self.port_of(transport))
            })
            .collect();
        let mut out = String::from(
            "# Made by `roost setup`. All keys: roost config show; after a change: roost config check, roost reload.\n",
        );
        let _ = writeln!(out, "listen = [{}]", listen.join(", "));
        let _ = writeln!(out, "database = {}", quoted(&self.database));
        if !self.name.is_empty() {
            let _ = writeln!(out, "domains = [{}]", quoted(&self.name));
            let _ = writeln!(out, "advertised_address = {}", quoted(&self.name));
        }
        if let Some((certificate, key)) = self.certificate.as_ref().filter(|_| self.is_secure()) {
            let _ = writeln!(
                out,
                "\n[tls]\ncertificate = {}\nprivate_key = {}",
                quoted(certificate),
                quoted(key)
            );
        }
        if self.nat {
            let _ = writeln!(out, "\n[nathelper]\nnatping_interval = 30");
        }
        out
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The address that this machine reaches others from; nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// `9001:PASSWORD`, `9001`, `9001-9010`.
pub(super) fn extensions_of(text: &str) -> Result<Vec<Extension>> {
    let text = text.trim();
    if let Some((user, password)) = text.split_once(':') {
        return Ok(vec![Extension { user: user.to_string(), password: password.to_string() }]);
    }
    let range = text
        .split_once('-')
        .and_then(|(from, to)| Some((from.parse::<u64>().ok()?, to.parse::<u64>().ok()?, from.len())));
    let Some((from, to, width)) = range else {
        return Ok(vec![Extension { user: text.to_string(), password: new_password()? }]);
    };
    if to < from || to - from >= MOST as u64 {
        bail!(
            "{text}: a range goes up, and has {MOST} extensions at most (`roost user import` takes a file)"
        );
    }
    (from..=to)
        .map(|number| Ok(Extension { user: format!("{number:0width$}"), password: new_password()? }))
        .collect()
}

/// A password that nobody guesses.
fn new_password() -> Result<String> {
    let mut password = String::new();
    while password.len() < PASSWORD_LENGTH {
        let mut random = [0; PASSWORD_LENGTH];
        getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
        // No letter is likelier than another.
        let fair = (256 / LETTERS.len() * LETTERS.len()) as u16;
        let letters = random.iter().filter(|byte| u16::from(**byte) < fair);
        let letters = letters.filter_map(|byte| LETTERS.get(usize::from(*byte) % LETTERS.len()));
        password.extend(letters.map(|letter| char::from(*letter)).take(PASSWORD_LENGTH - password.len()));
    }
    Ok(password)
}

pub(super) fn check_address(address: &str) -> Result<()> {
    let ip: IpAddr = address.parse().with_context(|| {
        format!("\"{address}\" is no IP address, such as 0.0.0.0 (all of this machine's) or 192.168.1.10")
    })?;
    UdpSocket::bind(SocketAddr::new(ip, 0))
        .with_context(|| format!("this machine does not have the address {ip}"))?;
    Ok(())
}

pub(super) fn check_transports(transports: &[String]) -> Result<()> {
    if let Some(unknown) = transports.iter().find(|one| !TRANSPORTS.contains(&one.as_str())) {
        bail!("\"{unknown}\" is no transport: there are {}", TRANSPORTS.join(", "));
    }
    if transports.is_empty() {
        bail!("name at least one of {}", TRANSPORTS.join(", "));
    }
    Ok(())
}

/// Whether it can be listened on now.
pub(super) fn check_listener(address: &str, port: u16, transport: &str) -> Result<()> {
    let ip: IpAddr = address.parse().with_context(|| format!("\"{address}\" is no IP address"))?;
    let at = SocketAddr::new(ip, port);
    let bound = match Transport::named(transport.as_bytes()).unwrap_or(Transport::Udp) {
        Transport::Udp => return Ok(roost_net::probe(&Listener::udp(at))?),
        _ => TcpListener::bind(at),
    };
    match bound {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            bail!(
                "{transport}:{at}: a port below 1024 needs root, or CAP_NET_BIND_SERVICE as in the unit of the package"
            )
        }
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("{transport}:{at} is in use: stop the program that listens there, or choose another port")
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {transport}:{at}")),
    }
}

pub(super) fn check_name(name: &str) -> Result<()> {
    if !is_host(name) {
        bail!("\"{name}\" is no host name and no address");
    }
    Ok(())
}

/// Whether the database answers; an SQLite file is not made.
pub(super) fn check_database(url: &str, folder: &Path) -> Result<()> {
    if !Store::exists(url, folder)? {
        return Ok(());
    }
    if url.starts_with("sqlite:") {
        return Store::has_tables(url, folder, &Access::default()).map(drop).map_err(Into::into);
    }
    Store::open(url, folder, &Access::default(), Columns::default()).map(drop).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_with_passwords_and_ranges() {
        let users = |text: &str| -> Vec<String> {
            extensions_of(text).unwrap().into_iter().map(|one| one.user).collect()
        };
        assert_eq!(
            extensions_of("9001:a:b").unwrap()[0],
            Extension { user: "9001".into(), password: "a:b".into() }
        );
        assert_eq!(users("098-101"), ["098", "099", "100", "101"]);
        assert_eq!(users("alice"), ["alice"]);
        let made = extensions_of("9001-9002").unwrap();
        assert!(
            made.iter().all(|one| one.password.len() == PASSWORD_LENGTH)
                && made[0].password != made[1].password
        );
        assert!(extensions_of("9-1").unwrap_err().to_string().contains("a range goes up"));
        assert!(extensions_of("1-5000").unwrap_err().to_string().contains("1000 extensions at most"));
    }

    #[test]
    fn answers_that_cannot_be() {
        assert!(check_address("localhost").unwrap_err().to_string().contains("is no IP address"));
        assert!(check_address("192.0.2.77").unwrap_err().to_string().contains("does not have the address"));
        assert!(
            check_transports(&["sctp".into()])
                .unwrap_err()
                .to_string()
                .contains("there are udp, tcp, tls, wss")
        );
        assert!(check_name("a b").is_err() && check_name("").is_ok());
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(check_listener("127.0.0.1", port, "tcp").unwrap_err().to_string().contains("is in use"));
        assert!(check_database("mysql://x:y@127.0.0.1:1/z", Path::new("")).is_err());
        assert!(check_database("oracle:x", Path::new("")).is_err());
    }
}
