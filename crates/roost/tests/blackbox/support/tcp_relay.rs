//! Passes TCP connections on: late if told so, and until it cuts them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Stands before a server.
pub struct TcpRelay {
    pub address: SocketAddr,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    delay_ms: Arc<AtomicU64>,
}

impl TcpRelay {
    pub fn start(towards: SocketAddr) -> TcpRelay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("its address");
        let streams = Arc::new(Mutex::new(Vec::new()));
        let delay_ms = Arc::new(AtomicU64::new(0));
        let (made, delay) = (Arc::clone(&streams), Arc::clone(&delay_ms));
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(towards) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
                    let delay = Arc::clone(&delay);
                    thread::spawn(move || pass(from, to, &delay));
                }
                made.lock().expect("the streams").extend([near, far]);
            }
        });
        TcpRelay { address, streams, delay_ms }
    }

    /// From now on what comes waits so long before it goes on.
    pub fn delay(&self, delay: Duration) {
        self.delay_ms.store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    /// How many connections there have been.
    pub fn made(&self) -> usize {
        self.streams.lock().expect("the streams").len() / 2
    }

    /// Ends all connections.
    pub fn cut(&self) {
        for stream in self.streams.lock().expect("the streams").iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, delay_ms: &AtomicU64) {
    let mut bytes = [0; 65_536];
    while let Ok(count) = from.read(&mut bytes) {
        // The network is what is simulated here.
        thread::sleep(Duration::from_millis(delay_ms.load(Ordering::Relaxed)));
        if count == 0 || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
