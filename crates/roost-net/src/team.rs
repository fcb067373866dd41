//! The team: which worker runs which seat. Worker 0 runs all that no other worker has asked for.
//!
//! A worker that is busy for most of a window and runs more than its own seat gives one to that seat's own worker, which
//! slept till then. A worker that has been idle for long leaves its seat to worker 0 again, if that one has room.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use roost_core::{Command, Engine, Listener, Now};

use crate::inbox::{Inbox, Mail};
use crate::stream::Streams;
use crate::worker::{Clock, Worker};

/// How long a worker's load is measured before it counts, in milliseconds.
const WINDOW_MS: u64 = 20;
/// Busy for more than this part of a window, in percent, is too much for more than one seat.
const TOO_MUCH: u128 = 60;
/// Worker 0 has room for another seat below this.
const HAS_ROOM: u128 = 30;
/// A worker that is busy for less than this ...
const IDLE: u128 = 20;
/// ... for so many windows in a row leaves its seat.
const IDLE_WINDOWS: u32 = 10;

/// All seats, and the workers that wait for theirs.
#[derive(Debug)]
pub struct Team<F> {
    pub(crate) seats: Vec<Seat<F>>,
    pub(crate) inboxes: Arc<Vec<Inbox>>,
    /// Where messages for connections go; none where only datagrams are listened for.
    pub(crate) streams: Option<Streams>,
    /// Whether worker 0 can take another seat.
    has_room: AtomicBool,
}

/// What one shard works with.
#[derive(Debug)]
pub(crate) struct Seat<F> {
    desk: Mutex<Desk<F>>,
    pub(crate) sockets: Vec<Bound>,
    call: Mutex<Call>,
    called: Condvar,
}

/// What whoever runs a seat holds.
#[derive(Debug)]
pub(crate) struct Desk<F> {
    pub(crate) engine: Engine,
    /// Takes the engine's commands that are not for another shard, all of them out.
    pub(crate) ask: F,
}

/// A socket and what it is bound to.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) socket: UdpSocket,
    pub(crate) address: SocketAddr,
}

/// What a worker without a seat waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Wait,
    Come,
    End,
}

impl<F: FnMut(&mut Vec<Command>)> Team<F> {
    /// A team of one worker for each shard: its engine, its socket of every listener, and who takes its commands. Shard
    /// `n` reads its mail from the inbox of that number.
    ///
    /// # Errors
    /// When a socket does not tell its address.
    pub fn new(
        shards: Vec<(Engine, Vec<UdpSocket>, F)>,
        inboxes: Arc<Vec<Inbox>>,
        streams: Option<Streams>,
    ) -> io::Result<Arc<Self>> {
        let bound = |socket: UdpSocket| Ok(Bound { address: socket.local_addr()?, socket });
        let seat = |(engine, sockets, ask): (Engine, Vec<UdpSocket>, F)| {
            Ok(Seat {
                desk: Mutex::new(Desk { engine, ask }),
                sockets: sockets.into_iter().map(bound).collect::<io::Result<_>>()?,
                call: Mutex::new(Call::Wait),
                called: Condvar::new(),
            })
        };
        let seats = shards.into_iter().map(seat).collect::<io::Result<_>>()?;
        Ok(Arc::new(Team { seats, inboxes, streams, has_room: AtomicBool::new(false) }))
    }

    /// Its workers, each for a thread of its own.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn workers(self: &Arc<Self>, clock: Clock) -> io::Result<Vec<Worker<F>>> {
        (0..self.seats.len()).map(|own| Worker::new(Arc::clone(self), own, clock)).collect()
    }

    /// Tells all workers to finish what is under way and to end.
    pub fn stop(&self) {
        for inbox in self.inboxes.iter() {
            inbox.post([Mail::Stop]);
        }
        self.seats.iter().for_each(|seat| seat.call(Call::End));
    }
}

impl<F> Team<F> {
    /// Sleeps until the worker must run its own seat; false when it must end.
    pub(crate) fn wait_for_call(&self, own: usize) -> bool {
        let Some(seat) = self.seats.get(own) else { return false };
        let call = seat.call.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = seat.called.wait_while(call, |call| *call == Call::Wait);
        let mut call = waited.unwrap_or_else(PoisonError::into_inner);
        let must_come = *call == Call::Come;
        if must_come {
            *call = Call::Wait;
        }
        must_come
    }

    /// Tells a seat's own worker to run it.
    pub(crate) fn call(&self, place: usize) {
        if let Some(seat) = self.seats.get(place) {
            seat.call(Call::Come);
        }
    }

    /// Leaves a seat to worker 0.
    pub(crate) fn leave(&self, place: usize) {
        if let Some(inbox) = self.inboxes.first() {
            inbox.post([Mail::Seat(place)]);
        }
    }
}

impl<F> Seat<F> {
    /// Its desk, once nobody else has it.
    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk<F>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, call: Call) {
        *self.call.lock().unwrap_or_else(PoisonError::into_inner) = call;
        self.called.notify_all();
    }
}

