//! What has happened, on its way from the workers to those who listen: the log, tools, and the records of calls. Each has a queue
//! of its own, so that no worker formats or waits, and nobody waits for anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use roost_admin::Hub;
use roost_core::{Event, EventKind};
use roost_net::News;
use roost_recorder::Recorder;
use roost_store::Gatherer;

use crate::serve::event_log;

/// Batches of events that wait; what finds no room is counted.
const WAITING: usize = 16_384;
/// How long the first event waits for others: a thread that is not woken for each of them costs the workers nothing.
const GATHERING: Duration = Duration::from_millis(20);
/// Batches that are handled at once.
const AT_ONCE: usize = 1_024;

/// Events that were lost on the way.
#[derive(Debug, Clone, Default)]
pub(super) struct Lost(Arc<AtomicU64>);

impl Lost {
    /// The same, by name.
    pub(super) fn statistics(&self) -> (&'static str, u64) {
        ("roost:events_lost", self.0.load(Ordering::Relaxed))
    }

    fn count(&self, events: u64) {
        self.0.fetch_add(events, Ordering::Relaxed);
    }
}

/// The thread that tells.
#[derive(Debug)]
pub(super) struct Teller {
    thread: JoinHandle<()>,
    lost: Lost,
}

impl Teller {
    pub(super) fn lost(&self) -> Lost {
        self.lost.clone()
    }

    /// Waits until it has told everything; nobody may have anything left to tell.
    pub(super) fn join(self) {
        let _ = self.thread.join();
    }
}

/// What a worker tells: events, and how many more of which topics there were.
type Told = (Vec<Event>, Vec<(EventKind, u64)>);

/// Starts the threads; they end with the last worker.
///
/// # Errors
/// When one cannot be started.
pub(super) fn start(hub: Hub, recorder: Option<Recorder>, calls: Gatherer) -> Result<(News, Teller)> {
    let (sender, told) = sync_channel(WAITING);
    let (lost, wanted) = (Lost::default(), hub.wanted());
    let log = event_log::start()?;
    let listeners = Listeners { hub, recorder, log, calls, lost: lost.clone() };
    let thread = std::thread::Builder::new()
        .name("roost-news".to_string())
        .spawn(move || listeners.run(&told))
        .context("starting the thread that tells what has happened")?;
    let counted = lost.clone();
    let tell = Box::new(move |events: &mut Vec<Event>, missed| send(&sender, (events, missed), &counted));
    Ok((News { tell, wanted, is_logged: true }, Teller { thread, lost }))
}

fn send(sender: &SyncSender<Told>, (events, missed): (&mut Vec<Event>, Vec<(EventKind, u64)>), lost: &Lost) {
    if let Err(error) = sender.try_send((std::mem::replace(events, Vec::with_capacity(events.len())), missed))
    {
        let (std::sync::mpsc::TrySendError::Full((events, _))
        | std::sync::mpsc::TrySendError::Disconnected((events, _))) = error;
        lost.count(events.len() as u64);
    }
}

/// Who is told.
struct Listeners {
    hub: Hub,
    recorder: Option<Recorder>,
    log: SyncSender<event_log::Told>,
    calls: Gatherer,
    lost: Lost,
}

impl Listeners {
    fn run(mut self, told: &Receiver<Told>) {
        let mut gathered = Vec::new();
        while let Ok(first) = told.recv() {
            gathered.push(first);
            std::thread::sleep(GATHERING);
            gathered.extend(told.try_iter().take(AT_ONCE));
            self.hub.publish(gathered.iter().flat_map(|(events, _)| events));
            if let Some(recorder) = &self.recorder {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                recorder.take(gathered.iter().flat_map(|(events, _)| events), now.as_millis() as u64);
            }
            for (events, missed) in gathered.drain(..) {
                self.log(&events, missed);
                for event in events {
                    // Nobody else wants it.
                    self.calls.take(event);
                }
            }
            self.lost.count(self.calls.give());
        }
    }

    fn log(&self, events: &[Event], missed: Vec<(EventKind, u64)>) {
        let is_logged = |event: &&Event| event_log::topic(event).is_some();
        let logged: Vec<Event> = events.iter().filter(is_logged).cloned().collect();
        if !(logged.is_empty() && missed.is_empty()) {
            // A log that does not keep up loses lines; no phone waits for it.
            let _ = self.log.try_send((logged, missed));
        }
    }
}
