//! Workers: threads that run shards. Each shard has a seat: its engine, a socket per listener and an inbox.
//!
//! A worker waits for all seats that it runs at once. While there is little to do, worker 0 runs all of them: a burst
//! wakes one thread, and what belongs to another shard is not handed over between threads. A worker gets its own seat
//! once they are too much for one (`team.rs`).
//!
//! Each round: mail, a batch from every socket that has one, what is due, then everything that the engines want sent or
//! asked.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use roost_core::{Command, Counter, Engine, Flow, HandOver, Now, Outbox, Transmit};
use roost_sip::Head;

use crate::batch::{BATCH, Outgoing, Poller, Receiver, send_all};
use crate::inbox::{Batch, Inbox, Mail};
use crate::pressure::Pressure;
use crate::team::{Desk, Load, Seat, Team, Verdict};

/// How long a stopping worker waits for its last receipts.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// So many datagrams from one socket at once mean that more are there: the next round does not wait first.
const MORE_TO_COME: usize = BATCH / 4;
/// Empty batches that are kept for the next hand-overs.
const SPARE: usize = 64;
/// Larger ones are not kept.
const SPARE_BYTES: usize = 256 << 10;
/// All sockets of a seat.
const ALL: u64 = u64::MAX;

/// The process's clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    /// Where monotonic time begins: far from zero, so that what is older than the process has an age.
    base_ms: u64,
}

impl Clock {
    /// A clock that starts running.
    pub fn start() -> Clock {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { start: Instant::now(), base_ms: unix.as_millis() as u64 }
    }

    /// The time.
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ms: self.base_ms + self.start.elapsed().as_millis() as u64, unix_s: unix.as_secs() }
    }
}

/// One thread.
#[derive(Debug)]
pub struct Worker<F> {
    team: Arc<Team<F>>,
    /// Its number, and its own seat's.
    own: usize,
    hands: Hands,
}

/// What a worker works with, whichever seats it runs.
#[derive(Debug)]
struct Hands {
    clock: Clock,
    poller: Poller,
    receiver: Receiver,
    head: Box<Head>,
    outbox: Outbox,
    mail: Vec<Mail>,
    asked: Vec<Command>,
    /// What goes to other shards after this round, by shard.
    handover: Vec<Batch>,
    /// Empty ones that were used before.
    spare: Vec<Batch>,
    load: Load,
}

/// A seat that this worker runs.
struct Run<'a, F> {
    place: usize,
    seat: &'a Seat<F>,
    desk: MutexGuard<'a, Desk<F>>,
    /// Which of its sockets may have something, a bit each.
    readable: u64,
    /// How each is doing.
    pressures: Vec<Pressure>,
}

/// What a round found.
#[derive(Debug, Default)]
struct Round {
    must_stop: bool,
    more_to_come: bool,
    /// Seats that their workers have left.
    left: Vec<usize>,
}

impl<F: FnMut(&mut Vec<Command>)> Worker<F> {
    pub(crate) fn new(team: Arc<Team<F>>, own: usize, clock: Clock) -> io::Result<Self> {
        let hands = Hands {
            clock,
            poller: Poller::new()?,
            receiver: Receiver::new(),
            head: Head::new(),
            outbox: Outbox::default(),
            mail: Vec::new(),
            asked: Vec::new(),
            handover: team.seats.iter().map(|_| Batch::default()).collect(),
            spare: Vec::new(),
            load: Load::new(Instant::now()),
        };
        Ok(Worker { team, own, hands })
    }

