//! A bad network: datagrams pass between two parties as they are, but for some that are lost.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Random;

/// Stands before `target`. Dropping it ends it.
pub struct Relay {
    /// Where the other party finds the target.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    passed: AtomicU64,
    lost: AtomicU64,
    /// Who has sent to the relay last: there is one other party.
    other: Mutex<Option<SocketAddr>>,
}

impl Relay {
    /// Of each direction `loss` of a hundred datagrams are lost; `seed` decides which.
    pub fn start(target: SocketAddr, loss: u64, seed: u64) -> Relay {
        let (front, back) = (socket(), socket());
        let address = front.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            passed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            other: Mutex::new(None),
        });
        let there = Direction {
            from: front.try_clone().expect("a second handle"),
            to: back.try_clone().expect("a second handle"),
            target: Some(target),
            loss,
            random: Random::seeded(seed),
            shared: Arc::clone(&shared),
        };
        let back_again = Direction {
            from: back,
            to: front,
            target: None,
            loss,
            random: Random::seeded(seed + 1),
            shared: Arc::clone(&shared),
        };
        let threads = [there, back_again].map(|direction| thread::spawn(move || direction.run()));
        Relay { address, shared, threads: threads.into() }
    }

    /// How many datagrams have passed and how many were lost.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.passed.load(Ordering::Relaxed), self.shared.lost.load(Ordering::Relaxed))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct Direction {
    from: UdpSocket,
    to: UdpSocket,
    /// None: the peer that the other direction has heard.
    target: Option<SocketAddr>,
    loss: u64,
    random: Random,
    shared: Arc<Shared>,
}

impl Direction {
    fn run(mut self) {
        let mut bytes = vec![0; 65_536];
        while !self.shared.stop.load(Ordering::Relaxed) {
            let Ok((length, source)) = self.from.recv_from(&mut bytes) else { continue };
            if self.target.is_some() {
                *self.shared.other.lock().expect("the other party") = Some(source);
            }
            if self.random.below(100) < self.loss {
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let other = || *self.shared.other.lock().expect("the other party");
            if let Some(target) = self.target.or_else(other) {
                let _ = self.to.send_to(&bytes[..length], target);
                self.shared.passed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a UDP socket");
    // So that it notices when it shall stop.
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    socket
}
