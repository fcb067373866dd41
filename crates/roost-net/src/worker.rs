//! Workers: threads that run shards. A shard is an engine, a socket of each listener and an inbox.
//!
//! A worker waits for all shards that it runs at once. While there is little to do, worker 0 runs all of them: a burst
//! wakes one thread, and what belongs to another shard is not handed over between threads. A worker gets its own shard
//! once they are too much for one (`worker_pool.rs`).
//!
//! Each round: the inbox, a batch from every socket that has one, what is due, then everything that the engines want sent
//! or asked.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use roost_core::{
    Command, Decision, Dropped, Engine, Flow, HandOver, Listening, Now, Outbox, ShardEvent, Topics, Transmit,
};
use roost_hep::{Capture, Tap};
use roost_sip::Head;

use crate::batch::{BATCH, Outgoing, Receiver, send_all};
use crate::clock::Clock;
use crate::inbox::{Batch, Inbox, InboxItem};
use crate::listen::set_buffer;
use crate::load::{Load, Verdict};
use crate::overload::Overload;
use crate::poller::Poller;
use crate::stun;
use crate::worker_pool::{BoundSocket, NEWS_PER_S, News, ShardState, WorkerPool};

/// How long a stopping worker waits for its last receipts.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// So many datagrams from one socket at once mean that more are there: the next round does not wait first.
const MORE_TO_COME: usize = BATCH / 4;
/// So many events are told at once, and how long the first waits for others, in milliseconds.
const TOLD_AT_ONCE: usize = 64;
const TOLD_EVERY_MS: u64 = 10;
/// Empty batches that are kept for the next hand-overs.
const SPARE: usize = 64;
/// Larger ones are not kept.
const SPARE_BYTES: usize = 256 << 10;
const SPARE_EVENTS: usize = 2_048;
/// All sockets of a shard.
const ALL: u64 = u64::MAX;

/// One thread.
#[derive(Debug)]
pub struct Worker<F> {
    pool: Arc<WorkerPool<F>>,
    /// Its number, and its own shard's.
    own: usize,
    io: WorkerIo,
}

/// What a worker works with, whichever shards it runs.
#[derive(Debug)]
struct WorkerIo {
    clock: Clock,
    poller: Poller,
    receiver: Receiver,
    head: Box<Head>,
    outbox: Outbox,
    /// When the limit of events began anew, in monotonic milliseconds.
    news_since_ms: u64,
    /// When the first event came that is not told yet.
    untold_since_ms: Option<u64>,
    items: Vec<InboxItem>,
    asked: Vec<Command>,
    /// What goes to each shard after this round.
    for_shards: Vec<ForShard>,
    /// Empty ones that were used before.
    spare: Spare,
    load: Load,
    /// Copies of this round's messages, while somebody wants them.
    capture: Capture,
    is_captured: bool,
}

/// What goes to one shard.
#[derive(Debug, Default)]
struct ForShard {
    events: Vec<ShardEvent>,
    messages: Batch,
}

/// Lists that are used again and again.
#[derive(Debug, Default)]
struct Spare {
    events: Vec<Vec<ShardEvent>>,
    messages: Vec<Batch>,
}

/// A shard that this worker runs.
struct ActiveShard<'a, F> {
    number: usize,
    state: MutexGuard<'a, ShardState<F>>,
    /// Which of its sockets may have something, a bit each.
    readable: u64,
    /// How each is doing.
    overloads: Vec<Overload>,
}

/// What a round found.
#[derive(Debug, Default)]
struct Round {
    must_stop: bool,
    more_to_come: bool,
    /// Shards that their workers have left.
    left: Vec<usize>,
    /// Sockets that a shard is given, or loses.
    sockets: Vec<InboxItem>,
}

