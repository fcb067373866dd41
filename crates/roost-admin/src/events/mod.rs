//! What has happened, for tools: OpenSIPS's events and roost's own, one stream for all who listen.
//!
//! Each consumer has a queue of its own that never grows: a slow one loses its own events, which are counted, and nobody
//! else's. Events that nobody listens to are not made ([`Hub::wanted`]).

mod datagrams;
mod mi;
mod shape;
mod webhooks;

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use roost_core::{Event, Topics};
use tokio::sync::broadcast;

use crate::events::datagrams::Datagrams;
pub(crate) use crate::events::mi::{event_list, subscribe, subscribers};
pub use crate::events::shape::ShellEvent;
use crate::events::shape::{Json, describe, describe_shell};
pub(crate) use crate::events::shape::{TYPES, type_named};
pub use crate::events::webhooks::{Webhook, WebhookError};
use crate::events::webhooks::{WebhookStatistics, Webhooks};

/// Events that wait for one reader of the stream; older ones are lost to it.
const STREAM_ROOM: usize = 4_096;
/// Events that are kept for readers that come back (`Last-Event-ID`).
const KEPT: usize = 4_096;
/// Readers of the stream at once.
const MAX_STREAMS: usize = 256;
/// How long events are made for a reader that may come back.
const LINGER: Duration = Duration::from_secs(60);

/// One event, written once for all consumers.
#[derive(Debug)]
pub(crate) struct Told {
    /// Counts from the process's start, in its upper half the second of that start: numbers of an earlier process are less.
    pub(crate) id: u64,
    /// Milliseconds of unix time.
    pub(crate) at_ms: u64,
    pub(crate) name: &'static str,
    /// The extension that it is about, then what it is as a server-sent event.
    text: Box<[u8]>,
    /// Where the frame begins in it, and the parameters.
    frame_at: usize,
    params_at: usize,
}

/// What ends a server-sent event.
const FRAME_END: &[u8] = b"\n\n";

impl Told {
    /// As a server-sent event: number, name and data.
    pub(crate) fn frame(&self) -> &[u8] {
        self.text.get(self.frame_at..).unwrap_or(&[])
    }

    /// Whether it is about an extension: one of several, where it is about a call.
    pub(crate) fn is_about(&self, aor: &str) -> bool {
        let own = self.text.get(..self.frame_at).unwrap_or(&[]);
        own.split(|byte| *byte == b' ').any(|one| one == aor.as_bytes())
    }

    /// A JSON object.
    pub(crate) fn params(&self) -> &str {
        let end = self.text.len() - FRAME_END.len();
        let params = self.text.get(self.params_at..end);
        params.and_then(|params| std::str::from_utf8(params).ok()).unwrap_or("{}")
    }
}

/// Takes what has happened and gives it to all who listen. Clones are one hub.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    wanted: Arc<AtomicU16>,
    /// What is wanted whoever listens here.
    base: Topics,
    /// `dialog.max_calls`, for the states of agents.
    max_calls: u32,
    stream: broadcast::Sender<Arc<Told>>,
    /// Events that readers of the stream have lost.
    stream_lost: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next_id: u64,
    /// The time of what is being told, in milliseconds of unix time.
    now_ms: u64,
    /// Used again and again.
    text: Vec<u8>,
    kept: VecDeque<Arc<Told>>,
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
    gone: Option<Instant>,
}

impl Hub {
    /// A hub with its webhooks. `base` are topics that are wanted whoever listens here.
    ///
    /// # Errors
    /// When a webhook cannot be started.
    pub fn start(base: Topics, max_calls: u32, webhooks: Vec<Webhook>) -> Result<Hub, WebhookError> {
        let hub = Hub(Arc::new(Inner {
            wanted: Arc::default(),
            base,
            max_calls,
            stream: broadcast::channel(STREAM_ROOM).0,
            stream_lost: AtomicU64::new(0),
            state: Mutex::new(State {
                // 53 bits, which JSON's readers know exactly, last for two million events a second.
                next_id: ((unix_ms() / 1000) << 21) + 1,
                now_ms: 0,
                text: Vec::new(),
                kept: VecDeque::new(),
                datagrams: Datagrams::default(),
                webhooks: Webhooks::start(webhooks)?,
                streams: Vec::new(),
                next_stream: 0,
            }),
        }));
        hub.0.look(&hub.0.state());
        Ok(hub)
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
        state.now_ms = unix_ms();
        for event in events.into_iter().filter(|event| wanted.meet(Topics::of(event.kind()))) {
            describe(event, self.0.max_calls, &mut |name, aor, params| {
                self.0.tell(&mut state, name, aor, params);
            });
        }
    }