    /// Runs until it is told to stop, and until what was under way then is done.
    ///
    /// # Errors
    /// When waiting fails, which leaves nothing to go on with.
    pub fn run(self) -> io::Result<()> {
        let Worker { team, own, mut hands } = self;
        let mut runs: Vec<Run<'_, F>> = Vec::new();
        if own == 0 {
            for place in 0..team.seats.len() {
                hands.sit_down(&team, place, &mut runs)?;
            }
        }
        hands.load = Load::new(Instant::now());
        let mut stopping: Option<Instant> = None;
        loop {
            if runs.is_empty() {
                if !team.wait_for_call(own) {
                    return Ok(());
                }
                hands.load = Load::new(Instant::now());
                hands.sit_down(&team, own, &mut runs)?;
            }
            let now = hands.clock.now();
            let round = hands.round(&team, &mut runs, stopping.is_some(), now);
            for place in round.left {
                hands.sit_down(&team, place, &mut runs)?;
                if let Some(run) = runs.last().filter(|_| stopping.is_some()) {
                    hands.stop_listening(std::slice::from_ref(run))?;
                }
            }
            if round.must_stop && stopping.is_none() {
                stopping = Some(Instant::now());
                hands.stop_listening(&runs)?;
            }
            match (stopping, hands.load.verdict(&team, own, runs.len(), now)) {
                (Some(_), _) if runs.iter().all(|run| run.desk.engine.is_idle()) => return Ok(()),
                (Some(since), _) if since.elapsed() > STOP_GRACE => return Ok(()),
                (None, Verdict::Give) => {
                    if let Some(place) = hands.stand_up(&team, &mut runs)? {
                        team.call(place);
                    }
                }
                (None, Verdict::Leave) => {
                    hands.stand_up(&team, &mut runs)?;
                    team.leave(own);
                }
                _ => {}
            }
            if !runs.is_empty() {
                hands.wait(&team, &mut runs, round.more_to_come, now)?;
            }
        }
    }
}

