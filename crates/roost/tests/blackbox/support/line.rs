//! A phone's line over any transport, by hand: sockets, and libraries for TLS and WebSocket.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roost_rig::phone::{Line, Phone};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tungstenite::{Message, WebSocket};

use super::{Dialog, PATIENCE, token};

pub const TRANSPORTS: [&str; 5] = ["udp", "tcp", "tls", "ws", "wss"];

/// What a server's `[tls]` says that has made a certificate by `roost tls new localhost`.
pub const TLS_SECTION: &str =
    "[tls]\ncertificate = \"tls/localhost.pem\"\nprivate_key = \"tls/localhost.key\"\n";

/// The line.
pub struct AnyLine {
    pub transport: &'static str,
    local: SocketAddr,
    server: SocketAddr,
    /// The socket itself, to cut it.
    socket: Option<TcpStream>,
    session: RefCell<Session>,
    start: Instant,
}

enum Session {
    Datagrams(UdpSocket),
    Stream(Box<dyn Duplex>, Vec<u8>),
    WebSocket(Box<WebSocket<Box<dyn Duplex>>>),
}

trait Duplex: Read + Write {}
impl<T: Read + Write> Duplex for T {}

impl AnyLine {
    /// To a server; over TLS it must prove that it is `localhost`, by an authority of this file.
    pub fn open(transport: &'static str, server: SocketAddr, authority: &Path) -> AnyLine {
        let ip = server.ip();
        AnyLine::open_from(transport, ip, server, authority)
    }

