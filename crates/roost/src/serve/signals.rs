//! The signals that end the server.

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end the server.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on they are waited for, not died of.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn new() -> Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Resolves when one has come.
    pub(super) async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