    /// Gives away what has happened outside of the core.
    pub fn publish_shell(&self, event: &ShellEvent) {
        let mut state = self.0.state();
        state.now_ms = unix_ms();
        describe_shell(event, &mut |name, aor, params| self.0.tell(&mut state, name, aor, params));
    }

    /// What follows the event of this number, of those that are kept, and all that comes from now on; `None`: there are
    /// too many readers. `topics` are what events the reader may want.
    pub(crate) fn stream(&self, topics: Topics, after: Option<u64>) -> Option<Stream> {
        let mut state = self.0.state();
        self.0.forget(&mut state);
        if state.readers() >= MAX_STREAMS {
            return None;
        }
        let number = state.next_stream;
        state.next_stream += 1;
        state.streams.push(StreamReader { number, topics, gone: None });
        let missed = match after {
            Some(after) => state.kept.iter().filter(|told| told.id > after).map(Arc::clone).collect(),
            None => VecDeque::new(),
        };
        let receiver = self.0.stream.subscribe();
        self.0.look(&state);
        Some(Stream { hub: self.clone(), number, missed, receiver })
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

    fn tell(&self, state: &mut State, name: &'static str, aor: &str, params: &dyn Json) {
        let (id, at_ms, text) = (state.next_id, state.now_ms, &mut state.text);
        text.clear();
        text.extend_from_slice(aor.as_bytes());
        let frame_at = text.len();
        let _ = write!(text, "id: {id}\nevent: {name}\ndata: ");
        let params_at = text.len();
        params.write(text);
        text.extend_from_slice(FRAME_END);
        let told = Arc::new(Told { id, at_ms, name, text: text.as_slice().into(), frame_at, params_at });
        state.next_id += 1;
        state.datagrams.send(&told);
        state.webhooks.send(&told);
        if state.streams.is_empty() {
            return;
        }
        if state.kept.len() == KEPT {
            state.kept.pop_front();
        }
        state.kept.push_back(Arc::clone(&told));
        // Without readers nothing is sent.
        let _ = self.stream.send(told);
    }
}

impl State {
    fn wanted(&self) -> Topics {
        let streams = self.streams.iter().fold(Topics::NONE, |all, reader| all.and(reader.topics));
        streams.and(self.datagrams.topics()).and(self.webhooks.topics())
    }

    /// Readers of the stream that have not gone.
    fn readers(&self) -> usize {
        self.streams.iter().filter(|reader| reader.gone.is_none()).count()
    }
}

/// One reader's events.
#[derive(Debug)]
pub(crate) struct Stream {
    hub: Hub,
    number: u64,
    missed: VecDeque<Arc<Told>>,
    receiver: broadcast::Receiver<Arc<Told>>,
}

impl Stream {
    /// The next, if there is one already.
    pub(crate) fn try_next(&mut self) -> Option<Next> {
        if let Some(told) = self.missed.pop_front() {
            return Some(Next::Told(told));
        }
        match self.receiver.try_recv() {
            Ok(told) => Some(Next::Told(told)),
            Err(broadcast::error::TryRecvError::Lagged(lost)) => Some(self.lost(lost)),
            Err(_) => None,
        }
    }

    fn lost(&self, lost: u64) -> Next {
        self.hub.0.stream_lost.fetch_add(lost, Ordering::Relaxed);
        Next::Lost(lost)
    }
}

/// What a reader gets.
#[derive(Debug)]
pub(crate) enum Next {
    Told(Arc<Told>),
    /// It was too slow for so many.
    Lost(u64),
}

impl Stream {
    /// The next; `None` at the end of the process.
    pub(crate) async fn next(&mut self) -> Option<Next> {
        if let Some(told) = self.missed.pop_front() {
            return Some(Next::Told(told));
        }
        match self.receiver.recv().await {
            Ok(told) => Some(Next::Told(told)),
            Err(broadcast::error::RecvError::Lagged(lost)) => Some(self.lost(lost)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // What it would have been too slow for.
        let waiting = self.receiver.len();
        self.hub.0.stream_lost.fetch_add(waiting.saturating_sub(STREAM_ROOM) as u64, Ordering::Relaxed);
        let mut state = self.hub.0.state();
        if let Some(reader) = state.streams.iter_mut().find(|reader| reader.number == self.number) {
            reader.gone = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