impl<F: FnMut(&mut Vec<Command>)> Worker<F> {
    /// The workers of a pool, each for a thread of its own.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn of_pool(pool: &Arc<WorkerPool<F>>, clock: Clock) -> io::Result<Vec<Worker<F>>> {
        (0..pool.shards.len()).map(|own| Worker::new(Arc::clone(pool), own, clock)).collect()
    }

    fn new(pool: Arc<WorkerPool<F>>, own: usize, clock: Clock) -> io::Result<Self> {
        let io = WorkerIo {
            clock,
            poller: Poller::new()?,
            receiver: Receiver::new(),
            head: Head::new(),
            outbox: Outbox {
                listening: match pool.news.is_logged {
                    true => Listening::to_news(NEWS_PER_S),
                    false => Listening::default(),
                },
                ..Outbox::default()
            },
            news_since_ms: 0,
            untold_since_ms: None,
            items: Vec::new(),
            asked: Vec::new(),
            for_shards: pool.shards.iter().map(|_| ForShard::default()).collect(),
            spare: Spare::default(),
            load: Load::new(Instant::now()),
            capture: Capture::default(),
            is_captured: false,
        };
        Ok(Worker { pool, own, io })
    }

    /// Runs until it is told to stop, and until what was under way then is done.
    ///
    /// # Errors
    /// When waiting fails, which leaves nothing to go on with.
    pub fn run(self) -> io::Result<()> {
        let Worker { pool, own, mut io } = self;
        let mut shards: Vec<ActiveShard<'_, F>> = Vec::new();
        if own == 0 {
            for index in 0..pool.shards.len() {
                io.take_up(&pool, index, &mut shards)?;
            }
        }
        io.load = Load::new(Instant::now());
        let mut stopping: Option<Instant> = None;
        loop {
            if shards.is_empty() {
                io.tell(&pool.news, io.clock.now(), true);
                if !pool.wait_for_call(own) {
                    return Ok(());
                }
                io.load = Load::new(Instant::now());
                io.take_up(&pool, own, &mut shards)?;
            }
            let now = io.clock.now();
            let round = io.round(&pool, &mut shards, stopping.is_some(), now);
            for index in round.left {
                io.take_up(&pool, index, &mut shards)?;
                if let Some(shard) = shards.last().filter(|_| stopping.is_some()) {
                    io.stop_listening(std::slice::from_ref(shard))?;
                }
            }
            if round.must_stop && stopping.is_none() {
                stopping = Some(Instant::now());
                io.stop_listening(&shards)?;
            }
            match (stopping, io.verdict(&pool, own, shards.len(), now)) {
                (Some(_), _) if shards.iter().all(|shard| shard.state.engine.is_idle()) => return Ok(()),
                (Some(since), _) if since.elapsed() > STOP_GRACE => return Ok(()),
                (None, Verdict::Give) => {
                    if let Some(index) = io.give_up(&pool, &mut shards)? {
                        pool.call(index);
                    }
                }
                (None, Verdict::Leave) => {
                    pool.leave(own, || io.give_up(&pool, &mut shards).map(drop))?;
                }
                _ => {}
            }
            if !shards.is_empty() {
                io.wait(&pool, &mut shards, round.more_to_come, now)?;
            }
        }
    }
}

