//! A phone's line over any transport, by hand: sockets, and libraries for TLS and WebSocket.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tungstenite::{Message, WebSocket};

use crate::PATIENCE;
use crate::call::Dialog;
use crate::phone::{Line, Phone, header, token};

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
    socket: Option<Shared>,
    session: RefCell<Session>,
    start: Instant,
}

enum Session {
    Datagrams(UdpSocket),
    Stream(Box<dyn Duplex>, Vec<u8>),
    WebSocket(Box<WebSocket<Box<dyn Duplex>>>),
}

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

impl std::fmt::Debug for AnyLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} from {} to {}", self.transport, self.local, self.server)
    }
}

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
        let stream = Shared(Arc::new(stream));
        let cut = stream.clone();
        let local = cut.0.local_addr().expect("its address");
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
            let _ = socket.0.shutdown(std::net::Shutdown::Both);
        }
    }

    /// From here on writing fails when the server does not read for so long.
    pub fn set_write_timeout(&self, patience: Duration) {
        self.socket.as_ref().expect("a stream").0.set_write_timeout(Some(patience)).expect("a timeout");
    }

    /// Bytes as they are, beside all framing.
    pub fn send_raw(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self.socket.as_ref().expect("a stream").0).write_all(bytes)
    }

    /// From here on nothing that the server sends arrives, nor is it acknowledged: as behind a network that has gone.
    pub fn deafen(&self) {
        let nothing = socket2::SockFilter::new(0x06, 0, 0, 0);
        let socket = socket2::SockRef::from(&*self.socket.as_ref().expect("a stream").0);
        socket.attach_filter(&[nothing]).expect("a filter");
    }

    fn time_out(&self, patience: Duration) {
        let patience = Some(patience.max(Duration::from_millis(1)));
        match (&self.socket, &*self.session.borrow()) {
            (Some(socket), _) => socket.0.set_read_timeout(patience).expect("a timeout"),
            (None, Session::Datagrams(socket)) => socket.set_read_timeout(patience).expect("a timeout"),
            (None, _) => {}
        }
    }
}

/// A socket that is read, written and cut in several places.
#[derive(Clone)]
struct Shared(Arc<TcpStream>);

impl Read for Shared {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(bytes)
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.0).flush()
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
    let length: usize = header(&text, "Content-Length")?.parse().ok()?;
    (waiting.len() >= head + length).then(|| waiting.drain(..head + length).collect())
}

/// A client's TLS session.
pub fn secured<S: Read + Write>(
    stream: S,
    authority: &Path,
) -> rustls::StreamOwned<rustls::ClientConnection, S> {
    let mut roots = rustls::RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(authority).expect("ca.pem") {
        roots.add(authority.expect("a certificate")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Each handshake is a whole one.
    config.resumption = rustls::client::Resumption::disabled();
    let name = ServerName::try_from("localhost").expect("a name");
    let session = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
    rustls::StreamOwned::new(session, stream)
}

/// The certificate that a server shows.
///
/// # Panics
/// When there is no connection, or no trust.
pub fn shown_certificate(server: SocketAddr, authority: &Path) -> Vec<u8> {
    let mut stream = secured(TcpStream::connect(server).expect("a connection"), authority);
    stream.write_all(b"\r\n\r\n").expect("a handshake");
    stream.conn.peer_certificates().expect("a certificate")[0].to_vec()
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

/// A call: each side reaches the other inside it, and one of them hangs up.
pub fn talk(caller: &mut Phone<AnyLine>, callee: &Phone<AnyLine>, callee_hangs_up: bool) {
    let (mut ours, mut theirs) = caller.establish(callee);
    reaches(caller, callee, &mut ours, "INFO");
    reaches(callee, caller, &mut theirs, "INFO");
    match callee_hangs_up {
        false => reaches(caller, callee, &mut ours, "BYE"),
        true => reaches(callee, caller, &mut theirs, "BYE"),
    }
}