impl Bound {
    /// Whether a flow's local address is this socket's.
    pub(crate) fn is_from(&self, local: SocketAddr) -> bool {
        Listener::udp(self.address).covers(local)
    }
}

/// How busy a worker is.
#[derive(Debug)]
pub(crate) struct Load {
    since: Instant,
    slept: Duration,
    /// When the window is over, in monotonic milliseconds.
    until_ms: u64,
    idle_windows: u32,
}

/// What a worker's load says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Stay,
    /// Give a seat to its own worker.
    Give,
    /// Leave the own seat to worker 0.
    Leave,
}

impl Load {
    /// The load from `since` on.
    pub(crate) fn new(since: Instant) -> Load {
        Load { since, slept: Duration::ZERO, until_ms: 0, idle_windows: 0 }
    }

    /// The worker has slept so long.
    pub(crate) fn slept(&mut self, time: Duration) {
        self.slept += time;
    }

    /// Worker `own` runs so many seats: what it should do.
    pub(crate) fn verdict<F>(&mut self, team: &Team<F>, own: usize, seats: usize, now: Now) -> Verdict {
        if now.mono_ms < self.until_ms || team.seats.len() == 1 {
            return Verdict::Stay;
        }
        self.until_ms = now.mono_ms + WINDOW_MS;
        let busy = self.busy(Instant::now());
        if own == 0 {
            team.has_room.store(busy < HAS_ROOM, Ordering::Relaxed);
            return if busy > TOO_MUCH && seats > 1 { Verdict::Give } else { Verdict::Stay };
        }
        self.idle_windows = if busy < IDLE { self.idle_windows + 1 } else { 0 };
        // One worker at a time: the room is for one seat.
        if self.idle_windows >= IDLE_WINDOWS && team.has_room.swap(false, Ordering::Relaxed) {
            self.idle_windows = 0;
            return Verdict::Leave;
        }
        Verdict::Stay
    }

    /// The part of the time since the last call that the worker did not sleep, in percent.
    fn busy(&mut self, now: Instant) -> u128 {
        let window = now.duration_since(std::mem::replace(&mut self.since, now)).as_micros().max(1);
        let slept = std::mem::take(&mut self.slept).as_micros();
        window.saturating_sub(slept) * 100 / window
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use roost_core::{Admin, Config, Rng, ShardId, Ticket};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn load_is_what_was_not_slept() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut load = Load::new(start);
        load.slept(Duration::from_millis(15));
        assert_eq!(load.busy(at(20)), 25);
        assert_eq!(load.busy(at(40)), 100);
        load.slept(Duration::from_millis(60));
        assert_eq!(load.busy(at(80)), 0, "a sleep that began in the window before");
    }

    /// The thread that runs shard 1 takes that shard's commands.
    #[test]
    fn a_seat_moves_to_its_own_worker_under_load_and_back() {
        let inboxes: Arc<Vec<_>> = Arc::new((0..2).map(|_| Inbox::new().unwrap()).collect());
        let mut config = Config::default();
        config.identity.shards = 2;
        let (tell, told) = mpsc::channel();
        let sockets: Vec<_> = (0..2).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let shard = |(shard, socket)| {
            let tell = tell.clone();
            let ask = move |commands: &mut Vec<Command>| {
                for command in commands.drain(..) {
                    if let Command::AdminReply { .. } = command {
                        let _ = tell.send(thread::current().name().unwrap_or_default().to_owned());
                    }
                }
            };
            let engine = Engine::new(&config, ShardId(shard as u16), Rng::new(1));
            (engine, vec![socket], ask)
        };
        let shards = sockets.into_iter().enumerate().map(shard).collect();
        let team = Team::new(shards, Arc::clone(&inboxes), None).unwrap();
        let workers = team.workers(Clock::start()).unwrap().into_iter().enumerate();
        let spawn = |(index, worker): (usize, Worker<_>)| {
            thread::Builder::new().name(index.to_string()).spawn(|| worker.run().unwrap()).unwrap()
        };
        let threads: Vec<_> = workers.map(spawn).collect();
        let runner = || {
            inboxes[1].post([Mail::Admin(Ticket(1), Admin::Statistics)]);
            told.recv_timeout(PATIENCE).unwrap()
        };
        let await_runner = |wanted: &str| {
            let start = Instant::now();
            while runner() != wanted {
                assert!(start.elapsed() < PATIENCE, "worker {wanted} does not get the seat without load");
                // Questions without a pause are load.
                assert!(told.recv_timeout(Duration::from_millis(50)).is_err(), "nobody asked");
            }
        };
        await_runner("0");
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let options = b"OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK1\r\n\
            From: <sip:1@a>;tag=1\r\nTo: <sip:1@a>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
        let start = Instant::now();
        while runner() == "0" {
            for index in 0..200 {
                client.send_to(options, addresses[index % 2]).unwrap();
            }
            assert!(start.elapsed() < PATIENCE, "worker 0 keeps all seats under load");
        }
        await_runner("0");
        team.stop();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