impl WorkerIo {
    /// Takes a shard whose state no other worker has.
    fn take_up<'a, F>(
        &mut self,
        pool: &'a WorkerPool<F>,
        number: usize,
        shards: &mut Vec<ActiveShard<'a, F>>,
    ) -> io::Result<()> {
        let Some((shard, inbox)) = pool.shards.get(number).zip(pool.inboxes.get(number)) else {
            return Ok(());
        };
        self.poller.add(inbox.event(), token(number, 0))?;
        let state = shard.state();
        let overloads = state.sockets.iter().map(|_| Overload::default()).collect();
        let shard = ActiveShard { number, state, readable: ALL, overloads };
        self.listen(&shard)?;
        shards.push(shard);
        Ok(())
    }

    /// Is woken by a shard's datagrams.
    fn listen<F>(&self, shard: &ActiveShard<'_, F>) -> io::Result<()> {
        let mut sockets = shard.state.sockets.iter().enumerate();
        sockets.try_for_each(|(index, bound)| {
            self.poller.add(bound.socket.as_fd(), token(shard.number, index + 1))
        })
    }

    /// Is woken by them no more.
    fn unlisten<F>(&self, shard: &ActiveShard<'_, F>) -> io::Result<()> {
        shard.state.sockets.iter().try_for_each(|bound| self.poller.remove(bound.socket.as_fd()))
    }

    /// Gives a shard other sockets.
    fn change_sockets<F>(&self, shard: &mut ActiveShard<'_, F>, item: InboxItem) -> io::Result<()> {
        self.unlisten(shard)?;
        let sockets = &mut shard.state.sockets;
        match item {
            InboxItem::Listen(socket) => sockets.push(BoundSocket::new(socket)?),
            InboxItem::Unlisten(address) => sockets.retain(|bound| bound.address != address),
            _ => {}
        }
        shard.overloads = sockets.iter().map(|_| Overload::default()).collect();
        shard.readable = ALL;
        self.listen(shard)
    }

    fn verdict<F>(&mut self, pool: &WorkerPool<F>, own: usize, shards: usize, now: Now) -> Verdict {
        match pool.shards.len() {
            1 => Verdict::Stay,
            _ => self.load.verdict(own, shards, &pool.has_room, now),
        }
    }

    /// Gives up the shard that it took last; its number.
    fn give_up<F>(
        &mut self,
        pool: &WorkerPool<F>,
        shards: &mut Vec<ActiveShard<'_, F>>,
    ) -> io::Result<Option<usize>> {
        let Some(shard) = shards.pop() else { return Ok(None) };
        self.unlisten(&shard)?;
        if let Some(inbox) = pool.inboxes.get(shard.number) {
            self.poller.remove(inbox.event())?;
        }
        Ok(Some(shard.number))
    }

    fn round<'a, F: FnMut(&mut Vec<Command>)>(
        &mut self,
        pool: &'a WorkerPool<F>,
        shards: &mut [ActiveShard<'a, F>],
        is_stopping: bool,
        now: Now,
    ) -> Round {
        let mut round = Round::default();
        self.is_captured = pool.tap.is_open();
        if self.is_captured {
            self.prepare_capture(&pool.tap);
        }
        self.outbox.listening.listen_to(Topics::from_bits(pool.news.wanted.load(Ordering::Relaxed)));
        for shard in &mut *shards {
            self.read_inbox(pool, shard, now, &mut round);
            for item in round.sockets.drain(..).filter(|_| !is_stopping) {
                if let Err(error) = self.change_sockets(shard, item) {
                    tracing::error!(%error, "a worker does not listen as it should: restart it");
                }
            }
            if !is_stopping && !round.must_stop {
                round.more_to_come |= self.read_sockets(shard, &pool.shed, now);
            }
            shard.state.engine.handle_timeout(now, &mut self.outbox);
            self.ask(shard);
        }
        self.hand_over(pool, shards, now);
        self.tell(&pool.news, now, is_stopping || round.must_stop);
        self.send(pool, shards);
        round
    }

    /// Gives away what has happened, many events at once where that can wait; and once a second how much more has.
    fn tell(&mut self, news: &News, now: Now, is_last: bool) {
        let events = self.outbox.events.len();
        let since_ms = match events {
            0 => now.mono_ms,
            _ => *self.untold_since_ms.get_or_insert(now.mono_ms),
        };
        let is_due = events >= TOLD_AT_ONCE || now.mono_ms >= since_ms + TOLD_EVERY_MS;
        let is_next_second = now.mono_ms >= self.news_since_ms + 1_000;
        if !(is_due || is_next_second || is_last) {
            return;
        }
        self.untold_since_ms = None;
        let missed = match is_next_second {
            true => {
                self.news_since_ms = now.mono_ms;
                self.outbox.listening.refill(NEWS_PER_S)
            }
            false => Vec::new(),
        };
        if !self.outbox.events.is_empty() || !missed.is_empty() {
            (news.tell)(&mut self.outbox.events, missed);
        }
    }

    /// Handles all that is in a shard's inbox.
    fn read_inbox<F>(
        &mut self,
        pool: &WorkerPool<F>,
        shard: &mut ActiveShard<'_, F>,
        now: Now,
        round: &mut Round,
    ) {
        let Some(inbox) = pool.inboxes.get(shard.number) else { return };
        let mut items = std::mem::take(&mut self.items);
        inbox.take(&mut items);
        for item in items.drain(..) {
            match item {
                InboxItem::Shard(index) => round.left.push(index),
                InboxItem::Stop => round.must_stop = true,
                item @ (InboxItem::Listen(_) | InboxItem::Unlisten(_)) => round.sockets.push(item),
                item => self.handle_item(&mut shard.state.engine, item, now),
            }
        }
        self.items = items;
    }

    fn handle_item(&mut self, engine: &mut Engine, item: InboxItem, now: Now) {
        let out = &mut self.outbox;
        match item {
            InboxItem::Receipt(receipt) => engine.handle_receipt(receipt, now, out),
            InboxItem::Messages(mut batch) => {
                for (HandOver { flow, mark, .. }, message) in batch.iter() {
                    if self.head.parse(message).is_ok() {
                        engine.handle_handed_over(flow, message, &self.head, *mark, now, out);
                    }
                }
                if self.spare.messages.len() < SPARE && batch.room() <= SPARE_BYTES {
                    batch.clear();
                    self.spare.messages.push(batch);
                }
            }
            InboxItem::Stream { flow, message, permit } => {
                match self.head.parse(&message) {
                    Ok(()) => {
                        if self.is_captured {
                            self.capture.received(self.clock.unix(), &flow, &message, &self.head);
                        }
                        let before = out.transmits.len();
                        engine.handle_message(&flow, &message, &self.head, now, out);
                        note_unanswered(out, before, &mut self.capture, &self.clock);
                    }
                    Err(error) => engine.handle_unreadable(error),
                }
                drop(permit);
            }
            InboxItem::Admin(ticket, request) => engine.handle_admin(ticket, request, now, out),
            InboxItem::Reading(reading, since_ms) => engine.handle_reading(reading, since_ms),
            InboxItem::Rows { rows, up_to, under_way } => {
                engine.load_page(&rows, up_to, now, out);
                drop(under_way);
            }
            InboxItem::ShardEvent(event) => engine.handle_shard_event(event, now, out),
            InboxItem::ShardEvents(mut events) => {
                for event in events.drain(..) {
                    engine.handle_shard_event(event, now, out);
                }
                if self.spare.events.len() < SPARE && events.capacity() <= SPARE_EVENTS {
                    self.spare.events.push(events);
                }
            }
            InboxItem::Calls(calls) => engine.restore_calls(&calls, now, out),
            InboxItem::Moved(moved) => engine.take_in(*moved, now, out),
            InboxItem::Listen(_) | InboxItem::Unlisten(_) | InboxItem::Shard(_) | InboxItem::Stop => {}
        }
    }

    /// Handles one batch from every socket that has one; whether more may be there.
    fn read_sockets<F>(&mut self, shard: &mut ActiveShard<'_, F>, shed_by_all: &AtomicU64, now: Now) -> bool {
        let mut more_to_come = false;
        let readable = std::mem::take(&mut shard.readable);
        let mut shed = 0;
        let ShardState { engine, sockets, .. } = &mut *shard.state;
        for ((index, bound), overload) in sockets.iter().enumerate().zip(&mut shard.overloads) {
            if readable & bit(index) == 0 {
                continue;
            }
            // WouldBlock is the ordinary end; an ICMP error is about an earlier answer.
            let count = self.receiver.receive(bound.socket.as_fd()).unwrap_or(0);
            more_to_come |= count >= MORE_TO_COME;
            let unix = self.clock.unix();
            let oldest_ms = if count > 0 { self.receiver.datagram(0).0.age_ms(unix) } else { 0 };
            if let Some(buffer) = overload.heard(self.receiver.lost(), oldest_ms, now.mono_ms) {
                set_buffer(&bound.socket, buffer);
            }
            for index in 0..count {
                let (datagram, bytes) = self.receiver.datagram(index);
                let age_ms = datagram.age_ms(unix);
                if overload.sheds(bytes, age_ms, now.mono_ms) {
                    shed += 1;
                    continue;
                }
                let mut local = bound.address;
                if let Some(ip) = datagram.local_ip {
                    local.set_ip(ip);
                }
                let flow = Flow::udp(local, datagram.remote);
                match self.head.parse(bytes) {
                    Ok(()) => {
                        if self.is_captured {
                            self.capture.received(unix, &flow, bytes, &self.head);
                        }
                        engine.note_age(age_ms, (bytes, &self.head), &mut self.outbox);
                        let before = self.outbox.transmits.len();
                        engine.handle_message(&flow, bytes, &self.head, now, &mut self.outbox);
                        note_unanswered(&mut self.outbox, before, &mut self.capture, &self.clock);
                    }
                    Err(error) => match stun::answer(bytes, datagram.remote) {
                        Some(answer) => {
                            self.outbox.send(flow, |bytes| bytes.extend_from_slice(&answer));
                        }
                        None => engine.handle_unreadable(error),
                    },
                }
            }
        }
        if shed > 0 {
            engine.count_dropped(Dropped::Shed, shed);
            shed_by_all.fetch_add(shed, Ordering::Relaxed);
        }
        more_to_come
    }

    /// Takes the engine's commands to what does them.
    fn ask<F: FnMut(&mut Vec<Command>)>(&mut self, shard: &mut ActiveShard<'_, F>) {
        for command in self.outbox.commands.drain(..) {
            match command {
                Command::ToShard(message) => {
                    if let Some(shard) = self.for_shards.get_mut(usize::from(message.shard.0)) {
                        let bytes = self.outbox.bytes.get(message.start..message.end).unwrap_or(&[]);
                        shard.messages.push(message, bytes);
                    }
                }
                Command::Tell { shard: Some(shard), event } => {
                    if let Some(shard) = self.for_shards.get_mut(usize::from(shard.0)) {
                        shard.events.push(event);
                    }
                }
                Command::Tell { shard: None, event } => {
                    self.for_shards.iter_mut().for_each(|shard| shard.events.push(event.clone()));
                }
                other => self.asked.push(other),
            }
        }
        if !self.asked.is_empty() {
            (shard.state.ask)(&mut self.asked);
        }
    }

    /// What belongs to other shards is handled at once where this worker runs them, else it goes to their inboxes.
    fn hand_over<F: FnMut(&mut Vec<Command>)>(
        &mut self,
        pool: &WorkerPool<F>,
        shards: &mut [ActiveShard<'_, F>],
        now: Now,
    ) {
        // A message is handed over twice at most: to the caller's shard, and to the callee's. Of what is told then nothing
        // comes back.
        let mut is_done = false;
        while !is_done {
            is_done = true;
            for shard in &mut *shards {
                let Some(items) = self.for_shards.get_mut(shard.number).map(|one| one.take(&mut self.spare))
                else {
                    continue;
                };
                for item in items.into_iter().flatten() {
                    is_done = false;
                    self.handle_item(&mut shard.state.engine, item, now);
                    self.ask(shard);
                }
            }
        }
        for (inbox, one) in pool.inboxes.iter().zip(&mut self.for_shards) {
            if !one.is_empty() {
                let refused = inbox.post(one.take(&mut self.spare).into_iter().flatten());
                if let Some(shard) = shards.first_mut().filter(|_| refused > 0) {
                    shard.state.engine.count_dropped(Dropped::InboxFull, refused as u64);
                    tracing::debug!(refused, "another worker's inbox is full");
                }
            }
        }
    }

    /// Sends everything that the engines left in the outbox; datagrams from the first shard's sockets: all shards' are alike.
    fn send<F>(&mut self, pool: &WorkerPool<F>, shards: &[ActiveShard<'_, F>]) {
        self.capture_sent(pool);
        let is_datagram = |transmit: &&Transmit| !transmit.flow.transport.is_reliable();
        if let Some(streams) = &pool.streams {
            for transmit in self.outbox.transmits.iter().filter(|transmit| !is_datagram(transmit)) {
                streams.send(transmit.flow, self.outbox.message(transmit));
            }
        }
        let sockets = shards.first().map_or(&[][..], |shard| &shard.state.sockets);
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
        let untold = std::mem::take(&mut self.outbox.events);
        self.outbox.clear();
        self.outbox.events = untold;
    }

    /// What is wanted of this round's messages.
    fn prepare_capture(&mut self, tap: &Tap) {
        if tap.wants_decisions() && self.outbox.decisions.is_none() {
            self.outbox.decisions = Some(Vec::new());
        }
        if tap.wants_secrets() {
            self.capture.show_secrets();
        }
    }

    /// Gives away what this round has received and is about to send, where somebody wants it.
    fn capture_sent<F>(&mut self, pool: &WorkerPool<F>) {
        if !self.is_captured {
            return;
        }
        let at = self.clock.unix();
        let decisions = self.outbox.decisions.take();
        let mut decisions = decisions.iter().flatten().peekable();
        for (index, transmit) in self.outbox.transmits.iter().enumerate() {
            self.capture.sent(at, &transmit.flow, self.outbox.message(transmit));
            while let Some(decision) = decisions.next_if(|decision| decision.before <= index) {
                self.capture.decided(at, &worded(decision));
            }
        }
        decisions.for_each(|decision| self.capture.decided(at, &worded(decision)));
        if !self.capture.is_empty() {
            let next = Capture::with_room(self.capture.len(), 64);
            pool.tap.give(std::mem::replace(&mut self.capture, next));
        }
    }

    /// Waits for the inboxes, datagrams and timers of all shards; one that is busy only looks which sockets have something, so
    /// that neither a full inbox nor a busy socket keeps it from the others.
    fn wait<F>(
        &mut self,
        pool: &WorkerPool<F>,
        shards: &mut [ActiveShard<'_, F>],
        is_busy: bool,
        now: Now,
    ) -> io::Result<()> {
        let untold = self.untold_since_ms.map(|since_ms| since_ms + TOLD_EVERY_MS);
        let timers = shards.iter().map(|shard| shard.state.engine.poll_timeout());
        let due_ms = timers.chain(untold).min().unwrap_or(0);
        let timeout = Duration::from_millis(due_ms.saturating_sub(now.mono_ms).max(1));
        let all = shards.len();
        let inbox = |shard: &ActiveShard<'_, F>| pool.inboxes.get(shard.number);
        let may_sleep = |shard: &&ActiveShard<'_, F>| inbox(shard).is_some_and(Inbox::may_sleep);
        let asleep = if is_busy { 0 } else { shards.iter().take_while(may_sleep).count() };
        let before = Instant::now();
        let waited = self.poller.wait(if asleep == all { timeout } else { Duration::ZERO });
        if asleep == all {
            self.load.slept(before.elapsed());
        }
        for token in self.poller.ready() {
            let (number, index) = ((token >> 16) as usize, (token & 0xffff) as usize);
            let shard = shards.iter_mut().find(|shard| shard.number == number);
            if let (Some(shard), Some(index)) = (shard, index.checked_sub(1)) {
                shard.readable |= bit(index);
            }
        }
        shards.iter().take(asleep).filter_map(inbox).for_each(Inbox::woke);
        waited
    }

    /// A worker that ends reads no more datagrams, and is not woken by them.
    fn stop_listening<F>(&mut self, shards: &[ActiveShard<'_, F>]) -> io::Result<()> {
        shards.iter().try_for_each(|shard| self.unlisten(shard))
    }
}

impl ForShard {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.messages.is_empty()
    }

    /// Takes out what there is, in its order.
    fn take(&mut self, spare: &mut Spare) -> [Option<InboxItem>; 2] {
        let events = (!self.events.is_empty()).then(|| {
            let empty = spare.events.pop().unwrap_or_default();
            InboxItem::ShardEvents(std::mem::replace(&mut self.events, empty))
        });
        let messages = (!self.messages.is_empty()).then(|| {
            let empty = spare.messages.pop().unwrap_or_default();
            InboxItem::Messages(std::mem::replace(&mut self.messages, empty))
        });
        [events, messages]
    }
}

/// What the poller says of a shard: 0 is its inbox, n + 1 its socket n.
fn token(number: usize, what: usize) -> u64 {
    (number as u64) << 16 | what as u64
}

/// A socket's bit; those beyond 64 share the last one.
fn bit(index: usize) -> u64 {
    1 << index.min(63)
}

/// A message that nothing was sent for: what was decided about it is noted at once, as what is sent next is about another.
fn note_unanswered(out: &mut Outbox, before: usize, capture: &mut Capture, clock: &Clock) {
    if out.transmits.len() == before
        && let Some(decisions) = &mut out.decisions
        && !decisions.is_empty()
    {
        let at = clock.unix();
        let own = decisions.iter().position(|decision| decision.before >= before).unwrap_or(decisions.len());
        decisions.drain(own..).for_each(|decision| capture.decided(at, &worded(&decision)));
    }
}

/// A decision with the key that it hangs on.
fn worded(decision: &Decision) -> String {
    match decision.key {
        "" => decision.text.clone(),
        key => format!("{} ({key})", decision.text),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::mpsc;
    use std::thread;

    use roost_core::{Admin, Config, Rng, ShardId, Ticket};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// The thread that runs shard 1 takes that shard's commands.
    #[test]
    fn a_shard_moves_to_its_own_worker_under_load_and_back() {
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
        let news = News { tell: Box::new(|_, _| ()), wanted: Arc::default(), is_logged: false };
        let tap = roost_hep::Tracer::start().unwrap().tap();
        let pool = WorkerPool::new(shards, Arc::clone(&inboxes), None, news, Arc::default(), tap).unwrap();
        let workers = Worker::of_pool(&pool, Clock::start()).unwrap().into_iter().enumerate();
        let spawn = |(index, worker): (usize, Worker<_>)| {
            thread::Builder::new().name(index.to_string()).spawn(|| worker.run().unwrap()).unwrap()
        };
        let threads: Vec<_> = workers.map(spawn).collect();
        let runner = || {
            inboxes[1].post([InboxItem::Admin(Ticket(1), Admin::Statistics)]);
            told.recv_timeout(PATIENCE).unwrap()
        };
        let await_runner = |wanted: &str| {
            let start = Instant::now();
            while runner() != wanted {
                assert!(start.elapsed() < PATIENCE, "worker {wanted} does not get the shard without load");
                // Questions without a pause are load.
                assert!(told.recv_timeout(Duration::from_millis(50)).is_err(), "no question is open");
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
            assert!(start.elapsed() < PATIENCE, "worker 0 keeps all shards under load");
        }
        await_runner("0");
        pool.stop();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
