//! MI subscribers that have named a TCP address: each event is a JSON text behind the other, as OpenSIPS's `event_stream` sends it.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Events that wait for one subscriber.
const WAITING: usize = 1_024;
/// How long it may take to connect, and to take an event.
const PATIENCE: Duration = Duration::from_secs(2);

/// The subscribers' threads, by address.
#[derive(Debug, Default)]
pub(crate) struct Connections(Vec<(SocketAddr, SyncSender<String>)>);

impl Connections {
    /// Starts the thread of an address, if there is none yet.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn open(&mut self, address: SocketAddr) -> std::io::Result<()> {
        if self.0.iter().any(|(own, _)| *own == address) {
            return Ok(());
        }
        let (queue, events) = sync_channel(WAITING);
        std::thread::Builder::new()
            .name("roost-events".to_string())
            .spawn(move || send_all(address, &events))?;
        self.0.push((address, queue));
        Ok(())
    }

    /// Ends the threads of all other addresses.
    pub(crate) fn keep(&mut self, wanted: impl Fn(&SocketAddr) -> bool) {
        self.0.retain(|(address, _)| wanted(address));
    }

    /// Whether an event was taken to be sent.
    pub(crate) fn send(&self, address: SocketAddr, event: &str) -> bool {
        let queue = self.0.iter().find(|(own, _)| *own == address);
        queue.is_some_and(|(_, queue)| queue.try_send(event.to_string()).is_ok())
    }
}

/// Connects when there is something to send; what cannot be sent is lost.
fn send_all(address: SocketAddr, events: &Receiver<String>) {
    let mut stream: Option<TcpStream> = None;
    let mut failed: Option<Instant> = None;
    while let Ok(event) = events.recv() {
        if stream.is_none() && failed.is_none_or(|failed| failed.elapsed() > PATIENCE) {
            stream = TcpStream::connect_timeout(&address, PATIENCE).ok();
            failed = stream.is_none().then(Instant::now);
            if let Some(stream) = &stream {
                let _ = stream.set_write_timeout(Some(PATIENCE));
            }
        }
        if let Some(open) = &mut stream
            && open.write_all(event.as_bytes()).is_err()
        {
            stream = None;
        }
    }
}
