//! What has happened, for tools: OpenSIPS's events and roost's own, one stream for all who listen.
//!
//! Each consumer has bounded room: a slow one loses its own events, which are counted, and nobody else's. Events that nobody
//! listens to are not made ([`Hub::wanted`]).

mod batch;
mod connections;
mod datagrams;
mod mi;
mod shape;
mod webhooks;

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use roost_core::{Event, Topics};
use tokio::sync::watch;

use crate::events::batch::Kept;
pub(crate) use crate::events::batch::{Batch, Told};
use crate::events::datagrams::Datagrams;
pub(crate) use crate::events::mi::{event_list, subscribe, subscribers};
pub use crate::events::shape::ShellEvent;
pub(crate) use crate::events::shape::{TYPES, type_named};
use crate::events::shape::{describe, describe_shell};
pub use crate::events::webhooks::{Webhook, WebhookError};
use crate::events::webhooks::{WebhookStatistics, Webhooks};

/// Events that are kept for readers of the stream; one that is further behind has lost the older ones.
const KEPT: usize = 4_096;
/// Readers of the stream at once.
const MAX_STREAMS: usize = 256;
/// How long events are made for a reader that may come back.
const LINGER: Duration = Duration::from_secs(60);

/// Takes what has happened and gives it to all who listen. Clones are one hub.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    wanted: Arc<AtomicU16>,
    /// What is wanted whoever listens here.
    base: Topics,
    /// `dialog.max_calls`, for the states of agents.
    max_calls: AtomicU32,
    /// The number of this process's first event.
    first_id: u64,
    /// Wakes readers of the stream.
    more: watch::Sender<()>,
    /// Events that readers of the stream have lost.
    stream_lost: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Events that are being told.
    batch: Batch,
    kept: Kept,
    datagrams: Datagrams,
    webhooks: Webhooks,
    /// Readers of the stream, by what they want, and those that have gone a moment ago.
    streams: Vec<StreamReader>,
    next_stream: u64,
}

#[derive(Debug)]
struct StreamReader {
    number: u64,
    topics: Topics,
    reads: Reads,
    gone: Option<Instant>,
}

/// Whose events a reader of the stream reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Those of all nodes.
    All,
    /// Those of this one.
    Own,
    /// Those of this one, to tell other nodes: it is no reader of its own.
    ForOthers,
}

impl Hub {
    /// A hub with its webhooks. `base` are topics that are wanted whoever listens here.
    ///
    /// # Errors
    /// When a webhook cannot be started.
    pub fn start(base: Topics, max_calls: u32, webhooks: Vec<Webhook>) -> Result<Hub, WebhookError> {
        // 53 bits, which JSON's readers know exactly, last for two million events a second.
        let first_id = ((unix_ms() / 1000) << 21) + 1;
        let hub = Hub(Arc::new(Inner {
            first_id,
            wanted: Arc::default(),
            base,
            max_calls: AtomicU32::new(max_calls),
            more: watch::Sender::new(()),
            stream_lost: AtomicU64::new(0),
            state: Mutex::new(State {
                batch: Batch::new(first_id),
                kept: Kept::default(),
                datagrams: Datagrams::default(),
                webhooks: Webhooks::start(webhooks)?,
                streams: Vec::new(),
                next_stream: 0,
            }),
        }));
        hub.0.look(&hub.0.state());
        Ok(hub)
    }

    /// Calls that an extension may have at once from here on (`dialog.max_calls`).
    pub fn set_max_calls(&self, max_calls: u32) {
        self.0.max_calls.store(max_calls, Ordering::Relaxed);
    }

    /// Other webhooks from here on.
    ///
    /// # Errors
    /// One cannot be started; the others are.
    pub fn set_webhooks(&self, webhooks: Vec<Webhook>) -> Result<(), WebhookError> {
        let mut state = self.0.state();
        let changed = state.webhooks.change(webhooks);
        self.0.look(&state);
        changed
    }

