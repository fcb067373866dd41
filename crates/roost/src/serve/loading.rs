//! Reads `location` at start, beside the workers: they answer meanwhile what they know already.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use roost_core::{Config, Row, contact_id};
use roost_net::{Clock, Inbox, InboxItem};
use roost_store::Loader;

/// Pages that may be under way to the workers.
const AHEAD: usize = 4;
/// How often the log hears how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How long a reading that failed waits before it goes on.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The thread that reads; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Loading {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Loading {
    /// Starts reading.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(
        mut loader: Loader,
        config: Arc<Config>,
        inboxes: Arc<Vec<Inbox>>,
        clock: Clock,
    ) -> Result<Loading> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let run = move || load(&mut loader, &config, &inboxes, clock, &stopped);
        let thread = std::thread::Builder::new().name("roost-load".into()).spawn(run);
        Ok(Loading { thread: Some(thread.context("starting the thread that reads the table")?), stop })
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn load(loader: &mut Loader, config: &Config, inboxes: &[Inbox], clock: Clock, stop: &AtomicBool) {
    let begun = Instant::now();
    let mut told = begun;
    let (mut rows, mut unreadable) = (0, 0);
    // Each page holds it until the worker has taken it.
    let under_way = Arc::new(());
    let may_go_on =
        || Arc::strong_count(&under_way) <= AHEAD * inboxes.len() && !stop.load(Ordering::Relaxed);
    loop {
        while !may_go_on() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let page = match loader.next_page(clock.now().unix_s) {
            Ok(Some(page)) => page,
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%error, rows, "location cannot be read; what is read counts, the rest waits");
                std::thread::sleep(AGAIN_AFTER);
                continue;
            }
        };
        rows += page.rows.len();
        unreadable += page.unreadable;
        let mut by_shard: Vec<Vec<Row>> = inboxes.iter().map(|_| Vec::new()).collect();
        for row in page.rows {
            let shard = config.identity.shard_of(&row.username);
            if let Some(rows) = by_shard.get_mut(usize::from(shard.0)) {
                rows.push(row);
            }
        }
        for (inbox, rows) in inboxes.iter().zip(by_shard) {
            inbox.post([InboxItem::Rows { rows, up_to: page.up_to, under_way: Arc::clone(&under_way) }]);
        }
        if told.elapsed() > PROGRESS_EVERY {
            told = Instant::now();
            let percent = page.up_to.map_or(100, contact_id::percent);
            tracing::info!(rows, percent, "reading location");
        }
    }
    if unreadable > 0 {
        tracing::warn!(rows = unreadable, "rows of location that cannot be read");
    }
    // What is under way counts as loaded when the workers have it.
    while Arc::strong_count(&under_way) > 1 && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(1));
    }
    if rows > 0 {
        tracing::info!(rows, milliseconds = begun.elapsed().as_millis() as u64, "location loaded");
    }
}
