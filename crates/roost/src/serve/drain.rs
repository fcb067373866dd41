//! `roost drain`: when a server that is taken out of service ends.

use std::time::Duration;

use roost_admin::Mi;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often it is looked whether calls are left.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

/// Until when the server ends. Clones are one.
#[derive(Debug, Clone)]
pub(super) struct Drain(watch::Sender<Option<Instant>>);

impl Default for Drain {
    fn default() -> Drain {
        Drain(watch::Sender::new(None))
    }
}

impl Drain {
    /// It ends within so long; `None`: it goes on.
    pub(super) fn begin(&self, within: Option<Duration>) {
        self.0.send_replace(within.map(|within| Instant::now() + within));
    }

    /// Resolves when the time is over, or no call is left.
    pub(super) async fn is_over(&self, mi: &Mi) {
        let mut told = self.0.subscribe();
        loop {
            let until = *told.borrow_and_update();
            let Some(until) = until else {
                if told.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            };
            // Who hangs up now still has its answer to send.
            let mut quiet = 0;
            while Instant::now() < until && quiet < 2 && !told.has_changed().unwrap_or(false) {
                tokio::time::sleep(LOOKS_EVERY).await;
                quiet = if roost_admin::calls_left(mi).await == 0 { quiet + 1 } else { 0 };
            }
            if !told.has_changed().unwrap_or(false) {
                return;
            }
        }
    }
}
