//! The phone in the page speaks SIP over a WebSocket to the console's own address: the connection goes on to the SIP server, byte by byte.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;

use crate::shared::Shared;
use crate::{From, Peer};

/// How long the handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer to the handshake.
const MAX_HEAD: usize = 8 << 10;

/// Headers of the handshake (RFC 6455 4.1) that go on. Whose page it is has been looked at.
const HANDSHAKE: [&str; 4] =
    ["sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol", "sec-websocket-extensions"];

/// Joins the browser's connection with one to the SIP server.
pub(crate) async fn connect(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): From,
    request: Request,
) -> Response<Body> {
    let Some(adopt) = &shared.parts.phone else {
        return (StatusCode::NOT_FOUND, "nothing here speaks WebSocket\n").into_response();
    };
    if !request.headers().contains_key("sec-websocket-key") {
        return (StatusCode::BAD_REQUEST, "a WebSocket is wanted\n").into_response();
    }
    let handshake = handshake(&request);
    let joined = async {
        let (ours, theirs) = pair().await?;
        adopt(theirs, shared.settings.address_of(peer), peer.remote);
        shake(ours, &handshake).await
    };
    let (ours, head) =
        match tokio::time::timeout(PATIENCE, joined).await.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
            Ok(joined) => joined,
            Err(error) => return (StatusCode::BAD_GATEWAY, format!("{error}\n")).into_response(),
        };
    let Some(mut response) = answer(&head) else {
        return (StatusCode::BAD_GATEWAY, "the handshake was refused\n").into_response();
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        tokio::spawn(async move {
            let mut ours = ours;
            if let Ok(upgraded) = hyper::upgrade::on(request).await {
                let _ = copy_bidirectional(&mut TokioIo::new(upgraded), &mut ours).await;
            }
        });
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    response
}

/// Two ends of a connection within the machine.
async fn pair() -> io::Result<(TcpStream, std::net::TcpStream)> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let ours = TcpStream::connect(listener.local_addr()?).await?;
    let own = ours.local_addr()?;
    loop {
        // Somebody else of this machine may be faster.
        let (theirs, remote) = listener.accept().await?;
        if remote == own {
            return Ok((ours, theirs.into_std()?));
        }
    }
}

/// The browser's handshake as it goes on.
fn handshake(request: &Request) -> String {
    let mut text =
        String::from("GET / HTTP/1.1\r\nHost: console\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    for name in HANDSHAKE {
        for value in request.headers().get_all(name) {
            if let Ok(value) = value.to_str() {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
    }
    text.push_str("\r\n");
    text
}

/// Sends the handshake on, and reads its answer: not one byte more.
async fn shake(mut ours: TcpStream, text: &str) -> io::Result<(TcpStream, Vec<u8>)> {
    ours.write_all(text.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.push(ours.read_u8().await?);
    }
    Ok((ours, head))
}

/// The answer as it is given to the browser.
fn answer(head: &[u8]) -> Option<Response<Body>> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.lines();
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut response = Response::builder().status(status).body(Body::empty()).ok()?;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let name = HeaderName::try_from(name.trim()).ok()?;
        if name != header::CONTENT_LENGTH {
            response.headers_mut().append(name, HeaderValue::from_str(value.trim()).ok()?);
        }
    }
    Some(response)
}

impl crate::Settings {
    /// Our address as a peer met it.
    fn address_of(&self, peer: Peer) -> std::net::SocketAddr {
        match self.address.ip().is_unspecified() {
            true => peer.local,
            false => self.address,
        }
    }
}