impl Hands {
    /// Takes a seat whose desk nobody has.
    fn sit_down<'a, F>(
        &mut self,
        team: &'a Team<F>,
        place: usize,
        runs: &mut Vec<Run<'a, F>>,
    ) -> io::Result<()> {
        let Some((seat, inbox)) = team.seats.get(place).zip(team.inboxes.get(place)) else { return Ok(()) };
        self.poller.add(inbox.event(), token(place, 0))?;
        for (index, bound) in seat.sockets.iter().enumerate() {
            self.poller.add(bound.socket.as_fd(), token(place, index + 1))?;
        }
        let pressures = seat.sockets.iter().map(|_| Pressure::default()).collect();
        runs.push(Run { place, seat, desk: seat.desk(), readable: ALL, pressures });
        Ok(())
    }

    /// Leaves the seat that it took last.
    fn stand_up<F>(&mut self, team: &Team<F>, runs: &mut Vec<Run<'_, F>>) -> io::Result<Option<usize>> {
        let Some(run) = runs.pop() else { return Ok(None) };
        for bound in &run.seat.sockets {
            self.poller.remove(bound.socket.as_fd())?;
        }
        if let Some(inbox) = team.inboxes.get(run.place) {
            self.poller.remove(inbox.event())?;
        }
        Ok(Some(run.place))
    }

    fn round<'a, F: FnMut(&mut Vec<Command>)>(
        &mut self,
        team: &'a Team<F>,
        runs: &mut [Run<'a, F>],
        is_stopping: bool,
        now: Now,
    ) -> Round {
        let mut round = Round::default();
        for run in &mut *runs {
            self.read_mail(team, run, now, &mut round);
            if !is_stopping && !round.must_stop {
                round.more_to_come |= self.read_sockets(run, now);
            }
            run.desk.engine.handle_timeout(now, &mut self.outbox);
            self.ask(run);
        }
        self.hand_over(team, runs, now);
        self.send(team, runs);
        round
    }

    /// Handles all mail of a seat.
    fn read_mail<F>(&mut self, team: &Team<F>, run: &mut Run<'_, F>, now: Now, round: &mut Round) {
        let Some(inbox) = team.inboxes.get(run.place) else { return };
        let mut mail = std::mem::take(&mut self.mail);
        inbox.take(&mut mail);
        for item in mail.drain(..) {
            match item {
                Mail::Seat(place) => round.left.push(place),
                Mail::Stop => round.must_stop = true,
                item => self.handle_mail(&mut run.desk.engine, item, now),
            }
        }
        self.mail = mail;
    }

    fn handle_mail(&mut self, engine: &mut Engine, item: Mail, now: Now) {
        let out = &mut self.outbox;
        match item {
            Mail::Receipt(receipt) => engine.handle_receipt(receipt, now, out),
            Mail::Messages(mut batch) => {
                for (HandOver { flow, mark, .. }, message) in batch.iter() {
                    if self.head.parse(message).is_ok() {
                        engine.handle_handed_over(flow, message, &self.head, *mark, now, out);
                    }
                }
                if self.spare.len() < SPARE && batch.room() <= SPARE_BYTES {
                    batch.clear();
                    self.spare.push(batch);
                }
            }
            Mail::Stream { flow, message, pass } => {
                match self.head.parse(&message) {
                    Ok(()) => engine.handle_message(&flow, &message, &self.head, now, out),
                    Err(error) => engine.handle_unreadable(error),
                }
                drop(pass);
            }
            Mail::Admin(ticket, request) => engine.handle_admin(ticket, request, now, out),
            Mail::Reading(reading, since_ms) => engine.handle_reading(reading, since_ms),
            Mail::Rows { rows, up_to, under_way } => {
                engine.load_page(&rows, up_to, now, out);
                drop(under_way);
            }
            Mail::ShardEvent(news) => engine.handle_shard_event(news, now, out),
            Mail::Seat(_) | Mail::Stop => {}
        }
    }

    /// Handles one batch from every socket that has one; whether more may be there.
    fn read_sockets<F>(&mut self, run: &mut Run<'_, F>, now: Now) -> bool {
        let mut more_to_come = false;
        let readable = std::mem::take(&mut run.readable);
        let mut shed = 0;
        for ((index, bound), pressure) in run.seat.sockets.iter().enumerate().zip(&mut run.pressures) {
            if readable & bit(index) == 0 {
                continue;
            }
            // WouldBlock is the ordinary end; an ICMP error of an earlier answer is nobody's fault here.
            let count = self.receiver.receive(bound.socket.as_fd()).unwrap_or(0);
            more_to_come |= count >= MORE_TO_COME;
            pressure.heard(self.receiver.lost(), now.mono_ms);
            for index in 0..count {
                let (datagram, bytes) = self.receiver.datagram(index);
                if pressure.passes_over(bytes, now.mono_ms) {
                    shed += 1;
                    continue;
                }
                let mut local = bound.address;
                if let Some(ip) = datagram.local_ip {
                    local.set_ip(ip);
                }
                let flow = Flow::udp(local, datagram.remote);
                let engine = &mut run.desk.engine;
                match self.head.parse(bytes) {
                    Ok(()) => engine.handle_message(&flow, bytes, &self.head, now, &mut self.outbox),
                    Err(error) => engine.handle_unreadable(error),
                }
            }
        }
        if shed > 0 {
            run.desk.engine.count(Counter::Shed, shed);
        }
        more_to_come
    }

    /// Takes the engine's commands to whoever does them.
    fn ask<F: FnMut(&mut Vec<Command>)>(&mut self, run: &mut Run<'_, F>) {
        for command in self.outbox.commands.drain(..) {
            match command {
                Command::ToShard(message) => {
                    if let Some(batch) = self.handover.get_mut(usize::from(message.shard.0)) {
                        let bytes = self.outbox.bytes.get(message.start..message.end).unwrap_or(&[]);
                        batch.push(message, bytes);
                    }
                }
                other => self.asked.push(other),
            }
        }
        if !self.asked.is_empty() {
            (run.desk.ask)(&mut self.asked);
        }
    }

    /// What belongs to other shards is handled at once where this worker runs them, else it goes to their inboxes.
    fn hand_over<F: FnMut(&mut Vec<Command>)>(&mut self, team: &Team<F>, runs: &mut [Run<'_, F>], now: Now) {
        // A message is handed over twice at most: to the caller's shard, and to the callee's.
        let mut is_done = false;
        while !is_done {
            is_done = true;
            for run in &mut *runs {
                let Some(batch) = self.handover.get_mut(run.place).filter(|batch| !batch.is_empty()) else {
                    continue;
                };
                is_done = false;
                let batch = std::mem::replace(batch, self.spare.pop().unwrap_or_default());
                self.handle_mail(&mut run.desk.engine, Mail::Messages(batch), now);
                self.ask(run);
            }
        }
        for (inbox, batch) in team.inboxes.iter().zip(&mut self.handover) {
            if !batch.is_empty() {
                let batch = std::mem::replace(batch, self.spare.pop().unwrap_or_default());
                let refused = inbox.post([Mail::Messages(batch)]);
                if let Some(run) = runs.first_mut().filter(|_| refused > 0) {
                    run.desk.engine.count(Counter::InboxFull, refused as u64);
                    tracing::debug!(refused, "another worker's inbox is full");
                }
            }
        }
    }

    /// Sends everything that the engines left in the outbox; datagrams from the first seat's sockets: all seats' are alike.
    fn send<F>(&mut self, team: &Team<F>, runs: &[Run<'_, F>]) {
        let is_datagram = |transmit: &&Transmit| !transmit.flow.transport.is_reliable();
        if let Some(streams) = &team.streams {
            for transmit in self.outbox.transmits.iter().filter(|transmit| !is_datagram(transmit)) {
                streams.send(transmit.flow, self.outbox.message(transmit));
            }
        }
        let sockets = runs.first().map_or(&[][..], |run| &run.seat.sockets);
        for bound in sockets {
            let ours = |transmit: &&Transmit| is_datagram(transmit) && bound.is_from(transmit.flow.local);
            let is_wildcard = bound.address.ip().is_unspecified();
            let outgoing = |transmit: &Transmit| Outgoing {
                bytes: &self.outbox.bytes[transmit.start..transmit.end],
                remote: transmit.flow.remote,
                local_ip: is_wildcard.then(|| transmit.flow.local.ip()),
            };
            let refused =
                send_all(bound.socket.as_fd(), self.outbox.transmits.iter().filter(ours).map(outgoing));
            if refused > 0 {
                tracing::debug!(refused, "datagrams that the kernel refused");
            }
        }
        self.outbox.clear();
    }

    /// Waits for mail, datagrams and timers of all seats; one that is busy only looks which sockets have something, so that
    /// neither mail nor a busy socket keeps it from the others.
    fn wait<F>(
        &mut self,
        team: &Team<F>,
        runs: &mut [Run<'_, F>],
        is_busy: bool,
        now: Now,
    ) -> io::Result<()> {
        let due_ms = runs.iter().map(|run| run.desk.engine.poll_timeout()).min().unwrap_or(0);
        let timeout = Duration::from_millis(due_ms.saturating_sub(now.mono_ms).max(1));
        let all = runs.len();
        let inbox = |run: &Run<'_, F>| team.inboxes.get(run.place);
        let may_sleep = |run: &&Run<'_, F>| inbox(run).is_some_and(Inbox::may_sleep);
        let asleep = if is_busy { 0 } else { runs.iter().take_while(may_sleep).count() };
        let before = Instant::now();
        let waited = self.poller.wait(if asleep == all { timeout } else { Duration::ZERO });
        if asleep == all {
            self.load.slept(before.elapsed());
        }
        for token in self.poller.ready() {
            let (place, index) = ((token >> 16) as usize, (token & 0xffff) as usize);
            let run = runs.iter_mut().find(|run| run.place == place);
            if let (Some(run), Some(index)) = (run, index.checked_sub(1)) {
                run.readable |= bit(index);
            }
        }
        runs.iter().take(asleep).filter_map(inbox).for_each(Inbox::woke);
        waited
    }

    /// A worker that ends reads no more datagrams, and is not woken by them.
    fn stop_listening<F>(&mut self, runs: &[Run<'_, F>]) -> io::Result<()> {
        let mut sockets = runs.iter().flat_map(|run| &run.seat.sockets);
        sockets.try_for_each(|bound| self.poller.remove(bound.socket.as_fd()))
    }
}

/// What the poller says of a seat: 0 is its inbox, n + 1 its socket n.
fn token(place: usize, what: usize) -> u64 {
    (place as u64) << 16 | what as u64
}

/// A socket's bit; those beyond 64 share the last one.
fn bit(index: usize) -> u64 {
    1 << index.min(63)
}