    /// The same from another address of this machine.
    pub fn open_from(transport: &'static str, from: IpAddr, server: SocketAddr, authority: &Path) -> AnyLine {
        if transport == "udp" {
            let socket = UdpSocket::bind((from, 0)).expect("a UDP socket");
            let local = socket.local_addr().expect("its address");
            let session = RefCell::new(Session::Datagrams(socket));
            return AnyLine { transport, local, server, socket: None, session, start: Instant::now() };
        }
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(server),
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )
        .expect("a socket");
        socket.bind(&SocketAddr::new(from, 0).into()).expect("an address");
        socket.connect(&server.into()).expect("a connection");
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let cut = stream.try_clone().expect("the socket");
        let local = stream.local_addr().expect("its address");
        let duplex: Box<dyn Duplex> = match transport {
            "tls" | "wss" => Box::new(secured(stream, authority)),
            _ => Box::new(stream),
        };
        let session = match transport {
            "ws" | "wss" => Session::WebSocket(Box::new(websocket(duplex, server))),
            _ => Session::Stream(duplex, Vec::new()),
        };
        AnyLine {
            transport,
            local,
            server,
            socket: Some(cut),
            session: session.into(),
            start: Instant::now(),
        }
    }

    /// A registered phone's Contact over this transport, as real ones write it.
    pub fn contact(&self, user: &str) -> String {
        match self.transport {
            "udp" => format!("sip:{user}@{}", self.local),
            "ws" | "wss" => format!("sip:{user}@{}.invalid;transport=ws", token()),
            other => format!("sip:{user}@{};transport={other}", self.local),
        }
    }

    /// Ends the connection as a killed program does.
    pub fn cut(&self) {
        if let Some(socket) = &self.socket {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    /// From here on writing fails when the server does not read for so long.
    pub fn set_write_timeout(&self, patience: Duration) {
        self.socket.as_ref().expect("a stream").set_write_timeout(Some(patience)).expect("a timeout");
    }

    /// Bytes as they are, beside all framing.
    pub fn send_raw(&self, bytes: &[u8]) -> io::Result<()> {
        (&mut self.socket.as_ref().expect("a stream")).write_all(bytes)
    }

    fn time_out(&self, patience: Duration) {
        let patience = Some(patience.max(Duration::from_millis(1)));
        match (&self.socket, &*self.session.borrow()) {
            (Some(socket), _) => socket.set_read_timeout(patience).expect("a timeout"),
            (None, Session::Datagrams(socket)) => socket.set_read_timeout(patience).expect("a timeout"),
            (None, _) => {}
        }
    }
}

impl Line for AnyLine {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn send(&self, bytes: &[u8]) {
        let sent = match &mut *self.session.borrow_mut() {
            Session::Datagrams(socket) => socket.send_to(bytes, self.server).map(drop),
            Session::Stream(stream, _) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Session::WebSocket(socket) => {
                let text = String::from_utf8_lossy(bytes).into_owned();
                socket.send(Message::text(text)).map_err(io::Error::other)
            }
        };
        sent.expect("a message sent");
    }

    fn receive(&self, patience: Duration) -> Option<(Vec<u8>, SocketAddr)> {
        let end = Instant::now() + patience;
        loop {
            if let Session::Stream(_, waiting) = &mut *self.session.borrow_mut()
                && let Some(message) = first_message(waiting)
            {
                return Some((message, self.server));
            }
            self.time_out(end.checked_duration_since(Instant::now())?);
            match &mut *self.session.borrow_mut() {
                Session::Datagrams(socket) => {
                    let mut bytes = vec![0; 65_536];
                    let (length, source) = socket.recv_from(&mut bytes).ok()?;
                    bytes.truncate(length);
                    return Some((bytes, source));
                }
                Session::Stream(stream, waiting) => {
                    let mut bytes = [0; 8_192];
                    match stream.read(&mut bytes) {
                        Ok(0) | Err(_) => return None,
                        Ok(count) => waiting.extend_from_slice(&bytes[..count]),
                    }
                }
                Session::WebSocket(socket) => match socket.read() {
                    Ok(Message::Text(text)) => return Some((text.as_bytes().to_vec(), self.server)),
                    Ok(Message::Binary(bytes)) => return Some((bytes.to_vec(), self.server)),
                    Ok(_) => {}
                    Err(_) => return None,
                },
            }
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Takes the first message out of what has arrived.
fn first_message(waiting: &mut Vec<u8>) -> Option<Vec<u8>> {
    while waiting.starts_with(b"\r\n") {
        waiting.drain(..2);
    }
    let head = waiting.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&waiting[..head]).into_owned();
    let length: usize = roost_rig::phone::header(&text, "Content-Length")?.parse().ok()?;
    (waiting.len() >= head + length).then(|| waiting.drain(..head + length).collect())
}

/// A client's TLS session.
pub fn secured(
    stream: TcpStream,
    authority: &Path,
) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(authority).expect("ca.pem") {
        roots.add(authority.expect("a certificate")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let session = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
    rustls::StreamOwned::new(session, stream)
}

fn websocket(duplex: Box<dyn Duplex>, server: SocketAddr) -> WebSocket<Box<dyn Duplex>> {
    use tungstenite::client::IntoClientRequest as _;
    let mut request = format!("ws://{server}/").into_client_request().expect("a request");
    request.headers_mut().insert("Sec-WebSocket-Protocol", "sip".parse().expect("a value"));
    let (socket, response) =
        tungstenite::client(request, duplex).unwrap_or_else(|error| panic!("no WebSocket: {error}"));
    let protocol = response.headers().get("Sec-WebSocket-Protocol").map(|value| value.as_bytes());
    assert_eq!(protocol, Some(&b"sip"[..]));
    socket
}

/// A phone over such a line, with its Contact.
pub fn phone(line: AnyLine, user: &str) -> Phone<AnyLine> {
    let contact = line.contact(user);
    let mut phone = Phone::over(line, "127.0.0.1", user, user);
    phone.contact = contact;
    phone
}

/// A request inside a dialog arrives and is answered.
pub fn reaches(from: &Phone<AnyLine>, to: &Phone<AnyLine>, dialog: &mut Dialog, method: &str) {
    from.send(dialog.request(method, &[]));
    let received = to.await_request(method);
    to.answer(&received, "200 OK");
    assert_eq!(from.await_final(method).line(), "200 OK");
}