    /// Topics of which every event is wanted, as [`Topics::bits`].
    pub fn wanted(&self) -> Arc<AtomicU16> {
        Arc::clone(&self.0.wanted)
    }

    /// Gives events to all who listen to them. Many at once cost less.
    pub fn publish<'e>(&self, events: impl IntoIterator<Item = &'e Event>) {
        let mut state = self.0.state();
        self.0.forget(&mut state);
        let wanted = state.wanted();
        if wanted == Topics::NONE {
            return;
        }
        state.batch.at_ms = unix_ms();
        let max_calls = self.0.max_calls.load(Ordering::Relaxed);
        for event in events.into_iter().filter(|event| wanted.meet(Topics::of(event.kind()))) {
            describe(event, max_calls, &mut |name, about, params| {
                state.batch.push(name, about, params);
            });
            if state.batch.is_full() {
                self.0.tell(&mut state);
            }
        }
        self.0.tell(&mut state);
    }

    /// Gives away what has happened outside of the core.
    pub fn publish_shell(&self, event: &ShellEvent) {
        let mut state = self.0.state();
        state.batch.at_ms = unix_ms();
        describe_shell(event, &mut |name, about, params| state.batch.push(name, about, params));
        self.0.tell(&mut state);
    }

    /// What follows the event of this number, of those that are kept, and all that comes from now on; `None`: there are
    /// too many readers. `topics` are what events the reader may want.
    pub(crate) fn stream(&self, topics: Topics, reads: Reads, after: Option<u64>) -> Option<Stream> {
        let mut state = self.0.state();
        self.0.forget(&mut state);
        if reads != Reads::ForOthers && state.readers() >= MAX_STREAMS {
            return None;
        }
        let number = state.next_stream;
        state.next_stream += 1;
        state.streams.push(StreamReader { number, topics, reads, gone: None });
        let newest = state.batch.first_id - 1;
        let seen = match after {
            None => newest,
            // Of an earlier process: all that is kept came later.
            Some(after) if after < self.0.first_id => state.kept.first_id().map_or(newest, |first| first - 1),
            Some(after) => after.min(newest),
        };
        self.0.look(&state);
        Some(Stream { hub: self.clone(), number, reads, seen, more: self.0.more.subscribe() })
    }

    /// What readers here want of other nodes.
    pub(crate) fn wanted_of_others(&self) -> Topics {
        let state = self.0.state();
        let readers = state.streams.iter().filter(|one| one.reads == Reads::All && one.gone.is_none());
        readers.fold(Topics::NONE, |all, one| all.and(one.topics))
    }

    /// Gives events of another node to the readers of the stream: name, the extensions that it is about, parameters.
    pub(crate) fn publish_remote(&self, events: &[(&'static str, String, serde_json::Value)]) {
        let mut state = self.0.state();
        if !state.streams.iter().any(|one| one.reads == Reads::All) {
            return;
        }
        state.batch.at_ms = unix_ms();
        for (name, about, params) in events {
            let about: Vec<&[u8]> = about.split(' ').map(str::as_bytes).collect();
            state.batch.push(name, &about, params);
        }
        if !state.batch.is_empty() {
            let mut batch = state.batch.take();
            batch.is_remote = true;
            state.kept.push(Arc::new(batch));
            self.0.more.send_replace(());
        }
    }

    pub(crate) fn subscribe_datagrams(
        &self,
        event: &'static str,
        socket: &str,
        expire_s: u32,
    ) -> Result<(), String> {
        let mut state = self.0.state();
        state.datagrams.subscribe(event, socket, expire_s)?;
        self.0.look(&state);
        Ok(())
    }

    pub(crate) fn with_datagrams<R>(&self, use_: impl FnOnce(&Datagrams) -> R) -> R {
        let mut state = self.0.state();
        self.0.forget(&mut state);
        use_(&state.datagrams)
    }

    /// What consumers had and lost, by name.
    pub fn statistics(&self) -> Vec<(&'static str, u64)> {
        let state = self.0.state();
        let WebhookStatistics { delivered, failed, lost } = state.webhooks.statistics();
        vec![
            ("event:subscribers", state.datagrams.len() as u64),
            ("event:sent", state.datagrams.sent),
            ("event:lost", state.datagrams.lost),
            ("event:streams", state.readers() as u64),
            ("event:streams_lost", self.0.stream_lost.load(Ordering::Relaxed)),
            ("webhook:delivered", delivered),
            ("webhook:failed", failed),
            ("webhook:lost", lost),
        ]
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes known what is wanted now.
    fn look(&self, state: &State) {
        self.wanted.store(self.base.and(state.wanted()).bits(), Ordering::Relaxed);
    }

    /// Forgets those whose time is over.
    fn forget(&self, state: &mut State) {
        let now = Instant::now();
        let before = (state.datagrams.len(), state.streams.len());
        state.datagrams.forget(now);
        state.streams.retain(|reader| reader.gone.is_none_or(|gone| now < gone + LINGER));
        if before != (state.datagrams.len(), state.streams.len()) {
            self.look(state);
        }
    }

    /// Gives the batch to all who listen.
    fn tell(&self, state: &mut State) {
        let State { batch, kept, datagrams, webhooks, streams, .. } = state;
        if batch.is_empty() {
            return;
        }
        datagrams.send(batch);
        webhooks.send(batch);
        if streams.is_empty() {
            kept.clear();
            return batch.clear();
        }
        kept.push(Arc::new(batch.take()));
        self.more.send_replace(());
    }
}

impl State {
    fn wanted(&self) -> Topics {
        let streams = self.streams.iter().fold(Topics::NONE, |all, reader| all.and(reader.topics));
        streams.and(self.datagrams.topics()).and(self.webhooks.topics())
    }

    /// Readers of the stream that have not gone.
    fn readers(&self) -> usize {
        let counts = |reader: &&StreamReader| reader.gone.is_none() && reader.reads != Reads::ForOthers;
        self.streams.iter().filter(counts).count()
    }
}

/// One reader's events.
#[derive(Debug)]
pub(crate) struct Stream {
    hub: Hub,
    number: u64,
    reads: Reads,
    /// The number of the last event that it was given, or will not be given.
    seen: u64,
    more: watch::Receiver<()>,
}

/// What a reader gets.
#[derive(Debug)]
pub(crate) enum Next {
    /// The events of a batch from this number on.
    Told(Arc<Batch>, u64),
    /// It was too slow for so many.
    Lost(u64),
}

impl Stream {
    /// The next, if there is one already.
    pub(crate) fn try_next(&mut self) -> Option<Next> {
        let from = self.seen + 1;
        let next = self.hub.0.state().kept.from(from)?;
        if next.first_id > from {
            let lost = next.first_id - from;
            self.seen = next.first_id - 1;
            return Some(self.lost(lost));
        }
        self.seen = next.next_id() - 1;
        if next.is_remote && self.reads != Reads::All {
            return self.try_next();
        }
        Some(Next::Told(next, from))
    }

    /// The next; `None` at the end of the process.
    pub(crate) async fn next(&mut self) -> Option<Next> {
        loop {
            self.more.mark_unchanged();
            if let Some(next) = self.try_next() {
                return Some(next);
            }
            self.more.changed().await.ok()?;
        }
    }

    fn lost(&self, lost: u64) -> Next {
        self.hub.0.stream_lost.fetch_add(lost, Ordering::Relaxed);
        Next::Lost(lost)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.hub.0.state();
        // What it would have been too slow for.
        let lost = state.kept.first_id().map_or(0, |first| first.saturating_sub(self.seen + 1));
        self.hub.0.stream_lost.fetch_add(lost, Ordering::Relaxed);
        if let Some(reader) = state.streams.iter_mut().find(|reader| reader.number == self.number) {
            reader.gone = Some(Instant::now());
        }
        if self.reads == Reads::ForOthers {
            state.streams.retain(|reader| reader.number != self.number);
            self.hub.0.look(&state);
        }
    }
}

#[cfg(test)]
mod tests;
