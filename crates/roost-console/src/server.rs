//! The web server: connections with TLS or without, and what each path leads to.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::connect_info::Connected;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get};
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;

use crate::places::{Place, Places};
use crate::shared::Shared;
use crate::{Certificates, Parts, Peer, Settings, actions, bridge, guard, live, pages};

/// The largest form: a configuration file.
const MAX_FORM: usize = 1 << 20;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections whose handshakes are under way.
const HANDSHAKES: usize = 64;
/// Connections at once, and those of one address.
const CONNECTIONS: (usize, usize) = (512, 128);
/// How long a connection may stand still both ways.
const IDLE: Duration = Duration::from_secs(60);
/// How long it may take from its beginning to the first byte of its first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(20);

/// Serves the console for as long as it is polled. `once` makes whoever shows it an administrator, one time.
///
/// # Errors
/// The files of people cannot be read, or the listener fails.
pub async fn serve(
    listener: std::net::TcpListener,
    settings: Settings,
    parts: Parts,
    once: Option<crate::OnceLink>,
) -> io::Result<()> {
    let certificates = settings.certificates.clone();
    if certificates.is_none() && !settings.address.ip().is_loopback() {
        return Err(io::Error::other("beyond a loopback address the console needs a certificate"));
    }
    let shared = Shared::new(settings, parts, once).map_err(io::Error::other)?;
    shared.start();
    let router = Router::new()
        .route("/live", get(live::stream))
        .route("/phone/ws", any(bridge::connect))
        .route("/assets/{name}", get(pages::asset))
        .fallback(get(pages::page).post(actions::act))
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .layer(from_fn_with_state(Arc::clone(&shared), guard::pass))
        .with_state(shared);
    let listener = TcpListener::from_std(listener)?;
    let service = router.into_make_service_with_connect_info::<Peer>();
    axum::serve(Door::new(listener, certificates), service).await
}

/// Where connections come in.
struct Door {
    ready: mpsc::Receiver<(Connection, Peer)>,
    local: SocketAddr,
}

impl Door {
    fn new(listener: TcpListener, certificates: Option<Certificates>) -> Door {
        let (sender, ready) = mpsc::channel(HANDSHAKES);
        let local = listener.local_addr().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        tokio::spawn(accept(listener, certificates, sender));
        Door { ready, local }
    }
}

async fn accept(
    listener: TcpListener,
    certificates: Option<Certificates>,
    sender: mpsc::Sender<(Connection, Peer)>,
) {
    let (under_way, places) = (Arc::new(Semaphore::new(HANDSHAKES)), Places::new(CONNECTIONS));
    loop {
        let Ok((stream, remote)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // Who is one too many is let go.
        let (Ok(local), Some(place)) = (stream.local_addr(), places.take(remote.ip())) else { continue };
        let _ = stream.set_nodelay(true);
        let peer = Peer { remote, local };
        let Some(certificates) = &certificates else {
            if sender.send((Connection::new(Wire::Plain(stream), place), peer)).await.is_err() {
                return;
            }
            continue;
        };
        let (Some(config), Ok(permit)) = (certificates(), Arc::clone(&under_way).try_acquire_owned()) else {
            continue;
        };
        let sender = sender.clone();
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await;
            drop(permit);
            if let Ok(Ok(stream)) = shaken {
                let wire = Wire::Secure(Box::new(stream));
                let _ = sender.send((Connection::new(wire, place), peer)).await;
            }
        });
    }
}

/// A connection with TLS or without.
#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Secure(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

/// A connection that ends when it stands still.
#[derive(Debug)]
struct Connection {
    wire: Wire,
    idle: Pin<Box<Sleep>>,
    /// What comes before the first answer does not make it last.
    is_answered: bool,
    _place: Place,
}

impl Connection {
    fn new(wire: Wire, place: Place) -> Connection {
        let idle = Box::pin(tokio::time::sleep(FIRST_ANSWER));
        Connection { wire, idle, is_answered: false, _place: place }
    }

    /// What was done counts, and what waits waits so long.
    fn watched<T>(&mut self, done: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        match done {
            Poll::Ready(done) => {
                if self.is_answered {
                    self.idle.as_mut().reset(Instant::now() + IDLE);
                }
                Poll::Ready(done)
            }
            Poll::Pending => match self.idle.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl Listener for Door {
    type Io = Connection;
    type Addr = Peer;

    async fn accept(&mut self) -> (Connection, Peer) {
        match self.ready.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { remote: self.local, local: self.local })
    }
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Peer {
        *stream.remote_addr()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let own = self.get_mut();
        let done = match &mut own.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Secure(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        own.watched(done, context)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let own = self.get_mut();
        own.is_answered = true;
        let done = match &mut own.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Secure(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        own.watched(done, context)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(context),
            Wire::Secure(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Secure(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
